"""Whether two networks give the same, up to what roundings of floats explain.

Each output has its own scale, and a softmax is compared by its logarithms, which are its input up to a constant: a flat
softmax of 1000 classes hardly changes whatever becomes of the network. Where a rounding decides a bit, later layers may
follow it far. So it is measured how far the original itself follows roundings, sample by sample: a sample that they do
not move has to be equal, and excuses nothing.
"""

from __future__ import annotations

from typing import Callable, List, Sequence, Tuple

import numpy as np

from .checkpoints.symbol_file import Entry

__all__ = ["compare", "is_softmax"]

_TOLERANCE = 2e-5  # of the largest output: roundings of floats
_LOG_TOLERANCE = 4e-6  # of logarithms: the roundings of a softmax
_NEIGHBOURS = 4
_STABLE = 5  # times the tolerance: what moves by less follows no bit
_FACTOR = 3  # how much further than the original a network may follow roundings

_SOFTMAXES = ("SoftmaxOutput", "Softmax", "softmax", "SoftmaxActivation", "_npx_softmax")
_SAME_NUMBERS = ("Reshape", "reshape", "Flatten", "flatten", "_copy", "identity", "squeeze", "expand_dims")


def is_softmax(entry: Entry) -> bool:
    """Whether an output of a network is that of a softmax, perhaps reshaped."""
    node = entry.node
    while node.op in _SAME_NUMBERS and node.inputs:
        node = node.inputs[0].node
    return node.op in _SOFTMAXES


def compare(
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    softmaxes: Sequence[bool],
    near: Callable[[int], Sequence[np.ndarray]],
) -> str:
    """Compare the outputs of two networks for the same samples.

    Parameters
    ----------
    before, after : sequence of ndarray
        The outputs, (samples, ...); where the first one is not finite, it is not compared.
    softmaxes : sequence of bool
        Which outputs are softmaxes.
    near : callable
        Gives the outputs of the original for other last digits of its input and parameters, by a seed.

    Returns
    -------
    {'equal', 'roundings', 'different'}
        'roundings': different, but no more than roundings move the original.
    """
    samples, limits = len(before[0]), []
    for output, is_log in _rows(before, softmaxes):
        centred = output - _mean(output) if is_log else output
        largest = float(np.abs(centred[np.isfinite(centred)]).max(initial=0.0))
        limits.append([max(_TOLERANCE * largest, _LOG_TOLERANCE if is_log else 0.0)])
    limits = np.array(limits)

    def differences(others: Sequence[np.ndarray]) -> np.ndarray:
        pairs = zip(_rows(before, softmaxes), _rows(others, softmaxes))
        return np.array([_differences(a, b, samples) for (a, _), (b, _) in pairs])

    found = differences(after)
    if (found <= limits).all():
        return "equal"
    moved = np.max([differences(near(seed)) for seed in range(_NEIGHBOURS)], axis=0)
    stable = (moved <= _STABLE * limits).all(axis=0)
    excused = found <= np.maximum(limits, _FACTOR * np.where(stable, moved, moved.max(axis=1, keepdims=True)))
    on_average = found.mean(axis=1) <= np.maximum(limits[:, 0], _FACTOR * moved.mean(axis=1))
    return "roundings" if excused.all() and on_average.all() else "different"


def _rows(outputs: Sequence[np.ndarray], softmaxes: Sequence[bool]) -> List[Tuple[np.ndarray, bool]]:
    """What is compared: the outputs, and the logarithms of softmaxes."""
    rows = [(output.astype(np.float64), False) for output in outputs]
    logs = [np.log(np.maximum(output, 1e-30)) for (output, _), softmax in zip(rows, softmaxes) if softmax]
    return rows + [(output, True) for output in logs]


def _mean(output: np.ndarray) -> np.ndarray:
    return output.mean(axis=tuple(range(1, output.ndim)), keepdims=True)


def _differences(a: np.ndarray, b: np.ndarray, samples: int) -> List[float]:
    """The largest difference of each sample; of all, where an output has no samples."""
    with np.errstate(invalid="ignore"):
        difference = np.where(np.isfinite(a), np.abs(a - b), 0.0)
    difference = np.where(np.isnan(difference), np.inf, difference)
    if len(difference) != samples:
        return [float(difference.max(initial=0.0))] * samples
    return [float(part.max(initial=0.0)) for part in difference.reshape(samples, -1)]
