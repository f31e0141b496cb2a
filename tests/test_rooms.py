"""Which part of the package may import which: dependencies point one way, and no two modules import each other."""

import ast
import subprocess
import sys
from pathlib import Path

import bmx

PACKAGE = Path(bmx.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).replace(".__init__", ""): path
    for path in PACKAGE.rglob("*.py")
}

# From the ground up. A room imports itself and what is below it; rooms in one line do not know each other.
# What is not named in a room of its own belongs to the next longer prefix: bmx.checkpoints.names is ground.
FLOORS = [
    [
        "errors",
        "library",
        "operator_documentation",
        "quantization",
        "journal",
        "checkpoints.names",
        "files",
        "writing",
        "tables",
    ],
    ["arrays", "comparison", "runtime", "program", "registration"],
    ["checkpoints", "composed", "gradients", "export_c"],
    ["gluon"],
    ["compiler", "convert", "models", "network_summary", "optimizer"],
    ["plugin", "measure", "training"],
    ["commands"],
    ["cli"],
]
FLOOR = {f"bmx.{room}": number for number, rooms in enumerate(FLOORS) for room in rooms}
GROUND = {f"bmx.{room}" for room in FLOORS[0]}


def room_of(module):
    """The longest name in `FLOOR` that a module is or is in."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 1, -1))
    return next(name for name in names if name in FLOOR)


def imports(module):
    """The modules of the package that a module imports, also inside functions; not those for type hints alone."""
    path, found = MODULES[module], set()
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    for_types = [node for node in nodes if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"]
    left_out = {id(inner) for node in for_types for inner in ast.walk(node)}
    for node in nodes:
        if id(node) in left_out:
            continue
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                found |= {name for name in (f"{source}.{alias.name}", source) if name in MODULES and name != module}
                if f"{source}.{alias.name}" in MODULES:
                    found.discard(source)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
    return found - {"bmx"}


GRAPH = {module: imports(module) for module in MODULES if module != "bmx"}


def test_a_room_imports_only_what_is_below_it():
    wrong = []
    for module, others in GRAPH.items():
        for other in others:
            mine, theirs = room_of(module), room_of(other)
            if not (theirs == mine or FLOOR[theirs] < FLOOR[mine] or {mine, theirs} <= GROUND):
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_no_modules_import_each_other():
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for other in sorted(GRAPH[module]):
            visit(other)
        path.pop()
        done.add(module)

    for module in GRAPH:
        visit(module)


def test_the_compiler_needs_no_mxnet():
    script = """
import sys
sys.modules["mxnet"] = None
import importlib, pkgutil, bmx, bmx.compiler
for found in pkgutil.walk_packages(bmx.compiler.__path__, "bmx.compiler.", onerror=lambda name: None):
    if not found.name.startswith("bmx.compiler.frontends.mxnet"):
        importlib.import_module(found.name)
from bmx.compiler import ir, lower
for what in (lambda: bmx.compiler.compile_block, lambda: bmx.compile_checkpoint, lambda: bmx.load_checkpoint):
    try:
        what()
    except bmx.Error as error:
        assert "needs MXNet, which is not installed: pip install" in str(error) and "\\n" not in str(error), error
    else:
        raise AssertionError("not refused")
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
