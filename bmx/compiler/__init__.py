"""Compiles networks for the engine: front ends read them, passes rewrite the graph, `lower` makes the program.

The compiler itself needs NumPy only; the functions below compile networks of MXNet, and need it.
"""

import importlib
from typing import Any

from .pipeline import Compiled, compile_network
from .report import CompiledLayer, CompileReport

_OF_MXNET = ("compile_block", "compile_checkpoint", "compile_symbol")

__all__ = ["CompileReport", "Compiled", "CompiledLayer", "compile_network", *_OF_MXNET]


def __getattr__(name: str) -> Any:
    """Load what needs MXNet when it is first used (PEP 562)."""
    if name not in _OF_MXNET:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".frontends.mxnet", __name__), name)
