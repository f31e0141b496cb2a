"""Which numbers of a graph are integers times a scale: quantized activations, signs, weights of a few bits."""

from __future__ import annotations

import math
from typing import List, NamedTuple, Optional

import numpy as np

from ..ir import Affine, Clip, Concat, Function, Map, Operation, Pad, Pool, Reshape, Slice, Value
from .edit import Uses

__all__ = ["Levels", "Weights", "integer_weights", "level_of", "levels_of"]

_STEPS = (1, 3, 7, 15, 31, 63, 127)
_ODD_STEPS = 255
_NEAR = 1e-4  # how far from an integer float32 roundings leave the quotient of two of these numbers
_PROBE = 256  # weights that decide in most cases that there is no need to look at the others


class Levels(NamedTuple):
    """Numbers ``scale * j`` for integers j from `low` to `high`."""

    scale: float
    low: int
    high: int

    @property
    def count(self) -> int:
        """How many there are."""
        return self.high - self.low + 1


class Weights(NamedTuple):
    """Weights as int8: ``step * integers``, or where `odd`, ``step * (2 * integers + 1)``."""

    integers: np.ndarray
    step: float
    odd: bool

    @property
    def multipliers(self) -> np.ndarray:
        """The weights divided by `step`, as int64."""
        integers = self.integers.astype(np.int64)
        return 2 * integers + 1 if self.odd else integers


def levels_of(value: Value, uses: Uses) -> Optional[Levels]:
    """The levels that all numbers of a value of floats have; None if they cannot be seen in the graph.

    Operations on the way that only move numbers (borders, maxima, parts) keep them.
    """
    node = uses.giver[value]
    if node.epilogue:
        return _quantized(node.epilogue)
    if value.dtype != "f32":
        return None
    if isinstance(node, (Map, Reshape, Slice)) or (isinstance(node, Pool) and node.mode == "max"):
        return levels_of(node.source, uses) if node.source.dtype == "f32" else None
    if isinstance(node, Pad):
        found = levels_of(node.source, uses)
        border = level_of(node.pad_value, found) if found is not None else None
        return found._replace(low=min(found.low, border), high=max(found.high, border)) if border is not None else None
    if isinstance(node, Concat):
        found = [levels_of(source, uses) for source in node.sources]
        if all(one is not None and one.scale == found[0].scale for one in found):
            return Levels(found[0].scale, min(one.low for one in found), max(one.high for one in found))
    return None


def level_of(number: float, levels: Levels) -> Optional[int]:
    """The integer that a number is in units of the scale, inside of the levels or not; None if it is none."""
    quotient = number / levels.scale
    return round(quotient) if abs(quotient - round(quotient)) < _NEAR else None


def _quantized(operations: List[Operation]) -> Optional[Levels]:
    """The levels that the end of an epilogue makes: a clip, a scale, a rounding and a scale, or a sign and a scale."""
    rest = list(operations)
    scale = _pop_scales(rest)
    last = rest.pop() if rest else None
    if not isinstance(last, Function) or last.name not in ("round", "sign1"):
        return None
    if last.name == "sign1":
        return Levels(scale, -1, 1)
    steps = _pop_scales(rest)
    clip = rest.pop() if rest else None
    if not isinstance(clip, Clip) or not (math.isfinite(clip.low) and math.isfinite(clip.high)):
        return None
    return Levels(scale, round(clip.low * steps), round(clip.high * steps))


def _pop_scales(operations: List[Operation]) -> float:
    """Remove what multiplies everything by one positive number from the end; returns the number, 1 if nothing does."""
    scale = 1.0
    while operations and isinstance(operations[-1], Affine):
        last = operations[-1]
        if last.bias.any() or (last.scale != last.scale[0]).any() or not 0 < last.scale[0] < math.inf:
            break
        scale *= float(last.scale[0])
        operations.pop()
    return scale


def integer_weights(weight: np.ndarray) -> Optional[Weights]:
    """Weights of up to 8 bits as int8; None if they are others.

    Weights of k bits (DoReFa: ``(2 q - n) / n``, n = 2^k - 1), ternary ones (-a, 0, a) and binary ones are
    ``a i / n`` for integers i from -n to n. With n = 255, of 8 bits, i is odd, and (i - 1) / 2 fits a byte.

    Examples
    --------
    >>> integer_weights(np.float32([[1, -1 / 3]])).integers.tolist()
    [[3, -1]]
    >>> integer_weights(np.float32([[1, -253 / 255]]))
    Weights(integers=array([[ 127, -127]], dtype=int8), step=0.00392156862745098, odd=True)
    """
    largest = float(np.abs(weight).max(initial=0.0))
    if not math.isfinite(largest) or largest == 0:
        return None
    for unit in (1.0, largest) if largest <= 1 else (largest,):
        for steps in (*_STEPS, _ODD_STEPS):
            if _integers(weight.reshape(-1)[:_PROBE], steps / unit) is None:
                continue
            integers = _integers(weight, steps / unit)
            if integers is None or (steps == _ODD_STEPS and (integers % 2 == 0).any()):
                continue
            odd = steps == _ODD_STEPS
            return Weights((integers // 2 if odd else integers).astype(np.int8), unit / steps, odd)
    return None


def _integers(weight: np.ndarray, scale: float) -> Optional[np.ndarray]:
    scaled = weight.astype(np.float64) * scale
    integers = np.rint(scaled)
    return integers.astype(np.int64) if np.abs(scaled - integers).max() < _NEAR else None
