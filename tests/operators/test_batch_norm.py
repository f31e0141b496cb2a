"""bmx_BatchNorm and the Gluon layer on it against MXNet's BatchNorm."""

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.gluon import nn


def parameters(channels):
    values = [mx.nd.random.normal(shape=(channels,)) for _ in range(3)]
    return [*values, mx.nd.random.uniform(1, 2, shape=(channels,))]


def run(operator, x, values, grad, **attributes):
    """Output, gradients of data, gamma and beta, moving moments after a training pass, and output of inference."""
    arrays = [a.copy() for a in (x, *values)]
    for a in arrays[:3]:
        a.attach_grad()
    with mx.autograd.record():
        out = operator(*arrays, **attributes)
    out.backward(grad)
    inference = operator(*arrays, **attributes)
    return [a.asnumpy() for a in (out, *(a.grad for a in arrays[:3]), *arrays[3:], inference)]


@pytest.mark.parametrize("shape", [(4, 6, 5, 7), (2, 3, 1, 1), (8, 5), (2, 33, 9), (2, 3, 2, 3, 4)])
@pytest.mark.parametrize("fix_gamma", [False, True])
@pytest.mark.parametrize("use_global_stats", [False, True])
def test_equals_mxnet(shape, fix_gamma, use_global_stats):
    x, grad = mx.nd.random.normal(3, 2, shape=shape), mx.nd.random.normal(shape=shape)
    attributes = {"fix_gamma": fix_gamma, "use_global_stats": use_global_stats, "eps": 1e-3, "momentum": 0.7}
    values = parameters(shape[1])
    for got, expected in zip(*(run(f, x, values, grad, **attributes) for f in (mx.nd.bmx_BatchNorm, mx.nd.BatchNorm))):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5)


def test_a_large_mean_does_not_drown_the_variance():
    x = mx.nd.random.normal(0, 1, shape=(16, 2, 20, 20)) + 1000
    values = [mx.nd.ones(2), mx.nd.zeros(2), mx.nd.zeros(2), mx.nd.ones(2)]
    with mx.autograd.train_mode():
        out = mx.nd.bmx_BatchNorm(x, *values, fix_gamma=False).asnumpy()
    exact = x.asnumpy().astype(np.float64)
    expected = (exact - exact.mean((0, 2, 3), keepdims=True)) / np.sqrt(exact.var((0, 2, 3), keepdims=True) + 1e-3)
    np.testing.assert_allclose(out, expected, atol=2e-3)


def test_constant_channels_give_beta():
    values = [mx.nd.ones(1), mx.nd.array([0.25]), mx.nd.zeros(1), mx.nd.ones(1)]
    with mx.autograd.train_mode():
        out = mx.nd.bmx_BatchNorm(mx.nd.full((3, 1, 4, 4), 7), *values).asnumpy()
    np.testing.assert_allclose(out, 0.25, atol=1e-4)


def test_accumulates_gradients_and_names_its_states_as_mxnet():
    symbol = mx.sym.bmx_BatchNorm(mx.sym.Variable("x"), fix_gamma=False, name="bn")
    assert symbol.list_arguments() == ["x", "bn_gamma", "bn_beta"]
    assert symbol.list_auxiliary_states() == ["bn_moving_mean", "bn_moving_var"]
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


@pytest.mark.parametrize("hybridize", [None, {}, {"static_alloc": True, "static_shape": True}])
def test_the_gluon_layer_trains_as_mxnets(hybridize):
    results = []
    for layer in (nn.BatchNorm, mx.gluon.nn.BatchNorm):
        mx.random.seed(5)
        net = mx.gluon.nn.HybridSequential()
        net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=2), layer(momentum=0.8), mx.gluon.nn.Dense(3, in_units=64))
        net.initialize(mx.init.Xavier())
        if hybridize is not None:
            net.hybridize(**hybridize)
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1})
        x = mx.nd.random.normal(shape=(8, 2, 6, 6))
        for _ in range(4):
            with mx.autograd.record():
                loss = (net(x) ** 2).mean()
            loss.backward()
            trainer.step(1)
        results.append([net(x).asnumpy()] + [p.data().asnumpy() for p in net.collect_params().values()])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_export_import_and_compose(tmp_path):
    net = mx.gluon.nn.HybridSequential()
    net.add(nn.QConv2D(4, 3, in_channels=2), nn.BatchNorm(in_channels=4))
    net.initialize()
    net.hybridize()
    x = mx.nd.random.normal(shape=(3, 2, 6, 6))
    with mx.autograd.record():
        net(x)
    expected = net(x).asnumpy()
    prefix = str(tmp_path / "net")
    net.export(prefix)
    again = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    np.testing.assert_array_equal(again(x).asnumpy(), expected)
    composed = bmx.compose(mx.sym.load(f"{prefix}-symbol.json"))
    assert "bmx_BatchNorm" not in composed.tojson()
    values = mx.nd.load(f"{prefix}-0000.params")
    arguments = {k[4:]: v for k, v in values.items() if k.startswith("arg:")}
    states = {k[4:]: v for k, v in values.items() if k.startswith("aux:")}
    out = composed.bind(mx.cpu(), {"data": x, **arguments}, aux_states=states).forward()[0]
    np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_converter_writes_mxnets_batch_norm_where_bmxnet_can_read_the_file(tmp_path):
    y = mx.sym.bmx_BatchNorm(mx.sym.var("data"), name="first")
    symbol = mx.sym.bmx_BatchNorm(mx.sym.QConvolution(y, kernel=(3, 3), num_filter=4, name="conv"), name="last")
    shapes, _, states = symbol.infer_shape(data=(1, 64, 6, 6))
    arguments = {name: mx.nd.ones(shape) for name, shape in zip(symbol.list_arguments(), shapes) if name != "data"}
    states = {name: mx.nd.ones(shape) for name, shape in zip(symbol.list_auxiliary_states(), states)}
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, symbol, arguments, states)
    bmx.convert_checkpoint(str(tmp_path / "net-0000.params"))
    text = (tmp_path / "binarized_net-symbol.json").read_text()
    assert '"BatchNorm"' in text
    assert "bmx_" not in text and "Dropout" not in text
