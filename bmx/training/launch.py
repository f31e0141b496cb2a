"""Starts the processes of a training on several machines: MXNet's scheduler, its servers, and the workers.

MXNet's wheel contains its parameter server. Environment variables that begin with DMLC_ tell a process its role and
the address of the scheduler. MXNet's own tools/launch.py needs a package that PyPI does not have.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from typing import Dict, List, NamedTuple, Optional, Sequence

from ..errors import Error

ROLES = ("scheduler", "server", "worker")
PATIENCE = 10.0  # seconds for the other processes to end by themselves after one has failed
LAST_WORK = 600.0  # seconds for the checkpoint after Ctrl-C or SIGTERM, and for servers to end after the workers
_SERVE = "from bmx.training.launch import serve; serve({role!r})"


class _Child(NamedTuple):
    name: str
    process: subprocess.Popen


def environment(workers: int, servers: int, host: str, port: int, role: str) -> Dict[str, str]:
    """Return the environment variables of a process.

    Parameters
    ----------
    workers, servers : int
        Numbers of them, 1 or more.
    host, port : str and int
        Address of the scheduler.
    role : {'scheduler', 'server', 'worker'}
    """
    return {
        "DMLC_ROLE": role,
        "DMLC_PS_ROOT_URI": host,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(workers),
        "DMLC_NUM_SERVER": str(servers),
    }


def launch(
    command: Sequence[str],
    workers: int,
    servers: int,
    host: str = "127.0.0.1",
    port: Optional[int] = None,
    role: Optional[str] = None,
    timeout: Optional[float] = None,
) -> int:
    """Start processes and wait for them; return 0, or 130 if they have ended after Ctrl-C, 143 after SIGTERM.

    When one process fails, the others are stopped, as they would wait for it for ever. SIGTERM, which Slurm and
    Kubernetes send before they kill, is passed on to the workers, which write a checkpoint as after Ctrl-C.

    Parameters
    ----------
    command : sequence of str
        Program of a worker and its arguments.
    workers, servers : int
        Numbers of them, 1 or more.
    host : str, default 127.0.0.1
        Address of the scheduler.
    port : int, optional
        Its port. Default: a free one; on several machines it must be given.
    role : {'scheduler', 'server', 'worker'}, optional
        Start one process of this role. Default: all processes, on this machine.
    timeout : float, optional
        Seconds after which everything is stopped. Default: no limit.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed, the program cannot be started, a process fails, or the time is over.
    """
    for name, number in (("workers", workers), ("servers", servers)):
        if number < 1:
            raise Error(f"{number} {name}; allowed: 1 or more")
    if role not in (None, *ROLES):
        raise Error(f"role {role!r}; allowed: {', '.join(ROLES)}")
    if not command and role in (None, "worker"):
        raise Error("no program to start: bmx launch -n 2 -s 1 -- python train.py")
    if port is None:
        if role is not None:
            raise Error("processes on several machines need the scheduler's port: --scheduler HOST:PORT")
        port = _free_port()
    wanted = {role: 1} if role else {"scheduler": 1, "server": servers, "worker": workers}
    children: List[_Child] = []
    signals: List[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: signals.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    if role is None:
        variables = _export(environment(workers, servers, host, port, "worker"))
        print(f"{variables}  # bmx launch; for several hosts see --print", file=sys.stderr, flush=True)
    try:
        for kind, count in wanted.items():
            for _ in range(count):
                # Importing MXNet as another role would never end; `serve` takes the role on afterwards.
                environ = {**os.environ, **environment(workers, servers, host, port, "worker")}
                argv = list(command) if kind == "worker" else [sys.executable, "-c", _SERVE.format(role=kind)]
                process = _start(argv, environ)
                children.append(_Child(f"{kind} (process {process.pid})", process))
        return _watch(children, signals, timeout)
    finally:
        _stop(children)
        for number, handler in before.items():
            signal.signal(number, handler)


def serve(role: str) -> None:
    """Be the scheduler or a server, until the workers have ended.

    MXNet would do this inside ``import mxnet``, where the server could not import the optimizers of this package.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the workers, which still need the servers
        signal.signal(number, signal.SIG_IGN)
    import mxnet as mx

    import bmx  # noqa: F401  (for its optimizers)

    os.environ["DMLC_ROLE"] = role
    mx.kvstore.KVStoreServer(mx.kv.create("dist")).run()


def instructions(command: Sequence[str], workers: int, servers: int, host: str, port: int) -> str:
    """Return what to run on each of several hosts, as shell commands."""
    variables = environment(workers, servers, host, port, "worker").items()
    lines = ["# on every host:", *(_export(dict([variable])) for variable in variables if variable[0] != "DMLC_ROLE")]
    own = f"bmx launch -n {workers} -s {servers} --scheduler {shlex.quote(f'{host}:{port}')} --role"
    program = shlex.join(command) if command else "python train.py --kv-store dist_sync"
    return "\n".join(
        [
            *lines,
            f"# on {host}, once:",
            f"{own} scheduler",
            f"# {servers} time(s), on any hosts:",
            f"{own} server",
            f"# {workers} time(s), on any hosts (or: DMLC_ROLE=worker {program}):",
            f"{own} worker -- {program}",
        ]
    )


def _export(variables: Dict[str, str]) -> str:
    """What sets the variables in a shell, but for the role, which each process has of its own."""
    given = (f"{name}={shlex.quote(value)}" for name, value in variables.items() if name != "DMLC_ROLE")
    return f"export {' '.join(given)}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start(argv: List[str], environ: Dict[str, str]) -> subprocess.Popen:
    try:
        return subprocess.Popen(argv, env=environ, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Error(f"{argv[0]}: cannot be started ({error.strerror})") from None


def _watch(children: List[_Child], signals: List[int], timeout: Optional[float]) -> int:
    """Wait until all have ended; raise an error when one fails or the time is over."""
    start = time.monotonic()
    last = None  # when the others must have ended
    status = 0
    passed_on = killed = False
    running = list(children)
    while running:
        time.sleep(0.1)
        if signal.SIGTERM in signals and not passed_on:
            passed_on = True  # Ctrl-C the terminal sends to the workers itself
            for child in _workers(running):
                child.process.terminate()
        for child in list(running):
            code = child.process.poll()
            if code is None:
                continue
            running.remove(child)
            stopped_by = code - 128 if code > 128 else -code
            if stopped_by in signals:
                status, killed = 128 + stopped_by, killed or code < 0
            elif code != 0:
                _grace(running)
                raise Error(f"{child.name} {_ending(code)}; the others have been stopped, as they would wait for it")
        if killed and not _workers(running):
            return status  # the servers would wait for a worker that has not taken its leave
        now = time.monotonic()
        if last is None and (signals or (running and not _workers(running) and len(children) > 1)):
            last = now + LAST_WORK
        if timeout is not None and now - start > timeout:
            raise Error(f"{', '.join(child.name for child in running)} not done after {timeout:g} s; stopped")
        if last is not None and now > last:
            raise Error(f"{', '.join(child.name for child in running)} did not end; stopped")
    return status


def _workers(children: List[_Child]) -> List[_Child]:
    return [child for child in children if child.name.startswith("worker")]


def _grace(running: List[_Child]) -> None:
    """Give workers that fail too, for the same reason, time to say so."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and any(child.process.poll() is None for child in _workers(running)):
        time.sleep(0.1)


def _ending(code: int) -> str:
    if code > 0:
        return f"failed with exit status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _stop(children: List[_Child]) -> None:
    workers = _workers(children)
    for child in children:
        if child.process.poll() is None:
            child.process.terminate() if child in workers else child.process.kill()  # servers ignore SIGTERM
    end = time.monotonic() + 3
    for child in children:
        try:
            child.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.process.kill()
            child.process.wait()
