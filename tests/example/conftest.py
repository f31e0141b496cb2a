"""Digits for the examples."""

import gzip

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
