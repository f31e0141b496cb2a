"""Looks, before a network is trained, for layers that could not learn: those whose input bits are all the same."""

from __future__ import annotations

import json
from typing import Dict, List

import mxnet as mx

from ..checkpoints.equal_bits import find_signs, in_graph, in_values, is_shifted
from ..checkpoints.symbol_file import Entry, SymbolGraph, parse_graph, to_symbol
from ..gluon.nn import path
from .data import check_mode

_IMAGES = 8  # of a batch: with all their pixels these are enough


def equal_bits(net: mx.gluon.HybridBlock, images: mx.nd.NDArray) -> List[str]:
    """Lines for people about the signs of a network of one input, see `bmx.checkpoints.equal_bits`.

    BatchNorms use the moments of the batch, as they will in training. Signs behind learned shifts (ReActNet's RSign)
    are left alone unless the graph tells: shifts begin at 0, and learn to be useful. Nothing of the network changes.
    """
    check_mode("bmx.training.signs.equal_bits")
    with path("operators", fused=False):
        symbol = net(mx.sym.var("data"))
    graph = parse_graph(json.loads(symbol.tojson()), "the network")
    lines = in_graph(graph)
    signs = [sign for sign in find_signs(graph) if sign not in lines and not is_shifted(sign.source)]
    values = _evaluate(graph, [sign.source for sign in signs], net, images[:_IMAGES]) if signs else []
    return [*lines.values(), *in_values(signs, values)]


def _evaluate(graph: SymbolGraph, entries: List[Entry], net: mx.gluon.HybridBlock, images: mx.nd.NDArray) -> list:
    """What outputs of nodes are in training, computed on the CPU on copies of the parameters."""
    arrays: Dict[str, mx.nd.NDArray] = {param.name: param.list_data()[0] for param in net.collect_params().values()}
    arrays["data"] = images
    symbol = to_symbol(SymbolGraph(graph.nodes, entries, "attrs", {"mxnet_version": ["int", 10901]}), "the network")
    given = [arrays[name].copyto(mx.cpu()) for name in symbol.list_inputs()]
    with mx.autograd.train_mode():
        outputs = mx.nd.CachedOp(symbol)(*given)
    return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]
