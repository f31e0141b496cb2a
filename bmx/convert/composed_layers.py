"""Finds 1-bit layers that a graph composes of MXNet's operators, as BMXNet v2's Gluon layers do, and names them.

In v2 a layer is ``Convolution(x, det_sign(w))``, then (y + K) / 2. That is a QConvolution: the product without an
offset, or with one where the two nodes after it say so. What else reads a weight, such as the mean
of its absolute values, becomes an array of its own, for packed weights no longer tell it.
"""

from __future__ import annotations

import math
import re
from typing import Dict, List, Optional, Tuple

import numpy as np

from ..checkpoints.constants import evaluate
from ..checkpoints.params_file import StoredArray, stored_array
from ..checkpoints.q_layers import Q_OPERATORS, gives_signs, readers, skip_copies
from ..checkpoints.symbol_file import Entry, SymbolGraph, SymbolNode
from .report import LayerReport

__all__ = ["fold_other_readers", "name_layers", "name_signs"]

_LAYERS = {"Convolution": "QConvolution", "Convolution_v1": "QConvolution", "FullyConnected": "QFullyConnected"}
_FLOAT_ONLY = ("cudnn_tune", "cudnn_off")
_SAME = ("_copy", "identity", "BlockGrad", "stop_gradient", "_identity_with_attr_like_rhs")
_PLUS, _EQUAL = ("elemwise_add", "_plus", "_Plus"), "_equal_scalar"

Arrays = Dict[str, StoredArray]


def name_signs(graph: SymbolGraph) -> None:
    """Let a QActivation be what ``sign + (sign == 0)`` is, with which bmx composes the sign that is never 0."""
    for node in graph.nodes:
        if node.op in _PLUS and len(node.inputs) == 2:
            sign, zero = (entry.node for entry in node.inputs)
            equal = zero.op == _EQUAL and float(zero.attributes.get("scalar", "1")) == 0
            if sign.op == "_contrib_sign_ste" and equal and zero.inputs[0].node is sign:
                node.op, node.inputs = "QActivation", [sign.inputs[0]]
                node.attributes.update({"act_bit": "1", "gradient_cancel_threshold": "3e38", "estimator": "ste"})
    graph.prune()


def name_layers(graph: SymbolGraph, stored: Arrays, any_input: bool) -> List[LayerReport]:
    """Make Q layers of the convolutions and dense layers that multiply by the signs of stored weights.

    Parameters
    ----------
    graph : SymbolGraph
        Changed in place.
    stored : dict of str to StoredArray
    any_input : bool
        Also those whose input is not signs, as layers with ``float_input``.

    Returns
    -------
    list of LayerReport
        The layers with signs of stored weights that cannot be Q layers, and why.
    """
    others: List[LayerReport] = []
    for node in graph.nodes:
        weight = _signed_weight(node, stored) if node.op in _LAYERS else None
        if weight is None:
            continue
        reason = ""
        if any(map(int, re.findall(r"\d+", node.attributes.get("pad", "")))):
            reason = "it pads with 0, which is no sign"
        elif node.attributes.get("layout", "None") not in ("None", "NCW", "NCHW", "NCDHW"):
            reason = f"its layout is {node.attributes['layout']}"
        elif not any_input and not gives_signs(node.inputs[0].node):
            reason = "its input is not -1 and +1, and a packed layer takes the sign of its input"
        if reason:
            size = len(stored[f"arg:{weight.name}"].values)
            others.append(LayerReport(node.name, node.op, 32, 1, False, size, size, reason))
        else:
            _make_layer(graph, node, weight, math.prod(stored[f"arg:{weight.name}"].shape[1:]))
    graph.prune()
    return others


def _signed_weight(node: SymbolNode, stored: Arrays) -> Optional[SymbolNode]:
    """The stored variable whose sign is a layer's weight."""
    sign = node.inputs[1].node if len(node.inputs) > 1 else node
    if sign.op != "QActivation" or not gives_signs(sign):
        return None
    source = _value_of(sign.inputs[0].node)
    return source if source.is_variable and f"arg:{source.name}" in stored else None


def _value_of(node: SymbolNode) -> SymbolNode:
    """The node whose value a node has, with another gradient."""
    while True:
        inputs = [entry.node for entry in node.inputs]
        window = node.op == "QActivation" and node.attributes.get("backward_only") in ("True", "true", "1")
        if node.op in _SAME or window:
            node = inputs[0]
        elif node.op == "where" and _blocked(inputs[2]) is inputs[1]:
            node = inputs[1]
        elif node.op in _PLUS and _blocked(inputs[0]) is not None and _is_zero(inputs[1]):
            node = _blocked(inputs[0])
        else:
            return node


def _blocked(node: SymbolNode) -> Optional[SymbolNode]:
    return node.inputs[0].node if node.op in ("BlockGrad", "stop_gradient") else None


def _is_zero(node: SymbolNode) -> bool:
    """Whether a node is ``x - BlockGrad(x)``, which only carries a gradient."""
    difference = node.op in ("elemwise_sub", "_minus", "_Minus")
    return difference and _blocked(node.inputs[1].node) is node.inputs[0].node


def _make_layer(graph: SymbolGraph, node: SymbolNode, weight: SymbolNode, inputs: int) -> None:
    node.op = _LAYERS[node.op]
    node.inputs[1] = Entry(weight)
    for name in _FLOAT_ONLY:
        node.attributes.pop(name, None)
    node.attributes.setdefault("no_bias", "False")  # Gluon writes it; MXNet's default is not that of Q layers
    node.attributes.update({"act_bit": "1", "weight_bit": "1", "float_input": "True"})  # no matter where it is signs
    offset = _offset(graph, node, inputs) if len(node.inputs) == 2 else None
    if offset is None:
        node.attributes["no_offset"] = "True"
    else:
        node.attributes["true_gradient"] = "True"
        graph.replace(offset, Entry(node))


def _offset(graph: SymbolGraph, node: SymbolNode, inputs: int) -> Optional[SymbolNode]:
    """The last node of ``(y + K) / 2``, which nothing else reads."""
    plus = _only_reader(graph, node, ("_plus_scalar", "_PlusScalar"), inputs)
    half = _only_reader(graph, plus, ("_div_scalar", "_DivScalar"), 2) if plus is not None else None
    if plus is not None and half is None:
        half = _only_reader(graph, plus, ("_mul_scalar", "_MulScalar"), 0.5)
    return half


def _only_reader(
    graph: SymbolGraph, node: SymbolNode, operators: Tuple[str, ...], number: float
) -> Optional[SymbolNode]:
    users = graph.consumers(node)
    if len(users) != 1 or users[0] is None or users[0].op not in operators:
        return None
    return users[0] if float(users[0].attributes.get("scalar", "nan")) == number else None


def fold_other_readers(graph: SymbolGraph, stored: Arrays, layers: List[SymbolNode], where: str) -> List[str]:
    """Store what the graph computes of the weights of layers, apart from the layers, as arrays of their own.

    Parameters
    ----------
    graph, stored
        Changed in place.
    layers : list of SymbolNode
        Q layers.
    where : str
        The file, for errors.

    Returns
    -------
    list of str
        The names of the new arrays.
    """
    constant = {id(node) for node in graph.nodes if node.is_variable and f"arg:{node.name}" in stored}
    for node in graph.nodes:
        if node.op not in Q_OPERATORS and node.inputs and all(id(entry.node) in constant for entry in node.inputs):
            constant.add(id(node))
    of_weights = {id(skip_copies(layer.inputs[1].node)) for layer in layers}
    dependent = set(of_weights)
    for node in graph.nodes:
        if id(node) in constant and any(id(entry.node) in dependent for entry in node.inputs):
            dependent.add(id(node))
    last = [
        node
        for node in graph.nodes
        if id(node) in dependent
        and not node.is_variable
        and node.op != "_copy"
        and any(user is None or id(user) not in constant for user, _ in readers(graph, node))
    ]
    if not last:
        return []
    parameters = {name[4:]: array.numpy() for name, array in stored.items() if name.startswith("arg:")}
    version = max(array.version for array in stored.values())
    for node, value in zip(last, evaluate([Entry(node) for node in last], parameters, where)):
        value = np.ascontiguousarray(value)
        node.op, node.inputs, node.attributes = "null", [], {"__shape__": str(value.shape)}
        stored[f"arg:{node.name}"] = stored_array(f"arg:{node.name}", value, version)
    graph.prune()
    return [node.name for node in last]
