"""Samples to calibrate and to verify on: what callers give, as named float32 arrays."""

from __future__ import annotations

import math
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ..arrays import check_classes
from ..errors import Error, LabelsError, SamplesError
from .frontends.protocol import FrontEnd
from .ir import Graph

__all__ = ["Data", "as_arrays", "batches", "check_labels", "inputs_of", "named", "shape_of"]

Data = Union[np.ndarray, Any, Mapping[str, Any]]
"""Samples: an array, or a framework's that has the method asnumpy; by the inputs' names if there are several."""

_BATCH = 16  # samples that MXNet computes at once


def inputs_of(x: Any) -> Tuple[Any, List[Any]]:
    """What a Gluon network is called with: samples or shapes of one sample by name, and the names as they are nested.

    Several inputs are a dict, or a tuple or list as in a call of the network: then they are data0, data1, ..., as
    Gluon's export calls them. A tuple or list of integers is the shape of one.

    Raises
    ------
    bmx.Error
        If there are none, or samples of some inputs and shapes of others.
    """
    given: Dict[str, Any] = {}

    def name_all(part: Any) -> Any:
        if isinstance(part, (tuple, list)) and not _is_shape(part):
            return [name_all(each) for each in part]
        given[f"data{len(given)}"] = part
        return f"data{len(given) - 1}"

    if isinstance(x, Mapping):
        given, call = dict(x), list(x)
    else:
        call = name_all(x)
        call = call if isinstance(call, list) else [call]
    if not given or x is None:
        raise Error(f"x is {x!r}; it must be a batch of samples or the shape of one sample, several inputs in a tuple")
    if len(given) == 1 and not isinstance(x, Mapping):
        given, call = {"data": given["data0"]}, ["data"]
    shapes = [_is_shape(part) for part in given.values()]
    if any(shapes) and not all(shapes):
        raise Error("x has samples of some inputs and shapes of others; give the same of all")
    return ({name: tuple(shape) for name, shape in given.items()} if all(shapes) else as_arrays(given)), call


def _is_shape(part: Any) -> bool:
    return isinstance(part, (tuple, list)) and bool(part) and all(isinstance(n, (int, np.integer)) for n in part)


def as_arrays(data: Optional[Data]) -> Any:
    """Samples as float32 NumPy arrays, named or one."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {name: _array(array) for name, array in data.items()}
    return _array(data)


def _array(data: Any) -> np.ndarray:
    try:
        array = np.asarray(data.asnumpy() if hasattr(data, "asnumpy") else data)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"they are of type {array.dtype}")
    except (TypeError, ValueError) as error:
        raise SamplesError(f"samples are not an array of real numbers: {error}") from None
    if array.ndim < 2 or not len(array):
        raise SamplesError(f"samples have the shape {array.shape}; it must be a batch: (samples, ...)")
    return array.astype(np.float32, copy=False)


def shape_of(arrays: Any) -> Any:
    """The shape of one sample, by name if they are named."""
    if isinstance(arrays, dict):
        return {name: tuple(array.shape[1:]) for name, array in arrays.items()}
    return tuple(arrays.shape[1:])


def named(network: FrontEnd, data: Optional[Data]) -> Optional[Dict[str, np.ndarray]]:
    """Samples by the names of the inputs, checked against their shapes."""
    arrays = as_arrays(data)
    if arrays is None:
        return None
    if not isinstance(arrays, dict):
        arrays = {next(iter(network.inputs)): arrays}
    if set(arrays) != set(network.inputs):
        raise SamplesError(f"samples for {_list(arrays)}; the network's inputs are {_list(network.inputs)}")
    for name, array in arrays.items():
        if tuple(array.shape[1:]) != network.inputs[name]:
            raise SamplesError(
                f"samples of {name!r} have the shape {array.shape}; the network needs (samples, "
                f"{', '.join(map(str, network.inputs[name]))})"
            )
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"{len(array)} of {name!r}" for name, array in arrays.items())
        raise SamplesError(f"samples: {counts}; there must be as many of every input")
    return arrays


def _list(names: Any) -> str:
    return ", ".join(map(repr, names))


def check_labels(labels: Sequence[int], arrays: Optional[Dict[str, np.ndarray]], graph: Graph) -> np.ndarray:
    """Labels, one for each sample and each a class of the first output."""
    if arrays is None:
        raise LabelsError("labels are the classes of samples, which are missing; give data (--verify-data)")
    count = len(next(iter(arrays.values())))
    wanted = np.asarray(labels).ravel()
    if len(wanted) != count:
        raise LabelsError(f"{len(wanted)} labels for {count} samples; there must be one for each")
    try:
        return check_classes(wanted, math.prod(next(iter(graph.outputs.values())).shape), "labels")
    except Error as error:
        raise LabelsError(str(error)) from None


def batches(arrays: Mapping[str, np.ndarray]) -> List[Dict[str, np.ndarray]]:
    """Some samples at a time."""
    count = len(next(iter(arrays.values())))
    return [
        {name: array[begin : begin + _BATCH] for name, array in arrays.items()} for begin in range(0, count, _BATCH)
    ]
