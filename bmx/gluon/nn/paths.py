"""What computes a binary layer: bmx's C++ operators or a composition of MXNet's built-in ones.

Both give the same values and gradients. The operators are the fast path on the CPU; on a GPU there are only MXNet's
own. The choice is made where a layer runs or, in a hybridized network, where it is traced: at the first call after
``hybridize()``. MXNet makes the context of the input the current one in both cases, and that decides.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from types import ModuleType
from typing import Callable, Iterator

import mxnet as mx

from ... import composed
from ...errors import Error

_PATHS = ("auto", "operators", "composed")
_current = contextvars.ContextVar("bmx_path", default=("auto", True))


@contextlib.contextmanager
def path(name: str, fused: bool = True) -> Iterator[None]:
    """Choose what computes the binary layers that run, or are traced, inside this context of the current thread.

    A hybridized network keeps the path it was traced with. Call ``hybridize()`` again to have it traced anew: to change
    the path, or after moving a network to another device.

    Parameters
    ----------
    name : {'auto', 'operators', 'composed'}
        'auto', the default outside of any context: operators on the CPU, the composed path on a GPU. 'operators' also
        gives the symbol of a network that was trained on a GPU the operators that the converter looks for.
    fused : bool, default True
        Operators in traced networks: a layer does the work of the QActivation before it, too. With False each layer of
        the network is a node of the graph, for looking at it; values and gradients are the same.

    Raises
    ------
    bmx.Error
        If there is no such path.

    Examples
    --------
    >>> import mxnet as mx
    >>> from bmx.gluon import nn
    >>> layer = nn.QDense(2, in_units=3)
    >>> with path('composed'):
    ...     symbol = layer(mx.sym.var('data'))
    >>> 'QFullyConnected' in symbol.tojson()
    False
    """
    if name not in _PATHS:
        raise Error(f"path {name!r}: allowed are {', '.join(map(repr, _PATHS))}")
    token = _current.set((name, fused))
    try:
        yield
    finally:
        _current.reset(token)


def uses_operators() -> bool:
    """Tell whether bmx's operators compute the layers here and now."""
    chosen, _ = _current.get()
    return chosen == "operators" or (chosen == "auto" and mx.context.current_context().device_type != "gpu")


def fuses(F: ModuleType) -> bool:
    """Tell whether one operator may do the work of several layers here and now: while a graph is traced."""
    return F is mx.sym and _current.get()[1] and uses_operators()


def operator(F: ModuleType, name: str, node: str = "fwd") -> Callable:
    """Return what computes an operator of bmx here and now: a function of its inputs and attributes.

    `node` is the name of its node in a traced graph, inside of the layer's scope.
    """
    if uses_operators():
        return functools.partial(getattr(F, name), name=node)
    return functools.partial(composed.OPERATORS[name], F)
