#!/usr/bin/env python3
"""3x3 binary convolutions against the arithmetic roof of this machine and MXNet's float Convolution.

Stride 1, pad 1, batch 1, one thread by default. All columns of a row come from the same interleaved rounds:

  roof       MAC/s of a register-resident loop of xor + popcount + add, which no kernel passes
  kernel     packed bits in, floats out, weights packed beforehand
  whole      NCHW floats in, NCHW floats out: the same and packing of the input
  operator   QConvolution inside MXNet with packed weights (binarized_weights_only)
  training   QConvolution inside MXNet with float weights, which are packed in each call
  float      MXNet's own Convolution

Run `make bench`, or build the CMake target bmx_bench and:

  python benchmark/convolution.py
  python benchmark/convolution.py --isa avx2 --rounds 20
  python benchmark/convolution.py --threads 2
"""

import argparse
import ctypes
import os
import statistics
import time
from pathlib import Path

SHAPES = [(64, 56), (128, 28), (256, 14), (512, 7)]  # channels, height = width: ResNet's stages
CALLS = 20  # calls of an MXNet operator that are timed together, so that its engine's overhead is spread


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", help="kernels: avx512 | avx2 | portable (default: the fastest here)")
    parser.add_argument("--rounds", type=int, default=15, help="interleaved rounds, of which the median counts")
    parser.add_argument("--threads", type=int, default=1)
    default = Path(__file__).resolve().parent.parent / "build" / "cmake" / "libbmx_bench.so"
    parser.add_argument("--library", type=Path, default=default, help="libbmx_bench.so (default: %(default)s)")
    arguments = parser.parse_args()
    if not arguments.library.is_file():
        parser.exit(1, f"{arguments.library}: no such file; build it with 'make bench'\n")
    return arguments


def load(path):
    library = ctypes.CDLL(str(path))
    floats = ctypes.POINTER(ctypes.c_float)
    library.bench_roof.argtypes = [ctypes.c_int64]
    library.bench_roof.restype = ctypes.c_double
    sizes, switches = [ctypes.c_int64] * 2, [ctypes.c_bool, ctypes.c_int, ctypes.c_int]
    library.bench_conv.argtypes = [ctypes.c_char_p, *sizes, *switches, floats, floats, floats]
    library.bench_conv.restype = ctypes.c_double
    return library


def measure(library, isa, channels, size, rounds, threads):
    """Median over the rounds of the seconds of one call by each way, and of the roof's MAC/s."""
    import mxnet as mx
    import numpy as np

    from bmx.checkpoints import interchange

    data = np.random.uniform(-1, 1, (1, channels, size, size)).astype(np.float32)
    weight = np.random.uniform(-1, 1, (channels, channels, 3, 3)).astype(np.float32)
    out = np.empty_like(data)
    pointers = [a.ctypes.data_as(ctypes.POINTER(ctypes.c_float)) for a in (data, weight, out)]
    x, w, y = mx.nd.array(data), mx.nd.array(weight), mx.nd.zeros(data.shape)
    float_x, float_w, float_y = x.copy(), w.copy(), y.copy()  # Convolution turns these into oneDNN's layout
    packed = interchange.pack(weight, 32)
    attributes = {"kernel": (3, 3), "pad": (1, 1), "num_filter": channels, "no_bias": True}
    symbol = mx.sym.QConvolution(mx.sym.Variable("x"), name="q", binarized_weights_only=True, **attributes)
    executor = symbol.bind(mx.cpu(), {"x": x, "q_weight": mx.nd.array(packed)}, grad_req="null")

    def kernel(pack):
        return library.bench_conv(isa.encode(), channels, size, pack, 20, threads, *pointers)

    def operator(call):
        call()
        mx.nd.waitall()
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        mx.nd.waitall()
        return (time.perf_counter() - start) / CALLS

    ways = {
        "roof": lambda: library.bench_roof(400_000),
        "kernel": lambda: kernel(False),
        "whole": lambda: kernel(True),
        "operator": lambda: operator(lambda: executor.forward(is_train=False)),
        "training": lambda: operator(lambda: mx.nd.QConvolution(x, w, out=y, **attributes)),
        "float": lambda: operator(lambda: mx.nd.Convolution(float_x, float_w, out=float_y, **attributes)),
    }
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            times[name].append(way())
    return {name: statistics.median(values) for name, values in times.items()}


def main():
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    if arguments.isa:
        os.environ["BMX_ISA"] = arguments.isa
    import bmx

    library, isa = load(arguments.library), bmx.library.isa()
    print(f"kernels: {isa}; threads: {arguments.threads}; medians of {arguments.rounds} interleaved rounds")
    print(
        "| shape | roof GMAC/s | kernel ms (of roof) | whole ms (of roof) | operator ms | training ms "
        "| float ms | float/whole | float/operator | float/training |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for channels, size in SHAPES:
        t = measure(library, isa, channels, size, arguments.rounds, arguments.threads)
        macs = channels * channels * 9 * size * size
        roof = t["roof"] * arguments.threads

        def of_roof(seconds, macs=macs, roof=roof):
            return f"{seconds * 1e3:.4f} ({macs / seconds / roof:.0%})" if roof else f"{seconds * 1e3:.4f}"

        print(
            f"| {channels}x{size}x{size} | {roof / 1e9:.0f} | {of_roof(t['kernel'])} | {of_roof(t['whole'])} "
            f"| {t['operator'] * 1e3:.4f} | {t['training'] * 1e3:.4f} | {t['float'] * 1e3:.3f} "
            f"| {t['float'] / t['whole']:.1f} | {t['float'] / t['operator']:.1f} | {t['float'] / t['training']:.1f} |"
        )


if __name__ == "__main__":
    main()
