"""The Q layers of a graph: their attributes read once, and where their weights come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple

from ..errors import Error
from .symbol_file import SymbolGraph, SymbolNode

__all__ = [
    "ALWAYS_PACKED",
    "Q_OPERATORS",
    "QLayer",
    "extension_attributes",
    "find_layers",
    "gives_signs",
    "is_variable_copy",
    "is_packed",
    "layers_in_subgraphs",
    "normalize_attributes",
    "readers",
    "skip_copies",
]

Q_OPERATORS = ("QConvolution", "QConvolution_v1", "QFullyConnected")
ALWAYS_PACKED = ("BinaryInferenceConvolution", "BinaryInferenceFullyConnected")

# attributes that bmx adds to BMXNet v1's operators, and the defaults that mean v1's behaviour
EXTENSION_DEFAULTS: Dict[str, Dict[str, object]] = {
    "QConvolution": {"pad_value": 0.0, "no_offset": False, "true_gradient": False, "float_input": False},
    "QFullyConnected": {"flatten": True, "no_offset": False, "true_gradient": False, "float_input": False},
    "QActivation": {"gradient_cancel_threshold": 0.5, "estimator": "ste"},
}
EXTENSION_DEFAULTS["QConvolution_v1"] = EXTENSION_DEFAULTS["QConvolution"]


@dataclass
class QLayer:
    """A QConvolution, QConvolution_v1 or QFullyConnected node.

    Attributes
    ----------
    node : SymbolNode
    kernel : tuple of int
        Empty for a fully connected layer.
    units : int
        num_filter or num_hidden.
    groups, act_bit, weight_bit : int
    packed : bool
        binarized_weights_only.
    float_input : bool
        Data that are not -1 and +1 are multiplied as they are.
    scaling_mode : str
    """

    node: SymbolNode
    kernel: Tuple[int, ...]
    units: int
    groups: int
    act_bit: int
    weight_bit: int
    packed: bool
    float_input: bool
    scaling_mode: str

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.node.name

    @property
    def kind(self) -> str:
        """Name of the operator."""
        return self.node.op

    @property
    def weight(self) -> Optional[SymbolNode]:
        """The variable that holds the weight; None where another node computes it."""
        source = skip_copies(self.node.inputs[1].node)
        return source if source.is_variable else None

    @property
    def bias(self) -> Optional[SymbolNode]:
        """The variable that holds the bias; None where there is none or another node computes it."""
        source = skip_copies(self.node.inputs[2].node) if len(self.node.inputs) > 2 else None
        return source if source is not None and source.is_variable else None


def find_layers(graph: SymbolGraph, where: str) -> List[QLayer]:
    """The Q layers of a graph in order, not those inside control-flow nodes.

    Raises
    ------
    bmx.Error
        If an attribute of one is missing or not what its operator takes.
    """
    layers = []
    for node in graph.nodes:
        if node.op in Q_OPERATORS:
            try:
                layers.append(_layer(node))
            except Error as error:
                raise Error(f"{where}: layer {node.name!r}: {error}") from None
    return layers


def _layer(node: SymbolNode) -> QLayer:
    if not 2 <= len(node.inputs) <= 3:
        raise Error(f"it has {len(node.inputs)} inputs; it must have data, weight and perhaps bias")
    convolution = node.op != "QFullyConnected"
    kernel = _tuple(node, "kernel") if convolution else ()
    if convolution and (not 1 <= len(kernel) <= 3 or min(kernel) < 1):
        raise Error(f"kernel is {node.attributes.get('kernel')!r}; it must be 1 to 3 positive integers")
    return QLayer(
        node=node,
        kernel=kernel,
        units=_integer(node, "num_filter" if convolution else "num_hidden", None),
        groups=_integer(node, "num_group", 1) if convolution else 1,
        act_bit=_integer(node, "act_bit", 1),
        weight_bit=_integer(node, "weight_bit", 1),
        packed=_boolean(node, "binarized_weights_only"),
        float_input=_boolean(node, "float_input"),
        scaling_mode=node.attributes.get("scaling_mode", "none"),
    )


def _integer(node: SymbolNode, name: str, default: Optional[int]) -> int:
    text = node.attributes.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\s*\d{1,9}L?\s*", text) or int(text.strip(" L")) < 1:
        raise Error(f"{name} is {text!r}; it must be a positive integer")
    return int(text.strip(" L"))


def _boolean(node: SymbolNode, name: str) -> bool:
    text = node.attributes.get(name, "False")
    if text not in ("True", "true", "1", "False", "false", "0"):
        raise Error(f"{name} is {text!r}; it must be True or False")
    return text in ("True", "true", "1")


def _tuple(node: SymbolNode, name: str) -> Tuple[int, ...]:
    text = node.attributes.get(name, "")
    if not re.fullmatch(r"\s*[\[(]?\s*\d{1,9}L?(\s*,\s*\d{1,9}L?)*\s*,?\s*[\])]?\s*", text):
        raise Error(f"{name} is {text!r}; it must be a tuple of integers such as (3, 3)")
    return tuple(int(number) for number in re.findall(r"\d+", text))


def is_packed(operator: str, attributes: Mapping[str, Any]) -> bool:
    """Whether the weight of a quantized layer holds packed words: its operator or its attributes say so."""
    return operator in ALWAYS_PACKED or str(attributes.get("binarized_weights_only", False)) in ("True", "true", "1")


def normalize_attributes(node: SymbolNode) -> None:
    """Write Python 2's long integers in a node's attributes, ``(5L, 5L)``, as plain ones."""
    for name, text in node.attributes.items():
        if re.fullmatch(r"[\[(]?[\dL,\s]+[\])]?", text):
            node.attributes[name] = text.replace("L", "")


def extension_attributes(node: SymbolNode, default: bool = False) -> List[str]:
    """Names of the node's extension attributes whose value is not (or, with `default`, is) BMXNet v1's behaviour."""
    return [
        name
        for name, value in EXTENSION_DEFAULTS.get(node.op, {}).items()
        if name in node.attributes and _equals(node.attributes[name], value) == default
    ]


def _equals(text: str, value: object) -> bool:
    if isinstance(value, bool):
        return text in (("True", "true", "1") if value else ("False", "false", "0"))
    if isinstance(value, float):
        try:
            return float(text) == value
        except ValueError:
            return False
    return text == value


_MOVES = (
    *("_copy", "identity", "BlockGrad", "stop_gradient", "Flatten", "Reshape", "reshape", "transpose", "SwapAxis"),
    *("expand_dims", "squeeze", "slice", "slice_axis", "SliceChannel", "split", "Concat", "concat"),
)


def gives_signs(node: SymbolNode) -> bool:
    """Whether a node gives nothing but -1 and +1, in training too, as far as can be seen in the graph."""
    given = node.attributes
    if node.op == "QActivation":
        return given.get("act_bit", "1") == "1" and given.get("backward_only", "False") in ("False", "false", "0")
    moves = node.op in _MOVES
    if node.op == "Pooling":  # windows of the other convention may meet no pixel
        moves = given.get("pool_type", "max") == "max" and given.get("pooling_convention", "valid") == "valid"
    elif node.op in ("Pad", "pad"):
        border = float(given.get("constant_value", 0)) if given.get("mode") == "constant" else 1.0
        moves = abs(border) == 1
    return moves and all(gives_signs(entry.node) for entry in node.inputs)


def is_variable_copy(graph: SymbolGraph, node: SymbolNode) -> bool:
    """Whether a node is one of the copies that bmx puts between a variable and Q operators, for right gradients."""
    if node.op != "_copy" or len(node.inputs) != 1 or not node.inputs[0].node.is_variable:
        return False
    copying = (*Q_OPERATORS, "QActivation", "bmx_BatchNorm", "bmx_ReCU", "bmx_RPReLU", "bmx_Scale", "bmx_Shift")
    return all(user is not None and user.op in copying for user in graph.consumers(node))


def layers_in_subgraphs(graph: SymbolGraph, where: str) -> List[Tuple[QLayer, SymbolNode]]:
    """Q layers inside control-flow nodes, each with the outermost such node."""
    found = []
    for node in graph.nodes:
        for inner in node.subgraphs:
            layers = find_layers(inner, where) + [layer for layer, _ in layers_in_subgraphs(inner, where)]
            found += [(layer, node) for layer in layers]
    return found


def readers(graph: SymbolGraph, node: SymbolNode) -> List[Tuple[Optional[SymbolNode], int]]:
    """Who reads a node's value, ``_copy`` nodes looked through: (node, position among its inputs).

    The network's outputs are (None, 0).
    """
    found: List[Tuple[Optional[SymbolNode], int]] = [(None, 0) for entry in graph.heads if entry.node is node]
    for user in graph.nodes:
        for position, entry in enumerate(user.inputs):
            if entry.node is node:
                found += readers(graph, user) if user.op == "_copy" else [(user, position)]
    return found


def skip_copies(node: SymbolNode) -> SymbolNode:
    """The node whose value a chain of ``_copy`` nodes hands on."""
    while node.op == "_copy" and len(node.inputs) == 1:
        node = node.inputs[0].node
    return node
