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
from bmx.checkpoints.params_file import parse_params
from bmx.commands.train_arguments import HIDDEN
from bmx.training import Batches, Checkpoint, accuracy, checkpoint, fit, plot_curves


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


def binary_network(inputs=16):
    mx.random.seed(3)
    net = nn.HybridSequential()
    with net.name_scope():
        net.add(bmx.gluon.nn.QDense(8, in_units=inputs), nn.BatchNorm(), nn.Dense(2, in_units=8))
    net.initialize(mx.init.Xavier())
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


def test_every_step_of_every_epoch_has_random_numbers_of_its_own():
    """Those of MXNet (dropout), and those that an objective is given (mixup); another seed gives others."""
    drawn = []

    def objective(net, images, labels, random):
        drawn.append((float(mx.nd.random.uniform().asscalar()), random.random_sample()))
        return mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels)

    for seed in (0, 1):
        run(network(), 2, objective=objective, seed=seed)
    assert len(drawn) == 2 * 2 * 8
    assert all(len(set(numbers)) == len(drawn) for numbers in zip(*drawn))


OPTIMIZERS = sorted(set(mx.optimizer.Optimizer.opt_registry) - HIDDEN - {"bop"})


@pytest.mark.parametrize("name", [*OPTIMIZERS, "binary"])
def test_resumed_run_equals_an_uninterrupted_one(tmp_path, name):
    def optimizer():
        if name == "binary":
            return bmx.optimizer.BinaryOptimizer("nadam", binary="bop", clip=1)
        options = {"momentum": 0.9} if name in ("sgd", "lars") else {}
        return adam() if name == "adam" else mx.optimizer.create(name, learning_rate=0.01, **options)

    make = binary_network if name == "binary" else network
    whole, begun, resumed = make(), make(), make()
    expected = run(whole, 3, optimizer=optimizer())
    run(begun, 1, prefix=str(tmp_path / "net"), optimizer=optimizer())
    history = run(resumed, 3, prefix=str(tmp_path / "net"), optimizer=optimizer(), resume=True)
    assert without_times(history) == without_times(expected)
    assert_equal_parameters(whole, resumed)


@pytest.mark.parametrize("batch", [1, 5, 8])
@pytest.mark.parametrize("number, raised", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_finishes_the_step_and_leaves_a_checkpoint_to_resume_from(tmp_path, batch, number, raised):
    prefix = str(tmp_path / "net")
    whole, stopped, resumed = network(), network(), network()
    expected = run(whole, 3)

    class Stopped(Batches):
        def epoch(self, epoch, start=0):
            for i, item in enumerate(super().epoch(epoch, start)):
                if epoch == 2 and i == batch - 1:
                    os.kill(os.getpid(), number)
                yield item

    def interrupted_problem():
        train, validation = problem()
        return Stopped(train.images, train.labels, train.batch_size, train=True), validation

    before = signal.getsignal(number)
    with pytest.raises(raised) as stop:
        run(stopped, 3, prefix=prefix, problem=interrupted_problem)
    assert signal.getsignal(number) is before and (raised is KeyboardInterrupt or stop.value.code == 143)
    symbol, arguments, auxiliary = mx.model.load_checkpoint(prefix, 2)
    assert set(symbol.list_arguments()) == {"data", *arguments}
    assert not (tmp_path / "net-0001.params").exists()
    assert without_times(run(resumed, 3, prefix=prefix, resume=True)) == without_times(expected)
    assert_equal_parameters(whole, resumed)


@pytest.mark.parametrize("fails, done", [("train", (1, 3)), ("validation", (1, 8))])
def test_an_error_of_the_data_costs_no_step(tmp_path, fails, done):
    """Those of the second epoch are damaged from the fourth batch on: repaired, the run goes on as if they had not."""
    prefix = str(tmp_path / "net")

    class Damaged(Batches):
        passes = 0

        def epoch(self, number, start=0):
            self.passes += 1
            for i, item in enumerate(super().epoch(number, start)):
                if (number == 2 and i == 3) or (not self.train and self.passes == 3):  # fit looks at one batch first
                    raise bmx.Error("photo.png: cannot be decoded")
                yield item

    def damaged():
        train, validation = problem()
        damaged = train if fails == "train" else validation
        damaged.__class__ = Damaged
        return train, validation

    whole, stopped, resumed = network(), network(), network()
    expected = run(whole, 3)
    with pytest.raises(bmx.Error, match="photo.png: cannot be decoded"):
        run(stopped, 3, prefix=prefix, problem=damaged)
    progress = json.loads(mx.nd.load(f"{prefix}.resume")["progress"].asnumpy().tobytes().decode())
    assert (progress["epoch"], progress["batch"]) == done
    assert without_times(run(resumed, 3, prefix=prefix, resume=True)) == without_times(expected)
    assert_equal_parameters(whole, resumed)


@pytest.mark.parametrize("label", [2, -1, float("nan")])
@pytest.mark.parametrize("part", [0, 1], ids=["train", "validation"])
def test_labels_that_the_network_does_not_know(label, part):
    batches = problem()
    batches[part].labels = np.where(np.arange(64) == 40, np.float32(label), batches[part].labels)
    batches[part].path = "train.rec"
    with pytest.raises(bmx.Error, match=f"train.rec: label {label:g}; allowed with a network of 2 classes: 0 to 1"):
        run(network(), 1, problem=lambda: batches)


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


def test_parameters_that_a_killed_run_did_not_remove_are_removed_by_the_resumed_one(tmp_path, monkeypatch):
    def killed(paths):
        raise SystemExit("killed")

    prefix = str(tmp_path / "net")
    run(network(), 1, prefix=prefix)
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(checkpoint, "_remove", killed)
        run(network(), 2, prefix=prefix, resume=True)
    assert {"net-0001.params", "net-0002.params"} < set(os.listdir(tmp_path))
    run(network(), 2, prefix=prefix, resume=True)
    assert sorted(os.listdir(tmp_path)) == ["net-0002.params", "net-symbol.json", "net.resume"]


def test_an_earlier_run_is_overwritten_only_when_asked_and_then_wholly(tmp_path):
    prefix = str(tmp_path / "net")
    run(network(), 2, prefix=prefix, keep_best=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(bmx.Error, match="net.resume: there is an earlier run with this prefix; .*--overwrite"):
        run(network(units=9), 1, prefix=prefix)

    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    run(network(units=9), 1, prefix=prefix, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["net-0001.params", "net-symbol.json", "net.resume"]
    run(network(units=9), 2, prefix=prefix, resume=True)


def test_the_best_of_another_run_is_left_alone(tmp_path):
    (tmp_path / "net-best-0009.params").write_bytes(b"of a run whose other files were moved away")
    run(network(), 2, prefix=str(tmp_path / "net"), keep_best=True)
    assert (tmp_path / "net-best-0009.params").exists() and len(list(tmp_path.glob("net-best-*.params"))) == 2


@pytest.mark.parametrize("wrong", [1, 3, 8])
def test_the_batch_whose_loss_is_not_finite_is_named(wrong):
    batches = []

    def objective(net, images, labels, random):
        batches.append(images)
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels)
        return loss * (np.inf if len(batches) == wrong else 1)

    train, validation = problem()
    assert len(train) == 8
    with pytest.raises(bmx.Error, match=rf"the loss is inf in epoch 1, batch {wrong}: "):
        fit(network(), train, validation, adam(), 1, log=str, objective=objective)


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


def test_every_changed_byte_of_a_resume_file_is_noticed(tmp_path):
    """But those that no reader uses: what is reserved, and the devices that the arrays were on."""

    def arrays():
        return {
            name: (array.shape, array.numpy().tobytes())
            for name, array in parse_params(file.read_bytes(), "net.resume").items()
        }

    prefix = str(tmp_path / "net")
    run(network(), 1, prefix=prefix)
    file, net = tmp_path / "net.resume", network()
    trainer = mx.gluon.Trainer(net.collect_params(), adam())
    good, expected = file.read_bytes(), arrays()
    for place in np.random.RandomState(0).randint(0, len(good), 150):
        file.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        try:
            Checkpoint(prefix).restore(net, trainer, {})
        except bmx.Error as error:
            assert "net.resume: " in str(error)
        else:
            assert arrays() == expected, place


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


@pytest.mark.parametrize(
    "name, message",
    [
        ("file/net", "cannot make the folder .*/file of the checkpoint"),
        ("new/" + 300 * "n", "n.resume: cannot be written .*; take another prefix"),
        ("new/", "prefix '.*/new/': ends in a folder"),
    ],
)
def test_files_that_cannot_be_written_are_found_before_the_first_step(tmp_path, name, message):
    (tmp_path / "file").write_bytes(b"")
    net = network()
    before = parameters(net)
    with pytest.raises(bmx.Error, match=message):
        run(net, 1, prefix=f"{tmp_path}/{name}")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for now, then in zip(parameters(net), before):
        np.testing.assert_array_equal(now, then)


class OnArraysOnly(mx.gluon.Block):
    def forward(self, x):
        return mx.nd.concat(*[x.mean(axis=(1, 2, 3)).reshape((-1, 1))] * 2)


@pytest.mark.parametrize(
    "net, options, message",
    [
        (lambda: nn.Dense(2), {}, r"the network has no parameters yet \(.*\): call its initialize\(\)"),
        (OnArraysOnly, {}, "the network is a OnArraysOnly; allowed are HybridBlocks"),
        (network, {"settings": {"a": np.float32(1)}}, "settings: 'a' is of type float32; allowed are str, int, float"),
        (network, {"small_epochs": 1}, "ends in a global pooling; this one takes images of 1x4x4, but not of 3x3"),
    ],
)
def test_impossible_runs_end_before_the_first_step(tmp_path, net, options, message):
    def small():
        train, validation = problem()
        train.small_epochs = options.get("small_epochs", 0)
        return train, validation

    with pytest.raises(bmx.Error, match=message):
        run(net(), 1, prefix=str(tmp_path / "net"), problem=small, settings=options.get("settings"))
    assert not list(tmp_path.iterdir())


def test_settings_may_be_tuples(tmp_path):
    for epochs in (1, 2):
        run(network(), epochs, prefix=str(tmp_path / "net"), settings={"shape": (1, 4, 4)}, resume=epochs == 2)


@pytest.mark.parametrize("how, units, limit", [("resume", 8, 1000), ("overwrite", 900, 9000)])
def test_full_disk_keeps_the_old_checkpoint(tmp_path, how, units, limit):
    """A limit on the size of files stands for the full disk: writing fails in the middle in the same way.

    The second is enough for the symbol of another network, not for its parameters.
    """
    prefix = str(tmp_path / "net")
    run(network(), 1, prefix=prefix)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(bmx.Error, match="net.*: cannot be written"):
            run(network(units), 2, prefix=prefix, **{how: True})
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
    """The accuracies of four epochs are made up: the best one is the second, the first of two."""
    scores = iter([0.2, 0.9, 0.5, 0.9])

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


def test_flip_ratios_are_in_the_history_and_in_the_log(tmp_path):
    lines, net = [], binary_network(inputs=0)  # of a first layer whose shape is not known yet
    history = fit(net, *problem(), adam(), 2, callbacks=[bmx.optimizer.FlipRatio(net)], log=lines.append)
    run(binary_network(inputs=0), 1, prefix=str(tmp_path / "net"))
    resumed = binary_network(inputs=0)
    flips = bmx.optimizer.FlipRatio(resumed)
    again = run(resumed, 2, prefix=str(tmp_path / "net"), resume=True, callbacks=[flips])
    assert 0 < history[0]["flip_ratio"] < 0.5 and f"{history[0]['flip_ratio']:.2%} flipped" in lines[0]
    assert again[1]["flip_ratio"] == history[1]["flip_ratio"] > 0


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
