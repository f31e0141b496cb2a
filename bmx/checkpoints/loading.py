"""Loads checkpoints, of bmx, MXNet and BMXNet v1 and v2, packed or not, into what MXNet's Module and SymbolBlock take.

Files are checked before MXNet sees them (`params_file`, `symbol_file`). Packed weights of any BMXNet v1 file, 32- or
64-bit words in arrays of any declared shape and of integers too, become 32-bit words in the shape that the operators
infer.
"""

from __future__ import annotations

from typing import Dict, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..errors import Error
from . import interchange
from . import names as checkpoint_names
from .params_file import StoredArray, parse_params, read_bytes
from .q_layers import QLayer, find_layers, normalize_attributes
from .symbol_file import Entry, mxnet_message, read_graph, to_symbol
from .v2_operators import translate

__all__ = ["checkpoint_arrays", "declared", "load_checkpoint", "load_files", "packed_weight_shape", "to_ndarray"]

Arrays = Dict[str, mx.nd.NDArray]


def declared(weight_shape: Sequence[int], word_bits: int) -> Dict[str, str]:
    """Attributes of a packed weight's variable: shape and type, which MXNet then need not infer (`variable_copies`)."""
    shape = interchange.packed_shape(weight_shape, word_bits)
    return {"__shape__": str(tuple(shape)), "__dtype__": "0" if word_bits == 32 else "1"}


def load_checkpoint(prefix: str, epoch: int) -> Tuple[mx.sym.Symbol, Arrays, Arrays]:
    """Load ``<prefix>-symbol.json`` and ``<prefix>-<epoch>.params``, like `mx.model.load_checkpoint`.

    Besides checkpoints of MXNet and bmx it reads every BMXNet v1 file: 32- and 64-bit words, packed arrays of one or
    more dimensions, JSON of MXNet 0.9 to 1.9, ``scaling_factor``, ``QConvolution_v1``, packed or not; and BMXNet v2's,
    whose operators are translated (`v2`).

    Parameters
    ----------
    prefix : str
        Path without ``-symbol.json``.
    epoch : int
        0 or more; four digits in the file name.

    Returns
    -------
    symbol : mxnet.symbol.Symbol
    arg_params, aux_params : dict of str to NDArray
        On the CPU. Packed weights are 32-bit words, float32 bit patterns; copy, save and reshape them, but do no
        arithmetic on them.

    Raises
    ------
    bmx.Error
        If `epoch` is not such a number, a file is missing, damaged or not such a file, or a packed weight is missing
        or does not fit its layer.
    """
    if not isinstance(epoch, (int, np.integer)) or epoch < 0:
        raise Error(f"{prefix}: epoch is {epoch!r}; allowed: an integer of 0 or more")
    return load_files(*checkpoint_names.files(prefix, epoch))


def load_files(symbol_path: str, params_path: str) -> Tuple[mx.sym.Symbol, Arrays, Arrays]:
    """As `load_checkpoint`, from files of any names."""
    data = read_bytes(params_path)  # first, as users name this file
    graph = read_graph(symbol_path)
    stored = checkpoint_arrays(data, params_path)
    translate(graph, shapes_by_name(stored))
    arrays = _to_ndarrays(data, stored, params_path)
    for layer in find_layers(graph, symbol_path):
        normalize_attributes(layer.node)
        if layer.packed:
            _load_packed(layer, stored, arrays, f"{params_path}: layer {layer.name!r}")
    symbol = to_symbol(graph, symbol_path)
    arg_params = {name[4:]: array for name, array in arrays.items() if name.startswith("arg:")}
    aux_params = {name[4:]: array for name, array in arrays.items() if name.startswith("aux:")}
    return symbol, arg_params, aux_params


def checkpoint_arrays(data: bytes, path: str) -> Dict[str, StoredArray]:
    """Parse the bytes of a checkpoint's .params file, whose names start with ``arg:`` or ``aux:``."""
    stored = parse_params(data, path)
    foreign = next((name for name in stored if not name.startswith(("arg:", "aux:"))), None)
    if foreign is not None:
        raise Error(
            f"{path}: not a checkpoint: the name {foreign!r} does not start with arg: or aux: "
            "(write it with save_checkpoint, or Gluon's export instead of save_parameters)"
        )
    return stored


def shapes_by_name(stored: Dict[str, StoredArray]) -> Dict[str, Tuple[int, ...]]:
    """The shapes of a checkpoint's arrays, by the names of their variables."""
    return {name[4:]: array.shape for name, array in stored.items()}


def to_ndarray(array: np.ndarray) -> mx.nd.NDArray:
    """Copy to MXNet with every bit and the type kept; ``mx.nd.array(x)`` alone would cast float64 words to float32."""
    return mx.nd.array(array, ctx=mx.cpu(), dtype=array.dtype)


def packed_weight_shape(layer: QLayer, words: np.ndarray) -> Tuple[int, ...]:
    """Shape of the latent weight behind a packed layer's array.

    Raises
    ------
    bmx.Error
        If the array is not one of words that fit the layer.
    """
    text = layer.weight.attributes.get(interchange.INPUTS_ATTRIBUTE)
    if text is not None and not (text.isdecimal() and len(text) < 10):
        raise Error(f"{interchange.INPUTS_ATTRIBUTE} is {text!r}; it must be a positive integer")
    inputs = None if text is None else int(text)
    word_bits = interchange.word_bits_of(words)
    return interchange.latent_shape(words.shape, word_bits, layer.units, layer.kernel, inputs)


def _to_ndarrays(data: bytes, stored: Dict[str, StoredArray], path: str) -> Arrays:
    versions = {array.version for array in stored.values()}
    if 3 in versions and len(versions) > 1:
        raise Error(f"{path}: mixes arrays written with and without NumPy shape semantics")
    if not stored:
        return {}
    try:
        with mx.util.np_shape(3 in versions):
            arrays = mx.nd.load_frombuffer(data)
        for array in arrays.values():
            if array.stype != "default":
                array.check_format(full_check=True)
    except mx.base.MXNetError as error:
        raise Error(f"{path}: MXNet cannot read it: {mxnet_message(error)}") from None
    return {name: array.as_in_context(mx.cpu()) for name, array in arrays.items()}


def _load_packed(layer: QLayer, stored: Dict[str, StoredArray], arrays: Arrays, where: str) -> None:
    """Replace a packed weight by 32-bit words in their declared shape, and say so in the symbol."""
    weight = layer.weight
    if weight is None:
        raise Error(f"{where}: its packed weight is computed by {layer.node.inputs[1].node.name!r}; it must be stored")
    key = f"arg:{weight.name}"
    if key not in stored:
        raise Error(f"{where}: the array {key!r} is missing")
    try:
        words = stored[key].numpy()
        shape = packed_weight_shape(layer, words)
        arrays[key] = to_ndarray(interchange.change_word_bits(words, shape, 32))
    except Error as error:
        raise Error(f"{where}: {error}") from None
    layer.node.inputs[1] = Entry(weight)
    weight.attributes.update(declared(shape, 32))
