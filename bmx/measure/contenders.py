"""Starts one process per model and lets them run in turns."""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..arrays import load_samples
from ..errors import Error
from ..files import model_files
from .process import Process
from .runners import ONNX_FRAMEWORKS, kind

__all__ = ["Contender", "Layer", "Result", "measure"]

_ROUND_SECONDS = 0.1  # length of a contender's turn
_MAX_CALLS = 5000
_PROFILE_CALLS = 20


@dataclass(frozen=True)
class Contender:
    """A model and how to run it.

    Attributes
    ----------
    path : str
        A .bmx file, ``PREFIX-NNNN.params`` or an .onnx file.
    batch, threads : int
    name : str
        Name in tables. Default: the name of the file, followed by the framework's name if `framework` is given.
    shape : tuple of int, optional
        Shape of one sample, for checkpoints and for .onnx files without it. The inputs of other models must have this
        shape. By default a checkpoint takes the shape of the models beside it, if it fits.
    backend : str, optional
        For checkpoints: MXNet's subgraph backend.
    framework : str, optional
        For .onnx files: the framework that runs them, one of `runners.ONNX_FRAMEWORKS`. Default: ONNX Runtime.
    """

    path: str
    batch: int = 1
    threads: int = 1
    name: str = ""
    shape: Optional[Tuple[int, ...]] = None
    backend: Optional[str] = None
    framework: Optional[str] = None

    @property
    def title(self) -> str:
        """The name, or by default the names of the file and of the framework."""
        file = os.path.basename(self.path)
        return self.name or (f"{file} ({ONNX_FRAMEWORKS[self.framework]})" if self.framework else file)


class Layer(NamedTuple):
    """A step of a .bmx file.

    Attributes
    ----------
    name, kind : str
        The kind is as in docs/format.md.
    seconds : float
        Time per call.
    macs : int
        Multiply-adds for the whole batch.
    arithmetic : str
        For convolutions and dense layers: binary, float, int8, float x binary or int8 x binary; otherwise empty.
    """

    name: str
    kind: str
    seconds: float
    macs: int
    arithmetic: str = ""


@dataclass
class Result:
    """The measurements of a contender.

    Attributes
    ----------
    name, kind : str
    input : str
        Shapes of the inputs for one sample, such as 3x224x224.
    batch, threads : int
    median, p5, p95 : float
        Seconds per call with the whole batch.
    images_per_second : float
    calls : int
        Number of timed calls.
    memory : int
        Peak resident memory of the process in bytes, including Python and the framework; 0 if not known.
    memory_of_model : int
        Memory added by the model, in bytes; for checkpoints and .onnx files by their framework too.
    load_seconds : float
        Time to load the model and run it once; for checkpoints and .onnx files with the import of the framework.
    file_bytes : int
        Size of the model's files.
    accuracy : float or None
        Fraction of correct predictions, if data and labels were given.
    layers : list of Layer or None
        The steps of a .bmx file, if requested.
    """

    name: str
    kind: str
    input: str
    batch: int
    threads: int
    median: float
    p5: float
    p95: float
    images_per_second: float
    calls: int
    memory: int
    memory_of_model: int
    load_seconds: float
    file_bytes: int
    accuracy: Optional[float] = None
    layers: Optional[List[Layer]] = field(default=None, repr=False)

    def as_json(self) -> Dict[str, Any]:
        """The same as plain values."""
        layers = [layer._asdict() for layer in self.layers] if self.layers else None
        return {**asdict(self), "layers": layers}


class _ContenderProcess(Process):
    """The process of a contender (`worker`)."""

    def __init__(self, contender: Contender, hint: Optional[Tuple[int, ...]]):
        self.contender = contender
        fields = ("path", "batch", "threads", "shape", "backend", "framework")
        first = {"hint": hint, **{field: getattr(contender, field) for field in fields}}
        super().__init__(["-m", f"{__package__}.worker"], contender.path, contender.threads, first)
        self.loaded = self.ask("loaded")


def measure(
    contenders: Sequence[Contender],
    rounds: int = 15,
    layers: bool = False,
    data: Optional[str] = None,
    labels: Optional[str] = None,
) -> List[Result]:
    """Time models in turns, each in its own process, on normally distributed input.

    Parameters
    ----------
    contenders : sequence of Contender
    rounds : int
        Number of turns of each contender. A turn is a tenth of a second or three calls, whichever is longer.
    layers : bool
        Also measure the steps of .bmx files, after everything else.
    data, labels : str, optional
        .npy files with samples and their classes, to measure the accuracy.

    Returns
    -------
    list of Result
        In the order of the contenders.

    Raises
    ------
    bmx.Error
        If a file is missing or damaged, its framework is not installed, or the process of a model ends.
    """
    kinds = [kind(contender.path) for contender in contenders]
    if data and labels:
        _check_samples(data, labels)
    with ExitStack() as stack:
        started: Dict[int, _ContenderProcess] = {}
        hint = None
        for place in sorted(range(len(contenders)), key=lambda place: kinds[place] == "mxnet"):
            started[place] = process = _ContenderProcess(contenders[place], hint)
            stack.callback(process.close)
            if len(process.loaded["inputs"]) == 1:
                hint = hint or next(iter(process.loaded["inputs"].values()))
        processes = [started[place] for place in range(len(contenders))]
        calls = []
        for process in processes:
            second = statistics.median(process.ask("time", calls=3))
            calls.append(max(3, min(_MAX_CALLS, round(_ROUND_SECONDS / second))))
        seconds: List[List[float]] = [[] for _ in processes]
        for _ in range(rounds):
            for mine, process, count in zip(seconds, processes, calls):
                mine += process.ask("time", calls=count)
        return [_result(process, mine, layers, data, labels) for process, mine in zip(processes, seconds)]


def _result(
    process: _ContenderProcess, seconds: List[float], layers: bool, data: Optional[str], labels: Optional[str]
) -> Result:
    contender, median = process.contender, statistics.median(seconds)
    memory = process.ask("memory")
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return Result(
        contender.title,
        kind(contender.path),
        ", ".join("x".join(map(str, shape)) for shape in process.loaded["inputs"].values()),
        contender.batch,
        contender.threads,
        median,
        cuts[0],
        cuts[-1],
        contender.batch / median,
        len(seconds),
        memory,
        max(0, memory - process.loaded["memory_before"]),
        process.loaded["load_seconds"],
        sum(os.path.getsize(path) for path in model_files(contender.path)),
        process.ask("accuracy", data=data, labels=labels) if data and labels else None,
        [Layer(*step) for step in process.ask("profile", calls=_PROFILE_CALLS) or []] if layers else None,
    )


def _check_samples(data: str, labels: str) -> None:
    samples, wanted = load_samples(data, mapped=True), load_samples(labels, ndim=1)
    if wanted.shape != samples.shape[:1]:
        raise Error(
            f"{labels}: has the shape {wanted.shape}; {data} has {len(samples)} samples, each of which needs one class"
        )
