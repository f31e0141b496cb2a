"""Files that get their names together, also where the process is killed in between: then the next one finishes.

A system renames one file at a time. So before the first of several gets its name, a *journal* is written beside them,
which says which temporary files become which. A kill before that leaves the old files; a kill after it leaves the
journal, and `finish`, which all of bmx calls before it reads or writes such files, does the rest. Other programs never
see old files beside new ones either, only missing ones: all old files but the first step aside before a new one comes.

There is one journal a folder. Of files in several folders, the journal that is written last decides for all.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import json
import os
import uuid
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .errors import Error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    *("HAS_LOCKS", "NAME", "NotReplaced", "aside_name", "draft_name", "finish", "lock", "remove", "replace_together"),
]

NAME = ".bmx-unfinished.tmp"
"""The name of a journal."""
HAS_LOCKS = fcntl is not None


class NotReplaced(Exception):
    """A file could not be renamed; the others have their old content again, but those in `aside`.

    Attributes
    ----------
    path : str
        The file.
    reason : OSError
    aside : dict of str to str
        Files that are missing now, and where their old content is.
    """

    def __init__(self, path: str, reason: OSError, aside: Dict[str, str]):
        super().__init__(path, reason, aside)
        self.path, self.reason, self.aside = path, reason, aside


class _Entry(NamedTuple):
    """What a journal says.

    `files` are names in its folder, each with the number of the process that wrote its temporary file, and this file's
    inode: a journal that came with somebody's archive must not rename anything. `decides` is the journal that must
    exist, with the same `identity`, for anything to be done: itself, if it is None. It has the `others`. Both are
    relative paths.
    """

    identity: str
    files: List[Tuple[str, int, int]]
    decides: Optional[str]
    others: List[str]


def draft_name(path: str, process: int) -> str:
    """The name of the temporary file that a process writes."""
    return f"{path}.{process}.tmp"


def aside_name(path: str, process: int) -> str:
    """The name that an old file has until all new ones have theirs."""
    return f"{path}.{process}.before.tmp"


def replace_together(paths: Sequence[str]) -> None:
    """Give this process's temporary files of `paths`, which are whole, their names: all or none.

    Raises
    ------
    NotReplaced
        If one cannot be renamed.
    OSError
        If a journal cannot be written. Nothing has changed then.
    """
    process = os.getpid()
    if len(paths) > 1:
        paths = [path for path in paths if not _is_as_before(path, process)]
    with _journals(paths, process) if len(paths) > 1 else contextlib.nullcontext():
        current = ""
        try:
            for number, current in enumerate(paths if len(paths) > 1 else ()):
                _step_aside(current, aside_name(current, process), copy=number == 0)
            for current in paths:
                os.replace(draft_name(current, process), current)
        except BaseException as error:  # also Ctrl-C
            left = _put_back(paths, process)
            if isinstance(error, OSError):
                raise NotReplaced(current, error, left) from None
            raise
        for path in paths:
            remove(aside_name(path, process))


def _is_as_before(path: str, process: int) -> bool:
    """Whether a file has its new content already; its temporary file has gone then."""
    draft = draft_name(path, process)
    with contextlib.suppress(OSError):
        if os.path.isfile(path) and filecmp.cmp(path, draft, shallow=False):
            os.remove(draft)
            return True
    return False


def _step_aside(path: str, aside: str, copy: bool) -> None:
    """Give an old file another name; with `copy` it keeps its own too, where the file system has hard links."""
    with contextlib.suppress(FileNotFoundError):
        if copy:
            with contextlib.suppress(OSError):
                os.link(path, aside, follow_symlinks=False)
                return
        os.replace(path, aside)


def _put_back(paths: Sequence[str], process: int) -> Dict[str, str]:
    """Undo what was renamed. At every moment of it, the journal can still be followed: temporary files come back."""
    left = {}
    for path in reversed(paths):
        draft, aside, done = draft_name(path, process), aside_name(path, process), False
        while not done:
            with contextlib.suppress(KeyboardInterrupt):  # another one
                try:
                    if not os.path.lexists(draft):
                        os.replace(path, draft)
                    if os.path.lexists(aside):
                        os.replace(aside, path)
                    remove(aside)  # two names of one file: renaming one to the other does nothing
                except OSError:
                    left[path] = aside
                done = True
    return left


def remove(path: str) -> None:
    """Remove a file, if it is there and can be removed."""
    with contextlib.suppress(OSError):
        os.remove(path)


def lock(number: int, wait: bool = False) -> bool:
    """Whether this process now has the lock of an open file: no if another one has it, or there are no locks here."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (OSError, AttributeError):
        return False
    return True


@contextlib.contextmanager
def _journals(paths: Sequence[str], process: int) -> Iterator[None]:
    """Journals of files that are renamed in the block."""
    names: Dict[str, List[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        names.setdefault(os.path.realpath(folder), []).append(name)
    folders = sorted(names)  # so that two processes never wait for each other
    identity, last = uuid.uuid4().hex, folders[-1]
    opened = []
    try:
        for folder in folders:
            path = os.path.join(folder, NAME)
            number = _create(path)
            opened.append((path, number))
            decides = None if folder == last else os.path.relpath(os.path.join(last, NAME), folder)
            others = [os.path.relpath(os.path.join(other, NAME), last) for other in folders[:-1]]
            drafts = [(name, draft_name(os.path.join(folder, name), process)) for name in names[folder]]
            files = [(name, process, os.stat(draft).st_ino) for name, draft in drafts]
            entry = _Entry(identity, files, decides, [] if decides else others)
            with open(number, "w", encoding="utf-8", closefd=False) as file:
                json.dump(entry._asdict(), file)
            os.fsync(number)
        yield
    finally:
        for path, number in opened:  # the one that decides last
            remove(path)
            os.close(number)


def _create(path: str) -> int:
    """Make a journal, when nobody has one here, and lock it."""
    while True:
        _finish(path)
        with contextlib.suppress(FileExistsError):
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            lock(number, wait=True)
            if _is_still(path, number):
                return number
            os.close(number)  # taken for one that a killed process has left


def _is_still(path: str, number: int) -> bool:
    """Whether a file that was opened still has this name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(number))
    except OSError:
        return False


def finish(*paths: str) -> None:
    """Give files the names that a killed process has left to give, in the folders of `paths`; wait for a living one.

    Raises
    ------
    bmx.Error
        If one of `paths` is among them, and they cannot be renamed.
    """
    for path in paths:
        folder, name = os.path.split(os.fsdecode(path))
        journal = os.path.join(folder, NAME)
        try:
            _finish(journal)
        except OSError as error:
            entry = _read(journal)
            names = [] if entry is None else [other for other, _, _ in entry.files]
            if name in names:
                what = f"a write of {', '.join(names)} was killed, and cannot be finished ({error.strerror})"
                raise Error(f"{path}: {what}; rename the files NAME.NUMBER.tmp to NAME, and remove {journal}") from None


def _finish(path: str) -> None:
    """Do what a journal says, if it is decided, and remove it."""
    try:
        number = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        lock(number, wait=True)
        if not _is_still(path, number):
            return  # another process has finished
        entry, folder = _read(path), os.path.dirname(path)
        if entry is None:  # killed before it was written
            os.remove(path)
            return
        decided = entry.decides is None or _identity(os.path.join(folder, entry.decides)) == entry.identity
        if decided:
            for other in entry.others:
                _finish(os.path.join(folder, other))
            for name, process, inode in entry.files:
                _rename(os.path.join(folder, name), process, inode)
        os.remove(path)
    finally:
        os.close(number)


def _rename(path: str, process: int, inode: int) -> None:
    draft = draft_name(path, process)
    with contextlib.suppress(FileNotFoundError):  # it is done
        if os.lstat(draft).st_ino != inode:
            raise OSError(errno.ESTALE, f"{draft} is another file")
        os.replace(draft, path)
    remove(aside_name(path, process))


def _identity(path: str) -> Optional[str]:
    entry = _read(path)
    return None if entry is None else entry.identity


def _read(path: str) -> Optional[_Entry]:
    """What a journal says; None if it is missing or was not written to its end, or is none that `_journals` writes."""
    try:
        with open(path, encoding="utf-8") as file:
            entry = _Entry(**json.load(file))
        valid = all(
            _is_name(name) and isinstance(process, int) and isinstance(inode, int)
            for name, process, inode in entry.files
        )
        valid &= all(os.path.basename(other) == NAME for other in [*entry.others, *filter(None, [entry.decides])])
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return entry if valid else None


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name == os.path.basename(name) and "\0" not in name
