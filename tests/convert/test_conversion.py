"""The converter: what it packs, what it leaves and why, and how it checks itself."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import library
from bmx.checkpoints import interchange
from bmx.checkpoints.loading import load_checkpoint
from bmx.checkpoints.params_file import encode_array, encode_params, parse_params
from bmx.convert import convert_checkpoint


def read_params(path):
    return parse_params(path.read_bytes(), str(path))


def read_nodes(path):
    return {node["name"]: node for node in json.loads(path.read_text())["nodes"]}


def row(report, name):
    (found,) = [layer for layer in report.layers if layer.name == name]
    return found


def conv(data, name, **attributes):
    return mx.sym.QConvolution(data, name=name, **{"kernel": (3, 3), "num_filter": 64, **attributes})


@pytest.mark.parametrize("word_bits", [32, 64])
def test_lenet(save, lenet, run, tmp_path, word_bits):
    path = save(lenet, (1, 1, 28, 28))
    report = convert_checkpoint(str(path), word_bits=word_bits)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("binarized_net-0003.params", "binarized_net-symbol.json", "net-0003.params", "net-symbol.json")
    ]
    before, after = read_params(path), read_params(tmp_path / "binarized_net-0003.params")
    assert list(before) == list(after)
    for name in before:
        if name in ("arg:qconv_weight", "arg:qfc_weight"):
            words = interchange.pack(before[name].numpy(), word_bits)
            assert after[name].numpy().tobytes() == words.tobytes()
            assert (after[name].shape, after[name].dtype) == (words.shape, words.dtype)
        else:
            assert after[name].record == before[name].record
    nodes = read_nodes(tmp_path / "binarized_net-symbol.json")
    assert nodes["qconv"]["attrs"]["binarized_weights_only"] == "True"
    assert nodes["qfc"]["attrs"]["binarized_weights_only"] == "True"
    assert not any(node["op"] == "_copy" for node in nodes.values())

    assert report.verification.largest_difference == 0
    assert report.verification.agreement == 1
    assert report.verification.samples == "8 samples of shape 1x28x28"
    assert report.bytes_before == path.stat().st_size
    assert report.bytes_after == (tmp_path / "binarized_net-0003.params").stat().st_size
    assert report.ratio > 20
    assert row(report, "qconv").bytes_before == 64 * 64 * 25 * 4
    assert row(report, "qconv").bytes_after == 64 * 64 * 25 / 8
    batch = np.random.normal(size=(5, 1, 28, 28)).astype(np.float32)
    outputs = [run(load_checkpoint(str(tmp_path / prefix), 3), batch)[0] for prefix in ("net", "binarized_net")]
    np.testing.assert_array_equal(*outputs)


def test_default_word_width_is_the_librarys(save, lenet):
    report = convert_checkpoint(str(save(lenet, (1, 1, 28, 28))), verify=False)
    assert report.word_bits == library.word_bits()


@pytest.mark.parametrize(("version", "key"), [(803, "attr"), (903, "attr"), (10000, "attrs"), (10901, "attrs")])
def test_written_in_the_dialect_that_was_read(save, lenet, edit_json, tmp_path, version, key):
    """So that the BMXNet that wrote a file can read its conversion: the symbol and the records of the arrays."""
    path = save(lenet, (1, 1, 28, 28))
    record_version = 0 if version < 1000 else 2

    def age(content):
        content["attrs"]["mxnet_version"][1] = version
        for node in content["nodes"]:
            if "attrs" in node:
                node[key] = node.pop("attrs")

    edit_json(tmp_path / "net-symbol.json", age)
    arrays = [(name, encode_array(array.numpy(), record_version)) for name, array in read_params(path).items()]
    path.write_bytes(encode_params(arrays))
    assert convert_checkpoint(str(path)).verification.largest_difference == 0
    content = json.loads((tmp_path / "binarized_net-symbol.json").read_text())
    assert content["attrs"]["mxnet_version"] == ["int", version]
    nodes = {node["name"]: node for node in content["nodes"]}
    assert nodes["qfc"] == {
        **{"op": "QFullyConnected", "name": "qfc", "inputs": nodes["qfc"]["inputs"]},
        key: {"num_hidden": "500", "binarized_weights_only": "True"},
    }
    after = read_params(tmp_path / "binarized_net-0003.params")
    assert {array.version for array in after.values()} == {record_version}


def test_a_weight_that_another_binary_layer_has_as_its_data_stays_float(save):
    weight = mx.sym.var("weight", shape=(6, 32))
    net = mx.sym.QFullyConnected(mx.sym.var("data"), weight, num_hidden=6, name="first")
    reader = mx.sym.QFullyConnected(weight, num_hidden=3, name="reader")
    path = save(mx.sym.broadcast_add(net, mx.sym.reshape(mx.sym.mean(reader), shape=(1, 1))), (1, 32))
    report = convert_checkpoint(str(path))
    assert row(report, "first").note == "its weight is also read by 'reader' (QFullyConnected)"
    assert not row(report, "first").is_packed and row(report, "reader").is_packed


def test_layers_that_stay_float(save):
    data = mx.sym.var("data")
    shared = mx.sym.var("shared_weight")
    net = conv(data, "packed")
    net = conv(net, "two_bits", act_bit=2)
    net = conv(net, "float_weights", weight_bit=32)
    net = conv(
        net, "computed", weight=mx.sym.broadcast_mul(mx.sym.var("latent", shape=(64, 64, 3, 3)), mx.sym.mean(data))
    )
    net = conv(net, "also_plain", weight=shared)
    plain = mx.sym.Convolution(net, shared, kernel=(3, 3), num_filter=64, no_bias=True, name="plain")
    other = mx.sym.var("other_weight")
    net = conv(conv(plain, "half", weight=other), "other_half", weight=other, act_bit=4)
    seen = mx.sym.var("seen_weight", shape=(10, 64 * 6 * 6))
    net = mx.sym.QFullyConnected(net, seen, num_hidden=10, name="seen")
    path = save(mx.sym.Group([net, mx.sym.identity(seen)]), (1, 64, 22, 22))
    report = convert_checkpoint(str(path))
    notes = {layer.name: layer.note for layer in report.layers if not layer.is_packed}
    assert [layer.name for layer in report.layers if layer.is_packed] == ["packed"]
    assert row(report, "packed").note == ""
    assert "act_bit 1 and weight_bit 1" in notes.pop("two_bits")
    assert "act_bit 1 and weight_bit 1" in notes.pop("float_weights")
    assert "act_bit 1 and weight_bit 1" in notes.pop("other_half")
    assert "is computed by" in notes.pop("computed")
    assert notes.pop("also_plain") == "its weight is also read by 'plain' (Convolution)"
    assert notes.pop("half") == "its weight is also read by 'other_half', which is not packed"
    assert notes.pop("seen") == "its weight is also an output of the network"
    assert not notes
    text = str(report)
    assert "not packed: its weight is also read by 'plain' (Convolution)" in text
    assert report.verification.largest_difference == 0


def test_weight_shared_by_two_packed_layers(save, tmp_path):
    weight = mx.sym.var("w")
    net = conv(conv(mx.sym.var("data"), "a", weight=weight), "b", weight=weight, scaling_mode="forward")
    report = convert_checkpoint(str(save(net, (1, 64, 9, 9))))
    assert [layer.is_packed for layer in report.layers] == [True, True]
    assert row(report, "b").bytes_before == 0
    assert report.verification.largest_difference == 0


def test_keys_are_matched_exactly(save, tmp_path):
    """BMXNet's converter took every array whose name contained a layer's."""
    net = mx.sym.Convolution(mx.sym.var("data"), kernel=(1, 1), num_filter=64, no_bias=True, name="my_conv")
    net = mx.sym.Convolution(net, kernel=(1, 1), num_filter=64, no_bias=True, name="conv_weight")
    path = save(conv(net, "conv"), (1, 3, 9, 9))
    convert_checkpoint(str(path))
    sizes = {name: array.shape for name, array in read_params(tmp_path / "binarized_net-0003.params").items()}
    assert sizes["arg:my_conv_weight"] == (64, 3, 1, 1)
    assert sizes["arg:conv_weight_weight"] == (64, 64, 1, 1)
    assert sizes["arg:conv_weight"] == interchange.packed_shape((64, 64, 3, 3), library.word_bits())


@pytest.mark.parametrize("no_bias", [True, False])
def test_forward_scaling(save, run, tmp_path, no_bias):
    net = conv(mx.sym.var("data"), "scaled", scaling_mode="forward", no_bias=no_bias)
    net = mx.sym.Group([net, mx.sym.BatchNorm(net, name="bn")])
    path = save(net, (1, 64, 9, 9))
    report = convert_checkpoint(str(path))
    assert "became a node" in row(report, "scaled").note
    nodes = read_nodes(tmp_path / "binarized_net-symbol.json")
    assert nodes["scaled_scale"]["op"] == "_mul_scalar"
    assert "scaling_mode" not in nodes["scaled"]["attrs"]
    batch = np.random.normal(size=(5, 64, 9, 9)).astype(np.float32)
    before, after = (run(load_checkpoint(str(tmp_path / prefix), 3), batch) for prefix in ("net", "binarized_net"))
    for a, b in zip(before, after):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_forward_scaling_that_is_not_finite(save):
    weight = np.full((64, 64, 3, 3), np.nan)
    net = conv(conv(mx.sym.var("data"), "first"), "scaled", scaling_mode="forward")
    report = convert_checkpoint(str(save(net, (1, 64, 9, 9), scaled_weight=weight)))
    assert row(report, "scaled").note == "scaling_mode is forward and mean|w| is not finite"
    assert report.verification.largest_difference == 0


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize(
    ("attributes", "channels", "remark"),
    [
        ({"pad": (1, 1)}, 64, ""),
        ({"pad": (1, 1), "pad_value": -1}, 64, "pad_value=-1"),
        ({"no_offset": True, "true_gradient": True}, 64, "no_offset=True, true_gradient=True"),
        ({"num_group": 2}, 128, "num_group=2"),
        (
            {"num_group": 4, "kernel": (3, 2), "stride": (2, 1), "dilate": (1, 2)},
            20,
            "5 channels a group not a multiple",
        ),
        ({}, 3, "3 channels not a multiple"),
        ({"pad_value": 0.0, "no_offset": False, "true_gradient": False}, 64, ""),
        ({"scaling_mode": "backward", "gradient_update_mode": "ff"}, 64, ""),
        ({"no_bias": False}, 64, ""),
    ],
)
def test_convolutions(save, tmp_path, attributes, channels, remark, word_bits):
    net = conv(mx.sym.var("data", shape=(0, channels, 9, 9)), "q", **attributes)
    report = convert_checkpoint(str(save(net, (1, channels, 9, 9))), word_bits=word_bits)
    assert report.verification.largest_difference == 0
    assert row(report, "q").is_packed
    assert remark in row(report, "q").note
    assert ("needs bmx" in row(report, "q").note) == bool(remark)
    written = read_nodes(tmp_path / "binarized_net-symbol.json")["q"]["attrs"]
    for name in ("pad_value", "no_offset", "true_gradient"):
        assert (name in written) == (f"{name}=" in remark)


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("inputs", [1, 31, 33, 64, 95, 97, 256])
@pytest.mark.parametrize("attributes", [{}, {"no_offset": True}, {"no_bias": False}])
def test_fully_connected(save, inputs, attributes, word_bits):
    net = mx.sym.QFullyConnected(mx.sym.var("data"), num_hidden=5, name="q", **attributes)
    report = convert_checkpoint(str(save(net, (1, inputs))), word_bits=word_bits)
    assert report.verification.largest_difference == 0
    assert report.verification.samples == f"8 samples of shape {inputs}"


@pytest.mark.parametrize("dimensions", [1, 3])
def test_other_dimensions(save, dimensions):
    net = conv(mx.sym.var("data"), "q", kernel=(3,) * dimensions)
    net = mx.sym.QFullyConnected(net, num_hidden=5, name="fc")
    report = convert_checkpoint(str(save(net, (1, 64) + (5,) * dimensions)))
    assert report.verification.samples == "8 samples of shape 64" + "x5" * dimensions
    assert report.verification.largest_difference == 0


def test_attributes_of_activations(save, tmp_path):
    net = mx.sym.QActivation(mx.sym.var("data"), name="plain", gradient_cancel_threshold=0.5, estimator="ste")
    net = mx.sym.QActivation(net, name="wide", gradient_cancel_threshold=1.0)
    report = convert_checkpoint(str(save(conv(net, "q"), (1, 64, 9, 9))))
    nodes = read_nodes(tmp_path / "binarized_net-symbol.json")
    assert "attrs" not in nodes["plain"]
    assert float(nodes["wide"]["attrs"]["gradient_cancel_threshold"]) == 1
    assert "QActivation needs bmx" in str(report)


@pytest.mark.parametrize("weight_bit", [1, 4])
@pytest.mark.parametrize("window", [{"gradient_cancel_threshold": 0.5}, {"gradient_cancel_threshold": 1}, {}])
def test_windows_of_layers_become_activations(save, tmp_path, window, weight_bit):
    net = conv(mx.sym.var("data"), "q", estimator="ste", weight_bit=weight_bit, **window)
    report = convert_checkpoint(str(save(conv(net, "packed"), (1, 64, 9, 9))))
    assert report.verification.largest_difference == 0
    nodes = read_nodes(tmp_path / "binarized_net-symbol.json")
    assert not {"gradient_cancel_threshold", "estimator"} & set(nodes["q"]["attrs"])
    assert ("q_window" in nodes) == bool(window)
    if window:
        wide = {"gradient_cancel_threshold": "1"} if window["gradient_cancel_threshold"] == 1 else {}
        assert nodes["q_window"]["op"] == "QActivation"
        assert nodes["q_window"]["attrs"] == {"act_bit": "1", "backward_only": "True", **wide}
    assert ("QActivation needs bmx" in str(report)) == (window.get("gradient_cancel_threshold") == 1)


def relu(x):
    return mx.sym.relu(x)


def sign(x):
    return mx.sym.QActivation(x, name="sign")


@pytest.mark.parametrize(
    "before, kept",
    [
        (sign, False),
        (lambda x: mx.sym.Pooling(sign(x), kernel=(2, 2), pool_type="max"), False),
        (lambda x: mx.sym.Concat(*mx.sym.split(mx.sym.identity(sign(x)), num_outputs=2)), False),
        (lambda x: mx.sym.Pad(sign(x), mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), constant_value=-1), False),
        (relu, True),
        (lambda x: relu(sign(x)), True),
        (lambda x: mx.sym.QActivation(x, act_bit=2), True),
        (lambda x: mx.sym.QActivation(x, backward_only=True), True),
        (lambda x: mx.sym.Dropout(sign(x)), True),  # which is other than signs in training
        (lambda x: mx.sym.Pooling(sign(x), kernel=(2, 2), pool_type="avg"), True),
        (lambda x: mx.sym.Pooling(sign(x), kernel=(1, 1), stride=(2, 2), pooling_convention="full"), True),
        (lambda x: mx.sym.Pad(sign(x), mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1)), True),
        (lambda x: sign(x) + sign(x), True),
    ],
)
def test_layers_that_multiply_floats_still_do_when_packed(save, tmp_path, run, before, kept):
    net = conv(before(mx.sym.var("data")), "q", float_input=True, pad=(1, 1))
    net = mx.sym.QFullyConnected(net, num_hidden=5, float_input=True, name="fc")
    report = convert_checkpoint(str(save(net, (1, 64, 9, 9))))
    assert report.verification.largest_difference == 0
    nodes = read_nodes(tmp_path / "binarized_net-symbol.json")
    assert ("float_input" in nodes["q"]["attrs"]) == kept
    assert ("needs bmx, original BMXNet cannot read it: float_input=True" in row(report, "q").note) == kept
    batch = np.random.RandomState(1).normal(size=(3, 64, 9, 9)).astype(np.float32)
    outputs = [run(load_checkpoint(str(tmp_path / prefix), 3), batch)[0] for prefix in ("net", "binarized_net")]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-3)
    assert np.abs(outputs[0] - outputs[0][:1]).max() > 1


def test_a_converted_window_has_the_same_gradient(save, tmp_path):
    net = conv(mx.sym.var("data"), "q", gradient_cancel_threshold=1, estimator="approx_sign")
    path = save(net, (2, 64, 9, 9))
    convert_checkpoint(str(path))
    data = np.random.RandomState(0).normal(size=(2, 64, 9, 9))
    gradients = []
    for prefix in ("net", "binarized_net"):
        symbol, args, _ = load_checkpoint(str(tmp_path / prefix), 3)
        gradient = mx.nd.zeros(data.shape)
        executor = symbol.bind(mx.cpu(), {**args, "data": mx.nd.array(data)}, args_grad={"data": gradient})
        executor.backward(executor.forward(is_train=True))
        gradients.append(gradient.asnumpy())
    np.testing.assert_array_equal(*gradients)
    assert (gradients[0] == 0).any() and gradients[0].any()


def test_declared_shapes_become_those_of_the_words(save, tmp_path):
    """Gluon writes those of float weights into its symbol files."""
    weight = mx.sym.var("w", shape=(64, 64, 3, 3), dtype="float32", lr_mult=2)
    convert_checkpoint(str(save(conv(mx.sym.var("data"), "q", weight=weight), (1, 64, 9, 9))))
    assert read_nodes(tmp_path / "binarized_net-symbol.json")["w"]["attrs"] == {
        "__lr_mult__": "2",
        "__shape__": "(64, 1, 3, 3)",
        "__dtype__": "1",
    }


def test_gluon_network(tmp_path):
    from bmx.gluon import nn

    net = nn.HybridSequential()
    net.add(nn.Conv2D(64, 3), nn.BatchNorm(), nn.activated_conv(64, 3, padding=1), nn.BatchNorm(), nn.QDense(10))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    batch = mx.nd.random.normal(shape=(2, 3, 12, 12))
    expected = net(batch).asnumpy()
    net.export(str(tmp_path / "net"))
    report = convert_checkpoint(str(tmp_path / "net-0000.params"))
    assert [layer.is_packed for layer in report.layers] == [True, True]
    assert report.verification.largest_difference == 0
    symbol, args, aux = load_checkpoint(str(tmp_path / "binarized_net"), 0)
    block = mx.gluon.SymbolBlock(symbol, [mx.sym.var("data")])
    for name, parameter in block.collect_params().items():
        parameter._load_init({**args, **aux}[name], mx.cpu())
    np.testing.assert_allclose(block(batch).asnumpy(), expected, rtol=1e-5, atol=1e-5)


def test_layers_inside_control_flow(save):
    data, weight = mx.sym.var("data"), mx.sym.var("w")

    def body(item, states):
        return mx.sym.QFullyConnected(item, weight, num_hidden=7, name="inner"), states

    net, _ = mx.sym.contrib.foreach(body, data, [])
    net = mx.sym.QFullyConnected(net, num_hidden=5, name="outer", flatten=False)
    path = save(net, (2, 3, 7))
    report = convert_checkpoint(str(path), data_shape=(3, 7))
    assert row(report, "outer").is_packed
    assert row(report, "inner").note.startswith("inside the control-flow node")
    assert report.verification.largest_difference == 0
    assert "not verified: the shape of a sample does not follow" in str(convert_checkpoint(str(path), force=True))


def test_already_packed_layers_stay(save, tmp_path):
    net = conv(conv(mx.sym.var("data"), "a"), "b")
    path = save(net, (1, 64, 9, 9))
    convert_checkpoint(str(path), word_bits=32)
    nodes = json.loads((tmp_path / "binarized_net-symbol.json").read_text())
    half = {**nodes, "nodes": [json.loads(json.dumps(node)) for node in nodes["nodes"]]}
    for node in half["nodes"]:
        if node["name"] == "b":
            del node["attrs"]["binarized_weights_only"]
        if node["name"] == "b_weight":
            del node["attrs"]
    (tmp_path / "half-symbol.json").write_text(json.dumps(half))
    arrays = read_params(tmp_path / "binarized_net-0003.params")
    arrays["arg:b_weight"] = read_params(path)["arg:b_weight"]
    (tmp_path / "half-0003.params").write_bytes(encode_params([(name, a.record) for name, a in arrays.items()]))
    report = convert_checkpoint(str(tmp_path / "half-0003.params"), word_bits=64)
    assert row(report, "a").note == "packed already"
    assert row(report, "b").is_packed
    assert report.verification.largest_difference == 0
    with pytest.raises(bmx.Error, match="nothing to pack: a: packed already; b: packed already"):
        convert_checkpoint(str(tmp_path / "binarized_half-0003.params"))


class TestVerification:
    def test_a_wrong_conversion_is_not_written(self, save, tmp_path, monkeypatch):
        net = mx.sym.FullyConnected(conv(mx.sym.var("data"), "q"), num_hidden=5, name="fc")
        path = save(net, (1, 64, 9, 9))
        files = sorted(tmp_path.iterdir())
        pack = interchange.pack
        monkeypatch.setattr(interchange, "pack", lambda weight, bits: pack(-weight, bits))
        with pytest.raises(bmx.Error, match="other outputs, nothing was written: .* largest difference"):
            convert_checkpoint(str(path))
        assert sorted(tmp_path.iterdir()) == files
        report = convert_checkpoint(str(path), verify=False)
        assert "not verified" in str(report)

    def test_given_shape_and_samples(self, save):
        net = mx.sym.Pooling(conv(mx.sym.var("data"), "q"), global_pool=True, kernel=(1, 1), pool_type="max")
        path = str(save(net, (1, 64, 9, 9)))
        report = convert_checkpoint(path, data_shape=(64, 5, 7))
        assert report.verification.samples == "8 samples of shape 64x5x7"
        samples = np.random.normal(size=(3, 64, 4, 6))
        report = convert_checkpoint(path, data=samples, force=True)
        assert report.verification.samples == "3 samples of shape 64x4x6"

    def test_shape_of_an_image_that_is_not_square(self, save):
        net = mx.sym.QFullyConnected(conv(mx.sym.var("data"), "q"), num_hidden=5, name="fc")
        path = str(save(net, (1, 64, 5, 9)))
        report = convert_checkpoint(path)
        assert report.verification.samples == "8 samples of shape 64x5x9"
        assert "(a shape that fits: the checkpoint does not say which it was trained on" in str(report)
        report = convert_checkpoint(path, data_shape=(64, 9, 5), force=True)
        assert report.verification.samples == "8 samples of shape 64x9x5" and "shape that fits" not in str(report)

    def test_several_inputs(self, save):
        net = conv(mx.sym.var("data") + mx.sym.var("more", shape=(1, 64, 9, 9)), "q")
        report = convert_checkpoint(str(save(net, (1, 64, 9, 9), more=None)))
        assert "one input without a stored value, it has: data, more" in str(report)

    @pytest.mark.parametrize("shape", [(64, 2, 2), (3, 28, 28), (64,)])
    def test_a_wrong_shape_is_an_error(self, save, tmp_path, shape):
        path = save(conv(mx.sym.var("data"), "q"), (1, 64, 9, 9))
        with pytest.raises(bmx.Error, match="net-0003.params: the (network does not take samples|array)"):
            convert_checkpoint(str(path), data_shape=shape)
        assert len(list(tmp_path.iterdir())) == 2
