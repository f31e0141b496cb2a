"""The command `bmx`."""

import json
import os
import subprocess
import sys

import pytest

import bmx
from bmx import cli, library


def test_version_names_the_kernels(capsys):
    for words in (["version"], ["--version"]):
        assert cli.main(words) == 0
        all_names = ", ".join(library.isas())
        expected = f"bmx 0.1.0, MXNet 1.9.1, kernels {library.isa()} (this machine runs {all_names})\n"
        assert capsys.readouterr().out == expected


def test_version_names_every_kernel_that_can_be_forced():
    def version(isa):
        command = [sys.executable, "-m", "bmx.cli", "version"]
        return subprocess.run(command, env={**os.environ, "BMX_ISA": isa}, capture_output=True, text=True).stdout

    names = library.isas()
    assert names[-1] == "portable"
    for name in names:
        assert f"kernels {name} (this machine runs {', '.join(names)})\n" in version(name)
    assert f"no kernels: BMX_ISA is 'none'; this machine runs {', '.join(names)}\n" in version("none")


def test_summary_of_a_network_of_the_zoo_and_of_a_file(capsys, tmp_path):
    import mxnet as mx

    from bmx.models import get_model

    assert cli.main(["summary", "lenet", "--shape", "1,28,28"]) == 0
    zoo = capsys.readouterr().out
    get_model("lenet")(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    assert cli.main(["summary", str(tmp_path / "net-symbol.json"), "--shape", "1,28,28"]) == 0
    assert "size in float32" in zoo and capsys.readouterr().out == zoo


def test_summary_of_a_file_of_bmxnet_v2(capsys, tmp_path):
    """As `bmx.load_checkpoint`, with operators that MXNet does not know."""
    import mxnet as mx

    mx.sym.QActivation(mx.sym.var("data")).save(str(tmp_path / "net-symbol.json"))
    text = (tmp_path / "net-symbol.json").read_text()
    (tmp_path / "net-symbol.json").write_text(text.replace('"QActivation"', '"det_sign"'))
    assert cli.main(["summary", str(tmp_path / "net-symbol.json"), "--shape", "3"]) == 0
    assert "QActivation" in capsys.readouterr().out


@pytest.mark.parametrize(
    "node, inputs, message",
    [
        ("conv", [[1, 0, 0]], "layer 'conv': it has 1 inputs; it must have data, weight"),
        ("norm", [[4, 0, 0]], "not a symbol file of MXNet: 'norm' (BatchNorm) takes 5 inputs, and has 1"),
        ("data_guard", [[99, 0, 0]], "not a symbol file of MXNet: node 1 ('data_guard'): input from node 99, which is"),
        ("data_guard", [[0, 7, 0]], "not a symbol file of MXNet: 'data' has no output 7"),
    ],
)
def test_summary_of_a_damaged_file_says_what_is_wrong(capfd, tmp_path, node, inputs, message):
    import mxnet as mx

    path = tmp_path / "net-symbol.json"
    layer = mx.sym.QConvolution(mx.sym.var("data"), kernel=(3, 3), num_filter=2, name="conv")
    mx.sym.BatchNorm(layer, name="norm").save(str(path))
    content = json.loads(path.read_text())
    next(item for item in content["nodes"] if item["name"] == node)["inputs"] = inputs
    path.write_text(json.dumps(content))
    assert cli.main(["summary", str(path), "--shape", "3,8,8"]) == 1
    output = capfd.readouterr()
    assert output.out == "" and output.err.startswith(f"bmx summary: {path}: {message}")
    assert len(output.err.splitlines()) == 1


def test_convert_is_the_model_converter(capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["convert", "--help"])
    assert end.value.code == 0 and "PREFIX-NNNN.params" in capsys.readouterr().out
    assert cli.main(["convert", "none-0001.params"]) == 1
    assert capsys.readouterr().err == "bmx convert: none-0001.params: no such file\n"


def test_convert_says_what_keeps_bmx_from_being_imported(root):
    result = subprocess.run(
        [sys.executable, "-m", "bmx.cli", "convert", "x-0001.params"],
        cwd=root,
        env={**os.environ, "BMX_ISA": "sse9"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("bmx convert: BMX_ISA is 'sse9'; this machine runs ")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["summary", "resnet19"], "bmx summary: no model 'resnet19'; there are alexnet"),
        (["summary", "lenet", "--bits", "33"], "bmx summary: bits=33: a bit width is an integer from 1 to 32"),
        (["summary", "none-symbol.json"], "bmx summary: none-symbol.json: "),
        (
            ["summary", "x.params"],
            "bmx summary: x.params: give the name of a network, such as resnet18_e1, or a file PREFIX-NNNN.",
        ),
        (["summary", "runs/d"], "bmx summary: runs/d: give the name of a network"),
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


@pytest.mark.parametrize("command", ["compile {} -o x.bmx", "convert {}", "unpack {}", "bench {}", "summary {}"])
def test_of_a_checkpoint_that_is_not_there_the_file_that_was_named_is_said(capsys, tmp_path, monkeypatch, command):
    import mxnet as mx

    monkeypatch.chdir(tmp_path)
    words = command.format("no-0001.params").split()
    assert cli.main(words) == 1
    assert capsys.readouterr().err == f"bmx {words[0]}: no-0001.params: no such file\n"
    mx.nd.save("no-0001.params", {"arg:x": mx.nd.ones(1)})
    assert cli.main(words) == 1
    assert capsys.readouterr().err == f"bmx {words[0]}: no-symbol.json: no such file\n"


def test_a_checkpoint_that_is_not_there_is_named_by_its_parameters(tmp_path):
    for load in (bmx.load_checkpoint, bmx.binary_weights):
        with pytest.raises(bmx.Error, match=r"no-0001.params: no such file$"):
            load(str(tmp_path / "no"), 1)


def test_summary_of_parameters_is_that_of_their_symbol(capsys, tmp_path):
    import mxnet as mx

    from bmx.models import get_model

    net = get_model("lenet")
    net.initialize()
    net(mx.nd.zeros((1, 1, 28, 28)))
    net.export(str(tmp_path / "net"), 3)
    params = str(tmp_path / "net-0003.params")
    printed = []
    for name in (params, params.replace("-0003.params", "-symbol.json")):
        assert cli.main(["summary", name, "--data-shape", "1,28,28"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "size in float32" in printed[0]


def test_summary_of_a_compiled_network_is_inspect(capsys):
    assert cli.main(["summary", "d.bmx"]) == 1
    assert capsys.readouterr().err.endswith("-symbol.json; for a compiled network: bmx inspect d.bmx\n")


@pytest.mark.parametrize("shape", ["3,2,2", "1"])
def test_summary_of_a_shape_that_does_not_fit_is_one_line(capfd, shape):
    assert cli.main(["summary", "resnet18_e1", "--shape", shape]) == 1
    output = capfd.readouterr()
    assert output.out == "" and output.err.startswith("bmx summary: input_shape does not fit the network: ")
    assert len(output.err.splitlines()) == 1


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


def with_customization(root, tmp_path, code, *command):
    """Run a command in a Python that runs `code` when it starts."""
    (tmp_path / "sitecustomize.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    words = [sys.executable, "-m", "bmx.cli", *command]
    return subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    "command",
    ["compile x-0001.params -o x.bmx", "convert x-0001.params", "launch -n 1 -s 1 -- true", "--version"],
)
def test_a_numpy_that_is_too_new_for_mxnet_is_one_line_with_the_remedy(root, tmp_path, command):
    code = "import numpy; numpy.__version__ = '2.2.6'"
    result = with_customization(root, tmp_path, code, *command.split())
    line = result.stdout if "version" in command else result.stderr
    assert result.returncode == (0 if "version" in command else 1) and line.count("\n") == 1
    assert "it needs NumPy below 1.24, and NumPy 2.2.6 is installed: pip install 'numpy<1.24'" in line


@pytest.mark.parametrize("command", ["inspect x.bmx", "convert x-0001.params"])
def test_ctrl_c_while_modules_are_imported(root, tmp_path, command):
    code = """if True:
        import sys
        class Interrupt:
            def find_spec(self, name, path=None, target=None):
                if name == "numpy":
                    raise KeyboardInterrupt
        sys.meta_path.insert(0, Interrupt())"""
    result = with_customization(root, tmp_path, code, *command.split())
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


@pytest.mark.parametrize("option", ["--data-shape", "--shape"])
@pytest.mark.parametrize("shape", ["3,8,8", "3x8x8"])
@pytest.mark.parametrize(
    "command",
    [
        *("summary lenet", "compile none-0001.params -o x.bmx", "convert none-0001.params", "bench none-0001.params"),
        *("run none-0001.params x.png", "export-c none-0001.params -o x"),
    ],
)
def test_the_shape_of_a_sample_is_one_option(capsys, command, option, shape):
    """It is understood: what is wrong is another thing."""
    assert cli.main([*command.split(), option, shape]) == 1
    error = capsys.readouterr().err
    assert "(1, 64, 2, 2)" in error or "no such file" in error, error
