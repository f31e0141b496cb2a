"""ReCU on the command line of the training programs: its options, its quantile over a run, and resuming it."""

import signal
import sys

import mxnet as mx
import numpy as np
import pytest

from bmx.commands import train as command

RECU = "--dataset synthetic --model binarynet_cifar --shape 3,8,8 --limit 32 --batch-size 16 --weight-quantization recu"


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DMLC_ROLE", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def run(*arguments):
        status = command.main("Trains.\n\nexamples:", [*RECU.split(), "--warmup-epochs", "0", *map(str, arguments)])
        return (status, *capsys.readouterr())

    return run


def test_a_stopped_run_resumes_exactly_with_its_quantile(train, tmp_path, monkeypatch):
    options = ["--epochs", 2, "--approximation", "learned", "--tau", "0.6,0.9"]
    status, _, errors = train(*options, "--prefix", "whole")
    assert status == 0, errors
    step, steps = mx.gluon.Trainer.step, []

    def stopping(trainer, *arguments, **keywords):
        step(trainer, *arguments, **keywords)
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(mx.gluon.Trainer, "step", stopping)
    assert train(*options, "--prefix", "halves")[0] == 130
    monkeypatch.setattr(mx.gluon.Trainer, "step", step)
    status, _, errors = train(*options, "--prefix", "halves", "--resume")
    assert status == 0, errors
    whole, halves = (mx.nd.load(str(tmp_path / f"{prefix}-0002.params")) for prefix in ("whole", "halves"))
    assert whole.keys() == halves.keys()
    for name in whole:
        np.testing.assert_array_equal(halves[name].asnumpy(), whole[name].asnumpy())
    taus = {float(array.asscalar()) for name, array in whole.items() if name.endswith("_tau")}
    assert taus == {np.float32(0.9)}
    assert any(name.endswith("_scale") for name in whole)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--tau", "0.6"], "--tau is 0.6; allowed: two numbers between 0.5 and 1"),
        (["--tau", "0.4,0.9"], "--tau is 0.4,0.9; allowed: two numbers between 0.5 and 1"),
        (["--weight-quantization", "det_sign", "--tau", "0.6,0.9"], "--tau is for --weight-quantization recu"),
    ],
)
def test_options_that_do_not_fit_are_one_line(train, options, message):
    status, _, errors = train(*options)
    assert (status, errors) == (1, f"error: {message}\n")
