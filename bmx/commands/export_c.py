"""``bmx export-c``: write a network as C source, for embedded devices."""

from __future__ import annotations

import argparse
from typing import Any

from ..arrays import load_named_samples, load_samples
from ..errors import Error, SamplesError
from ..files import check_apart, model_files
from .arguments import add_command, add_data_shape


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "export-c",
        "write a network as C source",
        "bmx export-c lenet.bmx -o lenet\n"
        "bmx export-c runs/lenet-0020.params -o firmware/lenet --name lenet --weights array --int8 first-last"
        " --verify-data digits.npy",
        description="Write a compiled network or a checkpoint as C99 source that needs no library, with its weights, a"
        " test, a Makefile, a CMakeLists.txt and a README that says how much memory it needs. Exporting a .bmx file"
        " needs no MXNet.",
    )
    parser.add_argument("model", metavar="MODEL.bmx|PREFIX-NNNN.params")
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--name", default="net", help="prefix of files, functions and macros (default: %(default)s)")
    parser.add_argument(
        "--weights",
        choices=("file", "array"),
        default="file",
        help="write NAME_weights.bin, or NAME_weights.c for devices without files (default: %(default)s)",
    )
    parser.add_argument(
        "--samples", metavar="FILE.npy", help="samples for the test besides random ones, as the network takes them"
    )
    checkpoints = parser.add_argument_group("for checkpoints, as in bmx compile")
    checkpoints.add_argument("--int8", choices=("off", "first-last", "all"), default="off")
    add_data_shape(checkpoints, "shape of one sample", several=True)
    checkpoints.add_argument("--verify-data", metavar="FILE.npy")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compile a checkpoint, write the files, print their sizes."""
    from ..export_c import check_output, export, replaced_files

    if not args.output:
        raise Error("--output is empty; give the folder to write")
    replaced = replaced_files(args.output, args.name)
    check_apart(replaced, [*model_files(args.model), args.samples, args.verify_data])
    check_output(args.output, args.name, args.weights, args.samples is not None, args.force)
    samples = [load_samples(args.samples)] if args.samples else None
    options = {"name": args.name, "weights": args.weights, "force": args.force, "samples": samples}
    print(export(_program(args), args.output, **options))
    return 0


def _program(args: argparse.Namespace) -> Any:
    if not args.model.endswith(".params"):
        if args.int8 != "off" or args.data_shape or args.verify_data:
            raise Error(
                f"{args.model}: it is compiled already; --int8, --data-shape and --verify-data are for checkpoints"
            )
        return args.model
    from ..registration import require_mxnet

    require_mxnet("the compiler")
    from ..compiler.frontends.mxnet import compile_checkpoint

    data = load_named_samples(args.verify_data) if args.verify_data else None
    try:
        compiled = compile_checkpoint(args.model, int8=args.int8, data=data, data_shape=args.data_shape)
    except SamplesError as error:
        raise Error(f"{args.verify_data}: {error}") from None
    print(compiled.report)
    return compiled.program
