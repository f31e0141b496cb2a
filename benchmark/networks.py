#!/usr/bin/env python3
"""Whole networks: compiled binary ones beside their float twins in MXNet, ONNX Runtime and OpenVINO.

All contenders of a network and a batch run in turns, each in a process of its own, on the same input:

  MXNet            the float twin, as a hybridized block with static memory
  MXNet, fused     the same through MXNet's oneDNN subgraphs: optimize_for(x, backend="MKLDNN")
  ORT              the float twin in ONNX Runtime
  ORT int8         the same quantized: static, QDQ, unsigned activations, weights by channel
  OpenVINO         the float twin in OpenVINO, set to latency and one stream; where there are matrix units it takes
                   bfloat16 for floats by itself
  OpenVINO int8    the quantized file of ORT int8
  bmx              the binary network compiled, first and last layers int8
  bmx all int8     the same with all layers int8 that are not binary
  bmx float        the same with float first and last layers

Times are medians in ms of a call with the whole batch. Weights are random. The files, made by MXNet's ONNX exporter,
ONNX Runtime's quantizer and `bmx compile`, are kept in a folder; delete it to have them made anew.

How a CPU without matrix units would do can be seen on one that has them: with BMX_ISA=avx512 for bmx and
ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI for MXNet and OpenVINO. ONNX Runtime knows no such setting.

Where two cores are of one machine but not behind one cache, as virtual processors often are, two threads are slower for
all contenders: `bmx_cores` (cmake -DBMX_BENCHMARK=ON) tells.

  python benchmark/networks.py                             one image with one and two threads, batches with one
  python benchmark/networks.py --networks lenet --batch 1 --rounds 30 --json lenet.json
  python benchmark/networks.py --networks densenet28 meliusnet22 --contenders "OpenVINO int8" "bmx all int8"
"""

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where bmx is not installed

from peers.files import Network

# Each contender: the file that it runs, by a Network and a batch, and how.
CONTENDERS = {
    "MXNet": (lambda network, batch: network.checkpoint(32), {}),
    "MXNet, fused": (lambda network, batch: network.checkpoint(32), {"backend": "MKLDNN"}),
    "ORT": (lambda network, batch: network.onnx(batch), {"framework": "onnxruntime"}),
    "ORT int8": (lambda network, batch: network.onnx_int8(batch), {"framework": "onnxruntime"}),
    "OpenVINO": (lambda network, batch: network.onnx(batch), {"framework": "openvino"}),
    "OpenVINO int8": (lambda network, batch: network.onnx_int8(batch), {"framework": "openvino"}),
    "bmx": (lambda network, batch: network.bmx("first-last"), {}),
    "bmx all int8": (lambda network, batch: network.bmx("all"), {}),
    "bmx float": (lambda network, batch: network.bmx("off"), {}),
}
REFERENCES = ("MXNet", "ORT int8", "OpenVINO int8")
BATCHES = {"resnet18_e1": (1, 32), "resnet18_v1": (1, 32)}  # of others: 1

# Network and batch -> how many times faster than another a contender is to be. Everywhere:
BARS = {
    ("resnet18_e1", 1): {("bmx", "MXNet"): 8, ("bmx", "ORT int8"): 2.3, ("bmx float", "MXNet"): 5.5},
    ("resnet18_e1", 32): {("bmx", "MXNet"): 8, ("bmx", "ORT int8"): 2.3},
    ("binarynet_cifar", 1): {("bmx", "MXNet"): 15, ("bmx", "ORT int8"): 3},
    ("lenet", 1): {("bmx", "MXNet"): 5},
}
BARS.update({("resnet18_v1", batch): BARS["resnet18_e1", batch] for batch in (1, 32)})
# and where there are matrix units for int8 (AMX), and where there are none:
BARS_AMX = {
    ("resnet18_e1", 1): {("bmx", "OpenVINO int8"): 1.6, ("bmx float", "OpenVINO"): 1.7},
    ("resnet18_e1", 32): {("bmx", "OpenVINO int8"): 1.5},
    ("binarynet_cifar", 1): {("bmx", "OpenVINO int8"): 3},
    ("lenet", 1): {("bmx", "OpenVINO int8"): 4},
    ("quicknet", 1): {("bmx all int8", "OpenVINO int8"): 2},
    ("birealnet18", 1): {("bmx all int8", "OpenVINO int8"): 1.6},
    ("densenet28", 1): {("bmx all int8", "OpenVINO int8"): 1.3},
    ("meliusnet22", 1): {("bmx all int8", "OpenVINO int8"): 1.3},
}
BARS_VNNI = {
    ("resnet18_e1", 1): {("bmx", "OpenVINO int8"): 2.4},
    ("densenet28", 1): {("bmx all int8", "OpenVINO int8"): 2.3},
    ("meliusnet22", 1): {("bmx all int8", "OpenVINO int8"): 2.3},
}
TWO_THREADS = 1.7


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--networks",
        nargs="+",
        default=["resnet18_e1", "binarynet_cifar", "lenet"],
        metavar="NAME",
        help="of bmx.models (default: %(default)s)",
    )
    parser.add_argument("--batch", nargs="+", type=int, help="default: 1 and for ResNets 32")
    parser.add_argument("--threads", nargs="+", type=int, help="default: 1 2, and for batches 1")
    parser.add_argument("--rounds", type=int, default=15, help="default: %(default)s, and for batches a third")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: all")
    parser.add_argument("--folder", type=Path, default=Path("build/peers"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="write everything that was measured")
    return parser.parse_args()


def bars(network, batch):
    """What is wanted of a network on this machine, as it is set up."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        matrix_units = "amx_int8" in file.read()
    limited = os.environ.get("BMX_ISA", "amx") != "amx" or "AMX" not in os.environ.get("ONEDNN_MAX_CPU_ISA", "AMX")
    more = BARS_AMX if matrix_units and not limited else BARS_VNNI
    return {**BARS.get((network, batch), {}), **more.get((network, batch), {})}


def show(title, results, wanted):
    """Print a row for each contender, and how it stands to the bars and to the best of the others."""
    from bmx.commands.bench_tables import best_peers

    threads = sorted({result.threads for result in results})
    median = {(result.name, result.threads): result.median for result in results}
    single = [result for result in results if result.threads == threads[0]]
    references = [name for name in REFERENCES if (name, threads[0]) in median]
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
    for line in best_peers(single):
        print(f"- {line}")
    for (name, reference), bar in wanted.items():
        if (name, 1) in median and (reference, 1) in median:
            ratio = median[reference, 1] / median[name, 1]
            print(f"- {name} against {reference}: {ratio:.2f}, wanted {bar}: {'yes' if ratio >= bar else 'NO'}")
    if ("bmx", 1) in median and ("bmx", 2) in median:
        ratio = median["bmx", 1] / median["bmx", 2]
        print(f"- bmx, two threads: {ratio:.2f}, wanted {TWO_THREADS}: {'yes' if ratio >= TWO_THREADS else 'NO'}")


def run(arguments):
    from bmx.commands.bench_files import machine
    from bmx.measure import Contender, measure
    from bmx.models import image_shape

    arguments.folder.mkdir(parents=True, exist_ok=True)
    everything = []
    print(machine())
    for name in arguments.networks:
        network = Network(name, image_shape(name), arguments.folder)
        for batch in arguments.batch or BATCHES.get(name, (1,)):
            wanted = [
                Contender(str(path(network, batch)), batch, threads, title, shape=network.shape, **options)
                for threads in arguments.threads or ([1, 2] if batch == 1 else [1])
                for title, (path, options) in CONTENDERS.items()
                if title in arguments.contenders
            ]
            results = measure(wanted, arguments.rounds if batch == 1 else -(-arguments.rounds // 3))
            shape = "x".join(map(str, network.shape))
            show(f"{name}, {shape}, batch {batch}", results, bars(name, batch))
            everything += [{"network": name, **result.as_json()} for result in results]
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": everything}, indent=1) + "\n")


def main():
    arguments = parse_arguments()
    from bmx import Error

    try:
        run(arguments)
    except Error as error:
        sys.exit(f"networks.py: {error}")


if __name__ == "__main__":
    main()
