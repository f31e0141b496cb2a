"""Types of arguments that commands share, and the layout of their help."""

from __future__ import annotations

import argparse
import functools
import re
import textwrap
from typing import Any, Callable, Dict, Tuple, TypeVar, Union

__all__ = ["add_command", "add_data_shape", "address", "allowed", "numbers", "shape", "shapes", "sizes"]

_Value = TypeVar("_Value")


def add_command(
    commands: Any, name: str, help: str, examples: str, description: str, **keywords: Any
) -> argparse.ArgumentParser:
    """Add a parser for the command `name`. Its help ends with `examples`, one per line."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    return commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(description, 90),
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **keywords,
    )


def allowed(what: str) -> Callable[[Callable[[str], _Value]], Callable[[str], _Value]]:
    """Decorate the type function of an argument: its ValueError becomes a message that says what is allowed."""

    def decorate(convert: Callable[[str], _Value]) -> Callable[[str], _Value]:
        @functools.wraps(convert)
        def converted(text: str) -> _Value:
            try:
                return convert(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"invalid value {text!r}; allowed: {what}") from None

        return converted

    return decorate


def add_data_shape(parser: Any, help: str, several: bool = False) -> None:
    """Add the option --data-shape. With `several`, it also takes the shapes of several inputs by name."""
    metavar = "[NAME=]C,H,W[,...]" if several else "C,H,W"
    kind = shapes if several else shape
    parser.add_argument("--data-shape", type=kind, metavar=metavar, help=help)
    # The former name of the option in some commands.
    parser.add_argument("--shape", type=kind, dest="data_shape", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _sizes(text: str) -> Tuple[int, ...]:
    found = tuple(int(size) for size in text.split(","))
    if min(found) < 1:
        raise ValueError
    return found


def _shape(text: str) -> Tuple[int, ...]:
    return _sizes(text.replace("x", ","))


@allowed("sizes of 1 or more, such as 3,224,224")
def shape(text: str) -> Tuple[int, ...]:
    """Positive sizes such as 3,224,224 or 3x224x224."""
    return _shape(text)


@allowed("sizes of 1 or more, such as 3,224,224, or of several inputs by name, such as a=3,32,32,b=10")
def shapes(text: str) -> Union[Tuple[int, ...], Dict[str, Tuple[int, ...]]]:
    """A shape, or shapes of several inputs by name, such as a=3,32,32,b=10."""
    if "=" not in text:
        return _shape(text)
    pairs = [part.split("=") for part in re.split(",(?=[^,=]+=)", text)]
    found = {name: _shape(numbers) for name, numbers in pairs}
    if len(found) < len(pairs) or "" in found:
        raise ValueError
    return found


@allowed("integers of 1 or more, such as 1 or 1,2")
def sizes(text: str) -> Tuple[int, ...]:
    """One or more positive integers, separated by commas."""
    return _sizes(text)


@allowed("numbers, such as .5 or .485,.456,.406")
def numbers(text: str) -> Tuple[float, ...]:
    """One or more numbers, separated by commas."""
    return tuple(float(number) for number in text.split(","))


@allowed("HOST:PORT, such as node7:9000")
def address(text: str) -> Tuple[str, int]:
    """A host name and a port number."""
    host, _, port = text.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError
    return host, int(port)
