"""Tables as text."""

from __future__ import annotations

from typing import List, Sequence

__all__ = ["aligned"]


def aligned(rows: Sequence[Sequence[str]], left: int) -> List[str]:
    """Lines of aligned cells, the first `left` columns to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip()
        for row in rows
    ]
