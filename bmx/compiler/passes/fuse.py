"""Moves operations into the node whose result they work on, so that they are done in registers.

A `Map` whose source nothing else reads is appended to the node that gives it: its operations to the epilogue, its
stores in the place of that node's. The node takes the Map's place in the order; nothing in between reads it. A sum can
be appended to either of its two summands.
"""

from __future__ import annotations

from typing import Optional

from ...program.operations import operands, row_of
from ..ir import Conv, Floats, Graph, Input, Map, Node, Pool, Value
from .edit import Uses

__all__ = ["fuse_maps", "merge_maps"]


def merge_maps(graph: Graph) -> None:
    """Append Maps to Maps only: what is between two layers becomes one list of operations."""
    _fuse(graph, (Map,))


def fuse_maps(graph: Graph) -> None:
    """Append Maps to all nodes that have an epilogue."""
    _fuse(graph, (Conv, Pool, Input, Map))


def _fuse(graph: Graph, kinds: tuple) -> None:
    uses = Uses(graph)
    for node in list(graph.nodes):
        if not isinstance(node, Map) or node.source.dtype != "f32":
            continue
        before = _appendable(node.source, uses, kinds)
        swapped = _swap(node, before, uses, kinds)
        before = swapped or before
        if before is None:
            continue
        if isinstance(before, Input) and operands(node.epilogue):
            continue  # it stays where it is, before what would be added
        before.epilogue += node.epilogue
        before.stores = node.stores
        before.notes += node.notes
        if isinstance(before, Input):  # the order of inputs is the network's
            graph.nodes.remove(node)
        else:
            graph.nodes.remove(before)
            graph.nodes[graph.nodes.index(node)] = before
        uses = Uses(graph)


def _appendable(value: Value, uses: Uses, kinds: tuple) -> Optional[Node]:
    """The node that gives a value, if operations on it can be appended there."""
    node = uses.giver[value]
    alone = uses.only_reader(value) and len(node.stores) == 1 and isinstance(node.stores[0], Floats)
    return node if alone and isinstance(node, kinds) and value.dtype == "f32" else None


def _swap(node: Map, before: Optional[Node], uses: Uses, kinds: tuple) -> Optional[Node]:
    """Exchange the summands (or factors) of a Map that begins with a sum, if the other's giver is a better place."""
    if isinstance(before, Conv) or not node.epilogue or not row_of(node.epilogue[0]).commutative:
        return None
    first = node.epilogue[0]
    if first.operand.shape != node.source.shape or first.operand is node.source:
        return None
    other = _appendable(first.operand, uses, kinds)
    if other is None or (before is not None and not isinstance(other, Conv)):
        return None
    node.source, first.operand = first.operand, node.source
    return other
