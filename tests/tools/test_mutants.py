"""`tools/mutants`: the changes that it makes, the map of the rooms, and a run on a small tree."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = "/* a < 1 */\n#define MOST 10\nint fits(int n) { return n < MOST; }\nint unused(int n) { return n + 1; }\n"
TEST = """
import os, pathlib
def test_fits():
    pathlib.Path(os.environ["STARTED"]).touch()
    assert "n < MOST" in (pathlib.Path(__file__).parent.parent / "lib" / "fits.c").read_text()
"""


@pytest.fixture
def mutation(root, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "tools"))
    import mutation.changes
    import mutation.rooms

    return mutation


def texts(mutation, name, source):
    """What a source can become."""
    return {change.text() for place in mutation.changes.changes(Path(name), source).values() for change in place}


@pytest.mark.parametrize(
    "before, after",
    [
        ("a < b", {"a <= b", "a > b"}),
        ("a >= b", {"a > b", "a <= b"}),
        ("a == b && !c", {"a != b && !c", "a == b || !c", "a == b && c"}),
        ("x << 3", {"x >> 3", "x << 4", "x << 2"}),
        ("f(-a, 0)", {"f(a, 0)", "f(-a, 1)"}),
        ("v += std::min(a, b)", {"v -= std::min(a, b)", "v += std::max(a, b)"}),
        ("if (a) return true;", {"if (!a) return true;", "if (a) return false;"}),
        ("std::vector<int>& a; T* b; a->c; 0x1f; 1.5f; i++", set()),
        ("// a < 1\n/* 1\n2 */ \"a < 1\" '1'", set()),
        ("#if A < 1 && \\\n  B < 2\n", set()),
        ("static_assert(sizeof(a) == 8, 0);", set()),
    ],
)
def test_switches_of_cpp_find_operators_and_numbers_in_code_only(mutation, before, after):
    assert texts(mutation, "a.cpp", before) == after


def test_python_is_changed_where_it_computes(mutation):
    pytest.importorskip("cosmic_ray")
    found = texts(mutation, "a.py", 'def f(a: int | str, *b) -> str | None:\n    """a < 1"""\n    return a < 1\n')
    assert {text.splitlines()[-1].strip() for text in found} == {
        *("return a <= 1", "return a > 1", "return a < 2", "return a < 0"),
    }


def test_every_source_belongs_to_a_room_whose_tests_exist(mutation, root):
    files = {file for room in mutation.rooms.ROOMS.values() for file in room.files(root)}
    sources = [*(root / "bmx").rglob("*.py"), *(root / "src").rglob("*.cpp"), *(root / "bmx").rglob("*.c")]
    missing = {str(path.relative_to(root)) for path in sources} - {str(file) for file in files}
    assert not missing, "name their room and its tests in tools/mutation/rooms.py"
    assert all((root / test).exists() for room in mutation.rooms.ROOMS.values() for test in room.python)


@pytest.fixture
def small_tree(root, tmp_path):
    """A repository with a room of C, a test, and the tool."""
    tree = tmp_path / "repository"
    for name, text in {"lib/fits.c": SOURCE, "tests/test_fits.py": TEST}.items():
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_text(text)
    shutil.copytree(root / "tools", tree / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    rooms = tree / "tools" / "mutation" / "rooms.py"
    text = rooms.read_text()
    text = text[: text.index("_COMPILER = ")] + 'ROOMS = {"lib": Room(("lib/*",), ("tests",))}\n'
    rooms.write_text(text.replace('["mxnet", "numpy", "pytest", "hypothesis"]', "[]"))
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    return tree


def start(tree, *arguments):
    (tree.parent / "tmp").mkdir()
    environment = {**os.environ, "TMPDIR": str(tree.parent / "tmp"), "STARTED": str(tree.parent / "started")}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores Ctrl-C
    try:
        return subprocess.Popen(
            [sys.executable, str(tree / "tools" / "mutants"), *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)


def test_survivors_are_listed_and_the_tree_is_as_it_was(small_tree, tmp_path):
    output, errors = start(small_tree, "lib", "--count", "9", "--survivors", str(tmp_path / "found")).communicate()
    assert "lib: 1 of 3 noticed, 33 % (seed 1)" in output, output + errors
    assert output.count("noticed ") == 1 and output.count("SURVIVED") == 2
    assert "    -int unused(int n) { return n + 1; }\n" in output
    assert (small_tree / "lib" / "fits.c").read_text() == SOURCE
    assert not any((tmp_path / "tmp").iterdir())
    patches = sorted((tmp_path / "found").iterdir())
    assert len(patches) == 2
    for patch in patches:
        subprocess.run(["git", "apply", "--check", str(patch)], cwd=small_tree, check=True)


def test_ctrl_c_removes_the_copy_and_what_runs_in_it(small_tree, tmp_path):
    with open(small_tree / "tests" / "test_fits.py", "a") as file:
        file.write("    import time; time.sleep(600)\n")
    process = start(small_tree, "lib")
    while not (tmp_path / "started").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "tools/mutants: interrupted\n"
    assert (small_tree / "lib" / "fits.c").read_text() == SOURCE and not any((tmp_path / "tmp").iterdir())


def test_a_test_that_fails_without_a_change_is_left_out_and_said(small_tree):
    with open(small_tree / "tests" / "test_fits.py", "a") as file:
        file.write("def test_broken(): assert False, 'so - it is'\n")
    output, errors = start(small_tree, "lib", "--count", "9").communicate()
    assert "left out, as it fails without any change: tests/test_fits.py::test_broken\n" in output, errors
    assert "lib: 1 of 3 noticed" in output


def test_tests_that_all_fail_without_a_change_are_said(small_tree):
    with open(small_tree / "tests" / "test_fits.py", "a") as file:
        file.write("    assert False, 'this one'\n")
    process = start(small_tree, "lib")
    _, errors = process.communicate()
    assert process.returncode == 1 and "without any change, tests fail" in errors and "this one" in errors
