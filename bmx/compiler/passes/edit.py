"""What passes share: who gives and who reads a value, replacing values, removing what nothing reads, the order."""

from __future__ import annotations

from typing import Dict, List, Set

from ...program.operations import has_operand
from ..ir import Bytes, Concat, Floats, Graph, Input, Node, Value

__all__ = ["Uses", "name_values", "remove_dead", "replace", "reread", "sort"]


class Uses:
    """The givers and readers of all values of a graph, as it is now."""

    def __init__(self, graph: Graph):
        self.giver: Dict[Value, Node] = {}
        self._readers: Dict[Value, List[Node]] = {}
        self._outputs = set(graph.outputs.values())
        for node in graph.nodes:
            for value in node.gives():
                self.giver[value] = node
            for value in node.reads():
                self._readers.setdefault(value, []).append(node)

    def readers(self, value: Value) -> List[Node]:
        """The nodes that read a value, once for each time."""
        return self._readers.get(value, [])

    def only_reader(self, value: Value) -> bool:
        """Whether a value is read exactly once and is no output of the network."""
        return len(self.readers(value)) == 1 and value not in self._outputs

    def is_output(self, value: Value) -> bool:
        """Whether the network gives the value."""
        return value in self._outputs


def reread(node: Node, old: Value, new: Value) -> None:
    """Let a node read another value in the place of one."""
    if getattr(node, "source", None) is old:
        node.source = new
    if isinstance(node, Concat):
        node.sources = [new if value is old else value for value in node.sources]
    for operation in node.epilogue:
        if has_operand(operation) and operation.operand is old:
            operation.operand = new


def replace(graph: Graph, old: Value, new: Value) -> None:
    """Let every reader of a value, and the outputs, have another one."""
    for node in graph.nodes:
        reread(node, old, new)
    for name, value in graph.outputs.items():
        if value is old:
            graph.outputs[name] = new


def remove_dead(graph: Graph) -> None:
    """Remove stores that nothing reads, and nodes without stores. Inputs stay: a program has to be given them."""
    needed: Set[Value] = set(graph.outputs.values())
    kept = []
    for node in reversed(graph.nodes):
        if not isinstance(node, Input) or any(value in needed for value in node.gives()):
            node.stores = [store for store in node.stores if store.value in needed]
        if node.stores:
            kept.append(node)
            needed.update(node.reads())
    graph.nodes = kept[::-1]


def sort(graph: Graph) -> None:
    """Order nodes so that each comes after those it reads from, and otherwise as they were."""
    giver = {value: node for node in graph.nodes for value in node.gives()}
    done: Set[Node] = set()
    order: List[Node] = []
    for root in graph.nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            waiting = [giver[value] for value in node.reads() if giver[value] not in done]
            if node in done:
                stack.pop()
            elif waiting:
                stack += reversed(waiting)
            else:
                done.add(node)
                order.append(stack.pop())
    graph.nodes = order


def name_values(graph: Graph) -> None:
    """Name values after the nodes that give them, and these without Gluon's ending ``_fwd``."""
    taken: Set[str] = set()
    for node in graph.nodes:
        if node.name.endswith("_fwd") and not isinstance(node, Input):
            node.name = node.name[: -len("_fwd")]
        name, number = node.name, 1
        while node.name in taken:
            node.name, number = f"{name}_{number}", number + 1
        taken.add(node.name)
    for node in graph.nodes:
        for store in node.stores:
            ending = "" if isinstance(store, Floats) else "_bytes" if isinstance(store, Bytes) else "_bits"
            store.value.name = node.name + ending
