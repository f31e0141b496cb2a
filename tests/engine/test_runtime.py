"""`bmx.runtime.Model`, with networks of a step or two. This file needs neither MXNet nor the fixtures of conftest.py:
test_newest_python.py runs it in other Pythons."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from small_models import binary, scaling, sums

from bmx import library, runtime
from bmx import program as programs
from bmx.errors import Error
from bmx.runtime import Model, Port

# For Pythons that tests start: the same package, wherever it is.
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(programs.__file__).resolve().parents[2])}


def images(*shape):
    return np.random.RandomState(1).standard_normal(shape).astype(np.float32)


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_binary_convolution(threads):
    content, weight = binary()
    x = images(3, 64, 14, 14)
    padded = np.pad(np.where(x < 0, -1, 1), ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=1)
    expected = sum(
        np.einsum("nchw,fc->nfhw", padded[:, :, y : y + 14, z : z + 14], weight[:, :, y, z].astype(int))
        for y in range(3)
        for z in range(3)
    )
    np.testing.assert_array_equal(Model(content, threads).run(x), expected)


def test_one_image_and_a_batch():
    model = Model(scaling())
    x = images(4, 2, 3, 4)
    batch = model.run(x)
    assert batch.shape == x.shape and batch.dtype == np.float32
    np.testing.assert_array_equal(batch, 2 * x)
    one = model.run(x[2])
    assert one.shape == (2, 3, 4)
    np.testing.assert_array_equal(one, batch[2])
    assert model.run(x[:0]).shape == (0, 2, 3, 4)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (2, 2, 3, 4)])
def test_inputs_of_1_to_4_dimensions(shape):
    x = images(2, *shape)
    np.testing.assert_array_equal(Model(scaling(shape)).run(x), 2 * x)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.int64),
        lambda x: x > 0,
        lambda x: x.tolist(),
        lambda x: np.asfortranarray(x),
        lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
        lambda x: x.astype(">f4"),
    ],
)
def test_any_real_numbers_in_any_layout(convert):
    x = convert(np.rint(4 * images(2, 3, 4)))
    np.testing.assert_array_equal(Model(scaling()).run(x), 2 * np.asarray(x, np.float32))


def test_inputs_by_place_and_by_name():
    model = Model(sums())
    a, b = images(2, 3, 5)
    for outputs in (model.run(a, b), model.run({"b": b, "a": a})):
        assert isinstance(outputs, tuple)
        np.testing.assert_array_equal(outputs[0], a + b)
        np.testing.assert_array_equal(outputs[1], a * b)


def test_threads_of_python_share_a_model():
    content, _ = binary()
    model = Model(content)
    inputs = [images(1, 64, 14, 14) * (i + 1) - i for i in range(6)]
    expected = [model.run(x) for x in inputs]

    def work(i):
        for _ in range(20):
            np.testing.assert_array_equal(model.run(inputs[i]), expected[i])

    with ThreadPoolExecutor(len(inputs)) as threads:
        assert list(threads.map(work, range(len(inputs)))) == [None] * len(inputs)  # raises what they raise


# --- what a model says of itself ------------------------------------------------------------------------------------


def test_names_and_shapes():
    with Model(sums(), threads=3) as model:
        assert model.name == "sums" and model.threads == 3
        assert model.inputs == [Port("a", (5,)), Port("b", (5,))]
        assert [port.name for port in model.outputs] == ["sum", "product"]
        assert [(step.name, step.kind) for step in model.steps][2:4] == [("add", "MAP"), ("multiply", "MAP")]
        assert repr(model) == "<bmx.runtime.Model 'sums': a[5], b[5] -> sum[5], product[5], 6 steps>"


def test_multiply_adds_and_memory():
    model = Model(binary()[0])
    conv = next(step for step in model.steps if step.kind == "CONV")
    assert conv.macs == 14 * 14 * 64 * 64 * 9
    assert conv.bytes == 14 * 14 * (8 + 4 * 64) + 64 * 9 * 8
    arena = 16 * 16 * 8 + 14 * 14 * 64 * 4
    # Tiles take bytes: of the bordered input, of 32 filters for 9 steps, and sums of 32 positions twice.
    tiles = 16 * 16 * 64 + 9 * 2 * 1024 + 2 * 32 * 32 * 4 if library.isa() == "amx" else 0
    assert arena + tiles <= model.memory <= arena + tiles + 1024


def test_memory_of_runs_in_progress(monkeypatch):
    model, seen = Model(scaling()), []
    idle, run = model.memory, runtime._Session.run

    def watched(session, *arguments):
        seen.append(model.memory)
        if len(seen) < 3:  # as threads would that run it at the same time
            model.run(np.ones((2, 3, 4), np.float32))
        run(session, *arguments)

    monkeypatch.setattr(runtime._Session, "run", watched)
    model.run(np.ones((2, 3, 4), np.float32))
    assert idle > 0 and seen == [idle, 2 * idle, 3 * idle] and model.memory == 3 * idle


@pytest.mark.parametrize("threads", [1, 2])
def test_profile(threads):
    model = Model(binary()[0], threads)
    x = images(2, 64, 14, 14)
    begin = time.perf_counter()
    times = model.profile(x, runs=3)
    whole = time.perf_counter() - begin
    assert [step[:4] for step in times] == [tuple(step) for step in model.steps]
    assert all(step.seconds >= 0 for step in times) and 0 < 3 * sum(step.seconds for step in times) < whole
    with pytest.raises(Error, match="runs is 0"):
        model.profile(x, runs=0)


@pytest.mark.parametrize("warm_up", [True, False])
def test_profile_is_the_mean_of_its_runs(monkeypatch, warm_up):
    model, done = Model(sums()), []

    def measure(session, steps, work):
        done.append("measured")
        work()
        return [12.0 * step for step in range(steps)]

    monkeypatch.setattr(Model, "_run", lambda *arguments: done.append("run"))
    monkeypatch.setattr(runtime._Session, "measure", measure)
    times = model.profile(np.zeros(5), np.zeros(5), runs=4, warm_up=warm_up)
    assert done == ["run"] * warm_up + ["measured"] + ["run"] * 4
    assert [step.seconds for step in times] == [3.0 * number for number in range(len(model.steps))]


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "inputs, message",
    [
        ((), "0 inputs were given; the network takes 2: a, b"),
        ((np.zeros(5),) * 3, "3 inputs were given"),
        (({"a": np.zeros(5)},), "inputs are a; the network takes a, b"),
        (({"a": np.zeros(5), "c": np.zeros(5)},), "inputs are a, c; the network takes a, b"),
        ((np.zeros(5), np.zeros(4)), r"input 'b' has the shape \(4,\); it must be \(5,\) or \(batch, 5\)"),
        ((np.zeros((1, 1, 5)), np.zeros(5)), r"input 'a' has the shape \(1, 1, 5\)"),
        ((np.zeros((2, 5)), np.zeros((3, 5))), r"different batch sizes: a \(2, 5\), b \(3, 5\)"),
        ((np.zeros((1, 5)), np.zeros(5)), "different batch sizes"),
        ((np.zeros(5), np.zeros(5, complex)), "input 'b' is not an array of real numbers: numbers of type complex128"),
        ((np.zeros(5), ["x"] * 5), "input 'b' is not an array of real numbers"),
        ((np.zeros(5), None), "input 'b' is not an array of real numbers"),
        ((np.zeros(5), [[1, 2], [3]]), "input 'b' is not an array of real numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")
def test_wrong_inputs(inputs, message):
    with pytest.raises(Error, match=message):
        Model(sums()).run(*inputs)


def test_files(tmp_path):
    path = tmp_path / "réseau.bmx"
    with pytest.raises(Error, match=r"réseau.bmx: cannot be read: No such file or directory"):
        Model(path)
    with pytest.raises(Error, match="cannot be read: it is not a file"):
        Model(tmp_path)
    path.write_bytes(scaling())
    assert Model(str(path)).run(np.ones((2, 3, 4))).sum() == 48
    path.write_bytes(scaling()[:-64])
    with pytest.raises(Error, match=r"réseau.bmx: truncated: it has \d+ bytes instead of \d+"):
        Model(path)
    with pytest.raises(Error, match="model in memory: not a .bmx file"):
        Model(b"")


@pytest.mark.parametrize("threads", [0, -1, 1025, 2**32 + 1, 2.5, "2", None])
def test_numbers_of_threads(threads):
    with pytest.raises(Error, match=f"threads is {threads!r}; allowed: 1 to 1024"):
        Model(scaling(), threads)
    assert Model(scaling(), np.int32(2)).threads == 2


def test_arguments_of_other_types():
    with pytest.raises(Error, match="a model is a path or the bytes of a file; this is a int"):
        Model(123)
    with pytest.raises(Error, match="runs is 1.5; allowed: 1 or more"):
        Model(scaling()).profile(np.ones((2, 3, 4)), runs=1.5)


def test_a_closed_model():
    model = Model(scaling())
    model.close()
    model.close()
    with pytest.raises(Error, match="this model is closed"):
        model.run(np.zeros((2, 3, 4)))


def test_a_model_closed_while_a_run_begins(monkeypatch):
    model, x = Model(scaling(), threads=2), np.ones((2, 3, 4), np.float32)
    expected, session = model.run(x), runtime._Session
    model._idle.clear()

    def late(*arguments):
        model.close()  # as another thread may
        return session(*arguments)

    monkeypatch.setattr(runtime, "_Session", late)
    np.testing.assert_array_equal(model.run(x), expected)
    assert model.memory == 0  # the session of the run is not kept
    with pytest.raises(Error, match="this model is closed"):
        model.run(x)


def test_poison_is_checked():
    script = "import sys; from bmx.runtime import Model; Model(sys.stdin.buffer.read())"
    environ = {**ENVIRON, "BMX_POISON": "256"}
    result = subprocess.run([sys.executable, "-c", script], input=scaling(), env=environ, capture_output=True)
    assert result.stderr.rstrip().endswith(b"bmx.errors.Error: BMX_POISON is '256'; it must be a number from 0 to 255")


def test_it_imports_neither_mxnet_nor_the_compiler():
    script = "import sys, bmx.runtime; assert not {'mxnet', 'bmx.compiler', 'bmx.program'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], env=ENVIRON, check=True, stdin=subprocess.DEVNULL)
