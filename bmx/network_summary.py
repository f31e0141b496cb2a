"""What a network consists of: layers, bits, weights, multiply-adds and memory, as a table and as data.

The numbers come from the network's symbol, in the JSON that MXNet exports, and from MXNet's inference of shapes: no
parameter is needed and nothing is computed. Gluon networks are traced, with a node for each layer.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple, Union

import mxnet as mx

from .checkpoints.equal_bits import in_graph
from .checkpoints.inference import for_inference
from .checkpoints.network import Network
from .checkpoints.q_layers import find_layers, is_packed
from .checkpoints.shape_inference import NotInferred
from .checkpoints.symbol_file import parse_graph, to_symbol
from .errors import Error
from .gluon.tracing import trace

__all__ = ["Layer", "Summary", "summary"]

_Q_OPERATORS = (
    *("QConvolution", "QConvolution_v1", "QFullyConnected"),
    *("BinaryInferenceConvolution", "BinaryInferenceFullyConnected"),
)
_NAMES = {"bmx_BatchNorm": "BatchNorm", "bmx_RPReLU": "RPReLU", "bmx_Scale": "Scale", "bmx_Shift": "Shift"}
_PRODUCTS = (*_Q_OPERATORS, "Convolution", "Convolution_v1", "Deconvolution", "FullyConnected")

# Layers without parameters that have a row; what only changes shapes or does arithmetic for other layers has none.
_LISTED = {
    *("Activation", "LeakyReLU", "QActivation", "relu", "sigmoid", "tanh", "clip", "hard_sigmoid"),
    *("Pooling", "Pooling_v1", "Flatten", "Concat", "Dropout", "LRN", "L2Normalization", "UpSampling"),
    *("elemwise_add", "broadcast_add", "elemwise_mul", "broadcast_mul"),
    *("softmax", "log_softmax", "SoftmaxActivation", "SoftmaxOutput"),
}

# What hands quantized values on, if only scaled and shifted, when looking for the quantizer of a layer's input.
_TRANSPARENT = {
    *("_copy", "Flatten", "Reshape", "reshape", "Pad", "transpose", "expand_dims", "squeeze", "slice_axis", "Dropout"),
    *("_identity_with_attr_like_rhs", "BlockGrad", "_plus_scalar", "_minus_scalar", "_mul_scalar", "_div_scalar"),
}


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes
    ----------
    name : str
        Of its node, without Gluon's ending ``_fwd``.
    kind : str
        The operator.
    output_shape : tuple of int
        Of one sample, without the batch.
    input_bits, weight_bits : int or None
        Of convolutions and dense layers; 32 is float32.
    weights : dict of int to int
        Number of parameters by width in bits. Those that layers share are counted with the first. Running averages of
        BatchNorm are among them.
    macs : dict of int to int
        Multiply-adds for one sample by precision: the wider of input and weights. Only convolutions and dense layers
        have any, as in Larq's summary.
    """

    name: str
    kind: str
    output_shape: Tuple[int, ...]
    input_bits: Optional[int]
    weight_bits: Optional[int]
    weights: Dict[int, int]
    macs: Dict[int, int]

    @property
    def memory(self) -> float:
        """Bytes of the parameters, without padding, in their number of bits."""
        return sum(bits * count for bits, count in self.weights.items()) / 8


@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a network; ``print`` shows a table.

    Attributes
    ----------
    layers : list of Layer
        In the order in which they are computed.
    warnings : list of str
        Of layers whose input bits are all the same, such as those of the sign after a ReLU.
    """

    layers: List[Layer]
    warnings: List[str] = dataclasses.field(default_factory=list)

    @property
    def weights(self) -> Dict[int, int]:
        """Number of parameters by width in bits."""
        return _sum(layer.weights for layer in self.layers)

    @property
    def macs(self) -> Dict[int, int]:
        """Multiply-adds for one sample by precision in bits."""
        return _sum(layer.macs for layer in self.layers)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(self.weights.values())

    @property
    def memory(self) -> float:
        """Bytes of all parameters in their number of bits."""
        return sum(layer.memory for layer in self.layers)

    @property
    def float_memory(self) -> int:
        """Bytes of all parameters in float32."""
        return 4 * self.parameters

    @property
    def ratio(self) -> float:
        """How many times smaller the parameters are than in float32."""
        return self.float_memory / self.memory if self.memory else 1.0

    @property
    def binary_share(self) -> float:
        """Share of the multiply-adds that are binary, 0 to 1."""
        total = sum(self.macs.values())
        return self.macs.get(1, 0) / total if total else 0.0

    def to_dict(self) -> Dict[str, Any]:
        """The layers and the totals as dicts, lists and numbers, which JSON can hold."""
        layers = [{**dataclasses.asdict(layer), "memory": layer.memory} for layer in self.layers]
        names = ("weights", "parameters", "macs", "memory", "float_memory", "ratio", "binary_share")
        return {"layers": layers, **{name: getattr(self, name) for name in names}, "warnings": self.warnings}

    def __str__(self) -> str:
        weights, macs = sorted(self.weights), sorted(self.macs)
        header = ["layer", "kind", "output", "bits", *(f"{_name(bits)} weights" for bits in weights), "KiB"]
        header += [f"{_name(bits)} MACs" for bits in macs]
        rows = [header]
        for layer in self.layers:
            bits = "" if layer.input_bits is None else f"{layer.input_bits} x {layer.weight_bits}"
            shape = " x ".join(map(str, layer.output_shape))
            numbers = _numbers(layer.weights, weights, layer.memory) + [_count(layer.macs.get(bits)) for bits in macs]
            rows.append([layer.name, layer.kind, shape, bits, *numbers])
        total = _numbers(self.weights, weights, self.memory) + [_count(self.macs[bits]) for bits in macs]
        rows.append(["total", "", "", "", *total])
        return "\n".join([*_table(rows), "", *self._totals(), *(f"warning: {line}" for line in self.warnings)])

    __repr__ = __str__  # what an interactive session shows

    def _totals(self) -> List[str]:
        mebi = 2**20
        return [
            f"parameters          {self.parameters:,}",
            f"size                {self.memory / mebi:.2f} MiB",
            f"size in float32     {self.float_memory / mebi:.2f} MiB, {self.ratio:.1f} times as much",
            f"multiply-adds       {sum(self.macs.values()):,}, of which {100 * self.binary_share:.1f} % are binary",
        ]


def summary(
    network: Union[mx.gluon.HybridBlock, mx.sym.Symbol], input_shape: Union[Sequence[int], Mapping[str, Sequence[int]]]
) -> Summary:
    """Summarize a network.

    1-bit weights count as one bit each, weights of 2 to 31 bits as so many, everything else as 32: the size of the
    network with packed weights, whether it is packed already or not. Layers are counted in the numbers of bits that
    the graph says, also those that are composed of MXNet's own operators.

    Parameters
    ----------
    network : mxnet.gluon.HybridBlock or mxnet.symbol.Symbol
        A Gluon network, whose parameters need not be initialized; or a symbol, such as
        ``mx.sym.load("net-symbol.json")``, packed or not.
    input_shape : sequence of int, or mapping of str to that
        Shape of one sample, without the batch, of the input ``data``, or of the only variable that layers take as their
        data; by name if a symbol has more inputs.

    Returns
    -------
    Summary

    Raises
    ------
    bmx.Error
        If the network is neither of both, a node of the symbol has too few inputs or reads an output that does not
        exist, or MXNet cannot infer the shapes from the input's.

    Examples
    --------
    >>> from bmx.models import get_model
    >>> result = summary(get_model("birealnet18"), (3, 224, 224))
    >>> result.parameters, round(result.memory / 2**20, 2), round(result.binary_share, 3)
    (11699112, 4.03, 0.924)
    >>> result.layers[3].name, result.layers[3].output_shape
    ('stage1_unit1_qactivation0', (64, 56, 56))
    """
    symbol = _trace(network, input_shape)
    shapes = _check_shapes(symbol, input_shape)
    counter = _Counter(Network(symbol, None, {}, "summary of a Symbol", shapes), shapes)
    warnings = list(in_graph(parse_graph(json.loads(symbol.tojson()), "summary")).values())
    return Summary([layer for layer in map(counter.layer, counter.numbers()) if layer is not None], warnings)


def _trace(network: Any, shape: Any) -> mx.sym.Symbol:
    if isinstance(network, mx.sym.Symbol):
        return _check_symbol(network)
    if not isinstance(network, mx.gluon.HybridBlock):
        raise Error(f"summary of {type(network).__name__}: needs a HybridBlock of Gluon or a Symbol")
    return trace(network, list(shape) if isinstance(shape, Mapping) else ["data"], fused=False)


def _check_symbol(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """The same symbol, if its nodes have their inputs: it may be of a file, which MXNet loads unchecked."""
    where = "summary of a Symbol"
    graph = parse_graph(json.loads(symbol.tojson()), where)
    find_layers(graph, where)
    return to_symbol(graph, where)


def _check_shapes(symbol: mx.sym.Symbol, shape: Any) -> Dict[str, Tuple[int, ...]]:
    """The shapes of the inputs by name, with a batch of one."""
    inputs = symbol.list_inputs()
    if isinstance(shape, Mapping):
        shapes = dict(shape)
    else:  # of the input that is called data, or else of what a layer takes as its data
        found = for_inference(parse_graph(json.loads(symbol.tojson()), "network"), inputs).inputs
        shapes = {found[0] if len(found) == 1 and "data" not in inputs else "data": shape}
    for name, sizes in shapes.items():
        if name not in inputs:
            others = f"input {name!r}; its first ones are {', '.join(inputs[:3])}" if inputs else "inputs"
            raise Error(f"input_shape: the network has no {others}")
        if not isinstance(sizes, Sequence) or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise Error(
                f"input_shape of {name!r} is {sizes!r}; it must be the sizes of one sample, such as (3, 32, 32)"
            )
    return {name: (1, *sizes) for name, sizes in shapes.items()}


class _Counter:
    """Counts the bits of a network, node by node."""

    def __init__(self, network: Network, shapes: Dict[str, Tuple[int, ...]]):
        self.nodes = json.loads(network.symbol.tojson())["nodes"]
        try:
            found = network.shapes(shapes)
        except NotInferred:
            raise Error(
                f"MXNet cannot infer all shapes from those of {', '.join(shapes)}; give those of all inputs"
            ) from None
        except Error as error:
            raise Error(f"input_shape does not fit the network: {error}") from None
        self._shapes: Dict[str, Tuple[int, ...]] = {}  # of the first output that is read, by the node's name
        names = {id(node): node.name for node in network.graph.nodes}
        for (node, _), shape in sorted(found.items(), key=lambda item: item[0][1]):
            self._shapes.setdefault(names[node], shape)
        for name, shape in shapes.items():
            if self._shapes.get(name) != shape:
                why = f"{name!r} has the shape {self._shapes.get(name)} in it, not {shape}"
                raise Error(f"input_shape does not fit the network: {why}")
        self._counted: Set[int] = set()  # parameters that have been counted with a layer
        # Nodes that depend on an input; the others are parameters and what is computed of them alone.
        self._active: Set[int] = set()
        for number, node in enumerate(self.nodes):
            given = node["name"] in shapes or node["name"] in network.placeholders
            if given or any(source in self._active for source, *_ in node["inputs"]):
                self._active.add(number)

    def numbers(self) -> Iterable[int]:
        return (number for number, node in enumerate(self.nodes) if node["op"] != "null" and number in self._active)

    def layer(self, number: int) -> Optional[Layer]:
        """The row of a node, or None if it has none."""
        node = self.nodes[number]
        kind, attributes = node["op"], node.get("attrs", {})
        variables = [v for source, *_ in node["inputs"] for v in self._variables(source) if v not in self._counted]
        if kind not in _LISTED and kind not in _PRODUCTS and not variables:
            return None
        self._counted.update(variables)
        input_bits = weight_bits = None
        macs: Dict[int, int] = {}
        weights = {32: sum(math.prod(self._shape(variable)) for variable in variables)}
        if kind in _PRODUCTS:
            input_bits, weight_bits = self._bits(node)
            inputs_each, products = self._product(number)
            macs = {max(input_bits, weight_bits): products}
            own = self._variables(node["inputs"][1][0])
            if own and own[0] in variables:
                # Packed weights have fewer elements than they stand for.
                stored = math.prod(self._shape(own[0]))
                weights[32] -= stored
                packed = is_packed(kind, attributes)
                units = int(attributes.get("num_filter", attributes.get("num_hidden")))
                weights[weight_bits] = weights.get(weight_bits, 0) + (units * inputs_each if packed else stored)
        name = node["name"][: -len("_fwd")] if node["name"].endswith("_fwd") else node["name"]
        weights = {bits: count for bits, count in weights.items() if count}
        return Layer(name, _NAMES.get(kind, kind), self._shape(number)[1:], input_bits, weight_bits, weights, macs)

    def _shape(self, number: int) -> Tuple[int, ...]:
        return self._shapes.get(self.nodes[number]["name"], ())

    def _variables(self, number: int) -> List[int]:
        """The parameters behind an input: itself, or those that it is computed of."""
        if number in self._active:
            return []
        node = self.nodes[number]
        if node["op"] == "null":
            return [number]
        return list(dict.fromkeys(v for source, *_ in node["inputs"] for v in self._variables(source)))

    def _product(self, number: int) -> Tuple[int, int]:
        """Inputs of one output, and multiply-adds, of a convolution or dense layer."""
        node = self.nodes[number]
        attributes = node["attrs"]
        data, output = self._shape(node["inputs"][0][0]), self._shape(number)
        if "num_hidden" in attributes:
            flatten = attributes.get("flatten", "True") in ("True", "true", "1")
            inputs = math.prod(data[1:]) if flatten else data[-1]
            return inputs, inputs * math.prod(output[1:])
        channels_last = attributes.get("layout", "NCHW").endswith("C")
        kernel, groups = math.prod(_tuple(attributes["kernel"])), int(attributes.get("num_group", 1))
        inputs = data[-1 if channels_last else 1] // groups * kernel
        if node["op"] == "Deconvolution":
            return inputs, math.prod(data[1:]) * kernel * int(attributes["num_filter"]) // groups
        return inputs, inputs * math.prod(output[1:])

    def _bits(self, node: Dict[str, Any]) -> Tuple[int, int]:
        """Bits of the input and of the weights of a convolution or dense layer."""
        attributes = node["attrs"]
        if node["op"] not in _Q_OPERATORS:
            return self._quantizer_bits(node["inputs"][0][0]), self._quantizer_bits(node["inputs"][1][0])
        if attributes.get("float_input") in ("True", "true", "1"):
            return self._quantizer_bits(node["inputs"][0][0]), 1
        if is_packed(node["op"], attributes):
            return 1, 1
        return int(attributes.get("act_bit", 1)), int(attributes.get("weight_bit", 1))

    def _quantizer_bits(self, number: int) -> int:
        """Bits of the values of a node: those of the quantizer that is found going back, 32 if there is none."""
        node = self.nodes[number]
        kind, attributes = node["op"], node.get("attrs", {})
        if kind == "QActivation" and attributes.get("backward_only") not in ("True", "true", "1"):
            return int(attributes.get("act_bit", 1))
        if kind == "_contrib_sign_ste":
            return 1
        if kind in ("_contrib_round_ste", "round"):
            scaled = self.nodes[node["inputs"][0][0]]
            if scaled["op"] == "_mul_scalar":  # by the largest code, 2^bits - 1
                return min(32, round(math.log2(float(scaled["attrs"]["scalar"]) + 1)))
        transparent = kind in _TRANSPARENT or (kind == "Pooling" and attributes.get("pool_type", "max") == "max")
        if transparent or (kind == "elemwise_add" and self._is_correction(node["inputs"][1][0])):
            return self._quantizer_bits(node["inputs"][0][0])
        return 32

    def _is_correction(self, number: int) -> bool:
        """Whether a node is what the composed quantizers add: 1 to a sign of 0, or 0 for the sake of its gradient."""
        node = self.nodes[number]
        if node["op"] != "elemwise_sub":
            return node["op"] == "_equal_scalar"
        blocked = self.nodes[node["inputs"][1][0]]
        return blocked["op"] == "BlockGrad" and blocked["inputs"] == node["inputs"][:1]


def _tuple(text: str) -> Tuple[int, ...]:
    value = ast.literal_eval(text.replace("L", ""))
    return value if isinstance(value, tuple) else (value,)


def _sum(counts: Iterable[Mapping[int, int]]) -> Dict[int, int]:
    total: Dict[int, int] = {}
    for each in counts:
        for bits, count in each.items():
            total[bits] = total.get(bits, 0) + count
    return dict(sorted(total.items()))


def _name(bits: int) -> str:
    return "float" if bits == 32 else f"{bits}-bit"


def _count(count: Optional[int]) -> str:
    return f"{count:,}" if count else ""


def _numbers(weights: Mapping[int, int], widths: Sequence[int], memory: float) -> List[str]:
    return [*(_count(weights.get(bits)) for bits in widths), f"{memory / 1024:,.2f}" if memory else ""]


def _table(rows: List[List[str]]) -> List[str]:
    """Rows of cells as lines: a header, which is underlined, layers, and a total; numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    rule = "  ".join("-" * width for width in widths)
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:4], widths)]
        cells += [cell.rjust(width) for cell, width in zip(row[4:], widths[4:])]
        lines.append("  ".join(cells).rstrip())
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]
