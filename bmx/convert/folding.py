"""Weights that are computed from parameters alone become parameters, so that they can be packed.

Layers whose weights have a quantizer of their own, such as ReCU or SwishSign, hand their operator what this makes of
the latent weights. The operator takes the sign of it, and that is all that a packed file needs.
"""

from __future__ import annotations

from typing import Dict, Set

import numpy as np

from ..checkpoints.constants import evaluate
from ..checkpoints.inference import as_float32
from ..checkpoints.params_file import StoredArray, stored_array
from ..checkpoints.q_layers import QLayer, find_layers
from ..checkpoints.symbol_file import Entry, SymbolGraph, SymbolNode

__all__ = ["fold_weights"]


def fold_weights(graph: SymbolGraph, stored: Dict[str, StoredArray], where: str) -> Dict[str, StoredArray]:
    """Replace the computed weights of 1/1-bit layers, in the graph, by variables that hold their values.

    Parameters
    ----------
    graph : SymbolGraph
        Changed in place.
    stored : dict
        The arrays of the checkpoint; not changed.
    where : str
        The symbol file, for errors.

    Returns
    -------
    dict
        The arrays of the changed graph: those of `stored` that were read for these weights only are not among them.

    Raises
    ------
    bmx.Error
        If MXNet cannot compute a weight.
    """
    parameters = {name.partition(":")[2]: array for name, array in stored.items() if name.startswith("arg:")}
    layers = [layer for layer in find_layers(graph, where) if _is_computed(layer, parameters)]
    if not layers:
        return stored
    sources: Set[str] = set().union(*(_variables(layer.node.inputs[1]) for layer in layers))
    arrays = {name: as_float32(parameters[name].numpy()) for name in sources}
    values = evaluate([layer.node.inputs[1] for layer in layers], arrays, where)
    made = dict(stored)
    for layer, value in zip(layers, values):
        old = layer.node.inputs[1]
        name = _name(graph, layer, made)
        variable = SymbolNode("null", name, {}, [])
        graph.nodes.insert(0, variable)
        layer.node.inputs[1] = Entry(variable)
        source = min(_variables(old), default=min(parameters, default=None))  # none, where it is made of nothing
        version = 2 if source is None else parameters[source].version
        made[f"arg:{name}"] = stored_array(f"arg:{name}", np.ascontiguousarray(value, np.float32), version)
    left = {name for entry in graph.heads for name in _variables(entry)}
    return {name: a for name, a in made.items() if name.partition(":")[2] in left or name[4:] not in sources}


def _is_computed(layer: QLayer, parameters: Dict[str, StoredArray]) -> bool:
    if layer.packed or layer.weight is not None or (layer.act_bit, layer.weight_bit) != (1, 1):
        return False
    return _variables(layer.node.inputs[1]) <= set(parameters)


def _variables(entry: Entry) -> Set[str]:
    """Names of the variables that an output is computed from."""
    pending, seen, found = [entry.node], set(), set()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.is_variable:
            found.add(node.name)
        pending += [source.node for source in node.inputs]
    return found


def _name(graph: SymbolGraph, layer: QLayer, stored: Dict[str, StoredArray]) -> str:
    base = layer.name[: -len("_fwd")] if layer.name.endswith("_fwd") else layer.name
    taken = {node.name for node in graph.nodes} | {name.partition(":")[2] for name in stored}
    name, number = f"{base}_signs", 1
    while name in taken:
        number += 1
        name = f"{base}_signs{number}"
    return name
