"""Float convolutions with weights -a and +a become binary, or, if the input is not -1 and +1, ones with 1-bit weights.

Layers of any input (`float_input`) are read like this, and so are networks that were composed of MXNet's own operators
(`bmx.composed`, GPUs, others' code): a sign as floats, perhaps padded with -1 or +1, and a Convolution whose weights,
computed of parameters, are -1 and +1 or these times one number a filter. With p differing bits among the K of a window

    sum x w = a (K - 2 p)

which is the binary convolution with all = K and step = 2, times a. A filter of zeros has a = 0.

Layers with binary weights and floats as their input (binary weight networks) multiply these by -1 and +1, and the sum
by a: their weights are a bit each too.
"""

from __future__ import annotations

import math
from typing import Optional

import numpy as np

from ..ir import Affine, Bits, Concat, Conv, Floats, Function, Graph, Map, Node, Pad, Pool, Reshape, Slice, Value
from .edit import Uses, remove_dead, sort
from .groups import are_binary

__all__ = ["binarize", "binarize_weights", "magnitudes"]

_FEWEST = 8  # weights of a filter: one alone always has one magnitude


def binarize(graph: Graph) -> None:
    """Make float convolutions binary where their input is signs and their weights have one magnitude a filter."""
    uses = Uses(graph)
    signs = _Signs(graph, uses)
    for node in list(graph.nodes):
        if not isinstance(node, Conv) or node.source.dtype != "f32":
            continue
        scales = magnitudes(node.weight)
        if not signs.is_sign(node.source):
            continue
        if scales is None:
            node.notes.append("its input is signs, but its weights are not -a and +a")
            continue
        if any(node.pad):
            node.notes.append("its input is signs, but it is padded with 0, which is neither -1 nor +1")
            continue
        if not are_binary(node):
            node.notes = node.notes or ["binary in groups that are not multiples of 64 channels and 8 filters"]
            continue
        node.source = signs.bits(node.source)
        _take_scales(node, scales)
        node.all, node.step = float(math.prod(node.weight.shape[1:])), 2.0
    sort(graph)
    remove_dead(graph)


def binarize_weights(graph: Graph) -> None:
    """Make weights -1 and +1 that have one magnitude a filter, of the float convolutions that stay such.

    Not of depthwise ones and others with groups of few filters, for which there are no such kernels.
    """
    for node in graph.nodes:
        if not isinstance(node, Conv) or node.source.dtype != "f32" or node.weight[0].size < _FEWEST:
            continue
        scales = magnitudes(node.weight)
        if scales is not None and (node.groups == 1 or len(node.weight) // node.groups % 8 == 0):
            _take_scales(node, scales)


def _take_scales(node: Conv, scales: np.ndarray) -> None:
    node.weight = np.where(node.weight < 0, np.int8(-1), np.int8(1))
    if (scales != 1).any():
        node.epilogue.insert(0, Affine(scales, np.zeros_like(scales)))


def magnitudes(weight: np.ndarray) -> Optional[np.ndarray]:
    """The a of each filter whose weights are -a and +a; None if there is a filter with others."""
    flat = np.abs(weight.reshape(len(weight), -1))
    return flat[:, 0].astype(np.float32) if (flat == flat[:, :1]).all() and np.isfinite(flat).all() else None


def _has_bits(node: Node) -> bool:
    """Whether there is a node that does with bits what this one does with floats."""
    if isinstance(node, Concat):  # pieces of bits begin at whole words
        return node.axis != 0 or all(source.shape[0] % 64 == 0 for source in node.sources[:-1])
    return not isinstance(node, Slice)


class _Signs:
    """Which values are signs as floats, and the same as bits."""

    def __init__(self, graph: Graph, uses: Uses):
        self._graph, self._uses = graph, uses
        self._made = {}

    def is_sign(self, value: Value) -> bool:
        """Whether a value is -1 and +1 only, as far as can be seen."""
        node = self._uses.giver.get(value)
        if isinstance(node, Map):
            last = node.epilogue[-1] if node.epilogue else None
            return isinstance(last, Function) and last.name == "sign1" and len(node.stores) == 1
        if isinstance(node, Pad):
            return abs(node.pad_value) == 1 and self.is_sign(node.source)
        if isinstance(node, Pool):
            return node.mode == "max" and not node.epilogue and self.is_sign(node.source)
        if isinstance(node, Concat):
            return all(map(self.is_sign, node.sources))
        return isinstance(node, (Reshape, Slice)) and self.is_sign(node.source)

    def bits(self, value: Value) -> Value:
        """The bits of such a value."""
        if value not in self._made:
            node = self._copy(self._uses.giver[value], Value(f"{value.name}_bits", value.shape, "bit"))
            self._graph.nodes.append(node)
            self._made[value] = node.stores[0].value
        return self._made[value]

    def _copy(self, node: Node, value: Value) -> Node:
        """The node that gives the bits: a copy of the one that gives the signs, or where there is none, their sign."""
        if isinstance(node, Map) or not _has_bits(node):
            channels = value.shape[0]
            bits = Bits(value, np.zeros(channels, np.float32), np.zeros(channels, bool))
            if isinstance(node, Map):
                return Map(value.name, list(node.epilogue[:-1]), [bits], source=node.source)
            return Map(value.name, stores=[bits], source=node.gives()[0])
        store = Floats(value)
        if isinstance(node, Concat):
            return Concat(value.name, stores=[store], sources=list(map(self.bits, node.sources)), axis=node.axis)
        fields = {key: field for key, field in vars(node).items() if key not in ("name", "epilogue", "stores", "notes")}
        fields["source"] = self.bits(node.source)
        return type(node)(value.name, stores=[store], **fields)
