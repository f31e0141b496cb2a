"""Binary and low-bit dense layers and convolutions."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any, Sequence

import mxnet as mx
from mxnet.gluon import nn as gluon_nn

from ...composed import fan_in, pad_spatial
from ...errors import Error
from ...gradients import quantize_gradient
from ...quantization import Array, det_sign, levels
from .binary_activations import gives_signs
from .config import Quantizer, binary_layer_config, quantizer
from .numpy_mode import classic
from .paths import operator
from .shape_search import install, searching

install()


class _BinaryLayer:
    """What QDense and the QConvs share, mixed into a layer of Gluon: bits, quantizers, scaling, checks."""

    def _configure(self, bits, bits_a, method, no_offset, apply_scaling, grad_bit, grad_dtype):
        if apply_scaling not in (False, True, "channel", "layer", "learned"):
            raise Error(f"apply_scaling={apply_scaling!r}: allowed are False, True or 'channel', 'layer' and 'learned'")
        self.bits, self.method = binary_layer_config.weight_method(bits, method)
        self.grad_bit = binary_layer_config.grad_bit if grad_bit is None else grad_bit
        levels(self.grad_bit)
        self._gradient_type = binary_layer_config.gradient_type(grad_dtype)
        activation_bits, activation = binary_layer_config.activation_method(bits_a)
        signs = activation_bits == 1 and (bits_a == 1 or gives_signs(activation))
        self._binary = self.bits == 1 and signs
        self._no_offset = no_offset or bool(apply_scaling)
        self._scaling = apply_scaling
        self._stop_scale_gradient = binary_layer_config.approximation == "xnor"
        self.weight.bits = self.bits  # bmx.optimizer asks the parameter itself which weights have one bit
        self.weight.centered = self.method == "recu"  # and where their sign changes: at 0, or at the mean of a filter
        if self.bits < 32:
            self.weight.wd_mult = 0.0  # decay would only move latent weights towards zero, where they flip
        # Gluon hands the parameters that a layer has as attributes to its hybrid_forward, by name.
        if self.method == "recu":
            self.tau = self.params.get("tau", shape=(1,), init=mx.init.Constant(0.85), grad_req="null")
        if apply_scaling == "learned":
            self.scale = self.params.get("scale", shape=self.weight.shape[:1], init="ones")

    def traced_behind(self, activation, x):
        """The graph of this layer behind a QActivation, without a node for that; None where the operators cannot."""
        if not self._binary or activation.window is None:
            return None
        with self.name_scope():
            parameters = {name: parameter.var() for name, parameter in self._reg_params.items()}
            return self.hybrid_forward(mx.sym, x, window=activation.window, **parameters)

    @property
    def quantize(self) -> Quantizer:
        """The function of (F, weight) that quantizes the weights."""
        return quantizer(self.bits, self.method)

    def _quantized(self, F, weight, tau):
        return self.quantize(F, weight) if tau is None else det_sign(F, _rectify(F, weight, tau))

    def _signs(self, F, weight, tau):
        """Return what the operators take the sign of; another gradient than theirs comes from signs made before."""
        if tau is not None:
            return _rectify(F, weight, tau)
        return weight if self.method == "det_sign" else self.quantize(F, weight)

    def _attributes(self, window):
        """What both operators are told: they take the sign in the place of a QActivation, else the input as it is."""
        return {"true_gradient": True, **self._gradient_type, **(window or {"float_input": True})}

    def _finish(self, F, out, weight, scale, per_channel):
        """Quantize the gradient that comes back to the product, and scale the product."""
        if self.grad_bit < 32:
            out = quantize_gradient(F, out, self.grad_bit)
        if scale is not None:
            return _multiply_channels(F, out, scale, per_channel)
        if not self._scaling:
            return out
        magnitude = F.abs(weight)
        if self._scaling == "layer":
            scale = F.mean(magnitude)
        else:
            scale = F.reshape(F.mean(magnitude, axis=0, exclude=True), shape=per_channel)
        return F.broadcast_mul(out, F.BlockGrad(scale) if self._stop_scale_gradient else scale)

    def __repr__(self):
        return f"{super().__repr__()[:-1]}, bits={self.bits})"


def _rectify(F, weight, tau):
    if searching():  # for shapes: of the same inputs, and by operators through which MXNet infers them
        return weight + F.broadcast_mul(F.zeros_like(weight), tau)
    return operator(F, "bmx_ReCU", "recu")(weight, tau)


def _multiply_channels(F, out, scale, per_channel):
    if per_channel == (-1,):
        return F.broadcast_mul(out, scale)
    return operator(F, "bmx_Scale", "scaled")(out, scale)


def _refuse(use_bias, activation):
    if use_bias:
        raise Error("use_bias=True: a binary layer has no bias; put a BatchNorm after it")
    if activation is not None:
        raise Error(f"activation={activation!r}: a binary layer has no activation; put a QActivation before it")


def _sizes(name, value, dims, least=1):
    """Return a size for each dimension; one number stands for all."""
    sizes = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(sizes) != dims or not all(isinstance(size, int) and size >= least for size in sizes):
        several = f", or {dims} of them" if dims > 1 else ""
        raise Error(f"{name}={value!r}: allowed is an integer of at least {least}{several}")
    return sizes


class QDense(_BinaryLayer, gluon_nn.Dense):
    """Dense layer with weights of a few bits: y = x·wqᵀ, then (D + y)/2 for D inputs unless ``no_offset``.

    The input is multiplied as it is, as in BMXNet v2; put a QActivation before the layer to quantize it. For 1-bit
    weights and an input of -1 and +1, (D + y)/2 is the number of equal bits, computed with popcounts. As in BMXNet v2
    it is applied for weights of other widths too. The gradient includes the 1/2 and passes straight through the sign of
    the weights.

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : None
    use_bias : False
        A binary layer has neither activation nor bias.
    flatten : bool, default True
        Multiply along all dimensions but the first, or along the last alone.
    dtype : str, default 'float32'
    weight_initializer : str or Initializer, optional
    bias_initializer : str or Initializer, default 'zeros'
        Without effect.
    in_units : int, default 0
        Number of inputs; 0: found at the first call. The parameters so far are Gluon's, in Gluon's order.
    bits : int, optional
        Bits of the weights, 1..32. Default: the configuration's, which is 1.
    bits_a : int, optional
        As :class:`QConv2D`'s.
    no_offset : bool, default False
        Leave (D + y)/2 out.
    apply_scaling : bool, 'channel', 'layer' or 'learned', default False
        As :class:`QConv2D`'s; a channel is an output.
    grad_bit : int, optional
    grad_dtype : str, optional
        As :class:`QConv2D`'s.
    prefix, params
        As in every Block of Gluon.

    Inputs:
        - **data**: (N, ...) with ``in_units`` values each, or (..., ``in_units``) where ``flatten`` is False.

    Outputs:
        - **out**: (N, ``units``), or (..., ``units``) where ``flatten`` is False.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = QDense(2, in_units=3, weight_initializer=mx.init.One())
    >>> layer
    QDense(3 -> 2, linear, bits=1)
    >>> layer.initialize()
    >>> print(layer(mx.nd.array([[1, -1, 1]])).asnumpy())
    [[2. 2.]]
    """

    def __init__(
        self,
        units: int,
        activation: None = None,
        use_bias: bool = False,
        flatten: bool = True,
        dtype: str = "float32",
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_units: int = 0,
        *,
        bits: int | None = None,
        bits_a: int | None = None,
        no_offset: bool = False,
        apply_scaling: bool | str = False,
        grad_bit: int | None = None,
        grad_dtype: str | None = None,
        prefix: str | None = None,
        params: Any = None,
    ):
        _refuse(use_bias, activation)
        _sizes("units", units, 1)
        super().__init__(
            units,
            use_bias=False,
            flatten=flatten,
            dtype=dtype,
            weight_initializer=weight_initializer,
            in_units=in_units,
            prefix=prefix,
            params=params,
        )
        self._configure(bits, bits_a, None, no_offset, apply_scaling, grad_bit, grad_dtype)

    @classic
    def hybrid_forward(
        self, F: ModuleType, x: Array, weight: Array, tau: Array = None, scale: Array = None, window: dict | None = None
    ) -> Array:
        """Multiply ``x`` by the quantized weights; with the window of a QActivation, in its place too."""
        shape = {"num_hidden": self._units, "flatten": self._flatten, "no_bias": True}
        if self._binary:
            attributes = {"no_offset": self._no_offset, **self._attributes(window)}
            out = operator(F, "QFullyConnected")(x, self._signs(F, weight, tau), **attributes, **shape)
        else:
            out = F.FullyConnected(x, self._quantized(F, weight, tau), name="fwd", **shape)
            if not self._no_offset:
                out = _add_offset(F, out, weight)
        return self._finish(F, out, weight, scale, per_channel=(-1,))


def _add_offset(F, out, weight):
    return F.broadcast_add(out, fan_in(F, weight)) / 2


class _QConv(_BinaryLayer):
    """Constructor and forward pass of QConv1D, QConv2D and QConv3D, mixed into Gluon's Conv1D, Conv2D and Conv3D."""

    _layout = None

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        bits: int | None = None,
        strides: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        layout: str | None = None,
        activation: None = None,
        use_bias: bool = False,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        apply_scaling: bool | str = False,
        quantization: str | None = None,
        no_offset: bool = False,
        bits_a: int | None = None,
        pad_value: float = -1.0,
        grad_bit: int | None = None,
        grad_dtype: str | None = None,
        prefix: str | None = None,
        params: Any = None,
    ):
        _refuse(use_bias, activation)
        if layout not in (None, self._layout):
            raise Error(f"layout={layout!r}: {type(self).__name__} works on {self._layout}")
        _sizes("channels", channels, 1)
        _sizes("groups", groups, 1)
        if channels % groups or in_channels % groups:
            raise Error(f"groups={groups}: must divide in_channels={in_channels} and channels={channels}")
        if pad_value not in (-1.0, 0.0):
            raise Error(f"pad_value={pad_value!r}: allowed are -1.0 and 0.0")
        dims = len(self._layout) - 2
        super().__init__(
            channels,
            _sizes("kernel_size", kernel_size, dims),
            _sizes("strides", strides, dims),
            0,
            _sizes("dilation", dilation, dims),
            groups,
            self._layout,
            in_channels=in_channels,
            use_bias=False,
            weight_initializer=weight_initializer,
            prefix=prefix,
            params=params,
        )
        self._configure(bits, bits_a, quantization, no_offset, apply_scaling, grad_bit, grad_dtype)
        self._pre_padding = _sizes("padding", padding, dims, least=0)  # v2's name; Gluon's own padding stays 0
        self._pad_value = pad_value

    @classic
    def hybrid_forward(
        self, F: ModuleType, x: Array, weight: Array, tau: Array = None, scale: Array = None, window: dict | None = None
    ) -> Array:
        """Convolve ``x`` with the quantized weights; with the window of a QActivation, in its place too."""
        if self._binary:
            attributes = {"pad_value": self._pad_value, "no_offset": self._no_offset, **self._attributes(window)}
            attributes.update(self._kwargs, pad=self._pre_padding)
            out = operator(F, "QConvolution")(x, self._signs(F, weight, tau), **attributes)
        else:
            attributes = dict(self._kwargs, pad=self._pre_padding)
            if self._pad_value:
                x = pad_spatial(F, x, attributes.pop("pad"), self._pad_value)
            out = F.Convolution(x, self._quantized(F, weight, tau), name="fwd", **attributes)
            if self.bits == 1 and not self._no_offset:
                out = _add_offset(F, out, weight)
        return self._finish(F, out, weight, scale, per_channel=(1, -1) + (1,) * len(self._kwargs["kernel"]))

    def __repr__(self):
        text, padding = super().__repr__(), self._pre_padding
        return re.sub(r"(stride=\([^)]*\))", rf"\1, padding={padding}", text) if any(padding) else text

    def _alias(self):
        return "qconv"


class QConv1D(_QConv, gluon_nn.Conv1D):
    """1-D convolution with weights of a few bits, with the parameters of :class:`QConv2D`.

    Inputs:
        - **data**: (N, C, W).

    Outputs:
        - **out**: (N, ``channels``, W'), the sizes of a convolution of Gluon.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = QConv1D(8, kernel_size=3, padding=1)
    >>> layer.initialize()
    >>> layer(mx.nd.ones((2, 5, 9))).shape
    (2, 8, 9)
    """

    _layout = "NCW"


class QConv2D(_QConv, gluon_nn.Conv2D):
    """2-D convolution with weights of a few bits: y = conv(padded x, wq), then (K + y)/2.

    The input is multiplied as it is, as in BMXNet v2; put a QActivation before the layer to quantize it. (K + y)/2,
    with K inputs for each output, is for 1-bit weights only, and left out with ``no_offset`` or ``apply_scaling``; with
    an input of -1 and +1 it is the number of equal bits, computed with popcounts. The gradient includes the 1/2 and
    passes straight through the sign of the weights.

    Parameters
    ----------
    channels : int
        Number of filters.
    kernel_size : int or tuple of 2 int
    bits : int, optional
        Bits of the weights, 1..32. Default: the configuration's, which is 1.
    strides, dilation : int or tuple of 2 int, default 1
    padding : int or tuple of 2 int, default 0
        Elements of ``pad_value`` on both sides of each spatial dimension.
    groups : int, default 1
    layout : 'NCHW'
    activation : None
    use_bias : False
        A binary layer has neither activation nor bias.
    weight_initializer : str or Initializer, optional
    bias_initializer : str or Initializer, default 'zeros'
        Without effect.
    in_channels : int, default 0
        Number of input channels; 0: found at the first call.
    apply_scaling : bool, 'channel', 'layer' or 'learned', default False
        True or 'channel': multiply each output channel by the mean of the absolute values of its filter, the alpha of
        XNOR-Net and of binary-weight networks; 'layer': all channels by the mean over all filters. The gradient flows
        through that too, unless the approximation of the configuration is 'xnor'. 'learned': multiply each output
        channel by a parameter ``scale``, at first 1.
    quantization : str, optional
        Method for the weights, see :class:`BinaryLayerConfig`. Default: the configuration's. 'recu' (ReCU,
        arXiv:2103.12369): each filter is standardized and clamped at a quantile before its sign is taken, which
        brings weights back that would hardly change their sign again. The parameter ``tau``, at first 0.85, is the
        quantile, which :class:`bmx.training.RisingTau` moves to 0.99 in the course of a training.
    no_offset : bool, default False
        Leave (K + y)/2 out.
    bits_a : int, optional
        Bits that the input is expected to have. It chooses how a layer computes, not what: 1-bit weights with 1 look
        whether the input is -1 and +1 and then use popcounts, and otherwise multiply floats, as all other layers
        always do. Default: the configuration's, which is 1.
    pad_value : {-1.0, 0.0}, default -1.0
        What the input is padded with. A 1-bit layer with ``bits_a=1`` takes 0 for +1.
    grad_bit : int, optional
        Bits to which the gradient of the product is quantized before the gradients of input and weights are computed
        from it, 1..32, see :func:`bmx.gradients.quantize_gradient`. Default: the configuration's, which is 32: it is
        not quantized.
    grad_dtype : {'float32', 'float32x2', 'bfloat16'}, optional
        What a 1-bit layer with 1-bit inputs computes its gradients in on the CPU; others are MXNet's, in float32.
        'float32x2' keeps 16 bits of each number, 'bfloat16' 8; sums are float32, and both are used where they are the
        faster way, on CPUs with AMX: otherwise gradients are float32's. Default: the configuration's.
    prefix, params
        As in every Block of Gluon.

    Inputs:
        - **data**: (N, C, H, W).

    Outputs:
        - **out**: (N, ``channels``, H', W'), the sizes of a convolution of Gluon.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = QConv2D(8, kernel_size=3, padding=1, in_channels=5)
    >>> layer
    QConv2D(5 -> 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False, bits=1)
    >>> layer.initialize()
    >>> layer(mx.nd.ones((2, 5, 9, 9))).shape
    (2, 8, 9, 9)
    """

    _layout = "NCHW"


class QConv3D(_QConv, gluon_nn.Conv3D):
    """3-D convolution with weights of a few bits, with the parameters of :class:`QConv2D`.

    Inputs:
        - **data**: (N, C, D, H, W).

    Outputs:
        - **out**: (N, ``channels``, D', H', W'), the sizes of a convolution of Gluon.

    Examples
    --------
    >>> import mxnet as mx
    >>> layer = QConv3D(8, kernel_size=3, padding=1)
    >>> layer.initialize()
    >>> layer(mx.nd.ones((2, 5, 9, 9, 9))).shape
    (2, 8, 9, 9, 9)
    """

    _layout = "NCDHW"
