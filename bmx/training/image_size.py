"""Reads the size of an image from its header before decoding: a damaged header may state more than memory holds."""

from __future__ import annotations

from typing import Optional, Tuple

__all__ = ["MOST_PIXELS", "check_size", "image_size"]

MOST_PIXELS = 2**27  # OpenCV allows eight times as many, but every thread decodes an image


def check_size(data: bytes, side: int) -> None:
    """Check that an image can be decoded, and resized to a shorter side of `side` pixels, without filling the memory.

    Raises
    ------
    ValueError
        If it is too large or too narrow, or not a PNG, BMP or JPEG file: the size of others is not known.
    """
    size = image_size(data)
    if size is None:
        raise ValueError("it is no PNG, JPEG or BMP file, or its header is damaged")
    width, height = size
    if width * height > MOST_PIXELS:
        raise ValueError(f"it has {width}x{height} pixels; allowed: {MOST_PIXELS} in all")
    if side * side * max(size) > MOST_PIXELS * min(size):
        raise ValueError(f"it is too narrow, {width}x{height} pixels")


def image_size(data: bytes) -> Optional[Tuple[int, int]]:
    """Width and height of a PNG, BMP or JPEG file; None for other files or if the header lacks them."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data[:2] == b"BM" and len(data) >= 26:
        if int.from_bytes(data[14:18], "little") == 12:  # of OS/2
            return int.from_bytes(data[18:20], "little"), int.from_bytes(data[20:22], "little")
        width, height = (abs(int.from_bytes(data[at : at + 4], "little", signed=True)) for at in (18, 22))
        return width, height
    if data[:3] == b"\xff\xd8\xff":  # OpenCV wants three bytes
        return _jpeg_size(data)
    return None


def _jpeg_size(data: bytes) -> Optional[Tuple[int, int]]:
    """Width and height from the frame header. Segments of FF, kind, length, content precede it."""
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            at += 1  # like decoders, look for the next marker
            continue
        kind = data[at + 1]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        if kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD9:  # without a length
            at += 1
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
