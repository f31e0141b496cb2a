"""Runs a network before and after its conversion on the same samples and compares what comes out."""

from __future__ import annotations

import copy
import json
from typing import Dict, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..checkpoints import names as checkpoint_names
from ..checkpoints.inference import cast_parameters, for_inference
from ..checkpoints.loading import load_files, to_ndarray
from ..checkpoints.sample_shape import UNKNOWN, fitting_shapes, recorded_shape, sample_shape, shape_text
from ..checkpoints.shape_inference import Shape, ShapeInference
from ..checkpoints.symbol_file import Graph, mxnet_message, parse_graph, to_symbol
from ..comparison import compare, is_softmax
from ..errors import Error
from .report import Verification

__all__ = ["Network", "agreement", "largest_difference", "verify_conversion"]

_SAMPLES = 8
_SEED = 0
_NOISE = 1e-5  # relative; so large that it decides other bits where roundings could


class Network:
    """A loaded checkpoint as inference needs it (`inference`); `data_names` are its inputs.

    `stored_inputs` are the shapes of inputs that have a value in the file, with the batch.
    """

    def __init__(self, symbol_path: str, params_path: str):
        symbol, args, aux = load_files(symbol_path, params_path)
        needed = for_inference(parse_graph(json.loads(symbol.tojson()), symbol_path), {**args, **aux})
        self.symbol, self.data_names = to_symbol(needed.graph, symbol_path), needed.inputs
        if needed.missing:
            kind = "aux" if needed.missing[0] in self.symbol.list_auxiliary_states() else "arg"
            raise Error(f"{params_path}: the array '{kind}:{needed.missing[0]}' is missing")
        self.stored_inputs = {name: args.pop(name).shape for name in self.data_names if name in args}
        self.args = _cast(needed.graph, {name: array for name, array in args.items() if name not in needed.labels})
        self.aux = _cast(needed.graph, aux)
        for name in self.symbol.list_auxiliary_states():
            if name not in self.aux:
                raise Error(f"{params_path}: the array 'aux:{name}' is missing")
        self.graph = parse_graph(json.loads(self.symbol.tojson()), symbol_path)
        stored = {name: array.shape for name, array in {**self.args, **self.aux}.items()}
        self._infer = ShapeInference(self.graph, stored, symbol_path)

    def check(self, shape: Shape) -> Dict[str, Shape]:
        """Shapes of all arrays for data of this shape with the batch.

        Raises
        ------
        bmx.Error
            If the network does not take such data, or a stored array has another shape than it needs.
        """
        found = self._infer({self.data_names[0]: shape})
        return {node.name: found[id(node), 0] for node in self.graph.nodes if (id(node), 0) in found}

    def sample_shape(self) -> Shape:
        """That of a stored batch, the recorded one, or the only one that fits; bmx.Error if there is none such."""
        return self._stored_shape() or sample_shape(self.graph, self.data_names[0], {**self.args, **self.aux})

    def fitting_shape(self) -> Optional[Shape]:
        """A shape of a sample that the network takes, though it may take others too; None if none is found."""
        found = fitting_shapes(self.graph, self.data_names[0], {**self.args, **self.aux})
        return self._stored_shape() or next(found, None)

    def shape_is_known(self) -> bool:
        """Whether the shape of a sample is stored or recorded."""
        return (self._stored_shape() or recorded_shape(self.graph.variables()[self.data_names[0]])) is not None

    def _stored_shape(self) -> Optional[Shape]:
        return tuple(self.stored_inputs.get(self.data_names[0], ())[1:]) or None

    def run(self, batch: np.ndarray) -> List[np.ndarray]:
        """Outputs for a batch."""
        shapes = self.check(batch.shape)
        arrays = {**self.args, **self.aux, self.data_names[0]: mx.nd.array(batch, dtype=batch.dtype)}
        inputs = [arrays[name] if name in arrays else mx.nd.zeros(shapes[name]) for name in self.symbol.list_inputs()]
        outputs = mx.nd.CachedOp(self.symbol)(*inputs)  # unlike bind it logs nothing to stderr
        return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]

    def run_near(self, batch: np.ndarray, seed: int) -> List[np.ndarray]:
        """Outputs where the last digits of the batch, and of biases and numbers of BatchNorms, are others."""
        random, other = np.random.RandomState(seed), copy.copy(self)

        def noisy(array: np.ndarray) -> np.ndarray:
            return (array * (1 + _NOISE * random.standard_normal(array.shape))).astype(array.dtype)

        def changed(array: mx.nd.NDArray) -> mx.nd.NDArray:
            return to_ndarray(noisy(array.asnumpy())) if array.ndim == 1 and array.dtype == np.float32 else array

        other.args = {name: changed(array) for name, array in self.args.items()}
        other.aux = {name: changed(array) for name, array in self.aux.items()}
        return other.run(noisy(batch))


def verify_conversion(
    original: str,
    epoch: int,
    converted: Tuple[str, str],
    data_shape: Optional[Sequence[int]] = None,
    data: Optional[np.ndarray] = None,
) -> Verification:
    """Compare two checkpoints on the same samples.

    Parameters
    ----------
    original : str
        Prefix of the original.
    epoch : int
    converted : tuple of str
        The files of the converted one, symbol and parameters.
    data_shape : sequence of int, optional
        Shape of one sample; by default the recorded one, or one that fits: any does, as nothing that is written depends
        on it.
    data : ndarray, optional
        A batch; by default 8 normally distributed samples with a fixed seed.

    Returns
    -------
    Verification
        Also where the networks could not be run: it says why.

    Raises
    ------
    bmx.Error
        If a stored array or `data_shape` does not fit the network, or the outputs differ.
    """
    files = checkpoint_names.files(original, epoch)
    network = Network(*files)
    if len(network.data_names) != 1:
        names = ", ".join(network.data_names) or "none"
        return Verification(f"the network must have one input without a stored value, it has: {names}")
    shape = tuple(data.shape[1:]) if data is not None else _checked_shape(data_shape)
    assumed = shape is None
    try:
        shape = network.fitting_shape() if assumed else shape
        if shape is None:
            return Verification(UNKNOWN)
        network.check((1, *shape))
    except Error as error:
        problem = "" if assumed else f"the network does not take samples of shape {shape}: "
        raise Error(f"{files[1]}: {problem}{error}") from None
    if data is None:
        data = np.random.RandomState(_SEED).standard_normal((_SAMPLES, *shape))
    data = np.asarray(data, np.float32)
    samples = f"{len(data)} samples of shape {shape_text(shape)}"
    try:
        before = network.run(data)
    except mx.base.MXNetError as error:
        return Verification(f"MXNet cannot run the network on {samples}: {mxnet_message(error)}")
    try:
        after = Network(*converted).run(data)
    except mx.base.MXNetError as error:
        raise Error(
            f"{original}: the converted network cannot be run, nothing was written: {mxnet_message(error)}"
        ) from None
    result = Verification(samples, largest_difference(before, after), agreement(before[0], after[0]))
    result.assumed_shape = assumed and not network.shape_is_known()
    softmaxes = [is_softmax(entry) for entry in network.graph.heads]
    verdict = compare(before, after, softmaxes, lambda seed: network.run_near(data, seed))
    if verdict == "different" or result.largest_difference == np.inf:
        raise Error(f"{original}: the converted network has other outputs, nothing was written: {result}")
    if verdict == "roundings":
        result.remark = "where roundings decide bits; they change the original's outputs as much"
    return result


def largest_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """max|a - b| over all outputs, equal infinities and NaN beside NaN being no difference."""
    worst = 0.0
    for a, b in zip(before, after):
        a, b = a.astype(np.float64), b.astype(np.float64)
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        difference = np.abs(np.where(equal, 0.0, a) - np.where(equal, 0.0, b))
        worst = max(worst, float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0)))
    return worst


def agreement(before: np.ndarray, after: np.ndarray) -> Optional[float]:
    """Share of predictions, largest values along axis 1, that are equal; None where there are no classes."""
    if before.ndim < 2 or before.shape[1] < 2 or before.size == 0:
        return None
    return float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))


def _checked_shape(shape: Optional[Sequence[int]]) -> Optional[Shape]:
    if shape is not None and (not shape or any(size < 1 for size in shape)):
        raise Error(f"data_shape is {tuple(shape)}; it must be positive sizes without the batch, such as (1, 28, 28)")
    return None if shape is None else tuple(int(size) for size in shape)


def _cast(graph: Graph, arrays: Dict[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    others = {name: array.asnumpy() for name, array in arrays.items() if array.dtype != np.float32}
    return {**arrays, **{name: to_ndarray(array) for name, array in cast_parameters(graph, others).items()}}
