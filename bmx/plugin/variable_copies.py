"""Copies of variables: an identity between a variable and a quantized layer that reads it.

MXNet does not tell custom operators when they should add to an array instead of overwriting it: with
``grad_req='add'`` the gradient of one pass would silently replace the sum. It tells built-in operators. So
between a variable and an operator of libbmx there stands an identity, which copies no more than the weights.
(The other place where MXNet adds, sums of eight and more gradients, is switched off in library.py.)

Functions of ``mx.sym`` copy variables as they build a graph, ``mx.sym.load`` and ``load_json`` in what they load.
``mx.viz`` shows graphs without them, and the converter leaves them out.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
from pathlib import Path
from typing import Any, Mapping, Sequence

import mxnet as mx

from ..checkpoints.operator_inputs import check_inputs
from ..checkpoints.q_layers import is_packed
from ..journal import finish

_SUFFIX = "_guard"  # of the names of these nodes, also in files
_WITHOUT_GRADIENT = ("moving_mean", "moving_var", "mode", "tau")


def is_variable(symbol: mx.sym.Symbol) -> bool:
    """Whether a symbol is a single variable."""
    return symbol.get_children() is None and len(symbol.list_outputs()) == 1


def needed(operator: str, key: str, symbol: mx.sym.Symbol, attributes: Mapping[str, Any]) -> bool:
    """Whether an input of an operator needs a copy: a variable with a gradient, which packed words have not."""
    words = key == "weight" and is_packed(operator, attributes)
    return key not in _WITHOUT_GRADIENT and not words and is_variable(symbol)


def copied(variable: mx.sym.Symbol) -> mx.sym.Symbol:
    """A copy of the variable."""
    with mx.name.NameManager():  # no prefix of a scope
        return mx.sym.identity(variable, name=variable.name + _SUFFIX)


def give_shape(operator: str, key: str, variable: mx.sym.Symbol, attributes: Mapping[str, Any]) -> None:
    """Writes what is known of the shape of a parameter into its variable; other symbols and data stay as they are.

    MXNet counts an input of unknown shape as -1 dimensions when it makes room to hand shapes to a custom
    operator, and then writes past the end. An input whose number of dimensions is known is counted right, so
    variables say theirs when the graph is built, as Gluon's parameters do: (num_filter, -1, kernel...), -1 for
    what only the data can tell. Packed weights have no shape that is known from the attributes alone.
    """
    if key in ("data", "mode") or not is_variable(variable) or variable.attr("__shape__") is not None:
        return
    if key == "weight" and is_packed(operator, attributes):
        return
    shape: tuple = (-1,)
    if key in ("weight", "bias"):
        try:
            units = int(attributes.get("num_filter", attributes.get("num_hidden")))
        except (TypeError, ValueError):
            return  # the operator says what is wrong
        kernel = [int(number) for number in re.findall(r"\d+", str(attributes.get("kernel", "")))]
        shape = (units, -1, *kernel) if key == "weight" else (units,)
    variable._set_attr(__shape__=str(shape))


def copy_variables(symbol: mx.sym.Symbol, operators: Mapping[str, Sequence[str]]) -> mx.sym.Symbol:
    """The same graph with a copy of each variable that an operator reads directly.

    Parameters
    ----------
    symbol : mx.sym.Symbol
    operators : mapping of str to list of str
        The operators by name, with the names of their inputs.
    """
    nodes = json.loads(symbol.tojson())["nodes"]
    if not any(node["op"] in operators for node in nodes):
        return symbol
    internals, found = symbol.get_internals(), {}
    for node in nodes:
        if node["op"] not in operators:
            continue
        for key, (index, _, _) in zip(operators[node["op"]], node["inputs"]):
            if nodes[index]["op"] == "null":
                variable, attributes = internals[nodes[index]["name"]], node.get("attrs", {})
                give_shape(node["op"], key, variable, attributes)
                if needed(node["op"], key, variable, attributes):
                    found[variable.name] = copied(variable)
    return symbol(**found) if found else symbol


def without_copies(symbol: mx.sym.Symbol) -> str:
    """The JSON of the graph as its author wrote it: what reads a copy reads the variable."""
    graph = json.loads(symbol.tojson())
    place = {}  # old number of a node -> new number
    kept = []
    for number, node in enumerate(graph["nodes"]):
        node["inputs"] = [[place[index], output, version] for index, output, version in node["inputs"]]
        if node["op"] == "_copy" and node["name"].endswith(_SUFFIX) and kept[node["inputs"][0][0]]["op"] == "null":
            place[number] = node["inputs"][0][0]
        else:
            place[number] = len(kept)
            kept.append(node)
    graph["nodes"] = kept
    graph["heads"] = [[place[index], *rest] for index, *rest in graph["heads"]]
    graph["arg_nodes"] = [number for number, node in enumerate(kept) if node["op"] == "null"]
    graph.pop("node_row_ptr", None)
    return json.dumps(graph, ensure_ascii=False)  # MXNet knows no \u escapes


def install(operators: Mapping[str, Sequence[str]]) -> None:
    """Makes ``mx.sym.load`` and ``load_json`` copy variables, and ``mx.viz`` hide the copies. To be called once."""
    load_plain, load_plain_json = mx.sym.load, mx.sym.load_json

    @functools.wraps(mx.sym.load)
    def load(fname):
        if isinstance(fname, (str, os.PathLike)):
            finish(fname)
        with contextlib.suppress(OSError, TypeError, UnicodeDecodeError):  # of such a file MXNet says what is wrong
            check_inputs(Path(fname).read_text("utf-8"), f"{fname}: ")
        return copy_variables(load_plain(fname), operators)

    @functools.wraps(load_plain_json)
    def load_json(json_str):
        check_inputs(json_str)
        return copy_variables(load_plain_json(json_str), operators)

    def hiding(show):
        @functools.wraps(show)
        def hiding_show(symbol, *arguments, **keywords):
            if isinstance(symbol, mx.sym.Symbol):
                symbol = load_plain_json(without_copies(symbol))
            return show(symbol, *arguments, **keywords)

        return hiding_show

    for module in (mx.sym, mx.symbol.symbol):
        module.load, module.load_json = load, load_json
    for name in ("print_summary", "plot_network"):
        setattr(mx.viz, name, hiding(getattr(mx.viz, name)))
