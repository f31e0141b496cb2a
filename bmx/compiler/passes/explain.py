"""Notes why a layer is not binary, for the report."""

from __future__ import annotations

from ..ir import Conv, Graph
from .binary import magnitudes

__all__ = ["explain_floats"]


def explain_floats(graph: Graph) -> None:
    """Note on each convolution and dense layer of floats why it is not binary, where no other pass has."""
    for node in graph.nodes:
        if not isinstance(node, Conv) or node.source.dtype != "f32" or node.notes:
            continue
        if node.signs:
            node.notes.append("binary weights with float inputs")
        elif node.weight[0].size > 1 and magnitudes(node.weight) is not None:
            node.notes.append("binary weights with float inputs are multiplied as floats")
        else:
            node.notes.append("float in the network")
