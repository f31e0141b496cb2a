"""Verification can fail: a wrong layer is noticed, also behind a flat softmax, and roundings are not taken for one."""

import mxnet as mx
import numpy as np
import pytest

from bmx import Error
from bmx.comparison import compare
from bmx.compiler import compile_network, compile_symbol, verification
from bmx.compiler.frontends.mxnet import MXNetFrontEnd
from bmx.convert.conversion import convert_checkpoint

SHAPE, CLASSES = (3, 10, 10), 1000


def symbol():
    """A float layer, two binary ones, and a softmax of 1000 classes."""
    net = mx.sym.Convolution(mx.sym.var("data"), num_filter=32, kernel=(3, 3), name="first")
    net = mx.sym.QConvolution(
        mx.sym.BatchNorm(net, fix_gamma=False, name="norm1"), num_filter=32, kernel=(3, 3), name="conv"
    )
    net = mx.sym.QConvolution(
        mx.sym.BatchNorm(net, fix_gamma=False, name="norm2"), num_filter=32, kernel=(3, 3), name="conv2"
    )
    net = mx.sym.BatchNorm(net, fix_gamma=False, name="norm3")
    net = mx.sym.Pooling(net, global_pool=True, kernel=(1, 1), pool_type="avg")
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=CLASSES, name="last"), name="softmax")


@pytest.fixture(scope="module")
def arrays():
    shapes, _, states = symbol().infer_shape(data=(1, *SHAPE))
    random = np.random.RandomState(3)
    args = dict(zip(symbol().list_arguments(), shapes))
    made = {
        name: random.standard_normal(shape).astype("f")
        for name, shape in args.items()
        if name not in ("data", "softmax_label")
    }
    made["last_weight"] *= 1e-3  # so flat that the largest of 1000 probabilities is 0.00101
    made["last_bias"] *= 1e-3
    aux = {
        name: random.uniform(0.5, 1.5, shape).astype("f")
        for name, shape in zip(symbol().list_auxiliary_states(), states)
    }
    for name in ("norm2_moving_mean", "norm3_moving_mean"):
        aux[name] += 144.0  # about the middle of what a 3x3 layer of 32 channels counts
    return made, aux


def gamma(args, aux):
    args["norm3_gamma"][5] *= 1.2


def threshold(args, aux):
    args["norm2_gamma"][7] *= -1


def filters(args, aux):
    args["conv2_weight"][[3, 4]] = args["conv2_weight"][[4, 3]]


def bias(args, aux):
    args["last_bias"][17] += 1e-2


@pytest.mark.parametrize("wrong", [gamma, threshold, filters, bias])
def test_a_wrong_layer_fails_behind_a_flat_softmax(arrays, wrong, monkeypatch):
    right = MXNetFrontEnd(symbol(), *arrays, SHAPE)
    report = compile_network(right).report
    assert str(report.verification).startswith("verified") and report.verification.largest_output < 2e-3
    args, aux = ({name: array.copy() for name, array in part.items()} for part in arrays)
    wrong(args, aux)
    program = compile_symbol(symbol(), args, aux, SHAPE, verify=False).program
    run = verification.run_program
    monkeypatch.setattr(verification, "run_program", lambda _, data: run(program, data))
    with pytest.raises(Error, match="the compiled network has other outputs than the original"):
        compile_network(right)


@pytest.mark.parametrize("wrong", [gamma, threshold, filters, bias])
def test_a_wrong_conversion_fails_behind_a_flat_softmax(arrays, wrong, tmp_path, monkeypatch):
    from bmx.convert import conversion

    def save(name, args, aux):
        parts = ({key: mx.nd.array(array) for key, array in part.items()} for part in (args, aux))
        mx.model.save_checkpoint(str(tmp_path / name), 0, symbol(), *parts)
        return str(tmp_path / f"{name}-0000.params")

    path = save("net", *arrays)
    assert convert_checkpoint(path, data_shape=SHAPE).verification.largest_difference == 0
    args, aux = ({name: array.copy() for name, array in part.items()} for part in arrays)
    wrong(args, aux)
    other = save("other", args, aux)
    verify, original = conversion.verify_conversion, str(tmp_path / "other")
    monkeypatch.setattr(conversion, "verify_conversion", lambda prefix, epoch, *rest: verify(original, epoch, *rest))
    with pytest.raises(Error, match="the converted network has other outputs, nothing was written"):
        convert_checkpoint(path, data_shape=SHAPE, force=True)
    assert other


def fail(_):
    raise AssertionError("equal outputs need no neighbours")


def test_each_output_has_its_own_scale():
    large, small = np.full((4, 3), 1e6), np.full((4, 3), 1e-3)
    near = lambda _: [large, small]  # noqa: E731
    assert compare([large, small], [large + 1, small], [False, False], fail) == "equal"
    assert compare([large, small], [large, small + 1e-6], [False, False], near) == "different"


def test_samples_that_roundings_do_not_move_excuse_nothing():
    before = np.ones((4, 3))
    moved = np.array([[1.0], [0], [0], [0]])
    near = lambda _: [before + moved]  # noqa: E731
    assert compare([before], [before + 2 * moved], [False], near) == "roundings"
    assert compare([before], [before + 2 * moved[::-1]], [False], near) == "different"
    assert compare([before], [before + 4 * moved], [False], near) == "different"


def test_what_is_not_finite_before_is_not_compared_and_after_is_different():
    before = np.array([[1.0, np.nan, np.inf]])
    assert compare([before], [np.array([[1.0, 5, 7]])], [False], fail) == "equal"
    assert compare([before], [np.array([[np.nan, 5, 7]])], [False], lambda _: [before]) == "different"


def test_a_softmax_that_does_not_add_up_to_1_is_different():
    before = np.full((2, 1000), 1e-3)
    assert compare([before], [before * 1.0001], [True], lambda _: [before]) == "different"
    assert compare([before], [before * (1 + 1e-7)], [True], fail) == "equal"
