"""Compiled networks inside of MXNet: one operator, bmx_Compiled, runs a whole .bmx file.

The file's bytes are an auxiliary state of the symbol, an array of uint8, so that symbol and parameters are saved,
loaded and bound as those of any network, by Module, SymbolBlock and CachedOp alike. There are no gradients.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from types import MappingProxyType
from typing import Any, Container, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np

from ..checkpoints.inference import for_inference
from ..checkpoints.params_file import write_params
from ..checkpoints.symbol_file import parse_graph
from ..compiler.frontends.mxnet import compile_block, compile_symbol
from ..compiler.pipeline import Compiled
from ..errors import Error
from ..journal import finish
from ..program import Program, encode
from ..writing import Write, content, write_together

__all__ = [
    *("checkpoint_files", "checkpoint_paths", "compile", "find_labels", "optimize", "save_checkpoint", "to_symbol"),
]

_OUTPUT = "_output"  # what MXNet adds to a node's name for its output


Labels = Mapping[str, Optional[Sequence[int]]]


def to_symbol(
    program: Program, labels: Labels = MappingProxyType({})
) -> Tuple[mx.sym.Symbol, Dict[str, mx.nd.NDArray]]:
    """A program as a symbol and its auxiliary states.

    Inputs and outputs have the names of the network that was compiled. `labels` are arguments that it had besides, with
    their shapes without the batch; they are not read, but Module and SymbolBlock look for what they know.
    """
    content = np.frombuffer(encode(program), np.uint8)
    name = re.sub(r"\W", "_", program.name) or "network"
    inputs = [_variable(port.name, port.shape) for port in program.inputs]
    inputs += [_label(label, shape) for label, shape in labels.items()]
    state = mx.sym.Variable(f"{name}_program", shape=content.shape, dtype=np.uint8)
    outputs = [port.name for port in program.outputs]
    alone = outputs[0][: -len(_OUTPUT)] if len(outputs) == 1 and outputs[0].endswith(_OUTPUT) else None
    with mx.name.NameManager():
        symbol = mx.sym.bmx_Compiled(
            *inputs,
            state,
            labels=len(labels),
            data_shapes=_shapes(program.inputs),
            output_shapes=_shapes(program.outputs),
            size=content.size,
            name=alone or f"{name}_compiled",
        )
        if not alone:
            symbol = mx.sym.Group([_named(symbol[i], output) for i, output in enumerate(outputs)])
    return symbol, {f"{name}_program": mx.nd.array(content, dtype=np.uint8, ctx=mx.cpu())}


def _variable(name: str, shape: Sequence[int]) -> mx.sym.Symbol:
    """An input; its number of dimensions must be known (variable_copies.give_shape)."""
    return mx.sym.Variable(name, shape=(-1, *shape), dtype=np.float32)


def _label(name: str, shape: Optional[Sequence[int]]) -> mx.sym.Symbol:
    """What the operator gets of a label; of one of any shape, to which no shape may be given, its size."""
    return mx.sym.size_array(mx.sym.Variable(name)) if shape is None else _variable(name, shape)


def find_labels(symbol: mx.sym.Symbol, program: Program, parameters: Container[str]) -> Labels:
    """The labels of a network, with their shapes without the batch, None where the inputs do not tell the shape."""
    shapes = {port.name: (1, *port.shape) for port in program.inputs}
    arguments = symbol.list_arguments()
    stored = [name for name in arguments if name in parameters]
    labels = for_inference(parse_graph(json.loads(symbol.tojson()), program.name), stored, list(shapes)).labels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what cannot be inferred
            found = dict(zip(arguments, symbol.infer_shape_partial(**shapes)[0]))
    except mx.MXNetError:  # the shape that a label has in the file is that of a batch of another size
        return dict.fromkeys(labels)
    return {name: tuple(found[name][1:]) if found[name] and 0 not in found[name] else None for name in labels}


def _shapes(ports: Sequence[Any]) -> str:
    return str(tuple(tuple(int(size) for size in port.shape) for port in ports))


def _named(symbol: mx.sym.Symbol, output: str) -> mx.sym.Symbol:
    return mx.sym.identity(symbol, name=output[: -len(_OUTPUT)]) if output.endswith(_OUTPUT) else symbol


def save_checkpoint(
    program: Program, prefix: str, labels: Labels = MappingProxyType({}), force: bool = False
) -> List[str]:
    """Write ``<prefix>-symbol.json`` and ``<prefix>-0000.params``, which MXNet loads where bmx is imported.

    Parameters
    ----------
    program : bmx.program.Program
    prefix : str
    labels : mapping of str to tuple of int or None
        Arguments that the network had and nothing reads, with their shapes without the batch (`find_labels`).
    force : bool
        Overwrite existing files.

    Returns
    -------
    list of str
        The files.

    Raises
    ------
    bmx.Error
        If a file exists and `force` is False, or cannot be written.
    """
    paths = checkpoint_paths(prefix, force)
    write_together(list(checkpoint_files(program, prefix, labels).items()))
    return paths


def checkpoint_files(program: Program, prefix: str, labels: Labels = MappingProxyType({})) -> Dict[str, Write]:
    """The files of `save_checkpoint`, and what writes each."""
    symbol, states = to_symbol(program, labels)
    states = {f"aux:{name}": array for name, array in states.items()}
    writers = (content(symbol.tojson().encode()), lambda temporary: write_params(temporary, states))
    return dict(zip(checkpoint_paths(prefix, True), writers))


def checkpoint_paths(prefix: str, force: bool) -> List[str]:
    """The files of `save_checkpoint`; raises bmx.Error if one exists and `force` is False."""
    if not os.path.basename(prefix):
        raise Error(f"the prefix {prefix!r} has no name, to which -symbol.json and -0000.params are added")
    paths = [f"{prefix}-symbol.json", f"{prefix}-0000.params"]
    finish(*paths)
    for path in paths:
        if os.path.lexists(path) and not force:
            raise Error(f"{path}: exists already; use --force (force=True) to overwrite it")
    return paths


def compile(net: mx.gluon.HybridBlock, x: Any, int8: str = "off", verify: bool = True) -> mx.gluon.SymbolBlock:
    """Compile a Gluon network into a block that runs it as one operator.

    Parameters
    ----------
    net : mxnet.gluon.HybridBlock
        With the parameters that it shall have.
    x : NDArray, ndarray, tuple of int, or a tuple, list or mapping of these
        A batch of samples like those that the network was trained on, for int8 and for the comparison; or the shape of
        one sample. Several inputs in a tuple, as in a call of the network; or by name, in the order of the call.
    int8 : {'off', 'first-last', 'all'}
        Which of the layers that stay float become int8.
    verify : bool
        Compare both networks on `x`.

    Returns
    -------
    mxnet.gluon.SymbolBlock
        For batches of any size, on the CPU, with the inputs of `x` in their order. It has no gradients. ``report`` says
        what became of each layer and how the outputs compare; ``export`` writes symbol and parameters.

    Raises
    ------
    bmx.Error
        If an operator of the network is not supported, or int8 is asked for without samples.

    Examples
    --------
    >>> import bmx
    >>> net = bmx.models.get_model("lenet")
    >>> net.initialize()
    >>> x = mx.nd.random.uniform(shape=(2, 1, 28, 28))
    >>> expected = net(x)
    >>> compiled = bmx.compile(net, x)
    >>> bool((abs(compiled(x) - expected) < 1e-4).asnumpy().all())
    True
    """
    compiled = compile_block(net, x, int8=int8, verify=verify)
    symbol, states = to_symbol(compiled.program)
    inputs = [_variable(port.name, port.shape) for port in compiled.program.inputs]
    zeros = [mx.nd.zeros((1, *port.shape)) for port in compiled.program.inputs]
    if mx.util.is_np_array():
        symbol, inputs = symbol.as_np_ndarray(), [variable.as_np_ndarray() for variable in inputs]
        zeros, states = [array.as_np_ndarray() for array in zeros], {k: v.as_np_ndarray() for k, v in states.items()}
    block = mx.gluon.SymbolBlock(symbol, inputs)
    for name, array in states.items():
        block.collect_params()[name]._load_init(array, mx.cpu())
    block.report = compiled.report
    block(*zeros)  # before that, export writes nothing
    return block


def optimize(
    symbol: mx.sym.Symbol,
    args: Optional[Dict[str, mx.nd.NDArray]] = None,
    aux: Optional[Dict[str, mx.nd.NDArray]] = None,
    ctx: Optional[mx.Context] = None,
    shape_dict: Optional[Dict[str, Tuple[int, ...]]] = None,
    *,
    int8: str = "off",
    verify: bool = False,
    data_names: Optional[Union[str, Sequence[str]]] = None,
    **others: Any,
) -> mx.sym.Symbol:
    """What ``symbol.optimize_for('bmx', ...)`` does, and with it ``net.optimize_for(x, backend='bmx', ...)``.

    It is called in the place of MXNet's method. MXNet's own way would be a graph pass in the library (lib_api.h); that
    has the graph as text in C++ only, and cannot give Gluon new auxiliary states, because Gluon looks for what a pass
    has added among the arguments.

    Parameters
    ----------
    symbol : mxnet.symbol.Symbol
    args, aux : dict of str to NDArray
        Parameters, and samples under the names of the inputs. Afterwards they hold the compiled network's parameters.
    ctx : Context, optional
        Without effect.
    shape_dict : dict of str to tuple of int, optional
        Shapes of inputs that `args` has not, with the batch.
    int8, verify
        As for `compile`.
    data_names : str or sequence of str, optional
        The inputs. Default: arguments that `args` has not, labels left out; or else those called data, data0, data1,
        ...; or else the only one that a layer takes as its data.
    **others
        What else MXNet's method takes, without effect.

    Returns
    -------
    mxnet.symbol.Symbol

    Raises
    ------
    bmx.Error
        If the inputs or their shapes are not known, or as for `compile`.
    """
    args, aux, shapes = {} if args is None else args, {} if aux is None else aux, shape_dict or {}
    unknown = set(others) - {"type_dict", "stype_dict", "skip_infer"}
    if unknown:
        raise Error(f"optimize_for: no option {min(unknown)!r}; backend 'bmx' has int8, verify and data_names")
    names = [data_names] if isinstance(data_names, str) else list(data_names or [])
    if not names:
        graph = parse_graph(json.loads(symbol.tojson()), "network")
        stored = set(args) | set(aux)
        names = for_inference(graph, stored).inputs
        if set(names) <= stored:
            names = [name for name in symbol.list_arguments() if re.fullmatch(r"data\d*", name)] or names
    if not names:
        raise Error("optimize_for: which arguments are inputs? Name them: data_names='x', or data_names=['x', 'y']")
    given = {name: args[name] for name in names if name in args}
    for name in names:
        if name not in args and name not in shapes:
            raise Error(f"optimize_for: the shape of {name!r} is not known; give it in shape_dict")
    sizes = {name: tuple(given[name].shape if name in given else shapes[name])[1:] for name in names}
    parameters = {name: array for name, array in args.items() if name not in names}
    compiled: Compiled = compile_symbol(
        symbol, parameters, aux, sizes, int8=int8, verify=verify, data=given if len(given) == len(names) else None
    )
    result, states = to_symbol(compiled.program, find_labels(symbol, compiled.program, parameters))
    for name in parameters:
        del args[name]
    aux.clear()
    aux.update(states)
    args.update(states)  # Gluon looks for new parameters here
    return result
