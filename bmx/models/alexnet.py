"""AlexNet as XNOR-Net and as Binary-Weight-Network."""

from __future__ import annotations

from typing import Any, Optional

from ..gluon import nn
from .blocks import ZooNetwork

__all__ = ["AlexNet"]


class AlexNet(ZooNetwork):
    """AlexNet with BatchNorm, binary but for the first and the last layer.

    Float convolution 11x11x96/4 - BatchNorm - ReLU - max pool - 5x5x256 - max pool - 3x3x384 - 3x3x384 - 3x3x256 -
    max pool - dense 4096 - dense 4096 - BatchNorm - ReLU - float dense. Before each binary layer are a BatchNorm and a
    sign.

    - ``bits=1, bits_a=1``: XNOR-Net;
    - ``bits=1, bits_a=32``: Binary-Weight-Network, with ReLU in the place of the sign;
    - ``bits=32, bits_a=32``: the float network, with ReLU, Conv2D and Dense.

    XNOR-Net multiplies what a layer gives by the mean of the absolute values of each filter. A BatchNorm follows every
    binary layer and takes any such factor out again, so there is none here. Inside of
    ``bmx.gluon.nn.set_binary_layer_config(approximation="xnor")`` the convolutions are made with it, and with
    XNOR-Net's scale of the input.

    M. Rastegari, V. Ordonez, J. Redmon, A. Farhadi, "XNOR-Net: ImageNet Classification Using Binary Convolutional
    Neural Networks", arXiv:1603.05279: top-1 on ImageNet 44.2 % (XNOR-Net), 56.8 % (binary weights), 56.6 % (float).
    62.4 million parameters, 22.9 MiB in 1 bit (published: 22.7 MB), of which 15.6 MiB are the last layer, 238.1 MiB in
    float32.

    Parameters
    ----------
    bits, bits_a : int, default 1
        Bits of weights and activations, 1..32.
    classes : int, default 1000
    prefix, params
        As for every Gluon block. The default prefix is empty.

    Inputs and outputs: float32 (N, 3, 224, 224), or other sizes of at least 63x63; (N, classes).

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.
    """

    def __init__(
        self, bits: int = 1, bits_a: int = 1, classes: int = 1000, prefix: Optional[str] = "", params: Any = None
    ):
        super().__init__(bits, bits_a, classes, prefix, params)
        with self.naming():
            self.features.add(nn.Conv2D(96, 11, strides=4, padding=2, use_bias=False))
            self.features.add(self.precision.batch_norm(scale=False), nn.Activation("relu"), nn.MaxPool2D(3, 2))
            for channels, kernel_size, pool in ((256, 5, True), (384, 3, False), (384, 3, False), (256, 3, True)):
                self.features.add(self.precision.batch_norm(scale=False, epsilon=1e-4))
                self.features.add(self.precision.activated_conv(channels, kernel_size))
                if pool:
                    self.features.add(nn.MaxPool2D(3, 2))
            for number in range(2):
                self.features.add(self.precision.batch_norm(scale=False, epsilon=1e-4), self.precision.activation())
                if number == 0:
                    self.features.add(nn.Flatten())
                self.features.add(self.precision.dense(4096))
            self.features.add(self.precision.batch_norm(scale=False), nn.Activation("relu"))
            self.output = nn.Dense(classes, prefix="output_")
