"""Converts a trained checkpoint: the weights of 1-bit layers are packed, one bit a weight, in BMXNet's formats.

The written symbol is the one that was read, in the same dialect of JSON, with ``binarized_weights_only`` set on the
packed layers; every array that is not packed keeps its bytes. So whatever program could read the checkpoint, original
BMXNet v1 included, can read the result, unless the report says of a layer that it needs bmx. Checkpoints of BMXNet v2
are read too, and the layers of any network written as v2's, for v2 to read.

What happens to the network is in `packing`; here are the files: everything is checked before the first one is made, and
both are written beside their destination, verified there and renamed.
"""

from __future__ import annotations

import os
from typing import List, Optional, Sequence

import numpy as np

from .. import library
from ..checkpoints import names as checkpoint_names
from ..checkpoints.loading import checkpoint_arrays
from ..checkpoints.names import split_path
from ..checkpoints.params_file import encode_params, read_bytes
from ..checkpoints.symbol_file import dump_graph, read_graph
from ..errors import Error
from ..journal import finish
from ..writing import check_writable, content, write_together
from .folding import fold_weights
from .pack import pack_network
from .report import ConversionReport
from .verify import verify_conversion

__all__ = ["convert_checkpoint", "output_files"]


def convert_checkpoint(
    params_path: str,
    output: Optional[str] = None,
    word_bits: Optional[int] = None,
    verify: bool = True,
    force: bool = False,
    data_shape: Optional[Sequence[int]] = None,
    data: Optional[np.ndarray] = None,
    format: str = "v1",
) -> ConversionReport:
    """Pack the 1-bit weights of a checkpoint and write it as ``binarized_<prefix>-symbol.json`` and ``-NNNN.params``.

    Packed are the QConvolution and QFullyConnected layers with ``act_bit == weight_bit == 1`` whose weight is a stored
    array or computed from stored arrays, and the layers of BMXNet v2 that multiply by the signs of one. What the
    network computes of such a weight besides, such as a scale, is stored as an array. Both files are written completely
    or not at all.

    Parameters
    ----------
    params_path : str
        ``<prefix>-NNNN.params``; ``<prefix>-symbol.json`` must be beside it.
    output : str, optional
        A folder, or a path prefix in place of ``binarized_<prefix>``. Default: beside the input.
    word_bits : {32, 64}, optional
        Width of the packed words; bmx reads both, original BMXNet the one it was built with. Default: as libbmx was
        built (64 unless changed), and 32 for format 'v2', as BMXNet v2 is built by default.
    verify : bool
        Run both networks on sample input before writing, and refuse to write if their outputs differ.
    force : bool
        Overwrite existing files.
    data_shape : sequence of int, optional
        Shape of one sample without the batch, such as (1, 28, 28), for the verification. By default it is derived
        from the symbol and the weights; where that fails the report says so.
    data : ndarray, optional
        A batch of samples for the verification. By default 8 random ones, always the same.
    format : {'v1', 'v2'}
        Whose operators hold the packed weights: QConvolution and QFullyConnected of BMXNet v1, or
        BinaryInferenceConvolution and BinaryInferenceFullyConnected of BMXNet v2. bmx reads both.

    Returns
    -------
    ConversionReport
        What was done to each layer; ``print(report)`` shows it as a table.

    Raises
    ------
    bmx.Error
        If a file is missing, damaged or of another kind, the network has no layer to pack, an array is missing or of a
        wrong shape, the output exists or cannot be written, or the verification fails. Nothing is written then.
    """
    if format not in ("v1", "v2"):
        raise Error(f"format is {format!r}; it must be 'v1' or 'v2'")
    if word_bits is None:
        word_bits = 32 if format == "v2" else library.word_bits()
    if word_bits not in (32, 64):
        raise Error(f"word width is {word_bits!r}; it must be 32 or 64 bits")
    prefix, epoch = split_path(params_path)
    finals = output_files(params_path, output)
    check_targets(finals, [f"{prefix}-symbol.json", params_path], force)

    params = read_bytes(params_path)  # first, as users name this file
    graph = read_graph(f"{prefix}-symbol.json")
    stored = checkpoint_arrays(params, params_path)
    stored = fold_weights(graph, stored, f"{prefix}-symbol.json")
    layers, packed, remarks = pack_network(graph, stored, word_bits, f"{prefix}-symbol.json", params_path, format)
    new_params = encode_params([(name, packed.get(name, array.record)) for name, array in stored.items()])
    new_symbol = dump_graph(graph).encode("utf-8")
    report = ConversionReport(finals[0], finals[1], word_bits, layers, len(params), len(new_params), remarks)

    def check(drafts: List[str]) -> None:
        report.verification = verify_conversion(prefix, epoch, (drafts[0], drafts[1]), data_shape, data)

    contents = zip(finals, (new_symbol, new_params))
    write_together([(path, content(data)) for path, data in contents], check if verify else None)
    return report


def output_files(params_path: str, output: Optional[str] = None) -> List[str]:
    """The files that `convert_checkpoint` writes, symbol and parameters."""
    prefix, epoch = split_path(params_path)
    return list(checkpoint_names.files(target_prefix(prefix, output, "binarized_"), epoch))


def target_prefix(prefix: str, output: Optional[str], begin: str) -> str:
    """The prefix of the files to write, whose name begins with `begin` where `output` does not say it."""
    folder, name = os.path.split(prefix)
    if output is None:
        return os.path.join(folder, begin + name)
    output = os.fspath(output)
    if os.path.isdir(output) or output.endswith(os.sep):
        return os.path.join(output, begin + name)
    if not output or output.endswith((".params", ".json")):
        raise Error(f"output is {output!r}; it must be a folder or a path prefix, to which -NNNN.params is added")
    return output


def check_targets(finals: List[str], sources: List[str], force: bool) -> None:
    """Refuse to overwrite what is read, folders, and without `force` any file."""
    finish(*finals)
    for path in finals:
        if any(os.path.realpath(path) == os.path.realpath(source) for source in sources):
            raise Error(f"{path}: the output would overwrite the input; choose another output")
        if os.path.isdir(path):
            raise Error(f"{path}: is a folder; choose another output")
        if os.path.lexists(path) and not force:
            raise Error(f"{path}: exists already; use --force (force=True) to overwrite it")
        try:
            check_writable(path)
        except OSError as error:
            raise Error(f"{os.path.dirname(path) or '.'}: cannot be written to: {error.strerror or error}") from None
