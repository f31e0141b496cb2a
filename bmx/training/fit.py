"""The training loop that the programs in ``example/`` share."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from ..errors import Error
from ..optimizer import BinaryOptimizer
from .checkpoint import Checkpoint, best_epoch
from .data import Batches, check_mode, small_side
from .signs import equal_bits
from .workers import Workers

History = List[Dict[str, Any]]
Batch = Tuple[mx.nd.NDArray, mx.nd.NDArray]


def say(line: str) -> None:
    """Print a line at once. If nobody reads the output any more, as after ``| head``, continue silently."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fit(
    net: gluon.HybridBlock,
    train: Batches,
    validation: Batches,
    optimizer: mx.optimizer.Optimizer,
    epochs: int,
    prefix: Optional[str] = None,
    resume: bool = False,
    settings: Optional[Dict[str, Any]] = None,
    objective: Optional[Callable] = None,
    seed: int = 0,
    log: Callable[[str], Any] = say,
    keep_best: bool = False,
    contexts: Sequence[mx.Context] = (),
    workers: Optional[Workers] = None,
    callbacks: Sequence[Callable[[History], Any]] = (),
    overwrite: bool = False,
    class_names: Sequence[str] = (),
) -> History:
    """Train a classifier; after each epoch print its validation accuracy and write a checkpoint.

    A warning before the first step names layers whose input bits are (nearly) all the same, as after a ReLU.

    The checkpoint is also written before the validation, after Ctrl-C and SIGTERM, and when `train` fails to give a
    batch. A run that is stopped, by these or by `epochs`, and resumed ends with the same parameters, bit for bit, as
    one that was not stopped: parameters, optimizer state, the place in the epoch and the history are in the checkpoint,
    and random numbers follow from `seed`, epoch and batch. Two things are not in it: what gradient compression has left
    over for later steps, and the running averages of BatchNorm of all workers but the first.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Network with one input and class scores (before a softmax) as output, initialized, its shapes known or not.
    train, validation : Batches, RecordBatches or FolderBatches
        What to train on, and what to measure the accuracy on.
    optimizer : mxnet.optimizer.Optimizer
        Its learning-rate scheduler counts steps (batches), from 1.
    epochs : int
        Number of the last epoch.
    prefix : str, optional
        Beginning of the checkpoint's file names, see :class:`Checkpoint`; without it nothing is written.
    resume : bool, default False
        Whether to resume from the checkpoint at `prefix` instead of starting anew.
    settings : dict of str to str or number, optional
        Other values that must be the same in a resumed run, by name (batch size, learning rate, data set).
    objective : callable, optional
        ``(net, images, labels, numpy.random.RandomState) -> losses of the images``, such as :class:`Objective`;
        default: softmax cross entropy.
    seed : int, default 0
        Seed of MXNet's random numbers (dropout, stochastic rounding) and of the objective's.
    log : callable, optional
        Takes each line of output; default: prints it.
    keep_best : bool, default False
        Whether to keep the parameters of the epoch with the highest accuracy too, as ``<prefix>-best-NNNN.params``.
    contexts : sequence of mxnet.Context, optional
        Devices that share each batch, in equal parts; the network is initialized on them. Default: the current context.
    workers : Workers, optional
        The processes that train together. All call this function; the first one validates, logs and writes.
    callbacks : sequence of callable, optional
        Each is called after every epoch with the history up to it, see below, to whose last row it may add. One with
        a method ``begin`` has it called, without arguments, before the first step: the parameters have their values.
        The first worker calls them, the others only those with a true attribute ``every_worker``.
        With ``callbacks=[bmx.optimizer.FlipRatio(net)]`` rows and log have the ratio of weights that were flipped.
    overwrite : bool, default False
        Whether to replace an earlier run at `prefix`.
    class_names : sequence of str, optional
        Names of the classes in order of their labels, without line breaks; written as ``<prefix>-labels.txt``.

    Returns
    -------
    list of dict
        For each epoch ``epoch`` (1 is the first), ``loss`` (mean over this worker's images), ``accuracy`` (0 to 1,
        validation), ``learning_rate``, ``seconds`` and ``images_per_second`` of training (of all workers).

    Raises
    ------
    bmx.Error
        If the loss stops being a number, a label is none of the network's classes, a checkpoint cannot be written, or
        the one to resume from is missing, damaged or of another network, optimizer or settings.
    KeyboardInterrupt
        On Ctrl-C, after the step in progress and the checkpoint; a second Ctrl-C stops at once.
    SystemExit
        On SIGTERM, in the same way; the status is 143.
    """
    check_mode("bmx.training.fit")
    if resume and prefix is None:
        raise Error("resume needs the prefix of the run to go on with")
    workers = workers or Workers()
    if resume and workers.asynchronous:
        raise Error("dist_async keeps the optimizer's state on the servers, so a run with it cannot be resumed")
    contexts = list(contexts) or [mx.current_context()]
    if train.batch_size % len(contexts):
        raise Error(
            f"batch size {train.batch_size}; allowed with {len(contexts)} devices: multiples of {len(contexts)}"
        )
    first = workers.rank == 0
    checkpoint = Checkpoint(prefix, class_names) if prefix is not None else None
    if checkpoint and first:
        checkpoint.prepare(resume, overwrite)
    objective = objective or _cross_entropy
    settings = _plain({**(settings or {}), "optimizer": _name(optimizer), "seed": seed})
    images = next(iter(validation.epoch(0)))[0]
    classes = _shaped(net, train, images, contexts)
    if checkpoint:
        checkpoint.sample_shape = images.shape[1:]
    trainer = workers.trainer(net.collect_params(), optimizer)
    run = {"epoch": 0, "batch": 0, "loss": 0.0, "seconds": 0.0, "history": [], "settings": settings}
    images_of_a_step = train.batch_size * (1 if workers.asynchronous else workers.count)
    if not workers.distributed:  # gives all devices the averages of BatchNorm of the first one, as only the start may
        workers.start(trainer, images_of_a_step)
    if resume:
        run = checkpoint.restore(net, trainer, settings)
        if first:
            log(f"resuming {_place(run)}")
    if workers.distributed:  # gives all workers what the first one has restored
        workers.start(trainer, images_of_a_step)
    for callback in callbacks if first else ():
        getattr(callback, "begin", lambda: None)()
    if first and not resume:
        _warn(net, images, log)

    with _deferred_signals() as signals:
        while run["epoch"] < epochs:
            ended = _train_epoch(net, trainer, objective, train, run, signals, contexts, workers, classes)
            if first and checkpoint:
                checkpoint.save(net, trainer, run)  # an error in the validation shall not cost the epoch
            if run["batch"] == len(train):
                measured = accuracy(net, validation, contexts[0]) if first else 0.0
                row = _finish_epoch(run, len(train) * train.batch_size, workers.count, measured, trainer)
                for callback in callbacks:
                    if first or getattr(callback, "every_worker", False):
                        callback(run["history"])
                if first:
                    log(_line(run["history"], epochs))
                if first and checkpoint:
                    if keep_best and best_epoch(run["history"]) is row:
                        checkpoint.save_best(net, row["epoch"])
                    checkpoint.save(net, trainer, run)
            if ended:
                if first and not isinstance(ended, Exception):
                    log(f"interrupted {_place(run)}")
                raise ended
    return run["history"]


def _plain(settings: Dict[str, Any]) -> Dict[str, Any]:
    """Return the settings as a checkpoint stores and reads them: tuples become lists."""
    for name, value in settings.items():
        try:
            settings[name] = json.loads(json.dumps(value))
        except (TypeError, ValueError):
            kind = type(value).__name__
            raise Error(f"settings: {name!r} is of type {kind}; allowed are str, int, float and bool") from None
    return settings


def _name(optimizer: mx.optimizer.Optimizer) -> str:
    if isinstance(optimizer, BinaryOptimizer):
        return f"{_name(optimizer.optimizer)}, of 1-bit weights {_name(optimizer.binary)}"
    return type(optimizer).__name__


def _shaped(net: gluon.HybridBlock, train: Batches, images: mx.nd.NDArray, contexts: List[mx.Context]) -> int:
    """Give parameters of unknown shape their shape and first values; return the number of classes."""
    if not isinstance(net, gluon.HybridBlock):
        raise Error(f"the network is a {type(net).__name__}; allowed are HybridBlocks: checkpoints have its symbol")
    shape = "x".join(map(str, images.shape[1:]))
    try:
        scores = [net(images.as_in_context(ctx)) for ctx in contexts][0]
    except RuntimeError as error:  # also MXNetError
        if "initialize" in str(error) and not isinstance(error, mx.MXNetError):
            raise Error(f"the network has no parameters yet ({_reason(error)}): call its initialize()") from None
        raise Error(f"the network cannot take images of {shape}: {_reason(error)}") from None
    except ValueError as error:
        raise Error(f"the network cannot take images of {shape}: {_reason(error)}") from None
    if getattr(train, "small_epochs", 0):
        height, width = map(small_side, images.shape[2:])
        try:
            net(images[:, :, :height, :width].as_in_context(contexts[0])).wait_to_read()
        except (ValueError, mx.MXNetError):
            raise Error(
                f"small epochs need a network that ends in a global pooling; this one takes images of {shape}, but not "
                f"of {height}x{width}"
            ) from None
    return scores.shape[1]


def _warn(net: gluon.HybridBlock, images: mx.nd.NDArray, log: Callable[[str], Any]) -> None:
    """Warn about layers that will not learn because their input bits are all the same."""
    try:
        lines = equal_bits(net, images)
    except Exception:  # some networks train but have no symbol; that is no reason to stop
        return
    for line in lines:
        log(f"warning: {line}")


def accuracy(net: gluon.HybridBlock, batches: Batches, ctx: Optional[mx.Context] = None) -> float:
    """Return the fraction of images, 0 to 1, whose label has the highest score."""
    check_mode("bmx.training.accuracy")
    hits = total = 0
    for images, labels in batches.epoch(0):
        scores = net(images if ctx is None else images.as_in_context(ctx))
        _check_labels(labels, scores.shape[1], batches)
        hits += int((scores.asnumpy().argmax(axis=1) == labels.asnumpy()).sum())
        total += len(labels)
    return hits / total


def _cross_entropy(net, images, labels, random):
    return gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels)


def _train_epoch(
    net: gluon.HybridBlock,
    trainer: gluon.Trainer,
    objective: Callable,
    train: Batches,
    run: Dict[str, Any],
    signals: List[int],
    contexts: List[mx.Context],
    workers: Workers,
    classes: int,
) -> Optional[BaseException]:
    """Train the rest of the epoch that `run` is in, or until a signal or an error of the data, which is returned.

    Counts what was done in `run`.
    """
    epoch = run["epoch"] + 1
    start = time.time() - run["seconds"]
    previous: List[mx.nd.NDArray] = []
    ended: Optional[BaseException] = None
    batches = train.epoch(epoch, start=run["batch"]) if run["batch"] < len(train) else iter(())

    def count(totals: List[mx.nd.NDArray], batch: int) -> None:
        run["loss"] += sum(float(total.asscalar()) for total in totals)
        if not math.isfinite(run["loss"]):
            raise _diverged(f"the loss is {run['loss']}", trainer, run, batch)

    with _progress_bar(train, epoch, run["batch"]) if workers.rank == 0 else contextlib.nullcontext(_NoBar()) as bar:
        while not ended:
            try:
                images, labels = next(batches)
                _check_labels(labels, classes, train)
            except StopIteration:
                break
            except Exception as error:  # also of a program's own batches
                ended = error
                break
            words = [run["settings"]["seed"], epoch, run["batch"]] + ([workers.rank] if workers.rank else [])
            seeds = np.random.SeedSequence(words).generate_state(2)
            mx.random.seed(int(seeds[0]))
            random = np.random.RandomState(seeds[1])
            parts = list(zip(*(gluon.utils.split_and_load(array, contexts) for array in (images, labels))))
            with autograd.record():
                losses = [objective(net, *part, random) for part in parts]
            autograd.backward(losses)
            trainer.step(len(images) * (1 if workers.asynchronous else workers.count))
            run["batch"] += 1
            count(previous, run["batch"] - 1)  # one step late, so that MXNet computes while Python prepares
            previous = [loss.sum() for loss in losses]
            bar.update(len(images))
            if workers.agree(bool(signals)):
                ended = SystemExit(128 + signal.SIGTERM) if signal.SIGTERM in signals else KeyboardInterrupt()
    count(previous, run["batch"])
    for param in net.collect_params().values():  # binary layers hide them from the loss: the sign of NaN is +1
        if not mx.nd.all_finite(param.list_data()[0]).asscalar():
            raise _diverged(f"{param.name} has values that are not finite", trainer, run, run["batch"])
    run["seconds"] = time.time() - start
    return ended


def _check_labels(labels: mx.nd.NDArray, classes: int, batches: Batches) -> None:
    """Raise an error if a label is not one of the classes: losses silently take such a label for another or none."""
    values = labels.asnumpy()
    wrong = values[~((values >= 0) & (values < classes))]
    if wrong.size:
        where = getattr(batches, "path", "the images")
        raise Error(f"{where}: label {wrong[0]:g}; allowed with a network of {classes} classes: 0 to {classes - 1}")


def _finish_epoch(
    run: Dict[str, Any], images: int, workers: int, validation_accuracy: float, trainer: gluon.Trainer
) -> Dict[str, Any]:
    """Turn the sums of an epoch into its row of the history, advance to the next epoch, and return the row."""
    row = {
        "epoch": run["epoch"] + 1,
        "loss": run["loss"] / images,
        "accuracy": validation_accuracy,
        "learning_rate": float(trainer.learning_rate),
        "seconds": run["seconds"],
        "images_per_second": images * workers / run["seconds"],
    }
    run["history"].append(row)
    run.update(epoch=row["epoch"], batch=0, loss=0.0, seconds=0.0)
    return row


def _line(history: History, epochs: int) -> str:
    """A line with the results of the last epoch and the time left at its speed."""
    row = history[-1]
    left = round(row["seconds"] * (epochs - row["epoch"]))
    return (
        f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  validation accuracy "
        f"{row['accuracy']:.2%}  {row['seconds']:.1f} s  {row['images_per_second']:.0f} img/s"
        + (f"  {row['flip_ratio']:.2%} flipped" if "flip_ratio" in row else "")
        + (f"  {datetime.timedelta(seconds=left)} left" if left else "")
    )


def _reason(error: Exception) -> str:
    """Return the last line that is not empty: MXNet's messages begin with places in its source code."""
    return [line.strip() for line in str(error).splitlines() if line.strip()][-1]


def _place(run: Dict[str, Any]) -> str:
    return f"after epoch {run['epoch']}" + (f" and {run['batch']} batches of the next" if run["batch"] else "")


def _diverged(what: str, trainer: gluon.Trainer, run: Dict[str, Any], batch: int) -> Error:
    return Error(
        f"{what} in epoch {run['epoch'] + 1}, batch {batch}: lower the learning rate "
        f"({trainer.learning_rate:.4g}) or check the data; the checkpoint of epoch {run['epoch']} is as it was"
    )


def _progress_bar(train: Batches, epoch: int, done: int):
    """Return a progress bar with images per second, if the output is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return contextlib.nullcontext(_NoBar())
    size = train.batch_size
    return tqdm(
        total=len(train) * size, initial=done * size, desc=f"epoch {epoch}", unit="img", leave=False, disable=None
    )


class _NoBar:
    def update(self, images: int) -> None:
        pass


@contextlib.contextmanager
def _deferred_signals() -> Iterator[List[int]]:
    """Give a list that collects Ctrl-C and SIGTERM instead of raising anywhere. The second Ctrl-C raises."""
    seen: List[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield seen
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        if number == signal.SIGINT:  # of SIGTERM there may come two, from `bmx launch` and from who stops it
            signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
