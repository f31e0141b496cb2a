"""Constants of a network: its parameters, and what MXNet computes of them, of nothing, and of the shapes of values.

Operators such as zeros, arange and full take no input; zeros_like, slice_like or shape_array take a value for its shape
only. With the shape of a sample fixed their results are constants too, unless they tell the number of samples: so they
are computed for two batches, of 2 and of 3.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Dict, List, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error
from .symbol_file import Entry, SymbolGraph, SymbolNode, mxnet_message, to_symbol

__all__ = ["BATCHES", "CannotRun", "Key", "depends", "evaluate", "fold"]

Key = Tuple[int, int]  # id of a node, number of its output
Shapes = Mapping[Key, Tuple[int, ...]]

BATCHES = (2, 3)
_VERSION = {"mxnet_version": ["int", 10901]}  # MXNet has brought older graphs up to date as it loaded them
_RANDOM = ("random", "sample", "shuffle")
_SHAPE_ONLY = {  # operator -> the input of which it reads nothing but the shape
    **dict.fromkeys(("zeros_like", "ones_like", "shape_array", "size_array", "_contrib_arange_like"), 0),
    **dict.fromkeys(("slice_like", "broadcast_like", "reshape_like"), 1),
}


class CannotRun(Error):
    """MXNet cannot compute what it was asked for; `reason` is its own message."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


def depends(node: SymbolNode, active: Set[int]) -> bool:
    """Whether the numbers that a node gives depend on those of `active` nodes, by id."""
    ignored = _SHAPE_ONLY.get(node.op)
    return any(id(entry.node) in active for place, entry in enumerate(node.inputs) if place != ignored)


def fold(
    entries: Sequence[Entry], parameters: Mapping[str, np.ndarray], shapes: Sequence[Shapes], name: str
) -> Dict[Key, np.ndarray]:
    """The values of entries that do not depend on samples.

    Parameters
    ----------
    entries : sequence of Entry
    parameters : mapping of str to ndarray
    shapes : sequence of mapping of Key to shape
        MXNet's shapes of all values for the `BATCHES`.
    name : str
        Of the network, for errors.

    Returns
    -------
    dict of Key to ndarray
        What has the batch as its first size has 1 there.

    Raises
    ------
    bmx.Error
        If a parameter is missing, MXNet cannot compute a value, or a value is random or depends on the number of
        samples.
    """
    constants: Dict[Key, np.ndarray] = {}
    wanted = []
    for entry in entries:
        if not entry.node.is_variable:
            wanted.append(entry)
        elif entry.node.name not in parameters:
            raise Error(f"{name}: the array {entry.node.name!r} is missing")
        else:
            constants[id(entry.node), entry.index] = parameters[entry.node.name]
    found = []
    for known in shapes:
        copies, stand_ins = _with_stand_ins(wanted, known)
        found.append(evaluate(copies, {**parameters, **stand_ins}, name))
        if copies == wanted:  # the same for every batch
            break
    for number, entry in enumerate(wanted):
        values = [arrays[number] for arrays in found]
        if [value.shape[:1] for value in values] == [(batch,) for batch in BATCHES]:
            values = [sample[None] for value in values for sample in value]
        if not all(np.array_equal(values[0], value, equal_nan=True) for value in values):
            raise Error(
                f"{name}: node {entry.node.name!r} ({entry.node.op}): it depends on the number of samples; "
                "compile outputs that are made without it, and compute the rest with MXNet"
            )
        constants[id(entry.node), entry.index] = values[0]
    return constants


def _with_stand_ins(entries: Sequence[Entry], shapes: Shapes) -> Tuple[List[Entry], Dict[str, np.ndarray]]:
    """Entries of a network where zeros stand in for values of which only the shape is read, and these zeros.

    Sizes that an operator without inputs leaves open are those that the network needs. What needs no change stays.
    """
    changed: Dict[int, SymbolNode] = {}
    zeros: Dict[str, np.ndarray] = {}
    for node in _sorted([entry.node for entry in entries], shapes):
        inputs = [Entry(changed.get(id(entry.node), entry.node), entry.index) for entry in node.inputs]
        place, shape = _place_of_sample(node, shapes), shapes.get((id(node), 0), ())
        attributes = node.attributes
        if place is not None:
            source = node.inputs[place]
            stand_in = f"bmx_zeros_{len(zeros)}"
            zeros[stand_in] = np.zeros(shapes[id(source.node), source.index], np.float32)
            inputs[place] = Entry(SymbolNode("null", stand_in))
        elif not inputs and re.search(r"\b0\b", attributes.get("shape", "")) and shape and all(shape):
            attributes = {**attributes, "shape": str(tuple(shape))}
        if attributes is not node.attributes or inputs != [Entry(*entry[:2]) for entry in node.inputs]:
            changed[id(node)] = SymbolNode(node.op, node.name, attributes, inputs, outputs=node.outputs)
    return [Entry(changed.get(id(entry.node), entry.node), entry.index, entry.version) for entry in entries], zeros


def _place_of_sample(node: SymbolNode, shapes: Shapes) -> Optional[int]:
    """Which input of a node is a value of samples that it reads only the shape of; None: none, or it is a constant."""
    place = _SHAPE_ONLY.get(node.op)
    if place is None or place >= len(node.inputs):
        return None
    source = node.inputs[place]
    return place if (id(source.node), source.index) in shapes else None


def evaluate(entries: Sequence[Entry], parameters: Mapping[str, np.ndarray], name: str) -> List[np.ndarray]:
    """What MXNet computes for outputs of nodes, given all variables."""
    if not entries:
        return []
    nodes = _sorted([entry.node for entry in entries])
    for node in nodes:
        if any(word in node.op for word in _RANDOM):
            raise Error(f"{name}: node {node.name!r} ({node.op}): random numbers are not supported")
    symbol = to_symbol(SymbolGraph(nodes, list(entries), "attrs", _VERSION), name)
    arrays = []
    for key in symbol.list_inputs():
        if key not in parameters:
            raise Error(f"{name}: the array {key!r} is missing")
        arrays.append(mx.nd.array(parameters[key], dtype=parameters[key].dtype))
    if not arrays:  # which CachedOp does not take
        symbol, arrays = mx.sym.Group([symbol, mx.sym.var("bmx_nothing") * 1]), [mx.nd.zeros(1)]
    try:
        outputs = mx.nd.CachedOp(symbol)(*arrays)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        return [output.asnumpy() for output in outputs[: len(entries)]]
    except mx.base.MXNetError as error:
        reason = mxnet_message(error)
        raise CannotRun(f"{name}: MXNet cannot compute the constants: {reason}", reason) from None


def _sorted(nodes: Sequence[SymbolNode], shapes: Shapes = MappingProxyType({})) -> List[SymbolNode]:
    """Nodes and all that they read, inputs first; not the values in `shapes` of which they read only the shape."""
    done: Dict[int, SymbolNode] = {}
    stack = list(nodes)
    while stack:
        node = stack[-1]
        skipped = _place_of_sample(node, shapes)
        sources = [entry.node for place, entry in enumerate(node.inputs) if place != skipped]
        waiting = [source for source in sources if id(source) not in done]
        if waiting and id(node) not in done:
            stack += waiting
        else:
            done.setdefault(id(stack.pop()), node)
    return list(done.values())
