"""Checks a tensor and its place in the arena against docs/format.md."""

from __future__ import annotations

import math

from ..errors import Error
from .rules import ALLOWED, LARGEST_SIZE, Problem, require, stored_float
from .steps import DTYPES, Tensor, pixel_bytes

_ALIGNMENT = {"f32": 4, "bit": 8, "u8": 1}
_LARGEST_IN_BORDER = {"f32": 0, "bit": 1, "u8": 255}


def check_tensor(tensor: Tensor, arena: int, where: str) -> None:
    """Check that a tensor is valid and lies in the arena. Raises bmx.Error; its message begins with `where`."""
    try:
        _check_values(tensor)
        _check_place(tensor, arena)
    except Problem as problem:
        raise Error(f"{where}: {problem}") from None


def _check_values(tensor: Tensor) -> None:
    require(tensor.dtype in DTYPES, f"unknown type {tensor.dtype!r}")
    shape, border = tensor.shape, tensor.border
    require(all(1 <= size <= LARGEST_SIZE for size in shape), f"its size is {shape}; {ALLOWED}")
    require(all(0 <= size <= LARGEST_SIZE for size in border), f"its border is {border}; {ALLOWED}")
    largest = _LARGEST_IN_BORDER[tensor.dtype]
    require(
        0 <= tensor.border_value <= largest, f"its border holds {tensor.border_value}; at most {largest} is allowed"
    )
    scale, zero_point = stored_float(tensor.scale, "its scale"), tensor.zero_point
    if tensor.dtype == "u8":
        require(0 < scale < math.inf, f"its scale is {scale}; it must be positive and finite")
        require(0 <= zero_point <= 255, f"its zero point is {zero_point}; it must be 0 to 255")
    else:
        require(scale == 0, f"its scale is {scale}; only u8 has one")
        require(zero_point == 0, f"its zero point is {zero_point}; only u8 has one")


def _check_place(tensor: Tensor, arena: int) -> None:
    """Pixels must not overlap each other or the border. Two neighbouring rows may share border columns."""
    row, pixel = tensor.row_stride, tensor.pixel_stride
    places = (tensor.offset, row, pixel)
    alignment = _ALIGNMENT[tensor.dtype]
    require(
        all(place % alignment == 0 for place in places), f"offset and strides {places} are not multiples of {alignment}"
    )
    require(all(0 <= place <= arena for place in places), f"offset and strides {places} in an arena of {arena} bytes")
    first, end = tensor.extent
    require(first >= 0 and end <= arena, f"it lies from {first} to {end} in an arena of {arena} bytes")
    size = pixel_bytes(tensor.dtype, tensor.channels)
    require(pixel >= size, f"pixels of {size} bytes are {pixel} bytes apart")
    above, left, below, right = tensor.border
    rows = above + tensor.height + below
    beside = max(left, right) if rows > 1 else 0
    apart = max(tensor.width * pixel, (tensor.width + beside - 1) * pixel + size)
    require(row >= apart, f"rows are {row} bytes apart; they must be at least {apart}")
    # Both rows fill the shared bytes. They write the same bytes only if their pixels coincide.
    shared = left + right > 0 and row < (left + tensor.width + right) * pixel
    require(rows == 1 or not shared or row % pixel == 0, f"borders of rows overlap, {row} bytes apart")
