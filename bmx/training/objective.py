"""What a step minimizes: cross entropy, with smoothed labels, mixed images and a teacher as wanted."""

from __future__ import annotations

import json
from typing import Optional, Tuple

import mxnet as mx
import numpy as np

from ..checkpoints.loading import load_checkpoint
from ..checkpoints.names import parse
from ..errors import Error
from .data import check_mode


class Objective:
    """Gives the losses of a batch: called with (network, images, labels, numpy.random.RandomState).

    Parameters
    ----------
    classes : int
        Classes of the labels.
    smoothing : float, default 0
        Part of a label that is spread evenly over all classes, 0 to less than 1: arXiv:1512.00567.
    mixup : float, default 0
        Each image is mixed with another one of the batch, and so are the labels, with weights w and 1 - w; w is drawn
        for a batch from the distribution Beta(mixup, mixup): arXiv:1710.09412. 0 does not mix.
    teacher : callable, optional
        Gives scores of images that the network is to come near to, as :func:`teacher` does: distillation,
        arXiv:1503.02531.
    temperature : float, default 4
        Scores of both are divided by it before the softmax. The gradient is multiplied by its square, as in the paper.
    teacher_weight : float, default 0.5
        Weight of the teacher, 0 to 1; the labels have the rest.

    Raises
    ------
    bmx.Error
        If a parameter is out of its range.

    Examples
    --------
    >>> objective = Objective(classes=2, smoothing=0.2)
    >>> scores = mx.nd.array([[4.0, 4.0]])
    >>> losses = objective(lambda images: scores, None, mx.nd.array([1]), None)
    >>> print(losses.asnumpy().round(3))  # log 2, for any labels
    [0.693]
    """

    def __init__(
        self,
        classes: int,
        smoothing: float = 0,
        mixup: float = 0,
        teacher: Optional[mx.gluon.Block] = None,
        temperature: float = 4,
        teacher_weight: float = 0.5,
    ):
        for name, value, allowed, fits in (
            ("label smoothing", smoothing, "0 to less than 1", 0 <= smoothing < 1),
            ("mixup", mixup, "0 or more", mixup >= 0),
            ("temperature", temperature, "more than 0", temperature > 0),
            ("weight of the teacher", teacher_weight, "0 to 1", 0 <= teacher_weight <= 1),
        ):
            if not fits:
                raise Error(f"{name} is {value:g}; allowed: {allowed}")
        self.classes, self.smoothing, self.mixup = classes, smoothing, mixup
        self.teacher, self.temperature, self.teacher_weight = teacher, temperature, teacher_weight

    def __call__(
        self, net: mx.gluon.Block, images: mx.nd.NDArray, labels: mx.nd.NDArray, random: np.random.RandomState
    ) -> mx.nd.NDArray:
        """Return the loss of each image, of shape (N,)."""
        images, targets = self._targets(images, labels, random)
        scores = net(images)
        losses = -(targets * mx.nd.log_softmax(scores)).sum(axis=1)
        if self.teacher is None:
            return losses
        try:
            with mx.autograd.pause():
                wanted = mx.nd.softmax(self.teacher(images), temperature=self.temperature)
        except (ValueError, mx.MXNetError) as error:
            shape = "x".join(map(str, images.shape[1:]))
            reason = [line.strip() for line in str(error).splitlines() if line.strip()][-1]
            raise Error(f"the teacher cannot take images of {shape}: {reason}") from None
        if wanted.shape != scores.shape:
            raise Error(
                f"the teacher knows {wanted.shape[1]} classes, the network {scores.shape[1]}; both need the same"
            )
        gap = -(wanted * mx.nd.log_softmax(scores, temperature=self.temperature)).sum(axis=1)
        weight = self.teacher_weight
        return (1 - weight) * losses + weight * self.temperature**2 * gap

    def _targets(
        self, images: mx.nd.NDArray, labels: mx.nd.NDArray, random: np.random.RandomState
    ) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return the images, mixed, and the wanted probabilities of classes."""
        off = self.smoothing / self.classes
        targets = mx.nd.one_hot(labels, self.classes, on_value=1 - self.smoothing + off, off_value=off)
        if self.mixup:
            weight = float(random.beta(self.mixup, self.mixup))
            images = weight * images + (1 - weight) * images.flip(axis=0)
            targets = weight * targets + (1 - weight) * targets.flip(axis=0)
        return images, targets


def teacher(params_file: str, ctx: Optional[mx.Context] = None) -> mx.gluon.SymbolBlock:
    """Load a trained network as a teacher: it gives scores before a softmax, and none of its parameters changes.

    Parameters
    ----------
    params_file : str
        Its ``PREFIX-NNNN.params``, with ``PREFIX-symbol.json`` beside it; a softmax at its end is left out.
    ctx : mxnet.Context or list of them, optional
        Where it is to run. Default: the current context.

    Raises
    ------
    bmx.Error
        If the name is not of this form, or the files are missing or damaged.
    """
    check_mode("a teacher")
    found = parse(params_file)
    if found is None:
        raise Error(f"teacher {params_file}: expected the name of a checkpoint, PREFIX-NNNN.params")
    prefix, epoch = found
    symbol, arguments, auxiliary = load_checkpoint(prefix, epoch)
    head = json.loads(symbol.tojson())
    if head["nodes"][head["heads"][0][0]]["op"] in ("softmax", "SoftmaxOutput", "SoftmaxActivation"):
        symbol = symbol.get_children()[0]
    inputs = [name for name in symbol.list_inputs() if name not in arguments and name not in auxiliary]
    if len(inputs) > 1:
        lacking = ", ".join([name for name in inputs if name != "data"][:3])
        raise Error(
            f"{params_file}: lacks {lacking}{', ...' if len(inputs) > 4 else ''} of {prefix}-symbol.json: the "
            "parameters are another network's, or this one has several inputs; a teacher has one"
        )
    if not inputs:
        raise Error(f"{params_file}: a teacher has one input; this network has none")
    net = mx.gluon.SymbolBlock(symbol, mx.sym.var(inputs[0], dtype="float32"))
    net.initialize(ctx=ctx)
    for name, param in net.collect_params().items():
        param.set_data({**arguments, **auxiliary}[name])
        param.grad_req = "null"
    net.hybridize(static_alloc=True)
    return net
