"""``bmx bench --layers``: measure single layers of all kinds of arithmetic."""

from __future__ import annotations

import argparse
from typing import Any, Tuple

from ..errors import Error
from ..tables import aligned
from .arguments import allowed
from .bench_files import write_results

FOOT = """\
warm: called again and again, the weights stay in the caches as far as they fit. cold: with other data in the caches.
GMAC/s: billions of multiply-adds a second. GB/s: of weights and tensors."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments that models do not have."""
    parser.add_argument(
        "--kinds",
        type=lambda text: text.split(","),
        metavar="KIND,...",
        help="of single layers, input by weights: float, float-binary, int8, int8-binary, binary (default: all)",
    )
    parser.add_argument(
        "--shapes",
        type=shapes,
        metavar="SHAPE,...",
        help="of single layers: N, fully connected, N -> N; CxHxW, a 3x3 convolution, C -> C"
        " (default: 4096,64x56x56,128x28x28,256x14x14,512x7x7)",
    )


@allowed("N or CxHxW of 1 or more, such as 4096,64x56x56")
def shapes(text: str) -> Any:
    """Sizes such as 4096,64x56x56: each one number, or three."""
    found = [tuple(int(size) for size in shape.split("x")) for shape in text.split(",")]
    if any(len(shape) not in (1, 3) or min(shape) < 1 for shape in found):
        raise ValueError
    return found


def wanted(args: argparse.Namespace) -> bool:
    """Whether single layers are to be measured.

    Raises
    ------
    bmx.Error
        If the arguments are partly of models and partly of single layers.
    """
    if args.models:
        if args.kinds or args.shapes:
            raise Error("--kinds and --shapes are of single layers, which are measured without a MODEL")
        return False
    if not args.layers:
        raise Error("name a MODEL, or measure single layers with --layers")
    if args.batch != (1,) or args.data_shape or args.data or args.labels:
        raise Error("--batch, --data-shape, --data and --labels are of models; single layers run with one image")
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
    """A row for each layer."""
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
