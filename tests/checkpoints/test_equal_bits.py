"""Signs whose bits are all the same: found in the graph and on samples, and not where networks work."""

import json

import mxnet as mx
import numpy as np
import pytest
from random_networks import network_of, samples_for

import bmx
from bmx.checkpoints.equal_bits import Sign, find_signs, in_graph, in_values
from bmx.checkpoints.symbol_file import Entry, SymbolNode, parse_graph
from bmx.compiler import compile_network
from bmx.gluon import nn
from bmx.gluon.nn import path
from bmx.models import get_model


def graph_of(symbol):
    return parse_graph(json.loads(symbol.tojson()), "network")


def conv(x, name="conv", **attributes):
    return mx.sym.Convolution(x, kernel=(3, 3), num_filter=8, name=name, **attributes)


def qconv(x, name="layer", **attributes):
    return mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, name=name, **attributes)


def norm(x, name="norm"):
    return mx.sym.BatchNorm(x, name=name)


ALWAYS = {
    "relu": lambda x: mx.sym.relu(x, name="it"),
    "activation": lambda x: mx.sym.Activation(x, act_type="relu", name="it"),
    "sigmoid": lambda x: mx.sym.Activation(x, act_type="sigmoid", name="it"),
    "softplus": lambda x: mx.sym.Activation(x, act_type="softrelu", name="it"),
    "softmax": lambda x: mx.sym.softmax(x, axis=1, name="it"),
    "abs": lambda x: mx.sym.abs(x, name="it"),
    "square": lambda x: mx.sym.square(x, name="it"),
    "relu6": lambda x: mx.sym.clip(x, 0, 6, name="it"),
    "maximum": lambda x: mx.sym._internal._maximum_scalar(x, scalar=0, name="it"),
    "few bits": lambda x: mx.sym.QActivation(x, act_bit=4, name="it"),
    "binary layer": lambda x: qconv(x, name="it"),
}
SOMETIMES = {
    "nothing": lambda x: x,
    "norm": norm,
    "norm after a relu": lambda x: norm(mx.sym.relu(x)),
    "tanh": lambda x: mx.sym.tanh(x),
    "leaky": lambda x: mx.sym.LeakyReLU(x, slope=0.1),
    "gelu": lambda x: mx.sym.LeakyReLU(x, act_type="gelu"),
    "clip": lambda x: mx.sym.clip(x, -1, 1),
    "negative": lambda x: -mx.sym.relu(x),
    "shift": lambda x: mx.sym.broadcast_add(mx.sym.relu(x), mx.sym.var("shift", shape=(1, 8, 1, 1))),
    "minus": lambda x: mx.sym.relu(x) - 0.5,
    "sum": lambda x: mx.sym.relu(x) + x,
    "concat": lambda x: mx.sym.Concat(mx.sym.relu(x), x, dim=1),
    "smaller": lambda x: mx.sym.minimum(mx.sym.relu(x), x),
    "binary layer without offset": lambda x: qconv(x, name="it", no_offset=True),
    "binary layer with bias": lambda x: qconv(x, name="it", no_bias=False),
    "one bit": lambda x: mx.sym.QActivation(x),
    "gradient": lambda x: mx.sym.QActivation(x, backward_only=True),
}
BETWEEN = {
    "nothing": lambda x: x,
    "maximum": lambda x: mx.sym.Pooling(x, kernel=(2, 2), pool_type="max"),
    "average": lambda x: mx.sym.Pooling(x, kernel=(2, 2), pool_type="avg"),
    "dropout": lambda x: mx.sym.Dropout(x),
    "twice": lambda x: 2 * x + 0.5,
    "sum": lambda x: x + mx.sym.abs(x),
    "product": lambda x: x * x,
    "larger": lambda x: mx.sym.maximum(-x, x),
    "smaller": lambda x: mx.sym.minimum(x, 3 * x),
    "concat": lambda x: mx.sym.Concat(x, x, dim=1),
    "border": lambda x: mx.sym.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), constant_value=0),
    "gradient": lambda x: mx.sym.QActivation(x, backward_only=True),
}


def reader(kind, x):
    """A layer that takes the sign of x."""
    if kind == "v1":
        return qconv(x)
    if kind == "activated":
        return qconv(mx.sym.QActivation(x, name="sign"))
    if kind == "packed":
        return mx.sym.BinaryInferenceFullyConnected(mx.sym.Flatten(x), num_hidden=32, name="layer")
    if kind in ("det_sign", "approx_sign"):  # of BMXNet v2
        return conv(getattr(mx.sym, kind)(x), name="layer")
    if kind == "dense":
        return mx.sym.QFullyConnected(mx.sym.Flatten(x), num_hidden=3, name="layer")
    assert kind == "composed"
    sign = mx.sym.contrib.sign_ste(x)
    return conv(sign + (sign == 0), name="layer")


KINDS = ["v1", "activated", "dense", "packed", "det_sign", "approx_sign", "composed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", ALWAYS)
def test_a_sign_of_what_is_never_negative_is_named_with_the_reason(before, kind):
    (line,) = in_graph(graph_of(reader(kind, ALWAYS[before](conv(mx.sym.var("data")))))).values()
    assert line.startswith("layer: all bits of the input are +1, because ") and "'it'" in line
    assert line.endswith(", or put a BatchNorm between them") or before == "binary layer"


@pytest.mark.parametrize("between", BETWEEN)
def test_what_is_between_and_keeps_that_changes_nothing(between):
    assert in_graph(graph_of(reader("activated", BETWEEN[between](ALWAYS["relu"](conv(mx.sym.var("data")))))))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", SOMETIMES)
def test_other_signs_are_not_named(before, kind):
    symbol = reader(kind, SOMETIMES[before](conv(mx.sym.var("data"))))
    assert find_signs(graph_of(symbol)) and not in_graph(graph_of(symbol))


@pytest.mark.parametrize("value", [-1, -0.1])
def test_a_border_of_negative_numbers_is_seen(value):
    x = mx.sym.relu(conv(mx.sym.var("data")))
    padded = mx.sym.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), constant_value=value)
    assert not in_graph(graph_of(qconv(padded)))


def test_layers_without_a_sign_have_none():
    x = mx.sym.relu(mx.sym.var("data"))
    assert not find_signs(graph_of(qconv(x, act_bit=4, weight_bit=1)))
    assert not find_signs(graph_of(mx.sym.QActivation(x, act_bit=2)))
    weight = mx.sym.var("weight")
    sign = mx.sym.contrib.sign_ste(weight)
    assert not find_signs(graph_of(conv(x, weight=sign + (sign == 0))))


def test_a_sign_that_several_layers_read_is_one_line():
    sign = mx.sym.QActivation(mx.sym.relu(mx.sym.var("data")))
    symbol = mx.sym.Group([qconv(sign, name=name) for name in ("a", "b", "c", "d")])
    (line,) = in_graph(graph_of(symbol)).values()
    assert line.startswith("a, b and 2 more: all bits")


@pytest.mark.parametrize("composed", [False, True])
def test_gluon_networks(composed):
    net = nn.HybridSequential(prefix="")
    net.add(nn.Conv2D(8, 3), nn.BatchNorm(), nn.Activation("relu"), nn.activated_conv(8, 3), nn.BatchNorm())
    net.add(nn.activated_conv(8, 3, bits=2, bits_a=2), nn.Activation("relu"), nn.activated_conv(8, 3, bits_a=2))
    with path("composed" if composed else "operators"):
        symbol = net(mx.sym.var("data"))
    (line,) = in_graph(graph_of(symbol)).values()
    assert "the ReLU before it ('relu" in line


@pytest.mark.parametrize("composed", [False, True])
def test_gluon_layers_that_multiply_their_input_as_it_is_take_no_sign(composed):
    net = nn.HybridSequential(prefix="")
    net.add(nn.Conv2D(8, 3), nn.Activation("relu"), nn.QConv2D(8, 3), nn.Activation("relu"), nn.QDense(8))
    with path("composed" if composed else "operators"):
        graph = graph_of(net(mx.sym.var("data")))
    assert not find_signs(graph)


@pytest.mark.parametrize(
    "name",
    [
        *("lenet", "binarynet_cifar", "alexnet", "resnet18_v1", "resnet18_v2", "resnet18_e1", "resnet18_e2"),
        *("birealnet18", "reactnet_r18", "densenet28", "meliusnet22", "quicknet_small"),
    ],
)
def test_no_network_of_the_zoo_is_named(name):
    with path("operators", fused=False):
        graph = graph_of(get_model(name)(mx.sym.var("data")))
    assert find_signs(graph) and not in_graph(graph)


# samples


def lines_of(values):
    signs = [Sign(Entry(SymbolNode("BatchNorm", "bn_fwd")), ("layer",))]
    return in_values(signs, [np.asarray(values, np.float32)])


def bits(share, shape=(8, 16, 6, 6), seed=0):
    return np.where(np.random.RandomState(seed).uniform(size=shape) < share, 1, -1)


@pytest.mark.parametrize("share, named", [(1, True), (0.999, True), (0, True), (0.002, True), (0.95, False)])
@pytest.mark.parametrize("shape", [(8, 16, 6, 6), (8, 200)])
def test_bits_that_are_nearly_all_the_same_are_named(share, named, shape):
    lines = lines_of(bits(share, shape))
    assert bool(lines) == named
    if named:
        number = "+1" if share > 0.5 else "-1"
        assert f"of the bits of the input are {number} on samples; the BatchNorm before it ('bn') moves" in lines[0]


def test_channels_that_never_change_are_named_where_they_are_all():
    constant = np.where(np.arange(16) % 2, 1, -1).reshape(1, 16, 1, 1)
    assert lines_of(constant * np.ones((8, 16, 6, 6)))[0].startswith("layer: all of the bits of the input never change")
    some = constant * np.ones((8, 16, 6, 6))
    some[:, :2] = bits(0.5)[:, :2]
    assert not lines_of(some)
    usual = bits(0.5)
    usual[:, :5] = 1  # of 16 channels 5 are constant, as in networks that work
    assert not lines_of(usual)


def test_few_bits_are_not_judged():
    assert not lines_of(np.ones((1, 8, 2, 2))) and not lines_of(np.where(np.arange(100) % 2, 1, -1)[None])


# compiling


def block(relu=False, beta=0.0):
    x = norm(conv(mx.sym.var("data")), "first")
    x = mx.sym.relu(x, name="relu") if relu else x
    x = norm(qconv(mx.sym.QActivation(x), "one", pad_value=-1, pad=(1, 1)), "second")
    x = qconv(mx.sym.QActivation(x), "two")
    net = network_of(mx.sym.FullyConnected(x, num_hidden=3), data=(3, 8, 8), settled=True)
    if beta:
        net.network.parameters["second_beta"][:] = beta
    return net


def warnings_of(net, data=None, **options):
    report = compile_network(net, data=data, **options).report
    return [line for line in str(report).splitlines() if line.startswith("warning: ")]


@pytest.mark.parametrize("with_samples, verify", [(False, True), (True, True), (False, False)])
def test_compiling_names_a_sign_after_a_relu(with_samples, verify):
    net = block(relu=True)
    (line,) = warnings_of(net, samples_for(net, 16) if with_samples else None, verify=verify)
    assert line.startswith("warning: one: all bits of the input are +1, because the ReLU before it ('relu')")


def test_compiling_counts_bits_on_samples():
    net = block(beta=30.0)
    assert not warnings_of(net)  # noise is not what it was trained on
    (line,) = warnings_of(net, samples_for(net, 16))
    assert line.startswith(
        "warning: two: all of the bits of the input are +1 on samples; the BatchNorm before it ('second'"
    )
    one = {name: np.repeat(array[:1], 16, axis=0) for name, array in samples_for(net, 1).items()}
    assert not warnings_of(net, one)


def test_a_network_that_works_is_compiled_without_a_warning():
    net = block()
    assert not warnings_of(net, samples_for(net, 16)) and not warnings_of(net)


def test_batch_norms_that_saw_no_sample_are_not_judged():
    net = block(relu=False)
    for name in ("first", "second"):
        net.network.parameters[f"{name}_moving_mean"][:], net.network.parameters[f"{name}_moving_var"][:] = 0, 1
    net.network.parameters["second_beta"][:] = 30
    assert not warnings_of(net, samples_for(net, 16))


# summary


def test_a_summary_names_a_sign_after_a_relu():
    net = nn.HybridSequential(prefix="")
    net.add(nn.Conv2D(8, 3), nn.BatchNorm(), nn.Activation("relu"), nn.activated_conv(8, 3, prefix="binary_"))
    result = bmx.summary(net, (3, 9, 9))
    assert str(result).splitlines()[-1] == f"warning: {result.warnings[0]}"
    assert result.warnings[0].startswith("binary: all bits of the input are +1, because the ReLU before it (")
    assert result.to_dict()["warnings"] == result.warnings
    assert not bmx.summary(get_model("lenet"), (1, 28, 28)).warnings
