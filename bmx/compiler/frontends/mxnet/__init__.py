"""Readers: from MXNet's networks, with their parameters, to the compiler's graph (`bmx.compiler.ir`)."""

from .reader import Network
from .sources import open_block, open_checkpoint

__all__ = ["Network", "open_block", "open_checkpoint"]
