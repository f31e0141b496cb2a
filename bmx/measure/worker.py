"""The program of a contender's process. It loads a model, then times it or answers other requests."""

from __future__ import annotations

import math
import time
from typing import Any, Dict, List

import numpy as np

from ..arrays import check_classes, load_samples
from ..errors import Error
from .process import serve
from .runners import Runner, check_outputs, open_model, random_inputs

_WARM_UP = 2  # calls before each round that do not count, because other contenders have emptied the caches


class _Server:
    """Has one method per request; its result is the reply."""

    def __init__(self, path: str, batch: int, **options: Any):
        self._path, self._batch = path, batch
        start, before = time.perf_counter(), _status("VmRSS")
        self._runner: Runner = open_model(path, batch=batch, **options)
        self._arrays = random_inputs(self._runner, batch)
        outputs = self._runner.run(self._arrays)
        check_outputs(path, outputs)
        self._loaded = {"load_seconds": time.perf_counter() - start, "memory_before": before}
        self._loaded["outputs"] = [list(output.shape[1:]) for output in outputs]

    def loaded(self) -> Dict[str, Any]:
        return {**self._loaded, "inputs": {name: list(shape) for name, shape in self._runner.inputs.items()}}

    def time(self, calls: int) -> List[float]:
        for _ in range(_WARM_UP):
            self._runner.run(self._arrays)
        seconds = []
        for _ in range(calls):
            start = time.perf_counter()
            self._runner.run(self._arrays)
            seconds.append(time.perf_counter() - start)
        return seconds

    def profile(self, calls: int) -> Any:
        return self._runner.profile(self._arrays, calls)

    def memory(self) -> int:
        return _status("VmHWM")

    def accuracy(self, data: str, labels: str) -> float:
        samples, classes = load_samples(data, mapped=True), load_samples(labels, ndim=1)
        shapes = list(self._runner.inputs.values())
        if shapes != [samples.shape[1:]]:
            text = ", ".join("x".join(map(str, shape)) for shape in shapes)
            raise Error(f"{data}: its samples have the shape {samples.shape[1:]}; the network takes {text}")
        wanted = check_classes(classes, math.prod(self._loaded["outputs"][0]), labels)
        right = 0
        for start in range(0, len(samples), self._batch):
            part = np.asarray(samples[start : start + self._batch], np.float32)
            count = len(part)
            if count < self._batch:  # the model keeps its batch size
                part = np.concatenate([part, np.zeros((self._batch - count, *part.shape[1:]), np.float32)])
            scores = self._runner.run([np.ascontiguousarray(part)])[0]
            if scores.shape[:1] != (self._batch,):
                raise Error(
                    f"{self._path}: its output has the shape {scores.shape}; it must have one row for each sample"
                )
            scores = scores[:count].reshape(count, -1)
            right += int(np.sum(scores.argmax(axis=1) == wanted[start : start + count]))
        return right / len(samples)


def _status(field: str) -> int:
    """Bytes of this process's memory, by the field's name in /proc/self/status; 0 without /proc."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field + ":"))
    except (OSError, StopIteration):
        return 0


if __name__ == "__main__":
    serve(_Server)
