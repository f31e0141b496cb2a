"""The last rewriting of a graph: what docs/format.md has no step for becomes nodes that are one step each, or none.

Bits that no step can move (channels that do not begin at a word, permutations) go by floats and back, which is exact.
Weights of groups that kernels do not have get zeros. Long epilogues go on in Maps. Everything else stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, List, Optional, Tuple

import numpy as np

from ..errors import Error
from ..program import MOST_OPERATIONS, image_shape
from ..program.operations import has_operand, row_of
from . import ir
from .loops import MOST_LOOPS, reshape_loops, split_strides

__all__ = ["Broadcast", "Depthwise", "legalize"]

_MOVES = (ir.Concat, ir.Slice, ir.Pad, ir.Reshape)


@dataclass(eq=False)
class Depthwise(ir.Conv):
    """A float convolution with one filter a channel; weight (channels, 1, kernel height, kernel width)."""


@dataclass(eq=False)
class Broadcast(ir.Node):
    """A value in the shape of the one stored, sizes of 1 repeated."""

    source: ir.Value = None


def legalize(graph: ir.Graph) -> ir.Graph:
    """A graph of the same values whose nodes are steps, or places of values; the given one stays as it is.

    Raises
    ------
    bmx.Error
        That names the node for which there is no step.
    """
    return _Legalizer(graph).graph()


class _Legalizer:
    def __init__(self, graph: ir.Graph):
        self.source, self.nodes = graph, []
        self.floats: Dict[ir.Value, ir.Value] = {}  # of values of other types

    def graph(self) -> ir.Graph:
        for node in self.source.nodes:
            self.add(replace(node, epilogue=list(node.epilogue), stores=list(node.stores)))
        outputs = {name: self.as_floats(value) for name, value in self.source.outputs.items()}
        _separate_borders(self.nodes)
        return ir.Graph(self.source.name, self.nodes, outputs)

    def add(self, node: ir.Node) -> None:
        """Append a node, after what it needs and before what makes of its result what was wanted."""
        if not node.stores:
            return
        self.check_stores(node)
        plain = not node.epilogue and len(node.stores) == 1 and node.store(ir.Floats) is not None
        if isinstance(node, (*_MOVES, ir.Softmax)) and not plain:
            self.add_split(node)
            return
        if len(node.epilogue) > MOST_OPERATIONS:
            self.add_split(node, MOST_OPERATIONS)
            return
        node.epilogue = [self.operation(op, node.gives()[0].shape) for op in node.epilogue]
        method: Optional[Callable] = getattr(self, "add_" + type(node).__name__.lower(), None)
        if method is None:
            raise Error(f"node {node.name!r}: there is no step for a {type(node).__name__}")
        method(node)

    def check_stores(self, node: ir.Node) -> None:
        shapes = {store.value.shape for store in node.stores}
        if len({type(store) for store in node.stores}) < len(node.stores) or len(shapes) > 1:
            raise Error(f"node {node.name!r}: its stores are not of different kinds and one shape")
        moves = isinstance(node, (*_MOVES, ir.Pool))
        for store in node.stores:
            value = store.value
            expected = value.dtype if moves and isinstance(store, ir.Floats) else row_of(store).dtype
            if value.dtype != expected:
                raise Error(f"node {node.name!r}: {value.name!r} has the type {value.dtype}, not {expected}")

    def add_split(self, node: ir.Node, operations: int = 0) -> None:
        """A node with some of its operations; its result goes through a Map with the others."""
        result = ir.Value(f"{node.name}_result", node.gives()[0].shape)
        first, others = node.epilogue[:operations], node.epilogue[operations:]
        self.add(replace(node, epilogue=first, stores=[ir.Floats(result)]))
        self.add(ir.Map(node.name, others, node.stores, source=result))

    def operation(self, op: ir.Operation, shape: ir.Shape) -> ir.Operation:
        """An operation on a result of `shape`: operands are floats, of a shape that the format has."""
        return replace(op, operand=self.operand(self.as_floats(op.operand), shape)) if has_operand(op) else op

    def operand(self, value: ir.Value, shape: ir.Shape) -> ir.Value:
        size, full = image_shape(value.shape), image_shape(shape)
        if size in (full, (1, 1, full[2]), (*full[:2], 1)):
            return value
        if len(value.shape) != len(shape) or any(n not in (1, m) for n, m in zip(value.shape, shape)):
            raise Error(f"{value.name!r} of shape {value.shape} is no operand for a result of {shape}")
        repeated = ir.Value(f"{value.name}_repeated", shape)
        self.nodes.append(Broadcast(repeated.name, stores=[ir.Floats(repeated)], source=value))
        return repeated

    # --- types

    def as_floats(self, value: ir.Value) -> ir.Value:
        """The value as floats: bits are -1 and +1."""
        if value.dtype == "f32":
            return value
        if value not in self.floats:
            floats = ir.Value(f"{value.name}_floats", value.shape)
            nodes = _bytes_to_floats(value, floats) if value.dtype == "u8" else _bits_to_floats(value, floats)
            self.nodes += nodes
            self.floats[value] = floats
        return self.floats[value]

    def as_type(self, floats: ir.Value, value: ir.Value) -> None:
        """Give a value of bits or bytes from one of floats."""
        store = _bits(value) if value.dtype == "bit" else ir.Bytes(value)
        self.nodes.append(ir.Map(value.name, stores=[store], source=floats))
        self.floats[value] = floats

    def move_floats(self, node: ir.Node) -> None:
        """Do a move of bits or bytes on floats."""
        target = node.gives()[0]
        result = ir.Value(f"{target.name}_floats", target.shape)
        if isinstance(node, ir.Concat):
            moved = replace(node, sources=[self.as_floats(source) for source in node.sources])
        else:
            moved = replace(node, source=self.as_floats(node.source))
        moved.stores = [ir.Floats(result)]
        self.add(moved)
        if target.dtype != "f32":
            self.as_type(result, target)

    # --- kinds of nodes

    def add_input(self, node: ir.Input) -> None:
        if len(node.shape) > 3:
            raise Error(f"input {node.name!r} has the shape {node.shape}; it can have 3 dimensions besides the batch")
        self.nodes.append(node)

    def add_map(self, node: ir.Map) -> None:
        if node.source.dtype == "bit":
            node.source = self.as_floats(node.source)
        self.nodes.append(node)

    def add_softmax(self, node: ir.Softmax) -> None:
        node.source = self.as_floats(node.source)
        if image_shape(node.source.shape)[2] != node.source.shape[0]:
            raise Error(f"node {node.name!r}: softmax of the shape {node.source.shape}; it can have 3 dimensions")
        self.nodes.append(node)

    def add_pool(self, node: ir.Pool) -> None:
        store = node.store(ir.Floats)
        target = store.value if store is not None else None
        if node.source.dtype == "bit" and node.mode == "max" and target is not None and target.dtype == "bit":
            if node.epilogue or node.stores[1:]:
                raise Error(f"node {node.name!r}: a pooling of bits has no epilogue and one store")
            self.nodes.append(node)
            return
        if node.flip is not None or (target is not None and target.dtype != "f32"):
            raise Error(f"node {node.name!r}: only the maximum of bits gives bits without a threshold")
        node.source = self.as_floats(node.source)
        self.nodes.append(node)

    def add_conv(self, node: ir.Conv) -> None:
        node.dilate = tuple(1 if size == 1 else step for size, step in zip(node.weight.shape[2:], node.dilate))
        _check_conv(node)
        channels, filters = image_shape(node.source.shape)[2], node.weight.shape[0]
        if node.groups > 1 and node.groups == channels == filters and node.source.dtype != "bit":
            self.add_depthwise(node)
            return
        if node.groups > 1:
            node.weight, node.groups = _legal_groups(node)
        self.nodes.append(node)

    def add_depthwise(self, node: ir.Conv) -> None:
        source = node.source
        if any(node.pad) and node.pad_value:
            raise Error(f"node {node.name!r}: a depthwise convolution padded with {node.pad_value}; allowed: 0")
        if source.dtype == "u8":  # exact: bytes less the zero point as floats, sums far below 2**24
            same = ir.Value(f"{source.name}_unscaled", source.shape)
            one = np.full(source.shape[0], np.float32(1) / np.float32(source.scale))
            epilogue = [ir.Affine(one, np.zeros_like(one)), ir.Function("round")]
            self.nodes.append(ir.Map(same.name, epilogue, [ir.Floats(same)], source=source))
            source = same
        names = ("name", "epilogue", "stores", "notes", "stride", "dilate", "pad")
        weight = node.weight.astype(np.float32)
        self.nodes.append(Depthwise(**{name: getattr(node, name) for name in names}, source=source, weight=weight))

    def add_concat(self, node: ir.Concat) -> None:
        target = node.gives()[0]
        same = all(_same_type(source, target) for source in node.sources)
        words = target.dtype != "bit" or node.axis != 0 or len(target.shape) > 3
        words = words or all(source.shape[0] % 64 == 0 for source in node.sources[:-1])
        if same and words and (len(target.shape) <= 3 or target.dtype == "f32"):
            self.nodes.append(node)
        else:
            self.move_floats(node)

    def add_slice(self, node: ir.Slice) -> None:
        source, target = node.source, node.gives()[0]
        begin, end = node.begin[0], node.begin[0] + target.shape[0]
        words = target.dtype != "bit" or (begin % 64 == 0 and (end % 64 == 0 or end == source.shape[0]))
        if _same_type(source, target) and words and (len(target.shape) <= 3 or target.dtype == "f32"):
            self.nodes.append(node)
        else:
            self.move_floats(node)

    def add_pad(self, node: ir.Pad) -> None:
        source, target = node.source, node.gives()[0]
        if node.source.dtype == "bit" and node.pad_value not in (-1, 1):
            raise Error(f"node {node.name!r}: bits can be padded with -1 and +1, not {node.pad_value}")
        if _same_type(source, target):
            self.nodes.append(node)
        else:
            self.move_floats(node)

    def add_reshape(self, node: ir.Reshape) -> None:
        source, target = node.source, node.gives()[0]
        if not _same_type(source, target):
            self.move_floats(node)
        elif is_relabelling(node):
            self.nodes.append(node)
        elif target.dtype != "f32":
            self.move_floats(node)
        elif _has_loops(node):
            self.nodes.append(node)
        else:  # into MXNet's order, permuted there, and from there
            split = tuple(node.split or source.shape)
            if len(split) > MOST_LOOPS:
                raise Error(f"node {node.name!r}: a permutation of {len(split)} axes; {MOST_LOOPS} are possible")
            flat = ir.Value(f"{target.name}_flat", (int(np.prod(target.shape)),))
            permuted = ir.Value(f"{target.name}_permuted", flat.shape)
            self.nodes.append(ir.Reshape(node.name, stores=[ir.Floats(flat)], source=source))
            self.nodes.append(replace(node, stores=[ir.Floats(permuted)], source=flat, split=split))
            self.nodes.append(ir.Reshape(node.name, stores=[ir.Floats(target)], source=permuted))


def _has_loops(node: ir.Reshape) -> bool:
    """Whether one COPY step can do it."""
    shape = node.source.shape
    if node.split and split_strides(shape, [0] * len(shape), node.split) is None:
        return False
    return reshape_loops(node.split or shape, node.axes, node.gives()[0].shape) is not None


def is_relabelling(node: ir.Reshape) -> bool:
    """Whether the numbers of the result lie where those of the source lie."""
    in_order = all(axis == place for place, axis in enumerate(node.axes))
    return in_order and image_shape(node.source.shape) == image_shape(node.gives()[0].shape)


def _same_type(source: ir.Value, target: ir.Value) -> bool:
    return (source.dtype, source.scale, source.zero_point) == (target.dtype, target.scale, target.zero_point)


def _bits(value: ir.Value) -> ir.Bits:
    channels = image_shape(value.shape)[2]
    return ir.Bits(value, np.zeros(channels, np.float32), np.zeros(channels, bool))


def _bytes_to_floats(value: ir.Value, floats: ir.Value) -> List[ir.Node]:
    return [ir.Map(floats.name, stores=[ir.Floats(floats)], source=value)]


def _bits_to_floats(value: ir.Value, floats: ir.Value) -> List[ir.Node]:
    """Binary convolutions that give the bits as floats.

    With s the sum of a pixel's bits, and d[c] the same but for the sign of bit c: ``s - d[c] = 2 * bit[c]``. Sums of
    up to 2**24 halves are exact.
    """
    height, width, channels = image_shape(value.shape)
    image = ir.Value(f"{floats.name}_image", (channels, height, width))
    half_sum = ir.Value(f"{floats.name}_sum", (1, height, width))
    nodes: List[ir.Node] = []
    if value.shape != image.shape:
        bits = ir.Value(f"{floats.name}_bits", image.shape, "bit")
        nodes.append(ir.Reshape(bits.name, stores=[ir.Floats(bits)], source=value))
        value = bits
    half, zero = np.full(channels, 0.5, np.float32), np.zeros(channels, np.float32)
    ones = np.ones((1, channels, 1, 1), np.int8)
    others = (1 - 2 * np.eye(channels, dtype=np.int8)).reshape(channels, channels, 1, 1)
    binary = {"source": value, "all": float(channels), "step": 2.0}
    epilogue = [ir.Affine(half[:1], zero[:1])]
    nodes.append(ir.Conv(half_sum.name, epilogue, [ir.Floats(half_sum)], weight=ones, **binary))
    epilogue = [ir.Affine(-half, zero), ir.Add(half_sum)]
    result = floats if floats.shape == image.shape else image
    nodes.append(ir.Conv(floats.name, epilogue, [ir.Floats(result)], weight=others, **binary))
    if result is image:
        nodes.append(ir.Reshape(floats.name, stores=[ir.Floats(floats)], source=image))
    return nodes


def _check_conv(node: ir.Conv) -> None:
    source, weight, value = node.source, node.weight, node.gives()[0]
    height, width, channels = image_shape(source.shape)
    filters, _, kernel_h, kernel_w = weight.shape
    dtypes = (np.float32, np.int8) if source.dtype == "f32" else (np.int8,)
    grouped = weight.shape[1] * node.groups == channels and filters % node.groups == 0
    if weight.dtype not in dtypes or not grouped:
        raise Error(
            f"node {node.name!r}: weights {weight.dtype} {weight.shape} in {node.groups} groups do not fit "
            f"{source.dtype} {source.shape}"
        )
    above, left, below, right = node.pad
    size = tuple(
        (length + pads - (kernel - 1) * dilate - 1) // stride + 1
        for length, pads, kernel, dilate, stride in zip(
            (height, width), (above + below, left + right), (kernel_h, kernel_w), node.dilate, node.stride
        )
    )
    if image_shape(value.shape) != (*size, filters):
        raise Error(f"node {node.name!r}: its result is {(*size, filters)}, its value {value.name!r} {value.shape}")
    if any(node.pad):
        _check_padding(node)
    counts = node.store(ir.CountBits) is not None
    if counts and (source.dtype != "bit" or node.epilogue or node.stores[1:]):
        raise Error(f"node {node.name!r}: thresholds of counts belong to a binary convolution that does nothing else")


def _check_padding(node: ir.Conv) -> None:
    source, number = node.source, node.pad_value
    if source.dtype == "u8":
        byte = number / source.scale + source.zero_point
        fits, allowed = abs(byte - round(byte)) < 1e-3 and 0 <= round(byte) <= 255, "what one of its bytes means"
    else:
        numbers = {"f32": (0,), "bit": (-1, 1)}[source.dtype]
        fits, allowed = number in numbers, " and ".join(map(str, numbers))
    if not fits:
        raise Error(f"node {node.name!r}: {source.dtype} padded with {number}; allowed: {allowed}")


def _legal_groups(node: ir.Conv) -> Tuple[np.ndarray, int]:
    """Weight and groups so that each has a multiple of 8 filters: as few groups together as that needs."""
    weight, groups = node.weight, node.groups
    filters, channels = weight.shape[0] // groups, weight.shape[1]
    if node.source.dtype == "bit":
        if filters % 8 or channels % 64:
            raise Error(
                f"node {node.name!r}: binary groups have a multiple of 64 channels and of 8 filters, not {channels} "
                f"and {filters}; keep this layer float"
            )
        return weight, groups
    joined = next(n for n in range(1, groups + 1) if groups % n == 0 and (n * filters % 8 == 0 or n == groups))
    if joined == 1:
        return weight, groups
    dtype = np.float32 if node.source.dtype == "f32" else np.int8  # with zeros, signs are no signs
    wide = np.zeros((weight.shape[0], joined * channels) + weight.shape[2:], dtype)
    for first in range(joined):
        rows = np.arange(weight.shape[0]) // filters % joined == first
        wide[rows, first * channels : (first + 1) * channels] = weight[rows]
    return wide, groups // joined


def _separate_borders(nodes: List[ir.Node]) -> None:
    """Give convolutions that pad the same bits or bytes with other numbers than the first one does copies of these."""
    chosen: Dict[ir.Value, float] = {}
    copies: Dict[Tuple[ir.Value, float], ir.Value] = {}
    for node in list(nodes):
        if not isinstance(node, ir.Conv) or node.source.dtype == "f32" or not any(node.pad):
            continue
        source, number = node.source, node.pad_value
        if chosen.setdefault(source, number) == number:
            continue
        if (source, number) not in copies:
            copy = replace(source, name=f"{source.name}_copy")
            copies[source, number] = copy
            copying = ir.Pad(copy.name, stores=[ir.Floats(copy)], source=source, pad_value=number)
            nodes.insert(nodes.index(node), copying)
        node.source = copies[source, number]
