"""Layers in MXNet's NumPy mode (``mx.npx.set_np()``), in which blocks take and give ``mx.np`` arrays.

The operators of layers here are those of ``mx.nd`` and ``mx.sym``, which refuse such arrays. An array of one kind can
become one of the other without a copy, and with its gradient: so a layer takes classic ones inside.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

import mxnet as mx
from mxnet.symbol.numpy import _Symbol as NumpySymbol

__all__ = ["classic", "functions"]


def classic(forward: Callable) -> Callable:
    """Have a function of arrays or symbols, written for ``F`` of ``mx.nd`` and ``mx.sym``, work in NumPy mode too.

    It may call no other block, whose parameters would still be NumPy's; see `functions`.
    """

    @functools.wraps(forward)
    def wrapped(*arguments: Any, **keywords: Any) -> Any:
        if not mx.util.is_np_array():
            return forward(*arguments, **keywords)
        arguments = [_classic(value) for value in arguments]
        keywords = {name: _classic(value) for name, value in keywords.items()}
        with mx.util.np_array(False):
            out = forward(*arguments, **keywords)
        return [_numpy(each) for each in out] if isinstance(out, (list, tuple)) else _numpy(out)

    return wrapped


def functions(F: ModuleType) -> Any:
    """What stands for ``F`` in the ``hybrid_forward`` of a block that calls other blocks and classic functions."""
    return _Functions(F) if mx.util.is_np_array() else F


class _Functions:
    def __init__(self, F: ModuleType):
        self._F = F

    def __getattr__(self, name: str) -> Callable:
        return classic(getattr(self._F, name))


def _classic(value: Any) -> Any:
    return value.as_nd_ndarray() if isinstance(value, (mx.np.ndarray, NumpySymbol)) else value


def _numpy(value: Any) -> Any:
    return value.as_np_ndarray() if isinstance(value, (mx.nd.NDArray, mx.sym.Symbol)) else value
