"""The parts of a compiled network: tensors with their places in memory, and the steps that compute it.

The classes follow docs/format.md, which says what each step computes. Weights and per-channel numbers are NumPy arrays
in their logical form; `packing` has the layouts of the file. Steps and operations refer to tensors as objects. In the
file the number of a tensor is its place in `Program.tensors`. The operations and stores are in `operations`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Tuple

import numpy as np

from .operations import Operation, StoreKind, operands

DTYPES = ("f32", "bit", "u8")
"""The types of tensors. In a file the number of a type is its place here, from 0."""

ARITHMETICS = ("binary", "float", "int8", "float_signs", "int8_signs")
"""The arithmetics of convolutions. In a file the number of an arithmetic is its place here, from 0."""


@dataclass(eq=False)
class Tensor:
    """A tensor of one image, NHWC.

    Attributes
    ----------
    name : str
    dtype : {'f32', 'bit', 'u8'}
    height, width, channels : int
    border : (int, int, int, int)
        Rows above, columns left, rows below, columns right.
    border_value : int
        The value in the border: 0 (f32), a bit or a byte.
    offset : int
        Place of pixel (0, 0) in the arena, in bytes.
    row_stride, pixel_stride : int
        In bytes.
    scale, zero_point : float, int
        For u8: a byte b means ``scale * (b - zero_point)``.
    """

    name: str
    dtype: str
    height: int
    width: int
    channels: int
    border: Tuple[int, int, int, int] = (0, 0, 0, 0)
    border_value: int = 0
    offset: int = 0
    row_stride: int = 0
    pixel_stride: int = 0
    scale: float = 0.0
    zero_point: int = 0

    @property
    def shape(self) -> Tuple[int, int, int]:
        """Height, width, channels."""
        return self.height, self.width, self.channels

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the channels of a pixel."""
        return pixel_bytes(self.dtype, self.channels)

    @property
    def extent(self) -> Tuple[int, int]:
        """The first byte in the arena, border included, and the byte after the last."""
        above, left, below, right = self.border
        first = self.offset - above * self.row_stride - left * self.pixel_stride
        last_pixel = (self.height - 1 + below) * self.row_stride + (self.width - 1 + right) * self.pixel_stride
        return first, self.offset + last_pixel + self.pixel_bytes


def pixel_bytes(dtype: str, channels: int) -> int:
    """Bytes of the channels of a pixel.

    Examples
    --------
    >>> pixel_bytes("f32", 65), pixel_bytes("bit", 65), pixel_bytes("u8", 65)
    (260, 16, 65)
    """
    return {"f32": 4 * channels, "bit": -(-channels // 64) * 8, "u8": channels}[dtype]


@dataclass
class Window:
    """Output pixel (y, x) reads input pixels (y * stride - pad + ky * dilate, ...); each pair is (height, width)."""

    kernel: Tuple[int, int] = (1, 1)
    stride: Tuple[int, int] = (1, 1)
    dilate: Tuple[int, int] = (1, 1)
    pad: Tuple[int, int] = (0, 0)  # above, left


# --- steps ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Step:
    """The base of all steps."""

    name: str

    def reads(self) -> List[Tensor]:
        """The tensors that it reads; operands of the epilogue come last."""
        own = [self.source] if isinstance(getattr(self, "source", None), Tensor) else []
        return own + operands(getattr(self, "epilogue", ()))

    def writes(self) -> List[Tensor]:
        """The tensors that it writes."""
        if hasattr(self, "stores"):
            return [store.value for store in self.stores]
        return [self.tensor] if hasattr(self, "tensor") else []


@dataclass(eq=False)
class Load(Step):
    """Reads input number `input` of the program and applies an epilogue."""

    input: int
    epilogue: List[Operation] = field(default_factory=list)
    stores: List[StoreKind] = field(default_factory=list)


@dataclass(eq=False)
class Store(Step):
    """Writes a tensor (f32) to output number `output`."""

    source: Tensor
    output: int


@dataclass(eq=False)
class Fill(Step):
    """Writes the border of a tensor."""

    tensor: Tensor


@dataclass(eq=False)
class Conv(Step):
    """A convolution. The type of its source decides whether it is binary, float or int8.

    Attributes
    ----------
    weight : ndarray (filters, C / groups, kernel height, kernel width)
        float32 for f32; int8 for u8; int8 -1 and +1 for bit and for signs.
    run : bool
        Whether the taps of a kernel row are read as one run.
    all, step : float
        For binary convolutions: the result is ``all - step * p`` for p differing bits.
    signs : bool
        Whether the weights for floats (f32) or bytes (u8) are -1 and +1. In the file each takes one bit.
    """

    source: Tensor
    window: Window
    weight: np.ndarray
    groups: int = 1
    run: bool = False
    all: float = 0.0
    step: float = 0.0
    signs: bool = False
    epilogue: List[Operation] = field(default_factory=list)
    stores: List[StoreKind] = field(default_factory=list)

    @property
    def filters(self) -> int:
        """Number of output channels."""
        return self.weight.shape[0]

    @property
    def arithmetic(self) -> str:
        """Which of `ARITHMETICS` it is."""
        name = {"bit": "binary", "f32": "float", "u8": "int8"}[self.source.dtype]
        return f"{name}_signs" if self.signs else name


@dataclass(eq=False)
class Depthwise(Step):
    """A convolution with one filter per channel; weight is float32 (channels, kernel height, kernel width)."""

    source: Tensor
    window: Window
    weight: np.ndarray
    epilogue: List[Operation] = field(default_factory=list)
    stores: List[StoreKind] = field(default_factory=list)


@dataclass(eq=False)
class Pool(Step):
    """Pooling of floats; `mode` is 'max', 'avg' or 'avg_padded' (the divisor counts padding)."""

    MODES = ("max", "avg", "avg_padded")

    source: Tensor
    window: Window
    mode: str
    epilogue: List[Operation] = field(default_factory=list)
    stores: List[StoreKind] = field(default_factory=list)


@dataclass(eq=False)
class PoolBits(Step):
    """The OR of the bits of a window, xor flip (one bool per channel; None for no flips)."""

    source: Tensor
    tensor: Tensor
    window: Window
    flip: Optional[np.ndarray] = None


@dataclass(eq=False)
class Map(Step):
    """Applies an epilogue to a tensor (f32 or u8)."""

    source: Tensor
    epilogue: List[Operation] = field(default_factory=list)
    stores: List[StoreKind] = field(default_factory=list)


@dataclass(eq=False)
class Softmax(Step):
    """Softmax over the channels of each pixel."""

    source: Tensor
    tensor: Tensor


@dataclass(eq=False)
class Copy(Step):
    """``out[sum(i * stride out)] = in[sum(i * stride in)]``; loops are (size, stride in, stride out), in bytes."""

    source: Tensor
    tensor: Tensor
    loops: List[Tuple[int, int, int]]
