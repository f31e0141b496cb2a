"""Compares a compiled network with the one that it was made of, on samples."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from ..comparison import Verification, agreement, compare, largest_difference
from ..errors import Error, SamplesError
from .frontends.protocol import FrontEnd
from .samples import batches

__all__ = ["run_program", "verify_program"]

_SAMPLES = 8
_SEED = 0
_NOISE = 1e-5  # relative; so large that it decides other bits where roundings could


def run_program(program: Any, arrays: Mapping[str, np.ndarray]) -> List[np.ndarray]:
    """The outputs of a program for a batch, computed by the engine."""
    from .. import program as programs
    from .. import runtime

    with runtime.Model(programs.encode(program)) as model:
        outputs = model.run({port.name: arrays[port.name] for port in model.inputs})
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def verify_program(
    network: FrontEnd,
    name: str,
    program: Any,
    arrays: Optional[Dict[str, np.ndarray]],
    classes: Optional[np.ndarray],
    exact: bool,
) -> Verification:
    """Run both on samples, by default random ones, always the same.

    Raises
    ------
    bmx.Error
        If samples hold other things than finite numbers, or with `exact` outputs differ by more than roundings can
        explain.
    """
    for key, array in (arrays or {}).items():
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            raise SamplesError(f"samples of {key!r} hold NaN or infinities, the first is sample {first}")
    if arrays is None:
        random = np.random.RandomState(_SEED)
        arrays = {name: random.standard_normal((_SAMPLES, *shape)) for name, shape in network.inputs.items()}
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    count = len(next(iter(arrays.values())))
    shapes = ", ".join("x".join(map(str, shape)) for shape in network.inputs.values())
    samples = f"{count} samples of shape {shapes}"
    before = _run(network, arrays)
    after = run_program(program, arrays)
    finite, total = sum(np.isfinite(array).sum() for array in before), sum(map(np.size, before))
    if finite == 0:
        return Verification(f"of {samples} the original network gives infinities and NaN only")
    if finite < total:
        samples += f" ({total - finite} of {total} outputs of the original are infinite or NaN, and not compared)"
    difference = max(largest_difference([a[np.isfinite(a)]], [b[np.isfinite(a)]]) for a, b in zip(before, after))
    result = Verification(samples, difference, agreement(before[0], after[0]), exact=exact)
    result.largest_output = max(map(_largest, before))
    verdict = compare(before, after, network.softmaxes, lambda seed: _run_near(network, arrays, seed)) if exact else ""
    if verdict == "different":
        damaged = network.not_finite()
        raise Error(
            f"{name}: the compiled network has other outputs than the original, {result.numbers()}: "
            + (f"{damaged} holds NaN or infinities" if damaged else "an error of the compiler, please report it")
            + ". Nothing was written; --no-verify (verify=False) does not compare"
        )
    if verdict == "roundings":
        result.remark = (
            "where roundings decide bits; the last digits of its input change the original's outputs as much"
        )
    if classes is not None:
        result.accuracy_before, result.accuracy_after = (
            float(np.mean(outputs[0].reshape(count, -1).argmax(axis=1) == classes)) for outputs in (before, after)
        )
    return result


def _run_near(network: FrontEnd, arrays: Dict[str, np.ndarray], seed: int) -> List[np.ndarray]:
    """The original's outputs where the last digits of its input and parameters are others."""
    random = np.random.RandomState(seed)
    near = {
        name: (array * (1 + _NOISE * random.standard_normal(array.shape))).astype(np.float32)
        for name, array in arrays.items()
    }
    return _run(network.with_other_last_digits(_NOISE, seed), near)


def _largest(output: np.ndarray) -> float:
    return float(np.abs(output[np.isfinite(output)]).max(initial=0.0))


def _run(network: FrontEnd, arrays: Dict[str, np.ndarray]) -> List[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*(network.run(batch).values() for batch in batches(arrays)))]
