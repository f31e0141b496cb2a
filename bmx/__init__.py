"""Binary and low-bit neural networks for Apache MXNet 1.9.1.

Importing this package registers the operators ``QActivation``, ``QConvolution``, ``QConvolution_v1`` and
``QFullyConnected`` in ``mx.nd`` and ``mx.sym``. Gluon layers are in ``bmx.gluon.nn``, networks in ``bmx.models``,
optimizers in ``bmx.optimizer``.
"""

from . import operators

operators.register()

from . import gluon, models, optimizer  # noqa: E402  (these use the operators)
from .compiler import convert_checkpoint, load_checkpoint  # noqa: E402
from .composed import compose  # noqa: E402
from .errors import Error  # noqa: E402
from .summary import summary  # noqa: E402

__version__ = "0.1.0"

__all__ = ["Error", "compose", "convert_checkpoint", "gluon", "load_checkpoint", "models", "optimizer", "summary"]
