"""``bmx summary``: count the bits of a network."""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import Error
from .arguments import add_command, shape


def add_parser(commands: Any) -> None:
    """Describe the arguments."""
    parser = add_command(
        commands,
        "summary",
        "count the bits of a network",
        "bmx summary resnet18_e1 --shape 3,224,224\nbmx summary runs/lenet-1bit-symbol.json --shape 1,28,28",
        description="Print the layers of a network with bits, weights, multiply-adds and memory.",
    )
    parser.add_argument("network", metavar="NAME|FILE-symbol.json", help="a network of the zoo, or a symbol's file")
    parser.add_argument(
        "--shape", type=shape, default=(3, 224, 224), metavar="C,H,W", help="of an image (default: 3,224,224)"
    )
    parser.add_argument("--bits", type=int, default=1, help="of the weights of a network of the zoo (default: 1)")
    parser.add_argument("--bits-a", type=int, help="of its activations (default: as --bits)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from .._lazy import require_mxnet

    require_mxnet("a summary")
    import mxnet as mx

    from ..models import get_model
    from ..network_summary import summary

    if args.network.endswith(".json"):
        try:
            network = mx.sym.load(args.network)
        except mx.MXNetError as error:
            raise Error(f"{args.network}: cannot be read: {str(error).strip().splitlines()[-1]}") from None
    else:
        network = get_model(args.network, args.bits, args.bits if args.bits_a is None else args.bits_a)
    print(summary(network, args.shape))
    return 0
