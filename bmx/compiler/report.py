"""What became of a network when it was compiled, as data and as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from ..comparison import Verification
from ..program.operations import word
from .ir import Bits, Concat, Conv, CountBits, Graph, Input, Node, Pad, Pool, Reshape, Slice, Softmax

__all__ = ["CompileReport", "CompiledLayer", "report_layers"]

_BITS = {"f32": 32, "bit": 1, "u8": 8}
_ARITHMETIC = {1: "binary", 8: "int8", 32: "float"}
_MOVES = {Concat: "concat", Slice: "slice", Pad: "pad", Reshape: "reshape"}


@dataclass
class CompiledLayer:
    """A node of the compiled network.

    Attributes
    ----------
    name : str
        That of the layer in the network which it begins with.
    kind : str
        What it became, with everything that is done in the same step: ``binary conv 3x3/2 + norm + add``.
    shape : tuple of int
        What it gives, without the batch.
    bits_in, bits_out : str
        1, 8 or 32; ``32+1`` where it stores floats and bits.
    macs : int
        Multiply-adds for one sample; 0 of all but convolutions and dense layers.
    weight_bytes : int
    arithmetic : str
        'binary', 'float', 'int8', 'float x binary' or 'int8 x binary'; empty of all but convolutions and dense layers.
    note : str
        Why it is not binary, or what is special about it; may be empty.
    """

    name: str
    kind: str
    shape: tuple
    bits_in: str
    bits_out: str
    macs: int
    weight_bytes: int
    arithmetic: str
    note: str


def report_layers(graph: Graph) -> List[CompiledLayer]:
    """The rows of a fused graph; what only changes the shape of numbers in place has none."""
    return [_layer(node) for node in graph.nodes if not _is_trivial(node)]


def _is_trivial(node: Node) -> bool:
    if isinstance(node, Reshape):
        return not node.axes and math.prod(node.source.shape[1:]) == math.prod(node.gives()[0].shape[1:]) == 1
    return isinstance(node, Input) and not node.epilogue and all(value.dtype == "f32" for value in node.gives())


def _layer(node: Node) -> CompiledLayer:
    values, source = node.gives(), node.reads()[0] if node.reads() else None
    macs, weight_bytes, arithmetic = 0, 0, ""
    if isinstance(node, Conv):
        count, arithmetic = node.weight.size, _arithmetic(node)
        macs = count * math.prod(values[0].shape[1:])
        weight_bytes = math.ceil(count * (1 if node.signs else _BITS[node.source.dtype]) / 8)
    return CompiledLayer(
        node.name,
        " + ".join([_kind(node), *map(word, node.epilogue), *_threshold(node)]),
        tuple(values[0].shape),
        "" if source is None else str(_BITS[source.dtype]),
        "+".join(str(_BITS[value.dtype]) for value in sorted(values, key=lambda value: -_BITS[value.dtype])),
        macs,
        weight_bytes,
        arithmetic,
        "; ".join(dict.fromkeys(node.notes)),
    )


def _arithmetic(node: Conv) -> str:
    return _ARITHMETIC[_BITS[node.source.dtype]] + (" x binary" if node.signs else "")


def _kind(node: Node) -> str:
    if isinstance(node, Conv):
        arithmetic = _arithmetic(node)
        kernel = node.weight.shape[2:]
        if len(node.gives()[0].shape) == 1:
            return f"{arithmetic} dense"
        depthwise = node.groups > 1 and node.weight.shape[1] == 1
        what = "depthwise conv" if depthwise else "conv" if node.groups == 1 else f"conv in {node.groups} groups"
        return f"{arithmetic} {what} {_window(kernel, node.stride)}"
    if isinstance(node, Pool):
        bits = "bit " if node.source.dtype == "bit" else ""
        size = "global" if node.kernel == node.source.shape[1:] else _window(node.kernel, node.stride)
        return f"{bits}{node.mode.split('_')[0]} pool {size}"
    if isinstance(node, Softmax):
        return "softmax"
    return _MOVES.get(type(node), "input" if isinstance(node, Input) else "map")


def _window(kernel: tuple, stride: tuple) -> str:
    text = f"{kernel[0]}x{kernel[1]}"
    if stride == (1, 1):
        return text
    return f"{text}/{stride[0]}" if stride[0] == stride[1] else f"{text}/{stride[0]}x{stride[1]}"


def _threshold(node: Node) -> List[str]:
    return ["threshold"] if node.store(CountBits) is not None or node.store(Bits) is not None else []


@dataclass
class CompileReport:
    """Result of compiling a network; ``str(report)`` is a table.

    Attributes
    ----------
    name : str
    layers : list of CompiledLayer
    int8 : str
        The mode, 'off', 'first-last' or 'all'.
    file_bytes : int or None
        Size of the compiled network as a file.
    verification : Verification or None
        None if it was not asked for.
    remarks : list of str
        What else there is to know.
    """

    name: str
    layers: List[CompiledLayer]
    int8: str = "off"
    file_bytes: Optional[int] = None
    verification: Optional[Verification] = None
    remarks: List[str] = field(default_factory=list)

    @property
    def macs(self) -> Dict[int, int]:
        """Multiply-adds for one sample by bits of their inputs: 1, 8 and 32, as far as there are any."""
        total: Dict[int, int] = {}
        for layer in self.layers:
            if layer.macs:
                total[int(layer.bits_in)] = total.get(int(layer.bits_in), 0) + layer.macs
        return dict(sorted(total.items()))

    @property
    def weight_bytes(self) -> int:
        """Bytes of all weights of convolutions and dense layers."""
        return sum(layer.weight_bytes for layer in self.layers)

    def __str__(self) -> str:
        rows = [["layer", "became", "output", "bits in", "out", "MACs", "weights", ""]]
        for layer in self.layers:
            shape = "x".join(map(str, layer.shape))
            numbers = [f"{layer.macs:,}" if layer.macs else "", f"{layer.weight_bytes:,}" if layer.weight_bytes else ""]
            rows.append([layer.name, layer.kind, shape, layer.bits_in, layer.bits_out, *numbers, layer.note])
        widths = [max(len(row[column]) for row in rows) for column in range(7)]
        lines = []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:3], widths)]
            cells += [cell.rjust(width) for cell, width in zip(row[3:7], widths[3:])]
            lines.append("  ".join([*cells, row[7]]).rstrip())
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, "", *self._summary()])

    def _summary(self) -> List[str]:
        macs: Dict[str, int] = {}
        for layer in sorted(self.layers, key=lambda layer: int(layer.bits_in or 0)):
            if layer.macs:
                macs[layer.arithmetic] = macs.get(layer.arithmetic, 0) + layer.macs
        total = sum(macs.values())
        parts = [f"{100 * count / total:.1f} % {arithmetic}" for arithmetic, count in macs.items()]
        lines = [f"{total:,} multiply-adds: {', '.join(parts)}"] if total else []
        if self.file_bytes is not None:
            lines.append(f"{self.file_bytes:,} bytes, {self.weight_bytes:,} of them weights")
        return [*lines, *self.remarks, str(self.verification or "not verified: not asked for")]
