"""tools/check_export_c.py: a checkpoint's C program beside MXNet."""

import re
import runpy
import shutil

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler, cc")


@pytest.fixture(scope="module")
def main(root):
    return runpy.run_path(str(root / "tools" / "check_export_c.py"))["main"]


def test_c_agrees_with_mxnet(main, checkpoint, samples, capsys):
    images, classes = samples  # MXNet finds 15 of 20
    assert main([checkpoint, "--data", images, "--labels", classes, "--cc", "cc -O1", "--cc", "cc -O0"]) == 0
    out = capsys.readouterr().out
    assert "20 images, MXNet finds 15 (75.0%)" in out
    rows = [line.split() for line in out.splitlines() if re.match("float|int8", line)]
    assert [row[:3] for row in rows] == [
        [outer, "cc", level] for outer in ("float", "int8") for level in ("-O1", "-O0")
    ]
    for row in rows[:2]:
        assert row[4] == "20/20" and float(row[5]) < 1e-5 and row[7] == "15"
    assert main([checkpoint, "--data", images, "--labels", classes, "--images", "3"]) == 0
    assert "3 images, MXNet finds 3 (100.0%)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("{checkpoint} --data {images}", "--data and --labels go together"),
        ("{checkpoint} --data {images} --labels {images}", "20 samples"),
        ("{checkpoint} --images 0", "--images is 0; it must be 1 or more"),
        ("{checkpoint} --data-dir {folder}", "no CIFAR-10 in"),
        ("net.bmx --data {images} --labels {classes}", "is not a checkpoint, PREFIX-NNNN.params"),
        ("{folder}/none-0001.params --data {images} --labels {classes}", "none-0001.params: no such file"),
        ("{checkpoint} --data {images} --labels {classes} --cc /none/cc", "/none/cc -std=c99"),
        ("{checkpoint} --data {images} --labels {other}", "classes from 0 to 3"),
    ],
)
def test_mistakes_are_one_line(main, checkpoint, samples, tmp_path, capsys, arguments, message):
    np.save(tmp_path / "other.npy", np.full(20, 4))
    names = {"images": samples[0], "classes": samples[1], "other": tmp_path / "other.npy", "folder": tmp_path}
    assert main(arguments.format(checkpoint=checkpoint, **names).split()) == 1
    err = capsys.readouterr().err
    assert err.startswith("check_export_c.py: ") and err.count("\n") == 1 and message in err
