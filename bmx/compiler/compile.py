"""Compiles a network: reads it, fuses it, quantizes what shall be int8, makes the program, and compares both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import mxnet as mx
import numpy as np

from ..errors import Error
from . import int8 as quantization
from .compile_report import CompileReport, report_layers
from .ir import Graph
from .passes import finish, optimize
from .reader import Network, open_block, open_checkpoint
from .report import Verification
from .verify import agreement, largest_difference

__all__ = ["Compiled", "compile_block", "compile_checkpoint", "compile_network", "compile_symbol"]

Data = Union[np.ndarray, mx.nd.NDArray, Mapping[str, Any]]

_SAMPLES = 8
_SEED = 0
_BATCH = 16  # samples that MXNet computes at once


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
        int8 is asked for without samples, or the output exists or cannot be written.
    """
    if output is not None and os.path.lexists(output) and not force:
        raise Error(f"{output}: exists already; use --force (force=True) to overwrite it")
    arrays = _arrays(data)
    if data_shape is None and arrays is not None:
        data_shape = _shape_of(arrays)
    network = open_checkpoint(params_path, data_shape)
    compiled = compile_network(network, int8=int8, data=arrays, labels=labels, verify=verify)
    if output is not None:
        compiled.save(output, force)
    return compiled


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


def compile_block(net: mx.gluon.HybridBlock, x: Union[Data, Sequence[int]], **options: Any) -> Compiled:
    """Compile a Gluon network.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With the parameters that it shall have; it must have been called once.
    x : ndarray, NDArray, mapping of str to these, or a tuple of int
        A batch of samples; they are also the `data` of the options. Or the shape of one sample.
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
    if isinstance(x, (tuple, list)):
        return compile_network(open_block(net, tuple(x)), **options)
    arrays = _arrays(x)
    shape = _shape_of(arrays)
    return compile_network(open_block(net, shape), data=arrays, **options)


def compile_network(
    network: Network,
    *,
    int8: str = "off",
    data: Optional[Data] = None,
    labels: Optional[Sequence[int]] = None,
    verify: bool = True,
) -> Compiled:
    """Compile a network that a reader opened; everything else here ends in this."""
    arrays = _named(network, data)
    graph = network.read()
    optimize(graph)
    layers = quantization.layers_to_quantize(graph, int8)
    if layers:
        if arrays is None:
            raise Error(f"int8={int8!r} needs sample input to choose ranges on; give data (--verify-data)")
        _quantize(network, graph, layers, arrays)
    report = CompileReport(graph.name, report_layers(graph), int8)

    from .. import program as programs
    from .lower import lower

    program = lower(graph)
    report.file_bytes = len(programs.encode(program))
    if verify:
        report.verification = _verify(network, program, arrays, labels)
    return Compiled(program, graph, report)


def _quantize(network: Network, graph: Graph, layers: List[Any], arrays: Dict[str, np.ndarray]) -> None:
    calibration = quantization.Calibration([layer for layer in layers if layer in network.multiplied])
    for layer in layers:
        if layer not in network.multiplied:
            layer.notes.append("not int8: its input is no output of a node, and its range is not known")
    for batch in _batches(arrays):
        calibration.add(network.multiplicands(batch))
    quantization.quantize(graph, calibration.ranges())
    finish(graph)


def _verify(
    network: Network, program: Any, arrays: Optional[Dict[str, np.ndarray]], labels: Optional[Sequence[int]]
) -> Verification:
    if arrays is None:
        random = np.random.RandomState(_SEED)
        arrays = {name: random.standard_normal((_SAMPLES, *shape)) for name, shape in network.inputs.items()}
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
        labels = None
    count = len(next(iter(arrays.values())))
    shapes = ", ".join("x".join(map(str, shape)) for shape in network.inputs.values())
    samples = f"{count} samples of shape {shapes}"
    before = _joined([list(network.run(batch).values()) for batch in _batches(arrays)])
    after = run_program(program, arrays)
    result = Verification(samples, largest_difference(before, after), agreement(before[0], after[0]))
    result.largest_output = max(float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) for array in before)
    if labels is not None and result.agreement is not None:
        wanted = np.asarray(labels).ravel()
        if len(wanted) != count:
            raise Error(f"{len(wanted)} labels for {count} samples; there must be one for each")
        result.accuracy_before, result.accuracy_after = (
            float(np.mean(outputs[0].argmax(axis=1) == wanted)) for outputs in (before, after)
        )
    return result


def run_program(program: Any, arrays: Mapping[str, np.ndarray]) -> List[np.ndarray]:
    """The outputs of a program for a batch, computed by the engine."""
    from .. import program as programs
    from .. import runtime

    with runtime.Model(programs.encode(program)) as model:
        outputs = model.run({port.name: arrays[port.name] for port in model.inputs})
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _batches(arrays: Mapping[str, np.ndarray]) -> List[Dict[str, np.ndarray]]:
    count = len(next(iter(arrays.values())))
    return [
        {name: array[begin : begin + _BATCH] for name, array in arrays.items()} for begin in range(0, count, _BATCH)
    ]


def _joined(parts: List[List[np.ndarray]]) -> List[np.ndarray]:
    return [np.concatenate(outputs) for outputs in zip(*parts)]


def _arrays(data: Optional[Data]) -> Any:
    """Samples as float32 NumPy arrays, named or one."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {name: _arrays(array) for name, array in data.items()}
    array = np.asarray(data.asnumpy() if isinstance(data, mx.nd.NDArray) else data, np.float32)
    if array.ndim < 2 or not len(array):
        raise Error(f"samples have the shape {array.shape}; it must be a batch: (samples, ...)")
    return array


def _shape_of(arrays: Any) -> Any:
    if isinstance(arrays, dict):
        return {name: tuple(array.shape[1:]) for name, array in arrays.items()}
    return tuple(arrays.shape[1:])


def _named(network: Network, data: Optional[Data]) -> Optional[Dict[str, np.ndarray]]:
    """Samples by the names of the inputs, checked against their shapes."""
    arrays = _arrays(data)
    if arrays is None:
        return None
    if not isinstance(arrays, dict):
        arrays = {next(iter(network.inputs)): arrays}
    if set(arrays) != set(network.inputs):
        raise Error(f"samples for {_list(arrays)}; the network's inputs are {_list(network.inputs)}")
    counts = {len(array) for array in arrays.values()}
    for name, array in arrays.items():
        if tuple(array.shape[1:]) != network.inputs[name] or len(counts) > 1:
            raise Error(
                f"samples of {name!r} have the shape {array.shape}; the network needs (samples, "
                f"{', '.join(map(str, network.inputs[name]))}), of each input as many"
            )
    return arrays


def _list(names: Any) -> str:
    return ", ".join(map(repr, names))
