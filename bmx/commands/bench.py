"""``bmx bench``: measure models side by side, or single layers (`bench_layers`)."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..errors import Error
from ..files import check_apart, check_target, model_files
from ..writing import Write, content, write_together
from . import bench_layers
from .arguments import add_command, add_data_shape, sizes

_INSTALL_PEERS = "pip install 'bmx-mxnet[peers]'"


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
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
        description="Time models in turns, each in a process of its own: .bmx files, checkpoints of MXNet"
        " (PREFIX-NNNN.params) and .onnx files, these in ONNX Runtime and in OpenVINO, as installed. Printed are the"
        " median time of a call with the whole batch, its 5th and 95th percentile, images a second, how many times"
        " faster a model is than the first one, and the largest memory of the process, in brackets what of it came"
        " with the model and, but for .bmx files, its framework; then how a .bmx file stands to the fastest of the"
        " others. Without a model, --layers measures single layers of all kinds of arithmetic,"
        " with one image, and prints the billions of multiply-adds that they do in a second (GMAC/s), and how fast"
        " they read and write memory.",
    )
    parser.add_argument("models", metavar="MODEL", nargs="*")
    parser.add_argument("--batch", type=sizes, default=(1,), metavar="N,...", help="images a call (default: 1)")
    parser.add_argument("--threads", type=sizes, default=(1,), metavar="N,...", help="(default: 1)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="how often each has its turn (default: 15)")
    add_data_shape(parser, "of a sample, for checkpoints and .onnx files that do not tell")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="print the time of each step of .bmx files; without a MODEL measure single layers",
    )
    bench_layers.add_arguments(parser)
    parser.add_argument("--data", metavar="FILE.npy", help="samples, for the accuracy; with --labels")
    parser.add_argument("--labels", metavar="FILE.npy", help="their classes")
    parser.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw the steps of .bmx files, or single layers; with --data the accuracy of models against their time",
    )
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, print tables, write files."""
    from ..measure import Contender, Result, measure
    from ..measure.runners import ONNX_FRAMEWORKS, installed, kind
    from . import charts

    if args.rounds < 1:
        raise Error(f"--rounds is {args.rounds}; it must be 1 or more")
    _check_outputs(args)
    if args.plot is not None:
        charts.require_matplotlib()
    if bench_layers.wanted(args):
        return bench_layers.run(args)
    if args.data_shape and all(kind(path) == "bmx" for path in args.models):
        raise Error(f"{args.models[0]}: has the shape of its input; --data-shape is for checkpoints and .onnx files")
    if bool(args.data) != bool(args.labels):
        raise Error("--data and --labels go together")
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
    """What is to run a file: of .onnx files, everything that is installed for them."""
    from ..measure.runners import ONNX_FRAMEWORKS, installed, kind

    if kind(path) != "onnx":
        return [None]
    found: List[Optional[str]] = [framework for framework in ONNX_FRAMEWORKS if installed(framework)]
    if not found:
        raise Error(f"{path}: needs {' or '.join(ONNX_FRAMEWORKS.values())}: {_INSTALL_PEERS}")
    return found


def _check_outputs(args: argparse.Namespace) -> None:
    """What would be lost, or fail only after the work is done; reports and charts of before are overwritten."""
    inputs = [file for path in args.models for file in model_files(path)]
    check_apart([args.json, args.plot], [*inputs, args.data, args.labels])
    for path, what, begin in (
        (args.json, "report of bmx bench", b'{\n "machine"'),
        (args.plot, "PNG picture", b"\x89PNG"),
    ):
        if path is None:
            continue
        check_target(path)
        if os.path.isfile(path) and os.path.getsize(path) and _first_bytes(path, len(begin)) != begin:
            raise Error(f"{path}: exists already, and is no {what}; choose another name")


def _first_bytes(path: str, count: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError as error:
        raise Error(f"{path}: exists already, and cannot be read: {error.strerror}") from None


def table(results: Sequence[Any]) -> str:
    """A row for each result of the same batch and number of threads; ratios are to the first."""
    rows = [["model", "input", "median ms", "p5", "p95", "images/s", "ratio", "memory MB", "file MB"]]
    for result in results:
        times = [f"{1e3 * seconds:.3f}" for seconds in (result.median, result.p5, result.p95)]
        memory = f"{result.memory / 1e6:.0f} ({result.memory_of_model / 1e6:.0f})"
        speed = [f"{result.images_per_second:.0f}", f"{results[0].median / result.median:.2f}"]
        rows.append([result.name, result.input, *times, *speed, memory, f"{result.file_bytes / 1e6:.2f}"])
        if result.accuracy is not None:
            rows[-1].append(f"{result.accuracy:.2%}")
    if len(rows[1]) > len(rows[0]):
        rows[0].append("accuracy")
    return "\n".join([f"batch {results[0].batch}, {results[0].threads} thread(s)", *columns(rows, left=2)])


def best_peers(results: Sequence[Any]) -> List[str]:
    """A line for each .bmx file that says how it stands to the fastest of what is none, if there is any."""
    peers = [result for result in results if result.kind != "bmx"]
    if not peers:
        return []
    best = min(peers, key=lambda peer: peer.median)
    return [
        f"{result.name}: {best.median / result.median:.2f} times as fast as the fastest of the others, {best.name}"
        for result in results
        if result.kind == "bmx"
    ]


def layer_table(result: Any) -> str:
    """The steps of a .bmx file."""
    whole = sum(layer.seconds for layer in result.layers)
    rows = [["step", "kind", "arithmetic", "ms", "share", "GMAC/s"]]
    for name, kind, seconds, macs, arithmetic in result.layers:
        rate = f"{macs / seconds / 1e9:.0f}" if macs and seconds else ""
        rows.append([name, kind, arithmetic, f"{1e3 * seconds:.4f}", f"{seconds / whole:.1%}", rate])
    rows.append(["all steps", "", "", f"{1e3 * whole:.4f}", "", ""])
    title = f"{result.name}, batch {result.batch}, {result.threads} thread(s)"
    return "\n".join([title, *columns(rows, left=3), *outside_steps(result)])


def outside_steps(result: Any) -> List[str]:
    """Why the times of the steps do not add up to that of a call, in a line; none where they do."""
    difference = result.median - sum(layer.seconds for layer in result.layers)
    if abs(difference) < 0.005 * result.median:
        return []
    much = f"{1e3 * abs(difference):.4f} ms ({abs(difference) / result.median:.1%})"
    if difference > 0:
        threads = "handing steps to threads, " if result.threads > 1 else ""
        why = f"entering it from Python, {threads}other programs at one time and not at the other"
        return [f"a call takes {much} more than its steps, timed in other calls: {why}"]
    return [f"steps take {much} more than a call: each is timed on its own, in other calls"]


def machine() -> Dict[str, str]:
    """What the numbers depend on."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return {"processor": name, "system": platform.platform(), "python": platform.python_version()}


def columns(rows: List[List[str]], left: int) -> List[str]:
    """Lines of aligned cells, the first `left` columns to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]


def write_results(args: argparse.Namespace, results: List[Any], draw: Callable[[], Write]) -> None:
    """Write what was measured to the files of --json and --plot, to both or to neither."""
    files = [] if args.json is None else [(args.json, report(results))]
    files += [] if args.plot is None else [(args.plot, draw())]
    write_together(files)


def report(results: List[Any]) -> Write:
    """What was measured, and where, as a file of JSON."""
    return content((json.dumps({"machine": machine(), "results": results}, indent=1) + "\n").encode())
