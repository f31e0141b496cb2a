"""Measures single layers with random weights on one image, in all kinds of arithmetic.

Each layer is its own program, a .bmx file in a temporary folder. As in real use, weights then lie in pages of a file;
the size of the pages affects how fast they are read. The layers take turns, round by round, and each turn measures
twice. A *cold* call reads its weights from memory, as in a network whose weights do not fit the caches. *Warm* calls
repeat the layer, so that its weights stay in the caches as far as they fit.

Some caches keep frequently used data even while far more than their size is read. Cold calls therefore rotate through
several copies of a layer, so that much else has been read since the last call of a copy.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np

from .. import program as programs
from ..errors import Error
from ..program import packing
from .bandwidth import MemoryReader

__all__ = ["KINDS", "SHAPES", "LayerResult", "LayersReport", "Shape", "layer_program", "measure_layers"]

_WARM_SECONDS = 5e-3  # duration of the warm calls in a turn
_LEAST_CALLS = 3
_COPIES = 8  # copies for cold calls; at least two, but no more than needed to exceed the caches
_LARGEST = 2**28  # most numbers of a tensor, most weights of a layer


class Kind(NamedTuple):
    """An arithmetic: its name in tables, the type of the layer's input, and whether the weights are 1-bit signs."""

    name: str
    dtype: str
    signs: bool


KINDS = {
    "float": Kind("float x float", "f32", False),
    "float-binary": Kind("float x binary", "f32", True),
    "int8": Kind("int8 x int8", "u8", False),
    "int8-binary": Kind("int8 x binary", "u8", True),
    "binary": Kind("binary x binary", "bit", True),
}
"""Kinds of arithmetic, named input x weights."""


class Shape(NamedTuple):
    """A layer with `channels` inputs and outputs: a 3x3 convolution, stride 1, or fully connected if `height` is 0."""

    channels: int
    height: int = 0
    width: int = 0

    @property
    def weight(self) -> Tuple[int, int, int, int]:
        """Shape of the weights: filters, channels, kernel height, kernel width."""
        return (self.channels, self.channels, *((3, 3) if self.height else (1, 1)))

    @property
    def macs(self) -> int:
        """Multiply-adds, including those with the border."""
        return math.prod(self.weight) * max(1, self.height * self.width)

    def __str__(self) -> str:
        return (
            f"3x3, {self.channels}x{self.height}x{self.width}" if self.height else f"{self.channels} -> {self.channels}"
        )


SHAPES = (Shape(4096), Shape(64, 56, 56), Shape(128, 28, 28), Shape(256, 14, 14), Shape(512, 7, 7))


@dataclass
class LayerResult:
    """The measurements of a layer.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    shape : Shape
    weight_bytes : int
        Bytes of the weights as stored in memory.
    tensor_bytes : int
        Bytes of the tensors that it reads and writes, and of the per-channel numbers.
    macs : int
        Multiply-adds.
    cold, warm : float
        Median seconds per call.
    """

    kind: str
    shape: Shape
    weight_bytes: int
    tensor_bytes: int
    macs: int
    cold: float
    warm: float

    @property
    def bytes(self) -> int:
        """Bytes of all that the layer reads and writes, each counted once."""
        return self.weight_bytes + self.tensor_bytes


@dataclass
class LayersReport:
    """The layers, and the memory bandwidth measured in the same run.

    Attributes
    ----------
    threads, rounds : int
    bandwidth : float
        Median bytes per second that `threads` threads read from an array of `read_bytes`, in turns with the layers.
    read_bytes : int
    layers : list of LayerResult
        Shape by shape.
    """

    threads: int
    rounds: int
    bandwidth: float
    read_bytes: int
    layers: List[LayerResult]

    def as_json(self) -> Dict[str, Any]:
        """The same as plain values."""
        return {**asdict(self), "layers": [{**asdict(layer), "shape": str(layer.shape)} for layer in self.layers]}


def layer_program(kind: str, shape: Shape) -> programs.Program:
    """A program with one layer of random weights. The program outputs its own input.

    In float and int8 layers an affine operation, as in BatchNorm, follows, and the result has the type of the input. In
    binary layers thresholds turn the result into bits.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    shape : Shape
    """
    channels, taps = shape.channels, math.prod(shape.weight[1:])
    port = (channels, shape.height, shape.width) if shape.height else (channels,)
    program = programs.Program(str(shape), [programs.Port("data", port)], [programs.Port("data", port)])
    pad, dtype = int(shape.height > 0), KINDS[kind].dtype
    data = _tensor(program, "data", "f32", shape, 0)
    source, result = _tensor(program, "source", dtype, shape, pad), _tensor(program, "result", dtype, shape, 0)
    conv = programs.Conv(
        "layer", source, programs.Window((1 + 2 * pad,) * 2, pad=(pad, pad)), _weight(kind, shape), run=True
    )
    conv.signs = dtype != "bit" and KINDS[kind].signs
    zeros, flip = np.zeros(channels, np.float32), np.zeros(channels, bool)
    if dtype == "bit":
        conv.all, conv.step = float(taps), 2.0
        conv.stores = [programs.CountBits(result, np.full(channels, taps // 2, np.int32), flip)]
        store = programs.Bits(source, zeros, flip)
    else:
        conv.epilogue = [programs.Affine(np.full(channels, 1 / taps, np.float32), zeros)]
        store, given = (
            programs.Floats(t) if dtype == "f32" else programs.Bytes(t, 1 / t.scale) for t in (source, result)
        )
        conv.stores = [given]
    program.steps = [programs.Load("data", 0, [], [programs.Floats(data)]), *([programs.Fill("border", source)] * pad)]
    program.steps += [programs.Map("source", data, [], [store]), conv, programs.Store("data", data, 0)]
    programs.check(program, program.name)
    return program


def _tensor(program: programs.Program, name: str, dtype: str, shape: Shape, pad: int) -> programs.Tensor:
    """Add a tensor after the others."""
    height, width = shape.height or 1, shape.width or 1
    pixel = programs.pixel_bytes(dtype, shape.channels)
    row = (width + 2 * pad) * pixel
    tensor = programs.Tensor(name, dtype, height, width, shape.channels, (pad,) * 4, row_stride=row, pixel_stride=pixel)
    tensor.offset = program.arena + pad * (row + pixel)
    if dtype == "u8":
        tensor.scale, tensor.zero_point, tensor.border_value = 1 / 64, 128, 128 * pad
    program.arena += -(-(height + 2 * pad) * row // 64) * 64
    program.tensors.append(tensor)
    return tensor


def _weight(kind: str, shape: Shape) -> np.ndarray:
    random = np.random.RandomState(0)
    if KINDS[kind].signs:
        return 2 * random.randint(0, 2, shape.weight, np.int8) - 1
    return random.randint(-127, 128, shape.weight, np.int8).astype(np.float32 if kind == "float" else np.int8)


class _Layer:
    """The copies of a layer and their measurements."""

    def __init__(self, kind: str, shape: Shape, threads: int, folder: str, read_bytes: int):
        from .. import runtime

        program = layer_program(kind, shape)
        self._kind, self._shape = kind, shape
        self._place, conv = next(found for found in enumerate(program.steps) if isinstance(found[1], programs.Conv))
        self._weight_bytes = packing.weight_bytes(conv.arithmetic, shape.weight, 1, True)
        self._input = np.random.RandomState(1).standard_normal(program.inputs[0].shape).astype(np.float32)
        copies = max(2, min(_COPIES, -(-read_bytes // self._weight_bytes)))
        paths = [os.path.join(folder, f"{kind}, {shape}, {copy}.bmx") for copy in range(1 + copies)]
        programs.write(program, paths[0])
        for path in paths[1:]:
            shutil.copyfile(paths[0], path)
        self._models = [runtime.Model(path, threads=threads) for path in paths]
        for model in self._models:
            model.run(self._input)  # allocates its memory
        self._cold: List[float] = []
        self._warm: List[float] = []

    def _seconds(self, model: Any) -> float:
        """Seconds of the layer in one call. Calls are timed one by one, so a disturbance affects only one of many."""
        return model.profile(self._input, warm_up=False)[self._place].seconds

    def measure(self, reader: MemoryReader) -> float:
        """Take a turn. Returns the bytes per second read from memory."""
        bandwidth = reader.read()
        warm, *copies = self._models
        self._cold.append(self._seconds(copies[len(self._cold) % len(copies)]))
        self._seconds(warm)
        start, calls = time.perf_counter(), 0
        while calls < _LEAST_CALLS or time.perf_counter() - start < _WARM_SECONDS:
            self._warm.append(self._seconds(warm))
            calls += 1
        return bandwidth

    def result(self) -> LayerResult:
        step, weights = self._models[0].steps[self._place], self._weight_bytes
        times = statistics.median(self._cold), statistics.median(self._warm)
        return LayerResult(self._kind, self._shape, weights, step.bytes - weights, step.macs, *times)


def measure_layers(
    kinds: Sequence[str] = tuple(KINDS), shapes: Sequence[Shape] = SHAPES, threads: int = 1, rounds: int = 15
) -> LayersReport:
    """Measure layers of all `kinds` and `shapes`, in turns.

    Parameters
    ----------
    kinds : sequence of str
        Each one of `KINDS`.
    shapes : sequence of Shape
    threads, rounds : int

    Raises
    ------
    bmx.Error
        If a kind is unknown or a shape too large.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise Error(f"unknown kind of layer {kind!r}; allowed: {', '.join(KINDS)}")
    for shape in shapes:
        largest = max(math.prod(shape.weight), math.prod(filter(None, shape)))
        if largest > _LARGEST:
            raise Error(f"layer {shape}: it has {largest:,} numbers; at most {_LARGEST:,} are allowed")
    reader = MemoryReader(threads)
    with tempfile.TemporaryDirectory() as folder:
        layers = [_Layer(kind, shape, threads, folder, reader.size) for shape in shapes for kind in kinds]
        bandwidths = [layer.measure(reader) for _ in range(rounds) for layer in layers]
        results = [layer.result() for layer in layers]
    return LayersReport(threads, rounds, statistics.median(bandwidths), reader.size, results)
