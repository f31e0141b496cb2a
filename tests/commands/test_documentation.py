"""The examples of docs/deploy.md do what the page says."""

import re
import shlex
import shutil
import subprocess

import mxnet as mx
import numpy as np
import pytest
from random_networks import fill

import bmx
from bmx import cli, library, runtime


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "deploy.md").read_text()


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_c_program(page, root, bmx_file, tmp_path):
    (tmp_path / "classify.c").write_text(re.search(r"```c\n(.*?)```", page, re.DOTALL).group(1))
    (command,) = re.findall(r"^gcc .*classify.c.*", page, re.MULTILINE)
    folder = str(library.path("libbmx.so").parent)
    words = [word.replace("src/include", str(root / "src" / "include")) for word in shlex.split(command)]
    words = [folder if word == "bmx" else word.replace("$PWD/bmx", folder) for word in words]
    subprocess.run([*words, "-Wall", "-Werror"], cwd=tmp_path, check=True)
    out = subprocess.run([str(tmp_path / "classify"), bmx_file], check=True, capture_output=True, text=True).stdout
    scores = [float(line.split(" = ")[1]) for line in out.splitlines()]
    expected = runtime.Model(bmx_file).run(np.zeros((3, 12, 10)))
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    missing = subprocess.run([str(tmp_path / "classify"), "none.bmx"], capture_output=True, text=True)
    assert missing.returncode == 1 and missing.stderr.startswith("none.bmx: ")


def test_every_option_of_compile_is_one(page, capsys):
    with pytest.raises(SystemExit):
        cli.main(["compile", "--help"])
    text = capsys.readouterr().out
    for option in set(re.findall(r"^\| `(--[a-z0-9-]+)", page, re.MULTILINE)):
        assert option in text


def test_networks_in_memory():
    net = fill(bmx.models.get_model("lenet"), (1, 28, 28))
    x = mx.nd.random.normal(shape=(2, 1, 28, 28))
    expected = net(x).asnumpy()
    assert abs(expected[0] - expected[1]).max() > 0.1
    fast = bmx.compile(net, x)
    np.testing.assert_allclose(fast(x).asnumpy(), expected, atol=1e-5)
    assert "binary conv 5x5" in str(fast.report) and "predictions agree on 100 %" in str(fast.report)
    net.hybridize()
    net.optimize_for(x, backend="bmx")
    np.testing.assert_allclose(net(x).asnumpy(), expected, atol=1e-5)
