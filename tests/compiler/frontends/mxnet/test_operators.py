"""Every operator that the compiler reads gives what MXNet gives, as it is read and after all passes."""

import itertools

import mxnet as mx
import numpy as np
import pytest
from random_networks import compare, network_of, samples_for

import bmx  # noqa: F401  (registers the operators)
from bmx import Error
from bmx.compiler import ir
from bmx.compiler.builder import Builder

x, y = mx.sym.var("data"), mx.sym.var("other")
image = (6, 9, 7)


def conv(data, filters=5, **attributes):
    return mx.sym.Convolution(data, num_filter=filters, **{"kernel": (3, 3), **attributes})


LAYERS = {
    "convolution": (conv(x), image),
    "convolution without bias": (conv(x, no_bias=True), image),
    "convolution with stride, dilation, padding": (conv(x, stride=(2, 1), dilate=(1, 2), pad=(1, 3)), image),
    "convolution in groups": (conv(x, 4, num_group=2), image),
    "depthwise convolution": (conv(x, 6, num_group=6, pad=(1, 1)), image),
    "convolution of one dimension": (mx.sym.Convolution(x, num_filter=5, kernel=(3,), pad=(2,), stride=(2,)), (6, 9)),
    "convolution past the image": (conv(x, stride=(5, 9), pad=(1, 0), kernel=(2, 2)), image),
    "convolution of one pixel": (conv(x, kernel=(1, 1)), (3, 1, 1)),
    "dense": (mx.sym.FullyConnected(x, num_hidden=4), (10,)),
    "dense of an image": (mx.sym.FullyConnected(x, num_hidden=4), image),
    "dense of a flattened image": (mx.sym.FullyConnected(mx.sym.Flatten(x), num_hidden=4, no_bias=True), image),
    "dense of a row": (mx.sym.FullyConnected(x, num_hidden=4), (5, 7)),
    "dense along the last axis": (mx.sym.FullyConnected(x, num_hidden=4, flatten=False), (10,)),
    "1/1-bit convolution": (mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, pad=(1, 1)), image),
    "1/1-bit convolution padded with -1": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, pad=(1, 1), pad_value=-1, no_offset=True),
        image,
    ),
    "1/1-bit convolution with bias and scale": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, no_bias=False, scaling_mode="forward"),
        image,
    ),
    "1/1-bit convolution with all options": (
        mx.sym.QConvolution(x, kernel=(2, 3), num_filter=9, stride=(2, 1), dilate=(1, 2), pad=(2, 0)),
        (70, 9, 7),
    ),
    "1/1-bit convolution in small groups": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=6, num_group=3, pad=(1, 1), pad_value=-1),
        image,
    ),
    "1/1-bit convolution in large groups": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=16, num_group=2, pad=(1, 1)),
        (128, 5, 5),
    ),
    "1/1-bit convolution of one dimension": (mx.sym.QConvolution(x, kernel=(3,), num_filter=8, pad=(1,)), (6, 9)),
    "old name of a 1/1-bit convolution": (mx.sym.QConvolution_v1(x, kernel=(3, 3), num_filter=8), image),
    "1/1-bit convolution with a window on the gradient": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, gradient_cancel_threshold=0.5, estimator="swish_sign"),
        image,
    ),
    "32/1-bit convolution": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, act_bit=32, weight_bit=1, pad=(1, 1)),
        image,
    ),
    "1/32-bit convolution": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, act_bit=1, weight_bit=32, pad=(1, 1), pad_value=-1),
        image,
    ),
    "32/1-bit convolution padded with -1": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, act_bit=32, weight_bit=1, pad=(1, 1), pad_value=-1),
        image,
    ),
    "1/1-bit convolution of floats": (
        mx.sym.QConvolution(x, kernel=(3, 2), num_filter=8, float_input=True, pad=(1, 2), pad_value=-1),
        image,
    ),
    "1/1-bit convolution of floats with all options": (
        mx.sym.QConvolution(
            *(x,),
            kernel=(2, 3),
            num_filter=9,
            num_group=3,
            stride=(2, 1),
            dilate=(1, 2),
            pad=(2, 0),
            no_bias=False,
            float_input=True,
            scaling_mode="forward",
        ),
        (66, 9, 7),
    ),
    "1/1-bit convolution of floats in one dimension": (
        mx.sym.QConvolution(x, kernel=(3,), num_filter=8, pad=(1,), pad_value=-1, float_input=True, no_offset=True),
        (6, 9),
    ),
    "1/1-bit dense of floats": (
        mx.sym.QFullyConnected(x, num_hidden=4, no_bias=False, float_input=True),
        image,
    ),
    "2/2-bit convolution": (
        mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, act_bit=2, weight_bit=2, pad=(1, 1), no_bias=False),
        image,
    ),
    "8/4-bit convolution": (mx.sym.QConvolution(x, kernel=(3, 3), num_filter=8, act_bit=8, weight_bit=4), image),
    "1/1-bit dense": (mx.sym.QFullyConnected(x, num_hidden=4), image),
    "1/1-bit dense with bias, without offset": (
        mx.sym.QFullyConnected(x, num_hidden=4, no_bias=False, no_offset=True),
        (70,),
    ),
    "1/1-bit dense with a window on the gradient": (
        mx.sym.QFullyConnected(x, num_hidden=4, gradient_cancel_threshold=float("inf")),
        (70,),
    ),
    "3/2-bit dense": (mx.sym.QFullyConnected(x, num_hidden=4, act_bit=3, weight_bit=2), (70,)),
    "1-bit activation": (mx.sym.QActivation(x), image),
    "1-bit activation before a 1/1-bit dense": (mx.sym.QFullyConnected(mx.sym.QActivation(x), num_hidden=4), image),
    "4-bit activation": (mx.sym.QActivation(x, act_bit=4), image),
    "32-bit activation": (mx.sym.QActivation(x, act_bit=32), image),
    "activation of gradients": (mx.sym.QActivation(x, backward_only=True) + 0, image),
    "BatchNorm": (mx.sym.BatchNorm(x, fix_gamma=False), image),
    "BatchNorm with fixed gamma": (mx.sym.BatchNorm(x, eps=2e-5), image),
    "BatchNorm of a vector": (mx.sym.BatchNorm(x, fix_gamma=False), (10,)),
    "BatchNorm of a row": (mx.sym.BatchNorm(x, fix_gamma=False), (5, 7)),
    "bmx_BatchNorm": (mx.sym.bmx_BatchNorm(x, fix_gamma=False, eps=1e-5), image),
}


def pool(kind="max", **attributes):
    return mx.sym.Pooling(x, pool_type=kind, **{"kernel": (3, 2), **attributes})


POOLINGS = {
    "maximum": pool(),
    "maximum with stride and padding": pool(stride=(2, 2), pad=(1, 1)),
    "average with padding": pool("avg", stride=(2, 2), pad=(1, 1)),
    "average of the inside": pool("avg", stride=(2, 2), pad=(1, 1), count_include_pad=False),
    "sum": pool("sum", stride=(2, 2), pad=(1, 1)),
    "maximum past the image": pool(stride=(2, 2), pad=(1, 0), pooling_convention="full"),
    "maximum of nothing past the image": pool(stride=(2, 3), pad=(1, 1), pooling_convention="full"),
    "average past the image": pool("avg", stride=(2, 2), pad=(1, 1), pooling_convention="full"),
    "average of the inside past the image": pool(
        "avg", stride=(2, 2), pooling_convention="full", count_include_pad=False
    ),
    "sum past the image": pool("sum", stride=(2, 2), pooling_convention="full"),
    "global maximum": pool(global_pool=True),
    "global average": pool("avg", global_pool=True),
    "global sum": pool("sum", global_pool=True, kernel=()),
}

ELEMENTWISE = {
    **{kind: mx.sym.Activation(x, act_type=kind) for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign")},
    **{f"{kind} unit": mx.sym.LeakyReLU(x, act_type=kind)[0] for kind in ("leaky", "elu", "selu", "gelu", "rrelu")},
    "prelu unit": mx.sym.LeakyReLU(x, mx.sym.var("prelu_gamma", shape=(6,)), act_type="prelu"),
    "prelu unit with one slope": mx.sym.LeakyReLU(x, mx.sym.var("slope_gamma", shape=(1,)), act_type="prelu"),
    "elu unit with slope": mx.sym.LeakyReLU(x, act_type="elu", slope=2.5),
    "clip": mx.sym.clip(x, -0.5, 1.5),
    "hard sigmoid": mx.sym.hard_sigmoid(x),
    "functions": mx.sym.exp(mx.sym.sigmoid(x)) + mx.sym.tanh(x) * mx.sym.square(x) - mx.sym.abs(x),
    "roots": mx.sym.log(mx.sym.sqrt(mx.sym.square(x) + 1)) + mx.sym.rsqrt(mx.sym.square(x) + 2),
    "signs": mx.sym.sign(x) * 3 - mx.sym.contrib.sign_ste(x),
    "rounding": mx.sym.round(x * 3) + mx.sym.contrib.round_ste(x),
    "scalars": 2 - (3 * x + 1) / 7 - 0.5,
    "quotient of a scalar": 2 / (mx.sym.square(x) + 1),
    "powers": (mx.sym.square(x) + 1) ** 0.5 + x**2 + mx.sym.reciprocal(x * x + 1),
    "extremes": mx.sym.maximum(mx.sym.minimum(x, 1.5), -0.5),
    "maximum of two": mx.sym.maximum(conv(x, 6, pad=(1, 1)), x * 2),
    "minimum of two": mx.sym.minimum(x * 2, conv(x, 6, pad=(1, 1))),
    "maximum of a value and itself": mx.sym.maximum(x, x) + mx.sym.minimum(x, x),
    "maximum with one number a channel": mx.sym.broadcast_maximum(mx.sym.mean(x, axis=(2, 3), keepdims=True), x),
    "minimum with one number a pixel": mx.sym.broadcast_minimum(x, mx.sym.slice_axis(x, axis=1, begin=1, end=2)),
    "maximum with a row": mx.sym.broadcast_maximum(x, mx.sym.slice_axis(x, axis=2, begin=0, end=1)),
    "maxout": mx.sym.maximum(*mx.sym.SliceChannel(conv(x, 8), num_outputs=2)),
    "nothing": mx.sym.Dropout(mx.sym.BlockGrad(mx.sym.identity(x))) + 1,
    "cast": mx.sym.Cast(x, dtype="float32") * 2,
    "composed sign": mx.sym.contrib.sign_ste(x) + (mx.sym.contrib.sign_ste(x) == 0),
    "composed sign of the value": mx.sym.sign(x) + (x == 0),
    **{
        f"choice by {name}": mx.sym.where(condition, x * 2, x - 1)
        for name, condition in {
            "<": x < 1,
            "<=": x <= 1,
            ">": x > -1,
            ">=": x >= -1,
            "|x| <=": mx.sym.abs(x) <= 1,
        }.items()
    },
    "choice of numbers": mx.sym.where(x > 0, mx.sym.ones_like(x) * 3, mx.sym.zeros_like(x)),
    "BMXNet v2's leaky_clip": mx.sym.where(x < -1, 0.1 * x, mx.sym.where(x <= 1, x, 0.1 * x)),
    "BMXNet v2's approx_sign": mx.sym.where(
        x <= -1,
        -1 * mx.sym.ones_like(x),
        mx.sym.where(x < 0, 2 * x + x**2, mx.sym.where(x < 1, 2 * x - x**2, mx.sym.ones_like(x))),
    ),
    "window of a gradient": mx.sym.where(mx.sym.abs(x) <= 1, x, mx.sym.BlockGrad(x)) * 2,
    "number a channel": mx.sym.broadcast_add(x, mx.sym.var("shift", shape=(1, 6, 1, 1))),
    "factor a channel": mx.sym.broadcast_mul(mx.sym.var("factor", shape=(1, 6, 1, 1)), x),
    "difference from a number a channel": mx.sym.broadcast_sub(mx.sym.var("shift", shape=(1, 6, 1, 1)), x),
    "quotient by a number a channel": mx.sym.broadcast_div(x, mx.sym.var("divisor_gamma", shape=(1, 6, 1, 1))),
    "quotient of a number": mx.sym.broadcast_div(mx.sym.var("dividend", shape=(1, 1, 1, 1)), x * x + 1),
    "residual sum": conv(x, 6, pad=(1, 1)) + x,
    "difference of values": x - mx.sym.tanh(x),
    "product of values": mx.sym.tanh(x) * mx.sym.sigmoid(x),
    "quotient of values": x / (1 + mx.sym.square(x)),
    "value and itself": (x + x) * 2 + x * x,
    "gate of channels": mx.sym.broadcast_mul(
        x, mx.sym.sigmoid(mx.sym.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"))
    ),
    "gate of pixels": mx.sym.broadcast_mul(mx.sym.mean(x, axis=1, keepdims=True), x),
    "sum of many": mx.sym.add_n(x, mx.sym.tanh(x), x * 2),
    "sum of quantized values": mx.sym.QActivation(x) + mx.sym.QActivation(x, act_bit=2),
}

MOVES = {
    "flatten": mx.sym.Flatten(x),
    "reshape": mx.sym.Reshape(x, shape=(0, -1, 7, 3)),
    "channel shuffle": mx.sym.Reshape(
        mx.sym.SwapAxis(mx.sym.Reshape(x, shape=(0, -4, 2, -1, -2)), dim1=1, dim2=2), shape=(0, -3, -2)
    ),
    "transpose": mx.sym.transpose(x, axes=(0, 2, 3, 1)),
    "expand and squeeze": mx.sym.squeeze(mx.sym.expand_dims(mx.sym.tanh(x), axis=2), axis=2),
    "concat": mx.sym.Concat(x, mx.sym.tanh(x), x, dim=1),
    "concat of rows": mx.sym.Concat(x, mx.sym.tanh(x), dim=2),
    "concat of concats": mx.sym.Concat(x, mx.sym.Concat(mx.sym.tanh(x), x * 2, dim=1), dim=1),
    "slice_axis": mx.sym.slice_axis(x, axis=1, begin=2, end=5),
    "slice_axis of pixels from the end": mx.sym.slice_axis(x, axis=-1, begin=-3, end=None),
    "slice": mx.sym.slice(x, begin=(None, 1, 2), end=(None, 4, -1)),
    "split": mx.sym.Group(list(mx.sym.SliceChannel(x, num_outputs=3, axis=1))),
    "split and squeezed": mx.sym.SliceChannel(x, num_outputs=6, axis=1, squeeze_axis=True)[4],
    "pad": mx.sym.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, 1, 2, 3, 0), constant_value=-1.5),
    "mean of channels": mx.sym.mean(x, axis=1),
    "sum of channels": mx.sym.sum(x, axis=1, keepdims=True),
    "mean of pixels": mx.sym.mean(x, axis=(2, 3)),
    "maximum of pixels": mx.sym.max(x, axis=(0, 1), exclude=True, keepdims=True),
    "sum of pixels": mx.sym.sum(x, axis=(-2, -1)),
    "maximum of channels": mx.sym.max(x, axis=1, keepdims=True) * 2,
    "minimum of channels": mx.sym.min(x, axis=1),
    "mean of rows": mx.sym.mean(x, axis=2),
    "sum of channels and columns": mx.sym.sum(x, axis=(1, 3), keepdims=True) + 1,
    "maximum of rows": mx.sym.max(x, axis=-2, keepdims=True),
    "mean of everything": mx.sym.mean(x, axis=0, exclude=True),
    "sum of everything": mx.sym.sum(x, axis=(1, 2, 3), keepdims=True),
    "maximum of everything": mx.sym.max(x, axis=(1, 2, 3)),
    "sum of four dimensions": mx.sym.sum(mx.sym.Reshape(x, shape=(0, -4, 2, 3, -2)), axis=(1, 4)),
    "sum of a vector": mx.sym.sum(mx.sym.Flatten(x), axis=1, keepdims=True),
    "mean of a vector": mx.sym.mean(mx.sym.Flatten(x), axis=-1),
    "maximum of a vector": mx.sym.max(mx.sym.Flatten(x), axis=1),
    "sum of a row of pixels": mx.sym.sum(mx.sym.Reshape(x, shape=(0, 0, -1)), axis=2),
    "maximum of a row's channels": mx.sym.max(mx.sym.Reshape(x, shape=(0, 0, -1)), axis=1),
    "norm": mx.sym.norm(x, axis=1),
    "sum of absolute values": mx.sym.norm(mx.sym.Flatten(x), ord=1, axis=1, keepdims=True),
    "length 1": mx.sym.L2Normalization(x),
    "length 1 of a vector": mx.sym.L2Normalization(mx.sym.Flatten(x), eps=0.5),
    "length 1 of channels": mx.sym.L2Normalization(x, mode="channel"),
    "length 1 of pixels": mx.sym.L2Normalization(x, mode="spatial"),
    "vector of length 1": mx.sym.broadcast_div(
        mx.sym.Flatten(x), mx.sym.sqrt(mx.sym.sum(mx.sym.square(mx.sym.Flatten(x)), axis=1, keepdims=True))
    ),
    "softmax by hand": mx.sym.broadcast_div(
        mx.sym.exp(mx.sym.Flatten(x)), mx.sym.sum(mx.sym.exp(mx.sym.Flatten(x)), axis=1, keepdims=True)
    ),
    "image without its mean": mx.sym.broadcast_sub(x, mx.sym.mean(x, axis=(1, 2, 3), keepdims=True)),
    "softmax of channels": mx.sym.softmax(x, axis=1),
    "softmax of channels with temperature": mx.sym.softmax(x, axis=1, temperature=3.0),
    "softmax of rows": mx.sym.softmax(x, axis=2),
    "softmax of columns": mx.sym.log_softmax(x, axis=-1),
    "softmax of a row": mx.sym.softmax(mx.sym.Reshape(x, shape=(0, 0, -1)), axis=-1),
    "softmax of classes behind anchors": mx.sym.softmax(
        mx.sym.Reshape(mx.sym.transpose(x, axes=(0, 2, 3, 1)), shape=(0, -1, 3)), axis=-1
    ),
    "softmax of four dimensions": mx.sym.softmax(mx.sym.Reshape(x, shape=(0, -4, 2, 3, -2)), axis=2),
    "softmax of the last axis with a label": mx.sym.SoftmaxOutput(x, preserve_shape=True, name="softmax"),
    "logarithm of softmax": mx.sym.log_softmax(mx.sym.Flatten(x), axis=-1),
    "old softmax": mx.sym.SoftmaxActivation(x, mode="channel"),
    "old softmax of a vector": mx.sym.SoftmaxActivation(mx.sym.Flatten(x)),
    "softmax of pixels": mx.sym.SoftmaxOutput(x, multi_output=True, name="softmax"),
    "softmax with a label": mx.sym.SoftmaxOutput(mx.sym.FullyConnected(x, num_hidden=4), name="softmax"),
    "regression": mx.sym.LogisticRegressionOutput(mx.sym.FullyConnected(x, num_hidden=4), name="out"),
    "linear regression": mx.sym.LinearRegressionOutput(mx.sym.FullyConnected(x, num_hidden=4), name="out"),
}


one = mx.sym.FullyConnected(x, num_hidden=1, name="one")
NUMBERS = {  # of one number a sample
    "reshaped": mx.sym.Reshape(one, shape=(-1,)),
    "squeezed": mx.sym.squeeze(one),
    "squeezed axis": mx.sym.squeeze(mx.sym.Pooling(conv(x, 1), global_pool=True, kernel=(1, 1)), axis=(1, 2, 3)),
    "sliced": mx.sym.Reshape(mx.sym.slice_axis(mx.sym.Flatten(x), axis=1, begin=3, end=4), shape=(-1,)),
    "split": mx.sym.SliceChannel(mx.sym.FullyConnected(x, num_hidden=3), num_outputs=3, squeeze_axis=True)[1],
    "sum": mx.sym.sum(mx.sym.FullyConnected(x, num_hidden=5), axis=1),
    "regression": mx.sym.LinearRegressionOutput(mx.sym.Reshape(one, shape=(-1,)), name="out"),
    "classification": mx.sym.LogisticRegressionOutput(mx.sym.squeeze(one), name="out"),
    "further": mx.sym.sigmoid(mx.sym.Reshape(one, shape=(-1,)) * 2 + 1),
    "two and their sum": mx.sym.Group(
        [mx.sym.squeeze(one), mx.sym.squeeze(one) + mx.sym.max(mx.sym.Flatten(x), axis=1)]
    ),
    "back to a vector": mx.sym.broadcast_mul(mx.sym.Flatten(x), mx.sym.expand_dims(mx.sym.squeeze(one), axis=1)),
    "constant": mx.sym.broadcast_add(mx.sym.squeeze(one), mx.sym.var("shift", shape=(1,))),
}

zeros = mx.sym.zeros
CONSTANTS = {  # that are made of nothing, or of shapes
    "ones": mx.sym.broadcast_mul(x, mx.sym.ones((1, 6, 1, 1))),
    "full": mx.sym.broadcast_add(x, mx.sym.full((1, 1, 1, 1), 0.5)),
    "numbers in order": mx.sym.broadcast_mul(x, mx.sym.reshape(mx.sym.arange(start=1, stop=7), shape=(1, 6, 1, 1))),
    "one number a pixel": mx.sym.broadcast_add(x, mx.sym.reshape(mx.sym.arange(63), shape=(1, 1, 9, 7))),
    "one number each": mx.sym.broadcast_sub(mx.sym.reshape(mx.sym.arange(378), shape=(1, 6, 9, 7)), x),
    "factor of each": mx.sym.broadcast_mul(mx.sym.tanh(x), mx.sym.var("factors", shape=(1, 6, 9, 7))) * 2,
    "divisor of pixels": mx.sym.broadcast_div(x, mx.sym.reshape(mx.sym.arange(1, 64), shape=(1, 1, 9, 7))),
    "rows": mx.sym.broadcast_add(
        mx.sym.Reshape(x, shape=(0, 0, -1)), mx.sym.reshape(mx.sym.arange(63), shape=(1, 1, 63))
    ),
    "maximum with zeros": mx.sym.broadcast_maximum(x, zeros((1,))),
    "zeros like": mx.sym.broadcast_maximum(x, mx.sym.zeros_like(x)),
    "maximum with numbers of the channels": mx.sym.broadcast_maximum(x, mx.sym.var("floor", shape=(1, 6, 1, 1))),
    "minimum with numbers of the pixels": mx.sym.broadcast_minimum(mx.sym.var("ceiling", shape=(1, 1, 9, 7)), x),
    "ones like": x + mx.sym.ones_like(x) * 3,
    "zeros beside": mx.sym.Concat(x, mx.sym.zeros_like(mx.sym.Pooling(x, kernel=(1, 1))), dim=1),
    "numbers beside": mx.sym.Concat(
        x,
        mx.sym.broadcast_like(
            mx.sym.reshape(mx.sym.arange(63), shape=(1, 1, 9, 7)), mx.sym.slice_axis(x, axis=1, begin=0, end=2)
        ),
        dim=1,
    ),
    "part of a constant": mx.sym.broadcast_mul(
        x, mx.sym.slice_like(mx.sym.reshape(mx.sym.arange(400), shape=(1, 1, 20, 20)), x * 0, axes=(2, 3))
    ),
    "positions": mx.sym.broadcast_add(x, mx.sym.contrib.arange_like(x, axis=3)),
    "part of a value": mx.sym.slice_like(x, zeros((1, 1, 4, 3)), axes=(2, 3)),
    "shape of another": mx.sym.reshape_like(mx.sym.Flatten(x), x) * 2,
    "state of open size": mx.sym.Flatten(x) + mx.sym.tanh(zeros((0, 378)) + 1),
    "fixed filter": mx.sym.Convolution(
        x, weight=mx.sym.full((6, 1, 3, 3), 1 / 9), num_filter=6, num_group=6, kernel=(3, 3), no_bias=True
    ),
    "filter of a parameter and ones": mx.sym.Convolution(
        x,
        weight=mx.sym.var("weight", shape=(4, 6, 3, 3)) * mx.sym.ones((4, 6, 3, 3)),
        num_filter=4,
        kernel=(3, 3),
        no_bias=True,
    ),
    "binary filter of ones": mx.sym.QConvolution(x, mx.sym.ones((8, 6, 3, 3)), num_filter=8, kernel=(3, 3)),
}


def shapes_within(shape):
    """Every shape that broadcasts to one."""
    return itertools.product(*((1, size) for size in shape))


@pytest.mark.parametrize("shape", [(65,), (3, 7), (6, 4, 5)])
def test_a_constant_may_have_every_shape_that_broadcasts(shape):
    for sizes in shapes_within(shape):
        constant = mx.sym.var("constant_gamma", shape=(1, *sizes))
        for a, b in ((x, constant), (constant, x * x + 1)):
            parts = [f(a, b) for f in (mx.sym.broadcast_add, mx.sym.broadcast_sub, mx.sym.broadcast_mul)]
            compare(network_of(mx.sym.Group([*parts, mx.sym.broadcast_div(a, b)]), data=shape))


@pytest.mark.parametrize("name", ["one number a pixel", "one number each", "ones like", "numbers beside"])
def test_constants_before_binary_layers_become_thresholds_of_the_right_channels(name):
    y = CONSTANTS[name] * 0.1 - 1
    pooled = mx.sym.Pooling(mx.sym.BatchNorm(y, fix_gamma=False), kernel=(2, 2), pool_type="max")
    dense = mx.sym.QFullyConnected(y, num_hidden=3)
    compare(network_of(mx.sym.Group([mx.sym.QConvolution(pooled, num_filter=8, kernel=(3, 3)), dense]), data=image))


@pytest.mark.parametrize("shape", [(65,), (3, 5), (65, 2, 3), (2, 2, 3, 2)])
def test_sums_means_and_extremes_over_every_choice_of_axes(shape):
    y = x if len(shape) < 4 else mx.sym.Reshape(x, shape=(0, -4, *shape[:2], -2))
    outputs = []
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(1, len(shape) + 1), count):
            kinds = (mx.sym.sum, mx.sym.mean, mx.sym.max, mx.sym.min)
            outputs += [f(y, axis=axes, keepdims=keep) for f in kinds for keep in (False, True)]
    compare(network_of(mx.sym.Group(outputs), data=shape if len(shape) < 4 else (4, *shape[2:])))


@pytest.mark.parametrize("name", NUMBERS)
def test_outputs_of_one_number_a_sample_have_no_other_axis(name):
    network = network_of(NUMBERS[name], data=image)
    compare(network)
    for batch in (1, 3):
        assert [array.shape[:1] for array in network.run(samples_for(network, batch)).values()][0] == (batch,)


@pytest.mark.parametrize("name", CONSTANTS)
def test_constants_made_of_nothing_are_folded(name):
    compare(network_of(CONSTANTS[name], data=image))


OUTPUTS = {
    "zeros": mx.sym.zeros_like(conv(x)),
    "of another shape": mx.sym.ones_like(mx.sym.sum(x, axis=(2, 3))) * 2 + 3,
    "a number": mx.sym.ones_like(mx.sym.sum(x, axis=(1, 2, 3))) * -2,
    "of a parameter": mx.sym.broadcast_like(
        mx.sym.reshape(mx.sym.var("p", shape=(6,)) * 2, shape=(1, 6)), mx.sym.sum(x, axis=(2, 3))
    ),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_an_output_that_is_the_same_for_every_sample(name):
    compare(network_of(mx.sym.Group([conv(x), OUTPUTS[name]]), data=image))
    compare(network_of(OUTPUTS[name], data=image))


@pytest.mark.parametrize(
    "output, shape",
    [
        (mx.sym.zeros((1, 3)), r"\(1, 3\)"),
        (mx.sym.arange(5), r"\(5,\)"),
        (mx.sym.var("p", shape=(2,)), r"\(2,\)"),
        (mx.sym.var("p", shape=(2, 3)) * 2, r"\(2, 3\)"),
        (mx.sym.contrib.arange_like(x, axis=1), r"\(6,\)"),
    ],
)
def test_an_output_without_a_value_for_each_sample_is_named(output, shape):
    with pytest.raises(Error, match=f"the output '.*' is a constant of the shape {shape}, without a value for each"):
        network_of(mx.sym.Group([conv(x), output]), data=image).read()


def test_a_recurrent_network_begins_with_zeros_of_any_batch():
    cell = mx.rnn.LSTMCell(num_hidden=5, prefix="lstm_")
    outputs, _ = cell.unroll(3, mx.sym.var("data"), layout="NTC", merge_outputs=False)
    compare(network_of(outputs[-1], data=(3, 4)))


@pytest.mark.parametrize("make", [mx.sym.shape_array, mx.sym.size_array])
def test_what_depends_on_the_number_of_samples_is_no_constant(make):
    with pytest.raises(Error, match="depends on the number of samples"):
        network_of(
            mx.sym.broadcast_mul(x, mx.sym.reshape(mx.sym.cast(make(x), "float32"), shape=(1, -1, 1, 1))),
            data=(4, 5, 5),
        ).read()


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    symbol, shape = LAYERS[name]
    compare(network_of(symbol, data=shape))


@pytest.mark.parametrize("table, name", [(t, n) for t in (POOLINGS, ELEMENTWISE, MOVES) for n in t])
def test_operator(table, name):
    network = network_of(table[name], data=image)
    data = samples_for(network)
    data["data"].ravel()[::5] = np.round(data["data"].ravel()[::5])  # zeros and other round numbers
    compare(network, data)


@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pooling_of_a_row(kind):
    compare(network_of(mx.sym.Pooling(x, pool_type=kind, kernel=(3,), stride=(2,), pad=(1,)), data=(4, 9)))


def test_a_choice_is_not_spoilt_by_infinities_that_are_not_chosen():
    network = network_of(mx.sym.where(mx.sym.abs(x) < 2, x, mx.sym.exp(x * 1000)), data=(1, 2, 2))
    compare(network, {"data": np.float32([[[[-1, 0.5], [1, 1.5]]]])})


def test_several_inputs_and_outputs():
    total = mx.sym.Concat(conv(x, 4), conv(y, 4, kernel=(1, 1)), dim=1, name="both")
    network = network_of(mx.sym.Group([total, mx.sym.Flatten(total) * 2, x]), data=(3, 6, 6), other=(2, 4, 4))
    assert network.outputs == ["both_output", "_mulscalar0_output", "data"] or len(network.outputs) == 3
    graph = compare(network)
    assert [node.name for node in graph.inputs()] == ["data", "other"]
    assert [node.shape for node in graph.inputs()] == [(3, 6, 6), (2, 4, 4)]


def test_outputs_of_one_name_get_numbers():
    network = network_of(mx.sym.Group([x * 2, x * 2][:1] * 2), data=(3,))
    assert len(set(network.outputs)) == 2
    compare(network)


def test_constants_are_computed_by_mxnet():
    weight = mx.sym.var("weight", shape=(8, 6, 3, 3))
    scaled = mx.sym.broadcast_div(mx.sym.tanh(weight), mx.sym.max(mx.sym.abs(mx.sym.tanh(weight))))
    network = network_of(mx.sym.Convolution(x, scaled, kernel=(3, 3), num_filter=8, no_bias=True), data=image)
    graph = compare(network)
    (layer,) = (node for node in graph.nodes if isinstance(node, ir.Conv))
    assert np.abs(layer.weight).max() == 1


def test_what_nothing_needs_is_not_computed():
    network = network_of(mx.sym.Group([conv(x), mx.sym.tanh(x)])[0], data=image)
    assert [type(node) for node in compare(network).nodes] == [ir.Input, ir.Conv]


# Errors


@pytest.mark.parametrize(
    "symbol, message",
    [
        (
            mx.sym.UpSampling(x, scale=2, sample_type="nearest", name="up"),
            r"node 'up' \(UpSampling\): .* not supported",
        ),
        (mx.sym.Deconvolution(x, kernel=(2, 2), num_filter=2, name="de"), r"node 'de' \(Deconvolution\)"),
        (mx.sym.BatchNorm(x, axis=2, name="bn"), r"node 'bn' \(BatchNorm\): axis is 2"),
        (mx.sym.Pooling(x, kernel=(2, 2), pool_type="lp", p_value=2, name="lp"), "'lp'.*pool_type"),
        (mx.sym.softmax(x, axis=0, name="s"), "'s'.*axis 0 is not supported"),
        (mx.sym.SoftmaxActivation(x, mode="instance", name="s"), "'s'.*over channels and pixels is not supported"),
        (mx.sym.where(mx.sym.relu(x), x, x * 2, name="w"), "'w'.*a choice by anything but a comparison"),
        (mx.sym.where(x == 0, x, x * 2, name="w"), "'w'.*a choice by _equal_scalar"),
        (mx.sym.mean(x, name="m"), "'m'.*batch"),
        (mx.sym.transpose(x, name="t"), "'t'.*(mix|move)"),
        (mx.sym.Reshape(x, shape=(-1, 7), name="r"), "'r'.*mixes the samples"),
        (mx.sym.slice(x, begin=(1,), end=(2,), name="s"), "'s'"),
        (mx.sym.slice(x, begin=(None, 0), end=(None, 4), step=(None, 2), name="s"), "'s'.*step"),
        (mx.sym.Pad(x, mode="edge", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), name="p"), "'p'.*mode"),
        (mx.sym.Pad(x, mode="constant", pad_width=(0, 0, 0, 0, -1, 1, 1, 1), name="p"), "'p'.*only the pixels"),
        (mx.sym.Pad(mx.sym.tanh(x), mode="reflect", pad_width=(0, 0, 0, 0, 1, 1, 1, 1), name="p"), "'p'.*mode"),
        (mx.sym.broadcast_power(x, x, name="p"), r"'p' \(broadcast_power\)"),
        (mx.sym.relu(x) ** 3, "power 3.0"),
        (mx.sym.Dropout(x, mode="always", name="d"), "'d'.*mode"),
        (mx.sym.Cast(x, dtype="float16", name="c"), "'c'.*dtype"),
        (mx.sym.BatchNorm(x, output_mean_var=True, name="bn")[1], "'bn'"),
        (mx.sym.broadcast_add(x, mx.sym.random.uniform(shape=(1, 6, 9, 7), name="u")), "'u'.*random"),
        (mx.sym.broadcast_add(x > 0, x, name="a"), "'a'.*_greater_scalar"),
        (mx.sym.Group([x * 2, mx.sym.zeros((2, 3), name="z")]), "'z_output' is a constant of the shape"),
        (mx.sym.Group([x * 2, x > 0]), "the output '_greater_scalar.*_output' is a comparison, .* only as a condition"),
        (conv(x, layout="NHWC", name="c"), "layout|fit"),
    ],
)
def test_what_is_not_supported_is_an_error_that_names_the_node(symbol, message):
    with pytest.raises(Error, match=message):
        network_of(symbol, data=image).read()


@pytest.mark.parametrize("count", [5, 7])
def test_a_reshape_to_another_number_of_values_is_an_error(count):
    builder = Builder("sketch")
    with pytest.raises(Error, match=r"\(6,\) cannot become \(.*,\) without mixing the samples"):
        builder.reshape("r", builder.input("data", (6,)), (count,))


def test_a_weight_that_depends_on_the_input_is_an_error():
    symbol = mx.sym.FullyConnected(x, mx.sym.Reshape(y, shape=(-3, -2)), num_hidden=8, no_bias=True, name="fc")
    with pytest.raises(Error, match="fc|fit"):
        network_of(symbol, data=(6,), other=(4, 6)).read()


@pytest.mark.parametrize(
    "shapes, message",
    [
        ({"data": (3, 8, 8)}, r"the network needs \(5, 3, 3, 3\)"),
        ({"data": (6, 9, 7), "more": (3,)}, "'more' is no input; the inputs are 'data'"),
        ({"data": (0, 9, 7)}, "positive sizes"),
        ({}, "neither a stored value nor a shape"),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(shapes, message):
    from random_networks import arrays_for

    from bmx.compiler.frontends.mxnet import MXNetFrontEnd

    symbol = conv(x)
    with pytest.raises(Error, match=message):
        MXNetFrontEnd(symbol, *arrays_for(symbol, {"data": image}), shapes)


def test_missing_and_wrong_parameters_are_errors():
    from random_networks import arrays_for

    from bmx.compiler.frontends.mxnet import MXNetFrontEnd

    symbol = mx.sym.BatchNorm(conv(x, name="c"), name="bn")
    args, aux = arrays_for(symbol, {"data": image})
    with pytest.raises(Error, match="network: the array 'c_weight' is missing"):
        MXNetFrontEnd(symbol, {k: v for k, v in args.items() if k != "c_weight"}, aux, image)
    with pytest.raises(Error, match="bn_moving_mean"):
        MXNetFrontEnd(symbol, args, {**aux, "bn_moving_mean": np.zeros(3, np.float32)}, image)
    with pytest.raises(Error, match=r"'c_weight' has the shape \(5, 6, 1, 1\); the network needs \(5, 6, 3, 3\)"):
        MXNetFrontEnd(symbol, {**args, "c_weight": np.zeros((5, 6, 1, 1), np.float32)}, aux, image)
