"""The .bmx file: its bytes as docs/format.md has them, the way back, and files that are not what they should be."""

import contextlib
import itertools
import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from program_damage import everything
from program_graphs import Builder

from bmx import program as programs
from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.errors import Error
from bmx.program import packing

NONE = 0xFFFFFFFF


PROGRAM = lower(everything(70))
CONTENT = programs.encode(PROGRAM)


def test_the_example_has_every_kind_of_step():
    kinds = {type(step) for step in PROGRAM.steps}
    assert kinds == {
        *(
            programs.Load,
            programs.Store,
            programs.Fill,
            programs.Conv,
            programs.Depthwise,
            programs.Pool,
            programs.PoolBits,
            programs.Map,
            programs.Softmax,
        ),
        programs.Copy,
    }


def test_what_is_decoded_encodes_to_the_same_bytes():
    assert programs.encode(programs.decode(CONTENT)) == CONTENT
    assert programs.encode(lower(everything(70))) == CONTENT


def test_what_is_decoded_is_the_program():
    again = programs.decode(CONTENT)
    assert str(again) == str(PROGRAM)
    for step, other in zip(PROGRAM.steps, again.steps):
        for name, value in vars(step).items():
            if isinstance(value, np.ndarray):
                assert value.dtype == getattr(other, name).dtype
                np.testing.assert_array_equal(value, getattr(other, name))


def test_header_records_and_steps_lie_where_the_page_says():
    magic, version, order, size, checksum, zero = struct.unpack_from("<8sIIQII", CONTENT)
    assert (magic, version, order, zero) == (b"\x89BMX\r\n\x1a\n", 1, 0x01020304, 0)
    assert size == len(CONTENT) and size % 64 == 0 and checksum == zlib.crc32(CONTENT[32:])
    arena, inputs, outputs, ports_at = struct.unpack_from("<QIIQ", CONTENT, 32)
    tensors_at, tensors, zero = struct.unpack_from("<QII", CONTENT, 56)
    code_at, code_size, steps = struct.unpack_from("<QII", CONTENT, 72)
    strings_at, strings_size, data_at, data_size, name, zero2 = struct.unpack_from("<QQQQII", CONTENT, 88)
    assert (arena, inputs, outputs) == (PROGRAM.arena, 1, 2) and zero == zero2 == 0
    assert ports_at == 128 and data_at + data_size == size
    parts = [(ports_at, 40 * 3), (tensors_at, 80 * tensors), (code_at, code_size), (strings_at, strings_size)]
    for (place, length), (following, _) in zip(parts, [*parts[1:], (data_at, data_size)]):
        assert following == -(-(place + length) // 64) * 64
        assert not any(CONTENT[place + length : following])

    def text(offset):
        return CONTENT[strings_at + offset : CONTENT.index(b"\0", strings_at + offset)].decode()

    assert text(name) == "example" and CONTENT[strings_at] == 0
    port = struct.unpack_from("<II4I16x", CONTENT, ports_at)
    assert (text(port[0]), port[1:]) == (PROGRAM.inputs[0].name, (3, 6, 5, 4, 0))
    for number, tensor in enumerate(PROGRAM.tensors):
        record = struct.unpack_from("<II3i4iIQQQfIQ", CONTENT, tensors_at + 80 * number)
        assert text(record[0]) == tensor.name and record[1] == ["f32", "bit", "u8"].index(tensor.dtype)
        assert record[2:5] == tensor.shape and record[5:9] == tensor.border and record[9] == tensor.border_value
        assert record[10:13] == (tensor.offset, tensor.row_stride, tensor.pixel_stride)
        assert record[13:] == (tensor.scale, tensor.zero_point, 0)
    kinds = ["Load", "Store", "Fill", "Conv", "Depthwise", "Pool", "PoolBits", "Map", "Softmax", "Copy"]
    place = code_at
    for step in PROGRAM.steps:
        kind, length, label = struct.unpack_from("<III", CONTENT, place)
        assert (kinds[kind - 1], text(label)) == (type(step).__name__, step.name)
        place += length
    assert place == code_at + code_size and steps == len(PROGRAM.steps)


def test_the_fields_of_a_convolution():
    step = next(step for step in PROGRAM.steps if isinstance(step, programs.Conv) and step.source.dtype == "f32")
    place = CONTENT.index(
        struct.pack("<2I", 1, PROGRAM.tensors.index(step.source)) + struct.pack("<6I2i", 3, 3, 1, 1, 1, 1, 1, 1)
    )
    fields = struct.unpack_from("<17I", CONTENT, place + 40)
    assert fields[:3] == (1, 70, 1)  # groups, filters, run
    assert fields[4] == NONE and fields[5:7] == (0, 0)  # start, all, step
    data_at = struct.unpack_from("<Q", CONTENT, 104)[0]
    weights = np.frombuffer(CONTENT, "<f4", 16 * 54 * 5, data_at + 64 * fields[3]).reshape(5, 3, 3, 6, 16)
    np.testing.assert_array_equal(weights[2, 1, 2, 5, 3], step.weight[35, 5, 1, 2])
    assert fields[7:9] == (3, 1)  # operations, AFFINE
    assert fields[11:13] == (6, 1) and fields[13] == 5  # FUNCTION round, CLIP
    assert struct.unpack("<2f", struct.pack("<2I", *fields[14:16])) == (-16, 16)
    assert fields[16] == 3  # stores floats and bits


def packed_by_hand(weight, arithmetic, groups, run):
    """The layout of the page, one element after the other."""
    filters, channels, kernel_h, kernel_w = weight.shape
    out = []
    in_group = filters // groups
    block = 8 if arithmetic == "binary" else 16
    for group, first in itertools.product(range(groups), range(0, in_group, block)):
        rows = [[(y, x) for x in range(kernel_w)] for y in range(kernel_h)]
        for taps in rows if run else [[tap] for row in rows for tap in row]:
            elements = []  # of one filter: lists of numbers
            for f in range(first, first + block):

                def number(c, y, x, f=f, group=group):
                    return weight[group * in_group + f, c, y, x] if f < in_group else 0

                if arithmetic == "binary":
                    words = [
                        sum(
                            int(number(c, y, x) > 0) << (c % 64)
                            for c in range(word * 64, min(channels, word * 64 + 64))
                        )
                        for y, x in taps
                        for word in range(-(-channels // 64))
                    ]
                    elements.append([struct.pack("<Q", word) for word in words])
                else:
                    numbers = [number(c, y, x) for y, x in taps for c in range(channels)]
                    if arithmetic == "float":
                        elements.append([struct.pack("<f", n) for n in numbers])
                    elif arithmetic == "float_signs":
                        elements.append([int(n > 0) for n in numbers])
                    else:
                        numbers += [0] * (-len(numbers) % 4)
                    if arithmetic == "int8_signs":
                        quads = [numbers[i : i + 4] for i in range(0, len(numbers), 4)]
                        elements.append([sum(int(n > 0) << i for i, n in enumerate(quad)) for quad in quads])
                    elif arithmetic == "int8":
                        elements.append([struct.pack("<4b", *numbers[i : i + 4]) for i in range(0, len(numbers), 4)])
            for e in range(len(elements[0])):
                parts = [elements[f][e] for f in range(block)]
                if arithmetic.endswith("signs"):
                    bits = {"float_signs": 1, "int8_signs": 4}[arithmetic]
                    number = sum(part << (bits * f) for f, part in enumerate(parts))
                    parts = [number.to_bytes(2 * bits, "little")]
                out += parts
    return b"".join(out)


@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize(
    "arithmetic, shape, groups",
    [
        *[("binary", shape, 1) for shape in [(1, 1, 1, 1), (9, 65, 2, 3), (8, 64, 3, 3), (3, 130, 1, 2)]],
        *[("binary", (16, 64, 2, 2), 2), ("float", (16, 3, 2, 2), 2), ("int8", (48, 3, 2, 2), 2)],
        *[("float_signs", (16, 3, 2, 2), 2), ("int8_signs", (48, 3, 2, 2), 2)],
        *[
            (name, shape, 1)
            for name in ("float", "float_signs")
            for shape in [(1, 1, 1, 1), (17, 3, 2, 3), (16, 5, 1, 2)]
        ],
        *[
            (name, shape, 1)
            for name in ("int8", "int8_signs")
            for shape in [(1, 1, 1, 1), (17, 3, 2, 3), (33, 5, 1, 2), (2, 4, 2, 2)]
        ],
    ],
)
def test_weights_are_packed_as_the_page_says(arithmetic, shape, groups, run):
    random = np.random.default_rng(1)
    if arithmetic == "binary" or arithmetic.endswith("signs"):
        weight = np.where(random.integers(0, 2, shape), 1, -1).astype(np.int8)
    elif arithmetic == "float":
        weight = random.normal(size=shape).astype(np.float32)
    else:
        weight = random.integers(-128, 128, shape).astype(np.int8)
    packed = packing.pack_weights(weight, arithmetic, groups, run)
    assert packed == packed_by_hand(weight, arithmetic, groups, run)
    assert len(packed) == packing.weight_bytes(arithmetic, shape, groups, run)
    np.testing.assert_array_equal(packing.unpack_weights(packed, arithmetic, shape, groups, run), weight)


def test_start_is_minus_zero_point_times_the_weights_in_groups_of_32():
    weight = np.random.default_rng(2).integers(-128, 128, (80, 3, 2, 2)).astype(np.int8)
    start = np.frombuffer(packing.start(weight, 7, 2), "<i4").reshape(2, 64)
    for f in range(80):
        assert start[f // 40, f % 40] == -7 * int(weight[f].astype(int).sum())
    assert not start[:, 40:].any()


def test_numbers_of_channels_are_padded_with_zeros():
    assert packing.pack_channels(np.ones(33, np.float32), "f32") == struct.pack("<64f", *[1] * 33, *[0] * 31)
    assert packing.pack_channels(np.ones(3, bool), "sign") == struct.pack("<32I", *[0x80000000] * 3, *[0] * 29)
    assert packing.pack_channels(np.ones(9, bool), "flip") == b"\xff\x01" + bytes(62)
    assert packing.pack_words(np.ones(65, bool)) == b"\xff" * 8 + b"\x01" + bytes(7)
    depthwise = packing.pack_depthwise(np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    assert np.frombuffer(depthwise, "<f4").reshape(2, 3, 32)[1, 2, :3].tolist() == [5, 11, 0]


def test_equal_arrays_are_stored_once():
    b = Builder()
    value = b.input((64, 2, 2))
    sizes = []
    for _ in range(2):
        value = b.map(value, [ir.Affine(np.ones(64, np.float32), np.zeros(64, np.float32))])["f32"]
        sizes.append(struct.unpack_from("<Q", programs.encode(lower(b.graph([value]))), 112)[0])
    assert sizes == [512, 512]


# --- files that are not what they should be


def refused(content, text):
    with pytest.raises(Error) as found:
        programs.decode(content)
    assert text in str(found.value) and "\n" not in str(found.value)


def test_every_truncation_is_refused():
    for size in [*range(0, 200), *range(200, len(CONTENT), 97), len(CONTENT) - 1]:
        refused(CONTENT[:size], "compiled network: ")
    refused(CONTENT + bytes(64), "should have")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(CONTENT) * 8 - 1))
def test_a_flipped_bit_is_refused(place):
    content = bytearray(CONTENT)
    content[place // 8] ^= 1 << place % 8
    refused(bytes(content), "compiled network: ")


def test_what_is_no_sign_is_refused():
    for dtype in ("f32", "u8", "bit"):
        b = Builder()
        program = lower(b.graph([b.conv(b.input((5, 4, 4), (dtype,)), 8, signs=True)["f32"]]))
        step = next(step for step in program.steps if isinstance(step, programs.Conv))
        assert step.signs == (dtype != "bit") and programs.decode(programs.encode(program))
        step.weight[3, 2, 1, 0] = 0
        with pytest.raises(Error, match="its weights must all be -1 or"):
            programs.encode(program)
        step.weight[3, 2, 1, 0], step.signs = 1, not step.signs
        with contextlib.nullcontext() if dtype == "u8" else pytest.raises(Error):
            programs.encode(program)


def test_a_missing_or_unreadable_file_is_an_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.bmx", tmp_path, "/dev/zero", tmp_path / "pipe"):
        with pytest.raises(Error, match="cannot be read"):
            programs.decode(path)


def test_write_is_whole_or_nothing(tmp_path):
    path = tmp_path / "net.bmx"
    assert programs.write(PROGRAM, path) == len(CONTENT) == path.stat().st_size
    assert path.read_bytes() == CONTENT and programs.encode(programs.decode(path)) == CONTENT
    assert not path.stat().st_mode & 0o111
    with pytest.raises(Error, match="cannot be written"):
        programs.write(PROGRAM, tmp_path / "missing" / "net.bmx")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(Error, match="cannot be written"):
        programs.write(PROGRAM, folder)
    assert sorted(os.listdir(tmp_path)) == ["folder", "net.bmx"]
