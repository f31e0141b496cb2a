"""The programs on the shared command line as a user runs them: what they write and resume, and what they refuse."""

import re
import shutil
import signal
import sys
import types

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from bmx import cli
from bmx.commands import train as command
from bmx.training.cifar import CIFAR10_FILES

EPOCH = re.compile(r"epoch +(\d+)/\d+  loss ([\d.]+)  validation accuracy ([\d.]+)%")
TINY = "--dataset synthetic --model lenet --shape 1,28,28 --limit 32 --batch-size 16 --epochs 2".split()

SMALL = "--model binarynet_cifar --shape 3,8,8".split()


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


@pytest.mark.parametrize(
    "program", ["train_resnet18_cifar10.py", "train_imagenet.py", "train_lenet_mnist.py", "demo.py"]
)
def test_what_keeps_bmx_from_being_imported_is_one_line(start, monkeypatch, program):
    monkeypatch.setenv("BMX_ISA", "sse9")
    process = start(program)
    output, errors = process.communicate()
    assert (process.returncode, output) == (1, "")
    assert errors.startswith("error: BMX_ISA is 'sse9'; this machine runs ") and len(errors.splitlines()) == 1


def test_cifar10_program_writes_checkpoint_best_and_curves(start, tmp_path):
    process = start("train_resnet18_cifar10.py", *TINY, "--prefix", "runs/net")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    rows = EPOCH.findall(output)
    assert [row[0] for row in rows] == ["1", "2"] and "lenet, 1 bit weights, 1 bit activations, on synthetic" in output
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert {"net-0002.params", "net-symbol.json", "net.resume", "net.png", "net-best-symbol.json"} < names
    assert re.search(r"test accuracy [\d.]+%, at best [\d.]+% in epoch \d; network: runs/net-0002.params", output)


@pytest.fixture
def photos(tmp_path):
    """A folder with folders of 12 and 6 photographs of 3 classes."""
    for number in range(18):
        kind = ["a", "b c", "ç"][number % 3]
        path = tmp_path / "photos" / ("train" if number < 12 else "val") / kind / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 14 * number, np.uint8)).save(path)
    return tmp_path / "photos"


FOLDERS = "--dataset imagenet --data-dir photos --model lenet --image-size 28 --epochs 1 --prefix net".split()


def test_classes_and_their_names_come_from_the_folders(main, photos, tmp_path):
    status, output, errors = main(*FOLDERS)
    assert status == 0, errors
    assert output.splitlines()[0] == "batch size 12, not 100: there are 12 images to train on"
    assert "on 12 training and 6 validation images of 3 classes from photos\n" in output
    assert "names of the classes: net-labels.txt, for bmx run --labels\n" in output
    assert (tmp_path / "net-labels.txt").read_text(encoding="utf-8") == "a\nb c\nç\n"
    params = mx.nd.load(str(tmp_path / "net-0001.params"))
    assert params["arg:fc2_bias"].shape == (3,)
    shutil.copy(photos / "val" / "a" / "12.jpg", tmp_path / "12.jpg")
    run = [str(tmp_path / "net-0001.params"), "12.jpg", "--labels", "net-labels.txt", "--data-shape", "3,28,28"]
    assert cli.main(["run", *run]) == 0

    status, output, errors = main(*FOLDERS, "--classes", 3, "--batch-size", 12, "--prefix", "same")
    assert status == 0 and not output.startswith("batch size"), errors
    assert (tmp_path / "same-0001.params").read_bytes() == (tmp_path / "net-0001.params").read_bytes()

    for part in photos.iterdir():
        (part / "a").rename(part / "b")
    status, _, errors = main(*FOLDERS, "--resume")
    assert status == 1 and "net.resume: the run has class names a to ç (" in errors
    status, _, errors = main(*FOLDERS, "--overwrite")
    assert status == 0 and (tmp_path / "net-labels.txt").read_text(encoding="utf-8") == "b\nb c\nç\n", errors


@pytest.mark.parametrize("classes", [2, 4, 1000])
def test_a_number_of_classes_that_folders_do_not_have_is_refused(main, photos, tmp_path, classes):
    status, output, errors = main(*FOLDERS, "--classes", classes)
    assert status == 1 and not (tmp_path / "net.resume").exists()
    assert errors == f"error: --classes is {classes}; photos/train has 3, a folder each; leave --classes out\n"


def test_names_of_classes_do_not_overwrite_a_file_of_somebody_else(main, photos, tmp_path):
    (tmp_path / "net-labels.txt").write_text("mine\n")
    status, _, errors = main(*FOLDERS)
    assert status == 1 and (tmp_path / "net-labels.txt").read_text() == "mine\n"
    assert errors.startswith(
        "error: net-labels.txt: exists, with other classes than this run has and with no run beside"
    )


def test_a_run_without_names_takes_those_of_an_earlier_run_away(main, photos, tmp_path):
    assert main(*FOLDERS)[0] == 0
    status, _, errors = main(*TINY[:-1], 1, "--prefix", "net", "--overwrite")
    assert status == 0 and not (tmp_path / "net-labels.txt").exists(), errors


def test_imagenet_program_on_folders(start, photos, tmp_path):
    process = start("train_imagenet.py", *"--data-dir photos --image-size 32 --batch-size 4 --dry-run".split())
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "12 training and 6 validation images of 3 classes from photos" in output and "of which" in output
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
        [*SMALL, "--optimizer", "bop", "--clip-weights", 1, "--bop-gamma", 1e-3, "--bop-threshold", 1e-7],
        ["--optimizer", "dcasgd"],
    ],
)
def test_options_train(main, options):
    status, output, errors = main(*TINY, *options)
    assert status == 0 and len(EPOCH.findall(output)) == 2, errors


def test_nothing_is_said_about_the_learning_rate_of_the_optimizer(main):
    assert "overwritten" not in "".join(main(*TINY, "--dry-run")[1:])


def test_a_prefix_that_cannot_be_written_is_found_before_an_epoch(main):
    status, output, errors = main(*TINY, "--prefix", f"runs/{300 * 'x'}")
    assert status == 1 and not EPOCH.search(output) and "x.resume: cannot be written (File name too long)" in errors


def test_an_earlier_run_is_kept_unless_it_is_to_be_overwritten(main, tmp_path):
    assert main(*TINY, "--prefix", "net")[0] == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    status, output, errors = main(*TINY, "--prefix", "net")
    assert status == 1 and not output and "error: net.resume: there is an earlier run with this prefix" in errors
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert main(*TINY[:-1], 1, "--prefix", "net", "--overwrite")[0] == 0
    assert not (tmp_path / "net-0002.params").exists() and (tmp_path / "net-0001.params").exists()


def test_a_reader_that_goes_away_does_not_end_the_training(start, tmp_path):
    process = start("train_resnet18_cifar10.py", *TINY, "--prefix", "net")
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait() == 0 and "Traceback" not in errors and (tmp_path / "net-0002.params").exists()


def test_distillation_from_the_float_twin(main):
    assert main(*TINY, "--bits", 32, "--prefix", "float")[0] == 0
    status, output, errors = main(*TINY, "--teacher", "float-0002.params", "--prefix", "pupil")
    assert status == 0 and len(EPOCH.findall(output)) == 2, errors


@pytest.mark.parametrize("model", [["--model", "lenet"], SMALL])
def test_grad_dtype(main, tmp_path, model):
    assert main(*TINY[:-1], 1, *model, "--grad-dtype", "bfloat16", "--prefix", "net")[0] == 0
    assert '"grad_dtype": "bfloat16"' in (tmp_path / "net-symbol.json").read_text()


def test_tensorboard(main, monkeypatch):
    scalars = []

    class SummaryWriter:
        """Stands for tensorboardX's; its disk is full in the second epoch."""

        def __init__(self, folder):
            assert folder == "board"

        def add_scalar(self, name, value, epoch):
            if epoch == 2:
                raise OSError("disk full")
            scalars.append(name)

        def flush(self):
            pass

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    status, output, errors = main(*TINY, *SMALL, "--tensorboard", "board")
    assert status == 0 and scalars == ["loss", "accuracy", "learning_rate", "images_per_second", "flip_ratio"], errors
    assert output.count("going on without: disk full") == 1 and len(re.findall(r"[\d.]+% flipped", output)) == 2


def test_tensorboard_says_what_to_install(main, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    status, _, errors = main(*TINY, "--tensorboard", "board")
    assert status == 1 and errors.splitlines()[-1].startswith("error: --tensorboard needs tensorboardX: pip")


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
        (["--teacher", "none-0001.params"], "none-0001.params: no such file"),
        (["--teacher", "old-0001.params"], "old-0001.params: lacks "),
        (["--small-epochs", 2], "need a network that ends in a global pooling; this one takes images of 1x28x28, but"),
        (["--small-epochs", -1], "--small-epochs is -1; allowed: 0 or more"),
        (["--lr", "inf"], "--lr is inf; allowed: more than 0"),
        (["--wd", -1], "--wd is -1; allowed: 0 or more"),
        (["--wd", "nan"], "--wd is nan; allowed: 0 or more"),
        (["--mixup", "inf"], "--mixup is inf; allowed: 0 or more"),
        (["--momentum", 5], "--momentum is 5; allowed: 0 to less than 1"),
        (["--lr-factor", -1], "--lr-factor is -1; allowed: more than 0"),
        (["--lr-factor", "nan"], "--lr-factor is nan; allowed: more than 0"),
        (["--lr-steps", 99], "--lr-steps has 99; allowed in a run of 2 epochs: between 0 and that"),
        (["--optimizer", "test"], "no optimizer 'test'; there are adadelta, "),
        (["--bop-gamma", 0.1], "--bop-gamma is for --optimizer bop, not for adam"),
        (
            [*SMALL, "--optimizer", "bop", "--bop-threshold", -1],
            "threshold=-1.0: a threshold is a number of at least 0",
        ),
        ([*SMALL, "--activation-method", "relu"], "'relu' with activations of 1 bits; allowed: det_sign, "),
        ([*SMALL, "--weight-quantization", "dorefa"], "'dorefa' with weights of 1 bits; allowed: det_sign, "),
        (["--model", "birealnet18", "--activation-method", "swish_sign"], "birealnet18 has layers of its own"),
        (["--model", "reactnet_r18", "--approximation", "xnor"], "reactnet_r18 has layers of its own"),
        (["--resume", "--overwrite"], "give one of them"),
        (["--prefix", "runs/"], "prefix 'runs/': ends in a folder"),
        (["--gpus", "0,1"], "--gpus 0,1: MXNet sees 0 GPUs; "),
        (["--kv-store", "dist_sync"], "KVStore dist_sync needs a scheduler and servers"),
        (["--gradient-compression", "2bit"], "KVStore local sends nothing"),
        (["--resume"], "runs/synthetic-lenet-1bit.resume: not found; there is no run with this prefix to resume"),
        (["--prefix", "/dev/null/net"], "cannot make the folder /dev/null of the checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_status_1(main, tmp_path, arguments, message):
    data = mx.sym.var("data")
    (tmp_path / "old-symbol.json").write_text(mx.sym.FullyConnected(data, num_hidden=10, name="fc").tojson())
    mx.nd.save(str(tmp_path / "old-0001.params"), {"arg:conv1_weight": mx.nd.zeros((1,))})
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
        (["--no-thumbnail"], "the run has no thumbnail False, not True"),
        (["--limit", 16], "the run has limit 32, not 16"),
    ],
)
def test_resume_with_something_else(main, change, message):
    assert main(*TINY[:-1], 1, "--prefix", "net")[0] == 0
    status, _, errors = main(*TINY, "--prefix", "net", "--resume", *change)
    assert status == 1 and f"error: net.resume: {message}" in errors


def test_resume_with_another_optimizer_under_the_binary_one(main):
    options = [*TINY[:-1], 1, *SMALL, "--clip-weights", 1, "--prefix", "net"]
    assert main(*options)[0] == 0
    status, _, errors = main(*options, "--resume", "--optimizer", "radam")
    assert status == 1 and "the run has optimizer Adam, of 1-bit weights Adam, not RAdam, of 1-bit" in errors


def test_data_may_be_found_elsewhere(main, tmp_path):
    (tmp_path / "here").mkdir()
    for name in CIFAR10_FILES:
        (tmp_path / "here" / name).write_bytes(bytes(3 * 3073))
    options = [*TINY[:-1], 1, "--dataset", "cifar10", "--batch-size", 5, "--prefix", "net", "--data-dir"]
    assert main(*options, "here")[0] == 0
    (tmp_path / "here").rename(tmp_path / "there")
    status, _, errors = main(*options, tmp_path / "there", "--resume")
    assert status == 0, errors


@pytest.mark.parametrize(
    "stop, asynchronous, status", [(KeyboardInterrupt(), False, 130), (SystemExit(143), False, 143),
                                   (KeyboardInterrupt(), True, 130)]
)  # fmt: skip
def test_what_is_said_when_a_run_is_stopped(main, monkeypatch, tmp_path, stop, asynchronous, status):
    """dist_async cannot be resumed."""

    def run(args, workers):
        raise stop

    workers = types.SimpleNamespace(rank=0, count=2, distributed=True, asynchronous=asynchronous)
    monkeypatch.setattr(command, "Workers", lambda *options: workers)
    monkeypatch.setattr(command, "run", run)
    (tmp_path / "net.resume").touch()
    found, _, errors = main(*TINY, "--prefix", "net")
    assert found == status and ("go on with: bmx launch -n 2 -s" in errors) == (not asynchronous)


def test_a_teacher_of_other_images(main):
    assert main(*TINY[:-1], 1, "--bits", 32, "--shape", "1,32,32", "--prefix", "float")[0] == 0
    status, _, errors = main(*TINY, "--teacher", "float-0001.params")
    assert status == 1 and errors.splitlines()[-1].startswith("error: the teacher cannot take images of 1x28x28: ")


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
