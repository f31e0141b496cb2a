"""BMXNet v2's own operators in symbol files, which MXNet does not know, become bmx's or MXNet's.

==============================  ======================================================================================
det_sign, approx_sign           QActivation of 1 bit without a window; approx_sign has the gradient 2 - 2 abs(x)
_contrib_gradcancel             QActivation that only cancels the gradient outside its window
round_ste                       _contrib_round_ste
BinaryInferenceConvolution      QConvolution with packed weights, padded with +1; its files pad with -1 in a node before
BinaryInferenceFullyConnected   QFullyConnected with packed weights
==============================  ======================================================================================
"""

from __future__ import annotations

import re
from typing import Dict, Mapping, Optional, Sequence

from .symbol_file import SymbolGraph

__all__ = ["is_incomplete", "translate"]

_NO_WINDOW = "3e38"
_PACKED = {"act_bit": "1", "weight_bit": "1", "binarized_weights_only": "True"}


def is_incomplete(shape: Optional[str]) -> bool:
    """Whether a shape, as the attribute of a variable has it, has sizes that are not known: 0 or -1."""
    return shape is not None and re.search(r"(?<!\d)0(?!\d)|-1", shape) is not None


def translate(graph: SymbolGraph, shapes: Optional[Mapping[str, Sequence[int]]] = None) -> None:
    """Replace BMXNet v2's operators in a graph; all others stay as they are.

    Parameters
    ----------
    graph : SymbolGraph
        Changed in place.
    shapes : mapping of str to sequence of int, optional
        Those of the parameters, by name. Variables of which the graph does not know all sizes have them declared: v2's
        layers find their channels at the first call, and their weights are traced before it. Without them the sign of
        such a variable stays as it is: MXNet cannot infer it through an operator of a library, and loads a composition
        of its own operators (plugin/v2_functions.py).
    """
    for name, node in graph.variables().items():
        if shapes is not None and name in shapes and is_incomplete(node.attributes.get("__shape__")):
            node.attributes["__shape__"] = str(tuple(shapes[name]))
    for node in graph.nodes:
        given = node.attributes
        if shapes is None and any(is_incomplete(entry.node.attributes.get("__shape__")) for entry in node.inputs[:1]):
            continue
        if node.op in ("det_sign", "approx_sign"):
            estimator = {"det_sign": "ste", "approx_sign": "approx_sign"}[node.op]
            node.op = "QActivation"
            given.update({"act_bit": "1", "gradient_cancel_threshold": _NO_WINDOW, "estimator": estimator})
        elif node.op == "_contrib_gradcancel":
            node.op = "QActivation"
            window: Dict[str, str] = {"gradient_cancel_threshold": given.pop("threshold", "1.0")}
            given.update({"act_bit": "1", "backward_only": "True", **window})
        elif node.op == "round_ste":
            node.op = "_contrib_round_ste"
        elif node.op in ("BinaryInferenceConvolution", "BinaryInferenceFullyConnected"):
            node.op = "QConvolution" if node.op.endswith("Convolution") else "QFullyConnected"
            given.update(_PACKED)
