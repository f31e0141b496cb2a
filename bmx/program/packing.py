"""Converts weights and per-channel numbers between their logical form and their layout in a .bmx file.

Weights consist of groups, a group of blocks of filters, a block of runs, a run of elements. An element holds the
filters of the block side by side (docs/format.md). A run is a kernel row or a tap. The choice changes the layout of
bytes only, because their runs are rounded up to whole elements of 4 bytes.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

BLOCK = {"binary": 8, "float": 16, "int8": 16, "float_signs": 16, "int8_signs": 16}
"""Filters per block."""

CHANNELS = 32
"""Arrays with one number per channel are padded to a multiple of this."""

_ELEMENT = {"binary": "<u8", "float": "<f4", "int8": "<i4"}  # type of an element, per filter
_SIGNS = {"float_signs": 1, "int8_signs": 4}  # bits of an element, per filter


def padded(count: int, multiple: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


def _layout(arithmetic: str, shape: Tuple[int, ...], groups: int, run: bool) -> Tuple[int, int, int, int]:
    """Returns groups, blocks per group, elements per filter, filters per block."""
    filters, channels, kernel_h, kernel_w = shape
    taps, runs = (kernel_w, kernel_h) if run else (1, kernel_h * kernel_w)
    elements = taps * channels
    if arithmetic == "binary":
        elements = taps * -(-channels // 64)
    elif arithmetic.startswith("int8"):
        elements = -(-taps * channels // 4)
    block = BLOCK[arithmetic]
    return groups, -(-filters // groups // block), runs * elements, block


def weight_bytes(arithmetic: str, shape: Tuple[int, ...], groups: int, run: bool) -> int:
    """Size of the weights of a convolution in the file.

    Parameters
    ----------
    arithmetic : str
        One of `ARITHMETICS`.
    shape : (int, int, int, int)
        Shape of the logical weight: filters, C / groups, kernel height, kernel width.
    groups : int
    run : bool

    Examples
    --------
    >>> weight_bytes("binary", (64, 64, 3, 3), 1, True), weight_bytes("int8", (64, 3, 7, 7), 1, True)
    (4608, 10752)
    >>> weight_bytes("float_signs", (64, 64, 3, 3), 1, True), weight_bytes("int8_signs", (64, 64, 3, 3), 1, True)
    (4608, 4608)
    """
    bits = _SIGNS[arithmetic] if arithmetic in _SIGNS else 8 * np.dtype(_ELEMENT[arithmetic]).itemsize
    for count in _layout(arithmetic, shape, groups, run):
        bits *= count
    return bits // 8


def pack_weights(weight: np.ndarray, arithmetic: str, groups: int, run: bool) -> bytes:
    """Pack the logical weight of a convolution as in the file. Parameters as in `weight_bytes`."""
    if arithmetic in _SIGNS:
        return _pack_signs(weight, arithmetic, groups, run)
    filters, channels, kernel_h, kernel_w = weight.shape
    taps = weight.transpose(0, 2, 3, 1)  # filter, ky, kx, channel
    if arithmetic == "binary":
        bits = np.zeros((filters, kernel_h, kernel_w, padded(channels, 64)), bool)
        bits[..., :channels] = taps > 0
        rows = np.packbits(bits, axis=-1, bitorder="little").view("<u8").reshape(filters, -1)
    elif arithmetic == "float":
        rows = np.ascontiguousarray(taps, "<f4").reshape(filters, -1)
    else:
        rows = _whole_elements(taps, run).view("<i4").reshape(filters, -1)
    return _blocks(rows[..., None], _layout(arithmetic, weight.shape, groups, run)).tobytes()


def _pack_signs(weight: np.ndarray, arithmetic: str, groups: int, run: bool) -> bytes:
    positive = weight.transpose(0, 2, 3, 1) > 0
    if arithmetic == "int8_signs":
        positive = _whole_elements(positive, run)
    rows = positive.reshape(len(weight), -1, _SIGNS[arithmetic])
    return np.packbits(_blocks(rows, _layout(arithmetic, weight.shape, groups, run)), bitorder="little").tobytes()


def _unpack_signs(data: bytes, arithmetic: str, shape: Tuple[int, ...], groups: int, run: bool) -> np.ndarray:
    filters, channels, kernel_h, kernel_w = shape
    groups, blocks, elements, block = _layout(arithmetic, shape, groups, run)
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    grid = bits.reshape(groups, blocks, elements, block, -1).swapaxes(2, 3)
    rows = grid.reshape(groups, blocks * block, -1)[:, : filters // groups].reshape(filters, -1)
    length = kernel_w * channels if run else channels
    runs = rows.reshape(filters, -1, padded(length, _SIGNS[arithmetic]))[..., :length]
    taps = np.where(runs, np.int8(1), np.int8(-1)).reshape(filters, kernel_h, kernel_w, channels)
    return np.ascontiguousarray(taps.transpose(0, 3, 1, 2))


def _whole_elements(taps: np.ndarray, run: bool) -> np.ndarray:
    """Pad the runs of weights (filters, kernel height, kernel width, channels) with zeros to a multiple of 4."""
    runs = taps.reshape(*taps.shape[:2], -1) if run else taps
    whole = np.zeros(runs.shape[:-1] + (padded(runs.shape[-1], 4),), bool if taps.dtype == bool else np.int8)
    whole[..., : runs.shape[-1]] = runs
    return whole


def _blocks(rows: np.ndarray, layout: Tuple[int, int, int, int]) -> np.ndarray:
    """Reorder (filters, elements, parts of an element) to (groups, blocks, elements, filters of a block, parts)."""
    groups, blocks, elements, block = layout
    grid = np.zeros((groups, blocks * block, elements, rows.shape[-1]), rows.dtype)
    grid[:, : len(rows) // groups] = rows.reshape(groups, len(rows) // groups, elements, -1)
    return np.ascontiguousarray(grid.reshape(groups, blocks, block, elements, -1).swapaxes(2, 3))


def unpack_weights(data: bytes, arithmetic: str, shape: Tuple[int, ...], groups: int, run: bool) -> np.ndarray:
    """The logical weight of `shape`: the inverse of `pack_weights`."""
    if arithmetic in _SIGNS:
        return _unpack_signs(data, arithmetic, shape, groups, run)
    filters, channels, kernel_h, kernel_w = shape
    groups, blocks, elements, block = _layout(arithmetic, shape, groups, run)
    grid = np.frombuffer(data, _ELEMENT[arithmetic]).reshape(groups, blocks, elements, block).transpose(0, 1, 3, 2)
    rows = grid.reshape(groups, blocks * block, elements)[:, : filters // groups].reshape(filters, elements)
    rows = np.ascontiguousarray(rows)
    if arithmetic == "binary":
        words = rows.view(np.uint8).reshape(filters, kernel_h, kernel_w, -1)
        bits = np.unpackbits(words, axis=-1, bitorder="little", count=channels)
        taps = np.where(bits, np.int8(1), np.int8(-1))
    elif arithmetic == "float":
        taps = rows.astype(np.float32).reshape(filters, kernel_h, kernel_w, channels)
    else:
        length = kernel_w * channels if run else channels
        runs = rows.view(np.int8).reshape(filters, -1, padded(length, 4))[..., :length]
        taps = runs.reshape(filters, kernel_h, kernel_w, channels)
    return np.ascontiguousarray(taps.transpose(0, 3, 1, 2))


def start(weight: np.ndarray, zero_point: int, groups: int) -> bytes:
    """Start values of the accumulators of a convolution of bytes: minus zero point times the sum of the weights."""
    filters = weight.shape[0]
    sums = weight.reshape(filters, -1).sum(axis=1, dtype=np.int64) * -zero_point
    rows = np.zeros((groups, padded(filters // groups, CHANNELS)), "<i4")
    rows[:, : filters // groups] = sums.reshape(groups, -1)
    return rows.tobytes()


def start_bytes(filters: int, groups: int) -> int:
    """Size of `start` in the file."""
    return 4 * groups * padded(filters // groups, CHANNELS)


def pack_channels(values: np.ndarray, kind: str) -> bytes:
    """Pack one number per channel as in the file; `kind` is 'f32', 'i32', 'sign' (bool) or 'flip' (bool)."""
    if kind == "flip":
        return _flip_bytes(values, 512)
    numbers = np.where(values, 0x80000000, 0) if kind == "sign" else values
    out = np.zeros(padded(len(values), CHANNELS), {"f32": "<f4", "i32": "<i4", "sign": "<u4"}[kind])
    out[: len(values)] = numbers
    return out.tobytes()


def unpack_channels(data: bytes, kind: str, channels: int) -> np.ndarray:
    """The inverse of `pack_channels`."""
    if kind == "flip":
        return np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little", count=channels).astype(bool)
    numbers = np.frombuffer(data, {"f32": "<f4", "i32": "<i4", "sign": "<u4"}[kind])[:channels]
    return numbers != 0 if kind == "sign" else numbers.astype({"f32": np.float32, "i32": np.int32}[kind])


def channels_bytes(kind: str, channels: int) -> int:
    """Size in the file of an array with one number per channel."""
    return padded(channels, 512) // 8 if kind == "flip" else 4 * padded(channels, CHANNELS)


def _flip_bytes(values: np.ndarray, multiple: int) -> bytes:
    bits = np.zeros(padded(len(values), multiple), bool)
    bits[: len(values)] = values
    return np.packbits(bits, bitorder="little").tobytes()


def pack_words(values: np.ndarray) -> bytes:
    """Pack one bit per channel like the words of a pixel, for the flips of POOL_BITS."""
    return _flip_bytes(values, 64)


def pack_depthwise(weight: np.ndarray) -> bytes:
    """Pack the weights (channels, kernel height, kernel width) of a DEPTHWISE step as in the file."""
    channels, kernel_h, kernel_w = weight.shape
    out = np.zeros((kernel_h, kernel_w, padded(channels, CHANNELS)), "<f4")
    out[..., :channels] = weight.transpose(1, 2, 0)
    return out.tobytes()


def depthwise_bytes(shape: Tuple[int, int, int]) -> int:
    """Size of the weights (channels, kernel height, kernel width) of a DEPTHWISE step in the file."""
    channels, kernel_h, kernel_w = shape
    return 4 * kernel_h * kernel_w * padded(channels, CHANNELS)


def unpack_depthwise(data: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
    """The inverse of `pack_depthwise`."""
    channels, kernel_h, kernel_w = shape
    taps = np.frombuffer(data, "<f4").reshape(kernel_h, kernel_w, -1)[..., :channels]
    return np.ascontiguousarray(taps.transpose(2, 0, 1), np.float32)
