"""Batch normalization that is fast beside binary layers."""

from __future__ import annotations

from types import ModuleType

from mxnet.gluon import nn as gluon_nn

from ...quantization import Array
from .numpy_mode import classic
from .paths import uses_operators


class BatchNorm(gluon_nn.BatchNorm):
    """Gluon's BatchNorm, with its parameters and results, computed by bmx's operator on the CPU.

    MXNet's own is fast in oneDNN's layouts, which binary layers do not use. Other axes than 1 and the composed path
    take MXNet's. The moving moments change in the forward pass of training, not in the backward pass. Each pass draws a
    number from MXNet's random stream, as a Dropout does (it is how the operator learns whether MXNet trains), so that
    other random layers of a network draw other numbers than beside MXNet's BatchNorm.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = BatchNorm(in_channels=2)
    >>> layer.initialize()
    >>> layer(mx.nd.ones((1, 2, 3))).shape
    (1, 2, 3)
    """

    @classic
    def hybrid_forward(
        self, F: ModuleType, x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array
    ) -> Array:
        """Normalize ``x``."""
        if self._kwargs["axis"] != 1 or not uses_operators():
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        attributes = {key: self._kwargs[key] for key in ("eps", "momentum", "fix_gamma", "use_global_stats")}
        return F.bmx_BatchNorm(x, gamma, beta, running_mean, running_var, name="fwd", **attributes)
