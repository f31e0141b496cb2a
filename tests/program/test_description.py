"""What `bmx inspect` says about a program."""

from program_damage import everything
from program_graphs import Builder

from bmx import program as programs
from bmx.compiler import ir
from bmx.compiler.lower import lower


def network():
    b = Builder()
    x = b.conv(b.input((3, 8, 8)), 64, (3, 3), (2, 2), pad=(1, 1, 1, 1), stores=("f32", "bit"))
    epilogue = [ir.Add(x["f32"]), ir.Clip(0.0, float("inf"))]
    y = b.conv(x["bit"], 64, pad=(1, 1, 1, 1), pad_value=1.0, epilogue=epilogue, stores=("f32", "bit"))
    z = b.conv(y["bit"], 64, stores=("count",))["count"]
    z = b.pool(z, kernel=(2, 2), stride=(1, 1))["bit"]
    return lower(b.graph([y["f32"], b.conv(z, 10, (1, 1), epilogue=[])["f32"]], "small"))


def test_rows_say_what_a_step_is_reads_writes_and_costs():
    described = programs.describe(network())
    rows = {row.what.split(" |")[0]: row for row in described}
    binary = [row for row in described if row.what.startswith("binary conv 3x3 64->64")]
    assert [row.kind for row in binary] == ["CONV", "CONV"]
    assert [row.macs for row in binary] == [4 * 4 * 64 * 64 * 9, 2 * 2 * 64 * 64 * 9]
    first, second = binary
    assert first.what == "binary conv 3x3 64->64 | add | relu"
    assert second.weights == 64 * 9 * 8 + 64 * 4 + 64  # counts and their flips
    assert first.inputs == ["4x4x64 bit", "4x4x64 f32"] and first.outputs == ["4x4x64 f32", "4x4x64 bit"]
    assert first.weights == 64 * 9 * 8 + 2 * 64 * 4 and first.memory == 4 * 4 * (64 * 4 + 8)
    assert rows["float conv 3x3/2 3->64"].weights == 4 * 64 * 27 + 4 * 64 * 4
    assert rows["max pool 2x2 of bits"].kind == "POOL_BITS"
    assert rows["border 1x1x1x1 of 1"].memory == 0
    assert sum(row.kind == "STORE" for row in programs.describe(network())) == 2


def test_binary_weights_are_named_and_a_bit_each():
    b = Builder()
    x = b.input((64, 4, 4), ("f32", "u8"))
    values = [b.conv(source, 32, signs=True, epilogue=[])["f32"] for source in x.values()]
    rows = {row.what: row.weights for row in programs.describe(lower(b.graph(values))) if row.macs}
    assert rows == {"float x binary conv 3x3 64->32": 9 * 64 * 4, "int8 x binary conv 3x3 64->32": 9 * 64 * 4 + 32 * 4}


def test_the_table_has_a_line_for_each_step_and_totals():
    program = network()
    lines = str(program).splitlines()
    assert lines[:2] == ["small", "input data2: 3x8x8"]
    assert len(lines) == 1 + 3 + 1 + len(program.steps) + 1
    assert lines[-1].startswith(f"{len(program.steps)} steps") and lines[-1].endswith(f"{program.arena:,}")
    assert str(programs.decode(programs.encode(program))) == str(program)


def test_the_table_of_a_network_with_every_kind_of_step():
    assert str(lower(everything(20))) == TABLE.strip("\n")


TABLE = """
example
input data3: 6x5x4
output out0: 16
output out1: 20x5x4
step       what                                                       in                   out                    weights    MACs  memory
v1         border 1x1x1x1 of 0                                                             5x4x6 f32
data3      input                                                      5x4x6 f32            5x4x6 f32 5x4x6 u8                       1,128
v5         border 1x0x1x0 of 1                                                             5x4x20 bit
conv6      float conv 3x3 6->20 | affine | round | clip -16 16        5x4x6 f32            5x4x20 f32 5x4x20 bit    7,424  21,600   1,824
out1       output                                                     5x4x20 f32
conv8      binary conv 3x3 20->16                                     5x4x20 bit           5x2x16 bit               1,344  28,800      80
pool10     max pool 2x2/2 of bits                                     5x2x16 bit           2x1x16 bit                   8              16
conv12     binary conv 1x1 16->8 | affine | round | clip -16 16       2x1x16 bit           2x1x8 f32                  320     256      64
conv14     int8 conv 2x2/2 6->8 | affine | round | clip -16 16        5x4x6 u8             2x2x8 f32                  768     768     128
pool16     max pool 1x1/2                                             2x2x8 f32            1x1x8 f32                                   32
map18      map | add | prelu | clip 0 9                               2x1x8 f32 1x1x8 f32  2x1x8 f32                  128              64
map20      map | norm | multiply                                      2x1x8 f32 2x1x8 f32  2x1x8 f32                  384              64
map22      map | tanh | affine                                        2x1x8 f32            2x1x8 f32                  256              64
conv24     float depthwise conv 1x1 8 | affine | round | clip -16 16  2x1x8 f32            2x1x8 f32                  384      16      64
reshape26  copy 2x4x2                                                 2x1x8 f32            2x1x8 f32                                   64
reshape28  copy 8x2                                                   2x1x8 f32            1x1x16 f32                                  64
softmax30  softmax                                                    1x1x16 f32           1x1x16 f32                                  64
out0       output                                                     1x1x16 f32
18 steps                                                                                                           11,016  51,440   3,008
"""  # noqa: E501
