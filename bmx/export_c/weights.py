"""The weights file of a network in C: a header and arrays, each in the layout that its kernel reads.

The header has 64 bytes, little-endian: the magic; u32 version 1; u32 0x01020304; u32 size of the file; u32 CRC-32 of
all bytes from offset 24 on; u32 number of the network's code; 4 zero bytes; the name, padded with zeros.

The weights of a convolution are blocks of up to 8 filters. A block holds the runs of a window in order, a run its
elements, an element the filters of the block side by side. Per filter an element is

- for bits: a word of 64 channels; a run with an odd number of 32-bit words ends with an element of 32 channels;
- for floats: one float;
- for bytes: 4 consecutive bytes, with zeros beyond the end of the run;
- for signs: 4 bits for 4 inputs. All 8 filters share a 32-bit word; bit 4 f + i is that of input i and filter f.
"""

from __future__ import annotations

import struct
import zlib
from typing import Dict

import numpy as np

from ..errors import Error

__all__ = ["HEADER", "Weights", "pack_bits", "pack_bytes", "pack_floats", "pack_signs"]

HEADER = 64
_FIELDS = struct.Struct("<8s6I32s")
_MAGIC = b"\x89BMW\r\n\x1a\n"
_VERSION = 1
_CHECKED = 24  # the checksum covers the bytes from here on
_FILTERS = 8  # filters per block
_LARGE = 1024  # arrays of this size or more are aligned to 64 bytes, a vector or cache line
_LARGEST = 2**31 - 64


class Weights:
    """Collects arrays. Equal arrays are stored once."""

    def __init__(self) -> None:
        self._data = bytearray(HEADER)
        self._places: Dict[bytes, int] = {}

    def add(self, content: bytes) -> int:
        """Add an array. Returns its place in the file."""
        if content not in self._places:
            self._data += bytes(-len(self._data) % (64 if len(content) >= _LARGE else 4))
            self._places[content] = len(self._data)
            self._data += content
            if len(self._data) > _LARGEST:
                raise Error("the weights of the network need more than 2 GiB; export-c allows at most 2 GiB")
        return self._places[content]

    @property
    def end(self) -> int:
        """The place after the last array."""
        return len(self._data)

    @property
    def size(self) -> int:
        """Size of the file, a multiple of 64."""
        return self.end + -self.end % 64

    def file(self, network: int, name: str) -> bytes:
        """The whole file, for the code with this number."""
        content = bytearray(self._data) + bytes(self.size - self.end)
        header = [_MAGIC, _VERSION, 0x01020304, self.size, 0, network, 0, name.encode("ascii")[:31]]
        _FIELDS.pack_into(content, 0, *header)
        struct.pack_into("<I", content, 20, zlib.crc32(memoryview(content)[_CHECKED:]))
        return bytes(content)


def _taps(weight: np.ndarray) -> np.ndarray:
    """Reorders weights to (filters, kernel height, kernel width, channels)."""
    return weight.transpose(0, 2, 3, 1)


def _runs(weight: np.ndarray, merged: bool) -> np.ndarray:
    """Reshapes weights to (filters, runs, numbers of a run). A run is a kernel row if `merged`, else a tap."""
    filters, channels, kernel_h, kernel_w = weight.shape
    return _taps(weight).reshape(filters, kernel_h if merged else kernel_h * kernel_w, -1)


def _blocks(elements: np.ndarray) -> bytes:
    """Packs `elements` (filters, number of elements, ...) into blocks with their filters side by side."""
    parts = (elements[first : first + _FILTERS].swapaxes(0, 1) for first in range(0, len(elements), _FILTERS))
    return b"".join(np.ascontiguousarray(part).tobytes() for part in parts)


def _padded(runs: np.ndarray, multiple: int) -> np.ndarray:
    out = np.zeros(runs.shape[:-1] + (-(-runs.shape[-1] // multiple) * multiple,), runs.dtype)
    out[..., : runs.shape[-1]] = runs
    return out


def pack_floats(weight: np.ndarray, groups: int) -> bytes:
    """Pack weights (filters, channels of a group, kernel height, kernel width) of a float convolution."""
    return b"".join(_blocks(_taps(part).reshape(len(part), -1).astype("<f4")) for part in np.split(weight, groups))


def pack_bytes(weight: np.ndarray, groups: int, merged: bool) -> bytes:
    """Pack weights of an int8 convolution. With `merged`, a kernel row is a run."""
    packed = []
    for part in np.split(weight, groups):
        runs = _padded(_runs(part, merged).astype(np.int8), 4)
        packed.append(_blocks(runs.reshape(len(part), -1).view("<i4")))
    return b"".join(packed)


def pack_bits(weight: np.ndarray, groups: int, merged: bool) -> bytes:
    """Pack weights of a binary convolution. Positive weights become bits 1."""
    packed = []
    for part in np.split(weight, groups):
        words = np.packbits(_padded(_taps(part) > 0, 32), axis=-1, bitorder="little").view("<u4")
        words = words.reshape(len(part), part.shape[2] * (1 if merged else part.shape[3]), -1)
        packed.append(b"".join(_bit_block(words[first : first + _FILTERS]) for first in range(0, len(part), _FILTERS)))
    return b"".join(packed)


def _bit_block(words: np.ndarray) -> bytes:
    """Packs words (filters, runs, words of a run) of one block."""
    filters, runs, length = words.shape
    whole = words[..., : length // 2 * 2].reshape(filters, runs, -1, 2).transpose(1, 2, 0, 3).reshape(runs, -1)
    rest = words[..., length // 2 * 2 :].transpose(1, 2, 0).reshape(runs, -1)
    return np.concatenate([whole, rest], axis=1).astype("<u4").tobytes()


def pack_signs(weight: np.ndarray, groups: int, merged: bool) -> bytes:
    """Pack weights -1 and +1 of a convolution of floats or bytes, one bit each."""
    packed = []
    for part in np.split(weight, groups):
        signs = _padded(_runs(part, merged) > 0, 4).reshape(len(part), -1, 4)
        whole = np.zeros((-(-len(part) // _FILTERS) * _FILTERS, *signs.shape[1:]), bool)
        whole[: len(part)] = signs
        blocks = whole.reshape(-1, _FILTERS, *signs.shape[1:]).swapaxes(1, 2)  # block, element, filter, input
        packed.append(np.packbits(blocks.reshape(*blocks.shape[:2], -1), axis=-1, bitorder="little").tobytes())
    return b"".join(packed)
