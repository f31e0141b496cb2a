"""bmx_ReCU against its definition in float64, and against its composition of MXNet's operators."""

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import quantization

SHAPES = [(4, 3, 3, 3), (1, 7), (5, 1), (3, 2, 5), (16, 8, 1, 1)]


def by_definition(w, tau, grad):
    """Output and gradient of the weight, filter by filter."""
    rows, grads = w.reshape(len(w), -1), grad.reshape(len(w), -1)
    scale = [1 / np.sqrt(row.var() + 1e-5) for row in rows]
    v = np.stack([(row - row.mean()) * s for row, s in zip(rows, scale)])
    limit = -np.abs(v).mean() * np.log(2 - 2 * tau)
    passed = np.where(np.abs(v) <= limit, grads, 0)
    out = [s * (m - m.mean() - x * (m * x).mean()) for s, m, x in zip(scale, passed, v)]
    return v.clip(-limit, limit).reshape(w.shape), np.stack(out).reshape(w.shape)


def run(function, w, tau, grad):
    w = mx.nd.array(w)
    w.attach_grad()
    with mx.autograd.record():
        out = function(w, mx.nd.array([tau]))
    out.backward(mx.nd.array(grad))
    return out.asnumpy(), w.grad.asnumpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tau", [0.55, 0.85, 0.99])
def test_equals_its_definition(shape, tau):
    random = np.random.RandomState(7)
    w, grad = random.normal(0.3, 0.1, shape).astype(np.float32), random.normal(size=shape).astype(np.float32)
    expected = by_definition(w.astype(np.float64), float(np.float32(tau)), grad.astype(np.float64))
    for function in (mx.nd.bmx_ReCU, lambda *arrays: quantization.rectified_clamp(mx.nd, *arrays)):
        for got, wanted in zip(run(function, w, tau, grad), expected):
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_the_sign_is_that_of_the_distance_to_the_mean_of_the_filter():
    w = np.random.RandomState(2).normal(3, 1, (6, 5, 3, 3)).astype(np.float32)
    out = mx.nd.bmx_ReCU(mx.nd.array(w), mx.nd.array([0.85])).asnumpy()
    np.testing.assert_array_equal(out > 0, w > w.mean(axis=(1, 2, 3), keepdims=True))


def test_equal_weights_are_zero_and_have_finite_gradients():
    out, gradient = run(mx.nd.bmx_ReCU, np.full((2, 3), 5, np.float32), 0.9, np.float32([[1, 2, 3], [0, 0, 0]]))
    np.testing.assert_array_equal(out, np.zeros((2, 3)))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("tau", [0.5, 1, float("nan"), -1])
def test_a_tau_that_is_no_quantile_above_one_half_is_refused(tau):
    with pytest.raises(Exception, match="bmx_ReCU: tau is .*; allowed: more than 0.5 and less than 1"):
        mx.nd.bmx_ReCU(mx.nd.ones((2, 3)), mx.nd.array([tau])).wait_to_read()


def test_weights_of_one_dimension_are_refused():
    with pytest.raises(bmx.Error, match="bmx_ReCU: weight has one dimension; it must have at least 2"):
        mx.nd.bmx_ReCU(mx.nd.ones(3), mx.nd.array([0.85])).wait_to_read()
