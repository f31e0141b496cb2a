"""The layouts of weights and of numbers of channels in a .bmx file, to and from their logical form.

Weights: for each group blocks of filters; in a block the runs, in a run the elements, in an element the filters of the
block side by side (docs/format.md). A run is a kernel row or a tap; only int8 ones, which are rounded up to whole
elements of 4 bytes, differ by which.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

BLOCK = {"bit": 8, "f32": 16, "u8": 16}
"""Filters of a block, by the type of the convolution's input."""

CHANNELS = 32
"""Arrays of one number a channel are padded to a multiple of this."""

_ELEMENT = {"bit": "<u8", "f32": "<f4", "u8": "<i4"}  # of a filter


def padded(count: int, multiple: int) -> int:
    """`count` rounded up to a multiple."""
    return -(-count // multiple) * multiple


def _layout(dtype: str, shape: Tuple[int, ...], groups: int, run: bool) -> Tuple[int, int, int, int]:
    """Groups, blocks a group, elements of all runs of a filter, filters of a block."""
    filters, channels, kernel_h, kernel_w = shape
    taps, runs = (kernel_w, kernel_h) if run else (1, kernel_h * kernel_w)
    elements = {"bit": taps * -(-channels // 64), "f32": taps * channels, "u8": -(-taps * channels // 4)}[dtype]
    return groups, -(-filters // groups // BLOCK[dtype]), runs * elements, BLOCK[dtype]


def weight_bytes(dtype: str, shape: Tuple[int, ...], groups: int, run: bool) -> int:
    """Size of the weights of a convolution in the file.

    Parameters
    ----------
    dtype : {'bit', 'f32', 'u8'}
        Of the convolution's input.
    shape : (int, int, int, int)
        Of the logical weight: filters, C / groups, kernel height, kernel width.
    groups : int
    run : bool

    Examples
    --------
    >>> weight_bytes("bit", (64, 64, 3, 3), 1, True), weight_bytes("u8", (64, 3, 7, 7), 1, True)
    (4608, 10752)
    """
    size = np.dtype(_ELEMENT[dtype]).itemsize
    for count in _layout(dtype, shape, groups, run):
        size *= count
    return size


def pack_weights(weight: np.ndarray, dtype: str, groups: int, run: bool) -> bytes:
    """The weights of a convolution as the file has them; parameters as `weight_bytes`, with the logical weight."""
    filters, channels, kernel_h, kernel_w = weight.shape
    taps = weight.transpose(0, 2, 3, 1)  # filter, ky, kx, channel
    if dtype == "bit":
        bits = np.zeros((filters, kernel_h, kernel_w, padded(channels, 64)), bool)
        bits[..., :channels] = taps > 0
        rows = np.packbits(bits, axis=-1, bitorder="little").view("<u8").reshape(filters, -1)
    elif dtype == "f32":
        rows = np.ascontiguousarray(taps, "<f4").reshape(filters, -1)
    else:
        runs = taps.reshape(filters, kernel_h, kernel_w * channels) if run else taps
        whole = np.zeros(runs.shape[:-1] + (padded(runs.shape[-1], 4),), np.int8)
        whole[..., : runs.shape[-1]] = runs
        rows = whole.view("<i4").reshape(filters, -1)
    groups, blocks, elements, block = _layout(dtype, weight.shape, groups, run)
    grid = np.zeros((groups, blocks * block, elements), rows.dtype)
    grid[:, : filters // groups] = rows.reshape(groups, filters // groups, elements)
    return grid.reshape(groups, blocks, block, elements).transpose(0, 1, 3, 2).tobytes()


def unpack_weights(data: bytes, dtype: str, shape: Tuple[int, ...], groups: int, run: bool) -> np.ndarray:
    """The logical weight of `shape`: the inverse of `pack_weights`."""
    filters, channels, kernel_h, kernel_w = shape
    groups, blocks, elements, block = _layout(dtype, shape, groups, run)
    grid = np.frombuffer(data, _ELEMENT[dtype]).reshape(groups, blocks, elements, block).transpose(0, 1, 3, 2)
    rows = grid.reshape(groups, blocks * block, elements)[:, : filters // groups].reshape(filters, elements)
    rows = np.ascontiguousarray(rows)
    if dtype == "bit":
        words = rows.view(np.uint8).reshape(filters, kernel_h, kernel_w, -1)
        bits = np.unpackbits(words, axis=-1, bitorder="little", count=channels)
        taps = np.where(bits, np.int8(1), np.int8(-1))
    elif dtype == "f32":
        taps = rows.astype(np.float32).reshape(filters, kernel_h, kernel_w, channels)
    else:
        length = kernel_w * channels if run else channels
        runs = rows.view(np.int8).reshape(filters, -1, padded(length, 4))[..., :length]
        taps = runs.reshape(filters, kernel_h, kernel_w, channels)
    return np.ascontiguousarray(taps.transpose(0, 3, 1, 2))


def start(weight: np.ndarray, zero_point: int, groups: int) -> bytes:
    """What the accumulators of an int8 convolution start from: minus zero point times the sum of the weights."""
    filters = weight.shape[0]
    sums = weight.reshape(filters, -1).sum(axis=1, dtype=np.int64) * -zero_point
    rows = np.zeros((groups, padded(filters // groups, CHANNELS)), "<i4")
    rows[:, : filters // groups] = sums.reshape(groups, -1)
    return rows.tobytes()


def pack_channels(values: np.ndarray, kind: str) -> bytes:
    """One number a channel as the file has them; `kind` is 'f32', 'i32', 'sign' (bool) or 'flip' (bool)."""
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
    """Size of one number a channel in the file."""
    return padded(channels, 512) // 8 if kind == "flip" else 4 * padded(channels, CHANNELS)


def _flip_bytes(values: np.ndarray, multiple: int) -> bytes:
    bits = np.zeros(padded(len(values), multiple), bool)
    bits[: len(values)] = values
    return np.packbits(bits, bitorder="little").tobytes()


def pack_words(values: np.ndarray) -> bytes:
    """Bits of channels as the words of a pixel: the flips of POOL_BITS."""
    return _flip_bytes(values, 64)


def pack_depthwise(weight: np.ndarray) -> bytes:
    """Weights (channels, kernel height, kernel width) of a DEPTHWISE step as the file has them."""
    channels, kernel_h, kernel_w = weight.shape
    out = np.zeros((kernel_h, kernel_w, padded(channels, CHANNELS)), "<f4")
    out[..., :channels] = weight.transpose(1, 2, 0)
    return out.tobytes()


def unpack_depthwise(data: bytes, shape: Tuple[int, int, int]) -> np.ndarray:
    """The inverse of `pack_depthwise`."""
    channels, kernel_h, kernel_w = shape
    taps = np.frombuffer(data, "<f4").reshape(kernel_h, kernel_w, -1)[..., :channels]
    return np.ascontiguousarray(taps.transpose(2, 0, 1), np.float32)
