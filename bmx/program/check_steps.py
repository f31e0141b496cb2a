"""Checks a step against docs/format.md, with one function per kind."""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

from .check_epilogue import check_array, check_epilogue, require_f32
from .overlap import check_overlap
from .program import Program
from .rules import ALLOWED, LARGEST, LARGEST_SIZE, require, stored_float
from .steps import Conv, Copy, Depthwise, Fill, Load, Map, Pool, PoolBits, Softmax, Step, Store, Tensor, Window

_FARTHEST = 2**30  # coordinate that a pooling window may reach
_LARGEST_BYTE = 255


def check_step(step: Step, program: Program) -> None:
    """Check a step of a program whose inputs, outputs and tensors are valid; raises Problem."""
    require(type(step) in _CHECKS, "there is no such step")
    _CHECKS[type(step)](step, program)
    check_overlap(step)


def _window(window: Window, pooling: bool = False) -> None:
    numbers = (*window.kernel, *window.stride, *window.dilate)
    require(all(1 <= number <= LARGEST_SIZE for number in numbers), f"its window is {window}")
    require(all(abs(pad) <= LARGEST_SIZE for pad in window.pad), f"its window is {window}")
    if pooling:
        require(min(window.pad) >= 0 and tuple(window.dilate) == (1, 1), f"its window is {window}")


def _window_near(window: Window, size: Tuple[int, int]) -> None:
    """Check that pooling windows for a result of this size do not reach too far outside the image."""
    _window(window, pooling=True)
    farthest = max(n * s + k + p for n, s, k, p in zip(size, window.stride, window.kernel, window.pad))
    require(farthest <= _FARTHEST, f"its windows are too far outside the image: {window}")


def _window_inside(window: Window, source: Tensor, size: Tuple[int, int]) -> None:
    """Check that all windows lie inside the image and its border."""
    _window(window)
    for axis, name in enumerate(("row", "column")):
        first = -window.pad[axis]
        span = (window.kernel[axis] - 1) * window.dilate[axis]
        last = (size[axis] - 1) * window.stride[axis] - window.pad[axis] + span
        low, high = -source.border[axis], source.shape[axis] - 1 + source.border[axis + 2]
        require(
            low <= first and last <= high,
            f"its windows meet {name}s {first} to {last} of tensor {source.name!r}, which has {low} to {high}",
        )


def _load(step: Load, program: Program) -> None:
    require(0 <= step.input < len(program.inputs), f"there is no input {step.input}")
    height, width, channels = program.inputs[step.input].image
    check_epilogue(step, channels, (height, width))


def _store(step: Store, program: Program) -> None:
    require_f32(step.source)
    require(0 <= step.output < len(program.outputs), f"there is no output {step.output}")
    image = program.outputs[step.output].image
    require(step.source.shape == image, f"tensor {step.source.name!r} is {step.source.shape}, the output {image}")


def _fill(step: Fill, program: Program) -> None:
    """Nothing to check: every tensor has a border that can be filled."""


def _conv(step: Conv, program: Program) -> None:
    source, weight = step.source, step.weight
    require(not (step.signs and source.dtype == "bit"), "signs is set, but weights of bits are always signs")
    require(weight.ndim == 4 and min(weight.shape) >= 1, f"its weight has the shape {weight.shape}")
    _groups(step)
    if step.run:
        gapless = source.pixel_stride == source.pixel_bytes and step.window.dilate[1] == 1
        require(gapless, "a run needs pixels without gaps and no dilation")
    shape = (step.filters, source.channels // step.groups, *step.window.kernel)
    check_array("weight", weight, shape, np.float32 if step.arithmetic == "float" else np.int8)
    if source.dtype == "bit" or step.signs:
        require(bool(np.all(np.abs(weight) == 1)), "its weights must all be -1 or +1")
    if source.dtype == "u8":
        _sums(weight)
    all_, difference = stored_float(step.all, "all"), stored_float(step.step, "step")
    if source.dtype == "bit":
        require(math.isfinite(all_) and math.isfinite(difference), f"its result is {all_} - {difference} * p")
    else:
        require(all_ == 0 and difference == 0, "only binary convolutions have all and step")
    _window_inside(step.window, source, check_epilogue(step, step.filters))


def _groups(step: Conv) -> None:
    source, filters, groups = step.source, step.filters, step.groups
    require(1 <= groups and source.channels % groups == 0, f"{source.channels} channels in {groups} groups")
    if groups == 1:
        return
    channels = source.channels // groups
    require(
        filters % (8 * groups) == 0, f"{filters} filters in {groups} groups; a group must have a multiple of 8 filters"
    )
    require(not step.run, "a run covers all channels, so there must be 1 group")
    whole = source.dtype != "bit" or channels % 64 == 0
    require(whole, f"binary groups of {channels} channels; they must be a multiple of 64")


def _sums(weight: np.ndarray) -> None:
    """Check that the sums of a filter fit 32-bit accumulators, whatever the input bytes are."""
    sums = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).sum(axis=1)
    require(int(sums.max()) * _LARGEST_BYTE <= LARGEST, "its sums may not fit 32 bits")


def _depthwise(step: Depthwise, program: Program) -> None:
    require_f32(step.source)
    check_array("weight", step.weight, (step.source.channels, *step.window.kernel), np.float32)
    _window_inside(step.window, step.source, check_epilogue(step, step.source.channels))


def _pool(step: Pool, program: Program) -> None:
    require_f32(step.source)
    require(step.mode in Pool.MODES, f"unknown mode {step.mode!r}")
    _window_near(step.window, check_epilogue(step, step.source.channels))


def _pool_bits(step: PoolBits, program: Program) -> None:
    bits = step.source.dtype == step.tensor.dtype == "bit"
    require(
        bits and step.source.channels == step.tensor.channels,
        "its tensors must be bits with the same number of channels",
    )
    _window_near(step.window, step.tensor.shape[:2])
    if step.flip is not None:
        check_array("flip", step.flip, (step.source.channels,), np.bool_)


def _map(step: Map, program: Program) -> None:
    require(step.source.dtype in ("f32", "u8"), f"tensor {step.source.name!r} has the type bit")
    check_epilogue(step, step.source.channels, step.source.shape[:2])


def _softmax(step: Softmax, program: Program) -> None:
    require_f32(step.source)
    require_f32(step.tensor)
    require(step.source.shape == step.tensor.shape, f"{step.source.shape} becomes {step.tensor.shape}")


def _copy(step: Copy, program: Program) -> None:
    require_f32(step.source)
    require_f32(step.tensor)
    require(len(step.loops) <= 6, f"{len(step.loops)} loops; at most 6 are allowed")
    for loop in step.loops:
        require(all(0 <= number < 2**32 for number in loop), f"a loop of {loop}")
        require(1 <= loop[0] <= LARGEST_SIZE, f"a loop of {loop[0]} times; {ALLOWED}")
        require(loop[1] % 4 == 0 and loop[2] % 4 == 0, f"a loop of {loop}; strides are multiples of 4")
    copied, there = math.prod(loop[0] for loop in step.loops), math.prod(step.tensor.shape)
    require(copied <= there, f"it copies {copied} numbers into tensor {step.tensor.name!r}, which has {there}")
    for tensor, which in ((step.source, 1), (step.tensor, 2)):
        reach = sum((loop[0] - 1) * loop[which] for loop in step.loops) + 4
        inside = (tensor.height - 1) * tensor.row_stride + (tensor.width - 1) * tensor.pixel_stride + tensor.pixel_bytes
        require(reach <= inside, f"it reaches {reach} bytes into tensor {tensor.name!r}, which has {inside}")


_CHECKS = {
    Load: _load,
    Store: _store,
    Fill: _fill,
    Conv: _conv,
    Depthwise: _depthwise,
    Pool: _pool,
    PoolBits: _pool_bits,
    Map: _map,
    Softmax: _softmax,
    Copy: _copy,
}
