"""Compiles a network: reads it, fuses it, quantizes what shall be int8, makes the program, and compares both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import mxnet as mx
import numpy as np

from ..checkpoints.loading import load_checkpoint
from ..checkpoints.names import split_path
from ..errors import Error, SamplesError
from ..files import check_target
from . import int8 as quantization
from .compile_report import CompileReport, report_layers
from .frontends.mxnet import Network, open_block, open_checkpoint
from .ir import Graph
from .passes import finish, optimize
from .samples import Data, as_arrays, batches, check_labels, inputs_of, named, shape_of
from .verification import verify_program

__all__ = ["Compiled", "compile_block", "compile_checkpoint", "compile_network", "compile_symbol"]


@dataclass
class Compiled:
    """A compiled network.

    Attributes
    ----------
    program : bmx.program.Program
    graph : Graph
        The fused graph that it was made of.
    report : CompileReport
        ``print`` it.
    """

    program: Any
    graph: Graph
    report: CompileReport

    def save(self, path: str, force: bool = False) -> None:
        """Write the program to a .bmx file.

        Raises
        ------
        bmx.Error
            If the file exists and `force` is False, or cannot be written.
        """
        from .. import program

        if os.path.lexists(path) and not force:
            raise Error(f"{path}: exists already; use --force (force=True) to overwrite it")
        program.write(self.program, path)

    def __repr__(self) -> str:
        """The report: weights would fill the screen."""
        return str(self.report)


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


def _open_for(params_path: str, shape: Any) -> Network:
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
    return compile_network(Network(symbol, args, aux, data_shape, name), **options)


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


def compile_network(
    network: Network,
    *,
    int8: str = "off",
    data: Optional[Data] = None,
    labels: Optional[Sequence[int]] = None,
    verify: bool = True,
) -> Compiled:
    """Compile a network that a reader opened; everything else here ends in this."""
    arrays = named(network, data)
    graph = network.read()
    classes = None if labels is None else check_labels(labels, arrays, graph)
    optimize(graph)
    layers = quantization.layers_to_quantize(graph, int8)
    if layers:
        if arrays is None:
            raise Error(f"int8={int8!r} needs sample input to choose ranges on; give data (--verify-data)")
        _quantize(network, graph, layers, arrays)
    if int8 == "all":
        quantization.explain_floats(graph)
    report = CompileReport(graph.name, report_layers(graph), int8, remarks=network.remarks())

    from .. import program as programs
    from .lower import lower

    program = lower(graph)
    report.file_bytes = len(programs.encode(program))
    if verify:
        report.verification = verify_program(network, graph.name, program, arrays, classes, exact=int8 == "off")
    report.remarks += [f"warning: {line}" for line in network.equal_bits(arrays if verify else None)]
    return Compiled(program, graph, report)


def _quantize(network: Network, graph: Graph, layers: List[Any], arrays: Dict[str, np.ndarray]) -> None:
    calibration = quantization.Calibration([layer for layer in layers if layer in network.multiplied])
    for layer in layers:
        if layer not in network.multiplied:
            layer.notes.append("not int8: its input is no output of a node, and its range is not known")
    for batch in batches(arrays):
        calibration.add(network.multiplicands(batch))
    quantization.quantize(graph, calibration.ranges())
    finish(graph)
