"""RecordIO files of pictures, as MXNet's tools/im2rec.py writes them, checked before MXNet reads them.

A file is a sequence of parts: the magic number, a word whose upper 3 bits are the kind of part and whose other 29 are a
length, and data of that length, padded to 4 bytes. A record is one part of kind 0, or parts of the kinds 1, 2, ..., 2,
3: data are split where they have the magic number, which is left out. They are a header of 24 bytes (the number of
labels, a label, two numbers of the picture), the labels, if that number is not 0, and the file of a picture.

MXNet's reader believes all this, and divides by the size of pictures that cannot be decoded, which ends the process.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Deque, Iterator, List, NamedTuple, Tuple

import numpy as np

from ..errors import Error
from ..writing import content, write_atomically
from .decode import decode

__all__ = ["check_pictures", "count_classes", "count_records"]

_MAGIC = 0xCED7230A.to_bytes(4, "little")
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)
_HEADER = 24
_MOST_CLASSES = 2**24  # labels are float32
_AGAIN = "make it again with tools/im2rec.py"


class _Record(NamedTuple):
    """Where a record begins, and where its data are: offset and length of each part."""

    place: int
    parts: List[Tuple[int, int]]


def count_records(path: str) -> int:
    """Number of records: of the lines of NAME.idx, where it is, which must be the index of this file.

    Raises
    ------
    bmx.Error
        If a file cannot be read or is damaged, or the index is one of another file.
    """
    index = os.path.splitext(path)[0] + ".idx"
    try:
        if os.path.exists(index):
            return _count_lines(index, path)
        return sum(1 for _ in _records(path))
    except OSError as error:
        raise Error(f"{path}: cannot be read ({error.strerror})") from None


def count_classes(path: str) -> int:
    """Return the number of classes that a RecordIO file has images of: the largest label and the ones below.

    Raises
    ------
    bmx.Error
        If the file cannot be read, is damaged, or has labels that are no numbers of classes.
    """
    try:
        with open(path, "rb") as file:
            labels = [_label(_data(file, record, _HEADER + 4)) for record in _records(path)]
    except OSError as error:
        raise Error(f"{path}: cannot be read ({error.strerror})") from None
    wrong = [label for label in labels if not (0 <= label < _MOST_CLASSES and label == int(label))]
    if wrong or not labels:
        found = f"the label {wrong[0]:g}" if wrong else "no labels"
        raise Error(f"{path}: has {found}, and so no number of classes; give it (--classes)")
    return int(max(labels)) + 1


def check_pictures(path: str, side: int, part: Tuple[int, int] = (0, 1), threads: int = 4) -> None:
    """Check that MXNet can decode all pictures of a file: decode them once, about twice as fast as MXNet's reader does.

    NAME.checked beside NAME.rec, if it can be written, remembers that this file with this size and time was sound.

    Parameters
    ----------
    path : str
    side : int
        The shorter side that pictures are resized to.
    part : (int, int), default (0, 1)
        Number of a worker and number of workers: only what this one reads is checked.
    threads : int, default 4

    Raises
    ------
    bmx.Error
        If the file cannot be read or is damaged, or a picture has more than one label, cannot be decoded, or is too
        large or too narrow; it is named by its number in the file.
    """
    memory = _Memory(path, side, part)
    if memory.has():
        return
    waiting: Deque[Tuple[int, _Record, Future]] = collections.deque()

    def wait() -> None:
        number, record, checked = waiting.popleft()
        try:
            checked.result()
        except (ValueError, MemoryError) as error:
            where, reason = f"record {number}, from byte {record.place} on", str(error) or "there is not enough memory"
            raise Error(f"{path}: {where}, cannot be decoded: {reason}; {_AGAIN}") from None

    try:
        first, end = _bytes_of_part(os.path.getsize(path), *part)
        with open(path, "rb") as file, ThreadPoolExecutor(threads) as pool:
            for number, record in enumerate(_records(path)):
                if first <= record.place < end:
                    _check_parts(path, file, record)
                    data = _data(file, record)
                    waiting.append((number, record, pool.submit(_check_picture, data, side)))
                    if len(waiting) > 2 * threads:
                        wait()
            while waiting:
                wait()
    except OSError as error:
        raise Error(f"{path}: cannot be read ({error.strerror})") from None
    memory.add()


class _Memory:
    """NAME.checked: a line for each check that has found nothing, which says of what file, and which part of it."""

    def __init__(self, path: str, side: int, part: Tuple[int, int]):
        self.path = os.path.splitext(path)[0] + ".checked"
        try:
            found = os.stat(path)
        except OSError as error:
            raise Error(f"{path}: cannot be read ({error.strerror})") from None
        self._file = f"{found.st_size} {found.st_mtime_ns} {found.st_ino}"
        self._line = f"{self._file} resized to {side}, part {part[0]} of {part[1]}"

    def has(self) -> bool:
        """Whether the same has been checked."""
        return self._line in self._lines()

    def add(self) -> None:
        """Remember that it has been checked."""
        lines = [line for line in self._lines() if line.startswith(f"{self._file} ")]
        with contextlib.suppress(Error):  # where nothing can be written, it is checked again
            write_atomically(self.path, content("".join(f"{line}\n" for line in [*lines, self._line]).encode()))

    def _lines(self) -> List[str]:
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read().splitlines()
        except (OSError, ValueError):
            return []


def _bytes_of_part(size: int, number: int, count: int) -> Tuple[int, int]:
    """MXNet gives to each worker the records that begin in its share of the bytes, a multiple of 4."""
    share = math.ceil(math.ceil(size / count) / 4) * 4
    return share * number, share * (number + 1)


def _check_picture(data: bytes, side: int) -> None:
    if len(data) < _HEADER:
        raise ValueError("it is too short for a header")
    labels = int.from_bytes(data[:4], "little")
    if labels > 1:
        raise ValueError(f"it has {labels} labels; allowed: one")
    decode(data[_HEADER + 4 * labels :], side)


def _label(data: bytes) -> float:
    """The first label, of the beginning of a record's data."""
    head = data.ljust(_HEADER + 4, b"\0")
    return float(np.frombuffer(head, "<f4", 7)[6 if int.from_bytes(head[:4], "little") else 1])


def _count_lines(index: str, path: str) -> int:
    """Count the lines of an index, number and place of a record each, which must reach to the end of the file."""
    with open(index, "rb") as file:
        lines = [line.split() for line in file if line.strip()]
    try:
        places = {int(place) for _, place in lines}
    except ValueError:
        places = set()
    sound = len(places) == len(lines) > 0 and min(places) == 0 and max(places) < os.path.getsize(path)
    if not sound or sum(1 for _ in _records(path, max(places))) != 1:
        raise Error(f"{index}: not the index of {path}; make it again with tools/im2rec.py, or remove it")
    return len(lines)


def _records(path: str, start: int = 0) -> Iterator[_Record]:
    """Go from header to header, from the one at `start` to the end of the file."""
    damaged = Error(f"{path}: not a whole RecordIO file; {_AGAIN}")
    end = os.path.getsize(path)
    with open(path, "rb") as file:
        file.seek(start)
        record = None
        while file.tell() < end:
            place = file.tell()
            head = file.read(8)
            word = int.from_bytes(head[4:], "little")
            kind, length = word >> 29, word & (2**29 - 1)
            after = place + 8 + (length + 3) // 4 * 4
            if len(head) < 8 or head[:4] != _MAGIC or after > end:
                raise damaged
            if kind not in ((_WHOLE, _FIRST) if record is None else (_MIDDLE, _LAST)):
                raise damaged
            record = record or _Record(place, [])
            record.parts.append((place + 8, length))
            if kind in (_WHOLE, _LAST):
                yield record
                record = None
            file.seek(after)
        if record is not None:
            raise damaged


def _data(file: BinaryIO, record: _Record, most: int = -1) -> bytes:
    """The data of a record, or the beginning of them."""
    pieces = []
    for place, length in record.parts if most < 0 else record.parts[:1]:
        file.seek(place)
        pieces.append(file.read(length if most < 0 else min(length, most)))
    return _MAGIC.join(pieces)


def _check_parts(path: str, file: BinaryIO, record: _Record) -> None:
    """Check that no part has the magic number where one could begin: MXNet looks for it when it has read some."""
    for place, length in record.parts:
        file.seek(place)
        data = file.read(length)
        found = data.find(_MAGIC)
        while found >= 0:
            if found % 4 == 0:
                raise Error(f"{path}: not a whole RecordIO file; {_AGAIN}")
            found = data.find(_MAGIC, found + 1)
