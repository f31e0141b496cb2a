"""Where values live: programs copy no more than they must, and overwrite nothing that is still to be read."""

import numpy as np
import program_oracle
import pytest
from program_graphs import Builder
from program_lowered import check, moves, steps

from bmx import program as programs
from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.errors import Error

# --- moves


@pytest.mark.parametrize("dtype", ["f32", "bit", "u8"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_sources_of_a_concat_are_computed_in_their_places(dtype, axis):
    b = Builder()
    x = b.input((64, 4, 4))
    parts = [b.conv(x, 64, (1, 1), stores=(dtype,))[dtype] for _ in range(3)]
    for part in parts:
        part.zero_point = parts[0].zero_point
    joined = b.concat(parts, axis)
    program = check(b, joined)
    assert moves(program) == 0


def test_a_chain_of_concats_is_one_buffer():
    b = Builder()
    x = b.conv(b.input((16, 4, 4)), 16, (1, 1))["f32"]
    for _ in range(4):
        x = b.concat([x, b.conv(x, 8, pad=(1, 1, 1, 1))["f32"]])
    program = check(b, x)
    assert moves(program) == 0
    stored = {step.stores[0].value.pixel_stride for step in steps(program, programs.Conv)}
    assert stored == {4 * (16 + 4 * 8)}
    assert program.arena < 6 * 6 * 4 * 48 + 6 * 6 * 4 * 16 + 128


def test_concats_of_the_same_growing_list_are_one_buffer():
    b = Builder()
    parts = [b.conv(b.input((16, 4, 4)), 16, (1, 1))["f32"]]
    for _ in range(3):
        source = b.concat(parts) if len(parts) > 1 else parts[0]
        parts.append(b.conv(source, 8, (1, 1))["f32"])
    assert moves(check(b, b.concat(parts))) == 0


def test_a_slice_that_is_improved_stays_in_its_buffer():
    """MeliusNet: the last channels of all are added to, the others remain."""
    b = Builder()
    x = b.conv(b.input((64, 4, 4)), 96, (1, 1), stores=("f32", "bit"))
    for _ in range(3):
        old, rest = b.slice(x["f32"], (32, 0, 0), (64, 4, 4)), b.slice(x["f32"], (0, 0, 0), (32, 4, 4))
        new = b.conv(x["bit"], 64, pad=(1, 1, 1, 1), pad_value=1.0)["f32"]
        b.nodes[-1].epilogue.append(ir.Add(old))
        joined = b.concat([rest, new])
        x = {"f32": joined, **b.map(joined, stores=("bit",))}
    program = check(b, x["f32"], x["bit"])
    assert moves(program) == 0


def test_half_of_the_channels_can_be_replaced():
    """ShuffleNet: only the shuffle moves anything."""
    b = Builder()
    x = b.conv(b.input((16, 4, 4)), 16, (1, 1))["f32"]
    for _ in range(2):
        left, right = b.slice(x, (0, 0, 0), (8, 4, 4)), b.slice(x, (8, 0, 0), (8, 4, 4))
        right = b.conv(b.conv(right, 8, pad=(1, 1, 1, 1), groups=8)["f32"], 8, (1, 1))["f32"]
        x = b.reshape(b.concat([left, right]), x.shape, (2, 8, 4, 4), (1, 0, 2, 3))
    assert len(steps(check(b, x), programs.Copy)) <= 2 + 2  # a padded slice needs a border of its own


def test_a_value_in_two_concats_is_copied_once():
    b = Builder()
    x = b.input((8, 2, 2))
    first, second = b.concat([x, b.input((8, 2, 2))]), b.concat([b.input((24, 2, 2)), x])
    assert moves(check(b, first, second)) == 1
    b = Builder()
    x = b.input((8, 2, 2))
    assert moves(check(b, b.concat([x, x]))) == 1


@pytest.mark.parametrize("dtype", ["f32", "bit", "u8"])
@pytest.mark.parametrize("begin, shape", [((0, 0, 0), (64, 5, 5)), ((64, 0, 0), (66, 5, 5)), ((0, 1, 2), (130, 3, 2))])
def test_slices_cost_nothing_where_no_border_is_read(dtype, begin, shape):
    b = Builder()
    x = b.input((130, 5, 5), (dtype,))
    part = b.slice(x, begin, shape)
    assert moves(check(b, b.conv(part, 8, (1, 1))["f32"])) == 0
    y = b.conv(part, 8, pad=(1, 1, 1, 1), pad_value=1.0 if dtype == "bit" else 0.0)["f32"]
    assert moves(check(b, y)) == (shape[1] < 5)


@pytest.mark.parametrize("begin, channels", [(1, 64), (64, 3), (3, 5)])
def test_slices_of_bits_within_words_go_by_floats(begin, channels):
    b = Builder()
    x = b.input((130, 3, 3), ("bit",))
    part = b.slice(x, (begin, 0, 0), (channels, 3, 3))
    check(b, part, b.conv(part, 8)["f32"])


def test_concats_of_bits_within_words_go_by_floats():
    b = Builder()
    parts = [b.input((n, 3, 3), ("bit",)) for n in (70, 64, 1)]
    joined = b.concat(parts)
    check(b, joined, b.conv(joined, 8, pad=(1, 1, 1, 1), pad_value=-1.0)["f32"])


@pytest.mark.parametrize("pad_value", [0.0, 3.0, -1.0])
def test_padding_of_floats(pad_value):
    b = Builder()
    x = b.conv(b.input((5, 3, 4)), 5, (1, 1))["f32"]
    y = b.pad(x, (1, 2, 0, 3), pad_value)
    program = check(b, y, b.conv(y, 8, pad=(1, 1, 1, 1))["f32"])
    assert moves(program) == (pad_value != 0)


@pytest.mark.parametrize("pad_value", [1.0, -1.0])
def test_padding_of_bits(pad_value):
    b = Builder()
    x = b.input((70, 3, 4), ("bit",))
    y = b.pad(x, (1, 2, 0, 3), pad_value)
    assert moves(check(b, y, b.conv(y, 8, pad=(1, 1, 1, 1), pad_value=-pad_value)["f32"])) == 0


def test_padding_of_bytes_is_with_what_means_0():
    b = Builder()
    x = b.input((5, 3, 4), ("u8",))
    graph = b.graph([b.pad(x, (1, 0, 0, 1))])
    image = np.arange(-30, 30, dtype=np.float32).reshape(5, 3, 4) / 2
    (output,) = program_oracle.run(lower(graph), [image])
    np.testing.assert_array_equal(output, np.pad(image, ((0, 0), (1, 0), (0, 1))))


def test_bits_padded_with_both_signs_have_two_tensors():
    b = Builder()
    x = b.input((70, 4, 4), ("bit",))
    y = [b.conv(x, 8, pad=(1, 1, 1, 1), pad_value=sign)["f32"] for sign in (1.0, -1.0, 1.0, -1.0)]
    program = check(b, *y)
    assert moves(program) == 1 and len(steps(program, programs.Fill)) == 2


def test_a_border_is_as_large_as_the_largest_that_is_needed():
    b = Builder()
    x = b.input((8, 5, 5))
    y = [b.conv(x, 8, (k, k), pad=(k // 2,) * 4)["f32"] for k in (3, 5)] + [
        b.conv(x, 8, (2, 2), (2, 2), pad=(0, 0, 1, 1))["f32"]
    ]
    (fill,) = steps(check(b, *y), programs.Fill)
    assert fill.tensor.border == (2, 2, 2, 2)


def test_a_border_that_strides_never_reach_is_not_made():
    b = Builder()
    x = b.input((8, 4, 4))
    (fill,) = steps(check(b, b.conv(x, 8, (3, 3), (2, 2), pad=(1, 1, 1, 1))["f32"]), programs.Fill)
    assert fill.tensor.border == (1, 1, 0, 0)


@pytest.mark.parametrize(
    "shape, split, axes, into, copies",
    [
        ((6, 1, 1), (), (), (6,), 0),
        ((6,), (), (), (6, 1, 1), 0),
        ((6, 4), (), (), (6, 1, 4), 0),
        ((6, 4, 5), (2, 3, 4, 5), (), (6, 4, 5), 0),
        ((6, 4, 5), (2, 3, 4, 5), (1, 0, 2, 3), (6, 4, 5), 1),
        ((6, 4, 5), (), (2, 0, 1), (5, 6, 4), 1),
        ((6, 4, 5), (), (), (120,), 1),
        ((120,), (), (), (6, 4, 5), 1),
        ((6, 4, 5), (), (1, 2, 0), (20, 6), 1),
        ((4, 6, 1), (), (), (6, 4, 1), 2),  # sizes that do not divide one another
        ((6, 4, 5), (8, 15), (1, 0), (120,), 2),
        ((6, 4, 4), (6, 2, 2, 2, 2), (0, 2, 4, 1, 3), (24, 2, 2), 1),  # space to depth
    ],
)
def test_reshapes(shape, split, axes, into, copies):
    for dtype in ("f32", "bit", "u8"):
        b = Builder()
        x = b.input(shape, (dtype,))
        program = check(b, b.reshape(x, into, split, axes))
        assert dtype != "f32" or len(steps(program, programs.Copy)) == copies


def test_values_of_4_dimensions():
    b = Builder()
    x = b.reshape(b.input((6, 3, 4)), (2, 3, 3, 4))
    y = b.map(x, [ir.Affine(b.numbers(2), b.numbers(2)), ir.Add(b.reshape(b.input((3,)), (1, 3, 1, 1)))])["f32"]
    part = b.slice(y, (1, 0, 1, 0), (1, 3, 2, 4))
    program = check(b, y, b.concat([y, y]), part, b.reshape(y, (6, 3, 4), (), (1, 0, 2, 3)))
    assert program.outputs[0].shape == (2, 3, 3, 4)
    b = Builder()
    x = b.reshape(b.input((6, 3, 4)), (2, 3, 3, 4))
    with pytest.raises(Error, match="the second one must be whole"):
        lower(b.graph([b.slice(x, (0, 1, 0, 0), (2, 1, 3, 4))]))


# --- sums in place


def residual(b, x, times):
    sums = []
    for _ in range(times):
        x = b.conv(x["bit"], 64, pad=(1, 1, 1, 1), pad_value=1.0, epilogue=[ir.Add(x["f32"])], stores=("f32", "bit"))
        sums.append(x["f32"])
    return x, sums


def test_residual_sums_stay_in_one_place():
    b = Builder()
    x, _ = residual(b, b.input((64, 3, 3), ("f32", "bit")), 5)
    program = check(b, x["f32"])
    places = {store.value.offset for step in program.steps for store in getattr(step, "stores", ())
              if isinstance(store, programs.Floats)}  # fmt: skip
    assert len(places) == 1


def test_a_sum_does_not_overwrite_what_is_read_later():
    b = Builder()
    first = b.input((64, 3, 3), ("f32", "bit"))
    x, sums = residual(b, first, 2)
    late = b.map(x["f32"], [ir.Add(first["f32"]), ir.Add(sums[0])])["f32"]
    check(b, late)
    b = Builder()
    x, sums = residual(b, b.input((64, 3, 3), ("f32", "bit")), 3)
    check(b, *sums, x["bit"])


def test_an_output_that_is_a_slice_is_given_before_it_is_overwritten():
    b = Builder()
    x = b.input((8, 3, 3))
    part = b.slice(x, (4, 0, 0), (4, 3, 3))
    y = b.map(b.input((8, 3, 3)), [ir.Add(x)])["f32"]
    program = check(b, part, y)
    assert moves(program) == 0
    store = next(i for i, step in enumerate(program.steps) if isinstance(step, programs.Store))
    assert store < next(i for i, step in enumerate(program.steps) if isinstance(step, programs.Map))


def test_a_sum_does_not_overwrite_a_slice_that_is_read_later():
    for late in (True, False):
        b = Builder()
        x, other = b.input((8, 3, 3)), b.input((8, 3, 3))
        part = None if late else b.slice(x, (4, 0, 0), (4, 3, 3))
        y = b.map(other, [ir.Add(x)])["f32"]
        part = b.slice(x, (4, 0, 0), (4, 3, 3)) if late else part
        check(b, part, y, b.conv(part, 8)["f32"])
    b = Builder()
    x, other = b.input((8, 3, 3)), b.input((8, 3, 3))
    y = b.map(other, [ir.Add(x)])["f32"]
    check(b, y, b.slice(x, (4, 0, 0), (4, 3, 3)))


def test_a_sum_is_not_stored_beside_its_operand_where_another_number_of_it_lies():
    b = Builder()
    x, other = b.conv(b.input((16, 3, 3)), 16)["f32"], b.input((8, 1, 1))
    y = b.map(other, [ir.Add(b.slice(x, (4, 0, 0), (8, 1, 1)))])["f32"]
    check(b, b.concat([b.slice(x, (0, 0, 0), (8, 1, 1)), y]))


def test_a_step_does_not_overwrite_its_own_source():
    b = Builder()
    x = b.input((8, 3, 3))
    y = b.conv(x, 8, (1, 1), epilogue=[ir.Add(x)])["f32"]
    z = b.map(y, [ir.Add(y)])["f32"]
    check(b, z)


def test_a_flattened_image_can_be_multiplied():
    b = Builder()
    x = b.conv(b.input((8, 3, 4)), 8, (1, 1), stores=("f32", "bit", "u8"))
    values = []
    for dtype, source in x.items():
        flat = b.reshape(source, (96, 1, 1))
        values.append(b.conv(flat, 10, (1, 1), pad_value=1.0 if dtype == "bit" else 0.0)["f32"])
    check(b, *values)
