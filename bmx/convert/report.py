"""What a conversion did, as data and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from ..checkpoints.q_layers import QLayer
from ..comparison import Verification

__all__ = ["ConversionReport", "LayerReport"]


@dataclass
class LayerReport:
    """One Q layer of a conversion.

    Attributes
    ----------
    name, kind : str
        Name and operator of the layer.
    act_bit, weight_bit : int
    is_packed : bool
        Whether this conversion packed it.
    bytes_before, bytes_after : int
        Size of its weight.
    note : str
        Why it was not packed, or what is special about it; may be empty.
    """

    name: str
    kind: str
    act_bit: int
    weight_bit: int
    is_packed: bool
    bytes_before: int
    bytes_after: int
    note: str

    @classmethod
    def packed(cls, layer: QLayer, before: int, after: int, note: str) -> LayerReport:
        """Row of a layer that this conversion packed."""
        return cls(layer.name, layer.kind, layer.act_bit, layer.weight_bit, True, before, after, note)

    @classmethod
    def unpacked(cls, layer: QLayer, size: int, reason: str) -> LayerReport:
        """Row of a layer that stays as it is."""
        return cls(layer.name, layer.kind, layer.act_bit, layer.weight_bit, False, size, size, reason)


@dataclass
class ConversionReport:
    """Result of `convert_checkpoint`; ``str(report)`` is a table.

    Attributes
    ----------
    symbol_path, params_path : str
        The written files.
    word_bits : int
    layers : list of LayerReport
        Every Q layer, packed or not.
    bytes_before, bytes_after : int
        Size of the whole .params file.
    remarks : list of str
        What else there is to know.
    verification : Verification or None
        None if it was not asked for.
    """

    symbol_path: str
    params_path: str
    word_bits: int
    layers: List[LayerReport]
    bytes_before: int
    bytes_after: int
    remarks: List[str]
    verification: Optional[Verification] = None

    @property
    def ratio(self) -> float:
        """How many times smaller the .params file is."""
        return self.bytes_before / self.bytes_after

    def __str__(self) -> str:
        others = [self.bytes_before, self.bytes_after]
        rows = [["layer", "kind", "bits", "bytes before", "after", ""]]
        for layer in self.layers:
            bits = f"{layer.act_bit}/{layer.weight_bit}"
            state = "packed" if layer.is_packed else "not packed"
            note = f"{state}: {layer.note}" if layer.note else state
            rows.append([layer.name, layer.kind, bits, f"{layer.bytes_before:,}", f"{layer.bytes_after:,}", note])
            others = [others[0] - layer.bytes_before, others[1] - layer.bytes_after]
        rows.append(["everything else", "", "", f"{others[0]:,}", f"{others[1]:,}", ""])
        ratio = f"{self.ratio:.1f} times smaller"
        rows.append(["file", "", "", f"{self.bytes_before:,}", f"{self.bytes_after:,}", ratio])
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[:3], widths)]
            cells += [cell.rjust(width) for cell, width in zip(row[3:5], widths[3:])]
            lines.append("  ".join([*cells, row[5]]).rstrip())
        lines.insert(1, "  ".join("-" * width for width in widths))
        lines += ["", *self.remarks, str(self.verification or "not verified: not asked for")]
        if self.verification is not None and self.verification.assumed_shape:
            lines.append("(a shape that fits: the checkpoint does not say which it was trained on; --data-shape does)")
        lines.append(f"written with {self.word_bits}-bit words: {self.symbol_path}, {self.params_path}")
        return "\n".join(lines)
