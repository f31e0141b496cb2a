"""Checks the operations and stores of a step against docs/format.md."""

from __future__ import annotations

from typing import Optional, Tuple, Union

import numpy as np

from .operations import ARRAYS, FUNCTIONS, CountBits, Operation, StoreKind, fields_of, row_of
from .rules import MOST_OPERATIONS, require, stored_float
from .steps import Conv, Step, Tensor


def require_f32(tensor: Tensor) -> None:
    """Check the type of a tensor."""
    require(tensor.dtype == "f32", f"tensor {tensor.name!r} has the type {tensor.dtype}; it must be f32")


def check_array(what: str, values: np.ndarray, shape: Tuple[int, ...], dtype: type) -> None:
    """Check the shape and type of an array; error messages call it `what`."""
    fits = isinstance(values, np.ndarray) and values.shape == shape and values.dtype == dtype
    found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
    require(fits, f"its {what} is {found}, not {np.dtype(dtype)} {shape}")


def check_epilogue(step: Step, channels: int, size: Optional[Tuple[int, int]] = None) -> Tuple[int, int]:
    """Check operations and stores. Returns height and width of the output, which must equal `size` if given."""
    require(bool(step.stores), "it stores nothing")
    kinds = [type(store) for store in step.stores]
    distinct = all(issubclass(kind, StoreKind) and kinds.count(kind) == 1 for kind in kinds)
    require(distinct, "it has unknown stores, or two of the same kind")
    size = step.stores[0].value.shape[:2] if size is None else size
    shape = (*size, channels)
    for store in step.stores:
        _check_store(store, step, shape)
    count = len(step.epilogue)
    require(count <= MOST_OPERATIONS, f"{count} operations; at most {MOST_OPERATIONS} are allowed")
    for operation in step.epilogue:
        _check_operation(operation, shape)
    return size


def _check_operation(operation: Operation, shape: Tuple[int, int, int]) -> None:
    require(isinstance(operation, Operation), f"unknown operation {type(operation).__name__}")
    _check_fields(operation, shape)


def _check_store(store: StoreKind, step: Step, shape: Tuple[int, int, int]) -> None:
    tensor, dtype = store.value, row_of(store).dtype
    require(tensor.dtype == dtype, f"tensor {tensor.name!r} has the type {tensor.dtype}; the store needs {dtype}")
    require(tensor.shape == shape, f"tensor {tensor.name!r} is {tensor.shape}, the result is {shape}")
    _check_fields(store, shape)
    if isinstance(store, CountBits):
        binary = isinstance(step, Conv) and step.source.dtype == "bit"
        alone = binary and not step.epilogue and len(step.stores) == 1
        require(alone, "only a binary convolution without operations and other stores compares counts")


def _check_fields(owner: Union[Operation, StoreKind], shape: Tuple[int, int, int]) -> None:
    for field, attribute in fields_of(row_of(owner).fields):
        value = getattr(owner, attribute)
        if field in ARRAYS:
            check_array(attribute, value, shape[2:], ARRAYS[field].dtype)
        elif field == "function":
            require(value in FUNCTIONS, f"unknown function {value!r}")
        elif field == "f32":
            stored_float(value, f"its {attribute.replace('_', ' ')}")
        elif attribute == "operand":
            _check_operand(value, shape)
    problem = row_of(owner).problem(owner)
    require(not problem, problem)


def _check_operand(tensor: Tensor, shape: Tuple[int, int, int]) -> None:
    require_f32(tensor)
    fits = tensor.shape in (shape, (1, 1, shape[2]), (*shape[:2], 1))
    require(fits, f"the result is {shape} and its operand {tensor.name!r} {tensor.shape}")
