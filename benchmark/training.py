#!/usr/bin/env python3
"""A training step of a binary network beside its float twin in MXNet and, if it is installed, in PyTorch.

All run in turns, each in a process of its own:

  float                  of MXNet's own Convolution and BatchNorm, hybridized with static memory
  binary                 with bmx, hybridized likewise
  binary, float32x2      the same with BMX_GRAD_DTYPE=float32x2, and
  binary, bfloat16       with bfloat16: less precise gradients where the processor has AMX
  PyTorch                the float twin, the same layers, memory in channels_last
  PyTorch, bfloat16      the same with torch.autocast("cpu", torch.bfloat16)

For each network: the forward pass in training mode, and the whole step of forward, backward and update (SGD with
momentum). Times are medians over the rounds; with one thread the processor time of the process is printed too, which
other load on the machine disturbs less. PyTorch is run eagerly: torch.compile made a step no faster.

  python benchmark/training.py                          ResNet-18 on 32x32, batch 64, one thread
  python benchmark/training.py --threads 2
  python benchmark/training.py --model binarynet_cifar --batch-size 32
  python benchmark/training.py --unfused                also with QActivation as an operator of its own
"""

import argparse
import importlib.util
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where bmx is not installed

import numpy as np

from bmx.measure.process import Process, serve

_CLASSES = 10
_RATE = {"learning_rate": 0.01, "momentum": 0.9}
_PARTS = ("forward", "step")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18_e1", help="a network of bmx.models (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds; the first does not count")
    parser.add_argument("--unfused", action="store_true", help="also with one operator for each layer")
    return parser.parse_args()


def make_net(name, bits):
    """A network of the zoo for images of 32x32, or LeNet's, with random weights."""
    import mxnet as mx

    import bmx

    options = {} if name in ("binarynet_cifar", "lenet") else {"thumbnail": True}
    net = bmx.models.get_model(name, bits=bits, bits_a=bits, classes=_CLASSES, **options)
    net.initialize(mx.init.Xavier())
    return net


def random_batch(name, size):
    """Images and their classes."""
    shape = (1, 28, 28) if name == "lenet" else (3, 32, 32)
    return np.random.RandomState(0).standard_normal((size, *shape)).astype(np.float32), np.arange(size) % _CLASSES


class MXNetSubject:
    """A network in MXNet."""

    def __init__(self, model, batch_size, bits, grad_dtype, path, fused=True):
        import mxnet as mx

        from bmx.gluon import nn

        os.environ["BMX_GRAD_DTYPE"] = grad_dtype  # read when an operator is made: at the first pass
        self.mx, self.batch_size = mx, batch_size
        self.net = make_net(model, bits)
        self.net.hybridize(static_alloc=True, static_shape=True)
        self.trainer = mx.gluon.Trainer(self.net.collect_params(), "sgd", _RATE)
        self.loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()
        self.data, self.label = (mx.nd.array(array) for array in random_batch(model, batch_size))
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


class TorchSubject:
    """The float twin in PyTorch."""

    def __init__(self, model, batch_size, threads, twin, bfloat16):
        import torch
        from peers.torch_network import TorchNetwork

        torch.set_num_threads(threads)
        self.torch, self.bfloat16 = torch, bfloat16
        with np.load(twin) as arrays:
            net = TorchNetwork(str(arrays["symbol"]), {name: arrays[name] for name in arrays if name != "symbol"})
        self.net = net.to(memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.SGD(self.net.parameters(), _RATE["learning_rate"], _RATE["momentum"])
        data, label = (torch.from_numpy(array) for array in random_batch(model, batch_size))
        self.data, self.label = data.to(memory_format=torch.channels_last), label
        self.step()

    def forward(self):
        """One forward pass in training mode."""
        with self.torch.autocast("cpu", self.torch.bfloat16, enabled=self.bfloat16):
            return self.net(self.data)

    def step(self):
        """One step: forward, backward, update."""
        self.optimizer.zero_grad()
        self.torch.nn.functional.cross_entropy(self.forward().float(), self.label).backward()
        self.optimizer.step()


class Worker:
    """What a process does: times the parts of a step."""

    def __init__(self, framework, **options):
        self._subject = {"mxnet": MXNetSubject, "torch": TorchSubject}[framework](**options)

    def time(self, part):
        """Seconds of one forward pass or one step, by clock."""
        start = time.perf_counter(), time.process_time()
        getattr(self._subject, part)()
        return {"wall": time.perf_counter() - start[0], "processor": time.process_time() - start[1]}


def write_twin(model, path):
    """Write the float twin's symbol and parameters for PyTorch."""
    import mxnet as mx

    from bmx.gluon import nn

    net = make_net(model, 32)
    with nn.path("composed"):
        symbol = net(mx.sym.var("data"))
        net(mx.nd.array(random_batch(model, 1)[0]))  # now all shapes are known
    arrays = {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}
    np.savez(path, symbol=symbol.tojson(), **arrays)


def subjects(arguments, twin):
    """Names, and what `Worker` takes for them."""
    common = {"framework": "mxnet", "model": arguments.model, "batch_size": arguments.batch_size}
    binary = {**common, "bits": 1, "grad_dtype": "float32", "path": "operators"}
    yield "float", {**common, "bits": 32, "grad_dtype": "float32", "path": "composed"}
    yield "binary", binary
    if arguments.unfused:
        yield "binary, unfused", {**binary, "fused": False}
    for grad_dtype in ("float32x2", "bfloat16"):
        yield f"binary, {grad_dtype}", {**binary, "grad_dtype": grad_dtype}
    if importlib.util.find_spec("torch"):
        write_twin(arguments.model, twin)
        torch = {**common, "framework": "torch", "threads": arguments.threads, "twin": twin}
        yield "PyTorch", {**torch, "bfloat16": False}
        yield "PyTorch, bfloat16", {**torch, "bfloat16": True}


def measure(arguments):
    """Name, part, clock -> the median in seconds."""
    times = {}
    with ExitStack() as stack:
        twin = str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "twin.npz")
        processes = {}
        for name, options in subjects(arguments, twin):
            processes[name] = process = Process([__file__, "--worker"], name, arguments.threads, options)
            stack.callback(process.close)
        for _ in range(arguments.rounds):
            for name, process in processes.items():
                for part in _PARTS:
                    for clock, seconds in process.ask("time", part=part).items():
                        times.setdefault((name, part, clock), []).append(seconds)
    return {key: statistics.median(values[1:] or values) for key, values in times.items()}


def show(arguments, times):
    """Print a row for each network, and how the binary ones stand to the fastest of the others."""
    names = list(dict.fromkeys(name for name, *_ in times))
    print(f"{arguments.model}, batch {arguments.batch_size}, {arguments.threads} thread(s), ms (of the float network)")
    print("| network | forward | step |" + (" step, processor time |" if arguments.threads == 1 else ""))
    print("|---|---|---|" + ("---|" if arguments.threads == 1 else ""))
    columns = [("forward", "wall"), ("step", "wall")] + [("step", "processor")] * (arguments.threads == 1)
    for name in names:
        row = [(times[(name, *column)], times[("float", *column)]) for column in columns]
        print(f"| {name} | {' | '.join(f'{mine * 1e3:.0f} ({mine / base:.2f})' for mine, base in row)} |")
    peers = [name for name in names if not name.startswith("binary")]
    print()
    for part in _PARTS:
        best = min(peers, key=lambda name: times[name, part, "wall"])
        for name in names:
            if name not in peers:
                ratio = times[best, part, "wall"] / times[name, part, "wall"]
                print(f"- {name}, {part}: {ratio:.2f} times as fast as the fastest of the others, {best}")
    if "PyTorch" not in peers:
        print("- not measured: PyTorch, which is not installed: pip install torch")


def main():
    if sys.argv[1:] == ["--worker"]:
        return serve(Worker)
    arguments = parse_arguments()
    show(arguments, measure(arguments))


if __name__ == "__main__":
    main()
