"""The fit loop: learning, resuming exactly, and stopping cleanly."""

import json
import os
import resource
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import bmx
from bmx.training import Batches, Checkpoint, accuracy, fit, plot_curves


def problem(seed=0, batch_size=8):
    """Two classes, told apart by the sign of the mean, and a network with dropout, so that random numbers matter."""
    random = np.random.RandomState(3)
    labels = np.arange(64, dtype=np.float32) % 2
    images = (random.randn(64, 1, 4, 4) + labels.reshape(-1, 1, 1, 1) - 0.5).astype(np.float32)
    train = Batches(images, labels, batch_size, train=True, seed=seed)
    return train, Batches(images, labels, batch_size=30)


def network(units=8, activation="relu"):
    mx.random.seed(11)
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Dense(units), nn.BatchNorm(), nn.Activation(activation), nn.Dropout(0.3), nn.Dense(2))
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 16)))  # initializes now, with the seed above
    net.hybridize()
    return net


def adam():
    return mx.optimizer.Adam(learning_rate=0.01, lr_scheduler=mx.lr_scheduler.CosineScheduler(60, base_lr=0.01))


def parameters(net):
    return [param.data().asnumpy() for param in net.collect_params().values()]


def assert_equal_parameters(left, right):
    for a, b in zip(parameters(left), parameters(right)):
        np.testing.assert_array_equal(a, b)


def run(net, epochs, prefix=None, optimizer=None, problem=problem, **options):
    return fit(net, *problem(), optimizer or adam(), epochs, prefix=prefix, log=lambda line: None, **options)


def without_times(history):
    return [(row["epoch"], row["loss"], row["accuracy"]) for row in history]


def test_fit_learns_and_reports():
    lines = []
    net = network()
    history = fit(net, *problem(), adam(), epochs=8, log=lines.append)
    assert [row["epoch"] for row in history] == list(range(1, 9))
    assert history[-1]["loss"] < 0.7 * history[0]["loss"] and history[-1]["accuracy"] > 0.9
    assert history[-1]["accuracy"] == accuracy(net, problem()[1])
    assert len(lines) == 8 and "validation accuracy" in lines[0] and "img/s" in lines[0]


def test_equal_runs_are_equal():
    first, second = network(), network()
    assert without_times(run(first, 2)) == without_times(run(second, 2))
    assert_equal_parameters(first, second)


@pytest.mark.parametrize(
    "optimizer", [adam, lambda: mx.optimizer.SGD(learning_rate=0.1, momentum=0.9), mx.optimizer.SGD]
)
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, optimizer):
    whole, begun, resumed = network(), network(), network()
    expected = run(whole, 4, optimizer=optimizer())
    run(begun, 2, prefix=str(tmp_path / "net"), optimizer=optimizer())
    history = run(resumed, 4, prefix=str(tmp_path / "net"), optimizer=optimizer(), resume=True)
    assert without_times(history) == without_times(expected)
    assert_equal_parameters(whole, resumed)


@pytest.mark.parametrize("batch", [1, 5, 8])
def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint_to_resume_from(tmp_path, batch):
    prefix = str(tmp_path / "net")
    whole, stopped, resumed = network(), network(), network()
    expected = run(whole, 3)

    class PressesCtrlC(Batches):
        def epoch(self, number, start=0):
            for i, item in enumerate(super().epoch(number, start)):
                if number == 2 and i == batch - 1:
                    os.kill(os.getpid(), signal.SIGINT)
                yield item

    def interrupted_problem():
        train, validation = problem()
        return PressesCtrlC(train.images, train.labels, train.batch_size, train=True), validation

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(stopped, 3, prefix=prefix, problem=interrupted_problem)
    assert signal.getsignal(signal.SIGINT) is before
    symbol, arguments, auxiliary = mx.model.load_checkpoint(prefix, 2)
    assert set(symbol.list_arguments()) == {"data", *arguments}
    assert not (tmp_path / "net-0001.params").exists()
    assert without_times(run(resumed, 3, prefix=prefix, resume=True)) == without_times(expected)
    assert_equal_parameters(whole, resumed)


def test_checkpoint_runs_in_module_and_symbol_block(tmp_path):
    prefix = str(tmp_path / "net")
    net = network()
    run(net, 1, prefix=prefix)
    images, labels = next(iter(problem()[1].epoch(0)))
    expected = mx.nd.softmax(net(images)).asnumpy()

    symbol, arguments, auxiliary = mx.model.load_checkpoint(prefix, 1)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", images.shape)], for_training=False)
    module.set_params(arguments, auxiliary)
    module.forward(mx.io.DataBatch([images]), is_train=False)
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), expected, rtol=1e-5)

    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0001.params")
    np.testing.assert_allclose(block(images).asnumpy(), expected, rtol=1e-5)


def test_only_the_newest_parameters_are_kept_and_nothing_else_is_removed(tmp_path):
    (tmp_path / "net-0009.params").write_bytes(b"of another run")
    run(network(), 3, prefix=str(tmp_path / "new" / "net"))
    run(network(), 2, prefix=str(tmp_path / "net"))
    run(network(), 3, prefix=str(tmp_path / "net"), resume=True)
    files = ["net-0003.params", "net-symbol.json", "net.resume"]
    assert sorted(os.listdir(tmp_path / "new")) == files
    assert sorted(os.listdir(tmp_path)) == sorted([*files, "net-0009.params", "new"])


@pytest.mark.parametrize("activation, what", [("tanh", "the loss is nan"), ("relu", "dense0_weight has values")])
def test_numbers_that_are_not_finite_stop_and_keep_the_checkpoint(tmp_path, activation, what):
    """MXNet's relu makes 0 of NaN, as the sign makes 1: then the loss alone does not show it."""
    prefix = str(tmp_path / "net")
    run(network(activation=activation), 1, prefix=prefix)
    saved = (tmp_path / "net.resume").read_bytes()

    def poisoned():
        train, validation = problem()
        train.images = train.images * np.float32("nan")
        return train, validation

    with pytest.raises(bmx.Error, match=what + r".* in epoch 2, batch \d: lower the learning rate"):
        run(network(activation=activation), 3, prefix=prefix, problem=poisoned, resume=True)
    assert (tmp_path / "net.resume").read_bytes() == saved


def test_resume_needs_a_run():
    with pytest.raises(bmx.Error, match="resume needs the prefix"):
        run(network(), 1, resume=True)


def test_resume_without_checkpoint(tmp_path):
    with pytest.raises(bmx.Error, match="net.resume: not found"):
        run(network(), 1, prefix=str(tmp_path / "net"), resume=True)


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"net": lambda: network(units=9)}, "from another network or optimizer"),
        ({"optimizer": lambda: mx.optimizer.SGD(momentum=0.9)}, "the run has optimizer Adam, not SGD"),
        ({"settings": {"batch size": 9}}, "the run has batch size 8, not 9"),
        ({"seed": 1}, "the run has seed 0, not 1"),
    ],
)
def test_resume_with_something_else_changes_nothing(tmp_path, options, reason):
    prefix = str(tmp_path / "net")
    run(network(), 1, prefix=prefix, settings={"batch size": 8})
    net = options.get("net", network)()
    before = parameters(net)
    with pytest.raises(bmx.Error, match=f"net.resume.*{reason}"):
        run(
            net,
            2,
            prefix=prefix,
            optimizer=options.get("optimizer", adam)(),
            settings=options.get("settings"),
            seed=options.get("seed", 0),
            resume=True,
        )
    for now, then in zip(parameters(net), before):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("size", [0, 10, 100, 1000, -1])
def test_corrupt_resume_file(tmp_path, size):
    run(network(), 1, prefix=str(tmp_path / "net"))
    file = tmp_path / "net.resume"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(bmx.Error, match="net.resume"):
        run(network(), 2, prefix=str(tmp_path / "net"), resume=True)


def test_params_file_is_no_resume_file(tmp_path):
    run(network(), 1, prefix=str(tmp_path / "net"))
    os.replace(tmp_path / "net-0001.params", tmp_path / "net.resume")
    with pytest.raises(bmx.Error, match="net.resume: not a file to resume from"):
        run(network(), 2, prefix=str(tmp_path / "net"), resume=True)


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(bmx.Error, match="cannot make the folder"):
        run(network(), 1, prefix=str(tmp_path / "file" / "net"))


def test_full_disk_keeps_the_old_checkpoint(tmp_path):
    """A limit on the size of files stands for the full disk: writing fails in the middle in the same way."""
    prefix = str(tmp_path / "net")
    run(network(), 1, prefix=prefix)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(bmx.Error, match="net.*: cannot be written"):
            run(network(), 2, prefix=prefix, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_progress_in_the_checkpoint_is_plain_json(tmp_path):
    run(network(), 2, prefix=str(tmp_path / "net"), settings={"data": "random"})
    saved = mx.nd.load(Checkpoint(str(tmp_path / "net")).resume_file)
    progress = json.loads(saved["progress"].asnumpy().tobytes().decode())
    assert progress["epoch"] == 2 and progress["batch"] == 0 and progress["updates"] == 16
    assert progress["settings"] == {"data": "random", "optimizer": "Adam", "seed": 0}


def test_plot_curves(tmp_path):
    history = [{"epoch": i, "loss": 1 / i, "accuracy": 1 - 0.5 / i} for i in (1, 2, 3)]
    plot_curves(str(tmp_path / "curves.png"), history, title="curves")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(bmx.Error, match="curves.png: cannot be written"):
        plot_curves(str(tmp_path / "missing" / "curves.png"), history)


def test_training_needs_neither_tqdm_nor_matplotlib(root):
    script = """if True:
        import sys
        sys.path += [sys.argv[1], sys.argv[2]]
        sys.modules.update(dict.fromkeys(["tqdm", "matplotlib"]))  # importing them fails
        import test_fit
        test_fit.run(test_fit.network(), 1)
    """
    folder = os.path.dirname(__file__)
    subprocess.run([sys.executable, "-c", script, folder, str(root)], check=True, stdin=subprocess.DEVNULL)


def test_the_best_epoch_is_kept(tmp_path):
    """The accuracies of four epochs are made up: the best one is the second."""
    scores = iter([0.2, 0.9, 0.5, 0.7])

    def made_up(net, batches, ctx=None):
        return next(scores)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["bmx.training.fit"], "accuracy", made_up)
        run(network(), 4, prefix=str(tmp_path / "net"), keep_best=True)
    assert sorted(path.name for path in tmp_path.glob("net-best*")) == ["net-best-0002.params", "net-best-symbol.json"]
    begun = network()
    run(begun, 2)
    saved = mx.nd.load(str(tmp_path / "net-best-0002.params"))
    for array, expected in zip(saved.values(), parameters(begun)):
        np.testing.assert_array_equal(array.asnumpy(), expected)


def test_callbacks_get_the_history():
    lengths = []
    history = run(network(), 3, callbacks=[lambda rows: lengths.append(len(rows))])
    assert lengths == [1, 2, 3] and history[0]["learning_rate"] > history[2]["learning_rate"] > 0


def on_two_devices():
    contexts = [mx.cpu(0), mx.cpu(1)]
    mx.random.seed(11)
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(nn.Dense(8, in_units=16), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(2, in_units=8))
    net.initialize(mx.init.Xavier(), ctx=contexts)
    return net, contexts


@pytest.mark.parametrize("batch", [3, 8])
def test_run_on_two_devices_resumes_exactly(tmp_path, batch):
    """Two CPU contexts stand for two GPUs."""
    prefix = str(tmp_path / "net")

    def train(epochs, interrupt=False, **options):
        net, contexts = on_two_devices()
        batches, validation = problem()

        class PressesCtrlC(Batches):
            def epoch(self, number, start=0):
                for i, item in enumerate(super().epoch(number, start)):
                    if interrupt and number == 2 and i == batch - 1:
                        os.kill(os.getpid(), signal.SIGINT)
                    yield item

        batches = PressesCtrlC(batches.images, batches.labels, batches.batch_size, train=True)
        history = []
        try:
            history = fit(net, batches, validation, adam(), epochs, contexts=contexts, log=str, **options)
        except KeyboardInterrupt:
            assert interrupt
        return history, [[array.asnumpy() for array in param.list_data()] for param in net.collect_params().values()]

    history, whole = train(3)
    train(3, interrupt=True, prefix=prefix)
    resumed_history, resumed = train(3, prefix=prefix, resume=True)
    assert history[-1]["accuracy"] > 0.7 and without_times(history) == without_times(resumed_history)
    for before, after in zip(whole, resumed):
        for a, b in zip(before, after):
            np.testing.assert_array_equal(a, b)


def test_two_devices_equal_one():
    """Without BatchNorm, which has averages of its own on each device."""
    results = []
    for contexts in ([mx.cpu(0)], [mx.cpu(0), mx.cpu(1)]):
        mx.random.seed(11)
        net = nn.HybridSequential()
        net.add(nn.Dense(8, activation="tanh", in_units=16), nn.Dense(2, in_units=8))
        net.initialize(mx.init.Xavier(), ctx=contexts)
        fit(net, *problem(), mx.optimizer.SGD(learning_rate=0.1), 2, contexts=contexts, log=str)
        results.append([param.list_data()[0].asnumpy() for param in net.collect_params().values()])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_devices_share_a_batch_equally():
    with pytest.raises(bmx.Error, match="batch size 8; allowed with 3 devices: multiples of 3"):
        run(network(), 1, contexts=[mx.cpu(i) for i in range(3)])


def test_images_that_do_not_fit_the_network():
    net = nn.Dense(2, in_units=9)
    net.initialize()
    with pytest.raises(bmx.Error, match="the network cannot take images of 1x4x4: "):
        run(net, 1)


def test_binary_optimizer_and_bop_resume_exactly(tmp_path):
    def binary():
        net = nn.HybridSequential()
        with net.name_scope():
            net.add(bmx.gluon.nn.QDense(8, in_units=16), nn.BatchNorm(), nn.Dense(2, in_units=8))
        mx.random.seed(3)
        net.initialize(mx.init.Xavier())
        return net

    def optimizer():
        return bmx.optimizer.BinaryOptimizer(adam(), binary="bop", clip=1)

    whole, begun, resumed = binary(), binary(), binary()
    expected = run(whole, 3, optimizer=optimizer())
    run(begun, 1, prefix=str(tmp_path / "net"), optimizer=optimizer())
    found = run(resumed, 3, prefix=str(tmp_path / "net"), optimizer=optimizer(), resume=True)
    assert without_times(found) == without_times(expected)
    assert_equal_parameters(whole, resumed)
