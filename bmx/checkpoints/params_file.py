"""MXNet's .params files, read and written without MXNet.

MXNet's own reader believes the lengths that a file states: a damaged dimension makes it ask for more memory than there
is, and the process dies. So every file is parsed here first, each length against what is really there, and only bytes
that passed are given to MXNet. A parsed array keeps its record byte for byte, so that the converter can write it back
in the same format version, which whatever program could read the original can read.

The container (all little-endian): uint64 0x112, uint64 reserved, uint64 count, the array records, uint64 count of
names, then for each name uint64 length and its bytes. A record, by its first uint32:

========== =====================================================================================================
0xF993FAC9 version 2 (MXNet 0.12 to 1.9): int32 storage type, [storage shape if sparse], shape, context, type,
           [for each index array of a sparse one: type, shape], values, [index arrays]
0xF993FACA version 3: as 2, dense only, written under NumPy shape semantics
0xF993FAC8 version 1: shape, context, type, values
other      version 0 (to MXNet 0.11): the uint32 is the number of dimensions, dimensions are uint32, then as 1
========== =====================================================================================================

A shape is int32 number of dimensions and int64 each; a context int32 device type and int32 device number; a type int32.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from ..errors import Error
from ..journal import finish

__all__ = [
    *("StoredArray", "encode_array", "encode_params", "parse_params", "read_bytes", "stored_array", "write_params"),
]

_LIST_MAGIC = 0x112
_VERSIONS = {0xF993FAC8: 1, 0xF993FAC9: 2, 0xF993FACA: 3}
_MAX_DIMENSIONS = 32
# MXNet's type numbers; bfloat16 (12) has no NumPy type
_TYPES = {0: "float32", 1: "float64", 2: "float16", 3: "uint8", 4: "int32", 5: "int8", 6: "int64", 7: "bool"}
_BFLOAT16 = 12
_INDEX_ARRAYS = {0: 0, 1: 1, 2: 2}  # storage type dense, row_sparse, csr -> number of index arrays
_DEVICES = (1, 2, 3, 5)  # cpu, gpu, pinned, shared


@dataclass
class StoredArray:
    """One array of a .params file.

    Attributes
    ----------
    name : str
        As stored: ``arg:<name>`` or ``aux:<name>`` in a checkpoint.
    version : int
        Format version of the record, 0 to 3.
    shape : tuple of int
    dtype : numpy.dtype or None
        None for bfloat16.
    sparse : bool
    record : memoryview
        The whole record.
    values : memoryview
        The array's elements.
    """

    name: str
    version: int
    shape: Tuple[int, ...]
    dtype: Optional[np.dtype]
    sparse: bool
    record: memoryview
    values: memoryview

    def numpy(self) -> np.ndarray:
        """The dense array, read-only, its bits as stored."""
        if self.sparse or self.dtype is None:
            raise Error(f"{self.name!r} is {'sparse' if self.sparse else 'bfloat16'}; a dense NumPy type is needed")
        return np.frombuffer(self.values, self.dtype.newbyteorder("<")).reshape(self.shape)


class _Reader:
    """Takes pieces off a buffer, and no byte that is not there."""

    def __init__(self, data: bytes, where: str):
        self.data, self.where, self.position = memoryview(data), where, 0

    def error(self, problem: str) -> Error:
        return Error(f"{self.where}: {problem} (at byte {self.position}); not a .params file of MXNet, or damaged")

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.position:
            raise self.error(f"truncated: {size} more bytes expected, {len(self.data) - self.position} left")
        piece = self.data[self.position : self.position + size]
        self.position += size
        return piece

    def number(self, form: str) -> int:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def shape(self, version: int, dimensions: Optional[int] = None) -> Tuple[int, ...]:
        if dimensions is None:
            dimensions = self.number("i")
        if not 0 <= dimensions <= _MAX_DIMENSIONS:
            raise self.error(f"an array of {dimensions} dimensions")
        item = "I" if version == 0 else "q"
        shape = struct.unpack(f"<{dimensions}{item}", self.take(struct.calcsize(f"<{dimensions}{item}")))
        if any(size < 0 for size in shape):
            raise self.error(f"an array of shape {shape}")
        return shape

    def type_number(self) -> int:
        number = self.number("i")
        if number not in _TYPES and number != _BFLOAT16:
            raise self.error(f"unknown data type {number}")
        return number

    def elements(self, shape: Tuple[int, ...], type_number: int) -> memoryview:
        count = 1
        for size in shape:
            count *= size
        return self.take(count * (2 if type_number == _BFLOAT16 else np.dtype(_TYPES[type_number]).itemsize))


def read_bytes(path: str) -> bytes:
    """The bytes of a file, or a clear error.

    Raises
    ------
    bmx.Error
        If it is missing, a folder or not readable.
    """
    finish(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise Error(f"{path}: no such file") from None
    except OSError as error:
        raise Error(f"{path}: cannot be read: {error.strerror or error}") from None


def parse_params(data: bytes, where: str) -> Dict[str, StoredArray]:
    """Parse and check the bytes of a .params file with names.

    Parameters
    ----------
    data : bytes
    where : str
        Path of the file, for error messages.

    Returns
    -------
    dict of str to StoredArray, in file order

    Raises
    ------
    bmx.Error
        If any length, count, type or name is not what the format allows, or bytes are left over.
    """
    reader = _Reader(data, where)
    if len(data) < 24 or reader.number("Q") != _LIST_MAGIC:
        reader.position = 0
        raise reader.error("no .params header")
    reader.number("Q")
    count = reader.number("Q")
    if count > len(data) // 12:  # the shortest record: number of dimensions, one dimension, type
        raise reader.error(f"{count} arrays in {len(data)} bytes")
    records = [_parse_record(reader) for _ in range(count)]
    names = reader.number("Q")
    if names != count:
        raise reader.error(f"{names} names for {count} arrays")
    arrays: Dict[str, StoredArray] = {}
    for record in records:
        try:
            record.name = str(reader.take(reader.number("Q")), "utf-8")
        except UnicodeDecodeError:
            raise reader.error("a name that is not UTF-8") from None
        if "\0" in record.name:
            raise reader.error("a name with a zero byte")
        if record.name in arrays:
            raise reader.error(f"two arrays of the name {record.name!r}")
        arrays[record.name] = record
    if reader.position != len(data):
        raise reader.error(f"{len(data) - reader.position} bytes after the end")
    return arrays


def _parse_record(reader: _Reader) -> StoredArray:
    start = reader.position
    magic = reader.number("I")
    version = _VERSIONS.get(magic, 0)
    storage = reader.number("i") if version >= 2 else 0
    if storage not in _INDEX_ARRAYS or (version == 3 and storage != 0):
        raise reader.error(f"unknown storage type {storage}")
    stored_shape = reader.shape(version) if storage else None
    shape = reader.shape(version, magic if version == 0 else None)
    if version < 3 and (not shape or 0 in shape):
        raise reader.error("an array without a value")
    if reader.number("i") not in _DEVICES:
        raise reader.error("unknown device type")
    reader.number("i")
    type_number = reader.type_number()
    indices = [(reader.type_number(), reader.shape(version)) for _ in range(_INDEX_ARRAYS[storage])]
    values = reader.elements(stored_shape if storage else shape, type_number)
    for index_type, index_shape in indices:
        reader.elements(index_shape, index_type)
    dtype = np.dtype(_TYPES[type_number]) if type_number in _TYPES else None
    return StoredArray("", version, shape, dtype, storage != 0, reader.data[start : reader.position], values)


def encode_array(array: np.ndarray, version: int) -> bytes:
    """The record of a dense array in a format version (0 to 3), its bits unchanged."""
    number = next((number for number, name in _TYPES.items() if array.dtype == name), None)
    if number is None:
        raise Error(f"dtype {array.dtype} cannot be stored in a .params file")
    if version == 0:
        head = struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
    else:
        magic = next(magic for magic, known in _VERSIONS.items() if known == version)
        storage = struct.pack("<i", 0) if version >= 2 else b""
        head = struct.pack("<I", magic) + storage + struct.pack(f"<i{array.ndim}q", array.ndim, *array.shape)
    cpu = struct.pack("<iii", 1, 0, number)
    return head + cpu + np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def stored_array(name: str, array: np.ndarray, version: int) -> StoredArray:
    """An array as `parse_params` would give it, from a record of this format version."""
    record = memoryview(encode_array(array, version))
    values = record[len(record) - array.nbytes :]
    return StoredArray(name, version, array.shape, array.dtype, False, record, values)


def encode_params(records: List[Tuple[str, bytes]]) -> bytes:
    """The bytes of a .params file with these names and records."""
    return b"".join([_head(len(records)), *(bytes(record) for _, record in records), _tail([n for n, _ in records])])


def write_params(path: str, arrays: Mapping[str, Any]) -> None:
    """Write dense arrays of MXNet or NumPy as a .params file, one after the other.

    `mx.nd.save` does not notice that the disk is full when it closes the file.
    """
    with open(path, "wb") as file:
        file.write(_head(len(arrays)))
        for array in arrays.values():
            file.write(encode_array(array if isinstance(array, np.ndarray) else array.asnumpy(), 2))
        file.write(_tail(list(arrays)))


def _head(count: int) -> bytes:
    return struct.pack("<QQQ", _LIST_MAGIC, 0, count)


def _tail(names: List[str]) -> bytes:
    encoded = [name.encode("utf-8") for name in names]
    return struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in encoded)
