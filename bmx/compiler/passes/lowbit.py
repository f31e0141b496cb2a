"""Layers with inputs and weights of up to 8 bits become int8 ones, which is exact.

Quantized inputs are ``s j`` for few integers j, weights ``a i`` for others (`levels`), so

    sum x w = s a sum j i

with sums of integers, which float arithmetic rounds and this does not. The bytes are ``j + z`` with a zero point z that
makes the lowest level 0. What a layer is padded with is a level too: inputs of k bits are levels 0 to n = 2^k - 1 from
0 to 1, so that BMXNet v2's padding of -1 is the level -n, the zero point n, and the byte of the border 0.

Two things of 8 bits do not fit bytes, and are corrected by a sum of their own:

- A border outside of the 256 levels (-255 beside 0 to 255). It is padded with another level, and d is the difference.
  With W the sums of the weights over the channels, and an image of ones, what is missing is
  ``d (sum of W over all taps - sum of W over the taps inside of the image)``: a convolution of one channel.
- Weights ``a (2 i + 1)``, the 256 odd numbers from -255 to 255: ``sum j (2 i + 1) = 2 sum j i + sum j``, the last one
  being the same for all filters.

Layers whose sums are compared with 0 stay float, if float arithmetic rounds them: see `ties`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

import numpy as np

from ..ir import Add, Affine, Bytes, Conv, Floats, Graph, Input, Map, Pad, Pool, Slice, Value
from .edit import Uses, remove_dead, sort
from .groups import are_bytes
from .levels import Levels, Weights, integer_weights, level_of, levels_of
from .ties import decides_ties

__all__ = ["is_correction", "multiply_integers", "to_bytes", "use_bytes"]

_MOST = 256  # levels that a byte has
_LARGEST_SUM = 2**31 - 1
_CORRECTION = "corrects a layer of 8 bits"


@dataclass
class _Layer:
    """A float convolution that can be an int8 one."""

    node: Conv
    source: Value  # what it reads, its border aside
    pad: Tuple[int, int, int, int]
    border: int  # the level that it is padded with
    inputs: Levels
    weights: Weights


def multiply_integers(graph: Graph) -> None:
    """Make float convolutions and dense layers int8 whose inputs and weights are few-bit integers times a number.

    A layer of which only one of both is of few bits gets a note why it stays float.
    """
    uses = Uses(graph)
    layers = [layer for node in graph.nodes if isinstance(node, Conv) for layer in _find_layer(node, uses)]
    ranges = _ranges(layers)
    for layer in layers:
        low, high = ranges[layer.source]
        source = to_bytes(graph, uses, layer.source, layer.inputs.scale, -low)
        if source is None:
            layer.node.notes.append("its input is stored as other bytes already")
            continue
        _multiply(graph, layer, source, low, high)
    sort(graph)
    remove_dead(graph)


def is_correction(node: Conv) -> bool:
    """Whether a float convolution is no layer of the network, but part of an exact sum."""
    return _CORRECTION in node.notes


def _find_layer(node: Conv, uses: Uses) -> List[_Layer]:
    """The layer of a node, or none, with a note on the node where that is not plain."""
    if node.source.dtype != "f32":
        return []
    source, pad, pad_value = _border(node, uses)
    inputs, weights = levels_of(source, uses), integer_weights(node.weight)
    border = level_of(pad_value, inputs) if inputs is not None else None
    reason = _obstacle(node, inputs, weights, border, pad_value)
    if reason is None and (inputs.scale, weights.step) != (1, 1) and decides_ties(node, uses):
        reason = "few bits, but roundings decide the sign of its sums where they are 0: multiplied as floats"
    if reason is None:
        return [_Layer(node, source, pad, border, inputs, weights)]
    if reason and not node.notes:
        node.notes.append(reason)
    return []


def _border(node: Conv, uses: Uses) -> Tuple[Value, Tuple[int, int, int, int], float]:
    """What a float convolution reads, with the padding that it and borders before it make together."""
    source, pad, value = node.source, tuple(node.pad), 0.0
    before = uses.giver[source]
    while isinstance(before, Pad) and (not any(pad) or before.pad_value == value):
        source, pad, value = before.source, tuple(a + b for a, b in zip(pad, before.pad)), before.pad_value
        before = uses.giver[source]
    return source, pad, value


def _obstacle(
    node: Conv, inputs: Optional[Levels], weights: Optional[Weights], border: Optional[int], pad_value: float
) -> Optional[str]:
    """Why a layer cannot be int8: None if it can, empty if that needs no word."""
    if inputs is None:
        return (
            "" if weights is None or node.signs else "weights of a few bits with float inputs are multiplied as floats"
        )
    if inputs.count > _MOST:
        return "inputs of more than 8 bits are multiplied as floats"
    if weights is None:
        return "inputs of a few bits with weights of more than 8 are multiplied as floats"
    if not are_bytes(node) or (weights.odd and node.groups > 1):
        return "few bits in groups of other sizes than int8 has: multiplied as floats"
    if border is None:
        return f"padded with {pad_value:g}, which is no level of its input: multiplied as floats"
    magnitudes = np.abs(weights.integers.astype(np.int64)).reshape(len(weights.integers), -1)
    if magnitudes.sum(axis=1).max() * 255 > _LARGEST_SUM:
        return "few bits, but sums of so many can be larger than 32 bits: multiplied as floats"
    return None


def _ranges(layers: List[_Layer]) -> Dict[Value, Tuple[int, int]]:
    """The lowest and the highest level of the bytes of each value, with the borders of all its readers if they fit."""
    ranges: Dict[Value, Tuple[int, int]] = {layer.source: layer.inputs[1:] for layer in layers}
    for layer in layers:
        low, high = ranges[layer.source]
        if any(layer.pad):
            low, high = min(low, layer.border), max(high, layer.border)
        if high - low < _MOST:
            ranges[layer.source] = low, high
    return ranges


def _multiply(graph: Graph, layer: _Layer, source: Value, low: int, high: int) -> None:
    node, (scale, *_), weights = layer.node, layer.inputs, layer.weights
    padded = min(max(layer.border, low), high)  # the level of the border as bytes
    node.pad, node.pad_value = layer.pad, padded * scale
    use_bytes(node, source, weights.integers, np.full(len(weights.integers), weights.step, np.float32))
    if any(layer.pad) and padded != layer.border:
        node.epilogue.insert(0, Add(_outside(graph, layer, source, layer.border - padded)))
    if weights.odd:
        twice = np.full(len(weights.integers), 2, np.float32)
        node.epilogue[:0] = [Affine(twice, 0 * twice), Add(_sum_of_inputs(graph, layer, source))]
    node.notes.append("few bits: exact in int8")


def _sum_of_inputs(graph: Graph, layer: _Layer, source: Value) -> Value:
    """The sum of the levels under each window, a convolution with weights 1."""
    node = layer.node
    value = Value(f"{_name(node)}_inputs", (1, *node.gives()[0].shape[1:]))
    ones = np.ones((1, *node.weight.shape[1:]), np.int8)
    window = {name: getattr(node, name) for name in ("stride", "dilate", "pad", "pad_value")}
    graph.nodes.append(Conv(value.name, [], [Floats(value)], [_CORRECTION], source=source, weight=ones, **window))
    return value


def _outside(graph: Graph, layer: _Layer, source: Value, difference: int) -> Value:
    """`difference` times the sum of weights over the taps outside of the image."""
    node = layer.node
    sums = layer.weights.multipliers.sum(axis=1, keepdims=True)
    name = _name(node)
    first = Value(f"{name}_first", (1, *source.shape[1:]), "u8", source.scale, source.zero_point)
    ones = Value(f"{name}_ones", first.shape)
    value = Value(f"{name}_outside", node.gives()[0].shape)
    every = Affine(np.zeros(1, np.float32), np.ones(1, np.float32))
    rest = sums.sum(axis=(1, 2, 3)) * difference
    scale = Affine(np.full(len(sums), -difference, np.float32), rest.astype(np.float32))
    window = {name: getattr(node, name) for name in ("stride", "dilate", "pad")}
    graph.nodes += [
        Slice(first.name, stores=[Floats(first)], source=source, begin=(0,) * len(first.shape)),
        Map(ones.name, [every], [Floats(ones)], source=first),
        Conv(
            value.name, [scale], [Floats(value)], [_CORRECTION], source=ones, weight=sums.astype(np.float32), **window
        ),
    ]
    return value


def _name(node: Conv) -> str:
    return node.name[: -len("_fwd")] if node.name.endswith("_fwd") else node.name


def to_bytes(graph: Graph, uses: Uses, value: Value, scale: float, zero_point: int) -> Optional[Value]:
    """The value as bytes, stored by the node that gives it or else by a `Map`; None if that stores others already."""
    node = uses.giver[value]
    if not isinstance(node, (Input, Conv, Pool, Map)):  # which have an epilogue
        copies = (reader for reader in uses.readers(value) if isinstance(reader, Map) and not reader.epilogue)
        node = next((copy for copy in copies if copy.store(Bytes) is not None), None)
        if node is None:
            node = Map(f"{value.name}_bytes", source=value)
            graph.nodes.insert(graph.nodes.index(uses.giver[value]) + 1, node)
    own = node.store(Bytes)
    if own is not None:
        return own.value if (own.value.scale, own.value.zero_point) == (scale, zero_point) else None
    result = Value(f"{value.name}_bytes", value.shape, "u8", scale, zero_point)
    node.stores.append(Bytes(result))
    return result


def use_bytes(node: Conv, source: Value, weight: np.ndarray, scales: np.ndarray) -> None:
    """Let a float convolution read bytes and multiply by int8 weights, whose numbers are `scales` times these."""
    node.source, node.weight = source, weight
    factors = (scales.astype(np.float64) * source.scale).astype(np.float32)
    node.epilogue.insert(0, Affine(factors, np.zeros_like(factors)))
