"""Checks that a store of a step overlaps neither its inputs nor another store (docs/format.md, "Memory of a step").

There is no short general test whether two tensors with different strides share a byte. This looks for three simple
reasons why they do not. Tensors that lie apart for another reason are refused.
"""

from __future__ import annotations

from typing import List, NamedTuple

from .operations import operands
from .rules import Problem
from .steps import Conv, Depthwise, Step, Tensor


class _Region(NamedTuple):
    """`rows` rows, `row_stride` bytes apart, of `columns` pixels, `pixel_stride` bytes apart, of `pixel` bytes."""

    begin: int
    rows: int
    columns: int
    row_stride: int
    pixel_stride: int
    pixel: int

    @property
    def row(self) -> int:
        return (self.columns - 1) * self.pixel_stride + self.pixel

    @property
    def end(self) -> int:
        return self.begin + (self.rows - 1) * self.row_stride + self.row

    @property
    def on_grid(self) -> bool:
        """Whether all its pixels are multiples of `pixel_stride` apart."""
        return self.rows == 1 or self.row_stride % self.pixel_stride == 0


def _image(tensor: Tensor) -> _Region:
    size = tensor.height, tensor.width
    return _Region(tensor.offset, *size, tensor.row_stride, tensor.pixel_stride, tensor.pixel_bytes)


def _with_border(tensor: Tensor) -> _Region:
    above, left, below, right = tensor.border
    rows, columns = above + tensor.height + below, left + tensor.width + right
    return _image(tensor)._replace(begin=tensor.extent[0], rows=rows, columns=columns)


def _meet(a: _Region, b: _Region) -> bool:
    """False only if the regions share no byte."""
    beside = a.end <= b.begin or b.end <= a.begin
    other_columns = a.row_stride == b.row_stride and _apart(a.begin, a.row, b.begin, b.row, a.row_stride)
    same_grid = a.pixel_stride == b.pixel_stride and a.on_grid and b.on_grid
    other_channels = same_grid and _apart(a.begin, a.pixel, b.begin, b.pixel, a.pixel_stride)
    return not (beside or other_columns or other_channels)


def _apart(a: int, a_size: int, b: int, b_size: int, period: int) -> bool:
    """Whether two intervals never meet when both repeat with `period`."""
    ahead = (b - a) % period
    return ahead >= a_size and ahead + b_size <= period


def _same_place(a: Tensor, b: Tensor) -> bool:
    return (a.dtype, a.shape, _image(a)) == (b.dtype, b.shape, _image(b))


def check_overlap(step: Step) -> None:
    """Check a step whose tensors are valid. Raises Problem. An operand of the epilogue may be overwritten in place."""
    reads, stored = step.reads(), step.writes()
    read_besides: List[Tensor] = operands(getattr(step, "epilogue", ()))
    region = _with_border if isinstance(step, (Conv, Depthwise)) else _image
    sources = reads[: len(reads) - len(read_besides)]
    for number, tensor in enumerate(stored):
        others = [(source, region(source)) for source in sources]
        others += [(operand, _image(operand)) for operand in read_besides if not _same_place(operand, tensor)]
        others += [(other, _image(other)) for other in stored[:number]]
        for other, place in others:
            if _meet(place, _image(tensor)):
                raise Problem(f"tensor {tensor.name!r}, which it stores, overlaps tensor {other.name!r}")
