"""example/embedded/digits: a microcontroller, emulated, finds what the engine finds."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from c_targets import CORTEX_M4

import bmx
from bmx.compiler.verification import run_program
from bmx.training import mnist

COUNT = 6


@pytest.fixture(scope="module")
def checkpoint(root, tmp_path_factory, data_dir):
    """A LeNet trained for seconds."""
    prefix = tmp_path_factory.mktemp("lenet") / "lenet"
    options = ["--data-dir", data_dir, "--epochs", 2, "--batch-size", 20, "--prefix", prefix]
    command = [sys.executable, root / "example" / "train_lenet_mnist.py", *options]
    subprocess.run([*map(str, command)], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(root)})
    return f"{prefix}-0002.params"


@pytest.fixture
def make(root, tmp_path, data_dir):
    """Runs make in the example's folder, which writes into another."""

    def make(*arguments, checkpoint="none-0001.params"):
        folder = root / "example" / "embedded" / "digits"
        words = ["make", "-C", folder, f"BUILD={tmp_path}", f"PYTHON={sys.executable}", f"CHECKPOINT={checkpoint}"]
        words += [f"DATA={data_dir}", f"COUNT={COUNT}", *arguments]
        env = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run([*map(str, words)], capture_output=True, text=True, env=env)

    return make


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_board_finds_what_the_engine_finds(make, checkpoint, data_dir):
    CORTEX_M4.check()
    done = make("run", "size", checkpoint=checkpoint)
    assert done.returncode == 0, done.stdout + done.stderr
    data = mnist(str(data_dir))
    program = bmx.compile_checkpoint(checkpoint, int8="first-last", data=data.train_images, verify=False).program
    (name,) = (port.name for port in program.inputs)
    expected = run_program(program, {name: data.test_images[:COUNT]})[0].argmax(axis=1)
    lines = done.stdout.splitlines()
    (last,) = (i for i, line in enumerate(lines) if "instructions each" in line)
    answers = [line for line in lines[:last] if re.fullmatch(r"( {5}\d (\(wrong\))? *)+", line)]
    np.testing.assert_array_equal([int(digit) for digit in re.findall(r"\d", "".join(answers))], expected)
    assert len(set(expected)) > 2  # the network tells digits from each other
    right = np.sum(expected == data.test_labels[:COUNT])
    instructions = re.fullmatch(rf"{right} of {COUNT} right, (\d+) instructions each", lines[last])[1]
    assert 1_000_000 < int(instructions) < 100_000_000
    assert re.search(r"stack of a run: \d+ bytes", done.stdout) and "lenet_weights.o" in done.stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("program, packages", [("CC", "gcc-arm-none-eabi libnewlib-arm-none-eabi")])
def test_a_missing_compiler_is_named(make, program, packages):
    done = make(f"{program}=no-such-program")
    assert done.returncode != 0 and f"needs no-such-program: apt-get install {packages}\n" in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_missing_checkpoint_is_one_line(make):
    CORTEX_M4.check()
    done = make()
    assert done.returncode != 0 and "\nTraceback" not in done.stderr and "error: none" in done.stderr
