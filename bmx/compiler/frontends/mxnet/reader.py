"""Reads a network: what is constant is computed by MXNet, everything else becomes nodes of the compiler's graph.

Shapes are MXNet's, inferred for batches of 2 and of 3: what depends on the input has the batch as its first size, and
whatever has not would mix the samples of a batch.
"""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple, Union

import mxnet as mx
import numpy as np

from ....checkpoints.constants import BATCHES, Key, depends
from ....checkpoints.equal_bits import find_signs, in_graph, in_values, is_untrained
from ....checkpoints.network import Arrays, Network
from ....checkpoints.symbol_file import Entry, SymbolNode
from ....errors import Error
from ... import ir
from ...arithmetic import apply_all, is_channelwise
from ...builder import Builder
from . import operators_elementwise as _elementwise  # noqa: F401  (these register what they read)
from . import operators_layers as _layers  # noqa: F401
from . import operators_moves as _moves  # noqa: F401
from .call import OPERATORS, Call, Operand
from .numpy_names import classic

__all__ = ["MXNetFrontEnd", "Shapes"]

Shapes = Union[Sequence[int], Mapping[str, Sequence[int]]]
_Prepared = Union[ir.Operation, ir.Pad]  # what a layer does to its input before it multiplies

_JUDGED = 8  # samples that are looked at for what is wrong with the network


class MXNetFrontEnd:
    """A network of MXNet, its parameters and the shapes of its inputs: see `FrontEnd`.

    Parameters
    ----------
    symbol, args, aux
        As `bmx.checkpoints.network.Network`'s.
    data_shape : sequence of int, or mapping of str to that
        Shape of one sample, without the batch; by name if the network has more than one input.
    name : str
        Of the network, also in errors.

    Raises
    ------
    bmx.Error
        If a parameter is missing or of another shape than the network's, or shapes cannot be inferred.
    """

    def __init__(self, symbol: mx.sym.Symbol, args: Arrays, aux: Arrays, data_shape: Shapes, name: str = "network"):
        self.network = Network(symbol, args, aux, name, data_shape if isinstance(data_shape, Mapping) else ())
        self._graph, self._name = self.network.graph, name
        self._check_nodes()
        self.inputs = self._find_inputs(data_shape)
        self.outputs = self.network.outputs
        self._active = self._find_active()
        self._shapes, self._second = self._infer_shapes()
        self.multiplied: Dict[ir.Conv, Tuple[Entry, List[_Prepared]]] = {}

    def read(self) -> ir.Graph:
        """The network as a graph of the compiler, in which nothing is fused yet.

        Raises
        ------
        bmx.Error
            If a node's operator is not supported, or used in a way that is not; it names the node.
        """
        self._constants = self._fold()
        self._operands: Dict[Key, Operand] = {}
        self._builder = Builder(self._name)
        variables = self._graph.variables()
        for name, shape in self.inputs.items():
            self._operands[id(variables[name]), 0] = self._builder.input(name, shape)
        for node in self._graph.nodes:
            if id(node) in self._active and not node.is_variable:
                try:
                    self._read_node(node)
                except Error as error:
                    raise Error(f"{self._name}: node {node.name!r} ({node.op}): {error}") from None
        for entry, name in zip(self._graph.heads, self.outputs):
            self._add_output(entry, name)
        return self._builder.graph

    def run(self, data: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """What MXNet computes for a batch: the outputs by name. Labels are 0."""
        return self.network.run(data)

    def remarks(self) -> List[str]:
        """What the report should say of the network as a whole."""
        left_out = self.network.left_out
        labels = _list(self.network.labels)
        return (
            [f"left out: {_list(left_out)}, made of the labels {labels}, which only training needs"] if left_out else []
        )

    def equal_bits(self, data: Optional[Mapping[str, np.ndarray]] = None) -> List[str]:
        """What the report should say of layers whose input bits are nearly all the same, in the graph or on samples.

        Parameters
        ----------
        data : mapping of str to ndarray, optional
            As the network was trained on. Default: only the graph is looked at.
        """
        lines = in_graph(self._graph)
        signs = [sign for sign in find_signs(self._graph) if sign not in lines]
        signs = [sign for sign in signs if not is_untrained(sign.source, self.network.parameters)]
        batch = {name: array[:_JUDGED] for name, array in (data or {}).items()}
        if not signs or all((array == array[:1]).all() for array in batch.values()):  # also of no samples, or of one
            return list(lines.values())
        values = self.network.compute([sign.source for sign in signs], batch)
        return [*lines.values(), *in_values(signs, values)]

    def not_finite(self) -> str:
        """The first of the biases and numbers of BatchNorms that hold NaN or infinities; empty if none does."""
        arrays = ((name, array) for name, array in self.network.parameters.items() if array.ndim == 1)
        return next((repr(name) for name, array in arrays if not np.isfinite(array).all()), "")

    @property
    def softmaxes(self) -> List[bool]:
        """Which outputs are softmaxes."""
        return self.network.softmaxes

    def with_other_last_digits(self, noise: float, seed: int) -> MXNetFrontEnd:
        """The network with parameters that are nearly the same (`Network.with_other_last_digits`)."""
        other = copy.copy(self)
        other.network = self.network.with_other_last_digits(noise, seed)
        return other

    def multiplicands(self, data: Mapping[str, np.ndarray]) -> Dict[ir.Conv, np.ndarray]:
        """The numbers that each layer in `multiplied` multiplies, (batch, ...), as MXNet computes their inputs."""
        arrays = self.network.compute([entry for entry, _ in self.multiplied.values()], data)
        return {
            layer: _prepare(array, operations)
            for (layer, (_, operations)), array in zip(self.multiplied.items(), arrays)
        }

    def _read_node(self, node: SymbolNode) -> None:
        known = classic(node)
        reader = OPERATORS.get(known.op)
        if reader is None:
            raise Error(f"this operator is not supported by the compiler; {_rest(node)}")
        used = [index for index in range(self._used_outputs(node)) if (id(node), index) in self._shapes]
        results = {index: self._sample_shape(Entry(node, index)) for index in used}
        entries = [entry for entry in node.inputs if entry.node.name not in self.network.placeholders]
        call = Call(
            known,
            [self._operand(entry) for entry in entries],
            [self._shape_of_input(entry) for entry in entries],
            [results[index] for index in used],
            self._builder,
        )
        count = len(self._builder.graph.nodes)
        result = reader(call)
        done: Dict[Any, List[_Prepared]] = {call.inputs[0]: []} if isinstance(call.inputs[0], ir.Value) else {}
        for made in self._builder.graph.nodes[count:]:
            if isinstance(made, ir.Conv) and made.source in done:
                self.multiplied[made] = entries[0], done[made.source]
            elif isinstance(made, ir.Map) and made.source in done and all(map(is_channelwise, made.epilogue)):
                done[made.gives()[0]] = [*done[made.source], *made.epilogue]
            elif isinstance(made, ir.Pad) and made.source in done:
                done[made.gives()[0]] = [*done[made.source], made]
        values = result if isinstance(result, list) else [result]
        for index in used:
            if index >= len(values):
                raise Error(f"its output {index} is not supported; take output 0 of it: symbol[0]")
            self._operands[id(node), index] = values[index]

    def _used_outputs(self, node: SymbolNode) -> int:
        uses = [entry.index for user in self._graph.nodes for entry in user.inputs if entry.node is node]
        uses += [entry.index for entry in self._graph.heads if entry.node is node]
        return max(uses, default=0) + 1

    def _operand(self, entry: Entry) -> Operand:
        key = (id(entry.node), entry.index)
        return self._operands[key] if key in self._operands else self._constants[key]

    def _shape_of_input(self, entry: Entry) -> ir.Shape:
        if id(entry.node) in self._active:
            return self._sample_shape(entry)
        return self._constants[id(entry.node), entry.index].shape

    def _sample_shape(self, entry: Entry) -> ir.Shape:
        """MXNet's shape of one sample."""
        key = (id(entry.node), entry.index)
        first, second = self._shapes[key], self._second[key]
        if not first or (first[0], second[0]) != BATCHES or first[1:] != second[1:]:
            what = f"{entry.node.name!r} has the shape {first} for a batch of 2: it mixes the samples of a batch"
            raise Error(f"{what}; {_rest(entry.node)}")
        if not all(first):
            raise Error(f"{entry.node.name!r} has the shape {first}, which is empty or unknown")
        return tuple(first[1:])

    def _add_output(self, entry: Entry, name: str) -> None:
        key = (id(entry.node), entry.index)
        value = self._operands.get(key)
        if value is None:  # it does not depend on the samples
            value = self._builder.constant(f"{name}_constant", self._constant_of_a_sample(entry, name))
        if not isinstance(value, ir.Value):
            raise Error(f"{self._name}: the output {name!r} is a comparison, which is supported only as a condition")
        shape = self._sample_shape(entry)
        self._builder.graph.outputs[name] = self._builder.reshape(f"{value.name}_{len(shape)}d", value, shape)

    def _constant_of_a_sample(self, entry: Entry, name: str) -> np.ndarray:
        """The numbers of an output that are the same for every sample."""
        array = self._constants[id(entry.node), entry.index]
        first, second = (shapes.get((id(entry.node), entry.index), ()) for shapes in (self._shapes, self._second))
        if (first[:1], second[:1]) != tuple((batch,) for batch in BATCHES):
            raise Error(
                f"{self._name}: the output {name!r} is a constant of the shape {array.shape}, without a value for each "
                "sample; compile the other outputs, such as symbol[0], and compute it once with MXNet"
            )
        return array[0].astype(np.float32)

    # --- what is in the graph ------------------------------------------------------------------------------------

    def _check_nodes(self) -> None:
        for node in self._graph.nodes:
            if node.subgraphs:
                raise Error(f"{self._name}: node {node.name!r} ({node.op}): control flow is not supported")

    def _find_inputs(self, data_shape: Shapes) -> Dict[str, ir.Shape]:
        """Shapes of one sample by name, in the order in which they are given."""
        names, labels = self.network.inputs, self.network.labels
        if self.network.missing:
            raise Error(f"{self._name}: the array {self.network.missing[0]!r} is missing")
        if self.network.losses:
            raise Error(
                f"{self._name}: its outputs are losses, made of {_list(labels)}; compile what stands before them, "
                "such as symbol.get_internals()['fc_output']"
            )
        given = dict(data_shape) if isinstance(data_shape, Mapping) else None
        if given is None:
            if len(names) != 1:
                raise Error(
                    f"{self._name}: no values are stored of {_list(names)}; give the shapes of inputs by name if there "
                    "are more than one (--data-shape a=3,32,32,b=10), otherwise parameters are missing"
                    if names
                    else f"{self._name}: every variable has a stored value; name the input (--data-shape a=3,32,32)"
                )
            given = {names[0]: data_shape}
        missing = [name for name in names if name not in given]
        if missing:
            raise Error(f"{self._name}: {missing[0]!r} has neither a stored value nor a shape as an input")
        unknown = [name for name in given if name not in names]
        if unknown:
            what = "a label, which the outputs do not depend on" if unknown[0] in labels else "no input"
            inputs = _list([name for name in names if name not in self.network.stored_inputs] or names)
            raise Error(f"{self._name}: {unknown[0]!r} is {what}; the inputs are {inputs}")
        for name, shape in given.items():
            if not shape or not all(isinstance(n, (int, np.integer)) and n > 0 for n in shape) or len(shape) > 3:
                raise Error(
                    f"{self._name}: the shape of {name!r} is {tuple(shape)}; it must be that of one sample, 1 to 3 "
                    "positive sizes such as (3, 224, 224)"
                )
        return {name: tuple(map(int, shape)) for name, shape in given.items()}

    def _find_active(self) -> Set[int]:
        """The nodes that depend on an input."""
        active: Set[int] = set()
        for node in self._graph.nodes:
            if node.name in self.inputs if node.is_variable else depends(node, active):
                active.add(id(node))
        return active

    def _infer_shapes(self) -> List[Dict[Key, Tuple[int, ...]]]:
        """MXNet's shapes of all inputs and computed values, for batches of 2 and of 3."""
        others = {id(node) for node in self._graph.nodes if node.is_variable and node.name not in self.inputs}
        result = []
        for batch in BATCHES:
            try:
                found = self.network.shapes({name: (batch, *shape) for name, shape in self.inputs.items()})
            except Error as error:
                shapes = ", ".join(map(str, self.inputs.values()))
                raise Error(f"{self._name}: {error} (samples have the shape {shapes})") from None
            result.append({key: shape for key, shape in found.items() if key[0] not in others})
        return result

    def _fold(self) -> Dict[Key, np.ndarray]:
        """Values of what does not depend on an input, and is read by what does, or is an output."""
        outputs = [entry for entry in self._graph.heads if id(entry.node) not in self._active]
        wanted: Dict[Key, Entry] = {(id(entry.node), entry.index): entry for entry in outputs}
        for node in self._graph.nodes:
            if id(node) not in self._active or node.is_variable:
                continue
            for entry in node.inputs:
                if id(entry.node) not in self._active and entry.node.name not in self.network.placeholders:
                    wanted[id(entry.node), entry.index] = entry
        return self.network.constants(list(wanted.values()), (self._shapes, self._second))


def _rest(node: SymbolNode) -> str:
    """What to do about a node that cannot be compiled."""
    before = next((entry.node for entry in node.inputs if not entry.node.is_variable), None)
    example = f", such as symbol.get_internals()['{before.name}_output']," if before is not None else ""
    return f"compile what comes before it{example} and compute the rest with MXNet"


def _prepare(array: np.ndarray, operations: List[_Prepared]) -> np.ndarray:
    """What becomes of the input of a layer, (batch, channels, ...), before it is multiplied."""
    for operation in operations:
        if isinstance(operation, ir.Pad):
            above, left, below, right = operation.pad
            array = array if array.ndim == 4 else array[:, :, None]
            border = ((0, 0), (0, 0), (above, below), (left, right))
            array = np.pad(array, border, constant_values=operation.pad_value)
        else:
            array = np.moveaxis(apply_all([operation], np.moveaxis(array, 1, -1)), -1, 1)
    return array


def _list(names: List[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
