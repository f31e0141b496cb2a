"""CIFAR's binary files and Fashion-MNIST, right and wrong ones."""

import gzip
import hashlib

import numpy as np
import pytest

import bmx
from bmx.training import Batches, cifar10, cifar100, fashion_mnist, synthetic
from bmx.training.cifar import CIFAR10_FILES, CIFAR100_FILES
from bmx.training.mnist import FASHION_MNIST_FILES


def records(count, label_bytes, seed):
    random = np.random.RandomState(seed)
    rows = random.randint(0, 256, (count, label_bytes + 3072)).astype(np.uint8)
    rows[:, :label_bytes] = random.randint(0, 10, (count, label_bytes))
    return rows


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(CIFAR10_FILES):
        (tmp_path / name).write_bytes(records(3, 1, seed).tobytes())
    return tmp_path


def test_cifar10(folder):
    data = cifar10(str(folder))
    assert data.train_images.shape == (15, 3, 32, 32) and data.test_images.shape == (3, 3, 32, 32)
    rows = np.concatenate([records(3, 1, seed) for seed in range(5)])
    np.testing.assert_array_equal(data.train_images.reshape(15, -1), rows[:, 1:])
    np.testing.assert_array_equal(data.train_labels, rows[:, 0])
    others = ", ".join(CIFAR10_FILES)
    assert data.source == (
        f"CIFAR-10, 15 training and 3 test images, from {folder}; not as published, by their SHA-1: {others}"
    )


def test_files_with_the_published_sha1_are_not_remarked_on(folder, monkeypatch):
    for name in CIFAR10_FILES:
        monkeypatch.setitem(CIFAR10_FILES, name, hashlib.sha1((folder / name).read_bytes()).hexdigest())
    assert cifar10(str(folder)).source.endswith(f"images, from {folder}")


def test_cifar10_as_the_archive_has_it_in_gluons_folder(folder, tmp_path, monkeypatch):
    inner = tmp_path / "datasets" / "cifar10" / "cifar-10-batches-bin"
    inner.mkdir(parents=True)
    for name in CIFAR10_FILES:
        (folder / name).rename(inner / name)
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    assert len(cifar10().train_images) == 15


def test_cifar100_has_the_fine_labels(tmp_path):
    for name, count in zip(CIFAR100_FILES, (4, 2)):
        (tmp_path / name).write_bytes(records(count, 2, count).tobytes())
    data = cifar100(str(tmp_path))
    np.testing.assert_array_equal(data.train_labels, records(4, 2, 4)[:, 1])
    assert data.train_images.shape == (4, 3, 32, 32) and len(data.test_images) == 2


def test_batches_are_normalized(folder):
    data = cifar10(str(folder))
    images, _ = next(iter(Batches(data.test_images, data.test_labels, 3, mean=data.mean, std=data.std).epoch(0)))
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (data.mean, data.std))
    np.testing.assert_allclose(images.asnumpy(), (data.test_images / 255 - mean) / std, rtol=1e-4, atol=1e-5)


def test_missing_files_with_their_sha1(folder, tmp_path):
    (folder / "data_batch_3.bin").unlink()
    expected = "put into it data_batch_3.bin (SHA-1 1dd00a74ab1d17a6e7d73e185b69dbf31242f295)"
    with pytest.raises(bmx.Error) as error:
        cifar10(str(folder))
    assert str(error.value) == f"no CIFAR-10 in {folder}: {expected}"
    with pytest.raises(bmx.Error, match=r"no CIFAR-100 in .*: put into it train.bin \(SHA-1 .*\), test.bin \(SHA-1"):
        cifar100(str(tmp_path))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "not whole records of 3073 bytes"),
        (bytes(3072), "not whole records of 3073 bytes"),
        (b"\x0a" + bytes(3072), "label 10; allowed: 0 to 9"),
    ],
)
def test_damaged_file_is_named(folder, data, message):
    (folder / "test_batch.bin").write_bytes(data)
    with pytest.raises(bmx.Error, match=f"test_batch.bin: {message}; download it again .SHA-1 67eb016d"):
        cifar10(str(folder))


def test_fashion_mnist_may_have_other_sums(tmp_path):
    for name in FASHION_MNIST_FILES:
        array = np.arange(2) if "labels" in name else np.zeros((2, 28, 28))
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
    assert fashion_mnist(str(tmp_path)).train_images.shape == (2, 1, 28, 28)
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(bmx.Error, match="no Fashion-MNIST in .*train-labels-idx1-ubyte.gz .SHA-1 236021d5"):
        fashion_mnist(str(tmp_path))


def test_synthetic_images_repeat():
    data, again = synthetic((1, 8, 8), classes=3, count=12), synthetic((1, 8, 8), classes=3, count=12)
    assert data.train_images.shape == (12, 1, 8, 8) and data.test_labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(data.train_images, again.train_images)
