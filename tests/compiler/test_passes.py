"""Each pass alone: what it makes of a small graph, and that the graph still gives the same numbers."""

import ir_oracle
import numpy as np
import pytest
from program_graphs import WITH_OPERAND

from bmx.compiler import ir
from bmx.compiler.builder import Builder
from bmx.compiler.passes import (
    binary,
    dense,
    edit,
    explain,
    fuse,
    groups,
    linear,
    lowbit,
    optimize,
    padding,
    pooling,
    shapes,
    signs,
    thresholds,
)

rng = np.random.RandomState(7)


def numbers(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def signs_of(*shape):
    return rng.choice([-1, 1], shape).astype(np.int8)


def norm(channels, scale=None):
    scale = rng.choice([-1.5, -0.3, 0.8], channels) if scale is None else np.full(channels, scale)
    return ir.Norm(numbers(channels), scale.astype(np.float32), numbers(channels))


class Sketch(Builder):
    """A builder of small graphs: `x` is an image of 6 channels."""

    def __init__(self, shape=(6, 8, 8)):
        super().__init__("sketch")
        self.x = self.input("data", shape)

    def float_conv(self, source, filters=6, size=3, pad=1, weight=None):
        weight = numbers(filters, source.shape[0], size, size) if weight is None else weight
        shape = (len(weight), *(n + 2 * pad - size + 1 for n in source.shape[1:]))
        return self.conv("conv", source, weight, shape, pad=(pad,) * 4)

    def binary_conv(self, source, filters=6, pad_value=1.0, step=1.0, pad=1):
        weight = signs_of(filters, source.shape[0], 3, 3)
        count = float(weight[0].size)
        options = {"pad": (pad,) * 4, "pad_value": pad_value, "all": count, "step": step}
        shape = (filters, *(n + 2 * pad - 2 for n in source.shape[1:]))
        return self.conv("binary", self.bits(source), weight, shape, **options)

    def max_pool(self, source, size=2):
        shape = (source.shape[0], *(n // size for n in source.shape[1:]))
        return self.pool("pool", source, "max", ((size, size), (size, size), (0, 0)), shape)

    def concat(self, *sources):
        shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
        return self.add(ir.Concat("concat", sources=list(sources)), shape)

    def giving(self, **outputs):
        self.graph.outputs = outputs
        return self.graph


def check(graph, run, tolerance=0.0):
    """Run a pass and assert that the outputs stay; returns the kinds of the nodes after it."""
    data = {node.name: numbers(2, *node.shape) for node in graph.inputs()}
    data = {name: np.where(rng.uniform(size=x.shape) < 0.2, np.round(x), x) for name, x in data.items()}
    before = ir_oracle.run(graph, data)
    run(graph)
    after = ir_oracle.run(graph, data)
    for name, wanted in before.items():
        np.testing.assert_allclose(after[name], wanted, rtol=tolerance, atol=tolerance)
    return [type(node).__name__ for node in graph.nodes]


def node_of(graph, kind):
    (found,) = (node for node in graph.nodes if isinstance(node, kind))
    return found


# edit


def test_dead_code_is_removed_but_inputs_stay():
    s = Sketch()
    s.function("unused", s.float_conv(s.x), "tanh")
    other = s.input("other", (3,))
    assert check(s.giving(y=s.function("y", s.x, "abs")), edit.remove_dead) == ["Input", "Input", "Map"]
    assert other in s.graph.nodes[1].gives()


def test_stores_that_nothing_reads_are_removed():
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.function("f", s.x, "abs")))
    graph.nodes[1].stores.append(ir.Bytes(ir.Value("bytes", s.x.shape, "u8", 0.1)))
    check(graph, edit.remove_dead)
    assert [type(store) for store in graph.nodes[1].stores] == [ir.Floats]


def test_sorting_puts_inputs_first_and_keeps_the_order_otherwise():
    s = Sketch()
    a, b = s.function("a", s.x, "tanh"), s.function("b", s.x, "abs")
    s.map("c", a, ir.Add(b))
    s.graph.nodes = [s.graph.nodes[i] for i in (3, 2, 1, 0)]
    edit.sort(s.graph)
    assert [node.name for node in s.graph.nodes] == ["data", "a", "b", "c"]


def test_values_have_the_names_of_their_nodes():
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.function("block_fwd", s.x, "tanh")))
    optimize(graph)
    assert [value.name for node in graph.nodes for value in node.gives()] == ["data_bits", "binary"]


# shapes


def test_reshapes_of_reshapes_are_one():
    s = Sketch()
    y = s.reshape("a", s.x, (2, 3, 8, 8))
    y = s.reshape("b", y, (3, 2, 8, 8), (2, 3, 8, 8), (1, 0, 2, 3))
    graph = s.giving(y=s.reshape("c", y, (6, 8, 8)))
    assert check(graph, shapes.merge_reshapes) == ["Input", "Reshape"]
    node = node_of(graph, ir.Reshape)
    assert (node.split, node.axes) == ((2, 3, 8, 8), (1, 0, 2, 3))


def test_two_permutations_stay_two_reshapes():
    s = Sketch()
    y = s.reshape("a", s.x, (8, 8, 6), (6, 8, 8), (1, 2, 0))
    assert len(check(s.giving(y=s.reshape("b", y, (8, 6, 8), (8, 8, 6), (0, 2, 1))), shapes.merge_reshapes)) == 3


def test_a_reshape_there_and_back_is_nothing():
    s = Sketch()
    y = s.reshape("back", s.reshape("flat", s.x, (384,)), (6, 8, 8))
    assert check(s.giving(y=s.function("f", y, "tanh")), shapes.merge_reshapes) == ["Input", "Map"]


@pytest.mark.parametrize("shape, moves", [((6, 1, 1), True), ((6, 2, 2), False)])
def test_operations_come_before_a_reshape_of_the_same_channels(shape, moves):
    s = Sketch(shape)
    flat = s.reshape("flat", s.x, (int(np.prod(shape)),))
    graph = s.giving(y=s.map("norm", flat, norm(flat.shape[0])))
    kinds = check(graph, shapes.delay_reshapes)
    assert kinds == (["Input", "Map", "Reshape"] if moves else ["Input", "Reshape", "Map"])


def test_operations_that_are_the_same_for_all_come_before_any_reshape():
    s = Sketch()
    moved = s.reshape("t", s.x, (8, 8, 6), (6, 8, 8), (1, 2, 0))
    y = s.map("relu", s.affine("double", moved, 2.0), ir.Clip(0.0, 3.0))
    assert check(s.giving(y=y), shapes.delay_reshapes) == ["Input", "Map", "Map", "Reshape"]


def test_operations_that_differ_between_channels_stay_behind_a_channel_shuffle():
    s = Sketch()
    shuffled = s.reshape("shuffle", s.x, (6, 8, 8), (2, 3, 8, 8), (1, 0, 2, 3))
    graph = s.giving(y=s.map("norm", shuffled, norm(6), ir.Function("tanh")))
    assert check(graph, shapes.delay_reshapes) == ["Input", "Reshape", "Map"]


@pytest.mark.parametrize("begin, size, found", [(0, 6, True), (6, 6, True), (6, 5, False), (3, 6, False)])
def test_a_slice_of_a_concat_that_is_one_piece_is_that_piece(begin, size, found):
    s = Sketch()
    both = s.concat(s.function("a", s.x, "tanh"), s.function("b", s.x, "abs"))
    graph = s.giving(y=s.function("y", s.slice("part", both, (begin, 0, 0), (size, 8, 8)), "square"))
    assert ("Slice" in check(graph, shapes.shorten_slices)) != found


# binary


def test_a_float_convolution_of_signs_with_two_weights_a_filter_becomes_binary():
    s = Sketch()
    padded = s.pad("pad", s.function("sign", s.x, "sign1"), (1, 1, 1, 1), -1.0)
    weight = signs_of(6, 6, 3, 3) * np.abs(numbers(6, 1, 1, 1))
    graph = s.giving(y=s.float_conv(padded, weight=weight, pad=0))
    assert check(graph, binary.binarize, 1e-5) == ["Input", "Map", "Pad", "Conv"]
    layer = node_of(graph, ir.Conv)
    assert layer.source.dtype == "bit" and layer.weight.dtype == np.int8 and (layer.all, layer.step) == (54, 2)
    assert check(graph, padding.pad_convolutions) == ["Input", "Map", "Conv"]
    assert layer.pad == (1, 1, 1, 1) and layer.pad_value == -1


def test_signs_reach_a_convolution_through_pooling_concat_and_reshape():
    s = Sketch((64, 4, 4))
    sign = s.function("sign", s.x, "sign1")
    both = s.concat(s.max_pool(sign), s.max_pool(s.function("sign2", s.affine("n", s.x, -1.0, 0.5), "sign1")))
    flat = s.reshape("flat", both, (512,))
    graph = s.giving(y=s.conv("dense", flat, signs_of(5, 512, 1, 1).astype(np.float32), (5,)))
    assert check(graph, binary.binarize).count("Pool") == 2
    assert node_of(graph, ir.Conv).source.dtype == "bit"


@pytest.mark.parametrize("case", ["other weights", "float input"])
def test_what_is_not_binary_stays_float_with_a_note(case):
    s = Sketch()
    source = s.x if case == "float input" else s.function("sign", s.x, "sign1")
    weight = numbers(6, 6, 3, 3) if case == "other weights" else signs_of(6, 6, 3, 3).astype(np.float32)
    graph = s.giving(y=s.float_conv(source, weight=weight, pad=0))
    check(graph, optimize, 1e-5)
    layer = node_of(graph, ir.Conv)
    expected = {
        "other weights": "weights are not -a and +a",
        "float input": "binary weights with float inputs",
    }
    assert layer.source.dtype == "f32" and expected[case] in "; ".join(layer.notes)


def test_a_filter_of_zeros_is_binary_times_zero():
    s = Sketch()
    weight = signs_of(6, 6, 3, 3).astype(np.float32)
    weight[2] = 0
    graph = s.giving(y=s.float_conv(s.function("sign", s.x, "sign1"), weight=weight, pad=0))
    check(graph, optimize)
    assert node_of(graph, ir.Conv).source.dtype == "bit"


# groups


@pytest.mark.parametrize("channels, filters, binary", [(128, 16, True), (128, 12, False), (96, 16, False)])
def test_binary_groups_of_other_sizes_than_the_engines_become_float(channels, filters, binary):
    s = Sketch((channels, 5, 5))
    weight = signs_of(filters, channels // 2, 3, 3)
    options = {"pad": (1, 1, 1, 1), "pad_value": -1.0, "all": 9.0 * channels / 2, "step": 1.0, "groups": 2}
    graph = s.giving(y=s.conv("binary", s.bits(s.x), weight, (filters, 5, 5), **options))
    check(graph, groups.split_groups)
    layer = node_of(graph, ir.Conv)
    assert (layer.source.dtype == "bit") == binary
    assert bool(layer.notes) != binary


# signs


def test_a_sign_becomes_a_store_of_the_node_before_with_the_operations_as_threshold():
    s = Sketch()
    x = s.float_conv(s.x)
    y = s.binary_conv(s.map("norm", x, norm(6)))
    graph = s.giving(y=y, x=x)
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Conv", "Conv"]
    bits = graph.nodes[1].store(ir.Bits)
    assert bits.flip.any() and not bits.flip.all() and graph.nodes[1].store(ir.Floats) is not None


def test_a_second_sign_with_another_threshold_is_a_map():
    s = Sketch()
    a = s.binary_conv(s.affine("a", s.x, bias=0.5))
    b = s.binary_conv(s.affine("b", s.x, bias=-0.5))
    graph = s.giving(a=a, b=b)
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Conv", "Map", "Conv"]


def test_equal_signs_are_stored_once():
    s = Sketch()
    x = s.function("f", s.x, "tanh")
    a, b = s.binary_conv(s.function("a", x, "sign1")), s.binary_conv(s.function("b", x, "sign1"))
    graph = s.giving(a=a, b=b)
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Conv", "Conv"]
    assert len(graph.nodes[0].stores) == 1


def test_the_signs_of_a_number_and_of_its_negative_are_two():
    s = Sketch()
    x = s.function("f", s.x, "tanh")
    graph = s.giving(a=s.binary_conv(x), b=s.binary_conv(s.affine("negative", x, -1.0)))
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Map", "Conv", "Map", "Conv"]
    first, second = (node.source for node in graph.nodes if isinstance(node, ir.Conv))
    assert first is not second


def test_ties_of_a_falling_norm_behind_a_maximum_are_kept():
    s = Sketch()
    pooled = s.max_pool(s.map("relu", s.x, ir.Clip(0.0, np.inf)))
    falling = ir.Norm(np.zeros(6, np.float32), np.float32([-1, -1, -1, 1, 1, 1]), np.zeros(6, np.float32))
    graph = s.giving(y=s.binary_conv(s.map("norm", pooled, falling)))
    fuse.merge_maps(graph)
    check(graph, signs.move_signs)  # -0 >= 0: the maximum of a window without a positive number is a tie
    assert node_of(graph, ir.Pool).source.dtype == "bit"


def test_the_sign_of_a_maximum_is_a_pooling_of_bits_flipped_where_the_chain_falls():
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.map("norm", s.max_pool(s.float_conv(s.x)), norm(6))))
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Conv", "Pool", "Conv"]
    pool = node_of(graph, ir.Pool)
    assert pool.source.dtype == "bit" and pool.flip.any() and not pool.flip.all()


def test_the_maximum_stays_float_where_floats_are_needed_too():
    s = Sketch()
    pooled = s.max_pool(s.float_conv(s.x))
    graph = s.giving(y=s.binary_conv(pooled), pooled=pooled)
    assert check(graph, signs.move_signs) == ["Input", "Conv", "Pool", "Conv"]
    assert {value.dtype for value in node_of(graph, ir.Pool).gives()} == {"f32", "bit"}


def test_windows_without_a_pixel_are_not_pooled_as_bits():
    s = Sketch((4, 3, 3))
    pooled = s.pool("pool", s.x, "max", ((1, 1), (2, 2), (0, 0)), (4, 3, 3))  # the last one begins at pixel 4
    graph = s.giving(y=s.binary_conv(pooled))
    check(graph, signs.move_signs)
    assert node_of(graph, ir.Pool).source.dtype == "f32"


@pytest.mark.parametrize("value, moves", [(-1.0, True), (3.0, True), (0.1, False)])
def test_a_sign_goes_through_a_border_whose_bits_are_all_the_same(value, moves):
    s = Sketch()
    chain = ir.Affine(np.float32([1, 2, 1, 2, 1, 3]), np.float32([0, -0.3, 0.1, 0, 0, 0]))
    graph = s.giving(y=s.binary_conv(s.map("line", s.pad("pad", s.x, (1, 0, 2, 1), value), chain), pad=0))
    kinds = check(graph, signs.move_signs)
    assert kinds == (["Input", "Pad", "Conv"] if moves else ["Input", "Pad", "Map", "Conv"])


def test_a_sign_goes_through_a_flattening_if_the_channels_keep_one_threshold():
    s = Sketch()
    flat = s.reshape("flat", s.map("norm", s.x, norm(6)), (384,))
    graph = s.giving(y=s.conv("dense", s.bits(flat), signs_of(5, 384, 1, 1), (5,), all=384.0, step=1.0))
    assert check(graph, signs.move_signs) == ["Input", "Reshape", "Conv"]
    s = Sketch()
    flat = s.map("norm", s.reshape("flat", s.x, (384,)), norm(384))
    graph = s.giving(y=s.conv("dense", s.bits(flat), signs_of(5, 384, 1, 1), (5,), all=384.0, step=1.0))
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Reshape", "Map", "Conv"]


def test_a_sign_stays_behind_a_channel_shuffle():
    s = Sketch()
    shuffled = s.reshape("shuffle", s.x, (6, 8, 8), (2, 3, 8, 8), (1, 0, 2, 3))
    graph = s.giving(y=s.binary_conv(s.map("norm", shuffled, norm(6))))
    fuse.merge_maps(graph)
    assert check(graph, signs.move_signs) == ["Input", "Reshape", "Map", "Conv"]


@pytest.mark.parametrize(
    "channels, moves", [((64, 128, 6), True), ((64, 6, 64), False), ((6, 64, 64), False), ((64, 32), True)]
)
def test_a_sign_goes_through_a_concat_whose_pieces_begin_at_whole_words(channels, moves):
    s = Sketch((8, 4, 4))
    pieces = [s.float_conv(s.x, count) for count in channels]
    graph = s.giving(y=s.binary_conv(s.map("norm", s.concat(*pieces), norm(sum(channels)))))
    fuse.merge_maps(graph)
    check(graph, signs.move_signs)
    assert {piece.dtype for piece in node_of(graph, ir.Concat).sources} == {"bit" if moves else "f32"}


def test_a_sign_stays_behind_a_concat_that_others_read():
    s = Sketch((64, 4, 4))
    both = s.concat(s.float_conv(s.x, 64), s.float_conv(s.x, 64))
    graph = s.giving(y=s.binary_conv(both), both=both)
    fuse.merge_maps(graph)
    check(graph, signs.move_signs)
    assert {piece.dtype for piece in node_of(graph, ir.Concat).sources} == {"f32"}


# padding


def test_borders_become_padding():
    s = Sketch()
    graph = s.giving(y=s.float_conv(s.pad("pad", s.x, (1, 2, 0, 3), 0.0), pad=1))
    assert check(graph, padding.pad_convolutions) == ["Input", "Conv"]
    assert node_of(graph, ir.Conv).pad == (2, 3, 1, 4)


@pytest.mark.parametrize("value, pad", [(1.5, 0), (1.5, 1)])
def test_borders_of_other_numbers_stay(value, pad):
    s = Sketch()
    graph = s.giving(y=s.float_conv(s.pad("pad", s.x, (1, 1, 1, 1), value), pad=pad))
    assert check(graph, padding.pad_convolutions) == ["Input", "Pad", "Conv"]


def test_bits_are_padded_with_one_number():
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.pad("pad", s.x, (1, 1, 1, 1), -1.0), pad_value=1.0))
    assert check(graph, optimize) == ["Input", "Pad", "Conv"]
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.pad("pad", s.x, (1, 1, 1, 1), -1.0), pad_value=-1.0))
    assert check(graph, optimize) == ["Input", "Conv"]


# dense


def test_a_dense_layer_of_a_flattened_image_is_a_convolution_of_the_image():
    s = Sketch()
    graph = s.giving(y=s.conv("dense", s.reshape("flat", s.x, (384,)), numbers(5, 384, 1, 1), (5,)))
    assert check(graph, dense.unflatten_dense, 1e-5) == ["Input", "Conv"]
    assert node_of(graph, ir.Conv).weight.shape == (5, 6, 8, 8)


# fuse


def test_maps_are_appended_to_the_node_before():
    s = Sketch()
    y = s.map("relu", s.map("norm", s.float_conv(s.x), norm(6)), ir.Clip(0.0, np.inf))
    graph = s.giving(y=y)
    assert check(graph, fuse.fuse_maps) == ["Input", "Conv"]
    assert [type(operation) for operation in node_of(graph, ir.Conv).epilogue] == [ir.Norm, ir.Clip]


def test_what_others_read_is_not_changed():
    s = Sketch()
    x = s.float_conv(s.x)
    assert check(s.giving(x=x, y=s.function("y", x, "tanh")), fuse.fuse_maps) == ["Input", "Conv", "Map"]


@pytest.mark.parametrize("kind", WITH_OPERAND)
@pytest.mark.parametrize("order", [1, -1])
def test_a_sum_is_part_of_a_layer_whichever_summand_it_is(order, kind):
    s = Sketch()
    shortcut = s.function("shortcut", s.x, "tanh")
    body = s.map("norm", s.float_conv(shortcut), norm(6))
    a, b = (body, shortcut)[::order]
    assert check(s.giving(y=s.map("sum", a, kind(b))), fuse.fuse_maps) == ["Input", "Conv"]
    assert isinstance(s.graph.nodes[-1].epilogue[-1], kind)


def test_a_layer_waits_for_what_is_added_to_it():
    s = Sketch()
    early = s.float_conv(s.x)
    late = s.function("late", s.max_pool(s.function("t", s.x, "tanh"), 1), "abs")
    graph = s.giving(y=s.map("sum", early, ir.Add(late)))
    assert check(graph, fuse.fuse_maps) == ["Input", "Map", "Pool", "Conv"]


RISING = {
    "norm": lambda: [norm(6, 0.4)],
    "affine and ReLU": lambda: [ir.Affine(np.full(6, 1.5, np.float32), numbers(6)), ir.Clip(0.0, np.inf)],
    "prelu": lambda: [ir.PRelu(np.full(6, 0.25, np.float32))],
}
NOT_RISING = {
    "a channel falls": lambda: [norm(6)],
    "a channel is constant": lambda: [norm(6, 0.0)],
    "a negative slope": lambda: [ir.PRelu(np.full(6, -0.25, np.float32))],
    "a function": lambda: [ir.Function("square")],
}


def pooled(operations):
    g = Sketch()
    value = g.map("map", g.x, *operations)
    return g, value, g.max_pool(value)


@pytest.mark.parametrize("operations", RISING.values(), ids=RISING)
def test_the_maximum_is_taken_before_operations_that_rise(operations):
    g, _, pool = pooled(operations())
    graph = g.giving(out=g.map("after", pool, ir.Clip(-1.0, 1.0)), other=g.map("other", g.x, ir.Clip(0.0, 9.0)))
    assert check(graph, pooling.pool_before_operations) == ["Input", "Pool", "Map", "Map"]
    assert len(node_of(graph, ir.Pool).epilogue) == len(operations())


@pytest.mark.parametrize("operations", NOT_RISING.values(), ids=NOT_RISING)
def test_the_maximum_stays_behind_operations_that_do_not_rise(operations):
    g, _, pool = pooled(operations())
    assert check(g.giving(out=pool), pooling.pool_before_operations) == ["Input", "Map", "Pool"]


def test_the_maximum_stays_behind_what_others_read():
    g, value, pool = pooled([norm(6, 0.4)])
    assert check(g.giving(out=pool, own=value), pooling.pool_before_operations) == ["Input", "Map", "Pool"]


def test_infinities_and_nan_pass_a_pooling_before_operations_as_behind_them():
    g, _, pool = pooled([norm(6, 0.4), ir.Clip(-3.0, 2.0)])
    graph = g.giving(out=pool)
    data = {"data": rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.5], (4, 6, 8, 8)).astype(np.float32)}
    wanted = ir_oracle.run(graph, data)["out"]
    pooling.pool_before_operations(graph)
    np.testing.assert_array_equal(ir_oracle.run(graph, data)["out"], wanted)


def test_inputs_keep_their_order_and_are_not_added_to():
    s = Sketch()
    other = s.input("other", (6, 8, 8))
    y = s.map("sum", s.function("t", s.x, "tanh"), ir.Add(s.function("o", other, "abs")))
    graph = s.giving(y=y)
    check(graph, fuse.fuse_maps)
    assert [node.name for node in graph.inputs()] == ["data", "other"]


def test_stores_of_several_kinds_move_together():
    s = Sketch()
    total = s.map("sum", s.float_conv(s.x), ir.Add(s.x))
    graph = s.giving(y=s.binary_conv(total), total=total)
    assert check(graph, optimize) == ["Input", "Conv", "Conv"]
    assert {value.dtype for value in graph.nodes[1].gives()} == {"f32", "bit"}


# thresholds and counts


def test_bits_of_a_binary_convolution_are_thresholds_of_counts():
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.map("norm", s.binary_conv(s.x, 6), norm(6)), 4))
    check(graph, optimize)
    layer = graph.nodes[1]
    assert [type(store) for store in layer.stores] == [ir.CountBits] and not layer.epilogue
    assert layer.stores[0].flip.any()


def test_bits_that_are_no_threshold_are_made_of_floats_with_a_note():
    s = Sketch()
    chain = [ir.Function("abs"), ir.Affine(np.ones(6, np.float32), np.full(6, -3, np.float32))]
    graph = s.giving(y=s.binary_conv(s.map("chain", s.binary_conv(s.x, 6, step=2.0), *chain), 4))
    check(graph, optimize)
    assert isinstance(graph.nodes[1].stores[0], ir.Bits) and graph.nodes[1].notes


def test_operations_before_bits_fold_where_nothing_else_is_stored():
    s = Sketch()
    graph = s.giving(y=s.binary_conv(s.map("norm", s.float_conv(s.x), norm(6))))
    for run in (signs.move_signs, fuse.fuse_maps, thresholds.fold_into_thresholds):
        check(graph, run)
    assert not graph.nodes[1].epilogue


# linear


def test_a_run_of_linear_operations_is_one():
    s = Sketch()
    y = s.map("norm", s.affine("bias", s.float_conv(s.x), bias=numbers(6)), norm(6))
    graph = s.giving(y=s.map("relu", s.affine("twice", y, 2.0), ir.Clip(0.0, np.inf)))
    fuse.fuse_maps(graph)
    check(graph, linear.merge_linear, 1e-5)
    assert [type(operation) for operation in graph.nodes[1].epilogue] == [ir.Affine, ir.Clip]


def test_a_batch_norm_after_a_binary_convolution_keeps_its_roundings():
    s = Sketch()
    graph = s.giving(y=s.map("norm", s.binary_conv(s.x), norm(6)))
    check(graph, optimize, 0)
    assert [type(operation) for operation in graph.nodes[-1].epilogue] == [ir.Norm]


def test_linear_operations_with_infinite_numbers_are_not_merged():
    s = Sketch()
    huge = np.full(6, 3e38, np.float32)
    graph = s.giving(y=s.map("two", s.x, ir.Affine(huge, 0 * huge), ir.Affine(huge, 0 * huge)))
    check(graph, linear.merge_linear)
    assert len(graph.nodes[1].epilogue) == 2


@pytest.mark.parametrize(
    "scale, bias, absorbed", [(0.5, 27.0, True), (2.0, -3.5, True), (0.3, 0.0, False), (0.0, 1.0, False)]
)
def test_counts_absorb_what_stays_exact(scale, bias, absorbed):
    s = Sketch()
    graph = s.giving(y=s.affine("line", s.binary_conv(s.x, step=2.0), scale, bias))
    fuse.fuse_maps(graph)
    check(graph, linear.absorb_into_counts)
    layer = graph.nodes[-1]
    assert (not layer.epilogue) == absorbed
    assert not absorbed or (layer.all, layer.step) == (54 * scale + bias, 2 * scale)


@pytest.mark.parametrize("line", [{"scale": np.float32([1, 1, 2, 1, 1, 1])}, {"bias": np.float32([0, 0, 0, 0, 0, 2])}])
def test_counts_do_not_absorb_what_differs_between_channels(line):
    s = Sketch()
    graph = s.giving(y=s.affine("line", s.binary_conv(s.x), **line))
    fuse.fuse_maps(graph)
    check(graph, linear.absorb_into_counts)
    assert graph.nodes[-1].epilogue


# lowbit


def quantizer(channels, steps, high=1.0):
    steps = np.full(channels, steps, np.float32)
    return [ir.Clip(0.0, high), ir.Affine(steps, 0 * steps), ir.Function("round"), ir.Affine(1 / steps, 0 * steps)]


@pytest.mark.parametrize("steps, levels", [(3, 3), (1, 1), (15, 127), (255, 7)])
def test_layers_of_few_bits_multiply_integers(steps, levels):
    s = Sketch()
    weight = (rng.randint(-levels, levels + 1, (6, 6, 3, 3)) / levels).astype(np.float32)
    graph = s.giving(y=s.float_conv(s.map("few", s.x, *quantizer(6, steps)), weight=weight))
    fuse.fuse_maps(graph)
    check(graph, lowbit.multiply_integers, 1e-5)
    layer = node_of(graph, ir.Conv)
    assert layer.source.dtype == "u8" and layer.weight.dtype == np.int8 and layer.notes == ["few bits: exact in int8"]
    assert layer.source.scale == pytest.approx(1 / steps) and layer.source.zero_point == 0


def test_signs_padded_with_zero_are_bytes_too():
    s = Sketch()
    weight = signs_of(6, 6, 3, 3).astype(np.float32)
    graph = s.giving(y=s.float_conv(s.function("sign", s.x, "sign1"), weight=weight, pad=1))
    check(graph, optimize)
    layer = node_of(graph, ir.Conv)
    assert layer.source.dtype == "u8" and layer.signs
    assert layer.notes == [
        "its input is signs, but it is padded with 0, which is neither -1 nor +1",
        "few bits: exact in int8",
    ]


@pytest.mark.parametrize("border", [0.0, 0.5, 2.0])
def test_signs_in_a_border_of_other_numbers_are_no_bits(border):
    s = Sketch()
    padded = s.pad("pad", s.function("sign", s.x, "sign1"), (1, 1, 1, 1), border)
    graph = s.giving(y=s.float_conv(padded, weight=signs_of(6, 6, 3, 3).astype(np.float32), pad=0))
    check(graph, optimize, 1e-5)
    assert all(node.source.dtype != "bit" for node in graph.nodes if isinstance(node, ir.Conv))


@pytest.mark.parametrize("low, steps, second", [(-1.0, 3, 1 / 3), (0.0, -3, 1 / 3), (0.0, 3, -1 / 3)])
def test_negative_levels_are_multiplied_as_they_are(low, steps, second):
    s = Sketch()
    chain = quantizer(6, steps)
    chain[0], chain[3].scale[:] = ir.Clip(low, 1.0), second
    weight = signs_of(6, 6, 3, 3).astype(np.float32)
    graph = s.giving(y=s.float_conv(s.map("few", s.x, *chain), weight=weight))
    fuse.fuse_maps(graph)
    check(graph, lowbit.multiply_integers, 1e-5)


# explain


def test_float_layers_say_why():
    s = Sketch()
    first, second = (s.float_conv(s.x, weight=w) for w in (None, signs_of(6, 6, 3, 3).astype(np.float32)))
    graph = s.giving(a=first, b=second)
    binary.binarize_weights(graph)
    explain.explain_floats(graph)
    notes = [node.notes[0] for node in graph.nodes if isinstance(node, ir.Conv)]
    assert notes == ["float in the network", "binary weights with float inputs"]


# binary weights


@pytest.mark.parametrize("magnitude", [[1, 1, 1, 1, 1, 1], [0.3, 2, 1e-3, 0, 1, 7]])
def test_weights_of_one_magnitude_become_signs_and_a_factor(magnitude):
    s = Sketch()
    weight = signs_of(6, 6, 3, 3) * np.float32(magnitude).reshape(6, 1, 1, 1)
    graph = s.giving(y=s.float_conv(s.x, weight=weight))
    check(graph, binary.binarize_weights, 1e-5)
    layer = node_of(graph, ir.Conv)
    assert layer.signs and layer.weight.dtype == np.int8 and layer.source.dtype == "f32"
    assert [type(operation) for operation in layer.epilogue] == ([] if set(magnitude) == {1} else [ir.Affine])


@pytest.mark.parametrize(
    "shape, groups", [((6, 6, 3, 3), None), ((8, 1, 3, 3), 8), ((8, 6, 2, 2), 2), ((8, 7, 1, 1), 1)]
)
def test_other_weights_stay_floats(shape, groups):
    s = Sketch((shape[1] * (groups or 1), 8, 8))
    weight = numbers(*shape) if groups is None else signs_of(*shape).astype(np.float32)
    size = (shape[0], 9 - shape[2], 9 - shape[3])
    graph = s.giving(y=s.conv("conv", s.x, weight, size, groups=groups or 1))
    check(graph, binary.binarize_weights)
    assert node_of(graph, ir.Conv).weight.dtype == np.float32 and not node_of(graph, ir.Conv).signs
