"""CIFAR-10 and CIFAR-100 from their binary files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Optional

import mxnet as mx
import numpy as np

from ..errors import Error
from .data import Dataset, remark

# Names and SHA-1 of the files, as in Gluon.
CIFAR10_FILES = {
    "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
}
CIFAR100_FILES = {
    "train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
    "test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
}
PIXELS = (3, 32, 32)
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)


def cifar10(folder: Optional[str] = None) -> Dataset:
    """Return CIFAR-10, 50000 training and 10000 test images of 3x32x32 in 10 classes, from its binary files.

    Parameters
    ----------
    folder : str, optional
        Folder of the six files. Default: Gluon's folder, ``~/.mxnet/datasets/cifar10`` or
        ``$MXNET_HOME/datasets/cifar10``. The files may also lie in ``cifar-10-batches-bin``, as in the archive.

    Raises
    ------
    bmx.Error
        If a file is missing (the message has its name and SHA-1) or its content is wrong.
    """
    return _load("CIFAR-10", "cifar10", "cifar-10-batches-bin", CIFAR10_FILES, folder, labels=1, classes=10)


def cifar100(folder: Optional[str] = None) -> Dataset:
    """Return CIFAR-100, the same with 100 classes (the fine labels), from ``train.bin`` and ``test.bin``.

    Parameters
    ----------
    folder : str, optional
        As of :func:`cifar10`; default ``~/.mxnet/datasets/cifar100``, there also in ``cifar-100-binary``.

    Raises
    ------
    bmx.Error
        As by :func:`cifar10`.
    """
    return _load("CIFAR-100", "cifar100", "cifar-100-binary", CIFAR100_FILES, folder, labels=2, classes=100)


def _load(title, name, archive_folder, files, folder, labels, classes) -> Dataset:
    root = Path(folder) if folder is not None else Path(mx.base.data_dir(), "datasets", name)
    found = root / archive_folder if (root / archive_folder).is_dir() else root
    missing = [file for file in files if not (found / file).is_file()]
    if missing:
        listed = ", ".join(f"{file} (SHA-1 {files[file]})" for file in missing)
        raise Error(f"no {title} in {root}: put into it {listed}")
    images, label_column, sha1s = zip(*(_read(found / file, files[file], labels, classes) for file in files))
    train, test = slice(0, -1), slice(-1, None)
    arrays = [np.concatenate(part[split]) for split in (train, test) for part in (images, label_column)]
    source = f"{title}, {len(arrays[0])} training and {len(arrays[2])} test images, from {root}"
    others = [name for name, sha1 in zip(files, sha1s) if sha1 != files[name]]
    return Dataset(*arrays, source=source + remark(others), mean=MEAN, std=STD)


def _read(path: Path, sha1: str, labels: int, classes: int):
    """Return images, labels and SHA-1 of a file of records: label bytes, the last is the class, then the pixels."""
    record = labels + int(np.prod(PIXELS))
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise Error(f"{path}: cannot be read ({error.strerror})") from None
    if not len(data) or len(data) % record:
        raise Error(f"{path}: not whole records of {record} bytes; download it again (SHA-1 {sha1})")
    records = data.reshape(-1, record)
    label = records[:, labels - 1]
    if label.max() >= classes:
        raise Error(f"{path}: label {label.max()}; allowed: 0 to {classes - 1}; download it again (SHA-1 {sha1})")
    images = records[:, labels:].reshape(-1, *PIXELS)
    return images, label.astype(np.float32), hashlib.sha1(data).hexdigest()
