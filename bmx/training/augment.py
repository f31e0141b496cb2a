"""Augmentations: functions of a batch as a NumPy array and a source of random numbers."""

from __future__ import annotations

import numpy as np

from .data import Augment


def crop_and_flip(pad: int = 4, flip: bool = True) -> Augment:
    """Return an augmentation that crops each image, padded with zeros, at random to its size, and mirrors half of them.

    Parameters
    ----------
    pad : int, default 4
        Pixels of zeros on every side.
    flip : bool, default True
        Whether to mirror.
    """

    def augment(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        count, channels, height, width = images.shape
        padded = np.zeros((count, channels, height + 2 * pad, width + 2 * pad), images.dtype)
        padded[:, :, pad : pad + height, pad : pad + width] = images
        tops, lefts = random.randint(0, 2 * pad + 1, (2, count))
        mirror = random.randint(0, 2, count) if flip else np.zeros(count, int)
        result = np.empty_like(images)
        for i in range(count):
            crop = padded[i, :, tops[i] : tops[i] + height, lefts[i] : lefts[i] + width]
            result[i] = crop[:, :, ::-1] if mirror[i] else crop
        return result

    return augment
