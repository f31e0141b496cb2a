"""The definition of bmx's operators in NumPy: slow, obvious, and independent of MXNet and of libbmx.

Every function takes and returns NumPy arrays and has the attributes of the operator it defines. Quantization is done in
float32 steps, as the operators do it, because a rounding tie decides a whole step; sums are done in float64, so that
1-bit results are exact integers and everything else is right to float rounding.

    out = qconvolution(data, weight, kernel=(3, 3), num_filter=8)
    ddata, dweight, dbias = qconvolution_backward(grad, data, weight, kernel=(3, 3), num_filter=8)

Packed weights for ``binarized_weights_only`` come from :func:`pack_convolution` and :func:`pack_fully_connected`.
"""

from __future__ import annotations

import itertools

import numpy as np

# Quantizers


def sign(x):
    """-1 where x < 0, else +1: 0, -0 and NaN are +1."""
    return np.where(x < 0, np.float32(-1), np.float32(1))


def quantize(unit, bits):
    """round(x·n)/n, n = 2**bits - 1, halves away from zero, for x in [0, 1] or NaN; every step in float32."""
    steps = np.float32(2**bits - 1)
    scaled = (np.asarray(unit, np.float32) * steps).astype(np.float64)
    # In float64 adding a half is exact here: scaled is a float32 below 2**32.
    return np.floor(scaled + 0.5).astype(np.float32) / steps


def quantize_activation(x, bits):
    x = np.asarray(x, np.float32)
    if bits == 1:
        return sign(x)
    clipped = np.where(x < 0, np.float32(0), np.where(x > 1, np.float32(1), x))
    return clipped if bits == 32 else quantize(clipped, bits)


def quantize_weight(w, bits):
    w = np.asarray(w, np.float32)
    if bits == 1:
        return sign(w)
    if bits == 32:
        return w
    squashed = np.tanh(w.astype(np.float64)).astype(np.float32)
    largest = np.max(np.abs(squashed))
    ratio = squashed / (2 * largest) if largest != 0 else np.zeros_like(squashed)
    return 2 * quantize(ratio + np.float32(0.5), bits) - 1


def ternary_weight(w):
    """TWN: ±a where abs(w) > d = 0.7·mean(abs(w)), else 0; a = mean(abs(w)) where abs(w) > d."""
    magnitude = np.abs(np.asarray(w, np.float64))
    large = magnitude > 0.7 * magnitude.mean()
    return np.sign(w) * large * (magnitude[large].mean() if large.any() else 0)


def sign_swish(x, beta=5.0):
    """BNN+: 2·sigmoid(z)·(1 + z·(1 - sigmoid(z))) - 1, z = beta·x."""
    z = beta * np.asarray(x, np.float64)
    sigmoid = 1 / (1 + np.exp(-z))
    return 2 * sigmoid * (1 + z * (1 - sigmoid)) - 1


def sign_swish_derivative(x, beta=5.0, h=1e-5):
    x = np.asarray(x, np.float64)
    return (sign_swish(x + h, beta) - sign_swish(x - h, beta)) / (2 * h)


# QActivation


def qactivation(data, act_bit=1, backward_only=False, gradient_cancel_threshold=0.5, estimator="ste"):
    return np.asarray(data, np.float32) if backward_only else quantize_activation(data, act_bit)


def qactivation_backward(grad, data, act_bit=1, backward_only=False, gradient_cancel_threshold=0.5, estimator="ste"):
    if act_bit > 1:
        return np.asarray(grad, np.float32)
    inside = np.abs(data) <= np.float32(gradient_cancel_threshold)  # False for NaN
    with np.errstate(invalid="ignore", over="ignore"):
        factor = {
            "ste": lambda: np.ones_like(data),
            "approx_sign": lambda: 2 - 2 * np.abs(data),
            "swish_sign": lambda: sign_swish_derivative(data),
        }[estimator]()
        return np.where(inside, grad * factor, 0).astype(np.float32)


# Convolution of float arrays: data (N, C, *spatial), weight (O, C / groups, *kernel)


def pad_spatial(data, pad, value):
    return np.pad(data, [(0, 0), (0, 0)] + [(p, p) for p in pad], constant_values=value)


def _windows(padded_shape, kernel, stride, dilate):
    """Yield each output position with the slices of the padded data that its window covers."""
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilate)]
    size = [(n - e) // s + 1 for n, e, s in zip(padded_shape[2:], extent, stride)]
    for position in itertools.product(*map(range, size)):
        window = tuple(slice(i * s, i * s + e, d) for i, s, e, d in zip(position, stride, extent, dilate))
        yield position, window


def convolve(padded, weight, stride, dilate, num_group=1):
    """The plain convolution of already padded data."""
    padded, weight = padded.astype(np.float64), weight.astype(np.float64)
    batch, channels, kernel = padded.shape[0], weight.shape[1], weight.shape[2:]
    filters = weight.shape[0] // num_group
    windows = list(_windows(padded.shape, kernel, stride, dilate))
    size = tuple(i + 1 for i in windows[-1][0])
    out = np.zeros((batch, weight.shape[0]) + size)
    for group in range(num_group):
        x = padded[:, group * channels : (group + 1) * channels]
        own = slice(group * filters, (group + 1) * filters)
        w = weight[own].reshape(filters, -1)
        for position, window in windows:
            patch = x[(slice(None), slice(None)) + window].reshape(batch, w.shape[1])
            out[(slice(None), own) + position] = (patch[:, None, :] * w).sum(axis=2)
    return out


def convolve_backward(grad, padded, weight_for_data, stride, dilate, num_group=1):
    """The gradients of :func:`convolve`, (d padded, d weight); d padded is computed with ``weight_for_data``."""
    grad, padded, weight = (a.astype(np.float64) for a in (grad, padded, weight_for_data))
    batch, channels, kernel = padded.shape[0], weight.shape[1], weight.shape[2:]
    filters = weight.shape[0] // num_group
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for group in range(num_group):
        inputs = slice(group * channels, (group + 1) * channels)
        own = slice(group * filters, (group + 1) * filters)
        for position, window in _windows(padded.shape, kernel, stride, dilate):
            at = (slice(None), inputs) + window
            g = grad[(slice(None), own) + position]
            patch = padded[at].reshape(batch, -1)
            dweight[own] += (g[:, :, None] * patch[:, None, :]).sum(axis=0).reshape(dweight[own].shape)
            dpatch = (g[:, :, None] * weight[own].reshape(1, filters, -1)).sum(axis=1)
            dpadded[at] += dpatch.reshape(padded[at].shape)
    return dpadded, dweight


def crop_spatial(padded, pad):
    return padded[(slice(None), slice(None)) + tuple(slice(p, n - p) for p, n in zip(pad, padded.shape[2:]))]


# QConvolution


def qconvolution(data, weight, bias=None, **attributes):
    """Forward: (N, C, *spatial) and (O, C / num_group, *kernel) to (N, O, *out) in float64."""
    a = _convolution_attributes(**attributes)
    if a["binarized_weights_only"]:
        weight = unpack_convolution(weight, (a["num_filter"], data.shape[1] // a["num_group"]) + a["kernel"])
        a.update(act_bit=1, weight_bit=1, scaling_mode="none")
    binary = a["act_bit"] == a["weight_bit"] == 1
    out = convolve(_quantized_padded(data, a), quantize_weight(weight, a["weight_bit"]), *_geometry(a))
    if binary and not a["no_offset"]:
        out = (np.prod(weight.shape[1:]) + out) / 2
    if bias is not None:
        out = out + np.asarray(bias, np.float64).reshape((1, -1) + (1,) * len(a["kernel"]))
    if binary and a["scaling_mode"] == "forward":
        out = out * np.mean(np.abs(weight), dtype=np.float64)
    return out


def qconvolution_backward(grad, data, weight, bias=None, **attributes):
    """Backward: (d data, d weight, d bias), d weight None for packed weights, d bias None without a bias."""
    a = _convolution_attributes(**attributes)
    packed = a["binarized_weights_only"]
    if packed:
        weight = unpack_convolution(weight, (a["num_filter"], data.shape[1] // a["num_group"]) + a["kernel"])
        a.update(act_bit=1, weight_bit=1, scaling_mode="none", gradient_update_mode="bf")
    binary = a["act_bit"] == a["weight_bit"] == 1
    half = 0.5 if binary and a["true_gradient"] and not a["no_offset"] else 1.0
    weight_for_data = np.asarray(quantize_weight(weight, a["weight_bit"]), np.float64)
    if a["gradient_update_mode"] == "ff":
        weight_for_data = np.asarray(weight, np.float64)
    elif binary and a["scaling_mode"] != "none":
        weight_for_data = weight_for_data * np.mean(np.abs(weight), dtype=np.float64)
    dpadded, dweight = convolve_backward(grad * half, _quantized_padded(data, a), weight_for_data, *_geometry(a))
    dbias = None if bias is None else grad.astype(np.float64).sum(axis=(0,) + tuple(range(2, grad.ndim)))
    ddata = crop_spatial(dpadded, a["pad"])
    if a["gradient_cancel_threshold"] is not None:
        window = {key: a[key] for key in ("gradient_cancel_threshold", "estimator")}
        ddata = qactivation_backward(ddata, data, **window)
    return ddata, None if packed else dweight, dbias


def _convolution_attributes(
    kernel,
    num_filter,
    stride=None,
    dilate=None,
    pad=None,
    num_group=1,
    act_bit=1,
    weight_bit=1,
    binarized_weights_only=False,
    scaling_mode="none",
    gradient_update_mode="bb",
    pad_value=0.0,
    no_offset=False,
    true_gradient=False,
    float_input=False,
    gradient_cancel_threshold=None,
    estimator="ste",
    **ignored,  # workspace, no_bias, cudnn_tune, cudnn_off, layout, scaling_factor: they do not change the result
):
    dims = len(kernel)
    return {
        "kernel": tuple(kernel),
        "num_filter": num_filter,
        "stride": tuple(stride or (1,) * dims),
        "dilate": tuple(dilate or (1,) * dims),
        "pad": tuple(pad or (0,) * dims),
        "num_group": num_group,
        "act_bit": act_bit,
        "weight_bit": weight_bit,
        "binarized_weights_only": binarized_weights_only,
        "scaling_mode": scaling_mode,
        "gradient_update_mode": gradient_update_mode,
        "pad_value": pad_value,
        "no_offset": no_offset,
        "true_gradient": true_gradient,
        "float_input": float_input,
        "gradient_cancel_threshold": gradient_cancel_threshold,
        "estimator": estimator,
    }


def _geometry(a):
    return a["stride"], a["dilate"], a["num_group"]


def _quantized_padded(data, a):
    data = np.asarray(data, np.float32)
    if a["float_input"]:  # the layer is padded with a sign all the same
        return pad_spatial(data, a["pad"], sign(a["pad_value"]))
    padded = pad_spatial(data, a["pad"], a["pad_value"])
    return padded if a["act_bit"] == 32 else quantize_activation(padded, a["act_bit"])


# QFullyConnected: a 1x1 convolution of one pixel


def qfully_connected(data, weight, bias=None, num_hidden=None, flatten=True, **attributes):
    """Forward: (N, ...) and (H, D) to (N, H), or (..., D) to (..., H) where ``flatten`` is False, in float64."""
    rows, shape = _rows(data, num_hidden, flatten)
    weight, attributes = _as_convolution(weight, rows.shape[1], num_hidden, attributes)
    return qconvolution(rows[:, :, None], weight, bias, **attributes).reshape(shape)


def qfully_connected_backward(grad, data, weight, bias=None, num_hidden=None, flatten=True, **attributes):
    """Backward: (d data, d weight, d bias), as :func:`qconvolution_backward`."""
    rows, _ = _rows(data, num_hidden, flatten)
    packed = attributes.get("binarized_weights_only", False)
    weight, attributes = _as_convolution(weight, rows.shape[1], num_hidden, attributes)
    grad = grad.reshape(rows.shape[0], num_hidden, 1)
    ddata, dweight, dbias = qconvolution_backward(grad, rows[:, :, None], weight, bias, **attributes)
    return ddata.reshape(data.shape), None if packed else dweight[:, :, 0], dbias


def _rows(data, num_hidden, flatten):
    if flatten:
        return data.reshape(data.shape[0], int(np.prod(data.shape[1:]))), (data.shape[0], num_hidden)
    lead = data.shape[:-1]
    return data.reshape(int(np.prod(lead)), data.shape[-1]), lead + (num_hidden,)


def _as_convolution(weight, width, num_hidden, attributes):
    attributes = dict(attributes, kernel=(1,), num_filter=num_hidden)
    if attributes.pop("binarized_weights_only", False):
        weight = unpack_fully_connected(weight, (num_hidden, width))
        attributes.update(act_bit=1, weight_bit=1, gradient_update_mode="bf")
    return np.asarray(weight)[:, :, None], attributes


# Packed weights: bit 1 is "not x < 0", least significant bit first; words travel as float32 or float64 bit patterns

_WORD = {32: (np.uint32, np.float32), 64: (np.uint64, np.float64)}


def _pack_rows(rows, word_bits):
    """Pack each row from a new word on; the last word's unused bits are 0."""
    word, carrier = _WORD[word_bits]
    packed = np.zeros((rows.shape[0], -(-rows.shape[1] // word_bits)), word)
    for bit in range(rows.shape[1]):
        ones = (~(rows[:, bit] < 0)).astype(word)
        packed[:, bit // word_bits] |= ones << word(bit % word_bits)
    return packed.view(carrier)


def _unpack_rows(packed, width):
    word_bits = packed.dtype.itemsize * 8
    word = _WORD[word_bits][0]
    words = np.ascontiguousarray(packed).view(word)
    bits = [(words[:, bit // word_bits] >> word(bit % word_bits)) & word(1) for bit in range(width)]
    return np.where(np.stack(bits, axis=1) == 1, np.float32(1), np.float32(-1))


def pack_convolution(weight, word_bits=32):
    """Pack (O, C / num_group, *kernel) into (O, C / num_group / W, *kernel), or (O, words) where W does not divide C.

    A filter is its row-major sequence of bits. Where W divides the channels no filter ends inside a word, so the flat
    sequence of all filters and one that starts a new word for each filter are the same.
    """
    packed = _pack_rows(weight.reshape(weight.shape[0], -1), word_bits)
    if weight.shape[1] % word_bits == 0:
        packed = packed.reshape((weight.shape[0], weight.shape[1] // word_bits) + weight.shape[2:])
    return packed


def unpack_convolution(packed, shape):
    """The ±1 weight of ``shape`` from packed words of any declared shape."""
    return _unpack_rows(packed.reshape(shape[0], -1), int(np.prod(shape[1:]))).reshape(shape)


def pack_fully_connected(weight, word_bits=32):
    """Pack (H, D): memory order (words, H), declared shape (H, words)."""
    packed = _pack_rows(weight, word_bits)
    return np.ascontiguousarray(packed.T).reshape(packed.shape)


def unpack_fully_connected(packed, shape):
    """The ±1 weight of ``shape`` (H, D) from packed words of any declared shape."""
    return _unpack_rows(np.ascontiguousarray(packed.reshape(-1, shape[0]).T), shape[1])
