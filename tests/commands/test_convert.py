"""The command-line tool: one line and status 1 for every mistake, a table otherwise."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bmx.commands.convert import main


@pytest.fixture
def path(save, lenet):
    return save(lenet, (1, 1, 28, 28))


def converter(root, *arguments):
    """Run tools/model_converter as a process of its own."""
    command = [sys.executable, str(root / "tools" / "model_converter"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_converts(root, path, tmp_path):
    result = converter(root, path, "--word-bits", "32")
    assert (result.returncode, result.stderr) == (0, "")
    table = result.stdout.splitlines()
    assert table[0].split() == ["layer", "kind", "bits", "bytes", "before", "after"]
    assert table[2].split() == ["qconv", "QConvolution", "1/1", "409,600", "12,800", "packed"]
    assert "times smaller" in result.stdout
    assert "verified on 8 samples of shape 1x28x28: largest difference 0, predictions agree on 100 %" in table
    assert (tmp_path / "binarized_net-symbol.json").exists()


def test_is_executable(root):
    assert os.access(root / "tools" / "model_converter", os.X_OK)


@pytest.mark.parametrize(
    "arguments", [[], ["--word-bits", "16", "x"], ["--data-shape", "a,b", "x"], ["x", "y", "--output", "z"]]
)
def test_wrong_arguments(root, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: model_converter" in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for option in ("--output", "--word-bits", "--no-verify", "--force", "--data-shape", "examples:", "exit status"):
        assert option in text


def test_mistake_in_a_process_of_its_own(root, path, tmp_path):
    path.write_bytes(path.read_bytes()[:1000])
    result = converter(root, path)
    assert result.returncode == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"model_converter: {path}: truncated: ")
    assert len(list(tmp_path.iterdir())) == 2


def test_kernels_that_the_machine_does_not_run(root, path, monkeypatch):
    monkeypatch.setenv("BMX_ISA", "sse9")
    result = converter(root, path)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("model_converter: BMX_ISA is 'sse9'; this machine runs ")


MISTAKES = {
    "no symbol": lambda folder: (folder / "net-symbol.json").unlink(),
    "no params": lambda folder: (folder / "net-0003.params").unlink(),
    "truncated": lambda folder: (folder / "net-0003.params").write_bytes(b"\x12\x01" + bytes(30)),
    "foreign": lambda folder: (folder / "net-0003.params").write_bytes(b"%PDF-1.4" * 100),
    "not JSON": lambda folder: (folder / "net-symbol.json").write_text("{"),
    "no graph": lambda folder: (folder / "net-symbol.json").write_text('{"nodes": 3}'),
    "existing output": lambda folder: (folder / "binarized_net-symbol.json").write_text(""),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(path, tmp_path, capfd, mistake):
    MISTAKES[mistake](tmp_path)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert main([str(path)]) == 1
    output = capfd.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("model_converter: ")
    assert str(tmp_path) in line
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_unwritable_folder(path, tmp_path, capfd):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    output = str(folder) if not os.access(folder, os.W_OK) else "/proc/self"  # root may write to any real folder
    assert main([str(path), "--output", output]) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"model_converter: {output}: cannot be written to: ")
    assert not list(folder.iterdir())


def test_options(path, tmp_path, capsys):
    np.save(tmp_path / "samples.npy", np.random.normal(size=(3, 1, 28, 28)))
    output = str(tmp_path / "small")
    assert main([str(path), "--output", output, "--data", str(tmp_path / "samples.npy")]) == 0
    assert "verified on 3 samples of shape 1x28x28" in capsys.readouterr().out
    assert main([str(path), "--output", output, "--force", "--no-verify"]) == 0
    assert "not verified: not asked for" in capsys.readouterr().out
    assert main([str(path), "--output", output, "--force", "--data-shape", "1x28x28"]) == 0
    assert main([str(path), "--output", output, "--force", "--data", str(path)]) == 1
    assert "cannot be read as a .npy file" in capsys.readouterr().err


def test_the_format_and_the_arguments_of_v2s_converter(path, tmp_path, capsys):
    folder = tmp_path / "phone"
    folder.mkdir()
    assert main([str(path), str(folder), "--format", "v2", "--verbose"]) == 0
    assert "written with 32-bit words" in capsys.readouterr().out
    assert "BinaryInferenceConvolution" in (folder / f"binarized_{path.name[:-12]}-symbol.json").read_text()


def test_published_models_are_packed_already(shared, tmp_path, capsys):
    model = shared / "models" / "binarized_mnist_32bit-0001.params"
    assert main([str(model), "--output", str(tmp_path)]) == 1
    assert "nothing to pack: qconvolution0: packed already" in capsys.readouterr().err
