"""The command ``bmx``: start trainings on several machines, pack networks, count their bits."""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional, Tuple

from .errors import Error

_EXAMPLES = """\
examples:
  bmx launch -n 2 -s 1 -- python example/train_resnet18_cifar10.py --kv-store dist_sync
  bmx convert runs/lenet-1bit-0020.params
  bmx summary resnet18_e1 --shape 3,224,224
  bmx summary runs/lenet-1bit-symbol.json --shape 1,28,28
"""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run ``bmx`` with these arguments (default: the command line's); return the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["convert"]:  # it has a parser of its own
        from .compiler.command import main as convert

        return convert(arguments[1:])
    command: List[str] = []
    if arguments[:1] == ["launch"] and "--" in arguments:
        place = arguments.index("--")
        arguments, command = arguments[:place], arguments[place + 1 :]
    args = _parser().parse_args(arguments)
    try:
        return args.run(args, command)
    except Error as error:
        print(f"bmx {args.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # into `head`
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bmx",
        description="Binary and low-bit neural networks for Apache MXNet.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    launch = commands.add_parser(
        "launch",
        help="start the processes of a distributed training",
        usage="bmx launch -n WORKERS -s SERVERS [options] -- PROGRAM ...",
        description="Start a scheduler, servers and workers on this machine, or one of them as part of several machines"
        " (docs/distributed.md). When one fails, the others are stopped.",
    )
    launch.add_argument("-n", "--workers", type=int, default=1, metavar="N", help="number of workers (default: 1)")
    launch.add_argument("-s", "--servers", type=int, default=1, metavar="N", help="number of servers (default: 1)")
    launch.add_argument(
        "--scheduler", type=_address, metavar="HOST:PORT", help="address of the scheduler (default: this machine)"
    )
    launch.add_argument("--role", choices=("scheduler", "server", "worker"), help="start one process of this role only")
    launch.add_argument("--print", action="store_true", help="start nothing, print what to run on each host")
    launch.add_argument("--timeout", type=float, metavar="SECONDS", help="stop everything after this time")
    launch.set_defaults(run=_launch)

    commands.add_parser("convert", help="pack a trained network: one bit a weight", add_help=False)

    summary = commands.add_parser(
        "summary",
        help="count the bits of a network",
        description="Print the layers of a network with bits, weights, multiply-adds and memory.",
    )
    summary.add_argument("network", metavar="NAME|FILE-symbol.json", help="a network of the zoo, or a symbol's file")
    summary.add_argument(
        "--shape", type=_shape, default=(3, 224, 224), metavar="C,H,W", help="of an image (default: 3,224,224)"
    )
    summary.add_argument("--bits", type=int, default=1, help="of the weights of a network of the zoo (default: 1)")
    summary.add_argument("--bits-a", type=int, help="of its activations (default: as --bits)")
    summary.set_defaults(run=_summary)

    commands.add_parser("version", help="print the versions of bmx and MXNet").set_defaults(run=_version)
    return parser


def _address(text: str) -> Tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not 0 < int(port) < 65536:
        raise ValueError
    return host, int(port)


def _shape(text: str) -> Tuple[int, ...]:
    sizes = tuple(int(size) for size in text.split(","))
    if min(sizes) < 1:
        raise ValueError
    return sizes


_address.__name__, _shape.__name__ = "HOST:PORT", "shape"  # argparse: "invalid shape value"


def _launch(args: argparse.Namespace, command: List[str]) -> int:
    from .training.launch import instructions, launch

    host, port = args.scheduler or ("127.0.0.1", None)
    if args.print:
        print(instructions(command, args.workers, args.servers, host, port or 9091))
        return 0
    return launch(command, args.workers, args.servers, host, port, args.role, args.timeout)


def _summary(args: argparse.Namespace, command: List[str]) -> int:
    import mxnet as mx

    from .models import get_model
    from .summary import summary

    if args.network.endswith(".json"):
        try:
            network = mx.sym.load(args.network)
        except mx.MXNetError as error:
            raise Error(f"{args.network}: cannot be read: {str(error).strip().splitlines()[-1]}") from None
    else:
        network = get_model(args.network, args.bits, args.bits if args.bits_a is None else args.bits_a)
    print(summary(network, args.shape))
    return 0


def _version(args: argparse.Namespace, command: List[str]) -> int:
    import mxnet as mx

    from . import __version__

    print(f"bmx {__version__}, MXNet {mx.__version__}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
