"""Post-training quantization: float convolutions and dense layers of a fused graph become int8 ones.

Weights are symmetric, one scale a filter: ``w = s_f i`` with integers i from -127 to 127; binary ones are -1 and +1 and
stay a bit each. Inputs are bytes, ``x = s (b - z)``, of a range that is calibrated on sample input. So

    sum x w = s s_f sum (b - z) i

an integer sum whose factor goes into the epilogue, where it merges with the bias and the BatchNorm that follow.

The range of an input is the one, among some that clip more and more of its extremes, whose bytes have the least mean
squared error on the samples. It always has 0 in it, exactly, because that is what convolutions pad with.
"""

from __future__ import annotations

from typing import Dict, Iterable, List, Tuple

import numpy as np

from ..errors import Error
from .ir import Conv, Graph
from .passes.edit import Uses, remove_dead, sort
from .passes.groups import are_bytes
from .passes.levels import integer_weights
from .passes.lowbit import is_correction, to_bytes, use_bytes

__all__ = [
    *("MODES", "Calibration", "choose_range", "explain_floats", "layers_to_quantize", "quantize", "quantize_weight"),
]

MODES = ("off", "first-last", "all")
_KEPT = 1 << 16  # numbers that are kept of each input to choose its range on
_CLIPPED = (1.0, 0.98, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)  # shares of the extremes that are tried as range


def layers_to_quantize(graph: Graph, mode: str) -> List[Conv]:
    """The layers that a mode makes int8.

    Parameters
    ----------
    graph : Graph
        Fused.
    mode : {'off', 'first-last', 'all'}
        The first and the last float layer in the order of the network, or all. Groups whose channels are no multiple
        of 4 or whose filters are none of 8 stay float, and so depthwise convolutions, whose cost is that of reading
        their input.

    Raises
    ------
    bmx.Error
        If there is no such mode.
    """
    if mode not in MODES:
        raise Error(f"int8 is {mode!r}; allowed: {', '.join(MODES)}")
    floats = [node for node in graph.nodes if isinstance(node, Conv) and node.source.dtype == "f32"]
    found = [node for node in floats if are_bytes(node) and not is_correction(node)]
    if mode == "off" or not found:
        return []
    return found if mode == "all" else list(dict.fromkeys((found[0], found[-1])))


def explain_floats(graph: Graph) -> None:
    """Note on each layer that stays float where all were to be int8 why it does."""
    for node in graph.nodes:
        if isinstance(node, Conv) and node.source.dtype == "f32" and not are_bytes(node):
            filters, channels = node.weight.shape[0] // node.groups, node.weight.shape[1]
            size = f"{channels} channel{'s' * (channels > 1)} and {filters} filter{'s' * (filters > 1)}"
            node.notes.append(f"not int8: its groups have {size}; there can be multiples of 4 and of 8")


class Calibration:
    """What is known of the inputs of layers, of a few batches of samples."""

    def __init__(self, layers: Iterable[Conv]):
        self._seen: Dict[Conv, List[np.ndarray]] = {layer: [] for layer in layers}
        self._random = np.random.RandomState(0)

    def add(self, inputs: Dict[Conv, np.ndarray]) -> None:
        """Take a batch: the inputs of the layers, and perhaps of others."""
        for layer, seen in self._seen.items():
            numbers = inputs[layer].ravel()
            numbers = numbers[np.isfinite(numbers)]
            kept = numbers
            if len(numbers) > _KEPT // 8:
                kept = self._random.choice(numbers, _KEPT // 8)
                kept[:2] = numbers.min(), numbers.max()
            seen.append(kept)

    def ranges(self) -> Dict[Conv, Tuple[float, int]]:
        """Scale and zero point of the input of each layer.

        Raises
        ------
        bmx.Error
            If no finite number was seen of one.
        """
        ranges = {}
        for layer, seen in self._seen.items():
            numbers = np.concatenate(seen or [np.zeros(0, np.float32)])
            if not len(numbers):
                raise Error(f"layer {layer.name!r}: its input has no finite number on the samples to calibrate on")
            ranges[layer] = choose_range(numbers)
        return ranges


def choose_range(numbers: np.ndarray) -> Tuple[float, int]:
    """Scale and zero point of bytes for numbers such as these.

    Parameters
    ----------
    numbers : ndarray
        Finite.

    Examples
    --------
    >>> scale, zero_point = choose_range(np.linspace(0, 1, 1000))
    >>> round(1 / scale), zero_point
    (255, 0)
    """
    numbers = np.asarray(numbers, np.float64)
    low, high = min(float(numbers.min()), 0.0), max(float(numbers.max()), 0.0)
    if high - low < 1e-30:
        return 1.0, 0
    candidates = [_bytes_for(low * share, high * share) for share in _CLIPPED]
    return min(candidates, key=lambda candidate: _error(numbers, *candidate))


def _bytes_for(low: float, high: float) -> Tuple[float, int]:
    scale = float(np.float32((high - low) / 255))
    return scale, int(np.clip(np.rint(-low / scale), 0, 255))


def _error(numbers: np.ndarray, scale: float, zero_point: int) -> float:
    restored = (np.clip(np.rint(numbers / scale) + zero_point, 0, 255) - zero_point) * scale
    return float(np.square(restored - numbers).mean())


def quantize_weight(weight: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Weights as int8 and the scale of each filter.

    Examples
    --------
    >>> integers, scales = quantize_weight(np.float32([[0.5, -1.0], [0.0, 0.0]]))
    >>> integers.tolist(), scales.tolist()
    ([[64, -127], [0, 0]], [0.007874015718698502, 1.0])
    """
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    largest = np.abs(flat).max(axis=1)
    if not np.isfinite(largest).all():
        raise Error("weights that are not finite cannot be quantized")
    scales = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    integers = np.clip(np.rint(flat / scales[:, None]), -127, 127)
    return integers.astype(np.int8).reshape(weight.shape), scales


def _integers(node: Conv) -> Tuple[np.ndarray, np.ndarray]:
    """The weights of a layer as int8 and the scale of each filter; those of a few bits are integers already."""
    few = integer_weights(node.weight)
    if few is None or few.odd:
        return quantize_weight(node.weight)
    return few.integers, np.full(len(few.integers), few.step)


def quantize(graph: Graph, ranges: Dict[Conv, Tuple[float, int]]) -> None:
    """Make layers of a fused graph int8.

    Parameters
    ----------
    graph : Graph
        It is changed.
    ranges : dict of Conv to (scale, zero point)
        Of the inputs of the layers. Layers that read the same value share the first one's.

    Raises
    ------
    bmx.Error
        If weights are not finite; it names the layer.
    """
    shared = {}
    for node, given in ranges.items():
        scale, zero_point = shared.setdefault(node.source, given)
        try:
            integers, scales = _integers(node)
        except Error as error:
            raise Error(f"layer {node.name!r}: {error}") from None
        source = to_bytes(graph, Uses(graph), node.source, scale, zero_point)
        if source is None:
            node.notes = ["its input is stored as other bytes already"]
            continue
        node.notes = []
        use_bytes(node, source, integers, scales)
    sort(graph)
    remove_dead(graph)
