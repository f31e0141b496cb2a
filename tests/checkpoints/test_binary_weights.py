"""The binary weights of checkpoints of every format, against the numbers that were written."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.checkpoints import interchange
from bmx.gluon import nn

S = mx.sym
LATENT = {
    "conv": (64, 64, 3, 3),
    "odd": (24, 5, 3, 3),
    "groups": (16, 4, 2, 2),
    "fc": (10, 64),
    "odd_fc": (7, 70),
}


def numbers(shape):
    """Random ones, and some that are neither positive nor negative."""
    array = np.random.RandomState(len(shape) + shape[0]).normal(size=shape).astype(np.float32)
    array.flat[:4] = 0.0, -0.0, np.nan, -1e-38
    return array


def signs(latent):
    return np.array([-1 if number < 0 else 1 for number in latent.ravel()]).reshape(latent.shape)


def network(packed=False):
    options = {"binarized_weights_only": packed}
    x = S.Convolution(S.var("data"), num_filter=64, kernel=(3, 3), name="float")
    parts = [
        S.QConvolution(x, num_filter=64, kernel=(3, 3), name="conv", **options),
        S.QConvolution_v1(S.var("odd_data"), num_filter=24, kernel=(3, 3), name="odd", **options),
        S.QConvolution(x, num_filter=16, kernel=(2, 2), num_group=16, name="groups", **options),
        S.QFullyConnected(S.var("dense"), num_hidden=10, name="fc", act_bit=1 if packed else 4, **options),
        S.QFullyConnected(S.var("odd_dense"), num_hidden=7, name="odd_fc", **options),
        S.QFullyConnected(S.var("few"), num_hidden=3, weight_bit=2, name="two_bits"),
    ]
    return S.Group(parts)


def check(found, latent):
    assert list(found) == list(latent)
    for name, array in latent.items():
        assert found[name].dtype == np.int8
        np.testing.assert_array_equal(found[name], signs(array))


def save(tmp_path, symbol, arrays):
    mx.model.save_checkpoint(
        str(tmp_path / "net"), 2, symbol, {k: mx.nd.array(v, dtype=v.dtype) for k, v in arrays.items()}, {}
    )
    return str(tmp_path / "net")


others = {"float_weight": np.ones((64, 3, 3, 3)), "float_bias": np.ones(64), "two_bits_weight": np.ones((3, 4))}


@pytest.mark.parametrize("kind", ["float32", "float16", "float64"])
def test_latent(tmp_path, kind):
    latent = {name: numbers(shape) for name, shape in LATENT.items()}
    if kind == "float16":
        for array in latent.values():
            array.flat[3] = -1.0  # -1e-38 is 0 there
    arrays = {**others, **{f"{name}_weight": array.astype(kind) for name, array in latent.items()}}
    check(bmx.binary_weights(save(tmp_path, network(), arrays), 2), latent)


@pytest.mark.parametrize("word_bits", [32, 64])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_packed(tmp_path, word_bits, flat, integers):
    latent = {name: numbers(shape) for name, shape in LATENT.items()}
    arrays = dict(others)
    for name, array in latent.items():
        words = interchange.pack(array, word_bits)
        words = words.view(f"int{word_bits}") if integers else words
        arrays[f"{name}_weight"] = words.ravel() if flat else words
    prefix = save(tmp_path, network(packed=True), arrays)
    content = json.loads((tmp_path / "net-symbol.json").read_text())
    for node in content["nodes"]:
        layer = node["name"][: -len("_weight")]
        if node["op"] == "null" and layer in latent and latent[layer].shape[1] % word_bits:
            node["attrs"] = {"__inputs_per_output__": str(latent[layer][0].size)}
    (tmp_path / "net-symbol.json").write_text(json.dumps(content))
    check(bmx.binary_weights(prefix, 2), latent)


V2 = [
    ("null", "data", {}, []),
    ("det_sign", "qactivation0_det_sign0", {}, ["data"]),
    ("null", "qconv0_weight", {"__shape__": "(8, 0, 3, 3)"}, []),
]
V2_CONV = {"kernel": "(3, 3)", "num_filter": "8", "no_bias": "True"}


def write_v2(tmp_path, nodes, arrays):
    number = {name: i for i, (_, name, _, _) in enumerate(nodes)}
    content = {
        "nodes": [
            {"op": op, "name": name, "attrs": attributes, "inputs": [[number[source], 0, 0] for source in sources]}
            for op, name, attributes, sources in nodes
        ],
        "arg_nodes": [i for i, node in enumerate(nodes) if node[0] == "null"],
        "heads": [[len(nodes) - 1, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10501]},
    }
    (tmp_path / "net-symbol.json").write_text(json.dumps(content))
    mx.nd.save(str(tmp_path / "net-0000.params"), {name: mx.nd.array(array) for name, array in arrays.items()})
    return str(tmp_path / "net")


def test_latent_ones_of_bmxnet_v2(tmp_path):
    weight = numbers((8, 32, 3, 3))
    nodes = [
        *V2,
        ("det_sign", "qconv0_det_sign0", {}, ["qconv0_weight"]),
        ("Convolution", "qconv0_fwd", V2_CONV, ["qactivation0_det_sign0", "qconv0_det_sign0"]),
    ]
    check(bmx.binary_weights(write_v2(tmp_path, nodes, {"arg:qconv0_weight": weight}), 0), {"qconv0": weight})


def test_packed_ones_of_bmxnet_v2(tmp_path):
    weight = numbers((8, 32, 3, 3))
    nodes = [*V2, ("BinaryInferenceConvolution", "qconv0_fwd", V2_CONV, ["data", "qconv0_weight"])]
    words = interchange.pack(weight, 32)
    check(bmx.binary_weights(write_v2(tmp_path, nodes, {"arg:qconv0_weight": words}), 0), {"qconv0": weight})


@pytest.mark.parametrize("path", ["operators", "composed"])
@pytest.mark.parametrize("packed", [False, True])
def test_gluon_networks(tmp_path, path, packed):
    net = mx.gluon.nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(mx.gluon.nn.Conv2D(32, 3, in_channels=3), nn.QActivation(), nn.QConv2D(16, 3, in_channels=32))
        net.add(nn.QActivation(), nn.QDense(6, in_units=64), nn.QDense(4, bits=2, in_units=6))
    net.initialize(mx.init.Normal())
    net.hybridize()
    with nn.path(path):
        net(mx.nd.ones((1, 3, 6, 6)))
        net.export(str(tmp_path / "net"))
    wanted = {
        name[: -len("_weight")]: parameter.data().asnumpy()
        for name, parameter in net.collect_params(".*(qconv|qdense0).*weight").items()
    }
    prefix = str(tmp_path / "net")
    if packed and path == "composed":
        return
    if packed:
        report = bmx.convert_checkpoint(f"{prefix}-0000.params", data_shape=(3, 6, 6))
        prefix = report.params_path[: -len("-0000.params")]
    assert len(wanted) == 2
    check(bmx.binary_weights(prefix, 0), wanted)


def test_scaled_signs_that_are_composed(tmp_path):
    """As XNOR-Net has them: the sign times the mean of absolute values."""
    weight = S.var("weight", shape=(8, 4, 3, 3))
    scale = S.mean(S.abs(weight), axis=(1, 2, 3), keepdims=True)
    clipped = S.sign(weight) + (S.sign(weight) == 0)
    x = S.Convolution(
        S.var("data"), S.broadcast_mul(clipped, scale), num_filter=8, kernel=(3, 3), no_bias=True, name="xnor"
    )
    x = S.FullyConnected(x, S.broadcast_mul(S.var("fc_weight"), S.ones((1, 1))), num_hidden=3, no_bias=True, name="fc")
    latent = np.random.RandomState(0).normal(size=(8, 4, 3, 3)).astype(np.float32)
    latent[3, 2, 1, 0] = -0.0
    prefix = save(tmp_path, x, {"weight": latent, "fc_weight": np.ones((3, 8), np.float32)})
    check(bmx.binary_weights(prefix, 2), {"xnor": latent})


def test_layers_inside_control_flow(tmp_path):
    def network(weight):
        def body(item, states):
            return S.QFullyConnected(item, weight, num_hidden=7, name="inner"), states

        return S.contrib.foreach(body, S.var("data"), [])[0]

    latent = numbers((7, 9))
    check(bmx.binary_weights(save(tmp_path, network(S.var("w")), {"w": latent}), 2), {"inner": latent})
    prefix = save(tmp_path, network(S.var("w") * 2), {"w": latent})
    with pytest.raises(bmx.Error, match="layer 'inner' is inside the control-flow node '_foreach.*cannot be read"):
        bmx.binary_weights(prefix, 2)


def test_a_network_without_any_is_an_error(tmp_path):
    x = S.FullyConnected(S.var("data"), num_hidden=3, name="fc")
    prefix = save(tmp_path, x, {"fc_weight": np.ones((3, 8)), "fc_bias": np.ones(3)})
    with pytest.raises(bmx.Error, match="net-symbol.json: no layer has binary weights$"):
        bmx.binary_weights(prefix, 2)


def test_a_weight_that_is_missing_is_an_error(tmp_path):
    prefix = save(tmp_path, S.QFullyConnected(S.var("data"), num_hidden=3, name="fc"), {"none": np.ones(1)})
    with pytest.raises(bmx.Error, match="layer 'fc': the array '(arg:)?fc_weight' is missing"):
        bmx.binary_weights(prefix, 2)
