"""Registers bmx in MXNet as soon as both are imported, in either order, without importing MXNet itself.

Where MXNet is imported already, that is at once. Otherwise a finder stands first among those that Python asks where a
module is; asked for ``mxnet`` it has the others find it, and adds the registration to the end of its execution.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from importlib.machinery import ModuleSpec
from typing import Any, Optional

from .errors import Error

__all__ = ["numpy_problem", "register_with_mxnet", "require_mxnet"]

_NUMPY = "pip install 'numpy<1.24'"


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
            problem = numpy_problem()
            if problem:
                raise Error(f"MXNet cannot be imported: {problem}")
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
    problem = numpy_problem() if "mxnet" not in sys.modules and importlib.util.find_spec("mxnet") else None
    if problem:
        raise Error(f"{what} needs MXNet, which cannot be imported: {problem}")
    try:
        importlib.import_module("mxnet")
    except ModuleNotFoundError as error:
        if error.name == "numpy":
            raise Error(f"{what} needs NumPy, which is not installed: {_NUMPY}") from None
        if error.name != "mxnet":
            raise
        raise Error(
            f"{what} needs MXNet, which is not installed: pip install mxnet==1.9.1 'numpy<1.24' (Python 3.8 to 3.11)"
        ) from None
    except AttributeError as error:
        if "numpy" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise Error(
            f"{what} needs MXNet, which cannot be imported: {reason}; MXNet 1.9.1 needs NumPy below 1.24"
        ) from None
    _register()


def numpy_problem() -> Optional[str]:
    """Why MXNet 1.9.1 cannot be imported beside the installed NumPy, and the remedy; None if it can.

    It uses np.bool, which NumPy 1.24 removed. Packages that are installed later, such as onnx, bring newer ones.
    """
    try:
        version = importlib.import_module("numpy").__version__
    except ImportError:
        return None  # MXNet will say so
    if tuple(map(int, version.split(".")[:2])) < (1, 24):
        return None
    return f"it needs NumPy below 1.24, and NumPy {version} is installed: {_NUMPY}"


def _register() -> None:
    """Register operators, optimizers and Gluon's layers; later calls do nothing."""
    operators = importlib.import_module(".plugin.operators", __package__)
    operators.register()
    for name in ("gluon", "gradients", "optimizer"):  # which register theirs when they are imported
        importlib.import_module(f".{name}", __package__)
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
