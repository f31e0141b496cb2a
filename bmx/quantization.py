"""Every quantizer, defined once, as a composition of built-in MXNet operators.

A quantizer is a small function of ``F`` (``mx.nd`` or ``mx.sym``) and its input. Its forward value and the gradient
that stands in for the derivative (which is zero almost everywhere) are written side by side. Quantizers run wherever
MXNet runs, and the C++ operators are tested against them. In the docstrings y is the output, g its gradient, dx the
input's.

All of them are exact for NaN, ±0 and ±inf. The common form of a straight-through estimator, x + BlockGrad(q(x) - x), is
not: it computes inf - inf, and it rounds q(x). Here the gradient travels on a term whose value is always zero, see
:func:`gradient_only`.

References
----------
BinaryNet: Courbariaux et al., "Binarized Neural Networks", 2016.
DoReFa-Net: Zhou et al., "Training Low Bitwidth Convolutional Neural Networks with Low Bitwidth Gradients", 2016.
BMXNet: Yang et al., "An Open-Source Binary Neural Network Implementation Based on MXNet", 2017.
Bi-Real Net: Liu et al., "Enhancing the Performance of 1-bit CNNs With Improved Representational Capability", 2018.
BNN+: Darabi et al., "BNN+: Improved Binary Network Training", 2018.
TWN: Li et al., "Ternary Weight Networks", 2016.
ReCU: Xu et al., "ReCU: Reviving the Dead Weights in Binary Neural Networks", 2021, arXiv:2103.12369.

Gradients are quantized in :mod:`bmx.gradients`.
"""

from __future__ import annotations

from types import ModuleType
from typing import TypeVar

from .errors import Error

Array = TypeVar("Array")  # mx.nd.NDArray or mx.sym.Symbol: what F works on

__all__ = [
    "approx_sign",
    "approximate_gradient",
    "clip",
    "det_sign",
    "dorefa",
    "gradient_only",
    "gradient_window",
    "identity",
    "leaky_clip",
    "levels",
    "quantize_activation",
    "quantize_weight",
    "rectified_clamp",
    "recu",
    "relu",
    "round_ste",
    "sign_approx_sign",
    "straight_through",
    "swish_gradient",
    "swish_sign",
    "twn",
]


def levels(bits: int) -> int:
    """Return the largest code of ``bits`` bits, which is the number of steps from 0 to 1.

    Parameters
    ----------
    bits : int
        1..32.

    Returns
    -------
    int
        ``2**bits - 1``.

    Raises
    ------
    bmx.Error
        If ``bits`` is not an integer from 1 to 32.

    Examples
    --------
    >>> levels(2)
    3
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= 32:
        raise Error(f"bits={bits!r}: a bit width is an integer from 1 to 32")
    return 2**bits - 1


# Gradients


def gradient_only(F: ModuleType, x: Array) -> Array:
    """Give zero forward and pass the gradient to ``x``: added to a value, it gives that value the gradient of ``x``.

    ``sign_ste`` is finite for every input (NaN gives 0) and passes its gradient on unchanged, so the difference is zero
    even where ``x`` is infinite or NaN.
    """
    sign = F.contrib.sign_ste(x)
    return sign - F.BlockGrad(sign)


def straight_through(F: ModuleType, value: Array, x: Array) -> Array:
    """Give ``value`` forward and pass the gradient to ``x`` unchanged: y = value, dx = g, for every x.

    The straight-through estimator of Hinton (2012) and Bengio et al. (2013), without a window.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.nd.array([0.4, float('inf')])
    >>> x.attach_grad()
    >>> with mx.autograd.record():
    ...     y = straight_through(mx.nd, mx.nd.floor(mx.nd.clip(x, 0, 9)), x)
    >>> y.backward()
    >>> print(y.asnumpy(), x.grad.asnumpy())
    [0. 9.] [1. 1.]
    """
    return F.BlockGrad(value) + gradient_only(F, x)


def gradient_window(F: ModuleType, x: Array, threshold: float) -> Array:
    """Cancel the gradient outside a window: y = x, dx = g where abs(x) <= threshold and 0 elsewhere, also for NaN.

    BMXNet v2's operator ``gradcancel``; BinaryNet's window is 1.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.nd.array([-2, -1, 0.5, 3])
    >>> x.attach_grad()
    >>> with mx.autograd.record():
    ...     y = gradient_window(mx.nd, x, 1.0)
    >>> y.backward()
    >>> print(y.asnumpy(), x.grad.asnumpy())
    [-2.  -1.   0.5  3. ] [0. 1. 1. 0.]
    """
    return F.where(F.abs(x) <= threshold, x, F.BlockGrad(x))


def approximate_gradient(F: ModuleType, x: Array) -> Array:
    """Multiply the gradient by ApproxSign's derivative: y = x, dx = g·(2 - 2·abs(x)).

    The factor is negative for abs(x) > 1, so :func:`gradient_window` usually stands in front of it. Bi-Real Net.
    """
    factor = F.BlockGrad(2 - 2 * F.abs(x))
    return straight_through(F, x, x * factor)


def swish_gradient(F: ModuleType, x: Array, beta: float = 5.0) -> Array:
    """Multiply the gradient by SignSwish's derivative: y = x, dx = g·beta·(2 - z·tanh(z/2))/(1 + cosh(z)), z = beta·x.

    SignSwish(x) = 2·sigmoid(z)·(1 + z·(1 - sigmoid(z))) - 1 approaches the sign as ``beta`` grows. Its derivative is
    ``beta`` at 0, crosses zero at abs(z) = 2.4, where the function overshoots 1, and goes to zero from below. BNN+.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.nd.array([0.0, 0.1, -0.1, 1.0, float('inf')])
    >>> x.attach_grad()
    >>> with mx.autograd.record():
    ...     y = swish_gradient(mx.nd, x)
    >>> y.backward()
    >>> print(x.grad.asnumpy().round(3))
    [ 5.     4.412  4.412 -0.195 -0.   ]
    """
    z = F.clip(beta * x, -80, 80)  # exp(80) is finite in float32, and the factor is 0 from there on
    factor = beta * (2 - z * F.tanh(z / 2)) / (1 + F.cosh(z))
    return straight_through(F, x, x * F.BlockGrad(factor))


# One bit


def det_sign(F: ModuleType, x: Array) -> Array:
    """Take the sign straight through: y = -1 where x < 0 and else +1 (0, -0 and NaN too), dx = g.

    BMXNet v1 and v2, BinaryNet. The window of the gradient, where one is wanted, is :func:`gradient_window`.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.nd.array([-0.3, -0.0, 0.6, float('nan')])
    >>> print(det_sign(mx.nd, x).asnumpy())
    [-1.  1.  1.  1.]
    """
    sign = F.contrib.sign_ste(x)
    return sign + (sign == 0)


def sign_approx_sign(F: ModuleType, x: Array) -> Array:
    """Take the sign with ApproxSign's gradient: y = -1 where x < 0 and else +1, dx = g·(2 - 2·abs(x)), no window.

    BMXNet v2's operator ``approx_sign``; Bi-Real Net, which also cancels the gradient outside abs(x) <= 1.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.nd.array([0.0, 0.5, -0.25])
    >>> x.attach_grad()
    >>> with mx.autograd.record():
    ...     y = sign_approx_sign(mx.nd, x)
    >>> y.backward()
    >>> print(y.asnumpy(), x.grad.asnumpy())
    [ 1.  1. -1.] [2.  1.  1.5]
    """
    return det_sign(F, approximate_gradient(F, x))


def swish_sign(F: ModuleType, x: Array, beta: float = 5.0) -> Array:
    """Take the sign with SignSwish's gradient: y = -1 where x < 0 and else +1, dx as :func:`swish_gradient`'s.

    BNN+, which has no window besides; Larq's quantizer of this name.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(swish_sign(mx.nd, mx.nd.array([-0.3, -0.0, 0.6])).asnumpy())
    [-1.  1.  1.]
    """
    return det_sign(F, swish_gradient(F, x, beta))


def rectified_clamp(F: ModuleType, w: Array, tau: Array) -> Array:
    """Standardize each filter and clamp what is far from 0, as the operator ``bmx_ReCU``: ReCU.

    With v = (w - mean)/sqrt(variance + 1e-5), the moments those of w's filter (all axes but the first):
    y = min(max(v, -q), q), where q = -mean(abs(v))·log(2 - 2·tau), the mean over all of v. That is the quantile ``tau``
    of a Laplace distribution with this mean. The gradient flows through the moments, not through q.

    Parameters
    ----------
    F : module
    w : NDArray or Symbol
        (filters, ...).
    tau : NDArray or Symbol
        (1,), more than 0.5 and less than 1.
    """
    centered = F.broadcast_sub(w, F.mean(w, axis=0, exclude=True, keepdims=True))
    variance = F.mean(F.square(centered), axis=0, exclude=True, keepdims=True)
    v = F.broadcast_mul(centered, F.rsqrt(variance + 1e-5)) + F.zeros_like(w)  # which tells a symbol the shape of v
    limit = F.BlockGrad(F.broadcast_mul(-F.mean(F.abs(v)), F.log(2 - 2 * tau)))
    return F.broadcast_minimum(F.broadcast_maximum(v, -limit), limit)


def recu(F: ModuleType, w: Array, tau: float = 0.85) -> Array:
    """Take the sign of standardized and clamped weights: y = -1 where w is below the mean of its filter and else +1.

    The gradient is straight through the sign, and :func:`rectified_clamp`'s: weights that are further from their
    mean than the quantile ``tau`` get none, so that they come back to where signs change. ReCU.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(recu(mx.nd, mx.nd.array([[1, 2, 6]])).asnumpy())
    [[-1. -1.  1.]]
    """
    return det_sign(F, rectified_clamp(F, w, F.full((1,), tau)))


# k bits


def quantize_activation(F: ModuleType, x: Array, bits: int) -> Array:
    """Quantize activations as BMXNet v1 does, straight through for every width: dx = g.

    With n = ``levels(bits)``: 1 bit is :func:`det_sign`; 2..31 bits are round(clip(x, 0, 1)·n)/n, halves away from
    zero, in float32 steps; 32 bits are the clip alone. NaN stays NaN from 2 bits on.

    Examples
    --------
    >>> import mxnet as mx
    >>> x = mx.nd.array([-1, 0.2, 0.5, 7])
    >>> print(quantize_activation(mx.nd, x, bits=2).asnumpy())
    [0.         0.33333334 0.6666667  1.        ]
    """
    steps = levels(bits)
    if bits == 1:
        return det_sign(F, x)
    value = F.clip(x, 0, 1)
    if bits < 32:
        value = F.round(value * steps) / steps
    return straight_through(F, value, x)


def quantize_weight(F: ModuleType, w: Array, bits: int) -> Array:
    """Quantize weights as BMXNet v1 does, straight through for every width: dw = g.

    With n = ``levels(bits)``: 1 bit is :func:`det_sign`; 2..31 bits are DoReFa-Net's 2·round(u·n)/n - 1 of
    u = tanh(w)/(2·max(abs(tanh(w)))) + 1/2, the maximum taken over the whole tensor (0/0 of an all-zero tensor is 0);
    32 bits are w itself.

    Examples
    --------
    >>> import mxnet as mx
    >>> w = mx.nd.array([-0.9, -0.1, 0.1, 0.9])
    >>> print(quantize_weight(mx.nd, w, bits=2).asnumpy().round(3))
    [-1.    -0.333  0.333  1.   ]
    """
    steps = levels(bits)
    if bits == 1:
        return det_sign(F, w)
    if bits == 32:
        return F.identity(w)
    return straight_through(F, _dorefa(F, w, steps, F.round), w)


def round_ste(F: ModuleType, x: Array, bits: int) -> Array:
    """Quantize activations as BMXNet v2's method ``round``: y = round(clip(x, 0, 1)·n)/n, dx = g where 0 <= x <= 1.

    DoReFa-Net. The values of 2..31 bits are :func:`quantize_activation`'s; 1 bit gives {0, 1}.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(round_ste(mx.nd, mx.nd.array([-1, 0.2, 0.5, 7]), bits=1).asnumpy())
    [0. 0. 1. 1.]
    """
    steps = levels(bits)
    return F.contrib.round_ste(F.clip(x, 0, 1) * steps) / steps


def dorefa(F: ModuleType, w: Array, bits: int) -> Array:
    """Quantize weights as BMXNet v2's method ``dorefa``: the values of :func:`quantize_weight`, another gradient.

    Only the rounding is straight through; the gradient flows through tanh and through the maximum, as in DoReFa-Net.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(dorefa(mx.nd, mx.nd.array([-0.9, -0.1, 0.1, 0.9]), bits=2).asnumpy().round(3))
    [-1.    -0.333  0.333  1.   ]
    """
    return _dorefa(F, w, levels(bits), F.contrib.round_ste)


def twn(F: ModuleType, w: Array) -> Array:
    """Make weights ternary: y = a where w > d, -a where w < -d and else 0, straight through: dw = g.

    d = 0.7·mean(abs(w)), and a is the mean of abs(w) where abs(w) > d, both over the whole tensor: nearly the d and a
    that minimize the sum of (w - y)². A tensor of zeros stays zero. TWN.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(twn(mx.nd, mx.nd.array([-0.9, -0.1, 0.1, 0.5])).asnumpy().round(3))
    [-0.7  0.   0.   0.7]
    """
    magnitude = F.abs(w)
    large = F.broadcast_greater(magnitude, 0.7 * F.mean(magnitude))
    scale = F.sum(magnitude * large) / F.maximum(F.sum(large), 1)  # 0/1 where no weight is large
    return straight_through(F, F.broadcast_mul(large * F.sign(w), scale), w)


def _dorefa(F, w, steps, rounding):
    squashed = F.tanh(w)
    largest = F.max(F.abs(squashed))
    largest = largest + (largest == 0)  # a tensor of zeros: 0/1 instead of 0/0
    # A broadcast does not tell a symbol the shape of its input; the sum does, so layers can find theirs at first use.
    unit = F.broadcast_div(squashed, 2 * largest) + F.zeros_like(w) + 0.5
    return 2 * (rounding(unit * steps) / steps) - 1


# Full precision


def identity(F: ModuleType, x: Array) -> Array:
    """Leave ``x`` as it is: y = x, dx = g."""
    return F.identity(x)


def clip(F: ModuleType, x: Array) -> Array:
    """Clip to [-1, 1], BinaryNet's hard tanh: dx = g where -1 <= x <= 1 and else 0."""
    return F.clip(x, -1, 1)


def relu(F: ModuleType, x: Array) -> Array:
    """Take max(x, 0): dx = g where x > 0 and else 0."""
    return F.relu(x)


def leaky_clip(F: ModuleType, x: Array, slope: float = 0.1) -> Array:
    """Leave ``x`` inside [-1, 1] and multiply it, and its gradient, by ``slope`` outside.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(leaky_clip(mx.nd, mx.nd.array([-2, 0.5, 2])).asnumpy())
    [-0.2  0.5  0.2]
    """
    return F.where(F.abs(x) <= 1, x, slope * x)


def approx_sign(F: ModuleType, x: Array) -> Array:
    """Take ApproxSign itself, Bi-Real Net's float approximation of the sign, with its derivative max(2 - 2·abs(x), 0).

    y = 2x + x² for -1 < x < 0 and 2x - x² for 0 <= x < 1, that is x·(2 - abs(x)); -1 below and +1 above.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(approx_sign(mx.nd, mx.nd.array([-3, -0.5, 0, 0.5, 1])).asnumpy())
    [-1.   -0.75  0.    0.75  1.  ]
    """
    inside = F.clip(x, -1, 1)
    return inside * (2 - F.abs(inside))
