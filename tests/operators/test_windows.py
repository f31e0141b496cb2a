"""Layers with a window of their own give the very bits of QActivation and the layer without one."""

import functools

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmx  # noqa: F401  (registers the operators)

SPECIAL = np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 0.5, -0.5, np.nextafter(np.float32(0.5), 1), 1e-45, -1e-45])
THRESHOLDS = [0.0, 1e-45, 1e-3, 0.5, 1.0, np.inf]
ESTIMATORS = ["ste", "approx_sign", "swish_sign"]


def values(shape, seed=0):
    """Floats about 0, some of them special."""
    random = np.random.default_rng(seed)
    x = random.uniform(-1.5, 1.5, shape).astype(np.float32)
    return np.where(random.uniform(size=shape) < 0.1, random.choice(SPECIAL, shape), x)


def run(network, inputs, grad_req="write", passes=1):
    """Output and gradients of a function of symbols, each as it is after several passes with random gradients."""
    names = [f"x{i}" for i in range(len(inputs))]
    arrays = {name: mx.nd.array(x, dtype=x.dtype) for name, x in zip(names, inputs)}
    gradients = {name: mx.nd.zeros_like(array) for name, array in arrays.items()}
    symbol = network(*map(mx.sym.var, names))
    executor = symbol.bind(mx.cpu(), arrays, args_grad=gradients, grad_req=grad_req)
    for number in range(passes):
        out = executor.forward(is_train=True)[0]
        executor.backward(mx.nd.array(np.random.default_rng(number).normal(size=out.shape)))
    return [out.asnumpy(), *(gradient.asnumpy() for gradient in gradients.values())]


def same_bits(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def check(layer, inputs, attributes, window):
    """Compare a layer with a window, and QActivation and the layer."""

    def fused(x, *others):
        return layer(x, *others, **attributes, **window)

    def pair(x, *others):
        return layer(mx.sym.QActivation(x, **window), *others, **attributes)

    same_bits(run(fused, inputs), run(pair, inputs))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("weight_bit", [1, 4])
def test_every_window(threshold, estimator, weight_bit):
    window = {"gradient_cancel_threshold": threshold, "estimator": estimator}
    convolution = {"kernel": (3, 3), "num_filter": 5, "pad": (1, 1), "pad_value": -1, "weight_bit": weight_bit}
    check(mx.sym.QConvolution, [values((2, 7, 5, 6)), values((5, 7, 3, 3), 1)], convolution, window)
    dense = {"num_hidden": 4, "weight_bit": weight_bit}
    check(mx.sym.QFullyConnected, [values((3, 2, 5, 5)), values((4, 50), 1)], dense, window)


@pytest.mark.parametrize(
    "attributes",
    [
        {"no_offset": True, "true_gradient": True},
        {"true_gradient": True},
        {"gradient_update_mode": "ff"},
        {"grad_dtype": "float32x2"},
        {"grad_dtype": "bfloat16"},
        {"no_bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("window", [{"gradient_cancel_threshold": 0.5, "estimator": name} for name in ESTIMATORS])
def test_every_mode(attributes, window):
    bias = [] if attributes.get("no_bias", True) else [values((5,), 2)]
    weights = np.nan_to_num(values((5, 6, 3, 3), 1), posinf=1, neginf=-1)
    inputs = [values((2, 6, 5, 4)), weights, *bias]
    check(mx.sym.QConvolution, inputs, {"kernel": (3, 3), "num_filter": 5, **attributes}, window)
    inputs[1] = values((5, 120), 1) if attributes.get("gradient_update_mode") != "ff" else np.ones((5, 120), "f")
    check(mx.sym.QFullyConnected, inputs, {"num_hidden": 5, **attributes}, window)


@pytest.mark.parametrize("mode", ["forward", "backward"])
def test_scaled_layers(mode):
    inputs = [values((2, 6, 5, 4)), np.nan_to_num(values((4, 3, 3, 2), 1), posinf=1, neginf=-1)]
    attributes = {"kernel": (3, 2), "num_filter": 4, "num_group": 2, "scaling_mode": mode}
    check(mx.sym.QConvolution_v1, inputs, attributes, {"gradient_cancel_threshold": 1, "estimator": "approx_sign"})


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_geometry(draw):
    integer = lambda low, high: draw.draw(st.integers(low, high))  # noqa: E731
    dims, groups = integer(1, 3), integer(1, 3)
    kernel, stride, dilate, pad = (tuple(integer(*r) for _ in range(dims)) for r in ((1, 3), (1, 4), (1, 2), (0, 2)))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilate, pad)]
    channels, filters = groups * integer(1, 40 if dims < 3 else 9), groups * integer(1, 4)
    attributes = {"kernel": kernel, "stride": stride, "dilate": dilate, "pad": pad, "num_filter": filters}
    attributes.update(num_group=groups, pad_value=draw.draw(st.sampled_from([0, -1])))
    attributes["weight_bit"] = draw.draw(st.sampled_from([1, 1, 2, 32]))
    window = {"gradient_cancel_threshold": draw.draw(st.sampled_from(THRESHOLDS))}
    window["estimator"] = draw.draw(st.sampled_from(ESTIMATORS))
    data = values((integer(1, 3), channels, *[n + integer(0, 4) for n in least]), integer(0, 99))
    weight = values((filters, channels // groups, *kernel), integer(0, 99))
    check(mx.sym.QConvolution, [data, weight], attributes, window)


def test_arrays_that_several_threads_share():
    attributes = {"kernel": (1, 1), "num_filter": 3}
    inputs = [values((2, 64, 33, 35)), values((3, 64, 1, 1), 1)]
    check(mx.sym.QConvolution, inputs, attributes, {"gradient_cancel_threshold": 0.5})


@pytest.mark.parametrize("word_bits", [32, 64])
def test_packed_weights(word_bits):
    words = np.float32(np.random.default_rng(1).normal(size=(4 * 2 * 9,)))
    words = words if word_bits == 32 else words.view(np.float64)
    attributes = {"kernel": (3, 3), "num_filter": 4, "binarized_weights_only": True}

    def gradient(layer):
        data = mx.nd.array(values((2, 64, 5, 5)))
        data.attach_grad()
        with mx.autograd.record():
            out = layer(data)
        out.backward()
        return [out.asnumpy(), data.grad.asnumpy()]

    packed, window = mx.nd.array(words, dtype=words.dtype), {"gradient_cancel_threshold": 0.5}
    fused = gradient(lambda x: mx.nd.QConvolution(x, packed, **attributes, **window))
    same_bits(fused, gradient(lambda x: mx.nd.QConvolution(mx.nd.QActivation(x, **window), packed, **attributes)))
    assert 0 < (fused[1] == 0).mean() < 1


def test_without_a_threshold_there_is_no_window():
    inputs = [values((2, 3, 4, 4)), values((2, 3, 1, 1), 1)]
    attributes = {"kernel": (1, 1), "num_filter": 2}
    for none in ({}, {"gradient_cancel_threshold": None}, {"estimator": "ste"}):
        same_bits(
            run(lambda *x: mx.sym.QConvolution(*x, **attributes), inputs),
            run(lambda *x, none=none: mx.sym.QConvolution(*x, **attributes, **none), inputs),
        )


@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize("source", [lambda x: x, lambda x: x * 1.5], ids=["variable", "result"])
def test_data_that_others_read_too(source, grad_req):
    """As in residual networks; of variables the sum of gradients needs the copies of bmx/plugin/variable_copies.py."""
    window = {"gradient_cancel_threshold": 1.0, "estimator": "approx_sign"}
    attributes = {"kernel": (3, 3), "num_filter": 3, "pad": (1, 1)}

    def network(x, weight, fused):
        x = source(x)
        activated = x if fused else mx.sym.QActivation(x, **window)
        return x * 3 + mx.sym.QConvolution(activated, weight, **attributes, **(window if fused else {}))

    inputs = [values((2, 3, 4, 4)), values((3, 3, 3, 3), 1)]
    runs = (run(functools.partial(network, fused=fused), inputs, grad_req, passes=2) for fused in (True, False))
    same_bits(*runs)


def test_gradients_accumulate_where_a_layer_reads_a_variable():
    inputs = [values((2, 3, 4, 4)), values((3, 3, 3, 3), 1)]

    def network(*x):
        return mx.sym.QConvolution(*x, kernel=(3, 3), num_filter=3, gradient_cancel_threshold=1.0)

    once, twice = run(network, inputs), run(network, inputs, "add", 2)
    second = run(network, inputs, passes=2)
    for first, last, total in list(zip(once, second, twice))[1:]:
        np.testing.assert_array_equal(total, first + last)
