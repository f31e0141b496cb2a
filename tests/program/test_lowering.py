"""From a graph to a program: it computes what the graph says."""

import ir_oracle
import numpy as np
import program_oracle
import pytest
from hypothesis import HealthCheck, given, settings
from program_graphs import Builder, graphs
from program_lowered import agree, check, moves, steps

from bmx import program as programs
from bmx.compiler import ir
from bmx.compiler.loops import merge
from bmx.compiler.lower import lower
from bmx.errors import Error


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_programs_of_random_graphs_compute_what_the_graph_says(case):
    agree(*case)


# --- kinds of nodes


@pytest.mark.parametrize("dtype", ["f32", "bit", "u8"])
@pytest.mark.parametrize("channels, filters", [(1, 1), (3, 8), (8, 16), (64, 70), (70, 33), (130, 9)])
@pytest.mark.parametrize(
    "kernel, stride, dilate, pad",
    [
        ((1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
        ((3, 2), (2, 3), (1, 1), (1, 0, 0, 1)),
        ((3, 3), (1, 1), (2, 2), (2, 2, 2, 2)),
        ((2, 3), (9, 9), (2, 1), (0, 1, 3, 2)),
    ],
)
def test_convolutions(dtype, channels, filters, kernel, stride, dilate, pad):
    b = Builder(channels)
    x = b.input((channels, 5, 6), (dtype,))
    y = b.conv(x, filters, kernel, stride, dilate, pad, pad_value=1.0 if dtype == "bit" else 0.0, stores=("f32", "bit"))
    program = check(b, *y.values())
    (step,) = steps(program, programs.Conv)[:1]
    assert step.run == (dilate[1] == 1) and step.source.dtype == dtype
    assert moves(program) == 0


@pytest.mark.parametrize("pad_value", [-1.0, 1.0])
def test_binary_convolutions_with_thresholds_of_counts(pad_value):
    b = Builder()
    x = b.input((66, 4, 4), ("bit",))
    program = check(b, b.conv(x, 40, pad=(1, 1, 1, 1), pad_value=pad_value, stores=("count",))["count"])
    fill = steps(program, programs.Fill)[0]
    assert fill.tensor.border_value == (pad_value > 0)


def test_convolutions_of_vectors_and_rows():
    b = Builder()
    x = b.input((20,))
    dense = b.conv(x, 10, (1, 1))["f32"]
    dense.shape = (10,)
    row = b.input((3, 9))
    row_out = ir.Value("row", (8, 7))
    weight = b.numbers(8 * 3 * 3).reshape(8, 3, 1, 3)
    b.nodes.append(ir.Conv("conv1d", [], [ir.Floats(row_out)], source=row, weight=weight))
    graph = b.graph([dense, row_out])
    program = lower(graph)
    images = b.images(graph)
    found = program_oracle.run(program, [images[port.name][0] for port in program.inputs])
    assert [output.shape for output in found] == [(10,), (8, 7)]
    for output in range(7):
        window = images[program.inputs[1].name][0][:, output : output + 3]
        np.testing.assert_array_equal(found[1][:, output], (weight[:, :, 0] * window).sum(axis=(1, 2)))


@pytest.mark.parametrize("dtype", ["f32", "u8"])
@pytest.mark.parametrize(
    "channels, filters, groups, expected",
    [
        (16, 16, 2, 2),  # 8 filters in a group
        (8, 24, 4, 2),  # 6 filters: two groups in one have 12, four 24
        (6, 6, 2, 1),
        (12, 3, 3, 1),
        (16, 32, 16, 4),  # depthwise with a multiplier: 2 filters, four groups in one have 8
    ],
)
def test_groups_are_joined_until_each_has_a_multiple_of_8_filters(dtype, channels, filters, groups, expected):
    b = Builder()
    x = b.input((channels, 4, 4), (dtype,))
    program = check(b, b.conv(x, filters, pad=(1, 1, 1, 1), groups=groups)["f32"])
    step = steps(program, programs.Conv)[0]
    joined = filters // step.groups % 8 == 0 or step.groups == 1
    assert joined and step.groups <= expected and not (step.groups > 1 and step.run)


def test_binary_groups_need_whole_words():
    b = Builder()
    x = b.input((128, 4, 4), ("bit",))
    program = check(b, b.conv(x, 16, groups=2)["f32"])
    assert steps(program, programs.Conv)[0].groups == 2
    b.conv(x, 16, groups=4)
    with pytest.raises(
        Error, match="binary groups .* 64 channels and of 8 filters, not 32 and 4; keep this layer float"
    ):
        lower(b.graph([b.nodes[-1].gives()[0]]))


@pytest.mark.parametrize("dtype, arithmetic", [("f32", "float"), ("u8", "int8")])
@pytest.mark.parametrize("filters, groups, signs", [(16, 1, True), (48, 3, True), (12, 3, False)])
def test_binary_weights_are_signs_unless_groups_are_joined(dtype, arithmetic, filters, groups, signs):
    b = Builder()
    x = b.input((15, 4, 4), (dtype,))
    program = check(b, b.conv(x, filters, pad=(1, 1, 1, 1), groups=groups, signs=True)["f32"])
    (step,) = steps(program, programs.Conv)
    assert step.arithmetic == (f"{arithmetic}_signs" if signs else arithmetic)


@pytest.mark.parametrize("dtype", ["f32", "u8"])
def test_depthwise_convolutions(dtype):
    b = Builder()
    x = b.input((33, 5, 5), (dtype,))
    program = check(b, b.conv(x, 33, (3, 2), (2, 1), pad=(1, 1, 1, 0), groups=33, stores=("f32", "u8"))["f32"])
    assert len(steps(program, programs.Depthwise)) == 1 and not steps(program, programs.Conv)


@pytest.mark.parametrize("mode", ["max", "avg", "avg_padded"])
def test_pooling(mode):
    b = Builder()
    x = b.input((9, 5, 5))
    check(b, b.pool(x, mode, (2, 2), (2, 1), (1, 1, 1, 1), ("f32", "bit"))["bit"], b.pool(x, mode, (4, 4))["f32"])


def test_pooling_of_bits():
    b = Builder()
    x = b.input((70, 5, 5), ("bit",))
    y = b.pool(x, flip=b.flags(70))["bit"]
    program = check(b, y, b.pool(y, kernel=(2, 2), stride=(1, 1))["bit"])
    assert len(steps(program, programs.PoolBits)) == 2


def test_softmax_and_every_function():
    b = Builder()
    x = b.input((17, 2, 1))
    values = []
    for name in programs.FUNCTIONS:
        values.append(b.map(x, [ir.Affine(np.full(17, 0.25, np.float32), b.numbers(17)), ir.Function(name)])["f32"])
    values.append(b.move(ir.Softmax, x.shape, x, source=x))
    graph = b.graph(values)
    images = b.images(graph)
    found = program_oracle.run(lower(graph), [images[port][0] for port in images])
    for output, expected in zip(found, ir_oracle.run(graph, images).values()):
        np.testing.assert_allclose(output, expected[0], rtol=1e-6)


def test_operations_and_stores_of_inputs_and_maps():
    b = Builder()
    x = b.input((7, 3, 2), ("f32", "bit", "u8"))
    y = b.map(x["u8"], [ir.PRelu(b.numbers(7)), ir.Clip(-2.0, 3.0)], ("f32", "bit", "u8"))
    z = b.map(x["bit"], [ir.Norm(b.numbers(7), b.numbers(7), b.numbers(7)), ir.Add(y["f32"]), ir.Multiply(x["f32"])])
    check(b, *x.values(), *y.values(), *z.values())


@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 1, 1), (1, 4, 3), (6, 4, 1), (6, 1, 3), (1, 1, 3), (1, 1, 1)])
def test_operands_of_every_shape_that_repeats(shape):
    b = Builder()
    x, y = b.input((6, 4, 3)), b.input(shape)
    program = check(b, b.map(x, [ir.Add(y), ir.Multiply(y)])["f32"])
    assert bool(steps(program, programs.Copy)) == (shape not in [(6, 4, 3), (6, 1, 1), (1, 4, 3)])


def test_an_epilogue_of_a_node_that_has_none_becomes_a_map():
    b = Builder()
    x = b.input((8, 3, 3))
    stores, values = b.stores((16, 3, 3), ("bit", "f32"))
    b.nodes.append(ir.Concat("concat", b.small(16), stores, sources=[x, x]))
    check(b, *values.values())


# --- inputs and outputs


def test_long_epilogues_go_on_in_maps():
    b = Builder()
    operations = [op for _ in range(35) for op in (ir.Clip(-3.0, 3.0), ir.Affine(b.numbers(5), b.numbers(5)))]
    x = b.input((5, 3, 3))
    y = b.map(x, operations + operations, stores=("f32", "bit"))
    y["conv"] = b.conv(x, 5, (1, 1), epilogue=[ir.Add(b.map(x)["f32"]) for _ in range(65)])["f32"]
    program = check(b, *y.values())
    assert sorted(len(step.epilogue) for step in steps(program, programs.Map)) == [0] * 65 + [1, 12, 64, 64]
    assert max(len(step.epilogue) for step in steps(program, programs.Conv)) == programs.MOST_OPERATIONS == 64


def test_loops_of_copies_are_no_larger_than_allowed():
    loops = [(4096, 4 * 2**13, 4 * 2**13), (2**13, 4, 4)]
    assert merge(loops) == loops and merge([(2048, *loops[0][1:]), loops[1]]) == [(2**24, 4, 4)]


def test_an_input_can_be_an_output_and_one_value_two():
    b = Builder()
    x = b.input((3, 2, 2))
    y = b.map(x, b.small(3), ("bit",))["bit"]
    program = check(b, x, y, y, x)
    assert [step.output for step in steps(program, programs.Store)] == [0, 3, 1, 2]


def test_an_input_that_nothing_reads_stays_an_input():
    b = Builder()
    b.nodes.append(ir.Input("unused", shape=(3,)))
    program = lower(b.graph([b.input((2,))]))
    assert [port.name for port in program.inputs] == ["unused", b.nodes[1].name]
    assert len(steps(program, programs.Load)) == 1


@pytest.mark.parametrize(
    "spoil, text",
    [
        (
            lambda b, x: b.nodes.append(ir.Input("wide", [], [ir.Floats(b.value((1, 2, 3, 4)))], shape=(1, 2, 3, 4))),
            "wide",
        ),
        (lambda b, x: b.map(x)["f32"].__setattr__("shape", (1, 2)), "result is"),
        (lambda b, x: b.map(x, [ir.Add(b.input((3, 2, 2)))]), "is no operand for a result of"),
        (lambda b, x: b.conv(x, 8, pad=(1, 1, 1, 1), pad_value=1.0), "padded with 1.0"),
        (
            lambda b, x: b.nodes.append(ir.Pool("p", [], [ir.Floats(b.value((4, 5, 5), "bit"))], source=x)),
            "only the maximum",
        ),
        (lambda b, x: b.map(x, [ir.Function("cosine")]), "unknown function 'cosine'"),
        (lambda b, x: b.nodes.append(ir.Node("odd", [], [ir.Floats(b.value((1,)))])), "no step for a Node"),
        (
            lambda b, x: b.nodes.append(ir.Map("m", [], [ir.Floats(b.value(x.shape, "bit"))], source=x)),
            "type bit, not f32",
        ),
        (lambda b, x: b.reshape(x, (1, 1, 4, 25, 1)), "at most 4 dimensions"),
    ],
)
def test_what_there_is_no_step_for_is_an_error_that_names_the_node(spoil, text):
    b = Builder()
    x = b.input((4, 5, 5))
    spoil(b, x)
    with pytest.raises(Error) as found:
        lower(b.graph([b.nodes[-1].gives()[0]]))
    assert text in str(found.value) and "\n" not in str(found.value)


def test_the_graph_is_not_changed():
    b = Builder()
    x = b.input((8, 4, 4), ("f32", "bit"))
    y = b.conv(x["f32"], 12, groups=4)["f32"]
    b.map(y, [ir.Add(x["bit"])]) if y.shape == x["bit"].shape else None
    graph = b.graph([y, x["bit"]])
    before = str(graph), [node.weight for node in graph.nodes if isinstance(node, ir.Conv)]
    lower(graph)
    assert (str(graph), [node.weight for node in graph.nodes if isinstance(node, ir.Conv)]) == before
