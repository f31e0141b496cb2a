"""ResNet, versions 1 and 2, binary as in BMXNet v2, and ResNetE."""

from __future__ import annotations

import functools
from typing import Any, List, Optional, Tuple

from mxnet.gluon import HybridBlock

from ..gluon import nn
from .blocks import ResidualUnit, ZooNetwork, add_stage, add_stem, pooled_shortcut

__all__ = ["ResNet", "ResNetE"]

# Residual units of each stage.
_UNITS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class ResNet(ZooNetwork):
    """ResNet whose units are binary, their shortcuts included, as in BMXNet v2.

    BatchNorm of the image - float convolution 7x7/2 - BatchNorm - ReLU - max pool - four stages of residual units -
    ReLU - global average pool - dense. Each convolution 3x3 or 1x1 of the stages is a sign and a QConv2D; where a stage
    begins, the shortcut is a binary convolution 1x1. Stages have 64, 128, 256, 512 filters; from 50 layers on units are
    bottlenecks 1x1, 3x3, 1x1 with 256 to 2048 filters. The 32-bit network has ReLU and Conv2D in the place of sign and
    QConv2D.

    K. He et al., arXiv:1512.03385 (version 1) and arXiv:1603.05027 (version 2). The accuracies of the binary networks
    are BMXNet v2's.

    ===========  ============  =============  ========  =========  ==================================
    name         parameters    size in 1 bit  float32   published  top-1, ImageNet
    ===========  ============  =============  ========  =========  ==================================
    resnet18_v1  11.7 million  3.4 MiB        44.6 MiB  -          49.2 %, 51.9 % with scaled weights
    resnet18_v2  11.7 million  3.4 MiB        44.6 MiB  -          53.2 %
    resnet34_v1  21.8 million  4.7 MiB        83.2 MiB  -          -
    resnet34_v2  21.8 million  4.6 MiB        83.2 MiB  -          -
    ===========  ============  =============  ========  =========  ==================================

    On CIFAR-10 resnet18_v1 reaches 87.9 %. Inside of ``bmx.gluon.nn.set_binary_layer_config(approximation="binet")``
    networks are made with scaled weights.

    Parameters
    ----------
    depth : {18, 34, 50, 101, 152}
    version : {1, 2}
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

    _repeat = 1  # number of copies of each unit of _UNITS

    def __init__(
        self,
        depth: int = 18,
        version: int = 1,
        bits: int = 1,
        bits_a: int = 1,
        classes: int = 1000,
        thumbnail: bool = False,
        prefix: Optional[str] = "",
        params: Any = None,
    ):
        super().__init__(bits, bits_a, classes, prefix, params)
        self.depth = depth
        self.version = self.choose("version", version, {1: 1, 2: 2})
        units = self.choose("depth", depth, _UNITS)
        with self.naming():
            self.features.add(self.precision.batch_norm(scale=False, epsilon=2e-5))
            add_stem(self.features, self.precision, 64, thumbnail)
            if version == 1:
                self.features.add(
                    self.precision.batch_norm()
                )  # otherwise the first sign would see a ReLU's output: all +1
            channels = 64
            for stage in range(4):
                before, channels = channels, (64 if depth < 50 else 256) * 2**stage
                make = functools.partial(self._unit, before, channels, 1 if stage == 0 else 2)
                add_stage(self.features, stage + 1, self._repeat * units[stage], make)
            if version == 2:
                self.features.add(self.precision.batch_norm())
            self.features.add(nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, prefix="output_")

    def _unit(self, before: int, channels: int, stride: int, number: int) -> ResidualUnit:
        stride = stride if number == 0 else 1
        changes = number == 0 and before != channels
        shortcut = functools.partial(self._shortcut, channels, stride) if changes else None
        convs = self._convs(channels, stride)
        return ResidualUnit(self.precision, self.version, convs, shortcut, prefix=f"unit{number + 1}_")

    def _convs(self, channels: int, stride: int) -> List[Tuple[int, int, int]]:
        """Channels, kernel size and stride of the convolutions of a unit."""
        if self.depth < 50:
            return [(channels, 3, stride), (channels, 3, 1)]
        first, second = (stride, 1) if self.version == 1 else (1, stride)
        return [(channels // 4, 1, first), (channels // 4, 3, second), (channels, 1, 1)]

    def _shortcut(self, channels: int, stride: int) -> HybridBlock:
        shortcut = nn.HybridSequential(prefix="shortcut_")
        with shortcut.name_scope():
            shortcut.add(self.precision.activated_conv(channels, 1, stride))
            if self.version == 1:
                shortcut.add(self.precision.batch_norm())
        return shortcut


class ResNetE(ResNet):
    """ResNetE: a shortcut around every binary convolution 3x3, and float shortcuts where a stage begins.

    The layers and parameters are :class:`ResNet`'s, but units have one convolution and there are twice as many of them,
    also from 50 layers on. Where a stage begins, the shortcut is an average pool and a float convolution 1x1, which
    BMXNet v2 had as ``--fp-downsample-sc --pool-downsample-sc``. E1 has the BatchNorms of ResNet version 1, E2 those of
    version 2.

    J. Bethge, H. Yang, M. Bornstein, C. Meinel, "Back to Simplicity: How to Train Accurate BNNs from Scratch?",
    arXiv:1906.08637: 58.1 % with 18 layers. The table has what BMXNet v2 published later; these sizes leave out the
    running averages of BatchNorm.

    ===========  ============  =============  ========  =========  ===============
    name         parameters    size in 1 bit  float32   published  top-1, ImageNet
    ===========  ============  =============  ========  =========  ===============
    resnet18_e1  11.7 million  4.0 MiB        44.6 MiB  4.0 MB     60.0 %
    resnet18_e2  11.7 million  4.0 MiB        44.6 MiB  4.0 MB     54.5 %
    resnet34_e1  21.8 million  5.3 MiB        83.2 MiB  5.2 MB     63.2 %
    resnet34_e2  21.8 million  5.3 MiB        83.2 MiB  -          -
    ===========  ============  =============  ========  =========  ===============

    On CIFAR-10 resnet18_e1 reaches 86.1 %, resnet18_e2 87.6 %.

    Examples
    --------
    >>> import mxnet as mx
    >>> net = ResNetE(18, 1, classes=10, thumbnail=True)
    >>> net(mx.sym.var("data")).infer_shape(data=(1, 3, 32, 32))[1]
    [(1, 10)]
    """

    _repeat = 2

    def _convs(self, channels: int, stride: int) -> List[Tuple[int, int, int]]:
        return [(channels, 3, stride)]

    def _shortcut(self, channels: int, stride: int) -> HybridBlock:
        return pooled_shortcut(self.precision, channels, stride, normalize=self.version == 1)
