"""Photographs in RecordIO files and in folders: the same batches for the same seed, and errors that name the file."""

import io
import os

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

import bmx
from bmx.training import FolderBatches, RecordBatches, fit, record_file
from bmx.training.image_size import image_size
from bmx.training.imagenet import imagenet
from bmx.training.record_file import count_classes

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def photograph(number, kind="PNG"):
    """An image whose colour says its class, number % 3, and whose brightness its number."""
    data = io.BytesIO()
    pixels = np.full((40 + number, 50, 3), COLOURS[number % 3]) - number
    Image.fromarray(pixels.astype(np.uint8)).save(data, kind)
    return data.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Both forms of the same twelve images."""
    for split in ("train", "val"):
        for number in range(12):
            path = tmp_path / split / "red green blue".split()[number % 3] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photograph(number))
        writer = mx.recordio.MXIndexedRecordIO(str(tmp_path / f"{split}.idx"), str(tmp_path / f"{split}.rec"), "w")
        for number in range(12):
            writer.write_idx(
                number, mx.recordio.pack(mx.recordio.IRHeader(0, number % 3, number, 0), photograph(number))
            )
        writer.close()
    return tmp_path


def makers(folder):
    return (
        lambda **options: RecordBatches(str(folder / "train.rec"), size=32, threads=1, **options),
        lambda **options: FolderBatches(str(folder / "train"), size=32, threads=2, **options),
    )


def everything(batches, epoch, start=0):
    images, labels = zip(*((image.asnumpy(), label.asnumpy()) for image, label in batches.epoch(epoch, start)))
    return np.concatenate(images), np.concatenate(labels)


@pytest.mark.parametrize("which", [0, 1], ids=["records", "folders"])
@pytest.mark.parametrize("augment", ["none", "low", "medium", "high"])
def test_an_epoch_has_every_image_once_and_the_seed_repeats_it(folder, which, augment):
    def make(seed):
        return makers(folder)[which](batch_size=5, train=True, augment=augment, seed=seed)

    images, labels = everything(make(0), 1)
    assert len(make(0)) == 2 and images.shape == (10, 3, 32, 32) and images.dtype == np.float32
    # The classes are red, green and blue in the RecordIO file, and blue, green, red in the folder.
    strongest = images.mean((2, 3)).argmax(1)
    if augment != "high":
        np.testing.assert_array_equal(strongest if which == 0 else 2 - strongest, labels)
    np.testing.assert_array_equal(everything(make(0), 1)[0], images)
    np.testing.assert_array_equal(everything(make(0), 1, start=1)[0], images[5:])
    assert (everything(make(0), 2)[1] != labels).any() or (everything(make(0), 3)[1] != labels).any()
    assert (everything(make(1), 1)[1] != labels).any() or (everything(make(2), 1)[1] != labels).any()


@pytest.mark.parametrize("which", [0, 1], ids=["records", "folders"])
def test_validation_has_all_images_in_order(folder, which):
    batches = makers(folder)[which](batch_size=5)
    images, labels = everything(batches, 0)
    assert len(batches) == 3 and images.shape == (12, 3, 32, 32)
    expected = np.arange(12) % 3 if which == 0 else np.repeat([0, 1, 2], 4)
    np.testing.assert_array_equal(labels, expected)


def test_both_forms_give_the_same_images(folder):
    record, plain = (everything(make(batch_size=4), 0) for make in makers(folder))
    for number in range(12):
        row = (2 - number % 3) * 4 + number // 3
        np.testing.assert_allclose(record[0][number], plain[0][row], atol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["records", "folders"])
def test_workers_share_the_images(folder, which):
    parts = [makers(folder)[which](batch_size=3, train=True, augment="none", part=(rank, 2)) for rank in (0, 1)]
    brightness = [everything(part, 1)[0].mean((1, 2, 3)) for part in parts]
    assert [len(part) for part in parts] == [2, 2]
    different = len({round(float(value), 4) for value in np.concatenate(brightness)})
    assert different == 12 if which else different >= 10  # MXNet splits a file by bytes, and repeats what is missing


def test_records_are_counted_without_the_index(folder):
    (folder / "train.idx").unlink()
    assert RecordBatches(str(folder / "train.rec"), batch_size=4, size=32).count == 12


@pytest.mark.parametrize("damage", [lambda data: data[:-7], lambda data: b"no records" * 9, lambda data: b"\0" * 64])
def test_damaged_record_file_is_named(folder, damage):
    (folder / "train.idx").unlink()
    path = folder / "train.rec"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(bmx.Error, match="train.rec: not a whole RecordIO file"):
        RecordBatches(str(path), batch_size=4)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [*lines, b"12\t99999999\n"],
        lambda lines: [*lines, lines[-1]],
        lambda lines: lines[:-1],
        lambda lines: lines[1:],
        lambda lines: [b"no index\n"],
        lambda lines: [],
    ],
)
def test_an_index_of_another_file_is_named(folder, change):
    index = folder / "train.idx"
    index.write_bytes(b"".join(change(index.read_bytes().splitlines(keepends=True))))
    with pytest.raises(bmx.Error, match="train.idx: not the index of .*train.rec; make it again"):
        RecordBatches(str(folder / "train.rec"), batch_size=4, size=32)


def write_records(path, pictures, labels=None):
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for number, data in enumerate(pictures):
        label = number % 3 if labels is None else labels[number]
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), data))
    writer.close()
    return str(path)


@pytest.mark.parametrize(
    "damage, reason",
    [
        (lambda data: b"no image", "it is no PNG, JPEG or BMP file, or its header is damaged"),
        (lambda data: b"", "it is no PNG, JPEG or BMP file, or its header is damaged"),
        (lambda data: data[:40] + b"?" + data[41:], "it is damaged from byte 33 on"),
        (lambda data: b"\xff\xd8\xff\xe0" + data, "it is no PNG, JPEG or BMP file, or its header is damaged"),
        (lambda data: photograph(0, "JPEG")[:300], "it is damaged, or of a kind that MXNet does not know"),
    ],
)
@pytest.mark.parametrize("augment", ["low", "high"])
def test_a_record_whose_picture_is_damaged_is_named(tmp_path, damage, reason, augment):
    pictures = [photograph(number) for number in range(8)]
    good = write_records(tmp_path / "train.rec", pictures)
    everything(RecordBatches(good, 4, 8, train=True, augment=augment), 1)
    bad = write_records(tmp_path / "train.rec", [*pictures[:5], damage(pictures[5]), *pictures[6:]])
    with pytest.raises(bmx.Error, match=rf"train.rec: record 5, from byte \d+ on, cannot be decoded: {reason};"):
        RecordBatches(bad, 4, 8, train=True, augment=augment)


def test_a_record_with_two_labels_is_named(tmp_path):
    path = write_records(tmp_path / "train.rec", [photograph(0)] * 3, [[0], [1, 2], 0])
    with pytest.raises(bmx.Error, match=r"train.rec: record 1, .*: it has 2 labels; allowed: one; make it again"):
        RecordBatches(path, 2, 8)


def test_a_file_is_checked_once(tmp_path, monkeypatch):
    path = write_records(tmp_path / "train.rec", [photograph(0)] * 4)
    decoded = []
    monkeypatch.setattr(record_file, "decode", lambda data, side: decoded.append(side))

    def count(size=8, part=(0, 1)):
        decoded.clear()
        RecordBatches(path, 1, size, train=True, part=part)
        return len(decoded)

    assert [count(), count(), count(size=16), count(), count(part=(0, 2)), count(part=(0, 2))] == [4, 0, 4, 0, 2, 0]
    os.utime(path, (1, 1))
    assert [count(), count()] == [4, 0] and len((tmp_path / "train.checked").read_text().splitlines()) == 1
    (tmp_path / "train.checked").unlink()
    (tmp_path / "train.checked").mkdir()  # as where nothing can be written
    assert [count(), count()] == [4, 4]


def test_pictures_with_the_number_that_separates_records(tmp_path):
    """MXNet's writer splits them, its reader joins them."""
    magic, data = (0xCED7230A).to_bytes(4, "little"), io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "BMP")
    data = data.getvalue()[:54]  # and then pixels; behind 24 bytes of the record, 78 is no multiple of 4
    path = write_records(tmp_path / "train.rec", [data + (magic * 49)[2:-2], photograph(1)])
    batches = RecordBatches(path, 2, 7)
    assert batches.count == 2 and everything(batches, 1)[0].shape == (2, 3, 7, 7)
    content = open(path, "rb").read()
    kinds = [place for place in range(0, len(content), 4) if content[place : place + 4] == magic]
    assert len(kinds) > 40
    for place in kinds[:3]:  # a part of another kind than the last one allows
        damaged = bytearray(content)
        damaged[place + 7] ^= 0x60
        (tmp_path / "bad.rec").write_bytes(damaged)
        with pytest.raises(bmx.Error, match="bad.rec: not a whole RecordIO file"):
            RecordBatches(str(tmp_path / "bad.rec"), 2, 7)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_each_worker_checks_what_it_reads(tmp_path, workers):
    pictures = [photograph(number) for number in range(30)]
    for damaged in (0, 13, 29):
        path = write_records(tmp_path / "train.rec", [b"" if i == damaged else p for i, p in enumerate(pictures)])
        refused = 0
        for rank in range(workers):
            try:
                batches = RecordBatches(path, 2, 8, train=True, threads=1, part=(rank, workers))
            except bmx.Error as error:
                assert f"record {damaged}, " in str(error)
                refused += 1
            else:
                everything(batches, 1)  # which would crash
        assert refused == 1


def test_labels_that_the_network_does_not_know(folder):
    net = mx.gluon.nn.Dense(2)
    net.initialize()
    train, val = (RecordBatches(str(folder / f"{name}.rec"), 4, 8, train=name == "train") for name in ("train", "val"))
    with pytest.raises(bmx.Error, match="train.rec: label 2; allowed with a network of 2 classes: 0 to 1"):
        fit(net, train, val, mx.optimizer.SGD(), 1, log=str)


def records(path, labels):
    writer = mx.recordio.MXRecordIO(str(path), "w")
    for label in labels:
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, 0, 0), b"x" * 13))
    writer.close()
    return str(path)


@pytest.mark.parametrize("labels, classes", [([0, 1, 2], 3), ([2, 2], 3), ([0], 1), ([999, 0], 1000), ([[4, 7], 1], 5)])
def test_classes_of_records_are_counted(tmp_path, labels, classes):
    assert count_classes(records(tmp_path / "val.rec", labels)) == classes


@pytest.mark.parametrize("label", [-1, 0.5, np.nan, np.inf, 1e9])
def test_labels_that_are_no_classes_are_not_counted(tmp_path, label):
    with pytest.raises(
        bmx.Error, match=r"val.rec: has the label .*, and so no number of classes; give it \(--classes\)"
    ):
        count_classes(records(tmp_path / "val.rec", [0, label]))


def test_records_that_are_empty_or_damaged_have_no_classes(tmp_path):
    with pytest.raises(bmx.Error, match="val.rec: has no labels"):
        count_classes(records(tmp_path / "val.rec", []))
    path = tmp_path / "cut.rec"
    path.write_bytes(open(records(tmp_path / "val.rec", [0, 1]), "rb").read()[:-5])
    with pytest.raises(bmx.Error, match="cut.rec: not a whole RecordIO file"):
        count_classes(str(path))


def test_a_class_without_images_is_named_and_hidden_folders_are_no_classes(folder):
    (folder / "train" / ".cache").mkdir()
    (folder / "val" / "empty").mkdir()
    assert makers(folder)[1](batch_size=4, train=True).classes == ["blue", "green", "red"]
    assert FolderBatches(str(folder / "val"), batch_size=4).classes == ["blue", "empty", "green", "red"]
    (folder / "train" / "empty").mkdir()
    with pytest.raises(bmx.Error, match="train/empty: no images of this class; put some there, or remove the folder"):
        makers(folder)[1](batch_size=4, train=True)


@pytest.mark.parametrize("name", ["two\nlines", "separated\u2028", "\udcff"])
def test_a_class_whose_name_is_no_line_is_refused(folder, name):
    (folder / "train" / "red").rename(folder / "train" / name)
    with pytest.raises(bmx.Error, match="is a class whose name is no line of text") as error:
        makers(folder)[1](batch_size=4, train=True)
    assert len(str(error.value).splitlines()) == 1


def test_damaged_image_is_named(folder):
    (folder / "train" / "red" / "00.png").write_bytes(b"no image")
    with pytest.raises(bmx.Error, match="00.png: cannot be decoded"):
        everything(makers(folder)[1](batch_size=4), 0)


def test_imagenet_takes_what_is_there(folder, tmp_path):
    options = {"size": 32, "augment": "low", "seed": 0, "threads": 1, "part": (0, 1)}
    assert isinstance(imagenet(str(folder), 4, **options)[0], RecordBatches)
    (folder / "val.rec").unlink()
    train, val = imagenet(str(folder), 4, **options)
    assert isinstance(train, FolderBatches) and train.train and not val.train
    (folder / "val" / "red").rename(folder / "val" / "pink")
    with pytest.raises(bmx.Error, match="the class 'pink' is not in both"):
        imagenet(str(folder), 4, **options)
    with pytest.raises(bmx.Error, match="no images in .*: put there train.rec and val.rec, .*, or the folders"):
        imagenet(str(tmp_path / "empty"), 4, **options)


@pytest.mark.parametrize("which", [0, 1], ids=["records", "folders"])
def test_impossible_options(folder, which):
    with pytest.raises(bmx.Error, match="batch size 13; allowed with .* 1 to 12"):
        makers(folder)[which](batch_size=13, train=True)
    with pytest.raises(bmx.Error, match="augmentation 'much'; allowed: none, low"):
        makers(folder)[which](batch_size=3, augment="much")


@pytest.mark.parametrize("size", [(1, 1), (60, 40), (300, 7)])
def test_sizes_by_headers(size):
    image = pytest.importorskip("PIL.Image")
    for name, options in (("PNG", {}), ("BMP", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {})):
        stream = io.BytesIO()
        image.new("RGB", size).save(stream, name, **options)
        data = stream.getvalue()
        assert image_size(data) == (None if name == "WEBP" else size)
        for end in range(0, len(data), 7):
            assert image_size(data[:end]) in (None, size)


def test_an_image_that_states_a_huge_size_is_named(folder):
    path = next((folder / "train" / "red").iterdir())
    png = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + 2 * (20000).to_bytes(4, "big") + b"\x08\x02\0\0\0"
    path.write_bytes(png)
    with pytest.raises(bmx.Error, match="has 20000x20000 pixels; allowed: 134217728 in all"):
        list(FolderBatches(str(folder / "train"), 2, size=8).epoch(1))


def test_an_image_that_is_too_narrow_is_named(folder):
    path = next((folder / "train" / "red").iterdir())
    Image.new("RGB", (1, 60000)).save(path)
    with pytest.raises(bmx.Error, match="cannot be decoded: it is too narrow, 1x60000 pixels"):
        list(FolderBatches(str(folder / "train"), 2, size=224).epoch(1))
