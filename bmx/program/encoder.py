"""Writes a program as the bytes of a .bmx file."""

from __future__ import annotations

import struct
import zlib
from typing import Union

import numpy as np

from . import packing
from .layout import BYTE_ORDER, CHECKED, HEADER, MAGIC, NONE, PORT, STEPS, TENSOR, VERSION
from .operations import ARRAYS, FUNCTIONS, Operation, StoreKind, fields_of, row_of
from .program import Program
from .steps import ARITHMETICS, DTYPES, Conv, Pool, Step, Tensor, Window


class _Encoder:
    """Builds the parts of a file. Equal arrays and names are stored once."""

    STEPS = {kind: (code, fields_of(text)) for code, (kind, text) in STEPS.items()}
    FUNCTIONS = {name: number for number, name in enumerate(FUNCTIONS, 1)}

    def __init__(self, program: Program):
        self.program = program
        self.numbers = {id(tensor): number for number, tensor in enumerate(program.tensors)}
        self.strings, self.string_places = bytearray(b"\0"), {"": 0}
        self.data, self.data_places = bytearray(), {}
        self.code = bytearray()

    def string(self, text: str) -> int:
        if text not in self.string_places:
            self.string_places[text] = len(self.strings)
            self.strings += text.encode("utf-8") + b"\0"
        return self.string_places[text]

    def array(self, content: bytes) -> int:
        if content not in self.data_places:
            self.data_places[content] = len(self.data) // 64
            self.data += content + bytes(-len(content) % 64)
        return self.data_places[content]

    def put(self, form: str, *values) -> None:
        self.code += struct.pack("<" + form, *values)

    def step(self, step: Step) -> None:
        kind, fields = self.STEPS[type(step)]
        begin = len(self.code)
        self.put("III", kind, 0, self.string(step.name))
        for field, attribute in fields:
            getattr(self, field)(step if field in ("convolution", "epilogue") else getattr(step, attribute))
        struct.pack_into("<I", self.code, begin + 4, len(self.code) - begin)

    def epilogue(self, step: Step) -> None:
        self.put("I", len(step.epilogue))
        for operation in step.epilogue:
            self.put("I", row_of(operation).code)
            self.operands(operation)
        stores = sorted(step.stores, key=lambda store: row_of(store).code)
        self.put("I", sum(row_of(store).code for store in stores))
        for store in stores:
            self.operands(store)

    def operands(self, owner: Union[Operation, StoreKind]) -> None:
        for field, attribute in fields_of(row_of(owner).fields):
            value = getattr(owner, attribute)
            if field in ARRAYS:
                self.put("I", self.array(packing.pack_channels(value, ARRAYS[field].packing)))
            else:
                getattr(self, field)(value)

    def u32(self, value: int) -> None:
        self.put("I", value)

    def f32(self, value: float) -> None:
        self.put("f", value)

    def tensor(self, tensor: Tensor) -> None:
        self.put("I", self.numbers[id(tensor)])

    def window(self, window: Window) -> None:
        self.put("6I2i", *window.kernel, *window.stride, *window.dilate, *window.pad)

    def mode(self, mode: str) -> None:
        self.put("I", Pool.MODES.index(mode))

    def function(self, name: str) -> None:
        self.put("I", self.FUNCTIONS[name])

    def words(self, flip) -> None:
        self.put("I", NONE if flip is None else self.array(packing.pack_words(flip)))

    def depthwise(self, weight: np.ndarray) -> None:
        self.put("I", self.array(packing.pack_depthwise(weight)))

    def loops(self, loops) -> None:
        self.put("I", len(loops))
        for loop in loops:
            self.put("3I", *loop)

    def convolution(self, step: Conv) -> None:
        self.put("I", ARITHMETICS.index(step.arithmetic))
        self.tensor(step.source)
        self.window(step.window)
        self.put("3I", step.groups, step.filters, step.run)
        self.put("I", self.array(packing.pack_weights(step.weight, step.arithmetic, step.groups, step.run)))
        bytes_ = step.source.dtype == "u8"
        start = packing.start(step.weight, step.source.zero_point, step.groups) if bytes_ else None
        self.put("I", NONE if start is None else self.array(start))
        self.put("2f", step.all, step.step)

    def file(self) -> bytes:
        program = self.program
        name = self.string(program.name)
        ports = b"".join(
            PORT.pack(self.string(port.name), len(port.shape), *port.shape, *[0] * (4 - len(port.shape)), b"")
            for port in [*program.inputs, *program.outputs]
        )
        tensors = b"".join(
            TENSOR.pack(
                *(self.string(tensor.name), DTYPES.index(tensor.dtype), *tensor.shape),
                *(*tensor.border, tensor.border_value, tensor.offset, tensor.row_stride, tensor.pixel_stride),
                *(tensor.scale, tensor.zero_point, b""),
            )
            for tensor in program.tensors
        )
        for step in program.steps:
            self.step(step)
        parts = [bytes(HEADER.size), ports, tensors, bytes(self.code), bytes(self.strings), bytes(self.data)]
        out, places = bytearray(), []
        for part in parts:
            out += bytes(-len(out) % 64)
            places.append(len(out))
            out += part
        out += bytes(-len(out) % 64)
        HEADER.pack_into(
            out,
            0,
            *(MAGIC, VERSION, BYTE_ORDER, len(out), 0, 0),
            *(program.arena, len(program.inputs), len(program.outputs), places[1]),
            *(places[2], len(program.tensors), 0, places[3], len(self.code), len(program.steps)),
            *(places[4], len(self.strings), places[5], len(self.data), name, 0),
        )
        struct.pack_into("<I", out, 24, zlib.crc32(memoryview(out)[CHECKED:]))
        return bytes(out)


def assemble(program: Program) -> bytes:
    """The bytes of a file for a valid program."""
    return _Encoder(program).file()
