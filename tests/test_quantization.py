"""bmx.quantization: every quantizer's values and gradients, also for NaN, ±0 and ±inf, in mx.nd and mx.sym."""

import mxnet as mx
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bmx import Error
from bmx import quantization as q

NAN, INF = float("nan"), float("inf")
TIES = [0.125, 0.25, 0.5, 0.75, 0.49999997, 0.50000006, 1 / 6, 1 / 3, 5 / 6, 1 / 14, 3 / 14]
SPECIAL = np.array([0.0, -0.0, NAN, INF, -INF, 1e-45, -1e-45, 3e38, -3e38, 1, -1, 0.3, -0.7, 2.5, *TIES], np.float32)
GRAD = np.arange(1, len(SPECIAL) + 1, dtype=np.float32)

any_floats = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=3, max_side=5), elements=st.floats(width=32, allow_nan=True)
)


def run(quantizer, x, grad=None, **arguments):
    """Return (value, gradient) from mx.nd, after checking that mx.sym gives the same."""
    data = mx.nd.array(x, dtype=np.float32)
    grad = mx.nd.ones_like(data) if grad is None else mx.nd.array(grad)
    data.attach_grad()
    with mx.autograd.record():
        out = quantizer(mx.nd, data, **arguments)
    out.backward(grad)

    symbol = quantizer(mx.sym, mx.sym.var("x"), **arguments)
    assert symbol.infer_shape(x=data.shape)[1] == [out.shape]
    executor = symbol.bind(mx.cpu(), {"x": data}, {"x": mx.nd.zeros_like(data)})
    executor.forward(is_train=True)
    executor.backward([grad])
    np.testing.assert_array_equal(executor.outputs[0].asnumpy(), out.asnumpy())
    np.testing.assert_array_equal(executor.grad_dict["x"].asnumpy(), data.grad.asnumpy())
    return out.asnumpy(), data.grad.asnumpy()


def inside(x, low, high):
    return (x >= low) & (x <= high)  # False for NaN


def test_sign_of_special_values():
    y, dx = run(q.det_sign, SPECIAL, GRAD)
    np.testing.assert_array_equal(y, np.where(SPECIAL < 0, -1, 1))
    assert (y[:5] == [1, 1, 1, 1, -1]).all()
    np.testing.assert_array_equal(dx, GRAD)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0, 2.5, INF])
def test_window_cancels_outside_and_for_nan(threshold):
    y, dx = run(q.gradient_window, SPECIAL, GRAD, threshold=threshold)
    np.testing.assert_array_equal(y, SPECIAL)
    np.testing.assert_array_equal(dx, np.where(np.abs(SPECIAL) <= np.float32(threshold), GRAD, 0))


def test_window_cancels_infinite_gradients():
    _, dx = run(q.gradient_window, [2.0, 0.0, 2.0], np.array([INF, INF, NAN], np.float32), threshold=1.0)
    np.testing.assert_array_equal(dx, [0, INF, 0])


def test_approximate_sign_gradient():
    x = np.linspace(-2, 2, 41, dtype=np.float32)
    y, dx = run(q.sign_approx_sign, x)
    np.testing.assert_array_equal(y, oracle.sign(x))
    np.testing.assert_allclose(dx, 2 - 2 * np.abs(x), rtol=1e-6)


def test_approximate_sign_in_a_window_is_finite_everywhere():
    def windowed(F, x):
        return q.sign_approx_sign(F, q.gradient_window(F, x, 1.0))

    y, dx = run(windowed, SPECIAL)
    np.testing.assert_array_equal(y, oracle.sign(SPECIAL))
    np.testing.assert_array_equal(
        dx, oracle.qactivation_backward(np.ones_like(SPECIAL), SPECIAL, 1, False, 1.0, "approx_sign")
    )
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("beta", [1.0, 5.0, 10.0])
def test_swish_sign_has_the_derivative_of_sign_swish(beta):
    x = np.linspace(-3, 3, 61, dtype=np.float32)
    y, dx = run(q.swish_sign, x, beta=beta)
    np.testing.assert_array_equal(y, oracle.sign(x))
    np.testing.assert_allclose(dx, oracle.sign_swish_derivative(x, beta), rtol=1e-4, atol=1e-5)
    assert dx[30] == beta and dx.min() < 0


@pytest.mark.parametrize("quantizer", [q.swish_sign, q.swish_gradient])
def test_beta_of_swish_sign_is_5_as_in_bnn_plus(quantizer):
    x = np.float32([-1.3, -0.2, 0, 0.1, 0.7])
    np.testing.assert_allclose(run(quantizer, x)[1], oracle.sign_swish_derivative(x, 5.0), rtol=1e-3, atol=1e-3)


def test_swish_sign_is_finite_everywhere():
    numbers = SPECIAL[~np.isnan(SPECIAL)]
    y, dx = run(q.swish_sign, numbers)
    np.testing.assert_array_equal(y, oracle.sign(numbers))
    assert np.isfinite(dx).all() and (np.abs(dx[np.abs(numbers) > 20]) < 1e-30).all()

    def windowed(F, x):
        return q.swish_sign(F, q.gradient_window(F, x, 1.0))

    y, dx = run(windowed, SPECIAL)
    np.testing.assert_array_equal(y, oracle.sign(SPECIAL))
    assert np.isfinite(dx).all() and not dx[~(np.abs(SPECIAL) <= 1)].any()


@pytest.mark.parametrize("bits", range(1, 33))
def test_activation_of_special_values(bits):
    y, dx = run(q.quantize_activation, SPECIAL, GRAD, bits=bits)
    np.testing.assert_array_equal(y, oracle.quantize_activation(SPECIAL, bits))
    np.testing.assert_array_equal(dx, GRAD)


@pytest.mark.parametrize("bits", range(1, 33))
def test_round_has_the_gradient_of_the_clip(bits):
    y, dx = run(q.round_ste, SPECIAL, GRAD, bits=bits)
    if bits == 1:
        np.testing.assert_array_equal(y, np.where(np.isnan(SPECIAL), NAN, SPECIAL >= 0.5))
    elif bits < 32:
        np.testing.assert_array_equal(y, oracle.quantize_activation(SPECIAL, bits))
    expected = np.where(inside(SPECIAL, 0, 1), GRAD, 0)
    finite = ~np.isnan(SPECIAL)  # MXNet's own clip decides for NaN
    np.testing.assert_allclose(dx[finite], expected[finite], rtol=1e-6)


def test_halves_round_away_from_zero():
    y, _ = run(q.quantize_activation, [0.5 / 3, 1.5 / 3, 2.5 / 3], bits=2)
    np.testing.assert_allclose(y, [1 / 3, 2 / 3, 1], rtol=1e-6)


@pytest.mark.parametrize("bits", range(1, 33))
def test_weight(bits):
    w = np.random.default_rng(bits).normal(0, 0.7, (5, 4, 3, 3)).astype(np.float32)
    grad = np.random.default_rng(0).normal(size=w.shape).astype(np.float32)
    y, dw = run(q.quantize_weight, w, grad, bits=bits)
    # The last bit of tanh depends on the library; with many bits it decides a step here and there.
    step = 2.1 / (2**bits - 1) if bits >= 12 else 0
    np.testing.assert_allclose(y, oracle.quantize_weight(w, bits), rtol=0, atol=3e-7 + step)
    np.testing.assert_array_equal(dw, grad)
    if bits < 8:
        assert len(np.unique(y)) <= 2**bits
    if 1 < bits < 32:
        np.testing.assert_array_equal(run(q.dorefa, w, bits=bits)[0], y)


@pytest.mark.parametrize("quantizer", [q.quantize_weight, q.dorefa])
def test_weight_without_a_largest_value(quantizer):
    y, dw = run(quantizer, np.zeros((2, 3), np.float32), bits=2)
    np.testing.assert_allclose(y, 1 / 3, rtol=1e-6)  # 1/2 is a tie, which rounds up
    assert np.isfinite(dw).all()


def test_infinite_weights():
    y, dw = run(q.quantize_weight, [INF, -INF, 0.0], bits=4)
    np.testing.assert_allclose(y, [1, -1, 2 * 8 / 15 - 1], rtol=1e-6)
    np.testing.assert_array_equal(dw, 1)


@pytest.mark.parametrize("shape", [(7,), (16, 9), (8, 5, 3, 3), (3, 2, 2, 3, 2)])
def test_ternary_weight(shape):
    w = np.random.default_rng(3).normal(0.1, 0.7, shape).astype(np.float32)
    grad = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y, dw = run(q.twn, w, grad)
    np.testing.assert_allclose(y, oracle.ternary_weight(w), rtol=1e-5)
    np.testing.assert_array_equal(dw, grad)
    assert len(np.unique(y)) == 3


def test_ternary_weight_is_nearly_the_nearest():
    w = np.random.default_rng(0).normal(size=20000).astype(np.float32)
    error = ((w - run(q.twn, w)[0]) ** 2).mean()
    best = min(
        ((w - np.sign(w) * large * np.abs(w)[large].mean()) ** 2).mean()
        for large in (np.abs(w) > threshold for threshold in np.linspace(0.1, 2, 100))
    )
    assert best <= error < 1.01 * best


@pytest.mark.parametrize("w", [[0, 0, 0], [0.5, 0.5, -0.5], [-0.0, 2.0]])
def test_ternary_weight_at_the_limits(w):
    y, dw = run(q.twn, w)
    np.testing.assert_allclose(y, w, rtol=1e-6)
    np.testing.assert_array_equal(dw, 1)


def test_dorefa_gradient_flows_through_tanh_and_the_maximum():
    w = np.array([0.3, -0.2, 0.8], np.float32)
    grad = np.array([1.0, 2.0, -3.0], np.float32)
    _, dw = run(q.dorefa, w, grad, bits=3)
    t, derivative = np.tanh(w), 1 - np.tanh(w) ** 2
    expected = grad * derivative / t[2]  # u = t/(2 max) + 1/2, y = 2 u - 1
    expected[2] = -(grad[0] * t[0] + grad[1] * t[1]) / t[2] ** 2 * derivative[2]
    np.testing.assert_allclose(dw, expected, rtol=1e-4)


@given(any_floats, st.integers(1, 32))
@settings(max_examples=60, deadline=None)
def test_activation_equals_the_definition(x, bits):
    y, dx = run(q.quantize_activation, x, bits=bits)
    np.testing.assert_array_equal(y, oracle.quantize_activation(x, bits))
    np.testing.assert_array_equal(dx, 1)


@given(any_floats)
@settings(max_examples=60, deadline=None)
def test_straight_through_keeps_value_and_gradient(x):
    y, dx = run(lambda F, x: q.straight_through(F, F.abs(x), x), x)
    np.testing.assert_array_equal(y, np.abs(x))
    np.testing.assert_array_equal(dx, 1)


@given(any_floats)
@settings(max_examples=60, deadline=None)
def test_full_precision_methods(x):
    check_full_precision_methods(x)


def check_full_precision_methods(x):
    y, dx = run(q.clip, x)
    np.testing.assert_array_equal(y, np.clip(x, -1, 1))

    y, dx = run(q.leaky_clip, x)
    within = np.abs(x) <= 1
    np.testing.assert_allclose(y, np.where(within, x, np.float32(0.1) * x), rtol=1e-6)
    np.testing.assert_allclose(dx, np.where(within, 1, 0.1), rtol=1e-6)

    y, _ = run(q.approx_sign, x)
    c = np.clip(x, -1, 1)
    np.testing.assert_allclose(y, np.where(c < 0, 2 * c + c * c, 2 * c - c * c), rtol=1e-6, atol=1e-30)

    np.testing.assert_array_equal(run(q.identity, x)[0], x)
    numbers = x[~np.isnan(x)].reshape(-1)
    if numbers.size:
        y, dx = run(q.relu, numbers)
        np.testing.assert_array_equal(y, np.maximum(numbers, 0))
        np.testing.assert_array_equal(dx, numbers > 0)


def test_full_precision_methods_of_special_values():
    check_full_precision_methods(SPECIAL)


def test_approx_sign_derivative():
    x = np.array([-2, -0.75, -0.25, 0, 0.5, 1, 3], np.float32)
    np.testing.assert_allclose(run(q.approx_sign, x)[1], [0, 0.5, 1.5, 2, 1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("bits", [0, 33, -1, 1.0, "1", True, None])
@pytest.mark.parametrize("quantizer", [q.quantize_activation, q.quantize_weight, q.round_ste, q.dorefa])
def test_impossible_bits(quantizer, bits):
    with pytest.raises(Error, match="from 1 to 32"):
        quantizer(mx.nd, mx.nd.ones((2,)), bits=bits)
