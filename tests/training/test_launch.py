"""Several processes on this machine, through MXNet's parameter server on loopback."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import bmx
from bmx.training.launch import environment, instructions, launch
from bmx.training.workers import Workers

# Trains a network with a convolution and two binary layers; what ends badly is said by the first argument.
PROGRAM = """if True:
    import os, signal, sys
    import mxnet as mx, numpy as np
    import bmx
    from bmx.gluon import nn
    from bmx.training import Batches, fit
    from bmx.training.workers import Workers

    ends, kind, optimizer, batch_size, compression, prefix = sys.argv[1:]
    workers = Workers(kind, compression, threshold=0.05)
    random = np.random.RandomState(3)
    labels = np.arange(48, dtype=np.float32) % 2
    images = (random.randn(48, 1, 4, 4) + labels.reshape(-1, 1, 1, 1) - 0.5).astype(np.float32)

    class MyBatches(Batches):
        def epoch(self, number, start=0):
            for i, batch in enumerate(super().epoch(number, start)):
                if self.train and number == 2 and i == 1 and workers.rank == 1:
                    if ends == "killed":
                        os.kill(os.getpid(), signal.SIGKILL)
                    if ends == "interrupted":
                        os.kill(os.getpid(), signal.SIGINT)
                yield batch

    mx.random.seed(0 if workers.rank == 0 else 99)  # only the first worker's parameters count
    net = nn.HybridSequential(prefix="net_")
    with net.name_scope():
        net.add(nn.Conv2D(8, 3, padding=1, in_channels=1), nn.activated_conv(8, 3, padding=1, in_channels=8))
        net.add(nn.QDense(8, in_units=128), nn.Dense(2, in_units=8))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    train = MyBatches(images, labels, int(batch_size), train=True, part=(workers.rank, workers.count))
    options = {"momentum": 0.9} if optimizer == "sgd" else {}
    optimizer = mx.optimizer.create(optimizer, learning_rate=0.01, **options)
    options = {"prefix": prefix, "workers": workers, "resume": ends == "resumed"}
    try:
        fit(net, train, Batches(images, labels, 16), optimizer, 2, **options)
    except KeyboardInterrupt:
        pass
    except BaseException:
        workers.leave()
        raise
    arrays = {name: param.data().asnumpy() for name, param in net.collect_params().items()}
    np.savez(f"{prefix}.{workers.rank}.npz", **arrays)
"""
LIMIT = 240  # seconds, on a busy machine too


@pytest.fixture
def train(root, tmp_path, monkeypatch):
    """Run the program, by itself or as several workers; returns the parameters of each at the end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(root))

    def run(name, workers, kind, optimizer="sgd", batch_size=4, compression="none", ends="well", separately=False):
        prefix = str(tmp_path / name)
        command = [sys.executable, "-c", PROGRAM, ends, kind, optimizer, str(batch_size), compression, prefix]
        if separately:
            launch_separately(command, workers)
        elif workers:
            assert launch(command, workers, servers=1, timeout=LIMIT) == 0
        else:
            monkeypatch.setattr(sys, "argv", command[2:])
            exec(PROGRAM, {})
        return [dict(np.load(f"{prefix}.{rank}.npz")) for rank in range(max(1, workers))]

    return run


def test_two_workers_are_one_with_the_joined_batch_resume_exactly_and_differ_when_compressed(train, tmp_path):
    first, second = train("two", 2, "dist_sync")
    (alone,) = train("one", 0, "local", batch_size=8)
    stopped, stopped_too = train("parts", 2, "dist_sync", ends="interrupted")  # of one: both after the same step
    assert (tmp_path / "parts.resume").exists()
    resumed, _ = train("parts", 2, "dist_sync", ends="resumed")
    compressed, compressed_too = train("compressed", 2, "dist_sync", compression="2bit")
    for name in alone:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(first[name], alone[name], rtol=1e-3, atol=1e-5)
        np.testing.assert_array_equal(stopped[name], stopped_too[name])
        np.testing.assert_array_equal(resumed[name], first[name])
        np.testing.assert_array_equal(compressed[name], compressed_too[name])
        assert np.isfinite(compressed[name]).all() and (compressed[name] != first[name]).any()
    assert any((stopped[name] != first[name]).any() for name in alone)


def test_an_example_on_two_workers_leaves_a_checkpoint_on_sigterm(root, tmp_path, monkeypatch, capfd):
    """Which Slurm and Kubernetes send; here to this process, in which `launch` runs, after the first epoch."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = "--dataset synthetic --model lenet --shape 1,28,28 --limit 32 --batch-size 8 --epochs 9999".split()
    options += f"--kv-store dist_sync --gradient-compression 2bit --threshold 0.05 --prefix {tmp_path}/net".split()
    command = [sys.executable, str(root / "example" / "train_resnet18_cifar10.py"), *options]

    def terminate():
        while not (tmp_path / "net.resume").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    assert launch(command, 2, 1, timeout=LIMIT) == 143
    output, errors = capfd.readouterr()
    assert output.count("interrupted after epoch") == 1 and "go on with: bmx launch -n 2 -s" in errors
    assert len(list(tmp_path.glob("net-0*.params"))) == 1


def launch_separately(command, workers):
    """Start each process with a `bmx launch --role` of its own, as on several hosts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    own = [sys.executable, "-m", "bmx.cli", "launch", "-n", str(workers), "-s", "1", "--scheduler", address]
    own += ["--timeout", str(LIMIT), "--role"]
    roles = [["scheduler"], ["server"], *[["worker", "--", *command]] * workers]
    processes = [subprocess.Popen([*own, *role], stdin=subprocess.DEVNULL) for role in roles]
    assert [process.wait(LIMIT) for process in processes] == [0] * len(roles)


def test_servers_know_the_optimizers_of_bmx(train):
    """With dist_async the servers make the steps."""
    for weights in train("two", 2, "dist_async", optimizer="radam", separately=True):
        assert all(np.isfinite(value).all() for value in weights.values())


def test_a_worker_that_is_killed_stops_the_others(train, monkeypatch):
    """The other one is in MXNet and waits for it."""
    monkeypatch.setattr("bmx.training.launch.PATIENCE", 1)
    start = time.monotonic()
    with pytest.raises(bmx.Error, match=r"worker \(process \d+\) was killed by SIGKILL; the others have been stopped"):
        train("two", 2, "dist_sync", ends="killed")
    assert time.monotonic() - start < LIMIT / 2
    left = subprocess.run(["ps", "-eo", "ppid,args"], capture_output=True, text=True).stdout
    assert not [line for line in left.splitlines() if line.split()[0] == str(os.getpid()) and "serve(" in line]


def test_a_worker_that_fails_is_named_with_its_exit_status():
    reason = r"worker \(process \d+\) failed with exit status 3; the others have been stopped"
    with pytest.raises(bmx.Error, match=reason):
        launch([sys.executable, "-c", "raise SystemExit(3)"], 2, 1, timeout=LIMIT)


def test_sigterm_stops_workers_that_do_not_know_it(root, tmp_path):
    started = tmp_path / "started"
    worker = f"import os, pathlib, time; pathlib.Path({str(started)!r}).write_text(str(os.getpid())); time.sleep(60)"
    command = [sys.executable, "-m", "bmx.cli", "launch", "-n", "1", "-s", "1", "--", sys.executable, "-c", worker]
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not (started.exists() and started.read_text()):
        time.sleep(0.05)
    process.terminate()
    assert "DMLC_NUM_WORKER=1" in process.communicate(timeout=30)[1] and process.returncode == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_time_limit():
    with pytest.raises(bmx.Error, match=r"worker \(process \d+\) not done after 0.3 s; stopped"):
        launch([sys.executable, "-c", "import time; time.sleep(60)"], 1, 1, port=1, role="worker", timeout=0.3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"workers": 0}, "0 workers; allowed: 1 or more"),
        ({"servers": -1}, "-1 servers; allowed: 1 or more"),
        ({"command": []}, "no program to start"),
        ({"role": "worker"}, "need the scheduler's port"),
        ({"role": "boss"}, "role 'boss'; allowed: scheduler, server, worker"),
        ({"command": ["no-such-program"], "role": "worker", "port": 1}, "no-such-program: cannot be started"),
    ],
)
def test_impossible_launches(arguments, message):
    with pytest.raises(bmx.Error, match=message):
        launch(**{"command": ["true"], "workers": 1, "servers": 1, **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("dist",), "KVStore 'dist'; allowed: local, device, dist_sync, dist_async"),
        (("dist_sync", "1bit"), "gradient compression '1bit'; allowed: none, 2bit"),
        (("dist_sync", "2bit", 0), "threshold of the gradient compression is 0; allowed: more than 0"),
        (("local", "2bit"), "KVStore local sends nothing"),
        (("dist_sync",), "DMLC_ROLE is not set.*bmx launch"),
    ],
)
def test_impossible_workers(arguments, message):
    with pytest.raises(bmx.Error, match=message):
        Workers(*arguments)


def test_environment_and_instructions():
    assert environment(2, 1, "10.0.0.1", 9091, "server") == {
        "DMLC_ROLE": "server",
        "DMLC_PS_ROOT_URI": "10.0.0.1",
        "DMLC_PS_ROOT_PORT": "9091",
        "DMLC_NUM_WORKER": "2",
        "DMLC_NUM_SERVER": "1",
    }
    text = instructions(["python", "train.py", "--lr", "0.1"], 2, 1, "10.0.0.1", 9091)
    assert "export DMLC_PS_ROOT_URI=10.0.0.1\n" in text
    assert "bmx launch -n 2 -s 1 --scheduler 10.0.0.1:9091 --role worker -- python train.py --lr 0.1" in text


def test_what_is_printed_can_be_pasted_into_a_shell(capfd):
    """With `bmx` being a function that says what it is called with."""
    program = ["python", "my train.py", "--name", "it's"]
    text = instructions(program, 2, 1, "node; 7", 9091)
    shell = f"bmx() {{ printf '<%s>' \"$@\"; echo; }}\n{text}\necho $DMLC_PS_ROOT_URI $DMLC_NUM_WORKER"
    lines = subprocess.run(["sh", "-ec", shell], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    begin = "<launch><-n><2><-s><1><--scheduler><node; 7:9091><--role>"
    assert lines[:2] == [f"{begin}<scheduler>", f"{begin}<server>"]
    assert lines[2] == f"{begin}<worker><--><python><my train.py><--name><it's>" and lines[3:] == ["node; 7 2"]

    with pytest.raises(bmx.Error, match="/none: cannot be started"):
        launch(["/none"], 1, 1)
    line = capfd.readouterr().err.splitlines()[0]
    shell = f"{line}\necho $DMLC_PS_ROOT_URI $DMLC_NUM_WORKER"
    assert subprocess.run(["sh", "-ec", shell], stdout=subprocess.PIPE, text=True).stdout == "127.0.0.1 1\n"
