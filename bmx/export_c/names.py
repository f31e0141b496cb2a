"""Names in the C code: the prefix that the user chooses, and an identifier for each layer and tensor."""

from __future__ import annotations

import re
from typing import Iterable, Set

from ..errors import Error

__all__ = ["Identifiers", "check_name", "comment"]

_KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register"
    " restrict return short signed sizeof static struct switch typedef union unsigned void volatile while"
    " asm bool catch class delete explicit export false friend mutable namespace new nullptr operator private protected"
    " public template this throw true try typename typeof using virtual alignas alignof constexpr noexcept".split()
)
_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg stdatomic"
    " stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar wctype".split()
)


def check_name(name: str) -> None:
    """Check the prefix of all files, functions and macros of a network.

    Raises
    ------
    bmx.Error
        If it is not a C identifier, a keyword of C or C++, reserved, or the name of a header of C.

    Examples
    --------
    >>> check_name("lenet")
    >>> check_name("2nd")
    Traceback (most recent call last):
    bmx.errors.Error: the name '2nd' is not a C identifier: a letter, then letters, digits and underscores
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise Error(f"the name {name!r} is not a C identifier: a letter, then letters, digits and underscores")
    if name.lower() in _KEYWORDS:
        raise Error(f"the name {name!r} is a keyword of C or C++; choose another, such as {name}_net")
    if name.lower() in _HEADERS:
        raise Error(f"the name {name!r} is that of a C header, {name}.h; choose another, such as {name}_net")
    if len(name) > 40:
        raise Error(f"the name {name!r} has {len(name)} characters; at most 40 are allowed")


class Identifiers:
    """Makes C identifiers that are unique even without regard to case and avoid those in `reserved`."""

    def __init__(self, prefix: str, reserved: Iterable[str] = ()):
        self.prefix = prefix
        self._taken: Set[str] = {prefix + name for name in reserved}

    def new(self, name: str) -> str:
        """A new identifier like the name. Characters that C does not allow become underscores; duplicates get numbers.

        Examples
        --------
        >>> layers = Identifiers("layer_")
        >>> layers.new("conv-1"), layers.new("conv 1"), layers.new("")
        ('layer_conv_1', 'layer_conv_1_2', 'layer_unnamed')
        """
        base = self.prefix + (re.sub(r"[^A-Za-z0-9_]", "_", name)[:60] or "unnamed")
        identifier, number = base, 1
        while identifier.lower() in self._taken:
            number += 1
            identifier = f"{base}_{number}"
        self._taken.add(identifier.lower())
        return identifier


def comment(text: str) -> str:
    """Makes a text safe for a comment or string in C. Letters of all scripts are kept.

    Examples
    --------
    >>> comment("a */ b"), comment("слой 1"), comment("1 $")
    ('a * / b', 'слой 1', '1 _')
    """
    text = re.sub(r"[^\w .,:;()+*/<>=|%&-]", "_", text)
    return re.sub(r"(?<=\*)(?=/)|(?<=/)(?=[*/])", " ", text)
