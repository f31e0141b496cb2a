"""Models of three kinds behind one interface; each imports its own framework, and only that."""

from __future__ import annotations

import os
import statistics
from abc import ABC, abstractmethod
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from .. import checkpoint_names
from ..errors import Error

__all__ = ["Runner", "check_outputs", "kind", "open_model", "random_inputs"]

Shape = Tuple[int, ...]


def kind(path: str) -> str:
    """``bmx``, ``onnx`` or ``mxnet``, by the name of a file that is there.

    Raises
    ------
    bmx.Error
        If there is no such file, or it is of another kind.
    """
    found = "bmx" if path.endswith(".bmx") else "onnx" if path.endswith(".onnx") else None
    if checkpoint_names.parse(path):
        found = "mxnet"
    if found is None:
        raise Error(f"{path}: is neither a .bmx file nor a checkpoint (PREFIX-NNNN.params) nor an .onnx file")
    if not os.path.isfile(path):
        raise Error(f"{path}: no such file")
    return found


class Runner(ABC):
    """A loaded model.

    Attributes
    ----------
    inputs : dict of str to tuple of int
        Shapes without the batch, in order.
    """

    inputs: Dict[str, Shape]

    @abstractmethod
    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Outputs for float32 inputs in order, (batch, ...) each."""

    def profile(self, arrays: Sequence[np.ndarray], calls: int) -> Optional[List[Tuple[str, str, float, int, str]]]:
        """The numbers of `Layer` for each step, medians of calls; None where the framework has no such thing."""
        return None


class _BmxRunner(Runner):
    def __init__(self, path: str, threads: int):
        from .. import runtime

        self._path, self._model = path, runtime.Model(path, threads=threads)
        self.inputs = {port.name: tuple(port.shape) for port in self._model.inputs}

    def run(self, arrays):
        outputs = self._model.run(*arrays)
        return [outputs] if isinstance(outputs, np.ndarray) else list(outputs)

    def profile(self, arrays, calls):
        from ..program import arithmetic, decode

        runs = [self._model.profile(*arrays) for _ in range(calls)]
        medians = (statistics.median(step.seconds for step in steps) for steps in zip(*runs))
        batch, words = len(arrays[0]), map(arithmetic, decode(self._path).steps)
        return [
            (step.name, step.kind, seconds, batch * step.macs, word)
            for step, seconds, word in zip(runs[0], medians, words)
        ]


class _MXNetRunner(Runner):
    """A symbol with static memory, as a hybridized Gluon block with static_alloc and static_shape runs it."""

    def __init__(self, path: str, batch: int, shape: Optional[Shape], hint: Optional[Shape], backend: Optional[str]):
        from .. import _lazy

        _lazy.require_mxnet(f"{path}: a checkpoint")
        import mxnet as mx

        from ..compiler.verify import Network

        network = Network(*checkpoint_names.files(*checkpoint_names.split_path(path)))
        if len(network.data_names) != 1:
            raise Error(f"{path}: only networks with one input can be measured; it has {', '.join(network.data_names)}")
        try:
            shape = shape or _fitting(network, hint) or network.sample_shape()
            shapes = network.check((batch, *shape))
        except Error as error:
            raise Error(f"{path}: {error}") from None
        self.inputs = {network.data_names[0]: tuple(shape)}
        self._mx, symbol, arrays = mx, network.symbol, {**network.args, **network.aux}
        if backend is not None:
            symbol = symbol.optimize_for(backend, network.args, network.aux)
            arrays = {**network.args, **network.aux}
        self._given = None
        self._place = symbol.list_inputs().index(network.data_names[0])
        self._arrays = [arrays[name] if name in arrays else mx.nd.zeros(shapes[name]) for name in symbol.list_inputs()]
        self._network = mx.nd.CachedOp(symbol, [("static_alloc", True), ("static_shape", True)])

    def run(self, arrays):
        if arrays[0] is not self._given:  # MXNet's own arrays are its best setting
            self._given, self._arrays[self._place] = arrays[0], self._mx.nd.array(arrays[0])
        outputs = self._network(*self._arrays)
        return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]


def _fitting(network: Any, shape: Optional[Shape]) -> Optional[Shape]:
    """The shape, if a checkpoint takes samples of it."""
    try:
        return shape if shape is not None and network.check((1, *shape)) else None
    except Error:
        return None


class _OnnxRunner(Runner):
    def __init__(self, path: str, threads: int, batch: int, shape: Optional[Shape]):
        try:
            import onnxruntime
        except ImportError:
            raise Error(f"{path}: needs ONNX Runtime: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # errors become exceptions, whose message is enough
        try:
            onnxruntime.set_default_logger_severity(4)
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own, of many classes
            raise Error(f"{path}: ONNX Runtime cannot load it: {_line(error)}") from None
        for port in self._session.get_outputs():
            if not port.type.startswith("tensor(") or port.type == "tensor(string)":
                raise Error(f"{path}: its output {port.name!r} is a {port.type}; allowed are tensors of numbers")
        self.inputs = {port.name: self._shape(path, port, batch, shape) for port in self._session.get_inputs()}
        if not self.inputs:
            raise Error(f"{path}: has no input")

    @staticmethod
    def _shape(path: str, port: Any, batch: int, shape: Optional[Shape]) -> Shape:
        """The shape of an input, without the batch."""
        if port.type != "tensor(float)":
            raise Error(f"{path}: its input {port.name!r} is a {port.type}; allowed is tensor(float)")
        sizes = list(port.shape or [])  # empty also where the file does not say how many dimensions there are
        if sizes and isinstance(sizes[0], int) and sizes[0] != batch:
            raise Error(f"{path}: takes batches of {sizes[0]} only, not of {batch}")
        known = tuple(sizes[1:])
        if not sizes or not all(isinstance(size, int) for size in known):
            if shape is None:
                raise Error(f"{path}: the shape of {port.name!r} is not in the file; give it with --data-shape")
            known = tuple(shape)
        if 0 in known:
            raise Error(
                f"{path}: its input {port.name!r} has the shape {'x'.join(map(str, known))}, which holds nothing"
            )
        return known

    def run(self, arrays):
        try:
            return self._session.run(None, dict(zip(self.inputs, arrays)))
        except Exception as error:
            raise Error(f"ONNX Runtime: {_line(error)}") from None


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_outputs(path: str, outputs: Sequence[Any]) -> None:
    """Raise bmx.Error unless the outputs are arrays of numbers that are not empty."""
    for number, output in enumerate(outputs):
        if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
            raise Error(f"{path}: its output {number} is no array of numbers")
        if not output.size:
            raise Error(f"{path}: its output {number} is empty, of the shape {output.shape}")


def open_model(
    path: str,
    threads: int,
    batch: int,
    shape: Optional[Shape] = None,
    hint: Optional[Shape] = None,
    backend: Optional[str] = None,
) -> Runner:
    """Load a model.

    Parameters
    ----------
    path : str
        A .bmx file, ``PREFIX-NNNN.params`` with ``PREFIX-symbol.json`` beside it, or an .onnx file.
    threads : int
        MXNet takes it from ``OMP_NUM_THREADS`` instead, before it is imported.
    batch : int
        The batch that it will be run with.
    shape : tuple of int, optional
        Of one sample, for checkpoints (derived from the network by default) and .onnx files that do not say it. Other
        models must have an input of this shape.
    hint : tuple of int, optional
        For checkpoints: the shape to take where it fits and `shape` is not given.
    backend : str, optional
        For checkpoints: MXNet's subgraph backend, such as 'MKLDNN'.

    Raises
    ------
    bmx.Error
        If the file is missing or damaged, what runs it is not installed, or it takes samples of another shape.
    """
    which = kind(path)
    if which == "mxnet":
        return _MXNetRunner(path, batch, shape, hint, backend)
    runner = _BmxRunner(path, threads) if which == "bmx" else _OnnxRunner(path, threads, batch, shape)
    if shape is not None and tuple(shape) not in runner.inputs.values():
        given, known = ("x".join(map(str, sizes)) for sizes in (shape, next(iter(runner.inputs.values()))))
        raise Error(f"{path}: its input has the shape {known}, but --data-shape is {given}")
    return runner


def random_inputs(runner: Runner, batch: int) -> List[np.ndarray]:
    """Normally distributed inputs, always the same."""
    generator = np.random.RandomState(0)
    return [generator.standard_normal((batch, *shape)).astype(np.float32) for shape in runner.inputs.values()]
