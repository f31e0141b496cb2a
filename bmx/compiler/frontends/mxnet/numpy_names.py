"""Operators of MXNet's NumPy mode by the names of the classic ones that do the same."""

from __future__ import annotations

from dataclasses import replace

from ....checkpoints.symbol_file import SymbolNode

__all__ = ["classic"]

_SAME = {
    **{f"_npi_{name}": f"broadcast_{name}" for name in ("maximum", "minimum")},
    "_npi_add": "broadcast_add",
    "_npi_subtract": "broadcast_sub",
    "_npi_multiply": "broadcast_mul",
    "_npi_true_divide": "broadcast_div",
    "_npi_add_scalar": "_plus_scalar",
    "_npi_subtract_scalar": "_minus_scalar",
    "_npi_rsubtract_scalar": "_rminus_scalar",
    "_npi_multiply_scalar": "_mul_scalar",
    "_npi_true_divide_scalar": "_div_scalar",
    "_npi_rtrue_divide_scalar": "_rdiv_scalar",
    "_npi_power_scalar": "_power_scalar",
    **{f"_npi_{name}": name for name in ("exp", "log", "negative", "reciprocal", "sign", "sqrt", "square", "tanh")},
    "_npi_absolute": "abs",
    "_npi_mean": "mean",
    **{f"_np_{name}": name for name in ("sum", "max", "min", "squeeze", "transpose")},
    **{f"_npx_{name}": name for name in ("relu", "sigmoid")},
    "_np_copy": "_copy",
    "_np_reshape": "reshape",
    "_npx_reshape": "reshape",
    "_npi_concatenate": "Concat",
    "_npi_where": "where",
    "_npi_equal_scalar": "_equal_scalar",
    "_npi_greater_scalar": "_greater_scalar",
    "_npi_greater_equal_scalar": "_greater_equal_scalar",
    "_npi_less_scalar": "_lesser_scalar",
    "_npi_less_equal_scalar": "_lesser_equal_scalar",
}


def classic(node: SymbolNode) -> SymbolNode:
    """The node as a classic operator, if it is one of those; itself otherwise."""
    if node.op not in _SAME or node.attributes.get("order", "C") != "C":
        return node
    attributes = dict(node.attributes)
    if node.op == "_npi_concatenate":
        attributes["dim"] = attributes.pop("axis", "0")
    return replace(node, op=_SAME[node.op], attributes=attributes)
