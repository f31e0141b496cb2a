"""Digits for the examples."""

import gzip
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from bmx.training import digits


@pytest.fixture(scope="package")
def data_dir(tmp_path_factory):
    """A folder with 400 training and 200 test digits in MNIST's format."""
    folder = tmp_path_factory.mktemp("mnist")
    data = digits()

    def write(name, array):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (folder / name).write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))

    for split, images, labels in (
        ("train", data.train_images[:400], data.train_labels[:400]),
        ("t10k", data.test_images[:200], data.test_labels[:200]),
    ):
        write(f"{split}-images-idx3-ubyte.gz", np.rint(images[:, 0] * 255))
        write(f"{split}-labels-idx1-ubyte.gz", labels)
    return folder


@pytest.fixture
def start(root, tmp_path):
    """Start an example in an empty folder, as Ctrl-C can interrupt it; returns the process."""

    def run(program, *arguments):
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores Ctrl-C
        try:
            return subprocess.Popen(
                [sys.executable, str(root / "example" / program), *map(str, arguments)],
                cwd=tmp_path,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    return run
