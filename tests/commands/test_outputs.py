"""Outputs of all commands: no input is overwritten, and a full disk is one line."""

import os
import subprocess
import sys

import numpy as np
import pytest

from bmx import cli
from bmx.errors import Error
from bmx.export_c import export
from bmx.files import check_apart, model_files


@pytest.fixture
def folder(tmp_path, bmx_file, checkpoint, samples):
    """Models, samples and labels, under other names too; the current folder."""
    for source in (bmx_file, *samples, checkpoint, checkpoint.replace("-0003.params", "-symbol.json")):
        with open(source, "rb") as file:
            (tmp_path / os.path.basename(source)).write_bytes(file.read())
    (tmp_path / "link.bmx").symlink_to("net.bmx")
    os.link(tmp_path / "net.bmx", tmp_path / "hard.bmx")
    (tmp_path / "here").symlink_to(".")
    return tmp_path


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def refuses(capsys, monkeypatch, folder, *command):
    """The line that a command says which leaves all files as they were."""
    monkeypatch.chdir(folder)
    before = contents(folder)
    assert cli.main(list(command)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"bmx {command[0]}: ")
    assert contents(folder) == before
    return err[len(f"bmx {command[0]}: ") : -1]


def test_the_files_of_a_model():
    assert model_files("a/net-0012.params") == ["a/net-0012.params", "a/net-symbol.json"]
    assert model_files("net.bmx") == ["net.bmx"] and model_files("net.params") == ["net.params"]


def test_files_are_the_same_by_whatever_names(folder, monkeypatch):
    monkeypatch.chdir(folder)
    check_apart(["new.bmx", None, "other"], ["net.bmx", None, "images.npy"])
    for name in ("net.bmx", "./net.bmx", "here/net.bmx", "link.bmx", "hard.bmx", str(folder / "net.bmx")):
        with pytest.raises(Error, match="the output would overwrite the input"):
            check_apart([name], ["net.bmx"])
        with pytest.raises(Error, match="two outputs would be written to this file"):
            check_apart([name, "net.bmx"], [])
    with pytest.raises(Error, match=r"^new: two outputs would"):
        check_apart(["here/new", "new"], [])


@pytest.mark.parametrize("option", ["--json", "--plot"])
@pytest.mark.parametrize(
    "name", ["net.bmx", "here/link.bmx", "net-0003.params", "net-symbol.json", "images.npy", "classes.npy"]
)
def test_bench_overwrites_no_input(capsys, monkeypatch, folder, name, option):
    command = ["bench", "net.bmx", "net-0003.params", "--data", "images.npy", "--labels", "classes.npy", option, name]
    line = refuses(capsys, monkeypatch, folder, *command)
    of = " net.bmx" if name == "here/link.bmx" else ""
    assert line == f"{name}: the output would overwrite the input{of}; choose another one"


@pytest.mark.parametrize("what", [["net.bmx"], ["--layers"]])
def test_bench_writes_no_two_outputs_into_one_file(capsys, monkeypatch, folder, what):
    line = refuses(capsys, monkeypatch, folder, "bench", *what, "--json", "new", "--plot", "here/new")
    assert line.startswith("here/new: two outputs would be written to this file; ")


def test_bench_overwrites_reports_and_nothing_else(capsys, monkeypatch, folder):
    pytest.importorskip("matplotlib")
    for option, what in (("--json", "report of bmx bench"), ("--plot", "PNG picture")):
        for name in ("images.npy", "net-symbol.json"):
            line = refuses(capsys, monkeypatch, folder, "bench", "net.bmx", option, name)
            assert line == f"{name}: exists already and is not a {what}; choose another name"
    for name in ("report", "picture"):
        (folder / name).touch()
    for _ in range(2):
        assert cli.main(["bench", "net.bmx", "--rounds", "1", "--json", "report", "--plot", "picture"]) == 0
    assert (folder / "report").read_bytes()[:1] == b"{" and (folder / "picture").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize("name", ["net.h", "net.c", "net_weights.bin", "net_weights.c", "README.md", "net_samples.bin"])
@pytest.mark.parametrize("weights", ["file", "array"])
def test_export_c_overwrites_and_removes_no_model(capsys, monkeypatch, folder, name, weights):
    os.rename(folder / "net.bmx", folder / name)
    line = refuses(capsys, monkeypatch, folder, "export-c", name, "-o", "here", "--weights", weights, "--force")
    assert line == f"here/{name}: the output would overwrite the input {name}; choose another one"


@pytest.mark.parametrize("name", ["net.h", "README.md", "net_weights.c"])
def test_export_overwrites_and_removes_no_model(folder, name):
    os.rename(folder / "net.bmx", folder / name)
    before = contents(folder)
    with pytest.raises(Error, match="the output would overwrite the input"):
        export(folder / name, folder, force=True)
    assert contents(folder) == before


def test_convert_overwrites_no_samples(capsys, monkeypatch, folder):
    os.rename(folder / "images.npy", folder / "small-symbol.json")
    command = ["convert", "net-0003.params", "--output", "small", "--data", "small-symbol.json", "--force"]
    line = refuses(capsys, monkeypatch, folder, *command)
    assert line == "small-symbol.json: the output would overwrite the input; choose another one"


@pytest.mark.parametrize("option", ["--samples", "--verify-data"])
def test_export_c_overwrites_no_samples(capsys, monkeypatch, folder, option):
    os.rename(folder / "images.npy", folder / "net.c")
    model = "net.bmx" if option == "--samples" else "net-0003.params"
    line = refuses(capsys, monkeypatch, folder, "export-c", model, "-o", ".", option, "net.c", "--force")
    assert line.endswith("net.c: the output would overwrite the input net.c; choose another one")


def test_compile_overwrites_no_samples(capsys, monkeypatch, folder):
    for option in ("images", "classes"):
        os.rename(folder / f"{option}.npy", folder / f"{option}.bmx")
    command = ["compile", "net-0003.params", "--verify-data", "images.bmx", "--labels", "classes.bmx", "--force"]
    for option in ("images", "classes"):
        line = refuses(capsys, monkeypatch, folder, *command, "-o", f"here/{option}.bmx")
        assert line.startswith(f"here/{option}.bmx: the output would overwrite the input {option}.bmx; ")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
class TestFullDisk:
    def run(self, root, *command, **variables):
        with open("/dev/full", "wb") as full:
            return subprocess.run(
                [sys.executable, "-m", "bmx.cli", *command],
                cwd=root,
                env={**os.environ, **variables},
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
            )

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("command", ["--help", "run --help", "inspect {model}", "run {model} {photo}"])
    def test_is_one_line(self, root, bmx_file, tmp_path, command, unbuffered):
        image = pytest.importorskip("PIL.Image")
        image.fromarray(np.zeros((12, 10, 3), np.uint8)).save(tmp_path / "photo.png")
        words = command.format(model=bmx_file, photo=tmp_path / "photo.png").split()
        result = self.run(root, *words, PYTHONUNBUFFERED=unbuffered)
        name = "bmx" if words[0] == "--help" else f"bmx {words[0]}"
        expected = f"{name}: the standard output cannot be written: No space left on device\n"
        assert (result.returncode, result.stderr) == (1, expected)

    def test_other_errors_are_themselves(self, root):
        result = self.run(root, "inspect", "none.bmx")
        assert result.returncode == 1 and result.stderr.startswith("bmx inspect: none.bmx: ")


@pytest.mark.parametrize("command", ["--help", "inspect {model}"])
def test_a_reader_that_has_gone_is_no_message(root, bmx_file, command):
    words = [sys.executable, "-m", "bmx.cli", *command.format(model=bmx_file).split()]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        result = subprocess.run(words, cwd=root, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_without_a_standard_output(root, bmx_file):
    command = f'"{sys.executable}" -m bmx.cli inspect "{bmx_file}" >&-'
    result = subprocess.run(command, shell=True, cwd=root, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    "command, message",
    [
        ("bench d.bmx --data-shape a,b", "--data-shape: invalid value 'a,b'; allowed: sizes of 1 or more, such as 3,"),
        ("compile x -o y --data-shape a=0", "--data-shape: invalid value 'a=0'; allowed: sizes of 1 or more, such as"),
        ("bench d.bmx --batch 0", "--batch: invalid value '0'; allowed: integers of 1 or more, such as 1 or 1,2"),
        ("run d.bmx x.png --mean a", "--mean: invalid value 'a'; allowed: numbers, such as .5 or .485,.456,.406"),
        ("launch --scheduler host", "--scheduler: invalid value 'host'; allowed: HOST:PORT, such as node7:9000"),
    ],
)
def test_wrong_values_say_what_is_allowed(capsys, command, message):
    with pytest.raises(SystemExit, match="2"):
        cli.main(command.split())
    assert f"argument {message}" in capsys.readouterr().err


def test_an_engine_that_cannot_start_is_one_line_of_convert(root):
    environment = {**os.environ, "BMX_ISA": "sse9"}
    command = [sys.executable, "-m", "bmx.cli", "convert", "net-0001.params"]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("bmx convert: BMX_ISA is 'sse9'; ")
    assert result.stderr.count("\n") == 1
