"""Whether the operations and stores of a step are ones that docs/format.md allows."""

from __future__ import annotations

import math
from typing import Callable, Optional, Tuple

import numpy as np

from .rules import MOST_OPERATIONS, Problem, require, stored_float
from .steps import (
    FUNCTIONS,
    Add,
    Affine,
    Bits,
    Bytes,
    Clip,
    Conv,
    CountBits,
    Floats,
    Function,
    Multiply,
    Norm,
    PRelu,
    Step,
    StoreKind,
    Tensor,
)

_STORE_DTYPE = {Floats: "f32", Bits: "bit", Bytes: "u8", CountBits: "bit"}


def require_f32(tensor: Tensor) -> None:
    """Check the type of a tensor."""
    require(tensor.dtype == "f32", f"tensor {tensor.name!r} has the type {tensor.dtype}, f32 is needed")


def check_array(what: str, values: np.ndarray, shape: Tuple[int, ...], dtype: type) -> None:
    """Check the shape and type of an array, which the message calls `what`."""
    fits = isinstance(values, np.ndarray) and values.shape == shape and values.dtype == dtype
    found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
    require(fits, f"its {what} is {found}, not {np.dtype(dtype)} {shape}")


def check_epilogue(step: Step, channels: int, size: Optional[Tuple[int, int]] = None) -> Tuple[int, int]:
    """Check operations and stores; returns height and width of the output, which must be `size` if that is given."""
    require(bool(step.stores), "it stores nothing")
    kinds = [type(store) for store in step.stores]
    require(all(kind in _STORE_DTYPE and kinds.count(kind) == 1 for kind in kinds), "its stores are not one of a kind")
    size = step.stores[0].tensor.shape[:2] if size is None else size
    shape = (*size, channels)
    for store in step.stores:
        _check_store(store, step, shape)
    count = len(step.epilogue)
    require(count <= MOST_OPERATIONS, f"{count} operations; at most {MOST_OPERATIONS} are allowed")
    for operation in step.epilogue:
        _OPERATIONS.get(type(operation), _unknown)(operation, shape)
    return size


def _check_store(store: StoreKind, step: Step, shape: Tuple[int, int, int]) -> None:
    tensor, dtype = store.tensor, _STORE_DTYPE[type(store)]
    require(tensor.dtype == dtype, f"tensor {tensor.name!r} has the type {tensor.dtype}, {dtype} is stored")
    require(tensor.shape == shape, f"tensor {tensor.name!r} is {tensor.shape}, the result is {shape}")
    if isinstance(store, (Bits, CountBits)):
        check_array("threshold", store.threshold, shape[2:], np.float32 if isinstance(store, Bits) else np.int32)
        check_array("flip", store.flip, shape[2:], np.bool_)
    if isinstance(store, Bytes):
        inverse = stored_float(store.inverse_scale, "its inverse scale")
        require(0 < inverse < math.inf, f"its inverse scale is {inverse}; it must be positive and finite")
    if isinstance(store, CountBits):
        binary = isinstance(step, Conv) and step.source.dtype == "bit"
        alone = binary and not step.epilogue and len(step.stores) == 1
        require(alone, "thresholds of counts belong to a binary convolution that does nothing else")


def _unknown(operation: object, shape: Tuple[int, int, int]) -> None:
    raise Problem(f"unknown operation {type(operation).__name__}")


def _arrays(*names: str) -> Callable:
    def check_arrays(operation: object, shape: Tuple[int, int, int]) -> None:
        for name in names:
            check_array(name, getattr(operation, name), shape[2:], np.float32)

    return check_arrays


def _operand(operation: object, shape: Tuple[int, int, int]) -> None:
    tensor = operation.tensor
    require_f32(tensor)
    fits = tensor.shape in (shape, (1, 1, shape[2]), (*shape[:2], 1))
    require(fits, f"the result is {shape} and its operand {tensor.name!r} {tensor.shape}")


def _clip(operation: Clip, shape: Tuple[int, int, int]) -> None:
    low, high = (stored_float(value, "a limit of CLIP") for value in (operation.low, operation.high))
    require(low <= high, f"it clips from {low} to {high}; the first must be the smaller")


def _function(operation: Function, shape: Tuple[int, int, int]) -> None:
    require(operation.name in FUNCTIONS, f"unknown function {operation.name!r}")


_OPERATIONS = {
    Affine: _arrays("scale", "bias"),
    Norm: _arrays("mean", "scale", "bias"),
    PRelu: _arrays("slope"),
    Add: _operand,
    Multiply: _operand,
    Clip: _clip,
    Function: _function,
}
