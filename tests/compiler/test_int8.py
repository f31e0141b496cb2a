"""Post-training int8: ranges, weights, which layers, and that results stay near the float ones."""

import ir_oracle
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import difference, network_of, random_numbers, samples_for

from bmx import Error
from bmx.compiler import int8, ir
from bmx.compiler.passes import finish, optimize

x = mx.sym.var("data")


def network():
    """Convolutions, two of which read the same, a depthwise one, a sum, a concat, a dense layer."""
    conv = {"kernel": (3, 3), "pad": (1, 1), "num_filter": 8}
    y = mx.sym.relu(mx.sym.BatchNorm(mx.sym.Convolution(x, name="first", **conv), fix_gamma=False))
    a, b = mx.sym.Convolution(y, name="left", **conv), mx.sym.Convolution(y, name="right", no_bias=True, **conv)
    both = mx.sym.Concat(a, mx.sym.relu(b), dim=1)
    y = mx.sym.Convolution(both, name="depthwise", kernel=(3, 3), num_filter=16, num_group=16)
    y = mx.sym.Convolution(both, name="groups", kernel=(3, 3), num_filter=16, num_group=2) + y
    y = y + mx.sym.Convolution(both, name="again", kernel=(3, 3), num_filter=16)
    return network_of(mx.sym.FullyConnected(y, num_hidden=5, name="last"), data=(3, 8, 8))


def fused(net):
    graph = net.read()
    optimize(graph)
    return graph


def quantized(net, mode, data):
    graph = fused(net)
    calibration = int8.Calibration(int8.layers_to_quantize(graph, mode))
    calibration.add(net.multiplicands(data))
    int8.quantize(graph, calibration.ranges())
    finish(graph)
    return graph


def layers(graph):
    return {node.name: node for node in graph.nodes if isinstance(node, ir.Conv)}


@pytest.mark.parametrize(
    "mode, names",
    [("off", []), ("first-last", ["first", "last"]), ("all", ["first", "left", "right", "groups", "again", "last"])],
)
def test_modes_choose_layers(mode, names):
    assert sorted(node.name for node in int8.layers_to_quantize(fused(network()), mode)) == sorted(names)


def test_an_unknown_mode_is_an_error():
    with pytest.raises(Error, match="int8 is 'some'; allowed: off, first-last, all"):
        int8.layers_to_quantize(ir.Graph("empty"), "some")


@pytest.mark.parametrize("mode", ["first-last", "all"])
def test_results_stay_near(mode):
    net = network()
    data = samples_for(net, 64)
    graph = quantized(net, mode, data)
    (wanted,), (found,) = net.run(data).values(), ir_oracle.run(graph, data).values()
    assert 0 < difference(wanted, found) < 0.05
    for node in layers(graph).values():
        if node.name in ("first", "last"):
            assert node.source.dtype == "u8" and node.weight.dtype == np.int8 and not node.notes
    assert layers(graph)["depthwise"].source.dtype == "f32"


def test_bytes_are_stored_by_the_node_that_gives_the_numbers():
    net = network()
    graph = quantized(net, "all", samples_for(net, 16))
    by_name = {node.name: node for node in graph.nodes}
    assert [value.dtype for value in by_name["first"].gives()] == ["u8"]
    assert by_name["left"].source is by_name["right"].source
    (copy,) = (node for node in graph.nodes if isinstance(node, ir.Map))  # a concat stores nothing else
    assert [type(store) for store in copy.stores] == [ir.Bytes]
    assert by_name["groups"].source is by_name["again"].source is copy.stores[0].value


def test_scales_merge_with_what_follows():
    net = network()
    graph = quantized(net, "all", samples_for(net, 16))
    assert [type(operation) for operation in layers(graph)["first"].epilogue] == [ir.Affine, ir.Clip]


def test_binary_layers_behind_int8_ones_get_bits_of_integers():
    y = mx.sym.BatchNorm(mx.sym.Convolution(x, kernel=(3, 3), num_filter=16, name="first"), fix_gamma=False)
    net = network_of(mx.sym.QConvolution(y, kernel=(3, 3), num_filter=8), data=(3, 8, 8))
    graph = quantized(net, "all", samples_for(net, 16))
    assert layers(graph)["first"].epilogue == []
    assert isinstance(layers(graph)["first"].stores[0], ir.Bits)


@pytest.mark.parametrize("weight_bit", [2, 3, 7])
def test_weights_of_a_few_bits_are_not_rounded(weight_bit):
    y = mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, act_bit=32, weight_bit=weight_bit, name="first")
    net = network_of(mx.sym.FullyConnected(y, num_hidden=3, name="last"), data=(6, 8, 8))
    steps, weight = 2**weight_bit - 1, layers(fused(net))["first"].weight
    first = layers(quantized(net, "first-last", samples_for(net, 16)))["first"]
    assert first.source.dtype == "u8" and np.abs(first.weight).max() == steps
    np.testing.assert_allclose(first.weight / steps, weight, rtol=1e-6)


def test_binary_weights_stay_a_bit_each():
    y = mx.sym.relu(mx.sym.Convolution(x, kernel=(3, 3), num_filter=8, name="plain"))
    y = mx.sym.Convolution(y, kernel=(3, 3), num_filter=16, num_group=2, name="groups")
    net = network_of(mx.sym.FullyConnected(y, num_hidden=3, name="last"), data=(6, 8, 8))
    for name, magnitude in (("plain_weight", 0.5), ("groups_weight", 3)):
        parameters = net.network.parameters
        parameters[name] = np.where(parameters[name] < 0, np.float32(-magnitude), np.float32(magnitude))
    data = samples_for(net, 32)
    assert {name: node.signs for name, node in layers(fused(net)).items()} == {
        "plain": True,
        "groups": True,
        "last": False,
    }
    graph = quantized(net, "all", data)
    found = {name: (node.source.dtype, node.signs) for name, node in layers(graph).items()}
    assert found == {"plain": ("u8", True), "groups": ("u8", True), "last": ("u8", False)}
    (wanted,), (near,) = net.run(data).values(), ir_oracle.run(graph, data).values()
    assert 0 < difference(wanted, near) < 0.02


@pytest.mark.parametrize(
    "bits, pad_value, lowest",
    [({"act_bit": 32, "weight_bit": 1}, 0, 0), ({"float_input": True}, -1, -1), ({"float_input": True}, 0, 0)],
)
def test_inputs_of_binary_weights_are_bytes_too(bits, pad_value, lowest):
    """The numbers of its padding are among those that a layer multiplies."""
    pad = {"pad": (1, 1), "pad_value": pad_value}
    y = mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, name="first", **bits, **pad)
    net = network_of(mx.sym.QFullyConnected(y, num_hidden=3, name="last", **bits), data=(6, 8, 8))
    data = {name: np.abs(array) for name, array in samples_for(net, 32).items()}
    graph = quantized(net, "all", data)
    found = {name: (node.source.dtype, node.signs) for name, node in layers(graph).items()}
    assert found == {"first": ("u8", True), "last": ("u8", True)}
    first = layers(graph)["first"].source
    assert lowest * 1.01 <= -first.scale * first.zero_point <= lowest * 0.8
    (wanted,), (near,) = net.run(data).values(), ir_oracle.run(graph, data).values()
    assert 0 < difference(wanted, near) < 0.015


def test_weights_that_are_not_finite_are_an_error():
    net = network()
    net.network.parameters["last_weight"][0, 0] = np.nan
    with pytest.raises(Error, match="layer 'last': weights that are not finite"):
        quantized(net, "all", samples_for(net, 4))


def test_samples_without_a_finite_number_are_an_error():
    net = network()
    with pytest.raises(Error, match="layer 'first': its input has no finite number"):
        quantized(net, "all", {"data": np.full((2, 3, 8, 8), np.nan, np.float32)})


# Ranges

numbers = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40).map(np.array)


@settings(max_examples=200, deadline=None)
@given(numbers)
def test_zero_is_exact_and_inside_of_every_range(values):
    scale, zero_point = int8.choose_range(values)
    assert scale > 0 and 0 <= zero_point <= 255 and scale == np.float32(scale)


@settings(max_examples=200, deadline=None)
@given(numbers)
def test_a_range_is_no_worse_than_the_whole_one(values):
    low, high = min(values.min(), 0), max(values.max(), 0)
    step = float(np.float32((high - low) / 255)) or 1.0
    places = np.arange(256) - (np.rint(-low / step) if high - low >= 1e-30 else 0)
    scale, zero_point = int8.choose_range(values)
    assert (
        mean_square(values, scale * (np.arange(256) - zero_point)) <= mean_square(values, step * places) * 1.001 + 1e-12
    )


def mean_square(values, numbers):
    """The mean square of the distances to the nearest of some numbers."""
    return float(np.square(np.abs(values.reshape(-1, 1) - numbers).min(axis=1)).mean())


def test_extremes_that_are_rare_are_clipped():
    values = np.concatenate([random_numbers(0).standard_normal(500000), [40.0]])
    scale, zero_point = int8.choose_range(values)
    assert scale * (255 - zero_point) < 35


def test_positive_numbers_have_the_zero_point_0():
    assert int8.choose_range(random_numbers(0).uniform(0, 3, 1000))[1] == 0


def test_constant_zeros_have_some_range():
    assert int8.choose_range(np.zeros(9)) == (1.0, 0)


def test_weights_are_symmetric_with_one_scale_a_filter():
    weight = random_numbers(0).standard_normal((6, 5, 3, 3), np.float32) * np.float32([1, 10, 0.1, 1, 1, 0]).reshape(
        6, 1, 1, 1
    )
    integers, scales = int8.quantize_weight(weight)
    assert integers.dtype == np.int8 and integers.min() >= -127
    restored = integers * scales.reshape(6, 1, 1, 1)
    assert (np.abs(restored - weight) <= 0.5001 * scales.reshape(6, 1, 1, 1)).all()
    assert (np.abs(integers[:5]).reshape(5, -1).max(axis=1) == 127).all()


def test_extremes_of_large_batches_are_kept():
    layer = ir.Conv("layer")
    calibration = int8.Calibration([layer])
    values = np.zeros((1, 200000), np.float32)
    values[0, 77] = 5
    calibration.add({layer: values})
    scale, zero_point = calibration.ranges()[layer]
    assert scale * (255 - zero_point) > 2
