"""Gluon with binary and low-bit layers.

Everything of ``mxnet.gluon`` is here as well, and everything of ``mxnet.gluon.nn`` in :mod:`bmx.gluon.nn`, so that code
for BMXNet v2 ports by changing its import:

    from bmx import gluon           # was: from mxnet import gluon
    from bmx.gluon import nn        # was: from mxnet.gluon import nn
"""

import importlib

from mxnet.gluon import *  # noqa: F403

nn = importlib.import_module(".nn", __name__)  # in the place of MXNet's
