"""The command ``bmx``: leaves the work to the command's module, and makes one line of its errors."""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

from .commands import bench, compile, export_c, inspect, launch, run, summary, version
from .errors import Error

_EXAMPLES = """\
examples:
  bmx compile runs/resnet18-0120.params -o resnet18.bmx --int8 first-last
  bmx inspect resnet18.bmx
  bmx run resnet18.bmx cat.jpg --labels imagenet.txt
  bmx bench resnet18.bmx resnet18.onnx --threads 1,2 --plot resnet18.png
  bmx export-c lenet.bmx -o lenet
  bmx convert runs/lenet-1bit-0020.params
  bmx summary resnet18_e1 --shape 3,224,224
  bmx launch -n 2 -s 1 -- python example/train_resnet18_cifar10.py --kv-store dist_sync

bmx COMMAND --help says more.
exit status: 0 if all went well, 1 if not (one line on stderr says why), 2 for wrong arguments
"""


def main(arguments: Optional[List[str]] = None) -> int:
    """Run ``bmx`` with these arguments (default: the command line's); return the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["convert"]:  # it has a parser of its own
        from .compiler.command import main as convert

        return convert(arguments[1:])
    program: List[str] = []
    if arguments[:1] == ["launch"] and "--" in arguments:
        place = arguments.index("--")
        arguments, program = arguments[:place], arguments[place + 1 :]
    args = _parser().parse_args(arguments, argparse.Namespace(program=program))
    try:
        return args.run(args)
    except Error as error:
        print(f"bmx {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
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
    for module in (compile, inspect, run, bench, export_c):
        module.add_parser(commands)
    commands.add_parser("convert", help="pack a trained network: one bit a weight", add_help=False)
    for module in (summary, launch, version):
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
