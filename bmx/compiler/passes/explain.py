"""Notes why a layer is not binary, for the report."""

from __future__ import annotations

from ..ir import Conv, Function, Graph
from .binary import magnitudes
from .edit import Uses

__all__ = ["explain_floats"]


def explain_floats(graph: Graph) -> None:
    """Note on each convolution and dense layer of floats why it is not binary, where no other pass has."""
    uses = Uses(graph)
    for node in graph.nodes:
        if not isinstance(node, Conv) or node.source.dtype != "f32" or node.notes:
            continue
        before = uses.giver[node.source]
        rounded = any(isinstance(op, Function) and op.name == "round" for op in before.epilogue)
        what = "inputs of a few bits" if rounded else "float inputs"
        if node.signs:
            node.notes.append(f"binary weights with {what}")
        elif node.weight[0].size > 1 and magnitudes(node.weight) is not None:
            node.notes.append(f"binary weights with {what} are multiplied as floats")
        elif rounded:
            node.notes.append("inputs of more than one bit are multiplied as floats")
        else:
            node.notes.append("float in the network")
