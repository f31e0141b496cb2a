"""Every command that writes, killed or on a full disk at every moment: the old files or the new ones, each whole."""

import contextlib
import io
import os
import resource
import shutil
import signal

import mxnet as mx
import pytest
from faults import full_disk, kill, with_faults

import bmx
from bmx import cli
from bmx.commands import bench
from bmx.training import Checkpoint

STEP = 4  # not every moment of every command: tests/test_writing.py has all, of what they all call

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def no_power_cut(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(params=["compile", "convert", "export-c", "bench", "train"])
def write(request, checkpoint, bmx_file):
    """What writes into a folder that it is given, and raises bmx.Error where a command would say one."""
    commands = {
        "compile": ["compile", checkpoint, "--data-shape", "3,12,10", "--no-verify", "--force"],
        "convert": ["convert", checkpoint, "--data-shape", "3,12,10", "--force"],
        "export-c": ["export-c", bmx_file, "--force"],
    }
    commands["compile"] += ["-o", "{}/net.bmx", "--mxnet", "{}/net"]
    commands["convert"] += ["--output", "{}/small"]
    commands["export-c"] += ["-o", "{}/new/c"]

    def command(folder):
        words = [word.format(folder) for word in commands[request.param]]
        return lambda: _main(words)

    def report(folder):
        args = type("Arguments", (), {"json": f"{folder}/bench.json", "plot": f"{folder}/bench.png"})
        return lambda: bench.write_results(args, [1, 2], lambda: bmx.writing.content(b"\x89PNG"))

    net = mx.gluon.nn.Dense(3, in_units=4)
    net.initialize()

    def save(folder):
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
        progress = {"epoch": 1, "batch": 0, "settings": {}, "history": []}

        def both():
            run = Checkpoint(f"{folder}/runs/net")
            run.prepare(overwrite=True)
            run.save(net, trainer, progress)
            run.save_best(net, 1)
            run.save(net, trainer, {**progress, "epoch": 2})

        return both

    return {"bench": report, "train": save}.get(request.param, command)


def _main(words):
    """As the command, but that its error is raised."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    text = err.getvalue()
    assert (status, text.count("\n")) in ((0, 0), (1, 1)), text
    if status:
        raise bmx.Error(text.strip())


@pytest.fixture(params=["first", "again"])
def folder(request, write, tmp_path, monkeypatch):
    """Where to write: an empty folder, or one with other files of the same names."""
    folder = tmp_path / "folder"
    folder.mkdir()
    if request.param == "again":
        write(folder)()
        for name in files(folder):
            (folder / name).write_bytes(b"old")
    return folder


@pytest.fixture
def whole(write, folder, monkeypatch):
    """For each name, what a whole file may hold; and the files after a write."""
    kept = files(folder)
    found, replace = {name: {data} for name, data in kept.items()}, os.replace

    def noting(source, target):
        replace(source, target)
        with open(target, "rb") as file:
            found.setdefault(os.path.relpath(target, folder), set()).add(file.read())

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", noting)
        write(folder)()
    after = set(files(folder))
    put_back(folder, kept)
    return found, after


def put_back(folder, kept):
    shutil.rmtree(folder)
    for name, data in kept.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    folder.mkdir(exist_ok=True)


def assert_whole(folder, whole):
    for name, data in files(folder).items():
        assert name.endswith(".tmp") or data in whole[name], name


def test_killed_at_any_moment(write, folder, whole):
    kept, (whole, after) = files(folder), whole
    for moment, result in enumerate(with_faults(folder, write(folder), kill, STEP)):
        assert_whole(folder, whole)
        if result == "killed" and moment % 3 == 0:  # to save time
            write(folder)()
            assert set(files(folder)) == after, "the next write leaves nothing of the killed one"
        put_back(folder, kept)
    assert moment > 0


def test_a_full_disk_at_any_moment(write, folder, whole, request):
    kept, (whole, _) = files(folder), whole
    for result in with_faults(folder, write(folder), full_disk, STEP):
        assert_whole(folder, whole)
        assert not [name for name in files(folder) if name.endswith(".tmp")]
        if result not in (None, "True"):
            assert "No space left on device" in result and "\n" not in result
            assert "train" in request.node.name or files(folder) == kept
        put_back(folder, kept)


def test_files_that_do_not_fit(write, folder, whole, request):
    """The disk becomes full in the middle of a file: of any size less than the largest one needs."""
    kept, (whole, _) = files(folder), whole
    largest = max(len(data) for contents in whole.values() for data in contents)
    for limit in {0, 1, largest // 2, largest - 1}:

        def limited(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            write(folder)()

        message = next(with_faults(tmp_of(folder), limited, full_disk))
        assert "cannot be written (File too large); the old files are unchanged" in message
        assert "train" in request.node.name or files(folder) == kept
        assert_whole(folder, whole)


def tmp_of(folder):
    """Another folder, in which nothing happens."""
    return folder.parent / "nothing"
