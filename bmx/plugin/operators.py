"""The operators of libbmx as functions of ``mx.sym`` and ``mx.nd``.

MXNet generates functions for custom operators, but plain ones: they take their inputs as a list, do not create
missing weights and have no documentation. The functions here stand in their place, and put a copy between
variables and operators (variable_copies.py), so that gradients accumulate.
"""

from __future__ import annotations

import functools
import inspect
from types import MappingProxyType, ModuleType
from typing import Any, Callable, Mapping, Sequence

import mxnet as mx
from mxnet.symbol.numpy import _Symbol as NumpySymbol

from .. import library
from ..checkpoints.operator_inputs import operator_inputs
from ..errors import Error
from ..operator_documentation import ATTRIBUTES, DOCUMENTATION
from . import mxnet_loaders, packed_words, v2_functions, variable_copies, visualization


def _call(generated: Callable, *arguments: Any, **keywords: Any) -> Any:
    """Calls MXNet's function; a message of libbmx comes out as a bmx.Error, without MXNet's stack around it."""
    try:
        return generated(*arguments, **keywords)
    except mx.base.MXNetError as error:
        _, found, message = str(error).partition("Extension Traceback:\n\t[0] ")
        if not found:
            raise
        raise Error(message.strip()) from None


def _inputs(name: str, attributes: Mapping[str, Any] = MappingProxyType({})) -> list[str]:
    """Names of an operator's inputs, without a bias where it has none."""
    inputs = operator_inputs(name)
    no_bias = str(attributes.get("no_bias", True)) in ("True", "true", "1")
    return [key for key in inputs if not (key == "bias" and no_bias)]


def _mode(F: ModuleType) -> Any:
    """An array that is 1 in inference and 0 or 2 in training, which MXNet tells Dropout, but no custom operator."""
    return F.Dropout(F.ones((1,)), p=0.5)


def _split(name: str, F: ModuleType, arrays: Sequence[Any], keywords: dict) -> tuple[dict, dict]:
    """Inputs by name (None: not given), and attributes."""
    if len(arrays) > len(_inputs(name, {"no_bias": False})):
        raise Error(f"{name}: takes the arrays {', '.join(_inputs(name, keywords))}; {len(arrays)} are given")
    for value in (*arrays, *keywords.values()):
        if isinstance(value, (mx.np.ndarray, NumpySymbol)):
            kind = "mx.nd, not of mx.np: x.as_nd_ndarray()" if F is mx.nd else "mx.sym, not of NumPy: x.as_nd_ndarray()"
            raise Error(f"{name}: takes arrays of {kind} is one")
    given = dict(zip(_inputs(name, {"no_bias": False}), arrays))
    attributes = {}
    for key, value in keywords.items():
        if value is None:
            continue
        if given.get(key) is not None:
            raise Error(f"{name}: {key} is given twice, by position and by name")
        (given if key in _inputs(name, {"no_bias": False}) else attributes)[key] = value
    inputs = {key: given.get(key) for key in _inputs(name, attributes)}
    if any(given[key] is not None and key not in inputs for key in given):
        raise Error(f"{name}: a bias is given, but no_bias is True, the default; pass no_bias=False")
    if "mode" in inputs and inputs["mode"] is None:
        inputs["mode"] = _mode(F)
    return inputs, attributes


def _array_function(operator: str, generated: Callable) -> Callable:
    def function(*arrays, out=None, name=None, attr=None, **attributes):
        inputs, attributes = _split(operator, mx.nd, arrays, attributes)
        missing = [key for key, array in inputs.items() if array is None]
        if missing:
            raise Error(f"{operator}: takes the arrays {', '.join(inputs)}; missing: {', '.join(missing)}")
        ordered = list(inputs.values())
        if mx.autograd.is_recording():
            if packed_words.is_packed(operator, attributes) and inputs["weight"].grad is not None:
                raise packed_words.refuse_gradient(f"{operator}: weight")
            ordered = [mx.nd.identity(x) if x.grad is not None else x for x in ordered]
        return _call(generated, *ordered, out=out, **attributes)

    return function


def _symbol_function(operator: str, generated: Callable) -> Callable:
    def function(*symbols, name=None, attr=None, **attributes):
        name = mx.name.NameManager.current.get(name, operator.lower())
        with mx.name.NameManager(), mx.name.Prefix(name + "_"):
            inputs, attributes = _split(operator, mx.sym, symbols, attributes)
        ordered = []
        for key, symbol in inputs.items():
            if symbol is None:
                symbol = mx.sym.Variable(f"{name}_{key}")
            variable_copies.give_shape(operator, key, symbol, attributes)
            if variable_copies.needed(operator, key, symbol, attributes):
                symbol = variable_copies.copied(symbol)
            ordered.append(symbol)
        with mx.name.NameManager():  # the name is final: another prefix would be one too many
            return _call(generated, *ordered, name=name, attr=attr, **attributes)

    return function


def _describe(function: Callable, name: str, array: str) -> Callable:
    inputs, text = DOCUMENTATION[name]
    text = text.replace("{array}", array)
    extra = (
        "    out : NDArray, optional\n        Where to write the result.\n"
        if array == "NDArray"
        else "    name : str, optional\n        Name of the node.\n"
        "    attr : dict of str, optional\n        Attributes of the node.\n"
    )
    function.__name__ = function.__qualname__ = name
    function.__module__ = "mxnet.ndarray" if array == "NDArray" else "mxnet.symbol"
    function.__doc__ = f"{text}{extra}\n    Returns\n    -------\n    {array}\n    "
    keywords = ATTRIBUTES[name] + (["out"] if array == "NDArray" else ["name", "attr"])
    function.__signature__ = inspect.Signature(
        [inspect.Parameter(key, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for key in inputs.split(", ")]
        + [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None) for key in keywords]
    )
    return function


@functools.lru_cache(maxsize=None)
def register() -> None:
    """Puts the operators into ``mx.nd`` and ``mx.sym``; later calls do nothing."""
    library.load_into_mxnet()
    _install_functions()
    v2_functions.install()
    variable_copies.install({name: operator_inputs(name) for name in DOCUMENTATION})
    packed_words.install()
    mxnet_loaders.install()
    visualization.install()
    _install_backend()
    library.check_sums_of_gradients()
    load = mx.library.load

    @functools.wraps(load)
    def load_and_keep(*arguments, **keywords):
        load(*arguments, **keywords)  # makes the functions of all operators anew, also of these
        _install_functions()

    mx.library.load = load_and_keep


def _install_backend() -> None:
    """Makes ``optimize_for('bmx')`` compile: of symbols, and of Gluon's blocks, which call that of their symbol."""
    plain = mx.sym.Symbol.optimize_for

    @functools.wraps(plain)
    def optimize_for(symbol, backend, *arguments, **keywords):
        if backend != "bmx":
            return plain(symbol, backend, *arguments, **keywords)
        from .engine_operator import optimize  # the compiler, which not everyone needs

        return optimize(symbol, *arguments, **keywords)

    mx.sym.Symbol.optimize_for = optimize_for


def _install_functions() -> None:
    for name in DOCUMENTATION:
        if not hasattr(mx.nd.op, name):  # as after `git pull` in a checkout
            raise Error(
                f"libbmx_mxnet has no operator {name}: it is older than the Python code; build it anew (make build)"
            )
        for modules, make, array in (
            ((mx.nd, mx.nd.op), _array_function, "NDArray"),
            ((mx.sym, mx.sym.op), _symbol_function, "Symbol"),
        ):
            function = _describe(make(name, getattr(modules[1], name)), name, array)
            for module in modules:
                setattr(module, name, function)
