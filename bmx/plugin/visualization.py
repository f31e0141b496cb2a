"""What BMXNet v2 added to ``mx.viz``: sizes with quantized weights, and a plot with one node for each binary layer."""

from __future__ import annotations

import functools
from typing import Any

import mxnet as mx

__all__ = ["install"]


def install() -> None:
    """Make ``mx.viz.print_summary`` and ``plot_network`` take v2's arguments. To be called once."""
    plain_summary, plain_plot = mx.viz.print_summary, mx.viz.plot_network

    @functools.wraps(plain_summary)
    def print_summary(symbol, shape=None, *arguments, quantized_bitwidth=None, **keywords):
        plain_summary(symbol, shape, *arguments, **keywords)
        if quantized_bitwidth is not None and shape:
            print(_sizes(symbol, shape, quantized_bitwidth))

    @functools.wraps(plain_plot)
    def plot_network(*arguments, consolidate_binary_layers=True, **keywords):
        # Nothing to do: a layer of bmx is one node, and copies of variables are left out.
        return plain_plot(*arguments, **keywords)

    mx.viz.print_summary, mx.viz.plot_network = print_summary, plot_network


def _sizes(symbol: mx.sym.Symbol, shape: Any, quantized_bitwidth: int) -> str:
    """Parameters and their size where each quantized weight has so many bits."""
    from ..network_summary import summary  # the compiler, which not everyone needs

    weights = summary(symbol, {name: tuple(sizes[1:]) for name, sizes in dict(shape).items()}).weights
    full, total = weights.get(32, 0), sum(weights.values())
    quantized = total - full

    def share(count):
        return f"{count:,} ({100 * count / total if total else 0:.2f} %)"

    compressed = (32 * full + quantized_bitwidth * quantized) / 8
    return (
        f"FP params: {share(full)}\n"
        f"Quantized params: {share(quantized)}\n"
        f"Model size (full-precision): {4 * total / 2**20:.2f} MiB\n"
        f"Model size (quantized weights of {quantized_bitwidth} bits): {compressed / 2**20:.2f} MiB"
    )
