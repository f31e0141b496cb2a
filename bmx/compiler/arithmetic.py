"""The operations of an epilogue on NumPy arrays, rounded as the engine rounds them (docs/format.md).

Passes that fold operations into thresholds evaluate them here: every step in float32, rounded once.
"""

from __future__ import annotations

import math
from typing import Callable, Dict, Sequence

import numpy as np

from .ir import Affine, Clip, Function, Norm, Operation, PRelu

__all__ = ["FUNCTIONS", "apply", "apply_all", "fma", "is_channelwise", "is_monotone"]


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a * b + c`` of float32 arrays, rounded once.

    The product is exact in float64. The sum is made there too, and rounded *to odd*: where it is not exact and its last
    bit is 0, it becomes the neighbour on the other side of the exact sum, whose last bit is 1. Such a number is never
    half way between two float32 numbers, so that rounding it again gives what rounding the exact sum gives (Boldo and
    Melquiond, 2008). The error of the sum is exact too (Knuth's two-sum).

    Examples
    --------
    >>> x = np.float32(1 + 2**-12)
    >>> bool(fma(x, x, np.float32(-1)) == 2**-11 + 2**-24), bool(x * x - np.float32(1) == 2**-11)
    (True, True)
    """
    product = np.multiply(a, b, dtype=np.float64)
    c = np.asarray(c, np.float64)
    total = product + c
    part = total - product
    error = (product - (total - part)) + (c - part)
    bits = total.view(np.int64)
    even = (error != 0) & ((bits & 1) == 0) & np.isfinite(total)
    bits = bits + np.where(even, np.where((error > 0) == (total > 0), 1, -1), 0)
    return bits.view(np.float64).astype(np.float32)


def _round(y: np.ndarray) -> np.ndarray:
    return np.copysign(np.floor(np.abs(y.astype(np.float64)) + 0.5), y)


_erf = np.vectorize(math.erf, otypes=[np.float64])

# By their names in docs/format.md; float64 in, rounded to float32 afterwards.
FUNCTIONS: Dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round": _round,
    "tanh": np.tanh,
    "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
    "softplus": lambda y: np.logaddexp(0, y),
    "softsign": lambda y: np.float32(y) / (1 + np.abs(np.float32(y))),  # rounded twice, as the engine does
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "square": np.square,
    "abs": np.abs,
    "sign1": lambda y: np.where(y < 0, -1.0, 1.0),
    "gelu": lambda y: y * (1 + _erf(y / math.sqrt(2))) / 2,
    "elu": lambda y: np.where(y > 0, y, np.expm1(y)),
    "selu": lambda y: 1.0507009873554805 * np.where(y > 0, y, 1.6732632423543772 * np.expm1(y)),
    "reciprocal": lambda y: 1 / y,
    "negate": np.negative,
    "signum": np.sign,
}
# log and sqrt are NaN below 0; softsign is rounded twice, and so falls here and there.
_NOT_MONOTONE = ("log", "sqrt", "square", "abs", "gelu", "reciprocal", "softsign")


def is_channelwise(operation: Operation) -> bool:
    """Whether an operation depends on nothing but the number and its channel."""
    return isinstance(operation, (Affine, Norm, PRelu, Clip, Function))


def is_monotone(operation: Operation) -> bool:
    """Whether a channelwise operation is monotone, rising or falling, in every channel for numbers that are not NaN."""
    if isinstance(operation, PRelu):
        return bool((operation.slope >= 0).all())
    return not (isinstance(operation, Function) and operation.name in _NOT_MONOTONE)


def apply(operation: Operation, y: np.ndarray) -> np.ndarray:
    """A channelwise operation on float32 numbers whose last axis is the channels."""
    with np.errstate(all="ignore"):
        if isinstance(operation, Affine):
            return fma(y, operation.scale, operation.bias)
        if isinstance(operation, Norm):
            return fma(np.subtract(y, operation.mean, dtype=np.float32), operation.scale, operation.bias)
        if isinstance(operation, PRelu):
            return np.where(y > 0, y, np.multiply(y, operation.slope, dtype=np.float32))
        if isinstance(operation, Clip):
            low, high = np.float32(operation.low), np.float32(operation.high)
            return np.where(y < low, low, np.where(y > high, high, y))
        return FUNCTIONS[operation.name](np.asarray(y, np.float64)).astype(np.float32)


def apply_all(operations: Sequence[Operation], y: np.ndarray) -> np.ndarray:
    """Channelwise operations, one after the other."""
    y = np.asarray(y, np.float32)
    for operation in operations:
        y = apply(operation, y)
    return y
