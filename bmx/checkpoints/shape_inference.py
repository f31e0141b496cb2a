"""The shapes of a network's arrays, as MXNet infers them, with the checks that MXNet leaves out.

MXNet's inference takes a Reshape to another number of elements, a BatchNorm whose parameters have another length than
its input has channels, and its operators then read and write beyond their arrays; it takes averages over windows that
see no pixel, and fails as it runs. So each stored array is compared with what the network infers, and each such node is
refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import re
import warnings
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

import mxnet as mx

from ..errors import Error
from .q_layers import Q_OPERATORS, is_packed, skip_copies
from .symbol_file import Entry, SymbolGraph, SymbolNode, mxnet_message, to_symbol

__all__ = ["Key", "NotInferred", "Shape", "ShapeInference", "numbers"]

Shape = Tuple[int, ...]
Key = Tuple[int, int]  # id of a node, number of its output

_VERSION = {"mxnet_version": ["int", 10901]}
_RESHAPES = ("Reshape", "reshape", "reshape_like", "_npx_reshape", "_np_reshape")
_OURS = ("QActivation", *Q_OPERATORS, "BinaryInference", "bmx_")
# Operators that infer the shapes of their parameters, their inputs from the second on
_LAYERS = (
    *("Convolution", "Convolution_v1", "Deconvolution", "FullyConnected", "BatchNorm", "BatchNorm_v1", "LeakyReLU"),
    *("LayerNorm", "InstanceNorm", "GroupNorm"),
)
_KEEP_DIMENSIONS = ("QActivation", "QConvolution", "bmx_BatchNorm", "bmx_Shift", "bmx_Scale", "bmx_RPReLU")
_POOLINGS = ("Pooling", "Pooling_v1")


class NotInferred(Error):
    """Shapes do not follow from those that are known."""


class ShapeInference:
    """Infers the shapes of a graph from those of its inputs, again and again.

    Parameters
    ----------
    graph : SymbolGraph
    stored : mapping of str to tuple of int
        Shapes of the stored arrays, parameters and auxiliary states, by name.

    Raises
    ------
    bmx.Error
        If MXNet cannot read the graph.
    """

    def __init__(self, graph: SymbolGraph, stored: Mapping[str, Shape], where: str = "network"):
        self._graph, self._stored = graph, {name: tuple(shape) for name, shape in stored.items()}
        entries = [entry for node in graph.nodes for entry in node.inputs] + graph.heads
        self._entries = list({_key(entry): entry for entry in entries if not entry.node.is_variable}.values())
        self._symbol = to_symbol(self._undeclared(), where) if self._entries else None
        self._layers = _SingleLayers(graph, self._stored)
        # Shapes of other arrays follow from nothing; and our layers must not be asked before their data are known.
        parameters = {
            skip_copies(entry.node).name for node in graph.nodes if _infers(node) for entry in node.inputs[1:]
        }
        self._others = {name: shape for name, shape in self._stored.items() if name not in parameters}

    def __call__(self, inputs: Mapping[str, Shape]) -> Dict[Key, Shape]:
        """Shapes of all variables and of all that a node or the network reads, by node and output.

        Parameters
        ----------
        inputs : mapping of str to tuple of int
            Shapes of the inputs with the batch.

        Raises
        ------
        bmx.Error
            If shapes do not fit together or cannot be inferred; it names the array or the node.
        """
        self._check_declared(inputs)
        try:
            found = self._infer({**self._stored, **inputs})
        except mx.base.MXNetError as error:
            misfit = self._misfit(inputs)
            raise misfit or Error(f"the shapes do not fit together: {mxnet_message(error)}") from None
        if found is None:
            raise NotInferred(f"MXNet cannot infer the shapes from those of {', '.join(map(repr, inputs))}")
        self._check(found, inputs)
        return found

    def takes(self, inputs: Mapping[str, Shape]) -> bool:
        """Whether inputs of these shapes fit, without looking for what is wrong if they do not."""
        try:
            self._check_declared(inputs)
            found = self._infer({**self._stored, **inputs})
            if found is not None:
                self._check(found, inputs)
        except (mx.base.MXNetError, Error):
            return False
        return found is not None

    def wanted(self, inputs: Mapping[str, Shape]) -> Optional[Dict[str, Shape]]:
        """The shapes that the network wants of its stored arrays; None if it does not take such inputs."""
        try:
            found = self._infer({**self._others, **inputs})
            if found is None:
                return None
            for node in self._graph.nodes:
                _check_node(node, found)
        except (mx.base.MXNetError, Error):
            return None
        return {
            node.name: found[id(node), 0]
            for node in self._graph.nodes
            if node.name in self._stored and node.name not in inputs and (id(node), 0) in found
        }

    def _undeclared(self) -> SymbolGraph:
        """The graph, with all that is computed as outputs; of what parameters declare, only numbers of dimensions.

        These are needed: MXNet makes no room for a shape of unknown dimensions before it asks our operators.
        """
        behind, dimensions, copies = self._behind_weights(), self._dimensions(), {}
        for node in self._graph.nodes:
            attributes = dict(node.attributes)
            if node.is_variable and node.name in self._stored:
                declared = attributes.pop("__shape__", None)
                stored = len(self._stored[node.name]) if declared is None else len(numbers(declared))
                if declared is not None or id(node) in behind or id(node) in dimensions:
                    attributes["__shape__"] = str((-1,) * dimensions.get(id(node), stored))
            inputs = [entry._replace(node=copies[id(entry.node)]) for entry in node.inputs]
            control = [copies[id(other)] for other in node.control_deps]
            copies[id(node)] = dataclasses.replace(node, attributes=attributes, inputs=inputs, control_deps=control)
        entries = [entry._replace(node=copies[id(entry.node)]) for entry in self._entries]
        return SymbolGraph(list(copies.values()), entries, "attrs", _VERSION)

    def _dimensions(self) -> Dict[int, int]:
        """Numbers of dimensions that our layers want of their parameters."""
        wanted = {}
        for node in self._graph.nodes:
            if node.op.startswith(_OURS) and node.op != "bmx_Compiled":
                wanted.update((id(skip_copies(entry.node)), 1) for entry in node.inputs[1:])
            if _takes_weight(node):
                weight = id(skip_copies(node.inputs[1].node))
                wanted[weight] = 2 + len(numbers(node.attributes.get("kernel", "")))
                if is_packed(node.op, node.attributes):
                    del wanted[weight]
        return wanted

    def _behind_weights(self) -> Set[int]:
        """The variables that weights of quantized layers are computed of."""
        pending = [skip_copies(node.inputs[1].node) for node in self._graph.nodes if _takes_weight(node)]
        pending = [node for node in pending if not node.is_variable]
        found = set(map(id, pending))
        while pending:
            for entry in pending.pop().inputs:
                if id(entry.node) not in found:
                    found.add(id(entry.node))
                    pending.append(entry.node)
        return found

    def _infer(self, known: Mapping[str, Shape]) -> Optional[Dict[Key, Shape]]:
        variables = self._graph.variables()
        found = {(id(variables[name]), 0): shape for name, shape in known.items() if name in variables}
        if self._symbol is None:
            return found
        names, states = self._symbol.list_arguments(), self._symbol.list_auxiliary_states()
        # MXNet prints before it raises, and warns of what it could not infer
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = {name: known[name] for name in names if name in known}
            arguments, outputs, auxiliary = self._symbol.infer_shape(**given)
        if outputs is None:
            return None
        for name, shape in zip(names + states, arguments + auxiliary):
            if name in variables:  # MXNet adds variables to old graphs that leave them out
                found[id(variables[name]), 0] = tuple(shape)
        found.update((_key(entry), tuple(shape)) for entry, shape in zip(self._entries, outputs))
        return found

    def _check(self, found: Mapping[Key, Shape], inputs: Mapping[str, Shape]) -> None:
        misfit = self._compare(found, inputs)
        if misfit is not None:
            raise misfit
        self._layers.check(found, self._stored, inputs)
        for node in self._graph.nodes:
            _check_node(node, found)

    def _compare(self, found: Mapping[Key, Shape], inputs: Mapping[str, Shape]) -> Optional[Error]:
        """What is wrong with the first stored array that has not the shape that was found for it."""
        for node in self._graph.nodes:
            stored = self._stored.get(node.name)
            if node.is_variable and node.name not in inputs and stored not in (None, found.get((id(node), 0), stored)):
                return _misfit(node.name, stored, found[id(node), 0])
        return None

    def _check_declared(self, inputs: Mapping[str, Shape]) -> None:
        for node in self._graph.nodes:
            stored = self._stored.get(node.name)
            if node.is_variable and node.name not in inputs and stored is not None:
                declared = numbers(node.attributes.get("__shape__", ""))
                if min(declared, default=0) > 0 and tuple(declared) != stored:
                    raise _misfit(node.name, stored, tuple(declared))

    def _misfit(self, inputs: Mapping[str, Shape]) -> Optional[Error]:
        """Which stored array does not fit: the others tell its shape, or the inputs alone do."""
        for known in self._without_one(inputs):
            with contextlib.suppress(mx.base.MXNetError):
                found = self._infer(known)
                misfit = None if found is None else self._compare(found, inputs)
                if misfit is not None:
                    return misfit
        return None

    def _without_one(self, inputs: Mapping[str, Shape]) -> Iterator[Dict[str, Shape]]:
        yield {**self._others, **inputs}
        for name in self._stored.keys() - self._others.keys():
            yield {**{other: shape for other, shape in self._stored.items() if other != name}, **inputs}


class _SingleLayers:
    """The shapes that layers of MXNet want of their parameters, each by itself.

    In the whole network the shapes of parameters are given, and some layers believe them, and do not check them as they
    run. Our own layers check; and they must not be asked for shapes of what is not known (`variable_copies`).
    """

    def __init__(self, graph: SymbolGraph, stored: Mapping[str, Shape]):
        self._uses: Dict[str, Tuple[SymbolNode, Entry]] = {}  # by the names that each layer's own variables have
        layers = []
        for node in graph.nodes:
            parameters = any(entry.node.is_variable and entry.node.name in stored for entry in node.inputs)
            if parameters and not node.subgraphs and not node.op.startswith(_OURS):
                names = [f"{len(layers)}_{place}" for place in range(len(node.inputs))]
                self._uses.update(zip(names, ((node, entry) for entry in node.inputs)))
                inputs = [Entry(SymbolNode("null", name)) for name in names]
                layers.append(SymbolNode(node.op, f"layer{len(layers)}", node.attributes, inputs))
        nodes = [entry.node for layer in layers for entry in layer.inputs] + layers
        self._symbol = (
            to_symbol(SymbolGraph(nodes, list(map(Entry, layers)), "attrs", _VERSION), "") if layers else None
        )

    def check(self, found: Mapping[Key, Shape], stored: Mapping[str, Shape], inputs: Mapping[str, Shape]) -> None:
        """Raise an error where a layer wants another shape than a parameter has."""
        if self._symbol is None:
            return
        parameters = {
            name: stored[entry.node.name]
            for name, (_, entry) in self._uses.items()
            if entry.node.is_variable and entry.node.name in stored and entry.node.name not in inputs
        }
        given = {name: found.get(_key(entry)) for name, (_, entry) in self._uses.items() if name not in parameters}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                shapes, _, states = self._symbol.infer_shape_partial(**{n: s for n, s in given.items() if s})
        except mx.base.MXNetError:
            return  # a layer of which parameters are all that there is
        names = self._symbol.list_arguments() + self._symbol.list_auxiliary_states()
        for name, wanted in zip(names, shapes + states):
            node, entry = self._uses[name]
            shared = node.op == "LeakyReLU" and parameters.get(name) == (1,)  # one slope for all channels
            if name in parameters and wanted and min(wanted) > 0 and wanted != parameters[name] and not shared:
                raise _misfit(entry.node.name, parameters[name], wanted)


def _misfit(name: str, stored: Shape, wanted: Shape) -> Error:
    return Error(f"the array {name!r} has the shape {stored}; the network needs {wanted}")


def _key(entry: Entry) -> Key:
    return id(entry.node), entry.index


def numbers(text: str) -> List[int]:
    """The integers of an attribute such as (3, 3)."""
    return [int(number) for number in re.findall(r"-?\d+", text)]


def _infers(node: SymbolNode) -> bool:
    return node.op in _LAYERS or node.op.startswith(_OURS)


def _takes_weight(node: SymbolNode) -> bool:
    return node.op in Q_OPERATORS and len(node.inputs) > 1


def _check_node(node: SymbolNode, shapes: Mapping[Key, Shape]) -> None:
    read = [shapes.get(_key(entry)) for entry in node.inputs[:1]]
    made = shapes.get((id(node), 0))
    if made is None or None in read or not read:
        return
    where = f"node {node.name!r} ({node.op})"
    if node.op.startswith(_KEEP_DIMENSIONS) and len(made) != len(read[0]):  # MXNet believes what reads it
        raise Error(f"{where} reads the shape {read[0]}, and what reads it needs {made}")
    if node.op in _RESHAPES and math.prod(read[0]) != math.prod(made):
        raise Error(f"{where} makes the shape {made} of {read[0]}, which has another number of elements")
    excludes = node.attributes.get("count_include_pad", "True") in ("False", "false", "0")
    if node.op in _POOLINGS and excludes and not all(_windows_see_pixels(node, read[0], made)):
        raise Error(f"{where}: some of its windows have no pixel of the image {read[0]} to average; MXNet fails")


def _windows_see_pixels(node: SymbolNode, data: Shape, made: Shape) -> Iterable[bool]:
    """Of each axis, whether its first and its last window see a pixel of the image, not only padding or nothing."""
    attributes = node.attributes
    if attributes.get("global_pool", "False") in ("True", "true", "1"):
        return
    kernel, stride, pad = (numbers(attributes.get(name, "")) for name in ("kernel", "stride", "pad"))
    first = 1 if attributes.get("layout", "NCHW").endswith("C") else 2
    for axis, size in enumerate(kernel):
        step, border = (values[axis] if axis < len(values) else default for values, default in ((stride, 1), (pad, 0)))
        last = (made[first + axis] - 1) * step - border
        yield size > border and last < data[first + axis]
