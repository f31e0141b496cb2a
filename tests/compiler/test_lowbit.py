"""Layers of 2 to 8 bits: integer sums, whatever the padding, and the true reason where a layer stays float."""

import itertools

import ir_oracle
import mxnet as mx
import numpy as np
import pytest

from bmx.compiler import compile_block, ir
from bmx.compiler.builder import Builder
from bmx.compiler.lower import lower
from bmx.compiler.passes import optimize
from bmx.compiler.passes.edit import Uses
from bmx.compiler.passes.levels import Levels, integer_weights, levels_of
from bmx.compiler.verification import run_program
from bmx.gluon import nn

SHAPE = (8, 7, 6)


def quantizer(bits, channels=SHAPE[0], low=0.0, steps=None):
    steps = np.full(channels, steps or 2**bits - 1, np.float32)
    return [ir.Clip(low, 1.0), ir.Affine(steps, 0 * steps), ir.Function("round"), ir.Affine(1 / steps, 0 * steps)]


def weights_of(bits, shape, random):
    """Multipliers and the step: DoReFa's odd numbers up to n, ternary ones for 'twn'."""
    if bits == "twn":
        return random.choice([-1, 0, 1], shape), 0.37
    steps = 2**bits - 1
    multipliers = 2 * random.randint(0, steps + 1, shape) - steps
    multipliers.reshape(-1)[:2] = -steps, steps
    return multipliers, 1 / steps


def layer(b, source, weight, pad=0, value=0.0, **options):
    """A float convolution behind a border of `value`."""
    pads = pad if isinstance(pad, tuple) else (pad,) * 4
    if value:
        source, pads = b.pad("border", source, pads, value), (0, 0, 0, 0)
    stride, dilate = options.get("stride", (1, 1)), options.get("dilate", (1, 1))
    sizes = zip(source.shape[1:], pads[:2], pads[2:], weight.shape[2:], stride, dilate)
    shape = (len(weight), *((n + p + q - (k - 1) * d - 1) // s + 1 for n, p, q, k, s, d in sizes))
    return b.conv("layer", source, weight.astype(np.float32), shape, pad=pads, **options)


def integer_sums(levels, multipliers, pads, border, stride, dilate, groups):
    """The definition: int64 sums over windows of padded levels."""
    above, left, below, right = pads
    x = np.pad(levels, ((0, 0), (0, 0), (above, below), (left, right)), constant_values=border)
    filters, channels, height, width = multipliers.shape
    rows = range(0, x.shape[2] - (height - 1) * dilate[0], stride[0])
    columns = range(0, x.shape[3] - (width - 1) * dilate[1], stride[1])
    y = np.zeros((len(x), filters, len(rows), len(columns)), np.int64)
    for f, (i, row), (j, column) in itertools.product(range(filters), enumerate(rows), enumerate(columns)):
        first = f * groups // filters * channels
        end = row + height * dilate[0], column + width * dilate[1]
        window = x[:, first : first + channels, row : end[0] : dilate[0], column : end[1] : dilate[1]]
        y[:, f, i, j] = (window * multipliers[f]).sum(axis=(1, 2, 3))
    return y


def convolutions(graph):
    return {node.name: node for node in graph.nodes if isinstance(node, ir.Conv)}


@pytest.mark.parametrize("value", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("bits_a", range(1, 9))
@pytest.mark.parametrize("bits", [1, 2, 3, 5, 7, 8, "twn"])
def test_sums_are_those_of_integers(bits_a, bits, value):
    random = np.random.RandomState(bits_a)
    kernel = [(3, 3), (2, 3), (1, 1), (3, 1)][bits_a % 4]
    stride, dilate = [((1, 1), (1, 1)), ((2, 1), (1, 2)), ((2, 2), (1, 1))][bits_a % 3]
    pads = [(1, 1, 1, 1), (0, 2, 1, 0), (2, 0, 0, 1)][bits_a % 3]
    groups = 2 if bits_a in (3, 6) and bits != 8 else 1
    multipliers, step = weights_of(bits, (16, SHAPE[0] // groups, *kernel), random)
    b = Builder("sums")
    x = b.map("few", b.input("data", SHAPE), *quantizer(bits_a))
    window = {"stride": stride, "dilate": dilate, "groups": groups}
    b.graph.outputs["y"] = layer(b, x, multipliers * np.float32(step), pads, value, **window)
    optimize(b.graph)
    node = convolutions(b.graph)["layer"]
    assert node.source.dtype == "u8" and node.weight.dtype == np.int8 and "exact in int8" in node.notes[0]

    steps = 2**bits_a - 1
    spread = max(1, value) - min(0, value)  # of all levels, the border's too
    assert len(convolutions(b.graph)) == 1 + (bits == 8) + (spread * steps > 255)
    levels = random.randint(-1, steps + 2, (2, *SHAPE))
    data = {"data": (levels / np.float32(steps)).astype(np.float32)}
    sums = integer_sums(levels.clip(0, steps), multipliers, pads, round(value * steps), **window)
    found = run_program(lower(b.graph), data)[0]
    np.testing.assert_array_equal(found, ir_oracle.run(b.graph, data)["y"])
    np.testing.assert_allclose(found, sums * (step / steps), rtol=5e-7, atol=0)  # a sum of 0 is 0


@pytest.mark.parametrize("steps, int8", [(127, True), (128, True), (255, True), (256, False)])
@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_levels_at_the_limit_of_a_byte(steps, int8, value):
    random = np.random.RandomState(0)
    multipliers, step = weights_of(3, (16, 8, 3, 3), random)
    b = Builder("limit")
    x = b.map("few", b.input("data", SHAPE), *quantizer(0, steps=steps))
    b.graph.outputs["y"] = layer(b, x, multipliers * np.float32(step), 1, value)
    optimize(b.graph)
    assert (convolutions(b.graph)["layer"].source.dtype == "u8") == int8
    levels = random.randint(-1, steps + 2, (2, *SHAPE))
    found = run_program(lower(b.graph), {"data": (levels / np.float32(steps)).astype(np.float32)})[0]
    sums = integer_sums(levels.clip(0, steps), multipliers, (1,) * 4, round(value * steps), (1, 1), (1, 1), 1)
    np.testing.assert_allclose(found, sums * (step / steps), rtol=5e-7 if int8 else 1e-4, atol=0 if int8 else 1e-4)


def test_two_borders_of_different_numbers_stay_two():
    random = np.random.RandomState(0)
    multipliers, step = weights_of(2, (16, 8, 3, 3), random)
    b = Builder("borders")
    x = b.pad("border", b.map("few", b.input("data", SHAPE), *quantizer(2)), (1, 1, 1, 1), -1.0)
    b.graph.outputs["y"] = layer(b, x, multipliers * np.float32(step), 1)
    optimize(b.graph)
    assert convolutions(b.graph)["layer"].source.dtype == "u8"
    levels = random.randint(0, 4, (2, *SHAPE))
    found = run_program(lower(b.graph), {"data": (levels / np.float32(3)).astype(np.float32)})[0]
    padded = np.pad(levels, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-3)
    sums = integer_sums(padded, multipliers, (1,) * 4, 0, (1, 1), (1, 1), 1)
    np.testing.assert_allclose(found, sums * (step / 3), rtol=5e-7)


def test_layers_that_read_the_same_may_pad_with_different_numbers():
    random = np.random.RandomState(0)
    b = Builder("several")
    x = b.map("few", b.input("data", SHAPE), *quantizer(3))
    multipliers, step = weights_of(3, (16, 8, 3, 3), random)
    for number, (pad, value) in enumerate([(0, 0.0), (1, 0.0), (1, -1.0), (1, 1.0), (2, -1.0)]):
        b.graph.outputs[str(number)] = layer(b, x, multipliers * np.float32(step), pad, value)
    levels = random.randint(-1, 9, (3, *SHAPE))
    optimize(b.graph)
    assert {node.source.dtype for node in convolutions(b.graph).values()} == {"u8"}
    found = run_program(lower(b.graph), {"data": (levels / np.float32(7)).astype(np.float32)})
    for y, (pad, value) in zip(found, [(0, 0), (1, 0), (1, -7), (1, 7), (2, -7)]):
        sums = integer_sums(levels.clip(0, 7), multipliers, (pad,) * 4, value, (1, 1), (1, 1), 1)
        np.testing.assert_allclose(y, sums * (step / 7), rtol=5e-7)


# levels


@pytest.mark.parametrize(
    "end, wanted",
    [
        (quantizer(2), (0, 3)),
        ([ir.Clip(0.0, 1.0), ir.Function("round")], (0, 1)),
        (quantizer(7, low=-1.0), (-127, 127)),
        ([ir.Function("sign1")], (-1, 1)),
        ([ir.Clip(0.0, np.inf), ir.Function("round")], None),
        ([ir.Function("round")], None),
        ([*quantizer(2), ir.Affine(np.ones(8, np.float32), np.ones(8, np.float32))], None),
        ([*quantizer(2), ir.Affine(np.arange(1, 9, dtype=np.float32), np.zeros(8, np.float32))], None),
        ([*quantizer(2), ir.Affine(np.full(8, -1, np.float32), np.zeros(8, np.float32))], None),
    ],
)
def test_levels_are_what_the_end_of_an_epilogue_makes(end, wanted):
    b = Builder("levels")
    value = b.map("end", b.input("data", SHAPE), *end)
    found = levels_of(value, Uses(b.graph))
    assert (found and found[1:]) == wanted


def test_levels_pass_what_only_moves_numbers():
    b = Builder("moves")
    x = b.map("few", b.input("data", SHAPE), *quantizer(2))
    y = b.pool("max", b.pad("pad", x, (1, 1, 1, 1), -1.0), "max", ((2, 2), (2, 2), (0, 0)), (8, 4, 4))
    y = b.reshape("flat", b.slice("part", y, (2, 0, 0), (4, 4, 4)), (64,))
    assert levels_of(y, Uses(b.graph)) == Levels(pytest.approx(1 / 3), -3, 3)
    mean = b.pool("mean", x, "avg", ((2, 2), (2, 2), (0, 0)), (8, 3, 3))
    assert levels_of(mean, Uses(b.graph)) is None


@pytest.mark.parametrize("bits, wanted", [(2, (0, 3)), (3, None)])
def test_levels_side_by_side_have_one_scale(bits, wanted):
    b = Builder("concat")
    data = b.input("data", SHAPE)
    sources = [b.map(f"few{number}", data, *quantizer(k)) for number, k in enumerate((2, bits))]
    found = levels_of(b.add(ir.Concat("concat", sources=sources), (16, *SHAPE[1:])), Uses(b.graph))
    assert (found and found[1:]) == wanted


def test_other_weights_are_no_integers():
    assert integer_weights(np.float32([1, 2 / 255])) is None  # weights of 8 bits are odd
    random = np.random.RandomState(0)
    assert integer_weights(random.standard_normal((8, 8, 3, 3))) is None
    assert integer_weights(np.zeros((2, 2))) is None and integer_weights(np.float32([np.inf, 1])) is None
    assert integer_weights(np.float32([1, 0.7071])) is None


# what stays float, and why


def note_of(b):
    optimize(b.graph)
    (node,) = convolutions(b.graph).values()
    assert node.source.dtype == "f32"
    return "; ".join(node.notes)


@pytest.mark.parametrize(
    "case, reason",
    [
        ("9 bits", "inputs of more than 8 bits are multiplied as floats"),
        ("float weights", "inputs of a few bits with weights of more than 8 are multiplied as floats"),
        ("float inputs", "weights of a few bits with float inputs are multiplied as floats"),
        ("groups", "few bits in groups of other sizes than int8 has: multiplied as floats"),
        ("groups of 8 bits", "few bits in groups of other sizes than int8 has: multiplied as floats"),
        ("signs", "its input is signs, but its weights are not -a and +a"),
        ("padding", "padded with 0.4, which is no level of its input: multiplied as floats"),
        ("sums", "few bits, but sums of so many can be larger than 32 bits: multiplied as floats"),
    ],
)
def test_what_stays_float_says_why(case, reason):
    random = np.random.RandomState(0)
    shape = (600, 15, 9) if case == "sums" else SHAPE
    b = Builder("float")
    x = b.input("data", shape)
    if case != "float inputs":
        x = b.map("few", x, *quantizer(9 if case == "9 bits" else 2, shape[0]))
    if case == "signs":
        x = b.function("sign", x, "sign1")
    groups = {"groups": 8, "groups of 8 bits": 2}.get(case, 1)
    kernel = shape[1:] if case == "sums" else (3, 3)
    bits = {"sums": 7, "groups of 8 bits": 8}.get(case, 2)
    multipliers, step = weights_of(bits, (16 if bits == 8 else 8, shape[0] // groups, *kernel), random)
    weight = multipliers * np.float32(step)
    if case in ("float weights", "signs"):
        weight = random.standard_normal(weight.shape)
    if case == "sums":
        weight[:] = 1
        weight[0, 0] = -1 / 127
    b.graph.outputs["y"] = layer(b, x, weight, int(case == "padding"), 0.4 if case == "padding" else 0.0, groups=groups)
    assert note_of(b) == reason


@pytest.mark.parametrize("path", ["sign", "norm", "maximum", "flatten", "prelu", "larger", "larger operand"])
@pytest.mark.parametrize("shifted", [False, True])
def test_sums_whose_sign_roundings_decide_stay_float(path, shifted):
    random = np.random.RandomState(0)
    multipliers, step = weights_of(2, (16, 8, 3, 3), random)
    b = Builder("ties")
    y = layer(b, b.map("few", b.input("data", SHAPE), *quantizer(2)), multipliers * np.float32(step), 1, -1.0)
    zeros, bias = np.zeros(16, np.float32), np.full(16, 0.123 * shifted, np.float32)
    y = b.map("norm", y, ir.Norm(zeros, np.full(16, 0.9, np.float32), bias)) if path != "sign" else y
    y = b.affine("shift", y, bias=bias) if path == "sign" else y
    if path == "maximum":
        y = b.pool("max", y, "max", ((2, 2), (2, 2), (0, 0)), (16, 3, 3))
    if path.startswith("larger"):
        other = b.affine(
            "other", b.function("tanh", b.conv("c", y, np.ones((16, 16, 1, 1), np.float32), y.shape), "tanh")
        )
        y = b.map("larger", *((y, ir.Maximum(other)) if path == "larger" else (other, ir.Maximum(y))))
    if path == "flatten":
        y = b.reshape("flat", y, (16 * 42,))
    if path == "prelu":
        y = b.map("prelu", y, ir.PRelu(np.full(16, 0.1, np.float32)))
    b.graph.outputs["y"] = b.map("sign", y, ir.Function("sign1"))
    optimize(b.graph)
    node = convolutions(b.graph)["layer"]
    assert node.source.dtype == ("u8" if shifted else "f32")
    assert shifted or node.notes == [
        "few bits, but roundings decide the sign of its sums where they are 0: multiplied as floats"
    ]


def test_sums_that_floats_have_exactly_are_integers_before_a_sign_too():
    b = Builder("exact")
    multipliers = np.random.RandomState(0).choice([-1, 0, 1], (16, 8, 3, 3))
    y = layer(b, b.map("few", b.input("data", SHAPE), *quantizer(1)), multipliers)
    b.graph.outputs["y"] = b.map("sign", y, ir.Function("sign1"))
    optimize(b.graph)
    assert convolutions(b.graph)["layer"].source.dtype == "u8"


def test_sums_to_which_something_is_added_are_integers_before_a_sign():
    b = Builder("sum")
    data = b.input("data", SHAPE)
    multipliers, step = weights_of(2, (8, 8, 3, 3), np.random.RandomState(0))
    y = layer(b, b.map("few", data, *quantizer(2)), multipliers * np.float32(step), 1, -1.0)
    b.graph.outputs["y"] = b.map(
        "sign", b.map("sum", y, ir.Add(b.function("other", data, "tanh"))), ir.Function("sign1")
    )
    optimize(b.graph)
    assert convolutions(b.graph)["layer"].source.dtype == "u8"


@pytest.mark.parametrize("bias, dtype", [(0.0, "f32"), (0.123, "u8")])
def test_bits_of_sums_for_a_binary_layer(bias, dtype):
    b = Builder("bits")
    multipliers, step = weights_of(2, (64, 8, 3, 3), np.random.RandomState(0))
    y = layer(b, b.map("few", b.input("data", SHAPE), *quantizer(2)), multipliers * np.float32(step))
    y = b.affine("shift", y, 0.9, bias)
    weight = np.ones((8, 64, 1, 1), np.int8)
    b.graph.outputs["y"] = b.conv("binary", b.bits(y), weight, (8, *y.shape[1:]), all=64.0, step=2.0)
    optimize(b.graph)
    assert convolutions(b.graph)["layer"].source.dtype == dtype


# networks


@pytest.mark.parametrize("bits", range(2, 9))
def test_a_network_of_few_bits_padded_with_minus_one_has_a_byte_a_weight(bits):
    net = nn.HybridSequential(prefix="")
    with nn.set_binary_layer_config(bits=bits, bits_a=bits):
        net.add(nn.Conv2D(16, 3, padding=1), nn.BatchNorm(), nn.activated_conv(32, 3, padding=1), nn.BatchNorm())
        net.add(nn.activated_conv(32, 3, 2, 1), nn.GlobalAvgPool2D(), nn.Dense(10))
    mx.random.seed(bits)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 12, 12)))
    report = compile_block(net, (3, 12, 12)).report
    assert [row.weight_bytes for row in report.layers if row.arithmetic == "int8"] == [16 * 32 * 9, 32 * 32 * 9]
    assert report.verification.largest_difference < 1e-5 * report.verification.largest_output
    assert report.file_bytes < 2 * (16 * 32 * 9 + 32 * 32 * 9)


@pytest.mark.parametrize("value", [-1.0, 0.0])
@pytest.mark.parametrize("bits", [1, 2])
def test_networks_of_few_bits_and_signs_are_verified_before_they_are_trained(bits, value):
    net = nn.HybridSequential(prefix="")
    net.add(nn.Conv2D(16, 3, padding=1), nn.BatchNorm())
    net.add(nn.activated_conv(32, 3, 1, 1, bits=2, bits_a=2, pad_value=value), nn.BatchNorm())
    net.add(nn.activated_conv(32, 3, 2, 1, bits=bits, bits_a=1), nn.GlobalAvgPool2D(), nn.Dense(10))
    mx.random.seed(1)
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 16, 16)))
    verification = compile_block(net, (3, 16, 16)).report.verification
    assert not verification.remark and verification.largest_difference < 1e-5 * verification.largest_output
