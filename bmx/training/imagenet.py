"""Batches of photographs from RecordIO files, which MXNet decodes in C++, or from folders of images, one per class."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator, List, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error
from .augment import LEVELS, jitter_colours
from .decode import decode
from .record_file import check_pictures, count_records

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")


class RecordBatches:
    """Batches from a RecordIO file, as MXNet's tools/im2rec.py writes it, through ``mx.io.ImageRecordIter``.

    Order and augmentation of an epoch follow from `seed`, its number and the number of threads. All images are decoded
    once before the first epoch, because MXNet ends the process at a damaged one. NAME.checked beside the file records
    that this is done.

    Parameters
    ----------
    path : str
        The file, NAME.rec. NAME.idx beside it makes counting the images fast.
    batch_size : int
        Images per batch.
    size : int, default 224
        Height and width of the images for the network.
    train : bool, default False
        Whether to shuffle, to augment and to drop the last incomplete batch. Without, the central part of each image is
        taken, whose shorter side is first made size·8/7 long.
    augment : {'none', 'low', 'medium', 'high'}, default 'low'
        low: a random part of that size, mirrored or not; medium: a random part of 8 to 100 % of the area; high: with
        changed brightness, contrast and saturation too.
    seed : int, default 0
    threads : int, default 4
        Threads that decode.
    part : (int, int), default (0, 1)
        Number of this worker and number of workers. Each worker reads its part of the file.

    Raises
    ------
    bmx.Error
        If the file is missing, damaged or too small, or a parameter is not allowed.
    """

    def __init__(
        self,
        path: str,
        batch_size: int,
        size: int = 224,
        train: bool = False,
        augment: str = "low",
        seed: int = 0,
        threads: int = 4,
        part: Tuple[int, int] = (0, 1),
    ):
        _check(augment, size)
        self.path, self.batch_size, self.size, self.train, self.seed = path, batch_size, size, train, seed
        self.augment, self.threads, self.part = augment, threads, part if train else (0, 1)
        self.count = count_records(path)
        if batch_size < 1 or len(self) < 1:
            raise Error(f"batch size {batch_size}; allowed with {path}: 1 to {self.count // self.part[1]}")
        check_pictures(path, size * 8 // 7, self.part, threads)

    def __len__(self) -> int:
        """Batches of an epoch."""
        batches = self.count / (self.batch_size * self.part[1])
        return math.floor(batches) if self.train else math.ceil(batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """Yield the (images, labels) of epoch `number` from batch `start` on."""
        batches = self._open(number)
        for place in range(len(self)):
            try:
                batch = batches.next()
            except StopIteration:
                raise Error(f"{self.path}: ended after {place} of {len(self)} batches; make it again") from None
            except mx.MXNetError as error:
                raise Error(f"{self.path}: cannot be decoded: {str(error).strip().splitlines()[-1]}") from None
            if place >= start:
                wanted = self.batch_size - (0 if self.train else batch.pad)
                yield batch.data[0][:wanted], batch.label[0][:wanted]

    def _open(self, number: int) -> mx.io.DataIter:
        options = {
            "path_imgrec": self.path,
            "data_shape": (3, self.size, self.size),
            "batch_size": self.batch_size,
            "preprocess_threads": self.threads,
            "num_parts": self.part[1],
            "part_index": self.part[0],
            "resize": self.size * 8 // 7,
            **{f"mean_{channel}": 255 * value for channel, value in zip("rgb", MEAN)},
            **{f"std_{channel}": 255 * value for channel, value in zip("rgb", STD)},
        }
        if self.train:
            seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0] >> 1)
            options.update(shuffle=True, seed=seed, seed_aug=seed, shuffle_chunk_seed=seed)
            if self.augment != "none":
                options.update(rand_crop=self.augment == "low", rand_mirror=True)
            if LEVELS.index(self.augment) >= 2:
                options.update(resize=-1, random_resized_crop=True, min_random_area=0.08, max_random_area=1.0)
                options.update(min_aspect_ratio=3 / 4, max_aspect_ratio=4 / 3)
            if self.augment == "high":
                options.update(brightness=0.4, contrast=0.4, saturation=0.4, pca_noise=0.1)
        try:
            return mx.io.ImageRecordIter(**options)
        except mx.MXNetError as error:
            raise Error(f"{self.path}: cannot be read: {str(error).strip().splitlines()[-1]}") from None


class FolderBatches:
    """Batches from a folder with a folder of images (jpg, png, bmp) for each class, in the order of their names.

    The same numbers as :class:`RecordBatches`, decoded and cut here; order and augmentation of an epoch follow from
    `seed` and its number. Folders whose names begin with a dot are none of classes. `classes` are the names.

    Parameters
    ----------
    folder : str
    batch_size, size, train, augment, seed, threads, part
        As in :class:`RecordBatches`.

    Raises
    ------
    bmx.Error
        If there are no such folders or images, a class has none to train on or a name that is no line of text, an image
        cannot be decoded, or a parameter is not allowed.
    """

    def __init__(
        self,
        folder: str,
        batch_size: int,
        size: int = 224,
        train: bool = False,
        augment: str = "low",
        seed: int = 0,
        threads: int = 4,
        part: Tuple[int, int] = (0, 1),
    ):
        _check(augment, size)
        self.batch_size, self.size, self.train, self.seed = batch_size, size, train, seed
        self.augment, self.threads, self.part = augment, threads, part if train else (0, 1)
        self.classes, self.files = _images_in(Path(folder))
        if train:
            _check_classes(folder, self.classes, self.files)
        if batch_size < 1 or len(self) < 1:
            raise Error(f"batch size {batch_size}; allowed with {folder}: 1 to {len(self.files) // self.part[1]}")

    __len__ = RecordBatches.__len__

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.files)

    def epoch(self, number: int, start: int = 0) -> Iterator[Tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """Yield the (images, labels) of epoch `number` from batch `start` on; the next batch is decoded meanwhile."""
        order = np.arange(self.count)
        if self.train:
            np.random.RandomState([self.seed, number]).shuffle(order)

        def submit(batch: int) -> list:
            place = batch * self.part[1] + self.part[0]
            rows = order[place * self.batch_size : (place + 1) * self.batch_size]
            return [pool.submit(self._load, int(row), number) for row in rows]

        with ThreadPoolExecutor(self.threads) as pool:
            following = submit(start)
            for batch in range(start, len(self)):
                current, following = following, submit(batch + 1) if batch + 1 < len(self) else []
                images, labels = zip(*(future.result() for future in current))
                yield mx.nd.array(np.stack(images)), mx.nd.array(np.array(labels, np.float32))

    def _load(self, row: int, epoch: int) -> Tuple[np.ndarray, int]:
        """Return an image, normalized, of shape (3, size, size), and its class."""
        path, label = self.files[row]
        try:
            data = Path(path).read_bytes()
            return self._prepared(decode(data, self.size * 8 // 7), row, epoch), label
        except (mx.MXNetError, OSError, MemoryError, ValueError) as error:
            reason = str(error).strip().splitlines() or ["there is not enough memory"]
            raise Error(f"{path}: cannot be decoded: {reason[-1]}") from None

    def _prepared(self, image: mx.nd.NDArray, row: int, epoch: int) -> np.ndarray:
        random = np.random.RandomState([self.seed, epoch, row])
        level = LEVELS.index(self.augment) if self.train else 0
        if level >= 2:
            left, top, width, height = _random_area(image.shape[1], image.shape[0], random)
            image = mx.image.fixed_crop(image, left, top, width, height, (self.size, self.size), 2)
        else:
            side = self.size * 8 // 7
            image = mx.image.resize_short(image, side, 2)
            height, width = image.shape[:2]
            room = np.array([height - self.size, width - self.size])
            top, left = random.randint(0, room + 1) if level else room // 2
            image = mx.image.fixed_crop(image, int(left), int(top), self.size, self.size)
        pixels = image.asnumpy().transpose(2, 0, 1).astype(np.float32) / 255
        if level and random.randint(2):
            pixels = pixels[:, :, ::-1]
        if level == 3:
            pixels = jitter_colours(0.4)(pixels[None], random)[0]
        mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
        return (pixels - mean) / std


def imagenet(folder: str, batch_size: int, size: int, augment: str, seed: int, threads: int, part: Tuple[int, int]):
    """Return batches for training and validation, from train.rec and val.rec in `folder` or from its train/ and val/.

    Raises
    ------
    bmx.Error
        If neither exists, or as in the two classes.
    """
    root = Path(folder)
    for make, names in ((RecordBatches, ("train.rec", "val.rec")), (FolderBatches, ("train", "val"))):
        if all((root / name).exists() for name in names):
            options = {"size": size, "augment": augment, "seed": seed, "threads": threads, "part": part}
            train, val = (make(str(root / name), batch_size, train=name == names[0], **options) for name in names)
            if make is FolderBatches and train.classes != val.classes:
                other = sorted(set(train.classes) ^ set(val.classes))[0]
                raise Error(f"{root}: the class {other!r} is not in both of train/ and val/")
            return train, val
    raise Error(
        f"no images in {root}: put there train.rec and val.rec, which MXNet's tools/im2rec.py makes, or the folders "
        "train and val with a folder of images for each class"
    )


def _check(augment: str, size: int) -> None:
    if augment not in LEVELS:
        raise Error(f"augmentation {augment!r}; allowed: {', '.join(LEVELS)}")
    if size < 1:
        raise Error(f"image size {size}; allowed: 1 or more")


def _images_in(folder: Path) -> Tuple[List[str], List[Tuple[str, int]]]:
    try:
        classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
        files = [
            (str(path), label)
            for label, name in enumerate(classes)
            for path in sorted((folder / name).iterdir())
            if path.suffix.lower() in SUFFIXES
        ]
    except OSError as error:
        raise Error(f"{folder}: cannot be read ({error.strerror})") from None
    if not files:
        raise Error(f"{folder}: no images; put a folder of .jpg or .png files for each class into it")
    return classes, files


def _check_classes(folder: str, classes: List[str], files: List[Tuple[str, int]]) -> None:
    """Check that every class has an image, and that its name fits in one line of a text file."""
    empty = sorted(set(range(len(classes))) - {label for _, label in files})
    if empty:
        raise Error(f"{folder}/{classes[empty[0]]}: no images of this class; put some there, or remove the folder")
    for name in classes:
        try:
            fits = name.encode().decode().splitlines() == [name]
        except UnicodeError:
            fits = False
        if not fits:
            raise Error(f"{folder}: the folder {name!r} is a class whose name is no line of text (UTF-8); rename it")


def _random_area(width: int, height: int, random: np.random.RandomState) -> Tuple[int, int, int, int]:
    """Return left, top, width and height of 8 to 100 % of the area, at a ratio of 3:4 to 4:3, if that is possible."""
    for _ in range(10):
        area = random.uniform(0.08, 1) * width * height
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(random.randint(0, width - w + 1)), int(random.randint(0, height - h + 1)), w, h
    side = min(width, height)
    return (width - side) // 2, (height - side) // 2, side, side
