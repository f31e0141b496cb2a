"""The files that the benchmark of whole networks measures, made once and kept in a folder.

All come from networks of the zoo with random weights and BatchNorms that have seen data, so that no activation is
extreme: times do not depend on what a network has learned.
"""

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import onnx_files

_PASSES, _PASS_BATCH = 15, 4  # with which BatchNorm finds its averages
_SAMPLES = 16  # for the ranges of int8


@dataclass(frozen=True)
class Network:
    """A network of the zoo: its float and binary twins, and peers of the float one."""

    name: str
    shape: tuple
    folder: Path

    def checkpoint(self, bits):
        """The .params file of the network with that many bits, 1 or 32."""
        prefix = self.folder / f"{self.name}-{'float' if bits == 32 else 'binary'}"
        path = Path(f"{prefix}-0000.params")
        if not path.exists():
            _train_nothing(self.name, bits, self.shape, prefix)
        return path

    def onnx(self, batch):
        """The float network for ONNX Runtime and OpenVINO."""
        path = self.folder / f"{self.name}-float-batch{batch}.onnx"
        if not path.exists():
            import mxnet as mx

            symbol, arguments, auxiliary = mx.model.load_checkpoint(str(self.checkpoint(32))[: -len("-0000.params")], 0)
            with _made(path) as draft:
                onnx_files.export(symbol, {**arguments, **auxiliary}, (batch, *self.shape), draft)
        return path

    def onnx_int8(self, batch):
        """The float network quantized by ONNX Runtime."""
        path = self.folder / f"{self.name}-int8-batch{batch}.onnx"
        if not path.exists():
            source, samples = self.onnx(batch), self._samples()
            batches = np.resize(samples, (max(1, _SAMPLES // batch), batch, *self.shape))
            with _made(path) as draft:
                onnx_files.quantize(str(source), draft, list(batches))
        return path

    def bmx(self, int8):
        """The binary network compiled; `int8` is bmx compile's: 'off', 'first-last' or 'all'."""
        path = self.folder / f"{self.name}-{int8}.bmx"
        if not path.exists():
            samples = self.folder / f"{self.name}-samples.npy"
            np.save(samples, self._samples())
            shape = ",".join(map(str, self.shape))
            command = ["compile", str(self.checkpoint(1)), "-o", str(path), "--int8", int8, "--data-shape", shape]
            subprocess.run([sys.executable, "-m", "bmx.cli", *command, "--verify-data", str(samples)], check=True)
        return path

    def _samples(self):
        return np.random.RandomState(1).standard_normal((_SAMPLES, *self.shape)).astype(np.float32)


def _train_nothing(name, bits, shape, prefix):
    import mxnet as mx

    import bmx

    mx.random.seed(0)
    np.random.seed(0)
    net = bmx.models.get_model(name, bits=bits, bits_a=bits)
    net.initialize(mx.init.Xavier())
    for _ in range(_PASSES):
        with mx.autograd.record():
            net(mx.nd.random.normal(shape=(_PASS_BATCH, *shape))).wait_to_read()
    net.hybridize()
    net(mx.nd.zeros((1, *shape)))
    net.export(str(prefix), 0)


@contextlib.contextmanager
def _made(path):
    """A name to write to; the file has its own name only when it is whole."""
    draft = path.with_suffix(".draft.onnx")
    yield str(draft)
    draft.replace(path)
