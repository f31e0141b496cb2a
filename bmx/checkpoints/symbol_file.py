"""MXNet's symbol JSON as a graph of nodes: read with every index checked, rewritten, written back.

MXNet's own loader believes the output numbers in a file, and a wrong one is a segmentation fault. So a file is parsed
here, and MXNet is only given JSON that this module wrote from a checked graph (`to_symbol`). The converter rewrites the
same graph and writes it in the dialect of its MXNet version.

The dialects, all read: before 0.9 operator parameters are under ``param``; to 0.12 all attributes are under ``attr``;
since then under ``attrs``. Entries are ``[node, output]`` or ``[node, output, version]``.
"""

from __future__ import annotations

import ctypes
import json
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple, Optional

import mxnet as mx
from mxnet.base import _LIB, OpHandle, SymbolHandle, c_str, c_str_array, check_call, mx_uint

from ..errors import Error
from .operator_inputs import check_inputs
from .params_file import read_bytes

__all__ = [
    *("Entry", "SymbolGraph", "SymbolNode", "dump_graph", "input_names", "mxnet_message", "parse_graph", "read_graph"),
    "to_symbol",
]

_ATTRIBUTE_KEYS = ("param", "attr", "attrs")  # weakest first, as MXNet merges them
_SIZE = r"\s*(-1|\d{1,18})L?\s*"  # -1 and 0: not known
_SHAPE = re.compile(rf"\s*(None|[\[(]({_SIZE}(,{_SIZE})*,?)?\s*[\])])\s*", re.ASCII)
_READ_KEYS = {"op", "name", "inputs", "control_deps", "subgraphs", "backward_source_id", *_ATTRIBUTE_KEYS}


@dataclass(eq=False)
class SymbolNode:
    """A variable (``op == "null"``) or an operator of a graph."""

    op: str
    name: str
    attributes: Dict[str, str] = field(default_factory=dict)
    inputs: List[Entry] = field(default_factory=list)
    control_deps: List[SymbolNode] = field(default_factory=list)
    subgraphs: List[SymbolGraph] = field(default_factory=list)
    outputs: int = 1

    @property
    def is_variable(self) -> bool:
        """Whether it is an input of the graph, a parameter or data."""
        return self.op == "null"


class Entry(NamedTuple):
    """Output number `index` of a node; `version` counts the writes to a variable."""

    node: SymbolNode
    index: int = 0
    version: int = 0


@dataclass(eq=False)
class SymbolGraph:
    """Nodes in an order in which inputs come first, and the graph's outputs.

    `attribute_key` is ``"attr"`` or ``"attrs"``: where this dialect of JSON keeps attributes. `attributes` are those of
    the whole graph, such as ``{"mxnet_version": ["int", 903]}``.
    """

    nodes: List[SymbolNode]
    heads: List[Entry]
    attribute_key: str
    attributes: Dict[str, Any]

    def variables(self) -> Dict[str, SymbolNode]:
        """The variables by name."""
        return {node.name: node for node in self.nodes if node.is_variable}

    def consumers(self, node: SymbolNode) -> List[Optional[SymbolNode]]:
        """The nodes that read any output of `node`, once per use; None stands for the graph's outputs."""
        uses: List[Optional[SymbolNode]] = [user for user in self.nodes for entry in user.inputs if entry.node is node]
        return uses + [None for entry in self.heads if entry.node is node]

    def replace(self, old: SymbolNode, new: Entry) -> None:
        """Let every reader of `old`'s first output read `new`."""
        for user in self.nodes:
            user.inputs = [new if entry.node is old else entry for entry in user.inputs]
        self.heads = [new if entry.node is old else entry for entry in self.heads]

    def prune(self) -> None:
        """Take out the nodes that no output needs."""
        used, pending = set(), [entry.node for entry in self.heads]
        while pending:
            node = pending.pop()
            if id(node) not in used:
                used.add(id(node))
                pending += [entry.node for entry in node.inputs] + node.control_deps
        self.nodes = [node for node in self.nodes if id(node) in used]

    def to_json(self) -> Dict[str, Any]:
        """The graph as MXNet's JSON object."""
        number = {id(node): i for i, node in enumerate(self.nodes)}
        rows = [0]
        for node in self.nodes:
            rows.append(rows[-1] + node.outputs)
        result = {
            "nodes": [self._node_to_json(node, number) for node in self.nodes],
            "arg_nodes": [i for i, node in enumerate(self.nodes) if node.is_variable],
            "node_row_ptr": rows,
            "heads": [[number[id(entry.node)], entry.index, entry.version] for entry in self.heads],
        }
        if self.attributes:
            result["attrs"] = self.attributes
        return result

    def _node_to_json(self, node: SymbolNode, number: Dict[int, int]) -> Dict[str, Any]:
        result: Dict[str, Any] = {"op": node.op, "name": node.name}
        if node.attributes:
            result[self.attribute_key] = node.attributes
        result["inputs"] = [[number[id(entry.node)], entry.index, entry.version] for entry in node.inputs]
        if node.control_deps:
            result["control_deps"] = [number[id(other)] for other in node.control_deps]
        if node.subgraphs:
            result["subgraphs"] = [graph.to_json() for graph in node.subgraphs]
        return result


def read_graph(path: str) -> SymbolGraph:
    """Read a ``<prefix>-symbol.json``.

    Raises
    ------
    bmx.Error
        If it is missing, not JSON, or not a graph as MXNet writes it.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8")
        content = json.loads(text)
        if "\\u" in text:
            _text_of(content).encode("utf-8")  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise Error(f"{path}: not valid JSON: {error}") from None
    return parse_graph(content, path)


def parse_graph(content: Any, where: str) -> SymbolGraph:
    """Check the JSON object of a graph and make it a `SymbolGraph`; `where` names the file in errors."""
    try:
        return _parse_graph(content)
    except RecursionError:
        raise Error(f"{where}: not a symbol file of MXNet: subgraphs nested too deep") from None
    except _Invalid as error:
        raise Error(f"{where}: not a symbol file of MXNet: {error}") from None


class _Invalid(Exception):
    pass


def _check(condition: Any, problem: str) -> None:
    if not condition:
        raise _Invalid(problem)


def _parse_graph(content: Any) -> SymbolGraph:
    _check(isinstance(content, dict) and isinstance(content.get("nodes"), list), "no list of nodes")
    _check(isinstance(content.get("heads"), list) and content["heads"], "no list of heads")
    attributes = content.get("attrs", {})
    _check(isinstance(attributes, dict), "attrs of the graph is not an object")
    version = attributes.get("mxnet_version", ["int", 800])
    _check(isinstance(version, list) and len(version) == 2 and _is_index(version[1]), "mxnet_version is not a number")
    nodes: List[SymbolNode] = []
    variables: Dict[str, SymbolNode] = {}
    for item in content["nodes"]:
        node = _parse_node(item, nodes)
        if node.is_variable:  # those of one name are one array; Module refuses them unless they are one node
            node = variables.setdefault(node.name, node)
        nodes.append(node)
    _check(bool(nodes), "no nodes")
    heads = [_parse_entry(entry, nodes, "heads") for entry in content["heads"]]
    rows = content.get("node_row_ptr")
    if isinstance(rows, list) and len(rows) == len(nodes) + 1 and all(map(_is_index, rows)):
        for node, start, end in zip(nodes, rows, rows[1:]):
            node.outputs = max(end - start, 1)
    modern = version[1] >= 10000 or any("attrs" in item for item in content["nodes"])
    return SymbolGraph(list(dict.fromkeys(nodes)), heads, "attrs" if modern else "attr", attributes)


def _is_index(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _parse_node(item: Any, earlier: List[SymbolNode]) -> SymbolNode:
    where = f"node {len(earlier)}"
    _check(isinstance(item, dict), f"{where} is not an object")
    for key in ("op", "name"):
        _check(isinstance(item.get(key), str), f"{where} has no {key}")
    where += f" ({item['name']!r})"
    _check(isinstance(item.get("inputs"), list), f"{where} has no list of inputs")
    unknown = sorted(set(item) - _READ_KEYS)
    _check(not unknown, f"{where} has the unknown field {', '.join(map(repr, unknown))}")
    attributes: Dict[str, str] = {}
    for key in _ATTRIBUTE_KEYS:
        values = item.get(key, {})
        _check(isinstance(values, dict) and all(isinstance(v, str) for v in values.values()), f"{where}: bad {key}")
        attributes.update(values)
    declared = attributes.get("__shape__", "()") if item["op"] == "null" else "()"
    _check(_SHAPE.fullmatch(declared), f"{where}: __shape__ is {declared!r}; it must be sizes such as (1, 3, 32, 32)")
    inputs = [_parse_entry(entry, earlier, where) for entry in item["inputs"]]
    _check(not (item["op"] == "null" and inputs), f"{where} is a variable with inputs")
    control, subgraphs = item.get("control_deps", []), item.get("subgraphs", [])
    valid = isinstance(control, list) and all(_is_index(i) and i < len(earlier) for i in control)
    _check(valid, f"{where}: control_deps is not a list of earlier nodes")
    _check(isinstance(subgraphs, list), f"{where}: subgraphs is not a list")
    graphs = [_parse_graph(graph) for graph in subgraphs]
    return SymbolNode(item["op"], item["name"], attributes, inputs, [earlier[i] for i in control], graphs)


def _parse_entry(entry: Any, nodes: List[SymbolNode], where: str) -> Entry:
    valid = isinstance(entry, list) and len(entry) in (2, 3) and all(map(_is_index, entry))
    _check(valid, f"{where}: {entry!r} is not [node, output, version]")
    _check(entry[0] < len(nodes), f"{where}: input from node {entry[0]}, which is not an earlier node")
    return Entry(nodes[entry[0]], *entry[1:])


def dump_graph(graph: SymbolGraph) -> str:
    """The text of a ``<prefix>-symbol.json``, one node a line."""
    content = graph.to_json()
    nodes = ",\n".join(_text_of(node) for node in content.pop("nodes"))
    return f'{{"nodes": [\n{nodes}\n],\n{_text_of(content)[1:]}\n'


def _text_of(content: Any) -> str:
    """JSON as MXNet reads it: its reader has no escapes by number."""
    return json.dumps(content, ensure_ascii=False)


def mxnet_message(error: mx.base.MXNetError) -> str:
    """The last line of MXNet's message, which says what is wrong; before it stands its stack."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    noise = r"^(\[0\] |MXNetError: )*|\[\d\d:\d\d:\d\d\] \S+:\d+: "  # and the time and line of MXNet's source
    return re.sub(noise, "", lines[-1]) if lines else "unknown error"


def to_symbol(graph: SymbolGraph, where: str) -> mx.sym.Symbol:
    """Make an MXNet symbol of a graph.

    Raises
    ------
    bmx.Error
        If MXNet refuses it (an unknown operator, a wrong attribute), or a node has too few inputs or reads an output
        that does not exist.
    """
    check_inputs(_text_of(graph.to_json()), where=f"{where}: ")  # before MXNet crashes with them
    try:
        _check_outputs(graph, where)
        symbol = mx.sym.load_json(_text_of(graph.to_json()))
        _check_inputs(json.loads(symbol.tojson()), where)  # of old graphs MXNet has added those that they leave out
        return symbol
    except mx.base.MXNetError as error:
        raise Error(f"{where}: MXNet cannot read this symbol: {mxnet_message(error)}") from None


def _check_outputs(graph: SymbolGraph, where: str) -> None:
    """Compare the output numbers that are used with what the operators have: MXNet does not, and would crash.

    A probe, the same nodes under their numbers as names and all their outputs listed, is asked for the names of all
    outputs: ``<node>_<output>`` each.
    """
    for node in graph.nodes:
        for inner in node.subgraphs:
            _check_outputs(inner, where)
    entries = [entry for node in graph.nodes for entry in node.inputs] + graph.heads
    if not any(entry.index for entry in entries):
        return
    content = graph.to_json()
    for i, item in enumerate(content["nodes"]):
        item["name"] = str(i)
        item["inputs"] = [[node, 0, version] for node, _, version in item["inputs"]]
    content["heads"] = [[i, 0, 0] for i in range(len(graph.nodes))]
    probe = mx.sym.load_json(_text_of(content))
    added = set(probe.list_inputs())  # MXNet adds missing variables to old graphs
    counts = [0] * len(graph.nodes)
    for name in probe.get_internals().list_outputs():
        if name not in added:
            counts[int(name.split("_")[0])] += 1
    for entry in entries:
        node = entry.node
        if entry.index and entry.index >= (1 if node.is_variable else counts[graph.nodes.index(node)]):
            raise Error(f"{where}: not a symbol file of MXNet: {node.name!r} has no output {entry.index}")


def _check_inputs(content: Any, where: str) -> None:
    """Find nodes with fewer inputs than their operators take: with some of them, such as BatchNorm, MXNet crashes."""
    for node in content["nodes"]:
        for graph in node.get("subgraphs", []):
            _check_inputs(graph, where)
        if node["op"] == "null" or "subgraphs" in node:
            continue
        wanted, found = len(input_names(node["op"], node.get("attrs", {}))), len(node["inputs"])
        if found < wanted:
            inputs = f"{wanted} inputs, and has {found}"
            raise Error(f"{where}: not a symbol file of MXNet: {node['name']!r} ({node['op']}) takes {inputs}")


def input_names(op: str, attributes: Dict[str, str]) -> List[str]:
    """The names of the inputs that an operator takes, such as data, weight, bias; none if it cannot be told."""
    creator, handle = OpHandle(), SymbolHandle()
    keys = [key for key in attributes if not key.startswith("__")]
    values = c_str_array([attributes[key] for key in keys])
    try:
        check_call(_LIB.NNGetOpHandle(c_str(op), ctypes.byref(creator)))
        count = mx_uint(len(keys))
        check_call(_LIB.MXSymbolCreateAtomicSymbol(creator, count, c_str_array(keys), values, ctypes.byref(handle)))
        symbol = mx.sym.Symbol(handle)
        check_call(_LIB.MXSymbolCompose(handle, c_str("x"), mx_uint(0), None, None))  # makes a variable of each
    except mx.base.MXNetError:
        return []
    return [name[len("x_") :] for name in symbol.list_inputs()]
