"""Stored arrays are compared with what the network infers, and nodes that MXNet lets read other memory are refused."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.checkpoints import names as checkpoint_names
from bmx.checkpoints.shape_inference import ShapeInference
from bmx.checkpoints.symbol_file import parse_graph
from bmx.compiler import compile_symbol
from bmx.convert.verify import verify_conversion

x = mx.sym.var("data")
SHAPE = (3, 8, 8)


def network(norm):
    net = mx.sym.Convolution(x, num_filter=16, kernel=(3, 3), name="conv")
    net = getattr(mx.sym, norm)(net, fix_gamma=False, name="norm")
    net = mx.sym.QConvolution(net, num_filter=16, kernel=(3, 3), no_bias=False, name="binary")
    net = mx.sym.LeakyReLU(net, act_type="prelu", name="slope")
    net = mx.sym.broadcast_mul(net, mx.sym.var("scale", shape=(1, 16, 1, 1)))
    return mx.sym.FullyConnected(net, num_hidden=5, name="last")


def arrays(symbol):
    shapes, _, states = symbol.infer_shape(data=(1, *SHAPE))
    random = np.random.RandomState(0)
    args = zip(symbol.list_arguments(), shapes)
    aux = zip(symbol.list_auxiliary_states(), states)
    return (
        {name: random.standard_normal(shape).astype("f") for name, shape in args if name != "data"},
        {name: (np.abs(random.standard_normal(shape)) + 0.5).astype("f") for name, shape in aux},
    )


CHANGES = {
    "one": lambda array: array.reshape(-1)[:1],
    "half": lambda array: array.reshape(-1)[: array.size // 2],
    "double": lambda array: np.concatenate([array, array]),
    "flat": lambda array: array.reshape(-1) if array.ndim > 1 else array[:, None],
    "transposed": lambda array: array[None] if array.ndim == 1 else np.swapaxes(array, 0, 1),
}
NORM = ("norm_gamma", "norm_beta", "norm_moving_mean", "norm_moving_var")
PARAMETERS = ("conv_weight", "conv_bias", *NORM, "binary_weight", "binary_bias", "slope_gamma", "scale", "last_weight")


@pytest.mark.parametrize("norm", ["BatchNorm", "bmx_BatchNorm"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_parameter_of_a_wrong_shape_is_named(norm, change, tmp_path):
    symbol = network(norm)
    args, aux = arrays(symbol)
    for name in (*PARAMETERS, "last_bias"):
        right = {**args, **aux}[name]
        wrong = CHANGES[change](right)
        if wrong.shape == right.shape or (name, change) == ("slope_gamma", "one"):  # one slope for all channels
            continue
        changed = [{**given, name: wrong} if name in given else given for given in (args, aux)]
        message = rf"the array '{name}' has the shape {wrong.shape}; the network needs {right.shape}"
        with pytest.raises(bmx.Error) as error:
            compile_symbol(symbol, *changed, SHAPE)
        assert message in str(error.value) and "\n" not in str(error.value)
        mx.model.save_checkpoint(
            str(tmp_path / "net"), 0, symbol, *({n: mx.nd.array(a) for n, a in d.items()} for d in changed)
        )
        with pytest.raises(bmx.Error) as error:
            verify_conversion(str(tmp_path / "net"), 0, checkpoint_names.files(str(tmp_path / "net"), 0), SHAPE)
        assert message in str(error.value)


def test_one_slope_for_all_channels_is_allowed():
    symbol = network("BatchNorm")
    args, aux = arrays(symbol)
    args["slope_gamma"] = np.full(1, 0.25, "f")
    assert str(compile_symbol(symbol, args, aux, SHAPE).report.verification).startswith("verified")


def test_an_array_of_another_shape_than_declared_is_named():
    symbol = mx.sym.broadcast_add(x, mx.sym.var("shift", shape=(1, 3, 1, 1)))
    with pytest.raises(bmx.Error, match=r"'shift' has the shape \(1, 1, 1, 1\); the network needs \(1, 3, 1, 1\)"):
        compile_symbol(symbol, {"shift": np.ones((1, 1, 1, 1), "f")}, {}, SHAPE)


def inferred(symbol, shape, batch=2):
    graph = parse_graph(json.loads(symbol.tojson()), "")
    found = ShapeInference(graph, {})({"data": (batch, *shape)})
    return found[id(graph.heads[0].node), 0]


@pytest.mark.parametrize(
    "shape, given", [((0, 400), (16, 4, 4)), ((-1, 400), (16, 4, 4)), ((0, 3, -1), (4,)), ((0, -3, 2), (3, 2, 4))]
)
def test_a_reshape_to_another_number_of_elements_is_refused(shape, given):
    with pytest.raises(bmx.Error, match=r"node 'moved' \(Reshape\) makes the shape .* another number of elements"):
        inferred(mx.sym.Reshape(x, shape=shape, name="moved"), given)


@pytest.mark.parametrize(
    "shape, given, expected",
    [((0, -1), (16, 5, 5), (2, 400)), ((-1, 4), (2,), (1, 4)), ((0, -3, 0), (3, 2, 4), (2, 6, 4))],
)
def test_other_reshapes_are_taken(shape, given, expected):
    assert inferred(mx.sym.Reshape(x, shape=shape), given) == expected


def pooling(shape, include=False, **attributes):
    symbol = mx.sym.Pooling(x, pool_type="avg", count_include_pad=include, name="pool", **attributes)
    return inferred(symbol, shape)


@pytest.mark.parametrize(
    "shape, attributes",
    [
        (
            (1, 4, 4),
            {"kernel": (1, 1), "stride": (2, 2), "pooling_convention": "full"},
        ),  # the last is behind it
        ((1, 9, 5), {"kernel": (1, 1), "stride": (1, 3), "pooling_convention": "full"}),
        ((1, 4, 4), {"kernel": (2, 2), "stride": (5, 5), "pad": (1, 1), "pooling_convention": "full"}),
        ((1, 5), {"kernel": (1,), "stride": (3,), "pooling_convention": "full"}),
        ((1, 4, 4), {"kernel": (1, 1), "pad": (1, 1)}),  # the first ends in the padding
        ((1, 4, 4), {"kernel": (2, 2), "pad": (2, 0)}),
    ],
)
def test_averages_of_no_pixels_are_refused(shape, attributes):
    with pytest.raises(bmx.Error, match=r"node 'pool' \(Pooling\): some of its windows have no pixel of the image"):
        pooling(shape, **attributes)
    assert pooling(shape, include=True, **attributes)  # of padding, which counts as zeros


@pytest.mark.parametrize(
    "shape, attributes, expected",
    [
        ((1, 5, 5), {"kernel": (2, 2), "stride": (2, 2), "pooling_convention": "full"}, (2, 1, 3, 3)),
        ((1, 4, 4), {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1)}, (2, 1, 3, 3)),
        ((1, 4, 4), {"kernel": (9, 9), "global_pool": True}, (2, 1, 1, 1)),
        ((5, 5, 1), {"kernel": (2, 2), "stride": (3, 3), "layout": "NHWC"}, (2, 2, 2, 1)),
    ],
)
def test_other_poolings_are_taken(shape, attributes, expected):
    assert pooling(shape, **attributes) == expected


def test_shapes_that_do_not_fit_say_so_in_one_line():
    with pytest.raises(bmx.Error, match=r"^the shapes do not fit together: [^\n]*kernel[^\n]*$"):
        inferred(mx.sym.Convolution(x, kernel=(5, 5), num_filter=2), (1, 3, 3))
