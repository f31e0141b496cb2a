"""Files that several parts read or write: samples, and whatever must be written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import zipfile
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Type, Union

import numpy as np

from .errors import Error

__all__ = [
    *("check_apart", "check_classes", "check_target", "load_named_samples", "load_samples", "model_files"),
    *("write_atomically", "write_together"),
]

Write = Callable[[str], Any]


def load_samples(path: str, ndim: int = 2, mapped: bool = False) -> np.ndarray:
    """Read a .npy file of numbers, a sample in each row.

    Parameters
    ----------
    path : str
    ndim : int
        How many dimensions it must have at least.
    mapped : bool
        Leave the numbers in the file until they are used.

    Raises
    ------
    bmx.Error
        If the file cannot be read, or holds something else.
    """
    try:
        samples = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Error(f"{path}: cannot be read as a .npy file: {str(error).splitlines()[0]}") from None
    return _checked(samples, path, ndim)


def load_named_samples(path: str) -> Union[np.ndarray, Dict[str, np.ndarray]]:
    """Read the samples of one input from a .npy file, or those of several, by name, from an .npz file.

    Raises
    ------
    bmx.Error
        If the file cannot be read, or holds something else.
    """
    if not path.endswith(".npz"):
        return load_samples(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: _checked(file[name], f"{path}: {name!r}") for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise Error(f"{path}: cannot be read as an .npz file: {str(error).splitlines()[0]}") from None


def _checked(samples: Any, where: str, ndim: int = 2) -> np.ndarray:
    array = isinstance(samples, np.ndarray) and samples.ndim >= ndim and samples.dtype.kind in "fiu"
    if not array or not samples.size:
        raise Error(f"{where}: must hold one array of numbers, a sample in each row")
    return samples


def check_classes(labels: np.ndarray, classes: int, where: str) -> np.ndarray:
    """Labels as integers; raises bmx.Error, which begins with `where`, unless each is one from 0 to `classes` - 1."""
    labels = np.asarray(labels)
    allowed = labels.dtype.kind in "fiu" and bool(np.all((labels >= 0) & (labels < classes) & (labels % 1 == 0)))
    if not allowed:
        raise Error(f"{where}: must be classes from 0 to {classes - 1}, as the network has outputs")
    return labels.astype(np.int64)


def check_target(path: str) -> None:
    """Check that a file can be written, before the work whose result it shall hold.

    Raises
    ------
    bmx.Error
        If it is a folder, or its folder is missing or cannot be written to.
    """
    if not path:
        raise Error("the name of a file to write is empty")
    if os.path.isdir(path):
        raise Error(f"{path}: is a folder; give the name of a file")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise Error(f"{path}: cannot be written: there is no folder {folder}")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Error(f"{path}: cannot be written: {folder}: {error.strerror or error}") from None


def model_files(path: str) -> List[str]:
    """The files of the model with this name: of a checkpoint, PREFIX-NNNN.params, PREFIX-symbol.json too."""
    checkpoint = re.fullmatch(r"(.*)-\d+\.params", path, re.DOTALL)
    return [path, f"{checkpoint.group(1)}-symbol.json"] if checkpoint else [path]


def check_apart(outputs: Sequence[Optional[str]], inputs: Sequence[Optional[str]]) -> None:
    """Check that files to write are none of those that are read, nor each other, by whatever names; None is no file.

    Raises
    ------
    bmx.Error
        If two are the same file.
    """
    written: List[str] = []
    for path in filter(None, outputs):
        source = next((source for source in filter(None, inputs) if _same_file(path, source)), None)
        if source is not None:
            name = "" if source == path else f" {source}"
            raise Error(f"{path}: the output would overwrite the input{name}; choose another one")
        if any(_same_file(path, other) for other in written):
            raise Error(f"{path}: two outputs would be written to this file; choose another one for one of them")
        written.append(path)


def _same_file(one: str, other: str) -> bool:
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)  # where names that differ in case only are the same
    except OSError:
        return False


def write_atomically(path: str, write: Write, errors: Tuple[Type[Exception], ...] = ()) -> None:
    """Call ``write(temporary name)`` and give the result the name `path`; a failure leaves what was there before.

    Parameters
    ----------
    path : str
    write : callable
    errors : tuple of exception types, optional
        What `write` raises, besides OSError, when a file cannot be written.

    Raises
    ------
    bmx.Error
        If the file cannot be written.
    """
    write_together([(path, write)], errors)


def write_together(files: Sequence[Tuple[str, Write]], errors: Tuple[Type[Exception], ...] = ()) -> None:
    """Write several files as `write_atomically` does one: none gets its name before all are written.

    Raises
    ------
    bmx.Error
        If one cannot be written.
    """
    temporaries = [f"{path}.{os.getpid()}.tmp" for path, _ in files]
    path = ""
    try:
        for (path, write), temporary in zip(files, temporaries):
            if os.path.isdir(path):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            write(temporary)
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        for (path, _), temporary in zip(files, temporaries):
            os.replace(temporary, path)
    except (OSError, *errors) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1]
        raise Error(f"{path}: cannot be written ({reason}); the files of before are left as they were") from None
    finally:
        for temporary in temporaries:
            if os.path.exists(temporary):
                os.remove(temporary)
