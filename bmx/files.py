"""Files that several parts read, and what is checked of their names before the work begins."""

from __future__ import annotations

import os
import tempfile
from typing import List, Optional, Sequence

from .checkpoints import names as checkpoint_names
from .errors import Error
from .journal import finish

__all__ = ["check_apart", "check_target", "model_files"]


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
    finish(path)
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
