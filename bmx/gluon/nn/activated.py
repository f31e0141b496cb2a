"""Convolution blocks that quantize their input: BMXNet v2's three, and the function that chooses one."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Sequence

from mxnet.gluon import HybridBlock

from ...composed import pad_spatial
from ...errors import Error
from ...quantization import Array
from .binary_activations import QActivation, gives_signs
from .binary_layers import QConv2D
from .config import binary_layer_config
from .numpy_mode import classic
from .sequential import activate


class BinaryConvolution(HybridBlock):
    """A QActivation, then a QConv2D.

    Parameters
    ----------
    channels : int
        Number of filters.
    kernel_size : int or tuple of 2 int, default 3
    stride, dilation : int or tuple of 2 int, default 1
    padding : int or tuple of 2 int, default 0
    in_channels : int, default 0
        Number of input channels; 0: found at the first call.
    bits, bits_a : int, optional
        Bits of weights and activations, 1..32. Default: the configuration's, which are 1.
    clip_threshold : float, optional
        QActivation's ``gradient_cancel_threshold``. Default: ``grad_cancel`` of the configuration, which is 1.
    activation_method : str, optional
        QActivation's ``method``. Default: the configuration's.
    pad_value : {-1.0, 0.0}, default -1.0
        What the input of the convolution is padded with, see :class:`QConv2D`.
    prefix, params
        The QConv2D's. As in BMXNet v2 its name does not contain that of this block.

    Inputs:
        - **data**: (N, C, H, W).

    Outputs:
        - **out**: (N, ``channels``, H', W').

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = BinaryConvolution(8, padding=1)
    >>> layer.initialize()
    >>> layer(mx.nd.ones((1, 3, 5, 5))).shape
    (1, 8, 5, 5)
    """

    _options = {}  # QConv2D's

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        in_channels: int = 0,
        dilation: int | Sequence[int] = 1,
        bits: int | None = None,
        bits_a: int | None = None,
        clip_threshold: float | None = None,
        activation_method: str | None = None,
        pad_value: float = -1.0,
        prefix: str | None = None,
        params: Any = None,
    ):
        super().__init__()
        self.qact = QActivation(bits_a, clip_threshold, activation_method)
        self.qconv = QConv2D(
            channels,
            kernel_size,
            bits,
            stride,
            padding,
            dilation,
            in_channels=in_channels,
            bits_a=1 if gives_signs(self.qact.method) else 32,
            pad_value=pad_value,
            prefix=prefix,
            params=params,
            **self._options,
        )

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Quantize and convolve ``x``."""
        return activate(F, x, self.qact, self.qconv)


class ScaledWeightsBinaryConv(BinaryConvolution):
    """BinaryConvolution whose output channels are multiplied by the mean of abs(weight) of their filter.

    The gradient flows through the mean: Bi-Real Net's magnitude-aware gradients. Parameters, input and output are
    :class:`BinaryConvolution`'s.

    Examples
    --------
    >>> ScaledWeightsBinaryConv(8, in_channels=3).qconv
    QConv2D(3 -> 8, kernel_size=(3, 3), stride=(1, 1), bias=False, bits=1)
    """

    _options = {"apply_scaling": True}


class LearnedScaleBinaryConv(BinaryConvolution):
    """BinaryConvolution whose output channels are multiplied by a learned number each, at first 1.

    Parameters, input and output are :class:`BinaryConvolution`'s. As in ReCU, arXiv:2103.12369.

    Examples
    --------
    >>> LearnedScaleBinaryConv(8, in_channels=3).qconv.scale.shape
    (8,)
    """

    _options = {"apply_scaling": "learned"}


class ScaledBinaryConv(BinaryConvolution):
    """XNOR-Net's convolution: ScaledWeightsBinaryConv, also multiplied by the mean of abs(x) under each window.

    The mean is over channels and window, with zeros where the window leaves the input, and has no gradient of its own.
    Parameters, input and output are :class:`BinaryConvolution`'s, without dilation. Rastegari et al., "XNOR-Net:
    ImageNet Classification Using Binary Convolutional Neural Networks", 2016.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed, or ``dilation`` is not 1.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = ScaledBinaryConv(8, padding=1)
    >>> layer.initialize()
    >>> layer(mx.nd.ones((1, 3, 5, 5))).shape
    (1, 8, 5, 5)
    """

    _options = {"apply_scaling": True, "no_offset": True}

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        window = self.qconv._kwargs
        if any(d != 1 for d in window["dilate"]):
            raise Error(
                f"dilation={window['dilate']}: ScaledBinaryConv's windows are not dilated; use BinaryConvolution"
            )
        self._window = {"kernel": window["kernel"], "stride": window["stride"], "pad": self.qconv._pre_padding}

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Quantize, convolve and scale ``x``."""
        return _scaled(F, x, super().hybrid_forward(F, x), self._window)


@classic
def _scaled(F, x, out, window):
    """Multiply the output by the mean of abs(x) under each window."""
    magnitude = F.mean(F.abs(x), axis=1, keepdims=True)
    if any(pad >= kernel for pad, kernel in zip(window["pad"], window["kernel"])):  # which pooling refuses
        magnitude, window = pad_spatial(F, magnitude, window["pad"], 0.0), {**window, "pad": (0, 0)}
    scale = F.Pooling(magnitude, pool_type="avg", count_include_pad=True, **window)
    return F.broadcast_mul(F.BlockGrad(scale), out)


_ACTIVATED = {
    "": BinaryConvolution,
    "binet": ScaledWeightsBinaryConv,
    "xnor": ScaledBinaryConv,
    "learned": LearnedScaleBinaryConv,
}


def activated_conv(*args: Any, **kwargs: Any) -> BinaryConvolution:
    """Make the convolution block that the ``approximation`` of the configuration asks for.

    Parameters
    ----------
    *args, **kwargs
        :class:`BinaryConvolution`'s parameters.

    Returns
    -------
    BinaryConvolution, ScaledWeightsBinaryConv ('binet'), ScaledBinaryConv ('xnor') or LearnedScaleBinaryConv
    ('learned')

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.

    Examples
    --------
    >>> from bmx.gluon import nn
    >>> with nn.set_binary_layer_config(approximation='xnor'):
    ...     type(nn.activated_conv(8)).__name__
    'ScaledBinaryConv'
    """
    return _ACTIVATED[binary_layer_config.approximation](*args, **kwargs)
