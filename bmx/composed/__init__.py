"""The composed path: bmx's operators as compositions of built-in MXNet operators.

Values and gradients are those of the C++ operators (1-bit results are equal integers), on every device that MXNet runs
on. libbmx has kernels for the CPU only, so this is what runs on a GPU, and what the C++ operators are tested against.

The other functions take ``F`` (``mx.nd`` or ``mx.sym``), the inputs and the attributes of the operator. :func:`compose`
rewrites a whole symbol.
"""

from .operators import OPERATORS, fan_in, pad_spatial, qactivation, qconvolution, qfully_connected, rprelu, scale, shift
from .symbol import compose

__all__ = [
    "OPERATORS",
    "compose",
    "fan_in",
    "pad_spatial",
    "qactivation",
    "qconvolution",
    "qfully_connected",
    "rprelu",
    "scale",
    "shift",
]
