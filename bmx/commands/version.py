"""``bmx version``: print the versions of bmx and MXNet."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from .. import __version__


def add_parser(commands: Any) -> None:
    """Describe the arguments, of which there are none."""
    commands.add_parser("version", help="print the versions of bmx and MXNet").set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line."""
    try:
        mxnet = f"MXNet {importlib.import_module('mxnet').__version__}"
    except ImportError:
        mxnet = "no MXNet"
    print(f"bmx {__version__}, {mxnet}")
    return 0
