"""The binary weights of a checkpoint, whatever its format, as arrays of -1 and +1."""

from __future__ import annotations

import json
from typing import Dict, Iterator

import numpy as np

from ..errors import Error
from . import interchange
from .constants import evaluate
from .inference import as_float32
from .loading import load_checkpoint
from .q_layers import find_layers, layers_in_subgraphs
from .symbol_file import Entry, SymbolNode, parse_graph

__all__ = ["binary_weights"]

_FLOAT_LAYERS = ("Convolution", "Convolution_v1", "FullyConnected", "Deconvolution")
_SIGNS = ("sign", "_contrib_sign_ste")


def binary_weights(prefix: str, epoch: int) -> Dict[str, np.ndarray]:
    """Read the binary weights of ``<prefix>-symbol.json`` and ``<prefix>-<epoch>.params``, packed or latent.

    Parameters
    ----------
    prefix : str
        Path without ``-symbol.json``.
    epoch : int
        0 or more.

    Returns
    -------
    dict of str to ndarray of int8
        -1 and +1, by the layers' names (without Gluon's ending ``_fwd``), in the order of the network:
        (filters, channels / groups, kernel ...) of a convolution, (units, inputs) of a dense layer. Scaling factors are
        not in them.

    Raises
    ------
    bmx.Error
        If a file is missing or damaged, a weight is missing or depends on the input, or no layer has binary weights.

    Examples
    --------
    >>> import os, tempfile
    >>> import mxnet as mx
    >>> import bmx
    >>> x = mx.sym.QFullyConnected(mx.sym.Variable("data"), num_hidden=2, name="fc")
    >>> weight = mx.nd.array([[0.5, -0.1, 2.0], [-3.0, 0.0, 0.2]])
    >>> prefix = os.path.join(tempfile.mkdtemp(), "net")
    >>> mx.model.save_checkpoint(prefix, 1, x, {"fc_weight": weight}, {})
    >>> bmx.binary_weights(prefix, 1)
    {'fc': array([[ 1, -1,  1],
           [-1,  1,  1]], dtype=int8)}
    """
    symbol, args, aux = load_checkpoint(prefix, epoch)
    graph = parse_graph(json.loads(symbol.tojson()), prefix)
    arrays = {name: as_float32(array.asnumpy()) for name, array in {**args, **aux}.items()}
    layers = {id(layer.node): layer for layer in find_layers(graph, prefix)}
    found: Dict[str, np.ndarray] = {}
    for node in graph.nodes:
        layer = layers.get(id(node))
        if layer is not None and layer.packed:
            words, text = arrays[layer.weight.name], layer.weight.attributes.get(interchange.INPUTS_ATTRIBUTE)
            inputs = None if text is None else int(text)
            shape = interchange.latent_shape(words.shape, 32, layer.units, layer.kernel, inputs)
            weight = interchange.unpack(words, shape)
        elif layer is not None and layer.weight_bit == 1:
            weight = _value(node.inputs[1], arrays, f"{prefix}: layer {node.name!r}")
        elif node.op in _FLOAT_LAYERS and _has_sign(node.inputs[1]):
            weight = _value(node.inputs[1], arrays, f"{prefix}: layer {node.name!r}")
            if not _has_one_magnitude(weight):
                continue
        else:
            continue
        found[_layer_name(node)] = _signs(weight)
    for layer, outer in layers_in_subgraphs(graph, prefix):
        weight = None if layer.weight is None or layer.packed else arrays.get(layer.weight.name)
        if weight is None and layer.weight_bit == 1:
            inside = f"inside the control-flow node {outer.name!r}"
            raise Error(f"{prefix}: layer {layer.name!r} is {inside}; its weights cannot be read")
        if layer.weight_bit == 1:
            found[layer.name] = _signs(weight)
    if not found:
        compiled = any(node.op == "bmx_Compiled" for node in graph.nodes)
        hint = "; it is compiled: take the checkpoint that it was compiled from" if compiled else ""
        raise Error(f"{prefix}-symbol.json: no layer has binary weights{hint}")
    return found


def _has_one_magnitude(weight: np.ndarray) -> bool:
    """Whether each filter's weights are -a and +a for some a > 0 of its own."""
    sizes = np.abs(weight.reshape(len(weight), -1))
    return bool(np.isfinite(sizes).all() and sizes.all() and (sizes == sizes[:, :1]).all())


def _signs(weight: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.where(weight < 0, np.int8(-1), np.int8(1))


def _value(entry: Entry, arrays: Dict[str, np.ndarray], where: str) -> np.ndarray:
    if not entry.node.is_variable:
        return evaluate([entry], arrays, where)[0]
    if entry.node.name not in arrays:
        raise Error(f"{where}: the array 'arg:{entry.node.name}' is missing")
    return arrays[entry.node.name]


def _has_sign(entry: Entry) -> bool:
    """Whether a weight is made of the signs of something."""
    return any(
        node.op in _SIGNS
        or (
            node.op == "QActivation"
            and node.attributes.get("act_bit", "1") == "1"
            and node.attributes.get("backward_only", "False") not in ("True", "true", "1")
        )
        for node in _behind(entry)
    )


def _behind(entry: Entry) -> Iterator[SymbolNode]:
    pending, seen = [entry.node], set()
    while pending:
        node = pending.pop()
        if id(node) not in seen:
            seen.add(id(node))
            yield node
            pending += [source.node for source in node.inputs]


def _layer_name(node: SymbolNode) -> str:
    """The name of its node, or that of the layer whose weight several nodes make binary."""
    weights = [source.name for source in _behind(node.inputs[1]) if source.is_variable]
    if node.op in _FLOAT_LAYERS and len(weights) == 1 and weights[0].endswith("_weight"):
        return weights[0][: -len("_weight")]
    return node.name[: -len("_fwd")] if node.name.endswith("_fwd") else node.name
