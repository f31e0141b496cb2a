"""Training in stages, and from the parameters of another run.

Binary weights are a coarse view of float ones. Networks whose activations are binary from the beginning, but whose
weights become binary only in a second stage, begin that stage with weights that are worth rounding: B. Martinez et al.,
"Training binary neural networks with real-to-binary convolutions", arXiv:2003.11535, and ReActNet, arXiv:2003.03488.
Both leave out the weight decay in the second stage, in which latent weights would only be pulled to where signs flip.
"""

from __future__ import annotations

import argparse
import copy
import os
from typing import List, Tuple

import mxnet as mx

from ..errors import Error
from .checkpoint import Checkpoint, load_arrays
from .data import check_mode

# Options of 1-bit weights, which the first stage does not have.
_OF_BINARY_WEIGHTS = (
    *("weight_quantization", "tau", "approximation", "clip_weights"),
    *("binary_optimizer", "binary_lr", "binary_wd", "bop_gamma", "bop_threshold"),
)


def stages(args: argparse.Namespace) -> List[argparse.Namespace]:
    """Return the runs, one after the other, that a command line stands for.

    The first of two has weights of 32 bits and the prefix ``<prefix>-stage1``. The second one knows it as
    ``first_stage`` and has no weight decay. A stage that is done already when a run is resumed is left out.

    Parameters
    ----------
    args : argparse.Namespace
        Checked, see :func:`bmx.commands.train_arguments.check`.
    """
    if args.stages == 1:
        return [args]
    first, second = copy.copy(args), copy.copy(args)
    optimizer = "adam" if args.optimizer.lower() == "bop" else args.optimizer
    vars(first).update(bits=32, epochs=args.stage_epochs, prefix=f"{args.prefix}-stage1", optimizer=optimizer)
    vars(first).update(dict.fromkeys(_OF_BINARY_WEIGHTS))
    vars(second).update(epochs=args.epochs - args.stage_epochs, wd=0.0, first_stage=first)
    first.resume = args.resume and os.path.exists(Checkpoint(first.prefix).resume_file)
    second.resume = args.resume and os.path.exists(Checkpoint(second.prefix).resume_file)
    return [second] if second.resume else [first, second]


def begin_with(net: mx.gluon.Block, params_file: str) -> None:
    """Set the parameters of a network, whose shapes are known, to those of a checkpoint of the same network.

    Raises
    ------
    bmx.Error
        If the file is missing or damaged, or has not the parameters of this network.
    """
    check_mode("bmx.training.stages.begin_with")
    stored = {name.partition(":")[2]: array for name, array in load_arrays(params_file).items()}
    parameters = net.collect_params()
    for name, parameter in parameters.items():
        if name not in stored:
            raise Error(f"{params_file}: has no {name}; allowed is a checkpoint of the same network")
        if stored[name].shape != parameter.shape:
            raise Error(
                f"{params_file}: {name} has shape {stored[name].shape}, here it has {parameter.shape}; allowed is a "
                "checkpoint of the same network"
            )
    for name in stored:
        if name not in parameters:
            raise Error(f"{params_file}: has {name}, which is not in this network; allowed is a checkpoint of it")
    for name, parameter in parameters.items():
        parameter.set_data(stored[name])


def hand_over(source: mx.gluon.Block, target: mx.gluon.Block) -> None:
    """Set the parameters of a network to those of the same one made with other bits.

    Layers of other bits have other names, but the same order. What only layers of one bit have, the ``tau`` and the
    ``scale`` of :class:`bmx.gluon.nn.QConv2D`, keeps its first values.

    Raises
    ------
    bmx.Error
        If the networks have other parameters in this order.
    """

    def in_order(net: mx.gluon.Block) -> List[Tuple[str, mx.gluon.Parameter]]:
        named = [(name.rpartition(".")[2], parameter) for name, parameter in net._collect_params_with_prefix().items()]
        return [(kind, parameter) for kind, parameter in named if kind not in ("tau", "scale")]

    ours, theirs = in_order(target), in_order(source)
    if [(kind, parameter.shape) for kind, parameter in ours] != [(kind, parameter.shape) for kind, parameter in theirs]:
        raise Error(f"{type(target).__name__} has other parameters with float weights; train it in one stage")
    for (_, parameter), (_, before) in zip(ours, theirs):
        parameter.set_data(before.list_data()[0])
