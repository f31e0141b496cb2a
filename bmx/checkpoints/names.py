"""The names of a checkpoint's files, as MXNet's save_checkpoint gives them: PREFIX-symbol.json, PREFIX-NNNN.params."""

from __future__ import annotations

import os
import re
from typing import List, Optional, Tuple

from ..errors import Error

__all__ = ["EPOCH", "files", "parse", "params_files", "split_path"]

EPOCH = r"(?:[0-9]{4}|[1-9][0-9]{4,})"
"""Pattern of the digits that '%04d' gives: four, or more without a zero in front."""

_PARAMS = re.compile(rf"(.*[^/\\])-({EPOCH})\.params", re.DOTALL)


def files(prefix: str, epoch: int) -> Tuple[str, str]:
    """The symbol's file and the parameters' file of an epoch."""
    return f"{prefix}-symbol.json", f"{prefix}-{epoch:04d}.params"


def parse(path: str) -> Optional[Tuple[str, int]]:
    """Prefix and epoch of PREFIX-NNNN.params; None for any other name."""
    found = _PARAMS.fullmatch(os.fspath(path))
    return (found.group(1), int(found.group(2))) if found else None


def split_path(path: str) -> Tuple[str, int]:
    """Prefix and epoch of PREFIX-NNNN.params.

    Raises
    ------
    bmx.Error
        If the file has another name.
    """
    found = parse(path)
    if found is None:
        raise Error(f"{path}: the file must be named <prefix>-NNNN.params, as MXNet's save_checkpoint names it")
    return found


def params_files(prefix: str) -> List[str]:
    """The existing files of parameters with this prefix, of any epoch."""
    folder, name = os.path.split(prefix)
    pattern = re.compile(rf"{re.escape(name)}-{EPOCH}\.params")
    try:
        return [os.path.join(folder, file) for file in sorted(os.listdir(folder or ".")) if pattern.fullmatch(file)]
    except OSError:
        return []
