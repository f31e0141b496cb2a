"""What `pip install .` installs."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest


@pytest.mark.slow
def test_wheel_has_the_libraries_and_every_module(root, tmp_path):
    platform = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    left = root / "build" / f"lib.{platform}" / "bmx" / "left_by_an_earlier_build.py"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.touch()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            ".",
            "--no-deps",
            "--no-build-isolation",
            "--quiet",
            "-w",
            str(tmp_path),
        ],
        cwd=root,
        # the cmake and ninja that `make build` takes: others would compile everything again
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        check=True,
        stdin=subprocess.DEVNULL,
    )
    (wheel,) = tmp_path.iterdir()
    assert wheel.name.startswith("bmx_mxnet-0.1.0-py3-none-linux_")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"bmx/libbmx.so", "bmx/libbmx_mxnet.so"} <= names
    assert "bmx_mxnet-0.1.0.dist-info/METADATA" in names
    assert {str(path.relative_to(root)) for path in (root / "bmx").rglob("*.py")} <= names
    assert "bmx/left_by_an_earlier_build.py" not in names
    assert not any(name.startswith(("tests", "example", "src", "build")) for name in names)
