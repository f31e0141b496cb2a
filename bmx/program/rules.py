"""Limits of docs/format.md, and how a check reports a broken rule."""

from __future__ import annotations

import struct

LARGEST = 2**31 - 1
LARGEST_SIZE = 2**24  # largest size of tensors, windows, borders and loops
LARGEST_ARENA = 2**34
MOST_OPERATIONS = 64  # per epilogue
ALLOWED = f"at most {LARGEST_SIZE} is allowed"


class Problem(Exception):
    """A fault of a step or tensor. The caller that knows its name turns this into a bmx.Error."""


def require(condition: bool, text: str) -> None:
    """Raise Problem unless the condition holds."""
    if not condition:
        raise Problem(text)


def stored_float(value: float, what: str) -> float:
    """The number as float32, as in the file. Raises Problem if it is too large."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise Problem(f"{what} is {value}, too large for a float of 32 bits") from None
