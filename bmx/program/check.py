"""Whether a program is one that docs/format.md allows: checked before it is written and after it is read."""

from __future__ import annotations

import math
from typing import Callable, Optional, Tuple

import numpy as np

from ..errors import Error
from .steps import (
    DTYPES,
    FUNCTIONS,
    Add,
    Affine,
    Bits,
    Bytes,
    Clip,
    Conv,
    Copy,
    CountBits,
    Depthwise,
    Fill,
    Floats,
    Function,
    Load,
    Map,
    Multiply,
    Norm,
    Pool,
    PoolBits,
    PRelu,
    Program,
    Softmax,
    Step,
    Store,
    Tensor,
    Window,
    pixel_bytes,
)

__all__ = ["LARGEST_SIZE", "MOST_OPERATIONS", "check", "check_tensor"]

LARGEST = 2**31 - 1
LARGEST_SIZE = 2**24  # of tensors, windows, borders and loops
MOST_OPERATIONS = 64  # of an epilogue
_LARGEST_ARENA = 2**34
_FARTHEST = 2**30  # pixel that a window of a pooling meets
_ALLOWED = f"at most {LARGEST_SIZE} is allowed"
_ALIGNMENT = {"f32": 4, "bit": 8, "u8": 1}
_STORE_DTYPE = {Floats: "f32", Bits: "bit", Bytes: "u8", CountBits: "bit"}


class _Problem(Exception):
    """What is wrong with a step or tensor; `check` says with which."""


def _require(condition: bool, text: str) -> None:
    if not condition:
        raise _Problem(text)


def check(program: Program, where: str = "compiled network") -> None:
    """Check a whole program.

    Parameters
    ----------
    program : Program
    where : str
        For error messages: the file's path.

    Raises
    ------
    bmx.Error
        That names the first step or tensor that is not valid, and why.
    """
    if not 0 <= program.arena <= _LARGEST_ARENA or program.arena % 64:
        raise Error(f"{where}: the arena has {program.arena} bytes; it must be a multiple of 64 up to 2**34")
    if not program.outputs:
        raise Error(f"{where}: it has no outputs")
    for ports, kind in ((program.inputs, "input"), (program.outputs, "output")):
        names = [port.name for port in ports]
        for port in ports:
            sizes_fit = len(port.shape) <= 4 and all(1 <= size <= LARGEST for size in port.shape)
            if not sizes_fit or math.prod(port.shape) > LARGEST:
                raise Error(
                    f"{where}: {kind} {port.name!r} has the shape {port.shape}; up to 4 positive sizes are allowed"
                )
            if names.count(port.name) > 1:
                raise Error(f"{where}: two {kind}s of the name {port.name!r}")
    for entry in (program, *program.inputs, *program.outputs, *program.tensors, *program.steps):
        if "\0" in entry.name:
            raise Error(f"{where}: the name {entry.name!r} has a zero byte")
    for number, tensor in enumerate(program.tensors):
        check_tensor(tensor, program.arena, f"{where}: tensor {number} {tensor.name!r}")
    known = {id(tensor) for tensor in program.tensors}
    for number, step in enumerate(program.steps):
        kind = type(step).__name__
        try:
            _require(type(step) in _CHECKS, "there is no such step")
            _require(
                all(id(tensor) in known for tensor in step.reads() + step.writes()), "a tensor is not in the table"
            )
            _CHECKS[type(step)](step, program)
        except _Problem as problem:
            raise Error(f"{where}: step {number} {kind} {step.name!r}: {problem}") from None
    stored = [step.output for step in program.steps if isinstance(step, Store)]
    for number, port in enumerate(program.outputs):
        if stored.count(number) != 1:
            raise Error(f"{where}: output {port.name!r} is stored {stored.count(number)} times; it must be once")


def check_tensor(tensor: Tensor, arena: int, where: str) -> None:
    """Check that a tensor is well formed and lies in the arena; raises bmx.Error, which begins with `where`."""
    try:
        _require(tensor.dtype in DTYPES, f"unknown type {tensor.dtype!r}")
        shape, border = tensor.shape, tensor.border
        _require(all(1 <= size <= LARGEST_SIZE for size in shape), f"its size is {shape}; {_ALLOWED}")
        _require(all(0 <= size <= LARGEST_SIZE for size in border), f"its border is {border}; {_ALLOWED}")
        largest = {"f32": 0, "bit": 1, "u8": 255}[tensor.dtype]
        _require(
            0 <= tensor.border_value <= largest, f"its border holds {tensor.border_value}, at most {largest} can be"
        )
        places = (tensor.offset, tensor.row_stride, tensor.pixel_stride)
        aligned = all(place % _ALIGNMENT[tensor.dtype] == 0 for place in places)
        _require(aligned, f"offset and strides {places} are not multiples of {_ALIGNMENT[tensor.dtype]}")
        pixel = pixel_bytes(tensor.dtype, tensor.channels)
        _require(tensor.pixel_stride >= pixel, f"pixels of {pixel} bytes are {tensor.pixel_stride} bytes apart")
        _require(tensor.row_stride >= tensor.width * tensor.pixel_stride, f"rows are {tensor.row_stride} bytes apart")
        above, left, below, right = border
        shared = left + right > 0 and tensor.row_stride < (left + tensor.width + right) * tensor.pixel_stride
        if above + tensor.height + below > 1 and shared and tensor.row_stride % tensor.pixel_stride:
            raise _Problem(f"borders of rows overlap, {tensor.row_stride} bytes apart")
        first, end = tensor.extent
        _require(first >= 0 and end <= arena, f"it lies from {first} to {end} in an arena of {arena} bytes")
        if tensor.dtype == "u8":
            _require(0 < tensor.scale < math.inf, f"its scale is {tensor.scale}")
            _require(0 <= tensor.zero_point <= 255, f"its zero point is {tensor.zero_point}")
    except _Problem as problem:
        raise Error(f"{where}: {problem}") from None


def _is_f32(tensor: Tensor) -> None:
    _require(tensor.dtype == "f32", f"tensor {tensor.name!r} has the type {tensor.dtype}, f32 is needed")


def _window(window: Window, pooling: bool = False) -> None:
    numbers = (*window.kernel, *window.stride, *window.dilate)
    _require(all(1 <= number <= LARGEST_SIZE for number in numbers), f"its window is {window}")
    _require(all(abs(pad) <= LARGEST_SIZE for pad in window.pad), f"its window is {window}")
    if pooling:
        _require(min(window.pad) >= 0 and tuple(window.dilate) == (1, 1), f"its window is {window}")


def _window_near(window: Window, size: Tuple[int, int]) -> None:
    """Check that the windows of a pooling with a result of that size are not too far outside of the image."""
    _window(window, pooling=True)
    farthest = max(n * s + k + p for n, s, k, p in zip(size, window.stride, window.kernel, window.pad))
    _require(farthest <= _FARTHEST, f"its windows are too far outside of the image: {window}")


def _window_inside(window: Window, source: Tensor, size: Tuple[int, int]) -> None:
    """Check that all windows lie in the image and its border."""
    _window(window)
    for axis, name in enumerate(("row", "column")):
        first = -window.pad[axis]
        span = (window.kernel[axis] - 1) * window.dilate[axis]
        last = (size[axis] - 1) * window.stride[axis] - window.pad[axis] + span
        low, high = -source.border[axis], source.shape[axis] - 1 + source.border[axis + 2]
        _require(
            low <= first and last <= high,
            f"its windows meet {name}s {first} to {last} of tensor {source.name!r}, which has {low} to {high}",
        )


def _array(values: np.ndarray, shape: Tuple[int, ...], *dtypes: type) -> None:
    fits = isinstance(values, np.ndarray) and values.shape == shape and values.dtype in dtypes
    found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
    _require(fits, f"an array is {found}, not {np.dtype(dtypes[0])} {shape}")


def _epilogue(step: Step, channels: int, size: Optional[Tuple[int, int]] = None) -> Tuple[int, int]:
    """Check operations and stores; returns height and width of the output, which must be `size` if that is given."""
    _require(bool(step.stores), "it stores nothing")
    kinds = [type(store) for store in step.stores]
    _require(all(kind in _STORE_DTYPE and kinds.count(kind) == 1 for kind in kinds), "its stores are not one of a kind")
    size = step.stores[0].tensor.shape[:2] if size is None else size
    for store in step.stores:
        tensor = store.tensor
        dtype = _STORE_DTYPE[type(store)]
        _require(tensor.dtype == dtype, f"tensor {tensor.name!r} has the type {tensor.dtype}, {dtype} is stored")
        expected = (*size, channels)
        _require(tensor.shape == expected, f"tensor {tensor.name!r} is {tensor.shape}, the result is {expected}")
        if isinstance(store, (Bits, CountBits)):
            _array(store.threshold, (channels,), np.float32 if isinstance(store, Bits) else np.int32)
            _array(store.flip, (channels,), np.bool_)
        if isinstance(store, Bytes):
            _require(0 < store.inverse_scale < math.inf, f"its inverse scale is {store.inverse_scale}")
        if isinstance(store, CountBits):
            binary = isinstance(step, Conv) and step.source.dtype == "bit"
            alone = binary and not step.epilogue and len(step.stores) == 1
            _require(alone, "thresholds of counts belong to a binary convolution that does nothing else")
    count = len(step.epilogue)
    _require(count <= MOST_OPERATIONS, f"{count} operations; at most {MOST_OPERATIONS} are allowed")
    for operation in step.epilogue:
        _OPERATIONS.get(type(operation), _unknown)(operation, (*size, channels))
    return size


def _unknown(operation: object, shape: Tuple[int, int, int]) -> None:
    raise _Problem(f"unknown operation {type(operation).__name__}")


def _arrays(*names: str) -> Callable:
    def check_arrays(operation: object, shape: Tuple[int, int, int]) -> None:
        for name in names:
            _array(getattr(operation, name), shape[2:], np.float32)

    return check_arrays


def _operand(operation: object, shape: Tuple[int, int, int]) -> None:
    tensor = operation.tensor
    _is_f32(tensor)
    fits = tensor.shape in (shape, (1, 1, shape[2]), (*shape[:2], 1))
    _require(fits, f"the result is {shape} and its operand {tensor.name!r} {tensor.shape}")


def _clip(operation: Clip, shape: Tuple[int, int, int]) -> None:
    _require(operation.low <= operation.high, f"it clips from {operation.low} to {operation.high}")


def _function(operation: Function, shape: Tuple[int, int, int]) -> None:
    _require(operation.name in FUNCTIONS, f"unknown function {operation.name!r}")


_OPERATIONS = {
    Affine: _arrays("scale", "bias"),
    Norm: _arrays("mean", "scale", "bias"),
    PRelu: _arrays("slope"),
    Add: _operand,
    Multiply: _operand,
    Clip: _clip,
    Function: _function,
}


def _load(step: Load, program: Program) -> None:
    _require(0 <= step.input < len(program.inputs), f"there is no input {step.input}")
    height, width, channels = program.inputs[step.input].image
    _epilogue(step, channels, (height, width))


def _store(step: Store, program: Program) -> None:
    _is_f32(step.source)
    _require(0 <= step.output < len(program.outputs), f"there is no output {step.output}")
    image = program.outputs[step.output].image
    _require(step.source.shape == image, f"tensor {step.source.name!r} is {step.source.shape}, the output {image}")


def _conv(step: Conv, program: Program) -> None:
    source, weight, groups = step.source, step.weight, step.groups
    _require(1 <= groups and source.channels % groups == 0, f"{source.channels} channels in {groups} groups")
    _require(weight.ndim == 4 and min(weight.shape) >= 1, f"its weight has the shape {weight.shape}")
    filters = weight.shape[0]
    shape = (filters, source.channels // groups, *step.window.kernel)
    _require(not (step.signs and source.dtype == "bit"), "weights of bits are signs in any case")
    _array(weight, shape, np.float32 if source.dtype == "f32" and not step.signs else np.int8)
    if groups > 1:
        _require(
            filters % (8 * groups) == 0, f"{filters} filters in {groups} groups; 8 and its multiples can be in one"
        )
        _require(not step.run, "a run goes over all channels, but there are groups")
        whole = source.dtype != "bit" or source.channels // groups % 64 == 0
        _require(whole, f"binary groups of {source.channels // groups} channels; they must be a multiple of 64")
    if step.run:
        gapless = source.pixel_stride == source.pixel_bytes and step.window.dilate[1] == 1
        _require(gapless, "a run needs pixels without gaps and no dilation")
    if source.dtype == "bit" or step.signs:
        _require(bool(np.all(np.abs(weight) == 1)), "weights other than -1 and +1")
    if source.dtype == "bit":
        _require(math.isfinite(step.all) and math.isfinite(step.step), f"its result is {step.all} - {step.step} * p")
    else:
        _require(step.all == 0 and step.step == 0, "all and step belong to binary convolutions")
    if source.dtype == "u8":
        largest = int(np.abs(weight.reshape(filters, -1).astype(np.int64)).sum(axis=1).max()) * 255
        _require(largest <= LARGEST, "its sums can be larger than 32 bits")
    _window_inside(step.window, source, _epilogue(step, filters))


def _depthwise(step: Depthwise, program: Program) -> None:
    _is_f32(step.source)
    _array(step.weight, (step.source.channels, *step.window.kernel), np.float32)
    _window_inside(step.window, step.source, _epilogue(step, step.source.channels))


def _pool(step: Pool, program: Program) -> None:
    _is_f32(step.source)
    _require(step.mode in Pool.MODES, f"unknown mode {step.mode!r}")
    _window_near(step.window, _epilogue(step, step.source.channels))


def _pool_bits(step: PoolBits, program: Program) -> None:
    bits = step.source.dtype == step.tensor.dtype == "bit"
    _require(bits and step.source.channels == step.tensor.channels, "its tensors are not bits of as many channels")
    _window_near(step.window, step.tensor.shape[:2])
    if step.flip is not None:
        _array(step.flip, (step.source.channels,), np.bool_)


def _map(step: Map, program: Program) -> None:
    _require(step.source.dtype in ("f32", "u8"), f"tensor {step.source.name!r} has the type bit")
    _epilogue(step, step.source.channels, step.source.shape[:2])


def _softmax(step: Softmax, program: Program) -> None:
    _is_f32(step.source)
    _is_f32(step.tensor)
    _require(step.source.shape == step.tensor.shape, f"{step.source.shape} becomes {step.tensor.shape}")


def _copy(step: Copy, program: Program) -> None:
    _is_f32(step.source)
    _is_f32(step.tensor)
    _require(len(step.loops) <= 6, f"{len(step.loops)} loops; at most 6 are allowed")
    for loop in step.loops:
        _require(all(0 <= number < 2**32 for number in loop), f"a loop of {loop}")
        _require(1 <= loop[0] <= LARGEST_SIZE, f"a loop of {loop[0]} times; {_ALLOWED}")
        _require(loop[1] % 4 == 0 and loop[2] % 4 == 0, f"a loop of {loop}; strides are multiples of 4")
    copied, there = math.prod(loop[0] for loop in step.loops), math.prod(step.tensor.shape)
    _require(copied <= there, f"it copies {copied} numbers into tensor {step.tensor.name!r}, which has {there}")
    for tensor, which in ((step.source, 1), (step.tensor, 2)):
        reach = sum((loop[0] - 1) * loop[which] for loop in step.loops) + 4
        inside = (tensor.height - 1) * tensor.row_stride + (tensor.width - 1) * tensor.pixel_stride + tensor.pixel_bytes
        _require(reach <= inside, f"it reaches {reach} bytes into tensor {tensor.name!r}, which has {inside}")


def _fill(step: Fill, program: Program) -> None:
    _require(step.tensor.dtype in DTYPES, "unknown type")


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
