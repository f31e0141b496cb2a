"""Takes the maximum of windows before operations that rise, instead of behind them.

If f rises, ``max(f(x)) = f(max(x))``, with all roundings. DenseNet pools a BatchNorm of a long concatenation. As a step
of its own the BatchNorm reads and writes a tensor that is larger than the caches; as part of the pooling it works on a
quarter of the numbers, in registers.
"""

from __future__ import annotations

import numpy as np

from ..ir import Affine, Clip, Floats, Graph, Map, Norm, Operation, Pool, PRelu
from .edit import Uses

__all__ = ["pool_before_operations", "windows_meet_image"]


def pool_before_operations(graph: Graph) -> None:
    """Move the operations of a Map that only a maximum pooling reads into the pooling's epilogue."""
    uses = Uses(graph)
    for pool in list(graph.nodes):
        if not isinstance(pool, Pool) or pool.mode != "max" or pool.source.dtype != "f32":
            continue
        before = uses.giver[pool.source]
        alone = uses.only_reader(pool.source) and len(before.stores) == 1 and isinstance(before.stores[0], Floats)
        if not isinstance(before, Map) or not alone or before.source.dtype != "f32" or not windows_meet_image(pool):
            continue
        if before.source.shape == pool.source.shape and all(map(_rises, before.epilogue)):
            pool.source = before.source
            pool.epilogue = before.epilogue + pool.epilogue
            pool.notes = before.notes + pool.notes
            graph.nodes.remove(before)
            uses = Uses(graph)


def windows_meet_image(pool: Pool) -> bool:
    """Whether every window has a pixel of the image: the maximum of none has no meaning that operations keep."""
    size = pool.stores[0].value.shape[1:]
    return all(
        p < k and (n - 1) * s - p < height
        for n, k, s, p, height in zip(size, pool.kernel, pool.stride, pool.pad, pool.source.shape[1:])
    )


def _rises(operation: Operation) -> bool:
    """Whether an operation rises in every channel, from -inf to inf: a scale of 0 makes NaN of infinities."""
    if isinstance(operation, (Affine, Norm)):
        others = (operation.bias, operation.mean) if isinstance(operation, Norm) else (operation.bias,)
        finite = all(np.isfinite(numbers).all() for numbers in (operation.scale, *others))
        return finite and bool((operation.scale > 0).all())
    if isinstance(operation, PRelu):
        return bool((operation.slope > 0).all() and np.isfinite(operation.slope).all())
    return isinstance(operation, Clip)
