"""The shape of a sample of a checkpoint: recorded in it, or the only one that fits; otherwise it has to be given.

Most networks take images of many sizes, and nobody notices a wrong one: where the result depends on the size, it is not
guessed. All commands ask here.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from ..errors import Error
from .q_layers import is_packed, skip_copies
from .shape_inference import Shape, ShapeInference, numbers
from .symbol_file import SymbolGraph, SymbolNode

__all__ = [
    *("RECORDED", "UNKNOWN", "UnknownShape", "fitting_shapes", "recorded_shape", "sample_shape", "shape_text"),
]

UNKNOWN = "the shape of a sample does not follow from the network; give it: --data-shape C,H,W (data_shape)"
RECORDED = "__sample_shape__"  # attribute of the input's variable: the shape of a sample, such as (3, 224, 224)

_USUAL_SIZES = (28, 32, 224, 64, 96, 128, 256, 299)
_SIZES = 512  # images of up to so many pixels an axis are tried
_CONVOLUTIONS = ("Convolution", "Convolution_v1", "QConvolution", "QConvolution_v1")
_FULLY_CONNECTED = ("FullyConnected", "QFullyConnected")
_KEEP = (
    *("Activation", "BatchNorm", "BatchNorm_v1", "Cast", "Dropout", "LeakyReLU", "QActivation", "bmx_BatchNorm"),
    *("_copy", "_div_scalar", "_minus_scalar", "_mul_scalar", "_plus_scalar", "clip", "relu"),
)
_KEEP_CHANNELS = (*_KEEP, "Pooling", "Pooling_v1")
_KEEP_NUMBERS = (*_KEEP, "Flatten", "flatten")


class UnknownShape(Error):
    """The shape of a sample is not recorded and does not follow from the network: it has to be given."""


def shape_text(shape: Shape) -> str:
    """Such as 3x32x32."""
    return "x".join(map(str, shape))


def recorded_shape(data: SymbolNode) -> Optional[Shape]:
    """The shape of a sample that the variable of an input has as an attribute, MXNet's or ours; None without one."""
    for name, first in ((RECORDED, 0), ("__shape__", 1)):
        try:
            shape = ast.literal_eval(data.attributes.get(name, ""))
        except (ValueError, SyntaxError):
            continue
        if isinstance(shape, tuple) and shape[first:] and all(type(size) is int and size > 0 for size in shape[first:]):
            return shape[first:]
    return None


def sample_shape(graph: SymbolGraph, name: str, stored: Mapping[str, Any]) -> Shape:
    """The shape of a sample, without the batch: the recorded one, or the only one that fits.

    Parameters
    ----------
    graph : SymbolGraph
    name : str
        Of the input; everything else has a stored value or is a label.
    stored : mapping of str to NDArray or ndarray
        Parameters and auxiliary states.

    Raises
    ------
    UnknownShape
        If it is not recorded, and none or more than one fits.
    bmx.Error
        If a stored array has a shape that fits no sample.
    """
    found = list(itertools.islice(fitting_shapes(graph, name, stored, complete=True), 2))
    if len(found) != 1:
        raise UnknownShape(UNKNOWN + (f"; {shape_text(found[0])} and {shape_text(found[1])} both fit" if found else ""))
    return found[0]


def fitting_shapes(graph: SymbolGraph, name: str, stored: Mapping[str, Any], complete: bool = False) -> Iterator[Shape]:
    """Shapes of samples that the network takes: the recorded one, or what is found by trying images.

    The channels follow from the first layer with weights, the sizes from the shapes of the stored arrays. With
    `complete`, all images of up to 512 pixels an axis that fit are among them, or at least two, or none.

    Other parameters, errors: as `sample_shape`.
    """
    shapes = {key: tuple(array.shape) for key, array in stored.items()}
    data, infer = graph.variables()[name], ShapeInference(graph, shapes)
    recorded = recorded_shape(data)
    if recorded is not None:
        infer({name: (1, *recorded)})
        yield recorded
        return
    layer, sure = _first_layer(graph, name)
    if layer is None or (complete and not sure) or any(node.subgraphs for node in graph.nodes):
        return  # (inside a loop, MXNet does not check what it slices: trying a shape may crash it)
    search, seen = _Search(infer, name, shapes), set()
    for candidate in search.candidates(layer, sure, complete):
        if candidate not in seen and search.fits(candidate):
            yield candidate
        seen.add(candidate)


class _Search:
    """Looks for images that a network takes."""

    def __init__(self, infer: ShapeInference, name: str, stored: Mapping[str, Shape]):
        self._infer, self._name, self._stored = infer, name, stored

    def candidates(self, layer: SymbolNode, sure: bool, complete: bool) -> Iterator[Shape]:
        weight = _stored_weight(layer.inputs[1].node, self._stored)
        self._check_weight(layer)
        packed = is_packed(layer.op, layer.attributes)
        if weight is None or (packed and len(self._stored[weight]) == 2):
            return
        shape = self._stored[weight]
        if layer.op in _FULLY_CONNECTED:
            if layer.attributes.get("flatten", "True") in ("True", "true", "1") or not sure:
                yield shape[1:2]  # what has other shapes is flattened to this one
            return
        channels = shape[1] * int(layer.attributes.get("num_group", "1")) * (32 if packed else 1)
        yield from self._images(channels, len(shape) - 2, sure)
        if not complete:
            yield from ((channels,) + (size,) * (len(shape) - 2) for size in range(1, _SIZES + 1))

    def _check_weight(self, layer: SymbolNode) -> None:
        """Name the weight of the first layer if its attributes alone say that it has a wrong shape."""
        weight, attributes = skip_copies(layer.inputs[1].node), layer.attributes
        units = attributes.get("num_filter", attributes.get("num_hidden", ""))
        if weight.name in self._stored and not is_packed(layer.op, attributes):
            stored, kernel = self._stored[weight.name], numbers(attributes.get("kernel", ""))
            if attributes.get("layout", "NC")[:2] != "NC" or not units.isdecimal():
                return
            if len(stored) != 2 + len(kernel) or stored[0] != int(units) or list(stored[2:]) != kernel:
                raise _misfit(weight.name, stored, [int(units), None, *kernel])

    def fits(self, shape: Shape) -> bool:
        return self._infer.takes({self._name: (1, *shape)})

    def _images(self, channels: int, axes: int, sure: bool) -> Iterator[Shape]:
        """Squares of usual sizes and their neighbours; then, but for volumes, all that the stored arrays leave."""
        usual = [(channels,) + (size,) * axes for size in _USUAL_SIZES]
        wanted = {shape: self._infer.wanted({self._name: (1, *shape)}) for shape in usual}
        if sure:
            self._check_arrays([shapes for shapes in wanted.values() if shapes])
        for shape in usual:
            if wanted[shape] == {name: self._stored[name] for name in wanted[shape] or ()}:
                yield shape
                for step in itertools.product((0, 1, -1), repeat=axes):
                    yield (channels, *(size + more for size, more in zip(shape[1:], step)))
        whole = next((shape for shape in reversed(sorted(usual)) if wanted[shape]), None)
        if whole is not None and axes < 3:
            yield from self._by_arrays(whole)

    def _check_arrays(self, wanted: List[Dict[str, Shape]]) -> None:
        """Name an array that has other sizes than images of all sizes want."""
        for name, stored in self._stored.items() if len(wanted) > 1 else ():
            shapes = [shapes[name] for shapes in wanted if name in shapes]
            if not shapes or len({len(shape) for shape in shapes}) > 1:
                continue
            common = [sizes[0] if len(set(sizes)) == 1 else None for sizes in zip(*shapes)]
            if len(stored) != len(common) or any(size not in (None, own) for size, own in zip(common, stored)):
                raise _misfit(name, stored, common)

    def _by_arrays(self, whole: Shape) -> Iterator[Shape]:
        """Images for which each array has as many elements as it has, by those that it has for single axes.

        What is flattened has f(height) * g(width) * ... elements; so f and g tell all.
        """
        counts = self._counts(whole)
        profiles = []  # of each axis: numbers of elements by size; none where the network takes no such image
        for axis in range(1, len(whole)):
            images = [(*whole[:axis], size, *whole[axis + 1 :]) for size in range(1, _SIZES + 1)]
            profiles.append([self._counts(image) for image in images])
        fitting = np.ones((_SIZES,) * len(profiles), bool)
        for name, count in counts.items():
            factors = [np.array([sizes.get(name, 0) for sizes in profile]) / count for profile in profiles]
            found = functools.reduce(np.multiply.outer, factors) * count
            fitting &= np.abs(found - math.prod(self._stored[name])) < 0.5
        for place in sorted(np.argwhere(fitting).tolist(), key=lambda place: (max(place) - min(place), place)):
            yield (whole[0], *(number + 1 for number in place))

    def _counts(self, image: Shape) -> Dict[str, int]:
        wanted = self._infer.wanted({self._name: (1, *image)}) or {}
        return {name: math.prod(shape) for name, shape in wanted.items()}


def _misfit(name: str, stored: Shape, needed: Sequence[Optional[int]]) -> Error:
    sizes = ", ".join("any" if size is None else str(size) for size in needed) + ("," if len(needed) == 1 else "")
    return Error(f"the array {name!r} has the shape {stored}; the network needs ({sizes})")


def _first_layer(graph: SymbolGraph, name: str) -> Tuple[Optional[SymbolNode], bool]:
    """The first layer with weights on the way from the data, and whether its weight surely tells all samples that fit.

    That of a convolution does if it sees the data's channels, that of a dense layer if it sees all numbers of a sample.
    """
    data = graph.variables()[name]
    queue: List[Tuple[SymbolNode, bool, bool]] = [(data, True, True)]
    seen = {id(data)}
    for node, dense, sure in queue:
        for user in graph.consumers(node):
            if user is None or id(user) in seen:
                continue
            if user.op in _FULLY_CONNECTED:
                return user, dense
            if user.op in _CONVOLUTIONS:
                volumes = user.attributes.get("kernel", "").count(",") > 1  # of which there are too many to try all
                return user, sure and not volumes and user.attributes.get("layout", "NC")[:2] in ("NC", "No")
            seen.add(id(user))
            queue.append((user, dense and user.op in _KEEP_NUMBERS, sure and user.op in _KEEP_CHANNELS))
    return None, False


def _stored_weight(node: SymbolNode, stored: Mapping[str, Shape]) -> Optional[str]:
    """The array that a weight is or is computed of: the only one with more than one dimension.

    What is made of it, such as its sign, is taken to have its shape; if it has not, no candidate will fit.
    """
    found, queue, seen = set(), [node], set()
    while queue:
        node = queue.pop()
        if node.is_variable and len(stored.get(node.name, ())) > 1:
            found.add(node.name)
        for source in node.inputs:
            if id(source.node) not in seen:
                seen.add(id(source.node))
                queue.append(source.node)
    return found.pop() if len(found) == 1 else None
