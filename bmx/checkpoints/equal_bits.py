"""Layers whose input bits are all the same, or nearly: they compute a constant, and nothing is learnt through them.

The usual mistake is a ReLU before a sign, which then sees no negative number: a network whose blocks of convolution,
BatchNorm and ReLU were kept in front of binary layers has the accuracy of a guess, and nothing else tells why. Two
things are looked at:

- the graph: what is never negative whatever the input and the parameters (`in_graph`);
- samples: which share of the bits is +1 (`in_values`). A channel here and there whose bit never changes is usual in
  networks that work, so that all bits together are judged, and only what is far from usual is named: 30 to 70 % of the
  bits of trained networks are +1, after a max pooling up to 95 %.

Nodes and graphs are those of MXNet's symbols, `symbol_file`.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .symbol_file import Entry, SymbolGraph, SymbolNode

__all__ = ["Sign", "find_signs", "in_graph", "in_values", "is_shifted", "is_untrained"]

MOST_ALIKE = 0.99  # share of bits that are the same number, above which a layer is named
MOST_CONSTANT = 0.995  # share of bits that are their channel's usual one; of so few changes, nothing can be learnt
_FEWEST = 64  # bits that are judged
_FEWEST_OF_A_CHANNEL = 8

_PACKED = ("BinaryInferenceConvolution", "BinaryInferenceFullyConnected")
_Q_LAYERS = ("QConvolution", "QConvolution_v1", "QFullyConnected", *_PACKED)
_PRODUCTS = (*_Q_LAYERS, "Convolution", "Convolution_v1", "FullyConnected")
_SIGNS = ("_contrib_sign_ste", "sign")
_SUMS = ("elemwise_add", "_plus", "_Plus", "broadcast_add", "broadcast_plus", "add_n", "ElementWiseSum")
_LARGER = ("_maximum", "_Maximum", "broadcast_maximum")
_OF_ALL = (*_SUMS, "elemwise_mul", "_mul", "broadcast_mul", "_minimum", "_Minimum", "broadcast_minimum")
# What hands on the numbers of its first input, perhaps fewer of them or larger ones, and no others.
_MOVES = (
    *("Dropout", "Flatten", "flatten", "Reshape", "reshape", "transpose", "expand_dims", "squeeze", "slice", "Cast"),
    *("slice_axis", "slice_like", "SliceChannel", "split", "SwapAxis", "_copy", "identity", "BlockGrad", "repeat"),
    *("tile", "broadcast_to", "broadcast_like", "broadcast_axis", "UpSampling", "max", "Concat", "concat", "stack"),
)
_NEVER_NEGATIVE = {
    **{"relu": "ReLU", "sigmoid": "sigmoid", "hard_sigmoid": "hard sigmoid", "abs": "absolute value", "sqrt": "root"},
    **{"square": "square", "exp": "exponential", "softmax": "softmax", "SoftmaxActivation": "softmax"},
    "SoftmaxOutput": "softmax",
}
_ACTIVATIONS = {"relu": "ReLU", "sigmoid": "sigmoid", "softrelu": "softplus"}
_NORMS = ("BatchNorm", "BatchNorm_v1", "bmx_BatchNorm", "_contrib_SyncBatchNorm")


class Sign(NamedTuple):
    """A place where signs are taken: of what, and the layers that read them."""

    source: Entry
    layers: Tuple[str, ...]

    def __str__(self) -> str:
        more = f" and {len(self.layers) - 2} more" if len(self.layers) > 2 else ""
        return ", ".join(self.layers[:2]) + more


def find_signs(graph: SymbolGraph) -> List[Sign]:
    """The signs of a graph, in order. A layer that takes the signs of signs has none of its own."""
    users: Dict[int, List[SymbolNode]] = {}
    for node in graph.nodes:
        for entry in node.inputs[: 1 if node.op in _PRODUCTS else None]:
            users.setdefault(id(entry.node), []).append(node)
    found = []
    for node in graph.nodes:
        source = _signed(node)
        if source is not None:
            layers = [node] if node.op in _PRODUCTS else list(_products_after(node, users))
            if layers:  # weights have signs too
                found.append(Sign(source, tuple(_name(layer) for layer in layers)))
    return found


def in_graph(graph: SymbolGraph) -> Dict[Sign, str]:
    """The signs of what is never negative, each with a line for people: the layers, what is wrong, and what to do."""
    reasons = _never_negative(graph)
    return {
        sign: f"{sign}: all bits of the input are +1, because {reasons[id(sign.source.node)]}"
        for sign in find_signs(graph)
        if id(sign.source.node) in reasons
    }


def in_values(signs: Sequence[Sign], values: Sequence[np.ndarray]) -> List[str]:
    """Lines for people about the signs whose bits are nearly all the same.

    Parameters
    ----------
    signs : sequence of Sign
    values : sequence of ndarray (batch, channels, ...)
        What each takes the sign of.
    """
    lines = []
    for sign, numbers in zip(signs, values):
        what = _judge(numbers)
        if what is not None:
            lines.append(f"{sign}: {what}; {_likely(sign.source)}")
    return lines


# --- signs in a graph -----------------------------------------------------------------------------------------------


def _signed(node: SymbolNode) -> Optional[Entry]:
    """What a node takes the sign of; None if it does no such thing, or there are only signs already."""
    if node.op == "QActivation" and not _flag(node, "backward_only") and node.attributes.get("act_bit", "1") == "1":
        source = node.inputs[0]
    elif node.op in _Q_LAYERS and _takes_signs(node):
        source = node.inputs[0]
    elif _is_composed_sign(node):
        source = node.inputs[0].node.inputs[0]
    else:
        return None
    return None if _are_signs(source) else source


def _takes_signs(node: SymbolNode) -> bool:
    """Whether a layer takes the sign of its input: v1's do, Gluon's multiply it as it is."""
    return (_is_packed(node) or node.attributes.get("act_bit", "1") == "1") and not _flag(node, "float_input")


def _is_packed(node: SymbolNode) -> bool:
    return node.op in _PACKED or _flag(node, "binarized_weights_only")


def _is_composed_sign(node: SymbolNode) -> bool:
    """Whether a node is ``s + (s == 0)`` of a sign s: `bmx.quantization.det_sign` without bmx's operators."""
    if node.op not in _SUMS or len(node.inputs) != 2:
        return False
    sign, zero = (entry.node for entry in node.inputs)
    return sign.op in _SIGNS and zero.op == "_equal_scalar" and zero.inputs[0].node is sign


def _are_signs(entry: Entry) -> bool:
    """Whether numbers are -1 and +1, as those of a sign that only were moved."""
    node = entry.node
    while node.op in _MOVES or _is_maximum(node) or _is_border(node) or _passes(node):
        node = node.inputs[0].node
    return (
        node.op == "QActivation" and node.attributes.get("act_bit", "1") == "1" and not _flag(node, "backward_only")
    ) or _is_composed_sign(node)


def _products_after(node: SymbolNode, users: Mapping[int, List[SymbolNode]]) -> Iterator[SymbolNode]:
    """The layers that multiply what a node gives, as it is or moved."""
    queue, seen = [node], {id(node)}
    for node in queue:
        for user in users.get(id(node), ()):
            if id(user) in seen:
                continue
            seen.add(id(user))
            if user.op in _PRODUCTS:
                yield user
            elif user.op in (*_MOVES, *_SUMS, *_SIGNS, "QActivation") or _is_maximum(user) or _is_border(user):
                queue.append(user)


def _is_maximum(node: SymbolNode) -> bool:
    return node.op in ("Pooling", "Pooling_v1") and node.attributes.get("pool_type", "max") == "max"


def _is_border(node: SymbolNode) -> bool:
    return node.op in ("Pad", "pad")


def _passes(node: SymbolNode) -> bool:
    """Whether a QActivation only has a gradient of its own."""
    return node.op == "QActivation" and (_flag(node, "backward_only") or node.attributes.get("act_bit") == "32")


def _flag(node: SymbolNode, name: str) -> bool:
    return node.attributes.get(name, "False") in ("True", "true", "1")


def _number(node: SymbolNode, name: str, default: float) -> float:
    try:
        return float(node.attributes.get(name, default))
    except ValueError:
        return float("nan")


def _name(node: SymbolNode) -> str:
    return node.name[: -len("_fwd")] if node.name.endswith("_fwd") else node.name


# --- what is never negative -----------------------------------------------------------------------------------------


def _never_negative(graph: SymbolGraph) -> Dict[int, str]:
    """By the id of a node that gives no negative number: why, and what to do."""
    found: Dict[int, str] = {}
    for node in graph.nodes:
        reason = _source(node)
        if node.op in _LARGER:  # one that is never negative is enough
            reason = next((found[id(entry.node)] for entry in node.inputs if id(entry.node) in found), None)
        if reason is None and _keeps(node):
            inputs = node.inputs if node.op in _OF_ALL else node.inputs[:1]
            inputs = node.inputs[1:] if node.op == "where" else inputs
            inputs = node.inputs if node.op in ("Concat", "concat", "stack") else inputs
            inputs = [entry for entry in inputs if not _is_zero(entry.node)]
            if inputs and all(id(entry.node) in found for entry in inputs):
                reason = found[id(inputs[0].node)]
        if reason is not None:
            found[id(node)] = reason
    return found


def _is_zero(node: SymbolNode) -> bool:
    """Whether a node is ``s - BlockGrad(s)``, which is added for its gradient (`bmx.quantization.gradient_only`)."""
    if node.op not in ("elemwise_sub", "_minus", "_Minus") or len(node.inputs) != 2:
        return False
    other = node.inputs[1].node
    return other.op == "BlockGrad" and other.inputs[0].node is node.inputs[0].node


def _source(node: SymbolNode) -> Optional[str]:
    """Why a node gives no negative number, whatever it reads."""
    kind = _NEVER_NEGATIVE.get(node.op)
    if node.op == "Activation":
        kind = _ACTIVATIONS.get(node.attributes.get("act_type", ""))
    elif node.op == "clip" and _number(node, "a_min", -1) >= 0:
        kind = "clip"
    elif node.op == "_maximum_scalar" and _number(node, "scalar", -1) >= 0:
        kind = "maximum"
    elif node.op == "QActivation" and not _flag(node, "backward_only"):
        bits = _number(node, "act_bit", 1)
        kind = f"quantizer to {bits:.0f} bits" if 1 < bits < 32 else None
    elif node.op in _Q_LAYERS:
        binary = _is_packed(node) or node.attributes.get("weight_bit", "1") == "1"
        signs = _takes_signs(node) or _are_signs(node.inputs[0])
        if binary and signs and not _flag(node, "no_offset") and len(node.inputs) == 2:
            return f"{_name(node)!r} before it gives a count of equal bits, 0 or more; put a BatchNorm between them"
    if kind is None:
        return None
    name = _name(node)
    return f"the {kind} before it ({name!r}) gives no negative number; remove it, or put a BatchNorm between them"


def _keeps(node: SymbolNode) -> bool:
    """Whether a node gives no negative number if it reads none."""
    if node.op in ("_plus_scalar", "_PlusScalar", "_mul_scalar", "_MulScalar", "_div_scalar", "_DivScalar"):
        return _number(node, "scalar", -1) >= 0
    if _is_border(node):
        return node.attributes.get("mode", "constant") != "constant" or _number(node, "constant_value", 0) >= 0
    kept = (*_MOVES, *_OF_ALL, "where", "mean", "sum", "Pooling", "Pooling_v1")
    return node.op in kept or _passes(node)


# --- what samples show ----------------------------------------------------------------------------------------------


def _judge(numbers: np.ndarray) -> Optional[str]:
    """What is wrong with the signs of numbers, if anything is."""
    bits = ~(numbers < 0)
    if bits.size < _FEWEST:
        return None
    share = float(bits.mean())
    alike = max(share, 1 - share)
    if alike >= MOST_ALIKE:
        return f"{_percent(alike)} of the bits of the input are {'+1' if share > 0.5 else '-1'} on samples"
    channels = np.moveaxis(bits, 1, -1).reshape(-1, bits.shape[1]) if bits.ndim > 1 else bits[:, None]
    if len(channels) < _FEWEST_OF_A_CHANNEL:
        return None
    shares = channels.mean(axis=0)
    constant = float(np.maximum(shares, 1 - shares).mean())
    return (
        f"{_percent(constant)} of the bits of the input never change on samples" if constant >= MOST_CONSTANT else None
    )


def _percent(share: float) -> str:
    return "all" if share == 1 else f"{100 * share:.4g} %"


def _likely(entry: Entry) -> str:
    """The likely reason for bits that are alike, from what comes before the sign."""
    node = _origin(entry)
    name = _name(node)
    if node.op in _NORMS:
        return f"the BatchNorm before it ({name!r}) moves them there, by its averages, if it saw few steps, or its beta"
    if node.op == "bmx_Shift":
        return f"the shift before it ({name!r}) moves them there"
    if node.op in _PRODUCTS:
        return f"there is no BatchNorm between it and {name!r}"
    return f"they are those of the input {name!r}" if node.is_variable else f"they come from {name!r} ({node.op})"


def _origin(entry: Entry) -> SymbolNode:
    """The first node before a sign that does more than to move numbers."""
    node = entry.node
    while node.op in _MOVES or _is_maximum(node) or _is_border(node) or _passes(node):
        node = node.inputs[0].node
    return node


def is_shifted(entry: Entry) -> bool:
    """Whether a learned number is added to each channel before a sign: ReActNet's RSign."""
    node = _origin(entry)
    learned = any(source.node.is_variable for source in node.inputs[1:])
    return node.op == "bmx_Shift" or (
        node.op.startswith(("broadcast_add", "broadcast_plus", "broadcast_sub")) and learned
    )


def is_untrained(entry: Entry, parameters: Mapping[str, Any]) -> bool:
    """Whether a BatchNorm before a sign has the moments that it begins with, and so says nothing about the bits."""
    node = _origin(entry)
    if node.op not in _NORMS:
        return False
    mean, variance = (parameters.get(source.node.name) for source in node.inputs[3:5])
    return mean is not None and variance is not None and not np.any(mean) and bool(np.all(np.asarray(variance) == 1))
