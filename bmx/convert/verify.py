"""Runs a network before and after its conversion on the same samples and compares what comes out."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from ..checkpoints import names as checkpoint_names
from ..checkpoints.constants import CannotRun
from ..checkpoints.network import Network
from ..checkpoints.sample_shape import UNKNOWN, shape_text
from ..checkpoints.shape_inference import Shape
from ..comparison import Verification, agreement, compare, largest_difference
from ..errors import Error

__all__ = ["verify_conversion"]

_SAMPLES = 8
_SEED = 0
_NOISE = 1e-5  # relative; so large that it decides other bits where roundings could


def verify_conversion(
    original: str,
    epoch: int,
    converted: Tuple[str, str],
    data_shape: Optional[Sequence[int]] = None,
    data: Optional[np.ndarray] = None,
) -> Verification:
    """Compare two checkpoints on the same samples.

    Parameters
    ----------
    original : str
        Prefix of the original.
    epoch : int
    converted : tuple of str
        The files of the converted one, symbol and parameters.
    data_shape : sequence of int, optional
        Shape of one sample; by default the recorded one, or one that fits: any does, as nothing that is written depends
        on it.
    data : ndarray, optional
        A batch; by default 8 normally distributed samples with a fixed seed.

    Returns
    -------
    Verification
        Also where the networks could not be run: it says why.

    Raises
    ------
    bmx.Error
        If a stored array or `data_shape` does not fit the network, or the outputs differ.
    """
    files = checkpoint_names.files(original, epoch)
    network = Network.load(*files)
    if len(network.inputs) != 1:
        names = ", ".join(network.inputs) or "none"
        return Verification(f"the network must have one input without a stored value, it has: {names}")
    (name,) = network.inputs
    shape = tuple(data.shape[1:]) if data is not None else _checked_shape(data_shape)
    assumed = shape is None
    try:
        shape = network.fitting_shape() if assumed else shape
        if shape is None:
            return Verification(UNKNOWN)
        network.shapes({name: (1, *shape)})
    except Error as error:
        problem = "" if assumed else f"the network does not take samples of shape {shape}: "
        raise Error(f"{files[1]}: {problem}{error}") from None
    if data is None:
        data = np.random.RandomState(_SEED).standard_normal((_SAMPLES, *shape))
    data = np.asarray(data, np.float32)
    samples = f"{len(data)} samples of shape {shape_text(shape)}"
    try:
        before = _run(network, data)
    except CannotRun as error:
        return Verification(f"MXNet cannot run the network on {samples}: {error.reason}")
    try:
        after = _run(Network.load(*converted), data)
    except CannotRun as error:
        raise Error(f"{original}: the converted network cannot be run, nothing was written: {error.reason}") from None
    result = Verification(samples, largest_difference(before, after), agreement(before[0], after[0]))
    result.assumed_shape = assumed and not network.shape_is_known()
    verdict = compare(before, after, network.softmaxes, lambda seed: _run_near(network, data, seed))
    if verdict == "different" or result.largest_difference == np.inf:
        raise Error(f"{original}: the converted network has other outputs, nothing was written: {result}")
    if verdict == "roundings":
        result.remark = "where roundings decide bits; they change the original's outputs as much"
    return result


def _run(network: Network, batch: np.ndarray) -> List[np.ndarray]:
    return list(network.run({network.inputs[0]: batch}).values())


def _run_near(network: Network, batch: np.ndarray, seed: int) -> List[np.ndarray]:
    """The outputs where the last digits of the batch and of parameters are others."""
    noise = 1 + _NOISE * np.random.RandomState(seed).standard_normal(batch.shape)
    return _run(network.with_other_last_digits(_NOISE, seed), (batch * noise).astype(batch.dtype))


def _checked_shape(shape: Optional[Sequence[int]]) -> Optional[Shape]:
    if shape is not None and (not shape or any(size < 1 for size in shape)):
        raise Error(f"data_shape is {tuple(shape)}; it must be positive sizes without the batch, such as (1, 28, 28)")
    return None if shape is None else tuple(int(size) for size in shape)
