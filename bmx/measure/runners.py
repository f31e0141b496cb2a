"""Three kinds of models behind one interface. Each imports only its own framework."""

from __future__ import annotations

import importlib.util
import os
import statistics
from abc import ABC, abstractmethod
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..checkpoints import names as checkpoint_names
from ..errors import Error

__all__ = ["ONNX_FRAMEWORKS", "Runner", "check_outputs", "installed", "kind", "open_model", "random_inputs"]

Shape = Tuple[int, ...]
ONNX_FRAMEWORKS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}  # module and name


def kind(path: str) -> str:
    """The kind of an existing file by its name: ``bmx``, ``onnx`` or ``mxnet``.

    Raises
    ------
    bmx.Error
        If the file does not exist or its name is of no such kind.
    """
    found = "bmx" if path.endswith(".bmx") else "onnx" if path.endswith(".onnx") else None
    if checkpoint_names.parse(path):
        found = "mxnet"
    if found is None:
        raise Error(f"{path}: is neither a .bmx file nor a checkpoint (PREFIX-NNNN.params) nor an .onnx file")
    if not os.path.isfile(path):
        raise Error(f"{path}: no such file")
    return found


def installed(framework: str) -> bool:
    """Whether the module of one of `ONNX_FRAMEWORKS` is installed. This does not import it."""
    return importlib.util.find_spec(framework) is not None


class Runner(ABC):
    """A loaded model.

    Attributes
    ----------
    inputs : dict of str to tuple of int
        Shapes of the inputs without the batch, in order.
    """

    inputs: Dict[str, Shape]

    @abstractmethod
    def run(self, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """The outputs for float32 inputs (batch, ...) in order. The next run may overwrite them."""

    def profile(self, arrays: Sequence[np.ndarray], calls: int) -> Optional[List[Tuple[str, str, float, int, str]]]:
        """The fields of `Layer` for each step, medians over the calls; None if the framework cannot measure steps."""
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
    """Runs a symbol with static memory, like a hybridized Gluon block with static_alloc and static_shape."""

    def __init__(self, path: str, batch: int, shape: Optional[Shape], hint: Optional[Shape], backend: Optional[str]):
        from .. import registration

        registration.require_mxnet(f"{path}: a checkpoint")
        import mxnet as mx

        from ..checkpoints.loading import to_ndarray
        from ..checkpoints.network import Network

        network = Network.load(*checkpoint_names.files(*checkpoint_names.split_path(path)))
        if len(network.inputs) != 1:
            raise Error(f"{path}: only networks with one input can be measured; it has {', '.join(network.inputs)}")
        try:
            shape = shape or _fitting(network, hint) or network.sample_shape()
            shapes = network.variable_shapes({network.inputs[0]: (batch, *shape)})
        except Error as error:
            raise Error(f"{path}: {error}") from None
        self.inputs = {network.inputs[0]: tuple(shape)}
        self._mx, symbol = mx, network.symbol
        arrays = {
            name: array if isinstance(array, mx.nd.NDArray) else to_ndarray(array)
            for name, array in network.arrays.items()
        }
        if backend is not None:
            states = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
            symbol = symbol.optimize_for(backend, arrays, states)
            arrays = {**arrays, **states}
        self._given = None
        self._place = symbol.list_inputs().index(network.inputs[0])
        self._arrays = [arrays[name] if name in arrays else mx.nd.zeros(shapes[name]) for name in symbol.list_inputs()]
        self._network = mx.nd.CachedOp(symbol, [("static_alloc", True), ("static_shape", True)])

    def run(self, arrays):
        if arrays[0] is not self._given:  # MXNet is fastest on arrays of its own
            self._given, self._arrays[self._place] = arrays[0], self._mx.nd.array(arrays[0])
        outputs = self._network(*self._arrays)
        return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]


def _fitting(network: Any, shape: Optional[Shape]) -> Optional[Shape]:
    """The shape if the checkpoint takes samples of this shape, else None."""
    try:
        return shape if shape is not None and network.shapes({network.inputs[0]: (1, *shape)}) else None
    except Error:
        return None


class _OnnxRuntimeRunner(Runner):
    def __init__(self, path: str, threads: int, batch: int, shape: Optional[Shape]):
        try:
            import onnxruntime
        except ImportError:
            raise Error(f"{path}: needs ONNX Runtime: pip install onnxruntime") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4  # errors become exceptions; their messages are enough
        try:
            onnxruntime.set_default_logger_severity(4)
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own, of many classes
            raise Error(f"{path}: ONNX Runtime cannot load it: {_line(error)}") from None
        for port in self._session.get_outputs():
            if not port.type.startswith("tensor(") or port.type == "tensor(string)":
                raise Error(f"{path}: its output {port.name!r} is a {port.type}; allowed are tensors of numbers")
        ports = [(port.name, port.type, list(port.shape or [])) for port in self._session.get_inputs()]
        self.inputs = _onnx_inputs(path, ports, "tensor(float)", batch, shape)

    def run(self, arrays):
        try:
            return self._session.run(None, dict(zip(self.inputs, arrays)))
        except Exception as error:
            raise Error(f"ONNX Runtime: {_line(error)}") from None


class _OpenVINORunner(Runner):
    """OpenVINO chooses the arithmetic: int8 where quantized, bfloat16 for floats on CPUs with matrix units for it."""

    def __init__(self, path: str, threads: int, batch: int, shape: Optional[Shape]):
        try:
            import openvino
        except ImportError:
            raise Error(f"{path}: needs OpenVINO: pip install openvino") from None
        settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads}
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
        if not any(word in limit for word in ("BF16", "FP16", "AMX", "ALL", "DEFAULT")):
            # OpenVINO would choose bfloat16 by the CPU, and then compute it without the instructions outside the limit.
            settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            core = openvino.Core()
            model = core.read_model(path)
            ports = [(port.any_name, port.element_type.get_type_name(), _sizes(port)) for port in model.inputs]
        except Exception as error:  # OpenVINO's own, of many classes
            raise Error(f"{path}: OpenVINO cannot load it: {_line(error)}") from None
        self.inputs = _onnx_inputs(path, ports, "f32", batch, shape)
        try:
            model.reshape({port: [batch, *known] for port, known in zip(model.inputs, self.inputs.values())})
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except Exception as error:
            raise Error(f"{path}: OpenVINO cannot load it: {_line(error)}") from None

    def run(self, arrays):
        try:  # without copies; outputs are valid until the next run
            outputs = self._request.infer(list(arrays), share_inputs=True, share_outputs=True)
        except Exception as error:
            raise Error(f"OpenVINO: {_line(error)}") from None
        return [outputs[number] for number in range(len(outputs))]


def _sizes(port: Any) -> List[Optional[int]]:
    """The sizes of an input in OpenVINO. A size that the file leaves open is None; with an open rank there are none."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return []
    return [size.get_length() if size.is_static else None for size in shape]


def _onnx_inputs(
    path: str, ports: Sequence[Tuple[str, str, List[Any]]], wanted: str, batch: int, shape: Optional[Shape]
) -> Dict[str, Shape]:
    """The shapes of inputs (name, type, sizes) without the batch."""
    if not ports:
        raise Error(f"{path}: it has no input")
    return {name: _onnx_shape(path, name, kind, wanted, sizes, batch, shape) for name, kind, sizes in ports}


def _onnx_shape(
    path: str, name: str, type_: str, wanted: str, sizes: List[Any], batch: int, shape: Optional[Shape]
) -> Shape:
    if type_ != wanted:
        raise Error(f"{path}: its input {name!r} is a {type_}; it must be {wanted}")
    # `sizes` is also empty if the file does not fix the number of dimensions
    if sizes and isinstance(sizes[0], int) and sizes[0] != batch:
        raise Error(f"{path}: it takes only batches of {sizes[0]}, not of {batch}")
    known = tuple(sizes[1:])
    if not sizes or not all(isinstance(size, int) for size in known):
        if shape is None:
            raise Error(f"{path}: the shape of {name!r} is not in the file; give it with --data-shape")
        known = tuple(shape)
    if 0 in known:
        raise Error(
            f"{path}: its input {name!r} has the shape {'x'.join(map(str, known))}; all sizes must be 1 or more"
        )
    return known


def _line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def check_outputs(path: str, outputs: Sequence[Any]) -> None:
    """Raise bmx.Error unless the outputs are arrays of numbers that are not empty."""
    for number, output in enumerate(outputs):
        if not isinstance(output, np.ndarray) or output.dtype.kind not in "fiub":
            raise Error(f"{path}: its output {number} is not an array of numbers")
        if not output.size:
            raise Error(f"{path}: its output {number} is empty: its shape is {output.shape}")


def open_model(
    path: str,
    threads: int,
    batch: int,
    shape: Optional[Shape] = None,
    hint: Optional[Shape] = None,
    backend: Optional[str] = None,
    framework: Optional[str] = None,
) -> Runner:
    """Load a model.

    Parameters
    ----------
    path : str
        A .bmx file, ``PREFIX-NNNN.params`` with ``PREFIX-symbol.json`` beside it, or an .onnx file.
    threads : int
        Number of threads. MXNet ignores it and reads ``OMP_NUM_THREADS`` when it is imported.
    batch : int
        The batch size of all runs.
    shape : tuple of int, optional
        Shape of one sample, for checkpoints (default: derived from the network) and for .onnx files without it. Other
        models must have an input of this shape.
    hint : tuple of int, optional
        For checkpoints: the shape to use if `shape` is not given and this one fits.
    backend : str, optional
        For checkpoints: MXNet's subgraph backend, such as 'MKLDNN'.
    framework : str, optional
        For .onnx files: the framework that runs them, one of `ONNX_FRAMEWORKS`. Default: ONNX Runtime.

    Raises
    ------
    bmx.Error
        If the file is missing or damaged, its framework is not installed, or it takes samples of another shape.
    """
    which = kind(path)
    if which == "mxnet":
        return _MXNetRunner(path, batch, shape, hint, backend)
    runner: Runner
    if which == "bmx":
        runner = _BmxRunner(path, threads)
    else:
        make = _OpenVINORunner if framework == "openvino" else _OnnxRuntimeRunner
        runner = make(path, threads, batch, shape)
    if shape is not None and tuple(shape) not in runner.inputs.values():
        given, known = ("x".join(map(str, sizes)) for sizes in (shape, next(iter(runner.inputs.values()))))
        raise Error(f"{path}: its input has the shape {known}, but --data-shape is {given}")
    return runner


def random_inputs(runner: Runner, batch: int) -> List[np.ndarray]:
    """Normally distributed inputs, the same in every call."""
    generator = np.random.RandomState(0)
    return [generator.standard_normal((batch, *shape)).astype(np.float32) for shape in runner.inputs.values()]
