"""The command ``bmx``: leaves the work to the command's module, and makes one line of its errors."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
from typing import List, Optional, TextIO

from .errors import Error

_EXAMPLES = """\
examples:
  bmx compile runs/resnet18-0120.params -o resnet18.bmx --int8 first-last
  bmx inspect resnet18.bmx
  bmx run resnet18.bmx cat.jpg --labels imagenet.txt
  bmx bench resnet18.bmx resnet18.onnx --threads 1,2 --plot resnet18.png
  bmx export-c lenet.bmx -o lenet
  bmx convert runs/lenet-1bit-0020.params
  bmx unpack runs/binarized_lenet-1bit-0020.params
  bmx summary resnet18_e1 --data-shape 3,224,224
  bmx launch -n 2 -s 1 -- python example/train_resnet18_cifar10.py --kv-store dist_sync

bmx COMMAND --help says more.
exit status: 0 if all went well, 1 if not (one line on stderr says why), 2 for wrong arguments
"""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def main(arguments: Optional[List[str]] = None) -> int:
    """Run ``bmx`` with these arguments (default: the command line's); return the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of layers may be of any script, as sys.stderr's are
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:  # it is None where a shell's >&- has closed it
                sys.stdout.flush()  # now, when errors can be told
    except BrokenPipeError:  # into `head`
        _drop_output()
        return 1
    except OSError as error:
        if error.filename is not None or error.errno not in _FULL:
            raise
        _drop_output()
        command = " ".join(["bmx", *(word for word in arguments[:1] if not word.startswith("-"))])
        print(f"{command}: the standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 1


def _drop_output() -> None:
    """Leave nothing that Python would try to write, and complain about, at its end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _run(arguments: List[str]) -> int:
    program: List[str] = []
    if arguments[:1] == ["launch"] and "--" in arguments:
        place = arguments.index("--")
        arguments, program = arguments[:place], arguments[place + 1 :]
    if arguments[:1] == ["--version"]:
        arguments = ["version", *arguments[1:]]
    try:
        if arguments[:1] == ["convert"]:  # it has a parser of its own
            from .commands.convert import main as convert

            return convert(arguments[1:], "bmx convert")
        args = _parser().parse_args(arguments, argparse.Namespace(program=program))
        return args.run(args)
    except Error as error:
        print(f"bmx {arguments[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


class _Parser(argparse.ArgumentParser):
    """Its own, and those of the commands, which are of the same class."""

    def print_help(self, file: Optional[TextIO] = None) -> None:
        """As argparse's, which keeps errors to itself."""
        print(self.format_help(), end="", file=file)


def _parser() -> argparse.ArgumentParser:
    # Here, where Ctrl-C is no traceback: they import NumPy.
    from .commands import bench, compile, export_c, inspect, launch, run, summary, unpack, version

    parser = _Parser(
        prog="bmx",
        description="Binary and low-bit neural networks for Apache MXNet.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="as the command version")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (compile, inspect, run, bench, export_c):
        module.add_parser(commands)
    commands.add_parser("convert", help="pack a trained network: one bit a weight", add_help=False)
    for module in (unpack, summary, launch, version):
        module.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
