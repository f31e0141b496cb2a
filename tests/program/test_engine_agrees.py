"""The engine computes what the definition of a program says, with the kernels of every instruction set.

Each set runs in a process of its own, on programs and inputs from a folder, since a process chooses its kernels once.
"""

import os
import subprocess
import sys

import numpy as np
import program_oracle
import pytest
from program_graphs import WITH_OPERAND, Builder

from bmx import library
from bmx import program as programs
from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.errors import Error

RUN_ALL = """
import sys
from pathlib import Path
import numpy as np
from bmx.runtime import Model
for file in sorted(Path(sys.argv[1]).glob("*.bmx")):
    inputs = np.load(str(file.with_suffix(".in.npz")))
    for threads in (1, 2):
        outputs = Model(file, threads).run({name: inputs[name] for name in inputs.files})
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        np.savez(f"{sys.argv[2]}/{file.stem}.{threads}.npz", *outputs)
"""


def convolutions(dtype, channels, count=False, signs=False):
    b = Builder(channels)
    x = b.input((channels, 9, 10), (dtype,))
    values = []
    for filters, kernel, stride, dilate, pad in [
        (1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        (8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
        (70, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
        (129, (2, 3), (1, 2), (2, 1), (1, 0, 1, 2)),
        (33, (9, 10), (1, 1), (1, 1), (0, 0, 0, 0)),
    ]:
        stores = ("count",) if count else ("f32", "bit", "u8")
        options = {"pad_value": {"f32": 0.0, "bit": 1.0, "u8": -20.0}[dtype], "stores": stores, "signs": signs}
        made = b.conv(x, filters, kernel, stride, dilate, pad, **options)
        values += made.values()
    return b, values


def groups():
    b = Builder()
    values = []
    for dtype, channels, filters, n, signs in [
        ("f32", 32, 32, 4, False), ("f32", 40, 40, 40, False), ("u8", 32, 64, 4, False), ("bit", 256, 64, 2, False),
        ("f32", 6, 12, 3, False), ("f32", 15, 24, 3, True), ("u8", 21, 48, 3, True), ("f32", 6, 12, 3, True),
    ]:  # fmt: skip
        x = b.input((channels, 7, 7), (dtype,))
        options = {"pad_value": -1.0 if dtype == "bit" else 0.0, "stores": ("f32", "bit", "u8"), "signs": signs}
        y = b.conv(x, filters, pad=(1, 1, 1, 1), groups=n, **options)
        values += y.values()
    return b, values


def pools():
    b = Builder()
    x = b.input((70, 9, 8), ("f32", "bit"))
    values = [b.pool(x["bit"], "max", (3, 2), (2, 2), (1, 0, 1, 0), flip=b.flags(70))["bit"]]
    for mode in ("max", "avg", "avg_padded"):
        values += b.pool(x["f32"], mode, (2, 2), (2, 1), (1, 1, 1, 1), ("f32", "bit", "u8")).values()
    values += b.pool(x["f32"], "avg", (8, 8), (1, 1))["f32"], b.pool(x["f32"], "max", (9, 8))["f32"]
    return b, values


def operations():
    b = Builder()
    x, y = b.input((37, 5, 3), ("f32", "u8", "bit")), b.input((37, 5, 3))
    channel, pixel, odd = b.input((37, 1, 1)), b.input((1, 5, 3)), b.input((37, 5, 1))
    epilogue = [op for op in b.operations(37, (y, channel, pixel, odd)) for op in (op, ir.Clip(-100.0, 100.0))]
    made = [b.map(source, epilogue, ("f32", "bit", "u8")) for source in (x["f32"], x["u8"], x["bit"])]
    return b, [value for values in made for value in values.values()]


def moves():
    b = Builder()
    x = b.input((64, 6, 6), ("f32", "bit", "u8"))
    values = []
    for dtype, source in x.items():
        value = 1.0 if dtype == "bit" else 0.0
        padded = b.pad(source, (1, 2, 0, 1), value)
        joined = b.concat([padded, b.slice(padded, (0, 0, 0), (64, 7, 9)), padded])
        turned = b.reshape(joined, joined.shape, (3, 64, 7, 9), (1, 0, 2, 3))
        values += [turned, b.conv(turned, 8, pad=(1, 1, 1, 1), pad_value=value)["f32"]]
        values.append(b.slice(source, (5, 1, 2), (20, 4, 3)))
    return b, values


def residual():
    b = Builder()
    x = b.input((64, 7, 7), ("f32", "bit"))
    for _ in range(3):
        x = b.conv(x["bit"], 64, pad=(1, 1, 1, 1), pad_value=-1.0, epilogue=[ir.Add(x["f32"])], stores=("f32", "bit"))
    dense = x["f32"]
    for _ in range(3):
        dense = b.concat([dense, b.conv(dense, 24, pad=(1, 1, 1, 1))["f32"]])
    flat = b.reshape(b.pool(dense, "avg", (7, 7))["f32"], (64 + 72,))
    return b, [dense, flat, x["bit"]]


def functions():
    b = Builder()
    x = b.input((37, 3, 2))
    values = []
    for name in programs.FUNCTIONS:
        for scale in (0.01, 0.3, 30):
            line = ir.Affine(np.full(37, scale, np.float32), b.numbers(37))
            values.append(b.map(x, [line, ir.Function(name)])["f32"])
    return b, values + [b.move(ir.Softmax, x.shape, x, source=x)]


def real_numbers():
    b = Builder()
    x = b.input((24, 9, 9), ("f32", "u8"))
    values = [b.map(x["f32"], [ir.Affine(b.numbers(24) / 7, b.numbers(24) / 3)])["f32"]]
    values += [b.conv(x["f32"], 40, pad=(1, 1, 1, 1), epilogue=[])["f32"], b.pool(x["f32"], "avg", (3, 3))["f32"]]
    values.append(b.conv(x["f32"], 24, pad=(1, 1, 1, 1), groups=24, epilogue=[])["f32"])
    values.append(b.conv(x["u8"], 24, epilogue=[ir.Affine(b.numbers(24) / 7, b.numbers(24) / 3)])["f32"])
    for node in b.nodes:
        if isinstance(node, ir.Conv) and node.source.dtype == "f32":
            node.weight = b.random.normal(size=node.weight.shape).astype(np.float32)
    return b, values


def strange_numbers():
    """NaN, infinities, zeros of both signs, ties and large numbers, through all that compares or rounds."""
    b = Builder()
    x = b.input((40, 4, 4), ("f32", "bit", "u8"))
    y = b.map(x["f32"], [ir.PRelu(b.numbers(40)), ir.Clip(-2.0, 3.5)], ("f32", "bit", "u8"))
    values = [*x.values(), *y.values(), *b.map(x["f32"], [ir.Clip(0.0, np.inf)], ("f32", "bit", "u8")).values()]
    other = b.input((40, 4, 4))
    for kind in WITH_OPERAND:  # a reciprocal tells the zeros apart
        operation = b.operation(kind, 40, other)
        values.append(b.map(x["f32"], [operation])["f32"])
        values.append(b.map(x["f32"], [operation, ir.Function("reciprocal")], ("f32", "bit"))["bit"])
    for name in ("round", "abs", "negate", "sign1", "signum", "square"):
        values.append(b.map(x["f32"], [ir.Function(name)])["f32"])
    values += [
        b.pool(x["f32"], "max", (2, 2), (1, 1))["f32"],
        b.pool(x["f32"], "max", (2, 2), (3, 3), (1, 1, 1, 1))["f32"],
    ]
    return b, values


STRANGE = [
    np.nan,
    np.inf,
    -np.inf,
    0.0,
    -0.0,
    0.5,
    -0.5,
    1.5,
    2.5,
    -2.5,
    3.0,
    -3.0,
    1e30,
    -1e30,
    1e-40,
    127.75,
    63.5,
    2.0,
]

EXACT = {
    **{f"conv_{dtype}_{c}": (convolutions, dtype, c) for dtype in ("f32", "bit", "u8") for c in (1, 3, 64, 130)},
    **{f"conv_{dtype}_signs_{c}": (convolutions, dtype, c, False, True) for dtype in ("f32", "u8") for c in (1, 3, 70)},
    **{f"counts_{c}": (convolutions, "bit", c, True) for c in (5, 64, 130)},
    **{"groups": (groups,), "pools": (pools,), "operations": (operations,), "moves": (moves,), "residual": (residual,)},
    "strange": (strange_numbers,),
}
ROUNDED = {"functions": (functions,), "real": (real_numbers,)}


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """A folder of programs with their inputs, and what their outputs are, by name."""
    folder, expected = tmp_path_factory.mktemp("programs"), {}
    for name, (make, *arguments) in {**EXACT, **ROUNDED}.items():
        b, values = make(*arguments)
        graph = b.graph(values, name)
        images = b.images(graph)
        if name in ("real", "strange"):
            draw = b.random.normal if name == "real" else lambda size, b=b: b.random.choice(STRANGE, size)
            images = {port: draw(size=array.shape).astype(np.float32) for port, array in images.items()}
        program = lower(graph)
        programs.write(program, folder / f"{name}.bmx")
        np.savez(str(folder / f"{name}.in.npz"), **images)
        expected[name] = program_oracle.run(program, [images[port.name][0] for port in program.inputs])
    return folder, expected


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512", "amx"])
def test_the_engine_agrees_with_the_definition(cases, isa, tmp_path, root):
    try:
        library.path("libbmx.so")
    except Error as error:
        pytest.skip(str(error))
    folder, expected = cases
    environment = {**os.environ, "BMX_ISA": isa, "BMX_POISON": "255", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", RUN_ALL, str(folder), str(tmp_path)]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
    if f"BMX_ISA is '{isa}'" in done.stderr:
        pytest.skip(f"this machine does not run {isa}")
    assert done.returncode == 0, done.stderr
    for name, outputs in expected.items():
        for threads in (1, 2):
            found = np.load(str(tmp_path / f"{name}.{threads}.npz"))
            for number, output in enumerate(outputs):
                y = found[f"arr_{number}"][0]
                message = f"output {number} of {name} with {threads} threads"
                if name in EXACT:
                    np.testing.assert_array_equal(y, output, err_msg=message)
                else:
                    np.testing.assert_allclose(y, output, rtol=3e-6, atol=2e-5, err_msg=message)
