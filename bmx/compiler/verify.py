"""Runs a network before and after its conversion on the same samples and compares what comes out."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import warnings
from typing import Dict, Iterable, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from .. import checkpoint_names
from ..errors import Error
from .checkpoint import load_files, to_ndarray
from .inference import cast_parameters, for_inference
from .report import Verification
from .symbol_file import Graph, Node, mxnet_message, parse_graph, to_symbol

__all__ = ["find_sample_shape", "only_sample_shape", "verify_conversion"]

Shape = Tuple[int, ...]

_SAMPLES = 8
_SEED = 0
# Of the largest output. 1-bit layers give equal integers, so hardly more than 0 is expected; but mean|w| as a node of
# its own is rounded in another order, and where the next layer's input is 0 but for that, a bit can flip.
_TOLERANCE, _TOLERANCE_SCALED = 1e-3, 0.1
_IMAGE_SIZES = tuple(dict.fromkeys((28, 32, 224, 64, 96, 128, 256, 299, *range(1, 513))))  # usual ones first
_ENOUGH_SIZES = 8  # an array that fits none of so many image sizes, and for which all want the same shape, is wrong
_CONVOLUTIONS = ("Convolution", "Convolution_v1", "QConvolution", "QConvolution_v1")
_FULLY_CONNECTED = ("FullyConnected", "QFullyConnected")
_KEEP_CHANNELS = (
    *("Activation", "BatchNorm", "BatchNorm_v1", "Cast", "Dropout", "Flatten", "LeakyReLU", "Pooling", "Pooling_v1"),
    *("QActivation", "_copy", "_div_scalar", "_minus_scalar", "_mul_scalar", "_plus_scalar", "clip", "flatten", "relu"),
)


class Network:
    """A loaded checkpoint as inference needs it (`inference`); `data_names` are its inputs.

    `stored_inputs` are the shapes of inputs that have a value in the file, with the batch.
    """

    def __init__(self, symbol_path: str, params_path: str):
        symbol, args, aux = load_files(symbol_path, params_path)
        needed = for_inference(parse_graph(json.loads(symbol.tojson()), symbol_path), {**args, **aux})
        self.symbol, self.data_names = to_symbol(needed.graph, symbol_path), needed.inputs
        self.stored_inputs = {name: args.pop(name).shape for name in self.data_names if name in args}
        self.args = _cast(needed.graph, {name: array for name, array in args.items() if name not in needed.labels})
        self.aux = _cast(needed.graph, aux)
        for name in self.symbol.list_auxiliary_states():
            if name not in self.aux:
                raise Error(f"{params_path}: the array 'aux:{name}' is missing")

    def infer(self, shape: Shape) -> Optional[Dict[str, Shape]]:
        """Shapes of all arguments and auxiliary states for a shape of the data; None if it does not suit."""
        try:
            # MXNet prints before it raises, and warns of what it could not infer
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arguments, _, auxiliary = self.symbol.infer_shape(**{self.data_names[0]: shape})
        except mx.base.MXNetError:
            return None
        if arguments is None:
            return None
        names = self.symbol.list_arguments() + self.symbol.list_auxiliary_states()
        return dict(zip(names, arguments + auxiliary))

    def misfits(self, shapes: Dict[str, Shape]) -> Dict[str, Shape]:
        """The stored arrays whose shape is not the given one, with the given one."""
        stored = {**self.args, **self.aux}
        return {name: shape for name, shape in shapes.items() if name in stored and stored[name].shape != shape}

    def misfit_error(self, name: str, expected: Shape) -> Error:
        array = self.args.get(name, self.aux.get(name))
        return Error(f"the array {name!r} has the shape {array.shape}; the network needs {expected}")

    def run(self, batch: np.ndarray) -> List[np.ndarray]:
        """Outputs for a batch."""
        shapes = self.infer(batch.shape)
        arrays = {**self.args, **self.aux, self.data_names[0]: mx.nd.array(batch, dtype=batch.dtype)}
        inputs = [arrays[name] if name in arrays else mx.nd.zeros(shapes[name]) for name in self.symbol.list_inputs()]
        outputs = mx.nd.CachedOp(self.symbol)(*inputs)  # unlike bind it logs nothing to stderr
        return [output.asnumpy() for output in (outputs if isinstance(outputs, list) else [outputs])]


def verify_conversion(
    original: str,
    epoch: int,
    converted: Tuple[str, str],
    data_shape: Optional[Sequence[int]] = None,
    data: Optional[np.ndarray] = None,
) -> Verification:
    """Compare two checkpoints on the same samples.

    Parameters
    ----------
    original : str
        Prefix of the original.
    epoch : int
    converted : tuple of str
        The files of the converted one, symbol and parameters.
    data_shape : sequence of int, optional
        Shape of one sample; derived from the network by default.
    data : ndarray, optional
        A batch; by default 8 normally distributed samples with a fixed seed.

    Returns
    -------
    Verification
        Also where the networks could not be run: it says why.

    Raises
    ------
    bmx.Error
        If a stored array or `data_shape` does not fit the network, or the outputs differ.
    """
    files = checkpoint_names.files(original, epoch)
    network = Network(*files)
    if len(network.data_names) != 1:
        names = ", ".join(network.data_names) or "none"
        return Verification(f"the network must have one input without a stored value, it has: {names}")
    try:
        shape = tuple(data.shape[1:]) if data is not None else _checked_shape(data_shape) or find_sample_shape(network)
        if shape is None:
            return Verification("the shape of the input could not be derived; give it with --data-shape (data_shape)")
        if data is not None or data_shape is not None:
            _check_fits(network, shape)
    except Error as error:
        raise Error(f"{files[1]}: {error}") from None
    if data is None:
        data = np.random.RandomState(_SEED).standard_normal((_SAMPLES, *shape))
    data = np.asarray(data, np.float32)
    samples = f"{len(data)} samples of shape {'x'.join(map(str, shape))}"
    try:
        before = network.run(data)
    except mx.base.MXNetError as error:
        return Verification(f"MXNet cannot run the network on {samples}: {mxnet_message(error)}")
    try:
        after = Network(*converted).run(data)
    except mx.base.MXNetError as error:
        raise Error(
            f"{original}: the converted network cannot be run, nothing was written: {mxnet_message(error)}"
        ) from None
    result = Verification(samples, largest_difference(before, after), agreement(before[0], after[0]))
    largest = max((float(np.max(np.abs(output[np.isfinite(output)]), initial=1.0)) for output in before), default=1.0)
    scaled = any(attributes.get("scaling_mode") == "forward" for attributes in network.symbol.attr_dict().values())
    if not result.largest_difference <= (_TOLERANCE_SCALED if scaled else _TOLERANCE) * largest:
        raise Error(f"{original}: the converted network has other outputs, nothing was written: {result}")
    return result


def largest_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """max|a - b| over all outputs, equal infinities and NaN beside NaN being no difference."""
    worst = 0.0
    for a, b in zip(before, after):
        a, b = a.astype(np.float64), b.astype(np.float64)
        equal = (a == b) | (np.isnan(a) & np.isnan(b))
        difference = np.abs(np.where(equal, 0.0, a) - np.where(equal, 0.0, b))
        worst = max(worst, float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0)))
    return worst


def agreement(before: np.ndarray, after: np.ndarray) -> Optional[float]:
    """Share of predictions, largest values along axis 1, that are equal; None where there are no classes."""
    if before.ndim < 2 or before.shape[1] < 2 or before.size == 0:
        return None
    return float(np.mean(before.argmax(axis=1) == after.argmax(axis=1)))


def find_sample_shape(network: Network) -> Optional[Shape]:
    """Shape of one sample of a network's data, by its declared shape or by what fits the stored weights.

    The channels follow from the first layer with weights; square images of all sizes up to 512 are tried until MXNet's
    shape inference gives every array the shape it has. Returns None if none does.

    Raises
    ------
    bmx.Error
        If a stored array has a wrong shape whatever the size of the image.
    """
    graph = parse_graph(json.loads(network.symbol.tojson()), "")
    data = graph.variables()[network.data_names[0]]
    declared = _known_shape(network, data)
    if declared is not None:
        _check_fits(network, declared)
        return declared
    layer, sure = _first_layer(graph, data)
    if layer is None or any(node.subgraphs for node in graph.nodes):
        return None  # a guess may crash MXNet inside a loop: it does not check what it slices for the loop's body
    expected: Dict[str, List[Shape]] = {}
    tried = 0
    for candidate in _candidates(layer, network):
        shapes = network.infer((1, *candidate))
        if shapes is None:
            continue
        misfits = network.misfits(shapes)
        if not misfits:
            return candidate
        tried += 1
        for name, shape in misfits.items():
            expected.setdefault(name, []).append(shape)
        if sure and tried == _ENOUGH_SIZES:
            for name, wanted in expected.items():
                if len(wanted) == tried and len(set(wanted)) == 1:
                    raise network.misfit_error(name, wanted[0])
    return None


def only_sample_shape(network: Network) -> Optional[Shape]:
    """As `find_sample_shape`, but None where images of other sizes fit as well, as they do before a global pooling."""
    shape = find_sample_shape(network)
    graph = parse_graph(json.loads(network.symbol.tojson()), "")
    if shape is None or _known_shape(network, graph.variables()[network.data_names[0]]) is not None:
        return shape
    shapes = network.infer((1, shape[0], *(size + 32 for size in shape[1:])))
    return shape if len(shape) == 1 or shapes is None or network.misfits(shapes) else None


def _check_fits(network: Network, shape: Shape) -> None:
    shapes = network.infer((1, *shape))
    if shapes is None:
        raise Error(f"the network does not take samples of shape {shape}")
    for name, wanted in network.misfits(shapes).items():
        raise network.misfit_error(name, wanted)


def _checked_shape(shape: Optional[Sequence[int]]) -> Optional[Shape]:
    if shape is not None and (not shape or any(size < 1 for size in shape)):
        raise Error(f"data_shape is {tuple(shape)}; it must be positive sizes without the batch, such as (1, 28, 28)")
    return None if shape is None else tuple(int(size) for size in shape)


def _cast(graph: Graph, arrays: Dict[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    others = {name: array.asnumpy() for name, array in arrays.items() if array.dtype != np.float32}
    return {**arrays, **{name: to_ndarray(array) for name, array in cast_parameters(graph, others).items()}}


def _known_shape(network: Network, data: Node) -> Optional[Shape]:
    """Shape of a sample by that of a stored batch, or as the symbol declares it."""
    stored = network.stored_inputs.get(data.name)
    return tuple(stored[1:]) if stored is not None and len(stored) > 1 else _declared_shape(data)


def _declared_shape(data: Node) -> Optional[Shape]:
    try:
        shape = ast.literal_eval(data.attributes.get("__shape__", ""))
    except (ValueError, SyntaxError):
        return None
    if not isinstance(shape, tuple) or len(shape) < 2 or not all(isinstance(n, int) and n > 0 for n in shape[1:]):
        return None
    return shape[1:]


def _first_layer(graph: Graph, data: Node) -> Tuple[Optional[Node], bool]:
    """The first layer with weights on the way from the data, and whether the data's channels surely reach it."""
    queue, seen = [(data, True)], {id(data)}
    for node, sure in queue:
        for user in graph.consumers(node):
            if user is None or id(user) in seen:
                continue
            if user.op in _CONVOLUTIONS + _FULLY_CONNECTED:
                return user, sure and user.attributes.get("layout", "NC")[:2] in ("NC", "No")
            seen.add(id(user))
            queue.append((user, sure and user.op in _KEEP_CHANNELS))
    return None, False


def _stored_weight(node: Node, network: Network) -> Optional[str]:
    """The array that a weight is or is computed of: the only one with more than one dimension.

    What is made of it, such as its sign, is taken to have its shape; if it has not, no candidate will fit.
    """
    found, queue, seen = set(), [node], set()
    while queue:
        node = queue.pop()
        if node.is_variable and node.name in network.args and network.args[node.name].ndim > 1:
            found.add(node.name)
        for source in node.inputs:
            if id(source.node) not in seen:
                seen.add(id(source.node))
                queue.append(source.node)
    return found.pop() if len(found) == 1 else None


def _candidates(layer: Node, network: Network) -> Iterable[Shape]:
    weight = _stored_weight(layer.inputs[1].node, network)
    packed = layer.attributes.get("binarized_weights_only", "False") in ("True", "true", "1")
    if weight is None or (packed and network.args[weight].ndim == 2):
        return
    shape = network.args[weight].shape
    if layer.op in _FULLY_CONNECTED:
        yield shape[1:2]
        return
    channels = shape[1] * int(layer.attributes.get("num_group", "1")) * (32 if packed else 1)
    for size in _IMAGE_SIZES:
        yield (channels,) + (size,) * (len(shape) - 2)
