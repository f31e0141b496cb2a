"""Arrays in .npy and .npz files that a user gives: all that reads them is here, and believes nothing that they state.

NumPy's own reader asks for the memory that a header states before it looks at the file, and a damaged file makes it
raise what its parts happen to raise: TokenError, TypeError, zlib.error, LZMAError and others.
"""

from __future__ import annotations

import math
import os
import re
import stat
import zipfile
from typing import IO, Any, Dict, NamedTuple, Tuple, Union

import numpy as np

from .errors import Error

__all__ = ["check_classes", "load_named_samples", "load_samples"]

_MAGIC = b"\x93NUMPY"
_FIELDS = {
    "descr": r"\s*(['\"])descr\1\s*:\s*(['\"])(?P<descr>[^'\"]*)\2\s*",
    "fortran_order": r"\s*(['\"])fortran_order\1\s*:\s*(?P<fortran_order>True|False)\s*",
    "shape": r"\s*(['\"])shape\1\s*:\s*\((?P<shape>(\s*\d{1,18}L?\s*,)*\s*(\d{1,18}L?)?)\s*\)\s*",
}
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # what NumPy writes
_MOST_BYTES = 1032  # that DEFLATE makes of one


class _Header(NamedTuple):
    shape: Tuple[int, ...]
    dtype: np.dtype
    fortran: bool

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def load_samples(path: str, ndim: int = 2, mapped: bool = False) -> np.ndarray:
    """Read a .npy file of numbers, a sample in each row.

    Parameters
    ----------
    path : str
    ndim : int
        How many dimensions it must have at least.
    mapped : bool
        Leave the numbers in the file until they are used.

    Raises
    ------
    bmx.Error
        If the file cannot be read, or holds something else.
    """
    try:
        with _open(path) as file:
            if file.read(4) == b"PK\x03\x04":
                raise Error(f"{path}: is an .npz file; allowed here is a .npy file, of one array")
            file.seek(0)
            header = _read_header(file, os.fstat(file.fileno()).st_size, path)
            _check(header, path, ndim)
            if mapped:
                order = "F" if header.fortran else "C"
                return np.memmap(path, header.dtype, "r", file.tell(), header.shape, order)
            return _array(file, header, path)
    except OSError as error:
        raise Error(f"{path}: cannot be read: {error.strerror or error}") from None


def load_named_samples(path: str) -> Union[np.ndarray, Dict[str, np.ndarray]]:
    """Read the samples of one input from a .npy file, or those of several, by name, from an .npz file.

    Raises
    ------
    bmx.Error
        If the file cannot be read, or holds something else.
    """
    if not path.endswith(".npz"):
        return load_samples(path)
    try:
        with _open(path) as file, zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.flag_bits & 1 or member.compress_type not in _METHODS:
                    reason = "is encrypted, or compressed otherwise than NumPy does; write it with numpy.savez"
                    raise Error(f"{path}: {member.filename!r}: {reason}")
            stated = sum(member.file_size for member in archive.infolist())
            if stated > _MOST_BYTES * os.fstat(file.fileno()).st_size:
                raise _damaged(path, ".npz", f"it cannot hold the {stated} bytes that it states")
            names = [re.sub(r"\.npy$", "", member.filename) for member in archive.infolist()]
            if len(set(names)) < len(names):
                raise Error(f"{path}: has two arrays of the name {max(names, key=names.count)!r}")
            return {name: _member(archive, member, path) for name, member in zip(names, archive.infolist())}
    except OSError as error:
        raise Error(f"{path}: cannot be read: {error.strerror or error}") from None
    except (Error, MemoryError):
        raise
    except Exception as error:  # zipfile's, zlib's and struct's own, and RuntimeError, NotImplementedError, ...
        raise _damaged(path, ".npz", error) from None


def _open(path: str) -> IO[bytes]:
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may have no end
        raise Error(f"{path}: cannot be read: it is not a file")
    return open(path, "rb")


def _damaged(path: str, kind: str, reason: Any) -> Error:
    text = " ".join(str(reason).split())[:100] or type(reason).__name__
    article = "an" if kind == ".npz" else "a"
    return Error(f"{path}: cannot be read as {article} {kind} file, it is another one or damaged: {ascii(text)[1:-1]}")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str) -> np.ndarray:
    where = f"{path}: {member.filename!r}"
    with archive.open(member) as file:
        header = _read_header(file, member.file_size, where)
        _check(header, where, 2)
        array = _array(file, header, where)
        if file.read(1):
            raise _damaged(where, ".npy", "bytes after the end")
        return array


def _read_header(file: IO[bytes], size: int, where: str) -> _Header:
    """The header at the beginning of a .npy file of `size` bytes, which must have exactly the values that it states."""
    start = file.read(8)
    if len(start) < 8 or start[:6] != _MAGIC or start[6] not in (1, 2, 3) or start[7]:
        raise _damaged(where, ".npy", "it does not begin as one")
    bytes_of_length = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(bytes_of_length), "little")
    begin = 8 + bytes_of_length + length
    if begin > size:
        raise _damaged(where, ".npy", "it ends in its header")
    header = _parse_header(file.read(length).decode("latin1"), where)
    if size - begin != header.bytes:
        raise _damaged(where, ".npy", f"{size - begin} bytes of values, where its header states {header.bytes}")
    return header


def _parse_header(text: str, where: str) -> _Header:
    """The header's fields, in any order, out of the text of a Python dictionary."""
    patterns = (re.compile(_FIELDS[name]) for name in _FIELDS)
    fields: Dict[str, str] = {}
    rest = text.strip()
    for pattern in patterns:
        found = pattern.search(rest)
        if found is None:
            raise Error(f"{where}: must hold one array of numbers, a sample in each row")
        fields.update(found.groupdict())
        rest = rest[: found.start()] + rest[found.end() :]
    try:
        dtype = np.dtype(fields["descr"])
    except (TypeError, ValueError, SyntaxError, MemoryError) as error:
        raise _damaged(where, ".npy", error) from None
    if dtype.kind not in "fiu":
        raise Error(f"{where}: must hold one array of numbers, a sample in each row")
    shape = tuple(int(size.strip(" L")) for size in fields["shape"].split(",") if size.strip())
    if not re.fullmatch(r"\{\s*(,\s*){2,3}\}", rest) or len(shape) > 32:
        raise _damaged(where, ".npy", "its header is none that NumPy writes")
    return _Header(shape, dtype, fields["fortran_order"] == "True")


def _array(file: IO[bytes], header: _Header, where: str) -> np.ndarray:
    try:
        values = np.empty(math.prod(header.shape), header.dtype)
    except MemoryError:
        raise Error(f"{where}: needs {header.bytes / 1e9:.1f} GB of memory, more than there is") from None
    if file.readinto(values.view(np.uint8)) < header.bytes:
        raise _damaged(where, ".npy", "it is truncated")
    return values.reshape(header.shape, order="F" if header.fortran else "C")


def _check(header: _Header, where: str, ndim: int) -> None:
    if len(header.shape) < ndim or not math.prod(header.shape):
        raise Error(f"{where}: must hold one array of numbers, a sample in each row")


def check_classes(labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Labels as integers; raises bmx.Error, which begins with `where`, unless each is one from 0 to `classes` - 1."""
    labels = np.asarray(labels)
    allowed = labels.dtype.kind in "fiu" and bool(np.all((labels >= 0) & (labels < classes) & (labels % 1 == 0)))
    if not allowed:
        raise Error(f"{where}: must be classes from 0 to {classes - 1}, as the network has outputs")
    return labels.astype(np.int64)
