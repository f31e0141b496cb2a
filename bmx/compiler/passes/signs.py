"""Moves signs towards the numbers they are of, so that the node that gives these stores their bits itself.

A sign is a `Map` that only stores bits, ``y >= threshold`` in each channel (`Bits`). It goes

- through a reshape, if the channels that one channel becomes have one threshold;
- through a border of numbers, whose bits are then known;
- through a maximum: ``max(x) >= t`` is ``x >= t`` somewhere in the window, the OR of bits. A falling channel asks
  ``max(x) <= u``, which is *not* ``x > u`` somewhere: the OR of ``x >= next float after u``, flipped;
- through a concatenation that nothing else reads.

At last it becomes a store of the node that gives the numbers.
"""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from ...program.operations import bits_of
from ..ir import Bits, Concat, Conv, Floats, Graph, Input, Map, Node, Pad, Pool, Reshape, Value
from .edit import Uses, remove_dead, replace, sort
from .pooling import windows_meet_image
from .thresholds import fold_last

__all__ = ["move_signs"]


def move_signs(graph: Graph) -> None:
    """Move every sign as far as it goes."""
    changed = True
    while changed:
        changed = False
        uses = Uses(graph)
        for node in list(graph.nodes):
            if is_sign(node):
                fold_last(node.epilogue, node.stores[0])
                if not node.epilogue and _move(graph, node, uses):
                    changed = True
                    uses = Uses(graph)
        remove_dead(graph)
    sort(graph)


def is_sign(node: Node) -> bool:
    """Whether a node does nothing but store bits of floats."""
    return isinstance(node, Map) and len(node.stores) == 1 and isinstance(node.stores[0], Bits)


def _move(graph: Graph, sign: Map, uses: Uses) -> bool:
    """Move a sign by one node; False if it stays."""
    before = uses.giver[sign.source]
    if isinstance(before, (Input, Conv, Map)) or (isinstance(before, Pool) and not _through_pool(sign, before, uses)):
        return _attach(graph, sign, before)
    if isinstance(before, Pool):
        moved = _maximum(sign, before)
    elif isinstance(before, Reshape):
        moved = _reshape(sign, before)
    elif isinstance(before, Pad):
        moved = _pad(sign, before)
    elif isinstance(before, Concat) and uses.only_reader(sign.source):
        moved = _concat(sign, before)
    else:
        moved = None
    if moved is None:
        return False
    place = graph.nodes.index(sign)
    graph.nodes[place : place + 1] = moved
    return True


def _attach(graph: Graph, sign: Map, before: Node) -> bool:
    own, bits = before.store(Bits), sign.stores[0]
    if own is None:
        before.stores.append(bits)
    elif np.array_equal(own.threshold, bits.threshold) and np.array_equal(own.flip, bits.flip):
        replace(graph, bits.value, own.value)
    else:
        return False  # a node has one place for bits
    graph.nodes.remove(sign)
    return True


def _sign(sign: Map, source: Value, threshold: np.ndarray, flip: np.ndarray, number: str = "") -> Map:
    """A sign of another value, with a name that follows from that of the old one."""
    value = Value(f"{sign.stores[0].value.name}_of_{source.name}{number}", source.shape, "bit")
    return Map(value.name, stores=[Bits(value, threshold, flip)], source=source)


def _through_pool(sign: Map, pool: Pool, uses: Uses) -> bool:
    if pool.mode != "max" or pool.epilogue or not uses.only_reader(sign.source) or len(pool.stores) > 1:
        return False
    return windows_meet_image(pool)


def _maximum(sign: Map, pool: Pool) -> List[Node]:
    bits = sign.stores[0]
    above = np.nextafter(-bits.threshold, np.float32(np.inf))
    first = _sign(sign, pool.source, np.where(bits.flip, above, bits.threshold), np.zeros_like(bits.flip))
    flip = bits.flip.copy() if bits.flip.any() else None
    window = {"mode": "max", "kernel": pool.kernel, "stride": pool.stride, "pad": pool.pad, "flip": flip}
    notes = pool.notes
    return [first, Pool(pool.name, stores=[Floats(bits.value)], notes=notes, source=first.stores[0].value, **window)]


def _reshape(sign: Map, reshape: Reshape) -> Optional[List[Node]]:
    bits, channels = sign.stores[0], reshape.source.shape[0]
    numbers = np.stack([bits.threshold, bits.flip.astype(np.float32)])
    if (numbers == numbers[:, :1]).all():
        numbers = np.repeat(numbers[:, :1], channels, axis=1)
    elif reshape.axes or numbers.shape[1] % channels:
        return None
    else:
        numbers = numbers.reshape(2, channels, -1)
        if (numbers != numbers[:, :, :1]).any():
            return None
        numbers = numbers[:, :, 0]
    first = _sign(sign, reshape.source, np.ascontiguousarray(numbers[0]), numbers[1] != 0)
    after = Reshape(
        sign.name, stores=[Floats(bits.value)], source=first.stores[0].value, split=reshape.split, axes=reshape.axes
    )
    return [first, after]


def _pad(sign: Map, pad: Pad) -> Optional[List[Node]]:
    bits = sign.stores[0]
    border = np.full(len(bits.threshold), pad.pad_value, np.float32)
    ones = bits_of(border, bits.threshold, bits.flip)
    if ones.any() and not ones.all():
        return None
    first = _sign(sign, pad.source, bits.threshold, bits.flip)
    value = 1.0 if ones.all() else -1.0
    return [
        first,
        Pad(sign.name, stores=[Floats(bits.value)], source=first.stores[0].value, pad=pad.pad, pad_value=value),
    ]


def _concat(sign: Map, concat: Concat) -> Optional[List[Node]]:
    sizes = [value.shape[0] for value in concat.sources]
    if concat.axis != 0 or any(size % 64 for size in sizes[:-1]):
        return None  # pieces of bits begin at whole words
    bits, place, parts = sign.stores[0], 0, []
    for number, source in enumerate(concat.sources):
        part = slice(place, place + sizes[number])
        parts.append(_sign(sign, source, bits.threshold[part], bits.flip[part], f"_{number}"))
        place += sizes[number]
    sources = [part.stores[0].value for part in parts]
    return [*parts, Concat(sign.name, stores=[Floats(bits.value)], sources=sources, axis=0)]
