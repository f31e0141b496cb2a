"""Reads the bytes of a .bmx file, which may be hostile, into a program.

A fault in the fields of a step raises Problem, which becomes an error that names the step.
"""

from __future__ import annotations

import struct
import zlib
from typing import List, Tuple, Union

import numpy as np

from ..errors import Error
from . import packing
from .check_tensors import check_tensor
from .layout import BYTE_ORDER, CHECKED, HEADER, MAGIC, NONE, PORT, STEPS, TENSOR, VERSION
from .operations import ARRAYS, FUNCTIONS, OPERATIONS, STORES, OperationRow, StoreRow, fields_of
from .program import Port, Program
from .rules import Problem, require
from .steps import ARITHMETICS, DTYPES, Conv, Load, Pool, Step, Tensor, Window


class _Decoder:
    """Parses a file and never reads beyond its end."""

    OPERATIONS = {row.code: row for row in OPERATIONS}

    def __init__(self, content: bytes, where: str):
        self.content, self.where = memoryview(content), where
        self.position, self.end = 0, len(content)

    # --- the file ---

    def program(self) -> Program:
        try:
            return self._program()
        except Problem as problem:
            raise Error(f"{self.where}: {problem}; not a .bmx file, or damaged") from None

    def _program(self) -> Program:
        require(bytes(self.content[:8]) == MAGIC, "no .bmx header")
        require(len(self.content) >= HEADER.size, f"truncated: {len(self.content)} bytes")
        header = HEADER.unpack_from(self.content)
        (_, version, order, size, checksum, zero, arena, inputs, outputs, ports_at, tensors_at, tensors, zero1) = (
            header[:13]
        )
        (code_at, code_size, steps, strings_at, strings_size, data_at, data_size, name, zero2) = header[13:]
        if order.to_bytes(4, "big") == BYTE_ORDER.to_bytes(4, "little"):
            raise Error(f"{self.where}: its numbers are big-endian; .bmx files are little-endian")
        require(order == BYTE_ORDER, f"the byte order mark is {order:#x}")
        if version != VERSION:
            raise Error(f"{self.where}: version {version} of the format; this bmx reads {VERSION}: compile again")
        require(size == len(self.content), f"the file has {len(self.content)} bytes and should have {size}")
        require(zlib.crc32(self.content[CHECKED:]) == checksum, "the checksum is wrong")
        require(zero == zero1 == zero2 == 0, "the header has numbers that must be 0")
        ports_part, tensors_part, code, strings, self.data = self.parts(
            ("inputs and outputs", ports_at, (inputs + outputs) * PORT.size),
            ("tensors", tensors_at, tensors * TENSOR.size),
            ("code", code_at, code_size),
            ("names", strings_at, strings_size),
            ("data", data_at, data_size),
        )
        self.strings = self.names(bytes(strings))
        ports = [self.port(record) for record in PORT.iter_unpack(ports_part)]
        self.inputs = ports[:inputs]
        self.tensors = [self.tensor_record(record, arena) for record in TENSOR.iter_unpack(tensors_part)]
        self.position, self.end = code_at, code_at + len(code)
        program = Program(self.string(name), self.inputs, ports[inputs:], self.tensors, [], arena)
        program.steps = [self.step(number) for number in range(steps)]
        require(self.position == self.end, f"{self.end - self.position} bytes after the last step")
        return program

    def parts(self, *parts: Tuple[str, int, int]) -> List[memoryview]:
        """The parts. They follow each other, with zeros up to the next multiple of 64 between them."""
        views, end = [], HEADER.size
        for what, offset, size in parts:
            begin = packing.padded(end, 64)
            require(offset == begin, f"{what} at {offset}, where {begin} is next")
            require(not any(self.content[end:begin]), f"the bytes before {what} at {begin} are not 0")
            end = begin + size
            require(end <= len(self.content), f"{what} at {offset} with {size} bytes in a file of {len(self.content)}")
            views.append(self.content[begin:end])
        require(
            end == len(self.content) and size % 64 == 0, f"{what} at {offset} with {size} bytes do not end the file"
        )
        return views

    def names(self, strings: bytes) -> bytes:
        require(strings[:1] == strings[-1:] == b"\0", "its names do not begin and end with a 0 byte")
        try:
            strings.decode("utf-8")
        except UnicodeDecodeError:
            raise Problem("its names are not UTF-8") from None
        return strings

    def string(self, offset: int) -> str:
        there = len(self.strings)
        require(offset < there, f"a name at {offset} where there are {there} bytes of names")
        require(offset == 0 or self.strings[offset - 1] == 0, f"a name at {offset}, where none begins")
        return str(self.strings[offset : self.strings.index(b"\0", offset)], "utf-8")

    def port(self, record: tuple) -> Port:
        name, dimensions, *sizes, zeros = record
        fits = dimensions <= 4 and 0 not in sizes[:dimensions] and not any(sizes[dimensions:])
        require(fits, f"an input or output of {dimensions} dimensions {sizes}")
        name = self.string(name)
        require(not any(zeros), f"the record of {name!r} has numbers that must be 0")
        return Port(name, tuple(sizes[:dimensions]))

    def tensor_record(self, record: tuple, arena: int) -> Tensor:
        name, dtype, *_, zeros = record
        name = self.string(name)
        require(dtype < len(DTYPES), f"tensor {name!r} has the type {dtype}")
        require(not any(zeros), f"the record of tensor {name!r} has numbers that must be 0")
        tensor = Tensor(name, DTYPES[dtype], *record[2:5], tuple(record[5:9]), *record[9:-1])
        check_tensor(tensor, arena, f"{self.where}: tensor {tensor.name!r}")
        return tensor

    # --- a step ---

    def step(self, number: int) -> Step:
        where = f"step {number}"
        try:
            begin, outer = self.position, self.end
            kind, size, name = self.take("3I")
            name = self.string(name)
            where += f" {name!r}"
            require(kind in STEPS, f"its kind is {kind}")
            step_class, text = STEPS[kind]
            where = f"step {number} {step_class.__name__} {name!r}"
            require(size % 4 == 0 and 12 <= size <= outer - begin, f"its size is {size}")
            self.end = begin + size
            values = self.values(step_class, text)
            require(self.position == self.end, f"it has {self.end - self.position} bytes too many")
            self.end = outer
            return step_class(name, *values)
        except Problem as problem:
            raise Error(f"{self.where}: {where}: {problem}") from None

    def values(self, step_class: type, text: str) -> list:
        values = []
        for field, attribute in fields_of(text):
            if field == "convolution":
                values += self.convolution()
            elif field == "epilogue":
                values += self.epilogue(self.epilogue_channels(step_class, values))
            elif field == "depthwise":
                values.append(self.depthwise(*values))
            elif field == "words":
                values.append(self.words(values[0]))
            else:
                values.append(getattr(self, field)(attribute))
        return values

    def epilogue_channels(self, step_class: type, values: list) -> int:
        if step_class is Load:
            return self.entry(self.inputs, "input", values[0]).image[2]
        return values[2].shape[0] if step_class is Conv else values[0].channels

    # --- fields of a step: `what` is the name of the field ---

    def take(self, form: str) -> tuple:
        size = struct.calcsize("<" + form)
        require(size <= self.end - self.position, f"it ends within its fields (at byte {self.position})")
        values = struct.unpack_from("<" + form, self.content, self.position)
        self.position += size
        return values

    def u32(self, what: str = "") -> int:
        return self.take("I")[0]

    def f32(self, what: str) -> float:
        return self.take("f")[0]

    def entry(self, values, what: str, number: int):
        require(number < len(values), f"{what} {number} where there are {len(values)}")
        return values[number]

    def tensor(self, what: str) -> Tensor:
        return self.entry(self.tensors, "tensor", self.u32())

    def mode(self, what: str) -> str:
        return self.entry(Pool.MODES, "pooling mode", self.u32())

    def function(self, what: str) -> str:
        number = self.u32()
        require(1 <= number <= len(FUNCTIONS), f"function {number}; they are 1 to {len(FUNCTIONS)}")
        return list(FUNCTIONS)[number - 1]

    def window(self, what: str = "window") -> Window:
        numbers = self.take("6I2i")
        window = Window(*(numbers[i : i + 2] for i in (0, 2, 4, 6)))
        require(0 not in numbers[:2], f"its window is {window}")  # such weights do not exist
        return window

    def loops(self, what: str) -> List[Tuple[int, ...]]:
        count = self.u32()
        require(count <= 6, f"{count} loops; at most 6 are allowed")
        return [self.take("3I") for _ in range(count)]

    def array(self, size: int, what: str, may_be_none: bool = False):
        """The bytes of an array in the data, or None."""
        place = self.u32()
        if place == NONE and may_be_none:
            return None
        begin, there = 64 * place, len(self.data)
        require(begin + size <= there, f"its {what}: {size} bytes from {begin} where there are {there} bytes of data")
        return bytes(self.data[begin : begin + size])

    def canonical(self, what: str, found: bytes, packed: bytes) -> None:
        """Check that unused bits, such as those beyond the last channel or filter, are 0."""
        require(found == packed, f"its {what}: bits that must be 0 are not 0")

    def operands(self, row: Union[OperationRow, StoreRow], channels: int):
        values = []
        for field, attribute in fields_of(row.fields):
            if field in ARRAYS:
                form = ARRAYS[field].packing
                found = self.array(packing.channels_bytes(form, channels), attribute)
                values.append(packing.unpack_channels(found, form, channels))
                self.canonical(attribute, found, packing.pack_channels(values[-1], form))
            else:
                values.append(getattr(self, field)(attribute))
        return row.kind(*values)

    def epilogue(self, channels: int) -> Tuple[list, list]:
        count = self.u32()
        require(count <= self.end - self.position, f"{count} operations in {self.end - self.position} bytes")
        operations = []
        for _ in range(count):
            code = self.u32()
            require(code in self.OPERATIONS, f"unknown operation {code}")
            operations.append(self.operands(self.OPERATIONS[code], channels))
        which = self.u32()
        require(which < 2 * STORES[-1].code, f"unknown stores {which}")
        stores = [self.operands(row, channels) for row in STORES if which & row.code]
        return operations, stores

    def convolution(self) -> list:
        arithmetic = self.entry(ARITHMETICS, "arithmetic", self.u32())
        dtype = {"binary": "bit", "float": "f32", "int8": "u8"}[arithmetic.partition("_")[0]]
        source, window = self.tensor("source"), self.window()
        fits = source.dtype == dtype
        require(fits, f"a convolution on {dtype} reads the tensor {source.name!r} of type {source.dtype}")
        groups, filters, run = self.take("3I")
        divides = 1 <= groups <= source.channels and source.channels % groups == 0 and filters % groups == 0
        require(divides and filters >= 1, f"{source.channels} channels and {filters} filters in {groups} groups")
        require(run <= 1, f"run is {run}; it must be 0 or 1")
        shape = (filters, source.channels // groups, *window.kernel)
        layout = (arithmetic, shape, groups, bool(run))
        found = self.array(packing.weight_bytes(*layout), "weights")
        weight = packing.unpack_weights(found, *layout)
        self.canonical("weights", found, packing.pack_weights(weight, arithmetic, groups, bool(run)))
        start = self.array(packing.start_bytes(filters, groups), "start", may_be_none=True)
        expected = packing.start(weight, source.zero_point, groups) if dtype == "u8" else None
        require(start == expected, "its start does not match its weights and zero point")
        return [source, window, weight, groups, bool(run), *self.take("2f"), arithmetic.endswith("_signs")]

    def depthwise(self, source: Tensor, window: Window) -> np.ndarray:
        shape = (source.channels, *window.kernel)
        found = self.array(packing.depthwise_bytes(shape), "weights")
        weight = packing.unpack_depthwise(found, shape)
        self.canonical("weights", found, packing.pack_depthwise(weight))
        return weight

    def words(self, source: Tensor):
        found = self.array(packing.padded(source.channels, 64) // 8, "flip", may_be_none=True)
        if found is None:
            return None
        flip = packing.unpack_channels(found, "flip", source.channels)
        self.canonical("flip", found, packing.pack_words(flip))
        return flip


def parse(content: bytes, where: str) -> Program:
    """The program of a file. The caller must still check its steps. Error messages begin with `where`."""
    return _Decoder(content, where).program()
