"""Shapes of weights that their layers' own graph cannot tell.

Gluon finds the channels of a layer's input at the first call, from the graph of the whole network: MXNet infers the
shape of a weight from the layer that reads it, through whatever is in between. It cannot do so through a custom
operator, to which it hands what it knows and from which it takes what comes back. So while shapes are looked for, a
layer leaves its operator out (`searching` is true), and the graph is traced again once they are known.
"""

from __future__ import annotations

import contextvars
import functools
from typing import List

import mxnet as mx

__all__ = ["install", "searching"]

_searching = contextvars.ContextVar("bmx_searching", default=False)


def searching() -> bool:
    """Whether a graph is being traced only to find shapes, here and now."""
    return _searching.get()


def _waiting(block: mx.gluon.Block) -> List[mx.gluon.Parameter]:
    """The weights behind custom operators whose shapes are not known yet."""
    parameters = block.collect_params().values()
    return [p for p in parameters if getattr(p, "centered", False) and not all(size > 0 for size in p.shape)]


def install() -> None:
    """Have Gluon's blocks trace such networks twice. To be called once."""
    plain_infer, plain_build = mx.gluon.HybridBlock._deferred_infer_shape, mx.gluon.HybridBlock._build_cache

    @functools.wraps(plain_infer)
    def infer(block, *arguments):
        if not _waiting(block):
            return plain_infer(block, *arguments)
        token = _searching.set(True)
        block._cached_graph = ()
        try:
            plain_infer(block, *arguments)
        finally:
            block._cached_graph = ()
            _searching.reset(token)

    @functools.wraps(plain_build)
    def build(block, *arguments):
        if _waiting(block):
            block._deferred_infer_shape(*arguments)
            for parameter in block.collect_params().values():
                parameter._finish_deferred_init()
        return plain_build(block, *arguments)

    mx.gluon.HybridBlock._deferred_infer_shape, mx.gluon.HybridBlock._build_cache = infer, build
