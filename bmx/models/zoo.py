"""The networks by name."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Dict, List, Optional, Tuple

from mxnet.gluon import HybridBlock

from ..errors import Error
from .alexnet import AlexNet
from .binarynet import BinaryNet
from .birealnet import BiRealNet, ReActNet
from .densenet import DenseNet, MeliusNet
from .lenet import LeNet
from .quicknet import QuickNet
from .resnet import ResNet, ResNetE

__all__ = ["get_model", "image_shape", "model_names"]


def _lenet(bits: int, bits_a: int, classes: int = 10, prefix: Optional[str] = "", params: Any = None) -> LeNet:
    if bits != bits_a:
        raise Error(f"lenet: bits is {bits} and bits_a is {bits_a}; it has the same number for weights and activations")
    return LeNet(bits, classes, prefix, params)


def _models() -> Dict[str, Callable[..., HybridBlock]]:
    models = {
        "lenet": _lenet,
        "binarynet_cifar": BinaryNet,
        "alexnet": AlexNet,
        "reactnet_r18": functools.partial(ReActNet, 18),
    }
    for depth in (18, 34, 50, 101, 152):
        for version in (1, 2):
            models[f"resnet{depth}_v{version}"] = functools.partial(ResNet, depth, version)
            models[f"resnet{depth}_e{version}"] = functools.partial(ResNetE, depth, version)
    for family, variants in ((BiRealNet, (18, 34)), (DenseNet, (28, 37, 45)), (MeliusNet, (22, 29, 42, 59, *"abc"))):
        for variant in variants:
            models[f"{family.__name__.lower()}{variant}"] = functools.partial(family, variant)
    for name, size in (("quicknet_small", "small"), ("quicknet", "base"), ("quicknet_large", "large")):
        models[name] = functools.partial(QuickNet, size)
    return models


_MODELS = _models()


def model_names() -> List[str]:
    """The names that :func:`get_model` knows, sorted.

    Examples
    --------
    >>> "resnet18_e1" in model_names()
    True
    """
    return sorted(_MODELS)


def get_model(
    name: str, bits: int = 1, bits_a: Optional[int] = None, classes: Optional[int] = None, **options: Any
) -> HybridBlock:
    """Make a network of the zoo, with parameters yet to be initialized.

    Parameters
    ----------
    name : str
        - ``lenet`` and ``binarynet_cifar``;
        - ``alexnet``: XNOR-Net, with ``bits_a=32`` the Binary-Weight-Network;
        - ``resnet18_v1``, ``_v2``, ``_e1``, ``_e2``, the same with 34, 50, 101, 152;
        - ``birealnet18``, ``birealnet34``, ``reactnet_r18``;
        - ``densenet28``, ``37``, ``45``;
        - ``meliusnet22``, ``29``, ``42``, ``59``, ``a``, ``b``, ``c`` (also ``meliusnet_a`` and so on);
        - ``quicknet_small``, ``quicknet``, ``quicknet_large``.
    bits : int, default 1
        Bits of weights, 1..32.
    bits_a : int, optional
        Bits of activations, 1..32. Default: `bits`, as for the training programs. 32 for both is the float twin: the
        same network with Gluon's Conv2D and Dense, and ReLU (in LeNet tanh) in the place of quantized activations.
    classes : int, optional
        Default: that of the network's data set, 10 or 1000.
    **options
        Of the network's class, such as ``thumbnail=True``, for images of about 32x32 pixels, ``prefix`` and ``params``.

    Returns
    -------
    mxnet.gluon.HybridBlock
        The docstring of its class has paper, accuracy, sizes, inputs and outputs.

    Raises
    ------
    bmx.Error
        If there is no such network or option, or a value is not allowed.

    Examples
    --------
    >>> net = get_model("resnet18_e1", classes=10, thumbnail=True)
    >>> net.initialize()
    >>> import mxnet as mx
    >>> net(mx.nd.zeros((1, 3, 32, 32))).shape
    (1, 10)
    """
    make = _MODELS.get(_canonical(name))
    if make is None:
        raise Error(f"no model {name!r}; there are {', '.join(model_names())}")
    if classes is not None:
        options["classes"] = classes
    parameters = list(inspect.signature(make).parameters)
    unknown = [key for key in options if key not in parameters]
    if unknown:
        raise Error(f"{name}: no option {unknown[0]!r}; there are {', '.join(parameters)}")
    return make(bits=bits, bits_a=bits if bits_a is None else bits_a, **options)


def image_shape(name: str) -> Tuple[int, int, int]:
    """The shape of the images that a network of the zoo was published for: channels, height, width.

    Examples
    --------
    >>> image_shape("lenet"), image_shape("resnet18_e1")
    ((1, 28, 28), (3, 224, 224))
    """
    return {"lenet": (1, 28, 28), "binarynet_cifar": (3, 32, 32)}.get(_canonical(name), (3, 224, 224))


def _canonical(name: Any) -> str:
    """BMXNet v2 wrote names in any case, and ``meliusnet_a``."""
    return str(name).lower().replace("meliusnet_", "meliusnet")
