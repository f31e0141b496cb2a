"""`tools/mutants`: its arguments, and what it prints."""

import argparse
import difflib
import random
import signal
import sys
from pathlib import Path
from time import monotonic
from typing import Dict, Iterator, List, Optional, Sequence

from . import Failed
from .changes import Change, changes
from .rooms import ROOMS, Room
from .tree import Tree

CHUNK = 3.0  # seconds of tests that one process runs
ROOT = Path(__file__).resolve().parent.parent.parent

DESCRIPTION = """\
Makes random small changes to the code, one at a time, and runs the tests of the changed room after each: fast files
first, until one fails. Prints the changes that no test noticed, and the share of those that one did. A survivor is
either a missing test or a change that changes nothing; look at it to know. Everything happens in a copy of the tree.

Python code needs cosmic-ray: pip install -e '.[mutants]'."""

EXAMPLES = """\
rooms:
  {rooms}

examples:
  tools/mutants passes --count 20             20 changes in bmx/compiler/passes
  tools/mutants passes gluon --seed 7         others than those of seed 1; 10 in each of two rooms
  tools/mutants all --count 15                15 changes in every room: hours
  tools/mutants engine --survivors found      writes found/engine-1-3.patch, to be tried with `git apply`
  tools/mutants passes --files '*signs.py'    only in files of that name
"""


def _arguments(arguments: Optional[Sequence[str]]) -> argparse.Namespace:
    rooms = "\n  ".join(f"{name:14}{' '.join(room.sources)}" for name, room in ROOMS.items())
    parser = argparse.ArgumentParser(
        prog="tools/mutants",
        description=DESCRIPTION,
        epilog=EXAMPLES.format(rooms=rooms),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("rooms", nargs="+", metavar="ROOM", choices=[*ROOMS, "all"], help="one of those below, or all")
    parser.add_argument(
        "--count", type=int, default=10, metavar="N", help="changes in each room (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="other changes (default: %(default)s)")
    parser.add_argument("--files", default="*", metavar="PATTERN", help="only in files whose path matches")
    parser.add_argument("--survivors", type=Path, metavar="DIR", help="write what was not noticed to patches in DIR")
    args = parser.parse_args(arguments)
    if args.count < 1:
        parser.error(f"--count is {args.count}; it must be 1 or more")
    args.rooms = list(ROOMS) if "all" in args.rooms else args.rooms
    return args


def choose(room: Room, root: Path, seed: int, pattern: str = "*") -> List[Change]:
    """All places of a room in random order, with a random change to each."""
    places = {}
    for path in room.files(root):
        if path.match(pattern):
            places.update(changes(path, (root / path).read_text()))
    generator = random.Random(seed)
    return [generator.choice(places[place]) for place in generator.sample(list(places), len(places))]


def _difference(before: str, after: str, path: Path) -> str:
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), f"a/{path}", f"b/{path}", n=2)
    return "".join(lines)


def _valid(change: Change, before: str) -> bool:
    """Whether a change to Python is one, and can be compiled."""
    after = change.text()
    if after == before:
        return False
    if change.path.suffix == ".py":
        try:
            compile(after, str(change.path), "exec")
        except SyntaxError:
            return False
    return True


class Tests:
    """The tests of a room, those first that noticed most for the time they take.

    Parameters
    ----------
    tree : Tree
        Where they run.
    room : Room
        Whose tests.
    seconds : dict
        How long each Python file takes.
    """

    def __init__(self, tree: Tree, room: Room, seconds: Dict[str, float]):
        self.tree, self.room, self.seconds = tree, room, seconds
        self.noticed = dict.fromkeys(seconds, 0)

    def timeout(self, files: Sequence[str]) -> float:
        """Seconds after which tests hang, on a busy machine too."""
        return 120 + 10 * sum(self.seconds[file] for file in files)

    def notice(self) -> bool:
        """Run them until one fails; says whether one does."""
        for isa in ("", "portable"):
            for program in self.room.programs:
                if self.tree.run_program(program, isa, 1200) is not None:
                    return True
        for files in self._chunks():
            if self.tree.run_pytest(files, self.timeout(files)) is not None:
                for file in files:
                    self.noticed[file] += 1
                return True
        return False

    def _chunks(self) -> Iterator[List[str]]:
        chunk: List[str] = []
        for file in sorted(self.seconds, key=lambda file: (0.3 + self.seconds[file]) / (1 + self.noticed[file])):
            chunk.append(file)
            if sum(self.seconds[file] for file in chunk) > CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


def examine(name: str, tree: Tree, seconds: Dict[str, float], args: argparse.Namespace) -> str:
    """Change a room `args.count` times; returns a line that says how many changes were noticed."""
    room = ROOMS[name]
    chosen = choose(room, tree.path, args.seed, args.files)
    if not chosen:
        raise Failed(f"{name}: nothing to change in files like {args.files}")
    new = [test for test in room.python if test not in seconds]
    if new:
        print(f"{name}: {len(chosen)} places; running its tests", flush=True)
    for test in new:  # files and folders, which several rooms may share
        seconds.update({test: -1.0, **tree.durations([test])})
    files = {file: time for file, time in seconds.items() if time >= 0 and _below(file, room.python)}
    tests = Tests(tree, room, files)
    if room.programs and tests.notice():
        raise Failed(f"{name}: without any change, tests fail")
    made = noticed = 0
    for change in chosen:
        if made == args.count:
            break
        file = tree.path / change.path
        before, start = file.read_text(), monotonic()
        if not _valid(change, before):
            continue
        try:
            file.write_text(change.text())
            if room.compiled and tree.build() is not None:
                continue
            survived = not tests.notice()
        finally:
            file.write_text(before)
        made += 1
        noticed += not survived
        place = f"{'SURVIVED' if survived else 'noticed '} {monotonic() - start:4.0f} s  {change.path}:{change.line}"
        print(f"[{made:3}/{args.count}] {place}  {change.name}", flush=True)
        if survived:
            _report(_difference(before, change.text(), change.path), args.survivors, f"{name}-{args.seed}-{made}")
    if room.compiled:
        tree.build()
    return f"{name}: {noticed} of {made} noticed, {100 * noticed / max(made, 1):.0f} % (seed {args.seed})"


def _below(file: str, tests: Sequence[str]) -> bool:
    return any(file == test or file.startswith(test + "/") for test in tests)


def _report(difference: str, folder: Optional[Path], name: str) -> None:
    print("".join(f"    {line}\n" for line in difference.splitlines()), flush=True)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.patch").write_text(difference)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns its exit status."""
    args = _arguments(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the copy is removed
    lines = []
    try:
        programs = [program for name in args.rooms for program in ROOMS[name].programs]
        compiled = any(ROOMS[name].compiled for name in args.rooms)
        with Tree(ROOT, compiled, programs) as tree:
            seconds: Dict[str, float] = {}
            for name in args.rooms:
                lines.append(examine(name, tree, seconds, args))
                print(lines[-1], flush=True)
    except Failed as error:
        print(f"tools/mutants: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tools/mutants: interrupted", file=sys.stderr)
        return 130
    if len(lines) > 1:
        print("\n" + "\n".join(lines))
    return 0
