"""bmx_Shift, bmx_Scale, bmx_RPReLU and the Gluon layers on them, against MXNet's operators and float64 definitions."""

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.gluon import nn

SHAPES = [(4, 6, 5, 7), (2, 3, 1, 1), (8, 5), (2, 33, 9), (2, 3, 2, 3, 4), (1, 1, 1, 1)]
SPECIAL = np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45])


def run(operator, arrays, grad):
    """Output and gradients."""
    arrays = [mx.nd.array(a) for a in arrays]
    for a in arrays:
        a.attach_grad()
    with mx.autograd.record():
        out = operator(*arrays)
    out.backward(mx.nd.array(grad))
    return [out.asnumpy(), *(a.grad.asnumpy() for a in arrays)]


def over_channels(values, dims):
    return values.reshape(1, -1, *[1] * (dims - 2))


def channel_sums(x):
    return x.sum(axis=tuple(axis for axis in range(x.ndim) if axis != 1))


def shift_by_definition(x, bias, grad):
    return [x + over_channels(bias, x.ndim), grad, channel_sums(grad)]


def scale_by_definition(x, scale, grad):
    return [x * over_channels(scale, x.ndim), grad * over_channels(scale, x.ndim), channel_sums(grad * x)]


def rprelu_by_definition(x, shift, slope, offset, grad):
    shift, slope, offset = (over_channels(a, x.ndim) for a in (shift, slope, offset))
    z = x + shift
    passed = np.where(z > 0, grad, slope * grad)
    out = np.where(z > 0, z, slope * z) + offset
    of_slope = np.where(z > 0, 0, z * grad)
    return [out, passed, channel_sums(passed), channel_sums(of_slope), channel_sums(grad)]


@pytest.mark.parametrize("shape", SHAPES)
def test_equal_their_definitions(shape):
    random = np.random.RandomState(3)
    x, grad = (random.normal(size=shape).astype(np.float32) for _ in range(2))
    values = [random.normal(size=shape[1]).astype(np.float32) for _ in range(3)]
    for operator, arrays, definition in (
        (mx.nd.bmx_Shift, [x, values[0]], shift_by_definition),
        (mx.nd.bmx_Scale, [x, values[0]], scale_by_definition),
        (mx.nd.bmx_RPReLU, [x, *values], rprelu_by_definition),
    ):
        expected = definition(*(a.astype(np.float64) for a in (*arrays, grad)))
        for got, wanted in zip(run(operator, arrays, grad), expected):
            np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_special_values_are_those_of_mxnets_operators():
    x = np.tile(SPECIAL, (2, 3, 1))
    values = [np.float32([0, 1, -1]), np.float32([0.25, -2, 0]), np.float32([0, -1, 2])]
    ours = run(mx.nd.bmx_RPReLU, [x, *values], np.ones_like(x))
    theirs = run(lambda *arrays: bmx.composed.rprelu(mx.nd, *arrays), [x, *values], np.ones_like(x))
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_every_image_of_a_large_batch_counts():
    """Planes are summed in double precision: in float32 these would be off by one in a thousand."""
    grad = np.full((100000, 1, 64), 1 / 3, np.float32)
    got = run(mx.nd.bmx_Shift, [np.zeros_like(grad), np.zeros(1, np.float32)], grad)[2]
    np.testing.assert_allclose(got, [64e5 / 3], rtol=1e-6)


def test_wrong_inputs_are_refused_by_name():
    with pytest.raises(bmx.Error, match=r"bmx_RPReLU: slope has shape \(2,\); it must be \(3,\)"):
        mx.nd.bmx_RPReLU(mx.nd.ones((1, 3, 2)), mx.nd.ones(3), mx.nd.ones(2), mx.nd.ones(3)).wait_to_read()
    with pytest.raises(bmx.Error, match=r"bmx_Shift: data has shape \(4,\); it must be \(batch, channels, ...\)"):
        mx.nd.bmx_Shift(mx.nd.ones(4), mx.nd.ones(4)).wait_to_read()
    with pytest.raises(bmx.Error, match="bmx_Shift: no attribute 'slope'|bmx_Shift.*slope"):
        mx.nd.bmx_Shift(mx.nd.ones((1, 1)), mx.nd.ones(1), slope=2).wait_to_read()


def test_gradients_accumulate():
    symbol = mx.sym.bmx_RPReLU(mx.sym.bmx_Shift(mx.sym.var("x"), name="a"), name="b")
    assert symbol.list_arguments() == ["x", "a_shift", "b_shift", "b_slope", "b_offset"]
    gradients = []
    for grad_req, passes in (("write", 1), ("add", 2)):
        mx.random.seed(3)
        executor = symbol.simple_bind(mx.cpu(), grad_req=grad_req, x=(4, 3, 5, 5))
        for array in executor.arg_arrays:
            array[:] = mx.nd.random.normal(shape=array.shape)
        for array in executor.grad_arrays:
            array[:] = 0
        grad = mx.nd.random.normal(shape=(4, 3, 5, 5))
        for _ in range(passes):
            executor.forward(is_train=True)
            executor.backward(grad)
        gradients.append([a.asnumpy() for a in executor.grad_arrays])
    for once, twice in zip(*gradients):
        assert np.abs(once).sum() > 0
        np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)


def network():
    net = nn.HybridSequential()
    net.add(nn.Shift(), nn.QActivation(), nn.QConv2D(4, 3, in_channels=32, padding=1), nn.RPReLU(slope=-0.5))
    net.initialize(mx.init.Normal(1))
    for param in net.collect_params(".*(shift|offset)").values():
        param.initialize(mx.init.Normal(1), force_reinit=True)
    return net


def test_the_layers_are_the_same_on_both_paths_and_hybridized():
    x = mx.nd.random.normal(shape=(2, 32, 5, 5))
    net = network()
    expected = net(x).asnumpy()
    with nn.path("composed"):
        np.testing.assert_allclose(net(x).asnumpy(), expected, rtol=1e-6)
    net.hybridize()
    np.testing.assert_array_equal(net(x).asnumpy(), expected)


def test_export_convert_and_compile(tmp_path):
    x = mx.nd.random.normal(shape=(2, 32, 5, 5))
    net = network()
    net.hybridize()
    expected = net(x).asnumpy()
    prefix = str(tmp_path / "net")
    net.export(prefix)
    again = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    np.testing.assert_array_equal(again(x).asnumpy(), expected)
    np.testing.assert_allclose(bmx.compile(net, x)(x).asnumpy(), expected, rtol=1e-6)
    bmx.convert_checkpoint(f"{prefix}-0000.params")
    assert "bmx_" not in (tmp_path / "binarized_net-symbol.json").read_text()
    symbol, arguments, auxiliary = bmx.load_checkpoint(str(tmp_path / "binarized_net"), 0)
    out = symbol.bind(mx.cpu(), {"data": x, **arguments}, aux_states=auxiliary).forward()[0]
    np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-6)
