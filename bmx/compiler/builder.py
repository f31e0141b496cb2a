"""Builds a graph of the compiler's nodes, one after the other: what the functions that read operators write with."""

from __future__ import annotations

from typing import Callable, Dict, Sequence, Set, Tuple

import numpy as np

from ..errors import Error
from .ir import (
    Affine,
    Bits,
    Clip,
    Conv,
    Floats,
    Function,
    Graph,
    Input,
    Map,
    Node,
    Operation,
    Pad,
    Pool,
    Reshape,
    Shape,
    Slice,
    Value,
)

__all__ = ["Builder", "image_shape", "over_sample", "pad_to_reach"]


def image_shape(shape: Shape) -> Shape:
    """The shape that values have in the graph: images of one dimension (C, W) are (C, 1, W), one number is (1,)."""
    return (shape[0], 1, shape[1]) if len(shape) == 2 else tuple(shape) or (1,)


class Builder:
    """A graph that grows. Names that are taken get a number."""

    def __init__(self, name: str):
        self.graph = Graph(name)
        self._names: Set[str] = set()
        self._bits: Dict[Value, Value] = {}

    def unique(self, name: str) -> str:
        """A name that no node or value has yet."""
        taken, number = name, 1
        while taken in self._names:
            taken, number = f"{name}_{number}", number + 1
        self._names.add(taken)
        return taken

    def add(self, node: Node, shape: Shape, dtype: str = "f32") -> Value:
        """Append a node that stores one value, with the node's name."""
        node.name = self.unique(node.name)
        value = Value(node.name, tuple(int(size) for size in shape), dtype)
        node.stores.append(Floats(value))
        self.graph.nodes.append(node)
        return value

    def input(self, name: str, shape: Shape) -> Value:
        """An input of the network."""
        return self.add(Input(name, shape=tuple(shape)), image_shape(shape))

    def map(self, name: str, source: Value, *operations: Operation) -> Value:
        """A value through operations; itself if there are none."""
        return self.add(Map(name, list(operations), source=source), source.shape) if operations else source

    def function(self, name: str, source: Value, *functions: str) -> Value:
        """A value through functions of docs/format.md."""
        return self.map(name, source, *map(Function, functions))

    def affine(self, name: str, source: Value, scale: object = 1.0, bias: object = 0.0) -> Value:
        """``source * scale + bias``, each one number or one a channel; itself if nothing changes."""
        scale, bias = (np.broadcast_to(np.asarray(x, np.float32), (source.shape[0],)).copy() for x in (scale, bias))
        return source if (scale == 1).all() and not bias.any() else self.map(name, source, Affine(scale, bias))

    def constant(self, name: str, numbers: np.ndarray) -> Value:
        """The same numbers for every sample: a dense layer of weights 0 and these biases."""
        size, source = numbers.size, next(self.graph.inputs()).stores[0].value
        zero = self.slice(f"{name}_number", self.reshape(f"{name}_input", source, (np.prod(source.shape),)), (0,), (1,))
        zero = self.map(f"{name}_zero", zero, Clip(0.0, 0.0))
        y = self.conv(f"{name}_zeros", zero, np.zeros((size, 1, 1, 1), np.float32), (size,))
        y = self.affine(f"{name}_numbers", y, bias=numbers.reshape(-1))
        return self.reshape(name, y, image_shape(numbers.shape))

    def by_number(
        self, name: str, source: Value, shape: Shape, constant: np.ndarray, apply: Callable[[Value, np.ndarray], Value]
    ) -> Value:
        """``apply(value, numbers)`` for a constant that broadcasts over a value of an MXNet shape.

        The numbers are one a channel; if the constant differs from pixel to pixel, every number is a channel.
        """
        full = over_sample(constant, shape)
        flat = full.reshape(full.shape[0], -1)
        if ((flat == flat[:, :1]) | (np.isnan(flat) & np.isnan(flat[:, :1]))).all():
            return apply(source, np.broadcast_to(flat[:, 0], source.shape[:1]).copy())
        numbers = np.broadcast_to(full, shape).reshape(-1)
        y = apply(self.reshape(f"{name}_flat", source, (numbers.size,)), numbers)
        return self.reshape(f"{name}_shape", y, source.shape)

    def bits(self, source: Value) -> Value:
        """The sign of a value as bits; made once."""
        if source not in self._bits:
            node = Map(self.unique(f"{source.name}_sign"), source=source)
            value = Value(node.name, source.shape, "bit")
            channels = source.shape[0]
            node.stores.append(Bits(value, np.zeros(channels, np.float32), np.zeros(channels, bool)))
            self.graph.nodes.append(node)
            self._bits[source] = value
        return self._bits[source]

    def conv(self, name: str, source: Value, weight: np.ndarray, shape: Shape, **options: object) -> Value:
        """A convolution: `options` are `Conv`'s."""
        return self.add(Conv(name, source=source, weight=weight, **options), shape)

    def pool(self, name: str, source: Value, mode: str, window: Sequence[Tuple[int, ...]], shape: Shape) -> Value:
        """A pooling of a window (kernel, stride, pad above and left)."""
        kernel, stride, pad = window
        pad = pad_to_reach(source.shape[1:], shape[1:], kernel, stride, pad)
        return self.add(Pool(name, source=source, mode=mode, kernel=kernel, stride=stride, pad=pad), shape)

    def pad(self, name: str, source: Value, pad: Tuple[int, int, int, int], value: float) -> Value:
        """A border (above, left, below, right)."""
        if not any(pad):
            return source
        channels, height, width = source.shape
        shape = (channels, height + pad[0] + pad[2], width + pad[1] + pad[3])
        return self.add(Pad(name, source=source, pad=pad, pad_value=value), shape)

    def reshape(self, name: str, source: Value, shape: Shape, split: Shape = (), axes: Sequence[int] = ()) -> Value:
        """The same numbers in another shape, see `Reshape`; itself if nothing changes."""
        if np.prod(shape) != np.prod(source.shape):
            raise Error(f"{source.shape} cannot become {tuple(shape)} without mixing the samples of a batch")
        if tuple(axes) == tuple(range(len(axes))):
            axes, split = (), ()
        if not axes and tuple(shape) == source.shape:
            return source
        return self.add(Reshape(name, source=source, split=tuple(split), axes=tuple(axes)), shape)

    def slice(self, name: str, source: Value, begin: Sequence[int], shape: Shape) -> Value:
        """A part of a value; itself if it is all of it."""
        if tuple(shape) == source.shape:
            return source
        return self.add(Slice(name, source=source, begin=tuple(begin)), shape)


def pad_to_reach(
    source: Sequence[int], target: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]
) -> Tuple[int, int, int, int]:
    """Above, left, below, right, where the last two are as large as the windows of the last outputs reach."""
    far = [(t - 1) * s + k - p - n for n, t, k, s, p in zip(source, target, kernel, stride, pad)]
    return (pad[0], pad[1], far[0], far[1])


def over_sample(constant: np.ndarray, shape: Shape) -> np.ndarray:
    """A constant that broadcasts over a value of an MXNet shape, as one that broadcasts over a sample.

    Raises
    ------
    bmx.Error
        If it is larger than the value.
    """
    full = np.asarray(constant, np.float32)
    full = full.reshape((1,) * (1 + len(shape) - full.ndim) + full.shape)
    sizes = (1, *shape)
    if full.ndim != len(sizes) or any(n not in (1, size) for n, size in zip(full.shape, sizes)):
        raise Error(f"a constant of the shape {constant.shape} beside a value of the shape (batch, {_sizes(shape)})")
    return full[0] if shape else full


def _sizes(shape: Shape) -> str:
    return ", ".join(map(str, shape))
