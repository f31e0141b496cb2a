"""Where values live: which lie inside of others, so that moving them costs nothing.

Values form trees; each tree is a buffer of the size of its root, and a value in it a part of the root's image:

- a Slice, and a Reshape that only relabels, is the source itself, looked at otherwise;
- the sources of a Concat are computed in their places in its result, or the other way round: if one source lies in a
  larger buffer already, as a slice does, the result may be in that buffer; a chain of DenseNet's is one buffer;
- the source of a Pad is computed in its middle;
- the sum of an addition, or another operation with an operand, takes the place of this.

Each such placement is tried, and undone where a value would be overwritten that is still to be read: `_sound` is that
rule. What cannot be placed is copied by a step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

from ..errors import Error
from ..program import image_shape
from ..program.operations import has_operand
from . import ir
from .legalize import is_relabelling

__all__ = ["Border", "Placement", "corner"]

Corner = Tuple[int, int, int]  # y, x, channel
Part = Tuple[int, int, int, int, int, int]  # its first corner and the one behind its last


@dataclass
class Border:
    """Rows above, columns left, rows below, columns right; of bits and bytes, the number that it holds."""

    sizes: Tuple[int, int, int, int] = (0, 0, 0, 0)
    number: Optional[float] = None

    def __bool__(self) -> bool:
        return any(self.sizes)

    def joined(self, other: Border) -> Optional[Border]:
        """A border for two values, or None if there is none."""
        if not self or not other:
            return self if self else other
        if self.number != other.number:
            return None
        return Border(tuple(map(max, zip(self.sizes, other.sizes))), self.number)


@dataclass
class _Read:
    """A part that a node reads; `operand`: of ADD or MULTIPLY the whole operand, which is read number by number."""

    part: Part
    time: float
    operand: Optional[Part]


@dataclass
class _Write:
    """A part of a buffer that a node writes, and who reads what it wrote."""

    part: Part
    time: float
    reads: List[_Read] = field(default_factory=list)


_Piece = Tuple[_Write, Part]


def corner(shape: ir.Shape, begin: Tuple[int, ...]) -> Corner:
    """Where an index of a value of `shape` lies in its image.

    Examples
    --------
    >>> corner((8, 5, 6), (4, 1, 2)), corner((8,), (3,)), corner((2, 4, 5, 6), (1, 0, 0, 0))
    ((1, 2, 4), (0, 0, 3), (0, 0, 4))
    """
    leading = max(len(shape) - 2, 1)
    if any(begin[1:leading]):
        raise Error(f"a part of a value of {len(shape)} dimensions {shape}: the second one must be whole")
    inner = image_shape(shape)[2] // shape[0]
    y = begin[-2] if len(shape) > 2 else 0
    x = begin[-1] if len(shape) > 1 else 0
    return y, x, begin[0] * inner


class Placement:
    """The places of all values of a graph that `legalize` made."""

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self.places: Dict[ir.Value, Tuple[ir.Value, Corner]] = {}  # those inside of others
        self.producers: Dict[ir.Value, Tuple[int, ir.Node]] = {}
        self.readers: Dict[ir.Value, List[Tuple[float, ir.Node]]] = {}
        self.borders: Dict[ir.Value, Border] = {}  # that its own readers need
        self.trees: Dict[ir.Value, List[ir.Value]] = {}  # by root
        for time, node in enumerate(graph.nodes):
            for value in node.gives():
                self.producers[value] = time, node
                self.readers[value], self.borders[value], self.trees[value] = [], Border(), [value]
            for value in dict.fromkeys(node.reads()):
                self.readers[value].append((time, node))
            if isinstance(node, ir.Conv):
                self._need_border(node)
        for value in graph.outputs.values():  # given as soon as it is there
            self.readers[value].append((self.producers[value][0] + 0.5, None))
        self._place_all()

    # --- what others ask

    def locate(self, value: ir.Value) -> Tuple[ir.Value, Corner]:
        """The root of the buffer that a value lies in, and where."""
        y, x, c = 0, 0, 0
        while value in self.places:
            value, (dy, dx, dc) = self.places[value]
            y, x, c = y + dy, x + dx, c + dc
        return value, (y, x, c)

    def lies_at(self, value: ir.Value, other: ir.Value, at: Corner = (0, 0, 0)) -> bool:
        """Whether a value lies inside of another, at that corner of it: nothing needs to be copied."""
        root, place = self.locate(other)
        return self.locate(value) == (root, tuple(a + b for a, b in zip(place, at)))

    def border(self, root: ir.Value) -> Border:
        """The border of a buffer."""
        border = Border()
        for value in self.trees[root]:
            border = border.joined(self.borders[value])
        return border

    def covers(self, value: ir.Value) -> bool:
        """Whether a value has all rows and columns of its buffer, so that its border is the buffer's."""
        root, (y, x, _) = self.locate(value)
        return (y, x) == (0, 0) and image_shape(value.shape)[:2] == image_shape(root.shape)[:2]

    # --- placing

    def _place_all(self) -> None:
        nodes = self.graph.nodes
        for node in nodes:
            if isinstance(node, ir.Reshape) and is_relabelling(node):
                self._try([(node.gives()[0], node.source, (0, 0, 0))])
        for node in nodes:
            if isinstance(node, ir.Slice):
                self._try([(node.gives()[0], node.source, corner(node.source.shape, node.begin))])
        for node in nodes:
            self._place_sum(node)
        concats = [node for node in nodes if isinstance(node, ir.Concat)]
        for node in sorted(concats, key=lambda node: -image_shape(node.gives()[0].shape)[2]):
            self._place_concat(node)
        for node in nodes:
            if isinstance(node, ir.Pad):
                self._place_pad(node)

    def _place_sum(self, node: ir.Node) -> None:
        store = node.store(ir.Floats)
        for op in node.epilogue if store is not None else ():
            if has_operand(op) and self._same_image(op.operand, store.value):
                if self._try([(store.value, op.operand, (0, 0, 0))]):
                    return

    def _place_concat(self, node: ir.Concat) -> None:
        target = node.gives()[0]
        parts = list(concat_parts(node))
        for source, (y, x, c) in parts:  # where one lies already, the others may find room, and with them the result
            root, place = self.locate(source)
            base = (place[0] - y, place[1] - x, place[2] - c)
            if root is not source and self._fits(target, base, root):
                found = [(target, root, base)]
                found += [(other, target, at) for other, at in parts]
                if self._try(found):
                    return
        for source, at in parts:
            self._try([(source, target, at)])

    def _place_pad(self, node: ir.Pad) -> None:
        if node.source.dtype == "f32" and node.pad_value != 0 and any(node.pad):
            return  # written as a whole by a step of its own, before the middle
        if any(node.pad):
            self._try([(node.source, node.gives()[0], (node.pad[0], node.pad[1], 0))])

    def _same_image(self, value: ir.Value, other: ir.Value) -> bool:
        return image_shape(value.shape) == image_shape(other.shape)

    def _fits(self, value: ir.Value, at: Corner, root: ir.Value) -> bool:
        ends = (a + size for a, size in zip(at, image_shape(value.shape)))
        return min(at) >= 0 and all(end <= size for end, size in zip(ends, image_shape(root.shape)))

    def _try(self, wishes: List[Tuple[ir.Value, ir.Value, Corner]]) -> bool:
        """Place values inside of others, all or none; returns whether it was possible."""
        before = dict(self.places), {root: list(tree) for root, tree in self.trees.items()}
        if all(self._place(*wish) for wish in wishes):
            roots = {self.locate(value)[0] for value, _, _ in wishes}
            if all(self._sound(root) for root in roots):
                return True
        self.places, self.trees = before
        return False

    def _place(self, value: ir.Value, other: ir.Value, at: Corner) -> bool:
        if self.lies_at(value, other, at):
            return True
        value, place = self.locate(value)  # the whole buffer that it lies in moves
        root, to = self.locate(other)
        at = tuple(a + b - c for a, b, c in zip(to, at, place))
        if root is value or not self._fits(value, at, root) or not _same_kind(value, root):
            return False
        if value.dtype == "bit" and not self._at_words(value, at[2], root):
            return False
        border = self.border(value)
        if border:
            rows_and_columns = at[:2] == (0, 0) and image_shape(value.shape)[:2] == image_shape(root.shape)[:2]
            if not rows_and_columns or border.joined(self.border(root)) is None:
                return False
        self.places[value] = root, at
        self.trees[root] += self.trees.pop(value)
        return True

    def _at_words(self, value: ir.Value, first: int, root: ir.Value) -> bool:
        channels, all_channels = image_shape(value.shape)[2], image_shape(root.shape)[2]
        return first % 64 == 0 and (channels % 64 == 0 or first + channels == all_channels)

    def _need_border(self, node: ir.Conv) -> None:
        """Note what the windows of a convolution read outside of the image."""
        size, result = image_shape(node.source.shape), image_shape(node.gives()[0].shape)
        before, after = [], []
        for axis in (0, 1):
            span = (node.weight.shape[2 + axis] - 1) * node.dilate[axis]
            before.append(max(0, node.pad[axis]))
            last = (result[axis] - 1) * node.stride[axis] - node.pad[axis] + span
            after.append(max(0, last - size[axis] + 1))
        number = float(node.pad_value) if node.source.dtype != "f32" else None
        border = self.borders[node.source].joined(Border((*before, *after), number))
        if border is None:
            raise Error(f"node {node.name!r}: {node.source.name!r} is padded with two numbers")
        self.borders[node.source] = border

    # --- what may not be

    def _sound(self, root: ir.Value) -> bool:
        """Whether nothing in a buffer is overwritten before its last reader.

        Every write of a part is followed by its reads. Two writes of overlapping parts must not mingle: all reads of
        the first come before the second, or in its step, number by number at the very place that it writes (in place).
        """
        sources: Dict[ir.Value, List[_Piece]] = {}
        for value in sorted(self.trees[root], key=lambda value: self.producers[value][0]):
            sources[value] = self._pieces(value, sources)
            for time, node in self.readers[value]:
                self._note_read(value, time, node, sources[value])
        writes = list({id(write): write for pieces in sources.values() for write, _ in pieces}.values())
        writes.sort(key=lambda write: write.time)
        for place, first in enumerate(writes):
            for second in writes[place + 1 :]:
                if _common(first.part, second.part) is not None and not _before(first, second):
                    return False
        return True

    def _part(self, value: ir.Value) -> Part:
        _, at = self.locate(value)
        return (*at, *(a + size for a, size in zip(at, image_shape(value.shape))))

    def _pieces(self, value: ir.Value, sources: Dict[ir.Value, List[_Piece]]) -> List[_Piece]:
        """What a value consists of: writes, and which part of each."""
        time, node = self.producers[value]
        part = self._part(value)
        if isinstance(node, (ir.Slice, ir.Reshape)):
            if self.lies_at(value, node.source, source_corner(node)):
                pieces = [(write, _common(piece, part)) for write, piece in sources[node.source]]
                return [(write, piece) for write, piece in pieces if piece is not None]
        elif isinstance(node, ir.Concat):
            pieces = []
            for source, at in concat_parts(node):
                if self.lies_at(source, value, at):
                    pieces += sources[source]
                else:
                    pieces.append(_written(_shifted(part, at, image_shape(source.shape)), time))
            return pieces
        elif isinstance(node, ir.Pad) and any(node.pad):
            if self.lies_at(node.source, value, (node.pad[0], node.pad[1], 0)):
                return sources[node.source] + [_written(rim, time) for rim in self._rim(part, node)]
        return [_written(part, time)]

    def _rim(self, part: Part, node: ir.Pad) -> List[Part]:
        y, x, c, y_end, x_end, c_end = part
        above, left, below, right = node.pad
        rows = [(y, x, c, y + above, x_end, c_end), (y_end - below, x, c, y_end, x_end, c_end)]
        columns = [(x, x + left), (x_end - right, x_end)]
        return rows + [(y + above, first, c, y_end - below, end, c_end) for first, end in columns]

    def _note_read(self, value: ir.Value, time: float, node: Optional[ir.Node], pieces: List[_Piece]) -> None:
        operand = None
        if isinstance(node, (ir.Slice, ir.Reshape)):
            if self.lies_at(node.gives()[0], value, source_corner(node)):
                return
        elif isinstance(node, ir.Concat):
            target = node.gives()[0]
            if all(self.lies_at(value, target, at) for source, at in concat_parts(node) if source is value):
                return
        elif isinstance(node, ir.Pad):
            if any(node.pad) and self.lies_at(value, node.gives()[0], (node.pad[0], node.pad[1], 0)):
                return
        elif node is not None and value is not getattr(node, "source", None):
            operand = self._part(value)
        for write, piece in pieces:
            write.reads.append(_Read(piece, time, operand))


def concat_parts(node: ir.Concat):
    """Sources of a Concat and where each lies in the result."""
    target, begin = node.gives()[0], 0
    for source in node.sources:
        index = [0] * len(target.shape)
        index[node.axis] = begin
        yield source, corner(target.shape, tuple(index))
        begin += source.shape[node.axis]


def source_corner(node: ir.Node) -> Corner:
    """Where the result of a Slice or Reshape lies in the source, if it lies there."""
    return corner(node.source.shape, node.begin) if isinstance(node, ir.Slice) else (0, 0, 0)


def _same_kind(value: ir.Value, other: ir.Value) -> bool:
    return (value.dtype, value.scale, value.zero_point) == (other.dtype, other.scale, other.zero_point)


def _shifted(part: Part, at: Corner, size: Tuple[int, int, int]) -> Part:
    begin = tuple(a + b for a, b in zip(part, at))
    return (*begin, *(a + b for a, b in zip(begin, size)))


def _common(a: Part, b: Part) -> Optional[Part]:
    """The part that is in both, or None."""
    begin, end = tuple(map(max, zip(a[:3], b[:3]))), tuple(map(min, zip(a[3:], b[3:])))
    return (*begin, *end) if all(low < high for low, high in zip(begin, end)) else None


def _written(part: Part, time: float) -> _Piece:
    return _Write(part, time), part


def _before(first: _Write, second: _Write) -> bool:
    """Whether nobody reads, of what is written twice, the first after the second was written."""
    if first.time == second.time:
        return False
    return all(
        read.time < second.time or (read.time == second.time and read.operand == second.part)
        for read in first.reads
        if _common(read.part, second.part) is not None
    )
