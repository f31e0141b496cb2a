"""A process that works on request. Requests and replies are lines of JSON; both ends are here.

Standard output carries only replies. Output of libraries in the process goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Sequence, TextIO

from ..errors import Error

__all__ = ["Process", "serve"]


class Process:
    """A Python process that is stopped between its turns.

    Otherwise its idle threads would take processors from the next process: threads of ONNX Runtime and OpenMP spin for
    many milliseconds while they wait for work.

    Parameters
    ----------
    command : sequence of str
        Arguments for Python: a program, or ``-m`` and a module, that calls :func:`serve`.
    name : str
        Begins error messages.
    threads : int
        Number of OpenMP threads.
    first : dict of str to object
        Keyword arguments for the callable that the program passed to :func:`serve`.

    Raises
    ------
    bmx.Error
        If the process ends or a request fails; `ask` raises it too.
    """

    def __init__(self, command: Sequence[str], name: str, threads: int, first: Dict[str, Any]):
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OMP_DYNAMIC": "false"}
        # The process must import this package, wherever it is, and its dependencies.
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)])
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            encoding="utf-8",
        )
        try:
            self._exchange(first)
        except BaseException:
            self.close()
            raise

    def ask(self, do: str, **arguments: Any) -> Any:
        """Call the method `do` of the object in the process and return its result."""
        return self._exchange({"do": do, **arguments})

    def _exchange(self, request: Any) -> Any:
        self._signal("SIGCONT")
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            reply = self._process.stdout.readline()
        except BrokenPipeError:
            reply = ""
        if not reply:
            status = self._process.wait()  # afterwards the log is complete
            self._log.seek(0)
            lines = self._log.read().split("\n")
            reason = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
            raise Error(f"{self.name}: its process ended (status {status}): {reason}")
        self._signal("SIGSTOP")
        content = json.loads(reply)
        if "memory_error" in content:
            raise Error(f"{self.name}: there is not enough memory: {content['memory_error']}")
        if "error" in content:
            raise Error(content["error"])
        return content["value"]

    def _signal(self, name: str) -> None:
        if hasattr(signal, name):  # Windows has no such signals
            self._process.send_signal(getattr(signal, name))

    def close(self) -> None:
        """End the process."""
        self._signal("SIGCONT")
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()


def serve(make: Callable[..., Any]) -> None:
    """Make an object from the first request, then serve the other requests until there are no more.

    Parameters
    ----------
    make : callable
        Makes the object from the keyword arguments `first` of :class:`Process`. Arguments and results of the object's
        methods must be JSON values.
    """
    if sys.platform.startswith("linux"):
        _end_with_parent()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as replies:
        os.dup2(2, 1)
        subject = None
        for line in sys.stdin:
            request = json.loads(line)
            try:
                if subject is None:
                    subject = make(**request)
                    _reply(replies, value=None)
                else:
                    _reply(replies, value=getattr(subject, request.pop("do"))(**request))
            except Error as error:
                _reply(replies, error=str(error))
            except MemoryError as error:
                _reply(replies, memory_error=str(error))


def _reply(stream: TextIO, **content: Any) -> None:
    stream.write(json.dumps(content) + "\n")
    stream.flush()


def _end_with_parent() -> None:
    """Have Linux kill this process with its parent. If it is stopped between turns, it would otherwise stay forever."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
