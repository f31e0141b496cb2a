"""Reads what moves numbers, sums over axes, and softmax."""

from __future__ import annotations

import math
from typing import List, Tuple

import numpy as np

from ...errors import Error
from ..ir import Concat, Function, Softmax, Value
from .builder import image_shape
from .call import Call, operator
from .layers import sum_pool


@operator("Flatten", "flatten", "Reshape", "reshape", "expand_dims", "squeeze")
def reshape(call: Call) -> Value:
    """The same order of numbers."""
    return call.builder.reshape(call.name, call.value(), call.shape)


@operator("SwapAxis", "swapaxes")
def swap_axes(call: Call) -> Value:
    """Two axes change places."""
    axes = list(range(1 + len(call.shapes[0])))
    first, second = (call.attributes.integer(name, 0) for name in ("dim1", "dim2"))
    if not all(-len(axes) <= axis < len(axes) for axis in (first, second)):
        raise Error(f"dim1 and dim2 are {first} and {second}; the input has {len(axes)} dimensions")
    axes[first], axes[second] = axes[second], axes[first]
    return _transposed(call, axes)


@operator("transpose")
def transpose(call: Call) -> Value:
    """A permutation of axes; without one, the reverse."""
    count = 1 + len(call.shapes[0])
    return _transposed(call, list(call.attributes.integers("axes", ()) or range(count)[::-1]))


def _transposed(call: Call, axes: List[int]) -> Value:
    if axes[0] != 0:
        raise Error(f"axes {tuple(axes)} move the samples of the batch, which is not supported")
    split = call.shapes[0]
    return call.builder.reshape(call.name, call.value(), call.shape, split, [axis - 1 for axis in axes[1:]])


@operator("Concat", "concat")
def concat(call: Call) -> Value:
    """Values side by side."""
    axis = call.axis(call.attributes.integer("dim", 1))
    values = [call.value(number) for number in range(len(call.inputs))]
    return values[0] if len(values) == 1 else call.builder.add(Concat(call.name, sources=values, axis=axis), call.shape)


@operator("slice_axis")
def slice_axis(call: Call) -> Value:
    """A part along one axis."""
    axis = call.axis(call.attributes.integer("axis"))
    begin = call.attributes.integer("begin")
    return _part(call, axis, begin)


@operator("slice", "crop")
def slice_(call: Call) -> Value:
    """A part along several axes."""
    shape = (None, *call.shapes[0])
    begins = call.attributes.optional_integers("begin")
    if any(step not in (None, 1) for step in call.attributes.optional_integers("step", ())):
        raise Error("a step other than 1 is not supported")
    if begins and begins[0] not in (None, 0):
        raise Error("a part of the batch is not supported")
    places = [0] * len(image_shape(call.shapes[0]))
    for number, begin in enumerate(begins[1:], 1):
        begin = begin or 0
        places[call.axis(number)] = begin + shape[number] if begin < 0 else begin
    return call.builder.slice(call.name, call.value(), places, call.shape)


@operator("SliceChannel", "split")
def split(call: Call) -> List[Value]:
    """Equal parts along one axis."""
    axis, count = call.axis(call.attributes.integer("axis", 1)), call.attributes.integer("num_outputs")
    squeezed = call.attributes.flag("squeeze_axis", False)
    x = call.value()
    if x.shape[axis] % count:
        raise Error(f"{x.shape[axis]} channels in {count} parts")
    size = x.shape[axis] // count
    part = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    values = []
    for number in range(count):
        begin = [0] * len(x.shape)
        begin[axis] = number * size
        values.append(call.builder.slice(f"{call.name}_{number}", x, begin, part))
        if squeezed:
            values[-1] = call.builder.reshape(f"{call.name}_{number}_squeezed", values[-1], call.shape)
    return values


def _part(call: Call, axis: int, begin: int) -> Value:
    x = call.value()
    places = [0] * len(x.shape)
    places[axis] = begin + x.shape[axis] if begin < 0 else begin
    return call.builder.slice(call.name, x, places, call.shape)


@operator("Pad", "pad")
def pad(call: Call) -> Value:
    """A border of a constant around the pixels."""
    call.attributes.word("mode", "", "constant")
    widths = call.attributes.integers("pad_width")
    if len(widths) != 2 * (1 + len(call.shapes[0])) or any(widths[:4]) or min(widths) < 0 or len(call.shapes[0]) != 3:
        raise Error(f"pad_width is {widths}; only the pixels of a batch of images can be padded")
    above, below, left, right = widths[4:]
    value = call.attributes.number("constant_value", 0.0)
    return call.builder.pad(call.name, call.value(), (above, left, below, right), value)


# --- sums over axes --------------------------------------------------------------------------------------------------


@operator("mean", "sum", "max", "sum_axis", "max_axis")
def reduce(call: Call) -> Value:
    """Over the channels: a convolution with constant weights; over all pixels: a pooling."""
    axes, kind, x = _axes(call), call.node.op.split("_")[0], call.value()
    if axes == (0,) and kind != "max" and len(x.shape) == 3:
        weight = np.full((1, x.shape[0], 1, 1), 1 / x.shape[0] if kind == "mean" else 1, np.float32)
        y = call.builder.conv(call.name, x, weight, (1, *x.shape[1:]))
    elif axes == (1, 2):
        y = _over_pixels(call, x, kind)
    else:
        raise Error("only means and sums over all channels, and means, sums and maxima over all pixels are supported")
    return call.builder.reshape(f"{call.name}_shape", y, call.shape)


def _over_pixels(call: Call, x: Value, kind: str) -> Value:
    shape = (x.shape[0], 1, 1)
    if kind == "sum":
        return sum_pool(call, x, x.shape[1:], (1, 1), (0, 0), shape)
    return call.builder.pool(call.name, x, {"mean": "avg"}.get(kind, kind), (x.shape[1:], (1, 1), (0, 0)), shape)


def _axes(call: Call) -> Tuple[int, ...]:
    """The axes of the value in the graph that are summed over."""
    shape = call.shapes[0]
    count = 1 + len(shape)
    axes = call.attributes.integers("axis", ())
    given = {axis + count if axis < 0 else axis for axis in axes} or set(range(count))
    if axes and call.attributes.flag("exclude", False):
        given = set(range(count)) - given
    if 0 in given:
        raise Error("a sum over the samples of the batch is not supported")
    found = {call.axis(axis) for axis in given}
    if len(shape) == 2 and 2 in found:
        found.add(1)  # (C, W) is (C, 1, W)
    return tuple(sorted(found))


# --- softmax ---------------------------------------------------------------------------------------------------------


@operator("softmax", "log_softmax", "SoftmaxActivation", "SoftmaxOutput", "Softmax")
def softmax(call: Call) -> Value:
    """Softmax over the channels of a pixel."""
    attributes, x, op = call.attributes, call.value(), call.node.op
    if op in ("softmax", "log_softmax"):
        axis = call.axis(attributes.integer("axis", -1))
        if not attributes.absent("length") or attributes.flag("use_length", False):
            raise Error("lengths are not supported")
        x = call.builder.affine(f"{call.name}_scaled", x, 1 / attributes.number("temperature", 1.0))
    elif op == "SoftmaxActivation":
        axis = 0 if attributes.word("mode", "instance", "instance", "channel") == "channel" else None
    else:
        axis = 0 if attributes.flag("multi_output", False) else 2 if attributes.flag("preserve_shape", False) else None
    if axis is None:  # over all numbers of a sample
        axis = 0 if math.prod(x.shape[1:]) == 1 else -1
    if len(x.shape) == 1:
        axis = 0
    if axis != 0:
        raise Error("softmax over anything but the channels is not supported")
    y = call.builder.add(Softmax(call.name, source=x), x.shape)
    return call.builder.map(f"{call.name}_log", y, Function("log")) if op == "log_softmax" else y
