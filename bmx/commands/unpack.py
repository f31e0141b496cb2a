"""``bmx unpack``: make weights that can be trained of packed ones."""

from __future__ import annotations

import argparse
from typing import Any

from .arguments import add_command, shape


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "unpack",
        "make weights that can be trained of packed ones",
        "bmx unpack binarized_lenet-0020.params\nbmx unpack binarized_lenet-0020.params --output runs/finetune",
        description="Write a packed checkpoint with float weights, -1 and +1, in place of the bits. The network gives"
        " the same outputs, and can be fine-tuned.",
    )
    parser.add_argument("params", metavar="PREFIX-NNNN.params", help="the checkpoint; PREFIX-symbol.json is beside it")
    parser.add_argument("--output", help="folder, or path prefix instead of latent_PREFIX (default: beside the input)")
    parser.add_argument("--no-verify", action="store_true", help="do not run both networks on samples")
    parser.add_argument("--data-shape", type=shape, metavar="C,H,W", help="of one sample (default: one that fits)")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Unpack, print what was done."""
    from ..registration import require_mxnet

    require_mxnet("unpacking")
    from ..convert.unpack import unpack_checkpoint

    options = {"verify": not args.no_verify, "force": args.force, "data_shape": args.data_shape}
    print(unpack_checkpoint(args.params, args.output, **options))
    return 0
