"""Rewriting a symbol from bmx's operators to their compositions."""

from __future__ import annotations

import ast
import json
import re
from typing import Any, Callable, Mapping

import mxnet as mx

from ..errors import Error
from .operators import OPERATORS

__all__ = ["compose", "replace_operators"]


def compose(symbol: mx.sym.Symbol) -> mx.sym.Symbol:
    """Replace bmx's operators in a symbol by compositions of built-in operators, with equal values and gradients.

    The result runs on every device, and without libbmx. Arguments, auxiliary states and outputs keep their names and
    order, so parameters of one fit the other. All other nodes stay as they are.

    Parameters
    ----------
    symbol : mx.sym.Symbol

    Returns
    -------
    mx.sym.Symbol

    Raises
    ------
    bmx.Error
        If it is no symbol, or a layer has packed weights or an attribute with a value that is not allowed; the message
        names the layer.
    """
    if not isinstance(symbol, mx.sym.Symbol):
        raise Error(f"compose of {type(symbol).__name__}: needs a Symbol")
    graph = json.loads(symbol.tojson(remove_amp_cast=False))
    composed = replace_operators(graph, OPERATORS)
    return mx.sym.load_json(json.dumps(composed, ensure_ascii=False))  # MXNet knows no \u escapes


def replace_operators(graph: dict, operators: Mapping[str, Callable]) -> dict:
    """Replace operators in a graph in MXNet's JSON form by compositions; all other nodes stay as they are.

    Parameters
    ----------
    graph : dict
        Its nodes are in topological order, as MXNet writes them, and stay so.
    operators : mapping of str to function
        By the operator's name: a function of ``mx.sym``, the operator's inputs and, by name, its attributes, that gives
        the symbol of its one output.

    Raises
    ------
    bmx.Error
        If a function refuses its attributes; the message names the layer.
    """
    nodes: list = []
    number: dict = {}  # of a node in the old graph -> in the new one
    replaced: dict = {}  # number of an old node -> entry of its composition's output

    def renumber(entries):
        return [
            [*replaced[node][:2], *version] if node in replaced else [number[node], output, *version]
            for node, output, *version in entries
        ]

    for old, node in enumerate(graph["nodes"]):
        inputs = renumber(node["inputs"])
        operator = operators.get(node["op"])
        if operator is None:
            node = dict(node, inputs=inputs)
            if "control_deps" in node:
                node["control_deps"] = [number[dep] for dep in node["control_deps"]]
            if "subgraphs" in node:
                node["subgraphs"] = [replace_operators(subgraph, operators) for subgraph in node["subgraphs"]]
            nodes.append(node)
        else:
            replaced[old] = _splice(nodes, node, inputs, operator)
        number[old] = len(nodes) - 1

    result = {k: v for k, v in graph.items() if k != "node_row_ptr"}  # which MXNet counts again
    result.update(
        nodes=nodes,
        arg_nodes=[i for i, node in enumerate(nodes) if node["op"] == "null"],
        heads=renumber(graph["heads"]),
    )
    return result


def _splice(nodes: list, node: dict, inputs: list, operator: Callable) -> list:
    """Append what replaces a node and return the entry of its output, which has the name of the node."""
    attributes = node.get("attrs", {})
    hidden = {k: v for k, v in attributes.items() if k.startswith("__")}  # such as __ctx_group__
    visible = {k: _value(v) for k, v in attributes.items() if k not in hidden}
    with mx.name.Prefix(node["name"] + "_"):
        variables = [mx.sym.var(f"input{i}") for i in range(len(inputs))]
        try:
            part = json.loads(operator(mx.sym, *variables, **visible).tojson(remove_amp_cast=False))
        except (Error, TypeError) as error:
            raise Error(f"layer {node['name']!r} ({node['op']}): {error}") from None

    entries = []
    for new in part["nodes"]:
        if new["op"] == "null":
            entries.append(inputs[int(new["name"].rpartition("input")[2])])
        else:
            new = dict(new, attrs={**new.get("attrs", {}), **hidden})
            new["inputs"] = [[entries[i][0], entries[i][1] + output, version] for i, output, version in new["inputs"]]
            nodes.append(new)
            entries.append([len(nodes) - 1, 0, 0])
    nodes[-1]["name"] = node["name"]
    return entries[part["heads"][0][0]]


def _value(text: str) -> Any:
    """Read an attribute of MXNet's JSON: a number, tuple, truth value or word; Python 2 wrote (3L, 3L)."""
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(re.sub(r"(\d)L\b", r"\1", text))
    except (ValueError, SyntaxError):
        return text
