"""What the compiler asks of a network, whatever framework it comes from."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Protocol, Tuple

import numpy as np

from .. import ir

__all__ = ["FrontEnd"]


class FrontEnd(Protocol):
    """A network of some framework that can be read into the compiler's graph, and run as the original.

    Attributes
    ----------
    inputs : dict of str to tuple of int
        Shapes of one sample.
    outputs : list of str
        The names of the outputs.
    multiplied : dict of Conv to anything
        The convolutions and dense layers that `read` gave, of which `multiplicands` knows the input.
    """

    inputs: Dict[str, ir.Shape]
    outputs: List[str]
    multiplied: Mapping[ir.Conv, Tuple[Any, ...]]

    def read(self) -> ir.Graph:
        """The network as a graph of the compiler, in which nothing is fused yet; bmx.Error names a node it cannot."""

    def run(self, data: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """What the framework computes for a batch: the outputs by name."""

    def multiplicands(self, data: Mapping[str, np.ndarray]) -> Dict[ir.Conv, np.ndarray]:
        """The numbers that each layer in `multiplied` multiplies, (batch, ...), as the framework computes them."""

    def with_other_last_digits(self, noise: float, seed: int) -> FrontEnd:
        """The network with parameters that differ by the relative `noise`: how far it follows roundings."""

    @property
    def softmaxes(self) -> List[bool]:
        """Which outputs are softmaxes."""

    def not_finite(self) -> str:
        """The first parameter that holds NaN or infinities, for an error message; empty if none does."""

    def remarks(self) -> List[str]:
        """What the report should say of the network as a whole."""

    def equal_bits(self, data: Optional[Mapping[str, np.ndarray]] = None) -> List[str]:
        """What the report should say of layers whose input bits are nearly all the same, in the graph or on samples."""
