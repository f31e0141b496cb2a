"""A whole compiled network: its inputs and outputs, its tensors and its steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Tuple

from .description import table
from .steps import Step, Tensor

__all__ = ["Port", "Program", "image_shape"]


@dataclass
class Port:
    """An input or output: its name, and its shape in MXNet's order, without the batch."""

    name: str
    shape: Tuple[int, ...]

    @property
    def image(self) -> Tuple[int, int, int]:
        """Its height, width and channels as a tensor."""
        return image_shape(self.shape)


def image_shape(shape: Tuple[int, ...]) -> Tuple[int, int, int]:
    """Height, width and channels of a shape in MXNet's order, without the batch.

    Examples
    --------
    >>> image_shape((10,)), image_shape((3, 20)), image_shape((3, 4, 5)), image_shape((2, 3, 4, 5)), image_shape(())
    ((1, 1, 10), (1, 20, 3), (4, 5, 3), (4, 5, 6), (1, 1, 1))
    """
    if len(shape) < 3:
        return (1, *shape[1:], shape[0]) if len(shape) == 2 else (1, 1, *(shape or (1,)))
    channels = 1
    for size in shape[:-2]:
        channels *= size
    return shape[-2], shape[-1], channels


@dataclass(eq=False)
class Program:
    """A compiled network.

    Attributes
    ----------
    name : str
    inputs, outputs : list of Port
    tensors : list of Tensor
    steps : list of Step
    arena : int
        Bytes of memory for the tensors of one image, a multiple of 64.
    """

    name: str
    inputs: List[Port] = field(default_factory=list)
    outputs: List[Port] = field(default_factory=list)
    tensors: List[Tensor] = field(default_factory=list)
    steps: List[Step] = field(default_factory=list)
    arena: int = 0

    def __str__(self) -> str:
        return table(self)
