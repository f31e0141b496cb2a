#!/usr/bin/env python3
"""Single layers of all kinds of arithmetic beside what this machine can do, and beside each other.

Measures as `bmx bench --layers` does, and the roof of arithmetic by benchmark/roof.cpp, which it compiles. Printed are
the layers, and how they stand to

  binary x binary   60 % of its limit: the longer of its multiply-adds at the roof of arithmetic, and its weights at the
                    speed at which memory is read
  float x binary    the time of float x float
  int8 x binary     the time of int8 x int8, where the weights come from memory

  python benchmark/layers.py
  python benchmark/layers.py --rounds 30 --plot layers.png --json layers.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
BINARY_SHARE = 0.6


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--plot", metavar="FILE.png")
    parser.add_argument("--json", metavar="FILE")
    return parser.parse_args()


def compile_roof(folder):
    program = Path(folder) / "roof"
    compiler = os.environ.get("CXX", "c++")
    subprocess.run([compiler, "-std=c++17", "-O2", str(HERE / "roof.cpp"), "-o", str(program)], check=True)
    return program


def roofs(program):
    """Multiply-adds a second of one thread, by arithmetic; empty for a processor of which there are none."""
    lines = subprocess.run([str(program)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return {name: 1e9 * float(rate) for name, rate in (line.split() for line in lines.splitlines())}


def bars(report, roof):
    """What is compared: kind, shape, state, seconds, what of, its seconds, and which share is wanted."""
    layers = {(layer.kind, layer.shape): layer for layer in report.layers}
    shapes = list(dict.fromkeys(layer.shape for layer in report.layers))
    for shape in shapes:
        layer = layers["binary", shape]
        arithmetic = layer.macs / roof["binary"] if roof else 0
        reading = layer.weight_bytes / report.bandwidth
        limit, name = max((arithmetic, "arithmetic"), (reading, "reading the weights"))
        yield "binary x binary", shape, "cold", layer.cold, f"limit: {name}", limit, BINARY_SHARE
        if name == "arithmetic":
            yield "binary x binary", shape, "warm", layer.warm, f"limit: {name}", limit, BINARY_SHARE
    for shape in shapes:
        for state in ("cold", "warm"):
            times = [getattr(layers[kind, shape], state) for kind in ("float-binary", "float")]
            yield "float x binary", shape, state, times[0], "float x float", times[1], 1
    for shape in shapes:
        times = [layers[kind, shape].cold for kind in ("int8-binary", "int8")]
        if not shape.height:
            yield "int8 x binary", shape, "cold", times[0], "int8 x int8", times[1], 1


def main():
    arguments = parse_arguments()
    sys.path.insert(0, str(HERE.parent))  # where bmx is not installed
    from bmx.commands import bench_files, bench_layers, charts
    from bmx.measure.single_layers import measure_layers
    from bmx.tables import aligned
    from bmx.writing import write_atomically

    with tempfile.TemporaryDirectory() as folder:
        program = compile_roof(folder)
        before = roofs(program)
        report = measure_layers(rounds=arguments.rounds)
        roof = {name: max(rate, before[name]) for name, rate in roofs(program).items()}
    print(bench_files.machine())
    rates = [f"{name} {rate / 1e9:.0f}" for name, rate in roof.items()]
    print(f"roofs of arithmetic, GMAC/s: {', '.join(rates) or 'not known for this processor'}\n")
    print(bench_layers.table(report))
    print(f"\n{bench_layers.FOOT}\n")
    rows = [["layer", "kind", "", "us", "beside", "us", "share", "wanted", ""]]
    for kind, shape, state, seconds, reference, other, share in bars(report, roof):
        times = [f"{1e6 * time:.1f}" for time in (seconds, other)]
        reached = other / seconds
        verdict = "yes" if reached >= share else "NO"
        rows.append([str(shape), kind, state, times[0], reference, times[1], f"{reached:.2f}", f"{share}", verdict])
    print("\n".join(aligned(rows, left=3)))
    if arguments.plot:
        write_atomically(arguments.plot, charts.plot_layers([report]))
    if arguments.json:
        write_atomically(arguments.json, bench_files.report([{**report.as_json(), "roofs": roof}]))


if __name__ == "__main__":
    main()
