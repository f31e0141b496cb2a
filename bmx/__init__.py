"""Binary and low-bit neural networks for Apache MXNet 1.9.1.

With this package imported, MXNet has the operators ``QActivation``, ``QConvolution``, ``QConvolution_v1`` and
``QFullyConnected`` in ``mx.nd`` and ``mx.sym`` and the optimizers of ``bmx.optimizer``, whichever of the two is
imported first. Gluon layers are in ``bmx.gluon.nn``, networks in ``bmx.models``; ``bmx.runtime`` runs compiled ones.

The import itself is cheap and needs neither MXNet nor NumPy: what is in here is loaded when it is first used.
"""

import importlib
from typing import Any, List

from . import registration
from .errors import Error

__version__ = "0.1.0"

# Name -> the module that has it, for functions; modules have their own names.
_FUNCTIONS = {
    "binary_weights": "checkpoints.binary_weights",
    "compile": "plugin.engine_operator",
    "compile_checkpoint": "compiler.frontends.mxnet",
    "compose": "composed",
    "convert_checkpoint": "convert",
    "load_checkpoint": "checkpoints.loading",
    "summary": "network_summary",
    "unpack_checkpoint": "convert",
}
_NEED_MXNET = (
    *("checkpoints", "composed", "convert", "gluon", "gradients", "models", "network_summary"),
    *("optimizer", "plugin", "quantization", "training"),
)
_NEED_NO_MXNET = ("compiler", "export_c", "library", "program", "runtime")

__all__ = ["Error", "gluon", "models", "optimizer", "runtime", *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    """Load what is asked for the first time (PEP 562)."""
    module = _FUNCTIONS.get(name, name)
    room = module.partition(".")[0]
    if room not in _NEED_MXNET + _NEED_NO_MXNET:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _FUNCTIONS or room in _NEED_MXNET:
        registration.require_mxnet(f"{__name__}.{name}")
    loaded = importlib.import_module(f".{module}", __name__)
    value = getattr(loaded, name) if name in _FUNCTIONS else loaded
    globals()[name] = value
    return value


def __dir__() -> List[str]:
    return sorted({*globals(), *_FUNCTIONS, *_NEED_MXNET, *_NEED_NO_MXNET})


registration.register_with_mxnet()
