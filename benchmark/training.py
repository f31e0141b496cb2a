#!/usr/bin/env python3
"""A training step of a binary network beside its float twin, in turns.

Both are hybridized with static memory; the float twin is built of MXNet's own Convolution and BatchNorm. For each
network: the forward pass in training mode, and the whole step of forward, backward and update (SGD with momentum).
Times are medians over the rounds; with one thread the processor time of the process is printed too, which other load
on the machine disturbs less.

  python benchmark/training.py                          ResNet-18 on 32x32, batch 64, float32 and bfloat16, one thread
  python benchmark/training.py --threads 2
  python benchmark/training.py --model binarynet_cifar --batch-size 32
  python benchmark/training.py --unfused                also with QActivation as an operator of its own
"""

import argparse
import os
import statistics
import time


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18_e1", help="a network of bmx.models (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds; the first does not count")
    parser.add_argument("--unfused", action="store_true", help="also with one operator for each layer")
    return parser.parse_args()


class Subject:
    """A network, and what is timed of it."""

    def __init__(self, name, batch_size, bits, grad_dtype, path, fused=True):
        import mxnet as mx

        import bmx
        from bmx.gluon import nn

        os.environ["BMX_GRAD_DTYPE"] = grad_dtype  # read when an operator is made: at the first pass
        options = {} if name in ("binarynet_cifar", "lenet") else {"thumbnail": True}
        self.mx = mx
        self.net = bmx.models.get_model(name, bits=bits, bits_a=bits, classes=10, **options)
        self.net.initialize(mx.init.Xavier())
        self.net.hybridize(static_alloc=True, static_shape=True)
        self.trainer = mx.gluon.Trainer(self.net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9})
        self.loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self.data = mx.nd.random.normal(shape=(batch_size, 1, 28, 28) if name == "lenet" else (batch_size, 3, 32, 32))
        self.label = mx.nd.arange(batch_size) % 10
        self.batch_size = batch_size
        with nn.path(path, fused=fused):
            self.step()

    def forward(self):
        """One forward pass in training mode."""
        with self.mx.autograd.record():
            self.net(self.data).wait_to_read()

    def step(self):
        """One step: forward, backward, update."""
        with self.mx.autograd.record():
            loss = self.loss(self.net(self.data), self.label)
        loss.backward()
        self.trainer.step(self.batch_size)
        self.mx.nd.waitall()


def main():
    arguments = parse_arguments()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    sorts = {
        "float": (32, "float32", "composed"),
        "binary": (1, "float32", "operators"),
        "binary, unfused": (1, "float32", "operators", False),
        "binary, bfloat16": (1, "bfloat16", "operators"),
    }
    if not arguments.unfused:
        del sorts["binary, unfused"]
    subjects = {name: Subject(arguments.model, arguments.batch_size, *sort) for name, sort in sorts.items()}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    times = {}
    for _ in range(arguments.rounds):
        for name, subject in subjects.items():
            for part in ("forward", "step"):
                start = {clock: read() for clock, read in clocks.items()}
                getattr(subject, part)()
                for clock, read in clocks.items():
                    times.setdefault((name, part, clock), []).append(read() - start[clock])
    print(f"{arguments.model}, batch {arguments.batch_size}, {arguments.threads} thread(s), ms (of the float network)")
    print("| network | forward | step |" + (" step, processor time |" if arguments.threads == 1 else ""))
    print("|---|---|---|" + ("---|" if arguments.threads == 1 else ""))
    columns = [("forward", "wall"), ("step", "wall")] + [("step", "processor")] * (arguments.threads == 1)
    for name in subjects:
        row = []
        for column in columns:
            mine, base = (statistics.median(times[(n, *column)][1:]) for n in (name, "float"))
            row.append(f"{mine * 1e3:.0f} ({mine / base:.2f})")
        print(f"| {name} | {' | '.join(row)} |")


if __name__ == "__main__":
    main()
