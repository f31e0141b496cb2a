"""Describes the steps of a program, as data and as a table for `bmx inspect`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, List, Tuple

from . import packing
from .operations import ARRAYS, Operation, fields_of, row_of, word
from .steps import (
    Conv,
    Copy,
    Depthwise,
    Fill,
    Load,
    Pool,
    PoolBits,
    Softmax,
    Step,
    Store,
    Tensor,
    Window,
)

if TYPE_CHECKING:
    from .program import Program

_ARITHMETIC = {"float_signs": "float x binary", "int8_signs": "int8 x binary"}  # others keep their names


@dataclass(frozen=True)
class Row:
    """One step.

    Attributes
    ----------
    name, kind : str
        Name and kind of the step; the kind as in docs/format.md.
    what : str
        What it computes, for example ``binary conv 3x3/2 64->128``.
    inputs, outputs : list of str
        Shape and type of each tensor, for example ``56x56x64 bit``. Operands of the epilogue are inputs too.
    weights : int
        Bytes of weights and per-channel numbers in the file. Shared ones count in every step that uses them.
    macs : int
        Multiply-adds per image.
    memory : int
        Bytes of the tensors that it writes, including borders.
    """

    name: str
    kind: str
    what: str
    inputs: List[str]
    outputs: List[str]
    weights: int
    macs: int
    memory: int


def describe(program: Program) -> List[Row]:
    """One row per step."""
    return [_row(step, program) for step in program.steps]


def table(program: Program) -> str:
    """The rows as text, with totals. ``str(program)`` returns it."""
    rows = describe(program)
    lines = [("step", "what", "in", "out", "weights", "MACs", "memory")]
    for row in rows:
        numbers = [f"{number:,}" if number else "" for number in (row.weights, row.macs, row.memory)]
        lines.append((row.name, row.what, " ".join(row.inputs), " ".join(row.outputs), *numbers))
    totals = [
        f"{total:,}" for total in (sum(row.weights for row in rows), sum(row.macs for row in rows), program.arena)
    ]
    lines.append((f"{len(rows)} steps", "", "", "", *totals))
    widths = [max(len(line[column]) for line in lines) for column in range(7)]
    text = [
        "  ".join(
            f"{cell:>{width}}" if column > 3 else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(line, widths))
        )
        for line in lines
    ]
    ports = [
        f"{kind} {port.name}: {'x'.join(map(str, port.shape or (1,)))}"
        for kind, ports in (("input", program.inputs), ("output", program.outputs))
        for port in ports
    ]
    return "\n".join([program.name, *ports, *(line.rstrip() for line in text)])


def arithmetic(step: Step) -> str:
    """The arithmetic of a step: binary, float, int8, float x binary or int8 x binary; empty if it has none."""
    if isinstance(step, Depthwise):
        return "float"
    return _ARITHMETIC.get(step.arithmetic, step.arithmetic) if isinstance(step, Conv) else ""


def _row(step: Step, program: Program) -> Row:
    inputs = [_shape(tensor) for tensor in step.reads()]
    if isinstance(step, Load):
        inputs.insert(0, "x".join(map(str, program.inputs[step.input].image)) + " f32")
    memory = sum(_bytes(tensor) for tensor in step.writes()) if not isinstance(step, Fill) else 0
    what = " | ".join([_what(step), *(_operation(operation) for operation in getattr(step, "epilogue", ()))])
    outputs = [_shape(tensor) for tensor in step.writes()]
    return Row(step.name, _kind(step), what, inputs, outputs, _weights(step), _macs(step), memory)


def _kind(step: Step) -> str:
    return "POOL_BITS" if isinstance(step, PoolBits) else type(step).__name__.upper()


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) + f" {tensor.dtype}"


def _bytes(tensor: Tensor) -> int:
    above, left, below, right = tensor.border
    return (tensor.height + above + below) * (tensor.width + left + right) * tensor.pixel_bytes


def _what(step: Step) -> str:
    if isinstance(step, Conv):
        groups = f" in {step.groups} groups" if step.groups > 1 else ""
        channels = f"{step.source.channels}->{step.filters}"
        return f"{arithmetic(step)} conv {_window(step.window)} {channels}{groups}"
    if isinstance(step, Depthwise):
        return f"float depthwise conv {_window(step.window)} {step.source.channels}"
    if isinstance(step, (Pool, PoolBits)):
        mode = step.mode if isinstance(step, Pool) else "max"
        return f"{mode} pool {_window(step.window)}" + (" of bits" if isinstance(step, PoolBits) else "")
    if isinstance(step, Fill):
        return f"border {'x'.join(map(str, step.tensor.border))} of {step.tensor.border_value}"
    if isinstance(step, Copy):
        return f"copy {'x'.join(str(loop[0]) for loop in step.loops)}"
    return {Load: "input", Store: "output", Softmax: "softmax"}.get(type(step), "map")


def _window(window: Window) -> str:
    """For example 3x3/2, or 3x3/2x1 dilated 2."""

    def pair(sizes: Tuple[int, int]) -> str:
        return str(sizes[0]) if sizes[0] == sizes[1] else f"{sizes[0]}x{sizes[1]}"

    text = f"{window.kernel[0]}x{window.kernel[1]}"
    text += f"/{pair(window.stride)}" if tuple(window.stride) != (1, 1) else ""
    return text + (f" dilated {pair(window.dilate)}" if tuple(window.dilate) != (1, 1) else "")


def _operation(operation: Operation) -> str:
    """The word of an operation and its numbers that are the same for all channels. A ReLU needs no numbers."""
    if word(operation) == "relu":
        return "relu"
    numbers = [getattr(operation, name) for kind, name in fields_of(row_of(operation).fields) if kind == "f32"]
    return " ".join([word(operation), *(f"{number:g}" for number in numbers)])


def _weights(step: Step) -> int:
    size = 0
    if isinstance(step, Conv):
        size += packing.weight_bytes(step.arithmetic, step.weight.shape, step.groups, step.run)
        if step.source.dtype == "u8":
            size += packing.start_bytes(step.filters, step.groups)
    if isinstance(step, Depthwise):
        size += packing.depthwise_bytes(step.weight.shape)
    if isinstance(step, PoolBits) and step.flip is not None:
        size += len(packing.pack_words(step.flip))
    for entry in [*getattr(step, "epilogue", ()), *getattr(step, "stores", ())]:
        kinds = (kind for kind, _ in fields_of(row_of(entry).fields) if kind in ARRAYS)
        size += sum(packing.channels_bytes(ARRAYS[kind].packing, _channels(step)) for kind in kinds)
    return size


def _channels(step: Step) -> int:
    return step.stores[0].value.channels


def _macs(step: Step) -> int:
    if not isinstance(step, (Conv, Depthwise)):
        return 0
    height, width, _ = step.stores[0].value.shape
    return height * width * step.weight.size
