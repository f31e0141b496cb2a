"""bmx.optimizer: each step against its definition in NumPy, Gluon's Trainer, Module, saved states, convergence."""

import pickle

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from bmx import Error
from bmx.gluon import nn
from bmx.optimizer import BinaryOptimizer, Bop, FlipRatio, RAdam

STEPS = 80


def random_steps(shape=(5, 7), seed=0):
    """Yield the gradients of many steps: their mean drifts, their scale differs from element to element."""
    rng = np.random.default_rng(seed)
    drift, scale = rng.normal(size=shape), np.exp(rng.normal(0, 3, size=shape))
    for step in range(STEPS):
        yield (scale * (np.cos(step / 9) * drift + rng.normal(size=shape))).astype(np.float32)


def run(optimizer, weight, index=0):
    """Yield the weight after each of the random steps."""
    weight = mx.nd.array(weight)
    state = optimizer.create_state_multi_precision(index, weight)
    for grad in random_steps(weight.shape):
        before = mx.nd.array(grad)
        optimizer.update_multi_precision(index, weight, before, state)
        np.testing.assert_array_equal(before.asnumpy(), grad)
        yield weight.asnumpy()


def start(seed=1):
    return np.random.default_rng(seed).normal(0, 0.5, (5, 7)).astype(np.float32)


# RAdam


def radam(w, gradients, lr=0.001, beta1=0.95, beta2=0.999, epsilon=1e-5, wd=0.0, rescale=1.0, clip=np.inf):
    """The definition, from the paper's algorithm, in float64."""
    w, m, v = w.astype(np.float64), 0, 0
    rho_inf = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, start=1):
        g = np.clip(rescale * g.astype(np.float64) + wd * w, -clip, clip)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat = m / (1 - beta1**t)
        rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        rate = lr(t) if callable(lr) else lr
        if rho > 5:
            r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
            w = w - rate * r * m_hat * np.sqrt(1 - beta2**t) / (np.sqrt(v) + epsilon)
        else:
            w = w - rate * m_hat
        yield w


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.05, "wd": 0.1},
        {"beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8, "rescale": 1 / 64},
        {"clip": 0.5, "rescale": 0.1, "wd": 0.01},
        {"beta2": 0.5},  # never adaptive
        {"beta1": 0.0},
    ],
    ids=str,
)
def test_radam(options):
    names = {"lr": "learning_rate", "rescale": "rescale_grad", "clip": "clip_gradient"}
    optimizer = RAdam(**{names.get(name, name): value for name, value in options.items()})
    for got, want in zip(run(optimizer, start()), radam(start(), random_steps(), **options)):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_radam_with_a_schedule():
    schedule = mx.lr_scheduler.FactorScheduler(step=10, factor=0.5, base_lr=0.1)
    wanted = radam(start(), random_steps(), lr=lambda t: 0.1 * 0.5 ** ((t - 1) // 10))
    for got, want in zip(run(RAdam(lr_scheduler=schedule, learning_rate=None), start()), wanted):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_radam_adapts_from_the_sixth_step_on():
    """Before, a step is proportional to the gradient; from then on its size does not depend on the gradient's scale."""
    steps = []
    for scale in (1, 100):
        weight, optimizer = mx.nd.zeros((1,)), RAdam(learning_rate=1)
        state, before = optimizer.create_state(0, weight), 0.0
        steps.append([])
        for _ in range(8):
            optimizer.update(0, weight, mx.nd.array([scale]), state)
            steps[-1].append(weight.asscalar() - before)
            before = weight.asscalar()
    ratio = np.divide(steps[1], steps[0])
    np.testing.assert_allclose(ratio, [100] * 5 + [1] * 3, rtol=1e-2)


# Bop


def bop(w, gradients, gamma=1e-4, threshold=1e-8, rescale=1.0, clip=np.inf):
    """The definition, from the paper's algorithm, in float32, because a comparison decides."""
    f = np.float32
    w, m = np.where(w < 0, f(-1), f(1)), np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        rate = gamma(t) if callable(gamma) else gamma
        m = f(1 - rate) * m + f(rate) * np.clip(g * f(rescale), f(-clip), f(clip))
        flip = (np.abs(m) > f(threshold)) & (np.sign(m) == np.sign(w))
        w = np.where(flip, -w, w)
        yield w


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 0.1, "threshold": 0.05},
        {"gamma": 0.3, "threshold": 0.0},
        {"gamma": 1.0, "threshold": 0.5},
        {"gamma": 0.05, "threshold": 0.01, "rescale": 1 / 64, "clip": 0.2},
    ],
    ids=str,
)
def test_bop(options):
    names = {"rescale": "rescale_grad", "clip": "clip_gradient"}
    optimizer = Bop(**{names.get(name, name): value for name, value in options.items()})
    flips, before = 0, np.sign(start())
    for got, want in zip(run(optimizer, start()), bop(start(), random_steps(), **options)):
        np.testing.assert_array_equal(got, want)
        assert set(np.unique(got)) <= {-1, 1}
        flips += (got != before).sum()
        before = got
    assert flips > 10


def test_bop_flips_nothing_without_a_gradient():
    weight = mx.nd.array([-1.0, 1.0, 1.0])
    optimizer = Bop(gamma=0.5, threshold=0)
    state = optimizer.create_state(0, weight)
    for _ in range(3):
        optimizer.update(0, weight, mx.nd.array([0.0, 0.0, -0.0]), state)
    np.testing.assert_array_equal(weight.asnumpy(), [-1, 1, 1])


def test_bop_with_a_schedule_for_gamma():
    schedule = mx.lr_scheduler.FactorScheduler(step=20, factor=0.25, base_lr=0.2)
    wanted = bop(start(), random_steps(), gamma=lambda t: 0.2 * 0.25 ** ((t - 1) // 20), threshold=0.1)
    for got, want in zip(run(Bop(lr_scheduler=schedule, threshold=0.1), start()), wanted):
        np.testing.assert_array_equal(got, want)


def test_bop_begins_with_the_signs_of_the_layers():
    weight = mx.nd.array([-0.3, 0.0, -0.0, np.nan, 2.0])
    optimizer = Bop(threshold=1)
    optimizer.update(0, weight, mx.nd.zeros((5,)), optimizer.create_state(0, weight))
    np.testing.assert_array_equal(weight.asnumpy(), [-1, 1, 1, 1, 1])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"gamma": 0}, "gamma=0: allowed is 0 < gamma <= 1"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"gamma": float("nan")}, "gamma=nan"),
        ({"threshold": -1}, "threshold=-1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"learning_rate": 0.1}, "learning_rate=0.1: Bop has none"),
        ({"wd": 0.1}, "wd=0.1: .* cannot decay"),
    ],
)
def test_impossible_bop(arguments, message):
    with pytest.raises(Error, match=message):
        mx.optimizer.create("bop", **arguments)


# In Gluon


def network(prefix="net_"):
    """A network with weights of 1 bit, of 2 bits and of 32 bits; all shapes known."""
    net = nn.HybridSequential(prefix=prefix)
    with net.name_scope():
        net.add(nn.Dense(12, in_units=6), nn.BatchNorm(in_channels=12), nn.QActivation())
        net.add(nn.QDense(10, in_units=12), nn.BatchNorm(in_channels=10), nn.QActivation())
        net.add(nn.QDense(8, in_units=10, bits=2), nn.BatchNorm(in_channels=8), nn.Dense(3, in_units=8))
    return net


def task(seed=0, size=96):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size)
    x = rng.normal(size=(3, 6))[labels] * 1.5 + rng.normal(0, 0.6, (size, 6))
    return mx.nd.array(x), mx.nd.array(labels)


def initialized(net, ctx=None):
    mx.random.seed(4)
    np.random.seed(4)
    net.initialize(mx.init.Xavier(magnitude=2), ctx=ctx, force_reinit=True)
    return net


def train(net, trainer, steps):
    """Make some steps and return the losses."""
    (x, y), loss, losses = task(), gluon.loss.SoftmaxCrossEntropyLoss(), []
    ctx = net.collect_params()["net_dense0_weight"].list_ctx()
    for _ in range(steps):
        parts = list(zip(gluon.utils.split_and_load(x, ctx), gluon.utils.split_and_load(y, ctx)))
        with autograd.record():
            values = [loss(net(a), b) for a, b in parts]
        autograd.backward(values)
        trainer.step(len(x))
        losses.append(np.mean([v.mean().asscalar() for v in values]))
    return losses


def values(net):
    return {name: p.data(p.list_ctx()[0]).asnumpy() for name, p in net.collect_params().items()}


def assert_same(a, b):
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


ONE_BIT = "net_qdense0_weight"

OPTIMIZERS = {
    "radam": lambda: RAdam(learning_rate=0.01),
    "bop": lambda: BinaryOptimizer("adam", {"learning_rate": 0.01}, "bop", {"gamma": 0.01, "threshold": 1e-6}),
    "schedules": lambda: BinaryOptimizer(
        RAdam(lr_scheduler=mx.lr_scheduler.FactorScheduler(5, 0.7, base_lr=0.02), learning_rate=None),
        binary=Bop(lr_scheduler=mx.lr_scheduler.PolyScheduler(40, base_lr=0.05)),
    ),
    "clipped adam": lambda: BinaryOptimizer("adam", {"learning_rate": 0.02}, clip=0.3),
    "clipped sgd": lambda: BinaryOptimizer("sgd", {"learning_rate": 0.05, "momentum": 0.9, "wd": 1e-3}, clip=1),
    "two of a kind": lambda: BinaryOptimizer("adam", {"learning_rate": 0.02}, "adam", {"learning_rate": 0.001}),
}


@pytest.mark.parametrize(
    "name, arguments", [("radam", {"learning_rate": 0.01}), ("binaryoptimizer", {"binary": "bop"})]
)
def test_optimizers_are_known_by_name(name, arguments):
    net = initialized(network())
    trainer = gluon.Trainer(net.collect_params(), name, arguments)
    train(net, trainer, 3)
    assert type(trainer.optimizer).__name__.lower() == name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_networks_learn(name):
    net = initialized(network())
    net.hybridize()
    losses = train(net, gluon.Trainer(net.collect_params(), OPTIMIZERS[name]()), 100)
    assert losses[-1] < losses[0] / 4
    x, y = task()
    assert (net(x).argmax(axis=1) == y).mean().asscalar() > 0.95


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_from_saved_states_as_if_it_had_not_stopped(name, tmp_path):
    net = initialized(network())
    trainer = gluon.Trainer(net.collect_params(), OPTIMIZERS[name]())
    train(net, trainer, 8)
    net.save_parameters(str(tmp_path / "params"))
    trainer.save_states(str(tmp_path / "states"))
    rate = trainer.learning_rate
    losses = train(net, trainer, 8)

    other = network()
    other.load_parameters(str(tmp_path / "params"))
    resumed = gluon.Trainer(other.collect_params(), OPTIMIZERS[name]())
    resumed.load_states(str(tmp_path / "states"))
    assert resumed.learning_rate == rate
    assert train(other, resumed, 8) == losses
    assert_same(values(other), values(net))
    assert resumed.learning_rate == trainer.learning_rate


def test_each_weight_gets_the_steps_of_its_optimizer():
    net = initialized(network())
    parts = dict(net.collect_params())
    one_bit = {ONE_BIT: parts.pop(ONE_BIT)}
    trainers = [gluon.Trainer(parts, "adam", {"wd": 0.01}), gluon.Trainer(one_bit, "bop", {"gamma": 0.1})]

    class Both:
        @staticmethod
        def step(size):
            for trainer in trainers:
                trainer.step(size)

    train(net, Both, 10)
    expected = values(net)
    other = initialized(network())
    optimizer = BinaryOptimizer("adam", {"wd": 0.01}, "bop", {"gamma": 0.1})
    train(other, gluon.Trainer(other.collect_params(), optimizer), 10)
    assert_same(values(other), expected)
    assert np.abs(expected[ONE_BIT]).min() == 1 == np.abs(expected[ONE_BIT]).max()
    assert optimizer.num_update == 10


def test_multipliers_of_parameters_count():
    results = []
    for optimizer in ("adam", BinaryOptimizer("adam", {"learning_rate": 0.001}, clip=9)):
        net = initialized(network())
        net.collect_params(".*dense0_weight").setattr("lr_mult", 0.0)
        net.collect_params(".*qdense1_weight").setattr("lr_mult", 3.0)
        train(net, gluon.Trainer(net.collect_params(), optimizer), 4)
        results.append(values(net))
    assert_same(*results)
    assert (results[0][ONE_BIT] == values(initialized(network()))[ONE_BIT]).all()


@pytest.mark.parametrize("clip", [0.25, 1])
def test_only_latent_weights_of_one_bit_are_clipped(clip):
    net = initialized(network())
    params = net.collect_params()
    for name in (ONE_BIT, "net_qdense1_weight", "net_dense0_weight"):
        params[name].set_data(3 * mx.nd.random.normal(shape=params[name].shape))
    before = values(net)
    train(net, gluon.Trainer(params, BinaryOptimizer("sgd", {"learning_rate": 1e-4}, clip=clip)), 1)
    after = values(net)
    np.testing.assert_allclose(after[ONE_BIT], np.clip(before[ONE_BIT], -clip, clip), atol=1e-3)
    assert np.abs(after[ONE_BIT]).max() == clip
    for name in ("net_qdense1_weight", "net_dense0_weight"):
        assert np.abs(after[name]).max() > 2


def test_weights_by_name():
    net = initialized(network())
    train(net, gluon.Trainer(net.collect_params(), BinaryOptimizer("sgd", binary="bop", names="[^q]dense1_w|qd.*1")), 2)
    plus_minus_one = {name for name, value in values(net).items() if (np.abs(value) == 1).all() and value.ndim == 2}
    assert plus_minus_one == {"net_qdense1_weight", "net_dense1_weight"}


def test_learning_rate_is_that_of_the_other_weights():
    net = initialized(network())
    optimizer = BinaryOptimizer("sgd", {"learning_rate": 0.5}, "bop", {"gamma": 0.25})
    trainer = gluon.Trainer(net.collect_params(), optimizer)
    assert trainer.learning_rate == 0.5
    trainer.set_learning_rate(0.125)
    assert (trainer.learning_rate, optimizer.binary.learning_rate) == (0.125, 0.25)


@pytest.mark.parametrize("update_on_kvstore", [False, True])
def test_several_devices(update_on_kvstore):
    """Batch normalization sees half a batch on each device; what the devices must share are the parameters."""
    net = initialized(network(), ctx=[mx.cpu(0), mx.cpu(1)])
    optimizer = BinaryOptimizer("adam", {"learning_rate": 0.01}, "bop", {"gamma": 0.05})
    trainer = gluon.Trainer(net.collect_params(), optimizer, update_on_kvstore=update_on_kvstore)
    losses = train(net, trainer, 40)
    assert losses[-1] < losses[0] / 2 and optimizer.num_update == 40
    for name, p in net.collect_params(".*(weight|bias|gamma|beta)").items():
        np.testing.assert_array_equal(p.data(mx.cpu(0)).asnumpy(), p.data(mx.cpu(1)).asnumpy(), err_msg=name)
    assert (np.abs(net.collect_params()[ONE_BIT].data(mx.cpu(0)).asnumpy()) == 1).all()


def test_on_the_server_of_a_kvstore():
    """A server gets the optimizer pickled, without the parameters."""
    net = initialized(network())
    trainer = gluon.Trainer(net.collect_params(), BinaryOptimizer("sgd", {"learning_rate": 1}, "bop", clip=0.5))
    update = mx.optimizer.get_updater(pickle.loads(pickle.dumps(trainer.optimizer)))
    for i, p in enumerate(trainer._params):
        weight = mx.nd.ones(p.shape) * 3
        update(i, mx.nd.ones(p.shape), weight)
        np.testing.assert_array_equal(weight.asnumpy(), -0.5 if p.name == ONE_BIT else 2)


def test_module():
    data = mx.sym.QActivation(mx.sym.var("data"))
    symbol = mx.sym.FullyConnected(mx.sym.QFullyConnected(data, num_hidden=8, name="q"), num_hidden=3, name="fc")
    symbol = mx.sym.SoftmaxOutput(symbol, name="softmax")
    x, y = task()
    batches = mx.io.NDArrayIter(x, y, 32)
    module = mx.mod.Module(symbol)
    options = {"optimizer": "sgd", "optimizer_params": {"learning_rate": 0.1}, "binary": "bop"}
    with pytest.raises(Error, match="names="):
        module.fit(batches, optimizer="binaryoptimizer", optimizer_params=tuple(options.items()), num_epoch=1)
    options["names"] = "^q_weight"
    module = mx.mod.Module(symbol)
    module.fit(batches, optimizer="binaryoptimizer", optimizer_params=tuple(options.items()), num_epoch=20)
    weights = module.get_params()[0]
    assert (np.abs(weights["q_weight"].asnumpy()) == 1).all() and not (
        np.abs(weights["fc_weight"].asnumpy()) == 1
    ).any()
    assert module.score(batches, "acc")[0][1] > 0.6


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BinaryOptimizer(clip=0), "clip=0: allowed is a number above 0"),
        (lambda: BinaryOptimizer(clip=float("nan")), "clip=nan"),
        (lambda: BinaryOptimizer("adom"), "optimizer 'adom': .* there are adadelta"),
        (lambda: BinaryOptimizer(binary="bopp"), "optimizer 'bopp'"),
        (lambda: BinaryOptimizer(RAdam(), {"learning_rate": 1}), "RAdam and parameters for it"),
        (
            lambda: gluon.Trainer(initialized(nn.Dense(3, in_units=2)).collect_params(), BinaryOptimizer(clip=1)),
            "none of the 2 parameters is a weight of layers of bmx.gluon.nn with bits=1; say with names",
        ),
        (
            lambda: gluon.Trainer(initialized(network()).collect_params(), BinaryOptimizer(clip=1, names="conv")),
            "a weight whose name has 'conv'",
        ),
    ],
)
def test_impossible_binary_optimizers(make, message):
    with pytest.raises(Error, match=message):
        make()


# FlipRatio


def test_flip_ratio():
    net = initialized(network())
    net.add(nn.QConv2D(3, 3, in_channels=5, prefix="conv_"))
    initialized(net)
    flips = FlipRatio(net)
    rng = np.random.default_rng(0)
    weights = {name: net.collect_params()[name] for name in (ONE_BIT, "conv_weight")}
    for ratio in (0.0, 0.3, 1.0, 0.01):
        expected, changed = {}, 0
        for name, p in weights.items():
            flipped = rng.random(p.shape) < ratio
            p.set_data(mx.nd.array(np.where(flipped, -1, rng.uniform(0.1, 9)) * p.data().asnumpy()))
            expected[name] = flipped.mean()
            changed += flipped.sum()
        result = flips()
        assert result.layers == pytest.approx(expected)
        assert result.total == pytest.approx(changed / sum(p.data().size for p in weights.values()))


def test_flip_ratio_counts_zero_and_nan_as_positive():
    layer = nn.QDense(1, in_units=6)
    layer.initialize()
    flips = FlipRatio(layer)
    layer.weight.set_data(mx.nd.array([[0, -0.0, np.nan, 1, -1, np.inf]]))
    flips()
    layer.weight.set_data(mx.nd.array([[1, 1, 1, np.nan, -3, 0]]))
    assert flips().total == 0
    layer.weight.set_data(mx.nd.array([[1, -1, -1, 1, 0, 0]]))
    assert flips().total == 0.5


def test_flip_ratio_of_weights_that_are_initialized_later():
    net = nn.HybridSequential()
    net.add(nn.QDense(4), nn.QDense(2, in_units=4))
    flips = FlipRatio(net)
    assert flips() == (0.0, {})
    net.initialize()
    assert list(flips().layers) == [net[1].weight.name]
    net(mx.nd.ones((1, 3)))
    assert flips().layers == {net[0].weight.name: 0.0, net[1].weight.name: 0.0}
    net[0].weight.set_data(-net[0].weight.data())
    assert flips().layers == {net[0].weight.name: 1.0, net[1].weight.name: 0.0}


def test_flip_ratio_of_given_parameters():
    net = initialized(network())
    given = net.collect_params(".*qdense1_weight")
    assert list(FlipRatio(given)().layers) == list(FlipRatio(list(given.values()))().layers) == ["net_qdense1_weight"]
    with pytest.raises(Error, match="no weights"):
        FlipRatio(nn.Dense(3))


def test_the_threshold_keeps_weights_from_flipping():
    ratios = []
    for threshold in (0, 1e-3, 1e3):
        net = initialized(network())
        trainer = gluon.Trainer(net.collect_params(), BinaryOptimizer("adam", None, Bop(0.1, threshold)))
        flips = FlipRatio(net)
        train(net, trainer, 15)
        ratios.append(flips().total)
    assert ratios[0] > ratios[1] > ratios[2] == 0
