"""The two readers of .bmx files are one contract: bmx.program and the engine take the same files, docs/format.md's.

To try more damaged files: BMX_DAMAGED_FILES=50000 pytest tests/program/test_both_readers.py
"""

import os
import struct

import numpy as np
import pytest
from program_damage import damage, networks, sealed
from readers import check_accepted, check_refused, of_engine, of_python

from bmx import program as programs
from bmx.program import packing
from bmx.program.operations import OPERATIONS

NETWORKS = networks()
CONTENT = NETWORKS[0]
NONE = 0xFFFFFFFF
NEW, FUNCTIONS = len(OPERATIONS) + 1, len(programs.FUNCTIONS)
PORTS, TENSORS, CODE = (struct.unpack_from("<Q", CONTENT, at)[0] for at in (48, 56, 72))
STRINGS, STRINGS_SIZE, DATA, DATA_SIZE = struct.unpack_from("<4Q", CONTENT, 88)
DAMAGED_FILES = int(os.environ.get("BMX_DAMAGED_FILES", 1500))


def test_both_take_what_the_compiler_writes():
    for content in NETWORKS:
        check_accepted(content)
        assert programs.encode(programs.decode(content)) == content


def test_both_say_the_same_of_damaged_files():
    taken = 0
    for seed in range(DAMAGED_FILES):
        content, what = damage(NETWORKS, np.random.default_rng(seed))
        python, engine = of_python(content), of_engine(content)
        assert bool(python) == bool(engine), f"seed {seed}, {what}: Python says {python!r}, the engine {engine!r}"
        assert "\n" not in python + engine
        taken += not python
    assert DAMAGED_FILES / 10 < taken < DAMAGED_FILES / 2  # most changes matter, and not all


def test_what_both_take_is_written_as_it_was_read():
    """But for what nothing refers to: names, data, and where equal ones are stored."""
    for seed in range(200):
        content, _ = damage(NETWORKS, np.random.default_rng(seed))
        if not of_python(content):
            again = programs.encode(programs.decode(content))
            check_accepted(again)
            assert programs.encode(programs.decode(again)) == again


def changed(form, *places_and_values):
    content = bytearray(CONTENT)
    for place, value in zip(places_and_values[::2], places_and_values[1::2]):
        struct.pack_into("<" + form, content, place, value)
    return sealed(content)


@pytest.mark.parametrize(
    "form, place, value, python, engine",
    [
        ("B", 0, 0x88, "no .bmx header", "not a .bmx file"),
        ("I", 8, 2, "version 2 of the format; this bmx reads 1: compile again", "this library reads version 1"),
        ("I", 12, 0x04030201, "its numbers are big-endian; .bmx files are little-endian", "its numbers are big-endian"),
        ("I", 12, 7, "byte order mark is 0x7", "its byte order mark is wrong"),
        ("Q", 16, 2**63, "should have 9223372036854775808", "instead of 9223372036854775808"),
        *[("I", at, 1, "the header has numbers that must be 0", "its header has numbers") for at in (28, 68, 124)],
        ("Q", 32, 2**63, "the arena has 9223372036854775808 bytes", "its arena has 9223372036854775808 bytes"),
        ("Q", 32, 2**34 + 64, "up to 2**34", "its arena has 17179869248 bytes"),
        ("Q", 32, 2**20 + 32, "a multiple of 64", "a multiple of 64"),
        ("Q", 32, 64, "in an arena of 64 bytes", "not within the arena"),
        ("I", 40, NONE, "inputs and outputs at 128 with", "'inputs and outputs' is too large"),
        ("I", 44, 0, f"tensors at {TENSORS}, where 192 is next", f"'tensors' begins at {TENSORS} instead of 192"),
        ("Q", 48, 2**64 - 64, "inputs and outputs at 18446744073709551552", "'inputs and outputs' begins at"),
        ("Q", 48, 0, "inputs and outputs at 0", "'inputs and outputs' begins at 0"),
        ("I", 64, NONE, f"tensors at {TENSORS} with", "'tensors' is too large"),
        ("I", 80, 0, f"where {CODE} is next", f"instead of {CODE}"),
        ("I", 80, NONE, f"code at {CODE} with", "'code' is too large"),
        ("I", 84, 1, "bytes after the last step", "its code continues after the last step"),
        ("I", 84, NONE, "step 18: it ends within its fields", "step 18: it ends before its fields do"),
        ("Q", 88, 64 * 10**6, "names at 64000000", "'strings' begins at 64000000"),
        ("Q", 96, 0, f"where {STRINGS} is next", f"instead of {STRINGS}"),
        ("Q", 96, 2**64 - 1, f"names at {STRINGS} with", "'strings' is too large"),
        ("Q", 104, 0, "data at 0, where", "'data' begins at 0"),
        ("Q", 112, 0, "do not end the file", "its data must end with the file"),
        ("Q", 112, 2**64 - 64, f"data at {DATA} with", "'data' is too large"),
        ("I", 120, 10**6, "a name at 1000000", "a name lies at 1000000"),
        ("I", 120, 2, "a name at 2, where none begins", "a name lies at 2, where none begins"),
    ],
)
def test_headers(form, place, value, python, engine):
    check_refused(changed(form, place, value), python, engine)


@pytest.mark.parametrize("size, known", [(1, True), (63, True), (64, False), (-64, False), (-1, True)])
def test_files_that_do_not_end_with_their_data(size, known):
    content = bytearray(CONTENT[:size] if size < 0 else CONTENT + bytes(size))
    struct.pack_into("<Q", content, 16, len(content))
    if known:
        struct.pack_into("<Q", content, 112, DATA_SIZE + size)
    check_refused(sealed(content), f"data at {DATA}", "data")


def test_data_that_nothing_refers_to_is_no_error():
    content = bytearray(CONTENT + bytes(range(64)))
    struct.pack_into("<Q", content, 16, len(content))
    struct.pack_into("<Q", content, 112, DATA_SIZE + 64)
    check_accepted(sealed(content))


def test_what_is_between_the_parts_is_0():
    ends = {"tensors": TENSORS - 1, "names": STRINGS - 1, "data": STRINGS + STRINGS_SIZE}
    for part, place in ends.items():
        assert CONTENT[place] == 0
        engine = {"names": "strings"}.get(part, part)
        check_refused(changed("B", place, 1), f"the bytes before {part} at", f"the bytes before its part '{engine}'")


@pytest.mark.parametrize("place", [STRINGS, STRINGS + STRINGS_SIZE - 1])
def test_names_begin_and_end_with_a_0(place):
    check_refused(changed("B", place, 65), "do not begin and end with a 0 byte", "do not begin and end with a 0 byte")


UTF8 = ["\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff"]
NOT_UTF8 = [
    *(
        b"\x80",
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc2",
        b"\xc2z",
        b"\xc2\xc0",
        b"\xe0\x9f\xbf",
        b"\xe1\x80",
        b"\xff",
    ),
    *(b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf1\x80\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80"),
]


def test_names_are_utf8():
    place = CONTENT.index(b"softmax", STRINGS)

    def named(name):
        content = bytearray(CONTENT)
        content[place : place + 7] = (name + b"softmax")[:7]
        return sealed(content)

    for name in UTF8:
        check_accepted(named(name.encode()))
        assert any(step.name.startswith(name) for step in programs.decode(named(name.encode())).steps)
    for name in NOT_UTF8:
        check_refused(named(name), "its names are not UTF-8", "its names are not UTF-8")


@pytest.mark.parametrize("at", [24, 39])
def test_reserved_bytes_of_ports(at):
    check_refused(
        changed("B", PORTS + 40 + at, 1),
        "the record of 'out0' has numbers that must be 0",
        "output 'out0': its record has numbers that must be 0",
    )


@pytest.mark.parametrize("at", [72, 79])
def test_reserved_bytes_of_tensors(at):
    check_refused(
        changed("B", TENSORS + at, 1),
        "the record of tensor 'v1' has numbers that must be 0",
        "tensor 'v1': its record has numbers that must be 0",
    )


@pytest.mark.parametrize(
    "sizes, python, engine",
    [
        ((0, 6, 5, 4, 0), "an input or output of 0 dimensions [6, 5, 4, 0]", "its size 0 is 6"),
        ((5, 6, 5, 4, 1), "an input or output of 5 dimensions", "5 dimensions; it must have 0 to 4"),
        ((3, 6, 0, 4, 0), "[6, 0, 4, 0]", "its size 1 is 0"),
        ((3, 6, 5, 4, 1), "[6, 5, 4, 1]", "its size 3 is 1"),
        ((1, 2**31, 0, 0, 0), "at most 2**31 - 1 numbers", "more than 2147483647 numbers"),
        ((4, 2**16, 2**16, 2**16, 2**16), "at most 2**31 - 1 numbers", "more than 2147483647 numbers"),
        ((1, 2**31 - 1, 0, 0, 0), "step 1 Load 'data3': tensor 'v1' is (5, 4, 6)", "step 1 'data3' (LOAD)"),
    ],
)
def test_shapes_of_ports(sizes, python, engine):
    places = [PORTS + 4 + 4 * i for i in range(5)]
    check_refused(changed("I", *[x for pair in zip(places, sizes) for x in pair]), python, engine)


def step_at(number):
    """Where a step of the file begins."""
    place = CODE
    for _ in range(number):
        place += struct.unpack_from("<I", CONTENT, place + 4)[0]
    return place


DATA_OF = {content: struct.unpack_from("<Q", content, 104)[0] for content in NETWORKS}
FILL, LOAD, CONV, INT8, POOL, MAP, COPY = (step_at(number) for number in (0, 1, 3, 8, 9, 10, 14))


@pytest.mark.parametrize(
    "place, value, python, engine",
    [
        (FILL, 0, "step 0 'v1': its kind is 0", "step 0 'v1': kind 0"),
        (FILL, 11, "step 0 'v1': its kind is 11", "step 0 'v1': kind 11"),
        (FILL + 4, 12, "step 0 Fill 'v1': it ends within", "step 0 'v1' (FILL): it ends before its fields do"),
        (FILL + 4, 8, "step 0 Fill 'v1': its size is 8", "its size is 8"),
        (FILL + 4, 18, "step 0 Fill 'v1': its size is 18", "its size is 18"),
        (FILL + 4, 20, "step 0 Fill 'v1': it has 4 bytes too many", "it is longer than its fields"),
        (FILL + 4, 0x7FFFFFFC, "step 0 Fill 'v1': its size is 2147483644", "its size is 2147483644"),
        (FILL + 8, 10**6, "step 0: a name at 1000000", "step 0: a name lies at 1000000"),
        (FILL + 12, 16, "tensor 16 where there are 16", "the tensor to fill is not in the table of tensors"),
        (LOAD + 12, 1, "input 1 where there are 1", "there is no input 1"),
        (LOAD + 16, 65, "65 operations", "number of operations is 65"),
        (LOAD + 20, 0, "it has 12 bytes too many", "its stores are 0"),
        (LOAD + 20, 16, "unknown stores 16", "its stores are 16"),
        (CONV + 12, 5, "arithmetic 5 where there are 5", "arithmetic is 5"),
        (CONV + 12, 2, "a convolution on u8 reads the tensor 'v1' of type f32", "is f32; it must be u8"),
        (CONV + 20, 0, "its window is", "kernel height is 0"),
        (CONV + 24, 0, "its window is", "kernel width is 0"),
        (CONV + 52, 0, "6 channels and 20 filters in 0 groups", "groups is 0"),
        (CONV + 52, 4, "6 channels and 20 filters in 4 groups", "6 channels and 20 filters in 4 groups"),
        (CONV + 52, 3, "6 channels and 20 filters in 3 groups", "6 channels and 20 filters in 3 groups"),
        (CONV + 56, 0, "6 channels and 0 filters", "filters is 0"),
        (CONV + 60, 2, "run is 2", "run is 2"),
        (CONV + 64, 10**6, "its weights: 6912 bytes from 64000000", "weights: 6912 bytes from 64000000"),
        (CONV + 64, NONE, "its weights:", "it has no weights"),
        (CONV + 68, 0, "its start does not match", "it has a start; only convolutions of bytes have one"),
        (INT8 + 68, NONE, "its start does not match", "it has no start"),
        (INT8 + 68, 0, "its start does not match", "its start does not match its weights"),
        (CONV + 84, NEW, f"unknown operation {NEW}", f"an operation is {NEW}"),
        (CONV + 84, 0, "unknown operation 0", "an operation is 0"),
        (CONV + 100, 0, f"function 0; they are 1 to {FUNCTIONS}", "a function is 0"),
        (CONV + 100, FUNCTIONS + 1, f"function {FUNCTIONS + 1}; they are 1", f"a function is {FUNCTIONS + 1}"),
        (POOL + 48, 3, "pooling mode 3 where there are 3", "mode is 3"),
        (COPY + 20, 7, "7 loops; at most 6 are allowed", "number of sizes is 7"),
    ],
)
def test_fields_of_steps(place, value, python, engine):
    check_refused(changed("I", place, value), python, engine)


def test_weights_behind_the_last_filter_and_the_end_of_a_run_are_0():
    """Each bit of each file's weights that weights of ones alone do not set."""
    for content in NETWORKS:
        for number, step in enumerate(programs.decode(content).steps):
            if not isinstance(step, programs.Conv) or step.arithmetic == "float":
                continue
            layout = (step.arithmetic, step.groups, step.run)
            place = content.index(packing.pack_weights(step.weight, *layout), DATA_OF[content])
            ones = np.ones_like(step.weight) if step.arithmetic != "int8" else np.full_like(step.weight, -1)
            unused = np.unpackbits(~np.frombuffer(packing.pack_weights(ones, *layout), np.uint8), bitorder="little")
            for bit in np.flatnonzero(unused)[:: max(1, int(unused.sum()) // 8)]:
                damaged = bytearray(content)
                damaged[place + bit // 8] ^= 1 << bit % 8
                where = f"step {number} Conv {step.name!r}: its weights: bits that must be 0 are not"
                check_refused(sealed(damaged), where, "weights: bits that must be 0 are not")


@pytest.mark.parametrize(
    "kind, name, form, engine",
    [
        (programs.Affine, "scale", "f32", "scale"),
        (programs.Affine, "bias", "f32", "bias"),
        (programs.PRelu, "slope", "f32", "slope"),
        (programs.Norm, "mean", "f32", "mean"),
        (programs.Norm, "scale", "f32", "scale"),
        (programs.Norm, "bias", "f32", "bias"),
        (programs.Bits, "threshold", "f32", "threshold"),
        (programs.Bits, "flip", "sign", "sign"),
        (programs.CountBits, "threshold", "i32", "threshold"),
        (programs.CountBits, "flip", "flip", "flip"),
    ],
)
def test_numbers_behind_the_last_channel_are_0(kind, name, form, engine):
    steps = programs.decode(CONTENT).steps
    parts = [part for step in steps for part in [*getattr(step, "epilogue", ()), *getattr(step, "stores", ())]]
    values = next(getattr(part, name) for part in parts if isinstance(part, kind))
    packed = packing.pack_channels(values, form)
    place, used = DATA + CONTENT[DATA:].index(packed), len(values) * 4 if form != "flip" else len(values) // 8
    for at, bit in [(used, 0), (len(packed) - 1, 7)] + [(0, 0)] * (form == "sign"):
        damaged = bytearray(CONTENT)
        damaged[place + at] ^= 1 << bit
        check_refused(sealed(damaged), f"its {name}: bits that must be 0 are not", f"{engine}: bits that must be 0 are")


def test_flips_of_a_pooling_behind_the_last_channel_are_0():
    flips = packing.pack_words(next(s.flip for s in programs.decode(CONTENT).steps if isinstance(s, programs.PoolBits)))
    place = struct.unpack_from("<I", CONTENT, step_at(6) + 52)[0] * 64 + DATA
    assert CONTENT[place : place + 8] == flips and not any(flips[2:])
    check_refused(changed("B", place + 2, 1), "its flip: bits that must be 0 are not", "flips: bits that must be 0 are")


def test_starts_belong_to_weights_and_zero_points():
    place = struct.unpack_from("<I", CONTENT, INT8 + 68)[0] * 64 + DATA
    start = struct.unpack_from("<i", CONTENT, place)[0]
    for at, number in ((place, start + 1), (place + 4 * 8, 1)):  # of a filter, and behind the last one
        check_refused(changed("i", at, number), "its start does not match", "its start does not match")
