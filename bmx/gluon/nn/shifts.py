"""The layers of ReActNet: a learned shift of each channel, and RPReLU."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import mxnet as mx
from mxnet.gluon import HybridBlock

from ...quantization import Array
from .numpy_mode import classic
from .paths import operator


class Shift(HybridBlock):
    """Adds a learned number, at first 0, to each channel. Before a QActivation it is ReActNet's RSign.

    Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary Neural Network with Generalized
    Activation Functions", arXiv:2003.03488.

    Parameters
    ----------
    in_channels : int, default 0
        Channels of the input; 0: found at the first call.
    prefix, params
        As in every Block of Gluon.

    Inputs:
        - **data**: (N, C, ...), float32.

    Outputs:
        - **out**: the shape of ``data``.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = Shift()
    >>> layer.initialize()
    >>> print(layer(mx.nd.array([[1, 2]])).asnumpy())
    [[1. 2.]]
    """

    def __init__(self, in_channels: int = 0, prefix: str | None = None, params: Any = None):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            self.shift = self.params.get("shift", shape=(in_channels,), init="zeros", allow_deferred_init=True)

    @classic
    def hybrid_forward(self, F: ModuleType, x: Array, shift: Array) -> Array:
        """Add the shift to ``x``."""
        return operator(F, "bmx_Shift")(x, shift)


class RPReLU(HybridBlock):
    """ReActNet's activation, a PReLU between two learned shifts: f(x + shift) + offset, f(z) = z above 0, else slope z.

    Each channel has its own three numbers. arXiv:2003.03488.

    Parameters
    ----------
    in_channels : int, default 0
        Channels of the input; 0: found at the first call.
    slope : float, default 0.25
        What the slopes begin with; the shifts begin with 0.
    prefix, params
        As in every Block of Gluon.

    Inputs:
        - **data**: (N, C, ...), float32.

    Outputs:
        - **out**: the shape of ``data``.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = RPReLU()
    >>> layer.initialize()
    >>> print(layer(mx.nd.array([[1, -2]])).asnumpy())
    [[ 1.  -0.5]]
    """

    def __init__(self, in_channels: int = 0, slope: float = 0.25, prefix: str | None = None, params: Any = None):
        super().__init__(prefix=prefix, params=params)
        with self.name_scope():
            for name, value in (("shift", 0.0), ("slope", slope), ("offset", 0.0)):
                start = mx.init.Constant(value)
                setattr(self, name, self.params.get(name, shape=(in_channels,), init=start, allow_deferred_init=True))

    @classic
    def hybrid_forward(self, F: ModuleType, x: Array, shift: Array, slope: Array, offset: Array) -> Array:
        """Apply the activation to ``x``."""
        return operator(F, "bmx_RPReLU")(x, shift, slope, offset)
