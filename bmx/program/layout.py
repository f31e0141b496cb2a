"""The records and fields of a .bmx file (docs/format.md) as tables, which the writer and the reader share.

A field is written as its kind and the attribute that holds it. Each kind is a method of the encoder and of the decoder.
The fields of operations and stores are in `operations`.
"""

from __future__ import annotations

import struct

from .steps import Conv, Copy, Depthwise, Fill, Load, Map, Pool, PoolBits, Softmax, Store

VERSION = 1

MAGIC = b"\x89BMX\r\n\x1a\n"
BYTE_ORDER = 0x01020304
NONE = 0xFFFFFFFF
HEADER = struct.Struct("<8sIIQII QIIQ QII QII QQ QQ II")
CHECKED = 32  # the checksum covers the bytes from here on
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
