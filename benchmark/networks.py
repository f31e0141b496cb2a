#!/usr/bin/env python3
"""Whole networks: compiled binary ones beside their float twins in MXNet and ONNX Runtime.

All contenders of a network and a batch run in turns, each in a process of its own, on the same input:

  MXNet            the float twin, as a hybridized block with static memory
  MXNet, fused     the same through MXNet's oneDNN subgraphs: optimize_for(x, backend="MKLDNN")
  ORT              the float twin in ONNX Runtime
  ORT int8         the same quantized: static, QDQ, unsigned activations, weights by channel
  bmx              the binary network compiled, first and last layers int8
  bmx float        the same with float first and last layers

Times are medians in ms of a call with the whole batch. Weights are random. The files, made by MXNet's ONNX exporter,
ONNX Runtime's quantizer and `bmx compile`, are kept in a folder; delete it to have them made anew.

Where two cores are of one machine but not behind one cache, as virtual processors often are, two threads are slower for
all contenders: `bmx_cores` (cmake -DBMX_BENCHMARK=ON) tells.

  python benchmark/networks.py                             one image with one and two threads, batches with one
  python benchmark/networks.py --networks lenet --batch 1 --rounds 30 --json lenet.json
  python benchmark/networks.py --peers                     without bmx
"""

import argparse
import json
import sys
from pathlib import Path

from peers.files import Network

SHAPES = {
    "resnet18_e1": (3, 224, 224),
    "resnet18_v1": (3, 224, 224),
    "binarynet_cifar": (3, 32, 32),
    "lenet": (1, 28, 28),
}
# Network and batch -> how many times faster than MXNet and ONNX Runtime's int8 `bmx` is to be, and `bmx float`.
BARS = {
    ("resnet18_e1", 1): {("bmx", "MXNet"): 8, ("bmx", "ORT int8"): 2.3, ("bmx float", "MXNet"): 5.5},
    ("resnet18_e1", 32): {("bmx", "MXNet"): 8, ("bmx", "ORT int8"): 2.3},
    ("binarynet_cifar", 1): {("bmx", "MXNet"): 15, ("bmx", "ORT int8"): 3},
    ("lenet", 1): {("bmx", "MXNet"): 5},
}
BARS.update({("resnet18_v1", batch): BARS["resnet18_e1", batch] for batch in (1, 32)})
TWO_THREADS = 1.7


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=SHAPES, default=["resnet18_e1", "binarynet_cifar", "lenet"])
    parser.add_argument("--batch", nargs="+", type=int, help="default: those that have a bar, 1 and for ResNets 32")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2, and for batches 1")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s, and for batches a third")
    parser.add_argument("--peers", action="store_true", help="measure the others only")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write everything that was measured")
    return parser.parse_args()


def contenders(network, batch, threads, peers_only):
    from bmx.measure import Contender

    def make(name, path, **options):
        return Contender(str(path), batch, threads, name, **options)

    yield make("MXNet", network.checkpoint(32), shape=network.shape)
    yield make("MXNet, fused", network.checkpoint(32), shape=network.shape, backend="MKLDNN")
    yield make("ORT", network.onnx(batch))
    yield make("ORT int8", network.onnx_int8(batch))
    if not peers_only:
        yield make("bmx", network.bmx("first-last"))
        yield make("bmx float", network.bmx("off"))


def show(title, results, bars):
    """Print a row for each contender, and how it stands to the bars."""
    threads = sorted({result.threads for result in results})
    median = {(result.name, result.threads): result.median for result in results}
    single = [result for result in results if result.threads == threads[0]]
    references = [name for name in ("MXNet", "ORT int8") if (name, threads[0]) in median]
    print(f"\n{title}\n")
    header = [f"ms, {n} thread{'s' * (n > 1)}" for n in threads] + [f"speed-up of {n} threads" for n in threads[1:]]
    header += [f"{name} / this" for name in references] + ["memory MB", "file MB"]
    print("| | " + " | ".join(header) + " |\n|" + "---|" * (len(header) + 1))
    for result in single:
        cells = [f"{1e3 * median[result.name, n]:.3f}" for n in threads]
        cells += [f"{result.median / median[result.name, n]:.2f}" for n in threads[1:]]
        cells += [f"{median[name, threads[0]] / result.median:.2f}" for name in references]
        cells += [f"{result.memory / 1e6:.0f} ({result.memory_of_model / 1e6:.0f})", f"{result.file_bytes / 1e6:.2f}"]
        print(f"| {result.name} | {' | '.join(cells)} |")
    print()
    for (name, reference), bar in bars.items():
        if (name, 1) in median:
            ratio = median[reference, 1] / median[name, 1]
            print(f"- {name} against {reference}: {ratio:.2f}, wanted {bar}: {'yes' if ratio >= bar else 'NO'}")
    if ("bmx", 1) in median and ("bmx", 2) in median:
        ratio = median["bmx", 1] / median["bmx", 2]
        print(f"- bmx, two threads: {ratio:.2f}, wanted {TWO_THREADS}: {'yes' if ratio >= TWO_THREADS else 'NO'}")


def main():
    arguments = parse_arguments()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where bmx is not installed
    from bmx.commands.bench import machine
    from bmx.measure import measure

    arguments.folder.mkdir(parents=True, exist_ok=True)
    everything = []
    print(machine())
    for name in arguments.networks:
        network = Network(name, SHAPES[name], arguments.folder)
        for batch in arguments.batch or sorted(batch for known, batch in BARS if known == name):
            numbers = arguments.threads or ([1, 2] if batch == 1 else [1])
            wanted = [c for threads in numbers for c in contenders(network, batch, threads, arguments.peers)]
            results = measure(wanted, arguments.rounds if batch == 1 else -(-arguments.rounds // 3))
            shape = "x".join(map(str, network.shape))
            show(f"{name}, {shape}, batch {batch}", results, BARS.get((name, batch), {}))
            everything += [{"network": name, **result.as_json()} for result in results]
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": everything}, indent=1) + "\n")


if __name__ == "__main__":
    main()
