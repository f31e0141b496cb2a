"""Compiled networks as Python objects, and their .bmx files. Needs NumPy only."""

from . import operations
from .check_program import LARGEST_SIZE, MOST_OPERATIONS, check
from .description import Row, arithmetic, describe, table
from .file import decode, encode, write
from .operations import *  # noqa: F403 - so that a new operation is named in one file only
from .program import Port, Program, image_shape
from .steps import (
    ARITHMETICS,
    DTYPES,
    Conv,
    Copy,
    Depthwise,
    Fill,
    Load,
    Map,
    Pool,
    PoolBits,
    Softmax,
    Step,
    Store,
    Tensor,
    Window,
    pixel_bytes,
)

__all__ = [
    "ARITHMETICS",
    "Conv",
    "Copy",
    "DTYPES",
    "Depthwise",
    "Fill",
    "LARGEST_SIZE",
    "Load",
    "MOST_OPERATIONS",
    "Map",
    "Pool",
    "PoolBits",
    "Port",
    "Program",
    "Row",
    "Softmax",
    "Step",
    "Store",
    "Tensor",
    "Window",
    "arithmetic",
    "check",
    "decode",
    "describe",
    "encode",
    "image_shape",
    "pixel_bytes",
    "table",
    "write",
    *operations.__all__,
]
