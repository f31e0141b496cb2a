"""The runtime on a Python and a NumPy that MXNet does not know: the newest on this machine, in an environment with
NumPy and pytest only."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bmx import library

FIRST = 12  # MXNet 1.9.1 runs on Python 3.11 at most
VENV = "import ensurepip, sys, venv; print(sys.version_info[1])"


def newer_pythons():
    """Commands of Pythons that are newer than all that MXNet runs on, with the second number of their version."""
    names = [shutil.which(f"python3.{minor}") for minor in range(FIRST, 40)] + [shutil.which("python3")]
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for command in {str(name) for name in (*names, *versions.glob("3.*/bin/python")) if name}:
        # A version manager's command may only say that no version is chosen.
        result = subprocess.run([command, "-c", VENV], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode == 0 and re.fullmatch(r"\d+\n", result.stdout) and int(result.stdout) >= FIRST:
            yield int(result.stdout), command


@pytest.mark.slow
def test_the_runtime_on_the_newest_python(root, tmp_path):
    found = sorted(newer_pythons())
    if not found:
        pytest.skip(f"no Python 3.{FIRST} or newer with venv on PATH or in pyenv; this is {sys.version.split()[0]}")
    run = {"check": True, "stdin": subprocess.DEVNULL, "cwd": str(tmp_path)}
    subprocess.run([found[-1][1], "-m", "venv", "env"], **run)
    python = str(tmp_path / "env" / "bin" / "python")
    install = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "numpy>=2", "pytest>=8"]
    subprocess.run(install, **run)
    places = {"PYTHONPATH": f"{root}:{root / 'tests'}", "BMX_LIBRARY_DIR": str(library.path("libbmx.so").parent)}
    tests = [str(root / "tests" / "engine" / "test_runtime.py")]
    options = ["-q", "-p", "no:cacheprovider", "--noconftest", "-c", os.devnull, "--rootdir", str(root)]
    subprocess.run([python, "-B", "-m", "pytest", *options, *tests], env={**os.environ, **places}, **run)
