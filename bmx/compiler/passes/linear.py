"""Merges operations that are linear: scales, biases and BatchNorms after each other."""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from ..arithmetic import apply_all
from ..ir import Affine, Conv, Graph, Norm, Operation

__all__ = ["absorb_into_counts", "merge_linear"]

_EXACT = 2**24  # integers up to here, and their halves up to half of it, are float32 numbers


def absorb_into_counts(graph: Graph) -> None:
    """Let a binary convolution give what an affine operation that is the same in all channels makes of its result.

    The result is ``all - step p``, so ``s (all - step p) + b = (s all + b) - (s step) p``. It is done where it is exact
    for each of the K + 1 counts: bits of (K + dot) / 2 as MXNet's operators compose it become K - p.
    """
    for node in graph.nodes:
        while isinstance(node, Conv) and node.source.dtype == "bit" and node.epilogue:
            if not _absorb(node, node.epilogue[0]):
                break
            del node.epilogue[0]


def _absorb(node: Conv, operation: Operation) -> bool:
    if not isinstance(operation, Affine):
        return False
    scale, bias = float(operation.scale[0]), float(operation.bias[0])
    if (operation.scale != operation.scale[0]).any() or (operation.bias != operation.bias[0]).any() or scale == 0:
        return False
    p = np.arange(int(np.prod(node.weight.shape[1:])) + 1, dtype=np.float64)
    before = (node.all - node.step * p).astype(np.float32)
    after = apply_all([Affine(operation.scale[:1], operation.bias[:1])], before[:, None])[:, 0]
    new_all, new_step = scale * node.all + bias, scale * node.step
    numbers = np.array([new_all, new_step]) * 2
    exact = np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all() and np.abs(numbers).max() < _EXACT
    if not exact or not np.array_equal(new_all - new_step * p, after):
        return False
    node.all, node.step = new_all, new_step
    return True


def merge_linear(graph: Graph) -> None:
    """Merge runs of linear operations into one each; thresholds are made before.

    ``(s y + b) S + B = (s S) y + (b S + B)``, computed in float64 and rounded once. A BatchNorm alone becomes
    ``scale y + (beta - mean scale)``; not after a binary convolution, where the result is exact and shall stay so.
    """
    for node in graph.nodes:
        node.epilogue = _merged(node.epilogue)
        if not (isinstance(node, Conv) and node.source.dtype == "bit"):
            node.epilogue = [_as_affine(op) if isinstance(op, Norm) else op for op in node.epilogue]


def _as_affine(norm: Norm) -> Operation:
    channels = len(norm.scale)
    nothing = Affine(np.ones(channels, np.float32), np.zeros(channels, np.float32))
    return _join(norm, nothing) or norm


def _merged(operations: List[Operation]) -> List[Operation]:
    result: List[Operation] = []
    for operation in operations:
        joined = _join(result[-1], operation) if result else None
        if joined is None:
            result.append(operation)
        else:
            result[-1] = joined
    return result


def _join(first: Operation, second: Operation) -> Optional[Operation]:
    """One operation in the place of two linear ones; None for others, and where numbers are not finite."""
    if not isinstance(first, (Affine, Norm)) or not isinstance(second, (Affine, Norm)):
        return None
    (s, b), (scale, bias) = _line(first), _line(second)
    with np.errstate(all="ignore"):
        merged = [(s * scale).astype(np.float32), (b * scale + bias).astype(np.float32)]
    return Affine(*merged) if all(np.isfinite(array).all() for array in merged) else None


def _line(operation: Operation) -> tuple:
    """Scale and bias in float64."""
    scale, bias = operation.scale.astype(np.float64), operation.bias.astype(np.float64)
    with np.errstate(all="ignore"):
        return (scale, bias) if isinstance(operation, Affine) else (scale, bias - operation.mean * scale)
