"""Unpacks a checkpoint: packed weights become latent ones, -1 and +1, which can be trained, and the outputs stay.

Packed words are not numbers (`bmx.plugin.packed_words`): to fine-tune a network of which only the packed file is left,
its bits become float weights again. The magnitudes that the weights had before they were packed are lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from ..checkpoints import interchange
from ..checkpoints import names as checkpoint_names
from ..checkpoints.loading import checkpoint_arrays, packed_weight_shape
from ..checkpoints.names import split_path
from ..checkpoints.params_file import StoredArray, encode_array, encode_params, read_bytes
from ..checkpoints.q_layers import QLayer, find_layers, normalize_attributes
from ..checkpoints.symbol_file import Entry, dump_graph, read_graph
from ..checkpoints.v2_operators import translate
from ..errors import Error
from ..writing import content, write_together
from .conversion import check_targets, target_prefix
from .report import Verification
from .verify import verify_conversion

__all__ = ["Unpacked", "unpack_checkpoint"]


@dataclass
class Unpacked:
    """What `unpack_checkpoint` did.

    Attributes
    ----------
    symbol_path, params_path : str
        The written files.
    layers : list of str
        The layers whose weights were packed.
    verification : Verification or None
        None if it was not asked for.
    """

    symbol_path: str
    params_path: str
    layers: List[str]
    verification: Optional[Verification] = None

    def __str__(self) -> str:
        checked = str(self.verification or "not verified: not asked for")
        return f"unpacked: {', '.join(self.layers)}\n{checked}\nwritten: {self.symbol_path}, {self.params_path}"


def unpack_checkpoint(
    params_path: str,
    output: Optional[str] = None,
    verify: bool = True,
    force: bool = False,
    data_shape: Optional[Sequence[int]] = None,
    data: Optional[np.ndarray] = None,
) -> Unpacked:
    """Write a packed checkpoint of bmx, BMXNet v1 or v2 with latent weights, -1 and +1, which can be trained.

    Parameters
    ----------
    params_path : str
        ``<prefix>-NNNN.params``; ``<prefix>-symbol.json`` must be beside it.
    output : str, optional
        A folder, or a path prefix. Default: ``latent_<prefix>`` beside the input.
    verify : bool
        Run both networks on samples, and refuse to write if any output differs.
    force : bool
        Overwrite existing files.
    data_shape, data : optional
        For the verification, as `bmx.convert_checkpoint` takes them.

    Returns
    -------
    Unpacked

    Raises
    ------
    bmx.Error
        If a file is missing, damaged or of another kind, no weight is packed, the output exists or cannot be written,
        or the outputs differ. Nothing is written then.
    """
    prefix, epoch = split_path(params_path)
    symbol_path = f"{prefix}-symbol.json"
    finals = list(checkpoint_names.files(target_prefix(prefix, output, "latent_"), epoch))
    check_targets(finals, [symbol_path, params_path], force)

    params = read_bytes(params_path)  # first, as users name this file
    graph = read_graph(symbol_path)
    translate(graph)
    stored = checkpoint_arrays(params, params_path)
    layers: List[QLayer] = []
    records = {name: array.record for name, array in stored.items()}
    for layer in find_layers(graph, symbol_path):
        normalize_attributes(layer.node)
        if layer.packed:
            try:
                name, record = _unpack(layer, stored)
            except Error as error:
                raise Error(f"{params_path}: layer {layer.name!r}: {error}") from None
            records[name] = record
            layers.append(layer)
    for layer in layers:  # a weight may have several
        for name in ("__shape__", "__dtype__", interchange.INPUTS_ATTRIBUTE):
            layer.weight.attributes.pop(name, None)
    if not layers:
        raise Error(f"{symbol_path}: nothing to unpack: no layer has packed weights (binarized_weights_only)")
    result = Unpacked(*finals, [layer.name for layer in layers])

    def check(drafts: List[str]) -> None:
        result.verification = verify_conversion(prefix, epoch, (drafts[0], drafts[1]), data_shape, data)
        if result.verification.largest_difference not in (None, 0):
            raise Error(f"{params_path}: the unpacked network has other outputs, nothing was written: {result}")

    files: List[Any] = [dump_graph(graph).encode("utf-8"), encode_params(list(records.items()))]
    write_together([(path, content(data)) for path, data in zip(finals, files)], check if verify else None)
    return result


def _unpack(layer: QLayer, stored: Dict[str, StoredArray]) -> Tuple[str, bytes]:
    """The name and the record of a layer's latent weight; its nodes say so."""
    if layer.weight is None:
        raise Error(f"its packed weight is computed by {layer.node.inputs[1].node.name!r}; it must be stored")
    array = stored.get(f"arg:{layer.weight.name}")
    if array is None:
        raise Error(f"the array 'arg:{layer.weight.name}' is missing")
    words = array.numpy()
    weight = interchange.unpack(words, packed_weight_shape(layer, words))
    layer.node.inputs[1] = Entry(layer.weight)
    layer.node.attributes.pop("binarized_weights_only")
    layer.node.attributes.update(act_bit="1", weight_bit="1")  # packed weights meet signs, whatever these say
    return array.name, encode_array(weight, array.version)
