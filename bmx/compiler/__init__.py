"""Reads networks of MXNet, bmx and BMXNet, converts them to packed 1-bit weights, and compiles them for the engine."""

from .checkpoint import load_checkpoint
from .compile import Compiled, compile_block, compile_checkpoint, compile_symbol
from .compile_report import CompiledLayer, CompileReport
from .convert import convert_checkpoint
from .report import ConversionReport, LayerReport, Verification
from .unpack import Unpacked, unpack_checkpoint

__all__ = [
    "CompileReport",
    "Compiled",
    "CompiledLayer",
    "ConversionReport",
    "LayerReport",
    "Unpacked",
    "Verification",
    "compile_block",
    "compile_checkpoint",
    "compile_symbol",
    "convert_checkpoint",
    "load_checkpoint",
    "unpack_checkpoint",
]
