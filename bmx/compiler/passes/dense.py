"""A dense layer of a flattened image is a convolution whose window is the image: nothing has to be flattened."""

from __future__ import annotations

from ..ir import Conv, Graph, Reshape
from .edit import Uses, remove_dead

__all__ = ["unflatten_dense"]


def unflatten_dense(graph: Graph) -> None:
    """Let dense layers read the image (C, H, W) before it was flattened, with weights (units, C, H, W)."""
    uses = Uses(graph)
    for node in graph.nodes:
        if not isinstance(node, Conv) or len(node.source.shape) != 1:
            continue
        before = uses.giver[node.source]
        if isinstance(before, Reshape) and not before.axes and len(before.source.shape) == 3:
            node.source = before.source
            node.weight = node.weight.reshape(len(node.weight), *before.source.shape)
    remove_dead(graph)
