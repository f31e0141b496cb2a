"""Parts of the networks of the zoo: layers of any number of bits, residual units, the first convolution."""

from __future__ import annotations

import contextlib
from types import ModuleType
from typing import Any, Callable, Iterable, Iterator, Optional, Tuple

import mxnet as mx
from mxnet.gluon import Block, HybridBlock
from mxnet.gluon import nn as gluon_nn
from mxnet.gluon.contrib.nn import Identity

from ..composed import pad_spatial, rprelu
from ..errors import Error
from ..gluon import nn
from ..gluon.nn.numpy_mode import classic
from ..quantization import Array, levels

__all__ = ["Precision", "ResidualUnit", "ZooNetwork", "add_stage", "add_stem", "check_classes", "pooled_shortcut"]


def check_classes(network: HybridBlock, classes: int) -> None:
    """Raise bmx.Error unless a network's number of classes is an integer of at least 1."""
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise Error(f"{type(network).__name__}: classes is {classes!r}; allowed: 1 or more")


class Precision:
    """Makes the layers of a network for its numbers of bits.

    - 1-bit activations: layers of :mod:`bmx.gluon.nn`, padded with -1. :class:`bmx.gluon.nn.set_binary_layer_config`
      around the construction of a network chooses thresholds, estimators and scaling ('binet', 'xnor').
    - 2 to 31 bits of activations: the same layers, padded with zeros, because the activations are from 0 to 1.
    - 32 bits of activations: a ReLU, or nothing, instead. With weights of fewer bits these are binary-weight and
      low-bit-weight networks.
    - 32 bits for both: the float twin, made of MXNet's own operators.

    Parameters
    ----------
    bits, bits_a : int
        Bits of weights and activations, 1..32.

    Raises
    ------
    bmx.Error
        If a number of bits is not 1..32.
    """

    def __init__(self, bits: int, bits_a: int):
        levels(bits)
        levels(bits_a)
        self.bits = bits
        self.bits_a = bits_a

    def activation(self, method: Optional[str] = None, rectify: bool = True) -> HybridBlock:
        """Make an activation.

        Parameters
        ----------
        method : str, optional
            QActivation's, for 1 bit. Default: the configuration's.
        rectify : bool, default True
            For 32 bits: whether it is a ReLU or nothing.
        """
        if self.bits_a < 32:
            return nn.QActivation(self.bits_a, method=method if self.bits_a == 1 else None)
        return nn.Activation("relu") if rectify else Identity()

    def conv(
        self, channels: int, kernel_size: int, stride: int = 1, padding: int = 0, no_offset: bool = False
    ) -> HybridBlock:
        """Make a convolution without bias that follows an `activation`. `no_offset` is QConv2D's, for 1/1 bits."""
        if self.bits == 32 and self.bits_a > 1:
            return nn.Conv2D(channels, kernel_size, strides=stride, padding=padding, use_bias=False)
        if self.bits_a == 1:
            return nn.QConv2D(
                channels, kernel_size, bits=self.bits, strides=stride, padding=padding, no_offset=no_offset, bits_a=1
            )
        conv = nn.HybridSequential(prefix="")
        if padding:
            conv.add(_ZeroPadding(padding))
        conv.add(nn.QConv2D(channels, kernel_size, bits=self.bits, strides=stride, no_offset=True, bits_a=self.bits_a))
        return conv

    def activated_conv(
        self, channels: int, kernel_size: int = 3, stride: int = 1, method: Optional[str] = None
    ) -> HybridBlock:
        """Make an activation, with QActivation's `method` for 1 bit, and a convolution whose padding keeps the size."""
        padding = kernel_size // 2
        if self.bits_a == 1:
            return nn.activated_conv(
                channels, kernel_size, stride, padding, bits=self.bits, bits_a=1, activation_method=method
            )
        block = nn.HybridSequential(prefix="")
        block.add(self.activation(), self.conv(channels, kernel_size, stride, padding))
        return block

    def batch_norm(self, scale: bool = True, center: bool = True, epsilon: float = 1e-5) -> HybridBlock:
        """Make a BatchNorm: bmx's beside binary layers, else MXNet's, which is fast beside its own convolutions."""
        layer = nn.BatchNorm if self.bits == self.bits_a == 1 else gluon_nn.BatchNorm
        return layer(scale=scale, center=center, epsilon=epsilon)

    def rprelu(self, channels: int) -> HybridBlock:
        """Make an RPReLU, of MXNet's own operators in the float twin."""
        return (_FloatRPReLU if self.bits == self.bits_a == 32 else nn.RPReLU)(in_channels=channels)

    def dense(self, units: int) -> HybridBlock:
        """Make a dense layer without bias that follows an `activation`."""
        if self.bits == 32:
            return nn.Dense(units, use_bias=False)
        return nn.QDense(units, bits=self.bits, bits_a=self.bits_a, no_offset=self.bits > 1 or self.bits_a > 1)


class _FloatRPReLU(nn.RPReLU):
    @classic
    def hybrid_forward(self, F, x, shift, slope, offset):
        return rprelu(F, x, shift, slope, offset)


class _ZeroPadding(HybridBlock):
    def __init__(self, padding: int):
        super().__init__()
        self._padding = padding

    @classic
    def hybrid_forward(self, F, x):
        return pad_spatial(F, x, (self._padding, self._padding), 0.0)


class ZooNetwork(HybridBlock):
    """The `output` of the `features` of an image: subclasses make both.

    Parameters
    ----------
    bits, bits_a : int
        Bits of weights and activations, 1..32.
    classes : int
        Number of classes, 1 or more.
    prefix, params
        As for every Gluon block. With the empty prefix, the zoo's default, parameters have the same names in every
        instance.

    Raises
    ------
    bmx.Error
        If a parameter is out of its range.
    """

    def __init__(self, bits: int, bits_a: int, classes: int, prefix: Optional[str], params: Any):
        super().__init__(prefix=prefix, params=params)
        check_classes(self, classes)
        self.precision = Precision(bits, bits_a)
        self.features = nn.HybridSequential(prefix="")

    @contextlib.contextmanager
    def naming(self) -> Iterator[None]:
        """Scope for making layers whose names count from 0. With an empty prefix Gluon would continue counting."""
        with mx.name.NameManager(), self.name_scope():
            yield

    def choose(self, what: str, value: Any, table: dict) -> Any:
        """Look up a variant of the network. Raises bmx.Error if it does not exist."""
        if value not in table:
            allowed = ", ".join(str(key) for key in table)
            raise Error(f"{type(self).__name__}: {what} is {value!r}; allowed: {allowed}")
        return table[value]

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the network on NDArrays or symbols."""
        return self.output(self.features(x))


def add_stage(features: nn.HybridSequential, number: int, units: int, make_unit: Callable[[int], Block]) -> None:
    """Add ``stage<number>``: the units that `make_unit` makes of 0, 1, ..., named in the scope of the stage."""
    stage = nn.HybridSequential(prefix=f"stage{number}_")
    with stage.name_scope():
        for unit in range(units):
            stage.add(make_unit(unit))
    features.add(stage)


def add_stem(
    features: nn.HybridSequential, precision: Precision, channels: int, thumbnail: bool, rectify: bool = True
) -> None:
    """Add the first, float layers.

    For photographs a convolution 7x7 and a max pooling, each of which halves the size, with BatchNorm and, if
    `rectify`, a ReLU between; for thumbnails of about 32x32 pixels a convolution 3x3.
    """
    if thumbnail:
        features.add(nn.Conv2D(channels, 3, padding=1, use_bias=False))
    else:
        features.add(nn.Conv2D(channels, 7, strides=2, padding=3, use_bias=False), precision.batch_norm())
        if rectify:
            features.add(nn.Activation("relu"))
        features.add(nn.MaxPool2D(3, strides=2, padding=1))


class ResidualUnit(HybridBlock):
    """Convolutions with a shortcut around them, of ResNet (versions 1 and 2), ResNetE and Bi-Real Net.

    Version 1 (arXiv:1512.03385) has a BatchNorm after each convolution. Version 2 (arXiv:1603.05027) has it before
    each, and the first one is before the shortcut too. As in BMXNet v2 activations are always before convolutions, so
    the shortcut carries values that no sign and no ReLU has changed.

    Parameters
    ----------
    precision : Precision
    version : {1, 2}
    convs : list of (channels, kernel size, stride)
    shortcut : function without parameters that makes a block, optional
        Makes the layers of the shortcut where size or channels change. Default: none.
    method : str, optional
        QActivation's, for 1 bit. Default: the configuration's.
    prefix : str
    """

    def __init__(
        self,
        precision: Precision,
        version: int,
        convs: Iterable[Tuple[int, int, int]],
        shortcut: Optional[Callable[[], HybridBlock]] = None,
        method: Optional[str] = None,
        prefix: Optional[str] = None,
    ):
        super().__init__(prefix=prefix)
        with self.name_scope():
            self.first = precision.batch_norm() if version == 2 else Identity()
            self.body = nn.HybridSequential(prefix="")
            for number, (channels, kernel_size, stride) in enumerate(convs):
                if version == 2 and number > 0:
                    self.body.add(precision.batch_norm())
                self.body.add(precision.activated_conv(channels, kernel_size, stride, method=method))
                if version == 1:
                    self.body.add(precision.batch_norm())
            self.shortcut = shortcut() if shortcut else None

    def hybrid_forward(self, F: ModuleType, x: Array) -> Array:
        """Gluon's hook: the unit on NDArrays or symbols."""
        first = self.first(x)
        return self.body(first) + (self.shortcut(first) if self.shortcut else x)


def pooled_shortcut(precision: Precision, channels: int, stride: int, normalize: bool = True) -> nn.HybridSequential:
    """Make a shortcut of an average pooling, for stride 2, and a float convolution 1x1, with BatchNorm or without.

    It costs few operations and keeps much accuracy: "Back to Simplicity", arXiv:1906.08637, and Bi-Real Net.
    """
    shortcut = nn.HybridSequential(prefix="shortcut_")
    with shortcut.name_scope():
        if stride > 1:  # an odd size is rounded up, as by the convolutions beside the shortcut
            shortcut.add(nn.AvgPool2D(stride, stride, ceil_mode=True, count_include_pad=False))
        shortcut.add(nn.Conv2D(channels, 1, use_bias=False))
        if normalize:
            shortcut.add(precision.batch_norm())
    return shortcut
