"""Registers bmx in MXNet as soon as both are imported, in either order, without importing MXNet itself.

Where MXNet is imported already, that is at once. Otherwise a finder stands first among those that Python asks where a
module is; asked for ``mxnet`` it has the others find it, and adds the registration to the end of its execution.
"""

from __future__ import annotations

import importlib
import sys
import threading
from importlib.machinery import ModuleSpec
from typing import Any, Optional

from .errors import Error

__all__ = ["register_with_mxnet", "require_mxnet"]


class _Finder:
    """Finds ``mxnet`` as the other finders do, and has it registered once it is executed."""

    def __init__(self) -> None:
        self._busy = threading.local()  # other such finders ask all finders, and so this one again

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        if name != "mxnet" or getattr(self._busy, "here", False):
            return None
        self._busy.here = True
        try:
            others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
            spec = next(filter(None, (finder.find_spec(name, path, target) for finder in others)), None)
        finally:
            self._busy.here = False
        if spec is not None and spec.loader is not None:
            self._add_registration(spec.loader)
        return spec

    @staticmethod
    def _add_registration(loader: Any) -> None:
        execute = loader.exec_module

        def execute_and_register(module: Any) -> None:
            execute(module)
            loader.exec_module = execute
            _register()

        loader.exec_module = execute_and_register


_FINDER = _Finder()


def register_with_mxnet() -> None:
    """Register bmx in MXNet now, if MXNet is imported, or right after its import.

    Raises
    ------
    bmx.Error
        If libbmx is missing or does not fit this MXNet; from ``import mxnet`` if that comes later.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    if sys.modules.get("mxnet") is not None:
        importlib.import_module("mxnet")  # waits where another thread is importing it
        _register()


def require_mxnet(what: str) -> None:
    """Import MXNet and register bmx in it.

    Raises
    ------
    bmx.Error
        If MXNet is not installed or cannot be imported; `what` begins the message.
    """
    try:
        importlib.import_module("mxnet")
    except ModuleNotFoundError as error:
        if error.name != "mxnet":
            raise
        raise Error(
            f"{what} needs MXNet, which is not installed: pip install mxnet==1.9.1 'numpy<1.24' (Python 3.8 to 3.11)"
        ) from None
    except AttributeError as error:
        if "numpy" not in str(error):
            raise
        raise Error(  # np.bool, which MXNet 1.9.1 uses and NumPy 1.24 removed
            f"{what} needs MXNet, which cannot be imported: {error}; MXNet 1.9.1 needs NumPy below 1.24"
        ) from error
    _register()


def _register() -> None:
    """Register operators, optimizers and Gluon's layers; later calls do nothing."""
    operators = importlib.import_module(".operators", __package__)
    operators.register()
    for name in ("gluon", "gradients", "optimizer"):  # which register theirs when they are imported
        importlib.import_module(f".{name}", __package__)
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
