"""Compiles networks of MXNet, bmx and BMXNet for the engine."""

from .compile_report import CompiledLayer, CompileReport
from .pipeline import Compiled, compile_block, compile_checkpoint, compile_symbol

__all__ = ["CompileReport", "Compiled", "CompiledLayer", "compile_block", "compile_checkpoint", "compile_symbol"]
