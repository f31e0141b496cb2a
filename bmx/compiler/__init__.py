"""Reads checkpoints of MXNet, bmx and BMXNet v1, and converts trained networks to packed 1-bit weights."""

from .checkpoint import load_checkpoint
from .convert import convert_checkpoint
from .report import ConversionReport, LayerReport, Verification

__all__ = ["ConversionReport", "LayerReport", "Verification", "convert_checkpoint", "load_checkpoint"]
