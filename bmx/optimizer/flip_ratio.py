"""FlipRatio: how many 1-bit weights change their sign."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple

import mxnet as mx
import numpy as np

from ..errors import Error
from .binary import has_one_bit


class Flips(NamedTuple):
    """Ratios, 0 to 1, of the weights whose sign has changed: of all weights together, and by name of the weight."""

    total: float
    layers: Dict[str, float]


class FlipRatio:
    """Reports, at each call, the ratio of 1-bit weights whose sign has changed since the last call.

    A ratio that does not fall towards the end of a training says that the learning rate, or Bop's gamma, is too high;
    one that is zero from the start that nothing is learned. 0, -0 and NaN count as positive, as in the layers.

    Among the callbacks of :func:`bmx.training.fit` it gives each row of the history the total as ``flip_ratio``, which
    the log has then, too. In the epoch that a resumed run begins in, what comes after the checkpoint counts.

    Parameters
    ----------
    weights : mxnet.gluon.Block, ParameterDict or sequence of Parameter
        Of a Block the weights of its layers of :mod:`bmx.gluon.nn` with ``bits=1``, otherwise all of them. Those not
        initialized yet count from the first call after they are; that call reports 0 for them.

    Raises
    ------
    bmx.Error
        If there are no weights.

    Examples
    --------
    >>> from bmx.gluon import nn
    >>> layer = nn.QDense(2, in_units=2, prefix='fc_')
    >>> layer.initialize(mx.init.One())
    >>> flips = FlipRatio(layer)
    >>> layer.weight.set_data(mx.nd.array([[-1, 0.5], [3, 0]]))
    >>> flips()
    Flips(total=0.25, layers={'fc_weight': 0.25})
    >>> flips().total
    0.0
    """

    def __init__(self, weights: mx.gluon.Block | mx.gluon.ParameterDict | Iterable[mx.gluon.Parameter]):
        if isinstance(weights, mx.gluon.Block):
            weights = [p for p in weights.collect_params().values() if has_one_bit(p)]
        elif isinstance(weights, (dict, mx.gluon.ParameterDict)):
            weights = weights.values()
        self._weights = list(weights)
        if not self._weights:
            raise Error("FlipRatio: there are no weights of layers of bmx.gluon.nn with bits=1; give their parameters")
        self._before = {}  # name -> 8 signs in a byte
        self.begin()

    def begin(self) -> None:
        """Take the signs from which the next call counts."""
        self._before.clear()
        self()

    def __call__(self, history: List[Dict[str, Any]] | None = None) -> Flips:
        """Compare the signs with those at the last call; the last row of a history gets the total."""
        layers, flipped, size = {}, 0, 0
        for weight in self._weights:
            if weight._data is None:  # not initialized yet
                continue
            signs = np.packbits(_negative(weight))
            changed = int(np.unpackbits(signs ^ self._before.get(weight.name, signs)).sum())
            self._before[weight.name] = signs
            count = int(np.prod(weight.shape))
            layers[weight.name] = changed / count
            flipped, size = flipped + changed, size + count
        flips = Flips(flipped / size if size else 0.0, layers)
        if history:
            history[-1]["flip_ratio"] = flips.total
        return flips


def _negative(weight: mx.gluon.Parameter) -> np.ndarray:
    """Where a layer takes -1 for a weight: below 0, or, of a centered one, below the mean of its filter."""
    values = weight.data(weight.list_ctx()[0]).asnumpy()
    if getattr(weight, "centered", False):
        return values < values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
    return values < 0
