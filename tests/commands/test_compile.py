"""`bmx compile` and `bmx inspect`."""

import errno
import json
import os
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from bmx import cli
from bmx.plugin import engine_operator

SHAPE = "3,12,10"


def bmx(capsys, *arguments):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_compiles_verifies_and_reports(capsys, checkpoint, tmp_path, samples):
    path = tmp_path / "net.bmx"
    images, classes = samples
    status, out, _ = bmx(capsys, "compile", checkpoint, "-o", path, "--verify-data", images, "--labels", classes)
    assert status == 0 and path.read_bytes()[:4] == b"\x89BMX"
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "float conv 3x3" in lines["first"] and "binary conv 3x3" in lines["hidden"]
    assert "20 samples of shape 3x12x10: largest difference" in out and "agree on 100 %" in out
    assert "75" in next(line for line in out.splitlines() if "accuracy" in line)
    assert out.endswith(f"written: {path}\n")


def test_int8_and_inspect(capsys, checkpoint, tmp_path, samples):
    path = tmp_path / "net.bmx"
    status, out, _ = bmx(capsys, "compile", checkpoint, "-o", path, "--int8", "first-last", "--verify-data", samples[0])
    assert status == 0 and "int8 conv 3x3" in out and "int8 dense" in out
    status, out, _ = bmx(capsys, "inspect", path)
    assert status == 0 and "int8 conv 3x3 3->8" in out and "input data: 3x12x10" in out
    assert "int8: " in out and "binary: " in out and f"file: {os.path.getsize(path):,} bytes" in out


def test_writes_a_checkpoint_for_mxnet(capsys, checkpoint, tmp_path):
    prefix = tmp_path / "fast"
    status, out, _ = bmx(capsys, "compile", checkpoint, "--mxnet", prefix, "--data-shape", SHAPE, "--no-verify")
    assert status == 0 and out.endswith(f"written: {prefix}-symbol.json, {prefix}-0000.params\n")
    batch = mx.io.DataBatch([mx.nd.random.normal(shape=(2, 3, 12, 10))])
    results = []
    for module in (mx.mod.Module.load(str(checkpoint)[: -len("-0003.params")], 3), mx.mod.Module.load(str(prefix), 0)):
        module.bind([("data", (2, 3, 12, 10))], [("softmax_label", (2,))], for_training=False)
        module.forward(batch)
        results.append(module.get_outputs()[0].asnumpy())
    np.testing.assert_allclose(*results, atol=1e-6)


def test_several_inputs_are_given_by_name(capsys, tmp_path):
    both = mx.sym.Concat(*(mx.sym.FullyConnected(mx.sym.var(name), num_hidden=3, name=f"fc_{name}") for name in "ab"))
    args = {f"fc_{name}_{kind}": mx.nd.ones(shape) for name, size in (("a", 4), ("b", 12))
            for kind, shape in (("weight", (3, size)), ("bias", (3,)))}  # fmt: skip
    mx.model.save_checkpoint(str(tmp_path / "two"), 1, both, args, {})
    np.savez(tmp_path / "samples.npz", a=np.ones((5, 4)), b=np.zeros((5, 3, 2, 2)))
    command = ["compile", tmp_path / "two-0001.params", "-o", tmp_path / "two.bmx"]
    status, _, err = bmx(capsys, *command)
    assert status == 1 and "no values are stored of 'a', 'b'" in err and "--data-shape a=3,32,32,b=3,32,32" in err
    status, out, _ = bmx(capsys, *command, "--data-shape", "a=4,b=3x2x2")
    assert status == 0 and "verified on 8 samples of shape 4, 3x2x2" in out
    status, out, _ = bmx(capsys, *command, "--verify-data", tmp_path / "samples.npz", "--int8", "all", "--force")
    assert status == 0 and "compared on 5 samples of shape 4, 3x2x2" in out
    for wrong in ("a=4,a=4", "a=", "=4", "a=4,b"):
        with pytest.raises(SystemExit):
            bmx(capsys, *command, "--data-shape", wrong)


def test_outputs_are_written_together_or_not_at_all(capsys, checkpoint, tmp_path, monkeypatch):
    command = ["compile", checkpoint, "-o", tmp_path / "x.bmx", "--mxnet", tmp_path / "x", "--data-shape", SHAPE]
    (tmp_path / "x-symbol.json").write_text("mine")
    command += ["--no-verify", "--force"]

    def full(*_):
        raise OSError(errno.ENOSPC, "disk full")

    with monkeypatch.context() as patch:
        patch.setattr(engine_operator, "write_params", full)
        status, _, err = bmx(capsys, *command)
    assert status == 1 and "x-0000.params: cannot be written (disk full); the old files are unchanged" in err
    assert [path.name for path in tmp_path.iterdir()] == ["x-symbol.json"]
    assert (tmp_path / "x-symbol.json").read_text() == "mine"
    assert bmx(capsys, *command)[0] == 0 and len(list(tmp_path.iterdir())) == 3


def test_a_label_declared_for_batches_of_another_size(capsys, checkpoint, tmp_path):
    prefix = checkpoint[: -len("-0003.params")]
    symbol = json.loads(Path(f"{prefix}-symbol.json").read_text())
    (label,) = [node for node in symbol["nodes"] if node["name"] == "softmax_label"]
    label["attrs"] = {"__shape__": "(3,)"}
    (tmp_path / "net-symbol.json").write_text(json.dumps(symbol))
    (tmp_path / "net-0003.params").write_bytes(Path(checkpoint).read_bytes())
    command = ["compile", tmp_path / "net-0003.params", "--mxnet", tmp_path / "fast", "--data-shape", SHAPE]
    assert bmx(capsys, *command)[0] == 0
    assert "softmax_label" in mx.sym.load(str(tmp_path / "fast-symbol.json")).list_arguments()


def test_an_existing_file_stays_unless_forced(capsys, checkpoint, tmp_path):
    path = tmp_path / "net.bmx"
    path.write_text("mine")
    command = ["compile", checkpoint, "-o", path, "--data-shape", SHAPE, "--no-verify"]
    status, _, err = bmx(capsys, *command)
    assert status == 1 and err == f"bmx compile: {path}: exists already; use --force to overwrite it\n"
    status, _, err = bmx(capsys, *command[:2], "--mxnet", tmp_path / "net", *command[4:])
    assert status == 0 and "exists already" not in err
    status, _, err = bmx(capsys, *command[:2], "--mxnet", tmp_path / "net", *command[4:])
    assert status == 1 and err.endswith("net-symbol.json: exists already; use --force to overwrite it\n")
    assert path.read_text() == "mine"
    assert bmx(capsys, *command, "--force")[0] == 0 and path.read_bytes()[1:4] == b"BMX"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none-0001.params", "-o", "x.bmx"], "none-0001.params: no such file"),
        (["none-0001.params", "-o", "x.bmx", "--verify-data", "{images}"], "none-0001.params: no such file"),
        (["net.params", "-o", "x.bmx"], "net.params: the file must be named <prefix>-NNNN.params"),
        (["{checkpoint}", "-o", "{folder}/x.bmx"], "does not follow from the network; give it"),
        (["{checkpoint}"], "nothing to write: give -o FILE.bmx or --mxnet PREFIX"),
        (["{checkpoint}", "-o", "{checkpoint}"], "the output would overwrite the input"),
        (["{checkpoint}", "-o", "{folder}/x.bmx", "--verify-data", "{folder}/x.bmx"], "would overwrite the input"),
        (["{checkpoint}", "-o", "{folder}"], "is a folder; give the name of a file"),
        (["{checkpoint}", "-o", "{folder}/none/x.bmx"], "there is no folder"),
        (
            ["{checkpoint}", "-o", "{folder}/x.bmx", "--mxnet", "/proc/x"],
            "/proc/x-symbol.json: cannot be written: /proc:",
        ),
        (["{checkpoint}", "-o", "{folder}/x.txt"], "the name must end in .bmx"),
        (["{checkpoint}", "-o", ""], "the name of a file to write is empty"),
        (["{checkpoint}", "--mxnet", ""], "the prefix '' has no name"),
        (["{checkpoint}", "-o", "{folder}/x.bmx", "--verify-data", "{classes}"], "classes.npy: must hold one array"),
        (
            ["{checkpoint}", "-o", "{folder}/x.bmx", "--verify-data", "{wrong}"],
            "wrong.npy: samples have the shape (1, 9, 9)",
        ),
        (
            ["{checkpoint}", "-o", "{folder}/x.bmx", "--verify-data", "{images}", "--labels", "{wrong}"],
            "wrong.npy: labels: must be classes from 0 to 3",
        ),
        (["{checkpoint}", "-o", "{folder}/x.bmx", "--int8", "all", "--data-shape", SHAPE], "needs sample input"),
        (["{checkpoint}", "-o", "{folder}/x.bmx", "--labels", "y.npy"], "--labels needs --verify-data"),
        (["{checkpoint}", "-o", "{folder}/x.bmx", "--verify-data", "none.npy"], "none.npy: cannot be read"),
        (
            ["{checkpoint}", "-o", "{folder}/x.bmx", "--data-shape", "1,12,10"],
            "'first_weight' has the shape (8, 3, 3, 3)",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    capsys, checkpoint, samples, tmp_path, tmp_path_factory, arguments, message
):
    wrong = tmp_path_factory.mktemp("wrong") / "wrong.npy"
    np.save(wrong, np.full((20, 1, 9, 9) if "--labels" not in arguments else 20, 4))
    names = {"checkpoint": checkpoint, "folder": tmp_path, "images": samples[0], "classes": samples[1], "wrong": wrong}
    words = [word.format(**names) for word in arguments]
    status, _, err = bmx(capsys, "compile", *words)
    lines = [line for line in err.splitlines() if line.startswith("bmx")]
    assert status == 1 and len(lines) == 1 and message in lines[0]
    assert not list(tmp_path.iterdir())


def test_inspect_refuses_other_files(capsys, tmp_path, bmx_file):
    (tmp_path / "cut.bmx").write_bytes(open(bmx_file, "rb").read()[:5000])
    for path in ("none.bmx", tmp_path / "cut.bmx", __file__):
        status, out, err = bmx(capsys, "inspect", path)
        assert status == 1 and out == "" and err.startswith(f"bmx inspect: {path}: ") and err.count("\n") == 1


@pytest.mark.parametrize("command", ["compile", "inspect", "run", "bench"])
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as end:
        cli.main([command, "--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0 and f"examples:\n  bmx {command} " in out
