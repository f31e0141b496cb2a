"""``bmx run``: classify pictures."""

from __future__ import annotations

import argparse
from typing import Any, List, Optional

import numpy as np

from ..errors import Error
from .arguments import add_command, add_data_shape, numbers
from .images import Preparation, load_image


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "run",
        "classify pictures with a model",
        "bmx run lenet.bmx three.png\n"
        "bmx run resnet18.bmx *.jpg --labels imagenet.txt --resize 256 --mean .485,.456,.406 --std .229,.224,.225",
        description="Print the likeliest classes of pictures. A picture is converted to grey or RGB as the network"
        " needs it, resized so that its middle fills the network's input, and becomes (pixels / 255 - mean) / std."
        " Give the same --resize, --mean and --std as in training. A .bmx file needs no MXNet. MXNet runs checkpoints"
        " (PREFIX-NNNN.params), and ONNX Runtime runs .onnx files.",
    )
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="a file of any format that Pillow reads")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one per line (default: their numbers)")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="number of classes to print (default: 5)")
    parser.add_argument(
        "--resize",
        type=int,
        metavar="N",
        help="make the shorter side N pixels, then cut out the middle (default: show all of it)",
    )
    parser.add_argument("--stretch", action="store_true", help="change the proportions instead of cutting off")
    parser.add_argument(
        "--mean", type=numbers, default=(0.0,), metavar="X|R,G,B", help="mean of pixels / 255 (default: 0)"
    )
    parser.add_argument(
        "--std", type=numbers, default=(1.0,), metavar="X|R,G,B", help="deviation of pixels / 255 (default: 1)"
    )
    add_data_shape(parser, "shape of the input, for checkpoints and for .onnx files without it")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads for .bmx and .onnx files (default: 1; MXNet uses OMP_NUM_THREADS)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line per picture and one for each of its likeliest classes."""
    from ..measure.runners import check_outputs, kind, open_model

    for option in ("top", "threads"):
        if getattr(args, option) < 1:
            raise Error(f"--{option} is {getattr(args, option)}; it must be 1 or more")
    which = kind(args.model)
    if which == "bmx" and args.data_shape:
        raise Error(
            f"{args.model}: the file has the shape of its input; --data-shape is for checkpoints and .onnx files"
        )
    if which == "mxnet" and args.threads > 1:
        raise Error(
            f"{args.model}: MXNet takes the number of threads from OMP_NUM_THREADS; --threads is for other models"
        )
    labels = _read_labels(args.labels) if args.labels else None
    runner = open_model(args.model, threads=args.threads, batch=1, shape=args.data_shape)
    if len(runner.inputs) != 1:
        raise Error(f"{args.model}: it takes {len(runner.inputs)} inputs; give a network with one")
    try:
        (size,) = runner.inputs.values()
        prepare = Preparation(size, args.resize, args.stretch, args.mean, args.std)
    except Error as error:
        raise Error(f"{args.model}: {error}") from None
    for path in args.images:
        outputs = runner.run([load_image(path, prepare)[None]])
        check_outputs(args.model, outputs)
        scores = outputs[0].reshape(-1)
        if labels is not None and len(labels) != len(scores):
            raise Error(f"{args.labels}: it has {len(labels)} lines; the network has {len(scores)} classes")
        print(path)
        if len(scores) == 1:  # a regression has no classes
            print(f"  {scores[0]:.6g}")
            continue
        shares = _probabilities(scores)
        for place in np.argsort(-shares, kind="stable")[: args.top]:
            print(f"  {shares[place]:7.2%}  {labels[place] if labels else place}")
    return 0


def _read_labels(path: str) -> Optional[List[str]]:
    try:
        with open(path, encoding="utf-8-sig") as file:  # with or without a byte-order mark
            return file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is not a text file'}") from None


def _probabilities(scores: np.ndarray) -> np.ndarray:
    """Softmax, unless the network has applied it already."""
    if np.all(scores >= 0) and abs(scores.sum() - 1) < 1e-3:
        return scores
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()
