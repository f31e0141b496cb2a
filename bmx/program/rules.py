"""What the checks of docs/format.md share: its limits, and how one of them says that a rule is broken."""

from __future__ import annotations

import struct

LARGEST = 2**31 - 1
LARGEST_SIZE = 2**24  # of tensors, windows, borders and loops
LARGEST_ARENA = 2**34
MOST_OPERATIONS = 64  # of an epilogue
ALLOWED = f"at most {LARGEST_SIZE} is allowed"


class Problem(Exception):
    """What is wrong with a step or tensor; whoever knows with which makes a bmx.Error of it."""


def require(condition: bool, text: str) -> None:
    """Raise Problem unless the condition holds."""
    if not condition:
        raise Problem(text)


def stored_float(value: float, what: str) -> float:
    """The float32 that the file has for a number; one that is too large for it is a Problem."""
    try:
        return struct.unpack("<f", struct.pack("<f", value))[0]
    except OverflowError:
        raise Problem(f"{what} is {value}, too large for a float of 32 bits") from None
