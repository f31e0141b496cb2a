"""Writes and reads .bmx files exactly as docs/format.md defines them.

Encoding is deterministic: equal arrays and names are stored once, in the order of their first use. Decoding requires
zeros wherever the format pads beyond the last channel, filter or element.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Union

from ..errors import Error
from ..journal import finish
from ..writing import content, write_atomically
from .check_program import check
from .decoder import parse
from .encoder import assemble
from .program import Program

__all__ = ["decode", "encode", "write"]


def encode(program: Program) -> bytes:
    """The bytes of a program's .bmx file.

    Raises
    ------
    bmx.Error
        If the format does not allow the program. The message names the step or tensor.
    """
    check(program)
    return assemble(program)


def write(program: Program, path: Union[str, os.PathLike]) -> int:
    """Write a program's file, whole or not at all: a temporary file in the same folder is renamed to it.

    Returns
    -------
    int
        Size of the file in bytes.

    Raises
    ------
    bmx.Error
        If the program is not valid or the file cannot be written.
    """
    data = encode(program)
    write_atomically(os.fspath(path), content(data))
    return len(data)


def decode(source: Union[bytes, bytearray, memoryview, str, os.PathLike]) -> Program:
    """Read and check a .bmx file.

    Parameters
    ----------
    source : bytes or path
        The file's content or its path.

    Raises
    ------
    bmx.Error
        If the file cannot be read, or the format does not allow something in it.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, where = bytes(source), "compiled network"
    else:
        where = os.fspath(source)
        finish(where)
        try:
            if not stat.S_ISREG(os.stat(where).st_mode):  # a device may have no end
                raise Error(f"{where}: cannot be read: it is not a file")
            data = Path(where).read_bytes()
        except OSError as error:
            raise Error(f"{where}: cannot be read: {error.strerror or error}") from None
    program = parse(data, where)
    check(program, where)
    return program
