"""Two-stage training, and runs that begin with the parameters of another one."""

import json
import sys

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import models
from bmx.commands import train as command
from bmx.gluon import nn
from bmx.training.stages import begin_with, hand_over

TINY = "--dataset synthetic --model binarynet_cifar --shape 3,8,8 --limit 32 --batch-size 16 --warmup-epochs 0".split()


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Run the command line of the examples in an empty folder; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DMLC_ROLE", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def run(*arguments):
        status = command.main("Trains.\n\nexamples:", [*TINY, *map(str, arguments)])
        return (status, *capsys.readouterr())

    return run


def parameters(path):
    return {name: array.asnumpy() for name, array in mx.nd.load(str(path)).items()}


def signature(array):
    """What an array is known by, whatever its name."""
    return (array.shape, *array.ravel()[:5].tolist())


def attributes(path):
    nodes = json.loads(path.read_text())["nodes"]
    return [node["attrs"] for node in nodes if node["op"] in ("QConvolution", "QFullyConnected")]


def test_the_first_stage_has_float_weights_and_the_second_begins_with_them(train, tmp_path):
    status, out, errors = train("--stages", 2, "--epochs", 2, "--lr", 1e-30, "--prefix", "net")
    assert status == 0, errors
    assert "stage 1 of 2, 1 epochs" in out and "stage 2 of 2, 1 epochs" in out
    first = parameters(tmp_path / "net-stage1-0001.params")
    second = parameters(tmp_path / "net-0001.params")
    assert not attributes(tmp_path / "net-stage1-symbol.json")  # no layer with 1-bit weights
    assert len(attributes(tmp_path / "net-symbol.json")) == 8
    ours, theirs = ([a for name, a in arrays.items() if name.startswith("arg:")] for arrays in (second, first))
    for array, other in zip(sorted(ours, key=signature), sorted(theirs, key=signature)):
        np.testing.assert_allclose(array, other, atol=1e-20)  # the learning rate is next to nothing


@pytest.mark.parametrize("stopped_after", [2, 5])  # in the first stage, and in the second
def test_a_stopped_run_of_two_stages_resumes_exactly(train, tmp_path, monkeypatch, stopped_after):
    options = ["--stages", 2, "--epochs", 3, "--stage-epochs", 2]
    status, _, errors = train(*options, "--prefix", "whole")
    assert status == 0, errors
    steps = [0]
    step = mx.gluon.Trainer.step

    def stopping(trainer, *arguments, **keywords):
        step(trainer, *arguments, **keywords)
        steps[0] += 1
        if steps[0] == stopped_after:
            import signal

            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(mx.gluon.Trainer, "step", stopping)
    status, _, errors = train(*options, "--prefix", "halves")
    assert status == 130
    assert "--resume" in errors
    monkeypatch.setattr(mx.gluon.Trainer, "step", step)
    status, out, errors = train(*options, "--prefix", "halves", "--resume")
    assert status == 0, errors
    assert ("stage 1 of 2" in out) == (stopped_after <= 4)
    expected, got = parameters(tmp_path / "whole-0001.params"), parameters(tmp_path / "halves-0001.params")
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


def test_a_run_begins_with_the_parameters_of_a_checkpoint(train, tmp_path):
    status, _, errors = train("--epochs", 1, "--prefix", "before")
    assert status == 0, errors
    options = ["--epochs", 1, "--lr", 1e-30, "--prefix", "after", "--start", "before-0001.params"]
    status, _, errors = train(*options)
    assert status == 0, errors
    before, after = parameters(tmp_path / "before-0001.params"), parameters(tmp_path / "after-0001.params")
    for name in before:
        if name.startswith("arg:"):
            np.testing.assert_allclose(after[name], before[name], atol=1e-20)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--stages", 2, "--bits", 32], "--stages 2 makes float weights low-bit ones"),
        (["--stages", 2, "--epochs", 1], "--stage-epochs is 0; allowed with --stages 2 and 1 epochs in all: 1 to 0"),
        (["--stages", 2, "--epochs", 4, "--stage-epochs", 4], "--stage-epochs is 4; allowed .* 1 to 3"),
        (["--stage-epochs", 1], "--stage-epochs is for --stages 2"),
        (["--stages", 2, "--start", "x-0001.params"], "--start is for one stage"),
        (["--start", "none-0001.params"], "none-0001.params: "),
        (["--binary-lr", 0], "--binary-lr is 0; allowed: more than 0"),
        (["--binary-lr", 1, "--bits", 2], "--binary-lr is for 1-bit weights; these have 2 bits"),
        (["--binary-optimizer", "magic"], "no optimizer 'magic'; there are"),
        (["--binary-optimizer", "bop", "--binary-lr", 1], "--binary-lr: bop has neither"),
        (["--binary-optimizer", "sgd", "--optimizer", "bop"], "--optimizer bop has bop for the 1-bit weights"),
    ],
)
def test_options_that_do_not_fit_are_one_line(train, options, message):
    status, _, errors = train(*options)
    assert status == 1
    assert errors.count("\n") == 1
    import re

    assert re.search(message, errors), errors


def small(units=3):
    net = nn.HybridSequential(prefix="")
    with net.name_scope(), mx.name.NameManager():
        net.add(nn.Dense(units, in_units=2), nn.QDense(2, in_units=units))
    net.initialize()
    return net


def test_parameters_of_another_network_are_refused_by_name(tmp_path):
    file = str(tmp_path / "net-0000.params")
    net = small()
    mx.nd.save(file, {f"arg:{name}": p.data() for name, p in net.collect_params().items()})
    begin_with(net, file)
    with pytest.raises(bmx.Error, match=r"net-0000.params: dense0_weight has shape \(3, 2\), here it has \(4, 2\)"):
        begin_with(small(4), file)
    arrays = mx.nd.load(file)
    weight = arrays.pop("arg:dense0_weight")
    mx.nd.save(file, arrays)
    with pytest.raises(bmx.Error, match="has no dense0_weight"):
        begin_with(net, file)
    mx.nd.save(file, {**arrays, "arg:dense0_weight": weight, "arg:other": weight})
    with pytest.raises(bmx.Error, match="has other, which is not in this network"):
        begin_with(net, file)


def test_stages_hand_over_by_place_in_the_network():
    first, second = (models.get_model("binarynet_cifar", bits, 1, classes=3) for bits in (32, 1))
    for net in (first, second):
        net.initialize(mx.init.Xavier())
        net(mx.nd.zeros((1, 3, 8, 8)))
    hand_over(first, second)
    ours, theirs = (net._collect_params_with_prefix() for net in (second, first))
    assert "features.0.1.weight" in ours and "features.0.weight" in theirs
    for (_, array), (_, other) in zip(ours.items(), theirs.items()):
        np.testing.assert_array_equal(array.data().asnumpy(), other.data().asnumpy())
    with pytest.raises(bmx.Error, match="Dense has other parameters with float weights"):
        hand_over(first, nn.Dense(3, in_units=2))


def test_binary_weights_have_a_rate_and_a_decay_of_their_own(train, monkeypatch):
    seen = []
    create = command.fit
    monkeypatch.setattr(command, "fit", lambda net, train, test, optimizer, *rest, **options: (
        seen.append((net, optimizer)), create(net, train, test, optimizer, *rest, **options))[1])  # fmt: skip
    options = ["--binary-lr", 0.5, "--binary-wd", 0.25, "--wd", 0.125, "--binary-optimizer", "sgd", "--epochs", 1]
    status, _, errors = train(*options)
    assert status == 0, errors
    net, optimizer = seen[0]
    assert type(optimizer.optimizer).__name__ == "Adam" and type(optimizer.binary).__name__ == "SGD"
    assert (optimizer.optimizer.wd, optimizer.binary.wd) == (0.125, 0.25)
    assert optimizer.binary.lr_scheduler.base_lr == 0.5
    mults = {p.wd_mult for p in net.collect_params().values() if bmx.optimizer.has_one_bit(p)}
    assert mults == {1.0}
