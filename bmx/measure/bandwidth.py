"""How fast this machine reads memory: what layers with more weights than fit its caches cannot pass."""

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
_CACHES = 4  # the array is as many times larger than the last-level cache
_PIECE = 2**22  # bytes that are timed at once
_PIECES = 8  # of each thread, at least


def cache_bytes() -> int:
    """Size of the last-level cache as the system tells it; 64 MB where it does not."""
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
    """Reads an array far larger than the caches, each thread a part of it, by the C library's memcmp.

    What was in the caches before is not in them afterwards.

    Parameters
    ----------
    threads : int

    Attributes
    ----------
    size : int
        Bytes of the array: at least four times the last-level cache.
    """

    def __init__(self, threads: int = 1):
        pieces = max(_PIECES, _CACHES * cache_bytes() // (threads * _PIECE))
        self.size = threads * pieces * _PIECE
        self._array = np.ones(self.size, np.uint8)  # zeros might be one page, many times
        self._compare = ctypes.CDLL(None).memcmp
        self._compare.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
        first = self._array.ctypes.data
        places = [first + _PIECE * piece for piece in range(threads * pieces)]
        self._parts = [places[thread * pieces : (thread + 1) * pieces] for thread in range(threads)]
        self._threads = ThreadPoolExecutor(threads)

    def read(self) -> float:
        """Read the array once; bytes a second of all threads together: of each the median over the pieces of its part.

        So a thread that has to wait for another program now and then counts as if it had not.
        """
        return sum(_PIECE / seconds for seconds in self._threads.map(self._read, self._parts))

    def _read(self, places: Sequence[int]) -> float:
        """Median seconds of a piece, of which the halves are compared."""
        times = []
        for place in places:
            start = time.perf_counter()
            self._compare(place, place + _PIECE // 2, _PIECE // 2)
            times.append(time.perf_counter() - start)
        return statistics.median(times)
