"""BMXNet v1's networks as symbols. Their names are those of v1's files, so the files load into them and train on.

    symbol = bmx.models.v1.resnet(18, classes=10, image_size=32)
    arg_params, aux_params = bmx.models.v1.load(symbol, "cifar10-resnet18", 100, (3, 32, 32))
    module = mx.mod.Module(symbol)
    module.fit(batches, arg_params=arg_params, aux_params=aux_params, num_epoch=10)

The layers that quantize their own input have a QActivation before them that only cancels gradients. The networks end in
a SoftmaxOutput, whose label is ``softmax_label``.
"""

from __future__ import annotations

from typing import Collection, Dict, List, Optional, Sequence, Tuple

import mxnet as mx

from ..checkpoints import interchange
from ..checkpoints.loading import load_checkpoint
from ..errors import Error
from ..quantization import levels

__all__ = ["lenet", "load", "resnet"]

_UNITS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
_FEW_PIXELS = 28  # images up to this size have networks of three stages


def lenet(classes: int = 10, bits: int = 1, bits_a: int = 1) -> mx.sym.Symbol:
    """The LeNet of BMXNet v1's published MNIST models, which score 97.40 % (206 kB with packed weights).

    Parameters
    ----------
    classes : int, default 10
    bits, bits_a : int, default 1
        Bits of the weights and of the inputs of the second convolution and the first dense layer, 1..32. The published
        models have 1.

    Returns
    -------
    mxnet.symbol.Symbol
        Of ``data`` (N, 1, 28, 28), the pixels from 0 to 1, and ``softmax_label`` (N,); (N, classes).

    Raises
    ------
    bmx.Error
        If a number is out of its range.

    Examples
    --------
    >>> lenet().list_arguments()[:3]
    ['data', 'convolution0_weight', 'convolution0_bias']
    """
    _check(classes, bits, bits_a)
    quantized = {"act_bit": bits_a, "weight_bit": bits}
    pool = {"pool_type": "max", "kernel": (2, 2), "stride": (2, 2)}
    x = mx.sym.var("data")
    x = mx.sym.Convolution(x, kernel=(5, 5), num_filter=64, name="convolution0")
    x = mx.sym.Activation(x, act_type="tanh", name="activation0")
    x = mx.sym.BatchNorm(mx.sym.Pooling(x, name="pooling0", **pool), name="batchnorm0")
    x = mx.sym.QActivation(x, act_bit=bits_a, backward_only=True, name="qactivation0")
    x = mx.sym.QConvolution(x, kernel=(5, 5), num_filter=64, name="qconvolution0", **quantized)
    x = mx.sym.Pooling(mx.sym.BatchNorm(x, name="batchnorm1"), name="pooling1", **pool)
    x = mx.sym.Flatten(x, name="flatten0")
    x = mx.sym.QActivation(x, act_bit=bits_a, backward_only=True, name="qactivation1")
    x = mx.sym.QFullyConnected(x, num_hidden=1000, name="qfullyconnected0", **quantized)
    x = mx.sym.Activation(mx.sym.BatchNorm(x, name="batchnorm2"), act_type="tanh", name="activation1")
    x = mx.sym.FullyConnected(x, num_hidden=classes, name="fullyconnected0")
    return mx.sym.SoftmaxOutput(x, name="softmax")


def resnet(
    layers: int = 18,
    classes: int = 1000,
    image_size: int = 224,
    bits: int = 1,
    bits_a: int = 1,
    float_stages: Collection[int] = (),
) -> mx.sym.Symbol:
    """The pre-activation ResNet of BMXNet v1, binary but for the first convolution and the last layer.

    ResNet-18 scores 86 % on CIFAR-10 (1.5 MB with packed weights), 42 % on ImageNet (3.6 MB).

    Parameters
    ----------
    layers : int, default 18
        18, 34, 50, 101, 152, 200 or 269; for images of up to 28 pixels 6 n + 2, less than 164. As in v1, units have two
        convolutions 3x3 for every number of layers.
    classes : int, default 1000
    image_size : int, default 224
        Height and width. Up to 32 the first convolution is 3x3, otherwise 7x7/2 before a max pool; up to 28 there are
        three narrow stages in the place of four.
    bits, bits_a : int, default 1
        Bits of weights and activations, 1..32.
    float_stages : collection of int, default none
        Stages, from 1 on, of Convolution and ReLU; one of v1's published models has (1,).

    Returns
    -------
    mxnet.symbol.Symbol
        Of ``data`` (N, channels, image_size, image_size) and ``softmax_label`` (N,); (N, classes).

    Raises
    ------
    bmx.Error
        If a number is out of its range.

    Examples
    --------
    >>> resnet(18).list_arguments()[8]
    'stage1_unit1_conv1_weight'
    """
    _check(classes, bits, bits_a)
    if image_size < 8:
        raise Error(f"image_size is {image_size}; allowed: 8 or more")
    units, filters = _stages(layers, image_size)
    wrong = sorted(set(float_stages) - set(range(1, len(units) + 1)))
    if wrong:
        raise Error(f"float_stages has {wrong[0]!r}; allowed: 1 to {len(units)}")
    x = mx.sym.BatchNorm(mx.sym.var("data"), fix_gamma=True, eps=2e-5, momentum=0.9, name="bn_data")
    if image_size <= 32:
        x = _conv(x, "conv0", filters[0], 3, 1, None)
    else:
        x = _conv(x, "conv0", filters[0], 7, 2, None)
        x = mx.sym.Activation(_batch_norm(x, "bn0"), act_type="relu", name="relu0")
        x = mx.sym.Pooling(x, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", name="pooling0")
    for stage in range(len(units)):
        quantized = None if stage + 1 in float_stages else (bits, bits_a)
        for unit in range(units[stage]):
            stride = 2 if stage > 0 and unit == 0 else 1
            name = f"stage{stage + 1}_unit{unit + 1}"
            x = _unit(x, name, filters[stage + 1], stride, quantized, projection=unit == 0)
    x = mx.sym.Activation(_batch_norm(x, "bn1"), act_type="relu", name="relu1")
    x = mx.sym.Pooling(x, global_pool=True, kernel=(7, 7), pool_type="avg", name="pool1")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x, name="flatten0"), num_hidden=classes, name="fc1")
    return mx.sym.SoftmaxOutput(x, name="softmax")


def load(
    symbol: mx.sym.Symbol, prefix: str, epoch: int, data_shape: Sequence[int]
) -> Tuple[Dict[str, mx.nd.NDArray], Dict[str, mx.nd.NDArray]]:
    """Load a file of BMXNet v1 as parameters that a symbol can be trained on with.

    Packed weights become -1 and +1: their magnitudes are not known. They flip at the first larger update, so begin with
    a small learning rate. Unpacked files continue as they were.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
        With unpacked weights, as `lenet` and `resnet` make them.
    prefix : str
        Path of the files without ``-symbol.json``.
    epoch : int
        0 or more; four digits in the file name.
    data_shape : sequence of int
        Shape of one sample, without the batch, such as (1, 28, 28).

    Returns
    -------
    arg_params, aux_params : dict of str to NDArray
        What ``Module.fit`` and ``Module.set_params`` take.

    Raises
    ------
    bmx.Error
        If a file is missing or damaged, or does not fit the symbol.
    """
    _, arg_params, aux_params = load_checkpoint(prefix, epoch)
    arguments, _, auxiliary = symbol.infer_shape(data=(1, *data_shape))
    wanted = dict(zip(symbol.list_arguments(), arguments))
    for name in ("data", "softmax_label"):
        wanted.pop(name, None)
    args = {name: _fit(prefix, name, arg_params.get(name), shape) for name, shape in wanted.items()}
    names = zip(symbol.list_auxiliary_states(), auxiliary)
    return args, {name: _fit(prefix, name, aux_params.get(name), shape) for name, shape in names}


def _fit(prefix: str, name: str, array: Optional[mx.nd.NDArray], shape: Tuple[int, ...]) -> mx.nd.NDArray:
    """The array in the shape of the symbol, unpacked if it is words."""
    if array is None:
        raise Error(f"{prefix}: has no array {name!r}; it is of another network than the symbol")
    if array.shape == shape:
        return array
    if array.shape == interchange.packed_shape(shape, 32):
        return mx.nd.array(interchange.unpack(array.asnumpy(), shape))
    raise Error(f"{prefix}: {name!r} has the shape {array.shape}; the symbol's is {shape}")


def _check(classes: int, bits: int, bits_a: int) -> None:
    levels(bits)
    levels(bits_a)
    if classes < 1:
        raise Error(f"classes is {classes}; allowed: 1 or more")


def _stages(layers: int, image_size: int) -> Tuple[Tuple[int, ...], List[int]]:
    """Units of each stage, and filters of the first convolution and of each stage."""
    if image_size <= _FEW_PIXELS:
        if layers % 6 != 2 or not 8 <= layers < 164:
            raise Error(f"layers is {layers}; for images of {image_size} pixels allowed: 8, 14, 20, ... 158")
        return (layers // 6,) * 3, [16, 16, 32, 64]
    if layers not in _UNITS:
        raise Error(f"layers is {layers}; allowed: {', '.join(map(str, _UNITS))}")
    return _UNITS[layers], [64, 128, 256, 512, 1024] if layers >= 50 else [64, 64, 128, 256, 512]


def _unit(
    x: mx.sym.Symbol,
    name: str,
    filters: int,
    stride: int,
    quantized: Optional[Tuple[int, int]],
    projection: bool,
) -> mx.sym.Symbol:
    first = _activation(_batch_norm(x, f"{name}_bn1"), f"{name}_relu1", quantized)
    y = _conv(first, f"{name}_conv1", filters, 3, stride, quantized)
    y = _activation(_batch_norm(y, f"{name}_bn2"), f"{name}_relu2", quantized)
    y = _conv(y, f"{name}_conv2", filters, 3, 1, quantized)
    return y + (_conv(first, f"{name}_sc", filters, 1, stride, quantized) if projection else x)


def _batch_norm(x: mx.sym.Symbol, name: str) -> mx.sym.Symbol:
    return mx.sym.BatchNorm(x, fix_gamma=False, eps=2e-5, momentum=0.9, name=name)


def _activation(x: mx.sym.Symbol, name: str, quantized: Optional[Tuple[int, int]]) -> mx.sym.Symbol:
    if quantized is None:
        return mx.sym.Activation(x, act_type="relu", name=name)
    return mx.sym.QActivation(x, act_bit=quantized[1], backward_only=True, name=name)


def _conv(
    x: mx.sym.Symbol, name: str, filters: int, size: int, stride: int, quantized: Optional[Tuple[int, int]]
) -> mx.sym.Symbol:
    window = {"kernel": (size, size), "stride": (stride, stride), "pad": (size // 2, size // 2)}
    if quantized is None:
        return mx.sym.Convolution(x, num_filter=filters, no_bias=True, name=name, **window)
    bits, bits_a = quantized
    return mx.sym.QConvolution(x, num_filter=filters, act_bit=bits_a, weight_bit=bits, name=name, **window)
