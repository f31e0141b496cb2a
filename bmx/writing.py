"""Files that are written whole or not at all, and several of them together or none.

A file is written beside its place, as ``PATH.PID.tmp``, and renamed when all of it is on the disk; several files with a
`journal`. The writer holds a lock on the temporary file, which the system releases when the process ends, however it
ends: so the next write of the same file or checkpoint can tell what a killed one has left, and removes it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from .checkpoints.names import EPOCH
from .errors import Error
from .journal import HAS_LOCKS, NotReplaced, draft_name, finish, lock, remove, replace_together

__all__ = ["Write", "check_writable", "clear_leftovers", "content", "new_folder", "write_atomically", "write_together"]

Write = Callable[[str], Any]
"""Writes a file of the name that it is given."""

_OF_A_CHECKPOINT = rf"(-symbol\.json|-{EPOCH}\.params|\.resume)"
_TEMPORARY = r"\.[0-9]+(\.before)?\.tmp"


def write_atomically(path: str, write: Write) -> None:
    """Call ``write(temporary name)`` and give the result the name `path`; a failure leaves the old file.

    Raises
    ------
    bmx.Error
        If the file cannot be written.
    """
    write_together([(path, write)])


def content(data: bytes) -> Write:
    """What writes these bytes to a file."""

    def write(path: str) -> None:
        with open(path, "wb") as file:
            file.write(data)

    return write


def write_together(files: Sequence[Tuple[str, Write]], verify: Optional[Callable[[List[str]], Any]] = None) -> None:
    """Write several files as `write_atomically` does one: none gets its name before all are written.

    If one cannot be renamed, those renamed before it get their old content back. If the process is killed between two
    renames, other programs find the first file, old or new, and some of the others missing; whatever in bmx reads or
    writes in these folders next finishes the work first (`journal.finish`).

    Parameters
    ----------
    files : sequence of (str, callable)
        The name of each file, and what writes it.
    verify : callable, optional
        Called with the temporary names of the files before the first one is renamed; an error keeps the old files.

    Raises
    ------
    bmx.Error
        If one cannot be written. Where an old file could not be put back, the message says where it is.
    """
    paths = [path for path, _ in files]
    clear_leftovers(paths)
    path, state = "", "the old files are unchanged"
    with contextlib.ExitStack() as stack:
        try:
            drafts = []
            for path, write in files:
                if os.path.isdir(path):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                draft, number = stack.enter_context(_draft(path))
                write(draft)
                os.fsync(number)
                drafts.append(draft)
            if verify is not None:
                verify(drafts)
            replace_together(paths)
        except NotReplaced as error:
            if error.aside:
                state = ", ".join(f"the old {name} is {aside} now" for name, aside in error.aside.items())
            raise Error(f"{error.path}: cannot be written ({error.reason.strerror}); {state}") from None
        except OSError as error:
            reason = error.strerror or str(error).strip().splitlines()[-1]
            raise Error(f"{path}: cannot be written ({reason}); {state}") from None


@contextlib.contextmanager
def _draft(path: str) -> Iterator[Tuple[str, int]]:
    """The name of a temporary file for `path`, and the number of the open file; what is not renamed is removed."""
    name = draft_name(path, os.getpid())
    number = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
    try:
        lock(number)
        yield name, number
    finally:
        remove(name)
        os.close(number)


def clear_leftovers(paths: Iterable[str]) -> None:
    """Finish what killed writes of these files have decided (`journal`), and remove what they have left besides.

    Of a file of a checkpoint (PREFIX-symbol.json, PREFIX-NNNN.params, PREFIX.resume), those of all of its files.
    """
    patterns: Dict[str, Set[str]] = {}
    paths = list(paths)
    finish(*paths)
    for path in paths:
        folder, name = os.path.split(path)
        found = re.fullmatch(f"(.+?){_OF_A_CHECKPOINT}", name, re.DOTALL)
        pattern = re.escape(found[1]) + _OF_A_CHECKPOINT if found else re.escape(name)
        patterns.setdefault(folder or ".", set()).add(pattern + _TEMPORARY)
    for folder, wanted in patterns.items():
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if any(re.fullmatch(pattern, name, re.DOTALL) for pattern in wanted):
                    _remove_if_left(os.path.join(folder, name))


def _remove_if_left(path: str) -> None:
    if not os.path.isfile(path):
        return
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if not HAS_LOCKS or lock(file.fileno()):
            os.remove(path)


def check_writable(path: str) -> None:
    """Raise OSError if the temporary file of `write_together` cannot be made."""
    with _draft(path):
        pass


@contextlib.contextmanager
def new_folder(path: str, keep: bool = True) -> Iterator[None]:
    """Make a folder, with those that it is in, where it is missing; an error in the block removes them again.

    With `keep` False they are removed in any case.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    made, folder = [], path
    while folder and not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    try:
        os.makedirs(path or ".", exist_ok=True)
        yield
    except BaseException:
        keep = False
        raise
    finally:
        for folder in [] if keep else made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)
