"""MXNet's own ways to load a checkpoint, for packed weights and for v2's shapes.

``mx.model.load_checkpoint``, and with it ``Module.load``, gives an array as the file has it. Files of BMXNet have
packed weights in one dimension (2017), in 64-bit words or as integers, and weights of which the symbol does not know
all sizes (v2, whose layers find their channels at the first call). Here the arrays become words of the type and shape
that the operators infer, and the symbol learns the shapes. Where a module or an executor takes arrays from elsewhere,
words are laid out for those that it has: a numeric copy of words would destroy them.
"""

from __future__ import annotations

import functools
import inspect
import json
from typing import Any, Dict, Iterator, Mapping, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error
from ..journal import finish
from .packed_words import packed_variables

__all__ = ["install"]

Arrays = Dict[str, mx.nd.NDArray]


def install() -> None:
    """Have MXNet's loaders, modules and executors take packed words of every type and shape. To be called once."""
    plain_load, plain_init = mx.model.load_checkpoint, mx.mod.Module.init_params
    plain_set, plain_copy = mx.mod.Module.set_params, mx.executor.Executor.copy_params_from

    @functools.wraps(plain_load)
    def load_checkpoint(prefix, epoch):
        finish(prefix)
        symbol, arg_params, aux_params = plain_load(prefix, epoch)
        return symbol, _declare(symbol, arg_params, f"{prefix}-{epoch:04d}.params"), aux_params

    @functools.wraps(plain_init)
    def init_params(module, *arguments, **keywords):
        call = inspect.signature(plain_init).bind(module, *arguments, **keywords)
        given = call.arguments.get("arg_params")
        if module.binded and given is not None:
            call.arguments["arg_params"] = _laid_out(module.symbol, given, module._arg_params)
        return plain_init(*call.args, **call.kwargs)

    @functools.wraps(plain_set)
    def set_params(module, arg_params, *arguments, **keywords):
        if module.binded and arg_params is not None:
            arg_params = _laid_out(module.symbol, arg_params, module._arg_params)
        return plain_set(module, arg_params, *arguments, **keywords)

    @functools.wraps(plain_copy)
    def copy_params_from(executor, arg_params, *arguments, **keywords):
        arg_params = _laid_out(executor._symbol, arg_params, executor.arg_dict)
        return plain_copy(executor, arg_params, *arguments, **keywords)

    for module in (mx.model, mx.module.module, mx.rnn.rnn):
        module.load_checkpoint = load_checkpoint
    mx.mod.Module.init_params, mx.mod.Module.set_params = init_params, set_params
    mx.executor.Executor.copy_params_from = copy_params_from


def _declare(symbol: mx.sym.Symbol, arg_params: Arrays, where: str) -> Arrays:
    """The arrays with packed words as the operators infer them; the symbol learns the shapes that it does not know."""
    from ..checkpoints import interchange
    from ..checkpoints.loading import declared, to_ndarray
    from ..checkpoints.v2_operators import is_incomplete

    arg_params, internals = dict(arg_params), symbol.get_internals()
    foreign = {
        name: arg_params[name]
        for name in packed_variables(symbol)
        if name in arg_params and _is_foreign(internals[name], arg_params[name])
    }
    for name, words, shape in _packed(symbol, foreign, where):
        arg_params[name] = to_ndarray(interchange.change_word_bits(words, shape, 32))
        internals[name]._set_attr(**declared(shape, 32))
    for name in set(symbol.list_arguments()) & set(arg_params):
        if is_incomplete(internals[name].attr("__shape__")):
            internals[name]._set_attr(__shape__=str(arg_params[name].shape))
    return arg_params


def _is_foreign(variable: mx.sym.Symbol, words: mx.nd.NDArray) -> bool:
    """Whether MXNet would make an array of another type or shape for these words."""
    declared = variable.attr("__dtype__") == "1"
    return words.ndim == 1 or words.dtype != (np.float64 if declared else np.float32)


def _laid_out(symbol: mx.sym.Symbol, given: Mapping[str, Any], own: Mapping[str, mx.nd.NDArray]) -> Mapping[str, Any]:
    """The given arrays, with packed words laid out as those that a module or an executor has."""
    others = [
        name
        for name in packed_variables(symbol)
        if name in given
        and name in own
        and (own[name].dtype, own[name].shape) != (given[name].dtype, given[name].shape)
    ]
    if not others:
        return given
    from ..checkpoints import interchange
    from ..checkpoints.loading import to_ndarray

    result = dict(given)
    for name, words, shape in _packed(symbol, {name: given[name] for name in others}, "parameters"):
        word_bits = 64 if own[name].dtype in (np.float64, np.int64) else 32
        bits = interchange.change_word_bits(words, shape, word_bits)
        if bits.size != own[name].size:
            raise Error(f"parameters: {name!r} holds {shape} bits; the module has {own[name].shape} words for it")
        result[name] = to_ndarray(bits.reshape(own[name].shape).view(own[name].dtype))
    return result


def _packed(
    symbol: mx.sym.Symbol, arrays: Mapping[str, mx.nd.NDArray], where: str
) -> Iterator[Tuple[str, np.ndarray, Tuple[int, ...]]]:
    """The arrays, which hold packed words, by name, with the shape of the weight that each stands for."""
    if not arrays:
        return
    from ..checkpoints.loading import packed_weight_shape
    from ..checkpoints.q_layers import find_layers
    from ..checkpoints.symbol_file import parse_graph
    from ..checkpoints.v2_operators import translate

    graph = parse_graph(json.loads(symbol.tojson()), where)
    translate(graph)
    for layer in find_layers(graph, where):
        if layer.packed and layer.weight is not None and layer.weight.name in arrays:
            words = arrays[layer.weight.name].asnumpy()
            try:
                yield layer.weight.name, words, packed_weight_shape(layer, words)
            except Error as error:
                raise Error(f"{where}: layer {layer.name!r}: {error}") from None
