"""Binary and low-bit activations."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from mxnet.gluon import HybridBlock

from ...quantization import Array, gradient_window
from .config import Quantizer, binary_layer_config, check_threshold, quantizer
from .numpy_mode import classic
from .paths import operator

_SIGNS = ("det_sign", "sign_approx_sign", "swish_sign")
_ESTIMATORS = {
    "det_sign": "ste",
    "sign_approx_sign": "approx_sign",
    "swish_sign": "swish_sign",
}  # those that the operator has


def gives_signs(method: str) -> bool:
    """Tell whether a method gives -1 and +1: the 1-bit methods do, except for 'round', which gives 0 and 1."""
    return method in _SIGNS


class QActivation(HybridBlock):
    """Activation of a few bits, whose gradient is cancelled where abs(x) is large.

    Parameters
    ----------
    bits : int, optional
        1..32. Default: ``bits_a`` of the configuration, which is 1.
    gradient_cancel_threshold : float, optional
        The gradient is 0 where abs(x) is larger, and for NaN. Default: ``grad_cancel`` of the configuration, which is
        1.
    method : str, optional
        One of :class:`BinaryLayerConfig`'s activations. Default: the configuration's, or, where that does not exist for
        these bits, the first for these bits.

    Inputs:
        - **data**: any shape.

    Outputs:
        - **out**: the shape of ``data``; -1 and +1 for 1 bit, 0..1 in ``2**bits - 1`` steps for 2..31 bits.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = QActivation()
    >>> layer
    QActivation(det_sign, bits=1, gradient_cancel_threshold=1.0)
    >>> print(layer(mx.nd.array([-0.3, 0, 2])).asnumpy())
    [-1.  1.  1.]
    """

    def __init__(
        self,
        bits: int | None = None,
        gradient_cancel_threshold: float | None = None,
        method: str | None = None,
        prefix: str | None = None,
        params: Any = None,
    ):
        super().__init__(prefix=prefix, params=params)
        self.bits, self.method = binary_layer_config.activation_method(bits, method)
        if gradient_cancel_threshold is None:
            gradient_cancel_threshold = binary_layer_config.grad_cancel
        check_threshold("gradient_cancel_threshold", gradient_cancel_threshold)
        self.threshold = gradient_cancel_threshold

    @classic
    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Quantize ``x``."""
        if self.window is None:
            return self.quantize(F, gradient_window(F, x, self.threshold))
        return operator(F, "QActivation")(x, **self.window)

    @property
    def quantize(self) -> Quantizer:
        """The function of (F, x) that quantizes, without the window on the gradient."""
        return quantizer(self.bits, self.method)

    @property
    def window(self) -> dict[str, Any] | None:
        """The operators' attributes that say what happens to the gradient; None for methods that they do not have."""
        if self.method not in _ESTIMATORS:
            return None
        return {"gradient_cancel_threshold": self.threshold, "estimator": _ESTIMATORS[self.method]}

    def __repr__(self):
        name = type(self).__name__
        return f"{name}({self.method}, bits={self.bits}, gradient_cancel_threshold={self.threshold})"


class ApproxSign(QActivation):
    """The sign, with the gradient of Bi-Real Net's ApproxSign: g·(2 - 2·abs(x)) where abs(x) <= 1, else 0.

    Inputs:
        - **data**: any shape.

    Outputs:
        - **out**: the shape of ``data``, -1 and +1.

    Examples
    --------
    >>> ApproxSign()
    ApproxSign(sign_approx_sign, bits=1, gradient_cancel_threshold=1.0)
    """

    def __init__(self, prefix: str | None = None, params: Any = None):
        super().__init__(1, 1.0, "sign_approx_sign", prefix=prefix, params=params)
