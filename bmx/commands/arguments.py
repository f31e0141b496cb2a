"""Kinds of arguments that commands share, and the look of their help."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any, Dict, Tuple, Union

__all__ = ["add_command", "address", "numbers", "shape", "shapes", "sizes"]


def add_command(
    commands: Any, name: str, help: str, examples: str, description: str, **keywords: Any
) -> argparse.ArgumentParser:
    """Add a parser for the command `name`, whose help ends with `examples`, a line each."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    return commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, 90),
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **keywords,
    )


def shape(text: str) -> Tuple[int, ...]:
    """Positive sizes such as 3,224,224 or 3x224x224."""
    return sizes(text.replace("x", ","))


def shapes(text: str) -> Union[Tuple[int, ...], Dict[str, Tuple[int, ...]]]:
    """A shape, or those of several inputs by name, such as a=3,32,32,b=10."""
    if "=" not in text:
        return shape(text)
    pairs = [part.split("=") for part in re.split(",(?=[^,=]+=)", text)]
    found = {name: shape(numbers) for name, numbers in pairs}
    if len(found) < len(pairs) or "" in found:
        raise ValueError
    return found


shapes.__name__ = "shape"  # argparse: "invalid shape value"


def sizes(text: str) -> Tuple[int, ...]:
    """One or more positive integers with commas between them."""
    found = tuple(int(size) for size in text.split(","))
    if min(found) < 1:
        raise ValueError
    return found


def numbers(text: str) -> Tuple[float, ...]:
    """One or more numbers with commas between them."""
    return tuple(float(number) for number in text.split(","))


def address(text: str) -> Tuple[str, int]:
    """A host's name and a port's number."""
    host, _, port = text.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError
    return host, int(port)


address.__name__ = "HOST:PORT"  # argparse: "invalid HOST:PORT value"
