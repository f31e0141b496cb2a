"""Gluon with binary and low-bit layers.

This package also has all names and modules of ``mxnet.gluon``, and :mod:`bmx.gluon.nn` those of ``mxnet.gluon.nn``.
BMXNet v2 had its layers in ``mxnet.gluon.nn``. Code for v2 runs if it imports bmx first: then MXNet's own package also
has the layers with v2's names. Or it changes its imports; then it also gets bmx's BatchNorm and HybridSequential, which
are faster on the CPU:

    from bmx import gluon                        # was: from mxnet import gluon
    from bmx.gluon import nn                     # was: from mxnet.gluon import nn
    from bmx.gluon.block import HybridBlock      # was: from mxnet.gluon.block import HybridBlock
"""

import importlib
import sys

import mxnet as _mx
from mxnet.gluon import *  # noqa: F403

nn = importlib.import_module(".nn", __name__)  # replaces MXNet's

for _name, _module in list(sys.modules.items()):  # `import mxnet` has imported all of them
    if _name.startswith("mxnet.gluon."):
        sys.modules.setdefault(__name__ + _name[len("mxnet.gluon") :], _module)

for _name in nn.NAMES_OF_V2:
    setattr(_mx.gluon.nn, _name, getattr(nn, _name))
_mx.gluon.nn.binary_layers = nn.binary_layers  # where v2 has them
sys.modules.setdefault("mxnet.gluon.nn.binary_layers", nn.binary_layers)
