"""Binary and low-bit neural networks for Apache MXNet 1.9.1.

Importing this package registers the operators ``QActivation``, ``QConvolution``, ``QConvolution_v1`` and
``QFullyConnected`` in ``mx.nd`` and ``mx.sym``.
"""

from . import operators
from .errors import Error

__version__ = "0.1.0"

__all__ = ["Error"]

operators.register()
