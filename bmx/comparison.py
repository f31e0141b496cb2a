"""Whether two networks give the same, up to what roundings of floats explain.

Each output has its own scale, and a softmax is compared by its logarithms, which are its input up to a constant: a flat
softmax of 1000 classes hardly changes whatever becomes of the network. Where a rounding decides a bit, later layers may
follow it far. So it is measured how far the original itself follows roundings, sample by sample: a sample that they do
not move has to be equal, and excuses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

__all__ = ["Verification", "agreement", "compare", "largest_difference"]

_TOLERANCE = 2e-5  # of the largest output: roundings of floats
_LOG_TOLERANCE = 4e-6  # of logarithms: the roundings of a softmax
_NEIGHBOURS = 4
_STABLE = 5  # times the tolerance: what moves by less follows no bit
_FACTOR = 3  # how much further than the original a network may follow roundings


@dataclass
class Verification:
    """What the original and the converted or compiled network gave for the same samples.

    Attributes
    ----------
    samples : str
        What they were run on, or why they could not be run.
    largest_difference : float or None
        Over all outputs and samples; None if they were not run.
    agreement : float or None
        Share (0 to 1) of samples for which the largest value of the first output is at the same place; None if the
        networks were not run or the first output has no classes.
    largest_output : float or None
        The largest finite absolute value that the original network gave; None if it is not known.
    accuracy_before, accuracy_after : float or None
        Share of samples that the networks classify as the given labels say; None without labels.
    exact : bool
        Whether both networks were to give the same, up to rounding.
    remark : str
        Why they differ by more.
    assumed_shape : bool
        Whether the samples have a shape that fits, though others may fit as well.
    """

    samples: str
    largest_difference: Optional[float] = None
    agreement: Optional[float] = None
    largest_output: Optional[float] = None
    accuracy_before: Optional[float] = None
    accuracy_after: Optional[float] = None
    exact: bool = True
    remark: str = ""
    assumed_shape: bool = False

    def __str__(self) -> str:
        if self.largest_difference is None:
            return f"not verified: {self.samples}"
        return f"{'verified' if self.exact else 'compared'} on {self.samples}: {self.numbers()}"

    def numbers(self) -> str:
        """What was found, in words."""
        text = f"largest difference {self.largest_difference:.3g}"
        if self.largest_output is not None:
            text += f" of numbers up to {self.largest_output:.3g}"
        if self.agreement is not None:
            text += f", predictions agree on {100 * self.agreement:.4g} %"
        if self.accuracy_before is not None and self.accuracy_after is not None:
            change = 100 * (self.accuracy_after - self.accuracy_before)
            text += f", accuracy {100 * self.accuracy_after:.2f} % ({change:+.2f} points)"
        return f"{text} ({self.remark})" if self.remark else text


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


def largest_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """max|a - b| over all outputs, equal infinities and NaN beside NaN being no difference."""
    worst = 0.0
    for a, b in zip(before, after):
        a, b = a.astype(np.float64), b.astype(np.float64)
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        difference = np.abs(np.where(equal, 0.0, a) - np.where(equal, 0.0, b))
        worst = max(worst, float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0)))
    return worst


def agreement(before: np.ndarray, after: np.ndarray) -> Optional[float]:
    """Share of predictions, largest values along axis 1, that are equal; None where there are no classes."""
    if before.ndim < 2 or before.shape[1] < 2 or before.size == 0:
        return None
    return float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))
