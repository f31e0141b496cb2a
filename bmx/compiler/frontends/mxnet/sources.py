"""Where networks come from: files and Gluon."""

from __future__ import annotations

import os
from typing import Any, List, Optional

import mxnet as mx

from ....checkpoints import names as checkpoint_names
from ....checkpoints.loading import load_checkpoint
from ....checkpoints.names import split_path
from ....checkpoints.network import Network
from ....errors import Error
from ....gluon.tracing import trace
from .reader import MXNetFrontEnd, Shapes

__all__ = ["open_block", "open_checkpoint"]


def open_checkpoint(params_path: str, data_shape: Optional[Shapes] = None) -> MXNetFrontEnd:
    """Load a checkpoint: of bmx, of MXNet, or of BMXNet v1 or v2, packed or not.

    Parameters
    ----------
    params_path : str
        ``<prefix>-NNNN.params``; ``<prefix>-symbol.json`` must be beside it.
    data_shape : sequence of int, or mapping of str to that, optional
        Shape of one sample, without the batch. By default, of a network with one input, the recorded one, or the only
        one that fits.

    Raises
    ------
    bmx.Error
        If a file is missing, damaged or of another kind, or the shape does not fit or cannot be derived.
    """
    prefix, epoch = split_path(params_path)
    if data_shape is None:
        network = Network.load(*checkpoint_names.files(prefix, epoch))
        if len(network.inputs) > 1:
            names = ", ".join(map(repr, network.inputs))
            example = ",".join(f"{name}=3,32,32" for name in network.inputs[:2])
            raise Error(
                f"{params_path}: no values are stored of {names}; if these are inputs, give their shapes by name, such "
                f"as --data-shape {example} (data_shape, a dict)"
            )
        try:
            data_shape = network.sample_shape() if network.inputs else ()
        except Error as error:
            raise Error(f"{params_path}: {error}") from None
    symbol, args, aux = load_checkpoint(prefix, epoch)
    return MXNetFrontEnd(symbol, args, aux, data_shape, os.path.basename(prefix))


def open_block(
    net: mx.gluon.HybridBlock, data_shape: Shapes, name: Optional[str] = None, call: Optional[List[Any]] = None
) -> MXNetFrontEnd:
    """Trace a Gluon network, with the parameters that it has now.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With initialized parameters, whose shapes are known: it must have been called once.
    data_shape : sequence of int, or mapping of str to that
        Shape of one sample, without the batch.
    call : list of str or of lists, optional
        What the network is called with, by the names of the inputs. Default: the names of `data_shape`, in their order.

    Raises
    ------
    bmx.Error
        If it is no HybridBlock, cannot be called with so many symbols, or parameters are not initialized.
    """
    name = name or getattr(net, "name", "") or type(net).__name__.lower()
    if not isinstance(net, mx.gluon.HybridBlock):
        raise Error(f"{type(net).__name__} is not a HybridBlock of Gluon, which the compiler could trace")
    names = list(data_shape) if isinstance(data_shape, dict) else ["data"]
    symbol = trace(net, names if call is None else call)
    arrays = {}
    for parameter in net.collect_params().values():
        try:
            arrays[parameter.name] = parameter.list_data()[0].asnumpy()
        except (RuntimeError, mx.gluon.parameter.DeferredInitializationError):
            raise Error(
                f"{name}: the parameter {parameter.name!r} has no value yet; initialize the network and call it once"
            ) from None
    return MXNetFrontEnd(symbol, arrays, {}, data_shape, name)
