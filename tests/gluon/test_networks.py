"""Whole networks of binary layers: training, hybridizing, exporting, choosing a path, and porting from BMXNet v2."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from bmx import Error, gluon
from bmx.gluon import nn

MODES = {
    "imperative": None,
    "hybridized": {},
    "static alloc": {"static_alloc": True},
    "static": {"static_alloc": True, "static_shape": True},
}


def network(**config):
    """A small network with every kind of layer, its shapes found at the first call."""
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope(), nn.set_binary_layer_config(**config):
        net.add(
            nn.Conv2D(6, 3, padding=1),
            nn.BatchNorm(),
            nn.activated_conv(5, padding=1),
            nn.BatchNorm(),
            nn.QActivation(),
            nn.QConv2D(4, 3, strides=2),
            nn.BatchNorm(),
            nn.QActivation(),
            nn.QDense(8),
            nn.BatchNorm(),
            nn.Dense(3),
        )
    return net


def batches():
    rng = np.random.default_rng(1)
    return [(mx.nd.array(rng.normal(size=(4, 2, 8, 8))), mx.nd.array(rng.integers(0, 3, 4))) for _ in range(3)]


def initialize(net, mode="imperative"):
    """Give the network the same parameters in every mode, and leave the random numbers in the same state."""
    net.initialize()
    if MODES[mode] is not None:
        net.hybridize(**MODES[mode])
    net(batches()[0][0])  # finds the shapes
    mx.random.seed(11)
    np.random.seed(11)  # MXNet's initializers draw from both
    net.initialize(mx.init.Xavier(magnitude=2), force_reinit=True)


def train(net, mode, path="auto"):
    """Return the outputs at each step and the parameters at the end."""
    with nn.path(path):
        initialize(net, mode)
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    outputs = []
    with nn.path(path):
        trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "momentum": 0.9, "wd": 1e-3})
        for x, label in batches():
            with autograd.record():
                out = net(x)
                value = loss(out, label)
            value.backward()
            trainer.step(len(label))
            outputs.append(out.asnumpy())
    return outputs, {name: p.data().asnumpy() for name, p in net.collect_params().items()}


CONFIGS = [
    {},
    {"approximation": "xnor"},
    {"bits": 2, "bits_a": 3},
    {"bits_a": 32},
    {"activation": "sign_approx_sign"},
    {"activation": "swish_sign", "weight_quantization": "swish_sign"},
    {"bits": 2, "bits_a": 32, "weight_quantization": "twn"},
    {"grad_bit": 3},
]


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "imperative"])
def test_training_is_the_same_imperatively_and_hybridized(mode, config):
    outputs, parameters = train(network(**config), "imperative")
    hybrid_outputs, hybrid_parameters = train(network(**config), mode)
    for a, b in zip(outputs, hybrid_outputs):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for name in parameters:
        np.testing.assert_allclose(parameters[name], hybrid_parameters[name], rtol=1e-3, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("mode", MODES)
def test_training_is_the_same_on_both_paths(mode):
    outputs, parameters = train(network(), mode, "operators")
    composed_outputs, composed_parameters = train(network(), mode, "composed")
    for a, b in zip(outputs, composed_outputs):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    for name in parameters:
        np.testing.assert_allclose(parameters[name], composed_parameters[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_weights_change_in_training():
    net = network()
    _, parameters = train(net, "hybridized")
    fresh = network()
    initialize(fresh)
    for name, p in fresh.collect_params(".*q.*weight").items():
        assert not np.array_equal(p.data().asnumpy(), parameters[name]), name


@pytest.mark.parametrize("path", ["operators", "composed"])
def test_hybridizing_before_the_first_call_keeps_the_offset(path):
    """BMXNet v2 learned K only in an imperative call: a network hybridized first had an offset of 0."""
    with nn.path(path):
        for layer in (nn.QConv2D(2, 3, in_channels=4), nn.QConv2D(2, 3), nn.QDense(3)):
            layer.initialize()
            layer.hybridize()
            out = layer(mx.nd.ones((1, 4, 3, 3))).asnumpy()
            assert (out >= 0).all() and (out == out.round()).all()


@pytest.mark.parametrize("req", ["write", "add"])
@pytest.mark.parametrize("path", ["operators", "composed"])
@pytest.mark.parametrize("mode", ["imperative", "static"])
def test_gradients_accumulate(req, path, mode):
    with nn.path(path):
        layer = nn.BinaryConvolution(2, padding=1, in_channels=3)
        layer.initialize()
        layer.collect_params().setattr("grad_req", req)
        if mode == "static":
            layer.hybridize(static_alloc=True, static_shape=True)
        x = mx.nd.random.normal(shape=(1, 3, 4, 4))
        gradients = []
        for _ in range(2):
            with autograd.record():
                out = layer(x)
            out.backward()
            gradients.append(layer.qconv.weight.grad().asnumpy())
    np.testing.assert_array_equal(gradients[1], gradients[0] * (2 if req == "add" else 1))
    assert gradients[0].any()


def test_one_layer_used_twice():
    layer = nn.QDense(4, in_units=4)
    layer.initialize(mx.init.Normal(1))
    x = mx.nd.random.normal(shape=(2, 4))
    activation = nn.QActivation()
    gradients = []
    for path in ("operators", "composed"):
        with nn.path(path), autograd.record():
            out = layer(activation(layer(activation(x)) - 2))
        out.backward()
        gradients.append(layer.weight.grad().asnumpy())
    np.testing.assert_array_equal(*gradients)


def learn(body, steps=60):
    """Train body and a float layer to tell four patterns apart; return the accuracy and the first and last loss."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(4, 2, 6, 6))
    labels = rng.integers(0, 4, 128)
    x, y = mx.nd.array(patterns[labels] + 0.7 * rng.normal(size=(128, 2, 6, 6))), mx.nd.array(labels)
    mx.random.seed(2)
    np.random.seed(2)
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(), *body, nn.BatchNorm(), nn.Activation("relu"), nn.Dense(4))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    loss, losses = gluon.loss.SoftmaxCrossEntropyLoss(), []
    for _ in range(steps):
        with autograd.record():
            value = loss(net(x), y)
        value.backward()
        trainer.step(128)
        losses.append(value.mean().asscalar())
    accuracy = (net(x).argmax(axis=1) == y).mean().asscalar()
    return accuracy, losses[0], losses[-1]


@pytest.mark.parametrize(
    "body",
    [
        lambda: [nn.QConv2D(8, 3, bits_a=32, pad_value=0.0, padding=1, apply_scaling=True)],
        lambda: [nn.QConv2D(8, 3, bits_a=32, apply_scaling="layer")],
        lambda: [nn.QConv2D(8, 3, bits_a=32)],
        lambda: [nn.QDense(16, bits_a=32, apply_scaling=True)],
        lambda: [nn.QConv2D(8, 3, bits=2, bits_a=32, quantization="twn")],
        lambda: [nn.BinaryConvolution(8, activation_method="swish_sign", clip_threshold=float("inf"))],
        lambda: [nn.QActivation(), nn.QConv2D(8, 3, grad_bit=2)],
        lambda: [nn.QActivation(2), nn.QConv2D(8, 3, bits=2, bits_a=2, grad_bit=4)],
    ],
    ids=["bwn", "bwn layer", "bwn offset", "bwn dense", "twn", "swish", "grad_bit 2", "dorefa 2-2-4"],
)
def test_networks_learn(body):
    accuracy, first, last = learn(body())
    assert accuracy > 0.9 and last < first / 2


# Paths


def operators_of(symbol):
    return {node["op"] for node in json.loads(symbol.tojson())["nodes"]}


def test_path_of_a_symbol():
    net, data = network(), mx.sym.var("data")
    bmx_operators = {"QConvolution", "QFullyConnected"}
    assert bmx_operators <= operators_of(net(data)) and "QActivation" not in operators_of(net(data))
    with nn.path("operators", fused=False):
        assert {"QActivation", *bmx_operators} <= operators_of(net(data))
    with mx.gpu(0):
        assert not bmx_operators & operators_of(net(data))
        with nn.path("operators"):
            assert bmx_operators <= operators_of(net(data))
    with nn.path("composed"):
        assert not bmx_operators & operators_of(net(data))
        with nn.path("auto"):
            assert bmx_operators <= operators_of(net(data))


def test_path_is_chosen_when_a_network_is_traced():
    net = nn.BinaryConvolution(2)
    net.initialize()
    net.hybridize()
    with nn.path("composed"):
        net(mx.nd.ones((1, 3, 4, 4)))
    assert "QConvolution" not in operators_of(net._cached_graph[1])
    net(mx.nd.ones((1, 3, 4, 4)))
    assert "QConvolution" not in operators_of(net._cached_graph[1])
    net.hybridize()
    net(mx.nd.ones((1, 3, 4, 4)))
    assert "QConvolution" in operators_of(net._cached_graph[1])


def test_unknown_path():
    with pytest.raises(Error, match="'gpu': allowed are 'auto', 'operators', 'composed'"), nn.path("gpu"):
        pass


def test_path_comes_back_after_an_exception():
    with pytest.raises(ZeroDivisionError), nn.path("composed"):
        raise ZeroDivisionError
    assert "QDense" not in operators_of(nn.QDense(2)(mx.sym.var("data")))
    assert "QFullyConnected" in operators_of(nn.QDense(2)(mx.sym.var("data")))


# Files


@pytest.mark.parametrize("path", ["operators", "composed"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_export_and_import(tmp_path, path, config):
    net, (x, _) = network(**config), batches()[0]
    net.initialize()
    net.hybridize()
    with nn.path(path):
        expected = net(x).asnumpy()
    net.export(str(tmp_path / "net"), epoch=3)
    files = str(tmp_path / "net-symbol.json"), "data", str(tmp_path / "net-0003.params")
    loaded = gluon.SymbolBlock.imports(*files)
    np.testing.assert_array_equal(loaded(x).asnumpy(), expected)

    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(tmp_path / "net"), 3)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(arguments, auxiliary)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), expected, rtol=1e-5, atol=1e-5)


def test_parameters_are_saved_and_loaded(tmp_path):
    net, (x, _) = network(), batches()[0]
    net.initialize()
    expected = net(x).asnumpy()
    net.save_parameters(str(tmp_path / "net.params"))
    other = network()
    other.load_parameters(str(tmp_path / "net.params"))
    np.testing.assert_array_equal(other(x).asnumpy(), expected)


# Porting


def test_code_for_bmxnet_v2_ports_by_its_imports():
    """A network as the examples of BMXNet v2 build them, with `from mxnet import gluon` changed to `from bmx ...`."""

    class Block(gluon.HybridBlock):
        def __init__(self, channels, **kwargs):
            super().__init__(**kwargs)
            self.body = nn.HybridSequential(prefix="")
            self.body.add(nn.activated_conv(channels, kernel_size=3, stride=1, padding=1, in_channels=channels))
            self.body.add(nn.BatchNorm())

        def hybrid_forward(self, F, x):
            return F.Activation(self.body(x), act_type="relu") + x

    with gluon.nn.set_binary_layer_config(
        bits=1,
        bits_a=1,
        approximation="",
        grad_cancel=1.3,
        activation="det_sign",
        weight_quantization="det_sign",
    ):
        net = nn.HybridSequential()
        with net.name_scope():
            net.add(nn.Conv2D(8, kernel_size=3, padding=1), nn.BatchNorm(), Block(8), nn.MaxPool2D(2))
            net.add(nn.QActivation(), nn.QConv2D(channels=16, kernel_size=3), nn.BatchNorm(), nn.Flatten())
            net.add(nn.QActivation(), nn.QDense(32), nn.BatchNorm(), nn.Dense(10))
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    x, label = mx.nd.random.normal(shape=(8, 3, 8, 8)), mx.nd.arange(8)
    losses = []
    for _ in range(15):
        with autograd.record():
            value = loss(net(x), label)
        value.backward()
        trainer.step(8)
        losses.append(value.mean().asscalar())
    assert losses[-1] < losses[0] / 2


def test_all_of_gluon_is_here():
    missing = [name for name in mx.gluon.nn.__dict__ if name[0].isupper() and not hasattr(nn, name)]
    assert not missing
    assert gluon.Trainer is mx.gluon.Trainer and gluon.data is mx.gluon.data
    assert gluon.nn is nn and nn is not mx.gluon.nn
