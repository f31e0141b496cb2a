"""Graphs for tests of the lowering and the engine, whose numbers are small integers: all arithmetic on them is exact.

b = Builder(seed)
x = b.input((8, 5, 5))
y = b.conv(x, 16, pad=1, stores=("f32", "bit"))
graph = b.graph([y["f32"]])
"""

from __future__ import annotations

from itertools import zip_longest

import numpy as np
from hypothesis import strategies as st

from bmx.compiler import ir
from bmx.program.operations import OPERATIONS, fields_of

ROWS = {row.kind: row for row in OPERATIONS}
WITH_OPERAND = [row.kind for row in OPERATIONS if "tensor" in row.fields]


class Builder:
    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes = []
        self.count = 0

    def name(self, kind):
        self.count += 1
        return f"{kind}{self.count}"

    def value(self, shape, dtype="f32", like=None):
        if dtype != "u8":
            return ir.Value(self.name("v"), tuple(shape), dtype)
        scale, zero_point = (like.scale, like.zero_point) if like else (0.5, int(self.random.integers(100, 150)))
        return ir.Value(self.name("v"), tuple(shape), dtype, scale, zero_point)

    def numbers(self, channels, low=-3, high=4):
        return self.random.integers(low, high, channels).astype(np.float32)

    def flags(self, channels):
        return self.random.integers(0, 2, channels).astype(bool)

    def stores(self, shape, dtypes):
        """Stores of one node, by type."""
        values = {dtype: self.value(shape, "bit" if dtype == "count" else dtype) for dtype in dtypes}
        channels = shape[0]
        made = {
            "f32": lambda v: ir.Floats(v),
            "bit": lambda v: ir.Bits(v, self.numbers(channels), self.flags(channels)),
            "u8": lambda v: ir.Bytes(v),
            "count": lambda v: ir.CountBits(v, self.numbers(channels, 0, 40).astype(np.int32), self.flags(channels)),
        }
        return [made[dtype](value) for dtype, value in values.items()], values

    def operation(self, kind, channels, operand=None):
        """An operation of a kind; of functions abs."""
        made = {
            "numbers": lambda name: self.numbers(channels),
            "tensor": lambda name: operand,
            "f32": lambda name: -50.0 if name == "low" else 60.0,
            "function": lambda name: "abs",
        }
        return kind(*(made[field](name) for field, name in fields_of(ROWS[kind].fields)))

    def operations(self, channels, values):
        """All kinds of operations, those with an operand with each of the values."""
        without = [self.operation(kind, channels) for kind in ROWS if kind not in WITH_OPERAND]
        made = [self.operation(kind, channels, value) for kind in WITH_OPERAND for value in values]
        return [operation for pair in zip_longest(made, without) for operation in pair if operation is not None]

    def small(self, channels):
        """An epilogue after which numbers are integers from -16 to 16."""
        scale = (2.0 ** -self.random.integers(0, 4, channels)).astype(np.float32)
        return [ir.Affine(scale, self.numbers(channels)), ir.Function("round"), ir.Clip(-16.0, 16.0)]

    def add(self, node, values):
        self.nodes.append(node)
        return values

    def input(self, shape, dtypes=("f32",)):
        stores, values = self.stores(shape, dtypes)
        self.nodes.append(ir.Input(self.name("data"), [], stores, shape=tuple(shape)))
        return values if len(dtypes) > 1 else values[dtypes[0]]

    def conv(self, source, filters, kernel=(3, 3), stride=(1, 1), dilate=(1, 1), pad=(0, 0, 0, 0), groups=1,
             pad_value=0.0, stores=("f32",), epilogue=None, signs=False):  # fmt: skip
        channels, height, width = (*source.shape, 1, 1)[:3]
        size = [
            (n + a + b - (k - 1) * d - 1) // s + 1
            for n, a, b, k, d, s in zip((height, width), pad[:2], pad[2:], kernel, dilate, stride)
        ]
        shape = (filters, *size)
        made, values = self.stores(shape, stores)
        form = (filters, channels // groups, *kernel)
        counts = "count" in stores
        all_, step = 0.0, 0.0
        if source.dtype == "bit":
            all_, step = float(np.prod(form[1:])), 2.0
        if source.dtype == "bit" or signs:
            weight = np.where(self.random.integers(0, 2, form), 1, -1).astype(np.int8)
        else:
            weight = self.random.integers(-1, 2, form).astype(np.float32 if source.dtype == "f32" else np.int8)
        if epilogue is None:
            epilogue = [] if counts else self.small(filters)
        node = ir.Conv(self.name("conv"), epilogue, made, source=source, weight=weight, stride=stride, dilate=dilate)
        node.pad, node.pad_value, node.groups, node.all, node.step = pad, pad_value, groups, all_, step
        return self.add(node, values)

    def map(self, source, epilogue=(), stores=("f32",)):
        made, values = self.stores(source.shape, stores)
        return self.add(ir.Map(self.name("map"), list(epilogue), made, source=source), values)

    def pool(self, source, mode="max", kernel=(2, 2), stride=(2, 2), pad=(0, 0, 0, 0), stores=("f32",), flip=None):
        size = [(n + a + b - k) // s + 1 for n, a, b, k, s in zip(source.shape[1:], pad[:2], pad[2:], kernel, stride)]
        shape = (source.shape[0], *size)
        attributes = {"source": source, "mode": mode, "kernel": kernel, "stride": stride, "pad": pad, "flip": flip}
        if source.dtype == "bit":
            value = self.value(shape, "bit")
            return self.add(ir.Pool(self.name("pool"), [], [ir.Floats(value)], **attributes), {"bit": value})
        made, values = self.stores(shape, stores)
        epilogue = self.small(shape[0]) if mode != "max" else []
        return self.add(ir.Pool(self.name("pool"), epilogue, made, **attributes), values)

    def move(self, kind, shape, like, **attributes):
        value = self.value(shape, like.dtype, like)
        self.nodes.append(kind(self.name(kind.__name__.lower()), [], [ir.Floats(value)], **attributes))
        return value

    def concat(self, sources, axis=0):
        shape = list(sources[0].shape)
        shape[axis] = sum(source.shape[axis] for source in sources)
        return self.move(ir.Concat, shape, sources[0], sources=list(sources), axis=axis)

    def slice(self, source, begin, shape):
        return self.move(ir.Slice, shape, source, source=source, begin=tuple(begin))

    def pad(self, source, pad, pad_value=0.0):
        channels, height, width = source.shape
        shape = (channels, height + pad[0] + pad[2], width + pad[1] + pad[3])
        return self.move(ir.Pad, shape, source, source=source, pad=tuple(pad), pad_value=pad_value)

    def reshape(self, source, shape, split=(), axes=()):
        return self.move(ir.Reshape, shape, source, source=source, split=tuple(split), axes=tuple(axes))

    def graph(self, outputs, name="net"):
        return ir.Graph(name, list(self.nodes), {f"out{i}": value for i, value in enumerate(outputs)})

    def images(self, graph, batch=1):
        """Inputs for a graph, integers from -8 to 8."""
        return {
            node.name: self.random.integers(-8, 9, (batch, *node.shape)).astype(np.float32) for node in graph.inputs()
        }


SIZES = st.sampled_from([1, 2, 3, 4, 5, 7])
CHANNELS = st.sampled_from([1, 2, 3, 7, 8, 16, 24, 33, 64, 65, 70, 128])
STORES = st.sampled_from([("f32",), ("f32",), ("bit",), ("u8",), ("f32", "bit"), ("f32", "u8"), ("f32", "bit", "u8")])


@st.composite
def graphs(draw, most_nodes=8):
    """A graph of random nodes, and inputs for it: (graph, inputs)."""
    b = Builder(draw(st.integers(0, 2**32 - 1)))
    values = []
    for _ in range(draw(st.integers(1, 2))):
        shape = (draw(CHANNELS), draw(SIZES), draw(SIZES))
        found = b.input(shape, draw(STORES))
        values += found.values() if isinstance(found, dict) else [found]
    kinds = [_conv, _conv, _conv, _map, _map, _pool, _concat, _concat, _slice, _slice, _pad, _reshape]
    for _ in range(draw(st.integers(1, most_nodes))):
        kind = draw(st.sampled_from(kinds))
        values += kind(draw, b, values)
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    if values[-1] not in outputs:
        outputs.append(values[-1])
    graph = b.graph(outputs)
    return graph, b.images(graph)


def _pick(draw, values, *dtypes):
    return draw(st.sampled_from([value for value in values if not dtypes or value.dtype in dtypes] or values))


def _conv(draw, b, values):
    source = _pick(draw, values)
    if len(source.shape) != 3:
        return []
    channels, height, width = source.shape
    pad = tuple(draw(st.integers(0, 2)) for _ in range(4))
    kernel, dilate = [], []
    for size in (height + pad[0] + pad[2], width + pad[1] + pad[3]):
        kernel.append(draw(st.integers(1, min(3, size))))
        dilate.append(draw(st.integers(1, 2)) if (kernel[-1] - 1) * 2 < size else 1)
    groups = 1
    filters = draw(CHANNELS)
    if source.dtype == "bit":
        pad_value = draw(st.sampled_from([-1.0, 1.0]))
        if channels == 128 and draw(st.booleans()):
            groups, filters = 2, draw(st.sampled_from([16, 32, 128]))
    else:
        pad_value = 0.0
        groups = draw(st.sampled_from([n for n in (1, 1, 2, channels) if channels % n == 0]))
        filters = groups * draw(st.sampled_from([1, 1, 2, 3, 8])) if groups > 1 else filters
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    stores = draw(STORES)
    if source.dtype == "bit" and draw(st.integers(0, 3)) == 0:
        stores = ("count",)
    made = b.conv(source, filters, tuple(kernel), stride, tuple(dilate), pad, groups, pad_value, stores)
    _add_operands(draw, b, values)
    return list(made.values())


def _add_operands(draw, b, values):
    """Let the last node have other values as operands, before its results are made small."""
    node = b.nodes[-1]
    if isinstance(node.stores[0], ir.CountBits):
        return
    shape = node.stores[0].value.shape
    others = [
        value for value in values
        if value.dtype != "u8" and len(value.shape) == len(shape)
        and all(n in (1, m) for n, m in zip(value.shape, shape))
    ]  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        if others:
            kind = draw(st.sampled_from([ir.Add, ir.Add, *WITH_OPERAND]))
            node.epilogue.append(kind(draw(st.sampled_from(others))))
    if node.epilogue and isinstance(node.epilogue[-1], tuple(WITH_OPERAND)):
        node.epilogue += b.small(shape[0])


def _map(draw, b, values):
    source = _pick(draw, values)
    made = b.map(source, b.small(source.shape[0]), draw(STORES))
    _add_operands(draw, b, values)
    return list(made.values())


def _pool(draw, b, values):
    source = _pick(draw, values, "f32", "bit")
    if len(source.shape) != 3 or source.dtype == "u8":
        return []
    kernel = tuple(draw(st.integers(1, min(2, size))) for size in source.shape[1:])
    pad = (draw(st.integers(0, 1)), draw(st.integers(0, 1))) * 2 if min(kernel) > 1 else (0, 0, 0, 0)
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    if source.dtype == "bit":
        flip = b.flags(source.shape[0]) if draw(st.booleans()) else None
        return list(b.pool(source, "max", kernel, stride, pad, flip=flip).values())
    mode = draw(st.sampled_from(["max", "avg", "avg_padded"]))
    return list(b.pool(source, mode, kernel, stride, pad, draw(STORES)).values())


def _concat(draw, b, values):
    first = _pick(draw, values)
    axis = draw(st.sampled_from([0, 0, 0, *range(len(first.shape))]))
    fits = [
        value for value in values
        if (value.dtype, len(value.shape)) == (first.dtype, len(first.shape))
        and (value.scale, value.zero_point) == (first.scale, first.zero_point)
        and all(i == axis or n == m for i, (n, m) in enumerate(zip(value.shape, first.shape)))
    ]  # fmt: skip
    sources = [first, *draw(st.lists(st.sampled_from(fits), min_size=1, max_size=3))]
    if sum(int(np.prod(source.shape)) for source in sources) > 20000:
        return []
    return [b.concat(draw(st.permutations(sources)), axis)]


def _slice(draw, b, values):
    source = _pick(draw, values)
    begin, shape = [], []
    for axis, size in enumerate(source.shape):
        whole = draw(st.booleans()) if axis == 0 else draw(st.integers(0, 3)) > 0
        start = 0 if whole else draw(st.sampled_from([n for n in (0, 1, 8, 32, 64) if n < size]))
        begin.append(start)
        shape.append(size if whole else draw(st.sampled_from([n for n in (1, 2, 8, 64, size) if n <= size - start])))
    return [b.slice(source, begin, shape)]


def _pad(draw, b, values):
    source = _pick(draw, values, "f32", "bit")
    if len(source.shape) != 3 or source.dtype == "u8":
        return []
    pad = tuple(draw(st.integers(0, 2)) for _ in range(4))
    pad_value = draw(st.sampled_from([-1.0, 1.0] if source.dtype == "bit" else [0.0, 0.0, -1.0, 3.0]))
    return [b.pad(source, pad, pad_value)]


def _reshape(draw, b, values):
    source = _pick(draw, values)
    if len(source.shape) != 3:
        return []
    channels, height, width = source.shape
    choice = draw(st.integers(0, 4))
    if choice == 0:
        return [b.reshape(source, (channels * height * width,))]
    if choice == 1 and channels % 2 == 0:  # channel shuffle
        return [b.reshape(source, source.shape, (2, channels // 2, height, width), (1, 0, 2, 3))]
    if choice == 2:
        axes = draw(st.permutations(range(3)))
        return [b.reshape(source, tuple(source.shape[axis] for axis in axes), (), axes)]
    if choice == 3:
        return [b.reshape(source, (width, channels, height))]
    return [b.reshape(source, (channels * height, width))]
