"""The packed 1-bit weights of files: BMXNet v1's interchange layout, packed and unpacked here and nowhere else.

A packed weight is an array of W-bit words, W = 32 or 64, stored as float32 or float64 *bit patterns* (MXNet 1.9 has no
unsigned array types). Many of the patterns are NaNs, so a word must only ever be copied as bits: this module works on
uint32 and uint64 views, and nothing here does arithmetic on the float type.

The format, from the bytes up
-----------------------------
Bit:   1 where the latent weight is +1, that is ``not (w < 0)``: +0.0, -0.0 and NaN give 1.
Word:  bit b of a word is worth 2**b (least significant bit first); in a file a word is little-endian.
Row:   the K latent weights of one output in row-major order, K = inputs per output. For a convolution weight
       ``(O, C, *kernel)``, C = channels / num_group, a row is one filter and K = C * prod(kernel); for a fully
       connected weight ``(H, D)`` a row is one hidden unit and K = D. Bit b of word i of a row is weight i * W + b.
       A row has n = ceil(K / W) words; the W * n - K bits after the last weight are 0.

Convolution, C a multiple of W (BMXNet v1)
    Rows one after the other, which is the flat row-major bit sequence of ``(O, C, *kernel)``: no bit is unused.
    Declared shape ``(O, C / W, *kernel)``; files of 2017 declare ``(O * n,)``. The bytes for W = 32 and 64 are the
    same.
Convolution, any other C (extension; BMXNet v1 refuses such layers)
    Rows one after the other, so every filter starts at a new word. Declared shape ``(O, n)``. As n does not tell K, the
    weight's variable carries the attribute ``__inputs_per_output__`` = K in the symbol file.
Fully connected (BMXNet v1 where D is a multiple of W, otherwise extension)
    Rows interleaved: word i of unit h is at position i * H + h, the memory order of ``(n, H)``. Declared shape
    ``(H, n)`` all the same; files of 2017 declare ``(H * n,)``. The bytes for W = 32 and 64 differ.
    ``__inputs_per_output__`` as above where D is not a multiple of W.

The number of dimensions of the latent weight tells the two kinds apart: 2 is fully connected, 3 to 5 a convolution.
"""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import numpy as np

from ..errors import Error

__all__ = ["INPUTS_ATTRIBUTE", "change_word_bits", "latent_shape", "pack", "packed_shape", "unpack", "word_bits_of"]

INPUTS_ATTRIBUTE = "__inputs_per_output__"

_UINT = {32: np.uint32, 64: np.uint64}
_FLOAT = {32: np.float32, 64: np.float64}
_INT = {32: np.int32, 64: np.int64}  # of BMXNet v2's scripts
_WORD_BITS = {np.dtype(kind): bits for types in (_UINT, _FLOAT, _INT) for bits, kind in types.items()}


def word_bits_of(words: np.ndarray) -> int:
    """Width of the words of a packed array: 32 for float32, uint32 or int32, 64 for float64, uint64 or int64.

    Raises
    ------
    bmx.Error
        For any other dtype.
    """
    if words.dtype not in _WORD_BITS:
        raise Error(f"packed weights are float or integer arrays of 32- or 64-bit words, not {words.dtype}")
    return _WORD_BITS[words.dtype]


def packed_shape(weight_shape: Sequence[int], word_bits: int) -> Tuple[int, ...]:
    """Declared shape of a packed weight.

    Parameters
    ----------
    weight_shape : sequence of int
        Shape of the latent weight: ``(O, C / num_group, *kernel)`` or ``(H, D)``.
    word_bits : {32, 64}

    Examples
    --------
    >>> packed_shape((64, 128, 3, 3), 32), packed_shape((64, 3, 3, 3), 32), packed_shape((1000, 1024), 64)
    ((64, 4, 3, 3), (64, 1), (1000, 16))
    """
    shape = _checked_shape(weight_shape, word_bits)
    if len(shape) > 2 and shape[1] % word_bits == 0:
        return (shape[0], shape[1] // word_bits) + shape[2:]
    return shape[0], _words_per_row(shape, word_bits)


def pack(weight: np.ndarray, word_bits: int) -> np.ndarray:
    """Pack a latent weight into words, one bit a weight.

    Parameters
    ----------
    weight : ndarray of a float type
        ``(O, C / num_group, *kernel)`` for a convolution, ``(H, D)`` for a fully connected layer; no size is 0.
    word_bits : {32, 64}

    Returns
    -------
    ndarray of float32 (32) or float64 (64) bit patterns, of shape ``packed_shape(weight.shape, word_bits)``

    Examples
    --------
    >>> words = pack(np.array([[1.0, -1.0, 0.0, -0.5, 2.0]], np.float32), 32)
    >>> words.shape, bin(words.view(np.uint32)[0, 0])
    ((1, 1), '0b10101')
    """
    shape = _checked_shape(weight.shape, word_bits)
    with np.errstate(invalid="ignore"):  # comparing a signalling NaN
        bits = ~(weight.reshape(shape[0], -1) < 0)
    padded = np.zeros((shape[0], _words_per_row(shape, word_bits) * word_bits), bool)
    padded[:, : bits.shape[1]] = bits
    return _from_rows(np.packbits(padded, axis=1, bitorder="little"), shape, word_bits)


def unpack(words: np.ndarray, weight_shape: Sequence[int]) -> np.ndarray:
    """The binary weights that packed words stand for: the inverse of `pack` up to the sign function.

    Parameters
    ----------
    words : ndarray of float32, uint32, int32 (32-bit words), float64, uint64 or int64 (64-bit words)
        Of any shape with the right number of elements.
    weight_shape : sequence of int
        Shape of the latent weight.

    Returns
    -------
    ndarray of float32, -1 and +1, of shape `weight_shape`

    Raises
    ------
    bmx.Error
        If the number of words is not that of `weight_shape`, or a bit after the last weight of a row is set.

    Examples
    --------
    >>> unpack(np.array([0b10101], np.uint32), (1, 5))
    array([[ 1., -1.,  1., -1.,  1.]], dtype=float32)
    """
    rows = _to_rows(words, weight_shape)
    count = math.prod(weight_shape[1:])
    bits = np.unpackbits(rows, axis=1, bitorder="little", count=count)
    return np.where(bits, np.float32(1), np.float32(-1)).reshape(weight_shape)


def change_word_bits(words: np.ndarray, weight_shape: Sequence[int], word_bits: int) -> np.ndarray:
    """Lay packed words out for another word width: the same bits as ``pack(unpack(words, shape), word_bits)``.

    Parameters, errors: as `unpack`. Returns as `pack`.
    """
    shape = _checked_shape(weight_shape, word_bits)
    old = _to_rows(words, shape)
    new = np.zeros((shape[0], _words_per_row(shape, word_bits) * word_bits // 8), np.uint8)
    used = min(old.shape[1], new.shape[1])
    new[:, :used] = old[:, :used]
    return _from_rows(new, shape, word_bits)


def latent_shape(
    words_shape: Sequence[int], word_bits: int, units: int, kernel: Sequence[int] = (), inputs: Optional[int] = None
) -> Tuple[int, ...]:
    """Shape of the latent weight that a packed array of a file stands for.

    Parameters
    ----------
    words_shape : sequence of int
        Shape of the packed array: as declared above, or 1-D.
    word_bits : {32, 64}
    units : int
        num_filter of a convolution, num_hidden of a fully connected layer.
    kernel : sequence of int
        Kernel of a convolution; empty for a fully connected layer.
    inputs : int, optional
        K, the inputs per output, where the file tells it. By default BMXNet v1's rule holds: the channels of a
        convolution and the inputs of a fully connected layer are a multiple of `word_bits`.

    Raises
    ------
    bmx.Error
        If no weight of such a layer has this packed shape, or K is needed and not known.
    """
    words_shape, kernel = tuple(words_shape), tuple(kernel)
    size, window = math.prod(words_shape), math.prod(kernel)
    if inputs is not None:
        if inputs < 1 or inputs % window:
            raise Error(f"{INPUTS_ATTRIBUTE} is {inputs}; it must be a positive multiple of the kernel's size {window}")
        shape = (units, inputs // window) + kernel
    elif kernel and len(words_shape) == 2:
        raise Error(
            f"packed weight {words_shape} has filters that end inside a word, and the symbol file does not tell the "
            f"inputs per output: its variable needs the attribute {INPUTS_ATTRIBUTE}"
        )
    else:
        shape = (units, size // max(units * window, 1) * word_bits) + kernel
    if min(shape) >= 1:
        declared = packed_shape(shape, word_bits)
        if words_shape in (declared, (math.prod(declared),)):
            return shape
    layer = f"num_filter={units}, kernel={kernel}" if kernel else f"num_hidden={units}"
    raise Error(f"packed weight has the shape {words_shape} of {word_bits}-bit words, which does not fit {layer}")


def _checked_shape(weight_shape: Sequence[int], word_bits: int) -> Tuple[int, ...]:
    shape = tuple(int(size) for size in weight_shape)
    if word_bits not in _UINT:
        raise Error(f"word width is {word_bits!r}; it must be 32 or 64 bits")
    if not 2 <= len(shape) <= 5 or min(shape) < 1:
        raise Error(f"weight has the shape {shape}; it must have 2 (fully connected) to 5 dimensions, each at least 1")
    return shape


def _words_per_row(shape: Sequence[int], word_bits: int) -> int:
    return -(-math.prod(shape[1:]) // word_bits)


def _from_rows(rows: np.ndarray, shape: Tuple[int, ...], word_bits: int) -> np.ndarray:
    """Bytes of whole words, (units, bytes per row) -> words in file order, in the declared shape, as floats."""
    words = rows.view(np.dtype(_UINT[word_bits]).newbyteorder("<")).astype(_UINT[word_bits], copy=False)
    if len(shape) == 2:
        words = np.ascontiguousarray(words.T)
    return words.reshape(packed_shape(shape, word_bits)).view(_FLOAT[word_bits])


def _to_rows(words: np.ndarray, weight_shape: Sequence[int]) -> np.ndarray:
    """Words in file order -> bytes of whole words, (units, bytes per row), the unused bits checked to be 0."""
    word_bits = word_bits_of(words)
    shape = _checked_shape(weight_shape, word_bits)
    per_row, count = _words_per_row(shape, word_bits), math.prod(shape[1:])
    if words.size != shape[0] * per_row:
        raise Error(
            f"packed weight has {words.size} words of {word_bits} bits, "
            f"but a weight of shape {shape} has {shape[0] * per_row}"
        )
    words = words.view(_UINT[word_bits])
    words = words.reshape(per_row, shape[0]).T if len(shape) == 2 else words.reshape(shape[0], per_row)
    unused = per_row * word_bits - count
    if unused and np.any(words[:, -1] >> _UINT[word_bits](word_bits - unused)):
        raise Error(f"packed weight has bits set after an output's {count} weights: damaged, or not of shape {shape}")
    little_endian = np.ascontiguousarray(words, np.dtype(_UINT[word_bits]).newbyteorder("<"))
    return little_endian.view(np.uint8)
