"""Converts pictures to the arrays that a network takes, with Pillow."""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import warnings
from typing import Any, Iterator, Optional, Sequence, Tuple

import numpy as np

from ..errors import Error

__all__ = ["Preparation", "load_image"]


class Preparation:
    """How a picture becomes an array: it is resized and cropped, then ``(pixels / 255 - mean) / std`` is computed.

    Parameters
    ----------
    shape : tuple of int
        (1, H, W) or (3, H, W): grey or RGB.
    resize : int, optional
        Length of the picture's shorter side before the middle is cut out. Default: as much as possible is seen.
    stretch : bool
        Resize to H x W and cut nothing off.
    mean, std : sequence of float
        One number, or one a channel.

    Raises
    ------
    bmx.Error
        If a network with this shape takes no pictures, or a number is not allowed.
    """

    def __init__(
        self,
        shape: Tuple[int, ...],
        resize: Optional[int] = None,
        stretch: bool = False,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ):
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise Error(f"its input has the shape {'x'.join(map(str, shape))}; pictures are 1xHxW or 3xHxW")
        self.channels, self.height, self.width = shape
        for name, numbers in (("mean", mean), ("std", std)):
            if len(numbers) not in (1, self.channels):
                allowed = "1" if self.channels == 1 else f"1 or {self.channels}, one per channel"
                raise Error(f"--{name} has {len(numbers)} numbers; allowed: {allowed}")
        if not all(np.isfinite(mean)) or not all(np.isfinite(number) and number > 0 for number in std):
            raise Error("--mean and --std must be finite, and --std positive")
        if resize is not None and stretch:
            raise Error("--resize and --stretch cannot be combined; give one of them")
        if resize is not None and resize < max(self.height, self.width):
            raise Error(f"--resize is {resize}; it must be at least the network's {self.height}x{self.width} pixels")
        self.resize, self.stretch = resize, stretch
        self.mean, self.std = (np.array(numbers, np.float32).reshape(-1, 1, 1) for numbers in (mean, std))

    def __call__(self, image: Any) -> np.ndarray:
        """The array (C, H, W), float32, of a PIL image."""
        from PIL import Image

        if image.mode.startswith("I"):  # 16 bits per pixel: Pillow's own conversion makes all values above 255 white
            image = Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))
        image = image.convert("L" if self.channels == 1 else "RGB")
        width, height = image.size
        if not self.stretch:
            # The visible part in pixels of the picture.
            scale = self.resize / min(width, height) if self.resize else max(self.width / width, self.height / height)
            seen_width, seen_height = self.width / scale, self.height / scale
            left, top = (width - seen_width) / 2, (height - seen_height) / 2
            box = (max(0.0, left), max(0.0, top), min(width, left + seen_width), min(height, top + seen_height))
        else:
            box = (0, 0, width, height)
        image = image.resize((self.width, self.height), Image.BILINEAR, box)
        pixels = np.asarray(image, np.float32).reshape(self.height, self.width, self.channels)
        return np.ascontiguousarray((pixels.transpose(2, 0, 1) / 255 - self.mean) / self.std)


def load_image(path: str, preparation: Preparation) -> np.ndarray:
    """Read a picture of any format that Pillow knows.

    Raises
    ------
    bmx.Error
        If Pillow is not installed or the file is no picture.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise Error("pictures need Pillow: pip install 'bmx-mxnet[images]'") from None
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe or a device may have no end
            raise Error(f"{path}: cannot be read: it is not a file")
        file = open(path, "rb")
    except OSError as error:
        raise Error(f"{path}: cannot be read: {error.strerror or error}") from None
    with file, _quiet():
        try:
            image = Image.open(file)
            if image.format == "EPS":
                raise Error(f"{path}: this is a PostScript program, which Pillow would run; convert it to PNG")
            return preparation(ImageOps.exif_transpose(image))
        except Error:
            raise
        except MemoryError:
            raise Error(f"{path}: cannot be read: there is not enough memory") from None
        except Image.DecompressionBombError:
            pixels = 2 * Image.MAX_IMAGE_PIXELS
            raise Error(f"{path}: cannot be read: it has more than {pixels} pixels; make it smaller") from None
        except Exception:  # each format of Pillow has its own errors
            raise Error(f"{path}: cannot be read: it is not a picture, or it is damaged") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what Pillow and its C libraries print about a damaged file."""
    logger = logging.getLogger("PIL")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    with contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, level)
        with contextlib.suppress(OSError):  # there is no standard error
            stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            stack.callback(os.close, stderr)
            stack.callback(os.dup2, stderr, 2)
            os.dup2(nowhere, 2)
            os.close(nowhere)
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
