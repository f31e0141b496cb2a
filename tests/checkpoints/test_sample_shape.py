"""The shape of a sample is known or asked for: recorded, or the only one that fits. No command guesses."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import cli
from bmx.checkpoints.sample_shape import RECORDED, UnknownShape, fitting_shapes, sample_shape
from bmx.checkpoints.symbol_file import parse_graph
from bmx.measure.runners import open_model

x = mx.sym.var("data")


def conv(data, filters=4, size=3, **attributes):
    return mx.sym.Convolution(data, kernel=(size,) * 2, num_filter=filters, **attributes)


def dense(data, units=5, **attributes):
    return mx.sym.FullyConnected(data, num_hidden=units, **attributes)


def stored(symbol, shape):
    """The arrays of a network that was made for samples of this shape."""
    shapes, _, aux = symbol.infer_shape(data=(1, *shape))
    names = symbol.list_arguments() + symbol.list_auxiliary_states()
    return {name: np.ones(size, np.float32) for name, size in zip(names, shapes + aux) if name != "data"}


def found(symbol, shape, **replaced):
    return sample_shape(parse_graph(json.loads(symbol.tojson()), ""), "data", {**stored(symbol, shape), **replaced})


def pooled(data):
    return mx.sym.Pooling(data, kernel=(2, 2), stride=(2, 2), pool_type="max")


@pytest.mark.parametrize(
    "symbol, shape",
    [
        (dense(conv(x, size=5)), (3, 5, 5)),
        (dense(mx.sym.BatchNorm(conv(mx.sym.Activation(x * 2, act_type="relu"), size=7))), (2, 7, 7)),
        (dense(mx.sym.Convolution(x, kernel=(3, 5), num_filter=2)), (1, 3, 5)),  # as wide as it is not high
        (dense(mx.sym.Convolution(x, kernel=(4,), num_filter=2)), (3, 20)),  # a sequence
        (dense(conv(mx.sym.QConvolution(x, kernel=(3, 3), num_filter=32), size=3)), (32, 5, 5)),
        (dense(x), (12,)),
        (dense(mx.sym.Flatten(mx.sym.Activation(x, act_type="tanh"))), (12,)),
        (mx.sym.QFullyConnected(x, num_hidden=3), (40,)),
    ],
)
def test_the_only_shape_that_fits_is_found(symbol, shape):
    assert found(symbol, shape) == shape


@pytest.mark.parametrize(
    "symbol, shape, both",
    [
        (dense(pooled(conv(x))), (3, 24, 24), "3x24x24 and 3x25x25"),  # neighbours: a row that pooling leaves out
        (dense(conv(x, stride=(2, 2))), (3, 22, 22), "3x21x21 and 3x22x22"),
        (dense(conv(x, pad=(1, 1))), (1, 16, 64), "1x32x32 and 1x16x64"),  # other products
        (dense(conv(x)), (3, 28, 28), "3x28x28 and 3x15x54"),
        (
            dense(mx.sym.Pooling(conv(x), global_pool=True, kernel=(1, 1), pool_type="avg")),
            (3, 9, 9),
            "28x28 and 3x28x29",
        ),
        (conv(x), (1, 8, 8), "1x28x28 and 1x28x29"),
        (mx.sym.Convolution(x, kernel=(3,), num_filter=2), (4, 30), "4x28 and 4x29"),
    ],
)
def test_shapes_that_fit_as_well_are_named(symbol, shape, both):
    with pytest.raises(UnknownShape, match=f"does not follow from the network; give it: --data-shape.*{both} both fit"):
        found(symbol, shape)


@pytest.mark.parametrize(
    "symbol, shape",
    [
        (dense(conv(mx.sym.transpose(x, axes=(0, 3, 1, 2)), size=5)), (5, 5, 3)),
        (dense(conv(mx.sym.Reshape(x, shape=(-1, 3, 5, 5)), size=5)), (75,)),
        (dense(mx.sym.Convolution(x, kernel=(5, 5), num_filter=2, layout="NHWC")), (5, 5, 3)),
        (dense(mx.sym.Convolution(x, kernel=(3, 3, 3), num_filter=2)), (1, 3, 3, 3)),
        (dense(x, flatten=False), (7, 12)),
        (dense(mx.sym.slice_axis(x, axis=1, begin=0, end=12)), (40,)),
        (mx.sym.relu(x), (3,)),
    ],
)
def test_what_the_arrays_do_not_tell_is_asked_for(symbol, shape):
    with pytest.raises(
        UnknownShape, match=r"does not follow from the network; give it: --data-shape C,H,W \(data_shape\)$"
    ):
        found(symbol, shape)


def test_declared_shapes_of_parameters_do_not_hide_images_that_fit():
    """Gluon writes them into its files."""
    weight = mx.sym.var("w", shape=(5, 4 * 5 * 5))
    with pytest.raises(UnknownShape, match="3x7x7 and 3x3x27 both fit"):
        found(dense(conv(x), weight=weight), (3, 7, 7))


@pytest.mark.parametrize(
    "attributes, expected",
    [
        ({RECORDED: "(3, 24, 24)"}, (3, 24, 24)),
        ({"__shape__": "(8, 3, 24, 24)"}, (3, 24, 24)),
        ({"__shape__": "(-1, 3, 24, 24)"}, (3, 24, 24)),
        ({"__shape__": "(8, 3, 24, 24)", RECORDED: "(3, 25, 24)"}, (3, 25, 24)),
        ({RECORDED: "(3,"}, None),
        ({RECORDED: "(3, 0, 24)"}, None),
        ({"__shape__": "(8,)"}, None),
    ],
)
def test_a_recorded_shape_is_taken(attributes, expected):
    data = mx.sym.var("data", attr=attributes)
    if expected is None:
        with pytest.raises(UnknownShape):
            found(dense(pooled(conv(data, pad=(1, 1)))), (3, 24, 24))
    else:
        assert found(dense(pooled(conv(data, pad=(1, 1)))), (3, 24, 24)) == expected


def test_a_recorded_shape_that_does_not_fit_is_an_error():
    data = mx.sym.var("data", attr={RECORDED: "(3, 20, 24)"})
    with pytest.raises(bmx.Error, match=r"'\w+_weight' has the shape \(5, 2304\); the network needs \(5, 1920\)"):
        found(dense(conv(data, pad=(1, 1))), (3, 24, 24))


def test_an_array_that_fits_no_image_is_named():
    net = dense(mx.sym.BatchNorm(pooled(conv(x)), name="norm"), name="last")
    for name, array, message in (
        ("norm_gamma", np.ones(8), r"\(8,\); the network needs \(4,\)"),
        ("norm_moving_var", np.ones(1), r"\(1,\); the network needs \(4,\)"),
        ("last_weight", np.ones((5, 4, 121)), r"\(5, 4, 121\); the network needs \(5, any\)"),
        ("last_bias", np.ones(3), r"\(3,\); the network needs \(5,\)"),
    ):
        with pytest.raises(bmx.Error, match=f"the array '{name}' has the shape {message}"):
            found(net, (3, 24, 24), **{name: array})


def test_a_network_that_reshapes_to_a_fixed_number_takes_no_other_image():
    """MXNet infers shapes for images of 28x28, and then reads beyond the array."""
    net = dense(mx.sym.Reshape(pooled(conv(pooled(conv(x, size=5)), size=5)), shape=(0, 100)))
    graph, arrays = parse_graph(json.loads(net.tojson()), ""), stored(net, (1, 32, 32))
    assert next(fitting_shapes(graph, "data", arrays)) == (1, 32, 32)
    with pytest.raises(UnknownShape, match="1x32x32 and 1x32x33 both fit"):
        sample_shape(graph, "data", arrays)


@pytest.fixture
def files(tmp_path):
    """Function that writes a network made for images of 22x22 or so, and gives its .params file."""

    def write(attributes):
        net = conv(mx.sym.var("data", attr=attributes), filters=32, name="first")
        net = pooled(mx.sym.QConvolution(net, num_filter=32, kernel=(3, 3), name="hidden"))
        net = mx.sym.softmax(dense(net, name="last"), name="softmax")
        arrays = {name: mx.nd.array(array) for name, array in stored(net, (3, 22, 22)).items()}
        mx.model.save_checkpoint(str(tmp_path / "net"), 1, net, arrays, {})
        return str(tmp_path / "net-0001.params")

    return write


def commands(path):
    symbol, output = path.replace("-0001.params", "-symbol.json"), path.replace("-0001.params", ".bmx")
    return {
        "compile": ["compile", path, "-o", output, "--force"],
        "export-c": ["export-c", path, "-o", output + ".c"],
        "summary": ["summary", symbol],
    }


@pytest.mark.parametrize("command", ["compile", "export-c", "summary"])
def test_commands_ask_in_one_line(files, capsys, tmp_path, command):
    path = files({})
    before = sorted(tmp_path.iterdir())
    assert cli.main(commands(path)[command]) == 1
    output = capsys.readouterr()
    assert output.out == "" and output.err.count("\n") == 1
    assert "the shape of a sample does not follow from the network; give it" in output.err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["compile", "summary"])
def test_commands_take_the_recorded_shape(files, capsys, command):
    path = files({RECORDED: "(3, 23, 22)"})
    assert cli.main(commands(path)[command]) == 0
    out = capsys.readouterr().out
    assert {"compile": "samples of shape 3x23x22", "summary": "32 x 21 x 20"}[command] in out


def test_what_is_measured_is_asked_for_or_recorded(files):
    with pytest.raises(bmx.Error, match="net-0001.params: the shape of a sample does not follow from the network"):
        open_model(files({}), 1, 1)
    assert open_model(files({}), 1, 1, hint=(3, 23, 22)).inputs == {"data": (3, 23, 22)}
    path = files({RECORDED: "(3, 23, 22)"})
    assert open_model(path, 1, 1, hint=(3, 24, 22)).inputs == open_model(path, 1, 1).inputs == {"data": (3, 23, 22)}


def test_the_converter_verifies_on_a_shape_that_fits_and_says_so(files, capsys):
    path = files({})
    assert cli.main(["convert", path]) == 0
    out = capsys.readouterr().out
    assert "verified on 8 samples of shape 3x22x22" in out and "(a shape that fits: " in out
    assert cli.main(["convert", files({RECORDED: "(3, 23, 22)"}), "--force"]) == 0
    out = capsys.readouterr().out
    assert "verified on 8 samples of shape 3x23x22" in out and "(a shape that fits: " not in out
