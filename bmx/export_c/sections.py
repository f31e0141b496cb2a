"""The kernels in C, divided into sections. A network gets only the sections that it uses.

A section begins with ``/*@ name: sections that it needs */``. The files are C code of a network called ``net``;
`rename` changes the name. Sections with names in capital letters are templates: each convolution, function or operation
with an operand gets a section made from its template.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Dict, Iterable, List, Set, Tuple

from ..program.operations import FUNCTIONS, OPERATIONS

__all__ = ["chosen", "rename", "text_of"]

_FOLDER = Path(__file__).parent / "c"
_FILES = (
    *("base.c", "conv.c", "bits_by_bits.c", "floats_by_floats.c", "bytes_by_bytes.c", "floats_by_signs.c"),
    *("bytes_by_signs.c", "epilogue.c", "steps.c"),
)
_CONVOLUTIONS = ("bits_by_bits", "floats_by_floats", "bytes_by_bytes", "floats_by_signs", "bytes_by_signs")


@lru_cache(maxsize=None)
def text_of(file: str) -> str:
    """A file of the folder `c`."""
    return (_FOLDER / file).read_text(encoding="ascii")


@lru_cache(maxsize=None)
def _sections() -> Dict[str, Tuple[Set[str], str]]:
    """All sections in the order of the output. Maps a name to the names of the sections that it needs and its text."""
    found: Dict[str, Tuple[Set[str], str]] = {}
    for file in _FILES:
        _, *parts = re.split(r"^/\*@ (.*?) \*/\n", text_of(file), flags=re.MULTILINE)
        for head, text in zip(parts[::2], parts[1::2]):
            name, _, needs = head.partition(":")
            found[name] = (set(needs.split()), text.strip() + "\n")
    needs, text = found.pop("KIND")
    for kind in _CONVOLUTIONS:
        found[kind] = (needs | {f"{kind}_tile"}, text.replace("KIND", kind))
    needs, text = found.pop("FUNCTION")
    for name, function in FUNCTIONS.items():
        found[f"apply_{name}"] = (needs, text.replace("FUNCTION", name).replace("EXPRESSION", function.c))
    templates = [(ending, *found.pop(f"OPERAND{ending}")) for ending in ("", "_pixel")]
    for row in OPERATIONS:
        for ending, needs, text in templates if row.c else ():
            found[f"{row.word}{ending}"] = (needs, text.replace("OPERAND", row.word).replace("EXPRESSION", row.c))
    return found


def chosen(names: Iterable[str]) -> str:
    """The text of these sections and of all that they need."""
    sections = _sections()
    wanted: Set[str] = set()
    pending: List[str] = list(names)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            pending += sections[name][0]
    return "\n".join(text for name, (_, text) in sections.items() if name in wanted)


def rename(text: str, name: str) -> str:
    """Renames the network ``net`` in a text: its functions, macros and files.

    Examples
    --------
    >>> rename('int net_run(void); /* NET_OK */ #include "net.h"', "lenet")
    'int lenet_run(void); /* LENET_OK */ #include "lenet.h"'
    """
    text = re.sub(r"(?<![A-Za-z0-9_])(test_)?net(?=_[a-z]|\.[cho]\b)", rf"\g<1>{name}", text)
    text = re.sub(r'(?<=")net(?=: )|\btest_net\b', lambda found: found.group().replace("net", name), text)
    return re.sub(r"(?<![A-Za-z0-9_])NET(?=_[A-Z])", name.upper(), text)
