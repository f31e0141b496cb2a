"""Signs of sums that can be 0 exactly: where integers and floats give other bits.

A sum of thirds that is 0 as an integer is not in float arithmetic: its sign is that of what was rounded. Where it is
compared with 0 as it is, or times something, as in a network that is not trained yet, floats give -1 or +1 as it
happens and integers +1, in some percent of all cases. After training a BatchNorm compares with some other number.
"""

from __future__ import annotations

import numpy as np

from ...program.operations import operands, row_of
from ..arithmetic import apply, is_channelwise
from ..ir import Bits, Concat, Conv, Floats, Function, Map, Node, Pad, Pool, Reshape, Slice
from .edit import Uses

__all__ = ["decides_ties"]

_NEAR = 1e-6


def decides_ties(node: Conv, uses: Uses) -> bool:
    """Whether a bit is decided by the sign of one of a layer's sums, with nothing added to it."""
    return _decides(node, np.ones(len(node.weight), bool), uses)


def _decides(node: Node, zero: np.ndarray, uses: Uses, first: int = 0) -> bool:
    """The same for a node and the channels in which its result is 0 where the sum is; so is what it stores.

    The result is that before the operation number `first`.
    """
    y = np.zeros(len(zero), np.float32)
    for operation in node.epilogue[first:]:
        if not is_channelwise(operation):
            if not row_of(operation).chooses:
                return False
            continue  # y, wherever it is chosen
        if isinstance(operation, Function) and operation.name == "sign1":
            return bool(zero.any())
        y = apply(operation, y)
        zero = zero & (np.abs(y) < _NEAR)
    for store in node.stores:
        if isinstance(store, Bits) and (zero & (np.abs(store.threshold) < _NEAR)).any():
            return True
        if isinstance(store, Floats) and zero.any():
            if any(_follows(reader, store, zero, uses) for reader in uses.readers(store.value)):
                return True
    return False


def _follows(reader: Node, store: Floats, zero: np.ndarray, uses: Uses) -> bool:
    for place, operation in enumerate(reader.epilogue):
        if store.value in operands([operation]) and row_of(operation).chooses:
            channels = reader.gives()[0].shape[0]
            chosen = zero if len(zero) == channels else np.full(channels, True)
            if _decides(reader, chosen, uses, place + 1):
                return True
    if store.value not in ([reader.source] if hasattr(reader, "source") else getattr(reader, "sources", [])):
        return False  # it is added or multiplied
    if isinstance(reader, (Reshape, Slice, Concat)):
        return _decides(reader, np.full(reader.gives()[0].shape[0], True), uses)
    if isinstance(reader, (Map, Pad)) or (isinstance(reader, Pool) and reader.mode == "max"):
        return _decides(reader, zero, uses)
    return False
