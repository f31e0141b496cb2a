"""Checks that nodes of bmx's operators have their inputs: with some that have not, MXNet crashes as it loads them."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Mapping, Sequence

from ..errors import Error
from ..operator_documentation import DOCUMENTATION

__all__ = ["check_inputs", "operator_inputs"]


def operator_inputs(operator: str) -> List[str]:
    """Names of the inputs of an operator of libbmx, with a bias where it can have one; none of others."""
    return DOCUMENTATION[operator][0].split(", ") if operator in DOCUMENTATION else []


def check_inputs(text: Any, where: str = "") -> None:
    """Find nodes of our operators that have fewer inputs than they take: with some of them MXNet crashes as it loads.

    Parameters
    ----------
    text : str
        A graph in MXNet's JSON. What is no such graph is left to MXNet.
    where : str
        Begins the message.

    Raises
    ------
    bmx.Error
        If there is one; it names the node.
    """
    try:
        found = [
            (node["name"], node["op"], _attributes(node), len(node["inputs"])) for node in json.loads(text)["nodes"]
        ]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return
    for name, operator, attributes, count in found:
        wanted = _needed_inputs(operator, attributes)
        if count < len(wanted):
            raise Error(f"{where}{name!r} ({operator}) takes the inputs {', '.join(wanted)}; it has {count} of them")


def _needed_inputs(operator: str, attributes: Mapping[str, str]) -> Sequence[str]:
    """Names of the inputs that a node of ours must have."""
    if operator == "bmx_Compiled":
        shapes = re.findall(r"\([^()]*\)", attributes.get("data_shapes", ""))
        labels = re.findall(r"\d+", attributes.get("labels", ""))
        return [*("data" for _ in shapes), *("label" for _ in range(min(int("".join(labels) or 0), 1000))), "program"]
    no_bias = attributes.get("no_bias", "True") in ("True", "true", "1")
    return [name for name in operator_inputs(operator) if name != "bias" or not no_bias]


def _attributes(node: Mapping[str, Any]) -> Dict[str, str]:
    return {key: str(value) for kind in ("param", "attr", "attrs") for key, value in node.get(kind, {}).items()}
