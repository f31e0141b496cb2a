"""Merges what moves numbers: reshapes of reshapes, parts of what was put together."""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from ..arithmetic import is_channelwise
from ..ir import Concat, Floats, Graph, Map, Operation, Reshape, Slice, Value
from .edit import Uses, remove_dead, replace

__all__ = ["delay_reshapes", "merge_reshapes", "shorten_slices"]


def merge_reshapes(graph: Graph) -> None:
    """Make one reshape of two that follow each other.

    A reshape is ``x.reshape(split).transpose(axes).reshape(shape)``. Where the second one has no `axes` it only changes
    the shape at the end of the first; where the first has none, the order of its numbers is that of its source, and
    the second can split the source itself.
    """
    uses = Uses(graph)
    for node in graph.nodes:
        if not isinstance(node, Reshape):
            continue
        before = uses.giver[node.source]
        while isinstance(before, Reshape) and not (before.axes and node.axes):
            if node.axes:
                node.split = node.split or node.source.shape
            else:
                node.split, node.axes = before.split, before.axes
            node.source = before.source
            before = uses.giver[node.source]
        value = node.stores[0].value
        if not node.axes and value.shape == node.source.shape:
            replace(graph, value, node.source)
    remove_dead(graph)


def delay_reshapes(graph: Graph) -> None:
    """Let operations come before a reshape, where they can be done by the node that gives the numbers.

    They must be the same for all channels that one channel of the source becomes.
    """
    changed = True
    while changed:
        changed = False
        uses = Uses(graph)
        for place, node in enumerate(graph.nodes):
            if not isinstance(node, Map) or not uses.only_reader(node.source):
                continue
            before = uses.giver[node.source]
            if len(node.stores) != 1 or not isinstance(node.stores[0], Floats) or not isinstance(before, Reshape):
                continue
            operations = _before(node.epilogue, before)
            if operations is None:
                continue
            value = Value(f"{node.name}_flat", before.source.shape)
            after = Reshape(node.name, stores=node.stores, source=value, split=before.split, axes=before.axes)
            first = Map(value.name, operations, [Floats(value)], node.notes, source=before.source)
            graph.nodes[place : place + 1] = [first, after]
            graph.nodes.remove(before)
            changed = True
            break


def _before(operations: List[Operation], reshape: Reshape) -> Optional[List[Operation]]:
    """The same operations for the channels of a reshape's source; None if they differ within such a channel."""
    moved = []
    for operation in operations:
        if not is_channelwise(operation):
            return None
        fields = {key: _source_channels(array, reshape) for key, array in vars(operation).items()}
        if any(field is None for field in fields.values()):
            return None
        moved.append(type(operation)(**fields))
    return moved


def _source_channels(numbers: object, reshape: Reshape) -> object:
    """One number for each channel of a reshape's source, of those for the channels it gives; None if there are more."""
    if not isinstance(numbers, np.ndarray):
        return numbers
    channels = reshape.source.shape[0]
    if (numbers == numbers[0]).all():
        return np.full(channels, numbers[0], numbers.dtype)
    if reshape.axes or len(numbers) % channels:
        return None
    groups = numbers.reshape(channels, -1)
    return groups[:, 0].copy() if (groups == groups[:, :1]).all() else None


def shorten_slices(graph: Graph) -> None:
    """Read a piece itself in the place of that part of a concatenation which is exactly the piece."""
    uses = Uses(graph)
    for node in graph.nodes:
        if isinstance(node, Slice):
            piece = _piece(node, uses)
            if piece is not None:
                replace(graph, node.stores[0].value, piece)
    remove_dead(graph)


def _piece(node: Slice, uses: Uses) -> Optional[Value]:
    whole, shape = uses.giver[node.source], node.stores[0].value.shape
    if not isinstance(whole, Concat):
        return None
    others = [axis for axis in range(len(shape)) if axis != whole.axis]
    if any(node.begin[axis] or shape[axis] != node.source.shape[axis] for axis in others):
        return None
    place = 0
    for piece in whole.sources:
        if place == node.begin[whole.axis] and piece.shape[whole.axis] == shape[whole.axis]:
            return piece
        place += piece.shape[whole.axis]
    return None
