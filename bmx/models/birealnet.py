"""Bi-Real Net and the ResNet-18 of ReActNet, which is built on it."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Optional

from mxnet.gluon import HybridBlock

from ..gluon import nn
from ..quantization import Array
from .blocks import Precision, ResidualUnit, ZooNetwork, add_stage, add_stem, pooled_shortcut

__all__ = ["BiRealNet", "ReActNet"]

_UNITS = {18: (4, 4, 4, 4), 34: (6, 8, 12, 6)}


class BiRealNet(ZooNetwork):
    """Bi-Real Net: a ResNet with a shortcut around every binary convolution, trained with ApproxSign.

    Float convolution 7x7/2 - BatchNorm - max pool - four stages of units (sign - QConv2D 3x3 - BatchNorm, plus
    shortcut) - global average pool - dense. Where a stage begins, the shortcut is an average pool, a float convolution
    1x1 and a BatchNorm. The gradient of the sign is ApproxSign's, 2 - 2 abs(x). The 32-bit network has ReLU and Conv2D
    in the place of sign and QConv2D.

    In training the paper multiplies binary weights by the mean of their absolute values. The BatchNorm takes any such
    factor out again, so there is none here. Inside of
    ``bmx.gluon.nn.set_binary_layer_config(approximation="binet")`` the convolutions are made with it.

    Z. Liu, B. Wu, W. Luo, X. Yang, W. Liu, K.-T. Cheng, "Bi-Real Net: Enhancing the Performance of 1-bit CNNs With
    Improved Representational Capability and Advanced Training Algorithm", arXiv:1808.00278. The published sizes leave
    out the running averages of BatchNorm.

    ===========  ============  =============  ========  =========  ===============
    name         parameters    size in 1 bit  float32   published  top-1, ImageNet
    ===========  ============  =============  ========  =========  ===============
    birealnet18  11.7 million  4.0 MiB        44.6 MiB  4.0 MB     56.4 %
    birealnet34  21.8 million  5.3 MiB        83.2 MiB  5.2 MB     62.2 %
    ===========  ============  =============  ========  =========  ===============

    Parameters
    ----------
    depth : {18, 34}
    bits, bits_a : int, default 1
        Bits of weights and activations, 1..32; 32 for both is the float network.
    classes : int, default 1000
    thumbnail : bool, default False
        For images of about 32x32 pixels: the first convolution is 3x3/1 and nothing pools before the first stage.
    prefix, params
        As for every Gluon block. The default prefix is empty.

    Inputs and outputs: float32 (N, 3, 224, 224), with `thumbnail` (N, 3, 32, 32), or other sizes; (N, classes).

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.
    """

    def __init__(
        self,
        depth: int = 18,
        bits: int = 1,
        bits_a: int = 1,
        classes: int = 1000,
        thumbnail: bool = False,
        prefix: Optional[str] = "",
        params: Any = None,
    ):
        super().__init__(bits, bits_a, classes, prefix, params)
        units = self.choose("depth", depth, _UNITS)
        with self.naming():
            add_stem(self.features, self.precision, 64, thumbnail, rectify=False)
            if thumbnail:
                self.features.add(self.precision.batch_norm())
            for stage in range(4):
                make = functools.partial(self._unit, 64 * 2**stage, 1 if stage == 0 else 2)
                add_stage(self.features, stage + 1, units[stage], make)
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, prefix="output_")

    def _unit(self, channels: int, stride: int, number: int) -> HybridBlock:
        convs = [(channels, 3, stride if number == 0 else 1)]
        shortcut = (
            functools.partial(pooled_shortcut, self.precision, channels, stride) if number == 0 and stride > 1 else None
        )
        return ResidualUnit(self.precision, 1, convs, shortcut, "sign_approx_sign", prefix=f"unit{number + 1}_")


class ReActNet(BiRealNet):
    """The ResNet-18 of ReActNet: Bi-Real Net 18 with learned shifts before the sign and around a PReLU.

    Its units are RSign (:class:`bmx.gluon.nn.Shift`, then the sign) - QConv2D 3x3 - BatchNorm, plus shortcut, then
    :class:`bmx.gluon.nn.RPReLU`. Everything else, and the parameters, are :class:`BiRealNet`'s. The 32-bit network has
    nothing in the place of RSign.

    Z. Liu, Z. Shen, M. Savvides, K.-T. Cheng, "ReActNet: Towards Precise Binary Neural Network with Generalized
    Activation Functions", arXiv:2003.03488: 65.5 % top-1 on ImageNet. 11.7 million parameters, 4.1 MiB in 1 bit,
    44.7 MiB in float32.
    """

    def _unit(self, channels: int, stride: int, number: int) -> HybridBlock:
        first = number == 0 and stride > 1
        before = channels // 2 if first else channels
        return ReActUnit(self.precision, before, channels, stride if first else 1, prefix=f"unit{number + 1}_")


class ReActUnit(HybridBlock):
    """RSign - convolution 3x3 - BatchNorm, plus shortcut, then RPReLU: arXiv:2003.03488.

    Parameters
    ----------
    precision : Precision
    before, channels : int
        Channels of input and output.
    stride : int
        More than 1: the shortcut is an average pool, a convolution 1x1 and a BatchNorm.
    prefix : str, optional
    """

    def __init__(self, precision: Precision, before: int, channels: int, stride: int, prefix: Optional[str] = None):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            if precision.bits_a < 32:
                self.body.add(nn.Shift(in_channels=before))
            self.body.add(precision.activation("sign_approx_sign", rectify=False))
            self.body.add(precision.conv(channels, 3, stride, padding=1), precision.batch_norm())
            self.shortcut = pooled_shortcut(precision, channels, stride) if stride > 1 else None
            self.activation = precision.rprelu(channels)

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the unit on NDArrays or symbols."""
        return self.activation(self.body(x) + (self.shortcut(x) if self.shortcut else x))
