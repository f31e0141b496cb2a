"""Files that several parts read or write: samples, and whatever must be written whole or not at all."""

from __future__ import annotations

import os
from typing import Any, Callable, Tuple, Type

import numpy as np

from .errors import Error

__all__ = ["load_samples", "write_atomically"]


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
    except (OSError, ValueError, EOFError) as error:
        raise Error(f"{path}: cannot be read as a .npy file: {str(error).splitlines()[0]}") from None
    if (
        not isinstance(samples, np.ndarray)
        or samples.ndim < ndim
        or samples.dtype.kind not in "fiu"
        or not samples.size
    ):
        raise Error(f"{path}: must hold one array of numbers, a sample in each row")
    return samples


def write_atomically(path: str, write: Callable[[str], Any], errors: Tuple[Type[Exception], ...] = ()) -> None:
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
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, *errors) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().splitlines()[-1]
        raise Error(f"{path}: cannot be written ({reason}); the files of before are left as they were") from None
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)
