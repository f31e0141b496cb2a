"""The quantile of ReCU's layers over a run."""

from __future__ import annotations

from typing import Any, Dict, List

import mxnet as mx

from ..errors import Error


class RisingTau:
    """Moves the quantile ``tau`` of layers with ``quantization='recu'`` from one value to another, as a callback.

    After epoch e of n it is ``first * (last / first) ** (e / (n - 1))``: it grows by the same factor from epoch to
    epoch, and the last epoch is trained with `last`. Z. Xu et al., "ReCU: Reviving the Dead Weights in Binary Neural
    Networks", arXiv:2103.12369: a small quantile revives more weights, a large one keeps more of what they hold.

    It is a parameter of the layers, so checkpoints have it, and a resumed run goes on with it.

    Parameters
    ----------
    net : mxnet.gluon.Block
    epochs : int
        Number of the last epoch.
    first, last : float, default 0.85 and 0.99
        More than 0.5 and less than 1.

    Raises
    ------
    bmx.Error
        If a value is out of its range, or there is no such layer.
    """

    every_worker = True  # the layers of all of them must clamp alike

    def __init__(self, net: mx.gluon.Block, epochs: int, first: float = 0.85, last: float = 0.99):
        for name, value in (("first", first), ("last", last)):
            if not 0.5 < value < 1:
                raise Error(f"{name} tau is {value:g}; allowed: more than 0.5 and less than 1")
        self.epochs, self.first, self.last = epochs, first, last
        named = net._collect_params_with_prefix()
        self._taus = [parameter for name, parameter in named.items() if name.rpartition(".")[2] == "tau"]
        if not self._taus:
            raise Error("RisingTau: there is no layer with quantization='recu' (--weight-quantization recu)")
        self._set(0)

    def __call__(self, history: List[Dict[str, Any]]) -> None:
        """Set the quantile of the next epoch."""
        self._set(history[-1]["epoch"])

    def _set(self, epoch: int) -> None:
        part = min(epoch / max(self.epochs - 1, 1), 1)
        for tau in self._taus:
            tau.set_data(mx.nd.array([self.first * (self.last / self.first) ** part]))
