"""Compiles what MXNet has: checkpoints, symbols with their parameters, and Gluon networks."""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional, Sequence, Union

import mxnet as mx

from ....checkpoints.loading import load_checkpoint
from ....checkpoints.names import split_path
from ....errors import Error, SamplesError
from ....files import check_target
from ...pipeline import Compiled, compile_network
from ...samples import Data, as_arrays, inputs_of, shape_of
from .reader import MXNetFrontEnd
from .sources import open_block, open_checkpoint

__all__ = ["compile_block", "compile_checkpoint", "compile_symbol"]


def compile_checkpoint(
    params_path: str,
    output: Optional[str] = None,
    *,
    int8: str = "off",
    data: Optional[Data] = None,
    labels: Optional[Sequence[int]] = None,
    data_shape: Optional[Union[Sequence[int], Mapping[str, Sequence[int]]]] = None,
    verify: bool = True,
    force: bool = False,
) -> Compiled:
    """Compile a checkpoint of bmx, MXNet, or BMXNet v1 or v2, packed or not.

    Parameters
    ----------
    params_path : str
        ``<prefix>-NNNN.params``; ``<prefix>-symbol.json`` must be beside it.
    output : str, optional
        Path of the .bmx file. Default: none is written.
    int8 : {'off', 'first-last', 'all'}
        Which of the layers that stay float become int8: none, the first and the last, or all. It needs `data`.
    data : ndarray, NDArray or mapping of str to these, optional
        Samples, (batch, ...), as the network is trained on: to choose the ranges of int8 on and to compare the networks
        on. By default they are compared on 8 random ones, always the same.
    labels : sequence of int, optional
        The classes of the samples, for the accuracy of both networks.
    data_shape : sequence of int, or mapping of str to that, optional
        Shape of one sample, without the batch. Default: that of `data`, or derived from the network.
    verify : bool
        Run both networks and report the differences.
    force : bool
        Overwrite an existing file.

    Returns
    -------
    Compiled

    Raises
    ------
    bmx.Error
        If a file is missing or damaged, an operator is not supported (the message names the node), shapes do not fit,
        int8 is asked for without samples, the outputs of both networks differ though nothing was made int8, or the
        output exists or cannot be written.
    """
    if output is not None:
        check_target(output)
        if os.path.lexists(output) and not force:
            raise Error(f"{output}: exists already; use --force (force=True) to overwrite it")
    arrays = as_arrays(data)
    if data_shape is None and arrays is not None:
        network = _open_for(params_path, shape_of(arrays))
    else:
        network = open_checkpoint(params_path, data_shape)
    compiled = compile_network(network, int8=int8, data=arrays, labels=labels, verify=verify)
    if output is not None:
        compiled.save(output, force)
    return compiled


def _open_for(params_path: str, shape: Any) -> MXNetFrontEnd:
    """Open a checkpoint for samples of this shape."""
    try:
        return open_checkpoint(params_path, shape)
    except Error as error:
        prefix, epoch = split_path(params_path)
        load_checkpoint(prefix, epoch)  # which raises the same if its files are to blame
        try:
            wanted = f"the network needs {', '.join(map(str, open_checkpoint(params_path).inputs.values()))}"
        except Error:
            wanted = str(error)
        shape = ", ".join(f"{name!r} {size}" for name, size in shape.items()) if isinstance(shape, dict) else shape
        raise SamplesError(f"samples have the shape {shape}, each; {wanted}") from None


def compile_symbol(
    symbol: mx.sym.Symbol,
    args: Mapping[str, Any],
    aux: Mapping[str, Any],
    data_shape: Union[Sequence[int], Mapping[str, Sequence[int]]],
    *,
    name: str = "network",
    **options: Any,
) -> Compiled:
    """Compile a symbol with its parameters.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
    args, aux : mapping of str to NDArray or ndarray
        Packed weights are 32-bit words, as `bmx.load_checkpoint` gives them.
    data_shape : sequence of int, or mapping of str to that
        Shape of one sample, without the batch; by name if there is more than one input.
    name : str
    **options
        As `compile_checkpoint`'s: int8, data, labels, verify.

    Returns
    -------
    Compiled

    Raises
    ------
    bmx.Error
        As `compile_checkpoint`.
    """
    return compile_network(MXNetFrontEnd(symbol, args, aux, data_shape, name), **options)


def compile_block(net: mx.gluon.HybridBlock, x: Any, **options: Any) -> Compiled:
    """Compile a Gluon network.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With the parameters that it shall have; it must have been called once.
    x : ndarray, NDArray, tuple of int, or a mapping, tuple or list of these
        A batch of samples; they are also the `data` of the options. Or the shape of one sample. Several inputs by name,
        or in a tuple or list as in a call of the network: then their names are data0, data1, ...
    **options
        As `compile_checkpoint`'s: int8, labels, verify.

    Returns
    -------
    Compiled

    Raises
    ------
    bmx.Error
        As `compile_checkpoint`, or if parameters are not initialized.
    """
    given, call = inputs_of(x)
    if any(isinstance(part, tuple) for part in given.values()):
        return compile_network(open_block(net, given, call=call), **options)
    return compile_network(open_block(net, shape_of(given), call=call), data=given, **options)
