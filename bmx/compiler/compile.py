"""Compiles a network: reads it, fuses it, quantizes what shall be int8, makes the program, and compares both."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence, Union

import mxnet as mx
import numpy as np

from ..errors import Error
from ..files import check_classes, check_target
from . import int8 as quantization
from .checkpoint import load_checkpoint
from .compile_report import CompileReport, report_layers
from .convert import split_path
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
_TOLERANCE = 2e-5  # of the largest output: roundings of floats
_NOISE = 1e-5  # relative; so large that it decides other bits where roundings could
_NEIGHBOURS = 4


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
        int8 is asked for without samples, the outputs of both networks differ though nothing was made int8, or the
        output exists or cannot be written.
    """
    if output is not None:
        check_target(output)
        if os.path.lexists(output) and not force:
            raise Error(f"{output}: exists already; use --force (force=True) to overwrite it")
    arrays = _arrays(data)
    if data_shape is None and arrays is not None:
        network = _open_for(params_path, _shape_of(arrays))
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
        load_checkpoint(prefix, int(epoch))  # which raises the same if its files are to blame
        try:
            wanted = f"the network needs {', '.join(map(str, open_checkpoint(params_path).inputs.values()))}"
        except Error:
            wanted = str(error)
        shape = ", ".join(f"{name!r} {size}" for name, size in shape.items()) if isinstance(shape, dict) else shape
        raise Error(f"samples have the shape {shape}, each; {wanted}") from None


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
        if not all(isinstance(size, (int, np.integer)) for size in x):
            raise Error("x is a list of other things than sizes; give the samples of several inputs by name, as a dict")
        return compile_network(open_block(net, tuple(x)), **options)
    if x is None:
        raise Error("x is None; it must be a batch of samples, or the shape of one sample")
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
    classes = None if labels is None else _classes(labels, arrays, graph)
    optimize(graph)
    layers = quantization.layers_to_quantize(graph, int8)
    if layers:
        if arrays is None:
            raise Error(f"int8={int8!r} needs sample input to choose ranges on; give data (--verify-data)")
        _quantize(network, graph, layers, arrays)
    if int8 == "all":
        quantization.explain_floats(graph)
    report = CompileReport(graph.name, report_layers(graph), int8)

    from .. import program as programs
    from .lower import lower

    program = lower(graph)
    report.file_bytes = len(programs.encode(program))
    if verify:
        report.verification = _verify(network, graph.name, program, arrays, classes, exact=int8 == "off")
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
    network: Network,
    name: str,
    program: Any,
    arrays: Optional[Dict[str, np.ndarray]],
    classes: Optional[np.ndarray],
    exact: bool,
) -> Verification:
    if arrays is None:
        random = np.random.RandomState(_SEED)
        arrays = {name: random.standard_normal((_SAMPLES, *shape)) for name, shape in network.inputs.items()}
        arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    count = len(next(iter(arrays.values())))
    shapes = ", ".join("x".join(map(str, shape)) for shape in network.inputs.values())
    samples = f"{count} samples of shape {shapes}"
    before = _run(network, arrays)
    after = run_program(program, arrays)
    finite, total = sum(np.isfinite(array).sum() for array in before), sum(map(np.size, before))
    if finite == 0:
        return Verification(f"of {samples} the original network gives infinities and NaN only")
    if finite < total:
        samples += f" ({total - finite} of {total} outputs of the original are infinite or NaN, and not compared)"
    found = _differences(before, after)
    result = Verification(samples, max(found), agreement(before[0], after[0]), exact=exact)
    result.largest_output = max(map(_largest, before))
    allowed = [_TOLERANCE * _largest(array) for array in before]
    if exact and _exceeds(found, allowed):
        usual = _usual_differences(network, arrays, before)
        if _exceeds(found, [max(limit, 3 * other) for limit, other in zip(allowed, usual)]):
            raise Error(
                f"{name}: the compiled network has other outputs than the original, {result.numbers()}: an error of the"
                " compiler, please report it. Nothing was written; --no-verify (verify=False) does not compare"
            )
        result.remark = (
            "where roundings decide bits; the last digits of its input change the original's outputs as much"
        )
    if classes is not None:
        result.accuracy_before, result.accuracy_after = (
            float(np.mean(outputs[0].reshape(count, -1).argmax(axis=1) == classes)) for outputs in (before, after)
        )
    return result


def _exceeds(differences: List[float], limits: List[float]) -> bool:
    return any(not difference <= limit for difference, limit in zip(differences, limits))


def _usual_differences(network: Network, arrays: Dict[str, np.ndarray], before: List[np.ndarray]) -> List[float]:
    """How much each output of the original changes where the last digits of its input and parameters are others.

    Where a rounding decides a bit, later layers may follow it far: so may the compiled network, which rounds otherwise.
    """
    usual = [0.0] * len(before)
    for seed in range(_NEIGHBOURS):
        random = np.random.RandomState(seed)
        near = {
            name: (array * (1 + _NOISE * random.standard_normal(array.shape))).astype(np.float32)
            for name, array in arrays.items()
        }
        others = _run(network.with_other_last_digits(_NOISE, seed), near)
        usual = list(map(max, usual, _differences(before, others)))
    return usual


def _largest(output: np.ndarray) -> float:
    return float(np.abs(output[np.isfinite(output)]).max(initial=0.0))


def _differences(before: List[np.ndarray], after: List[np.ndarray]) -> List[float]:
    """Of each output, where it was a finite number."""
    return [largest_difference([a[np.isfinite(a)]], [b[np.isfinite(a)]]) for a, b in zip(before, after)]


def _classes(labels: Sequence[int], arrays: Optional[Dict[str, np.ndarray]], graph: Graph) -> np.ndarray:
    """Labels, one for each sample and each a class of the first output."""
    if arrays is None:
        raise Error("labels are the classes of samples, which are missing; give data (--verify-data)")
    count = len(next(iter(arrays.values())))
    wanted = np.asarray(labels).ravel()
    if len(wanted) != count:
        raise Error(f"{len(wanted)} labels for {count} samples; there must be one for each")
    return check_classes(wanted, math.prod(next(iter(graph.outputs.values())).shape), "labels")


def run_program(program: Any, arrays: Mapping[str, np.ndarray]) -> List[np.ndarray]:
    """The outputs of a program for a batch, computed by the engine."""
    from .. import program as programs
    from .. import runtime

    with runtime.Model(programs.encode(program)) as model:
        outputs = model.run({port.name: arrays[port.name] for port in model.inputs})
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


def _run(network: Network, arrays: Dict[str, np.ndarray]) -> List[np.ndarray]:
    return [np.concatenate(parts) for parts in zip(*(network.run(batch).values() for batch in _batches(arrays)))]


def _batches(arrays: Mapping[str, np.ndarray]) -> List[Dict[str, np.ndarray]]:
    count = len(next(iter(arrays.values())))
    return [
        {name: array[begin : begin + _BATCH] for name, array in arrays.items()} for begin in range(0, count, _BATCH)
    ]


def _arrays(data: Optional[Data]) -> Any:
    """Samples as float32 NumPy arrays, named or one."""
    if data is None:
        return None
    if isinstance(data, Mapping):
        return {name: _array(array) for name, array in data.items()}
    return _array(data)


def _array(data: Any) -> np.ndarray:
    try:
        array = np.asarray(data.asnumpy() if isinstance(data, mx.nd.NDArray) else data)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"they are of type {array.dtype}")
    except (TypeError, ValueError) as error:
        raise Error(f"samples are not an array of real numbers: {error}") from None
    if array.ndim < 2 or not len(array):
        raise Error(f"samples have the shape {array.shape}; it must be a batch: (samples, ...)")
    return array.astype(np.float32, copy=False)


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
