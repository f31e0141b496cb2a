"""Notes why a layer stayed float, for the report."""

from __future__ import annotations

from ..ir import Conv, Function, Graph
from .binary import magnitudes
from .edit import Uses

__all__ = ["explain_floats"]


def explain_floats(graph: Graph) -> None:
    """Note on each float convolution and dense layer why it is not binary, where no other pass has."""
    uses = Uses(graph)
    for node in graph.nodes:
        if not isinstance(node, Conv) or node.source.dtype != "f32" or node.notes:
            continue
        before = uses.giver[node.source]
        rounded = any(isinstance(op, Function) and op.name == "round" for op in before.epilogue)
        scales = magnitudes(node.weight)
        if node.weight[0].size > 1 and scales is not None:
            what = "inputs of a few bits" if rounded else "float inputs"
            node.notes.append(f"binary weights with {what} are multiplied as floats")
        elif rounded:
            node.notes.append("inputs of more than one bit are multiplied as floats")
        else:
            node.notes.append("float in the network")
