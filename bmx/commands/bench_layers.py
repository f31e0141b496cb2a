"""``bmx bench --layers``: measure single layers of all kinds of arithmetic."""

from __future__ import annotations

import argparse
from typing import Any, Tuple

from ..errors import Error
from ..tables import aligned
from .arguments import allowed
from .bench_files import write_results

FOOT = """\
warm: the layer is called repeatedly, so its weights stay in the caches as far as they fit. cold: the caches hold
other data. GMAC/s: billions of multiply-adds per second. GB/s: rate of weights and tensors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments for single layers."""
    parser.add_argument(
        "--kinds",
        type=lambda text: text.split(","),
        metavar="KIND,...",
        help="kinds of single layers, input by weights: float, float-binary, int8, int8-binary, binary (default: all)",
    )
    parser.add_argument(
        "--shapes",
        type=shapes,
        metavar="SHAPE,...",
        help="sizes of single layers: N is fully connected, N -> N; CxHxW is a 3x3 convolution, C -> C"
        " (default: 4096,64x56x56,128x28x28,256x14x14,512x7x7)",
    )


@allowed("N or CxHxW of 1 or more, such as 4096,64x56x56")
def shapes(text: str) -> Any:
    """Sizes such as 4096,64x56x56. Each has one number or three."""
    found = [tuple(int(size) for size in shape.split("x")) for shape in text.split(",")]
    if any(len(shape) not in (1, 3) or min(shape) < 1 for shape in found):
        raise ValueError
    return found


def wanted(args: argparse.Namespace) -> bool:
    """Whether to measure single layers.

    Raises
    ------
    bmx.Error
        If arguments for models and for single layers are mixed.
    """
    if args.models:
        if args.kinds or args.shapes:
            raise Error("--kinds and --shapes are for single layers; leave out MODEL to measure these")
        return False
    if not args.layers:
        raise Error("give a MODEL, or --layers to measure single layers")
    if args.batch != (1,) or args.data_shape or args.data or args.labels:
        raise Error("--batch, --data-shape, --data and --labels are for models; single layers run on one image")
    return True


def run(args: argparse.Namespace) -> int:
    """Measure, print tables, write files."""
    from ..measure.single_layers import KINDS, SHAPES, Shape, measure_layers
    from . import charts

    wanted = [Shape(*shape) for shape in args.shapes] if args.shapes else SHAPES
    reports = []
    for threads in args.threads:
        reports.append(measure_layers(args.kinds or tuple(KINDS), wanted, threads, args.rounds))
        print(table(reports[-1]), flush=True)
        print()
    print(FOOT)
    write_results(args, [report.as_json() for report in reports], lambda: charts.plot_layers(reports))
    return 0


def table(report: Any) -> str:
    """One row per layer."""
    from ..measure.single_layers import KINDS

    rates = ["GMAC/s", "GB/s"]
    rows = [["layer", "kind", "weights KB", "tensors KB", "warm us", *rates, "cold us", *rates]]
    for layer in report.layers:
        sizes = [f"{size / 1e3:.1f}" for size in (layer.weight_bytes, layer.tensor_bytes)]
        rows.append([str(layer.shape), KINDS[layer.kind].name, *sizes])
        for seconds in (layer.warm, layer.cold):
            rows[-1] += _rates(layer, seconds)
    title = f"{report.threads} thread(s); memory is read at {report.bandwidth / 1e9:.1f} GB/s"
    return "\n".join([title, *aligned(rows, left=2)])


def _rates(layer: Any, seconds: float) -> Tuple[str, str, str]:
    return f"{1e6 * seconds:.1f}", f"{layer.macs / seconds / 1e9:.0f}", f"{layer.bytes / seconds / 1e9:.1f}"
