"""bmx.h as a program in C99 uses it, which has nothing else: tests/engine/run_model.c."""

import ctypes
import os
import shutil
import subprocess

import numpy as np
import pytest
from small_models import binary, scaling, sums

from bmx import library
from bmx.runtime import Model

CC = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


@pytest.fixture(scope="module")
def run_model(root, tmp_path_factory):
    """Runs the program with arguments; returns its lines, or with `fails` what it says on stderr."""
    if CC is None:
        pytest.skip("no C compiler: cc or gcc, or one that the environment variable CC names")
    program = tmp_path_factory.mktemp("c") / "run_model"
    folder = library.path("libbmx.so").parent
    options = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{root / 'src' / 'include'}"]
    source = str(root / "tests" / "engine" / "run_model.c")
    link = [f"-L{folder}", "-lbmx", f"-Wl,-rpath,{folder}"]
    subprocess.run([CC, *options, source, "-o", str(program), *link], check=True)

    def run(*arguments, fails=False):
        command = [str(program), *map(str, arguments)]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert (result.returncode != 0) == fails, result.stderr
        return result.stderr if fails else result.stdout.splitlines()

    return run


def images(port, place, batch):
    size = int(np.prod(port.shape))
    return ((np.arange(batch * size) + place) % 17 - 8).reshape(batch, *port.shape)


@pytest.mark.parametrize("content", [sums(), binary()[0]])
@pytest.mark.parametrize("threads, batch", [(1, 1), (2, 1), (2, 5)])
def test_the_same_numbers_as_in_python(run_model, tmp_path, content, threads, batch):
    path = tmp_path / "model.bmx"
    path.write_bytes(content)
    lines = run_model(path, threads, batch)
    model = Model(content)
    outputs = model.run(*(images(port, place, batch) for place, port in enumerate(model.inputs)))
    expected = [f"input {port.name} {' '.join(map(str, port.shape))}" for port in model.inputs]
    for port, array in zip(model.outputs, outputs if isinstance(outputs, tuple) else (outputs,)):
        expected.append(f"output {port.name} {' '.join(map(str, port.shape))}")
        expected += [f"{value:.9g}" for value in array.reshape(-1)]
    assert lines[:-1] == expected


def test_errors(run_model, tmp_path):
    path = tmp_path / "model.bmx"
    assert run_model(path, fails=True) == f"run_model: {path}: cannot be read: No such file or directory\n"
    path.write_bytes(scaling()[:200])
    assert "truncated: it has 200 bytes" in run_model(path, fails=True)
    path.write_bytes(scaling())
    assert run_model(path, 0, fails=True) == "run_model: threads is 0; allowed: 1 to 1024\n"


def test_null_and_numbers_that_are_not_there_are_errors(tmp_path):
    api, model, session = library.c_api(), ctypes.c_void_p(), ctypes.c_void_p()
    path = tmp_path / "model.bmx"
    path.write_bytes(scaling())

    def reason(status):
        assert status != 0
        return api.bmx_last_error().decode()

    assert reason(api.bmx_model_load(None, ctypes.byref(model))) == "path is NULL"
    assert reason(api.bmx_model_load(bytes(path), None)) == "model is NULL"
    assert reason(api.bmx_isa(None)) == "name is NULL"
    assert reason(api.bmx_model_from_memory(None, ctypes.c_size_t(5), ctypes.byref(model))) == "bytes is NULL"
    assert reason(api.bmx_session_new(None, 1, ctypes.byref(session))) == "model is NULL"
    assert reason(api.bmx_session_run(None, ctypes.c_int64(1), None, None)) == "session is NULL"
    assert api.bmx_model_load(bytes(path), ctypes.byref(model)) == 0
    assert api.bmx_session_new(model, 1, ctypes.byref(session)) == 0
    for index in (-1, 1):
        assert reason(api.bmx_model_output(model, index, None)) == f"there is no output {index} of 1"
    assert reason(api.bmx_model_step(model, 5, None)) == "there is no step 5 of 2"
    assert reason(api.bmx_session_seconds(session, 0, None)) == "there is no measured step 0 of 0"
    assert reason(api.bmx_session_run(session, ctypes.c_int64(-1), None, None)) == "batch is -1; it must be 0 or more"
    assert reason(api.bmx_session_run(session, ctypes.c_int64(1), None, None)) == "input is NULL"
    nothing = (ctypes.c_void_p * 1)()
    assert reason(api.bmx_session_run(session, ctypes.c_int64(1), nothing, nothing)) == "input 'x' is NULL"
    assert api.bmx_session_run(session, ctypes.c_int64(0), None, None) == 0
    api.bmx_model_free(model)
    api.bmx_session_free(session)
    api.bmx_model_free(None)
    api.bmx_session_free(None)


def test_memory_is_the_file_and_the_tensors(run_model, tmp_path):
    """At most the file, twice the largest pair of what a step reads and gives, and 10 MB."""
    content, _ = binary(256, 112)
    path = tmp_path / "model.bmx"
    path.write_bytes(content)
    peak = int(run_model(path)[-1].split()[1]) * 1024
    pair = 112 * 112 * (64 + 256) * 4  # of the image and the result
    assert peak <= len(content) + 2 * pair + 10e6
