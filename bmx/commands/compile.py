"""``bmx compile``: turn a trained network into a .bmx file."""

from __future__ import annotations

import argparse
import os
from typing import Any, List

from ..arrays import load_named_samples, load_samples
from ..checkpoints.names import split_path
from ..errors import Error, LabelsError, SamplesError
from ..files import check_apart, check_target, model_files
from ..writing import content, write_together
from .arguments import add_command, add_data_shape


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "compile",
        "turn a trained network into a .bmx file",
        "bmx compile runs/lenet-0020.params -o lenet.bmx\n"
        "bmx compile runs/resnet18-0120.params -o resnet18.bmx --data-shape 3,224,224\n"
        "bmx compile runs/resnet18-0120.params -o resnet18.bmx --int8 first-last --verify-data images.npy"
        " --labels classes.npy\n"
        "bmx compile runs/pairs-0010.params -o pairs.bmx --data-shape left=3,32,32,right=3,32,32\n"
        "bmx compile runs/resnet18-0120.params --mxnet fast/resnet18",
        description="Compile a checkpoint of MXNet, bmx or BMXNet for bmx's engine, print how each layer is compiled,"
        " and compare both networks on samples. Without --int8 the outputs are equal up to float rounding. A .bmx file"
        " is for bmx run, bmx bench, bmx.runtime and the C API, which need no MXNet. --mxnet writes the same network"
        " as a checkpoint that MXNet runs if bmx is imported.",
    )
    parser.add_argument("params", metavar="PREFIX-NNNN.params", help="the checkpoint; PREFIX-symbol.json is beside it")
    parser.add_argument("-o", "--output", metavar="FILE.bmx", help="the file to write")
    parser.add_argument("--mxnet", metavar="PREFIX", help="write PREFIX-symbol.json and PREFIX-0000.params")
    parser.add_argument(
        "--int8",
        choices=("off", "first-last", "all"),
        default="off",
        help="layers to compute in 8 bits, besides binary ones; ranges come from --verify-data (default: off)",
    )
    add_data_shape(
        parser,
        "shape of one sample, if other sizes would fit too; for several inputs by name: a=3,32,32,b=10",
        several=True,
    )
    parser.add_argument(
        "--verify-data",
        metavar="FILE.npy",
        help="dozens to hundreds of samples as the network takes them; for several inputs an .npz file by name",
    )
    parser.add_argument(
        "--labels", metavar="FILE.npy", help="classes of the samples, to report the accuracy of both networks"
    )
    parser.add_argument("--no-verify", action="store_true", help="do not run the networks")
    parser.add_argument("--force", action="store_true", help="overwrite existing files")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Compile, print the report, write files."""
    from ..registration import require_mxnet

    if args.output is None and args.mxnet is None:
        raise Error("nothing to write: give -o FILE.bmx or --mxnet PREFIX")
    if args.labels and not args.verify_data:
        raise Error("--labels needs --verify-data: these are the classes of its samples")
    require_mxnet("the compiler")
    from ..compiler.frontends.mxnet import compile_checkpoint
    from ..plugin.engine_operator import checkpoint_files, checkpoint_paths
    from ..program import encode

    outputs = [] if args.output is None else [args.output]
    outputs += [] if args.mxnet is None else checkpoint_paths(args.mxnet, True)
    _check_outputs(outputs, args)
    options = {"int8": args.int8, "data_shape": args.data_shape, "verify": not args.no_verify}
    data = load_named_samples(args.verify_data) if args.verify_data else None
    labels = load_samples(args.labels, ndim=1) if args.labels else None
    try:
        compiled = compile_checkpoint(args.params, data=data, labels=labels, **options)
    except SamplesError as error:
        raise Error(f"{args.verify_data}: {error}") from None
    except LabelsError as error:
        raise Error(f"{args.labels}: {error}") from None
    print(compiled.report)
    files = {}
    if args.output is not None:
        files[args.output] = content(encode(compiled.program))
    if args.mxnet is not None:
        files.update(checkpoint_files(compiled.program, args.mxnet, _labels_of(args.params, compiled.program)))
    write_together(list(files.items()))
    print(f"written: {', '.join(outputs)}")
    return 0


def _check_outputs(outputs: List[str], args: argparse.Namespace) -> None:
    """Refuse outputs that would destroy files or fail after the work is done."""
    check_apart(outputs, [*model_files(args.params), args.verify_data, args.labels])
    for path in outputs:
        check_target(path)
        if path == args.output and not path.endswith(".bmx"):
            raise Error(f"{path}: the name must end in .bmx; bmx run and bmx bench recognise files by it")
        if os.path.lexists(path) and not args.force:
            raise Error(f"{path}: exists already; use --force to overwrite it")


def _labels_of(params: str, program: Any) -> Any:
    from ..checkpoints.loading import load_checkpoint
    from ..plugin.engine_operator import find_labels

    prefix, epoch = split_path(params)
    symbol, args, _ = load_checkpoint(prefix, epoch)
    return find_labels(symbol, program, args)
