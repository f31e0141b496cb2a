"""Borders of numbers before convolutions become padding of these."""

from __future__ import annotations

from ..ir import Conv, Graph, Pad
from .edit import Uses, remove_dead

__all__ = ["pad_convolutions"]


def pad_convolutions(graph: Graph) -> None:
    """Let convolutions pad what a `Pad` before them pads: floats with 0, bits with -1 or +1, both paddings alike."""
    uses = Uses(graph)
    for node in graph.nodes:
        if not isinstance(node, Conv):
            continue
        before = uses.giver[node.source]
        while isinstance(before, Pad) and _joins(node, before):
            node.pad_value = before.pad_value
            node.pad = tuple(a + b for a, b in zip(node.pad, before.pad))
            node.source = before.source
            before = uses.giver[node.source]
    remove_dead(graph)


def _joins(node: Conv, pad: Pad) -> bool:
    allowed = (-1, 1) if node.source.dtype == "bit" else (0,)
    return pad.pad_value in allowed and (not any(node.pad) or node.pad_value == pad.pad_value)
