"""The command `bmx`."""

import subprocess
import sys

import pytest

from bmx import cli


def test_version(capsys):
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == "bmx 0.1.0, MXNet 1.9.1\n"


def test_summary_of_a_network_of_the_zoo_and_of_a_file(capsys, tmp_path):
    import mxnet as mx

    from bmx.models import get_model

    assert cli.main(["summary", "lenet", "--shape", "1,28,28"]) == 0
    zoo = capsys.readouterr().out
    get_model("lenet")(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    assert cli.main(["summary", str(tmp_path / "net-symbol.json"), "--shape", "1,28,28"]) == 0
    assert "size in float32" in zoo and capsys.readouterr().out == zoo


def test_convert_is_the_model_converter(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", "--help"])
    assert end.value.code == 0 and "PREFIX-NNNN.params" in capsys.readouterr().out
    assert cli.main(["convert", "none-0001.params"]) == 1
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["summary", "resnet19"], "bmx summary: no model 'resnet19'; there are alexnet"),
        (["summary", "lenet", "--bits", "33"], "bmx summary: bits=33: a bit width is an integer from 1 to 32"),
        (["summary", "none-symbol.json"], "bmx summary: none-symbol.json: cannot be read"),
        (["launch", "-n", "0", "--", "true"], "bmx launch: 0 workers; allowed: 1 or more"),
        (["launch", "-n", "2"], "bmx launch: no program to start: bmx launch -n 2 -s 1 -- python train.py"),
        (
            ["launch", "--role", "worker", "--", "true"],
            "bmx launch: processes on several machines need the scheduler's",
        ),
    ],
)
def test_errors_are_one_line(capsys, arguments, message):
    assert cli.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if line.startswith("bmx")]) == 1 and lines[-1].startswith(message)


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["summary"], ["summary", "lenet", "--shape", "0"], ["launch", "--scheduler", "host"]]
)
def test_wrong_usage(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2 and capsys.readouterr().err.startswith("usage: bmx")


def test_launch_prints_what_to_run_on_each_host(capsys):
    assert cli.main("launch -n 3 -s 2 --scheduler node7:9000 --print -- python train.py".split()) == 0
    out = capsys.readouterr().out
    assert "export DMLC_NUM_WORKER=3\n" in out and "# on node7, once:\n" in out and "# 2 time(s)" in out
    assert out.endswith("bmx launch -n 3 -s 2 --scheduler node7:9000 --role worker -- python train.py\n")


def test_as_a_program(root):
    result = subprocess.run(
        [sys.executable, "-m", "bmx.cli", "--help"], cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert result.returncode == 0
    for word in ("launch", "convert", "summary", "version", "examples:"):
        assert word in result.stdout
