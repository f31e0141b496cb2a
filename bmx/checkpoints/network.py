"""A network of MXNet with its parameters: what its inputs, labels, shapes and constants are, and what it computes."""

from __future__ import annotations

import copy
import json
from typing import Any, Collection, Dict, List, Mapping, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error
from .constants import Key, evaluate, fold
from .inference import cast_parameters, for_inference, is_softmax
from .loading import load_files
from .sample_shape import fitting_shapes, recorded_shape, sample_shape
from .shape_inference import Shape, ShapeInference
from .symbol_file import Entry, parse_graph, to_symbol
from .v2_operators import translate

__all__ = ["Arrays", "Network"]

Arrays = Mapping[str, Any]  # of NDArray or ndarray


class Network:
    """A network as inference needs it: without outputs that are losses, and with parameters in float32.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        Of MXNet's operators and bmx's.
    args, aux : mapping of str to NDArray or ndarray
        Parameters and auxiliary states. Packed weights are 32-bit words, as `load_checkpoint` gives them. With `args`
        None they are not known: then `named` are all inputs, and the network has shapes, but cannot run.
    name : str
        Of the network or its file, in errors.
    named : collection of str
        Variables that are known to be inputs.

    Attributes
    ----------
    graph : SymbolGraph
    inputs : list of str
        The variables that a sample gives, in the order of the network.
    labels, placeholders : list of str
        The labels, and those of them that the graph still has as variables; its outputs do not depend on their values.
    left_out : list of str
        The nodes of outputs that are losses, which were left out; `losses` says whether all outputs are such.
    missing : list of str
        Parameters without values.
    outputs : list of str
        The names of the outputs.
    arrays : dict of str to NDArray or ndarray
        Parameters and auxiliary states, as they were given, but in float32.
    stored_inputs : dict of str to tuple of int
        Shapes of inputs that have a value among the given arrays, with the batch.
    """

    def __init__(
        self, symbol: mx.sym.Symbol, args: Optional[Arrays], aux: Arrays, name: str, named: Collection[str] = ()
    ):
        arrays = {**(args or {}), **aux}
        graph = parse_graph(json.loads(symbol.tojson()), name)
        translate(graph)
        needed = for_inference(graph, None if args is None else arrays, named)
        self.name, self.graph = name, needed.graph
        self.inputs, self.labels, self.placeholders = needed.inputs, needed.labels, needed.placeholders
        self.left_out, self.losses, self.missing = needed.left_out, needed.losses, needed.missing
        self.symbol = to_symbol(self.graph, name)
        self.outputs = _unique(self.symbol.list_outputs())
        self.stored_inputs = {key: tuple(arrays[key].shape) for key in self.inputs if key in arrays}
        others = {*self.inputs, *self.labels}
        self.arrays = self._cast({key: array for key, array in arrays.items() if key not in others})
        self._infer: Optional[ShapeInference] = None
        self._shapes: Dict[Tuple[Tuple[str, Shape], ...], Dict[Key, Shape]] = {}

    @classmethod
    def load(cls, symbol_path: str, params_path: str) -> Network:
        """The network of a checkpoint's two files, whatever their names.

        Raises
        ------
        bmx.Error
            If a file is missing, damaged or of another kind, or a parameter has no value.
        """
        symbol, args, aux = load_files(symbol_path, params_path)
        network = cls(symbol, args, aux, symbol_path)
        states = network.symbol.list_auxiliary_states()
        missing = [*network.missing, *(name for name in states if name not in network.arrays)]
        if missing:
            kind = "aux" if missing[0] in states else "arg"
            raise Error(f"{params_path}: the array '{kind}:{missing[0]}' is missing")
        return network

    def _cast(self, arrays: Dict[str, Any]) -> Dict[str, Any]:
        others = {key: _numpy(array) for key, array in arrays.items() if array.dtype != np.float32}
        return {**arrays, **cast_parameters(self.graph, others)}

    @property
    def parameters(self) -> Dict[str, np.ndarray]:
        """The parameters and auxiliary states as NumPy arrays, float32 but for integers that the graph declares."""
        self.arrays = {name: _numpy(array) for name, array in self.arrays.items()}
        return self.arrays

    @property
    def softmaxes(self) -> List[bool]:
        """Which outputs are softmaxes."""
        return [is_softmax(entry) for entry in self.graph.heads]

    def shapes(self, inputs: Mapping[str, Shape]) -> Dict[Key, Shape]:
        """Shapes of all variables and of all that is read, for inputs of these shapes, with the batch.

        Raises
        ------
        bmx.Error
            If the network does not take such inputs, or a stored array has another shape than it needs.
        """
        key = tuple((name, tuple(shape)) for name, shape in inputs.items())
        if key not in self._shapes:
            if self._infer is None:
                stored = {name: tuple(array.shape) for name, array in self.arrays.items()}
                self._infer = ShapeInference(self.graph, stored, self.name)
            self._shapes[key] = self._infer(dict(key))
        return self._shapes[key]

    def variable_shapes(self, inputs: Mapping[str, Shape]) -> Dict[str, Shape]:
        """As `shapes`: those of the variables, by name."""
        found = self.shapes(inputs)
        return {name: found[id(node), 0] for name, node in self.graph.variables().items() if (id(node), 0) in found}

    def sample_shape(self) -> Shape:
        """That of a stored batch, the recorded one, or the only one that fits; bmx.Error if there is none such."""
        return self._stored_shape() or sample_shape(self.graph, self.inputs[0], self.arrays)

    def fitting_shape(self) -> Optional[Shape]:
        """A shape of a sample that the network takes, though it may take others too; None if none is found."""
        return self._stored_shape() or next(fitting_shapes(self.graph, self.inputs[0], self.arrays), None)

    def shape_is_known(self) -> bool:
        """Whether the shape of a sample is stored or recorded."""
        return (self._stored_shape() or recorded_shape(self.graph.variables()[self.inputs[0]])) is not None

    def _stored_shape(self) -> Optional[Shape]:
        return tuple(self.stored_inputs.get(self.inputs[0], ())[1:]) or None

    def constants(self, entries: Sequence[Entry], shapes: Sequence[Mapping[Key, Shape]]) -> Dict[Key, np.ndarray]:
        """The values of entries that do not depend on samples, given all shapes for batches of 2 and of 3 (`fold`)."""
        return fold(entries, self.parameters, shapes, self.name)

    def run(self, data: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """What MXNet computes for a batch: the outputs by name. Labels are 0.

        Raises
        ------
        bmx.Error
            As `shapes`; CannotRun if MXNet cannot compute them.
        """
        self.shapes({name: array.shape for name, array in data.items()})  # MXNet would believe them, and might crash
        return dict(zip(self.outputs, self.compute(self.graph.heads, data)))

    def compute(self, entries: Sequence[Entry], data: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """As `run`: the values of any entries of the graph."""
        inputs = {name: np.asarray(array, np.float32) for name, array in data.items()}
        labels = {}
        if self.placeholders:
            known = self.variable_shapes({name: array.shape for name, array in inputs.items()})
            labels = {name: np.zeros(known[name], np.float32) for name in self.placeholders if name in known}
        given = {**self.parameters, **labels, **inputs}
        computed = [entry for entry in entries if not entry.node.is_variable]
        results = iter(evaluate(computed, given, self.name))
        return [given[entry.node.name] if entry.node.is_variable else next(results) for entry in entries]

    def with_other_last_digits(self, noise: float, seed: int) -> Network:
        """The network with biases and numbers of BatchNorms that are nearly the same; weights may be packed."""
        random, other = np.random.RandomState(seed), copy.copy(self)
        other.arrays = {
            name: (array * (1 + noise * random.standard_normal(array.shape))).astype(array.dtype)
            if array.ndim == 1 and array.dtype.kind == "f"
            else array
            for name, array in self.parameters.items()
        }
        return other


def _numpy(array: Any) -> np.ndarray:
    return array.asnumpy() if isinstance(array, mx.nd.NDArray) else np.asarray(array)


def _unique(names: List[str]) -> List[str]:
    """The names, equal ones with a number."""
    return [name if name not in names[:i] else f"{name}_{i}" for i, name in enumerate(names)]
