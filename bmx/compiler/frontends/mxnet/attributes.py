"""Attributes of a node of MXNet's JSON, which are all text, as numbers, flags and tuples."""

from __future__ import annotations

import ast
import re
from typing import Optional, Tuple

from ....checkpoints.symbol_file import SymbolNode
from ....errors import Error

__all__ = ["Attributes"]

_TRUE, _FALSE = ("True", "true", "1"), ("False", "false", "0")


class Attributes:
    """The attributes of a node. Every method takes a name and a default; without a default the attribute must be there.

    Raises
    ------
    bmx.Error
        From every method, if the text is not what was asked for.
    """

    def __init__(self, node: SymbolNode):
        self._texts = node.attributes

    def _literal(self, name: str) -> object:
        text = self._texts[name]
        try:
            return ast.literal_eval(re.sub(r"(\d)L\b", r"\1", text.strip()))  # Python 2 wrote (3L, 3L)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return text

    def integer(self, name: str, default: Optional[int] = None) -> int:
        """An integer."""
        return self._typed(name, default, int, "an integer")

    def number(self, name: str, default: Optional[float] = None) -> float:
        """A number, also inf and nan."""
        if name in self._texts and self._texts[name].strip().lower() in ("inf", "-inf", "nan"):
            return float(self._texts[name])
        return float(self._typed(name, default, (int, float), "a number"))

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        text = self._texts.get(name, str(default))
        if text == "None":  # of an optional flag
            return default
        if text not in _TRUE + _FALSE:
            raise Error(f"{name} is {text!r}; allowed: True and False")
        return text in _TRUE

    def word(self, name: str, default: str, *allowed: str) -> str:
        """One of some words."""
        text = self._texts.get(name, default)
        if text not in allowed:
            raise Error(f"{name} is {text!r}; allowed: {', '.join(allowed)}")
        return text

    def integers(self, name: str, default: Optional[Tuple[int, ...]] = None) -> Tuple[int, ...]:
        """A tuple of integers; one integer is a tuple of one."""
        values = self.optional_integers(name, default)
        if any(value is None for value in values):
            raise Error(f"{name} is {self._texts[name]!r}; allowed are integers")
        return values

    def optional_integers(self, name: str, default: Optional[Tuple[int, ...]] = None) -> Tuple[Optional[int], ...]:
        """A tuple of integers and None."""
        if self.absent(name) and default is not None:
            return default
        value = self._literal(name) if name in self._texts else None
        values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
        if name not in self._texts or not all(v is None or _is_integer(v) for v in values):
            raise Error(f"{name} is {self._texts.get(name)!r}; it must be integers such as (1, 1)")
        return values

    def absent(self, name: str) -> bool:
        """Whether there is no such attribute, or None."""
        return self._texts.get(name, "None") == "None"

    def _typed(self, name, default, kind, what):
        if self.absent(name) and default is not None:
            return default
        value = self._literal(name) if name in self._texts else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise Error(f"{name} is {self._texts.get(name)!r}; it must be {what}")
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
