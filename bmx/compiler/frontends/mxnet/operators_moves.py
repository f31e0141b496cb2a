"""Reads what moves numbers, sums over axes, and softmax."""

from __future__ import annotations

import math
from typing import List, Optional, Tuple

import numpy as np

from ....errors import Error
from ...builder import image_shape
from ...ir import Concat, Function, Multiply, Softmax, Value
from .call import Call, operator
from .operators_layers import sum_pool


@operator("Flatten", "flatten", "Reshape", "reshape", "expand_dims", "squeeze", "reshape_like")
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


@operator("slice_like")
def slice_like(call: Call) -> Value:
    """The first numbers, as many as another value has."""
    return call.builder.slice(call.name, call.value(), (0,) * len(image_shape(call.shapes[0])), call.shape)


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


@operator("mean", "sum", "sum_axis", "max", "max_axis", "min", "min_axis")
def reduce(call: Call) -> Value:
    """Means, sums and extremes over some axes of a sample."""
    kind, x = call.node.op.split("_")[0], call.value()
    if kind == "min":
        x, kind = call.builder.function(f"{call.name}_negative", x, "negate"), "max"
    y = _reduced(call, x, kind, _axes(call))
    y = call.builder.reshape(f"{call.name}_shape", y, call.shape)
    return call.builder.function(call.name, y, "negate") if call.node.op.startswith("min") else y


@operator("norm")
def norm(call: Call) -> Value:
    """The sum of absolute values, or the root of that of squares."""
    order = call.attributes.integer("ord", 2)
    if order not in (1, 2):
        raise Error(f"ord is {order}; allowed: 1 and 2")
    powers = call.builder.function(f"{call.name}_powers", call.value(), "abs" if order == 1 else "square")
    y = call.builder.reshape(f"{call.name}_shape", _reduced(call, powers, "sum", _axes(call)), call.shape)
    return call.builder.function(call.name, y, "sqrt") if order == 2 else y


@operator("L2Normalization")
def l2_normalization(call: Call) -> Value:
    """``x / sqrt(sum of squares + eps)``: over a sample, over the channels of a pixel, or over the pixels."""
    x, count = call.value(), len(call.shapes[0])
    mode = call.attributes.word("mode", "instance", "instance", "channel", "spatial")
    axes = {"instance": range(count), "channel": (0,), "spatial": range(1, count)}[mode]
    total = _reduced(call, call.builder.function(f"{call.name}_squares", x, "square"), "sum", tuple(axes))
    shape = image_shape([1 if axis in axes else size for axis, size in enumerate(call.shapes[0])])
    total = call.builder.reshape(f"{call.name}_sums", total, shape)
    total = call.builder.affine(f"{call.name}_eps", total, bias=call.attributes.number("eps", 1e-10))
    return call.builder.map(
        call.name, x, Multiply(call.builder.function(f"{call.name}_inverse", total, *_INVERSE_ROOT))
    )


_INVERSE_ROOT = ("sqrt", "reciprocal")


def _reduced(call: Call, x: Value, kind: str, axes: Tuple[int, ...]) -> Value:
    """A mean, sum or maximum over axes of a sample in MXNet, as a vector or image of the numbers that are left.

    Over the pixels it is a pooling; sums over all channels are a convolution, with a window of one pixel or of all.
    Everything else becomes an image whose pixels are the axes to sum over.
    """
    shape, name = call.shapes[0], f"{call.name}_{kind}"
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    if not kept or (axes == (0,) and len(shape) < 4):
        window = (*x.shape, 1, 1)[:3] if not kept else (x.shape[0], 1, 1)
        if kind != "max" and len(x.shape) < 4:
            weight = np.full((1, *window), 1 / math.prod(window) if kind == "mean" else 1, np.float32)
            return call.builder.conv(name, x, weight, (1, *x.shape[1:]) if kept else (1,))
    if kept != [0] or len(shape) not in (2, 3):
        channels, pixels = (math.prod(shape[axis] for axis in part) for part in (kept, axes))
        x = call.builder.reshape(f"{name}_axes", x, (channels, 1, pixels), shape, [*kept, *axes])
    left = (x.shape[0], 1, 1)
    if kind == "sum":
        return sum_pool(call, x, x.shape[1:], (1, 1), (0, 0), left)
    return call.builder.pool(name, x, {"mean": "avg"}.get(kind, kind), (x.shape[1:], (1, 1), (0, 0)), left)


def _axes(call: Call) -> Tuple[int, ...]:
    """The axes of a sample in MXNet that are summed over."""
    count = 1 + len(call.shapes[0])
    axes = call.attributes.integers("axis", ())
    if any(not -count <= axis < count for axis in axes):
        raise Error(f"axis is {axes}; the input has {count} dimensions")
    given = {axis % count for axis in axes} or set(range(count))
    if axes and call.attributes.flag("exclude", False):
        given = set(range(count)) - given
    if 0 in given:
        raise Error("a sum over the samples of the batch is not supported")
    return tuple(sorted(axis - 1 for axis in given))


# --- softmax ---------------------------------------------------------------------------------------------------------


@operator("softmax", "log_softmax", "SoftmaxActivation", "SoftmaxOutput", "Softmax")
def softmax(call: Call) -> Value:
    """Softmax along an axis of a sample."""
    attributes, x, op, count = call.attributes, call.value(), call.node.op, len(call.shapes[0])
    axis: Optional[int] = None  # of a sample; None: over all its numbers
    if op in ("softmax", "log_softmax"):
        axis = attributes.integer("axis", -1)
        call.axis(axis)
        axis = axis - 1 if axis > 0 else axis + count
        if not attributes.absent("length") or attributes.flag("use_length", False):
            raise Error("lengths are not supported")
        x = call.builder.affine(f"{call.name}_scaled", x, 1 / attributes.number("temperature", 1.0))
    elif op == "SoftmaxActivation":
        axis = 0 if attributes.word("mode", "instance", "instance", "channel") == "channel" else None
    elif attributes.flag("multi_output", False):
        axis = 0
    elif attributes.flag("preserve_shape", False):
        axis = count - 1
    if axis is None and math.prod(call.shapes[0][1:]) > 1:
        raise Error("softmax over channels and pixels is not supported; MXNet documents it so and computes another one")
    y = _softmax(call, x, axis or 0)
    return call.builder.map(f"{call.name}_log", y, Function("log")) if op == "log_softmax" else y


def _softmax(call: Call, x: Value, axis: int) -> Value:
    """Along an axis of a sample in MXNet: if it is not the channels, it becomes the channels meanwhile."""
    shape = call.shapes[0]
    if axis == 0 and len(x.shape) <= 3:
        return call.builder.add(Softmax(call.name, source=x), x.shape)
    order = [axis, *(other for other in range(len(shape)) if other != axis)]
    moved = (shape[axis], 1, math.prod(shape) // shape[axis])
    y = call.builder.reshape(f"{call.name}_axes", x, moved, shape, order)
    y = call.builder.add(Softmax(call.name, source=y), y.shape)
    back = [order.index(other) for other in range(len(shape))]
    return call.builder.reshape(f"{call.name}_back", y, x.shape, [shape[other] for other in order], back)
