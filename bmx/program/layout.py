"""The records and fields of a .bmx file, docs/format.md as tables: one for the writer and the reader.

A field is a kind and the attribute that it is; kinds are methods of the encoder and of the decoder.
"""

from __future__ import annotations

import struct
from typing import List, Tuple

from .steps import (
    Add,
    Affine,
    Bits,
    Bytes,
    Clip,
    Conv,
    Copy,
    CountBits,
    Depthwise,
    Fill,
    Floats,
    Function,
    Load,
    Map,
    Multiply,
    Norm,
    Pool,
    PoolBits,
    PRelu,
    Softmax,
    Store,
)

VERSION = 1

MAGIC = b"\x89BMX\r\n\x1a\n"
BYTE_ORDER = 0x01020304
NONE = 0xFFFFFFFF
HEADER = struct.Struct("<8sIIQII QIIQ QII QII QQ QQ II")
CHECKED = 32  # the checksum is of what follows
PORT = struct.Struct("<II4I16s")
TENSOR = struct.Struct("<II3i4iIQQQfI8s")

STEPS = {
    1: (Load, "u32 input, epilogue"),
    2: (Store, "tensor source, u32 output"),
    3: (Fill, "tensor tensor"),
    4: (Conv, "convolution, epilogue"),
    5: (Depthwise, "tensor source, window window, depthwise weight, epilogue"),
    6: (Pool, "tensor source, window window, mode mode, epilogue"),
    7: (PoolBits, "tensor source, tensor tensor, window window, words flip"),
    8: (Map, "tensor source, epilogue"),
    9: (Softmax, "tensor source, tensor tensor"),
    10: (Copy, "tensor source, tensor tensor, loops loops"),
}
OPERATIONS = {
    1: (Affine, "numbers scale, numbers bias"),
    2: (Add, "tensor tensor"),
    3: (Multiply, "tensor tensor"),
    4: (PRelu, "numbers slope"),
    5: (Clip, "f32 low, f32 high"),
    6: (Function, "function name"),
    7: (Norm, "numbers mean, numbers scale, numbers bias"),
}
STORES = {
    1: (Floats, "tensor tensor"),
    2: (Bits, "tensor tensor, numbers threshold, sign flip"),
    4: (Bytes, "tensor tensor, f32 inverse_scale"),
    8: (CountBits, "tensor tensor, counts threshold, flip flip"),
}
ARRAYS = {"numbers": "f32", "counts": "i32", "sign": "sign", "flip": "flip"}  # kind of field: of packing


def fields_of(text: str) -> List[Tuple[str, str]]:
    """Kind and attribute of each field."""
    return [(kind, attribute) for kind, _, attribute in (entry.partition(" ") for entry in text.split(", "))]
