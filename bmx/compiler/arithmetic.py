"""Operations of an epilogue on NumPy arrays, rounded as the engine rounds them (docs/format.md).

Passes that fold operations into thresholds evaluate them here: every step in float32, rounded once.
"""

from __future__ import annotations

from typing import Sequence

import numpy as np

from ..program.operations import Operation, has_operand, row_of

__all__ = ["apply", "apply_all", "is_channelwise", "is_monotone"]


def is_channelwise(operation: Operation) -> bool:
    """Whether an operation depends on nothing but the number and its channel."""
    return not has_operand(operation)


def is_monotone(operation: Operation) -> bool:
    """Whether a channelwise operation is monotone, rising or falling, in every channel for numbers that are not NaN."""
    return row_of(operation).monotone(operation)


def apply(operation: Operation, y: np.ndarray) -> np.ndarray:
    """A channelwise operation on float32 numbers whose last axis is the channels."""
    with np.errstate(all="ignore"):
        return row_of(operation).compute(operation, y)


def apply_all(operations: Sequence[Operation], y: np.ndarray) -> np.ndarray:
    """Channelwise operations, one after the other."""
    y = np.asarray(y, np.float32)
    for operation in operations:
        y = apply(operation, y)
    return y
