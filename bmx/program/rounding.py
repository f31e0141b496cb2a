"""Arithmetic that rounds as the engine does and NumPy does not."""

from __future__ import annotations

import numpy as np

__all__ = ["fma", "round_half_away"]


def fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """``a * b + c`` of float32 arrays, rounded once.

    The product is exact in float64. The sum is also computed in float64, and rounded *to odd*: if it is not exact and
    its last bit is 0, it becomes the neighbour on the other side of the exact sum, whose last bit is 1. Such a number
    is never half way between two float32 numbers, so rounding it again equals rounding the exact sum (Boldo and
    Melquiond, 2008). The error of the sum is known exactly (Knuth's two-sum).

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


def round_half_away(y: np.ndarray) -> np.ndarray:
    """The nearest integer, halves away from zero."""
    return np.copysign(np.floor(np.abs(y.astype(np.float64)) + 0.5), y)
