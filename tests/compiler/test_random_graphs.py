"""Random networks: the passes never change a number, the engine computes what the graph says."""

import ir_oracle
import numpy as np
import pytest
from program_graphs import WITH_OPERAND

from bmx.compiler import ir, passes
from bmx.compiler.builder import Builder
from bmx.compiler.lower import lower
from bmx.compiler.verification import run_program

EXACT = [run for run in (*passes._PASSES, *passes._LAST) if run.__name__ not in ("merge_linear", "multiply_integers")]


class RandomNetwork(Builder):
    """A graph of layers, chosen at random, of values given before; numbers are such that ties are common."""

    def __init__(self, seed):
        super().__init__(f"random{seed}")
        self.rng = np.random.RandomState(seed)
        channels = int(self.rng.choice([1, 3, 8, 64]))
        self.values = [self.input("data", (channels, *self.rng.randint(4, 9, 2)))]
        for number in range(self.rng.randint(4, 14)):
            step = getattr(self, f"add_{self.rng.choice(self.steps)}")
            value = step(f"n{number}", self.pick())
            if value is not None:
                self.values.append(value)
        used = {value for node in self.graph.nodes for value in node.reads()}
        ends = [value for value in self.values if value not in used] or [self.values[-1]]
        self.graph.outputs = {f"out{i}": value for i, value in enumerate(ends)}

    steps = (
        *("binary", "binary", "binary", "conv", "norm", "norm", "add", "add", "function", "pool", "average", "prelu"),
        *("concat", "slice", "pad", "flatten", "dense", "sign", "clip", "float_binary", "gate", "few_bits"),
    )

    def pick(self):
        """A value, more often a late one."""
        return self.values[-1 - min(int(self.rng.exponential(1.2)), len(self.values) - 1)]

    def small(self, *shape):
        """Numbers with a few binary places, so that sums are exact in any order."""
        return (self.rng.randint(-8, 9, shape) / 8).astype(np.float32)

    def conv_of(self, name, x, binary, weight=None):
        if len(x.shape) != 3:
            return None
        filters, size = int(self.rng.choice([1, 5, 8, 64])), int(self.rng.choice([1, 2, 3]))
        stride, pad = int(self.rng.choice([1, 1, 2])), int(self.rng.choice([0, 1]))
        shape = (filters, x.shape[0], size, size)
        out = [(n + 2 * pad - size) // stride + 1 for n in x.shape[1:]]
        if min(out) < 1:
            return None
        options = {"stride": (stride, stride), "pad": (pad,) * 4}
        if not binary:
            weight = self.small(*shape) if weight is None else weight(*shape)
            return self.conv(name, x, weight, (filters, *out), **options)
        weight = self.rng.choice([-1, 1], shape).astype(np.int8)
        options.update(all=float(weight[0].size), step=float(self.rng.choice([1, 2])))
        options["pad_value"] = float(self.rng.choice([-1, 1]))
        return self.conv(name, self.bits(x), weight, (filters, *out), **options)

    def add_binary(self, name, x):
        if len(x.shape) == 1:
            weight = self.rng.choice([-1, 1], (9, x.shape[0], 1, 1)).astype(np.int8)
            return self.conv(name, self.bits(x), weight, (9,), all=float(x.shape[0]), step=1.0)
        return self.conv_of(name, x, True)

    def add_conv(self, name, x):
        return self.conv_of(name, x, False)

    def add_float_binary(self, name, x):
        sign = self.function(f"{name}_sign", x, "sign1")
        scaled = self.rng.uniform() < 0.5

        def weight(*shape):
            scale = self.rng.choice([0.25, 0.5, 2.0], (shape[0], 1, 1, 1)) if scaled else 1
            return (self.rng.choice([-1, 1], shape) * scale).astype(np.float32)

        if len(sign.shape) == 3 and self.rng.uniform() < 0.5:
            sign = self.pad(f"{name}_pad", sign, (1, 0, 1, 1), float(self.rng.choice([-1, 1])))
        return self.conv_of(name, sign, False, weight)

    def add_norm(self, name, x):
        channels = x.shape[0]
        scale = self.rng.choice([-1.5, -0.25, 0, 0.5, 1, 2], channels).astype(np.float32)
        mean = self.rng.randint(-3, 4, channels) + self.rng.choice([0, 0.5, 10], 1)
        bias = self.rng.choice([0, 0, 0.5, -1], channels).astype(np.float32)
        if self.rng.uniform() < 0.5:
            return self.affine(name, x, scale, bias)
        return self.map(name, x, ir.Norm(mean.astype(np.float32), scale, bias))

    def add_add(self, name, x):
        same = [value for value in self.values if value.shape == x.shape and value is not x]
        if not same:
            return None
        others = [kind for kind in WITH_OPERAND if kind is not ir.Add]
        kind = ir.Add if self.rng.uniform() < 0.6 else others[self.rng.randint(len(others))]
        return self.map(name, x, kind(same[self.rng.randint(len(same))]))

    def add_gate(self, name, x):
        if len(x.shape) != 3:
            return None
        pooled = self.pool(f"{name}_pool", x, "max", (x.shape[1:], (1, 1), (0, 0)), (x.shape[0], 1, 1))
        return self.map(name, x, ir.Multiply(self.function(f"{name}_gate", pooled, "sign1")))

    def add_function(self, name, x):
        return self.function(name, x, str(self.rng.choice(["abs", "round", "negate", "softsign", "signum"])))

    def add_sign(self, name, x):
        return self.function(name, x, "sign1")

    def add_clip(self, name, x):
        return self.map(name, x, ir.Clip(*[(0.0, np.inf), (-1.0, 1.0), (0.5, 3.0)][self.rng.randint(3)]))

    def add_few_bits(self, name, x):
        steps = np.full(x.shape[0], 3, np.float32)
        return self.map(
            name,
            x,
            ir.Clip(0.0, 1.0),
            ir.Affine(steps, 0 * steps),
            ir.Function("round"),
            ir.Affine(1 / steps, 0 * steps),
        )

    def add_prelu(self, name, x):
        return self.map(name, x, ir.PRelu(self.rng.choice([-0.5, 0, 0.25, 0.25, 1], x.shape[0]).astype(np.float32)))

    def add_pool(self, name, x, mode="max"):
        if len(x.shape) != 3 or min(x.shape[1:]) < 2:
            return None
        pad = int(self.rng.choice([0, 1]))
        out = [(n + 2 * pad - 2) // 2 + 1 for n in x.shape[1:]]
        return self.pool(name, x, mode, ((2, 2), (2, 2), (pad, pad)), (x.shape[0], *out))

    def add_average(self, name, x):
        return self.add_pool(name, x, str(self.rng.choice(["avg", "avg_padded"])))

    def add_concat(self, name, x):
        same = [value for value in self.values if len(value.shape) == 3 and value.shape[1:] == x.shape[1:]]
        if len(x.shape) != 3 or not same:
            return None
        sources = [x, same[self.rng.randint(len(same))]]
        return self.add(ir.Concat(name, sources=sources), (sum(v.shape[0] for v in sources), *x.shape[1:]))

    def add_slice(self, name, x):
        if x.shape[0] < 2:
            return None
        begin = int(self.rng.choice([0, x.shape[0] // 2]))
        size = int(x.shape[0] - begin if self.rng.uniform() < 0.5 else x.shape[0] // 2)
        return self.slice(name, x, (begin, *[0] * (len(x.shape) - 1)), (size, *x.shape[1:]))

    def add_pad(self, name, x):
        if len(x.shape) != 3:
            return None
        return super().pad(name, x, (1, 0, 0, 1), float(self.rng.choice([0, -1, 1, 0.5])))

    def add_flatten(self, name, x):
        return self.reshape(name, x, (int(np.prod(x.shape)),))

    def add_dense(self, name, x):
        if len(x.shape) != 1 or x.shape[0] > 600:
            return None
        return self.conv(name, x, self.small(7, x.shape[0], 1, 1), (7,))


def samples(graph, rng):
    """A batch with many zeros."""
    shape = next(graph.inputs()).shape
    return {"data": (rng.randint(-12, 13, (2, *shape)) / 4).astype(np.float32)}


@pytest.mark.parametrize("part", range(8))
def test_passes_do_not_change_a_bit(part):
    for seed in range(part * 40, part * 40 + 40):
        graph = RandomNetwork(seed).graph
        data = samples(graph, np.random.RandomState(seed))
        wanted = ir_oracle.run(graph, data)
        for run in EXACT:
            run(graph)
        found = ir_oracle.run(graph, data)
        for name, array in wanted.items():
            np.testing.assert_array_equal(found[name], array, f"seed {seed}, {name}")


def is_exact(values):
    """Whether numbers are so small and round that their sums and products are the same in any order."""
    floats = [array for value, array in values.items() if value.dtype == "f32"]
    return all((array * 64 == np.round(array * 64)).all() and np.abs(array).max() <= 64 for array in floats)


@pytest.mark.parametrize("part", range(4))
def test_the_engine_computes_the_fused_graph(part):
    compared = 0
    for seed in range(1000 + part * 40, 1000 + part * 40 + 40):
        graph = RandomNetwork(seed).graph
        data = samples(graph, np.random.RandomState(seed))
        passes.optimize(graph)
        values = ir_oracle.evaluate(graph, data)
        if is_exact(values):
            compared += 1
            for (name, value), found in zip(graph.outputs.items(), run_program(lower(graph), data)):
                np.testing.assert_array_equal(found, values[value], f"seed {seed}, {name}")
    assert compared > 10
