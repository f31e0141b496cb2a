"""Finds the compiled parts of this package, libbmx and libbmx_mxnet, and loads each once."""

from __future__ import annotations

import ctypes
import functools
import os
import warnings
from importlib import metadata as importlib_metadata
from pathlib import Path
from typing import List

from .errors import Error


def path(name: str) -> Path:
    """The path of a compiled library: in the folder ``BMX_LIBRARY_DIR`` (environment variable) if set, else here.

    Parameters
    ----------
    name : {'libbmx.so', 'libbmx_mxnet.so'}
        The C API, which depends on nothing, or the operators for MXNet.

    Raises
    ------
    Error
        If there is no such file.
    """
    folder = os.environ.get("BMX_LIBRARY_DIR")
    library = Path(folder or Path(__file__).parent) / name
    if not library.is_file():
        reason = "in the folder of BMX_LIBRARY_DIR" if folder else "build it with 'pip install .' or 'make build'"
        raise Error(f"{library}: no such file ({reason})")
    return library.resolve()


@functools.lru_cache(maxsize=None)
def c_api() -> ctypes.CDLL:
    """The C API of libbmx (src/include/bmx.h), which needs no MXNet."""
    library = ctypes.CDLL(str(path("libbmx.so")))
    library.bmx_version.restype = ctypes.c_char_p
    library.bmx_last_error.restype = ctypes.c_char_p
    return library


def _load_onednn() -> None:
    """Loads the oneDNN that pip installed. libbmx_mxnet needs it by name and then finds it loaded."""
    try:
        files = importlib_metadata.files("onednn-cpu-gomp") or []
    except importlib_metadata.PackageNotFoundError:
        return  # the build has no oneDNN, or finds the system's
    for file in files:
        if file.name.startswith("libdnnl.so."):
            ctypes.CDLL(str(file.locate()))
            return


def word_bits() -> int:
    """Word size in bits that the converter writes by default: 32 or 64, by the build option BINARY_WORD_TYPE."""
    return c_api().bmx_word_bits()


def isa() -> str:
    """Name of the kernels in use: ``amx``, ``avx512``, ``avx2``, ``portable``, or those of ARM as in docs/arm.md.

    Raises
    ------
    Error
        If the environment variable ``BMX_ISA`` names kernels that this machine does not run.
    """
    name = ctypes.c_char_p()
    if c_api().bmx_isa(ctypes.byref(name)) != 0:
        raise Error(c_api().bmx_last_error().decode())
    return name.value.decode()


def isas() -> List[str]:
    """Names of the kernels that this machine runs, fastest first. These are the allowed values of ``BMX_ISA``.

    Raises
    ------
    Error
        If libbmx is missing, or older than the Python code.
    """
    library, names = c_api(), []
    try:
        library.bmx_isas.restype = ctypes.POINTER(ctypes.c_char_p)
    except AttributeError:  # for example after `git pull` in a checkout
        raise Error("libbmx is older than the Python code; build it anew (make build)") from None
    for name in library.bmx_isas():
        if name is None:
            break
        names.append(name.decode())
    return names


@functools.lru_cache(maxsize=None)
def load_into_mxnet() -> None:
    """Registers the operators in MXNet; later calls do nothing.

    Raises
    ------
    Error
        If libbmx is missing, does not fit this MXNet, or ``BMX_ISA`` is wrong.
    """
    import mxnet as mx

    library = path("libbmx_mxnet.so")
    isa()  # reports a wrong BMX_ISA now rather than in the first layer
    # If an array has eight gradients or more, MXNet lets operators add their gradients to a common sum. It does not
    # tell custom operators, and they overwrite the sum. With fewer gradients than this cap, MXNet sums them itself.
    os.environ["MXNET_EXEC_INPLACE_GRAD_SUM_CAP"] = str(2**31 - 1)
    try:
        _load_onednn()
        mx.library.load(str(library), verbose=False)
    except (mx.base.MXNetError, OSError) as error:
        raise Error(f"{library}: MXNet {mx.__version__} cannot load it: {error}") from error


def check_sums_of_gradients() -> None:
    """Warns if MXNet ignores the setting of `load_into_mxnet`: MXNet reads it only in its first backward pass."""
    import mxnet as mx

    # MXNet adds in place in executors. (Without this setting the first one prints its subgraph backend.)
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    inner = mx.sym.Variable("x") * 1
    uses = [mx.sym.QActivation(inner, backward_only=True, gradient_cancel_threshold=2) for _ in range(9)]
    one, gradient = mx.nd.ones(1, ctx=mx.cpu()), mx.nd.zeros(1, ctx=mx.cpu())
    executor = mx.sym.add_n(*uses).bind(mx.cpu(), {"x": one}, args_grad={"x": gradient})
    executor.forward(is_train=True)
    executor.backward(one)
    if gradient.asscalar() != 9:
        warnings.warn(
            "MXNet ran a backward pass before bmx was imported: if eight or more quantized layers read an array, its "
            "gradient will be wrong; import bmx first",
            stacklevel=2,
        )
