"""Operations before a sign become thresholds, one a channel: nothing is computed, the number is only compared.

**Floats.** A `Bits` store asks whether ``z = f(y)`` is at least a threshold, and f, a chain of monotone operations, is
made of correctly rounded steps, each of which is monotone too. So the bit, as a function of y, changes at most once
between the smallest and the largest number, and bisection over the float32 numbers in order, all channels at once,
finds the place in 32 steps: the first number whose bit is 1, or, if f falls, the last one. f is evaluated as it is, in
float32 with every rounding; so scales that are negative, tiny or 0 and ties need no care. Falling channels compare -y.

What could go wrong is NaN, which is not ordered: infinity times 0. A monotone chain of finite parameters that has no
NaN at the two ends of the range has none in between. Others, and operations that are not monotone, are kept. Only for y
that is infinite or NaN itself the result may be another one than f's.

**Counts.** The result of a binary convolution is one of K + 1 numbers, so all are tried, whatever the chain, in every
channel. Bits that change at most once along the K + 1 counts are ``(p <= threshold) xor flip``.
"""

from __future__ import annotations

import math
from typing import Callable, List, Optional, Tuple

import numpy as np

from ...program.operations import bits_of
from ..arithmetic import apply, apply_all, is_channelwise, is_monotone
from ..ir import Bits, Conv, CountBits, Graph, Operation

__all__ = ["count_bits", "count_thresholds", "float_thresholds", "fold_into_thresholds"]

_LARGEST = 0x7F7FFFFF  # the bits of the largest finite float32
_ELEMENTS = 1 << 20  # of a chain that are evaluated at once

Thresholds = Tuple[np.ndarray, np.ndarray]  # threshold and flip, one a channel


def fold_into_thresholds(graph: Graph) -> None:
    """Fold the last operations of every node that only stores bits into the thresholds of these."""
    for node in graph.nodes:
        if len(node.stores) == 1 and isinstance(node.stores[0], Bits):
            fold_last(node.epilogue, node.stores[0])


def fold_last(operations: List[Operation], bits: Bits) -> None:
    """Remove as many operations as possible from the end of a list that ends in a `Bits` store, and change that."""
    first = len(operations)
    while first and is_channelwise(operations[first - 1]) and is_monotone(operations[first - 1]):
        first -= 1
    while first < len(operations):
        found = float_thresholds(operations[first:], bits.threshold, bits.flip)
        if found is not None:
            bits.threshold, bits.flip = found
            del operations[first:]
            return
        first += 1


def float_thresholds(operations: List[Operation], threshold: np.ndarray, flip: np.ndarray) -> Optional[Thresholds]:
    """Threshold and flip of y with the same bits as those of f(y) for every finite y; None if there are none.

    Parameters
    ----------
    operations : list of Operation
        f: channelwise and monotone.
    threshold, flip : ndarray
        Of the bits of f(y), as in `Bits`.

    Examples
    --------
    >>> from bmx.compiler.ir import Affine
    >>> f = [Affine(np.float32([2, -2, 0]), np.float32([-3, -3, -3]))]
    >>> t, flip = float_thresholds(f, np.zeros(3, np.float32), np.zeros(3, bool))
    >>> t.tolist(), flip.tolist()
    ([1.5, 1.5, inf], [False, True, False])
    """
    channels = len(threshold)

    def bit(place: np.ndarray) -> np.ndarray:
        return bits_of(apply_all(operations, _float_at(place)), threshold, flip)

    if not all(map(_is_finite, operations)):
        return None
    low, high = np.full(channels, -_LARGEST, np.int64), np.full(channels, _LARGEST, np.int64)
    for end in (low, high):
        y = _float_at(end)
        for operation in operations:
            y = apply(operation, y)
            if np.isnan(y).any():
                return None
    at_low, at_high = bit(low), bit(high)
    first = first_change(bit, low, high)
    rising, falling = at_high & ~at_low, at_low & ~at_high
    new = np.where(at_low, np.float32(-np.inf), np.float32(np.inf))
    new[rising] = _float_at(first)[rising]
    new[falling] = -_float_at(first - 1)[falling]
    return new.astype(np.float32), falling


def _is_finite(operation: Operation) -> bool:
    """Whether the numbers of the channels are finite; bounds of a `Clip` need not be."""
    return all(np.isfinite(array).all() for array in vars(operation).values() if isinstance(array, np.ndarray))


def first_change(bit: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The first place after `low`, up to `high`, where a bit is another one than at `low`; `high` if there is none.

    The bit, a function of a place in each channel, must change at most once.
    """
    same, other = low.copy(), high.copy()
    start = bit(low)
    while (other - same > 1).any():
        middle = (same + other) // 2
        changed = bit(middle) != start
        other = np.where(changed, middle, other)
        same = np.where(changed, same, middle)
    return other


def _float_at(place: np.ndarray) -> np.ndarray:
    """The float32 numbers in order: place 0 is 0, place 1 the smallest positive one, place -1 its negative."""
    return np.where(place < 0, -1, 1).astype(np.float32) * np.abs(place).astype(np.uint32).view(np.float32)


def count_bits(graph: Graph) -> None:
    """Make `CountBits` of the bits of binary convolutions that store nothing else."""
    for node in graph.nodes:
        if not isinstance(node, Conv) or node.source.dtype != "bit":
            continue
        if len(node.stores) != 1 or not isinstance(node.stores[0], Bits) or not all(map(is_channelwise, node.epilogue)):
            continue
        found = count_thresholds(node)
        if found is None:
            node.notes.append("bits are made of floats: they change more than once along the count")
        else:
            node.stores = [CountBits(node.stores[0].value, *found)]
            node.epilogue = []
            # They no longer matter; the same for all, so that equal networks become equal programs.
            node.all, node.step = float(math.prod(node.weight.shape[1:])), 1.0


def count_thresholds(node: Conv) -> Optional[Thresholds]:
    """Threshold and flip of the number of differing bits of a binary convolution with a channelwise epilogue.

    Returns
    -------
    (threshold, flip) or None
        None if the bits of a channel change more than once along 0..K.
    """
    bits = node.stores[0]
    largest = int(np.prod(node.weight.shape[1:]))
    channels = len(node.weight)
    y = np.float32(node.all) - np.float32(node.step) * np.arange(largest + 1, dtype=np.float32)
    threshold, flip = np.empty(channels, np.int32), np.empty(channels, bool)
    size = max(1, _ELEMENTS // (largest + 1))
    for begin in range(0, channels, size):
        part = slice(begin, begin + size)
        operations = [part_of(operation, part) for operation in node.epilogue]
        count = len(bits.threshold[part])
        z = apply_all(operations, np.broadcast_to(y[:, None], (largest + 1, count)))
        bit = bits_of(z, bits.threshold[part], bits.flip[part])
        changes = bit[1:] != bit[:-1]
        if (changes.sum(axis=0) > 1).any():
            return None
        threshold[part] = np.where(changes.any(axis=0), changes.argmax(axis=0), largest)
        flip[part] = ~bit[0]
    return threshold, flip


def part_of(operation: Operation, part: slice) -> Operation:
    """A channelwise operation on some of the channels."""
    fields = {name: value[part] if isinstance(value, np.ndarray) else value for name, value in vars(operation).items()}
    return type(operation)(**fields)
