"""An activation and the layer behind it as one operator, where a network is traced; HybridSequential, which does so."""

from __future__ import annotations

from types import ModuleType

from mxnet.gluon import HybridBlock
from mxnet.gluon import nn as gluon_nn

from ...quantization import Array
from .binary_activations import QActivation
from .binary_layers import QConv2D, QDense
from .paths import fuses


def activate(F: ModuleType, x: Array, activation: HybridBlock, layer: HybridBlock) -> Array:
    """Return ``layer(activation(x))``.

    In the graph of a traced network the layer takes the activation's work over where it can: it quantizes its input
    anyway, and passes the gradient through the activation's window itself. Values and gradients are exactly the same.
    Blocks that run imperatively are called one after the other, so that hooks see them all.
    """
    out = None
    if fuses(F) and _computes_as(activation, QActivation) and _computes_as(layer, QDense, QConv2D):
        out = layer.traced_behind(activation, x)
    return layer(activation(x)) if out is None else out


def _computes_as(block, *classes):
    """Whether a block's computation is that of one of some classes; those of users may derive and do something else."""
    return any(type(block).hybrid_forward is known.hybrid_forward for known in classes)


class HybridSequential(gluon_nn.HybridSequential):
    """Gluon's HybridSequential, in which a QActivation and a binary layer behind it become one operator when traced.

    Names, parameters and results are Gluon's.

    Examples
    --------
    >>> import mxnet as mx
    >>> from bmx.gluon import nn
    >>> net = HybridSequential()
    >>> net.add(nn.QActivation(), nn.QDense(2, in_units=3))
    >>> "QActivation" in net(mx.sym.var("data")).tojson()
    False
    """

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Apply one block after the other."""
        blocks = iter(self._children.values())
        for block in blocks:
            following = next(blocks, None) if isinstance(block, QActivation) else None
            x = block(x) if following is None else activate(F, x, block, following)
        return x
