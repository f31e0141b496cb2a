"""The converter on BMXNet v2's checkpoints, and networks in the operators of v2's converter."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from v2_graphs import V2Graph, random_graph

import bmx
from bmx.checkpoints import interchange
from bmx.checkpoints.params_file import parse_params
from bmx.convert import convert_checkpoint
from bmx.gluon import nn

V2_ONLY = {"det_sign", "approx_sign", "round_ste", "_contrib_gradcancel"}
INFERENCE = {"BinaryInferenceConvolution", "BinaryInferenceFullyConnected"}
PACKED = {"QConvolution": "binarized_weights_only", "QFullyConnected": "binarized_weights_only"}


def outputs(prefix, epoch, data):
    """What a checkpoint gives, by MXNet's way of loading it and by bmx's."""
    found = []
    for load in (mx.model.load_checkpoint, bmx.load_checkpoint):
        symbol, args, aux = load(prefix, epoch)
        arrays = {**args, "data": mx.nd.array(data)}
        executor = symbol.bind(mx.cpu(), {name: arrays[name] for name in symbol.list_arguments()}, aux_states=aux)
        found.append(executor.forward()[0].asnumpy())
    return found


def read(folder, name="binarized_net"):
    nodes = json.loads((folder / f"{name}-symbol.json").read_text())["nodes"]
    return {node["name"]: node for node in nodes}


def check(path, folder, shape, version, epoch=0):
    """Convert, compare, and return the report and the nodes."""
    report = convert_checkpoint(path, format=version, data_shape=shape, force=True)
    data = np.random.RandomState(9).standard_normal((3, *shape)).astype(np.float32)
    wanted = outputs(str(folder / "net"), epoch, data)[0]
    for found in outputs(str(folder / "binarized_net"), epoch, data):
        np.testing.assert_allclose(found, wanted, atol=2e-4 * max(1, np.abs(wanted).max()))
    block = gluon.SymbolBlock.imports(
        str(folder / "binarized_net-symbol.json"), ["data"], str(folder / f"binarized_net-{epoch:04d}.params")
    )
    np.testing.assert_allclose(block(mx.nd.array(data)).asnumpy(), wanted, atol=2e-4 * max(1, np.abs(wanted).max()))
    return report, read(folder)


def notes(report):
    return {layer.name: (layer.is_packed, layer.note) for layer in report.layers}


def small(**options):
    graph = V2Graph((32, 6, 6))
    graph.activation()
    graph.conv(8, 3, **options)
    return graph


class TestCheckpointsOfV2:
    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize("method", ["det_sign", "approx_sign"])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"pad": 1},
            {"offset": False},
            {"scaling": True},
            {"scaling": True, "stop": True, "pad": 1},
            {"stride": 2, "dilate": 2, "known": False},
            {"groups": 2},
            {"kernel": 1},
        ],
        ids=str,
    )
    def test_layers_are_packed(self, options, method, version, tmp_path):
        graph = V2Graph((64, 6, 6))
        graph.activation(method)
        graph.conv(8, options.pop("kernel", 3), method=method, **options)
        graph.batch_norm()
        graph.activation()
        graph.dense(5)
        report, nodes = check(graph.write(tmp_path), tmp_path, (64, 6, 6), version)
        assert {name: packed for name, (packed, _) in notes(report).items()} == {
            "qconv0_fwd": True,
            "qdense0_fwd": True,
        }
        ops = {node["op"] for node in nodes.values()}
        if version == "v2":
            assert {nodes[name]["op"] for name in ("qconv0_fwd", "qdense0_fwd")} == INFERENCE
            assert not ops & {"QActivation", *V2_ONLY, *PACKED}
        else:
            assert not ops & {"Convolution", "FullyConnected", *V2_ONLY, *INFERENCE}
        stored = parse_params((tmp_path / "binarized_net-0000.params").read_bytes(), "")
        words = interchange.pack(graph.arrays["arg:qconv0_weight"].asnumpy(), report.word_bits)
        assert stored["arg:qconv0_weight"].numpy().tobytes() == words.tobytes()

    def test_v2s_own_form_is_reached(self, tmp_path):
        """No node besides those that v2's converter leaves."""
        graph = small(pad=1)
        _, nodes = check(graph.write(tmp_path), tmp_path, (32, 6, 6), "v2")
        assert [node["op"] for node in nodes.values()] == ["null", "null", "Pad", "BinaryInferenceConvolution"]
        assert nodes["qconv0_weight"]["attrs"]["__shape__"] == "(8, 1, 3, 3)"
        assert nodes["qconv0_fwd"]["attrs"]["no_bias"] == "True"

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_other_inputs_than_signs(self, version, tmp_path):
        graph = V2Graph((32, 6, 6))
        graph.relu()
        graph.conv(8, 3)
        graph.activation()
        graph.conv(8, 1)
        report, nodes = check(graph.write(tmp_path), tmp_path, (32, 6, 6), version)
        packed, note = notes(report)["qconv0_fwd"]
        if version == "v1":
            assert packed and "needs bmx" in note and "float_input=True" in note
        else:
            assert not packed and note.startswith("its input is not -1 and +1")
            assert nodes["qconv0_fwd"]["op"] == "Convolution"
        assert notes(report)["qconv1_fwd"][0]

    def test_zeros_around_signs_are_no_signs(self, tmp_path):
        graph = small()
        (layer,) = [node for node in graph.nodes if node[0] == "Convolution"]
        layer[2]["pad"] = "(1, 1)"
        with pytest.raises(bmx.Error, match="nothing to pack: qconv0_fwd: it pads with 0"):
            convert_checkpoint(graph.write(tmp_path))

    def test_few_bits_and_floats_stay(self, tmp_path):
        graph = small()
        graph.batch_norm()
        graph.activation("round", bits=2)
        graph.conv(8, 1, bits=32)
        report, nodes = check(graph.write(tmp_path), tmp_path, (32, 6, 6), "v2")
        assert list(notes(report)) == ["qconv0_fwd"]
        assert {"clip", "round_ste", "Convolution"} <= {node["op"] for node in nodes.values()}
        assert not {"QActivation", "_contrib_round_ste"} & {node["op"] for node in nodes.values()}

    def test_signs_that_others_read_stay(self, tmp_path):
        graph = V2Graph((8, 5, 5))
        graph.activation("approx_sign", threshold=0.7)
        source = graph.last
        graph.conv(8, 3, pad=1)
        graph.residual(source)
        report, nodes = check(graph.write(tmp_path), tmp_path, (8, 5, 5), "v2")
        assert [node["op"] for node in nodes.values()][:3] == ["null", "_contrib_gradcancel", "approx_sign"]
        assert "8 channels not a multiple of the word" in notes(report)["qconv0_fwd"][1]

    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize("change", ["another number", "another divisor", "another reader", "nothing"])
    def test_an_offset_is_the_layers_only_if_it_is_that_of_equal_bits(self, change, version, tmp_path):
        """v2's layers that were hybridized before their first call add 0."""
        graph = small()
        texts = {name: texts for _, name, texts, _ in graph.nodes}
        if change == "another number":
            texts["qconv0__plusscalar0"]["scalar"] = "0"
        elif change == "another divisor":
            texts["qconv0__divscalar0"]["scalar"] = "4"
        elif change == "another reader":
            graph.residual("qconv0_fwd")
        _, nodes = check(graph.write(tmp_path), tmp_path, (32, 6, 6), version)
        assert ("qconv0__plusscalar0" in nodes) == (change != "nothing")

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_a_bias_of_mxnets_layer_is_kept(self, version, save, tmp_path):
        signs = [
            mx.sym.det_sign(mx.sym.var(name, shape=shape)) for name, shape in (("data", None), ("w", (8, 32, 3, 3)))
        ]
        net = mx.sym.Convolution(*signs, kernel=(3, 3), num_filter=8, name="conv")
        report, _ = check(str(save(net, (1, 32, 6, 6))), tmp_path, (32, 6, 6), version, epoch=3)
        assert report.layers[0].is_packed

    def test_a_sum_with_another_comparison_is_no_sign(self, save, tmp_path):
        weight = mx.sym.contrib.sign_ste(mx.sym.var("w", shape=(8, 32, 3, 3)))
        net = mx.sym.Convolution(
            mx.sym.det_sign(mx.sym.var("data")), weight + (weight == 1), kernel=(3, 3), num_filter=8
        )
        with pytest.raises(bmx.Error, match="nothing to pack"):
            convert_checkpoint(str(save(net, (1, 32, 6, 6))))

    def test_an_input_of_any_batch_is_no_weight_of_unknown_shape(self, tmp_path):
        graph = V2Graph((32, 6, 6))
        graph.nodes[0][2]["__shape__"] = "(0, 32, 6, 6)"
        graph._add("det_sign", "qactivation0_det_sign0")
        graph.conv(8, 3)
        report = convert_checkpoint(graph.write(tmp_path), format="v2")
        assert report.layers[0].is_packed

    def test_packed_files_of_v2_are_packed_already(self, tmp_path):
        convert_checkpoint(small().write(tmp_path), format="v2")
        with pytest.raises(bmx.Error, match="nothing to pack: qconv0_fwd: packed already"):
            convert_checkpoint(str(tmp_path / "binarized_net-0000.params"))

    @pytest.mark.parametrize("version", ["v1", "v2"])
    @pytest.mark.parametrize("seed", range(12))
    def test_random_networks(self, seed, version, tmp_path):
        graph = random_graph(seed)
        try:
            check(graph.write(tmp_path), tmp_path, graph.data_shape, version)
        except bmx.Error as error:
            assert "nothing to pack" in str(error)

    @pytest.mark.parametrize("version", ["v1", "v2"])
    def test_after_mxnet_saved_them(self, version, tmp_path):
        """mx.sym.load puts compositions in the place of v2's operators."""
        graph = V2Graph((32, 6, 6))
        graph.activation("approx_sign")
        graph.conv(8, 3, pad=1, method="approx_sign", scaling=True)
        graph.activation()
        graph.conv(8, 1)
        graph.write(tmp_path)
        mx.model.save_checkpoint(str(tmp_path / "net"), 1, *mx.model.load_checkpoint(str(tmp_path / "net"), 0))
        report, _ = check(str(tmp_path / "net-0001.params"), tmp_path, (32, 6, 6), version, epoch=1)
        assert all(packed for packed, _ in notes(report).values())
        assert len(report.layers) == 2


class TestNetworksOfBmx:
    @staticmethod
    def export(net, shape, folder):
        net.initialize(mx.init.Normal(0.5))
        net.hybridize()
        net(mx.nd.random.normal(shape=(2, *shape)))
        net.export(str(folder / "net"), 0)
        return str(folder / "net-0000.params")

    @pytest.mark.parametrize("approximation", ["", "binet", "xnor"])
    @pytest.mark.parametrize("padding", [0, 1])
    def test_in_the_operators_of_v2(self, approximation, padding, tmp_path):
        net = nn.HybridSequential()
        with nn.set_binary_layer_config(approximation=approximation):
            net.add(nn.Conv2D(32, 3), nn.BatchNorm(), nn.activated_conv(32, padding=padding), nn.BatchNorm())
            net.add(nn.QActivation(), nn.MaxPool2D(), nn.Flatten(), nn.QDense(5))
        report, nodes = check(self.export(net, (3, 9, 9), tmp_path), tmp_path, (3, 9, 9), "v2")
        assert [layer.is_packed for layer in report.layers] == [True, True]
        ops = {node["op"] for node in nodes.values()}
        assert ops >= INFERENCE
        assert not [op for op in ops if op.startswith(("Q", "bmx_"))]
        assert not any("needs bmx" in note for _, note in notes(report).values()) or padding == 0

    def test_outputs_are_equal_bit_by_bit_where_the_file_needs_bmx_anyway(self, tmp_path):
        net = nn.HybridSequential()
        net.add(nn.Conv2D(8, 3), nn.BatchNorm(), nn.activated_conv(8), nn.BatchNorm(), nn.Dense(10))
        path = self.export(net, (3, 9, 9), tmp_path)
        report, nodes = check(path, tmp_path, (3, 9, 9), "v1")
        assert report.verification.largest_difference == 0
        assert "needs bmx" in report.layers[0].note and "bmx_BatchNorm" in {node["op"] for node in nodes.values()}

    @pytest.mark.parametrize("scaling", ["channel", "layer"])
    def test_scales_of_packed_weights_are_stored_in_v1s_format_too(self, scaling, tmp_path):
        net = nn.HybridSequential()
        net.add(nn.QActivation(), nn.QConv2D(8, 3, in_channels=32, apply_scaling=scaling))
        report, _ = check(self.export(net, (32, 6, 6), tmp_path), tmp_path, (32, 6, 6), "v1")
        assert report.layers[0].is_packed
        assert any("computed of packed weights, and stored" in remark for remark in report.remarks)


def conv(data, **attributes):
    return mx.sym.QConvolution(data, name="q", **{"kernel": (3, 3), "num_filter": 8, **attributes})


@pytest.mark.parametrize(
    "attributes, ops, needs",
    [
        ({}, [], ""),
        ({"no_offset": True}, ["_mul_scalar", "_minus_scalar"], ""),
        ({"no_bias": False}, ["Reshape", "broadcast_add"], ""),
        ({"no_bias": False, "no_offset": True}, ["_mul_scalar", "_minus_scalar", "broadcast_add"], ""),
        ({"pad": (1, 2)}, [], ""),
        ({"pad": (1, 2), "pad_value": -1}, ["Pad"], ""),
        ({"scaling_mode": "forward"}, ["_mul_scalar"], ""),
        ({"num_group": 2}, [], "num_group=2"),
        ({"gradient_cancel_threshold": 0.7, "estimator": "approx_sign"}, [], ""),
    ],
)
def test_what_a_layer_does_besides_is_in_nodes_around_it(attributes, ops, needs, save, tmp_path):
    path = save(conv(mx.sym.var("data"), **attributes), (1, 64, 6, 6))
    report, nodes = check(str(path), tmp_path, (64, 6, 6), "v2", epoch=3)
    found = [node["op"] for node in nodes.values()]
    assert set(ops) <= set(found)
    assert not [op for op in found if op.startswith("Q")]
    assert needs in notes(report)["q"][1]
    assert ("needs bmx" in notes(report)["q"][1]) == bool(needs)


@pytest.mark.parametrize("kernel, shape", [((3,), (32, 9)), ((2, 2, 2), (32, 4, 4, 4))])
def test_convolutions_of_other_dimensions(kernel, shape, save, tmp_path):
    symbol = conv(mx.sym.var("data"), kernel=kernel, pad=(1,) * len(kernel), pad_value=-1)
    report, _ = check(str(save(symbol, (1, *shape))), tmp_path, shape, "v2", epoch=3)
    assert f"a convolution of {len(kernel)} dimension" in notes(report)["q"][1]


@pytest.mark.parametrize("bits", [2, 4, 32])
def test_activations_of_more_bits(bits, save, tmp_path):
    net = mx.sym.QActivation(mx.sym.var("data"), act_bit=bits, name="a")
    net = mx.sym.Convolution(net, kernel=(1, 1), num_filter=4, name="c")
    path = save(conv(net), (1, 3, 5, 5))
    _, nodes = check(str(path), tmp_path, (3, 5, 5), "v2", epoch=3)
    assert nodes["a"]["op"] == ("clip" if bits == 32 else "_div_scalar")


@pytest.mark.parametrize("word_bits, dtype", [(None, np.float32), (32, np.float32), (64, np.float64)])
def test_words_of_v2_are_32_bits_by_default(word_bits, dtype, save, tmp_path):
    path = save(conv(mx.sym.var("data")), (1, 64, 6, 6))
    report = convert_checkpoint(str(path), format="v2", word_bits=word_bits)
    assert report.word_bits == np.dtype(dtype).itemsize * 8
    assert parse_params((tmp_path / "binarized_net-0003.params").read_bytes(), "")["arg:q_weight"].dtype == dtype


def test_the_format_is_one_of_two(save):
    with pytest.raises(bmx.Error, match="format is 'v3'; it must be 'v1' or 'v2'"):
        convert_checkpoint("net-0000.params", format="v3")
