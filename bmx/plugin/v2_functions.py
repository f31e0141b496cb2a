"""BMXNet v2's functions: ``det_sign``, ``approx_sign``, ``round_ste`` and ``contrib.gradcancel``.

They are functions of ``mx.nd`` and ``mx.sym`` and, but for ``gradcancel``, methods of NDArray and Symbol. Each is a
composition of MXNet's own operators (:mod:`bmx.quantization`): it runs on every device and for every float type, its
gradients accumulate, and shapes are inferred through it in both directions. An operator of a library cannot do the
last: MXNet hands it an unknown size as a number like any other, and a weight whose channels are not known yet is
quantized before the convolution that tells them. ``mx.sym.load`` and ``load_json`` put the compositions in the place of
the operators that v2's files name.
"""

from __future__ import annotations

import functools
import json
import os
from types import ModuleType
from typing import Any, Callable

import mxnet as mx

from .. import quantization
from ..composed.symbol import replace_operators

__all__ = ["FUNCTIONS", "install", "without_v2_operators"]


def _round_ste(F: ModuleType, data: Any) -> Any:
    return F.contrib.round_ste(data)


def _gradcancel(F: ModuleType, data: Any, threshold: float = 1.0) -> Any:
    # The choice between x and x does not tell x the shape of the result; the second operator does.
    window = quantization.gradient_window(F, data, float(threshold))
    return F._internal._identity_with_attr_like_rhs(window, data)


# v2's names of the operators in files, and what computes them.
FUNCTIONS = {
    "det_sign": quantization.det_sign,
    "approx_sign": quantization.sign_approx_sign,
    "round_ste": _round_ste,
    "_contrib_gradcancel": _gradcancel,
}

_DOCUMENTATION = {
    "det_sign": """Takes the sign: -1 where x < 0, otherwise +1 (also 0, -0.0 and NaN). The gradient passes unchanged.

    BMXNet v2; BinaryNet's straight-through estimator without a window, which is ``contrib.gradcancel``.
""",
    "approx_sign": """Takes the sign: -1 where x < 0, otherwise +1. The gradient is multiplied by 2 - 2 abs(x).

    BMXNet v2; Bi-Real Net's (arXiv:1808.00278), which also cancels the gradient where abs(x) > 1, as
    ``contrib.gradcancel`` in front does.
""",
    "round_ste": """Rounds to the nearest integer, halves away from zero. The gradient passes unchanged. BMXNet v2.
""",
    "_contrib_gradcancel": """Leaves values as they are and cancels the gradient where abs(x) > threshold, or x is NaN.

    BMXNet v2.
""",
}


def without_v2_operators(text: str) -> str:
    """The JSON of a symbol with compositions in the place of v2's operators; the same text if it names none."""
    if not any(f'"{name}"' in text for name in FUNCTIONS):
        return text
    try:
        graph = json.loads(text)
        return json.dumps(replace_operators(graph, FUNCTIONS))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return text  # MXNet says what is wrong with it


def install() -> None:
    """Put the functions into ``mx.nd`` and ``mx.sym`` and make the loaders of symbols know v2's operators; once."""
    for name, compute in FUNCTIONS.items():
        short = name.replace("_contrib_", "")
        for module, make, array in ((mx.nd, _array_function, mx.nd.NDArray), (mx.sym, _symbol_function, mx.sym.Symbol)):
            function = _describe(make(short, compute), name, short, array.__name__)
            if short == name:
                for place in (module, module.op):
                    setattr(place, short, function)
                setattr(array, short, _method(module, short))
            else:
                setattr(module.contrib, short, function)
    _install_loaders()


def _array_function(hint: str, compute: Callable) -> Callable:
    def function(data, *arguments, out=None, name=None, **attributes):
        result = compute(mx.nd, data, *arguments, **attributes)
        return result if out is None else result.copyto(out)

    return function


def _symbol_function(hint: str, compute: Callable) -> Callable:
    def function(data, *arguments, name=None, attr=None, **attributes):
        name = mx.name.NameManager.current.get(name, hint)
        with mx.name.NameManager(), mx.name.Prefix(name + "_"), mx.AttrScope(**(attr or {})):
            result = compute(mx.sym, data, *arguments, **attributes)
        result._set_attr(name=name)
        return result

    return function


def _method(module: ModuleType, name: str) -> Callable:
    def method(self, *arguments, **keywords):
        return getattr(module, name)(self, *arguments, **keywords)

    method.__name__ = name
    method.__doc__ = f"``{name}`` of this array: see that function of its module."
    return method


def _describe(function: Callable, name: str, short: str, array: str) -> Callable:
    threshold = "    threshold : float, default 1.0\n" if name == "_contrib_gradcancel" else ""
    where = "    out : NDArray, optional\n" if array == "NDArray" else "    name : str, optional\n"
    function.__name__ = function.__qualname__ = short
    function.__module__ = "mxnet.ndarray" if array == "NDArray" else "mxnet.symbol"
    function.__doc__ = (
        f"{_DOCUMENTATION[name]}\n    Parameters\n    ----------\n    data : {array}\n{threshold}{where}"
        f"\n    Returns\n    -------\n    {array}\n    "
    )
    return function


def _install_loaders() -> None:
    load, load_json = mx.sym.load, mx.sym.load_json

    @functools.wraps(load_json)
    def load_any_json(json_str):
        return load_json(without_v2_operators(json_str) if isinstance(json_str, str) else json_str)

    @functools.wraps(load)
    def load_any(fname):
        if isinstance(fname, str) and os.path.isfile(fname):  # MXNet also reads from other places
            with open(fname, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
            translated = without_v2_operators(text)
            if translated is not text:
                return load_json(translated)
        return load(fname)

    for module in (mx.sym, mx.symbol.symbol):
        module.load, module.load_json = load_any, load_any_json
