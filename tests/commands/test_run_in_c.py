"""example/embedded/classify: a program in C says of pictures what `bmx run` says."""

import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from small_models import scaling, sums

from bmx import cli, library

Image = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def classify(root, tmp_path_factory):
    """Runs the program, built with the library that is there; returns the finished process."""
    if shutil.which("gcc") is None or shutil.which("pkg-config") is None:
        pytest.skip("needs gcc and pkg-config")
    if subprocess.run(["pkg-config", "libpng", "libjpeg"]).returncode != 0:
        pytest.skip("needs libpng and libjpeg: apt-get install libpng-dev libjpeg-dev")
    pytest.importorskip("cmake")
    folder = tmp_path_factory.mktemp("classify")
    options = [f"-DBMX_LIBRARY={library.path('libbmx.so')}", f"-DBMX_INCLUDE_DIR={root / 'src' / 'include'}"]
    source = root / "example" / "embedded" / "classify"
    for command in (["cmake", "-S", source, "-B", folder, *options], ["cmake", "--build", folder]):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0 and "warning:" not in done.stderr, done.stdout + done.stderr

    def classify(*arguments):
        command = [str(folder / "classify"), *map(str, arguments)]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    return classify


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of all kinds; of much higher than wide ones Pillow's result depends on its version."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.RandomState(0)

    def noise(width, height):
        return Image.fromarray(random.randint(0, 256, (height, width, 3)).astype(np.uint8))

    slope = np.add.outer(np.linspace(0, 150, 33), np.linspace(0, 50, 61))[..., None]
    photo = Image.fromarray((slope + random.randint(0, 55, (33, 61, 3))).astype(np.uint8))
    for mode in ("L", "RGB", "RGBA", "LA", "P", "1"):
        photo.convert(mode).save(folder / f"{mode}.png")
    photo.convert("P").save(folder / "P-transparent.png", transparency=3)
    photo.quantize(7).save(folder / "P-4-bits.png", bits=4)
    Image.fromarray(random.randint(0, 65536, (20, 22)).astype(np.uint16)).save(folder / "L-16-bits.png")
    for quality in (30, 95):
        photo.save(folder / f"{quality}.jpg", quality=quality)
        photo.save(folder / f"{quality}-progressive.jpg", quality=quality, subsampling=0, progressive=True)
        photo.convert("L").save(folder / f"{quality}-grey.JPEG", quality=quality)
    for size in ((1, 1), (1, 50), (50, 1), (7, 9), (300, 200), (30, 40)):
        noise(*size).save(folder / "{}x{}.png".format(*size))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(folder / f"turned-{orientation}.jpg", exif=exif)
        photo.save(folder / f"turned-{orientation}.png", exif=exif)
    return folder


@pytest.fixture
def model(tmp_path):
    """Function that writes a network whose scores are 40 times its input, so that classes are pixels."""

    def model(*shape):
        path = tmp_path / f"pixels{shape[0]}.bmx"
        path.write_bytes(scaling(shape, 40.0))
        return path

    return model


def without_times(output):
    lines = output.splitlines()
    assert re.fullmatch(r"\d+ images?: [\d.]+ ms each, and [\d.]+ ms to read; [\d.]+ images/s", lines[-1])
    return [re.sub(r"  \([\d.]+ ms, and [\d.]+ ms to read\)$", "", line) for line in lines[:-1]]


def parted(lines):
    """Of each picture its name and classes in order, without their shares."""
    return re.split(r"\n(?! )", re.sub(r"^ +[\d.]+%", " ", "\n".join(lines), flags=re.MULTILINE))


@pytest.mark.parametrize(
    "channels, options",
    [
        (1, []),
        (3, []),
        (3, ["--stretch"]),
        (3, ["--resize", "9"]),
        (3, ["--resize", "20", "--mean", ".485,.456,.406", "--std", ".229,.224,.225"]),
        (1, ["--resize", "13", "--mean", ".2", "--std", "1.5"]),
    ],
)
def test_it_says_what_bmx_run_says(classify, model, pictures, capsys, channels, options):
    paths = sorted(str(path) for path in pictures.iterdir())
    shape = (channels, 9, 7)
    options = [*options, "--top", str(np.prod(shape))]
    assert cli.main(["run", str(model(*shape)), *paths, *options]) == 0
    done = classify(model(*shape), pictures, *options)
    assert done.returncode == 0, done.stderr
    found, expected = without_times(done.stdout), capsys.readouterr().out.splitlines()
    for places, lines in zip(parted(found), parted(expected)):
        assert places == lines
    for share, line in zip(found, expected):  # sums of floats are rounded in another order
        assert share == line or abs(float(share.split("%")[0]) - float(line.split("%")[0])) < 0.011


def test_labels_and_threads(classify, bmx_file, pictures, tmp_path, capsys):
    (tmp_path / "labels.txt").write_bytes("cat\r\ndog\nVögel\nfish".encode())
    options = ["--labels", str(tmp_path / "labels.txt"), "--top", "3"]
    image = str(pictures / "30.jpg")
    assert cli.main(["run", bmx_file, image, *options]) == 0
    expected = capsys.readouterr().out.splitlines()
    for threads in (1, 2):
        done = classify(*options, "--threads", threads, bmx_file, image, image)
        assert without_times(done.stdout) == 2 * expected
        assert done.stdout.splitlines()[-1].startswith("2 images: ")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.bmx", "{image}"], "none.bmx: cannot be read: No such file or directory"),
        (["{image}", "{image}"], "RGB.png: "),
        (["{short}", "{image}"], "short.bmx: truncated: it has 200 bytes"),
        (["{sums}", "{image}"], "sums.bmx: it takes 2 inputs; give a network with one"),
        (["{two}", "{image}"], "two.bmx: its input has the shape 2x9x7; pictures are 1xHxW or 3xHxW"),
        (["{model}", "none.png"], "none.png: cannot be read: No such file or directory"),
        (["{model}", "{empty}"], "empty: the folder has no file *.png, *.jpg or *.jpeg"),
        (["{model}", "{model}"], "pixels3.bmx: cannot be read: it is neither a PNG nor a JPEG file"),
        (["{model}", "{cut_png}"], "cut.png: cannot be read: "),
        (["{model}", "{cut_jpg}"], "cut.jpg: cannot be read: Premature end of JPEG file"),
        (["{model}", "{cmyk}"], "cmyk.jpg: has 4 colours; allowed: grey and RGB"),
        (["{model}", "{huge}"], "huge.png: cannot be read: "),
        (["{model}", "{image}", "--labels", "none.txt"], "none.txt: cannot be read: No such file or directory"),
        (["{model}", "{image}", "--labels", "{labels}"], "labels.txt: it has 2 lines; the network has 189 classes"),
        (["{model}", "{image}", "--mean", "1,2"], "--mean has 2 numbers; allowed: 1 or 3, one per channel"),
        (["{model}", "{image}", "--mean", "1,x"], "--mean is 1,x; it must be numbers with commas between"),
        (["{model}", "{image}", "--std", "0"], "--mean and --std must be finite, and --std positive"),
        (["{model}", "{image}", "--resize", "8"], "--resize is 8; it must be at least the network's 9x7 pixels"),
        (["{model}", "{image}", "--resize", "9", "--stretch"], "--resize and --stretch cannot be combined"),
        (["{model}", "{image}", "--top", "0"], "--top is 0; it must be a whole number from 1"),
        (["{model}", "{image}", "--threads", "2000"], "threads is 2000; allowed: 1 to 1024"),
    ],
)
def test_mistakes_are_one_line(classify, model, pictures, tmp_path, arguments, message):
    content = (pictures / "RGB.png").read_bytes()
    (tmp_path / "empty").mkdir()
    (tmp_path / "short.bmx").write_bytes(scaling()[:200])
    (tmp_path / "sums.bmx").write_bytes(sums())
    (tmp_path / "two.bmx").write_bytes(scaling((2, 9, 7)))
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "huge.png").write_bytes(content[:16] + b"\xff" * 4 + content[20:])
    content = (pictures / "30.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(content[: len(content) // 2])
    Image.new("CMYK", (9, 9)).save(tmp_path / "cmyk.jpg")
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    files = {name.replace(".", "_"): tmp_path / name for name in ("cut.png", "cut.jpg", "empty")}
    files.update({path.stem: path for path in tmp_path.glob("*.*") if path.stem != "cut"})
    files.update(model=model(3, 9, 7), image=pictures / "RGB.png")
    done = classify(*(word.format(**files) for word in arguments))
    assert done.returncode == 1
    assert done.stderr.startswith("classify: ") and done.stderr.count("\n") == 1 and message in done.stderr


def test_without_pictures_it_explains_itself(classify):
    assert classify("--help").stdout.startswith("usage: classify [OPTIONS] MODEL.bmx IMAGE|FOLDER...\n")
    done = classify("model.bmx")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("usage: ")


def test_a_missing_library_is_named(root, tmp_path):
    pytest.importorskip("cmake")
    if shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config")
    command = ["cmake", "-S", str(root / "example" / "embedded" / "classify"), "-B", str(tmp_path)]
    environment = {**os.environ, "PKG_CONFIG_LIBDIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode != 0 and "classify needs libpng: apt-get install libpng-dev libjpeg-dev" in done.stderr
