"""Checks a program against docs/format.md, before it is written and after it is read.

The engine's reader, `src/engine`, checks the same rules. tests/program/test_both_readers.py compares their verdicts on
damaged files.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import List

from ..errors import Error
from .check_steps import check_step
from .check_tensors import check_tensor
from .program import Port, Program
from .rules import LARGEST, LARGEST_ARENA, LARGEST_SIZE, MOST_OPERATIONS, Problem, require
from .steps import Store

__all__ = ["LARGEST_SIZE", "MOST_OPERATIONS", "check"]


def check(program: Program, where: str = "compiled network") -> None:
    """Check a whole program.

    Parameters
    ----------
    program : Program
    where : str
        Begins error messages, for example the file's path.

    Raises
    ------
    bmx.Error
        If the program is not valid. The message names the first wrong step or tensor, and the reason.
    """
    if not 0 <= program.arena <= LARGEST_ARENA or program.arena % 64:
        raise Error(f"{where}: the arena has {program.arena} bytes; it must be a multiple of 64 up to 2**34")
    if not program.outputs:
        raise Error(f"{where}: it has no outputs")
    for entry in (program, *program.inputs, *program.outputs, *program.tensors, *program.steps):
        _check_name(entry.name, where)
    _check_ports(program.inputs, f"{where}: input")
    _check_ports(program.outputs, f"{where}: output")
    for number, tensor in enumerate(program.tensors):
        check_tensor(tensor, program.arena, f"{where}: tensor {number} {tensor.name!r}")
    known = {id(tensor) for tensor in program.tensors}
    for number, step in enumerate(program.steps):
        try:
            require(all(id(tensor) in known for tensor in step.reads() + step.writes()), "a tensor is not in the table")
            check_step(step, program)
        except Problem as problem:
            raise Error(f"{where}: step {number} {type(step).__name__} {step.name!r}: {problem}") from None
    stored = Counter(step.output for step in program.steps if isinstance(step, Store))
    for number, port in enumerate(program.outputs):
        if stored[number] != 1:
            raise Error(
                f"{where}: output {port.name!r} is stored {stored[number]} times; exactly one step must store it"
            )


def _check_name(name: str, where: str) -> None:
    if "\0" in name:
        raise Error(f"{where}: the name {name!r} has a zero byte")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise Error(f"{where}: the name {name!r} cannot be written as UTF-8") from None


def _check_ports(ports: List[Port], where: str) -> None:
    names = Counter(port.name for port in ports)
    for port in ports:
        if len(port.shape) > 4 or not all(size >= 1 for size in port.shape):
            raise Error(f"{where} {port.name!r} has the shape {port.shape}; up to 4 positive sizes are allowed")
        if math.prod(port.shape) > LARGEST:
            raise Error(f"{where} {port.name!r} has the shape {port.shape}; at most 2**31 - 1 numbers are allowed")
        if names[port.name] > 1:
            raise Error(f"{where} {port.name!r}: two of them have this name")
