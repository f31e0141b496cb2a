"""LeNet with binary hidden layers, as BMXNet v1 published it for handwritten digits."""

from __future__ import annotations

from mxnet.gluon import HybridBlock, nn

from ..gluon.nn.config import binary_layer_config
from ..gluon.nn.numpy_mode import functions
from ..quantization import levels
from .blocks import check_classes


class LeNet(HybridBlock):
    """LeNet, made for images of 28x28 pixels; the second convolution and the first dense layer have few bits.

    Convolution 5x5x64 - tanh - max pool 2 - BatchNorm - QActivation - **QConvolution 5x5x64** - BatchNorm -
    max pool 2 - flatten - QActivation - **QFullyConnected 1000** - BatchNorm - tanh - FullyConnected.

    The 32-bit network is the float twin: Convolution and FullyConnected, with tanh where the others have QActivation.
    Source: H. Yang, M. Fritzsche, C. Bartz, C. Meinel, BMXNet: An Open-Source Binary Neural Network Implementation
    Based on MXNet, ACM Multimedia 2017 (97 % binary, 99 % float on MNIST).
    1.1 million parameters, 0.2 MiB in 1 bit (published: 206 kB), 4.4 MiB in float32.

    Parameters
    ----------
    bits : int, default 1
        Bits of the weights and of the inputs of the two layers, 1 to 32; 1 is binary, 32 float.
    classes : int, default 10
        Number of classes, 1 or more.
    prefix, params
        As for every Gluon block. The default prefix is empty: parameters are named ``conv1_weight`` and so on.

    Inputs and outputs: ``data`` of shape (N, C, H, W), float32, (N, 1, 28, 28) in the paper; H and W are 16 or more;
    C, H and W stay those of the first batch; scores of shape (N, classes), before a softmax.

    Raises
    ------
    bmx.Error
        If `bits` or `classes` is out of its range.
    """

    def __init__(self, bits: int = 1, classes: int = 10, prefix: str = "", params=None):
        super().__init__(prefix=prefix, params=params)
        levels(bits)
        check_classes(self, classes)
        self.bits = bits
        self._gradient_type = binary_layer_config.gradient_type()
        with self.name_scope():
            self.conv1 = nn.Conv2D(64, 5, prefix="conv1_")
            self.bn1 = nn.BatchNorm(prefix="bn1_")
            self.conv2_weight = self.params.get("conv2_weight", shape=(64, 64, 5, 5))
            self.bn2 = nn.BatchNorm(prefix="bn2_")
            self.fc1_weight = self.params.get("fc1_weight", shape=(1000, 0), allow_deferred_init=True)
            self.bn3 = nn.BatchNorm(prefix="bn3_")
            self.fc2 = nn.Dense(classes, prefix="fc2_")

    def hybrid_forward(self, F, x, conv2_weight, fc1_weight):
        """Gluon's hook: the network on NDArrays or symbols."""
        F = functions(F)
        x = self._tanh(F, self.conv1(x), "tanh1")
        x = self.bn1(self._max_pool(F, x, "pool1"))
        x = self._activation(F, x, "act2")
        if self.bits == 32:
            x = F.Convolution(x, conv2_weight, kernel=(5, 5), num_filter=64, no_bias=True, name="conv2")
        else:
            x = F.QConvolution(x, conv2_weight, kernel=(5, 5), num_filter=64, name="conv2", **self._bits())
        x = F.Flatten(self._max_pool(F, self.bn2(x), "pool2"), name="flatten")
        x = self._activation(F, x, "act3")
        if self.bits == 32:
            x = F.FullyConnected(x, fc1_weight, num_hidden=1000, no_bias=True, name="fc1")
        else:
            x = F.QFullyConnected(x, fc1_weight, num_hidden=1000, name="fc1", **self._bits())
        return self.fc2(self._tanh(F, self.bn3(x), "tanh3"))

    def _bits(self):
        return {"act_bit": self.bits, "weight_bit": self.bits, **self._gradient_type}

    def _activation(self, F, x, name):
        if self.bits == 32:
            return self._tanh(F, x, name)
        # The layer behind quantizes its own input; this one only cancels gradients where |x| is large (1 bit).
        return F.QActivation(x, act_bit=self.bits, backward_only=True, name=name)

    @staticmethod
    def _tanh(F, x, name):
        return F.Activation(x, act_type="tanh", name=name)  # on oneDNN, 8 times as fast as F.tanh

    @staticmethod
    def _max_pool(F, x, name):
        return F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max", name=name)
