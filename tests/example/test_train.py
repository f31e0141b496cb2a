"""The programs on the shared command line as a user runs them: what they write and resume, and what they refuse."""

import os
import re
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from bmx.training import command

EPOCH = re.compile(r"epoch +(\d+)/\d+  loss ([\d.]+)  validation accuracy ([\d.]+)%")
TINY = "--dataset synthetic --model lenet --shape 1,28,28 --limit 32 --batch-size 16 --epochs 2".split()

SMALL = "--model binarynet_cifar --shape 3,8,8".split()


@pytest.fixture
def start(root, tmp_path):
    """Start an example in an empty folder; returns the process."""

    def run(program, *arguments):
        return subprocess.Popen(
            [sys.executable, str(root / "example" / program), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """Run the shared command line in this process and in an empty folder; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.delenv("DMLC_ROLE", raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py"])

    def run(*arguments):
        status = command.main("Trains.\n\nexamples:", [*map(str, arguments)])
        return (status, *capsys.readouterr())

    return run


@pytest.mark.parametrize("program", ["train_resnet18_cifar10.py", "train_imagenet.py"])
def test_help(start, program):
    process = start(program, "--help")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    for word in ("examples:", "--teacher", "--resume", "--mixup", "--kv-store", "--gpus"):
        assert word in output
    assert "GPU build of MXNet" in " ".join(output.split())


def test_cifar10_program_writes_checkpoint_best_and_curves(start, tmp_path):
    process = start("train_resnet18_cifar10.py", *TINY, "--prefix", "runs/net")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    rows = EPOCH.findall(output)
    assert [row[0] for row in rows] == ["1", "2"] and "lenet, 1 bit weights, 1 bit activations, on synthetic" in output
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert {"net-0002.params", "net-symbol.json", "net.resume", "net.png", "net-best-symbol.json"} < names
    assert re.search(r"test accuracy [\d.]+%, at best [\d.]+% in epoch \d; network: runs/net-0002.params", output)


def test_imagenet_program_on_folders(start, tmp_path):
    for number in range(18):
        path = tmp_path / "photos" / ("train" if number < 12 else "val") / "abc"[number % 3] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 14 * number, np.uint8)).save(path)
    options = "--data-dir photos --classes 3 --image-size 32 --batch-size 4 --dry-run".split()
    process = start("train_imagenet.py", *options)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "12 training and 6 validation images from photos" in output and "of which" in output
    assert output.endswith("dry run: nothing was written\n") and not (tmp_path / "runs").exists()


def test_imagenet_program_says_what_is_missing(start, tmp_path):
    process = start("train_imagenet.py", "--data-dir", "nowhere", "--image-size", 32)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith("error: no images in nowhere: put there train.rec and val.rec")


def test_ctrl_c_and_resume_end_with_the_bytes_of_a_whole_run(start, main, tmp_path):
    options = [*TINY[:-1], "3", "--mixup", "0.2", "--augmentation", "medium", "--optimizer", "radam"]
    assert main(*options, "--prefix", "whole")[0] == 0
    process = start("train_resnet18_cifar10.py", *options, "--prefix", "halves")
    while not EPOCH.search(process.stdout.readline()):
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    if process.returncode != 0:  # it may have been in its last step
        assert process.returncode == 130 and errors.endswith("--prefix halves --resume\n"), errors
        process = start("train_resnet18_cifar10.py", *options, "--prefix", "halves", "--resume")
        output, errors = process.communicate()
        assert process.returncode == 0 and "resuming after epoch" in output, errors
    assert (tmp_path / "whole-0003.params").read_bytes() == (tmp_path / "halves-0003.params").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--label-smoothing", 0.1, "--mixup", 0.2, "--augmentation", "high"],
        ["--bits", 2, "--optimizer", "sgd", "--wd", 1e-4, "--lr-schedule", "step", "--lr-steps", "1"],
        ["--bits", 32, "--lr-schedule", "poly", "--warmup-epochs", 0.5],
        [*SMALL, "--activation-method", "swish_sign", "--approximation", "xnor", "--grad-bit", 8],
        [*SMALL, "--bits", 2, "--weight-quantization", "twn", "--clip-threshold", 1.3],
        [*SMALL, "--optimizer", "bop", "--clip-weights", 1],
    ],
)
def test_options_train(main, options):
    status, output, errors = main(*TINY, *options)
    assert status == 0 and len(EPOCH.findall(output)) == 2, errors


def test_distillation_from_the_float_twin(main):
    assert main(*TINY, "--bits", 32, "--prefix", "float")[0] == 0
    status, output, errors = main(*TINY, "--teacher", "float-0002.params", "--prefix", "pupil")
    assert status == 0 and len(EPOCH.findall(output)) == 2, errors


def test_grad_dtype(main, monkeypatch):
    monkeypatch.setenv("BMX_GRAD_DTYPE", "float32")  # and put back afterwards
    assert main(*TINY, "--grad-dtype", "bfloat16")[0] == 0
    assert os.environ["BMX_GRAD_DTYPE"] == "bfloat16"


def test_tensorboard(main, tmp_path):
    status, _, errors = main(*TINY, "--tensorboard", "board")
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        assert status == 1 and errors.splitlines()[-1].startswith("error: --tensorboard needs tensorboardX: pip")
    else:
        assert status == 0 and list((tmp_path / "board").iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "resnet19"], "no model 'resnet19'; there are alexnet, "),
        (["--dataset", "cifar11"], "no data set 'cifar11'; there are mnist, fashion-mnist, cifar10"),
        (["--bits", 33], "bits=33: a bit width is an integer from 1 to 32"),
        (["--model", "resnet18_e1", "--bits-a", 0], "bits=0: a bit width is an integer from 1 to 32"),
        (["--dataset", "cifar10"], "no CIFAR-10 in "),
        (["--dataset", "cifar100"], "no CIFAR-100 in "),
        (["--dataset", "fashion-mnist"], "no Fashion-MNIST in "),
        ([*SMALL, "--activation-method", "sing"], "'sing'"),
        ([*SMALL, "--approximation", "good"], "'good'"),
        (["--approximation", "xnor"], "lenet has layers of its own, which --approximation does not change"),
        (["--dataset", "imagenet", "--small-epochs", 1], "are for data sets in memory, not for imagenet"),
        (["--optimizer", "best"], "no optimizer 'best'; there are "),
        (["--batch-size", 513, "--limit", 999], "batch size 513; allowed with these data: 1 to 512"),
        (["--shape", "3,9,9"], "the network cannot take images of 3x9x9: "),
        (["--epochs", 0], "--epochs is 0; allowed: 1 or more"),
        (["--lr", -1], "--lr is -1; allowed: more than 0"),
        (["--seed", -1], "--seed is -1; allowed: 0 to 4294967295"),
        (["--warmup-epochs", 2], "2 epochs of warm-up; allowed in a run of 2: "),
        (["--mixup", -1], "mixup is -1; allowed: 0 or more"),
        (["--teacher", "none-0001.params"], "none-symbol.json: "),
        (["--gpus", "0,1"], "--gpus 0,1: MXNet sees 0 GPUs; "),
        (["--kv-store", "dist_sync"], "KVStore dist_sync needs a scheduler and servers"),
        (["--gradient-compression", "2bit"], "KVStore local sends nothing"),
        (["--resume"], "runs/synthetic-lenet-1bit.resume: not found; there is no run with this prefix to resume"),
        (["--prefix", "/dev/null/net"], "cannot make the folder /dev/null of the checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_status_1(main, tmp_path, arguments, message):
    status, output, errors = main(*TINY, *arguments)
    assert status == 1 and not (tmp_path / "runs").exists()
    lines = [line for line in errors.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and message in lines[0] and "Traceback" not in errors


@pytest.mark.parametrize(
    "change, message",
    [
        (["--model", "binarynet_cifar"], "the run has model lenet, not binarynet_cifar"),
        (["--bits", 2], "the run has bits 1, not 2"),
        (["--lr", 0.1], "the run has lr 0.002, not 0.1"),
        (["--optimizer", "radam"], "the run has optimizer Adam, not RAdam"),
    ],
)
def test_resume_with_something_else(main, change, message):
    assert main(*TINY[:-1], 1, "--prefix", "net")[0] == 0
    status, _, errors = main(*TINY, "--prefix", "net", "--resume", *change)
    assert status == 1 and f"error: net.resume: {message}" in errors


def test_corrupt_checkpoint(main, tmp_path):
    assert main(*TINY[:-1], 1, "--prefix", "net")[0] == 0
    (tmp_path / "net.resume").write_bytes((tmp_path / "net.resume").read_bytes()[:5000])
    status, _, errors = main(*TINY, "--prefix", "net", "--resume")
    assert status == 1 and "error: net.resume: " in errors and "Traceback" not in errors


def test_numbers_that_are_not_finite(main):
    status, _, errors = main(*TINY, "--bits", 32, "--optimizer", "sgd", "--lr", 1e30)
    assert status == 1 and re.search("error: .*(the loss is|not finite).*: lower the learning rate", errors)


def test_checkpoints_load_in_mxnet(main):
    assert main(*TINY, "--prefix", "net")[0] == 0
    symbol, arguments, _ = mx.model.load_checkpoint("net", 2)
    assert symbol.list_outputs() == ["softmax_output"] and "fc1_weight" in arguments
