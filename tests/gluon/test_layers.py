"""The layers of bmx.gluon.nn against the definition: values and gradients, on both paths, imperative and hybridized."""

import json

import mxnet as mx
import numpy as np
import oracle
import pytest
from mxnet import autograd

from bmx.gluon import nn

MODES = ["imperative", "hybridized", "static"]
PATHS = ["operators", "composed"]


def prepare(layer, mode):
    if mode != "imperative":
        layer.hybridize(static_alloc=mode == "static", static_shape=mode == "static")
    return layer


def run(layer, x, seed=0):
    """Return (out, dx, dweight) as NumPy arrays for a random output gradient of small integers, and that gradient."""
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record():
        out = layer(data)
    grad = np.random.default_rng(seed).integers(-3, 4, out.shape).astype(np.float32)
    out.backward(mx.nd.array(grad))
    weights = [p for name, p in layer.collect_params().items() if name.endswith("weight")]
    return out.asnumpy(), data.grad.asnumpy(), (weights[0].grad().asnumpy() if weights else None), grad


def signs(shape, seed=0):
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), shape)


def floats(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.8, shape).astype(np.float32)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


# QActivation


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "method, estimator", [("det_sign", "ste"), ("sign_approx_sign", "approx_sign"), ("swish_sign", "swish_sign")]
)
def test_one_bit_activation(path, mode, method, estimator):
    x = np.array([[0.0, -0.0, np.nan, np.inf, -np.inf, 0.7, -0.7, 0.71, -0.71, 1.5, -0.2]], np.float32)
    with nn.path(path):
        layer = prepare(nn.QActivation(gradient_cancel_threshold=0.7, method=method), mode)
        out, dx, _, grad = run(layer, x)
    np.testing.assert_array_equal(out, oracle.qactivation(x))
    expected = oracle.qactivation_backward(grad, x, 1, False, 0.7, estimator)
    np.testing.assert_allclose(dx, expected, rtol=1e-5 if estimator == "swish_sign" else 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [1, 2, 5, 31])
def test_k_bit_activation_has_the_gradient_of_clip_and_window(mode, bits):
    x = floats((4, 9))
    out, dx, _, grad = run(prepare(nn.QActivation(bits, 0.6, "round"), mode), x)
    np.testing.assert_array_equal(out, oracle.quantize_activation(x, bits) if bits > 1 else (x >= 0.5))
    np.testing.assert_allclose(dx, grad * ((x >= 0) & (x <= np.float32(0.6))), rtol=1e-6)


@pytest.mark.parametrize(
    "method, definition, derivative",
    [
        ("relu", lambda x: np.maximum(x, 0), lambda x: x > 0),
        ("identity", lambda x: x, np.ones_like),
        ("approx_sign", lambda x: np.sign(x) * (1 - (1 - np.abs(x)) ** 2), lambda x: 2 - 2 * np.abs(x)),
        ("clip", lambda x: x, np.ones_like),
        ("leaky_clip", lambda x: x, np.ones_like),
    ],
)
def test_full_precision_activation(method, definition, derivative):
    x = np.concatenate([floats((4, 9)), 3 * signs((1, 9))]).astype(np.float32)
    out, dx, _, grad = run(nn.QActivation(bits=32, method=method), x)
    inside = np.abs(x) <= 1  # beyond, the window of a QActivation lets no gradient pass
    outside = {"relu": np.maximum(x, 0), "identity": x, "leaky_clip": 0.1 * x}.get(method, np.sign(x))
    np.testing.assert_allclose(out, np.where(inside, definition(x), outside), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(dx, np.where(inside, grad * derivative(x), 0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_batch_norm_normalizes_any_axis_and_channels_with_its_own_operator(axis):
    x = floats((4, 3, 5, 6))
    layer = nn.BatchNorm(axis=axis, in_channels=x.shape[axis], epsilon=1e-3)
    layer.initialize()
    others = tuple(other for other in range(4) if other != axis)
    centred = x - x.mean(axis=others, keepdims=True)
    close(run(layer, x)[0], centred / np.sqrt((centred**2).mean(axis=others, keepdims=True) + 1e-3))
    operators = {node["op"] for node in json.loads(layer(mx.sym.var("x")).tojson())["nodes"]} - {"null"}
    assert operators & {"bmx_BatchNorm", "BatchNorm"} == {"bmx_BatchNorm" if axis == 1 else "BatchNorm"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
def test_a_frozen_batch_norm_uses_its_running_averages_in_training_too(path, mode):
    x = floats((4, 3, 5, 5))
    with nn.path(path):
        layer = prepare(nn.BatchNorm(in_channels=3, use_global_stats=True, epsilon=1e-3), mode)
        layer.initialize()
        mean, var = np.float32([1, -2, 0.5]), np.float32([4, 0.25, 1])
        layer.running_mean.set_data(mx.nd.array(mean))
        layer.running_var.set_data(mx.nd.array(var))
        out, dx, _, grad = run(layer, x)
    scale = (1 / np.sqrt(var + 1e-3)).reshape(1, 3, 1, 1)
    close(out, (x - mean.reshape(1, 3, 1, 1)) * scale)
    close(dx, grad * scale)
    np.testing.assert_array_equal(layer.running_mean.data().asnumpy(), mean)
    np.testing.assert_array_equal(layer.running_var.data().asnumpy(), var)


def test_approx_sign_block():
    x = np.array([-1.5, -1, -0.25, 0, 0.5, 1, 2], np.float32)
    data = mx.nd.array(x)
    data.attach_grad()
    with autograd.record():
        out = nn.ApproxSign()(data)
    out.backward()
    np.testing.assert_array_equal(out.asnumpy(), [-1, -1, -1, 1, 1, 1, 1])
    np.testing.assert_array_equal(data.grad.asnumpy(), [0, 0, 1.5, 2, 1, 0, 0])


# Convolutions

CONVOLUTIONS = [
    (nn.QConv1D, (2, 5, 9), dict(channels=4, kernel_size=3, padding=1, strides=2)),
    (nn.QConv2D, (2, 5, 6, 7), dict(channels=4, kernel_size=3, padding=1)),
    (nn.QConv2D, (2, 4, 6, 7), dict(channels=6, kernel_size=(2, 3), padding=(0, 2), dilation=(1, 2), groups=2)),
    (nn.QConv2D, (1, 3, 1, 1), dict(channels=2, kernel_size=1)),
    (nn.QConv3D, (2, 3, 4, 3, 5), dict(channels=2, kernel_size=2, padding=(1, 0, 1), strides=(2, 1, 1))),
]


def make(layer, mode="imperative", **arguments):
    layer = layer(weight_initializer=mx.init.Normal(0.7), **arguments)
    mx.random.seed(3)
    layer.initialize()
    return prepare(layer, mode)


def attributes_of(layer):
    kwargs = {k: v for k, v in layer._kwargs.items() if k not in ("no_bias", "layout")}
    kwargs["pad"] = layer._pre_padding
    return dict(kwargs, pad_value=layer._pad_value, true_gradient=True)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("no_offset", [False, True])
@pytest.mark.parametrize("layer, shape, arguments", CONVOLUTIONS)
def test_one_bit_convolution(path, mode, no_offset, layer, shape, arguments):
    x = signs(shape)
    with nn.path(path):
        layer = make(layer, mode, no_offset=no_offset, **arguments)
        out, dx, dw, grad = run(layer, x)
    w = layer.weight.data().asnumpy()
    attributes = dict(attributes_of(layer), no_offset=no_offset)
    np.testing.assert_array_equal(out, oracle.qconvolution(x, w, **attributes))
    expected = oracle.qconvolution_backward(grad, x, w, **attributes)
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(dw, expected[1])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
def test_one_bit_convolution_padded_with_plus_one(path, mode):
    x = signs((2, 3, 5, 5))
    with nn.path(path):
        layer = make(nn.QConv2D, mode, channels=2, kernel_size=3, padding=1, pad_value=0.0)
        out, dx, dw, grad = run(layer, x)
    w = layer.weight.data().asnumpy()
    np.testing.assert_array_equal(out, oracle.qconvolution(x, w, **attributes_of(layer)))
    expected = oracle.qconvolution_backward(grad, x, w, **attributes_of(layer))
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(dw, expected[1])


def v2_convolution(layer, x, grad, wq, offset):
    """The value, dx and d wq of BMXNet v2's layer: the input as it is, padded with -1."""
    a = attributes_of(layer)
    padded = oracle.pad_spatial(x, a["pad"], a["pad_value"])
    geometry = a["stride"], a["dilate"], a["num_group"]
    out = oracle.convolve(padded, wq, *geometry)
    half = 0.5 if offset else 1.0
    dpadded, dwq = oracle.convolve_backward(grad * half, padded, wq, *geometry)
    out = (out + np.prod(wq.shape[1:])) / 2 if offset else out
    return out, oracle.crop_spatial(dpadded, a["pad"]), dwq


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits_a", [1, 32])
@pytest.mark.parametrize("layer, shape, arguments", CONVOLUTIONS)
def test_input_that_is_no_sign_is_multiplied_as_it_is(path, mode, bits_a, layer, shape, arguments):
    x = floats(shape)
    with nn.path(path):
        layer = make(layer, mode, bits_a=bits_a, **arguments)
        out, dx, dw, grad = run(layer, x)
    wq = oracle.quantize_weight(layer.weight.data().asnumpy(), 1)
    expected = v2_convolution(layer, x, grad, wq, offset=True)
    for got, want in zip((out, dx, dw), expected):  # straight through: d weight is d wq
        close(got, want)


@pytest.mark.parametrize("mode", MODES)
def test_padding_of_zeros_stays_zero_with_bits_a_32(mode):
    x = floats((2, 3, 5, 5))
    layer = make(nn.QConv2D, mode, channels=2, kernel_size=3, padding=1, bits_a=32, pad_value=0.0)
    out, dx, dw, grad = run(layer, x)
    wq = oracle.quantize_weight(layer.weight.data().asnumpy(), 1)
    for got, want in zip((out, dx, dw), v2_convolution(layer, x, grad, wq, offset=True)):
        close(got, want)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", ["imperative", "hybridized"])
@pytest.mark.parametrize(
    "before, quantized",
    [
        ([nn.Activation("relu")], lambda x: np.maximum(x, 0)),
        ([nn.QActivation(bits=4)], lambda x: oracle.quantize_activation(x, 4)),
        ([nn.QActivation(), nn.Activation("relu")], lambda x: np.maximum(oracle.sign(x), 0)),
        ([nn.QActivation(), nn.MaxPool2D(1)], oracle.sign),
        ([nn.QActivation(), nn.Dropout(0.5)], oracle.sign),  # does nothing in inference
        ([nn.HybridLambda(lambda F, x: x * 0)], lambda x: x * 0),
    ],
)
def test_layers_multiply_what_stands_before_them(path, mode, before, quantized):
    x = floats((2, 70, 5, 6))
    net = nn.HybridSequential()
    net.add(*before, nn.QConv2D(8, 3, padding=1, groups=2, weight_initializer=mx.init.Normal(1)))
    net.add(nn.QDense(4, weight_initializer=mx.init.Normal(1)))
    net.initialize()
    with nn.path(path):
        out = prepare(net, mode)(mx.nd.array(x)).asnumpy()
    weights = [p.data().asnumpy() for name, p in net.collect_params().items() if name.endswith("weight")]
    padded = oracle.pad_spatial(quantized(x), (1, 1), -1.0)
    y = (oracle.convolve(padded, oracle.sign(weights[0]), (1, 1), (1, 1), 2) + 35 * 9) / 2
    expected = (y.reshape(2, -1) @ oracle.sign(weights[1]).T + 8 * 5 * 6) / 2
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("path", PATHS)
def test_dropped_signs_are_dropped_in_training(path):
    net = nn.HybridSequential()
    net.add(nn.QActivation(), nn.Dropout(0.5), nn.QDense(8, in_units=64, no_offset=True))
    net.initialize()
    net.hybridize()
    with nn.path(path), autograd.train_mode():
        out = net(mx.nd.random.normal(shape=(6, 64))).asnumpy()
    assert (out % 2 == 0).all()  # what is not dropped counts twice; an odd number of dropped ones changes no parity
    assert len(np.unique(out % 4)) == 2


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", [2, 3, 8, 32])
@pytest.mark.parametrize("layer, shape, arguments", CONVOLUTIONS)
def test_k_bit_convolution(mode, bits, layer, shape, arguments):
    x = oracle.quantize_activation(floats(shape), 4)
    layer = make(layer, mode, bits=bits, bits_a=4, **arguments)
    out, dx, dw, grad = run(layer, x)
    weight = layer.weight.data()
    wq = oracle.quantize_weight(weight.asnumpy(), bits)
    expected = v2_convolution(layer, x, grad, wq, offset=False)
    close(out, expected[0])
    close(dx, expected[1])
    close(dw, dorefa_backward(expected[2], weight.asnumpy()) if bits < 32 else expected[2])


def dorefa_backward(grad, w):
    """The gradient of w where q = tanh(w) / max|tanh(w)|, rounding being straight through, has the gradient `grad`."""
    squashed = np.tanh(w.astype(np.float64))
    largest = np.abs(squashed).max()
    of_squashed = grad / largest
    place = np.unravel_index(np.abs(squashed).argmax(), w.shape)
    of_squashed[place] -= (grad * squashed).sum() / largest**2 * np.sign(squashed[place])
    return of_squashed * (1 - squashed**2)


@pytest.mark.parametrize(
    "layer", [lambda **o: nn.QConv2D(4, 3, in_channels=3, **o), lambda **o: nn.QDense(4, in_units=3, **o)]
)
@pytest.mark.parametrize("bits_a, binary", [({"bits_a": 1}, True), ({}, False), ({"bits_a": 2}, False)])
def test_inputs_that_are_rounded_to_one_bit_are_signs_only_if_a_layer_is_told_so(layer, bits_a, binary):
    """A rounded input of one bit is 0 or 1; `bits_a=1` promises signs."""
    with nn.set_binary_layer_config(activation="round"):
        symbol = layer(**bits_a)(mx.sym.var("x"))
    operators = {node["op"] for node in json.loads(symbol.tojson())["nodes"]}
    assert bool(operators & {"QConvolution", "QFullyConnected"}) == binary


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("approximation", ["", "xnor"])
def test_scaling_multiplies_each_filter_by_its_mean_magnitude(path, mode, approximation):
    x = signs((2, 5, 6, 6))
    with nn.path(path), nn.set_binary_layer_config(approximation=approximation):
        layer = make(nn.QConv2D, mode, channels=3, kernel_size=3, padding=1, apply_scaling=True)
        out, dx, dw, grad = run(layer, x)
    w = layer.weight.data().asnumpy().astype(np.float64)
    scale = np.abs(w).mean(axis=(1, 2, 3)).reshape(1, -1, 1, 1)
    attributes = dict(attributes_of(layer), no_offset=True)
    dot = oracle.qconvolution(x, w, **attributes)
    expected = oracle.qconvolution_backward(grad * scale, x, w, **attributes)
    close(out, dot * scale)
    close(dx, expected[0])
    dscale = (grad * dot).sum(axis=(0, 2, 3)).reshape(-1, 1, 1, 1)
    through_scale = 0 if approximation == "xnor" else dscale * np.sign(w) / w[0].size
    np.testing.assert_allclose(dw, expected[1] + through_scale, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits_a", [1, 32])
def test_scaling_of_a_layer_is_its_mean_magnitude(path, mode, bits_a):
    x = signs((2, 5, 6, 6))
    with nn.path(path):
        layer = make(nn.QConv2D, mode, channels=3, kernel_size=3, padding=1, apply_scaling="layer", bits_a=bits_a)
        out, dx, dw, grad = run(layer, x)
    w = layer.weight.data().asnumpy().astype(np.float64)
    scale = np.abs(w).mean()
    attributes = dict(attributes_of(layer), no_offset=True)
    dot = oracle.qconvolution(x, w, **attributes)
    expected = oracle.qconvolution_backward(grad * scale, x, w, **attributes)
    close(out, dot * scale)
    close(dx, expected[0])
    np.testing.assert_allclose(dw, expected[1] + (grad * dot).sum() * np.sign(w) / w.size, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits_a", [1, 32])
@pytest.mark.parametrize("scaling", [True, "channel", "layer"])
@pytest.mark.parametrize("shape, flatten", [((3, 2, 4), True), ((3, 5, 8), False)])
def test_scaling_of_a_dense_layer(path, mode, bits_a, scaling, shape, flatten):
    x = signs(shape)
    with nn.path(path):
        layer = make(nn.QDense, mode, units=4, flatten=flatten, bits_a=bits_a, apply_scaling=scaling)
        out, dx, _, grad = run(layer, x)
    w = layer.weight.data().asnumpy().astype(np.float64)
    scale = np.abs(w).mean(axis=None if scaling == "layer" else 1)
    rows = x.reshape(3, 8) if flatten else x
    close(out, rows @ np.sign(w).T * scale)
    close(dx, (grad * scale @ np.sign(w)).reshape(shape))


@pytest.mark.parametrize("mode", MODES)
def test_ternary_convolution(mode):
    x = floats((2, 5, 6, 6))
    layer = make(nn.QConv2D, mode, channels=4, kernel_size=3, padding=1, bits=2, bits_a=32, quantization="twn")
    out, dx, dw, grad = run(layer, x)
    wq = oracle.ternary_weight(layer.weight.data().asnumpy())
    for got, want in zip((out, dx, dw), v2_convolution(layer, x, grad, wq, offset=False)):
        close(got, want)


@pytest.mark.parametrize("path", PATHS)
def test_other_one_bit_method_changes_the_gradient_only(path):
    x = signs((2, 3, 5, 5))
    with nn.path(path):
        layer = make(nn.QConv2D, channels=2, kernel_size=3, quantization="sign_approx_sign")
        out, dx, dw, grad = run(layer, x)
    w = layer.weight.data().asnumpy()
    expected = oracle.qconvolution_backward(grad, x, w, **attributes_of(layer))
    np.testing.assert_array_equal(out, oracle.qconvolution(x, w, **attributes_of(layer)))
    np.testing.assert_array_equal(dx, expected[0])
    close(dw, expected[1] * (2 - 2 * np.abs(w)))


@pytest.mark.parametrize("channels, groups", [(5, 1), (64, 2), (64, 1)])
@pytest.mark.parametrize("path", PATHS)
def test_gradients_in_bfloat16_are_those_in_float32_rounded(path, channels, groups):
    """Table lookups, which are float32 in both, do not serve fewer than 8 channels, nor groups."""
    results = []
    for configured, given in (("float32", None), ("float32", "bfloat16"), ("bfloat16", None)):
        with nn.path(path), nn.set_binary_layer_config(grad_dtype=configured):
            layer = make(nn.QConv2D, "hybridized", channels=8, kernel_size=3, groups=groups, grad_dtype=given)
            results.append(gradients(layer, signs((2, channels, 6, 6))))
            assert ("bfloat16" in layer._cached_graph[1].tojson()) == (path == "operators" and results[1:] != [])
    for exact, given, configured in zip(*results):
        np.testing.assert_allclose(given, exact, rtol=0.02, atol=0.005 * np.abs(exact).max())
        np.testing.assert_array_equal(given, configured)


def test_gradients_in_float32x2_are_those_in_float32_to_16_bits():
    """The third of the terms that tiles multiply is left out; without tiles, nothing is."""
    with nn.path("operators"):
        exact, short, coarse = (
            gradients(
                make(nn.QConv2D, "hybridized", channels=40, kernel_size=3, padding=1, grad_dtype=kind),
                signs((2, 64, 9, 7)),
            )
            for kind in ("float32", "float32x2", "bfloat16")
        )
    for a, b, c in zip(exact, short, coarse):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * np.abs(a).max())
        assert np.abs(b - a).max() <= np.abs(c - a).max()


@pytest.mark.parametrize("path", PATHS)
def test_dense_gradients_in_bfloat16(path):
    with nn.path(path):
        results = [
            gradients(make(nn.QDense, "hybridized", units=4, grad_dtype=kind), signs((3, 5)))
            for kind in ("float32", "bfloat16")
        ]
    for exact, rounded in zip(*results):
        np.testing.assert_allclose(rounded, exact, rtol=0.02, atol=0.005 * np.abs(exact).max())


def gradients(layer, x):
    """Those of data and weights, for weights and an output gradient that are the same for each layer."""
    data = mx.nd.array(x)
    layer(data)
    layer.weight.set_data(mx.nd.array(floats(layer.weight.shape)))
    data.attach_grad()
    with autograd.record():
        out = layer(data)
    out.backward(mx.nd.array(floats(out.shape, 1)))
    return data.grad.asnumpy(), layer.weight.grad().asnumpy()


# QDense


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape, flatten", [((3, 7), True), ((2, 3, 2, 2), True), ((2, 3, 5), False)])
@pytest.mark.parametrize("no_offset", [False, True])
def test_one_bit_dense(path, mode, shape, flatten, no_offset):
    x = signs(shape)
    with nn.path(path):
        layer = make(nn.QDense, mode, units=4, flatten=flatten, no_offset=no_offset)
        out, dx, dw, grad = run(layer, x)
    w = layer.weight.data().asnumpy()
    attributes = {"num_hidden": 4, "flatten": flatten, "true_gradient": True, "no_offset": no_offset}
    np.testing.assert_array_equal(out, oracle.qfully_connected(x, w, **attributes))
    expected = oracle.qfully_connected_backward(grad, x, w, **attributes)
    np.testing.assert_array_equal(dx, expected[0])
    np.testing.assert_array_equal(dw, expected[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits, bits_a", [(1, 1), (1, 32), (1, 2), (2, 2), (8, 1), (32, 32)])
@pytest.mark.parametrize("no_offset", [False, True])
def test_dense_of_other_widths_keeps_the_offset_of_bmxnet_v2(mode, bits, bits_a, no_offset):
    x = floats((3, 6))
    layer = make(nn.QDense, mode, units=4, bits=bits, bits_a=bits_a, no_offset=no_offset)
    out, dx, _, grad = run(layer, x)
    wq = oracle.quantize_weight(layer.weight.data().asnumpy(), bits)
    close(out, x @ wq.T if no_offset else (x @ wq.T + 6) / 2)
    close(dx, grad @ wq * (1 if no_offset else 0.5))


# Activated convolutions


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
def test_binary_convolution(path, mode):
    x = floats((2, 5, 6, 6))
    with nn.path(path):
        layer = prepare(nn.BinaryConvolution(3, kernel_size=3, stride=2, padding=1, clip_threshold=0.9), mode)
        layer.initialize()
        out, dx, dw, grad = run(layer, x)
    w = layer.qconv.weight.data().asnumpy()
    attributes = attributes_of(layer.qconv)
    np.testing.assert_array_equal(out, oracle.qconvolution(x, w, **attributes))
    expected = oracle.qconvolution_backward(grad, x, w, **attributes)
    np.testing.assert_array_equal(dx, oracle.qactivation_backward(expected[0].astype(np.float32), x, 1, False, 0.9))
    np.testing.assert_array_equal(dw, expected[1])


@pytest.mark.parametrize("mode", MODES)
def test_binary_activations_of_zero_and_one_stay_zero_and_one(mode):
    x = floats((2, 5, 6, 6))
    layer = prepare(nn.BinaryConvolution(3, activation_method="round"), mode)
    layer.initialize()
    wq = oracle.quantize_weight(run(layer, x)[2] * 0 + layer.qconv.weight.data().asnumpy(), 1)
    dot = oracle.convolve((x >= 0.5).astype(np.float32), wq, (1, 1), (1, 1))
    np.testing.assert_array_equal(layer(mx.nd.array(x)).asnumpy(), (dot + 45) / 2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits, bits_a", [(1, 2), (2, 1), (2, 4), (1, 32), (32, 32)])
def test_activated_convolution_of_other_widths(mode, bits, bits_a):
    x = floats((2, 5, 6, 6))
    layer = prepare(nn.activated_conv(3, padding=1, bits=bits, bits_a=bits_a), mode)
    layer.initialize()
    out = layer(mx.nd.array(x)).asnumpy()
    xq = np.maximum(x, 0) if bits_a == 32 else oracle.quantize_activation(x, bits_a)
    wq = oracle.quantize_weight(layer.qconv.weight.data().asnumpy(), bits)
    dot = oracle.convolve(oracle.pad_spatial(xq, (1, 1), -1.0), wq, (1, 1), (1, 1))
    close(out, (dot + 45) / 2 if bits == 1 else dot)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("block", [nn.ScaledWeightsBinaryConv, nn.ScaledBinaryConv])
@pytest.mark.parametrize(
    "kernel, stride, padding", [(3, 1, 1), (3, 2, 1), (1, 1, 0), ((3, 2), (1, 2), (1, 0)), (1, 1, 1), ((2, 3), 1, 2)]
)
def test_scaled_convolutions(path, mode, block, kernel, stride, padding):
    x = floats((2, 5, 6, 6))
    with nn.path(path):
        layer = prepare(block(3, kernel, stride, padding), mode)
        layer.initialize()
        out, dx, _, grad = run(layer, x)
    w = layer.qconv.weight.data().asnumpy()
    attributes = dict(attributes_of(layer.qconv), no_offset=True)
    scale = np.abs(w).mean(axis=(1, 2, 3)).reshape(1, -1, 1, 1)
    if block is nn.ScaledBinaryConv:
        a = attributes
        magnitude = oracle.pad_spatial(np.abs(x).mean(axis=1, keepdims=True), a["pad"], 0.0)
        box = np.full((1, 1) + a["kernel"], 1 / np.prod(a["kernel"]))
        scale = scale * oracle.convolve(magnitude, box, a["stride"], (1, 1))
    close(out, oracle.qconvolution(x, w, **attributes) * scale)
    expected = oracle.qconvolution_backward(grad * scale, x, w, **attributes)[0].astype(np.float32)
    close(dx, oracle.qactivation_backward(expected, x, 1, False, 1.0))


# What makes them Gluon layers


def test_layers_print_like_gluon():
    assert (
        repr(nn.QConv2D(8, 3, in_channels=4))
        == "QConv2D(4 -> 8, kernel_size=(3, 3), stride=(1, 1), bias=False, bits=1)"
    )
    assert repr(nn.QDense(8, bits=2)) == "QDense(None -> 8, linear, bits=2)"
    assert repr(nn.QActivation()) == "QActivation(det_sign, bits=1, gradient_cancel_threshold=1.0)"
    assert "(qconv): QConv2D(" in repr(nn.BinaryConvolution(8))


def test_parameters_have_the_names_of_bmxnet_v2():
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.QConv2D(8, 3), nn.activated_conv(8), nn.QDense(4), nn.BinaryConvolution(8, prefix="shortcut_"))
    assert list(net.collect_params()) == [
        "net_qconv0_weight",
        "net_qconv1_weight",
        "net_qdense0_weight",
        "net_shortcut_weight",
    ]


def test_weights_do_not_decay():
    for layer in (nn.QConv1D(2, 3), nn.QConv2D(2, 3), nn.QConv3D(2, 3), nn.QDense(2), nn.BinaryConvolution(2).qconv):
        assert layer.weight.wd_mult == 0


def test_weights_know_their_bits():
    assert (nn.QConv2D(2, 3).weight.bits, nn.QDense(2, bits=4).weight.bits, nn.activated_conv(2).qconv.weight.bits) == (
        1,
        4,
        1,
    )


def test_parameters_are_shared():
    first = make(nn.QConv2D, channels=2, kernel_size=3, in_channels=3)
    second = nn.QConv2D(2, 3, in_channels=3, bits=2, params=first.collect_params())
    third = nn.BinaryConvolution(2, in_channels=3, params=first.collect_params())
    assert second.weight is first.weight is third.qconv.weight


def test_summary(capsys):
    net = nn.HybridSequential()
    net.add(nn.BinaryConvolution(2), nn.QDense(3))
    net.initialize()
    net.summary(mx.nd.ones((1, 4, 5, 5)))
    assert "Total params: 126" in capsys.readouterr().out
