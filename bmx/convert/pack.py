"""Packs the 1-bit layers of a network: the symbol graph is rewritten in place, the packed arrays are returned.

A packed layer gets ``binarized_weights_only="True"``. ``scaling_mode="forward"`` multiplies a layer's output, bias
included, by mean|w|, which packed weights no longer tell; that number becomes a ``_mul_scalar`` node after the layer:
the same multiplication at the same place, equal up to rounding. A layer's window on the gradient of its data becomes a
QActivation before it, as BMXNet's networks have it. The copies that bmx puts before Q layers for training are taken
out, and so are bmx's own attributes where they say what BMXNet v1 does anyway: ``float_input`` does so where the input
is a sign already.

Layers that are composed of MXNet's operators, as BMXNet v2 writes them, become Q layers first (`composed_layers`). With
``version="v2"`` the packed network is written in v2's operators in the end (`v2_format`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Dict, List, Tuple

import numpy as np

from ..checkpoints import interchange
from ..checkpoints.inference import as_float32
from ..checkpoints.loading import declared, packed_weight_shape, shapes_by_name
from ..checkpoints.params_file import StoredArray, encode_array
from ..checkpoints.q_layers import (
    QLayer,
    extension_attributes,
    find_layers,
    gives_signs,
    is_variable_copy,
    layers_in_subgraphs,
    readers,
)
from ..checkpoints.symbol_file import Entry, SymbolGraph, SymbolNode
from ..checkpoints.v2_operators import translate
from ..errors import Error
from .composed_layers import fold_other_readers, name_layers, name_signs
from .report import LayerReport
from .v2_format import write_as_v2

__all__ = ["pack_network"]

_NEEDS_BMX = "needs bmx, original BMXNet cannot read it: "

Arrays = Dict[str, StoredArray]


def pack_network(
    graph: SymbolGraph, stored: Arrays, word_bits: int, symbol_path: str, params_path: str, version: str = "v1"
) -> Tuple[List[LayerReport], Dict[str, bytes], List[str]]:
    """Pack all layers that can be packed.

    Parameters
    ----------
    graph : SymbolGraph
        Changed in place.
    stored : dict of str to StoredArray
        The checkpoint's arrays. What the network computes of packed weights is added.
    word_bits : {32, 64}
    symbol_path, params_path : str
        For error messages.
    version : {'v1', 'v2'}
        Whose operators are written.

    Returns
    -------
    rows : list of LayerReport
        One for each Q layer.
    records : dict of str to bytes
        New records of the packed arrays, by name, in the format version of the old ones.
    remarks : list of str
        What the user should know that is not about one layer.

    Raises
    ------
    bmx.Error
        If no layer can be packed, or an array of a Q layer is missing or of a wrong shape.
    """
    translate(graph, shapes_by_name(stored))
    name_signs(graph)
    others = name_layers(graph, stored, any_input=version == "v1")
    layers = find_layers(graph, symbol_path)
    inner = layers_in_subgraphs(graph, symbol_path)
    if not layers and not inner and not others:
        raise Error(
            f"{symbol_path}: nothing to pack: the network has no QConvolution or QFullyConnected layer, and no "
            "convolution or dense layer of signs and the signs of weights"
        )
    for layer in layers:
        try:
            _check_arrays(layer, stored)
        except Error as error:
            raise Error(f"{params_path}: layer {layer.name!r}: {error}") from None
    for layer in layers:
        if layer.float_input and gives_signs(layer.node.inputs[0].node):
            del layer.node.attributes["float_input"]  # the sign of a sign is the same
    to_pack = [layer.node for layer in layers if not _own_obstacle(layer, stored)]
    computed = fold_other_readers(graph, stored, to_pack, symbol_path)
    obstacles = _obstacles(graph, layers, stored)
    extensions = _bmx_only if version == "v1" else lambda node: []
    rows: List[LayerReport] = []
    records: Dict[str, bytes] = {}
    counted = set()  # a weight that layers share is listed with the first
    for layer in layers:
        array = stored[_key(layer)] if layer.weight is not None else None
        size = len(array.values) if array is not None and array.name not in counted else 0
        counted.add(array.name if array is not None else None)
        if layer.name in obstacles:
            rows.append(LayerReport.unpacked(layer, size, _remarks(obstacles[layer.name], *extensions(layer.node))))
            continue
        words = interchange.pack(as_float32(array.numpy()), word_bits)
        records[array.name] = encode_array(words, array.version)
        remark, needs = _pack_node(graph, layer, array, word_bits)
        note = _remarks(remark, *(needs if version == "v1" else []))
        rows.append(LayerReport.packed(layer, size, words.nbytes if size else 0, note))
    rows += others
    rows += [LayerReport.unpacked(layer, 0, f"inside the control-flow node {node.name!r}") for layer, node in inner]
    if not records:
        first = "; ".join(f"{row.name}: {row.note}" for row in rows[:3]) + ("; ..." if len(rows) > 3 else "")
        raise Error(f"{symbol_path}: nothing to pack: {first}")
    for layer in layers:
        _split_window(graph, layer.node)
    _remove_training_only(graph)
    if version == "v2" or not any(_NEEDS_BMX in row.note for row in rows):
        _use_plain_batch_norm(graph)
    if version == "v2":
        shapes = {layer.name: stored[_key(layer)].shape for layer in layers if layer.name not in obstacles}
        foreign = write_as_v2(graph, shapes)
        rows = [replace(row, note=_remarks(row.note, *foreign.get(row.name, ()))) for row in rows]
    activations = sorted({text for node in graph.nodes if node.op == "QActivation" for text in _bmx_only(node)})
    remarks = [f"QActivation {_NEEDS_BMX}{', '.join(activations)}"] if activations else []
    if computed:
        remarks.append(f"computed of packed weights, and stored: {', '.join(computed)}")
    return rows, records, remarks


def _key(layer: QLayer) -> str:
    return f"arg:{layer.weight.name}"


def _check_arrays(layer: QLayer, stored: Arrays) -> None:
    """Check that weight and bias of a layer are there and fit its attributes."""
    if layer.units % layer.groups:
        raise Error(f"num_filter {layer.units} is not a multiple of num_group {layer.groups}")
    bias = layer.bias
    if bias is not None:
        if f"arg:{bias.name}" not in stored:
            raise Error(f"the array 'arg:{bias.name}' is missing")
        if stored[f"arg:{bias.name}"].shape != (layer.units,):
            raise Error(f"bias has the shape {stored[f'arg:{bias.name}'].shape}; it must be ({layer.units},)")
    if layer.weight is None:
        return
    if _key(layer) not in stored:
        raise Error(f"the array {_key(layer)!r} is missing")
    array = stored[_key(layer)]
    if layer.packed:
        packed_weight_shape(layer, array.numpy())
        return
    shape = array.shape
    if len(shape) != 2 + len(layer.kernel) or shape[0] != layer.units or shape[2:] != layer.kernel:
        expected = ", ".join(map(str, (layer.units, "inputs", *layer.kernel)))
        raise Error(f"weight has the shape {shape}; it must be ({expected})")
    if array.sparse or array.dtype is None:
        raise Error(f"weight is {'sparse' if array.sparse else 'bfloat16'}; it must be a dense array of a NumPy type")


def _own_obstacle(layer: QLayer, stored: Arrays) -> str:
    """Why a layer cannot be packed, whatever else is in the network; empty if it can."""
    if layer.packed:
        return "packed already"
    if (layer.act_bit, layer.weight_bit) != (1, 1):
        return "only layers with act_bit 1 and weight_bit 1 are packed"
    if layer.weight is None:
        return f"its weight is computed by {layer.node.inputs[1].node.name!r}, not stored"
    if layer.scaling_mode == "forward" and not math.isfinite(_mean(stored[_key(layer)])):
        return "scaling_mode is forward and mean|w| is not finite"
    return ""


def _obstacles(graph: SymbolGraph, layers: List[QLayer], stored: Arrays) -> Dict[str, str]:
    """Why layers cannot be packed, by name; a weight is packed for all its layers or for none."""
    by_node = {id(layer.node): layer for layer in layers}
    own = {layer.name: _own_obstacle(layer, stored) for layer in layers}
    own = {name: obstacle for name, obstacle in own.items() if obstacle}
    shared: Dict[str, str] = {}
    for layer in layers:
        for reader, position in readers(graph, layer.weight) if layer.name not in own else ():
            other = by_node.get(id(reader))
            if reader is None:
                shared[layer.name] = "its weight is also an output of the network"
            elif other is None or position != 1:
                shared[layer.name] = f"its weight is also read by {reader.name!r} ({reader.op})"
            elif other.name in own:
                shared[layer.name] = f"its weight is also read by {other.name!r}, which is not packed"
    return {**shared, **own}


def _mean(array: StoredArray) -> float:
    """mean|w| as the operator has it: summed in double precision, rounded to float32."""
    return float(np.float32(np.mean(np.abs(as_float32(array.numpy())), dtype=np.float64)))


def _pack_node(graph: SymbolGraph, layer: QLayer, array: StoredArray, word_bits: int) -> Tuple[str, List[str]]:
    """Rewrite a layer's nodes for packed weights; returns a remark, and what original BMXNet cannot read."""
    node, weight, shape = layer.node, layer.weight, array.shape
    remark, bmx_only = "", _bmx_only(node)
    node.attributes["binarized_weights_only"] = "True"
    weight.attributes.update(declared(shape, word_bits))
    if shape[1] % word_bits:
        weight.attributes[interchange.INPUTS_ATTRIBUTE] = str(math.prod(shape[1:]))
        inputs = "inputs" if not layer.kernel else "channels" if layer.groups == 1 else "channels a group"
        bmx_only.append(f"{shape[1]} {inputs} not a multiple of {word_bits}")
    if layer.groups > 1:
        bmx_only.append(f"num_group={layer.groups}")
    if layer.scaling_mode == "forward":
        del node.attributes["scaling_mode"]
        scale = repr(_mean(array))
        _insert_scale(graph, node, scale)
        remark = f"mean|w| = {float(scale):.4g} became a node"
    return remark, bmx_only


def _bmx_only(node: SymbolNode) -> List[str]:
    return [f"{name}={node.attributes[name]}" for name in extension_attributes(node)]


def _remarks(remark: str, *bmx_only: str) -> str:
    """A remark, and what original BMXNet cannot read."""
    return "; ".join(filter(None, [remark, _NEEDS_BMX + ", ".join(bmx_only) if bmx_only else ""]))


def _insert_scale(graph: SymbolGraph, node: SymbolNode, scale: str) -> None:
    product = SymbolNode("_mul_scalar", f"{node.name}_scale", {"scalar": scale}, [Entry(node)])
    graph.replace(node, Entry(product))
    graph.nodes.insert(graph.nodes.index(node) + 1, product)


def _split_window(graph: SymbolGraph, node: SymbolNode) -> None:
    """Let a QActivation before a layer do what the layer's window does, for BMXNet, whose layers have none."""
    window = {name: node.attributes.pop(name, "None") for name in ("gradient_cancel_threshold", "estimator")}
    if window["gradient_cancel_threshold"] != "None":
        given = {name: value for name, value in window.items() if value != "None"}
        attributes = {"act_bit": "1", "backward_only": "True", **given}
        activation = SymbolNode("QActivation", f"{node.name}_window", attributes, [node.inputs[0]])
        graph.nodes.insert(graph.nodes.index(node), activation)
        node.inputs[0] = Entry(activation)


def _use_plain_operators(graph: SymbolGraph, node: SymbolNode) -> None:
    """Replace bmx's shift, scale or RPReLU by operators that every MXNet has; the last one takes the node's name."""
    made: List[SymbolNode] = []

    def add(op: str, name: str, attributes: Dict[str, str], *inputs: Entry) -> Entry:
        made.append(SymbolNode(op, name, attributes, list(inputs)))
        return Entry(made[-1])

    def broadcast(op: str, x: Entry, by: Entry, name: str) -> Entry:
        ends = {"dim1": "1", "dim2": "-1"}  # the channels to the end and back: there a (channels,) array broadcasts
        x = add(op, f"{name}_channels", {}, add("SwapAxis", f"{name}_last", ends, x), by)
        return add("SwapAxis", name, ends, x)

    x, *parameters = node.inputs
    if node.op == "bmx_RPReLU":
        x = broadcast("broadcast_add", x, parameters[0], f"{node.name}_shift")
        x = add("LeakyReLU", f"{node.name}_prelu", {"act_type": "prelu"}, x, parameters[1])
        broadcast("broadcast_add", x, parameters[2], node.name)
    else:
        broadcast("broadcast_add" if node.op == "bmx_Shift" else "broadcast_mul", x, parameters[0], node.name)
    place = graph.nodes.index(node)
    graph.replace(node, Entry(made[-1]))
    graph.nodes[place : place + 1] = made


def _remove_training_only(graph: SymbolGraph) -> None:
    """Take out the copies before Q layers, bmx's shifts, and bmx's attributes that have BMXNet v1's meaning."""
    for node in list(graph.nodes):
        if is_variable_copy(graph, node):
            graph.replace(node, node.inputs[0])
            graph.nodes.remove(node)
        for name in extension_attributes(node, default=True):
            del node.attributes[name]
    for node in list(graph.nodes):
        if node.op in ("bmx_Shift", "bmx_Scale", "bmx_RPReLU"):
            _use_plain_operators(graph, node)
    graph.prune()


def _use_plain_batch_norm(graph: SymbolGraph) -> None:
    """Replace bmx's BatchNorm by MXNet's, which rounds otherwise: for original BMXNet, where it can read the rest."""
    for node in graph.nodes:
        if node.op == "bmx_BatchNorm":
            node.op = "BatchNorm"
            del node.inputs[5:]  # that says the mode
    graph.prune()
