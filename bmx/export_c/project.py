"""The files around a network in C: weights as an array, Makefile, CMakeLists.txt, README.md."""

from __future__ import annotations

import math
import re
from string import Template

import numpy as np

from .. import program as programs
from .sections import rename, text_of
from .source import Source

__all__ = ["cmake_lists", "makefile", "readme", "weights_array"]

_ARRAY = '#include "net.h"\n\nconst uint32_t net_weights[NET_WEIGHTS_SIZE / 4] = {\n    '
_VALUES = 64 * 4  # bytes on the stack for the results of a pixel


def weights_array(source: Source) -> str:
    """The text of net_weights.c."""
    words = np.frombuffer(source.weights, "<u4")
    lines = [", ".join(f"0x{word:08x}" for word in words[first : first + 8]) for first in range(0, len(words), 8)]
    head = f"/* {source.summary}: weights.\n   Written by `bmx export-c`. */\n"
    return head + rename(_ARRAY, source.name) + ",\n    ".join(lines) + "};\n"


def makefile(source: Source, array: bool) -> str:
    """The text of the Makefile."""
    objects = "net.o net_weights.o" if array else "net.o"
    return _filled(
        "Makefile.txt",
        source,
        objects=rename(objects, source.name),
        arguments="" if array else f"{source.name}_weights.bin ",
    )


def cmake_lists(source: Source, array: bool) -> str:
    """The text of CMakeLists.txt."""
    sources = "net.c net_weights.c" if array else "net.c"
    return _filled("CMakeLists.txt", source, sources=rename(sources, source.name))


def readme(source: Source, program: programs.Program, array: bool) -> str:
    """The text of README.md, including the memory that the network needs."""
    samples = 4 * sum(math.prod(port.shape) for port in (*program.inputs, *program.outputs))
    cells = [(layer.name, layer.what, f"{layer.weights:,}") for layer in source.layers]
    rows = ["| " + " | ".join(re.sub(r" *[|\n]", ",", cell) for cell in row) + " |" for row in cells]
    arguments = ", ".join(source.inputs + source.outputs)
    run = f"net_run({'net_weights' if array else 'weights'}, scratch, {arguments})"
    check = "net_check_weights(weights, size)"
    example = f"int status = {run};" if array else f"int status = {check}; /* once: weights as read from the file */"
    example += "" if array else f"\nif (status == NET_OK) status = {run};"
    example += "\nif (status != NET_OK) puts(net_error(status));"
    return _filled(
        "README.md",
        source,
        summary=source.summary,
        weights_file=f"{source.name}_weights.{'c' if array else 'bin'}",
        weights=f"{len(source.weights):,}",
        scratch=f"{source.scratch:,}",
        samples=f"{samples:,}",
        stack=f"{_VALUES + 512:,}",
        stack_simd=f"{8 * _VALUES + 1024:,}",
        example=rename(example, source.name),
        layers="\n".join(["| layer | what | weights, bytes |", "|---|---|---|", *rows]),
    )


def _filled(file: str, source: Source, **values: str) -> str:
    return Template(rename(text_of(file), source.name)).substitute(values, name=source.name)
