"""Binary DenseNet, and MeliusNet, which adds improvement blocks to it."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Optional, Union

from mxnet.gluon import HybridBlock

from ..gluon import nn
from ..gluon.nn.numpy_mode import functions
from ..quantization import Array
from .blocks import Precision, ZooNetwork, add_stage, add_stem

__all__ = ["DenseNet", "MeliusNet"]

_GROWTH = 64  # channels that each dense block adds


class DenseNet(ZooNetwork):
    """Binary DenseNet: every binary convolution adds 64 channels to those it has got.

    Float convolution 7x7/2 - BatchNorm - ReLU - max pool - four stages of dense blocks - BatchNorm - ReLU - global
    average pool - dense. A dense block is BatchNorm - sign - QConv2D 3x3, whose output is appended to the input.
    Between stages are BatchNorm - max pool - ReLU - float convolution 1x1. The 32-bit network has ReLU and Conv2D in
    the place of sign and QConv2D.

    J. Bethge, H. Yang, M. Bornstein, C. Meinel, "Back to Simplicity: How to Train Accurate BNNs from Scratch?",
    arXiv:1906.08637: top-1 60.7, 62.5, 63.7 %. The table has what BMXNet v2 published later of the first two. The
    published sizes leave out the running averages of BatchNorm.

    ==========  ============  =============  ========  =========  ===============
    name        parameters    size in 1 bit  float32   published  top-1, ImageNet
    ==========  ============  =============  ========  =========  ===============
    densenet28  5.2 million   4.1 MiB        19.6 MiB  4.0 MB     61.7 %
    densenet37  8.7 million   5.3 MiB        33.3 MiB  5.1 MB     63.3 %
    densenet45  13.9 million  7.5 MiB        53.2 MiB  7.4 MB     63.7 %
    ==========  ============  =============  ========  =========  ===============

    Parameters
    ----------
    depth : {28, 37, 45}
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

    # Blocks of each stage, channels after each transition, groups of the transitions' convolutions.
    _variants = {
        28: ((6, 6, 6, 5), (160, 192, 256), 1),
        37: ((6, 8, 12, 6), (128, 192, 256), 1),
        45: ((6, 12, 14, 8), (160, 288, 288), 1),
    }

    def __init__(
        self,
        depth: int = 28,
        bits: int = 1,
        bits_a: int = 1,
        classes: int = 1000,
        thumbnail: bool = False,
        prefix: Optional[str] = "",
        params: Any = None,
    ):
        super().__init__(bits, bits_a, classes, prefix, params)
        blocks, transitions, groups = self.choose("depth", depth, self._variants)
        with self.naming():
            self._add_stem(thumbnail)
            channels = 64
            for stage in range(4):
                add_stage(self.features, stage + 1, blocks[stage], functools.partial(self._block, channels))
                channels += _GROWTH * blocks[stage]
                if stage < 3:
                    channels = transitions[stage]
                    self._add_transition(channels, groups)
            self.features.add(self.precision.batch_norm(), nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, prefix="output_")

    def _add_stem(self, thumbnail: bool) -> None:
        add_stem(self.features, self.precision, 64, thumbnail)

    def _add_transition(self, channels: int, groups: int) -> None:
        self.features.add(self.precision.batch_norm(), nn.MaxPool2D(2, 2), nn.Activation("relu"))
        if groups > 1:
            self.features.add(ChannelShuffle(16))
        self.features.add(nn.Conv2D(channels, 1, groups=groups, use_bias=False))

    def _block(self, channels: int, number: int) -> HybridBlock:
        return GrowingBlock(self.precision, prefix=f"block{number + 1}_")


class MeliusNet(DenseNet):
    """MeliusNet: after each dense block an improvement block, which corrects the 64 channels that the former added.

    The layers are :class:`DenseNet`'s but for the first, three convolutions 3x3, of which two are grouped, that cost
    half of one 7x7, and for the improvement blocks: BatchNorm - sign - QConv2D 3x3, whose output is added to the newest
    64 channels. In a, b and c the convolutions between stages are grouped, with the channels shuffled before.

    J. Bethge, C. Bartz, H. Yang, Y. Chen, C. Meinel, "MeliusNet: Can Binary Neural Networks Achieve MobileNet-level
    Accuracy?", arXiv:2001.05936. The published sizes leave out the running averages of BatchNorm.

    ===========  ============  =============  =========  =========  ===============
    name         parameters    size in 1 bit  float32    published  top-1, ImageNet
    ===========  ============  =============  =========  =========  ===============
    meliusnet22  7.0 million   4.0 MiB        26.6 MiB   3.9 MB     63.6 %
    meliusnet29  11.4 million  5.2 MiB        43.4 MiB   5.1 MB     65.8 %
    meliusnet42  26.9 million  10.5 MiB       102.7 MiB  10.1 MB    69.2 %
    meliusnet59  55.7 million  18.1 MiB       212.7 MiB  17.4 MB    70.7 %
    meliusneta   9.3 million   4.2 MiB        35.4 MiB   4.0 MB     63.4 %
    meliusnetb   12.3 million  5.2 MiB        46.9 MiB   5.0 MB     65.7 %
    meliusnetc   12.3 million  4.6 MiB        46.9 MiB   4.5 MB     64.1 %
    ===========  ============  =============  =========  =========  ===============

    Parameters
    ----------
    depth : {22, 29, 42, 59, 'a', 'b', 'c'}
    bits, bits_a, classes, thumbnail, prefix, params
        As :class:`DenseNet`'s; so are inputs and outputs.
    """

    _variants = {
        22: ((4, 5, 4, 4), (160, 224, 256), 1),
        29: ((4, 6, 8, 6), (128, 192, 256), 1),
        42: ((5, 8, 14, 10), (160, 256, 416), 1),
        59: ((6, 12, 24, 12), (192, 320, 544), 1),
        "a": ((4, 5, 5, 6), (160, 256, 288), 4),
        "b": ((4, 6, 8, 6), (160, 224, 320), 2),
        "c": ((3, 5, 10, 6), (128, 192, 288), 4),
    }

    def __init__(
        self,
        depth: Union[int, str] = 22,
        bits: int = 1,
        bits_a: int = 1,
        classes: int = 1000,
        thumbnail: bool = False,
        prefix: Optional[str] = "",
        params: Any = None,
    ):
        super().__init__(depth, bits, bits_a, classes, thumbnail, prefix, params)

    def _add_stem(self, thumbnail: bool) -> None:
        if thumbnail:
            add_stem(self.features, self.precision, 64, thumbnail)
            return
        for channels, stride, groups in ((32, 2, 1), (32, 1, 4), (64, 1, 8)):
            self.features.add(nn.Conv2D(channels, 3, stride, padding=1, groups=groups, use_bias=False))
            self.features.add(self.precision.batch_norm(), nn.Activation("relu"))
        self.features.add(nn.MaxPool2D(3, 2, padding=1))

    def _block(self, channels: int, number: int) -> HybridBlock:
        block = nn.HybridSequential(prefix=f"block{number + 1}_")
        with block.name_scope():
            block.add(GrowingBlock(self.precision, prefix="grow_"))
            block.add(ImprovementBlock(self.precision, channels + _GROWTH * (number + 1), prefix="improve_"))
        return block


class GrowingBlock(HybridBlock):
    """DenseNet's block: BatchNorm - activation - convolution 3x3 to 64 channels, appended to the input.

    Parameters
    ----------
    precision : Precision
    prefix : str, optional
    """

    def __init__(self, precision: Precision, prefix: Optional[str] = None):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(precision.batch_norm(), precision.activated_conv(_GROWTH))

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the block on NDArrays or symbols."""
        F = functions(F)
        return F.concat(x, self.body(x), dim=1)


class ImprovementBlock(HybridBlock):
    """MeliusNet's block: BatchNorm - activation - convolution 3x3 to 64 channels, added to the last 64 of the input.

    Parameters
    ----------
    precision : Precision
    channels : int
        Channels of the input, more than 64.
    prefix : str, optional
    """

    def __init__(self, precision: Precision, channels: int, prefix: Optional[str] = None):
        super().__init__(prefix=prefix)
        self._kept = channels - _GROWTH
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(precision.batch_norm(), precision.activated_conv(_GROWTH))

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the block on NDArrays or symbols."""
        F = functions(F)
        kept = F.slice_axis(x, axis=1, begin=0, end=self._kept)
        newest = F.slice_axis(x, axis=1, begin=self._kept, end=None)
        return F.concat(kept, newest + self.body(x), dim=1)


class ChannelShuffle(HybridBlock):
    """ShuffleNet's shuffle: channel j of group i becomes channel i of group j (arXiv:1707.01083).

    Parameters
    ----------
    groups : int
        Must divide the number of channels.
    """

    def __init__(self, groups: int):
        super().__init__()
        self._groups = groups

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the layer on NDArrays or symbols."""
        F = functions(F)
        grouped = F.reshape(x, shape=(0, -4, self._groups, -1, -2))
        return F.reshape(F.swapaxes(grouped, 1, 2), shape=(0, -3, -2))
