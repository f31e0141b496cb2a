"""The defaults of the binary layers, as in BMXNet v2: read when a layer is made, changed by a context manager."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any, Callable

from ... import quantization
from ...errors import Error

Quantizer = Callable[[ModuleType, quantization.Array], quantization.Array]

_APPROXIMATIONS = ("", "binet", "xnor", "learned")
_GRADIENT_TYPES = ("", "float32", "float32x2", "bfloat16")

# BMXNet v2's names of methods, and swish_sign and twn. Those that quantize to k bits also take the bits.
_METHODS = {
    "approx_sign": quantization.approx_sign,
    "clip": quantization.clip,
    "det_sign": quantization.det_sign,
    "identity": quantization.identity,
    "leaky_clip": quantization.leaky_clip,
    "recu": quantization.recu,
    "relu": quantization.relu,
    "sign_approx_sign": quantization.sign_approx_sign,
    "swish_sign": quantization.swish_sign,
    "twn": quantization.twn,
}
_K_BIT_METHODS = {"round": quantization.round_ste, "dorefa": quantization.dorefa}


def activation_methods(bits: int) -> tuple[str, ...]:
    """Return the methods for activations of ``bits`` bits, the default first."""
    quantization.levels(bits)
    if bits == 1:
        return ("det_sign", "sign_approx_sign", "swish_sign", "round")
    if bits == 32:
        return ("relu", "identity", "approx_sign", "clip", "leaky_clip")
    return ("round", "dorefa")


def weight_methods(bits: int) -> tuple[str, ...]:
    """Return the methods for weights of ``bits`` bits, the default first."""
    quantization.levels(bits)
    if bits == 1:
        return ("det_sign", "sign_approx_sign", "swish_sign", "recu")
    if bits == 2:
        return ("dorefa", "twn")
    return ("identity",) if bits == 32 else ("dorefa",)


def quantizer(bits: int, method: str) -> Quantizer:
    """Return the function of (F, x) that quantizes to ``bits`` bits with a method."""
    if method in _K_BIT_METHODS:
        return functools.partial(_K_BIT_METHODS[method], bits=bits)
    return _METHODS[method]


class BinaryLayerConfig:
    """What binary layers take for parameters that they are not given.

    Parameters
    ----------
    grad_cancel : float, default 1.0
        QActivation's gradient is 0 where abs(x) is larger.
    bits, bits_a : int, default 1
        Bits of weights and activations, 1..32.
    activation : str, default 'det_sign'
        1 bit: 'det_sign', 'sign_approx_sign', 'swish_sign' or 'round'; 2..31 bits: 'round' or 'dorefa'; 32 bits:
        'relu', 'identity', 'approx_sign', 'clip' or 'leaky_clip'. Each is a function of :mod:`bmx.quantization`.
    weight_quantization : str, default 'det_sign'
        1 bit: 'det_sign', 'sign_approx_sign', 'swish_sign' or 'recu'; 2..31 bits: 'dorefa', for 2 bits also 'twn',
        which gives ternary weights; 32 bits: 'identity'.
    approximation : {'', 'binet', 'xnor', 'learned'}, default ''
        What :func:`activated_conv` makes: BinaryConvolution, ScaledWeightsBinaryConv, ScaledBinaryConv or
        LearnedScaleBinaryConv.
    grad_bit : int, default 32
        Bits of the gradient that a layer gets for its output, 1..32, see :func:`bmx.gradients.quantize_gradient`. 32
        leaves it alone.
    grad_dtype : {'', 'float32', 'float32x2', 'bfloat16'}, default ''
        What 1-bit layers on bmx's operators compute their gradients in, see :class:`QConv2D`. '': what the environment
        variable BMX_GRAD_DTYPE says, else float32.

    Raises
    ------
    bmx.Error
        If a value is not allowed.

    Examples
    --------
    >>> config = BinaryLayerConfig(bits=2)
    >>> config.weight_quantization
    'dorefa'
    """

    def __init__(
        self,
        grad_cancel: float = 1.0,
        bits: int = 1,
        bits_a: int = 1,
        activation: str = "det_sign",
        weight_quantization: str = "det_sign",
        approximation: str = "",
        grad_bit: int = 32,
        grad_dtype: str = "",
    ):
        self.grad_cancel = grad_cancel
        self.bits = bits
        self.bits_a = bits_a
        self.activation = activation
        self.weight_quantization = weight_quantization
        self.approximation = approximation
        self.grad_bit = grad_bit
        self.grad_dtype = grad_dtype
        self.set_values(weight_quantization=weight_quantization)

    def __repr__(self):
        return f"BinaryLayerConfig({', '.join(f'{k}={v!r}' for k, v in self.get_values().items())})"

    def get_values(self) -> dict[str, Any]:
        """Return all values by name."""
        return dict(vars(self))

    def set_values(self, assure_consistency: bool = True, **values: Any) -> None:
        """Change some values; None leaves a value as it is.

        A method that does not exist for its number of bits gives way to the default method for that number, as in
        BMXNet v2, where scripts pass on 'det_sign' together with any ``--bits``. Only 'twn' is refused for other than 2
        bits: who asks for ternary weights shall not get others.

        Parameters
        ----------
        assure_consistency : bool, default True
            False keeps methods that do not exist for their number of bits. Layers take the default method then.
        **values
            The parameters of this class.

        Raises
        ------
        bmx.Error
            If there is no such value, or it is not allowed. Then nothing changes.
        """
        new = self.get_values()
        unknown = sorted(set(values) - set(new))
        if unknown:
            raise Error(f"binary layer configuration has no {unknown[0]!r}; it has {', '.join(new)}")
        new.update((k, v) for k, v in values.items() if v is not None)
        _check(new)
        if values.get("weight_quantization") == "twn" and new["bits"] != 2:
            raise Error(f"weight_quantization='twn' with bits={new['bits']}: ternary weights have bits=2")
        if assure_consistency:
            new["activation"] = _fitting(new["activation"], activation_methods(new["bits_a"]))
            new["weight_quantization"] = _fitting(new["weight_quantization"], weight_methods(new["bits"]))
        vars(self).update(new)

    def gradient_type(self, grad_dtype: str | None = None) -> dict[str, str]:
        """Return the attribute of an operator whose layer was given this, or None; none leaves it to the environment.

        Raises
        ------
        bmx.Error
            If there is no such type.
        """
        chosen = self.grad_dtype if grad_dtype is None else grad_dtype
        _check_name("grad_dtype", chosen, _GRADIENT_TYPES)
        return {"grad_dtype": chosen} if chosen else {}

    def activation_method(self, bits: int | None = None, method: str | None = None) -> tuple[int, str]:
        """Return (bits, method) of an activation that was given these, or None.

        Raises
        ------
        bmx.Error
            If the bits are not 1..32, or there is no such method for activations of so many bits.
        """
        bits = self.bits_a if bits is None else bits
        return bits, _choose("activation", bits, method, self.activation, activation_methods(bits))

    def weight_method(self, bits: int | None = None, method: str | None = None) -> tuple[int, str]:
        """Return (bits, method) of a weight that was given these, or None. Raises as :meth:`activation_method`."""
        bits = self.bits if bits is None else bits
        return bits, _choose("weight", bits, method, self.weight_quantization, weight_methods(bits))

    def get_quantization_function(self, bits: int | None = None, method: str | None = None) -> Quantizer:
        """Return the function of (F, x) of a method, whether it is one for activations or for weights.

        Raises
        ------
        bmx.Error
            If there is no such method, or it needs ``bits`` and they are not 1..32.
        """
        _check_method("method", method)
        if method in _K_BIT_METHODS:
            quantization.levels(bits)
        return quantizer(bits, method)

    def get_activation_function(self, bits: int | None = None, method: str | None = None) -> Quantizer:
        """Return the function of (F, x) that quantizes activations. Raises as :meth:`activation_method`."""
        return quantizer(*self.activation_method(bits, method))

    def get_weight_quantization_function(self, bits: int | None = None, method: str | None = None) -> Quantizer:
        """Return the function of (F, x) that quantizes weights. Raises as :meth:`activation_method`."""
        return quantizer(*self.weight_method(bits, method))


def _check(values):
    for name in ("bits", "bits_a", "grad_bit"):
        quantization.levels(values[name])
    check_threshold("grad_cancel", values["grad_cancel"])
    for name in ("activation", "weight_quantization"):
        _check_method(name, values[name])
    for name, allowed in (("approximation", _APPROXIMATIONS), ("grad_dtype", _GRADIENT_TYPES)):
        _check_name(name, values[name], allowed)


def _check_method(name, method):
    known = (*_METHODS, *_K_BIT_METHODS)
    if method not in known:
        raise Error(f"{name}={method!r}: there is no such method; there are {', '.join(known)}")


def _check_name(name, value, allowed):
    if value not in allowed:
        raise Error(f"{name}={value!r}: allowed are {', '.join(map(repr, allowed))}")


def check_threshold(name: str, value: float) -> None:
    """Raise bmx.Error unless a threshold is a number of at least 0."""
    if not isinstance(value, (int, float)) or not value >= 0:
        raise Error(f"{name}={value!r}: a threshold is a number of at least 0")


def _fitting(method, methods):
    return method if method in methods else methods[0]


def _choose(kind, bits, given, configured, methods):
    if given is None:
        return _fitting(configured, methods)
    if given not in methods:
        raise Error(f"no method {given!r} for {kind}s of {bits} bits; there are {', '.join(methods)}")
    return given


binary_layer_config = BinaryLayerConfig()


class set_binary_layer_config:
    """Context manager: change the defaults of the binary layers that are made inside it.

    It nests, and what was there before comes back at the end, also after an exception.

    Parameters
    ----------
    **values
        Those of :meth:`BinaryLayerConfig.set_values`; None leaves a value as it is.

    Raises
    ------
    bmx.Error
        On entering, if there is no such value or it is not allowed.

    Examples
    --------
    >>> from bmx.gluon import nn
    >>> with nn.set_binary_layer_config(bits=2, bits_a=4, grad_cancel=1.3):
    ...     print(nn.QActivation())
    QActivation(round, bits=4, gradient_cancel_threshold=1.3)
    >>> print(nn.QActivation())
    QActivation(det_sign, bits=1, gradient_cancel_threshold=1.0)
    """

    def __init__(self, **values: Any):
        self._values = values
        self._before = []

    def __enter__(self):
        before = binary_layer_config.get_values()
        binary_layer_config.set_values(**self._values)
        self._before.append(before)
        return self

    def __exit__(self, *exception):
        binary_layer_config.set_values(assure_consistency=False, **self._before.pop())
