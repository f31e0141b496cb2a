"""Finds the compiled parts of this package, libbmx and libbmx_mxnet, and loads them, once."""

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
    """Where a compiled library is: in the folder that the environment variable ``BMX_LIBRARY_DIR`` names, else here.

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
    """Loads oneDNN where pip put it; libbmx_mxnet, which needs it by name, then finds it loaded."""
    try:
        files = importlib_metadata.files("onednn-cpu-gomp") or []
    except importlib_metadata.PackageNotFoundError:
        return  # a build without oneDNN, or one that finds the system's
    for file in files:
        if file.name.startswith("libdnnl.so."):
            ctypes.CDLL(str(file.locate()))
            return


def word_bits() -> int:
    """Bits of the words that the converter writes by default, 32 or 64: the build option BINARY_WORD_TYPE."""
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
    """Names of all kernels that this machine runs, fastest first: the values that ``BMX_ISA`` may have.

    Raises
    ------
    Error
        If libbmx is missing, or older than the Python code.
    """
    library, names = c_api(), []
    try:
        library.bmx_isas.restype = ctypes.POINTER(ctypes.c_char_p)
    except AttributeError:  # as after `git pull` in a checkout
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
    isa()  # a wrong BMX_ISA is better said now than by the first layer
    # Where an array has eight gradients or more, MXNet has operators add theirs to a common sum, and custom operators,
    # which it does not tell, overwrite the sum instead. Below this number it collects gradients and sums them itself.
    os.environ["MXNET_EXEC_INPLACE_GRAD_SUM_CAP"] = str(2**31 - 1)
    try:
        _load_onednn()
        mx.library.load(str(library), verbose=False)
    except (mx.base.MXNetError, OSError) as error:
        raise Error(f"{library}: MXNet {mx.__version__} cannot load it: {error}") from error


def check_sums_of_gradients() -> None:
    """Warns if MXNet did not take the setting of `load_into_mxnet`, as it reads it at its first backward pass only."""
    import mxnet as mx

    # An executor is where MXNet adds in place. (Its first one says which subgraph backend it uses; not here.)
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")
    inner = mx.sym.Variable("x") * 1
    uses = [mx.sym.QActivation(inner, backward_only=True, gradient_cancel_threshold=2) for _ in range(9)]
    one, gradient = mx.nd.ones(1, ctx=mx.cpu()), mx.nd.zeros(1, ctx=mx.cpu())
    executor = mx.sym.add_n(*uses).bind(mx.cpu(), {"x": one}, args_grad={"x": gradient})
    executor.forward(is_train=True)
    executor.backward(one)
    if gradient.asscalar() != 9:
        warnings.warn(
            "MXNet ran a backward pass before bmx was imported: gradients of an array that eight or more quantized "
            "layers read will be wrong; import bmx first",
            stacklevel=2,
        )
