"""Passes: functions that rewrite a graph (`bmx.compiler.ir`), each with one job; `optimize` runs them in order."""

from ..ir import Graph
from .binary import binarize, binarize_weights
from .dense import unflatten_dense
from .edit import name_values, remove_dead
from .explain import explain_floats
from .fuse import fuse_maps, merge_maps
from .groups import split_groups
from .linear import absorb_into_counts, merge_linear
from .lowbit import multiply_integers
from .padding import pad_convolutions
from .pooling import pool_before_operations
from .shapes import delay_reshapes, merge_reshapes, shorten_slices
from .signs import move_signs
from .thresholds import count_bits, fold_into_thresholds

__all__ = ["finish", "optimize"]

_PASSES = (
    remove_dead,
    split_groups,
    merge_reshapes,
    shorten_slices,
    binarize,
    merge_maps,  # what stands between two layers, as one list
    delay_reshapes,
    merge_maps,
    move_signs,
    merge_reshapes,
    pad_convolutions,
    unflatten_dense,
    fuse_maps,  # and from here on as part of the layer
    pool_before_operations,
    absorb_into_counts,
    binarize_weights,
    multiply_integers,
)
_LAST = (fold_into_thresholds, count_bits, merge_linear, remove_dead, explain_floats, name_values)


def optimize(graph: Graph) -> None:
    """Fuse a graph as a reader gave it: afterwards each node is a step of the engine, or needs none.

    Operations that are followed by signs become thresholds, residual sums, activations and BatchNorms part of the layer
    before, and floats are stored only where something needs them. See each pass for what it does and why it may.
    """
    for run in _PASSES:
        run(graph)
    finish(graph)


def finish(graph: Graph) -> None:
    """Run the last passes, which also follow the quantization of a fused graph."""
    for run in _LAST:
        run(graph)
