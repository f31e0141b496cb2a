"""Decodes pictures to arrays with MXNet's decoder, after checks without which it might return nonsense.

MXNet makes an array of the size that a PNG or JPEG file states, and lets OpenCV decode into it. If OpenCV refuses the
header of the file, the array keeps its old content without an error. So everything before the pixels of a PNG file is
checked here. JPEG files get an extra comment: with it MXNet does not read their size, but takes the array that OpenCV
makes, or fails.
"""

from __future__ import annotations

import struct
import zlib
from typing import List

import mxnet as mx

from .image_size import check_size, image_size

__all__ = ["decode"]

_JPEG, _COMMENT = b"\xff\xd8", b"\xff\xfe\0\2"
_PNG = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # allowed depths by colour type
_PALETTE = 3
_MOST_OF_A_CHUNK = 8_000_000  # libpng's limit for chunks other than pixels
_MOST_PIXELS_A_SIDE = 1_000_000  # libpng's limit


def decode(data: bytes, side: int) -> mx.nd.NDArray:
    """Decode a picture to an array of uint8 (height, width, 3): red, green, blue.

    Parameters
    ----------
    data : bytes
        A PNG, JPEG or BMP file.
    side : int
        The shorter side that it will be resized to.

    Raises
    ------
    ValueError
        If it is of another format, damaged, or so large or narrow that it would fill the memory.
    """
    check_size(data, side)
    if data.startswith(_PNG):
        _check_png(data)
    elif data.startswith(_JPEG):
        data = _JPEG + _COMMENT + data[len(_JPEG) :]
    else:
        _check_bmp(data, *image_size(data))
    try:
        image = mx.image.imdecode(data)
        image.wait_to_read()
    except mx.MXNetError:
        raise ValueError("it is damaged, or of a kind that MXNet does not know") from None
    if 0 in image.shape:
        raise ValueError("it has no pixels")
    return image


def _check_png(data: bytes) -> None:
    """Check the chunks of a PNG file: their lengths, checksums and order, and the content of the first."""
    kinds: List[bytes] = []
    place = len(_PNG)
    while not kinds or kinds[-1] != b"IEND":
        length, kind = struct.unpack(">I4s", data[place : place + 8].ljust(8, b"\xff"))
        content, checksum = data[place + 8 : place + 8 + length], data[place + 8 + length : place + 12 + length]
        if checksum != struct.pack(">I", zlib.crc32(kind + content)):
            raise ValueError(f"it is damaged from byte {place} on")
        _check_chunk(kind, content, kinds, data)
        kinds.append(kind)
        place += 12 + length
    if b"IDAT" not in kinds:
        raise ValueError("it is a PNG file without pixels")


def _check_chunk(kind: bytes, content: bytes, before: List[bytes], data: bytes) -> None:
    """Check a chunk as libpng does; `before` lists the kinds of the earlier chunks."""
    colours = data[25]
    if not before:
        sizes, depth, rest = struct.unpack(">2I", content[:8].ljust(8, b"\0")), content[8:9], content[10:13]
        sound = kind == b"IHDR" and len(content) == 13 and all(0 < size <= _MOST_PIXELS_A_SIDE for size in sizes)
        sound = sound and depth[0] in _DEPTHS.get(colours, ()) and rest in (b"\0\0\0", b"\0\0\1")
    elif kind == b"PLTE":
        sound = before.count(kind) == 0 and b"IDAT" not in before and colours in (2, _PALETTE, 6)
        sound = sound and 0 < len(content) <= 768 and len(content) % 3 == 0
    elif kind == b"IDAT":
        sound = (colours != _PALETTE or b"PLTE" in before) and (b"IDAT" not in before or before[-1] == b"IDAT")
    elif kind == b"IEND":
        sound = len(content) == 0
    else:  # the small first letter means that readers may ignore the chunk
        sound = kind.isalpha() and kind[:1].islower() and len(content) <= _MOST_OF_A_CHUNK
    if not sound:
        raise ValueError(f"its chunk {len(before)} is none of a PNG file at this place")


def _check_bmp(data: bytes, width: int, height: int) -> None:
    """Check that a BMP file has all its pixels; otherwise OpenCV would print a message."""
    place, size = struct.unpack("<I", data[10:14])[0], struct.unpack("<I", data[14:18])[0]
    bits_at = 24 if size == 12 else 28
    bits = int.from_bytes(data[bits_at : bits_at + 2], "little")
    compression = 0 if size == 12 else int.from_bytes(data[30:34], "little")
    if compression not in (0, 3):
        raise ValueError("it is a BMP file with compression; save it as PNG")
    if place < 14 + size or len(data) < place + (width * bits + 31) // 32 * 4 * height:
        raise ValueError("it is a BMP file without all of its pixels")
