"""Writes a packed network in the operators of BMXNet v2's converter.

======================================  ===============================================================================
QConvolution, QFullyConnected, packed   BinaryInferenceConvolution, BinaryInferenceFullyConnected: sign, popcount, no
                                        more; what else the layer does is in nodes around it
pad_value -1                            a Pad node before the layer
no_offset, a bias                       nodes after the layer: 2 y - K, and the bias, which v2's operators ignore
QActivation of 1 bit                    nothing where packed layers alone read it, for they take the sign themselves;
                                        otherwise _contrib_gradcancel, then det_sign or approx_sign
QActivation of more bits                clip, round_ste
======================================  ===============================================================================
"""

from __future__ import annotations

import math
import re
from typing import Dict, List, Mapping, Optional, Tuple

from ..checkpoints import interchange
from ..checkpoints.q_layers import Q_OPERATORS
from ..checkpoints.symbol_file import Entry, SymbolGraph, SymbolNode

__all__ = ["write_as_v2"]

_CONVOLUTION = ("kernel", "stride", "dilate", "pad", "num_filter", "num_group", "no_bias", "workspace", "layout")
_FULLY_CONNECTED = ("num_hidden", "no_bias", "flatten")
_TRUE = ("True", "true", "1")


def write_as_v2(graph: SymbolGraph, shapes: Mapping[str, Tuple[int, ...]]) -> Dict[str, List[str]]:
    """Replace bmx's and v1's operators in a graph by v2's.

    Parameters
    ----------
    graph : SymbolGraph
        Changed in place.
    shapes : mapping of str to tuple of int
        The shapes of the latent weights of packed layers, by the name of the layer.

    Returns
    -------
    dict of str to list of str
        What original BMXNet v2 cannot read, by the name of the node.
    """
    foreign: Dict[str, List[str]] = {}
    for node in list(graph.nodes):
        if node.name in shapes and node.op in Q_OPERATORS and node.attributes.get("float_input") not in _TRUE:
            foreign[node.name] = _write_layer(graph, node, shapes[node.name])
        elif node.op in Q_OPERATORS:
            foreign[node.name] = [f"{node.op}, for which v2 has no operator"]
    for node in graph.nodes[::-1]:  # those whose signs go into packed layers lose their readers first
        if node.op == "QActivation":
            _write_activation(graph, node)
        elif node.op == "_contrib_round_ste":
            node.op = "round_ste"
    graph.prune()
    return {name: reasons for name, reasons in foreign.items() if reasons}


def _write_layer(graph: SymbolGraph, node: SymbolNode, shape: Tuple[int, ...]) -> List[str]:
    given, convolution = node.attributes, node.op != "QFullyConnected"
    pad = tuple(map(int, re.findall(r"\d+", given.get("pad", "")))) if convolution else ()
    if any(pad) and float(given.get("pad_value", "0")) < 0:
        node.inputs[0] = _pad(graph, node, pad)
        given["pad"] = str((0,) * len(pad))
    after: List[Tuple[str, str, Dict[str, str], Optional[Entry]]] = []
    if given.get("no_offset") in _TRUE:
        after.append(("_mul_scalar", "double", {"scalar": "2.0"}, None))
        after.append(("_minus_scalar", "dot", {"scalar": repr(float(math.prod(shape[1:])))}, None))
    if len(node.inputs) > 2:
        flat = {"shape": str((1, -1, *(1 for _ in shape[2:])))}
        bias = SymbolNode("Reshape", f"{node.name}_bias_per_channel", flat, [node.inputs.pop()])
        graph.nodes.insert(graph.nodes.index(node), bias)
        after.append(("broadcast_add", "biased", {}, Entry(bias)))
    node.op = "BinaryInferenceConvolution" if convolution else "BinaryInferenceFullyConnected"
    names = _CONVOLUTION if convolution else _FULLY_CONNECTED
    node.attributes = {name: given[name] for name in names if given.get(name, "None") != "None"}
    node.attributes["no_bias"] = "True"
    last = node
    for op, name, attributes, other in after:
        following = SymbolNode(op, f"{node.name}_{name}", attributes, [Entry(last)])
        graph.replace(last, Entry(following))
        following.inputs = [Entry(last), *([other] if other is not None else [])]
        graph.nodes.insert(graph.nodes.index(last) + 1, following)
        last = following
    return _not_of_v2(node, shape, convolution)


def _not_of_v2(node: SymbolNode, shape: Tuple[int, ...], convolution: bool) -> List[str]:
    """What v2's operator does not take."""
    found = []
    if interchange.INPUTS_ATTRIBUTE in node.inputs[1].node.attributes:
        found.append(f"{shape[1]} {'channels' if convolution else 'inputs'} not a multiple of the word")
    if node.attributes.get("num_group", "1") != "1":
        found.append(f"num_group={node.attributes['num_group']}")
    if convolution and len(shape) != 4:
        found.append(f"a convolution of {len(shape) - 2} dimension{'s' if len(shape) > 3 else ''}")
    if node.attributes.get("flatten", "True") not in _TRUE:
        found.append("flatten=False")
    return found


def _pad(graph: SymbolGraph, node: SymbolNode, pad: Tuple[int, ...]) -> Entry:
    """The layer's data padded with -1, as v2's layers do it themselves; MXNet pads 4-D and 5-D arrays alone."""
    made: List[SymbolNode] = []

    def add(op: str, name: str, attributes: Dict[str, str]) -> None:
        source = Entry(made[-1]) if made else node.inputs[0]
        made.append(SymbolNode(op, f"{node.name}_{name}", attributes, [source]))

    sizes = (0,) * (3 - len(pad)) + pad if len(pad) == 1 else pad
    width = (0, 0, 0, 0, *(size for each in sizes[-2 if len(pad) < 3 else -3 :] for size in (each, each)))
    if len(pad) == 1:
        add("expand_dims", "image", {"axis": "2"})
    add("Pad", "pad", {"mode": "constant", "pad_width": str(width), "constant_value": "-1"})
    if len(pad) == 1:
        add("squeeze", "row", {"axis": "2"})
    place = graph.nodes.index(node)
    graph.nodes[place:place] = made
    return Entry(made[-1])


def _write_activation(graph: SymbolGraph, node: SymbolNode) -> None:
    given, source = node.attributes, node.inputs[0]
    bits = int(given.get("act_bit", "1"))
    backward_only = given.get("backward_only", "False") in _TRUE
    threshold = given.get("gradient_cancel_threshold", "0.5")
    window = bits == 1 and float(threshold) < 1e38
    if (bits == 1 and _read_by_packed_layers_alone(graph, node)) or (backward_only and not window):
        graph.replace(node, source)
        graph.nodes.remove(node)
        return
    hidden = {name: text for name, text in given.items() if name.startswith("__")}
    steps: List[Tuple[str, Dict[str, str]]] = []
    if window:
        steps.append(("_contrib_gradcancel", {"threshold": threshold}))
    if bits == 1 and not backward_only:
        steps.append(("approx_sign" if given.get("estimator") == "approx_sign" else "det_sign", {}))
    elif bits > 1:
        steps.append(("clip", {"a_min": "0", "a_max": "1"}))
        if bits < 32:
            scale = {"scalar": repr(float(2**bits - 1))}
            steps += [("_mul_scalar", scale), ("round_ste", {}), ("_div_scalar", scale)]
    place, made = graph.nodes.index(node), []
    for number, (op, attributes) in enumerate(steps, 1):
        name = node.name if number == len(steps) else f"{node.name}_{op.strip('_')}"
        made.append(SymbolNode(op, name, {**attributes, **hidden}, [Entry(made[-1]) if made else source]))
    graph.replace(node, Entry(made[-1]))
    graph.nodes[place : place + 1] = made


def _read_by_packed_layers_alone(graph: SymbolGraph, node: SymbolNode) -> bool:
    """Whether a sign goes into packed layers only, perhaps padded with a sign: they take the sign again."""
    for user in graph.consumers(node):
        if user is None:
            return False
        if user.op == "Pad" and abs(float(user.attributes.get("constant_value", "0"))) == 1:
            if user.attributes.get("mode") != "constant" or not _read_by_packed_layers_alone(graph, user):
                return False
        elif not user.op.startswith("BinaryInference") or user.inputs[0].node is not node:
            return False
    return True
