"""Augmentations: functions of a batch (a NumPy array) and a random generator."""

from __future__ import annotations

from typing import Optional

import mxnet as mx
import numpy as np

from ..errors import Error
from .data import Augment

LEVELS = ("none", "low", "medium", "high")


def augmentation(level: str, kind: str = "photographs") -> Optional[Augment]:
    """Return the augmentation of a level for small images.

    Parameters
    ----------
    level : {'none', 'low', 'medium', 'high'}
    kind : {'photographs', 'digits', 'clothes'}
        - photographs: low crops with a padding of 4 pixels and mirrors; medium also changes brightness, contrast and
          saturation by up to 20 %; high by up to 40 %, and cuts out a square of half the side;
        - digits: rotated, scaled, sheared and shifted, by 0.5 (low), 1 (medium) or 1.5 (high) times the defaults of
          :func:`affine_jitter`;
        - clothes: low crops with a padding of 2 pixels and mirrors; medium also changes brightness and contrast; high
          also cuts out.

    Raises
    ------
    bmx.Error
        If there is no such level.
    """
    if level not in LEVELS:
        raise Error(f"augmentation {level!r}; allowed: {', '.join(LEVELS)}")
    number = LEVELS.index(level)
    if number == 0:
        return None
    if kind == "digits":
        return affine_jitter(*(limit * number / 2 for limit in (10, 0.1, 0.15, 2)))
    steps = [crop_and_flip(4 if kind == "photographs" else 2)]
    if number >= 2:
        steps.append(jitter_colours(0.2 * (number - 1)))
    if number == 3:
        steps.append(cut_out())

    def augment(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        for step in steps:
            images = step(images, random)
        return images

    return augment


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


def jitter_colours(limit: float) -> Augment:
    """Return an augmentation that multiplies brightness, contrast and saturation by 1 - limit to 1 + limit."""

    def augment(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        result = _in_unit_interval(images)
        brightness, contrast, saturation = random.uniform(1 - limit, 1 + limit, (3, len(images), 1, 1, 1))
        result = result * brightness
        result = _blend(result, result.mean(axis=(1, 2, 3), keepdims=True), contrast)
        result = _blend(result, result.mean(axis=1, keepdims=True), saturation)
        return np.clip(result, 0, 1).astype(np.float32)

    return augment


def cut_out() -> Augment:
    """Return an augmentation that paints a square of half the side gray, around a random pixel: arXiv:1708.04552."""

    def augment(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        result = _in_unit_interval(images).copy()
        _, _, height, width = result.shape
        rows, columns = random.randint(0, [[height], [width]], (2, len(result)))
        for image, row, column in zip(result, rows, columns):
            top, left = max(0, row - height // 4), max(0, column - width // 4)
            image[:, top : row + height // 4, left : column + width // 4] = 0.5
        return result

    return augment


def _in_unit_interval(images: np.ndarray) -> np.ndarray:
    return images * np.float32(1 / 255) if images.dtype == np.uint8 else images


def _blend(images: np.ndarray, gray: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return gray + (images - gray) * weight


def affine_jitter(rotate: float = 10.0, scale: float = 0.1, shear: float = 0.15, shift: float = 2.0) -> Augment:
    """Return an augmentation that transforms each image of a batch by its own random affine map, bilinearly.

    Parameters
    ----------
    rotate : float, default 10
        Largest angle in degrees, to either side.
    scale : float, default 0.1
        Largest relative change of width and of height.
    shear : float, default 0.15
        Largest horizontal displacement, in heights, from one unit of height to the next.
    shift : float, default 2
        Largest displacement in pixels, both horizontally and vertically.

    Returns
    -------
    callable
        ``(images of shape (N, C, H, W), numpy.random.RandomState) -> images`` of the same shape.
    """

    def augment(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
        count, _, height, width = images.shape

        def draw(limit: float) -> np.ndarray:
            return random.uniform(-limit, limit, count)

        angle = np.deg2rad(draw(rotate))
        rows = [
            np.cos(angle) * (1 + draw(scale)),
            draw(shear) - np.sin(angle),
            draw(2 * shift / width),
            np.sin(angle),
            np.cos(angle) * (1 + draw(scale)),
            draw(2 * shift / height),
        ]
        maps = mx.nd.array(np.stack(rows, axis=1))
        grid = mx.nd.GridGenerator(maps, transform_type="affine", target_shape=(height, width))
        return mx.nd.BilinearSampler(mx.nd.array(_in_unit_interval(images)), grid).asnumpy()

    return augment
