"""``bmx version``, also ``bmx --version``: print the versions of bmx and MXNet and the kernels in use and at hand."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from .. import __version__, library
from ..errors import Error


def add_parser(commands: Any) -> None:
    """Describe the arguments, of which there are none."""
    text = "print the versions of bmx and MXNet, the kernels in use, and all that this machine runs"
    commands.add_parser("version", help=text).set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line."""
    try:
        mxnet = f"MXNet {importlib.import_module('mxnet').__version__}"
    except ImportError:
        mxnet = "no MXNet"
    except Error as error:
        mxnet = str(error)
    try:
        kernels = f"kernels {library.isa()} (this machine runs {', '.join(library.isas())})"
    except Error as error:
        kernels = f"no kernels: {error}"
    print(f"bmx {__version__}, {mxnet}, {kernels}")
    return 0
