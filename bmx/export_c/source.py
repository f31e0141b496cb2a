"""Writes the header and source of a network: net.h and net.c."""

from __future__ import annotations

import textwrap
import zlib
from dataclasses import dataclass
from string import Template
from typing import List, Tuple

from .. import program as programs
from ..errors import Error
from .layers import Layer, Layers, described
from .names import Identifiers, comment
from .sections import chosen, rename, text_of

__all__ = ["Source", "write_source"]

_LARGEST = 2**31 - 2**20
_ARRAY = "\n/* The weights, for net_run. */\nextern const uint32_t net_weights[NET_WEIGHTS_SIZE / 4];\n"


@dataclass
class Source:
    """A network in C.

    Attributes
    ----------
    name : str
        The prefix of its functions, macros and files.
    summary : str
        One line about the network.
    header, code : str
        Contents of net.h and net.c.
    weights : bytes
        Content of net_weights.bin.
    layers : list of Layer
    scratch : int
        Bytes of the scratch memory.
    inputs, outputs : list of str
        Names of net_run's arguments.
    sizes : list of str
        Names of the macros for the number of floats of each argument.
    """

    name: str
    summary: str
    header: str
    code: str
    weights: bytes
    layers: List[Layer]
    scratch: int
    inputs: List[str]
    outputs: List[str]
    sizes: List[str]


def write_source(program: programs.Program, name: str, array: bool) -> Source:
    """The source of a program. With `array`, its weights become a C array instead of a file.

    Raises
    ------
    bmx.Error
        If the network has a step that cannot be written in C, or needs too much memory.
    """
    if not program.outputs:
        raise Error("the network has no output; a network for export-c must have one")
    if program.arena > _LARGEST:
        raise Error(f"the network needs {program.arena:,} bytes for its tensors; export-c can address 2 GiB")
    for port in (*program.inputs, *program.outputs):
        if 4 * _product(port.shape) > _LARGEST:
            raise Error(f"{port.name!r} has the shape {port.shape}; export-c can address 2 GiB")
    inputs, outputs = _arguments(program)
    layers = Layers(program, (inputs, outputs))
    ports = [*program.inputs, *program.outputs]
    sizes = [f"{name.upper()}_{argument.upper()}_SIZE" for argument in inputs + outputs]
    scratch = max(program.arena, 64)
    weights_size = layers.weights.size
    summary = comment(f"{program.name or name}: {_shapes(program.inputs)} to {_shapes(program.outputs)}")
    parameters = ", ".join(
        ["const void *weights", "void *scratch", *(f"const float *{argument}" for argument in inputs)]
        + [f"float *{argument}" for argument in outputs]
    )
    values = {
        "summary": summary,
        "parameters": parameters,
        "weights_size": weights_size,
        "scratch_size": scratch,
        "weights_file": f"{name}_weights.{'c' if array else 'bin'}",
        "weights_array": rename(_ARRAY, name) if array else "",
        "sizes": "".join(
            f"#define {size} {_product(port.shape)} /* {_shape(port.shape)} */\n" for size, port in zip(sizes, ports)
        ),
        "arguments": _argument_lines(program, inputs, outputs),
        "weights_end": weights_size,
        "scratch_end": layers.scratch_end,
        "kernels": rename(chosen(layers.sections), name),
        "layers": _definitions(layers),
        "checks": rename(_checks(inputs + outputs), name),
        "calls": "\n".join(f"\n    {described(layer)}\n    {layer.call}" for layer in layers.layers) + "\n",
    }
    header = Template(rename(text_of("net.h"), name)).substitute(values)
    code = Template(rename(text_of("net.c"), name)).safe_substitute(values)
    network = zlib.crc32(code.encode())  # the weights only fit this code
    code = Template(code).substitute(network=f"0x{network:08x}u")
    weights = layers.weights.file(network, name)
    return Source(name, summary, header, code, weights, layers.layers, scratch, inputs, outputs, sizes)


def _arguments(program: programs.Program) -> Tuple[List[str], List[str]]:
    """Names of net_run's arguments: `in` and `out`, or `in_NAME` and `out_NAME` if there are several."""
    names = []
    for prefix, ports in (("in", program.inputs), ("out", program.outputs)):
        identifiers = Identifiers(f"{prefix}_")
        names.append([prefix] if len(ports) == 1 else [identifiers.new(port.name) for port in ports])
    return names[0], names[1]


def _product(shape: Tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _shape(shape: Tuple[int, ...]) -> str:
    return " x ".join(map(str, shape or (1,)))


def _shapes(ports: List[programs.Port]) -> str:
    return ", ".join(f"{port.name} {_shape(port.shape)}" for port in ports)


def _argument_lines(program: programs.Program, inputs: List[str], outputs: List[str]) -> str:
    lines = ["weights: those of this network. scratch: NET_SCRATCH_SIZE bytes; nothing in it is kept between calls."]
    for kind, ports, names in (("input", program.inputs, inputs), ("output", program.outputs, outputs)):
        for port, name in zip(ports, names):
            order = ", channels, rows, columns" if len(port.shape) == 3 else ""
            lines.append(f"{name}: {kind} '{comment(port.name)}', {_shape(port.shape)} floats{order}.")
    wrapped = [textwrap.wrap(line, 114, initial_indent="   ", subsequent_indent="       ") for line in lines]
    return "\n".join(line for part in wrapped for line in part)


def _definitions(layers: Layers) -> str:
    text = f"/* --- the network {'-' * 96} */\n"
    text += "\n/* Tensors in the scratch memory: byte of pixel (0, 0), bytes to the next row, to the next pixel. */\n"
    text += "\n".join(layers.tensors) + "\n"
    for layer in layers.layers:
        if layer.code:
            text += f"\n{described(layer)}\n" + "\n".join(layer.code) + "\n"
    return text


def _checks(arguments: List[str]) -> str:
    """Lines that refuse NULL and misaligned addresses."""
    pointers = ["weights", "scratch", *arguments]
    null = " || ".join(f"{pointer} == NULL" for pointer in pointers)
    address = " | ".join(f"(uintptr_t){pointer}" for pointer in pointers)
    lines = _condition(null, "NET_NULL") + _condition(f"({address}) % NET_ALIGNMENT != 0", "NET_MISALIGNED")
    return "\n".join(lines)


def _condition(condition: str, status: str) -> List[str]:
    text = f"if ({condition}) return {status};"
    if len(text) <= 110:
        return [f"    {text}"]
    lines = textwrap.wrap(f"if ({condition}) {{", 110, initial_indent="    ", subsequent_indent="        ")
    return [*lines, f"        return {status};", "    }"]
