"""The rooms of the code, and the tests that have to notice a change in each: the one place that knows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Dict, List, Tuple

PRELOADED = ["mxnet", "numpy", "pytest", "hypothesis"]  # imported once, for all processes that run tests


@dataclass(frozen=True)
class Room:
    """A part of the code and its tests.

    `sources` are glob patterns. `programs` are C++ test programs, `python` files and folders for pytest; the programs
    run first. Files of pytest run in the order of the time they take, so name only what tests this room.
    """

    sources: Tuple[str, ...]
    python: Tuple[str, ...] = ()
    programs: Tuple[str, ...] = ()

    def files(self, root: Path) -> List[Path]:
        """The source files, below `root`."""
        found = {path for pattern in self.sources for path in root.glob(pattern)}
        return sorted(path.relative_to(root) for path in found if path.suffix in (".py", ".cpp", ".c", ".h"))

    @property
    def compiled(self) -> bool:
        """Whether the sources are C++."""
        return self.sources[0].startswith("src/")


# Left out, with all that is marked as slow: they take minutes, and others notice what they notice.
LEFT_OUT = ["tests/compiler/test_compile_zoo.py"]

_COMPILER = ("tests/compiler", "bmx/compiler")
_LOWERED = ("tests/program/test_lowering.py", "tests/program/test_placement.py", "tests/program/test_plan.py")

ROOMS: Dict[str, Room] = {
    "kernels": Room(("src/kernels/**/*",), ("tests/operators/test_against_oracle.py",), ("bmx_tests",)),
    "engine": Room(
        ("src/engine/**/*", "src/api/**/*"),
        (
            *("tests/engine/test_runtime.py", "tests/engine/test_c_api.py", "tests/program/test_engine_agrees.py"),
            *("tests/program/test_check.py", "tests/program/test_both_readers.py"),  # what it refuses
        ),
        ("bmx_engine_tests",),
    ),
    "operators": Room(
        ("src/operators/**/*",), ("tests/operators", "tests/test_composed.py", "tests/test_gradients.py")
    ),
    "program": Room(("bmx/program/**/*.py",), ("tests/program", "tests/engine/test_runtime.py", "bmx/program")),
    "runtime": Room(
        ("bmx/runtime.py", "bmx/plugin/engine_operator.py"),
        (
            *("tests/engine/test_runtime.py", "tests/plugin/test_engine_operator.py"),
            *("bmx/runtime.py", "bmx/plugin/engine_operator.py"),
        ),
    ),
    "compiler": Room(("bmx/compiler/*.py",), (*_COMPILER, *_LOWERED)),
    "passes": Room(("bmx/compiler/passes/**/*.py",), (*_COMPILER, *_LOWERED)),
    "frontends": Room(("bmx/compiler/frontends/**/*.py",), (*_COMPILER, *_LOWERED)),
    "checkpoints": Room(("bmx/checkpoints/*.py",), ("tests/checkpoints", "tests/convert", "bmx/checkpoints")),
    "convert": Room(("bmx/convert/*.py",), ("tests/convert", "bmx/convert")),
    "export_c": Room(
        ("bmx/export_c/*.py", "bmx/export_c/c/*"), ("tests/export_c", "tests/commands/test_run_in_c.py", "bmx/export_c")
    ),
    "quantization": Room(
        ("bmx/quantization.py", "bmx/gradients.py", "bmx/plugin/operators.py", "bmx/composed/**/*.py"),
        (
            *("tests/test_quantization.py", "tests/test_gradients.py", "tests/test_composed.py", "tests/operators"),
            *("bmx/quantization.py", "bmx/plugin/operators.py", "bmx/composed"),
        ),
    ),
    "gluon": Room(("bmx/gluon/**/*.py",), ("tests/gluon", "bmx/gluon")),
    "models": Room(("bmx/models/**/*.py",), ("tests/models", "bmx/models")),
    "optimizer": Room(("bmx/optimizer/**/*.py",), ("tests/test_optimizer.py", "bmx/optimizer")),
    "plugin": Room(("bmx/plugin/*.py",), ("tests/plugin", "tests/operators", "tests/test_summary.py")),
    "package": Room(
        ("bmx/*.py",),  # many of which are those of other rooms too
        (
            *("tests/test_import.py", "tests/test_writing.py", "tests/test_arrays.py", "tests/gluon/test_v2_names.py"),
            *("tests/test_summary.py", "tests/test_quantization.py", "tests/test_gradients.py", "tests/operators"),
            *("tests/test_comparison.py", "tests/engine/test_runtime.py", "tests/commands/test_outputs.py"),
        ),
    ),
    "training": Room(("bmx/training/**/*.py",), ("tests/training", "tests/example/test_train.py", "bmx/training")),
    "commands": Room(
        ("bmx/commands/**/*.py", "bmx/cli.py", "bmx/measure/**/*.py", "bmx/network_summary.py"),
        ("tests/commands", "tests/test_cli.py", "tests/test_summary.py", "bmx/commands"),
    ),
}
