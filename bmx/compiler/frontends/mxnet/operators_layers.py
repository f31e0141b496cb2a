"""Reads layers with weights, BatchNorm and pooling."""

from __future__ import annotations

import math
from typing import List, Optional, Tuple

import mxnet as mx
import numpy as np

from .... import quantization
from ....checkpoints import interchange
from ....errors import Error
from ...builder import pad_to_reach
from ...ir import Affine, Clip, Function, Norm, Operation, PRelu, Shape, Value
from .call import Call, check_finite, dims_of, operator

Window = Tuple[Tuple[int, int], Tuple[int, int], Tuple[int, int], Tuple[int, int]]


@operator("Convolution", "Convolution_v1")
def convolution(call: Call) -> Value:
    """A float convolution: its weights are constant, however they were computed."""
    weight, window = _weight(call)
    kernel, stride, dilate, pad = window
    y = call.builder.conv(
        call.name, call.value(), weight, call.shape, stride=stride, dilate=dilate, pad=pad * 2, groups=_groups(call)
    )
    return _add_bias(call, y, quantized=False)


@operator("FullyConnected")
def fully_connected(call: Call) -> Value:
    """A float dense layer: a convolution whose window is the image."""
    y = _dense(call, call.value(), call.constant(1, "weight"))
    return _add_bias(call, y, quantized=False)


@operator("QConvolution", "QConvolution_v1")
def quantized_convolution(call: Call) -> Value:
    """1/1 bits: a binary convolution, (K + dot) / 2 = K - p for p differing bits, or dot = K - 2 p; else a float one.

    So is a 1/1-bit one with float_input; the pass `binarize` makes it binary where its input is signs. The padding is
    quantized with the data: 0 is +1 in one bit, -1 is -1; of 2 to 31 bits both are 0.
    """
    act_bit, weight_bit, packed = _bits(call)
    pad_value = call.attributes.number("pad_value", 0.0)
    padding = (-1.0 if pad_value < 0 else 1.0) if act_bit == 1 else pad_value if act_bit == 32 else 0.0
    if packed or act_bit == weight_bit == 1:
        weight = _signs(call, packed, (call.attributes.integer("num_filter"), *_filter_shape(call)))
        kernel, stride, dilate, pad = _window(call)
        weight = weight.reshape(*weight.shape[:2], *kernel)
        options = {"stride": stride, "dilate": dilate, "groups": _groups(call)}
        if _float_input(call):
            x = call.builder.pad(f"{call.name}_pad", call.value(), pad * 2, padding)
            y = call.builder.conv(call.name, x, weight.astype(np.float32), call.shape, **options)
            y = _add_offset(call, y, weight)
        else:
            options.update(pad=pad * 2, pad_value=padding, **_count(call, weight))
            y = call.builder.conv(call.name, call.builder.bits(call.value()), weight, call.shape, **options)
        y = _add_bias(call, y, quantized=True)
        if call.attributes.word("scaling_mode", "none", "none", "forward", "backward") == "forward" and not packed:
            latent = call.constant(1, "weight")
            mean = np.abs(latent.astype(np.float64)).sum() / max(latent.size, 1)
            y = call.builder.affine(f"{call.name}_scale", y, np.float32(mean))
        return y
    weight, (kernel, stride, dilate, pad) = _weight(call, weight_bit)
    x = _quantized_data(call, act_bit)
    if padding:
        x, pad = call.builder.pad(f"{call.name}_pad", x, pad * 2, padding), (0, 0)
    y = call.builder.conv(
        call.name, x, weight, call.shape, stride=stride, dilate=dilate, pad=pad * 2, groups=_groups(call)
    )
    return _add_bias(call, y, quantized=True)


@operator("QFullyConnected")
def quantized_fully_connected(call: Call) -> Value:
    """As QConvolution, without padding."""
    act_bit, weight_bit, packed = _bits(call)
    if packed or act_bit == weight_bit == 1:
        weight = _signs(call, packed, (call.attributes.integer("num_hidden"), _inputs(call)))
        if _float_input(call):
            y = _add_offset(call, _dense(call, call.value(), weight.astype(np.float32)), weight)
        else:
            y = _dense(call, call.builder.bits(call.value()), weight, **_count(call, weight))
    else:
        weight = _quantized(call.constant(1, "weight"), weight_bit)
        y = _dense(call, _quantized_data(call, act_bit), weight)
    return _add_bias(call, y, quantized=True)


@operator("QActivation")
def quantized_activation(call: Call) -> Value:
    """1 bit: the sign. More: round(clip(x, 0, 1) n) / n, the clip alone for 32."""
    bits = call.attributes.integer("act_bit", 1)
    quantization.levels(bits)
    return call.value() if call.attributes.flag("backward_only", False) else quantize(call, call.value(), bits)


def quantize(call: Call, x: Value, bits: int) -> Value:
    """Quantized activations."""
    return call.builder.map(f"{call.name}_{bits}bit", x, *_quantizer(bits, x.shape[0]))


def _quantized_data(call: Call, bits: int) -> Value:
    """The data that a layer multiplies: 32 bits are the data themselves."""
    return call.value() if bits == 32 else quantize(call, call.value(), bits)


def _quantizer(bits: int, channels: int) -> List[Operation]:
    if bits == 1:
        return [Function("sign1")]
    steps = np.full(channels, quantization.levels(bits), np.float32)
    zeros = np.zeros(channels, np.float32)
    rounding = [Affine(steps, zeros), Function("round"), Affine(1 / steps, zeros)] if bits < 32 else []
    return [Clip(0.0, 1.0), *rounding]


def _bits(call: Call) -> Tuple[int, int, bool]:
    bits = call.attributes.integer("act_bit", 1), call.attributes.integer("weight_bit", 1)
    for number in bits:
        quantization.levels(number)
    return (*bits, call.attributes.flag("binarized_weights_only", False))


def _quantized(weight: np.ndarray, bits: int) -> np.ndarray:
    return quantization.quantize_weight(mx.nd, mx.nd.array(weight), bits).asnumpy()


def _signs(call: Call, packed: bool, shape: Shape) -> np.ndarray:
    """Weights -1 and +1 of latent or packed ones."""
    weight = call.constant(1, "weight")
    weight = interchange.unpack(weight, shape) if packed else weight.reshape(shape)
    with np.errstate(invalid="ignore"):
        return np.where(weight < 0, np.int8(-1), np.int8(1))


def _count(call: Call, weight: np.ndarray) -> dict:
    """``all`` and ``step`` of a binary layer."""
    offset = not call.attributes.flag("no_offset", False)
    return {"all": float(math.prod(weight.shape[1:])), "step": 1.0 if offset else 2.0}


def _float_input(call: Call) -> bool:
    """Whether a 1/1-bit layer multiplies its input as it is."""
    return call.attributes.flag("float_input", False)


def _add_offset(call: Call, y: Value, weight: np.ndarray) -> Value:
    """(K + dot) / 2 of a float product, unless the layer leaves that out."""
    if call.attributes.flag("no_offset", False):
        return y
    return call.builder.affine(f"{call.name}_offset", y, 0.5, math.prod(weight.shape[1:]) / 2)


def _groups(call: Call) -> int:
    return call.attributes.integer("num_group", 1)


def _window(call: Call) -> Window:
    """Kernel, stride, dilation, padding, each (vertical, horizontal)."""
    dims = dims_of(call.shapes[0])
    call.attributes.word("layout", "None", "None", ("NCW", "NCHW")[dims - 1])
    return tuple(call.window(("kernel", "stride", "dilate", "pad"), dims))


def _filter_shape(call: Call) -> Shape:
    dims = dims_of(call.shapes[0])
    return (call.shapes[0][0] // _groups(call), *call.attributes.integers("kernel")[:dims])


def _weight(call: Call, bits: int = 32) -> Tuple[np.ndarray, Window]:
    """The weight (filters, channels, height, width), of so many bits, and the window."""
    window = _window(call)
    weight = call.constant(1, "weight")
    if bits < 32:
        weight = _quantized(weight, bits)
    return weight.reshape(*weight.shape[:2], *window[0]), window


def _inputs(call: Call) -> int:
    if not call.attributes.flag("flatten", True) and len(call.shapes[0]) > 1:
        raise Error("flatten=False is supported for inputs of one dimension only")
    return math.prod(call.shapes[0])


def _dense(call: Call, x: Value, weight: np.ndarray, **options: object) -> Value:
    _inputs(call)
    kernel = (*x.shape, 1, 1)[:3]
    return call.builder.conv(call.name, x, weight.reshape(-1, *kernel), call.shape, **options)


def _add_bias(call: Call, y: Value, quantized: bool) -> Value:
    if call.attributes.flag("no_bias", quantized):
        return y
    # Passes take it for granted that what a quantized layer gives are numbers.
    bias = call.finite(2, "bias") if quantized else call.constant(2, "bias")
    return call.builder.affine(f"{call.name}_bias", y, bias=bias)


@operator("BatchNorm", "BatchNorm_v1", "_contrib_SyncBatchNorm")
def batch_norm(call: Call) -> Value:
    """``(x - mean) * (gamma / sqrt(var + eps)) + beta``, with these roundings.

    MXNet rounds the product where its arrays are plain, and not where oneDNN keeps them in blocks of channels. The
    engine never does, so a result next to 0 may get another last bit than MXNet's.
    """
    gamma, beta, mean, var = _batch_norm_arrays(call)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + np.float32(call.attributes.number("eps", 1e-3)))
    check_finite(scale, "gamma / sqrt(variance + eps)")
    return call.builder.map(call.name, call.value(), Norm(mean, scale, beta))


@operator("bmx_BatchNorm")
def bmx_batch_norm(call: Call) -> Value:
    """``fma(x, scale, offset)``, both computed in double precision, as batch_norm.cpp does."""
    gamma, beta, mean, var = (array.astype(np.float64) for array in _batch_norm_arrays(call))
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + np.float64(np.float32(call.attributes.number("eps", 1e-3))))
        scale, offset = scale.astype(np.float32), (beta - mean * scale).astype(np.float32)
    check_finite(scale, "gamma / sqrt(variance + eps)")
    check_finite(offset, "beta - mean * gamma / sqrt(variance + eps)")
    return call.builder.map(call.name, call.value(), Affine(scale, offset))


@operator("bmx_Shift")
def shift(call: Call) -> Value:
    """A number added to each channel."""
    return call.builder.affine(call.name, call.value(), bias=call.finite(1, "shift"))


@operator("bmx_Scale")
def scale(call: Call) -> Value:
    """Each channel multiplied by a number."""
    return call.builder.affine(call.name, call.value(), scale=call.finite(1, "scale"))


@operator("bmx_RPReLU")
def rprelu(call: Call) -> Value:
    """A PReLU between two shifts."""
    before, slope, after = (call.finite(number, name) for number, name in enumerate(("shift", "slope", "offset"), 1))
    x = call.builder.affine(f"{call.name}_shift", call.value(), bias=before)
    x = call.builder.map(f"{call.name}_prelu", x, PRelu(slope))
    return call.builder.affine(call.name, x, bias=after)


def _batch_norm_arrays(call: Call) -> List[np.ndarray]:
    axis = call.attributes.integer("axis", 1)
    if call.axis(axis) != 0:
        raise Error(f"axis is {axis}; allowed: 1, the channels")
    names = ("beta", "moving mean", "moving variance")
    if call.attributes.flag("fix_gamma", True):
        gamma = np.ones_like(call.constant(1, "gamma"))
    else:
        gamma = call.finite(1, "gamma")
    return [gamma, *(call.finite(number, name) for number, name in enumerate(names, 2))]


@operator("Pooling", "Pooling_v1")
def pooling(call: Call) -> Value:
    """Maximum, average or sum; windows that reach beyond the padding (convention 'full') are cut there."""
    attributes, x = call.attributes, call.value()
    dims = dims_of(call.shapes[0])
    kind = attributes.word("pool_type", "max", "max", "avg", "sum")
    attributes.word("layout", "None", "None", ("NCW", "NCHW")[dims - 1])
    if attributes.flag("global_pool", False):
        kernel, stride, pad = x.shape[1:], (1, 1), (0, 0)
    else:
        kernel, stride, pad = call.window(("kernel", "stride", "pad"), dims)
    if kind == "sum":
        return sum_pool(call, x, kernel, stride, pad, call.shape)
    inside = not attributes.flag("count_include_pad", True)
    mode = "max" if kind == "max" else "avg" if inside else "avg_padded"
    result = call.builder.pool(call.name, x, mode, (kernel, stride, pad), call.shape)
    starts = ((size - 1) * step - before for size, step, before in zip(call.shape[1:], stride, pad))
    if kind == "max" and any(start >= size for start, size in zip(starts, x.shape[1:])):
        # of no pixels: MXNet's maximum begins with the smallest float
        result = call.builder.map(f"{call.name}_finite", result, Clip(float(np.finfo(np.float32).min), math.inf))
    return result


def sum_pool(
    call: Call, x: Value, kernel: Tuple[int, ...], stride: Tuple[int, ...], pad: Tuple[int, ...], shape: Optional[Shape]
) -> Value:
    """The sum over windows: a depthwise convolution with weights 1."""
    reach = pad_to_reach(x.shape[1:], shape[1:], kernel, stride, pad)
    ones = np.ones((x.shape[0], 1, *kernel), np.float32)
    return call.builder.conv(call.name, x, ones, shape, stride=tuple(stride), pad=reach, groups=x.shape[0])
