"""Data sets as NumPy arrays, and their batches in an order that follows from a seed."""

from __future__ import annotations

import math
from typing import Callable, Iterator, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error

Augment = Callable[[np.ndarray, np.random.RandomState], np.ndarray]


def check_mode(what: str) -> None:
    """Raise bmx.Error in MXNet's NumPy mode, in which batches and trainers of this package do not work."""
    if mx.util.is_np_array() or mx.util.is_np_shape():
        raise Error(
            f"{what} works with MXNet's classic arrays, not in its NumPy mode: call mx.npx.reset_np() before the "
            "network is made, or train with a Trainer of your own"
        )


def remark(others: Sequence[str]) -> str:
    """Return a note for the source of a data set about files whose SHA-1 differs from the published one."""
    return f"; not as published, by their SHA-1: {', '.join(others)}" if others else ""


class Dataset(NamedTuple):
    """Images and labels for training and test, and a phrase that describes them.

    Images have the shape (N, C, H, W) and are float32 with values in [0, 1] or uint8 with values 0..255, labels are
    float32 of shape (N,) with values 0, 1, ... `mean` and `std` are those of each channel, of values in [0, 1]: a
    network gets (image - mean) / std.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str
    mean: Sequence[float] = (0.0,)
    std: Sequence[float] = (1.0,)


def synthetic(shape: Sequence[int] = (3, 32, 32), classes: int = 10, count: int = 512, seed: int = 0) -> Dataset:
    """Return random images that can be learnt: each class has a pattern, and its images add noise to it.

    Parameters
    ----------
    shape : sequence of int, default (3, 32, 32)
        Channels, height and width.
    classes : int, default 10
    count : int, default 512
        Training images; there are a quarter as many test images.
    seed : int, default 0
    """
    random = np.random.RandomState(seed)
    patterns = random.randint(64, 192, (classes, *shape)).astype(np.float32)
    arrays = []
    for images in (count, max(1, count // 4)):
        labels = np.arange(images) % classes
        noise = random.normal(0, 40, (images, *shape)).astype(np.float32)
        arrays += [np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8), labels.astype(np.float32)]
    source = f"synthetic images of {'x'.join(map(str, shape))}, {count} to train on"
    return Dataset(*arrays, source=source, mean=(0.5,), std=(0.25,))


class Batches:
    """Batches of arrays in memory, for :func:`bmx.training.fit`.

    The order and the augmentation of an epoch follow from `seed` and the epoch's number alone, so that a resumed run
    sees the same batches as one that was not interrupted.

    Parameters
    ----------
    images, labels : numpy.ndarray
        Arrays of shapes (N, C, H, W), float32 or uint8, and (N,). Values of uint8 are divided by 255.
    batch_size : int
        Images of a batch, 1 to N when training.
    train : bool, default False
        Whether to shuffle, to augment and to drop the last incomplete batch.
    augment : callable, optional
        ``(images, numpy.random.RandomState) -> images`` for training, as :mod:`bmx.training.augment` makes them.
    seed : int, default 0
        Seed of order and augmentation.
    ctx : mxnet.Context, optional
        Device of the batches. Default: the current context.
    mean, std : sequence of float, default 0 and 1
        One number per channel or one for all. Batches hold (image - mean) / std.
    small_epochs : int, default 0
        Train the epochs up to this one on random windows of three quarters of height and width (the same window for a
        batch): they take little more than half the time, and the others make up for the difference in accuracy. For
        networks that end in a global pooling.
    part : (int, int), default (0, 1)
        Number of this worker and number of workers. When training, workers take turns at the batches, and each gets
        `batch_size` images.

    Raises
    ------
    bmx.Error
        If images and labels differ in number, or the batch size is not in its range.

    Examples
    --------
    >>> batches = Batches(np.zeros((5, 1, 2, 2), np.float32), np.arange(5, dtype=np.float32), batch_size=2)
    >>> [label.asnumpy().tolist() for image, label in batches.epoch(0)]
    [[0.0, 1.0], [2.0, 3.0], [4.0]]
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        batch_size: int,
        train: bool = False,
        augment: Optional[Augment] = None,
        seed: int = 0,
        ctx: Optional[mx.Context] = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        small_epochs: int = 0,
        part: Tuple[int, int] = (0, 1),
    ):
        if len(images) != len(labels):
            raise Error(f"{len(images)} images but {len(labels)} labels; every image needs one")
        self.part = part if train else (0, 1)
        most = len(images) // self.part[1]
        if batch_size < 1 or (train and batch_size > most):
            raise Error(f"batch size {batch_size}; allowed with these data: 1 to {most}")
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.train, self.augment, self.seed, self.ctx = train, augment, seed, ctx
        self.small_epochs = small_epochs
        self.mean, self.std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (mean, std))

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.images)

    def __len__(self) -> int:
        """Batches of an epoch."""
        batches = len(self.images) / (self.batch_size * self.part[1])
        return math.floor(batches) if self.train else math.ceil(batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """Yield the (images, labels) of epoch `number` from batch `start` on."""
        order = np.arange(len(self.images))
        if self.train:
            np.random.RandomState([self.seed, number]).shuffle(order)
        index, count = self.part
        for batch in range(start, len(self)):
            place = batch * count + index
            rows = order[place * self.batch_size : (place + 1) * self.batch_size]
            images = self.images[rows]
            if self.train:
                images = self._augmented(images, number, np.random.RandomState([self.seed, number, place]))
            if images.dtype == np.uint8:
                images = images * np.float32(1 / 255)
            yield mx.nd.array((images - self.mean) / self.std, ctx=self.ctx), mx.nd.array(self.labels[rows], self.ctx)

    def _augmented(self, images: np.ndarray, epoch: int, random: np.random.RandomState) -> np.ndarray:
        if self.augment is not None:
            images = self.augment(images, random)
        if epoch <= self.small_epochs:
            height, width = images.shape[2:]
            top, left = random.randint(0, [height // 4 + 1, width // 4 + 1])
            images = images[:, :, top:, left:][:, :, : small_side(height), : small_side(width)]
        return images


def small_side(side: int) -> int:
    """Return the height or width of the windows that small epochs are trained on."""
    return side - side // 4
