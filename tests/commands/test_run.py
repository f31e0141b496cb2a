"""`bmx run`: pictures become the arrays that a network was trained on."""

import subprocess
import sys

import numpy as np
import pytest

from bmx import cli
from bmx.commands.images import Preparation, load_image
from bmx.errors import Error

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def picture(tmp_path):
    """Function that writes an array (H, W) or (H, W, 3) of bytes as a PNG file and returns its path."""

    def picture(pixels, name="picture.png"):
        Image.fromarray(np.asarray(pixels, np.uint8)).save(tmp_path / name)
        return str(tmp_path / name)

    return picture


def test_a_picture_of_the_right_size_is_taken_as_it_is(picture):
    pixels = np.random.RandomState(0).randint(0, 256, (5, 7, 3))
    array = load_image(picture(pixels), Preparation((3, 5, 7)))
    np.testing.assert_allclose(array, pixels.transpose(2, 0, 1) / 255, atol=1e-6)
    assert array.dtype == np.float32
    grey = load_image(picture(pixels[..., 0]), Preparation((1, 5, 7)))
    np.testing.assert_allclose(grey, pixels[None, :, :, 0] / 255, atol=1e-6)


def test_mean_and_std_are_of_pixels_from_0_to_1(picture):
    path = picture(np.full((4, 4, 3), (255, 51, 0)))
    array = load_image(path, Preparation((3, 4, 4), mean=(0.5, 0.2, 0.1), std=(0.5, 1, 0.2)))
    np.testing.assert_allclose(array[:, 0, 0], (1, 0, -0.5), atol=1e-6)
    np.testing.assert_allclose(load_image(path, Preparation((3, 4, 4), mean=(1,), std=(2,)))[0], 0, atol=1e-6)


def test_colours_follow_the_network(picture):
    red = picture(np.full((4, 4, 3), (255, 0, 0)))
    assert load_image(red, Preparation((1, 4, 4)))[0, 0, 0] == pytest.approx(0.299, abs=0.01)
    grey = picture(np.full((4, 4), 51))
    np.testing.assert_allclose(load_image(grey, Preparation((3, 4, 4))), 0.2, atol=1e-6)


class TestCropping:
    """A picture 40 wide and 20 high: black, but for a white middle of 20x20."""

    @pytest.fixture
    def path(self, picture):
        pixels = np.zeros((20, 40))
        pixels[:, 10:30] = 255
        return picture(pixels)

    def test_by_default_the_largest_middle_is_seen(self, path):
        array = load_image(path, Preparation((1, 10, 10)))[0]
        assert array[:, 1:-1].min() == 1 and array[:, [0, -1]].min() > 0.8  # edges are mixed with their neighbours

    def test_resize_says_how_much_is_seen(self, path):
        assert load_image(path, Preparation((1, 10, 10), resize=20)).min() == 1  # of 40x20 pixels the middle 10x10
        assert load_image(path, Preparation((1, 10, 40), resize=40))[0, 5, [1, 38]].min() == 1  # of 80x40

    def test_stretch_sees_everything(self, path):
        array = load_image(path, Preparation((1, 10, 10), stretch=True))
        assert array[0, 5, 0] == 0 and array[0, 5, 5] == 1 and array[0, 5, 9] == 0


def test_turned_photographs_are_turned_back(tmp_path):
    pixels = np.zeros((4, 8), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # orientation: upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    array = load_image(str(tmp_path / "turned.png"), Preparation((1, 4, 8)))
    assert array[0, 0, 0] == 0 and array[0, 0, 7] == 1


@pytest.mark.parametrize(
    "shape, options, message",
    [
        ((10,), {}, "its input has the shape 10; pictures are 1xHxW or 3xHxW"),
        ((2, 4, 4), {}, "its input has the shape 2x4x4"),
        ((3, 4, 4), {"mean": (1, 2)}, "--mean has 2 numbers; allowed: 1 or 3, one per channel"),
        ((1, 4, 4), {"mean": (1, 2)}, "--mean has 2 numbers; allowed: 1"),
        ((3, 4, 4), {"std": (0,)}, "--std positive"),
        ((3, 4, 4), {"resize": 3}, "--resize is 3; it must be at least the network's 4x4 pixels"),
        ((3, 4, 4), {"resize": 8, "stretch": True}, "--resize and --stretch cannot be combined"),
    ],
)
def test_wrong_preparations(shape, options, message):
    with pytest.raises(Error) as error:
        Preparation(shape, **options)
    assert message in str(error.value)


@pytest.fixture
def photo(picture):
    return picture(np.random.RandomState(3).randint(0, 256, (24, 20, 3)), "photo.png")


def test_the_likeliest_classes_come_first(capsys, bmx_file, photo, tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nbird\nfish\n")
    assert cli.main(["run", bmx_file, photo, photo, "--labels", str(tmp_path / "labels.txt"), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == lines[4:] and lines[0] == photo and len(lines) == 8
    shares = [float(line.split("%")[0]) for line in lines[1:4]]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 100
    assert {line.split()[1] for line in lines[1:4]} < {"cat", "dog", "bird", "fish"}


def test_a_file_of_labels_may_begin_with_a_byte_order_mark(capsys, bmx_file, photo, tmp_path):
    (tmp_path / "labels.txt").write_text("кот\nпёс\n鳥\nfish\n", encoding="utf-8-sig")
    assert cli.main(["run", bmx_file, photo, "--labels", str(tmp_path / "labels.txt")]) == 0
    assert {line.split()[1] for line in capsys.readouterr().out.splitlines()[1:]} == {"кот", "пёс", "鳥", "fish"}


def test_of_a_regression_the_number_is_printed(capsys, photo, tmp_path):
    mx = pytest.importorskip("mxnet")
    from bmx.compiler import compile_symbol

    score = mx.sym.Reshape(mx.sym.FullyConnected(mx.sym.Variable("data"), num_hidden=1, name="fc"), shape=(-1,))
    args = {"fc_weight": np.zeros((1, 360), np.float32), "fc_bias": np.array([-2.5], np.float32)}
    compile_symbol(score, args, {}, (3, 12, 10)).save(str(tmp_path / "score.bmx"))
    assert cli.main(["run", str(tmp_path / "score.bmx"), photo]) == 0
    assert capsys.readouterr().out.splitlines() == [photo, "  -2.5"]


def test_a_checkpoint_gives_what_its_compiled_file_gives(capsys, bmx_file, checkpoint, photo):
    outputs = []
    for command in (["run", bmx_file, photo], ["run", checkpoint, photo, "--data-shape", "3,12,10"]):
        assert cli.main(command) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] and len(outputs[0].splitlines()) == 5


def test_needs_no_mxnet(root, bmx_file, photo):
    script = (
        "import sys; sys.modules['mxnet'] = None; from bmx import cli\n"
        f"sys.exit(cli.main(['run', {bmx_file!r}, {photo!r}]) or cli.main(['inspect', {bmx_file!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "") and photo in result.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.bmx", "{photo}"], "none.bmx: no such file"),
        (["{photo}", "{photo}"], "is neither a .bmx file nor a checkpoint"),
        (["{model}", "none.png"], "none.png: cannot be read: No such file or directory"),
        (["{model}", "{model}"], "net.bmx: cannot be read: it is not a picture"),
        (["{model}", "{photo}", "--labels", "none.txt"], "none.txt: cannot be read: No such file or directory"),
        (["{model}", "{photo}", "--labels", "{text}"], "it has 1 lines; the network has 4 classes"),
        (["{model}", "{photo}", "--labels", "{photo}"], "it is not a text file"),
        (["{model}", "{photo}", "--mean", "1,2"], "net.bmx: --mean has 2 numbers"),
        (["{model}", "{photo}", "--top", "0"], "bmx run: --top is 0; it must be 1 or more"),
        (["{model}", "{photo}", "--threads", "0"], "bmx run: --threads is 0; it must be 1 or more"),
        (["{model}", "{photo}", "--threads", "9999999999999"], "threads is 9999999999999; allowed: 1 to 1024"),
        (
            ["{model}", "{photo}", "--data-shape", "3,12,10"],
            "net.bmx: the file has the shape of its input; --data-shape is for",
        ),
        (["{checkpoint}", "{photo}", "--threads", "2"], "net-0003.params: MXNet takes the number of threads from OMP"),
    ],
)
def test_mistakes_are_one_line(capsys, bmx_file, checkpoint, photo, tmp_path, arguments, message):
    (tmp_path / "one.txt").write_text("cat\n")
    names = {"model": bmx_file, "checkpoint": checkpoint, "photo": photo, "text": tmp_path / "one.txt"}
    assert cli.main(["run", *(word.format(**names) for word in arguments)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bmx run: ") and err.count("\n") == 1 and message in err


def test_without_pillow(capsys, bmx_file, photo, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert cli.main(["run", bmx_file, photo]) == 1
    assert capsys.readouterr().err == "bmx run: pictures need Pillow: pip install 'bmx-mxnet[images]'\n"
