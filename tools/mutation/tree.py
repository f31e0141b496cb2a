"""A copy of the tree, in which code is changed, built and tested; the tree itself is never written to."""

import contextlib
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic
from typing import Callable, Dict, Iterable, List, Optional, Sequence

from . import Failed
from .rooms import LEFT_OUT, PRELOADED

MEMORY = 8 << 30  # bytes that changed code may take, lest the machine runs out of them
PASSED, NO_TESTS = 100, 105  # exit statuses: pytest's own and 100
LIBRARIES = ("bmx", "bmx_mxnet")
OPTIONS = ["-q", "-p", "no:cacheprovider", "-m", "not slow", *(f"--ignore={file}" for file in LEFT_OUT)]


class Tree:
    """The copy: a context manager, which removes it however the program ends.

    Parameters
    ----------
    root : Path
        The tree to copy: the files that git knows or would add, and the built libraries.
    compiled : bool
        Whether to build C++ in the copy, rather than to take the libraries of `root`.
    programs : iterable of str
        C++ test programs to build.
    """

    def __init__(self, root: Path, compiled: bool = False, programs: Iterable[str] = ()):
        self.root, self.compiled, self.programs = root, compiled, sorted(set(programs))
        self.folder = Path(tempfile.mkdtemp(prefix="mutants-"))
        self.path = self.folder / "tree"
        self.left_out: List[str] = []  # tests that fail without a change

    def __enter__(self) -> "Tree":
        try:
            self._copy()
            # The copy comes before an installed bmx; temporary files of tests go with the copy.
            os.environ.update(PYTHONPATH=str(self.path), TMPDIR=str(self.folder / "tmp"), PYTHONDONTWRITEBYTECODE="1")
            self._server = multiprocessing.get_context("forkserver")
            self._server.set_forkserver_preload(PRELOADED)
            if self.compiled:
                self._configure()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _copy(self) -> None:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=self.root, capture_output=True, text=True)
        if listed.returncode != 0:
            raise Failed(f"{self.root}: git cannot list its files: {listed.stderr.strip()}")
        libraries = [str(path.relative_to(self.root)) for path in self.root.glob("bmx/*.so")]
        for name in {*listed.stdout.split("\0"), *libraries} - {""}:
            if (self.root / name).is_file():  # not one that was removed
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / name, self.path / name)
        (self.folder / "tmp").mkdir()
        if (self.root.parent / "shared").is_dir():  # models that some tests find beside the checkout
            (self.folder / "shared").symlink_to(self.root.parent / "shared")

    def _configure(self) -> None:
        cache = self.root / "build" / "cmake" / "CMakeCache.txt"
        if not cache.exists():
            raise Failed(f"{cache} does not exist; build first: make build")
        kept = re.findall(r"^((?:MXNET_DIR|dnnl_DIR|CMAKE_MAKE_PROGRAM):\w+=.+)$", cache.read_text(), re.MULTILINE)
        command = ["cmake", "-S", ".", "-B", "build/cmake", "-G", "Ninja", "-DBMX_TESTS=ON"]
        said = self._run([*command, *(f"-D{option}" for option in kept)]) or self.build()
        if said is not None:
            raise Failed(f"the copy cannot be built:\n{said}")

    def build(self) -> Optional[str]:
        """Build C++ anew; returns None, or what the compiler says."""
        said = self._run(["cmake", "--build", "build/cmake", "--target", *LIBRARIES, *self.programs])
        if said is None:
            for name in LIBRARIES:
                shutil.copy2(self.path / "build" / "cmake" / f"lib{name}.so", self.path / "bmx")
        return said

    def run_program(self, name: str, isa: str = "", timeout: Optional[float] = None) -> Optional[str]:
        """Run a C++ test program, on an instruction set; returns None if its tests pass, else what it wrote."""
        return self._run([f"build/cmake/{name}"], timeout, {"BMX_ISA": isa} if isa else {})

    def run_pytest(self, files: Sequence[str], timeout: Optional[float] = None, *options: str) -> Optional[str]:
        """Run Python tests, until one fails if no options are given; returns None if they pass, else what they say."""
        arguments = [*OPTIONS, *(f"--deselect={test}" for test in self.left_out), *(options or ["-x"]), *files]
        process = self._server.Process(target=_pytest, args=(str(self.path), str(self.folder / "log"), arguments))
        process.start()
        with _ended(process.pid, process.join):
            end = monotonic() + (timeout or float("inf"))
            while process.is_alive() and monotonic() < end and _memory(process.pid) < MEMORY:
                process.join(0.5)
            late = process.is_alive()
        if process.exitcode == 1:  # of Python itself; pytest's statuses are others
            raise Failed("a process for tests cannot be started; was tools/ changed meanwhile?")
        if process.exitcode in (PASSED, NO_TESTS):
            return None
        return self._said(late)

    def durations(self, files: Sequence[str]) -> Dict[str, float]:
        """Run Python tests, leave those out that fail, and return how many seconds each file takes."""
        said = self.run_pytest(files, None, "--durations=0", "-vv")
        log = (self.folder / "log").read_text(errors="replace")
        failing = re.findall(r"^(?:FAILED|ERROR) (\S+?::.+?)(?: - .*)?$", log, re.MULTILINE)
        if said is not None and (not failing or " passed" not in log):
            raise Failed(f"without any change, tests fail:\n{said}")
        for test in failing:
            print(f"left out, as it fails without any change: {test}", flush=True)
        self.left_out += failing
        seconds = {name: 0.0 for name in re.findall(r"^(\S+?\.py)::.*\[ *\d+%\]$", log, re.MULTILINE)}
        for time, name in re.findall(r"^([\d.]+)s (?:call|setup|teardown) +(\S+?\.py)::", log, re.MULTILINE):
            seconds[name] = seconds.get(name, 0.0) + float(time)
        return seconds

    def _run(
        self, command: List[str], timeout: Optional[float] = None, variables: Optional[Dict[str, str]] = None
    ) -> Optional[str]:
        """Run a command; returns None if it ends well, else what it wrote."""
        with open(self.folder / "log", "wb") as log:
            process = subprocess.Popen(
                command,
                cwd=self.path,
                env={**os.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            late = False
            with _ended(process.pid, process.wait):
                try:
                    process.wait(timeout)
                except subprocess.TimeoutExpired:
                    late = True
        return None if process.returncode == 0 else self._said(late)

    def _said(self, late: bool) -> str:
        said = (self.folder / "log").read_text(errors="replace")[-3000:]
        return f"{said}\nended: it took too long, or too much memory" if late else said


def _pytest(folder: str, log: str, arguments: List[str]) -> None:
    """Run pytest in this process, the leader of a session of its own, in the copy."""
    os.setsid()
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, written), (2, written)):
        os.dup2(file, number)
    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    import pytest

    status = pytest.main(arguments)
    sys.stdout.flush()
    os._exit(PASSED + int(status))  # without what MXNet does at exit


def _memory(pid: int) -> int:
    """The bytes of memory that a process takes; 0 where Linux does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # the process has ended
        return 0


@contextlib.contextmanager
def _ended(pid: int, wait: Callable[[], object]):
    """After the block, a process and those that it started, which are of its session, are no more."""
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)  # it may not lead a session yet
        wait()
