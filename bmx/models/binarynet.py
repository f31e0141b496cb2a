"""BinaryNet for CIFAR-10."""

from __future__ import annotations

from typing import Any, Optional

from ..gluon import nn
from .blocks import Precision, ZooNetwork

__all__ = ["BinaryNet"]


class BinaryNet(ZooNetwork):
    """The VGG-like network of BinaryNet, all of whose weights are binary.

    2 x 128 - max pool - 2 x 256 - max pool - 2 x 512 - max pool - dense 1024 - dense 1024 - dense `classes`, with
    convolutions 3x3 and a BatchNorm after each layer, also the last. Every layer but the first has the signs of its
    input; the first one multiplies the image itself by binary weights. The 32-bit network has ReLU, Conv2D and Dense in
    the place of sign, QConv2D and QDense.

    I. Hubara, M. Courbariaux, D. Soudry, R. El-Yaniv, Y. Bengio, "Binarized Neural Networks", arXiv:1602.02830:
    89.85 % on CIFAR-10. 14.0 million parameters, 1.7 MiB in 1 bit, 53.5 MiB in float32.

    Parameters
    ----------
    bits, bits_a : int, default 1
        Bits of weights and activations, 1..32; 32 for both is the float network.
    classes : int, default 10
    prefix, params
        As for every Gluon block. The default prefix is empty.

    Inputs and outputs: float32 (N, 3, 32, 32), or other sizes; (N, classes).

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.
    """

    def __init__(
        self, bits: int = 1, bits_a: int = 1, classes: int = 10, prefix: Optional[str] = "", params: Any = None
    ):
        super().__init__(bits, bits_a, classes, prefix, params)
        first = Precision(bits, 32)
        with self.naming():
            self.features.add(first.conv(128, 3, padding=1), self.precision.batch_norm())
            for channels, pool in ((128, True), (256, False), (256, True), (512, False), (512, True)):
                self.features.add(self.precision.activated_conv(channels))
                if pool:
                    self.features.add(nn.MaxPool2D(2, 2))
                self.features.add(self.precision.batch_norm())
            self.features.add(nn.Flatten())
            for _ in range(2):
                self.features.add(self.precision.activation(), self.precision.dense(1024), self.precision.batch_norm())
            self.features.add(self.precision.activation())
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                self.output.add(self.precision.dense(classes), self.precision.batch_norm())
