"""What a function that reads an operator gets: the node, what its inputs are, and the graph to write to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Union

import numpy as np

from ....checkpoints.symbol_file import SymbolNode
from ....errors import Error
from ...builder import Builder, image_shape
from ...ir import Shape, Value
from .attributes import Attributes

__all__ = ["OPERATORS", "Call", "Comparison", "Operand", "operator"]


@dataclass(frozen=True)
class Comparison:
    """1 where ``value <operator> number`` and else 0: what only some readers understand."""

    value: Value
    operator: str  # of the node, such as "_equal_scalar"
    number: float


Operand = Union[Value, np.ndarray, Comparison]  # an array is a constant
Result = Union[Operand, List[Operand]]  # a list: one for each output of the node
OPERATORS: Dict[str, Callable[[Call], Result]] = {}


def operator(*names: str) -> Callable:
    """Register a function as the reader of operators."""

    def register(function: Callable[[Call], Result]) -> Callable[[Call], Result]:
        OPERATORS.update(dict.fromkeys(names, function))
        return function

    return register


@dataclass
class Call:
    """A node that is being read.

    Attributes
    ----------
    node : SymbolNode
    inputs : list of Operand
    shapes : list of tuple
        MXNet's shapes of the inputs, without the batch; of constants the whole shape.
    result_shapes : list of tuple
        Those of the outputs.
    builder : Builder
    """

    node: SymbolNode
    inputs: List[Operand]
    shapes: List[Shape]
    result_shapes: List[Shape]
    builder: Builder

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.node.name

    @property
    def attributes(self) -> Attributes:
        """Attributes of the node."""
        return Attributes(self.node)

    @property
    def shape(self) -> Shape:
        """The shape that the first output has in the graph."""
        return image_shape(self.result_shapes[0])

    def value(self, number: int = 0) -> Value:
        """An input that depends on the network's input, or that is the same for every sample.

        Raises
        ------
        bmx.Error
            If it is another constant, or a comparison.
        """
        operand = self.inputs[number]
        if isinstance(operand, Comparison):
            raise Error(f"the result of {operand.operator} as its input {number + 1} is not supported")
        if isinstance(operand, Value):
            return operand
        if operand.ndim < 2 or operand.shape[0] != 1:
            raise Error(f"a constant of the shape {operand.shape} as its input {number + 1} is not supported")
        return self.builder.constant(f"{self.name}_constant", operand[0].astype(np.float32))

    def constant(self, number: int, what: str) -> np.ndarray:
        """An input that is a parameter or computed of parameters alone, as float32.

        Raises
        ------
        bmx.Error
            If it depends on the network's input, or holds no numbers.
        """
        operand = self.inputs[number] if number < len(self.inputs) else None
        if not isinstance(operand, np.ndarray):
            raise Error(f"its {what} depends on the input of the network; only constant ones are supported")
        return operand.astype(np.float32, copy=False)

    def finite(self, number: int, what: str) -> np.ndarray:
        """The same, of numbers that are finite.

        A pass that joins layers computes with them, and NaN or infinities that are multiplied with each other, or
        compared, are not what they were one after the other.
        """
        array = self.constant(number, what)
        check_finite(array, what)
        return array

    def axis(self, axis: int, number: int = 0) -> int:
        """An axis of an input's value in MXNet, counted with the batch, as one of the value in the graph.

        Raises
        ------
        bmx.Error
            If it is that of the batch or does not exist.
        """
        shape = self.shapes[number]
        positive = axis + 1 + len(shape) if axis < 0 else axis
        if not 1 <= positive <= len(shape):
            raise Error(f"axis {axis} is not supported; allowed: 1 to {len(shape)}, which are those of one sample")
        return 2 if len(shape) == 2 and positive == 2 else positive - 1

    def window(self, names: Sequence[str], dims: int) -> List[tuple]:
        """Attributes that are sizes of a window in `dims` dimensions, each as (vertical, horizontal)."""
        return [self._pair(name, dims) for name in names]

    def _pair(self, name: str, dims: int) -> tuple:
        neutral = 0 if name == "pad" else 1
        sizes = self.attributes.integers(name, None if name == "kernel" else (neutral,) * dims)
        if not sizes:
            sizes = (neutral,) * dims
        if len(sizes) != dims or min(sizes) < neutral:
            raise Error(f"{name} is {sizes}; it must be {dims} integers, {neutral} or more")
        return sizes if dims == 2 else (neutral, *sizes)


def dims_of(shape: Shape) -> int:
    """The number of spatial dimensions of a value's MXNet shape (C, W) or (C, H, W).

    Raises
    ------
    bmx.Error
        If it has another number of them.
    """
    if len(shape) not in (2, 3):
        raise Error(f"its input has {len(shape)} dimensions besides the batch; allowed: (C, W) and (C, H, W)")
    return len(shape) - 1


def check_finite(array: np.ndarray, what: str) -> None:
    """Raise bmx.Error if an array of numbers that belong to a layer holds NaN or infinities."""
    if not np.isfinite(array).all():
        place = ", ".join(map(str, np.argwhere(~np.isfinite(array))[0]))
        raise Error(
            f"its {what} holds NaN or infinities, the first at [{place}]: the training diverged, or it is damaged"
        )
