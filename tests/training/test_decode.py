"""Pictures are decoded as Pillow does, or refused: never to an array that nobody filled."""

import io
import random
import struct
import zlib

import mxnet as mx
import numpy as np
import pytest
from mutations import mutated
from PIL import Image

from bmx.training.decode import decode

SIZE = (21, 13)


def picture(kind="PNG", mode="RGB", **options):
    pixels = np.random.RandomState(0).randint(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_png_of_all_kinds(mode):
    data = picture(mode=mode, transparency=0) if mode == "P" else picture(mode=mode)
    image = decode(data, 8).asnumpy()
    assert image.dtype == np.uint8
    if mode in ("1", "L", "RGB"):  # of the others OpenCV multiplies with what is opaque, or not
        np.testing.assert_array_equal(image, pillow(data))
    assert image.shape == (SIZE[1], SIZE[0], 3)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"compress_level": 0}])
def test_png_however_it_is_compressed(options):
    np.testing.assert_array_equal(decode(picture(**options), 8).asnumpy(), pillow(picture(**options)))


def test_bmp():
    np.testing.assert_array_equal(decode(picture("BMP"), 8).asnumpy(), pillow(picture("BMP")))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_jpeg(options):
    data = picture("JPEG", **options)
    assert np.abs(decode(data, 8).asnumpy().astype(int) - pillow(data)).mean() < 2


def test_jpeg_that_is_to_be_turned():
    exif = Image.new("RGB", (1, 1)).getexif()
    exif[0x0112] = 6
    assert decode(picture("JPEG", exif=exif), 8).shape == (SIZE[0], SIZE[1], 3)


def chunks(*parts):
    """A PNG file of chunks, whatever they are."""
    pieces = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


GREY = (b"IHDR", struct.pack(">2I5B", 4, 2, 8, 0, 0, 0, 0))
INDEXED = (b"IHDR", struct.pack(">2I5B", 4, 2, 8, 3, 0, 0, 0))
DATA, END = (b"IDAT", zlib.compress(b"\0\1\2\3\4" * 2)), (b"IEND", b"")


def header(**changes):
    values = {"width": 4, "height": 2, "depth": 8, "colours": 0, "compression": 0, "filter": 0, "interlace": 0}
    return b"IHDR", struct.pack(">2I5B", *{**values, **changes}.values())


def test_the_smallest_png():
    np.testing.assert_array_equal(decode(chunks(GREY, DATA, END), 8).asnumpy()[:, :, 0], [[1, 2, 3, 4]] * 2)
    assert decode(chunks(GREY, (b"tEXt", b"x"), DATA, (b"IDAT", b""), (b"tIME", b"1234567"), END), 8).shape == (2, 4, 3)


@pytest.mark.parametrize(
    "parts",
    [
        (GREY, DATA),
        (GREY, END),
        (DATA, GREY, END),
        (GREY, GREY, DATA, END),
        (INDEXED, DATA, END),
        (INDEXED, (b"PLTE", b"1234"), DATA, END),
        (INDEXED, (b"PLTE", b""), DATA, END),
        (GREY, (b"PLTE", b"123"), DATA, END),
        (INDEXED, DATA, (b"PLTE", bytes(768)), END),
        (GREY, DATA, (b"tEXt", b"x"), DATA, END),
        (GREY, (b"ABCD", b""), DATA, END),
        (GREY, (b"a\0cd", b""), DATA, END),
        (GREY, DATA, (b"IEND", b"x")),
        (GREY, (b"IDAT", b"no zlib"), END),
        (GREY, (b"IDAT", DATA[1][:-6]), END),
        (header(depth=3), DATA, END),
        (header(colours=1), DATA, END),
        (header(colours=2, depth=4), DATA, END),
        (header(compression=1), DATA, END),
        (header(filter=1), DATA, END),
        (header(interlace=2), DATA, END),
        (header(width=0), DATA, END),
        (header(width=2**20, height=2**20), DATA, END),
        ((b"IHDR", GREY[1] + b"\0"), DATA, END),
    ],
)
def test_a_png_that_is_none(parts):
    with pytest.raises(ValueError):
        decode(chunks(*parts), 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_of_all_kinds_and_cut_off(mode):
    data = picture("BMP", mode)
    assert decode(data, 8).shape == (SIZE[1], SIZE[0], 3)
    for end in (len(data) - 1, 60, 53, 30, 27):
        with pytest.raises(ValueError, match="without all of its pixels"):
            decode(data[:end], 8)


def test_the_first_three_bytes_of_jpeg():
    """OpenCV looks at these; MXNet's reader of RecordIO files divides by 0 where it knows no format."""
    with pytest.raises(ValueError, match="it is no PNG"):
        decode(b"\xff\xd8\x80" + picture("JPEG")[3:], 8)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PPM"])
def test_other_formats_are_refused(kind):
    with pytest.raises(ValueError, match="it is no PNG, JPEG or BMP file, or its header is damaged"):
        decode(picture(kind), 8)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_damaged_picture_is_refused_or_gives_what_it_gives_again(kind):
    """An array that nobody filled has other numbers each time."""
    generator, refused = random.Random(kind), 0
    for _ in range(60):
        data = mutated(picture(kind), generator)
        try:
            first = decode(data, 8).asnumpy()
        except ValueError as error:
            refused += 1
            assert len(str(error).splitlines()) == 1
            continue
        mx.nd.full(first.shape, 77, dtype=np.uint8).wait_to_read()  # the next array has this memory
        np.testing.assert_array_equal(first, decode(data, 8).asnumpy())
    assert refused > 5
