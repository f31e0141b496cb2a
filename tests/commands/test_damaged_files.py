"""Commands with damaged files: each exits 0, or 1 with one line, in bounded time and memory, and leaves nothing behind.

Some hundred damaged files here; more by hand, of all kinds or of some:

    python tests/commands/test_damaged_files.py COUNT [SEED [KIND ... [--forks]]]
"""

import collections
import contextlib
import gzip
import io
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from mutations import mutated, mutated_json

from bmx import cli
from bmx.errors import Error
from bmx.training import Batches, FolderBatches, RecordBatches, cifar10
from bmx.training.cifar import CIFAR10_FILES
from bmx.training.fit import _check_labels
from bmx.training.image_size import image_size
from bmx.training.mnist import MNIST_FILES, load_mnist
from bmx.training.record_file import count_classes

SECONDS = 20  # for one damaged file; the machine may be busy
# What MXNet notes of a file that it can read, and libjpeg and libpng of a picture that they can decode.
_NOTES = re.compile(
    r"\[\d\d:\d\d:\d\d\] \.\./src/(nnvm/legacy_json_util|io/iter_image_recordio_2)\.cc:\d+: .*"
    r"|(Corrupt JPEG data|Premature end of JPEG file|Invalid SOS parameters|Inconsistent progression sequence).*"
    r"|(Warning: unknown JFIF revision|Unknown Adobe color transform|libpng warning).*"
)


def picture_files():
    image = pytest.importorskip("PIL.Image")
    pixels = image.fromarray(np.random.RandomState(0).randint(0, 255, (23, 17, 3)).astype(np.uint8))
    exif = pixels.getexif()
    exif[0x0112], exif[0x010E] = 6, "turned"
    formats = "PNG JPEG BMP GIF TIFF WEBP PPM TGA ICO PCX DDS JPEG2000 AVIF ICNS"
    variants = [(name, pixels, {}) for name in formats.split()]
    variants += [("PNG", pixels.convert(mode), {}) for mode in ("1", "L", "P", "LA", "RGBA", "I")]
    variants += [("TIFF", pixels.convert(mode), {}) for mode in ("CMYK", "F", "I")]
    variants += [("TIFF", pixels, {"compression": f"tiff_{name}"}) for name in ("lzw", "adobe_deflate")]
    variants += [
        ("JPEG", pixels, {"exif": exif}),
        ("JPEG", pixels, {"progressive": True}),
        ("PNG", pixels, {"exif": exif}),
    ]
    for name, picture, options in variants:
        with contextlib.suppress(Exception):  # this Pillow may not have the format
            stream = io.BytesIO()
            picture.save(stream, name, **options)
            yield stream.getvalue()


def array_files(write=np.save):
    for array in (np.zeros((8, 3, 12, 10), np.float32), np.ones((8, 360), ">f8"), np.arange(8), np.float32(1)):
        stream = io.BytesIO()
        write(stream, array)
        yield stream.getvalue()


def numbers_files(*arrays):
    """idx files of MNIST."""
    for array in arrays:
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        yield head + array.astype(np.uint8).tobytes()


def read_mnist(folder):
    """As a training command: it also looks at labels, so that one that no class has is found."""
    data = load_mnist(folder)
    fits(data, 10)


def read_cifar(folder):
    fits(cifar10(folder), 10)


def read_pictures(make, path):
    """As a training program: all images of a set, once."""
    batches = make(path, 2, size=8, threads=2)
    for _, labels in batches.epoch(1):
        _check_labels(labels, 10, batches)


def record_files():
    """RecordIO files of some pictures each."""
    photos = [data for data in picture_files() if image_size(data) is not None]
    for start in range(0, len(photos), 2):
        with tempfile.TemporaryDirectory() as folder:
            writer = mx.recordio.MXRecordIO(f"{folder}/x.rec", "w")
            for number, data in enumerate(photos[start : start + 2]):
                label = [number] if start % 4 else number
                writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label, number, 0), data))
            writer.close()
            yield Path(folder, "x.rec").read_bytes()


class TestProgram:
    """What `bmx export-c` writes to test a network, with its files, in a folder; compiled with sanitizers."""

    __test__ = False

    def __init__(self, folder, bmx_file):
        self.folder = f"{folder}/c"
        np.save(f"{folder}/samples.npy", np.random.RandomState(0).uniform(size=(3, 3, 12, 10)).astype(np.float32))
        with contextlib.redirect_stdout(io.StringIO()):
            status = cli.main(["export-c", bmx_file, "-o", self.folder, "--samples", f"{folder}/samples.npy"])
        assert status == 0
        flags = "CFLAGS=-O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
        subprocess.run(["make", "-s", "test_net", flags], cwd=self.folder, check=True)

    def __call__(self):
        """Run it; what it says of damage becomes a bmx.Error, but not what a sanitizer says."""
        command = [f"{self.folder}/test_net", *(f"{self.folder}/net_{name}.bin" for name in ("weights", "samples"))]
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", preexec_fn=_unlimited)
        assert "anitizer" not in result.stderr and result.returncode in (0, 1), result.stderr
        if result.returncode:
            raise Error(result.stderr.strip() or result.stdout.splitlines()[-1])  # a report


def _unlimited():
    """A sanitizer takes terabytes of addresses."""
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def fits(data, classes):
    for images, labels in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        for _, some in Batches(images, labels, 4).epoch(1):
            _check_labels(some, classes, data)


class Driver:
    """Makes damaged files in `folder`, and has commands read them.

    `kinds` are, by name: the good contents, the path of the damaged file, how it is damaged, and what reads it: the
    words of a command, or a function.
    """

    def __init__(self, checkpoint, bmx_file, folder):
        self.folder, self.results, self.forks = folder, collections.Counter(), False
        mine, out = f"{folder}/mine", f"{folder}/out"
        symbol = f"{checkpoint[: -len('-0003.params')]}-symbol.json"
        for path in (checkpoint, symbol, bmx_file):
            suffix = path[path.rindex(".") :] if path == bmx_file else path[path.rindex("-") :]
            Path(mine + suffix).write_bytes(Path(path).read_bytes())
        np.save(f"{folder}/good.npy", np.zeros((8, 3, 12, 10), np.float32))
        photo = f"{folder}/good.ppm"
        Path(photo).write_bytes(b"P6 4 4 255\n" + bytes(range(48)))
        shape = ["--data-shape", "3,12,10"]
        params = f"{mine}-0003.params"
        whole = [
            ["compile", params, "-o", f"{out}.bmx", *shape],
            ["convert", params, "--output", out, *shape],
            ["summary", f"{mine}-symbol.json", "--shape", "3,12,10"],
        ]
        compiled = [["inspect", f"{mine}.bmx"], ["run", f"{mine}.bmx", photo], ["export-c", f"{mine}.bmx", "-o", out]]
        samples = ["compile", checkpoint, "-o", f"{out}.bmx", *shape]
        for name in ("mnist", "cifar"):
            os.makedirs(f"{folder}/{name}")
        random = np.random.RandomState(0)
        images, labels = random.randint(0, 255, (9, 28, 28)), np.arange(9)
        for name, array in zip(MNIST_FILES, (images, labels, images, labels)):
            Path(folder, "mnist", name).write_bytes(next(numbers_files(array)))
        records = b"".join(bytes([number]) + random.bytes(3072) for number in range(9))
        for name in CIFAR10_FILES:
            Path(folder, "cifar", name).write_bytes(records)
        digits = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
        npz = [*array_files(lambda file, array: np.savez(file, data=array))]
        npz += array_files(lambda file, array: np.savez_compressed(file, data=array))
        text = Path(symbol).read_text(encoding="utf-8")
        os.makedirs(f"{folder}/photos/1")
        Path(folder, "photos", "1", "good.bmp").write_bytes(next(data for data in picture_files() if data[:2] == b"BM"))
        photos = [data for data in picture_files() if image_size(data) is not None]
        program = TestProgram(folder, bmx_file)
        exported = {name: Path(program.folder, f"net_{name}.bin") for name in ("weights", "samples")}
        self.kinds = {
            **{name: ([path.read_bytes()], str(path), mutated, [program]) for name, path in exported.items()},
            "params": ([Path(checkpoint).read_bytes()], params, mutated, whole[:2]),
            "symbol": ([text], f"{mine}-symbol.json", lambda *given: mutated_json(*given).encode(), whole),
            "symbol-bytes": ([text.encode()], f"{mine}-symbol.json", mutated, whole),
            "bmx": ([Path(bmx_file).read_bytes()], f"{mine}.bmx", mutated, compiled),
            "picture": ([*picture_files()], f"{folder}/photo", mutated, [["run", bmx_file, f"{folder}/photo"]]),
            "npy": ([*array_files()], f"{folder}/x.npy", mutated, [[*samples, "--verify-data", f"{folder}/x.npy"]]),
            "npz": (npz, f"{folder}/x.npz", mutated, [[*samples, "--verify-data", f"{folder}/x.npz"]]),
            "labels": (
                [*array_files()],
                f"{folder}/y.npy",
                mutated,
                [[*samples, "--verify-data", f"{folder}/good.npy", "--labels", f"{folder}/y.npy"]],
            ),
            "mnist": (
                [*numbers_files(images)],
                f"{folder}/mnist/{digits[0]}",
                mutated,
                [lambda: read_mnist(f"{folder}/mnist")],
            ),
            "mnist-labels": (
                [*numbers_files(labels)],
                f"{folder}/mnist/{digits[1]}",
                mutated,
                [lambda: read_mnist(f"{folder}/mnist")],
            ),
            "mnist-gz": (
                [gzip.compress(data) for data in numbers_files(images)],
                f"{folder}/mnist/{digits[0]}.gz",
                mutated,
                [lambda: read_mnist(f"{folder}/mnist")],
            ),
            "folder": (
                photos,
                f"{folder}/photos/1/photo.png",
                mutated,
                [lambda: read_pictures(FolderBatches, f"{folder}/photos")],
            ),
            "records": (
                [*record_files()],
                f"{folder}/x.rec",
                mutated,
                [lambda: read_pictures(RecordBatches, f"{folder}/x.rec"), lambda: count_classes(f"{folder}/x.rec")],
            ),
            "cifar": ([records], f"{folder}/cifar/data_batch_2.bin", mutated, [lambda: read_cifar(f"{folder}/cifar")]),
        }

    def run(self, name, count, seed=0):
        """Try `count` damaged files of a kind; the files that are wrong."""
        good, path, change, actions = self.kinds[name]
        kept = Path(path).read_bytes() if os.path.exists(path) else None
        generator, wrong = random.Random(f"{name} {seed}"), []
        if name == "mnist-gz":
            os.rename(path[: -len(".gz")], path[: -len(".gz")] + ".kept")
        for number in range(count):
            Path(path).write_bytes(change(generator.choice(good), generator))
            action = actions[number % len(actions)]
            problem = self.problem_in_a_fork(action) if self.forks else self.problem(action)
            if problem:
                wrong.append((number, problem))
                Path(tempfile.gettempdir(), f"wrong-{name}-{seed}-{number}").write_bytes(Path(path).read_bytes())
        os.remove(path)
        if kept is not None:
            Path(path).write_bytes(kept)
        if name == "mnist-gz":
            os.rename(path[: -len(".gz")] + ".kept", path[: -len(".gz")])
        return wrong

    def problem_in_a_fork(self, action):
        """The same, also where the process crashes."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, str(self.problem(action)).encode()[:60000])
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, errors="replace") as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        self.results["process"] += 1
        return f"crashed with signal {os.WTERMSIG(status)}" if status else None if text == "None" else text

    def problem(self, action):
        """What is wrong with a command's end; None if nothing is."""
        before, start = set(Path(self.folder).rglob("*")), time.monotonic()
        with tempfile.TemporaryFile("w+", errors="replace") as file, _standard_error(file):
            try:
                if callable(action):
                    action()
                    status = 0
                else:
                    with contextlib.redirect_stdout(io.StringIO()):
                        status = cli.main(action)
            except Error as error:
                status = 1
                print(error, file=file)
            except BaseException:
                return traceback.format_exc()
            file.flush()
            file.seek(0)
            lines = [line for line in file.read().splitlines() if not _NOTES.fullmatch(line)]
        self.results[status] += 1
        seconds = time.monotonic() - start
        made = set(Path(self.folder).rglob("*")) - before
        # What remembers that a RecordIO file can be decoded may stay: its labels are looked at later.
        left = [path.name for path in made if path.suffix != ".checked" and (status or path.suffix == ".tmp")]
        for path in sorted(made, reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        if len(lines) != status or left or seconds > SECONDS:
            return f"status {status} after {seconds:.1f} s, left {left}, said {lines}"
        return None


@contextlib.contextmanager
def _standard_error(file):
    """Have what Python and C libraries write to the standard error in a file."""
    saved = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        with contextlib.redirect_stderr(file):
            yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


@pytest.fixture(scope="module")
def driver(checkpoint, bmx_file, tmp_path_factory):
    return Driver(checkpoint, bmx_file, str(tmp_path_factory.mktemp("damaged")))


@pytest.mark.parametrize("kind, count", [("params", 30), ("symbol", 30), ("symbol-bytes", 15), ("bmx", 45)])
def test_damaged_models(driver, kind, count):
    assert driver.run(kind, count) == []


@pytest.mark.parametrize("kind, count", [("picture", 150), ("npy", 15), ("npz", 15), ("labels", 15)])
def test_damaged_data(driver, kind, count):
    assert driver.run(kind, count) == []


@pytest.mark.parametrize("kind", ["mnist", "mnist-labels", "mnist-gz", "cifar", "folder", "records"])
def test_damaged_data_sets(driver, kind):
    assert driver.run(kind, 60) == []


@pytest.mark.parametrize("kind", ["weights", "samples"])
def test_damaged_files_of_the_exported_test(driver, kind):
    assert driver.run(kind, 30) == []


def main(count, seed=0, *names):
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, resource.RLIM_INFINITY))
    from commands import conftest

    with tempfile.TemporaryDirectory() as folder:
        for name in ("checkpoint", "compiled", "damaged"):
            os.makedirs(f"{folder}/{name}")
        checkpoint = conftest.write_checkpoint(f"{folder}/checkpoint/net")
        bmx_file = conftest.compile_to(f"{folder}/compiled/net.bmx", checkpoint)
        driver = Driver(checkpoint, bmx_file, f"{folder}/damaged")
        driver.forks = "--forks" in names
        for name in [name for name in names if name != "--forks"] or driver.kinds:
            driver.results.clear()
            start = time.monotonic()
            wrong = driver.run(name, int(count), int(seed))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
            ends = ", ".join(f"{number} with {status}" for status, number in sorted(driver.results.items()))
            print(
                f"{name}: {ends}; {len(wrong)} wrong; {time.monotonic() - start:.0f} s, at most {memory:.0f} MB so far"
            )
            for number, problem in wrong[:10]:
                print(f"  {number}: {problem}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
