"""Measures how fast this machine reads memory: the limit for layers whose weights do not fit the caches."""

from __future__ import annotations

import ctypes
import glob
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Sequence

import numpy as np

__all__ = ["MemoryReader", "cache_bytes"]

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_UNKNOWN_CACHE = 64 * 2**20
_CACHES = 4  # size of the array, in last-level caches
_PIECE = 2**22  # bytes of a piece; each piece is timed
_PIECES = 8  # least number of pieces per thread


def cache_bytes() -> int:
    """Size of the last-level cache in bytes as the system reports it; 64 MiB if it does not."""
    sizes = [_UNKNOWN_CACHE]
    for path in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*/size"):
        try:
            with open(path, encoding="ascii") as file:
                text = file.read().strip()
            sizes.append(int(text[:-1]) * _UNITS[text[-1]])
        except (OSError, ValueError, LookupError):
            continue
    return max(sizes[1:] or sizes)


class MemoryReader:
    """Reads an array far larger than the caches with the C library's memcmp. Each thread reads a part.

    Afterwards the caches no longer hold what they held before.

    Parameters
    ----------
    threads : int

    Attributes
    ----------
    size : int
        Bytes of the array, at least four times the last-level cache.
    """

    def __init__(self, threads: int = 1):
        pieces = max(_PIECES, _CACHES * cache_bytes() // (threads * _PIECE))
        self.size = threads * pieces * _PIECE
        self._array = np.ones(self.size, np.uint8)  # not zeros: the system might map a single page many times
        self._compare = ctypes.CDLL(None).memcmp
        self._compare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        first = self._array.ctypes.data
        places = [first + _PIECE * piece for piece in range(threads * pieces)]
        self._parts = [places[thread * pieces : (thread + 1) * pieces] for thread in range(threads)]
        self._threads = ThreadPoolExecutor(threads)

    def read(self) -> float:
        """Read the array once. Returns bytes per second: the sum over threads of the median over a thread's pieces.

        The median leaves out pieces during which a thread had to wait for another program.
        """
        return sum(_PIECE / seconds for seconds in self._threads.map(self._read, self._parts))

    def _read(self, places: Sequence[int]) -> float:
        """Median seconds for a piece. memcmp compares its two halves."""
        times = []
        for place in places:
            start = time.perf_counter()
            self._compare(place, place + _PIECE // 2, _PIECE // 2)
            times.append(time.perf_counter() - start)
        return statistics.median(times)
