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

from typing import Dict

from .symbol_file import Graph

__all__ = ["translate"]

_NO_WINDOW = "3e38"
_PACKED = {"act_bit": "1", "weight_bit": "1", "binarized_weights_only": "True"}


def translate(graph: Graph) -> None:
    """Replace BMXNet v2's operators in a graph; all others stay as they are."""
    for node in graph.nodes:
        given = node.attributes
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
