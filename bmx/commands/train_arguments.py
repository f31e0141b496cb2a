"""The command line that the training programs in ``example/`` share."""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any, Callable, NamedTuple, Optional, Tuple

import mxnet as mx

from ..errors import Error
from ..gluon.nn.config import activation_methods, weight_methods
from ..training.augment import LEVELS
from ..training.cifar import cifar10, cifar100
from ..training.data import synthetic
from ..training.imagenet import imagenet
from ..training.mnist import fashion_mnist, load_mnist
from ..training.schedule import MODES
from ..training.workers import KINDS

# Registered optimizers of no use here: MXNet's own test, one for sparse embeddings, the one that --clip-weights wraps
# around another, and one that divides by 0 if a gradient has always been 0, as is common before a sign.
HIDDEN = {"test", "groupadagrad", "binaryoptimizer", "adamax"}

# By the beginning of a model's name: the options that its layers ignore.
_WITHOUT_EFFECT = {
    "lenet": ("clip_threshold", "activation_method", "weight_quantization", "approximation", "grad_bit"),
    "birealnet": ("activation_method",),
    "reactnet": ("activation_method", "approximation"),
    "quicknet": ("approximation",),
}


class _Known(NamedTuple):
    """A data set: ``load(folder)`` and its number of classes; synthetic takes a shape, imagenet is not in memory."""

    load: Callable[..., Any]
    classes: Optional[int]
    kind: str  # kind of augmentation


DATASETS = {
    "mnist": _Known(load_mnist, 10, "digits"),
    "fashion-mnist": _Known(fashion_mnist, 10, "clothes"),
    "cifar10": _Known(cifar10, 10, "photographs"),
    "cifar100": _Known(cifar100, 100, "photographs"),
    "synthetic": _Known(synthetic, 10, "photographs"),
    "imagenet": _Known(imagenet, None, "photographs"),
}


def parser(text: str, **defaults: Any) -> argparse.ArgumentParser:
    """Return the parser of a program.

    Parameters
    ----------
    text : str
        Its docstring: a sentence, and after an empty line examples.
    **defaults
        What differs from the defaults here, such as ``dataset="cifar10"``.
    """
    head, _, examples = text.partition("\n\n")
    result = argparse.ArgumentParser(
        description=head, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_what(result.add_argument_group("what is trained"))
    _add_how(result.add_argument_group("how"))
    _add_run(result.add_argument_group("the run"))
    _add_where(result.add_argument_group("where"))
    result.set_defaults(**defaults)
    for action in result._actions:
        if action.default not in (None, False, (), argparse.SUPPRESS) and "default:" not in action.help:
            action.help += " (default: %(default)s)"
    return result


def _add_what(group: Any) -> None:
    add = group.add_argument
    add("--model", default="resnet18_e1", metavar="NAME", help="a network of bmx.models.get_model")
    add("--bits", type=int, default=1, metavar="N", help="bits of the weights, 1 to 32")
    add("--bits-a", type=int, metavar="N", help="bits of the activations, 1 to 32 (default: as --bits)")
    add("--clip-threshold", type=float, metavar="T", help="the gradient of a sign is 0 where abs(x) > T (default: 1)")
    add("--activation-method", metavar="NAME", help="with 1 bit: det_sign, sign_approx_sign, swish_sign, round")
    add("--weight-quantization", metavar="NAME", help="with 1 bit: det_sign, recu, ...; with 2 bits: dorefa, twn "
        "(ternary)")  # fmt: skip
    add("--tau", type=_numbers, metavar="T,T", help="for --weight-quantization recu: its quantile in the first and the "
        "last epoch (default: 0.85,0.99)")  # fmt: skip
    add("--approximation", metavar="NAME", help="scaling of 1-bit convolutions: binet (of weights), xnor (of both), "
        "learned (a number per filter)")  # fmt: skip
    add("--grad-bit", type=int, metavar="N", help="bits of the gradients between layers, 1 to 32 (default: 32)")
    add("--no-thumbnail", action="store_true", help="use the first layers for large images even if images are small")
    add("--dataset", default="cifar10", metavar="NAME", help=", ".join(DATASETS))
    add("--data-dir", metavar="DIR", help="folder of its files (default: Gluon's, ~/.mxnet/datasets/NAME)")
    shape = {"dest": "shape", "type": _shape, "metavar": "C,H,W"}
    add("--data-shape", **shape, default=(3, 32, 32), help="shape of synthetic images (default: 3,32,32)")
    add("--shape", **shape, default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # its former name
    add("--limit", type=int, metavar="N", help="train on the first N images, test on the first N test images")
    add("--classes", type=int, metavar="N", help="classes of imagenet (default: those of its folders or records)")
    add("--image-size", type=int, default=224, metavar="N", help="side of imagenet's images in pixels")


def _add_how(group: Any) -> None:
    add = group.add_argument
    add("--epochs", type=int, default=20, metavar="N", help="number of the last epoch")
    add("--stages", type=int, default=1, choices=(1, 2), help="2: half of the epochs with float weights and "
        "activations of --bits-a, then, from these, the others with weights of --bits and no weight decay")  # fmt: skip
    add("--stage-epochs", type=int, metavar="N", help="epochs of the first of two stages (default: half of --epochs)")
    add("--batch-size", type=int, default=100, metavar="N", help="images per step, for each worker")
    add("--optimizer", default="adam", metavar="NAME", help="adam, radam, sgd, another one of MXNet's, or "
        "bop, with adam for weights of more than 1 bit")  # fmt: skip
    add("--binary-optimizer", metavar="NAME", help="optimizer of the 1-bit weights (default: as --optimizer)")
    add(
        "--binary-lr",
        type=float,
        metavar="LR",
        help="learning rate of the 1-bit weights, with the same schedule (default: --lr)",
    )
    add("--binary-wd", type=float, metavar="WD", help="weight decay of the 1-bit weights (default: 0, not --wd)")
    add("--clip-weights", type=float, metavar="C", help="clip the 1-bit weights to -C..C after each step")
    add("--bop-gamma", type=float, metavar="G", help="for bop: weight of a gradient in their mean (default: 1e-4)")
    add("--bop-threshold", type=float, metavar="T", help="for bop: mean from which on a weight flips (default: 1e-8)")
    add("--momentum", type=float, default=0.9, help="momentum of sgd, nag, signum and lars")
    add("--wd", type=float, default=0.0, help="weight decay")
    add("--lr", type=float, default=0.002, help="learning rate after the warm-up")
    add("--lr-schedule", default="cosine", choices=MODES, help=", ".join(MODES))
    add("--lr-steps", type=_numbers, default=(), metavar="E,E", help="for step: epochs after which the rate falls")
    add("--lr-factor", type=float, default=0.1, metavar="F", help="for step: factor of the rate")
    add("--warmup-epochs", type=float, default=0.0, metavar="N", help="epochs in which the learning rate rises from 0")
    add("--augmentation", default="low", choices=LEVELS, help=", ".join(LEVELS))
    add(
        "--small-epochs",
        type=int,
        default=0,
        metavar="N",
        help="first epochs on 3/4 of height and width, which is faster",
    )
    add(
        "--mixup",
        type=float,
        default=0.0,
        metavar="ALPHA",
        help="mix pairs of images, with weights from Beta(ALPHA, ALPHA)",
    )
    add(
        "--label-smoothing",
        type=float,
        default=0.0,
        metavar="P",
        help="fraction of a label spread evenly over all classes",
    )
    add("--teacher", metavar="PREFIX-NNNN.params", help="checkpoint of a network to distil from")
    add("--temperature", type=float, default=4.0, help="temperature of the distillation")
    add("--teacher-weight", type=float, default=0.5, help="weight of the teacher, 0 to 1; the labels have the rest")
    add("--grad-dtype", choices=("float32", "float32x2", "bfloat16"), help="of gradients of binary layers (default: "
        "float32, or the environment variable BMX_GRAD_DTYPE)")  # fmt: skip
    add("--seed", type=int, default=0, help="of all random numbers")


def _add_run(group: Any) -> None:
    add = group.add_argument
    add("--prefix", help="of the files written (default: runs/DATASET-MODEL-BITSbit)")
    add("--start", metavar="PREFIX-NNNN.params", help="begin with the parameters of a checkpoint of the same network")
    add("--resume", action="store_true", help="go on from the checkpoint of the same prefix")
    add("--overwrite", action="store_true", help="take the place of an earlier run with the same prefix")
    add("--tensorboard", metavar="DIR", help="write curves for TensorBoard there; needs tensorboardX")
    add("--dry-run", action="store_true", help="print the network, make two steps, write nothing")


def _add_where(group: Any) -> None:
    add = group.add_argument
    add("--gpus", type=_gpus, default=(), metavar="0,1", help="GPUs that share each batch, on MXNet's own operators; "
        "needs a GPU build of MXNet, and none was at hand to test this with")  # fmt: skip
    add("--threads", type=int, default=4, metavar="N", help="that decode images of imagenet")
    add("--kv-store", default="local", metavar="KIND", help=", ".join(KINDS) + "; see docs/distributed.md")
    add("--gradient-compression", default="none", metavar="KIND", help="none, 2bit: between machines")
    add("--threshold", type=float, default=0.5, help="of the gradient compression")


def _numbers(text: str) -> Tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))


def _gpus(text: str) -> Tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(","))
    if min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise ValueError
    return numbers


def _shape(text: str) -> Tuple[int, ...]:
    channels, height, width = map(int, text.replace("x", ",").split(","))
    if min(channels, height, width) < 1:
        raise ValueError
    return channels, height, width


_shape.__name__ = "shape"
_numbers.__name__, _gpus.__name__ = "list of epochs", "list of GPUs"  # argparse: "invalid list of GPUs value"


def check(args: argparse.Namespace) -> None:
    """Complete the arguments, and check those that nothing else checks before much time has gone by.

    Raises
    ------
    bmx.Error
        If one is not allowed.
    """
    args.bits_a = args.bits if args.bits_a is None else args.bits_a
    args.prefix = f"runs/{args.dataset}-{args.model}-{args.bits}bit" if args.prefix is None else args.prefix
    _check_numbers(args)
    if args.dataset not in DATASETS:
        raise Error(f"no data set {args.dataset!r}; there are {', '.join(DATASETS)}")
    if args.dataset == "imagenet" and (args.limit or args.small_epochs):
        raise Error("--limit and --small-epochs are for data sets in memory, not for imagenet")
    _check_optimizers(args)
    _check_stages(args)
    if args.resume and args.overwrite:
        raise Error("--resume goes on with an earlier run, --overwrite takes its place; give one of them")
    if args.gpus and mx.context.num_gpus() <= max(args.gpus):
        raise Error(
            f"--gpus {','.join(map(str, args.gpus))}: MXNet sees {mx.context.num_gpus()} GPUs; this needs them, and a "
            "GPU build of MXNet"
        )
    if args.weight_quantization == "recu":
        args.tau = args.tau or (0.85, 0.99)
        if len(args.tau) != 2 or not all(0.5 < tau < 1 for tau in args.tau):
            raise Error(f"--tau is {','.join(f'{tau:g}' for tau in args.tau)}; allowed: two numbers between 0.5 and 1")
    elif args.tau is not None:
        raise Error("--tau is for --weight-quantization recu")
    _check_layers(args)


def _check_numbers(args: argparse.Namespace) -> None:
    for name, least, allowed in (
        *((name, 1, "1 or more") for name in ("epochs", "batch_size", "limit", "threads", "classes", "image_size")),
        *((name, 0, "0 or more") for name in ("wd", "binary_wd", "mixup", "small_epochs", "warmup_epochs")),
        *((name, sys.float_info.min, "more than 0") for name in ("lr", "binary_lr", "lr_factor", "temperature")),
    ):
        value = getattr(args, name)
        if value is not None and not least <= value < math.inf:
            raise Error(f"--{name.replace('_', '-')} is {value:g}; allowed: {allowed}")
    if not 0 <= args.momentum < 1:
        raise Error(f"--momentum is {args.momentum:g}; allowed: 0 to less than 1")
    if not 0 <= args.seed < 2**32:
        raise Error(f"--seed is {args.seed}; allowed: 0 to 4294967295")
    for step in args.lr_steps:
        if not 0 < step < args.epochs:
            raise Error(f"--lr-steps has {step:g}; allowed in a run of {args.epochs} epochs: between 0 and that")


def _check_optimizers(args: argparse.Namespace) -> None:
    known = sorted(set(mx.optimizer.Optimizer.opt_registry) - HIDDEN)
    for name in filter(None, (args.optimizer, args.binary_optimizer)):
        if name.lower() not in known:
            raise Error(f"no optimizer {name!r}; there are {', '.join(known)}")
    if args.optimizer.lower() == "bop" and args.binary_optimizer is not None:
        raise Error("--optimizer bop has bop for the 1-bit weights and adam for the others: no --binary-optimizer")
    bop = "bop" in (args.optimizer.lower(), (args.binary_optimizer or "").lower())
    for name in ("bop_gamma", "bop_threshold"):
        if getattr(args, name) is not None and not bop:
            raise Error(f"--{name.replace('_', '-')} is for --optimizer bop, not for {args.optimizer}")
    for name in ("binary_optimizer", "binary_lr", "binary_wd"):
        if getattr(args, name) is not None and args.bits != 1:
            raise Error(f"--{name.replace('_', '-')} is for 1-bit weights; these have {args.bits} bits")
        if getattr(args, name) is not None and bop and name != "binary_optimizer":
            raise Error(f"--{name.replace('_', '-')}: bop has neither a learning rate nor weight decay")


def _check_stages(args: argparse.Namespace) -> None:
    if args.stages == 1:
        if args.stage_epochs is not None:
            raise Error("--stage-epochs is for --stages 2")
        return
    if args.bits == 32:
        raise Error("--stages 2 makes float weights low-bit ones; with --bits 32 there is nothing for the second stage")
    if args.start is not None or args.dry_run:
        raise Error(f"{'--start' if args.start else '--dry-run'} is for one stage, not for --stages 2")
    if args.stage_epochs is None:
        args.stage_epochs = args.epochs // 2
    if not 0 < args.stage_epochs < args.epochs:
        raise Error(
            f"--stage-epochs is {args.stage_epochs}; allowed with --stages 2 and {args.epochs} epochs in all: 1 to "
            f"{args.epochs - 1}"
        )


def _check_layers(args: argparse.Namespace) -> None:
    """Refuse options of layers that would have no effect: a run must match its command line."""
    for kind, names in _WITHOUT_EFFECT.items():
        for name in names if args.model.lower().startswith(kind) else ():
            if getattr(args, name) is not None and not (name == "activation_method" and args.bits_a > 1):
                raise Error(f"{args.model} has layers of its own, which --{name.replace('_', '-')} does not change")
    for option, method, what, bits, methods in (
        ("activation-method", args.activation_method, "activations", args.bits_a, activation_methods),
        ("weight-quantization", args.weight_quantization, "weights", args.bits, weight_methods),
    ):
        if method is not None and method not in methods(bits):
            raise Error(f"--{option} {method!r} with {what} of {bits} bits; allowed: {', '.join(methods(bits))}")
