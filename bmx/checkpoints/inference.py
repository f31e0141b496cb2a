"""What inference needs of a network: which variables are its inputs, and its graph without labels and losses.

A *label* says what an output should have been. It is told by the graph, not by its name: a variable that reaches the
outputs through the label of an output layer only, such as SoftmaxOutput, which gives the same whatever the label is; or
that meets the network in a loss only, behind its last layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Dict, Iterable, List, Mapping, Optional, Set, Tuple

import numpy as np

from .symbol_file import Entry, SymbolGraph, SymbolNode, input_names, parse_graph

__all__ = ["Inference", "as_float32", "cast_parameters", "for_inference", "is_softmax"]

# Layers that give a prediction, whatever their label is, which is their second input
_OUTPUT_LAYERS = (
    *("SoftmaxOutput", "Softmax", "LinearRegressionOutput", "LogisticRegressionOutput", "MAERegressionOutput"),
    *("SVMOutput", "_sparse_LinearRegressionOutput", "_sparse_LogisticRegressionOutput"),
    "_sparse_MAERegressionOutput",
)
_LOSSES = (
    *("MakeLoss", "make_loss", "_sparse_make_loss", "softmax_cross_entropy"),
    *("CTCLoss", "ctc_loss", "_contrib_CTCLoss", "_contrib_ctc_loss"),
)
# Operators that have parameters, which are their inputs from the second on
_LAYERS = (
    *("Convolution", "Convolution_v1", "Deconvolution", "FullyConnected", "BatchNorm", "BatchNorm_v1", "LayerNorm"),
    *("InstanceNorm", "GroupNorm", "RNN", "Embedding", "_contrib_SyncBatchNorm", "_contrib_DeformableConvolution"),
    *("QConvolution", "QConvolution_v1", "QFullyConnected", "bmx_BatchNorm"),
    *("_npx_convolution", "_npx_deconvolution", "_npx_fully_connected", "_npx_batch_norm", "_npx_embedding"),
)
_OTHER_FLOATS, _INTEGERS = ("1", "2"), ("3", "4", "5", "6", "7")  # MXNet's numbers of types; "0" is float32
_SOFTMAXES = ("SoftmaxOutput", "Softmax", "softmax", "SoftmaxActivation", "_npx_softmax")
_SAME_NUMBERS = ("Reshape", "reshape", "Flatten", "flatten", "_copy", "identity", "squeeze", "expand_dims")


@dataclass
class Inference:
    """A network as inference needs it.

    Attributes
    ----------
    graph : SymbolGraph
        Without outputs that are losses made of labels, if there are others; its parameters are float32.
    inputs : list of str
        The variables that a sample gives, in the order of the network.
    labels : list of str
        The labels of the network.
    placeholders : list of str
        The variables of `graph` that stand for labels; its outputs do not depend on them, unless they are losses.
    losses : bool
        Whether all outputs are losses made of labels.
    left_out : list of str
        The nodes of the outputs that were left out.
    missing : list of str
        Parameters of layers without values.
    """

    graph: SymbolGraph
    inputs: List[str]
    labels: List[str]
    placeholders: List[str]
    losses: bool
    left_out: List[str]
    missing: List[str]


def for_inference(graph: SymbolGraph, stored: Optional[Collection[str]], named: Collection[str] = ()) -> Inference:
    """Find the inputs and labels of a network, and leave out what only training needs.

    Parameters
    ----------
    graph : SymbolGraph
        It stays as it is.
    stored : collection of str or None
        The variables that have values; None if that is not known, but all inputs are named. If all have but the labels,
        as in files of all arrays of an executor, the input is the only variable that layers take as their data, or else
        the one called ``data``.
    named : collection of str
        Variables that are known to be inputs.
    """
    graph = parse_graph(graph.to_json(), "network")
    known = list(graph.variables())
    placeholders, judging = _detach_labels(graph)
    heads, variables = list(graph.heads), _variables(graph.heads) & set(known)
    data, parameters = _roles(graph)
    unknown = set() if stored is None else variables - set(stored)
    missing = (unknown & parameters) - data - set(named)
    inputs = unknown - missing | variables & set(named)
    unsure = variables - (parameters - data) if stored is None else set(inputs)  # inputs or labels of losses
    if not inputs:
        candidates = data & variables
        inputs = candidates if len(candidates) == 1 else candidates & {"data"}
        unsure = variables - (parameters - data)
    losses = any(head.node.op in _LOSSES for head in heads)
    if losses or judging & unsure:  # a label may also be an output itself, for metrics
        sure = inputs & (data | set(named)) if losses else inputs - judging | inputs & (data | set(named))
        inputs, losses = _leave_out_losses(graph, inputs, unsure, sure)
    reached = _variables(graph.heads)
    if losses:
        placeholders += [name for name in known if name in (reached & unsure) - inputs]
    graph.nodes = _needed(graph)
    for node in graph.nodes:
        if node.is_variable and node.attributes.get("__dtype__") in _OTHER_FLOATS:
            del node.attributes["__dtype__"]
    return Inference(
        graph,
        [name for name in known if name in inputs],
        [name for name in known if name not in reached or name in placeholders],
        [name for name in placeholders if name in reached],
        losses,
        [head.node.name for head in heads if head not in graph.heads],
        [name for name in known if name in missing & reached],
    )


def is_softmax(entry: Entry) -> bool:
    """Whether an output of a network is that of a softmax, perhaps reshaped."""
    node = entry.node
    while node.op in _SAME_NUMBERS and node.inputs:
        node = node.inputs[0].node
    return node.op in _SOFTMAXES


def as_float32(array: np.ndarray) -> np.ndarray:
    """A parameter of whatever type its file has, as MXNet's Module has it: cast to float32."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32) if array.dtype.kind in "fiub" else array


def cast_parameters(graph: SymbolGraph, arrays: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Parameters as MXNet's Module has them: float32, but for variables that the graph declares as integers."""
    variables = graph.variables()
    integers = {name for name, node in variables.items() if node.attributes.get("__dtype__") in _INTEGERS}
    return {name: array if name in integers else as_float32(array) for name, array in arrays.items()}


def _detach_labels(graph: SymbolGraph) -> Tuple[List[str], Set[str]]:
    """Give each output layer a label of its own; returns their names, and the variables of the old ones."""
    taken, made, judging = {node.name for node in graph.nodes}, [], []
    for node in list(graph.nodes):
        place = _label_place(node)
        if place is None:
            continue
        name = f"{node.name}_label_"
        while name in taken:
            name += "_"
        taken.add(name)
        made.append(name)
        label = SymbolNode("null", name)
        graph.nodes.insert(graph.nodes.index(node), label)
        judging.append(node.inputs[place])
        node.inputs[place] = Entry(label)
    return made, _variables(judging)


def _label_place(node: SymbolNode) -> Optional[int]:
    """Which input of an output layer is its label; None of other nodes."""
    if node.op in _OUTPUT_LAYERS:
        return 1 if len(node.inputs) > 1 else None
    if node.op != "Custom":
        return None
    names = input_names(node.op, node.attributes)[: len(node.inputs)]
    return next((place for place, name in enumerate(names) if place and name.endswith("label")), None)


def _leave_out_losses(graph: SymbolGraph, inputs: Set[str], unsure: Set[str], sure: Set[str]) -> Tuple[Set[str], bool]:
    """The inputs of a network with losses; outputs that are made of labels are left out, if there are others.

    A label is a variable that reaches a loss and that no layer with parameters sees.
    """
    if not sure:
        return inputs, False
    seen = {head: _variables([head]) & unsure for head in graph.heads}
    needed = set(sure)
    for head, names in seen.items():
        if head.node.op not in _LOSSES and names & sure:
            needed |= names
    kept = [head for head, names in seen.items() if names and names <= needed]
    graph.heads = kept or graph.heads
    return inputs & needed, not kept


def _roles(graph: SymbolGraph) -> Tuple[Set[str], Set[str]]:
    """Variables that are, or become, the data of a layer with parameters; and those of its parameters."""
    layers = [node for node in graph.nodes if node.op in _LAYERS]
    data = _behind([entry for node in layers for entry in node.inputs[:1]], through_parameters=False)
    parameters = _variables([entry for node in layers for entry in node.inputs[1:]])
    return {node.name for node in data.values() if node.is_variable}, parameters


def _needed(graph: SymbolGraph) -> List[SymbolNode]:
    """The nodes that the outputs are made of, in order."""
    found = _behind(graph.heads)
    return [node for node in graph.nodes if id(node) in found]


def _variables(entries: Iterable[Entry]) -> Set[str]:
    """The names of the variables that some values are made of."""
    return {node.name for node in _behind(entries).values() if node.is_variable}


def _behind(entries: Iterable[Entry], through_parameters: bool = True) -> Dict[int, SymbolNode]:
    """The nodes that some values are made of; or those that their data are, without the parameters of layers."""
    found: Dict[int, SymbolNode] = {}
    pending = [entry.node for entry in entries]
    while pending:
        node = pending.pop()
        if id(node) not in found:
            found[id(node)] = node
            sources = node.inputs if through_parameters or node.op not in _LAYERS else node.inputs[:1]
            pending += [entry.node for entry in sources] + node.control_deps
    return found
