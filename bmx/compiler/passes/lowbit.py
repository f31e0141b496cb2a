"""Layers with inputs and weights of a few bits become int8 ones, which is exact.

Quantized inputs are ``j / n`` for integers j from 0 to n = 2^k - 1, as `Clip`, scale, round and scale at the end of an
epilogue show; up to 8 bits they are bytes of scale 1 / n. Weights of up to 7 bits (DoReFa: ``(2 q - n) / n``), ternary
ones (-a, 0, a) and binary ones are ``a i / n`` for integers i from -n to n, n up to 127. So

    sum x w = (1 / n_x) (a / n_w) sum j i

with sums of integers, which float arithmetic rounds and this does not.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from ..ir import Affine, Bytes, Clip, Conv, Floats, Function, Graph, Input, Map, Operation, Pool, Value
from .edit import Uses, remove_dead, sort
from .groups import are_bytes

__all__ = ["multiply_integers", "to_bytes", "use_bytes"]

_LEVELS = (1, 3, 7, 15, 31, 63, 127)


def multiply_integers(graph: Graph) -> None:
    """Make float convolutions and dense layers int8 whose inputs and weights are few-bit integers times a number."""
    for node in list(graph.nodes):
        if not isinstance(node, Conv) or node.source.dtype != "f32" or not are_bytes(node):
            continue
        uses = Uses(graph)
        before = uses.giver[node.source]
        scale = input_scale(before.epilogue) if before.store(Floats) is not None else None
        weights = integer_weights(node.weight) if scale is not None else None
        source = to_bytes(graph, uses, node.source, scale, 0) if weights is not None else None
        if source is None:
            continue
        integers, step = weights
        use_bytes(node, source, integers, np.full(len(integers), step, np.float32))
        node.notes.append("few bits: exact in int8")
    sort(graph)
    remove_dead(graph)


def input_scale(operations: List[Operation]) -> Optional[float]:
    """The s of numbers ``s j`` that operations give, j an integer from 0 to 255; None if they give others."""
    if len(operations) < 4:
        return None
    clip, first, rounding, second = operations[-4:]
    if not isinstance(clip, Clip) or not isinstance(rounding, Function) or rounding.name != "round":
        return None
    steps, scale = _uniform_scale(first), _uniform_scale(second)
    if steps is None or scale is None or scale <= 0 or clip.low < 0 or steps <= 0 or round(clip.high * steps) > 255:
        return None
    return scale


def _uniform_scale(operation: Operation) -> Optional[float]:
    """The number that an operation multiplies everything by; None if it does something else."""
    if not isinstance(operation, Affine) or operation.bias.any() or (operation.scale != operation.scale[0]).any():
        return None
    return float(operation.scale[0])


def integer_weights(weight: np.ndarray) -> Optional[Tuple[np.ndarray, float]]:
    """Integers from -127 to 127 and the number that makes them the weights; None if there are no such."""
    largest = float(np.abs(weight).max(initial=0.0))
    if not np.isfinite(largest) or largest == 0:
        return None
    for unit in (1.0, largest) if largest <= 1 else (largest,):
        for levels in _LEVELS:
            scaled = weight.astype(np.float64) * (levels / unit)
            integers = np.rint(scaled)
            if np.abs(scaled - integers).max() < 1e-4:
                return integers.astype(np.int8), unit / levels
    return None


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
