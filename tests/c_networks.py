"""Networks that use every kernel of generated C, and samples for its test program."""

import numpy as np
import program_oracle
from program_graphs import WITH_OPERAND, Builder

from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.export_c import samples_bytes
from bmx.program import FUNCTIONS


def every_kernel():
    """A program of all kinds of convolutions, epilogues, stores and moves; on small integers its numbers are exact."""
    b = Builder(7)
    x = b.input((70, 7, 6), ("f32", "u8", "bit"))
    wide = b.input((128, 5, 5), ("bit",))
    outputs = []

    def keep(values):
        outputs.extend(value for value in values.values() if value.dtype == "f32")
        return values

    def decide(values):
        """Bits, as numbers."""
        bits = next(value for value in values.values() if value.dtype == "bit")
        keep(b.conv(bits, 3, (1, 1)))
        return bits

    pads = (1, 2, 0, 1)
    # 70 channels are 3 words, 33 are 2, 20 are 1; 83 filters are two chunks and a part of a block.
    keep(b.conv(x["bit"], 83, pad=pads, pad_value=1.0))
    keep(b.conv(x["bit"], 5, (2, 3), (2, 1), (2, 1), pads, pad_value=-1.0))
    counts = b.conv(wide, 33, stores=("count",), pad=(1, 1, 1, 1), pad_value=-1.0)
    pooled = b.pool(decide(counts), kernel=(3, 3), stride=(2, 2), pad=(1, 1, 1, 1), flip=b.flags(33))
    counts = b.conv(decide(pooled), 20, (2, 2), pad=(1, 1, 0, 0), pad_value=-1.0, stores=("count",))
    b.nodes[-1].stores[0].flip[:] = False
    keep(b.conv(decide(counts), 9, (2, 2)))
    keep(b.conv(wide, 16, (3, 2), groups=2))
    keep(b.conv(wide, 8, pad=pads, pad_value=1.0))  # whole words of ones around
    keep(b.conv(wide, 48, (1, 1), groups=2, stores=("bit", "f32")))
    keep(b.conv(x["f32"], 17, pad=pads, dilate=(1, 2)))
    keep(b.conv(x["f32"], 16, (2, 2), (2, 2), groups=2, stores=("f32", "bit")))
    keep(b.conv(x["u8"], 17, pad=pads))
    keep(b.conv(x["u8"], 9, pad=pads, pad_value=-30.5))
    keep(b.conv(x["u8"], 11, (3, 1), (1, 2), groups=1, dilate=(2, 1)))
    keep(b.conv(x["u8"], 32, (1, 1), groups=2))
    for source in (x["f32"], x["u8"]):
        keep(b.conv(source, 21, (2, 3), pad=pads, signs=True))
        keep(b.conv(source, 16, (1, 2), dilate=(1, 2), groups=2, signs=True))
    signed = keep(b.map(x["u8"], b.small(70), ("f32", "bit")))
    b.nodes[-1].stores[1].threshold[:], b.nodes[-1].stores[1].flip[:] = 0, False
    decide(signed)
    keep(b.conv(signed["f32"], 70, (2, 2), groups=70))
    keep(b.pool(signed["f32"], "avg", (3, 2), (2, 2), (1, 1, 1, 1), ("f32", "u8")))
    keep(b.pool(signed["f32"], "avg_padded", (2, 2), (2, 2), (1, 1, 1, 1)))
    largest = keep(b.pool(signed["f32"], "max", (2, 2), (2, 2), stores=("f32", "bit")))
    decide(largest)
    row = b.slice(signed["f32"], (0, 0, 0), (70, 1, 1))
    one = b.slice(signed["f32"], (3, 0, 0), (1, 7, 6))
    epilogue = [op for op in b.operations(70, (row, one, signed["f32"])) for op in (op, ir.Clip(-99.0, 99.0))]
    keep(b.map(signed["f32"], [*epilogue, ir.Clip(0.0, float("inf")), *b.small(70)], ("f32",)))
    outputs.append(b.reshape(b.concat([signed["f32"], x["f32"]]), (140, 7, 6), (2, 70, 7, 6), (1, 0, 2, 3)))
    outputs.append(b.pad(row, (1, 0, 2, 1), 3.0))
    return lower(b.graph(outputs, "every kernel"))


def every_function():
    """A program of softmax and all functions; their numbers are exact but for roundings."""
    b = Builder(8)
    x = b.input((11, 2, 3))
    outputs = []
    positive = [ir.Function("abs"), ir.Affine(np.ones(11, np.float32), np.ones(11, np.float32))]
    for name in FUNCTIONS:
        before = positive if name in ("log", "sqrt", "reciprocal") else []
        outputs.append(b.map(x, [*before, ir.Function(name)])["f32"])
    soft = ir.Value("soft", x.shape)
    b.nodes.append(ir.Softmax("softmax", [], [ir.Floats(soft)], source=x))
    return lower(b.graph([*outputs, soft], "every function"))


def special_numbers():
    """A program and samples of NaN, infinities, zeros, ties and numbers at thresholds: (program, [samples])."""
    b = Builder(9)
    x = ir.Value("x", (12, 3, 3))
    bits, bytes_ = ir.Value("bits", x.shape, "bit"), ir.Value("bytes", x.shape, "u8", 0.5, 3)
    threshold = np.array([0, 0, 1, 1, -1, -1, np.inf, np.inf, -np.inf, -np.inf, -0.0, np.nan], np.float32)
    flip = np.array([0, 1] * 6, bool)
    stores = [ir.Floats(x), ir.Bits(bits, threshold, flip), ir.Bytes(bytes_)]
    b.nodes.append(ir.Input("data", [], stores, shape=x.shape))
    slopes = np.array([-1, 0, 0.5] * 4, np.float32)
    outputs = [
        b.conv(bits, 12, (1, 1), epilogue=[])["f32"],
        b.map(bytes_)["f32"],
        b.pool(x, "max", (2, 2), (1, 1))["f32"],
    ]
    for operation in (
        ir.Clip(-1.0, 1.0),
        ir.Clip(0.0, np.inf),
        ir.PRelu(slopes),
        *map(ir.Function, ("round", "sign1")),
    ):
        outputs.append(b.map(x, [operation])["f32"])
    outputs.append(b.map(x, [ir.Function("signum")])["f32"])
    other = b.slice(x, (0, 1, 0), (12, 1, 1))
    outputs += [b.map(x, [b.operation(kind, 12, other)])["f32"] for kind in WITH_OPERAND]
    numbers = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1, -1, 0.25, 0.75, 1.25, -0.5, 0.5, 2.5, 1e30, -1e-40, 7])
    samples = np.random.default_rng(6).choice(numbers.astype(np.float32), (6, *x.shape))
    samples[0], samples[1] = np.nan, -0.0
    return lower(b.graph(outputs, "special numbers")), samples


def oracle(program):
    return lambda inputs: program_oracle.run(program, inputs)


def write_exact_samples(folder, program, inputs=None, count=2):
    """Write exact.bin, samples for test_net computed by the oracle: of small integers, unless inputs are given."""
    random = np.random.default_rng(5)
    if inputs is None:
        inputs = [random.integers(-8, 9, (count, *port.shape)).astype(np.float32) for port in program.inputs]
    outputs = [program_oracle.run(program, [array[i] for array in inputs]) for i in range(len(inputs[0]))]
    (folder / "exact.bin").write_bytes(samples_bytes(inputs, [np.stack(parts) for parts in zip(*outputs)]))
