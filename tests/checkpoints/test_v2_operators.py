"""BMXNet v2's networks, with latent weights and converted, are read: its operators are translated."""

import json

import mxnet as mx
import numpy as np
import pytest
from random_networks import compare, random_numbers
from v2_graphs import V2Graph

from bmx import load_checkpoint
from bmx.checkpoints import interchange
from bmx.compiler import ir
from bmx.compiler.frontends.mxnet import open_checkpoint
from bmx.compiler.passes import optimize

CHANNELS, FILTERS, UNITS = 32, 8, 5


def write(folder, nodes, arrays):
    """A checkpoint of nodes (op, name, attributes, inputs by name), in v2's dialect of JSON."""
    number = {name: i for i, (_, name, _, _) in enumerate(nodes)}
    content = {
        "nodes": [
            {"op": op, "name": name, "attrs": attributes, "inputs": [[number[source], 0, 0] for source in inputs]}
            for op, name, attributes, inputs in nodes
        ],
        "arg_nodes": [i for i, node in enumerate(nodes) if node[0] == "null"],
        "heads": [[len(nodes) - 1, 0, 0]],
        "attrs": {"mxnet_version": ["int", 10500]},
    }
    (folder / "net-symbol.json").write_text(json.dumps(content))
    mx.nd.save(str(folder / "net-0000.params"), arrays)
    return str(folder / "net-0000.params")


@pytest.fixture
def weights():
    rng = random_numbers(0)
    conv = rng.standard_normal((FILTERS, CHANNELS, 3, 3), np.float32)
    dense = rng.standard_normal((UNITS, FILTERS * 36), np.float32)
    return {"qconv0_weight": conv, "qdense0_weight": dense}


def variable(name):
    return ("null", name, {}, [])


def pad(source):
    attributes = {"mode": "constant", "pad_width": "(0, 0, 0, 0, 1, 1, 1, 1)", "constant_value": "-1"}
    return ("Pad", "qconv0_pad0", attributes, [source])


def latent(weights, folder):
    """QActivation - QConv2D - QActivation - QDense, as v2's Gluon layers are exported."""
    nodes = [
        variable("data"),
        ("_contrib_gradcancel", "qactivation0__contrib_gradcancel0", {"threshold": "1.0"}, ["data"]),
        ("det_sign", "qactivation0_det_sign0", {}, ["qactivation0__contrib_gradcancel0"]),
        pad("qactivation0_det_sign0"),
        variable("qconv0_weight"),
        ("det_sign", "qconv0_det_sign0", {}, ["qconv0_weight"]),
        (
            "Convolution",
            "qconv0_fwd",
            {"kernel": "(3, 3)", "num_filter": str(FILTERS), "no_bias": "True", "layout": "NCHW"},
            ["qconv0_pad0", "qconv0_det_sign0"],
        ),
        ("_plus_scalar", "qconv0__plusscalar0", {"scalar": str(9.0 * CHANNELS)}, ["qconv0_fwd"]),
        ("_div_scalar", "qconv0__divscalar0", {"scalar": "2.0"}, ["qconv0__plusscalar0"]),
        ("_minus_scalar", "shift", {"scalar": str(4.5 * CHANNELS)}, ["qconv0__divscalar0"]),
        ("approx_sign", "qactivation1_approx_sign0", {}, ["shift"]),
        variable("qdense0_weight"),
        ("det_sign", "qdense0_det_sign0", {}, ["qdense0_weight"]),
        (
            "FullyConnected",
            "qdense0_fwd",
            {"num_hidden": str(UNITS), "no_bias": "True", "flatten": "True"},
            ["qactivation1_approx_sign0", "qdense0_det_sign0"],
        ),
    ]
    return write(folder, nodes, {f"arg:{name}": mx.nd.array(array) for name, array in weights.items()})


def converted(weights, folder):
    """The same after v2's model converter: packed weights, no QActivation, no offset of the convolution."""
    nodes = [
        variable("data"),
        pad("data"),
        ("null", "qconv0_weight", {"__shape__": f"({FILTERS}, {CHANNELS // 32}, 3, 3)"}, []),
        (
            "BinaryInferenceConvolution",
            "qconv0_fwd",
            {"kernel": "(3, 3)", "num_filter": str(FILTERS), "no_bias": "True", "layout": "NCHW"},
            ["qconv0_pad0", "qconv0_weight"],
        ),
        ("_minus_scalar", "shift", {"scalar": str(4.5 * CHANNELS)}, ["qconv0_fwd"]),
        ("null", "qdense0_weight", {}, []),
        (
            "BinaryInferenceFullyConnected",
            "qdense0_fwd",
            {"num_hidden": str(UNITS), "no_bias": "True", "flatten": "True"},
            ["shift", "qdense0_weight"],
        ),
    ]
    packed = {f"arg:{name}": mx.nd.array(interchange.pack(array, 32)) for name, array in weights.items()}
    return write(folder, nodes, packed)


def signs(x):
    return np.where(x < 0, -1.0, 1.0)


def wanted(weights, data):
    """The network in NumPy; its result is the dot product of the dense layer."""
    x = np.pad(signs(data), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    y = np.einsum("nchwij,fcij->nfhw", windows, signs(weights["qconv0_weight"])) / 2
    return signs(y).reshape(len(y), -1) @ signs(weights["qdense0_weight"]).T


@pytest.fixture
def data():
    return random_numbers(1).standard_normal((3, CHANNELS, 6, 6), np.float32)


def binary_layers(graph):
    return [node for node in graph.nodes if isinstance(node, ir.Conv) and node.source.dtype == "bit"]


def test_latent_weights(weights, data, tmp_path):
    network = open_checkpoint(latent(weights, tmp_path), (CHANNELS, 6, 6))
    np.testing.assert_array_equal(network.run({"data": data})["qdense0_fwd_output"], wanted(weights, data))
    graph = compare(network, {"data": data}, tolerance=0)
    assert len(binary_layers(graph)) == 2 and binary_layers(graph)[0].pad_value == -1
    assert [type(node) for node in graph.nodes] == [ir.Input, ir.Conv, ir.Conv]


def test_converted_graphs(weights, data, tmp_path):
    network = open_checkpoint(converted(weights, tmp_path), (CHANNELS, 6, 6))
    count = FILTERS * 36
    (found,) = network.run({"data": data}).values()
    np.testing.assert_array_equal(2 * found - count, wanted(weights, data))
    graph = compare(network, {"data": data}, tolerance=0)
    assert len(binary_layers(graph)) == 2 and binary_layers(graph)[0].pad_value == -1


def test_both_become_the_same_but_for_the_offset_of_the_last_layer(weights, tmp_path):
    graphs = []
    for make in (latent, converted):
        graph = open_checkpoint(make(weights, tmp_path), (CHANNELS, 6, 6)).read()
        optimize(graph)
        graphs.append(graph)
    first, second = (binary_layers(graph) for graph in graphs)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.weight, b.weight)
    np.testing.assert_array_equal(first[0].stores[0].threshold, second[0].stores[0].threshold)
    assert [(node.all, node.step) for node in (first[1], second[1])] == [(288, 2), (288, 1)]


def test_they_can_be_loaded_for_training(weights, data, tmp_path):
    path = latent(weights, tmp_path)
    symbol, args, aux = load_checkpoint(path[: -len("-0000.params")], 0)
    executor = symbol.bind(mx.cpu(), {**args, "data": mx.nd.array(data)}, aux_states=aux, grad_req="null")
    np.testing.assert_array_equal(executor.forward()[0].asnumpy(), wanted(weights, data))


@pytest.mark.parametrize("bits", [1, 2, 4, 32])
@pytest.mark.parametrize(
    "activation",
    [("det_sign", 1), ("approx_sign", 1), ("round", 1), ("round", 2), ("round", 8)]
    + [(method, 32) for method in ("identity", "approx_sign", "relu", "clip", "leaky_clip")],
)
def test_every_method_of_activations_and_weights(activation, bits, tmp_path):
    graph = V2Graph((4, 7, 6))
    graph.activation(activation[0], bits=activation[1])
    graph.conv(6, 3, pad=1, bits=bits)
    graph.batch_norm()
    graph.activation(activation[0], bits=activation[1])
    graph.dense(5, bits=bits)
    network = open_checkpoint(graph.write(tmp_path), (4, 7, 6))
    compare(network, {"data": np.round(random_numbers(2).standard_normal((4, 4, 7, 6), np.float32), 1)})
