"""The command-line tool ``model_converter``."""

from __future__ import annotations

import argparse
import sys
from typing import List, Optional

from .. import library
from ..arrays import load_samples
from ..convert.conversion import convert_checkpoint, output_files
from ..errors import Error
from ..files import check_apart
from .arguments import add_data_shape

__all__ = ["main"]

_EXAMPLES = """\
examples:
  model_converter lenet-0020.params
      reads lenet-symbol.json and lenet-0020.params, writes binarized_lenet-symbol.json and
      binarized_lenet-0020.params beside them
  model_converter lenet-0020.params --output phone/lenet --word-bits 32
      writes phone/lenet-symbol.json and phone/lenet-0020.params for a reader with 32-bit words
  model_converter net-0010.params --format v2
      writes the operators of BMXNet v2's converter; checkpoints of v2 are read with either format
  model_converter net-0005.params --data-shape 3,32,48 --force
      verifies on random images of 3 x 32 x 48, overwrites existing files

exit status: 0 if the files were written, 1 if not (one line on stderr says why), 2 for wrong arguments
"""


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        description="Pack the weights of a network's 1-bit layers, one bit per weight, in BMXNet's formats.",
        epilog=_EXAMPLES.replace("model_converter", program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("params", metavar="PREFIX-NNNN.params", help="the checkpoint; PREFIX-symbol.json is beside it")
    parser.add_argument("place", nargs="?", metavar="OUTPUT", help="same as --output, for scripts of BMXNet v2")
    parser.add_argument(
        "--output", help="folder, or path prefix instead of binarized_PREFIX (default: beside the input)"
    )
    parser.add_argument(
        "--format",
        choices=("v1", "v2"),
        default="v1",
        help="operators to write: QConvolution (BMXNet v1) or BinaryInferenceConvolution (v2) (default: %(default)s)",
    )
    parser.add_argument(
        "--word-bits",
        type=int,
        choices=(32, 64),
        help="width of the words; bmx reads both, BMXNet only the one it was built with "
        f"(default: {library.word_bits()}, and 32 for v2)",
    )
    parser.add_argument("--no-verify", action="store_true", help="do not run both networks on sample input")
    add_data_shape(parser, "shape of one sample (default: derived)")
    parser.add_argument("--data", metavar="FILE.npy", help="float32 samples to verify on (default: 8 random samples)")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.add_argument("--verbose", action="store_true", help="no effect; accepted for scripts of BMXNet v2")
    return parser


def main(arguments: Optional[List[str]] = None, program: str = "model_converter") -> int:
    """Run `program` with these arguments (default: the command line). Returns the exit status."""
    parser = _parser(program)
    options = parser.parse_args(arguments)
    if options.output and options.place:
        parser.error("the output is given twice")
    output = options.output or options.place
    try:
        if options.data:
            check_apart(output_files(options.params, output), [options.data])
        report = convert_checkpoint(
            options.params,
            output=output,
            word_bits=options.word_bits,
            verify=not options.no_verify,
            force=options.force,
            data_shape=options.data_shape,
            data=load_samples(options.data) if options.data else None,
            format=options.format,
        )
    except Error as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0
