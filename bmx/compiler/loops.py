"""Loops of COPY steps: which numbers of one tensor go where in another."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from ..program import LARGEST_SIZE

__all__ = ["MOST_LOOPS", "broadcast_loops", "image_strides", "merge", "reshape_loops", "split_strides"]

MOST_LOOPS = 6

Loop = Tuple[int, int, int]  # size, stride in, stride out


def image_strides(shape: Sequence[int], row: int, pixel: int, channel: int) -> List[int]:
    """Strides of the dimensions of a value, in MXNet's order, that lies as an NHWC tensor.

    Examples
    --------
    >>> image_strides((2, 3, 8, 9), row=1000, pixel=100, channel=4)
    [12, 4, 1000, 100]
    """
    last = [row, pixel] if len(shape) > 2 else [pixel] if len(shape) == 2 else []
    strides: List[int] = []
    for size in reversed(shape[: len(shape) - len(last)]):
        strides.insert(0, channel)
        channel *= size
    return strides + last


def merge(loops: Sequence[Loop]) -> List[Loop]:
    """The same loops in the order of what is written, as few as possible."""
    merged: List[Loop] = []
    for size, stride_in, stride_out in sorted(loops, key=lambda loop: -loop[2]):
        if size == 1:
            continue
        joined = merged and merged[-1][1:] == (size * stride_in, size * stride_out)
        if joined and merged[-1][0] * size <= LARGEST_SIZE:
            merged[-1] = (merged[-1][0] * size, stride_in, stride_out)
        else:
            merged.append((size, stride_in, stride_out))
    return merged


def broadcast_loops(
    shape: Sequence[int], into: Sequence[int], strides: Sequence[int], out: Sequence[int]
) -> List[Loop]:
    """Loops of a value of `shape` repeated `into` another; strides of both."""
    return merge([(size, step if own == size else 0, o) for own, size, step, o in zip(shape, into, strides, out)])


def split_strides(shape: Sequence[int], strides: Sequence[int], split: Sequence[int]) -> Optional[List[int]]:
    """Strides of dimensions that are each a part of one of `shape`; None if one is not.

    Examples
    --------
    >>> split_strides((6, 5), [10, 1], (2, 3, 5)), split_strides((6, 5), [10, 1], (3, 10))
    ([30, 10, 1], None)
    """
    rest = [size for size in shape]
    found: List[int] = []
    for size in reversed(split):
        while len(rest) > 1 and rest[-1] == 1:
            rest.pop()
        if rest[-1] % size:
            return None
        found.insert(0, strides[len(rest) - 1] * (shape[len(rest) - 1] // rest[-1]))
        rest[-1] //= size
    return found


def reshape_loops(
    shape: Sequence[int],
    axes: Sequence[int],
    into: Sequence[int],
    strides: Optional[Sequence[int]] = None,
    out: Optional[Sequence[int]] = None,
) -> Optional[List[Loop]]:
    """Loops of a value whose axes are permuted and which is given another shape.

    Parameters
    ----------
    shape, into : sequence of int
        Before and after.
    axes : sequence of int
        As np.transpose's; empty: in order.
    strides, out : sequence of int, optional
        Of the dimensions before and after; by default only whether loops exist is asked.

    Returns
    -------
    list of (size, stride in, stride out), or None
        None if sizes do not divide one another, or there are too many loops.

    Examples
    --------
    >>> reshape_loops((6, 2), (), (2, 3, 2), [2, 1], [6, 2, 1])
    [(12, 1, 1)]
    >>> reshape_loops((4, 6), (), (6, 4)) is None
    True
    """
    axes = list(axes) or list(range(len(shape)))
    places = strides is not None and out is not None
    before = [(shape[axis], strides[axis] if places else 0) for axis in axes]
    after = list(zip(into, out if places else [0] * len(into)))
    loops: List[Loop] = []
    while True:  # from the fastest index, splitting the larger of both
        before, after = [[entry for entry in side if entry[0] > 1] for side in (before, after)]
        if not before:
            break
        (size_in, stride_in), (size_out, stride_out) = before.pop(), after.pop()
        size = min(size_in, size_out)
        if size_in % size or size_out % size:
            return None
        loops.append((size, stride_in, stride_out))
        before.append((size_in // size, stride_in * size))
        after.append((size_out // size, stride_out * size))
    found = merge(loops) if places else loops
    return found if len(found) <= MOST_LOOPS else None
