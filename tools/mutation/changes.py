"""The small wrong changes that can be made to a file.

In Python they are those of cosmic-ray, on its syntax tree. For C++ there is a table of switches: clang-format sets
spaces around binary operators and none inside of template arguments and pointers, so a regular expression finds them.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

from . import Failed


@dataclass(frozen=True)
class Change:
    """A change to one file; `text` gives the file's new text."""

    path: Path
    line: int
    name: str
    text: Callable[[], str]


Place = Tuple[Path, object]
"""A file, and a position in it; a place may be changed in several ways."""


def changes(path: Path, source: str) -> Dict[Place, List[Change]]:
    """All changes that can be made to a file, by place."""
    found: Dict[Place, List[Change]] = {}
    for position, change in (_python if path.suffix == ".py" else _cpp)(path, source):
        found.setdefault((path, position), []).append(change)
    return found


# Operators that take the same types, so that a change is a wrong number rather than a TypeError.
_INSTEAD = {
    "ReplaceBinaryOperator": {
        "Add": "Sub",
        "Sub": "Add",
        "Mul": "Add FloorDiv",
        "Div": "Mul",
        "FloorDiv": "Mul Mod",
        "Mod": "FloorDiv",
        "Pow": "Mul",
        "RShift": "LShift",
        "LShift": "RShift",
        "BitOr": "BitAnd",
        "BitAnd": "BitOr",
        "BitXor": "BitOr",
    },
    "ReplaceComparisonOperator": {
        "Eq": "NotEq LtE GtE",
        "NotEq": "Eq Lt Gt",
        "Lt": "LtE Gt",
        "LtE": "Lt GtE",
        "Gt": "GtE Lt",
        "GtE": "Gt LtE",
        "Is": "IsNot",
        "IsNot": "Is",
    },
    "ReplaceUnaryOperator": {"USub": "UAdd", "Delete": "Not Invert"},
}
_OTHERS = (
    "ReplaceTrueWithFalse ReplaceFalseWithTrue ReplaceAndWithOr ReplaceOrWithAnd AddNot ReplaceBreakWithContinue "
    "ReplaceContinueWithBreak NumberReplacer ZeroIterationForLoop"
)


def _operator_names() -> List[str]:
    names = ["core/" + name for name in _OTHERS.split()]
    for family, pairs in _INSTEAD.items():
        names += [f"core/{family}_{one}_{other}" for one, others in pairs.items() for other in others.split()]
    return names


def _python(path: Path, source: str) -> Iterator[Tuple[object, Change]]:
    try:
        from cosmic_ray.ast import ast_nodes, get_ast
        from cosmic_ray.mutating import mutate_code
        from cosmic_ray.plugins import get_operator
    except ImportError:
        raise Failed("changes to Python code need cosmic-ray: pip install -e '.[mutants]'") from None

    nodes = list(ast_nodes(get_ast(source)))
    types = [(found.start_pos, found.end_pos) for found in map(_annotation, nodes) if found is not None]
    for name in _operator_names():
        operator = get_operator(name)()
        positions = [position for node in nodes for position in operator.mutation_positions(node)]
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start and end <= last for first, last in types):
                text = partial(mutate_code, source, operator, occurrence)
                yield (start, end), Change(path, start[0], name[len("core/") :], text)


def _annotation(node: Any) -> Any:
    """The type that a node of the syntax tree gives a parameter, a result or a variable; None if it gives none."""
    if node.type == "annassign":
        return node.children[1]
    return node.annotation if node.type in ("param", "funcdef") else None


_SWITCHES = [
    (r" <(=?) ", " <{other} "),  # the other of < and <=
    (r" >(=?) ", " >{other} "),
    (r" (<|>)=? ", " {turned} "),
    (r" == ", " != "),
    (r" != ", " == "),
    (r" && ", " || "),
    (r" \|\| ", " && "),
    (r" \+ ", " - "),
    (r" - ", " + "),
    (r" \* ", " + "),
    (r" / ", " * "),
    (r" % ", " / "),
    (r" << ", " >> "),
    (r" >> ", " << "),
    (r" & ", " | "),
    (r" \| ", " & "),
    (r" \^ ", " | "),
    (r" \+= ", " -= "),
    (r" -= ", " += "),
    (r" \*= ", " += "),
    (r" &= ", " |= "),
    (r" \|= ", " &= "),
    (r"(?<=[(\s])!(?=[\w(])", ""),
    (r"(?<=[(\s,=])-(?=[\w(])", ""),
    (r"(?<=[(\s])~(?=[\w(])", ""),
    (r"\btrue\b", "false"),
    (r"\bfalse\b", "true"),
    (r"\bmin\b", "max"),
    (r"\bmax\b", "min"),
    (r"\bbreak;", "continue;"),
    (r"\bcontinue;", "break;"),
    (r"(?<![\w.])\d+(?![\w.'])", "{more}"),
    (r"(?<![\w.])\d+(?![\w.'])", "{less}"),
    (r"\bif \((?!const|auto)", "if (!"),
]
# What is no code: comments, text, lines of the preprocessor (with those that follow a backslash), static assertions.
_NO_CODE = re.compile(
    r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:\\\n|[^\n])*|static_assert\([^;]*;",
    re.DOTALL | re.MULTILINE,
)


def _cpp(path: Path, source: str) -> Iterator[Tuple[object, Change]]:
    code = _NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), source)
    for pattern, instead in _SWITCHES:
        for match in re.finditer(pattern, code):
            start, end = match.span()
            after = _filled(instead, match[0])
            if after != match[0]:
                name = f"{match[0].strip()} -> {after.strip() or 'nothing'}"
                text = partial("{}{}{}".format, source[:start], after, source[end:])
                yield start, Change(path, source.count("\n", 0, start) + 1, name, text)


def _filled(instead: str, before: str) -> str:
    """What comes instead of `before`."""
    number = int(before) if before.isdigit() else 0
    other, turned = "" if "=" in before else "=", before.strip().translate(str.maketrans("<>", "><"))
    return instead.format(other=other, turned=turned, more=number + 1, less=max(number - 1, 0))
