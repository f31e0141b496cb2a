"""Runs compiled networks (.bmx files) on NumPy arrays. Needs no MXNet and works with any NumPy.

Examples
--------
>>> import bmx.runtime
>>> model = bmx.runtime.Model("resnet18.bmx", threads=2)  # doctest: +SKIP
>>> probabilities = model.run(images)  # (batch, 3, 224, 224) or one image, (3, 224, 224)  # doctest: +SKIP
"""

from __future__ import annotations

import collections
import ctypes
import functools
import math
import os
import threading
import weakref
from typing import Any, Deque, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import library
from .errors import Error
from .journal import finish

__all__ = ["Model", "Port", "Step", "StepTime"]


class Port(NamedTuple):
    """An input or output of a network: its name, and its shape in MXNet's order, without the batch."""

    name: str
    shape: Tuple[int, ...]


class Step(NamedTuple):
    """A step of a network.

    `name` is the name of its layer and `kind` its kind in docs/format.md, such as ``'CONV'``. `macs` counts the
    multiply-adds per image, `bytes` the bytes of tensors and weights that it reads and writes per image.
    """

    name: str
    kind: str
    macs: int
    bytes: int


class StepTime(NamedTuple):
    """A step and the seconds that it took in one run."""

    name: str
    kind: str
    macs: int
    bytes: int
    seconds: float


Arrays = Union[np.ndarray, Tuple[np.ndarray, ...]]
_MOST_THREADS = 1024


class Model:
    """A compiled network.

    Several threads may run one model at the same time. Each run has its own memory; the weights are shared.

    Parameters
    ----------
    source : str, path or bytes
        A .bmx file or its content. The file must not be changed while the model is in use: it is mapped into memory.
    threads : int
        How many threads share the work of a run, 1 to 1024.

    Attributes
    ----------
    name : str
    inputs, outputs : list of Port
    steps : list of Step
    threads : int

    Raises
    ------
    bmx.Error
        If the file cannot be read or is not valid, or `threads` is out of range.

    Examples
    --------
    >>> with Model("lenet.bmx") as model:  # doctest: +SKIP
    ...     print(model.inputs)
    ...     digit = model.run(image).argmax()
    [Port(name='data', shape=(1, 28, 28))]
    """

    def __init__(self, source: Union[str, os.PathLike, bytes, bytearray, memoryview], threads: int = 1):
        api = _api()
        handle = ctypes.c_void_p()
        threads = _integer(threads, "threads", _MOST_THREADS)
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
            _check(api.bmx_model_from_memory(content, len(content), ctypes.byref(handle)))
        elif isinstance(source, (str, os.PathLike)):
            finish(os.fsdecode(source))
            _check(api.bmx_model_load(os.fsencode(source), ctypes.byref(handle)))
        else:
            raise Error(f"a model is a path or the bytes of a file; this is a {type(source).__name__}")
        self._handle: Optional[_Handle] = _Handle(handle.value)
        self._idle: Deque[_Session] = collections.deque()
        self._sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
        self._lock = threading.Lock()  # guards _sessions
        self.threads = threads
        self.name = api.bmx_model_name(handle).decode(errors="replace")
        self.inputs = _ports(handle, api.bmx_model_num_inputs, api.bmx_model_input)
        self.outputs = _ports(handle, api.bmx_model_num_outputs, api.bmx_model_output)
        self.steps = _steps(handle)
        self._idle.append(self._new_session(self._handle))

    def run(self, *inputs: Any) -> Arrays:
        """Compute the outputs for a batch or for a single image.

        Parameters
        ----------
        *inputs : array_like, or one dict of str to array_like
            One array for each input, in the order of `inputs`, or a dict by name. Each has the shape of its input, or
            (batch, ...) with the same batch size in all. Numbers are converted to float32.

        Returns
        -------
        ndarray, or tuple of ndarray
            The network's output, or a tuple of its outputs in the order of `outputs`. Arrays are float32 and have a
            batch if the inputs have one.

        Raises
        ------
        bmx.Error
            If an input is missing or unknown, or has a wrong shape.
        """
        session = self._lease()
        try:
            return self._run(session, inputs)
        finally:
            self._give_back(session)

    def profile(self, *inputs: Any, runs: int = 1, warm_up: bool = True) -> List[StepTime]:
        """The time of each step in seconds per run, averaged over `runs` runs. Other parameters as in `run`.

        With `warm_up`, one more run comes first and is not measured.
        """
        runs = _integer(runs, "runs")
        session = self._lease()
        try:
            if warm_up:
                self._run(session, inputs)
            seconds = session.measure(len(self.steps), lambda: [self._run(session, inputs) for _ in range(runs)])
        finally:
            self._give_back(session)
        return [StepTime(*step, total / runs) for step, total in zip(self.steps, seconds)]

    @property
    def memory(self) -> int:
        """Bytes of memory for tensors, in use by runs or kept for later runs. The pages of the file do not count."""
        with self._lock:
            sessions = list(self._sessions)
        return sum(session.memory for session in sessions)

    def close(self) -> None:
        """Free the model and its memory. It cannot run afterwards. A ``with`` block does the same."""
        self._handle = None
        self._idle.clear()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ports = [", ".join(f"{port.name}{list(port.shape)}" for port in ports) for ports in (self.inputs, self.outputs)]
        return f"<bmx.runtime.Model {self.name!r}: {ports[0]} -> {ports[1]}, {len(self.steps)} steps>"

    def _lease(self) -> _Session:
        """A session that no other thread uses: an idle one, or a new one."""
        handle = self._handle
        if handle is None:
            raise Error("this model is closed")
        try:
            return self._idle.pop()
        except IndexError:
            return self._new_session(handle)

    def _new_session(self, handle: _Handle) -> _Session:
        session = _Session(handle, self.threads, len(self.inputs), len(self.outputs))
        with self._lock:
            self._sessions.add(session)
        return session

    def _give_back(self, session: _Session) -> None:
        if self._handle is not None:
            self._idle.append(session)

    def _run(self, session: _Session, inputs: Sequence[Any]) -> Arrays:
        arrays = list(map(_float32, self.inputs, self._in_order(inputs)))
        batch = self._batch(arrays)
        images = 1 if batch is None else batch
        outputs = [np.empty((images, *port.shape), _FLOAT32) for port in self.outputs]
        session.run(arrays, outputs, images)
        if batch is None:
            outputs = [array[0] for array in outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _in_order(self, inputs: Sequence[Any]) -> Sequence[Any]:
        if len(inputs) == 1 and not isinstance(inputs[0], np.ndarray) and isinstance(inputs[0], Mapping):
            given, names = inputs[0], [port.name for port in self.inputs]
            if set(given) != set(names):
                raise Error(f"inputs are {', '.join(map(str, given))}; the network takes {', '.join(names)}")
            return [given[name] for name in names]
        if len(inputs) != len(self.inputs):
            names = ", ".join(port.name for port in self.inputs)
            raise Error(f"{len(inputs)} inputs were given; the network takes {len(self.inputs)}: {names}")
        return inputs

    def _batch(self, arrays: Sequence[np.ndarray]) -> Optional[int]:
        """The number of images; None for a single image without a batch."""
        batches = [None if array.ndim == len(port.shape) else len(array) for port, array in zip(self.inputs, arrays)]
        if len(batches) > 1 and any(batch != batches[0] for batch in batches):
            shapes = ", ".join(f"{port.name} {array.shape}" for port, array in zip(self.inputs, arrays))
            raise Error(f"inputs have different batch sizes: {shapes}")
        return batches[0] if batches else None


class _Handle:
    """A model of the C API. It is freed with its last reference: a thread may close it while another begins a run."""

    def __init__(self, value: int):
        self.value = value
        weakref.finalize(self, _api().bmx_model_free, value)


class _Session:
    """A session of the C API, which frees itself."""

    def __init__(self, model: _Handle, threads: int, inputs: int, outputs: int):
        api, handle = _api(), ctypes.c_void_p()
        _check(api.bmx_session_new(model.value, threads, ctypes.byref(handle)))
        self._handle = handle
        weakref.finalize(self, api.bmx_session_free, handle.value)
        # Kept between runs: making them would take as long as a small network.
        self._inputs, self._outputs = (ctypes.c_void_p * inputs)(), (ctypes.c_void_p * outputs)()
        self._run = api.bmx_session_run

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int) -> None:
        for index, array in enumerate(inputs):
            self._inputs[index] = _address(array)
        for index, array in enumerate(outputs):
            self._outputs[index] = _address(array)
        _check(self._run(self._handle, batch, self._inputs, self._outputs))

    def measure(self, steps: int, work: Any) -> List[float]:
        """Seconds of each step in a call of `work`."""
        _check(_api().bmx_session_profile(self._handle, 1))
        try:
            work()
        finally:
            _check(_api().bmx_session_profile(self._handle, 0))
        seconds = (ctypes.c_double * steps)()
        for index in range(steps):
            at = ctypes.byref(seconds, index * ctypes.sizeof(ctypes.c_double))
            _check(_api().bmx_session_seconds(self._handle, index, ctypes.cast(at, ctypes.POINTER(ctypes.c_double))))
        return list(seconds)

    @property
    def memory(self) -> int:
        return _api().bmx_session_bytes(self._handle)


def _integer(number: Any, name: str, most: float = math.inf) -> int:
    if not isinstance(number, (int, np.integer)) or not 1 <= number <= most:
        allowed = "1 or more" if most == math.inf else f"1 to {most}"
        raise Error(f"{name} is {number!r}; allowed: {allowed}, whole numbers")
    return int(number)


def _float32(port: Port, array: Any) -> np.ndarray:
    """The array as contiguous float32, of the port's shape or a batch of it."""
    if type(array) is not np.ndarray or array.dtype != _FLOAT32 or not array.flags.c_contiguous:
        if hasattr(array, "asnumpy"):  # an array of MXNet
            array = array.asnumpy()
        try:
            array = np.asarray(array)
            if array.dtype.kind not in "fiub":
                raise TypeError(f"numbers of type {array.dtype}")
            array = np.asarray(array, np.float32, order="C")
        except (TypeError, ValueError) as error:
            raise Error(f"input {port.name!r} is not an array of real numbers: {error}") from None
    shape = array.shape
    if shape != port.shape and shape[1:] != port.shape:
        batch = "(batch, " + ", ".join(map(str, port.shape)) + ")"
        raise Error(f"input {port.name!r} has the shape {shape}; it must be {port.shape} or {batch}")
    return array


_FLOAT32 = np.dtype(np.float32)
_NoBytes = ctypes.c_char * 0


def _address(array: np.ndarray) -> int:
    """The same as ``array.ctypes.data``, but in a third of the time if the array is writable."""
    try:
        return ctypes.addressof(_NoBytes.from_buffer(array))
    except (TypeError, ValueError):
        return array.ctypes.data


class _CArray(ctypes.Structure):
    """bmx_array of bmx.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("dims", ctypes.c_int),
        ("shape", ctypes.c_int64 * 4),
        ("size", ctypes.c_int64),
    )


class _CStep(ctypes.Structure):
    """bmx_step of bmx.h."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_char_p),
        ("macs", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
    )


@functools.lru_cache(maxsize=None)
def _api() -> ctypes.CDLL:
    """The C API, with the types of the functions that this module calls."""
    api = library.c_api()
    handle, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    result = ctypes.POINTER(ctypes.c_void_p)
    for name, restype, *argtypes in (
        ("bmx_model_load", number, text, result),
        ("bmx_model_from_memory", number, text, ctypes.c_size_t, result),
        ("bmx_model_free", None, handle),
        ("bmx_model_name", text, handle),
        ("bmx_model_num_inputs", number, handle),
        ("bmx_model_num_outputs", number, handle),
        ("bmx_model_num_steps", number, handle),
        ("bmx_model_input", number, handle, number, ctypes.POINTER(_CArray)),
        ("bmx_model_output", number, handle, number, ctypes.POINTER(_CArray)),
        ("bmx_model_step", number, handle, number, ctypes.POINTER(_CStep)),
        ("bmx_session_new", number, handle, number, result),
        ("bmx_session_free", None, handle),
        ("bmx_session_run", number, handle, ctypes.c_int64, result, result),
        ("bmx_session_bytes", ctypes.c_int64, handle),
        ("bmx_session_profile", number, handle, number),
        ("bmx_session_seconds", number, handle, number, ctypes.POINTER(ctypes.c_double)),
    ):
        function = getattr(api, name)
        function.restype, function.argtypes = restype, argtypes
    return api


def _check(status: int) -> None:
    if status != 0:
        raise Error(_api().bmx_last_error().decode(errors="replace"))


def _ports(model: ctypes.c_void_p, count: Any, get: Any) -> List[Port]:
    ports = []
    for index in range(count(model)):
        array = _CArray()
        _check(get(model, index, ctypes.byref(array)))
        ports.append(Port(array.name.decode(errors="replace"), tuple(array.shape[: array.dims])))
    return ports


def _steps(model: ctypes.c_void_p) -> List[Step]:
    steps = []
    for index in range(_api().bmx_model_num_steps(model)):
        step = _CStep()
        _check(_api().bmx_model_step(model, index, ctypes.byref(step)))
        steps.append(Step(step.name.decode(errors="replace"), step.kind.decode(), step.macs, step.bytes))
    return steps
