"""``bmx inspect``: show the parts of a compiled network."""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from typing import Any

from .arguments import add_command


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "inspect",
        "show the steps, shapes and sizes of a .bmx file",
        "bmx inspect resnet18.bmx",
        description="Print the steps of a compiled network: what each computes, the shapes and types that it reads and"
        " writes, the size of its weights, its multiply-adds and the memory that it writes. Totals by arithmetic"
        " follow. Needs no MXNet.",
    )
    parser.add_argument("file", metavar="FILE.bmx")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table and the totals."""
    from ..program import decode, describe

    program = decode(args.file)
    print(program)
    macs, weights = Counter(), Counter()
    for row in describe(program):
        arithmetic = re.split(" conv| depthwise", row.what)[0] if row.macs else "other"
        macs[arithmetic] += row.macs
        weights[arithmetic] += row.weights
    print()
    for arithmetic in sorted(+weights, key=lambda name: (-macs[name], name)):
        share = f", {macs[arithmetic]:,} MACs ({macs[arithmetic] / sum(macs.values()):.1%})" if macs[arithmetic] else ""
        print(f"{arithmetic}: {weights[arithmetic]:,} bytes of weights{share}")
    print(f"file: {os.path.getsize(args.file):,} bytes; memory for the tensors of an image: {program.arena:,} bytes")
    return 0
