"""bmx.gradients: the quantized gradient's values, its mean, where its random numbers come from."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from bmx import Error
from bmx.gluon import nn
from bmx.gradients import quantize_gradient


def backward(grad, bits, network=None):
    """Return the gradient that comes back through the quantizer for ``grad``."""
    x = mx.nd.random.normal(shape=np.shape(grad))
    before = x.asnumpy()
    x.attach_grad()
    mx.random.seed(5)
    with autograd.record():
        y = network(x) if network else quantize_gradient(mx.nd, x, bits)
    y.backward(mx.nd.array(grad))
    np.testing.assert_allclose(y.asnumpy(), before, rtol=0 if network is None else 1e-5)
    return x.grad.asnumpy()


def gradients(shape=(6, 50), seed=0):
    scale = np.logspace(-6, 4, shape[0]).reshape((-1,) + (1,) * (len(shape) - 1))  # each sample has its own
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


class Quantizer(mx.gluon.HybridBlock):
    def __init__(self, bits, branches=1):
        super().__init__()
        self.bits, self.branches = bits, branches

    def hybrid_forward(self, F, x):
        return sum(quantize_gradient(F, x, self.bits) / self.branches for _ in range(self.branches))


@pytest.mark.parametrize("shape", [(6, 50), (6,), (6, 5, 4, 3)])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 12])
def test_values_are_the_steps_below_and_above_the_gradient(bits, shape):
    grad = gradients(shape)
    result = backward(grad, bits)
    largest = np.abs(grad).max(axis=tuple(range(1, grad.ndim)), keepdims=True).astype(np.float64)
    steps = 2**bits - 1
    code = (result / largest + 1) / 2 * steps
    exact = (grad / largest + 1) / 2 * steps
    np.testing.assert_allclose(code, code.round(), atol=1e-3 * steps / 255 + 1e-5)
    assert code.min() > -1e-3 and code.max() < steps + 1e-3
    assert (np.abs(code.round() - exact) < 1 + 1e-6 * steps).all()
    assert len(np.unique(code.round())) > 1 or len(shape) == 1


def test_the_largest_gradients_stay():
    grad = np.array([[-3, 3, 0.1], [0.5, 0.25, -0.5]], np.float32)
    result = backward(grad, 2)
    np.testing.assert_array_equal(result[0, :2], [-3, 3])
    np.testing.assert_array_equal(result[1, [0, 2]], [0.5, -0.5])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_mean_is_the_gradient(bits):
    values = np.array([-1, -0.61, -0.2, 0, 0.05, 0.37, 1], np.float32)
    grad = np.repeat(values, 20000)[None]
    result = backward(grad, bits).reshape(len(values), -1)
    step = 2 / (2**bits - 1)
    # The standard error of a mean of 20000 values that are at most a step apart, times 4.5.
    np.testing.assert_allclose(result.mean(axis=1), values, atol=4.5 * step / 2 / np.sqrt(20000) + 1e-6)
    assert 0.4 < (result[3] > 0).mean() < 0.6


def test_samples_without_a_gradient_or_without_a_finite_one():
    grad = np.array([[0, 0, 0], [np.inf, 1, 0], [1, np.nan, 0], [1, 0.5, -1]], np.float32)
    result = backward(grad, 3)
    np.testing.assert_array_equal(result[0], 0)
    assert np.isnan(result[1]).any() and np.isnan(result[2]).any()
    assert np.isfinite(result[3]).all()


@pytest.mark.parametrize("bits", [24, 25, 31])
def test_many_bits_are_near_the_gradient(bits):
    grad = gradients()
    largest = np.abs(grad).max(axis=1, keepdims=True)
    assert (np.abs(backward(grad, bits) - grad) <= 4e-7 * largest).all()


def test_32_bits_leave_the_gradient_alone():
    grad = gradients()
    np.testing.assert_array_equal(backward(grad, 32), grad)
    assert "Custom" not in quantize_gradient(mx.sym, mx.sym.var("x"), 32).tojson()


@pytest.mark.parametrize("mode", [{}, {"static_alloc": True}, {"static_alloc": True, "static_shape": True}])
@pytest.mark.parametrize("branches", [1, 9])
def test_random_numbers_follow_from_the_seed(mode, branches):
    grad = gradients((8, 300))
    net = Quantizer(2, branches)
    expected = backward(grad, 2, net)
    np.testing.assert_array_equal(backward(grad, 2, net), expected)
    net.hybridize(**mode)
    for _ in range(3):
        np.testing.assert_array_equal(backward(grad, 2, net), expected)
    x = mx.nd.zeros(grad.shape)
    x.attach_grad()
    with autograd.record():  # goes on where the last one ended
        y = net(x)
    y.backward(mx.nd.array(grad))
    assert (x.grad.asnumpy() != expected).any()


def test_gradients_accumulate():
    x = mx.nd.zeros((2, 2))
    x.attach_grad("add")
    for _ in range(2):
        with autograd.record():
            y = quantize_gradient(mx.nd, x, 1)
        y.backward(mx.nd.array([[1, -1], [2, 2]]))
    np.testing.assert_array_equal(x.grad.asnumpy(), [[2, -2], [4, 4]])


def test_module_and_files(tmp_path):
    symbol = quantize_gradient(mx.sym, mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=3, name="fc"), 2)
    symbol.save(str(tmp_path / "symbol.json"))
    symbol = mx.sym.load(str(tmp_path / "symbol.json"))
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", (2, 4))], inputs_need_grad=True)
    module.init_params(mx.init.Xavier())
    module.forward(mx.io.DataBatch([mx.nd.ones((2, 4))]), is_train=True)
    module.backward([mx.nd.array([[3, -3, 1], [2, 1, -2]])])
    bias = module._exec_group.execs[0].grad_dict["fc_bias"].asnumpy()
    np.testing.assert_allclose(bias[[0, 2]], [3 + 2, 1 - 2], rtol=1e-6)
    assert np.abs(bias[1] - [-3 + 2 / 3, -3 + 2]).min() < 1e-6


@pytest.mark.parametrize("bits", [0, 33, 1.0, True, None])
def test_impossible_bits(bits):
    with pytest.raises(Error, match="from 1 to 32"):
        quantize_gradient(mx.nd, mx.nd.ones((2, 2)), bits)


# Layers


@pytest.mark.parametrize("path", ["operators", "composed"])
@pytest.mark.parametrize("mode", ["imperative", "static"])
@pytest.mark.parametrize("config", [{}, {"bits": 2, "bits_a": 2}, {"bits_a": 32}], ids=str)
@pytest.mark.parametrize("scaling", [False, True])
def test_layers_compute_with_the_quantized_gradient(path, mode, config, scaling):
    data = np.random.default_rng(0).choice([-1.0, 1.0], (3, 4, 5, 5))
    if scaling:  # the weights' gradient through the scale does not pass the quantizer
        config = {**config, "approximation": "xnor"}

    def run(grad_bit, grad):
        with nn.path(path), nn.set_binary_layer_config(**config):
            layer = nn.QConv2D(6, 3, padding=1, in_channels=4, grad_bit=grad_bit, apply_scaling=scaling)
            layer.initialize(mx.init.Constant(mx.nd.array(weight)))
            if mode == "static":
                layer.hybridize(static_alloc=True, static_shape=True)
            x = mx.nd.array(data)
            x.attach_grad()
            mx.random.seed(5)
            with autograd.record():
                y = layer(x)
            y.backward(mx.nd.array(grad))
            return y.asnumpy(), x.grad.asnumpy(), layer.weight.grad().asnumpy()

    rng = np.random.default_rng(1)
    weight = rng.normal(0, 0.5, (6, 4, 3, 3)).astype(np.float32)
    grad = rng.normal(size=(3, 6, 5, 5)).astype(np.float32)
    alpha = np.abs(weight).mean(axis=(1, 2, 3)).reshape(1, -1, 1, 1) if scaling else 1
    quantized = backward(grad * alpha, 3) / alpha  # what comes to the product is scaled
    for got, want in zip(run(3, grad), run(32, quantized)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_dense_layer_and_configuration():
    with nn.set_binary_layer_config(grad_bit=1):
        layer = nn.QDense(3, in_units=4)
        block = nn.activated_conv(3)
    assert (layer.grad_bit, block.qconv.grad_bit, nn.QDense(3).grad_bit) == (1, 1, 32)
    assert nn.QConv2D(3, 3, grad_bit=5).grad_bit == 5
    layer.initialize()
    x = mx.nd.ones((2, 4))
    x.attach_grad()
    with autograd.record():
        y = layer(x)
    y.backward(mx.nd.array([[0.3, -2, 2], [0, 0, 0]]))
    sign = np.where(layer.weight.data().asnumpy() < 0, -1, 1)
    assert any((x.grad.asnumpy()[0] == np.array([g, -2, 2]) @ sign / 2).all() for g in (-2, 2))
    assert not x.grad.asnumpy()[1].any()


@pytest.mark.parametrize("make", [lambda: nn.QDense(3, grad_bit=0), lambda: nn.BinaryLayerConfig(grad_bit=64)])
def test_impossible_bits_of_layers(make):
    with pytest.raises(Error, match="from 1 to 32"):
        make()
