"""The compiler's graph: few kinds of nodes, each with an epilogue; readers build it, passes rewrite it.

A network is a list of nodes in an order in which inputs come first. A node reads values and gives values. What is
computed element by element is an *epilogue*, a list of operations on the result of a node; a reader makes a `Map` of
each such MXNet operator, and passes move operations into the node before and let it give bits or bytes besides, or in
the place of, floats. After the last pass every node is one step of the engine (docs/format.md), or needs none. The
operations and stores are those of `bmx.program.operations`.

Shapes are MXNet's without the batch: ``(C, H, W)`` of images, ``(C,)`` of vectors. Print a graph to look at it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Optional, Tuple

import numpy as np

from ..program.operations import *  # noqa: F403 - a new operation is named in its own file only
from ..program.operations import Operation, StoreKind, operands

Shape = Tuple[int, ...]


@dataclass(eq=False)
class Value:
    """What a node gives and others read.

    Attributes
    ----------
    name : str
        Unique in the graph.
    shape : tuple of int
        Without the batch.
    dtype : {'f32', 'bit', 'u8'}
        A bit is +1 or -1; a byte b means ``scale * (b - zero_point)``.
    scale, zero_point : float, int
        Of u8.
    """

    name: str
    shape: Shape
    dtype: str = "f32"
    scale: float = 0.0
    zero_point: int = 0


# --- nodes ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """What all nodes have: a name, an epilogue, and stores, at most one of each kind."""

    name: str
    epilogue: List[Operation] = field(default_factory=list)
    stores: List[StoreKind] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)  # for the report: why a layer stayed float, ...

    def reads(self) -> List[Value]:
        """The values that it reads, those of the epilogue included."""
        own = [getattr(self, name) for name in ("source", "sources") if hasattr(self, name)]
        values = [value for entry in own for value in (entry if isinstance(entry, list) else [entry])]
        return values + operands(self.epilogue)

    def gives(self) -> List[Value]:
        """The values of its stores."""
        return [store.value for store in self.stores]

    def store(self, kind: type) -> Optional[StoreKind]:
        """The store of that kind, or None."""
        return next((store for store in self.stores if isinstance(store, kind)), None)


@dataclass(eq=False)
class Input(Node):
    """An input of the network, float32 of `shape`; a program hands over the input of this name."""

    shape: Shape = ()


@dataclass(eq=False)
class Conv(Node):
    """A convolution (or, on a source of one pixel or with a kernel as large as the image, a fully connected layer).

    Attributes
    ----------
    source : Value
        f32: a float convolution. bit: a binary one, whose result is ``all - step * p`` for p differing bits among the
        ``K = C / groups * kernel`` of a window; K and 2 make the dot product. u8: an int8 one, whose result is
        ``sum (byte - zero_point) * weight``.
    weight : ndarray (filters, C / groups, kernel height, width)
        Of f32: float32, or int8 with the values -1 and +1. Of bit: int8 with the values -1 and +1. Of u8: int8.
    stride, dilate : (int, int)
    pad : (int, int, int, int)
        Above, left, below, right.
    pad_value : float
        What the padding holds: 0 of f32, +1 or -1 of bit, of u8 a number that one of its bytes means.
    groups : int
    all, step : float
        Of binary ones.
    """

    source: Value = None
    weight: np.ndarray = None
    stride: Tuple[int, int] = (1, 1)
    dilate: Tuple[int, int] = (1, 1)
    pad: Tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: float = 0.0
    groups: int = 1
    all: float = 0.0
    step: float = 0.0

    @property
    def signs(self) -> bool:
        """Whether floats or bytes are multiplied by weights -1 and +1 only, which are a bit each."""
        of_bits = self.source.dtype == "bit" or self.weight.dtype != np.int8
        return not of_bits and bool((np.abs(self.weight) == 1).all())


@dataclass(eq=False)
class Pool(Node):
    """Pooling of floats; or the maximum of bits, which is their OR, then xor `flip`.

    `mode` is 'max', 'avg' (over pixels inside the image) or 'avg_padded' (MXNet's count_include_pad). Pixels outside of
    the image take no part. Of bits: no epilogue, one store `Floats` whose value has dtype 'bit'.
    """

    source: Value = None
    mode: str = "max"
    kernel: Tuple[int, int] = (1, 1)
    stride: Tuple[int, int] = (1, 1)
    pad: Tuple[int, int, int, int] = (0, 0, 0, 0)
    flip: Optional[np.ndarray] = None


@dataclass(eq=False)
class Map(Node):
    """A value through the epilogue."""

    source: Value = None


@dataclass(eq=False)
class Concat(Node):
    """Values of one type side by side along an axis (0: channels); one store `Floats`, of that type."""

    sources: List[Value] = field(default_factory=list)
    axis: int = 0


@dataclass(eq=False)
class Slice(Node):
    """``begin <= index < begin + the size of the value stored`` along every axis; one store `Floats`."""

    source: Value = None
    begin: Tuple[int, ...] = ()


@dataclass(eq=False)
class Pad(Node):
    """A border of numbers around height and width (above, left, below, right); one store `Floats`."""

    source: Value = None
    pad: Tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: float = 0.0


@dataclass(eq=False)
class Reshape(Node):
    """The same numbers in another order: ``x.reshape(split).transpose(axes).reshape(shape of the value)``.

    Orders are MXNet's, channels first. Empty `split`: the source's shape; empty `axes`: in order. One store `Floats`.
    """

    source: Value = None
    split: Tuple[int, ...] = ()
    axes: Tuple[int, ...] = ()


@dataclass(eq=False)
class Softmax(Node):
    """Softmax over the channels; one store `Floats`."""

    source: Value = None


@dataclass(eq=False)
class Graph:
    """A network: its nodes in order, and the values that it gives, by the names of its outputs."""

    name: str
    nodes: List[Node] = field(default_factory=list)
    outputs: Dict[str, Value] = field(default_factory=dict)

    def inputs(self) -> Iterator[Input]:
        """The inputs, in order."""
        return (node for node in self.nodes if isinstance(node, Input))

    def producer(self, value: Value) -> Node:
        """The node that gives a value."""
        return next(node for node in self.nodes if value in node.gives())

    def readers(self, value: Value) -> List[Node]:
        """The nodes that read a value, once each; outputs of the graph are not among them."""
        return [node for node in self.nodes if value in node.reads()]

    def is_output(self, value: Value) -> bool:
        """Whether the network gives that value."""
        return value in self.outputs.values()

    def __str__(self) -> str:
        """One line a node."""
        lines = [f"{self.name}:"]
        for node in self.nodes:
            sources = ", ".join(value.name for value in node.reads())
            stores = ", ".join(f"{value.name} {value.dtype}{list(value.shape)}" for value in node.gives())
            steps = "".join(f" | {type(op).__name__}" for op in node.epilogue)
            lines.append(f"  {stores} = {type(node).__name__} {node.name}({sources}){steps}")
        lines.append("  return " + ", ".join(f"{name}={value.name}" for name, value in self.outputs.items()))
        return "\n".join(lines)
