"""Binary convolutions in groups that the engine has no kernel for become float ones.

Bits are read in words of 64 channels and filters are computed in blocks of 8, so groups must have multiples of these.
With signs x, K of them in a window, the result of others is

    all - step p = all - step (K - sum x w) / 2 = (all - step K / 2) + step / 2 * sum x w

a float convolution of the signs, padded with -1 or +1 before; all these integers are exact in float32.
"""

from __future__ import annotations

import math

import numpy as np

from ..ir import Affine, Conv, Floats, Function, Graph, Map, Pad, Value
from .edit import Uses, remove_dead

__all__ = ["are_binary", "are_bytes", "split_groups"]


def are_binary(node: Conv) -> bool:
    """Whether the groups of a convolution could be binary."""
    filters, channels = node.weight.shape[:2]
    return node.groups == 1 or (channels % 64 == 0 and filters // node.groups % 8 == 0)


def are_bytes(node: Conv) -> bool:
    """Whether the groups of a convolution could be int8; those of one channel have a float kernel."""
    filters, channels = node.weight.shape[:2]
    return node.groups == 1 or (channels % 4 == 0 and filters // node.groups % 8 == 0)


def split_groups(graph: Graph) -> None:
    """Make binary convolutions float whose groups are not multiples of 64 channels and 8 filters.

    To run before any other pass: the bits that they read are then a `Map`'s.
    """
    uses = Uses(graph)
    for node in list(graph.nodes):
        if not isinstance(node, Conv) or node.source.dtype != "bit" or are_binary(node):
            continue
        sign = uses.giver[node.source]
        place = graph.nodes.index(node)
        floats = Value(f"{node.name}_signs", sign.source.shape)
        graph.nodes.insert(place, Map(floats.name, [Function("sign1")], [Floats(floats)], source=sign.source))
        if any(node.pad):
            above, left, below, right = node.pad
            channels, height, width = floats.shape
            padded = Value(f"{node.name}_padded", (channels, height + above + below, width + left + right))
            border = {"pad": node.pad, "pad_value": node.pad_value}
            graph.nodes.insert(place + 1, Pad(padded.name, stores=[Floats(padded)], source=floats, **border))
            floats, node.pad, node.pad_value = padded, (0, 0, 0, 0), 0.0
        count = math.prod(node.weight.shape[1:])
        scale, bias = node.step / 2, node.all - node.step * count / 2
        numbers = (np.full(len(node.weight), number, np.float32) for number in (scale, bias))
        node.source, node.weight = floats, node.weight.astype(np.float32)
        node.epilogue.insert(0, Affine(*numbers))
        node.all = node.step = 0.0
        node.notes.append("binary in groups that are not multiples of 64 channels and 8 filters")
    remove_dead(graph)
