"""``bmx bench``: measure models side by side, or single layers (`bench_layers`)."""

from __future__ import annotations

import argparse
from typing import Any, List, Optional

from ..errors import Error
from . import bench_layers
from .arguments import add_command, add_data_shape, sizes
from .bench_files import check_outputs, write_results
from .bench_tables import best_peers, layer_table, table

_INSTALL_PEERS = "pip install 'bmx-mxnet[peers]'"


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "bench",
        "measure models side by side, or single layers",
        "bmx bench resnet18.bmx\n"
        "bmx bench float-0000.params binary-0120.params binary.bmx --batch 1,32 --threads 1,2\n"
        "bmx bench float.onnx int8.onnx binary.bmx --layers --plot bench.png --json bench.json\n"
        "bmx bench float.onnx binary.bmx --data images.npy --labels classes.npy --plot accuracy.png\n"
        "bmx bench --layers --plot layers.png\n"
        "bmx bench --layers --kinds int8,int8-binary --shapes 2048,256x28x28 --threads 1,2",
        description="Time models in turns, each in its own process. Models are .bmx files, checkpoints of MXNet"
        " (PREFIX-NNNN.params) and .onnx files, which run in ONNX Runtime and OpenVINO if installed. The table shows"
        " the median time of a call with the whole batch, its 5th and 95th percentiles, images per second, the speed"
        " relative to the first model, and the peak memory of the process (in brackets: memory added by the model"
        " and, except for .bmx files, its framework). Below it each .bmx file is compared with the fastest other"
        " model. Without a model, --layers measures single layers in all kinds of arithmetic on one image. It prints"
        " billions of multiply-adds per second (GMAC/s) and the rate of memory that they read and write.",
    )
    parser.add_argument("models", metavar="MODEL", nargs="*")
    parser.add_argument("--batch", type=sizes, default=(1,), metavar="N,...", help="images per call (default: 1)")
    parser.add_argument("--threads", type=sizes, default=(1,), metavar="N,...", help="threads per model (default: 1)")
    parser.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="number of turns of each model (default: 15)"
    )
    add_data_shape(parser, "shape of a sample, for checkpoints and for .onnx files without it")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="print the time of each step of .bmx files; without a MODEL measure single layers",
    )
    bench_layers.add_arguments(parser)
    parser.add_argument("--data", metavar="FILE.npy", help="samples to measure the accuracy; needs --labels")
    parser.add_argument("--labels", metavar="FILE.npy", help="classes of the samples")
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw the steps of .bmx files, or single layers; with --data also accuracy against time",
    )
    parser.add_argument("--json", metavar="FILE", help="write all measurements")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print tables, write files."""
    from ..measure import Contender, Result, measure
    from ..measure.runners import ONNX_FRAMEWORKS, installed, kind
    from . import charts

    if args.rounds < 1:
        raise Error(f"--rounds is {args.rounds}; it must be 1 or more")
    check_outputs(args)
    if args.plot is not None:
        charts.require_matplotlib()
    if bench_layers.wanted(args):
        return bench_layers.run(args)
    if args.data_shape and all(kind(path) == "bmx" for path in args.models):
        raise Error(
            f"{args.models[0]}: the file has the shape of its input; --data-shape is for checkpoints and .onnx files"
        )
    if bool(args.data) != bool(args.labels):
        raise Error("give --data and --labels together")
    if args.plot is not None and not args.data and not any(kind(path) == "bmx" for path in args.models):
        raise Error("--plot has nothing to draw: no model is a .bmx file, and without --data there are no accuracies")
    results: List[Result] = []
    for threads in args.threads:
        for batch in args.batch:
            contenders = [
                Contender(path, batch, threads, shape=args.data_shape, framework=framework)
                for path in args.models
                for framework in _frameworks(path)
            ]
            group = measure(contenders, args.rounds, bool(args.layers or args.plot), args.data, args.labels)
            print("\n".join([table(group), *best_peers(group)]), flush=True)
            print()
            results += group
    for framework, name in ONNX_FRAMEWORKS.items():
        if not installed(framework) and any(result.kind == "onnx" for result in results):
            print(f"not measured: .onnx files in {name}, which is not installed: {_INSTALL_PEERS}\n")
    if args.layers:
        for result in results:
            if result.layers:
                print(layer_table(result))
                print()
    write_results(args, [result.as_json() for result in results], lambda: charts.plot(results))
    return 0


def _frameworks(path: str) -> List[Optional[str]]:
    """The frameworks that run a file. For .onnx files these are all that are installed."""
    from ..measure.runners import ONNX_FRAMEWORKS, installed, kind

    if kind(path) != "onnx":
        return [None]
    found: List[Optional[str]] = [framework for framework in ONNX_FRAMEWORKS if installed(framework)]
    if not found:
        raise Error(f"{path}: needs {' or '.join(ONNX_FRAMEWORKS.values())}: {_INSTALL_PEERS}")
    return found
