"""Gluon networks as symbols, in MXNet's NumPy mode too."""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence

import mxnet as mx

from ..errors import Error
from .nn import path

__all__ = ["trace"]


def trace(net: mx.gluon.HybridBlock, call: Sequence[Any] = ("data",), fused: bool = True) -> mx.sym.Symbol:
    """Call a network with symbols and return its outputs, which may be nested lists, as one symbol.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
    call : sequence of str or of lists
        The names of the inputs, nested as the network takes them.
    fused : bool
        See `bmx.gluon.nn.path`.

    Raises
    ------
    bmx.Error
        If the network cannot be called with this number of symbols, or does not return symbols.
    """
    name = getattr(net, "name", "") or type(net).__name__.lower()
    inputs = [_variables(names) for names in call]
    try:
        with path("operators", fused=fused):
            traced = net(*inputs)
    except (AssertionError, AttributeError, TypeError, ValueError) as error:  # of the network's own code
        count = f"{len(call)} symbols ({', '.join(map(str, call))})"
        raise Error(f"{name}: it cannot be called with {count}: {error}") from error
    outputs: List[mx.sym.Symbol] = [output.as_nd_ndarray() for output in _flat(traced)]
    return outputs[0] if len(outputs) == 1 else mx.sym.Group(outputs)


def _variables(names: Any) -> Any:
    """One variable per name, nested like the names."""
    if not isinstance(names, str):
        return [_variables(part) for part in names]
    variable = mx.sym.var(names)
    return variable.as_np_ndarray() if mx.util.is_np_array() else variable


def _flat(outputs: Any) -> Iterator[mx.sym.Symbol]:
    if isinstance(outputs, mx.sym.Symbol):
        yield outputs
    elif isinstance(outputs, (tuple, list)):
        for output in outputs:
            yield from _flat(output)
    else:
        raise Error(f"the network gives a {type(outputs).__name__}, which the compiler cannot trace")
