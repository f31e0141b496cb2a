"""The definition of an epilogue's operations in NumPy, for both oracles: obvious, and independent of bmx's tables.

Computed in float32, each rounded once, as docs/format.md says, because a tie decides a bit.
"""

from __future__ import annotations

import math

import numpy as np

from bmx import program as programs


def apply(operation, y, numbers=lambda array: array, operand=None):
    """An operation on float32 y; `numbers` shapes an array of one number a channel so that it broadcasts over y."""
    y = np.asarray(y, np.float32)
    fields = {key: numbers(field) for key, field in vars(operation).items() if isinstance(field, np.ndarray)}
    if operand is not None:
        fields["t"] = np.asarray(operand, np.float32)
    if isinstance(operation, programs.Clip):
        fields = {key: np.float32(field) for key, field in vars(operation).items()}
    if isinstance(operation, programs.Function):
        return FUNCTIONS[operation.name](y).astype(np.float32)
    return OPERATIONS[type(operation)](y, **fields).astype(np.float32)


def fma(a, b, c):
    """float32 a·b + c, rounded once: in float64 the product is exact; its sum is rounded to odd, then to float32."""
    a, b, c = np.broadcast_arrays(*(np.asarray(x, np.float32).astype(np.float64) for x in (a, b, c)))
    product = a * b
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    toward = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, bits + toward, bits).view(np.float64).astype(np.float32)


OPERATIONS = {
    programs.Affine: lambda y, scale, bias: fma(y, scale, bias),
    programs.Norm: lambda y, mean, scale, bias: fma(y - mean.astype(np.float32), scale, bias),
    programs.Add: lambda y, t: y + t,
    programs.Multiply: lambda y, t: y * t,
    programs.Maximum: lambda y, t: np.where(np.isnan(y) | (y > t), y, t),  # of a NaN in t, too, NaN
    programs.Minimum: lambda y, t: np.where(np.isnan(y) | (y < t), y, t),
    programs.PRelu: lambda y, slope: np.where(y > 0, y, y * slope.astype(np.float32)),
    programs.Clip: lambda y, low, high: np.where(y < low, low, np.where(y > high, high, y)),
}


def _round_half_away(y):
    """Halves away from zero; a sum with 0.5 in float64 is exact here."""
    return np.copysign(np.floor(np.abs(y.astype(np.float64)) + 0.5), y).astype(np.float32)


def _in_double(function):
    return lambda y: function(y.astype(np.float64)).astype(np.float32)


_erf = np.vectorize(math.erf, otypes=[float])

FUNCTIONS = {
    "round": _round_half_away,
    "tanh": _in_double(np.tanh),
    "sigmoid": _in_double(lambda y: 1 / (1 + np.exp(-y))),
    "softplus": _in_double(lambda y: np.logaddexp(0, y)),
    "softsign": lambda y: y / (1 + np.abs(y)),
    "exp": _in_double(np.exp),
    "log": _in_double(np.log),
    "sqrt": np.sqrt,
    "square": lambda y: y * y,
    "abs": np.abs,
    "sign1": lambda y: np.where(y < 0, np.float32(-1), np.float32(1)),
    "gelu": _in_double(lambda y: y * (1 + _erf(y / math.sqrt(2))) / 2),
    "elu": _in_double(lambda y: np.where(y > 0, y, np.expm1(y))),
    "selu": _in_double(lambda y: 1.0507009873554804934 * np.where(y > 0, y, 1.6732632423543772848 * np.expm1(y))),
    "reciprocal": lambda y: 1 / y,
    "negate": lambda y: -y,
    "signum": np.sign,
}
