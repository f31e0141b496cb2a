"""The front end for networks of MXNet, bmx and BMXNet: files, symbols and Gluon's blocks."""

from ....registration import require_mxnet

require_mxnet("compiling a network of MXNet")

from .entry_points import compile_block, compile_checkpoint, compile_symbol  # noqa: E402
from .reader import MXNetFrontEnd  # noqa: E402
from .sources import open_block, open_checkpoint  # noqa: E402

__all__ = ["MXNetFrontEnd", "compile_block", "compile_checkpoint", "compile_symbol", "open_block", "open_checkpoint"]
