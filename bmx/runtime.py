"""Runs compiled networks, .bmx files, on NumPy arrays. Needs neither MXNet nor an old NumPy.

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
import os
import weakref
from typing import Any, Deque, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from . import library
from .errors import Error

__all__ = ["Model", "Port", "Step", "StepTime"]


class Port(NamedTuple):
    """An input or output of a network: its name, and its shape in MXNet's order, without the batch."""

    name: str
    shape: Tuple[int, ...]


class Step(NamedTuple):
    """A step of a network.

    `name` is the layer's, `kind` that of docs/format.md, as in ``'CONV'``; `macs` are the multiply-adds of one image,
    `bytes` those of the tensors and weights that it reads and writes.
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


class Model:
    """A compiled network.

    Threads may run one model at the same time: each run has memory of its own, the weights are shared.

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
        if isinstance(source, (bytes, bytearray, memoryview)):
            content = bytes(source)
            _check(api.bmx_model_from_memory(content, len(content), ctypes.byref(handle)))
        else:
            _check(api.bmx_model_load(os.fsencode(source), ctypes.byref(handle)))
        self._handle: Optional[_Handle] = _Handle(handle.value)
        self._idle: Deque[_Session] = collections.deque()
        self.threads = threads
        self._idle.append(_Session(self._handle, threads))
        self.name = api.bmx_model_name(handle).decode(errors="replace")
        self.inputs = _ports(handle, api.bmx_model_num_inputs, api.bmx_model_input)
        self.outputs = _ports(handle, api.bmx_model_num_outputs, api.bmx_model_output)
        self.steps = _steps(handle)

    def run(self, *inputs: Any) -> Arrays:
        """The outputs for a batch or for one image.

        Parameters
        ----------
        *inputs : array_like, or one dict of str to array_like
            One for each input, in the order of `inputs`, or by name; each of its shape, or (batch, ...), and then all
            of the same batch. Numbers are converted to float32.

        Returns
        -------
        ndarray, or tuple of ndarray
            Of the network's output, or of its outputs in the order of `outputs`: float32, with a batch if the inputs
            have one.

        Raises
        ------
        bmx.Error
            If an input is missing or unknown, or has another shape.
        """
        with _Lease(self) as session:
            return self._run(session, inputs)

    def profile(self, *inputs: Any, runs: int = 1, warm_up: bool = True) -> List[StepTime]:
        """The time of each step, in seconds a run, measured over `runs` runs. Parameters as for `run`.

        With `warm_up`, one more run before them is not measured.
        """
        if runs < 1:
            raise Error(f"runs is {runs}; it must be 1 or more")
        with _Lease(self) as session:
            if warm_up:
                self._run(session, inputs)
            seconds = session.measure(len(self.steps), lambda: [self._run(session, inputs) for _ in range(runs)])
        return [StepTime(*step, total / runs) for step, total in zip(self.steps, seconds)]

    @property
    def memory(self) -> int:
        """Bytes of memory for tensors that runs have at the moment; the file's own pages are not counted."""
        return sum(session.memory for session in list(self._idle))

    def close(self) -> None:
        """Free the model and its memory; it cannot run any more. A ``with`` block does the same."""
        self._handle = None
        self._idle.clear()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        ports = [", ".join(f"{port.name}{list(port.shape)}" for port in ports) for ports in (self.inputs, self.outputs)]
        return f"<bmx.runtime.Model {self.name!r}: {ports[0]} -> {ports[1]}, {len(self.steps)} steps>"

    def _run(self, session: _Session, inputs: Sequence[Any]) -> Arrays:
        arrays = [_float32(port, array) for port, array in zip(self.inputs, self._in_order(inputs))]
        batch = self._batch(arrays)
        outputs = [np.empty((1 if batch is None else batch, *port.shape), np.float32) for port in self.outputs]
        session.run(arrays, outputs, 1 if batch is None else batch)
        if batch is None:
            outputs = [array[0] for array in outputs]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def _in_order(self, inputs: Sequence[Any]) -> Sequence[Any]:
        names = [port.name for port in self.inputs]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            given = inputs[0]
            if set(given) != set(names):
                raise Error(f"inputs are {', '.join(map(str, given))}; the network takes {', '.join(names)}")
            return [given[name] for name in names]
        if len(inputs) != len(names):
            raise Error(f"{len(inputs)} inputs were given; the network takes {len(names)}: {', '.join(names)}")
        return inputs

    def _batch(self, arrays: Sequence[np.ndarray]) -> Optional[int]:
        """The number of images, None for one that is not in a batch."""
        batches = [None if array.shape == port.shape else len(array) for port, array in zip(self.inputs, arrays)]
        if any(batch != batches[0] for batch in batches):
            shapes = ", ".join(f"{port.name} {array.shape}" for port, array in zip(self.inputs, arrays))
            raise Error(f"inputs are of different batches: {shapes}")
        return batches[0] if batches else None


class _Handle:
    """A model of the C API, freed when nobody has it any more: a thread may close it while another begins a run."""

    def __init__(self, value: int):
        self.value = value
        weakref.finalize(self, _api().bmx_model_free, value)


class _Session:
    """A session of the C API, which frees itself."""

    def __init__(self, model: _Handle, threads: int):
        handle = ctypes.c_void_p()
        _check(_api().bmx_session_new(model.value, threads, ctypes.byref(handle)))
        self._handle = handle
        weakref.finalize(self, _api().bmx_session_free, handle.value)

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray], batch: int) -> None:
        _check(_api().bmx_session_run(self._handle, batch, _pointers(inputs), _pointers(outputs)))

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


class _Lease:
    """A session that no other thread uses: an idle one, or a new one."""

    def __init__(self, model: Model):
        self._model = model

    def __enter__(self) -> _Session:
        handle = self._model._handle
        if handle is None:
            raise Error("this model is closed")
        try:
            self._session = self._model._idle.pop()
        except IndexError:
            self._session = _Session(handle, self._model.threads)
        return self._session

    def __exit__(self, *exception: object) -> None:
        if self._model._handle is not None:
            self._model._idle.append(self._session)


def _float32(port: Port, array: Any) -> np.ndarray:
    """Contiguous float32 numbers of the port's shape or a batch of it."""
    if hasattr(array, "asnumpy"):  # of MXNet
        array = array.asnumpy()
    try:
        array = np.asarray(array)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"numbers of type {array.dtype}")
        array = np.asarray(array, np.float32, order="C")
    except (TypeError, ValueError) as error:
        raise Error(f"input {port.name!r} is not an array of real numbers: {error}") from None
    if port.shape not in (array.shape, array.shape[1:]):
        batch = "(batch, " + ", ".join(map(str, port.shape)) + ")"
        raise Error(f"input {port.name!r} has the shape {array.shape}; it must be {port.shape} or {batch}")
    return array


def _pointers(arrays: Sequence[np.ndarray]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


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
    """The C API with the types of what this module calls."""
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
