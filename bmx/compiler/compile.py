"""The name under which scripts of earlier versions import what `bmx.compiler` has."""

from typing import Any

from . import __getattr__ as _of_mxnet
from .pipeline import Compiled, compile_network

__all__ = ["Compiled", "compile_network"]


def __getattr__(name: str) -> Any:
    return _of_mxnet(name)
