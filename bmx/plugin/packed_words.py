"""Packed words are not numbers: nothing may do arithmetic on them, an optimizer least of all.

A packed weight is an array of bits under the name of a float type (`bmx.checkpoints.interchange`). Its gradient is
zero, but weight decay still multiplies it, and even w + 0 changes the bits of a NaN or of -0.0. So a packed weight
takes no part in training: an executor, and with it Module, has no gradient for it; in Gluon its parameter never has
one; where the caller brings the arrays of gradients, the call is refused. The rest of the network trains as ever.
"""

from __future__ import annotations

import functools
import json
from typing import Any, List, Mapping

import mxnet as mx

from ..checkpoints.q_layers import ALWAYS_PACKED, Q_OPERATORS, is_packed
from ..errors import Error

__all__ = ["install", "packed_variables"]

_LAYERS = (*Q_OPERATORS, *ALWAYS_PACKED)
_WAY_OUT = "to train them, unpack the checkpoint (bmx.unpack_checkpoint, bmx unpack); to leave them as they are, {}"


def packed_variables(symbol: mx.sym.Symbol) -> List[str]:
    """Names of the variables that hold packed words, or that the packed weight of a layer is made of."""
    text = symbol.tojson()
    if not any(name in text for name in ("binarized_weights_only", *ALWAYS_PACKED)):
        return []
    nodes = json.loads(text)["nodes"]
    layers = [node for node in nodes if node["op"] in _LAYERS and is_packed(node["op"], node.get("attrs", {}))]
    pending = [node["inputs"][1][0] for node in layers]
    seen, names = set(pending), []
    while pending:
        node = nodes[pending.pop()]
        if node["op"] == "null":
            names.append(node["name"])
        sources = {index for index, *_ in node["inputs"]} - seen
        seen |= sources
        pending += sources
    return names


def refuse_gradient(name: str) -> Error:
    """The error for a call that wants a gradient of packed words in an array of its own."""
    way_out = _WAY_OUT.format("give no gradient array for them (grad_req='null')")
    return Error(f"{name} holds packed bits, which cannot be trained; {way_out}")


class _Words(mx.gluon.Parameter):
    """A parameter that holds packed words: never a gradient, never another type, copied instead of averaged."""

    @property
    def grad_req(self) -> str:
        """Always 'null'."""
        return "null"

    @grad_req.setter
    def grad_req(self, req: str) -> None:
        """Stay without a gradient; whole networks are told to have gradients or to add them."""

    def cast(self, dtype: Any) -> None:
        """Stay what they are: a float16 of such a number would be other bits."""

    def _reduce(self) -> mx.nd.NDArray:
        return self.list_data()[0].copyto(mx.cpu())


def _freeze(symbol: mx.sym.Symbol, parameters: Mapping[str, mx.gluon.Parameter]) -> None:
    for name in packed_variables(symbol):
        if name in parameters and type(parameters[name]) is mx.gluon.Parameter:
            parameters[name].grad_req = "null"
            parameters[name].__class__ = _Words


def _without_gradients(symbol: mx.sym.Symbol, grad_req: Any, words: List[str]) -> Any:
    """The gradient requests of an executor's arguments, 'null' for packed words."""
    names = symbol.list_arguments()
    if isinstance(grad_req, str):
        grad_req = dict.fromkeys(names, grad_req)
    elif isinstance(grad_req, (list, tuple)):
        grad_req = dict(zip(names, grad_req))
    return {**grad_req, **dict.fromkeys(words, "null")}


def install() -> None:
    """Have MXNet's executors, modules and blocks keep packed words. To be called once."""
    plain_simple_bind, plain_bind = mx.sym.Symbol.simple_bind, mx.sym.Symbol.bind
    group = mx.module.executor_group.DataParallelExecutorGroup
    plain_get_params = group.get_params
    plain_init, plain_build = mx.gluon.SymbolBlock.__init__, mx.gluon.HybridBlock._build_cache

    @functools.wraps(plain_simple_bind)
    def simple_bind(symbol, ctx, grad_req="write", *arguments, **keywords):
        words = packed_variables(symbol)
        if words and grad_req is not None:
            grad_req = _without_gradients(symbol, grad_req, words)
        return plain_simple_bind(symbol, ctx, grad_req, *arguments, **keywords)

    @functools.wraps(plain_bind)
    def bind(symbol, ctx, args, args_grad=None, grad_req="write", *arguments, **keywords):
        words = packed_variables(symbol) if args_grad is not None else []
        if words:
            wanted = _without_gradients(symbol, grad_req, [])
            given = args_grad if isinstance(args_grad, dict) else dict(zip(symbol.list_arguments(), args_grad))
            for name in words:
                if given.get(name) is not None and wanted.get(name, "null") != "null":
                    raise refuse_gradient(f"bind: the argument {name!r}")
        return plain_bind(symbol, ctx, args, args_grad, grad_req, *arguments, **keywords)

    @functools.wraps(plain_get_params)
    def get_params(executors, arg_params, aux_params):
        plain_get_params(executors, arg_params, aux_params)  # the average over the devices
        arrays = dict(zip(executors.param_names, executors.param_arrays))
        for name in packed_variables(executors.symbol):
            if name in arrays:
                arrays[name][0].copyto(arg_params[name])

    @functools.wraps(plain_init)
    def init(block, *arguments, **keywords):
        plain_init(block, *arguments, **keywords)
        _freeze(block._cached_graph[1], block.params)

    @functools.wraps(plain_build)
    def build_cache(block, *arguments):
        _freeze(block._get_graph(*arguments)[1], block.collect_params())
        return plain_build(block, *arguments)

    mx.sym.Symbol.simple_bind, mx.sym.Symbol.bind = simple_bind, bind
    group.get_params = get_params
    mx.gluon.SymbolBlock.__init__, mx.gluon.HybridBlock._build_cache = init, build_cache
