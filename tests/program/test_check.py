"""The rules of docs/format.md, one after the other: a program that breaks one is not written, and the engine does not
read its file. The same program just inside of the rule is written and read."""

import math
import struct

import numpy as np
import pytest
from program_damage import everything, networks
from program_graphs import Builder
from readers import check_accepted, of_engine

from bmx import program as programs
from bmx.compiler.lower import lower
from bmx.errors import Error
from bmx.program.encoder import assemble
from bmx.program.overlap import check_overlap
from bmx.program.rules import Problem

SIZE = programs.LARGEST_SIZE
CONTENT = programs.encode(lower(everything(20)))
SMALL = 1e-50  # which is 0 as a float of 32 bits


def find(program, kind, number=0):
    return [step for step in program.steps if isinstance(step, kind)][number]


def spoiled(spoil, content=CONTENT):
    program = programs.decode(content)
    spoil(program)
    return program


def check_both(program, python, engine):
    """That bmx.program does not write it, and that the engine does not read it; or if there is no reason, do."""
    if not python:
        return check_accepted(programs.encode(program))
    with pytest.raises(Error) as found:
        programs.encode(program)
    assert python in str(found.value) and "\n" not in str(found.value), found.value
    if engine is not None:  # else there is no such file
        refusal = of_engine(assemble(program))
        assert engine in refusal and refusal, refusal


def case(spoil, python="", engine=None):
    return pytest.param(spoil, python, engine, id=python or "allowed")


# --- the program ---


def with_input(*shape):
    return lambda p: p.inputs.append(programs.Port("another", shape))


def stores_twice(p):
    p.steps.append(find(p, programs.Store))


@pytest.mark.parametrize(
    "spoil, python, engine",
    [
        case(lambda p: setattr(p, "arena", 2**34)),
        case(lambda p: setattr(p, "arena", 2**34 + 64), "the arena has 17179869248 bytes", "its arena has 17179869248"),
        case(lambda p: setattr(p, "arena", p.arena + 32), "it must be a multiple of 64", "it must be a multiple of 64"),
        case(lambda p: setattr(p, "arena", -64), "the arena has -64 bytes"),
        case(lambda p: p.outputs.clear(), "it has no outputs", "it has no outputs"),
        case(with_input(2**31 - 1)),
        case(with_input(2**31), "at most 2**31 - 1 numbers are allowed", "more than 2147483647 numbers"),
        case(with_input(2**16, 2**15), "at most 2**31 - 1 numbers are allowed", "more than 2147483647 numbers"),
        case(with_input(1, 1, 1, 1)),
        case(with_input()),  # one number
        case(with_input(1, 1, 1, 1, 1), "input 'another' has the shape (1, 1, 1, 1, 1)"),
        case(with_input(3, 0), "input 'another' has the shape (3, 0)", "its size 1 is 0"),
        case(
            lambda p: p.inputs.append(p.inputs[0]),
            "input 'data3': two of them have this name",
            "two inputs have the name",
        ),
        case(
            lambda p: setattr(p.outputs[0], "name", "out1"), "output 'out1': two of them", "two outputs have the name"
        ),
        case(lambda p: setattr(p.outputs[0], "name", "data3")),  # of an input
        case(lambda p: setattr(p, "name", "a\0b"), r"the name 'a\x00b' has a zero byte"),
        case(lambda p: setattr(p.inputs[0], "name", "a\0b"), "has a zero byte"),
        case(lambda p: setattr(p.outputs[0], "name", "a\0b"), "has a zero byte"),
        case(lambda p: setattr(p.tensors[0], "name", "a\0b"), "has a zero byte"),
        case(lambda p: setattr(p.steps[0], "name", "a\0b"), "has a zero byte"),
        case(lambda p: setattr(p, "name", "\ud800"), "cannot be written as UTF-8"),
        case(lambda p: setattr(p, "name", "réseau")),
        case(lambda p: p.tensors.pop(), "step 16 Softmax 'softmax30': a tensor is not in the table"),
        case(lambda p: p.tensors.pop(0), "step 0 Fill 'v1': a tensor is not in the table"),
        case(lambda p: p.steps.append(programs.Step("odd")), "step 18 Step 'odd': there is no such step"),
        case(lambda p: p.steps.pop(), "output 'out0' is stored 0 times", "output 'out0' is stored by 0 steps"),
        case(stores_twice, "output 'out1' is stored 2 times", "output 'out1' is stored by 2 steps"),
    ],
)
def test_programs(spoil, python, engine):
    check_both(spoiled(spoil), python, engine)


# --- tensors ---


def one_tensor(dtype="f32", shape=(1, 1, 1), border=(0, 0, 0, 0), gap=0, row_gap=0, **attributes):
    """A program with a tensor that no step reads, at the end of the arena."""
    height, width, channels = shape
    above, left, below, right = border
    pixel = programs.pixel_bytes(dtype, channels) + gap
    row = (left + width + right) * pixel + row_gap
    scale = 1.0 if dtype == "u8" else 0.0
    tensor = programs.Tensor("t", dtype, *shape, border, 0, max(0, above * row + left * pixel), row, pixel, scale)
    program = programs.decode(CONTENT)
    program.arena = max(program.arena, -(-tensor.extent[1] // 64) * 64)
    program.tensors.append(tensor)
    for name, value in attributes.items():
        setattr(tensor, name, value)
    return program


BITS, BYTES = {"dtype": "bit"}, {"dtype": "u8"}
WIDE = {"shape": (2, 3, 2), "border": (0, 1, 0, 2)}  # pixels of 8 bytes, rows of 48
FAR = "it is not within the arena"


@pytest.mark.parametrize(
    "attributes, python, engine",
    [
        ({}, "", ""),
        ({"shape": (1, 1, SIZE)}, "", ""),
        ({"shape": (1, SIZE, 1)}, "", ""),
        ({"shape": (SIZE, 1, 1)}, "", ""),
        ({"height": SIZE + 1}, f"its size is ({SIZE + 1}, 1, 1); at most {SIZE}", f"its sizes must be {SIZE} or less"),
        ({"width": SIZE + 1}, f"its size is (1, {SIZE + 1}, 1)", f"its sizes must be {SIZE} or less"),
        ({"channels": SIZE + 1}, f"its size is (1, 1, {SIZE + 1})", f"its sizes must be {SIZE} or less"),
        ({"height": 0}, "its size is (0, 1, 1)", "its sizes must be 1 or more"),
        ({"width": 0}, "its size is (1, 0, 1)", "its sizes must be 1 or more"),
        ({"channels": 0}, "its size is (1, 1, 0)", "its sizes must be 1 or more"),
        *[({"border": tuple(SIZE * (i == j) for j in range(4))}, "", "") for i in range(4)],
        *[
            ({"border": tuple((0, number)[i == j] for j in range(4))}, "its border is", engine)
            for i in range(4)
            for number, engine in ((SIZE + 1, f"{SIZE} or less"), (-1, "its border must be 0 or more"))
        ],
        ({"border_value": 1}, "its border holds 1; at most 0", "its border holds 1"),
        ({**BITS, "border_value": 1}, "", ""),
        ({**BITS, "border_value": 2}, "its border holds 2; at most 1", "its border holds 2"),
        ({**BYTES, "border_value": 255}, "", ""),
        ({**BYTES, "border_value": 256}, "its border holds 256; at most 255", "its border holds 256"),
        ({"border_value": -1}, "its border holds -1", None),
        ({"scale": 1.0}, "its scale is 1.0; only u8 has one", "its scale is 1"),
        ({**BITS, "scale": -1.0}, "its scale is -1.0; only u8 has one", "its scale is -1"),
        ({"scale": math.nan}, "its scale is nan; only u8 has one", "its scale is nan"),
        ({"scale": -0.0}, "", ""),
        ({"zero_point": 1}, "its zero point is 1; only u8 has one", "its zero point is 1"),
        ({**BYTES, "scale": 1e-38, "zero_point": 255}, "", ""),
        ({**BYTES, "zero_point": 256}, "its zero point is 256; it must be 0 to 255", "its zero point is 256"),
        ({**BYTES, "zero_point": -1}, "its zero point is -1", None),
        *[
            ({**BYTES, "scale": x}, f"its scale is {x}; it must be positive and finite", "its scale is")
            for x in (0.0, -1.0, math.nan, math.inf)
        ],
        ({**BYTES, "scale": SMALL}, "its scale is 0.0; it must be positive and finite", "its scale is 0"),
        ({**BYTES, "scale": 1e39}, "its scale is 1e+39, too large for a float of 32 bits", None),
        ({"offset": 2}, "offset and strides (2, 4, 4) are not multiples of 4", "multiples of 4"),
        ({"row_stride": 6}, "offset and strides (0, 6, 4) are not multiples of 4", "multiples of 4"),
        ({"gap": 2, "row_gap": 2}, "offset and strides (0, 8, 6) are not multiples of 4", "multiples of 4"),
        ({**BITS, "offset": 4}, "offset and strides (4, 8, 8) are not multiples of 8", "multiples of 8"),
        ({**BYTES, "offset": 1}, "", ""),
        ({"offset": 3008 - 4}, "", ""),
        ({"offset": 3008}, "it lies from 3008 to 3012 in an arena of 3008 bytes", FAR),
        ({"offset": 2**40}, "offset and strides", FAR),
        ({"offset": -4}, "offset and strides", None),
        ({"row_stride": 3008}, "", ""),  # of a tensor of one row
        ({"row_stride": 3012}, "offset and strides (0, 3012, 4) in an arena of 3008 bytes", FAR),
        ({"pixel_stride": 3008, "row_stride": 3008}, "", ""),
        ({"pixel_stride": 3012, "row_stride": 3008}, "offset and strides (0, 3008, 3012) in an arena", FAR),
        ({"shape": (2, 1, 1), "row_stride": 3004}, "", ""),
        ({"shape": (2, 1, 1), "row_stride": 3008}, "it lies from 0 to 3012 in an arena of 3008 bytes", FAR),
        ({"border": (1, 0, 0, 0), "offset": 0}, "it lies from -4 to 4", FAR),
        ({"border": (0, 1, 0, 0), "offset": 0}, "it lies from -4 to 4", FAR),
        ({"border": (0, 0, 1, 0), "offset": 3004}, "it lies from 3004 to 3012", FAR),
        ({"border": (0, 0, 0, 1), "offset": 3004}, "it lies from 3004 to 3012", FAR),
        ({"shape": (1, 1, 2), "pixel_stride": 4}, "pixels of 8 bytes are 4 bytes apart", "its pixels overlap"),
        ({**WIDE, "row_stride": 40}, "", ""),  # rows share the columns of their borders
        ({**WIDE, "row_stride": 32}, "rows are 32 bytes apart; they must be at least 40", "its rows overlap"),
        ({**WIDE, "row_stride": 44}, "borders of rows overlap, 44 bytes apart", "its rows' borders overlap"),
        ({**WIDE, "row_stride": 52}, "", ""),  # and here they do not
        (
            {**WIDE, "border": (0, 2, 0, 1), "row_stride": 32},
            "rows are 32 bytes apart; they must be at least 40",
            "its rows overlap",
        ),
        (
            {"shape": (1, 3, 2), "border": (1, 1, 0, 2), "row_stride": 32},
            "rows are 32 bytes apart; they must be at least 40",
            "its rows overlap",
        ),
        (
            {"shape": (1, 3, 2), "border": (0, 1, 1, 2), "row_stride": 32},
            "rows are 32 bytes apart; they must be at least 40",
            "its rows overlap",
        ),
        ({"shape": (1, 3, 2), "border": (0, 1, 0, 2), "row_stride": 24}, "", ""),  # a single row
        ({"shape": (1, 3, 2), "border": (0, 1, 0, 2), "row_stride": 28}, "", ""),
        (
            {"shape": (2, 3, 2), "row_stride": 20},
            "rows are 20 bytes apart; they must be at least 24",
            "its rows overlap",
        ),
        (
            {"shape": (1, 3, 2), "row_stride": 20},
            "rows are 20 bytes apart; they must be at least 24",
            "its rows overlap",
        ),
        (
            {"shape": (2, 3, 2), "gap": 8, "row_stride": 40},
            "rows are 40 bytes apart; they must be at least 48",
            "its rows overlap",
        ),
        ({**WIDE, "gap": 8, "row_stride": 80}, "", ""),
        ({**WIDE, "gap": 8, "row_stride": 72}, "borders of rows overlap", "its rows' borders overlap"),
    ],
)
def test_tensors(attributes, python, engine):
    check_both(one_tensor(**attributes), python and f"tensor 16 't': {python}", engine)


# --- what a step stores and reads ---


def region_bytes(tensor, border):
    above, left, below, right = tensor.border if border else (0, 0, 0, 0)
    return {
        tensor.offset + y * tensor.row_stride + x * tensor.pixel_stride + byte
        for y in range(-above, tensor.height + below)
        for x in range(-left, tensor.width + right)
        for byte in range(tensor.pixel_bytes)
    }


def lie_apart(a, b, border):
    """As docs/format.md has it, with sets of bytes; the border is that of `a`."""
    one, other = region_bytes(a, border), region_bytes(b, False)
    if max(one) < min(other) or max(other) < min(one):
        return True

    def spans(tensor, border, size, every):
        above, left, below, right = tensor.border if border else (0, 0, 0, 0)
        first = tensor.offset - above * tensor.row_stride - left * tensor.pixel_stride
        return {(first + i) % every for i in range(size(left + tensor.width + right, tensor))}

    def row(columns, tensor):
        return (columns - 1) * tensor.pixel_stride + tensor.pixel_bytes

    def pixel(columns, tensor):
        return tensor.pixel_bytes

    if a.row_stride == b.row_stride and not spans(a, border, row, a.row_stride) & spans(b, False, row, b.row_stride):
        return True
    rows = (sum(a.border[::2]) if border else 0) + a.height, b.height
    grid = all(n == 1 or t.row_stride % t.pixel_stride == 0 for n, t in zip(rows, (a, b)))
    every = a.pixel_stride
    return every == b.pixel_stride and grid and not spans(a, border, pixel, every) & spans(b, False, pixel, every)


def small_tensor(random, pixel, row):
    """A tensor of 1 to 3 channels, rows and columns somewhere around 160."""
    height, width = random.integers(1, 4, 2).tolist()
    channels = int(random.integers(1, pixel // 4 + 1))
    border = BORDERS[random.integers(len(BORDERS))]
    offset = 4 * int(random.integers(30, 60))
    return programs.Tensor("t", "f32", height, width, channels, border, 0, offset, row, pixel)


BORDERS = [(0, 0, 0, 0), (0, 0, 0, 0), (1, 0, 0, 1), (0, 1, 1, 0)]


def pairs_of_tensors():
    """Tensors of one step, whether it is a convolution, and whether they lie apart: mostly in one respect."""
    random, found = np.random.default_rng(1), {True: 0, False: 0}
    for number in range(4000):
        pixels, rows = random.choice([4, 8, 12, 16], 2).tolist(), random.choice([64, 68, 80], 2).tolist()
        if number % 4:
            pixels, rows = (pixels[:1] * 2, rows) if number % 2 else (pixels, rows[:1] * 2)
        source, stored = (small_tensor(random, pixel, row) for pixel, row in zip(pixels, rows))
        convolution = number % 3 == 0
        apart = lie_apart(source, stored, convolution)
        found[apart] += 1
        yield source, stored, convolution, apart
    assert min(found.values()) > 1000


def test_what_a_step_stores_lies_apart_from_what_it_reads():
    window = programs.Window()
    for source, stored, convolution, apart in pairs_of_tensors():
        floats = [programs.Floats(stored)]
        step = programs.Pool("p", source, window, "max", stores=floats)
        if convolution:
            step = programs.Depthwise("d", source, window, np.zeros((source.channels, 1, 1), np.float32), stores=floats)
        if apart:
            assert not region_bytes(source, convolution) & region_bytes(stored, False)
            check_overlap(step)
        else:
            with pytest.raises(Problem, match="tensor 't', which it stores, overlaps tensor 't'"):
                check_overlap(step)


def test_the_engine_has_the_same_idea_of_tensors_that_lie_apart():
    for source, stored, convolution, apart in pairs_of_tensors():
        if source.channels != stored.channels or (convolution and (stored.height, stored.width) > (1, 1)):
            continue  # which is no pooling, or no convolution of one pixel
        program = programs.Program("p", [], [programs.Port("y", (stored.channels, stored.height, stored.width))])
        program.tensors, program.arena = [source, stored], 1024
        weight, floats = np.zeros((source.channels, 1, 1), np.float32), [programs.Floats(stored)]
        pool = programs.Pool("p", source, programs.Window(), "max", stores=floats)
        step = programs.Depthwise("d", source, programs.Window(), weight, stores=floats) if convolution else pool
        program.steps = [step, programs.Store("y", stored, 0)]
        refusal = of_engine(assemble(program))
        assert ("which it stores, overlaps tensor 't'" in refusal) != apart and (refusal or apart), refusal


def place(program, number, like, **attributes):
    """Put a tensor where another one is."""
    tensor, other = program.tensors[number], program.tensors[like]
    for name in ("offset", "row_stride", "pixel_stride"):
        setattr(tensor, name, getattr(other, name))
    for name, value in attributes.items():
        setattr(tensor, name, value)


OVERLAPS = "which it stores, overlaps tensor"


@pytest.mark.parametrize(
    "spoil, python, engine",
    [
        case(lambda p: place(p, 9, 8), f"step 10 Map 'map18': tensor 'v17', {OVERLAPS} 'v15'", OVERLAPS),
        case(
            lambda p: setattr(find(p, programs.Map, 2), "source", p.tensors[11]),
            f"'map22': tensor 'v21', {OVERLAPS} 'v21'",
            OVERLAPS,
        ),
        case(lambda p: find(p, programs.Map, 2).epilogue.append(programs.Add(p.tensors[11]))),  # in place
        case(
            lambda p: find(p, programs.Map, 2).epilogue.append(programs.Add(p.tensors[9]))
        ),  # the same by another name
        case(lambda p: place(p, 9, 6, offset=132), f"step 10 Map 'map18': tensor 'v17', {OVERLAPS} 'v11'", OVERLAPS),
        case(
            lambda p: (setattr(p.tensors[2], "offset", 1620), setattr(p, "arena", 2**13)),
            f"step 3 Conv 'conv6': tensor 'v4', {OVERLAPS} 'v1'",
            OVERLAPS,
        ),
        case(lambda p: place(p, 3, 3, offset=320), f"step 3 Conv 'conv6': tensor 'v5', {OVERLAPS} 'v4'", OVERLAPS),
        case(lambda p: place(p, 1, 0), f"step 1 Load 'data3': tensor 'v2', {OVERLAPS} 'v1'", OVERLAPS),
        case(lambda p: place(p, 13, 12), f"step 14 Copy 'reshape26': tensor 'v25', {OVERLAPS} 'v23'", OVERLAPS),
        case(lambda p: place(p, 15, 14), f"step 16 Softmax 'softmax30': tensor 'v29', {OVERLAPS} 'v27'", OVERLAPS),
        case(lambda p: place(p, 5, 4), f"step 6 PoolBits 'pool10': tensor 'v9', {OVERLAPS} 'v7'", OVERLAPS),
        case(lambda p: place(p, 13, 12, border=(0, 0, 0, 0)), f"tensor 'v25', {OVERLAPS} 'v23'", OVERLAPS),
    ],
)
def test_stores_that_overlap(spoil, python, engine):
    check_both(spoiled(spoil), python, engine)


# --- steps ---


def stored(program, kind, number=0):
    return find(program, kind, number).stores[0].value


def replaced(program, kind, number=0, **attributes):
    for name, value in attributes.items():
        setattr(find(program, kind, number), name, value)


def windows(kind, number=0, **attributes):
    def spoil(program):
        for name, value in attributes.items():
            setattr(find(program, kind, number).window, name, value)

    return spoil


@pytest.mark.parametrize(
    "spoil, python, engine",
    [
        case(
            lambda p: replaced(p, programs.Load, input=1),
            "step 1 Load 'data3': there is no input 1",
            "there is no input 1",
        ),
        case(lambda p: replaced(p, programs.Load, input=-1), "there is no input -1"),
        case(
            lambda p: setattr(p.inputs[0], "shape", (6, 4, 5)),
            "tensor 'v1' is (5, 4, 6), the result is (4, 5, 6)",
            "the result is 4 x 5 x 6",
        ),
        case(
            lambda p: replaced(p, programs.Store, output=2),
            "step 4 Store 'out1': there is no output 2",
            "there is no output 2",
        ),
        case(lambda p: replaced(p, programs.Store, output=-1), "there is no output -1"),
        case(
            lambda p: setattr(p.outputs[0], "shape", (15,)),
            "tensor 'v29' is (1, 1, 16), the output (1, 1, 15)",
            "the result is 1 x 1 x 15",
        ),
        case(
            lambda p: replaced(p, programs.Store, source=p.tensors[3]),
            "tensor 'v5' has the type bit; it must be f32",
            "is bit; it must be f32",
        ),
        case(
            lambda p: replaced(p, programs.Depthwise, source=p.tensors[3]),
            "tensor 'v5' has the type bit; it must be f32",
            "is bit; it must be f32",
        ),
        case(
            lambda p: replaced(p, programs.Pool, source=p.tensors[3]),
            "tensor 'v5' has the type bit; it must be f32",
            "is bit; it must be f32",
        ),
        case(lambda p: replaced(p, programs.Pool, mode="min"), "unknown mode 'min'"),
        case(
            lambda p: replaced(p, programs.Map, source=p.tensors[5]),
            "tensor 'v9' has the type bit",
            "is bit; it must be f32 or u8",
        ),
        case(
            lambda p: replaced(p, programs.Map, 2, source=p.tensors[15]),
            "tensor 'v21' is (2, 1, 8), the result is (1, 1, 16)",
            "the result is 1 x 1 x 16",
        ),
        case(
            lambda p: replaced(p, programs.Softmax, source=p.tensors[3]),
            "tensor 'v5' has the type bit; it must be f32",
            "is bit; it must be f32",
        ),
        case(
            lambda p: replaced(p, programs.Softmax, tensor=p.tensors[3]),
            "tensor 'v5' has the type bit; it must be f32",
            "is bit; it must be f32",
        ),
        case(
            lambda p: replaced(p, programs.Softmax, tensor=p.tensors[8]),
            "(1, 1, 16) becomes (1, 1, 8)",
            "the result is 1 x 1 x 16",
        ),
        case(
            lambda p: replaced(p, programs.PoolBits, source=p.tensors[0]),
            "its tensors must be bits",
            "is f32; it must be bit",
        ),
        case(
            lambda p: replaced(p, programs.PoolBits, tensor=p.tensors[0]),
            "its tensors must be bits",
            "is f32; it must be bit",
        ),
        case(
            lambda p: replaced(p, programs.PoolBits, tensor=p.tensors[3], flip=None),
            "bits with the same number of channels",
            "the result is",
        ),
        case(lambda p: replaced(p, programs.PoolBits, flip=None)),
        case(
            lambda p: replaced(p, programs.PoolBits, flip=np.zeros(15, bool)), "its flip is bool (15,), not bool (16,)"
        ),
        case(
            lambda p: replaced(p, programs.PoolBits, flip=np.zeros(16, np.int8)),
            "its flip is int8 (16,), not bool (16,)",
        ),
        case(lambda p: replaced(p, programs.PoolBits, flip=[False] * 16), "its flip is list, not bool (16,)"),
        case(lambda p: replaced(p, programs.Fill, tensor=p.tensors[2])),  # a tensor without border
    ],
)
def test_steps(spoil, python, engine):
    check_both(spoiled(spoil), python, engine)


@pytest.mark.parametrize(
    "kind, number", [(programs.Conv, 0), (programs.Depthwise, 0), (programs.Pool, 0), (programs.PoolBits, 0)]
)
@pytest.mark.parametrize(
    "field, name, lowest",
    [("stride", "stride", 1), ("dilate", "dilate", 1), ("pad", "pad", -SIZE), ("kernel", "kernel", 1)],
)
@pytest.mark.parametrize("axis", [0, 1])
def test_numbers_of_windows(kind, number, field, name, lowest, axis):
    """Those that are out of range in any window; which others fit depends on the step."""
    for value in (lowest - 1, SIZE + 1):
        program = programs.decode(CONTENT)
        step = find(program, kind, number)
        step.run = False
        pair = list(getattr(step.window, field))
        pair[axis] = value
        setattr(step.window, field, tuple(pair))
        with pytest.raises(Error, match=r"its window is|an array is|its weight is"):
            programs.encode(program)
        if field != "kernel" or kind in (programs.Pool, programs.PoolBits):
            try:
                content = assemble(program)
            except struct.error:
                assert value < 0 and field != "pad"
            else:
                axes = ("above", "left") if field == "pad" else ("height", "width") if field == "kernel" else "yx"
                assert f"{field} {axes[axis]} is {value}" in of_engine(content)


INSIDE = "of tensor 'v1', which has -1 to"


@pytest.mark.parametrize(
    "spoil, python, engine",
    [
        # 5 x 4 pixels in a border of 1, taken by 3 x 3
        case(
            windows(programs.Conv, pad=(2, 1)),
            "its windows meet rows -2 to 4 of tensor 'v1', which has -1 to 5",
            "rows -2 to 4",
        ),
        case(
            windows(programs.Conv, pad=(0, 1)),
            "its windows meet rows 0 to 6 of tensor 'v1', which has -1 to 5",
            "rows 0 to 6",
        ),
        case(
            windows(programs.Conv, pad=(1, 2)),
            "its windows meet columns -2 to 3 of tensor 'v1', which has -1 to 4",
            "columns -2 to 3",
        ),
        case(
            windows(programs.Conv, pad=(1, 0)),
            "its windows meet columns 0 to 5 of tensor 'v1', which has -1 to 4",
            "columns 0 to 5",
        ),
        case(windows(programs.Conv, stride=(2, 1)), "its windows meet rows -1 to 9", "rows -1 to 9"),
        case(windows(programs.Conv, stride=(1, 2)), "its windows meet columns -1 to 7", "columns -1 to 7"),
        case(windows(programs.Conv, dilate=(2, 1)), "its windows meet rows -1 to 7", "rows -1 to 7"),
        case(
            lambda p: (replaced(p, programs.Conv, run=False), windows(programs.Conv, dilate=(1, 2))(p)),
            "its windows meet columns -1 to 6",
            "columns -1 to 6",
        ),
        case(windows(programs.Conv, pad=(SIZE, 1)), f"its windows meet rows -{SIZE} to", f"rows -{SIZE} to"),
        case(
            windows(programs.Depthwise, pad=(1, 0)),
            "step 13 Depthwise 'conv24': its windows meet rows -1 to 0",
            "rows -1 to 0",
        ),
        case(
            windows(programs.Depthwise, pad=(-1, 0)),
            "its windows meet rows 1 to 2 of tensor 'v21', which has 0 to 1",
            "rows 1 to 2",
        ),
        case(windows(programs.Depthwise, stride=(1, SIZE))),
        # A pooling may have windows outside of the image, if its numbers fit
        case(windows(programs.Pool, pad=(0, 0))),
        case(windows(programs.Pool, pad=(SIZE, SIZE))),
        case(windows(programs.Pool, kernel=(SIZE, SIZE))),
        case(windows(programs.Pool, pad=(-1, 0)), "its window is", "pad above is -1"),
        case(windows(programs.Pool, pad=(0, -1)), "its window is", "pad left is -1"),
        case(windows(programs.Pool, dilate=(2, 1)), "its window is", "pooling has no dilation"),
        case(windows(programs.Pool, dilate=(1, 2)), "its window is", "pooling has no dilation"),
        case(windows(programs.PoolBits, pad=(-1, 0)), "its window is", "pad above is -1"),
        case(windows(programs.PoolBits, dilate=(1, 2)), "its window is", "pooling has no dilation"),
    ],
)
def test_windows(spoil, python, engine):
    check_both(spoiled(spoil), python, engine)


@pytest.mark.parametrize("axis, bits", [(0, False), (1, False), (0, True), (1, True)])
def test_how_far_the_windows_of_a_pooling_may_be(axis, bits):
    """The size of the result times the stride, and kernel and padding, are at most 2**30."""
    for kernel, python, engine in ((1, "", ""), (2, "its windows are too far outside", "its windows are too far")):
        program = programs.decode(CONTENT)
        step = find(program, programs.PoolBits if bits else programs.Pool)
        size = [1, 1]
        size[axis] = 64  # times 2**24 is 2**30
        source = programs.Tensor("in", step.source.dtype, 1, 1, 1, offset=0, row_stride=8, pixel_stride=8)
        result = programs.Tensor("out", step.source.dtype, *size, 1, offset=64, row_stride=8 * size[1], pixel_stride=8)
        program.tensors += [source, result]
        step.window = programs.Window((1, 1), (1, 1), pad=(0, 0))
        step.source = source
        if bits:
            step.tensor, step.flip = result, None
        else:
            step.epilogue, step.stores = [], [programs.Floats(result)]
        step.window.stride = (SIZE - 1, 1) if axis == 0 else (1, SIZE - 1)
        step.window.pad = (62, 0) if axis == 0 else (0, 62)
        step.window.kernel = (kernel, 1) if axis == 0 else (1, kernel)
        # 64 * (2**24 - 1) + 62 + kernel is 2**30 - 1 for a kernel of 1; one more of the padding, and it is 2**30
        step.window.pad = tuple(63 if pad == 62 else pad for pad in step.window.pad)
        check_both(program, python, engine)


# --- convolutions ---


GROUPED = networks()[1]


def conv(number=0, content=CONTENT, **attributes):
    return lambda: spoiled(lambda p: replaced(p, programs.Conv, number, **attributes), content)


def weights(shape, dtype=np.float32):
    return np.ones(shape, dtype)


@pytest.mark.parametrize(
    "make, python, engine",
    [
        case(conv(weight=weights((20, 6, 3, 2))), "its weight is float32 (20, 6, 3, 2), not float32 (20, 6, 3, 3)"),
        case(conv(weight=weights((20, 5, 3, 3))), "its weight is float32 (20, 5, 3, 3), not float32 (20, 6, 3, 3)"),
        case(conv(weight=weights((20, 6, 3, 3), np.float64)), "its weight is float64 (20, 6, 3, 3), not float32"),
        case(conv(weight=weights((20, 6, 3, 3), np.int8)), "its weight is int8 (20, 6, 3, 3), not float32"),
        case(conv(weight=weights((20, 6, 9))), "its weight has the shape (20, 6, 9)"),
        case(conv(weight=weights((0, 6, 3, 3))), "its weight has the shape (0, 6, 3, 3)"),
        case(conv(weight=weights((21, 6, 3, 3))), "tensor 'v4' is (5, 4, 20), the result is (5, 4, 21)"),
        case(conv(weight=weights((20, 6, 3, 3), np.int8), signs=True)),
        case(conv(weight=weights((20, 6, 3, 3)), signs=True), "its weight is float32 (20, 6, 3, 3), not int8"),
        case(conv(weight=2 * weights((20, 6, 3, 3), np.int8), signs=True), "its weights must all be -1 or +1"),
        case(conv(weight=0 * weights((20, 6, 3, 3), np.int8), signs=True), "its weights must all be -1 or +1"),
        case(conv(1, weight=0 * weights((16, 20, 3, 3), np.int8)), "its weights must all be -1 or +1"),
        case(conv(1, weight=weights((16, 20, 3, 3))), "its weight is float32 (16, 20, 3, 3), not int8"),
        case(conv(1, signs=True), "weights of bits are always signs"),
        case(conv(3, weight=weights((8, 6, 2, 2))), "its weight is float32 (8, 6, 2, 2), not int8"),
        case(conv(3, signs=True), "its weights must all be -1 or +1"),
        case(conv(3, weight=weights((8, 6, 2, 2), np.int8), signs=True)),
        case(conv(3, weight=-128 * weights((8, 6, 2, 2), np.int8))),
        case(conv(groups=0), "6 channels in 0 groups"),
        case(conv(groups=-1), "6 channels in -1 groups"),
        case(conv(groups=4, run=False), "6 channels in 4 groups"),
        case(
            conv(groups=2, run=False, weight=weights((20, 3, 3, 3))),
            "20 filters in 2 groups; a group must have a multiple of 8 filters",
            "20 filters in 2 groups",
        ),
        case(conv(0, GROUPED, run=True), "a run covers all channels, so there must be 1 group", "not runs"),
        case(conv(0, GROUPED, groups=1), "its weight is float32 (16, 3, 2, 1), not float32 (16, 6, 2, 1)"),
        case(
            conv(3, GROUPED, groups=4, weight=weights((32, 32, 1, 2), np.int8)),
            "binary groups of 32 channels; they must be a multiple of 64",
            "binary groups of 32 channels",
        ),
        case(conv(run=False)),
        case(conv(all=1.0), "only binary convolutions have all and step", "only binary convolutions have all and step"),
        case(
            conv(step=1.0), "only binary convolutions have all and step", "only binary convolutions have all and step"
        ),
        case(
            conv(3, all=math.nan),
            "only binary convolutions have all and step",
            "only binary convolutions have all and step",
        ),
        case(conv(3, step=-0.0)),
        case(conv(all=SMALL)),
        case(conv(1, all=3e38, step=-3e38)),
        *[
            case(conv(1, **{name: value}), "its result is", "all and step must be finite")
            for name in ("all", "step")
            for value in (math.inf, -math.inf, math.nan)
        ],
        case(conv(1, all=1e39), "all is 1e+39, too large for a float of 32 bits"),
        case(conv(1, step=-1e39), "step is -1e+39, too large for a float of 32 bits"),
    ],
)
def test_convolutions(make, python, engine):
    check_both(make(), python, engine)


def test_a_run_needs_pixels_without_gaps_and_no_dilation():
    def with_gaps(program):
        tensor, program.arena = program.tensors[0], 2**14
        tensor.pixel_stride, tensor.row_stride, tensor.offset = 28, 6 * 28, 2**13

    def dilated(program):
        find(program, programs.Conv).window.dilate = (1, 2)

    for spoil in (with_gaps, dilated):
        check_both(spoiled(spoil), "a run needs pixels without gaps and no dilation", "its kernel rows are not runs")
    check_both(spoiled(lambda p: (with_gaps(p), replaced(p, programs.Conv, run=False))), "", "")


def test_sums_of_bytes_fit_32_bits():
    """255 times the sum of a filter's absolute weights: at most 2**31 - 1, so that sum is at most 8421504."""
    channels, most = 2 * 33158, 8421504
    b = Builder()
    program = lower(b.graph([b.conv(b.input((channels, 1, 1), ("u8",)), 2, (1, 1), epilogue=[])["f32"]]))
    step = find(program, programs.Conv)
    step.weight = np.zeros((2, channels, 1, 1), np.int8)
    row = step.weight[1, :, 0, 0]
    row[: most // 127] = 127
    row[1 : most // 127 : 2] = -127
    row[-1] = -(most % 127)
    check_accepted(programs.encode(program))
    row[-1] -= 1
    check_both(program, "its sums may not fit 32 bits", "its sums may not fit 32 bits")


def test_weights_of_a_depthwise_convolution():
    for weight in (np.zeros((8, 1, 2), np.float32), np.zeros((7, 1, 1), np.float32), np.zeros((8, 1, 1))):
        program = spoiled(lambda p, weight=weight: replaced(p, programs.Depthwise, weight=weight))
        check_both(program, f"its weight is {weight.dtype} {weight.shape}, not float32 (8, 1, 1)", None)


# --- copies ---


def loops(*loops):
    return lambda p: replaced(p, programs.Copy, loops=list(loops))


@pytest.mark.parametrize(
    "spoil, python, engine",
    [
        # from 2 x 1 x 8 numbers to as many: 64 bytes
        case(loops()),
        case(loops((16, 4, 4))),
        case(loops((16, 0, 4))),
        case(loops((16, 4, 0))),
        case(loops((1, 2**32 - 4, 2**32 - 4))),
        case(loops(*[(1, 0, 0)] * 6)),
        case(loops(*[(1, 0, 0)] * 7), "7 loops; at most 6 are allowed", "number of sizes is 7"),
        case(loops((0, 4, 4)), f"a loop of 0 times; at most {SIZE}", "a size is 0"),
        case(loops((SIZE + 1, 0, 0)), f"a loop of {SIZE + 1} times", f"a size is {SIZE + 1}"),
        case(
            loops((SIZE, 0, 0)),
            f"it copies {SIZE} numbers into tensor 'v25', which has 16",
            "it copies more numbers than",
        ),
        case(loops((17, 0, 0)), "it copies 17 numbers into tensor 'v25', which has 16", "it copies more numbers than"),
        case(
            loops((4, 0, 0), (5, 0, 0)),
            "it copies 20 numbers into tensor 'v25', which has 16",
            "it copies more numbers",
        ),
        case(loops((2, 2, 4)), "a loop of (2, 2, 4); strides are multiples of 4", "its strides must be multiples of 4"),
        case(loops((2, 4, 2)), "a loop of (2, 4, 2); strides are multiples of 4", "its strides must be multiples of 4"),
        case(loops((2, 4, -4)), "a loop of (2, 4, -4)"),
        case(loops((2, 2**32, 4)), "a loop of (2, 4294967296, 4)"),
        case(loops((2, 60, 60))),
        case(
            loops((2, 64, 4)),
            "it reaches 68 bytes into tensor 'v23', which has 64",
            "it reaches byte 64 of tensor 'v23'",
        ),
        case(
            loops((2, 4, 64)),
            "it reaches 68 bytes into tensor 'v25', which has 64",
            "it reaches byte 64 of tensor 'v25'",
        ),
        case(
            loops((2, 32, 4), (2, 32, 4)), "it reaches 68 bytes into tensor 'v23'", "it reaches byte 64 of tensor 'v23'"
        ),
        case(
            lambda p: replaced(p, programs.Copy, source=p.tensors[3]),
            "tensor 'v5' has the type bit",
            "is bit; it must be f32",
        ),
        case(
            lambda p: replaced(p, programs.Copy, tensor=p.tensors[3]),
            "tensor 'v5' has the type bit",
            "is bit; it must be f32",
        ),
    ],
)
def test_copies(spoil, python, engine):
    check_both(spoiled(spoil), python, engine)


# --- epilogues ---


def operations(*operations):
    return lambda p: find(p, programs.Map, 2).epilogue.extend(operations)


def operand(shape, dtype="f32"):
    """A tensor of zeros, or whatever is in the arena, is added to 2 x 1 x 8 numbers."""

    def spoil(program):
        pixel = programs.pixel_bytes(dtype, shape[2])
        tensor = programs.Tensor("t", dtype, *shape, offset=512, row_stride=shape[1] * pixel, pixel_stride=pixel)
        tensor.scale = 1.0 if dtype == "u8" else 0.0
        program.tensors.append(tensor)
        find(program, programs.Map, 2).epilogue.append(programs.Multiply(tensor))

    return spoil


def numbers(channels, dtype=np.float32):
    return np.ones(channels, dtype)


GOOD, SHORT, WIDE_ = numbers(8), numbers(7), numbers(8, np.float64)
NUMBERS = [
    (programs.Affine, ("scale", "bias")),
    (programs.Norm, ("mean", "scale", "bias")),
    (programs.PRelu, ("slope",)),
]


@pytest.mark.parametrize(
    "spoil, python, engine",
    [
        case(operations(*[programs.Function("tanh")] * 62)),
        case(
            operations(*[programs.Function("tanh")] * 63),
            "65 operations; at most 64 are allowed",
            "number of operations is 65",
        ),
        case(operations(*[programs.Function(name) for name in programs.FUNCTIONS])),
        case(operations(programs.Function("cosh")), "unknown function 'cosh'"),
        case(operations(programs.Floats(None)), "unknown operation Floats"),
        *[
            case(
                operations(kind(*[bad if name == other else GOOD for other in names])),
                f"its {name} is {bad.dtype} {bad.shape}, not float32 (8,)",
            )
            for kind, names in NUMBERS
            for name in names
            for bad in (SHORT, WIDE_)
        ],
        case(operand((2, 1, 8))),
        case(operand((1, 1, 8))),
        case(operand((2, 1, 1))),
        case(
            operand((1, 1, 1)),
            "the result is (2, 1, 8) and its operand 't' (1, 1, 1)",
            "does not fit the result, 2 x 1 x 8",
        ),
        case(
            operand((1, 2, 8)),
            "the result is (2, 1, 8) and its operand 't' (1, 2, 8)",
            "does not fit the result, 2 x 1 x 8",
        ),
        case(
            operand((2, 1, 4)),
            "the result is (2, 1, 8) and its operand 't' (2, 1, 4)",
            "does not fit the result, 2 x 1 x 8",
        ),
        case(
            operand((2, 2, 1)),
            "the result is (2, 1, 8) and its operand 't' (2, 2, 1)",
            "does not fit the result, 2 x 1 x 8",
        ),
        case(operand((2, 1, 8), "u8"), "tensor 't' has the type u8; it must be f32", "is u8; it must be f32"),
        case(operand((2, 1, 8), "bit"), "tensor 't' has the type bit; it must be f32", "is bit; it must be f32"),
        case(operations(programs.Clip(-1.0, -1.0), programs.Clip(-math.inf, math.inf), programs.Clip(0.0, -0.0))),
        case(operations(programs.Clip(1.0, 0.5)), "it clips from 1.0 to 0.5", "it clips from 1 to 0.5"),
        case(operations(programs.Clip(math.nan, 0.5)), "it clips from nan to 0.5", "it clips from nan to 0.5"),
        case(operations(programs.Clip(0.5, math.nan)), "it clips from 0.5 to nan", "it clips from 0.5 to nan"),
        case(operations(programs.Clip(1e39, 1e39)), "its low is 1e+39, too large for a float of 32 bits"),
        case(
            lambda p: find(p, programs.Map).stores.clear(), "step 10 Map 'map18': it stores nothing", "its stores are 0"
        ),
        case(
            lambda p: find(p, programs.Map).stores.append(find(p, programs.Map).stores[0]),
            "it has unknown stores, or two of the same kind",
        ),
        case(
            lambda p: setattr(find(p, programs.Map).stores[0], "value", p.tensors[3]),
            "tensor 'v5' has the type bit; the store needs f32",
            "is bit; it must be f32",
        ),
        case(
            lambda p: setattr(find(p, programs.Load).stores[1], "value", p.tensors[3]),
            "tensor 'v5' has the type bit; the store needs u8",
            "is bit; it must be u8",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv).stores[1], "value", p.tensors[2]),
            "tensor 'v4' has the type f32; the store needs bit",
            "is f32; it must be bit",
        ),
        case(
            lambda p: setattr(find(p, programs.Map).stores[0], "value", p.tensors[8]),
            "tensor 'v15' is (1, 1, 8), the result is (2, 1, 8)",
            "the result is 2 x 1 x 8",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv).stores[1], "value", p.tensors[4]),
            "tensor 'v7' is (5, 2, 16), the result is (5, 4, 20)",
            "the result is 5 x 4 x 20",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv).stores[1], "threshold", SHORT),
            "its threshold is float32 (7,), not float32 (20,)",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv).stores[1], "threshold", numbers(20, np.int32)),
            "its threshold is int32 (20,), not float32",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv).stores[1], "flip", numbers(20, np.int8)),
            "its flip is int8 (20,), not bool (20,)",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv, 1).stores[0], "threshold", numbers(16)),
            "its threshold is float32 (16,), not int32",
        ),
        case(
            lambda p: setattr(find(p, programs.Conv, 1).stores[0], "flip", numbers(15, bool)),
            "its flip is bool (15,), not bool (16,)",
        ),
        case(lambda p: setattr(find(p, programs.Load).stores[1], "inverse_scale", 1e-38)),
        *[
            case(
                lambda p, x=x: setattr(find(p, programs.Load).stores[1], "inverse_scale", x),
                f"its inverse scale is {x}; it must be positive and finite",
                "its inverse scale is",
            )
            for x in (0.0, -1.0, math.nan, math.inf)
        ],
        case(
            lambda p: setattr(find(p, programs.Load).stores[1], "inverse_scale", SMALL),
            "its inverse scale is 0.0",
            "its inverse scale is 0",
        ),
        case(
            lambda p: setattr(find(p, programs.Load).stores[1], "inverse_scale", 1e39),
            "its inverse scale is 1e+39, too large",
        ),
    ],
)
def test_epilogues(spoil, python, engine):
    check_both(spoiled(spoil), python, engine)


def test_counts_are_compared_by_binary_convolutions_that_do_nothing_else():
    python = "only a binary convolution without operations and other stores compares counts"
    engine = "only a binary convolution without operations and other stores compares counts"

    def with_operation(p):
        find(p, programs.Conv, 1).epilogue.append(programs.Function("abs"))

    def with_store(p):
        tensor = programs.Tensor("t", "f32", 5, 2, 16, offset=2**14, row_stride=128, pixel_stride=64)
        p.arena = 2**15
        p.tensors.append(tensor)
        find(p, programs.Conv, 1).stores.append(programs.Floats(tensor))

    def of_floats(p):
        stores = find(p, programs.Conv).stores
        stores[:] = [programs.CountBits(stores[1].value, np.zeros(20, np.int32), np.zeros(20, bool))]
        find(p, programs.Conv).epilogue.clear()

    def of_a_map(p):
        bits = programs.Tensor("t", "bit", 2, 1, 8, offset=2**14, row_stride=8, pixel_stride=8)
        p.arena = 2**15
        p.tensors.append(bits)
        find(p, programs.Map).stores[:] = [programs.CountBits(bits, np.zeros(8, np.int32), np.zeros(8, bool))]
        find(p, programs.Map).epilogue.clear()

    for spoil in (with_operation, with_store, of_floats, of_a_map):
        check_both(spoiled(spoil), python, engine)
