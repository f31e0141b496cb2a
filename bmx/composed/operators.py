"""QActivation, QConvolution and QFullyConnected as compositions of built-in MXNet operators."""

from __future__ import annotations

from types import ModuleType
from typing import Any, Sequence

from ..errors import Error
from ..quantization import (
    Array,
    approximate_gradient,
    gradient_only,
    gradient_window,
    levels,
    quantize_activation,
    quantize_weight,
    rectified_clamp,
    swish_gradient,
)

__all__ = [
    "OPERATORS",
    "fan_in",
    "pad_spatial",
    "qactivation",
    "qconvolution",
    "qfully_connected",
    "rprelu",
    "scale",
    "shift",
]

_ESTIMATORS = ("ste", "approx_sign", "swish_sign")
_LAYOUTS = {1: "NCW", 2: "NCHW", 3: "NCDHW"}


def qactivation(
    F: ModuleType,
    data: Array,
    act_bit: int = 1,
    backward_only: bool = False,
    gradient_cancel_threshold: float = 0.5,
    estimator: str = "ste",
) -> Array:
    """Quantize activations: the operator QActivation.

    Parameters
    ----------
    F : module
        ``mx.nd`` or ``mx.sym``.
    data : NDArray or Symbol
        float32, any shape.
    act_bit : int, default 1
        1..32. 1 is the sign, others are :func:`bmx.quantization.quantize_activation`.
    backward_only : bool, default False
        Leave the values as they are and only change the gradient.
    gradient_cancel_threshold : float, default 0.5
        1 bit only: the gradient is 0 where abs(data) is larger.
    estimator : {'ste', 'approx_sign', 'swish_sign'}, default 'ste'
        1 bit only: inside the window the gradient is g, g·(2 - 2·abs(data)) as in Bi-Real Net, or
        :func:`bmx.quantization.swish_gradient`'s as in BNN+.

    Returns
    -------
    NDArray or Symbol
        The shape of ``data``.

    Raises
    ------
    bmx.Error
        If an attribute has a value that is not allowed.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(qactivation(mx.nd, mx.nd.array([-0.3, 0, 2])).asnumpy())
    [-1.  1.  1.]
    """
    levels(act_bit)
    _one_of("estimator", estimator, _ESTIMATORS)
    if act_bit == 1:
        data = _window(F, data, gradient_cancel_threshold, estimator)
    return F.identity(data) if backward_only else quantize_activation(F, data, act_bit)


def _window(F, data, threshold, estimator):
    """The identity forward. Backward, the window comes last, so it also cancels ApproxSign's infinities."""
    data = gradient_window(F, data, _at_least_zero("gradient_cancel_threshold", threshold))
    if estimator == "approx_sign":
        return approximate_gradient(F, data)
    return swish_gradient(F, data) if estimator == "swish_sign" else data


def qconvolution(
    F: ModuleType,
    data: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: int | Sequence[int],
    num_filter: int,
    stride: Sequence[int] | None = None,
    dilate: Sequence[int] | None = None,
    pad: Sequence[int] | None = None,
    num_group: int = 1,
    layout: str | None = None,
    act_bit: int = 1,
    weight_bit: int = 1,
    binarized_weights_only: bool = False,
    scaling_mode: str = "none",
    gradient_update_mode: str = "bb",
    pad_value: float = 0.0,
    no_offset: bool = False,
    true_gradient: bool = False,
    float_input: bool = False,
    gradient_cancel_threshold: float | None = None,
    estimator: str = "ste",
    no_bias: bool | None = None,
    grad_dtype: str | None = None,
    **ignored: Any,
) -> Array:
    """Convolve quantized data with quantized weights: the operator QConvolution.

    With xq the quantized padded data, wq the quantized weight and K the number of inputs of one output, in this order:
    y = conv(xq, wq); for 1/1 bits (K + y)/2; + bias; for 1/1 bits and ``scaling_mode='forward'`` ·mean(abs(weight)).

    Parameters
    ----------
    F : module
        ``mx.nd`` or ``mx.sym``.
    data : NDArray or Symbol
        float32, (N, C, W), (N, C, H, W) or (N, C, D, H, W).
    weight : NDArray or Symbol
        float32, (num_filter, C / num_group) + kernel.
    bias : NDArray or Symbol, optional
        float32, (num_filter,).
    kernel, stride, dilate, pad : tuple of 1, 2 or 3 int
        As Convolution's.
    num_filter : int
    num_group : int, default 1
    layout : {'NCW', 'NCHW', 'NCDHW'}, optional
    act_bit, weight_bit : int, default 1
        1..32, see :func:`bmx.quantization.quantize_activation` and :func:`bmx.quantization.quantize_weight`; 32 bits of
        the data are the data themselves.
    binarized_weights_only : bool, default False
        Packed weights: only the C++ operator reads them.
    scaling_mode : {'none', 'forward', 'backward'}, default 'none'
        1/1 bits only. Both others compute the gradient of the data with wq·mean(abs(weight)).
    gradient_update_mode : {'bb', 'bf', 'ff'}, default 'bb'
        'ff' computes the gradient of the data with the latent weights, unscaled. 'bb' and 'bf' are the same.
    pad_value : {0.0, -1.0}, default 0.0
        What the data are padded with before they are quantized: 1 bit reads 0 as +1, 2 to 31 bits read -1 as 0.
    no_offset : bool, default False
        Leave out (K + y)/2.
    true_gradient : bool, default False
        Apply the 1/2 of (K + y)/2 to the gradients of data and weight too. BMXNet v1 does not.
    float_input : bool, default False
        1/1 bits only: multiply the data as they are instead of their sign, as BMXNet v2's layers do. Padding stays -1
        or +1.
    gradient_cancel_threshold : float, optional
        1 bit of the data only: their gradient passes the window of :func:`qactivation`. Default: no window.
    estimator : {'ste', 'approx_sign', 'swish_sign'}, default 'ste'
        :func:`qactivation`'s, inside the window.
    no_bias : bool, optional
        Accepted for symmetry with the operator; the bias is used if it is given.
    grad_dtype : str, optional
        Accepted for symmetry with the operator; gradients are MXNet's, in float32.
    **ignored
        workspace, cudnn_tune, cudnn_off, scaling_factor: without effect.

    Returns
    -------
    NDArray or Symbol
        (N, num_filter, ...) as Convolution's.

    Raises
    ------
    bmx.Error
        If an attribute has a value that is not allowed, or weights are packed.

    Examples
    --------
    >>> import mxnet as mx
    >>> data, weight = mx.nd.ones((1, 3, 4, 4)), -mx.nd.ones((2, 3, 3, 3))
    >>> qconvolution(mx.nd, data, weight, kernel=(3, 3), num_filter=2)[0, 0].asnumpy()
    array([[0., 0.],
           [0., 0.]], dtype=float32)
    """
    _check_bits(act_bit, weight_bit, binarized_weights_only, gradient_update_mode)
    _one_of("scaling_mode", scaling_mode, ("none", "forward", "backward"))
    _one_of("pad_value", pad_value, (0.0, -1.0))
    kernel = (kernel,) if isinstance(kernel, int) else tuple(kernel)
    if len(kernel) not in _LAYOUTS:
        raise Error(f"kernel={kernel}: a convolution has 1, 2 or 3 spatial dimensions")
    _one_of("layout", layout, (None, _LAYOUTS[len(kernel)]))
    geometry = {"kernel": kernel, "num_filter": num_filter, "num_group": num_group, "no_bias": True}
    geometry.update({k: v for k, v in (("stride", stride), ("dilate", dilate)) if v})

    binary = act_bit == weight_bit == 1
    data = _layer_window(F, data, act_bit, float_input, gradient_cancel_threshold, estimator)
    # The padding, quantized: 0 is +1 in one bit. Padding the quantized data is the same and cheaper.
    padding = (-1.0 if pad_value < 0 else 1.0) if act_bit == 1 else pad_value if act_bit == 32 else 0.0
    quantized = pad_spatial(F, _quantize_data(F, data, act_bit, binary, float_input), pad or (), padding)

    scale = F.BlockGrad(F.mean(F.abs(weight))) if binary and scaling_mode != "none" else None
    out = _multiply(
        F, lambda x, w: F.Convolution(x, w, **geometry), quantized, weight, weight_bit, gradient_update_mode, scale
    )
    if binary and not no_offset:
        out = _popcount(F, out, weight, true_gradient)
    if bias is not None:
        out = F.broadcast_add(out, F.reshape(_per_filter(F, bias, weight), shape=(1, -1) + (1,) * len(kernel)))
    if binary and scaling_mode == "forward":
        out = F.BlockGrad(F.broadcast_mul(out, scale)) + gradient_only(F, out)
    return out


def qfully_connected(
    F: ModuleType,
    data: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    num_hidden: int,
    flatten: bool = True,
    act_bit: int = 1,
    weight_bit: int = 1,
    binarized_weights_only: bool = False,
    gradient_update_mode: str = "bb",
    no_offset: bool = False,
    true_gradient: bool = False,
    float_input: bool = False,
    gradient_cancel_threshold: float | None = None,
    estimator: str = "ste",
    no_bias: bool | None = None,
    grad_dtype: str | None = None,
) -> Array:
    """Multiply quantized data by quantized weights: the operator QFullyConnected.

    y = xq·wqᵀ; for 1/1 bits y = (D + y)/2; y + bias.

    Parameters
    ----------
    F : module
        ``mx.nd`` or ``mx.sym``.
    data : NDArray or Symbol
        float32, (N, ...), of D values each, or (..., D) where ``flatten`` is False.
    weight : NDArray or Symbol
        float32, (num_hidden, D).
    bias : NDArray or Symbol, optional
        float32, (num_hidden,).
    num_hidden : int
    flatten : bool, default True
        Multiply along all dimensions but the first, or along the last alone.
    act_bit, weight_bit, binarized_weights_only, gradient_update_mode, no_offset, true_gradient, no_bias, grad_dtype
        As :func:`qconvolution`'s.
    float_input, gradient_cancel_threshold, estimator
        As :func:`qconvolution`'s.

    Returns
    -------
    NDArray or Symbol
        (N, num_hidden), or (..., num_hidden) where ``flatten`` is False.

    Raises
    ------
    bmx.Error
        If an attribute has a value that is not allowed, or weights are packed.

    Examples
    --------
    >>> import mxnet as mx
    >>> data, weight = mx.nd.array([[1, -1, 1]]), mx.nd.array([[1, -1, 1], [1, 1, 1]])
    >>> print(qfully_connected(mx.nd, data, weight, num_hidden=2).asnumpy())
    [[3. 2.]]
    """
    _check_bits(act_bit, weight_bit, binarized_weights_only, gradient_update_mode)
    attributes = {"num_hidden": num_hidden, "flatten": flatten, "no_bias": True}
    binary = act_bit == weight_bit == 1
    data = _layer_window(F, data, act_bit, float_input, gradient_cancel_threshold, estimator)
    quantized = _quantize_data(F, data, act_bit, binary, float_input)
    out = _multiply(
        F, lambda x, w: F.FullyConnected(x, w, **attributes), quantized, weight, weight_bit, gradient_update_mode
    )
    if binary and not no_offset:
        out = _popcount(F, out, weight, true_gradient)
    return out if bias is None else F.broadcast_add(out, _per_filter(F, bias, weight))


def _check_bits(act_bit, weight_bit, binarized_weights_only, gradient_update_mode):
    levels(act_bit)
    levels(weight_bit)
    _one_of("gradient_update_mode", gradient_update_mode, ("bb", "bf", "ff"))
    if binarized_weights_only:
        raise Error(
            "binarized_weights_only=True: packed weights run on the CPU operators only; "
            "compose the network before it is converted"
        )


def _quantize_data(F, data, act_bit, binary, float_input):
    if float_input and not binary:
        raise Error("float_input=True: allowed is False, because act_bit and weight_bit are not both 1")
    return data if float_input or act_bit == 32 else quantize_activation(F, data, act_bit)


def _layer_window(F, data, act_bit, float_input, threshold, estimator):
    """The window of a layer that has one: whose threshold is given."""
    _one_of("estimator", estimator, _ESTIMATORS)
    if threshold is None:
        if estimator != "ste":
            raise Error(f"estimator={estimator!r}: allowed with a gradient_cancel_threshold only (inf: everywhere)")
        return data
    if act_bit != 1:
        raise Error(f"gradient_cancel_threshold={threshold!r}: allowed is None, because act_bit is not 1")
    if float_input:
        raise Error(
            f"gradient_cancel_threshold={threshold!r}: allowed is None, because float_input is True: no sign is taken"
        )
    return _window(F, data, threshold, estimator)


def _at_least_zero(name, value):
    try:
        number = float(value)  # also of "inf", as MXNet's JSON has it
    except (TypeError, ValueError):
        number = -1.0
    if not number >= 0:
        raise Error(f"{name}={value!r}: allowed are numbers of at least 0")
    return number


def _one_of(name, value, allowed):
    if value not in allowed:
        raise Error(f"{name}={value!r}: allowed are {', '.join(map(repr, allowed))}")


def _multiply(F, product, data, weight, weight_bit, gradient_update_mode, scale=None):
    """``product(data, quantized weight)``, whose gradient for the data may be computed with other weights."""
    # Not through an identity behind the copy of a variable: MXNet's bind() takes a copy of a copy for an argument.
    quantized = weight if weight_bit == 32 else quantize_weight(F, weight, weight_bit)
    if gradient_update_mode == "ff":
        weight_for_data = F.BlockGrad(weight)
    elif scale is not None:
        weight_for_data = F.broadcast_mul(F.BlockGrad(quantized), scale)
    else:
        return product(data, quantized)
    return product(F.BlockGrad(data), quantized) + gradient_only(F, product(data, weight_for_data))


def _popcount(F, out, weight, true_gradient):
    """(K + out)/2, the number of equal bits; BMXNet v1's gradient leaves the 1/2 out."""
    out = F.broadcast_add(out, fan_in(F, weight)) * 0.5
    return out if true_gradient else F.contrib.gradientmultiplier(out, scalar=2.0)


def _per_filter(F, bias, weight):
    """Return the bias, its shape tied to the weight's: a symbol's bias variable needs no shape of its own."""
    return bias + F.sum(F.zeros_like(weight), axis=0, exclude=True)


def fan_in(F: ModuleType, weight: Array) -> Array:
    """Count the inputs of one output, the K of (K + y)/2: the elements of ``weight[0]``.

    A symbol has no shape when a layer is traced, so the number is computed in the graph, once a pass.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(fan_in(mx.nd, mx.nd.zeros((8, 5, 3, 3))).asnumpy())
    [45.]
    """
    return F.BlockGrad(F.sum(F.ones_like(F.slice_axis(weight, axis=0, begin=0, end=1))))


def pad_spatial(F: ModuleType, data: Array, pad: Sequence[int], value: float) -> Array:
    """Pad the spatial dimensions of (N, C, ...) on both sides with a constant.

    Parameters
    ----------
    F : module
        ``mx.nd`` or ``mx.sym``.
    data : NDArray or Symbol
        (N, C, W), (N, C, H, W) or (N, C, D, H, W).
    pad : tuple of 0 to 3 int
        One width for each spatial dimension; empty or zeros leave the data as they are.
    value : float

    Examples
    --------
    >>> import mxnet as mx
    >>> print(pad_spatial(mx.nd, mx.nd.ones((1, 1, 2)), (1,), -1).asnumpy())
    [[[-1.  1.  1. -1.]]]
    """
    if not any(pad):
        return data
    if len(pad) == 1:  # MXNet pads 4-D and 5-D arrays only
        return F.squeeze(pad_spatial(F, F.expand_dims(data, axis=2), (0,) + tuple(pad), value), axis=2)
    width = (0, 0, 0, 0) + tuple(p for p in pad for _ in range(2))
    return F.pad(data, mode="constant", pad_width=width, constant_value=value)


def _batch_norm(F, data, gamma, beta, mean, var, mode, **attributes):
    return F.BatchNorm(data, gamma, beta, mean, var, **attributes)  # which knows the mode itself


def shift(F: ModuleType, data: Array, shift: Array) -> Array:
    """Add a number to each channel, as the operator ``bmx_Shift``.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(shift(mx.nd, mx.nd.zeros((1, 2, 1)), mx.nd.array([1, 2])).asnumpy())
    [[[1.]
      [2.]]]
    """
    # The shift in the data's number of dimensions, which a symbol does not know: (channels,) -> (channels, 1, ...).
    return F.swapaxes(F.broadcast_add(F.swapaxes(data, dim1=1, dim2=-1), shift), dim1=1, dim2=-1)


def scale(F: ModuleType, data: Array, scale: Array) -> Array:
    """Multiply each channel by a number, as the operator ``bmx_Scale``.

    Examples
    --------
    >>> import mxnet as mx
    >>> print(scale(mx.nd, mx.nd.ones((1, 2, 1)), mx.nd.array([1, 2])).asnumpy())
    [[[1.]
      [2.]]]
    """
    return F.swapaxes(F.broadcast_mul(F.swapaxes(data, dim1=1, dim2=-1), scale), dim1=1, dim2=-1)


def rprelu(F: ModuleType, data: Array, before: Array, slope: Array, offset: Array) -> Array:
    """Apply a PReLU between two shifts, as the operator ``bmx_RPReLU``.

    Examples
    --------
    >>> import mxnet as mx
    >>> one = mx.nd.ones(1)
    >>> print(rprelu(mx.nd, mx.nd.array([[[-5, -1, 3]]]), one, 0.25 * one, one).asnumpy())
    [[[0. 1. 5.]]]
    """
    return shift(F, F.LeakyReLU(shift(F, data, before), slope, act_type="prelu"), offset)


def _packed(F, data, weight, bias=None, **attributes):
    _check_bits(1, 1, True, "bb")


# The operators' names in MXNet; the older one of BMXNet is the same operator.
OPERATORS = {
    "bmx_BatchNorm": _batch_norm,
    "bmx_ReCU": rectified_clamp,
    "bmx_RPReLU": rprelu,
    "bmx_Scale": scale,
    "bmx_Shift": shift,
    "BinaryInferenceConvolution": _packed,
    "BinaryInferenceFullyConnected": _packed,
    "QActivation": qactivation,
    "QConvolution": qconvolution,
    "QConvolution_v1": qconvolution,
    "QFullyConnected": qfully_connected,
}
