"""QuickNet."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Optional

import numpy as np
from mxnet.gluon import HybridBlock

from ..gluon import nn
from ..gluon.nn.numpy_mode import functions
from ..quantization import Array
from .blocks import Precision, ZooNetwork, add_stage

__all__ = ["QuickNet"]


class QuickNet(ZooNetwork):
    """QuickNet of the Larq zoo, made to be fast: few float operations and only binary convolutions 3x3 of stride 1.

    Float stem (convolution 3x3/2 - BatchNorm - ReLU - depthwise 3x3/2 - BatchNorm - convolution 1x1 - BatchNorm) - four
    stages of units (sign - QConv2D 3x3 - ReLU - BatchNorm, plus input) - ReLU - global average pool - dense. Between
    stages: ReLU - max pool 2x2/1 - blur 3x3/2 (fixed, depthwise) - float convolution 1x1 - BatchNorm. The binary
    convolutions give the dot product, not (K + dot)/2, which no ReLU would change. The 32-bit network has nothing
    instead of the sign. Unlike in the Larq zoo, binary convolutions are padded with -1.

    T. Bannink et al., "Larq Compute Engine: Design, Benchmark, and Deploy State-of-the-Art Binarized Neural Networks",
    arXiv:2011.09398, and https://github.com/larq/zoo. The published sizes leave out the running averages of BatchNorm.

    ==============  ============  =============  ========  =========  ===============
    name            parameters    size in 1 bit  float32   published  top-1, ImageNet
    ==============  ============  =============  ========  =========  ===============
    quicknet_small  12.7 million  4.0 MiB        48.3 MiB  4.0 MB     59.4 %
    quicknet        13.2 million  4.2 MiB        50.5 MiB  4.2 MB     63.3 %
    quicknet_large  23.4 million  5.5 MiB        89.1 MiB  5.4 MB     66.9 %
    ==============  ============  =============  ========  =========  ===============

    Parameters
    ----------
    size : {'small', 'base', 'large'}
    bits, bits_a : int, default 1
        Bits of weights and activations, 1..32; 32 for both is the float network.
    classes : int, default 1000
    thumbnail : bool, default False
        For images of about 32x32 pixels: the stem keeps the size.
    prefix, params
        As for every Gluon block. The default prefix is empty.

    Inputs and outputs: float32 (N, 3, 224, 224), with `thumbnail` (N, 3, 32, 32), or other sizes; (N, classes).

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.
    """

    # Units and channels of each stage.
    _variants = {
        "small": ((4, 4, 4, 4), (32, 64, 256, 512)),
        "base": ((4, 4, 4, 4), (64, 128, 256, 512)),
        "large": ((6, 8, 12, 6), (64, 128, 256, 512)),
    }

    def __init__(
        self,
        size: str = "base",
        bits: int = 1,
        bits_a: int = 1,
        classes: int = 1000,
        thumbnail: bool = False,
        prefix: Optional[str] = "",
        params: Any = None,
    ):
        super().__init__(bits, bits_a, classes, prefix, params)
        units, channels = self.choose("size", size, self._variants)
        with self.naming():
            self._add_stem(channels[0], 1 if thumbnail else 2)
            for stage in range(4):
                if stage > 0:
                    self._add_transition(channels[stage - 1], channels[stage])
                make = functools.partial(self._unit, channels[stage])
                add_stage(self.features, stage + 1, units[stage], make)
            self.features.add(nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, prefix="output_")

    def _add_stem(self, channels: int, stride: int) -> None:
        few = channels // 4
        self.features.add(
            nn.Conv2D(few, 3, stride, padding=1, use_bias=False), self.precision.batch_norm(), nn.Activation("relu")
        )
        self.features.add(nn.Conv2D(few, 3, stride, padding=1, groups=few, in_channels=few, use_bias=False))
        self.features.add(self.precision.batch_norm(scale=False, center=False))
        self.features.add(nn.Conv2D(channels, 1, use_bias=False), self.precision.batch_norm())

    def _add_transition(self, before: int, channels: int) -> None:
        self.features.add(nn.Activation("relu"), nn.MaxPool2D(2, 1), Blur(before))
        self.features.add(nn.Conv2D(channels, 1, use_bias=False), self.precision.batch_norm())

    def _unit(self, channels: int, number: int) -> HybridBlock:
        return QuickUnit(self.precision, channels, prefix=f"unit{number + 1}_")


class QuickUnit(HybridBlock):
    """QuickNet's unit: activation - convolution 3x3 - ReLU - BatchNorm, plus the input.

    Parameters
    ----------
    precision : Precision
    channels : int
    prefix : str, optional
    """

    def __init__(self, precision: Precision, channels: int, prefix: Optional[str] = None):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(precision.activation(rectify=False))
            self.body.add(precision.conv(channels, 3, padding=1, no_offset=True))
            self.body.add(nn.Activation("relu"), precision.batch_norm())

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the unit on NDArrays or symbols."""
        return x + self.body(x)


class Blur(HybridBlock):
    """Halves the size with a fixed low-pass filter 3x3, [1 2 1] in both directions: arXiv:1904.11486.

    Parameters
    ----------
    channels : int
    prefix, params
        As for every Gluon block.
    """

    def __init__(self, channels: int, prefix: Optional[str] = None, params: Any = None):
        super().__init__(prefix=prefix, params=params)
        self._channels = channels
        weight = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16
        with self.name_scope():
            self.weight = self.params.get_constant("weight", np.tile(weight, (channels, 1, 1, 1)))

    def hybrid_forward(self, F: ModuleType, x: Array, weight: Array) -> Array:
        """Gluon's hook: the layer on NDArrays or symbols."""
        size = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
        return functions(F).Convolution(
            x, weight, num_filter=self._channels, num_group=self._channels, no_bias=True, name="fwd", **size
        )
