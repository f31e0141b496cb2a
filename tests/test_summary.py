"""bmx.summary: its numbers are those of hand-counted layers and of Larq's tables."""

import json
import re

import mxnet as mx
import pytest

import bmx
from bmx.gluon import nn
from bmx.models import get_model
from bmx.network_summary import Layer, summary


def only(symbol, *shape):
    """The single layer of a symbol."""
    (layer,) = summary(symbol, shape).layers
    return layer


def data():
    return mx.sym.var("data")


def test_convolution():
    layer = only(mx.sym.Convolution(data(), kernel=(3, 5), num_filter=8, pad=(1, 2), name="conv"), 6, 10, 12)
    assert layer == Layer("conv", "Convolution", (8, 10, 12), 32, 32, {32: 8 * 90 + 8}, {32: 8 * 120 * 90})
    assert layer.memory == 4 * (8 * 90 + 8)


def test_grouped_and_strided_convolution():
    symbol = mx.sym.Convolution(data(), kernel=(3, 3), stride=(2, 2), num_filter=8, num_group=2, no_bias=True)
    layer = only(symbol, 6, 9, 9)
    assert layer.output_shape == (8, 4, 4)
    assert (layer.weights, layer.macs) == ({32: 8 * 27}, {32: 8 * 16 * 27})


@pytest.mark.parametrize("size, channels", [((10,), 4), ((4, 5, 6), 2)])
def test_convolutions_of_one_and_three_dimensions(size, channels):
    kernel = (3,) * len(size)
    layer = only(mx.sym.QConvolution(data(), kernel=kernel, num_filter=8), channels, *size)
    inputs = channels * 3 ** len(size)
    outputs = 1
    for n in layer.output_shape:
        outputs *= n
    assert (layer.weights, layer.macs) == ({1: 8 * inputs}, {1: outputs * inputs})


def test_deconvolution():
    symbol = mx.sym.Deconvolution(data(), kernel=(2, 2), stride=(2, 2), num_filter=3, num_group=1)
    layer = only(symbol, 6, 5, 5)
    assert layer.output_shape == (3, 10, 10)
    assert (layer.weights, layer.macs) == ({32: 6 * 3 * 4}, {32: 6 * 25 * 4 * 3})


def test_dense_layers():
    assert only(mx.sym.FullyConnected(data(), num_hidden=5), 2, 3).macs == {32: 30}
    layer = only(mx.sym.FullyConnected(data(), num_hidden=5, flatten=False), 2, 3)
    assert (layer.output_shape, layer.weights, layer.macs) == ((2, 5), {32: 20}, {32: 30})
    layer = only(mx.sym.QFullyConnected(data(), num_hidden=5, no_bias=False, name="fc"), 2, 3)
    assert layer == Layer("fc", "QFullyConnected", (5,), 1, 1, {1: 30, 32: 5}, {1: 30})
    assert layer.memory == 30 / 8 + 20


@pytest.mark.parametrize("act_bit, weight_bit", [(1, 1), (2, 4), (32, 1), (1, 32), (32, 32)])
def test_bits_of_the_operators(act_bit, weight_bit):
    symbol = mx.sym.QConvolution(data(), kernel=(3, 3), num_filter=8, act_bit=act_bit, weight_bit=weight_bit)
    layer = only(symbol, 3, 5, 5)
    assert (layer.input_bits, layer.weight_bits) == (act_bit, weight_bit)
    assert (layer.weights, layer.macs) == ({weight_bit: 216}, {max(act_bit, weight_bit): 9 * 216})


@pytest.mark.parametrize("bits, bits_a", [(1, 1), (1, 2), (2, 2), (8, 4), (1, 32), (32, 1), (3, 32)])
@pytest.mark.parametrize("scaling", [False, True])
def test_bits_of_gluon_layers(bits, bits_a, scaling):
    net = nn.HybridSequential()
    net.add(nn.QActivation(bits_a, method="identity" if bits_a == 32 else None))
    net.add(nn.QConv2D(8, 3, bits, padding=1, bits_a=bits_a, apply_scaling=scaling))
    net.add(nn.Flatten(), nn.QActivation(bits_a), nn.QDense(10, bits=bits, bits_a=bits_a))
    layers = [layer for layer in summary(net, (3, 5, 5)).layers if layer.macs]
    assert [layer.weights for layer in layers] == [{bits: 8 * 27}, {bits: 10 * 200}]
    assert [(layer.input_bits, layer.weight_bits) for layer in layers] == [(bits_a, bits)] * 2


@pytest.mark.parametrize("path", ["operators", "composed"])
def test_one_bit_layers_have_the_bits_of_what_they_read(path):
    net = nn.HybridSequential()
    net.add(nn.QConv2D(8, 3), nn.QActivation(bits=4), nn.QConv2D(8, 3))
    net.add(nn.QActivation(), nn.MaxPool2D(), nn.QDense(10))
    with nn.path(path):
        layers = [layer for layer in summary(net, (3, 9, 9)).layers if layer.macs]
    assert [(layer.input_bits, layer.weight_bits) for layer in layers] == [(32, 1), (4, 1), (1, 1)]


def test_composed_networks_have_the_same_numbers():
    symbol = get_model("resnet18_e1", classes=10, thumbnail=True)(data())
    one, other = summary(symbol, (3, 32, 32)), summary(bmx.compose(symbol), (3, 32, 32))
    assert (one.weights, one.macs) == (other.weights, other.macs)


def test_a_sum_of_signs_is_not_binary():
    signs = [mx.sym.QActivation(data() * factor) for factor in (1, 2)]
    symbol = mx.sym.Convolution(signs[0] + signs[1], kernel=(1, 1), num_filter=1)
    assert [layer.input_bits for layer in summary(symbol, (3, 5, 5)).layers if layer.macs] == [32]


def test_a_layer_that_only_changes_gradients_does_not_make_its_reader_binary():
    symbol = mx.sym.Convolution(mx.sym.QActivation(data(), backward_only=True), kernel=(1, 1), num_filter=1)
    assert summary(symbol, (3, 5, 5)).layers[-1].input_bits == 32


def test_shared_weights_count_once():
    weight = mx.sym.var("w")
    first = mx.sym.FullyConnected(data(), weight, no_bias=True, num_hidden=4, name="a")
    result = summary(mx.sym.FullyConnected(first, weight, no_bias=True, num_hidden=4, name="b"), (4,))
    assert [layer.weights for layer in result.layers] == [{32: 16}, {}]
    assert (result.parameters, result.macs) == (16, {32: 32})


def test_parameters_of_other_layers():
    x = mx.sym.LeakyReLU(mx.sym.BatchNorm(data()), act_type="prelu")
    result = summary(mx.sym.broadcast_add(x, mx.sym.var("shift", shape=(1, 3, 1, 1))), (3, 5, 5))
    assert [layer.weights for layer in result.layers] == [{32: 12}, {32: 3}, {32: 3}]
    assert result.macs == {} and result.binary_share == 0 and result.ratio == 1


def test_published_packed_files(shared):
    for word_bits in (32, 64):
        symbol, _, _ = bmx.load_checkpoint(str(shared / "models" / f"binarized_mnist_{word_bits}bit"), 1)
        result = summary(symbol, (1, 28, 28))
        assert result.weights == {1: 1_126_400, 32: 16_186}
        assert result.macs == {1: 7_577_600, 32: 931_600}
        assert not any("label" in layer.name for layer in result.layers)


@pytest.mark.parametrize("name", ["birealnet18", "resnet18_e1"])
def test_multiply_adds_are_those_of_larq(name):
    result = summary(get_model(name), (3, 224, 224))
    assert result.macs == {1: 1_676_279_808, 32: 137_793_536}
    assert result.binary_share == pytest.approx(0.924, abs=5e-4)


def test_totals_and_data():
    result = summary(get_model("birealnet18"), (3, 224, 224))
    assert result.weights == {1: 10_985_472, 32: 713_640}
    assert result.memory == 10_985_472 / 8 + 4 * 713_640
    assert result.float_memory == 4 * 11_699_112
    assert result.ratio == pytest.approx(11.07, abs=0.01)
    content = json.loads(json.dumps(result.to_dict()))
    assert content["parameters"] == 11_699_112 and len(content["layers"]) == len(result.layers)
    assert content["layers"][0]["output_shape"] == [64, 112, 112]
    assert content["layers"][0]["memory"] == 4 * 9408


def test_table():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(64, 3, prefix="first_"), nn.BatchNorm(prefix="norm_"))
    net.add(nn.activated_conv(8, prefix="second_"))
    text = str(summary(net, (3, 8, 8)))
    lines = text.splitlines()
    assert lines[0].split()[:4] == ["layer", "kind", "output", "bits"]
    assert re.split(r" {2,}", lines[2]) == ["first", "Convolution", "64 x 6 x 6", "32 x 32", "1,792", "7.00", "62,208"]
    assert re.split(r" {2,}", lines[5]) == ["second", "QConvolution", "8 x 4 x 4", "1 x 1", "4,608", "0.56", "73,728"]
    assert re.split(r" {2,}", lines[7]) == ["total", "4,608", "2,048", "8.56", "73,728", "62,208"]
    assert "size in float32     0.03 MiB, 3.0 times as much" in lines
    assert "multiply-adds       135,936, of which 54.2 % are binary" in lines
    assert len(set(map(len, lines[:2]))) == 1 and not any(line.endswith(" ") for line in lines)
    assert repr(summary(net, (3, 8, 8))) == text


def test_a_hybridized_network_and_one_with_several_outputs():
    net = nn.HybridSequential()
    net.add(nn.QDense(4, in_units=8))
    net.initialize()
    net.hybridize()
    net(mx.nd.ones((1, 8)))
    assert summary(net, (8,)).weights == {1: 32}

    class Two(mx.gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return F.softmax(x), F.relu(x)

    assert [layer.kind for layer in summary(Two(), (8,)).layers] == ["softmax", "relu"]


def test_inputs_by_name():
    symbol = mx.sym.FullyConnected(mx.sym.var("left"), num_hidden=3) + mx.sym.var("right")
    assert summary(symbol, {"left": (5,), "right": (3,)}).macs == {32: 15}


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize(
    "network, shape, message",
    [
        ("net.json", (3, 8, 8), "summary of str: needs a HybridBlock of Gluon or a Symbol"),
        (mx.gluon.nn.Sequential(), (3, 8, 8), "summary of Sequential"),
        (mx.sym.var("x") + 1, (3,), "the network has no input 'data'; its first ones are x"),
        (mx.sym.zeros((1, 3)), (3,), "input_shape: the network has no inputs"),
        (mx.sym.var("data") + 1, 3, "input_shape of 'data' is 3; it must be the sizes of one sample"),
        (mx.sym.var("data") + 1, (0, 8), "input_shape of 'data' is (0, 8)"),
        (mx.sym.var("data") + mx.sym.var("x"), {}, "MXNet cannot infer all shapes"),
        (get_model("lenet"), (1, 8, 8), "input_shape does not fit the network"),
        (
            mx.sym.Convolution(mx.sym.BatchNorm(data(), beta=data()), kernel=(1, 1), num_filter=1),
            (3, 4, 4),
            "input_shape does not fit the network: 'data' has the shape (3,) in it, not (1, 3, 4, 4)",
        ),
        (mx.sym.Convolution(mx.sym.var("data"), kernel=(9, 9), num_filter=1), (1, 4, 4), "does not fit the network"),
    ],
)
def test_bad_input_is_named(capfd, network, shape, message):
    with pytest.raises(bmx.Error, match=re.escape(message)):
        summary(network, shape)
    assert capfd.readouterr() == ("", "")  # MXNet prints and warns


def test_a_damaged_symbol_is_named(tmp_path):
    """MXNet would say vector::_M_range_check."""
    path = tmp_path / "net-symbol.json"
    mx.sym.QConvolution(data(), kernel=(3, 3), num_filter=2, name="conv").save(str(path))
    content = json.loads(path.read_text())
    content["nodes"][-1]["inputs"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(
        bmx.Error, match=r"net-symbol.json: 'conv' \(QConvolution\) takes the inputs data, weight; it has 1"
    ):
        summary(mx.sym.load(str(path)), (3, 8, 8))


def test_a_gluon_network_of_several_inputs():
    class Sum(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            with self.name_scope():
                self.one, self.other = mx.gluon.nn.Dense(3), mx.gluon.nn.Dense(3)

        def hybrid_forward(self, F, x, y):
            return self.one(x) + self.other(y)

    assert summary(Sum(), {"x": (4,), "y": (5,)}).parameters == 3 * 4 + 3 * 5 + 6
    with pytest.raises(bmx.Error, match=r"cannot be called with 1 symbols \(data\)"):
        summary(Sum(), (4,))
