"""Every command that writes, killed or on a full disk at every moment: all old files or all new ones."""

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
from bmx import cli, writing
from bmx.commands import bench_files
from bmx.journal import finish
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
    commands["compile"] += ["-o", "{}/net.bmx", "--mxnet", "{}/mxnet/net"]
    commands["convert"] += ["--output", "{}/small"]
    commands["export-c"] += ["-o", "{}/new/c"]

    def command(folder):
        words = [word.format(folder) for word in commands[request.param]]
        return lambda: _main(words)

    def report(folder):
        args = type("Arguments", (), {"json": f"{folder}/bench.json", "plot": f"{folder}/bench.png"})
        return lambda: bench_files.write_results(args, [1, 2], lambda: bmx.writing.content(b"\x89PNG"))

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
    (folder / "mxnet").mkdir(parents=True)
    if request.param == "again":
        write(folder)()
        for name in files(folder):
            (folder / name).write_bytes(b"old")
    return folder


@pytest.fixture
def states(write, folder, monkeypatch):
    """The files before a command, after each of its writes, and at the end: those that must be, and those that may be.

    The second are more by checkpoints of before, which are removed after a write.
    """
    kept = files(folder)
    states, together, most = [], writing.replace_together, [kept]

    def noting(paths):
        found = files(folder)
        states.append(({name: data for name, data in found.items() if not name.endswith(".tmp")}, most[-1]))
        together(paths)
        most.append(files(folder))

    with monkeypatch.context() as patch:
        patch.setattr(writing, "replace_together", noting)
        write(folder)()
    states.append((files(folder), most[-1]))
    put_back(folder, kept)
    return states


def put_back(folder, kept):
    shutil.rmtree(folder)
    for name, data in kept.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "mxnet").mkdir(parents=True, exist_ok=True)


def is_a_state(folder, states):
    for path in [folder, *folder.rglob("*")]:
        finish(str(path / "anything"))
    found = {name: data for name, data in files(folder).items() if not name.endswith(".tmp")}
    return any(least.items() <= found.items() <= most.items() for least, most in states)


def test_killed_at_any_moment(write, folder, states):
    kept = files(folder)
    for moment, result in enumerate(with_faults(folder, write(folder), kill, STEP)):
        assert is_a_state(folder, states)
        if result == "killed" and moment % 3 == 0:  # to save time
            write(folder)()
            assert files(folder).keys() == states[-1][0].keys(), "the next write leaves nothing of the killed one"
        put_back(folder, kept)
    assert moment > 0


def test_a_full_disk_at_any_moment(write, folder, states, request):
    kept = files(folder)
    for result in with_faults(folder, write(folder), full_disk, STEP):
        assert is_a_state(folder, states)
        assert not [name for name in files(folder) if name.endswith(".tmp")]
        if result not in (None, "True"):
            assert "No space left on device" in result and "\n" not in result
            assert "train" in request.node.name or files(folder) == kept
        put_back(folder, kept)


def test_files_that_do_not_fit(write, folder, states, request):
    """The disk becomes full in the middle of a file: of any size less than the largest one needs."""
    kept = files(folder)
    largest = max(len(data) for _, most in states for data in most.values())
    for limit in {0, 1, largest // 2, largest - 1}:

        def limited(limit=limit):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            write(folder)()

        message = next(with_faults(tmp_of(folder), limited, full_disk))
        assert "cannot be written (File too large); the old files are unchanged" in message
        assert "train" in request.node.name or files(folder) == kept
        assert is_a_state(folder, states)


def tmp_of(folder):
    """Another folder, in which nothing happens."""
    return folder.parent / "nothing"


@pytest.mark.parametrize(
    "read",
    [
        lambda prefix: bmx.load_checkpoint(prefix, 3),
        lambda prefix: mx.model.load_checkpoint(prefix, 3),
        lambda prefix: mx.sym.load(f"{prefix}-symbol.json"),
        lambda prefix: bmx.program.decode(f"{prefix}.bmx"),
        lambda prefix: bmx.runtime.Model(f"{prefix}.bmx"),
        lambda prefix: cli.main(["summary", f"{prefix}-0003.params", "--data-shape", "3,12,10"]) and pytest.fail(),
    ],
)
def test_whatever_reads_finishes_a_killed_write_first(tmp_path, checkpoint, bmx_file, read):
    sources = [checkpoint, checkpoint.replace("-0003.params", "-symbol.json"), bmx_file]
    new = {os.path.basename(path): open(path, "rb").read() for path in sources}
    for name in new:
        (tmp_path / name).write_bytes(b"old")

    def write():
        replace = os.replace

        def killed_at_the_symbol(source, target):
            if target.endswith("symbol.json"):
                kill()
            replace(source, target)

        os.replace = killed_at_the_symbol
        writing.write_together([(str(tmp_path / name), writing.content(data)) for name, data in new.items()])

    child = os.fork()
    if child == 0:
        write()
    os.waitpid(child, 0)
    assert ".bmx-unfinished.tmp" in files(tmp_path) and "net-symbol.json" not in files(tmp_path)
    read(str(tmp_path / "net"))
    assert files(tmp_path) == new
