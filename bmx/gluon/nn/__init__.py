"""Binary and low-bit layers with BMXNet v2's names, parameters and results, beside all layers of ``mxnet.gluon.nn``.

    with nn.set_binary_layer_config(grad_cancel=1.3):
        net = nn.HybridSequential()
        net.add(nn.Conv2D(64, 3, padding=1), nn.BatchNorm(), nn.activated_conv(64, 3, padding=1), nn.BatchNorm())

:mod:`~bmx.gluon.nn.config` has the defaults of the layers, :mod:`~bmx.gluon.nn.paths` says what computes them.
"""

from mxnet.gluon.nn import *  # noqa: F403

from . import binary_layers
from .activated import (
    BinaryConvolution,
    LearnedScaleBinaryConv,
    ScaledBinaryConv,
    ScaledWeightsBinaryConv,
    activated_conv,
)
from .batch_norm import BatchNorm
from .binary_activations import ApproxSign, QActivation
from .binary_layers import QConv1D, QConv2D, QConv3D, QDense
from .config import BinaryLayerConfig, binary_layer_config, set_binary_layer_config
from .paths import path
from .sequential import HybridSequential
from .shifts import RPReLU, Shift

# What v2 has in mxnet.gluon.nn; bmx.gluon puts these there.
NAMES_OF_V2 = (
    *("BinaryConvolution", "BinaryLayerConfig", "QActivation", "QConv1D", "QConv2D", "QConv3D", "QDense"),
    *("ScaledBinaryConv", "ScaledWeightsBinaryConv", "activated_conv", "binary_layer_config"),
    "set_binary_layer_config",
)

__all__ = [
    "ApproxSign",
    "BatchNorm",
    "BinaryConvolution",
    "BinaryLayerConfig",
    "HybridSequential",
    "LearnedScaleBinaryConv",
    "QActivation",
    "QConv1D",
    "QConv2D",
    "QConv3D",
    "QDense",
    "RPReLU",
    "ScaledBinaryConv",
    "ScaledWeightsBinaryConv",
    "Shift",
    "activated_conv",
    "binary_layer_config",
    "path",
    "set_binary_layer_config",
]

for _name in NAMES_OF_V2:  # v2 has all of them in its module of this name
    vars(binary_layers).setdefault(_name, globals()[_name])
