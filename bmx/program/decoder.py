"""The bytes of a .bmx file to the program: hostile until parsed."""

from __future__ import annotations

import struct
import zlib
from typing import List, Tuple

import numpy as np

from ..errors import Error
from . import packing
from .check import check_tensor
from .layout import (
    ARRAYS,
    BYTE_ORDER,
    CHECKED,
    HEADER,
    MAGIC,
    NONE,
    OPERATIONS,
    PORT,
    STEPS,
    STORES,
    TENSOR,
    VERSION,
    fields_of,
)
from .steps import ARITHMETICS, DTYPES, FUNCTIONS, Conv, Load, Pool, Port, Program, Step, Tensor, Window


class _Decoder:
    """Takes a file apart and takes no byte that is not there."""

    def __init__(self, content: bytes, where: str):
        self.content, self.where = memoryview(content), where
        self.position, self.end = 0, len(content)

    def error(self, problem: str) -> Error:
        return Error(f"{self.where}: {problem}; not a .bmx file, or damaged")

    def part(self, what: str, offset: int, size: int) -> memoryview:
        if offset % 64 or offset < HEADER.size or offset + size > len(self.content):
            raise self.error(f"{what} at {offset} with {size} bytes in a file of {len(self.content)}")
        return self.content[offset : offset + size]

    def take(self, form: str) -> tuple:
        size = struct.calcsize("<" + form)
        if size > self.end - self.position:
            raise self.error(f"a step ends within its fields (at byte {self.position})")
        values = struct.unpack_from("<" + form, self.content, self.position)
        self.position += size
        return values

    def u32(self) -> int:
        return self.take("I")[0]

    def f32(self) -> float:
        return self.take("f")[0]

    def entry(self, values, what: str, number: int):
        if number >= len(values):
            raise self.error(f"{what} {number} where there are {len(values)}")
        return values[number]

    def tensor(self) -> Tensor:
        return self.entry(self.tensors, "tensor", self.u32())

    def mode(self) -> str:
        return self.entry(Pool.MODES, "pooling mode", self.u32())

    def function(self) -> str:
        number = self.u32()
        return self.entry(FUNCTIONS, "function", number - 1 if number else NONE)

    def window(self) -> Window:
        numbers = self.take("6I2i")
        return Window(*(numbers[i : i + 2] for i in (0, 2, 4, 6)))

    def loops(self) -> List[Tuple[int, ...]]:
        count = self.u32()
        if count > 6:
            raise self.error(f"a copy with {count} loops, at most 6 are allowed")
        return [self.take("3I") for _ in range(count)]

    def array(self, size: int, may_be_none: bool = False):
        """The bytes of an array of the data, or None."""
        place = self.u32()
        if place == NONE and may_be_none:
            return None
        if place * 64 + size > len(self.data):
            raise self.error(f"weights at {place * 64} with {size} bytes where there are {len(self.data)}")
        return bytes(self.data[place * 64 : place * 64 + size])

    def canonical(self, found: bytes, packed: bytes) -> None:
        if found != packed:
            raise self.error(f"numbers behind the last channel or filter that are not 0 (before byte {self.position})")

    def operands(self, kind: type, fields: List[Tuple[str, str]], channels: int):
        values = []
        for field, _ in fields:
            if field in ARRAYS:
                form = ARRAYS[field]
                found = self.array(packing.channels_bytes(form, channels))
                values.append(packing.unpack_channels(found, form, channels))
                self.canonical(found, packing.pack_channels(values[-1], form))
            else:
                values.append(getattr(self, field)())
        return kind(*values)

    def epilogue(self, channels: int) -> Tuple[list, list]:
        count = self.u32()
        if count > self.end - self.position:
            raise self.error(f"an epilogue of {count} operations (at byte {self.position})")
        operations, stores = [], []
        for _ in range(count):
            code = self.u32()
            if code not in OPERATIONS:
                raise self.error(f"unknown operation {code}")
            kind, fields = OPERATIONS[code]
            operations.append(self.operands(kind, fields_of(fields), channels))
        which = self.u32()
        if which >= 16:
            raise self.error(f"unknown stores {which}")
        for code, (kind, fields) in STORES.items():
            if which & code:
                stores.append(self.operands(kind, fields_of(fields), channels))
        return operations, stores

    def convolution(self) -> list:
        arithmetic = self.entry(ARITHMETICS, "arithmetic", self.u32())
        dtype = {"binary": "bit", "float": "f32", "int8": "u8"}[arithmetic.partition("_")[0]]
        source, window = self.tensor(), self.window()
        if source.dtype != dtype:
            raise self.error(f"a convolution on {dtype} reads the tensor {source.name!r} of type {source.dtype}")
        groups, filters, run = self.take("3I")
        if not 1 <= groups <= source.channels or source.channels % groups or filters % groups or not filters or run > 1:
            raise self.error(f"a convolution with {groups} groups, {filters} filters, run {run}")
        shape = (filters, source.channels // groups, *window.kernel)
        found = self.array(packing.weight_bytes(arithmetic, shape, groups, bool(run)))
        if 0 in shape:
            raise self.error("a convolution without weights")
        weight = packing.unpack_weights(found, arithmetic, shape, groups, bool(run))
        self.canonical(found, packing.pack_weights(weight, arithmetic, groups, bool(run)))
        start = self.array(4 * groups * packing.padded(filters // groups, packing.CHANNELS), may_be_none=True)
        if start != (packing.start(weight, source.zero_point, groups) if dtype == "u8" else None):
            raise self.error(f"start values that do not belong to the weights (before byte {self.position})")
        return [source, window, weight, groups, bool(run), *self.take("2f"), arithmetic.endswith("_signs")]

    def depthwise(self, source: Tensor, window: Window) -> np.ndarray:
        shape = (source.channels, *window.kernel)
        if 0 in shape:
            raise self.error("a convolution without weights")
        found = self.array(4 * packing.padded(shape[0], packing.CHANNELS) * shape[1] * shape[2])
        weight = packing.unpack_depthwise(found, shape)
        self.canonical(found, packing.pack_depthwise(weight))
        return weight

    def words(self, source: Tensor):
        found = self.array(packing.padded(source.channels, 64) // 8, may_be_none=True)
        if found is None:
            return None
        flip = packing.unpack_channels(found, "flip", source.channels)
        self.canonical(found, packing.pack_words(flip))
        return flip

    def step(self) -> Step:
        begin, outer = self.position, self.end
        kind, size, name = self.take("3I")
        if kind not in STEPS or size % 4 or not 12 <= size <= outer - begin:
            raise self.error(f"a step of kind {kind} with {size} bytes (at byte {begin})")
        self.end = begin + size
        step_class, text = STEPS[kind]
        values = []
        for field, _ in fields_of(text):
            if field == "convolution":
                values += self.convolution()
            elif field == "epilogue":
                values += self.epilogue(self.epilogue_channels(step_class, values))
            elif field == "depthwise":
                values.append(self.depthwise(*values))
            elif field == "words":
                values.append(self.words(values[0]))
            else:
                values.append(getattr(self, field)())
        if self.position != self.end:
            raise self.error(f"a step with {self.end - self.position} bytes too many (at byte {begin})")
        self.end = outer
        return step_class(self.string(name), *values)

    def epilogue_channels(self, step_class: type, values: list) -> int:
        if step_class is Load:
            return self.entry(self.inputs, "input", values[0]).image[2]
        return values[2].shape[0] if step_class is Conv else values[0].channels

    def string(self, offset: int) -> str:
        if offset >= len(self.strings):
            raise self.error(f"a name at {offset} where there are {len(self.strings)} bytes of names")
        try:
            return str(self.strings[offset : self.strings.index(b"\0", offset)], "utf-8")
        except UnicodeDecodeError:
            raise self.error("a name that is not UTF-8") from None

    def port(self, record: tuple) -> Port:
        name, dimensions, *sizes = record
        if not 1 <= dimensions <= 4 or 0 in sizes[:dimensions] or any(sizes[dimensions:]):
            raise self.error(f"an input or output of {dimensions} dimensions {sizes}")
        return Port(self.string(name), tuple(sizes[:dimensions]))

    def tensor_record(self, record: tuple, arena: int) -> Tensor:
        dtype = self.entry(DTYPES, "type", record[1])
        tensor = Tensor(self.string(record[0]), dtype, *record[2:5], tuple(record[5:9]), *record[9:])
        check_tensor(tensor, arena, f"{self.where}: tensor {tensor.name!r}")
        return tensor

    def program(self) -> Program:
        if bytes(self.content[:8]) != MAGIC:
            raise self.error("no .bmx header")
        if len(self.content) < HEADER.size:
            raise self.error(f"truncated: {len(self.content)} bytes")
        header = HEADER.unpack_from(self.content)
        (_, version, order, size, checksum, zero, arena, inputs, outputs, ports_at, tensors_at, tensors, zero1) = (
            header[:13]
        )
        (code_at, code_size, steps, strings_at, strings_size, data_at, data_size, name, zero2) = header[13:]
        if order.to_bytes(4, "big") == BYTE_ORDER.to_bytes(4, "little"):
            raise Error(f"{self.where}: its numbers are big-endian; .bmx files are little-endian")
        if order != BYTE_ORDER:
            raise self.error(f"the byte order mark is {order:#x}")
        if version != VERSION:
            raise Error(f"{self.where}: version {version} of the format; this bmx reads {VERSION}: compile again")
        if size != len(self.content):
            raise self.error(f"the file has {len(self.content)} bytes and should have {size}")
        if zlib.crc32(self.content[CHECKED:]) != checksum:
            raise self.error("the checksum is wrong")
        if zero or zero1 or zero2:
            raise self.error("the header has numbers that must be 0")
        self.strings = bytes(self.part("names", strings_at, strings_size))
        if self.strings[:1] != b"\0" or self.strings[-1:] != b"\0":
            raise self.error("names that do not begin and end with a 0 byte")
        self.data = self.part("data", data_at, data_size)
        ports_part = self.part("inputs and outputs", ports_at, (inputs + outputs) * PORT.size)
        ports = [self.port(record) for record in PORT.iter_unpack(ports_part)]
        self.inputs = ports[:inputs]
        records = TENSOR.iter_unpack(self.part("tensors", tensors_at, tensors * TENSOR.size))
        self.tensors = [self.tensor_record(record, arena) for record in records]
        self.part("code", code_at, code_size)
        self.position, self.end = code_at, code_at + code_size
        program = Program(self.string(name), self.inputs, ports[inputs:], self.tensors, [], arena)
        for _ in range(steps):
            program.steps.append(self.step())
        if self.position != self.end:
            raise self.error(f"{self.end - self.position} bytes after the last step")
        return program


def parse(content: bytes, where: str) -> Program:
    """The program of a file; what its steps mean remains to be checked. `where` is for error messages."""
    return _Decoder(content, where).program()
