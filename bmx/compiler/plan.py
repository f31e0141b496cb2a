"""Memory of a program: buffers that are alive at the same time lie apart, others share the arena.

Greedy by size, as TensorFlow Lite plans its arenas: the largest buffer first, each at the lowest place that is free
during its whole life; then the same in the order of their first use, and the smaller arena of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

__all__ = ["ALIGNMENT", "Life", "clashes", "plan"]

ALIGNMENT = 64


@dataclass(frozen=True)
class Life:
    """A buffer of `size` bytes, used from step `first` to step `last`, both included."""

    size: int
    first: int
    last: int


def plan(lives: Sequence[Life]) -> Tuple[List[int], int]:
    """Offsets of buffers, multiples of 64, and the size of the arena.

    Examples
    --------
    >>> plan([Life(100, 0, 1), Life(64, 1, 2), Life(128, 2, 3)])
    ([0, 128, 0], 192)
    """
    by_size = sorted(range(len(lives)), key=lambda number: (-lives[number].size, lives[number].first, number))
    by_time = sorted(range(len(lives)), key=lambda number: (lives[number].first, -lives[number].size, number))
    return min((_place(lives, order) for order in (by_size, by_time)), key=lambda found: found[1])


def _place(lives: Sequence[Life], order: Sequence[int]) -> Tuple[List[int], int]:
    offsets, placed, arena = [0] * len(lives), [], 0
    for number in order:
        life, offset = lives[number], 0
        for begin, end, other in placed:  # by their begins
            if other.first <= life.last and life.first <= other.last and begin < offset + life.size:
                offset = max(offset, -(-end // ALIGNMENT) * ALIGNMENT)
        offsets[number] = offset
        placed.append((offset, offset + life.size, life))
        placed.sort(key=lambda entry: entry[:2])
        arena = max(arena, offset + life.size)
    return offsets, -(-arena // ALIGNMENT) * ALIGNMENT


def clashes(lives: Sequence[Life], offsets: Sequence[int]) -> List[Tuple[int, int]]:
    """Pairs of buffers that are alive at the same step and overlap; a plan has none.

    Examples
    --------
    >>> clashes([Life(100, 0, 1), Life(64, 1, 2)], [0, 64])
    [(0, 1)]
    """
    found = []
    for step in sorted({life.first for life in lives}):  # two that meet do so when the later one begins
        alive = sorted((offsets[i], i) for i, life in enumerate(lives) if life.first <= step <= life.last)
        for (_, low), (begin, high) in zip(alive, alive[1:]):
            if begin < offsets[low] + lives[low].size:
                found.append((min(low, high), max(low, high)))
    return sorted(set(found))
