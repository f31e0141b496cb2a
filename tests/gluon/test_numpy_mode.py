"""Layers, networks and the compiler in MXNet's NumPy mode give what they give outside of it."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

import bmx
from bmx.gluon import nn
from bmx.training import Batches, Checkpoint, accuracy, fit
from bmx.training.objective import teacher
from bmx.training.signs import equal_bits
from bmx.training.stages import begin_with

SHAPE = (2, 3, 8, 8)


@pytest.fixture
def numpy_mode():
    """Function that turns the mode on, or off again."""

    def switch(on):
        (mx.npx.set_np if on else mx.npx.reset_np)()

    yield switch
    mx.npx.reset_np()


def stack(*layers):
    net = gluon.nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(*(make() for make in layers))
    return net


LAYERS = {
    "bmx BatchNorm": lambda: stack(lambda: nn.Conv2D(8, 3), nn.BatchNorm, lambda: nn.Dense(4)),
    "BatchNorm of another axis": lambda: stack(lambda: nn.BatchNorm(axis=2)),
    "QActivation": lambda: stack(nn.QActivation),
    "QActivation of 4 bits": lambda: stack(lambda: nn.QActivation(bits=4)),
    "ApproxSign": lambda: stack(nn.ApproxSign),
    "swish": lambda: stack(lambda: nn.QActivation(method="swish_sign")),
    "QConv2D": lambda: stack(nn.QActivation, lambda: nn.QConv2D(8, 3, padding=1)),
    "QConv2D of 2 bits": lambda: stack(lambda: nn.QConv2D(8, 3, bits=2, padding=1)),
    "QConv2D, scaled": lambda: stack(lambda: nn.QConv2D(8, 3, apply_scaling="channel")),
    "QConv2D, quantized gradient": lambda: stack(lambda: nn.QConv2D(8, 3, grad_bit=8)),
    "QDense": lambda: stack(nn.QActivation, lambda: nn.QDense(8)),
    "QDense, not flattened": lambda: stack(lambda: nn.QDense(8, flatten=False)),
    "activated_conv": lambda: stack(lambda: nn.activated_conv(8, 3)),
    "ScaledBinaryConv": lambda: stack(lambda: nn.ScaledBinaryConv(8, 3, padding=1)),
    "Shift": lambda: stack(nn.Shift, nn.RPReLU),
    "with Gluon's own": lambda: stack(
        lambda: gluon.nn.Conv2D(8, 3), nn.BatchNorm, lambda: nn.activated_conv(8, 3), lambda: gluon.nn.Dense(3)
    ),
    "HybridSequential": lambda: nn_sequential(),
}


def nn_sequential():
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.QActivation(), nn.QConv2D(8, 3), nn.QActivation(), nn.QDense(4))
    return net


def fill(net, x):
    """Initialize a network with the same numbers in both modes."""
    net.initialize()
    net(x)
    rng = np.random.RandomState(0)
    for name, parameter in net.collect_params().items():
        values = rng.normal(size=parameter.shape).astype("f")
        values = np.abs(values) + 0.5 if name.endswith("var") else values
        parameter.set_data((mx.np if mx.util.is_np_array() else mx.nd).array(values, dtype="float32"))


def trained(make, hybrid, arrays):
    """Outputs, and the gradients of input and parameters."""
    net = make()
    x = arrays.array(np.random.RandomState(1).normal(size=SHAPE).astype("f"), dtype="float32")
    fill(net, x)
    if hybrid:
        net.hybridize()
    x.attach_grad()
    mx.random.seed(3)
    with mx.autograd.record():
        y = net(x)
        loss = (y * y).sum()
    loss.backward()
    assert type(y) is type(x)
    params = net.collect_params().items()
    return [y, x.grad, *(p.grad() for _, p in params if p.grad_req != "null"), *(p.data() for _, p in params)]


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_they_compute_outside(name, hybrid, numpy_mode):
    expected = [array.asnumpy() for array in trained(LAYERS[name], hybrid, mx.nd)]
    numpy_mode(True)
    for array, wanted in zip(trained(LAYERS[name], hybrid, mx.np), expected):
        np.testing.assert_allclose(array.asnumpy(), wanted, rtol=1e-5, atol=1e-5)


def weights_after(make_optimizer, arrays):
    """The parameters after two steps of training."""
    net = LAYERS["with Gluon's own"]()
    x = arrays.array(np.random.RandomState(1).normal(size=SHAPE).astype("f"), dtype="float32")
    fill(net, x)
    trainer = gluon.Trainer(net.collect_params(), make_optimizer())
    for _ in range(2):
        with mx.autograd.record():
            loss = (net(x) ** 2).sum()
        loss.backward()
        trainer.step(2)
    return [parameter.data().asnumpy() for parameter in net.collect_params().values()]


OPTIMIZERS = {
    "radam": lambda: mx.optimizer.create("radam", learning_rate=1e-3),
    "bop": lambda: mx.optimizer.create("bop", gamma=0.5, threshold=1e-9),
    "binary": lambda: bmx.optimizer.BinaryOptimizer(mx.optimizer.create("adam", learning_rate=0.5)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, numpy_mode):
    expected = weights_after(OPTIMIZERS[name], mx.nd)
    numpy_mode(True)
    for found, wanted in zip(weights_after(OPTIMIZERS[name], mx.np), expected):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_composed_path(numpy_mode):
    with nn.path("composed"):
        expected = [array.asnumpy() for array in trained(LAYERS["activated_conv"], True, mx.nd)]
        numpy_mode(True)
        for array, wanted in zip(trained(LAYERS["activated_conv"], True, mx.np), expected):
            np.testing.assert_allclose(array.asnumpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["lenet", "binarynet_cifar", "densenet28", "meliusnet22", "quicknet_small", "reactnet_r18"]
)
def test_networks_of_the_zoo(name, numpy_mode):
    numpy_mode(True)
    net = bmx.models.get_model(name)
    net.initialize()
    y = net(mx.np.ones((1, 1, 28, 28) if name == "lenet" else (1, 3, 32, 32)))
    assert isinstance(y, mx.np.ndarray) and np.isfinite(y.asnumpy()).all()


class Arithmetic(gluon.HybridBlock):
    """NumPy's functions and operators between layers."""

    def __init__(self):
        super().__init__(prefix="arithmetic_")
        with self.name_scope():
            self.conv, self.dense = gluon.nn.Conv2D(8, 3, activation="relu"), gluon.nn.Dense(4)

    def hybrid_forward(self, F, x):
        x = self.conv(x)
        x = F.np.concatenate([x * 2 - 1, 3 - x / 4, F.np.tanh(x) + F.np.exp(-x)], axis=1)
        x = F.npx.relu(x) * F.npx.sigmoid(x) + F.np.mean(x, axis=(2, 3), keepdims=True) + F.np.ones((1, 1, 1, 1))
        x = F.np.maximum(x, 0.5) + F.np.abs(x) ** 2
        y = self.dense(F.np.reshape(x, (-1, 24 * 36)))
        return y / F.np.sqrt(F.np.sum(F.np.square(y), axis=1, keepdims=True)), F.np.max(y, axis=1)


def test_networks_are_compiled(numpy_mode):
    numpy_mode(True)
    x = mx.np.array(np.random.RandomState(1).normal(size=SHAPE).astype("f"), dtype="float32")
    net = LAYERS["with Gluon's own"]()
    fill(net, x)
    compiled = bmx.compile(net, x)
    assert isinstance(compiled(x), mx.np.ndarray) and "binary conv 3x3" in str(compiled.report)
    np.testing.assert_allclose(compiled(x).asnumpy(), net(x).asnumpy(), rtol=1e-4)
    net = Arithmetic()
    fill(net, x)
    for found, wanted in zip(bmx.compile(net, x)(x), net(x)):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found.asnumpy(), wanted.asnumpy(), rtol=1e-4, atol=1e-5)


def test_exported_networks_are_read_outside(numpy_mode, tmp_path):
    numpy_mode(True)
    x = mx.np.array(np.random.RandomState(1).normal(size=SHAPE).astype("f"), dtype="float32")
    net = LAYERS["with Gluon's own"]()
    fill(net, x)
    net.hybridize()
    expected = net(x).asnumpy()
    net.export(str(tmp_path / "net"))
    numpy_mode(False)
    path = str(tmp_path / "net-0000.params")
    program = bmx.compile_checkpoint(path, data_shape=SHAPE[1:]).program
    np.testing.assert_allclose(bmx.runtime.Model(bmx.program.encode(program)).run(x.asnumpy()), expected, rtol=1e-4)
    assert "largest difference 0," in str(bmx.convert_checkpoint(path, data_shape=SHAPE[1:]))
    assert list(bmx.binary_weights(str(tmp_path / "net"), 0)) == ["net_qconv0"]
    symbol = mx.sym.load(f"{tmp_path}/net-symbol.json")
    numpy_mode(True)
    assert bmx.summary(net, SHAPE[1:]).weights == bmx.summary(symbol, SHAPE[1:]).weights
    block = gluon.SymbolBlock.imports(
        f"{tmp_path}/binarized_net-symbol.json", ["data"], f"{tmp_path}/binarized_net-0000.params"
    )
    np.testing.assert_array_equal(block(x).asnumpy(), expected)


def test_an_operator_that_gets_an_array_of_numpy_says_what_to_do(numpy_mode):
    numpy_mode(True)
    x = mx.np.ones((2, 64))
    for call in (lambda: mx.nd.QActivation(x), lambda: mx.nd.QFullyConnected(x, x, num_hidden=2)):
        with pytest.raises(bmx.Error, match=r"takes arrays of mx.nd, not of mx.np: x.as_nd_ndarray\(\)"):
            call()
    assert mx.nd.QActivation(x.as_nd_ndarray()).shape == (2, 64)


@pytest.mark.parametrize(
    "call",
    [
        lambda net, batches, prefix: fit(net, batches, batches, mx.optimizer.SGD(), 1, log=str),
        lambda net, batches, prefix: accuracy(net, batches),
        lambda net, batches, prefix: equal_bits(net, mx.np.zeros((1, 3, 8, 8))),
        lambda net, batches, prefix: Checkpoint(prefix).save(net, None, {}),
        lambda net, batches, prefix: Checkpoint(prefix).save_best(net, 1),
        lambda net, batches, prefix: Checkpoint(prefix).restore(net, None, {}),
        lambda net, batches, prefix: teacher(f"{prefix}-0001.params"),
        lambda net, batches, prefix: begin_with(net, f"{prefix}-0001.params"),
    ],
)
def test_training_says_that_it_works_with_classic_arrays(tmp_path, call):
    images, labels = np.zeros((4, 3, 8, 8), np.float32), np.zeros(4, np.float32)
    with mx.util.np_shape(True), mx.util.np_array(True):
        net = nn.HybridSequential()
        net.add(nn.activated_conv(8, 3, in_channels=3), nn.Dense(2, in_units=8 * 36))
        net.initialize()
        with pytest.raises(bmx.Error, match=r"works with MXNet's classic arrays, .*: call mx.npx.reset_np\(\) before"):
            call(net, Batches(images, labels, 2), str(tmp_path / "net"))
    assert not list(tmp_path.iterdir())
