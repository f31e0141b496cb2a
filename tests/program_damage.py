"""Damaged .bmx files that get past the checksum: one field, name or number of a file changed, and the rest put right.

content, what = damage(bases, random)  # what was changed, in words
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from program_graphs import Builder

from bmx import program as programs
from bmx.compiler import ir
from bmx.compiler.lower import lower

HEADER = [
    *[(at, "I") for at in (8, 12, 28, 40, 44, 64, 68, 80, 84, 120, 124)],
    *[(at, "Q") for at in (16, 32, 48, 56, 72, 88, 96, 104, 112)],
]
PORT = [(at, "I") for at in range(0, 40, 4)]
TENSOR = [*[(at, "I") for at in (0, 4, 36, 68, 72, 76)], *[(at, "i") for at in range(8, 36, 4)], (64, "f")]
TENSOR += [(at, "Q") for at in (40, 48, 56)]
U32 = (0, 1, 2, 3, 4, 8, 64, 65, 255, 256, 2**24, 2**24 + 1, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 2, 2**32 - 1)
U64 = (*U32, 2**32, 2**34, 2**34 + 64, 2**40, 2**63, 2**64 - 64, 2**64 - 1)
F32 = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-45, 3e38, np.inf, -np.inf, np.nan)
NEAR = (1, 2, 4, 8, 32, 64)


def sealed(content):
    """The content with the checksum that belongs to it."""
    content = bytearray(content)
    struct.pack_into("<I", content, 24, zlib.crc32(bytes(content[32:])))
    return bytes(content)


def networks():
    """Small files that have every kind of step, arithmetic, operation and store, borders, groups and slices."""
    return [programs.encode(lower(graph)) for graph in (everything(20), _groups(), _bytes(), _slices(), _operations())]


def everything(filters):
    """Every kind of step and operation, in a network whose first convolution has so many filters."""
    b = Builder(3)
    x = b.input((6, 5, 4), ("f32", "u8"))
    y = b.conv(x["f32"], filters, pad=(1, 1, 1, 1), stores=("f32", "bit"))
    z = b.conv(y["bit"], 16, pad=(1, 0, 1, 0), pad_value=1.0, stores=("count",))["count"]
    w = b.conv(b.pool(z, flip=b.flags(16))["bit"], 8, (1, 1))["f32"]
    i = b.conv(x["u8"], 8, (2, 2), (2, 2))["f32"]
    epilogue = [ir.Add(b.pool(i, "max", (1, 1), (2, 2))["f32"]), ir.PRelu(b.numbers(8)), ir.Clip(0.0, 9.0)]
    total = b.map(w, epilogue)["f32"]
    total = b.map(total, [ir.Norm(b.numbers(8), b.numbers(8), b.numbers(8)), ir.Multiply(total)])["f32"]
    total = b.map(total, [ir.Function("tanh"), ir.Affine(b.numbers(8), b.numbers(8))])["f32"]
    deep = b.conv(total, 8, (1, 1), groups=8)["f32"]
    shuffled = b.reshape(deep, deep.shape, (2, 4, *deep.shape[1:]), (1, 0, 2, 3))
    flat = b.reshape(shuffled, (int(np.prod(deep.shape)),))
    return b.graph([b.move(ir.Softmax, flat.shape, flat, source=flat), y["f32"]], "example")


def _groups():
    b = Builder(4)
    made = []
    for dtype, signs in [("f32", False), ("f32", True), ("u8", True)]:
        made.append(b.conv(b.input((6, 3, 4), (dtype,)), 16, (2, 1), groups=2, signs=signs)["f32"])
    return b.graph([*made, b.conv(b.input((128, 2, 2), ("bit",)), 16, (1, 2), groups=2)["f32"]], "groups")


def _bytes():
    b = Builder(5)
    x = b.input((5, 4, 4), ("u8", "bit"))
    y = b.conv(x["u8"], 9, (3, 2), pad=(1, 1, 1, 1), stores=("f32", "u8"))
    z = b.conv(y["u8"], 17, (1, 1), signs=True, stores=("u8",))["u8"]
    bits = b.conv(x["bit"], 9, (2, 2), (1, 2), pad=(1, 1, 0, 0), pad_value=-1.0, stores=("bit", "u8"))
    total = b.map(z, [ir.Function("abs")])["f32"]
    return b.graph([total, *y.values(), *bits.values()], "bytes")


def _slices():
    b = Builder(6)
    x, channel, pixel = b.input((8, 5, 3)), b.input((8, 1, 1)), b.input((1, 5, 3))
    y = b.map(x, [ir.Add(channel), ir.Multiply(pixel)])["f32"]
    joined = b.concat([y, b.conv(y, 3, pad=(1, 1, 1, 1))["f32"], b.pool(x, "avg", (1, 1), (1, 1))["f32"]])
    part = b.slice(joined, (4, 1, 0), (9, 3, 3))
    padded = b.pad(part, (1, 0, 0, 1))
    deep = b.conv(b.concat([x, y]), 16, (2, 2), pad=(1, 0, 0, 1), groups=16)["f32"]
    pooled = b.pool(deep, "avg_padded", (2, 2), (2, 2), (1, 1, 1, 1))["f32"]
    return b.graph([padded, pooled, b.concat([pooled, pooled])], "slices")


def _operations():
    b = Builder(7)
    x, y, channel, pixel = b.input((9, 3, 4)), b.input((9, 3, 4)), b.input((9, 1, 1)), b.input((1, 3, 4))
    return b.graph([b.map(x, b.operations(9, (y, channel, pixel)))["f32"]], "operations")


def damage(bases, random):
    """One of the files with a change, and what was changed."""
    file = _File(bases[int(random.integers(len(bases)))], random)
    what = getattr(file, file.pick(_KINDS))()
    return sealed(file.content), what


class _File:
    def __init__(self, content, random):
        self.content, self.random = bytearray(content), random
        self.inputs, self.outputs, self.ports_at = struct.unpack_from("<IIQ", content, 40)
        self.tensors_at, self.tensors = struct.unpack_from("<QI", content, 56)
        self.code_at, self.code_size, self.steps = struct.unpack_from("<QII", content, 72)
        self.strings_at, self.strings_size, self.data_at, self.data_size = struct.unpack_from("<4Q", content, 88)

    def pick(self, values):
        return values[int(self.random.integers(len(values)))]

    def get(self, form, at):
        return struct.unpack_from("<" + form, self.content, at)[0]

    def set(self, form, at, value):
        struct.pack_into("<" + form, self.content, at, value)

    def change(self, what, at, form):
        """Another number, near the one that is there or one that is special."""
        old = self.get(form, at)
        if form == "f":
            new = self.pick(F32)
        else:
            bits = 64 if form == "Q" else 32
            near = [old + sign * step for sign in (-1, 1) for step in NEAR] + [2 * old, old // 2]
            new = self.pick(near if self.random.random() < 0.5 else U64 if form == "Q" else U32) % 2**bits
            new -= 2**32 if form == "i" and new >= 2**31 else 0
        self.set(form, at, new)
        return f"{what} at {at}: {old} -> {new}"

    def header(self):
        return self.change("header", *self.pick(HEADER))

    def port(self):
        number = int(self.random.integers(self.inputs + self.outputs))
        at, form = self.pick(PORT)
        return self.change(f"port {number} + {at}", self.ports_at + 40 * number + at, form)

    def tensor(self):
        number = int(self.random.integers(self.tensors))
        at, form = self.pick(TENSOR)
        return self.change(f"tensor {number} + {at}", self.tensors_at + 80 * number + at, form)

    def place(self):
        """A tensor where another one is, or nearly; or rows that share more of their borders, or are further apart."""
        one, other = (self.tensors_at + 80 * int(self.random.integers(self.tensors)) for _ in range(2))
        if self.random.random() < 0.6:
            self.set("Q", one + 40, max(0, self.get("Q", other + 40) + self.pick((0, 0, 0, 4, -4, 8, -8, 1, 64))))
            return f"tensor at {one} placed near that at {other}"
        pixels, pixel = self.get("i", one + 12) + self.pick((0, 1, 2, 3)), self.get("Q", one + 56)
        self.set("Q", one + 48, max(0, pixels * pixel + self.pick((0, 0, 1, 4, 8, -4))))
        self.set("i", one + self.pick((24, 32)), self.pick((0, 1, 2, 3)))
        return f"tensor at {one} with rows of {pixels} pixels"

    def word(self):
        at = self.code_at + 4 * int(self.random.integers(self.code_size // 4))
        return self.change("code", at, self.pick("IIIf"))

    def number(self):
        at = self.data_at + 4 * int(self.random.integers(self.data_size // 4))
        if self.random.random() < 0.5:
            self.content[at] ^= 1 << int(self.random.integers(8))
            return f"a bit of data at {at}"
        return self.change("data", at, self.pick("If"))

    def text(self):
        at = self.strings_at + int(self.random.integers(self.strings_size))
        self.content[at] = self.pick((0, 65, 0x80, 0xC3, 0xFF))
        return f"names at {at}"

    def gap(self):
        gaps = [at for at in range(128, len(self.content)) if self.between_parts(at)]
        at = self.pick(gaps)
        self.content[at] = 1
        return f"gap at {at}"

    def between_parts(self, at):
        parts = [(self.ports_at, 40 * (self.inputs + self.outputs)), (self.tensors_at, 80 * self.tensors)]
        parts += [(self.code_at, self.code_size), (self.strings_at, self.strings_size), (self.data_at, self.data_size)]
        return not any(place <= at < place + size for place, size in parts)

    def end(self):
        """More or fewer bytes of data, of which the header may know."""
        size = self.pick((-64, -4, 4, 64, 128))
        self.content = self.content[:size] if size < 0 else self.content + bytes(size)
        self.set("Q", 16, len(self.content))
        if self.random.random() < 0.8:
            self.set("Q", 112, self.data_size + size)
        return f"{size} bytes at the end"

    def order(self):
        """A step left out or moved to the front, with the rest closing up."""
        places, at = [], self.code_at
        while at < self.code_at + self.code_size:
            places.append((at, self.get("I", at + 4)))
            at += max(12, places[-1][1])
        at, size = self.pick(places)
        step, kept = self.content[at : at + size], self.random.random() < 0.5
        rest = self.content[self.code_at : at] + self.content[at + size : self.code_at + self.code_size]
        code = step + rest if kept else rest + bytes(len(step))
        self.content[self.code_at : self.code_at + self.code_size] = code
        if not kept:
            self.set("I", 80, max(0, self.code_size - size))
            self.set("I", 84, max(0, self.get("I", 84) - 1))
            self.code_size -= size
        return f"step at {at} {'first' if kept else 'left out'}"


_KINDS = ["header", "port", *["tensor"] * 3, *["place"] * 2, *["word"] * 5, *["number"] * 2, "text", "gap", "end"]
_KINDS += ["order"]
