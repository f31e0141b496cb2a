"""NaN and infinities: in the input as in MXNet, but for what docs/deploy.md lists; in a layer's numbers one line."""

import mxnet as mx
import numpy as np
import pytest

import bmx
import bmx.runtime
from bmx import program
from bmx.compiler import compile_symbol

S, D = mx.sym, mx.sym.Variable("data")
SHAPE = (4, 6, 6)
MAX = {"kernel": (2, 2), "pool_type": "max"}

OPERATORS = {
    **{name: S.Activation(D, act_type=name) for name in ("relu", "sigmoid", "tanh", "softrelu", "softsign")},
    **{f"LeakyReLU {name}": S.LeakyReLU(D, act_type=name) for name in ("leaky", "elu", "selu", "gelu")},
    **{name: getattr(S, name)(D) for name in ("sign", "round", "abs", "sqrt", "square", "exp", "log", "reciprocal")},
    **{"mx.sym.relu": S.relu(D), "hard_sigmoid": S.hard_sigmoid(D), "softmax": S.softmax(D, axis=1)},
    **{
        "clip": S.clip(D, -1, 1),
        "maximum": S.maximum(D, 0),
        "minimum": S.minimum(D, 0),
        "times 0": D * 0,
        "plus": D + 1,
    },
    **{"max pool": S.Pooling(D, **MAX), "global max pool": S.Pooling(D, global_pool=True, **MAX)},
    **{"average pool": S.Pooling(D, kernel=(2, 2), pool_type="avg"), "sum": S.sum(D, axis=1)},
    **{"mean": S.mean(D, axis=(2, 3)), "max over pixels": S.max(D, axis=(2, 3)), "max over channels": S.max(D, axis=1)},
    **{
        "residual": D - S.relu(D),
        "gate": D * S.sigmoid(D),
        "maxout": S.maximum(D, S.sqrt(D)),
        "minimum of two": S.minimum(S.sqrt(D), 1 - D),
        "maximum of shapes": S.broadcast_maximum(D, S.mean(D, axis=(2, 3), keepdims=True)),
        "concat": S.Concat(D, S.sqrt(D)),
    },
    **{"sign activation": S.QActivation(D), "2-bit activation": S.QActivation(D, act_bit=2)},
    **{"convolution": S.Convolution(D, num_filter=4, kernel=(3, 3), no_bias=True, name="c")},
    **{"depthwise": S.Convolution(D, num_filter=4, num_group=4, kernel=(3, 3), no_bias=True, name="c")},
    **{"groups of 8": S.Convolution(D, num_filter=16, num_group=2, kernel=(3, 3), no_bias=True, name="c")},
    **{"groups of 3": S.Convolution(D, num_filter=6, num_group=2, kernel=(3, 3), no_bias=True, name="c")},
    **{"binary": S.QConvolution(D, num_filter=4, kernel=(3, 3), name="c")},
    **{"binary dense": S.QFullyConnected(S.Flatten(D), num_hidden=4, name="c")},
}
OTHER_WITH_NAN = ("relu", "sign", "max over pixels", "max over channels")
OTHER = ("groups of 3",)


def outputs(symbol, image):
    shapes, _, _ = symbol.infer_shape(data=image.shape)
    random = np.random.RandomState(1)
    args = {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in zip(symbol.list_arguments(), shapes)
        if name != "data"
    }
    compiled = compile_symbol(symbol, args, {}, SHAPE, verify=False)
    arrays = {**args, "data": image}
    expected = mx.nd.CachedOp(symbol)(*(mx.nd.array(arrays[name]) for name in symbol.list_inputs())).asnumpy()
    return expected, bmx.runtime.Model(program.encode(compiled.program)).run(image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", OPERATORS)
def test_in_the_input(name, value):
    image = np.random.RandomState(0).standard_normal((1, *SHAPE)).astype(np.float32)
    image[0, 1, 2, 2] = value
    expected, found = outputs(OPERATORS[name], image)
    same = np.isclose(expected, found, rtol=1e-4, atol=1e-5, equal_nan=True)
    if name in OTHER or (name in OTHER_WITH_NAN and np.isnan(value)):
        assert not same.all(), f"{name}: as in MXNet; take it off the list, here and in docs/deploy.md"
    else:
        assert same.all()


def network():
    x = S.Convolution(D, num_filter=4, kernel=(3, 3), name="conv")
    x = S.QConvolution(S.BatchNorm(x, fix_gamma=False, name="bn"), num_filter=4, kernel=(3, 3), no_bias=False, name="q")
    x = S.LeakyReLU(S.bmx_BatchNorm(x, fix_gamma=False, name="bn2"), act_type="prelu", name="prelu")
    return S.FullyConnected(x, num_hidden=3, name="fc")


def parameters(symbol):
    shapes, _, states = symbol.infer_shape(data=(1, *SHAPE))
    random = np.random.RandomState(0)
    names = [*zip(symbol.list_arguments(), shapes), *zip(symbol.list_auxiliary_states(), states)]
    arrays = {name: random.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in names if name != "data"}
    aux = {name: arrays.pop(name) for name in symbol.list_auxiliary_states()}
    return arrays, aux


NAMES = [name for name in network().list_inputs() if name != "data"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_in_a_layer(name, value):
    args, aux = parameters(network())
    arrays = args if name in args else aux
    arrays[name].reshape(-1)[-1] = value
    if name in ("conv_weight", "conv_bias", "q_weight", "fc_weight", "fc_bias"):  # as in MXNet
        compile_symbol(network(), args, aux, SHAPE)
        return
    with pytest.raises(
        bmx.Error, match=r"node '\w+' \(\w+\): its [\w ]+ holds NaN or infinities, the first at \[\d"
    ) as error:
        compile_symbol(network(), args, aux, SHAPE)
    assert f"node '{name.split('_')[0]}'" in str(error.value)


@pytest.mark.parametrize("norm", ["bn", "bn2"])
def test_a_variance_that_cannot_be(norm):
    args, aux = parameters(network())
    aux[f"{norm}_moving_var"][2] = -1
    with pytest.raises(bmx.Error, match=rf"node '{norm}' .*its gamma / sqrt\(variance \+ eps\) holds NaN .* at \[2\]"):
        compile_symbol(network(), args, aux, SHAPE)


def test_a_gamma_that_is_not_used():
    symbol = S.BatchNorm(D, fix_gamma=True, name="bn")
    args, aux = parameters(symbol)
    args["bn_gamma"][:] = np.nan
    compile_symbol(symbol, args, aux, SHAPE)
