"""The training programs in ``example/``: they run as the command line describes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shlex
import sys
import zlib
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import mxnet as mx

from .. import models
from ..errors import Error
from ..gluon import nn
from ..network_summary import summary
from ..optimizer import BinaryOptimizer, FlipRatio, has_one_bit
from ..training.augment import augmentation
from ..training.checkpoint import Checkpoint, best_epoch
from ..training.data import Batches
from ..training.fit import History, fit, say
from ..training.imagenet import RecordBatches, imagenet
from ..training.objective import Objective, teacher
from ..training.plot import plot_curves
from ..training.record_file import count_classes
from ..training.schedule import learning_rates
from ..training.stages import begin_with, hand_over, stages
from ..training.tau import RisingTau
from ..training.workers import Workers
from .train_arguments import DATASETS, check, parser


def main(text: str, arguments: Optional[List[str]] = None, **defaults: Any) -> int:
    """Run a training program: parse the command line, train, report an error in one line, return the exit status.

    Parameters
    ----------
    text, **defaults
        As of :func:`parser`.
    arguments : list of str, optional
        Default: the command line's.
    """
    args = parser(text, **defaults).parse_args(arguments)
    workers = None
    try:
        check(args)
        workers = Workers(args.kv_store, args.gradient_compression, args.threshold)
        history = run(args, workers)
    except (KeyboardInterrupt, SystemExit) as error:  # Ctrl-C, SIGTERM
        if not args.dry_run and (workers is None or (workers.rank == 0 and not workers.asynchronous)):
            _say_how_to_go_on(args, workers)
        return 130 if isinstance(error, KeyboardInterrupt) else error.code
    except BaseException as error:
        if workers is not None:
            workers.leave()
        if not isinstance(error, Error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    if history and workers.rank == 0 and not args.dry_run:
        best = best_epoch(history)
        say(
            f"test accuracy {history[-1]['accuracy']:.2%}, at best {best['accuracy']:.2%} in epoch {best['epoch']}; "
            f"network: {Checkpoint(args.prefix).params_file(history[-1]['epoch'])}"
        )
    return 0


def _say_how_to_go_on(args: argparse.Namespace, workers: Optional[Workers]) -> None:
    if any(os.path.exists(Checkpoint(stage.prefix).resume_file) for stage in stages(args)):
        again = shlex.join([arg for arg in sys.argv if arg not in ("--resume", "--overwrite")])
        launch = f"bmx launch -n {workers.count} -s ... -- " if workers and workers.distributed else ""
        print(f"go on with: {launch}python {again} --resume", file=sys.stderr)


def run(args: argparse.Namespace, workers: Workers) -> History:
    """Train as the checked arguments say, in one stage or in two; return the history of the last one.

    Raises
    ------
    bmx.Error
        If they do not fit each other, the data or the checkpoint.
    KeyboardInterrupt, SystemExit
        On Ctrl-C and SIGTERM, see :func:`bmx.training.fit`.
    """
    history: History = []
    for stage in stages(args):
        if args.stages > 1 and workers.rank == 0:
            say(f"stage {2 if hasattr(stage, 'first_stage') else 1} of {args.stages}, {stage.epochs} epochs")
        history = _run_stage(stage, workers)
    return history


def _run_stage(args: argparse.Namespace, workers: Workers) -> History:
    log = say if workers.rank == 0 else (lambda line: None)
    contexts = [mx.gpu(number) for number in args.gpus] or [mx.cpu()]
    classes = DATASETS[args.dataset].classes or args.classes
    # The network is checked before the data, because that is faster. If the data decide the number of classes, 2 stand
    # in for it.
    net = _network(args, classes or 2, contexts)
    if workers.rank == 0 and not args.dry_run:
        Checkpoint(args.prefix).prepare(args.resume, args.overwrite)
    train, test, source = _batches(args, workers, log)
    if classes is None:
        classes = args.classes
        net = _network(args, classes, contexts)
    if not args.resume:
        _begin(net, args, next(iter(test.epoch(0)))[0], classes, contexts)
    objective = Objective(
        classes,
        args.label_smoothing,
        args.mixup,
        teacher(args.teacher, contexts) if args.teacher else None,
        args.temperature,
        args.teacher_weight,
    )
    log(f"{args.model}, {args.bits} bit weights, {args.bits_a} bit activations, on {source}")
    options = {"objective": objective, "seed": args.seed, "log": log, "contexts": contexts, "workers": workers}
    if args.dry_run:
        images = next(iter(test.epoch(0)))[0]
        log(str(dataclasses.replace(summary(net, images.shape[1:]), warnings=[])))  # which `fit` says, and more
        history = fit(net, _First(train, 2), _First(test, 1), _optimizer(args, len(train), workers), 1, **options)
        log("dry run: nothing was written")
        return history
    callbacks: List[Any] = [RisingTau(net, args.epochs, *args.tau)] if args.weight_quantization == "recu" else []
    if workers.rank == 0:
        with contextlib.suppress(Error):  # there are no 1-bit weights
            callbacks.append(FlipRatio(net))
        callbacks.append(_going_on(_curves(args)))
        if args.tensorboard:
            callbacks.append(_going_on(_tensorboard(args.tensorboard)))
    names = getattr(train, "classes", ())
    if names:
        log(f"names of the classes: {Checkpoint(args.prefix).labels_file}, for bmx run --labels")
    return fit(
        net,
        train,
        test,
        _optimizer(args, len(train), workers),
        args.epochs,
        prefix=args.prefix,
        resume=args.resume,
        overwrite=args.overwrite,
        settings=_settings(args, train, test, workers),
        keep_best=True,
        callbacks=callbacks,
        class_names=names,
        **options,
    )


def _begin(
    net: mx.gluon.HybridBlock, args: argparse.Namespace, images: mx.nd.NDArray, classes: int, contexts: List[mx.Context]
) -> None:
    """Load the first parameters of the network, if they come from a file."""
    first_stage = getattr(args, "first_stage", None)
    if first_stage is None and args.start is None:
        return

    def know_shapes(network: mx.gluon.HybridBlock) -> None:
        for context in contexts:
            network(images.as_in_context(context))

    know_shapes(net)
    if first_stage is None:
        begin_with(net, args.start)
    else:
        before = _network(first_stage, classes, contexts)
        know_shapes(before)
        begin_with(before, Checkpoint(first_stage.prefix).params_file(first_stage.epochs))
        hand_over(before, net)


def _network(args: argparse.Namespace, classes: int, contexts: List[mx.Context]) -> mx.gluon.HybridBlock:
    mx.random.seed(args.seed)
    options = {"bits": args.bits, "bits_a": args.bits_a, "classes": classes}
    side = {"imagenet": args.image_size, "synthetic": args.shape[1]}.get(args.dataset, 32)
    small = {"thumbnail": True} if side <= 64 and not args.no_thumbnail else {}
    with nn.set_binary_layer_config(
        bits=args.bits,
        bits_a=args.bits_a,
        grad_cancel=args.clip_threshold,
        activation=args.activation_method,
        weight_quantization=args.weight_quantization,
        approximation=args.approximation,
        grad_bit=args.grad_bit,
        grad_dtype=args.grad_dtype,
    ):
        try:
            net = models.get_model(args.model, **options, **small)
        except Error as error:
            if "no option 'thumbnail'" not in str(error):
                raise
            net = models.get_model(args.model, **options)  # a network for small images, or for large ones only
    net.initialize(mx.init.Xavier(), ctx=contexts)
    net.hybridize(static_alloc=True)
    if args.binary_wd is not None:  # layers of few bits leave weight decay out, unless it is asked for
        for parameter in net.collect_params().values():
            if has_one_bit(parameter):
                parameter.wd_mult = 1.0
    return net


def _batches(args: argparse.Namespace, workers: Workers, log: Callable[[str], Any]) -> Tuple[Any, Any, str]:
    """Return training data, test data and a phrase about them. Completes --classes and limits --batch-size."""
    part = (workers.rank, workers.count)
    if args.dataset == "imagenet":
        folder = args.data_dir or os.path.join(mx.base.data_dir(), "datasets", "imagenet")
        train, test = imagenet(folder, 1, args.image_size, args.augmentation, args.seed, args.threads, part)
        _count_classes(args, train, test, folder)
        _limit_batch_size(args, train.count, workers, log)
        train.batch_size = test.batch_size = args.batch_size
        images = f"{train.count} training and {test.count} validation images"
        return train, test, f"{images} of {args.classes} classes from {folder}"
    known = DATASETS[args.dataset]
    data = known.load(args.shape if args.dataset == "synthetic" else args.data_dir)
    images, labels = data.train_images[: args.limit], data.train_labels[: args.limit]
    norm = {"mean": data.mean, "std": data.std}
    augment = augmentation(args.augmentation, known.kind)
    train = Batches(
        images,
        labels,
        args.batch_size,
        train=True,
        augment=augment,
        seed=args.seed,
        small_epochs=args.small_epochs,
        part=part,
        **norm,
    )
    test = Batches(data.test_images[: args.limit], data.test_labels[: args.limit], 200, **norm)
    return train, test, data.source


def _count_classes(args: argparse.Namespace, train: Any, test: Any, folder: str) -> None:
    """Set --classes to the number of classes in the data, or check it."""
    if isinstance(train, RecordBatches):  # the labels of the smaller file, which is quickly read, have all classes
        args.classes = args.classes or count_classes(test.path)
        return
    found = len(train.classes)
    if args.classes not in (None, found):
        raise Error(f"--classes is {args.classes}; {folder}/train has {found}, a folder each; leave --classes out")
    args.classes = found


def _limit_batch_size(args: argparse.Namespace, images: int, workers: Workers, log: Callable[[str], Any]) -> None:
    """Make batches no larger than all images of a worker, in equal parts for all devices."""
    devices = max(1, len(args.gpus))
    most = images // workers.count // devices * devices
    if args.batch_size > most >= 1:
        each = f" for each of {workers.count} workers" if workers.count > 1 else ""
        log(f"batch size {most}{each}, not {args.batch_size}: there are {images} images to train on")
        args.batch_size = most


def _optimizer(args: argparse.Namespace, batches: int, workers: Workers) -> mx.optimizer.Optimizer:
    if workers.asynchronous:
        batches *= workers.count  # a server counts the steps of all

    def options(name: str, rate: float, decay: float) -> Dict[str, Any]:
        if name == "bop":
            of_bop = {"gamma": args.bop_gamma, "threshold": args.bop_threshold}
            return {option: value for option, value in of_bop.items() if value is not None}
        schedule = learning_rates(
            args.lr_schedule, rate, args.epochs, batches, args.warmup_epochs, args.lr_steps, args.lr_factor
        )
        momentum = {"momentum": args.momentum} if name in ("sgd", "nag", "signum", "lars") else {}
        return {"learning_rate": rate, "lr_scheduler": schedule, "wd": decay, **momentum}

    others, binary = args.optimizer.lower(), (args.binary_optimizer or args.optimizer).lower()
    others = "adam" if others == "bop" else others
    of_others = options(others, args.lr, args.wd)
    if binary == "bop" or (args.binary_optimizer, args.binary_lr, args.binary_wd) != (None, None, None):
        rate, decay = args.binary_lr or args.lr, args.binary_wd or 0.0
        of_binary = options(binary, rate, decay)
        return BinaryOptimizer(others, of_others, binary, of_binary, clip=args.clip_weights)
    if args.clip_weights is not None:
        return BinaryOptimizer(others, of_others, clip=args.clip_weights)
    return mx.optimizer.create(others, **of_others)


def _settings(args: argparse.Namespace, train: Any, test: Any, workers: Workers) -> Dict[str, Any]:
    """The settings that must be the same in a resumed run: all that affect results, except the number of epochs.

    The place of the data is left out, because it may differ on another machine; their number counts.
    """
    names = (
        *("model", "bits", "bits_a", "clip_threshold", "activation_method", "weight_quantization", "approximation"),
        *("grad_bit", "grad_dtype", "no_thumbnail", "dataset", "shape", "batch_size", "limit", "lr", "lr_schedule"),
        *("lr_steps", "lr_factor", "warmup_epochs", "momentum", "wd", "augmentation", "small_epochs", "mixup"),
        *("label_smoothing", "teacher", "temperature", "teacher_weight", "kv_store", "gradient_compression"),
        *("threshold", "clip_weights", "bop_gamma", "bop_threshold", "binary_optimizer", "binary_lr", "binary_wd"),
        *("start", "tau"),
    )
    settings = {name.replace("_", " "): getattr(args, name) for name in names}
    if hasattr(args, "first_stage"):
        settings["start"] = f"first stage, {args.first_stage.epochs} epochs"
    if args.dataset == "imagenet":
        settings.update({"classes": args.classes, "image size": args.image_size})
    if hasattr(train, "classes"):  # which label is which
        settings["class names"] = f"{train.classes[0]} to {train.classes[-1]} ({_checksum(train.classes)})"
    if isinstance(train, RecordBatches):  # MXNet shuffles them in as many parts
        settings["threads"] = args.threads
    kind = type(train).__name__
    data = f"{kind}, {train.count} training and {test.count} test images"
    return {**settings, "GPUs": len(args.gpus), "workers": workers.count, "data": data}


def _checksum(names: Sequence[str]) -> str:
    return f"{zlib.crc32(chr(10).join(names).encode()):08x}"


def _going_on(callback: Callable[[History], Any]) -> Callable[[History], None]:
    """Return a callback whose failure does not stop a training."""

    def call(history: History) -> None:
        try:
            callback(history)
        except Exception as error:  # of Matplotlib or tensorboardX, whatever it may be
            say(f"going on without: {str(error) or type(error).__name__}")

    return call


def _curves(args: argparse.Namespace) -> Callable[[History], None]:
    """Return a callback that draws the epochs so far."""

    def draw(history: History) -> None:
        plot_curves(f"{args.prefix}.png", history, title=f"{args.model}, {args.bits} bit, {args.dataset}")

    try:
        import matplotlib  # noqa: F401
    except ImportError:
        say(f"no curves in {args.prefix}.png: they need matplotlib (pip install 'bmx-mxnet[examples]')")
        return lambda history: None
    return draw


def _tensorboard(folder: str) -> Callable[[History], None]:
    """Return a callback that sends the newest row to TensorBoard."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise Error("--tensorboard needs tensorboardX: pip install 'bmx-mxnet[tensorboard]'") from None
    try:
        writer = SummaryWriter(folder)
    except OSError as error:
        raise Error(f"--tensorboard {folder}: cannot be written ({error.strerror})") from None

    def write(history: History) -> None:
        row = history[-1]
        for name in ("loss", "accuracy", "learning_rate", "images_per_second", "flip_ratio"):
            if name in row:
                writer.add_scalar(name, row[name], row["epoch"])
        writer.flush()

    return write


class _First:
    """The first batches of others."""

    def __init__(self, batches: Any, count: int):
        self.batches, self.count, self.batch_size = batches, min(count, len(batches)), batches.batch_size

    def __len__(self) -> int:
        return self.count

    def epoch(self, number: int, start: int = 0):
        """Yield them, from batch `start` on."""
        for place, batch in enumerate(self.batches.epoch(number, start), start):
            if place >= self.count:
                return
            yield batch
