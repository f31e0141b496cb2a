"""The training loop that the programs in ``example/`` share."""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from ..errors import Error
from .checkpoint import Checkpoint
from .data import Batches


def fit(
    net: gluon.HybridBlock,
    train: Batches,
    validation: Batches,
    optimizer: mx.optimizer.Optimizer,
    epochs: int,
    prefix: Optional[str] = None,
    resume: bool = False,
    settings: Optional[Dict[str, Any]] = None,
    loss: Optional[Callable] = None,
    seed: int = 0,
    log: Callable[[str], Any] = functools.partial(print, flush=True),
) -> List[Dict[str, Any]]:
    """Train a classifier; after each epoch print its validation accuracy and write a checkpoint.

    A run that is stopped, by Ctrl-C or by `epochs`, and resumed ends with the same parameters, bit for bit, as one
    that was not stopped: parameters, optimizer state, the place in the epoch and the history are in the checkpoint, and
    random numbers follow from `seed`, epoch and batch.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        Network with one input and class scores (before a softmax) as output, initialized, its shapes known or not.
    train, validation : Batches
        What to train on, and what to measure the accuracy on.
    optimizer : mxnet.optimizer.Optimizer
        Its learning-rate scheduler counts steps (batches), from 1.
    epochs : int
        Number of the last epoch.
    prefix : str, optional
        Beginning of the checkpoint's file names, see :class:`Checkpoint`; without it nothing is written.
    resume : bool, default False
        Whether to go on from the checkpoint at `prefix` instead of beginning.
    settings : dict of str to str or number, optional
        What else must be the same in a resumed run, by name (batch size, learning rate, data set).
    loss : callable, optional
        ``(scores, labels) -> losses of the images``; default: softmax cross entropy.
    seed : int, default 0
        Seed of MXNet's random numbers (dropout, stochastic rounding).
    log : callable, optional
        Takes each line of output; default: prints it.

    Returns
    -------
    list of dict
        For each epoch ``epoch`` (1 is the first), ``loss`` (mean over the images), ``accuracy`` (0 to 1, validation),
        ``seconds`` and ``images_per_second`` of training.

    Raises
    ------
    bmx.Error
        If the loss stops being a number, a checkpoint cannot be written, or the one to resume from is missing, damaged
        or of another network, optimizer or settings.
    KeyboardInterrupt
        On Ctrl-C, after the step in progress and the checkpoint; a second Ctrl-C stops at once.
    """
    if resume and prefix is None:
        raise Error("resume needs the prefix of the run to go on with")
    loss = loss or gluon.loss.SoftmaxCrossEntropyLoss()
    settings = {**(settings or {}), "optimizer": type(optimizer).__name__, "seed": seed}
    net(next(iter(validation.epoch(0)))[0])  # gives parameters of unknown shape their shape and first values
    trainer = gluon.Trainer(net.collect_params(), optimizer, kvstore=None)
    checkpoint = Checkpoint(prefix) if prefix else None
    run = {"epoch": 0, "batch": 0, "loss": 0.0, "seconds": 0.0, "history": [], "settings": settings}
    if resume:
        run = checkpoint.restore(net, trainer, settings)
        log(f"resuming {_place(run)}")

    with _deferred_interrupt() as interrupted:
        while run["epoch"] < epochs:
            _train_epoch(net, trainer, loss, train, run, interrupted)
            if run["batch"] == len(train):
                _finish_epoch(run, len(train) * train.batch_size, accuracy(net, validation))
                row = run["history"][-1]
                log(
                    f"epoch {row['epoch']:{len(str(epochs))}}/{epochs}  loss {row['loss']:.4f}  validation accuracy "
                    f"{row['accuracy']:.2%}  {row['seconds']:.1f} s  {row['images_per_second']:.0f} img/s"
                )
            if checkpoint:
                checkpoint.save(net, trainer, run)
                if run["batch"] == 0 and row["accuracy"] >= max(r["accuracy"] for r in run["history"]):
                    checkpoint.save_best(net, row["epoch"])
            if interrupted:
                log(f"interrupted {_place(run)}")
                raise KeyboardInterrupt
    return run["history"]


def accuracy(net: gluon.HybridBlock, batches: Batches) -> float:
    """Return the fraction of images, 0 to 1, whose highest score is that of their label."""
    hits = total = 0
    for images, labels in batches.epoch(0):
        hits += int((net(images).asnumpy().argmax(axis=1) == labels.asnumpy()).sum())
        total += len(labels)
    return hits / total


def _train_epoch(net, trainer, loss, train: Batches, run: Dict[str, Any], interrupted: List[int]) -> None:
    """Train the rest of the epoch that `run` is in, or until an interrupt; count what was done in `run`."""
    epoch = run["epoch"] + 1
    start = time.time() - run["seconds"]
    previous = None

    def count(total: Optional[mx.nd.NDArray]) -> None:
        if total is None:
            return
        run["loss"] += float(total.asscalar())
        if not math.isfinite(run["loss"]):
            raise _diverged(f"the loss is {run['loss']}", trainer, run)

    with _progress_bar(train, epoch, run["batch"]) as bar:
        for images, labels in train.epoch(epoch, start=run["batch"]):
            step = np.random.SeedSequence([run["settings"]["seed"], epoch, run["batch"]])
            mx.random.seed(int(step.generate_state(1)[0]))
            with autograd.record():
                losses = loss(net(images), labels)
            losses.backward()
            trainer.step(len(images))
            run["batch"] += 1
            count(previous)  # one step late, so that MXNet computes while Python prepares
            previous = losses.sum()
            bar.update(len(images))
            if interrupted:
                break
    count(previous)
    for param in net.collect_params().values():  # binary layers hide them from the loss: the sign of NaN is +1
        if not mx.nd.all_finite(param.data()).asscalar():
            raise _diverged(f"{param.name} has values that are not finite", trainer, run)
    run["seconds"] = time.time() - start


def _finish_epoch(run: Dict[str, Any], images: int, validation_accuracy: float) -> None:
    """Turn the sums of an epoch into its row of the history, and go to the next one."""
    row = {
        "epoch": run["epoch"] + 1,
        "loss": run["loss"] / images,
        "accuracy": validation_accuracy,
        "seconds": run["seconds"],
        "images_per_second": images / run["seconds"],
    }
    run["history"].append(row)
    run.update(epoch=row["epoch"], batch=0, loss=0.0, seconds=0.0)


def _place(run: Dict[str, Any]) -> str:
    return f"after epoch {run['epoch']}" + (f" and {run['batch']} batches of the next" if run["batch"] else "")


def _diverged(what: str, trainer: gluon.Trainer, run: Dict[str, Any]) -> Error:
    return Error(
        f"{what} in epoch {run['epoch'] + 1}, batch {run['batch']}: lower the learning rate "
        f"({trainer.learning_rate:.4g}) or check the data; the checkpoint of epoch {run['epoch']} is as it was"
    )


def _progress_bar(train: Batches, epoch: int, done: int):
    """Return a bar of images with their rate, on terminals and where tqdm is installed."""
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
def _deferred_interrupt() -> Iterator[List[int]]:
    """Give a list that the first Ctrl-C makes non-empty, instead of raising anywhere; the second one raises."""
    seen: List[int] = []
    if threading.current_thread() is not threading.main_thread():  # only the main thread can handle signals
        yield seen
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
