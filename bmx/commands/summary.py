"""``bmx summary``: count the bits of a network."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any, Optional, Tuple

from ..checkpoints import names as checkpoint_names
from ..errors import Error
from .arguments import add_command, add_data_shape


def add_parser(commands: Any) -> None:
    """Define the arguments."""
    parser = add_command(
        commands,
        "summary",
        "count the bits of a network",
        "bmx summary resnet18_e1 --data-shape 3,224,224\nbmx summary runs/lenet-1bit-0020.params --data-shape 1,28,28",
        description="Print the layers of a network with bits, weights, multiply-adds and memory.",
    )
    parser.add_argument(
        "network",
        metavar="NAME|PREFIX-NNNN.params|PREFIX-symbol.json",
        help="a network of the zoo, or a file of a checkpoint; only its symbol is read",
    )
    add_data_shape(parser, "shape of an image (default: the shape that the network was made for, if known)")
    parser.add_argument("--bits", type=int, default=1, help="bits of the weights of a network of the zoo (default: 1)")
    parser.add_argument("--bits-a", type=int, help="bits of its activations (default: as --bits)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    from ..registration import require_mxnet

    require_mxnet("a summary")
    from ..models import get_model, image_shape
    from ..network_summary import summary

    files = _files(args.network)
    if files is not None:
        network = _read(*files)
        shape = args.data_shape or _recorded(files[0], network)
    else:
        _refuse_other_files(args.network)
        network = get_model(args.network, args.bits, args.bits_a)
        shape = args.data_shape or image_shape(args.network)
    print(summary(network, shape))
    return 0


def _files(name: str) -> Optional[Tuple[str, Optional[str]]]:
    """The files of the symbol and the parameters, as far as given; None if `name` is a network of the zoo."""
    if name.endswith(".json"):
        return name, None
    checkpoint = checkpoint_names.parse(name)
    return None if checkpoint is None else checkpoint_names.files(*checkpoint)


def _read(path: str, params_path: Optional[str]) -> Any:
    """The symbol of a file, with the checks of `bmx.load_checkpoint`."""
    from ..checkpoints.loading import checkpoint_arrays, shapes_by_name
    from ..checkpoints.params_file import read_bytes
    from ..checkpoints.q_layers import find_layers, normalize_attributes
    from ..checkpoints.symbol_file import read_graph, to_symbol
    from ..checkpoints.v2_operators import translate

    shapes = None
    if params_path is not None:
        shapes = shapes_by_name(checkpoint_arrays(read_bytes(params_path), params_path))
    graph = read_graph(path)
    translate(graph, shapes)
    for layer in find_layers(graph, path):
        normalize_attributes(layer.node)
    return to_symbol(graph, path)


def _recorded(path: str, symbol: Any) -> Any:
    """The shape of a sample as recorded in a symbol."""
    from ..checkpoints.sample_shape import UNKNOWN, recorded_shape
    from ..checkpoints.symbol_file import parse_graph

    data = parse_graph(json.loads(symbol.tojson()), path).variables().get("data")
    shape = None if data is None else recorded_shape(data)
    if shape is None:
        raise Error(f"{path}: {UNKNOWN}")
    return shape


def _refuse_other_files(name: str) -> None:
    """Refuse other kinds of files. Names of networks have neither dots nor folders."""
    if "." not in name and os.sep not in name:
        return
    hint = f"; for a compiled network: bmx inspect {name}" if name.endswith(".bmx") else ""
    raise Error(
        f"{name}: give the name of a network, such as resnet18_e1, or a file PREFIX-NNNN.params or "
        f"PREFIX-symbol.json{hint}"
    )
