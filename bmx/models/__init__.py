"""The networks: Gluon blocks, which :func:`get_model` makes, and BMXNet v1's symbols in :mod:`~bmx.models.v1`."""

from . import v1
from .alexnet import AlexNet
from .binarynet import BinaryNet
from .birealnet import BiRealNet, ReActNet
from .densenet import DenseNet, MeliusNet
from .lenet import LeNet
from .quicknet import QuickNet
from .resnet import ResNet, ResNetE
from .zoo import get_model, image_shape, model_names

__all__ = [
    "AlexNet",
    "BiRealNet",
    "BinaryNet",
    "DenseNet",
    "LeNet",
    "MeliusNet",
    "QuickNet",
    "ReActNet",
    "ResNet",
    "ResNetE",
    "get_model",
    "image_shape",
    "model_names",
    "v1",
]
