"""Files that several parts read, and what is checked of their names before the work begins."""

from __future__ import annotations

import os
import tempfile
import zipfile
from typing import Any, Dict, List, Optional, Sequence, Union

import numpy as np

from . import checkpoint_names
from .errors import Error

__all__ = ["check_apart", "check_classes", "check_target", "load_named_samples", "load_samples", "model_files"]


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
    checkpoint = checkpoint_names.parse(path)
    return [path, checkpoint_names.files(*checkpoint)[0]] if checkpoint else [path]


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
