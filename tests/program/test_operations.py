"""One table of operations and stores: bmx.program.operations, the engine's constants and docs/format.md agree."""

import re

import epilogue_oracle
import numpy as np
import pytest
from program_damage import networks

from bmx import program as programs
from bmx.compiler.arithmetic import is_monotone
from bmx.program.operations import FUNCTIONS, OPERATIONS, STORES, bits_of, fields_of, row_of

SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3e38, -3e38, 1e-40, np.inf, -np.inf, np.nan]


def operands_in(names, row):
    """The operands of a row in other words, by the kinds of fields."""
    return [names[kind].format(name) for kind, name in fields_of(row.fields)]


@pytest.fixture(scope="module")
def page(root):
    return (root / "docs" / "format.md").read_text().split("### Epilogue")[1]


@pytest.fixture(scope="module")
def header(root):
    return (root / "src" / "kernels" / "engine" / "operations.h").read_text()


def test_the_page_has_the_operations(page):
    found = re.findall(r"^\| (\d+) ([A-Z]+) \| y = .* \| (.*) \|$", page, re.MULTILINE)
    names = {"numbers": "data {}", "tensor": "tensor f32", "f32": "f32 {}", "function": "u32 function"}
    wanted = [(str(row.code), row.kind.__name__.upper(), ", ".join(operands_in(names, row))) for row in OPERATIONS]
    assert found == wanted


def test_the_page_has_the_functions(page):
    listed = page.split("Functions:")[1].split("The stores:")[0]
    assert re.findall(r"(\d+)\s+`(\w+)`", listed) == [(str(i), name) for i, name in enumerate(FUNCTIONS, 1)]


def test_the_page_has_the_stores(page):
    found = re.findall(r"^\| (\d+) \| (f32|bit|u8)\b.* \| (tensor, .*|tensor) \|$", page, re.MULTILINE)
    assert [(int(code), dtype) for code, dtype, _ in found] == [(row.code, row.dtype) for row in STORES]
    names = {"tensor": "tensor", "f32": "f32 {}", "numbers": "data {} (f32)", "sign": "data sign (u32)"}
    names.update(counts="data {} (i32)", flip="data flip (")
    for row, (_, _, operands) in zip(STORES, found):
        wanted = ", ".join(operands_in(names, row)).replace("_", " ")
        assert operands.startswith(wanted)
        assert operands.count("data ") + operands.count("f32 ") == len(fields_of(row.fields)) - 1


def enumerators(header, name):
    body = re.search(rf"enum class {name} : uint32_t {{(.*?)}};", header, re.DOTALL).group(1)
    return re.findall(r"k(\w+)(?: = 1)?,?", body)


def test_the_engine_has_the_operations(header):
    assert enumerators(header, "Operation") == [row.kind.__name__ for row in OPERATIONS]
    assert [row.code for row in OPERATIONS] == list(range(1, len(OPERATIONS) + 1))
    found = {}
    for name, operands in re.findall(r"/\* k(\w+) \*/ {(.*)},$", header, re.MULTILINE):
        numbers, _, flags = operands.partition("}")
        flags = [flag == "true" for flag in flags.strip(", ").split(", ")]
        found[name] = [re.findall(r'"(\w+)"', numbers), *flags, *[False] * (3 - len(flags))]
    for row in OPERATIONS:
        fields = fields_of(row.fields)
        kinds = [kind for kind, _ in fields]
        numbers = [name for kind, name in fields if kind == "numbers"]
        wanted = [numbers, "tensor" in kinds, kinds == ["f32", "f32"], "function" in kinds]
        assert found[row.kind.__name__] == wanted, row.kind


def test_the_engine_has_the_functions(root):
    header = (root / "src" / "kernels" / "engine" / "function.h").read_text()
    names = enumerators(header, "Function")
    assert [name.lower() for name in names] == [name.replace("_", "") for name in FUNCTIONS]
    assert f"kLastFunction = Function::k{names[-1]};" in header


def test_the_engine_has_the_stores(root):
    reader = (root / "src" / "engine" / "epilogue_reader.cpp").read_text()
    codes = re.search(r"enum Store : uint32_t {(.*?)};", reader).group(1)
    assert re.findall(r"= (\d+)", codes) == [str(row.code) for row in STORES]


def instances(row, numbers):
    """Operations of a kind with all combinations of the numbers, one a channel."""
    grid = np.float32(np.meshgrid(numbers, numbers, numbers)).reshape(3, -1)
    if row.kind is programs.Function:
        return [programs.Function(name) for name in FUNCTIONS]
    if row.kind is programs.Clip:
        return [programs.Clip(low, high) for low in numbers for high in numbers if low <= high]
    return [
        row.kind(*(values if field == "numbers" else None for (field, _), values in zip(fields_of(row.fields), grid)))
    ]


@pytest.mark.parametrize("row", OPERATIONS, ids=lambda row: row.kind.__name__)
def test_what_an_operation_means_is_its_definition(row):
    y = np.float32([*SPECIAL, *np.random.default_rng(0).normal(0, 2, 50)])
    for operation in instances(row, SPECIAL):
        if "tensor" in row.fields:
            arguments = np.meshgrid(y, y)
        else:
            arguments = [np.repeat(y[:, None], len(SPECIAL) ** 3, axis=1)]
        with np.errstate(all="ignore"):
            found = row.compute(operation, *arguments)
            wanted = epilogue_oracle.apply(
                operation, arguments[0], operand=None if len(arguments) == 1 else arguments[1]
            )
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=2e-7)  # functions are rounded in other places


def is_ordered(z):
    return bool(((z[1:] >= z[:-1]).all(axis=0) | (z[1:] <= z[:-1]).all(axis=0)).all())


def test_operations_are_monotone_if_the_table_says_so():
    y = np.sort(np.float32([*np.random.default_rng(0).normal(0, 3, 2000), -3e38, 3e38, 0]))
    monotone = []
    for row in OPERATIONS:
        for operation in instances(row, [0.0, 0.5, 3.0]) if "tensor" not in row.fields else ():
            if is_monotone(operation):
                monotone.append(row.kind)
                with np.errstate(all="ignore"):
                    assert is_ordered(row.compute(operation, np.repeat(y[:, None], 27, axis=1))), vars(operation)
    assert set(monotone) == {row.kind for row in OPERATIONS if "tensor" not in row.fields}
    assert not is_monotone(programs.PRelu(np.float32([0.5, -0.5]))) and not is_monotone(programs.Function("abs"))


def test_operations_commute_if_the_table_says_so():
    y, t = np.meshgrid(np.float32(SPECIAL), np.float32(SPECIAL))
    for row in OPERATIONS:
        if row.commutative:
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(row.compute(None, y, t), row.compute(None, t, y))  # zeros of either sign


def test_signs_are_stored_as_the_page_says():
    y = np.float32(SPECIAL)
    for threshold in y:
        for flip in (False, True):
            with np.errstate(invalid="ignore"):
                wanted = [not (-x if flip else x) < threshold for x in y]
            assert bits_of(y, threshold, np.bool_(flip)).tolist() == wanted


def test_every_operation_and_store_is_in_the_files_that_are_damaged():
    """So that both readers are asked about each."""
    found = set()
    for content in networks():
        for step in programs.decode(content).steps:
            found |= {row_of(entry).kind for entry in [*getattr(step, "epilogue", ()), *getattr(step, "stores", ())]}
    assert found == {row.kind for row in (*OPERATIONS, *STORES)}
