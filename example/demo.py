#!/usr/bin/env python3
"""The whole way in two minutes: train the binary LeNet, pack it, and run it beside the same network in float32.

`make demo` calls this. It trains both networks for a short while on real handwritten digits, converts the binary one to
one bit per weight and measures accuracy, size and speed of the two files. Everything is written into runs/.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import bmx

try:
    import mxnet as mx
    from train_lenet_mnist import parse_arguments, train

    from bmx.training import Batches, Checkpoint, accuracy, load_mnist
except bmx.Error as error:  # libbmx is missing, or BMX_ISA wrong
    sys.exit(f"error: {error}")

IMAGES_TO_TRAIN_ON = 60000  # one epoch of MNIST, or many of a smaller data set
PREFIX = "runs/demo-{bits}bit"
CONVERTER = Path(__file__).resolve().parent.parent / "tools" / "model_converter"


def epochs(data):
    """Return how long to train on `data`."""
    return max(1, IMAGES_TO_TRAIN_ON // len(data.train_images))


def trained(data, bits):
    """Train LeNet with `bits`; return prefix and epoch of its checkpoint."""
    files = [f"--prefix={PREFIX.format(bits=bits)}", "--overwrite"]
    args = parse_arguments([f"--bits={bits}", f"--epochs={epochs(data)}", *files])
    train(args, data)
    return args.prefix, args.epochs


def packed(prefix, epoch):
    """Pack the checkpoint; return the prefix of the result."""
    params = Checkpoint(prefix).params_file(epoch)
    print(f"\n$ tools/model_converter {params}", flush=True)
    subprocess.run([sys.executable, str(CONVERTER), params, "--force"], check=True)
    return str(Path(prefix).with_name(f"binarized_{Path(prefix).name}"))


def loaded(prefix, epoch):
    """Load a checkpoint, packed or not, as a Gluon block."""
    symbol, arguments, auxiliary = bmx.load_checkpoint(prefix, epoch)
    net = mx.gluon.SymbolBlock(symbol, mx.sym.var("data", dtype="float32"))
    net.initialize()
    for name, param in net.collect_params().items():
        param.set_data({**arguments, **auxiliary}[name])
    net.hybridize(static_alloc=True, static_shape=True)
    return net


def milliseconds(nets, images):
    """Median times of one forward pass of each network, measured in turns, so that both see the same machine."""
    times = [[] for _ in nets]
    for i in range(210):
        for net, list_of_times in zip(nets, times):
            start = time.perf_counter()
            net(images).wait_to_read()
            if i >= 10:
                list_of_times.append(1000 * (time.perf_counter() - start))
    return [float(np.median(t)) for t in times]


def main():
    data = load_mnist()
    binary, epoch = trained(data, bits=1)
    floating, _ = trained(data, bits=32)
    prefixes = floating, packed(binary, epoch)

    nets = [loaded(prefix, epoch) for prefix in prefixes]
    test = Batches(data.test_images, data.test_labels, batch_size=500)
    accuracies = [accuracy(net, test) for net in nets]
    sizes = [os.path.getsize(Checkpoint(prefix).params_file(epoch)) / 1e6 for prefix in prefixes]

    print(f"\nLeNet on {data.source}\n")
    print(f"{'':28}{'float32':>10}{'binary':>10}")
    print(f"{'test accuracy (%)':28}{100 * accuracies[0]:10.2f}{100 * accuracies[1]:10.2f}")
    print(f"{'file (MB)':28}{sizes[0]:10.2f}{sizes[1]:10.2f}   {sizes[0] / sizes[1]:.1f} times smaller")
    for size in (1, 100):
        times = milliseconds(nets, mx.nd.array(data.test_images[:size]))
        label = f"time of a batch of {size} (ms)"
        print(f"{label:28}{times[0]:10.3f}{times[1]:10.3f}   {times[0] / times[1]:.2f} times faster")


if __name__ == "__main__":
    try:
        main()
    except bmx.Error as error:
        sys.exit(f"error: {error}")
