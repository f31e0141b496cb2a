"""Names of any script: of files, layers, inputs, labels and outputs, through every file and report."""

import json
import os
import shutil
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import cli, runtime

S = mx.sym
SHAPE = (3, 6, 6)


def network():
    x = S.Convolution(S.var("вход"), num_filter=32, kernel=(3, 3), name="卷积")
    x = S.QActivation(S.BatchNorm(x, name="norm_é"), backward_only=True, name="активация")
    x = S.QConvolution(x, num_filter=8, kernel=(3, 3), name="двоичная🙂")
    x = S.FullyConnected(x, num_hidden=4, name='größe "\\')
    return S.SoftmaxOutput(x, S.Reshape(S.var("метка"), shape=(-1,)), name="выход")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint as MXNet writes it, samples, and what MXNet computes of them."""
    folder, symbol = tmp_path_factory.mktemp("сеть"), network()
    executor = symbol.simple_bind(mx.cpu(), grad_req="null", **{"вход": (2, *SHAPE), "метка": (2,)})
    rng = np.random.RandomState(0)
    for name, array in {**executor.arg_dict, **executor.aux_dict}.items():
        array[:] = mx.nd.array(
            rng.uniform(0.5, 1, array.shape) if name.endswith("var") else rng.normal(size=array.shape)
        )
    args = {name: array for name, array in executor.arg_dict.items() if name not in ("вход", "метка")}
    mx.model.save_checkpoint(str(folder / "имя"), 1, symbol, args, executor.aux_dict)
    return folder, executor.arg_dict["вход"].asnumpy(), executor.forward(is_train=False)[0].asnumpy()


@pytest.fixture
def bmx_(saved, tmp_path, monkeypatch, capsys):
    """Function that runs a command in a copy of the checkpoint's folder and returns what it prints."""
    shutil.copytree(saved[0], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments):
        assert cli.main(list(arguments)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return run


def test_a_checkpoint_is_loaded_and_composed(bmx_):
    symbol, args, _ = bmx.load_checkpoint("имя", 1)
    assert symbol.list_arguments() == network().list_arguments() and "двоичная🙂_weight" in args
    assert bmx.compose(symbol).list_outputs() == ["выход_output"]
    mx.viz.print_summary(symbol.get_internals()["двоичная🙂_output"], shape={"вход": (1, *SHAPE)})


def test_compiled_networks_keep_the_names(bmx_, saved):
    _, batch, expected = saved
    report = bmx_("compile", "имя-0001.params", "-o", "сеть.bmx", "--mxnet", "сеть", "--data-shape", "3,6,6")
    assert all(name in report for name in ("卷积", "двоичная🙂", "größe", "выход"))
    model = runtime.Model("сеть.bmx")
    assert [port.name for port in [*model.inputs, *model.outputs]] == ["вход", "выход_output"]
    np.testing.assert_allclose(model.run({"вход": batch}), expected, atol=1e-5)
    block = mx.gluon.SymbolBlock.imports("сеть-symbol.json", ["вход", "метка"], "сеть-0000.params")
    np.testing.assert_allclose(block(mx.nd.array(batch), mx.nd.zeros(2)).asnumpy(), expected, atol=1e-5)
    assert "двоичная🙂" in bmx_("inspect", "сеть.bmx")


def test_packed_checkpoints_keep_the_names(bmx_, saved):
    report = bmx_("convert", "имя-0001.params", "--data-shape", "3,6,6")
    assert "двоичная🙂" in report and "largest difference 0," in report
    symbol = mx.sym.load("binarized_имя-symbol.json")  # MXNet reads it
    assert symbol.list_arguments() == network().list_arguments()
    bmx_("compile", "binarized_имя-0001.params", "-o", "p.bmx", "--data-shape", "3,6,6")
    np.testing.assert_allclose(runtime.Model("p.bmx").run(saved[1]), saved[2], atol=1e-5)


def test_a_summary_has_them(bmx_):
    assert "größe" in bmx_("summary", "имя-symbol.json", "--shape", "3,6,6")


def test_c_sources_have_them_in_comments(bmx_):
    bmx_("compile", "имя-0001.params", "-o", "сеть.bmx", "--data-shape", "3,6,6")
    bmx_("export-c", "сеть.bmx", "-o", "c", "--name", "net")
    with open("c/net.c", encoding="utf-8") as file:
        assert "/* двоичная_: binary conv" in file.read()
    command = ["cc", "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", "c/net.c"]
    subprocess.run([*command, "-Ic"], check=True)


def test_a_standard_output_that_has_not_these_letters_gets_their_numbers(bmx_):
    bmx_("compile", "имя-0001.params", "-o", "сеть.bmx", "--data-shape", "3,6,6")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "bmx.cli", "inspect", "сеть.bmx"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and "\\u0432\\u044b\\u0445\\u043e\\u0434_output" in run.stdout and run.stderr == ""


def test_half_a_letter_is_no_name(bmx_):
    with open("имя-symbol.json", encoding="utf-8") as file:
        content = json.load(file)
    content["nodes"][-1]["name"] = "\ud800"
    with open("имя-symbol.json", "w", encoding="utf-8") as file:
        json.dump(content, file)
    with pytest.raises(bmx.Error, match="имя-symbol.json: not valid JSON: .*surrogates not allowed"):
        bmx.load_checkpoint("имя", 1)
