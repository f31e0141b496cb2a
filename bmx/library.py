"""Finds libbmx, the compiled part of this package, and loads it into MXNet, once."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from .errors import Error


@functools.lru_cache(maxsize=None)
def path() -> Path:
    """Where libbmx.so is: the file that the environment variable ``BMX_LIBRARY`` names, else beside this module.

    Raises
    ------
    Error
        If there is no such file.
    """
    chosen = os.environ.get("BMX_LIBRARY")
    library = Path(chosen) if chosen else Path(__file__).with_name("libbmx.so")
    if not library.is_file():
        reason = "named by BMX_LIBRARY" if chosen else "build it with 'pip install .' or 'make build'"
        raise Error(f"{library}: no such file ({reason})")
    return library.resolve()


@functools.lru_cache(maxsize=None)
def c_api() -> ctypes.CDLL:
    """The C API of libbmx (src/include/bmx.h), which needs no MXNet."""
    library = ctypes.CDLL(str(path()))
    library.bmx_version.restype = ctypes.c_char_p
    library.bmx_last_error.restype = ctypes.c_char_p
    return library


def word_bits() -> int:
    """Bits of the words that the converter writes by default, 32 or 64: the build option BINARY_WORD_TYPE."""
    return c_api().bmx_word_bits()


def isa() -> str:
    """Name of the kernels in use: ``avx512``, ``avx2`` or ``portable``.

    Raises
    ------
    Error
        If the environment variable ``BMX_ISA`` names kernels that this machine does not run.
    """
    name = ctypes.c_char_p()
    if c_api().bmx_isa(ctypes.byref(name)) != 0:
        raise Error(c_api().bmx_last_error().decode())
    return name.value.decode()


@functools.lru_cache(maxsize=None)
def load_into_mxnet() -> None:
    """Registers the operators in MXNet; later calls do nothing.

    Raises
    ------
    Error
        If libbmx is missing, does not fit this MXNet, or ``BMX_ISA`` is wrong.
    """
    import mxnet as mx

    isa()  # a wrong BMX_ISA is better said now than by the first layer
    # From eight gradients of one array on, MXNet sums them in place by asking operators to add to their
    # output; it does not tell custom operators, which overwrite instead. A sum of many terms asks nobody.
    os.environ.setdefault("MXNET_EXEC_INPLACE_GRAD_SUM_CAP", str(2**31 - 1))
    try:
        mx.library.load(str(path()), verbose=False)
    except mx.base.MXNetError as error:
        raise Error(f"{path()}: MXNet {mx.__version__} cannot load it: {error}") from error
