"""Compiles a network: reads it, fuses it, quantizes what shall be int8, makes the program, and compares both."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from ..errors import Error
from . import int8 as quantization
from .frontends.protocol import FrontEnd
from .ir import Graph
from .passes import finish, optimize
from .report import CompileReport, report_layers
from .samples import Data, batches, check_labels, named
from .verification import verify_program

__all__ = ["Compiled", "compile_network"]


@dataclass
class Compiled:
    """A compiled network.

    Attributes
    ----------
    program : bmx.program.Program
    graph : Graph
        The fused graph that it was made of.
    report : CompileReport
        ``print`` it.
    """

    program: Any
    graph: Graph
    report: CompileReport

    def save(self, path: str, force: bool = False) -> None:
        """Write the program to a .bmx file.

        Raises
        ------
        bmx.Error
            If the file exists and `force` is False, or cannot be written.
        """
        from .. import program

        if os.path.lexists(path) and not force:
            raise Error(f"{path}: exists already; use --force (force=True) to overwrite it")
        program.write(self.program, path)

    def __repr__(self) -> str:
        """The report: weights would fill the screen."""
        return str(self.report)


def compile_network(
    network: FrontEnd,
    *,
    int8: str = "off",
    data: Optional[Data] = None,
    labels: Optional[Sequence[int]] = None,
    verify: bool = True,
) -> Compiled:
    """Compile a network that a front end opened; all entry points of front ends end in this."""
    arrays = named(network, data)
    graph = network.read()
    classes = None if labels is None else check_labels(labels, arrays, graph)
    optimize(graph)
    layers = quantization.layers_to_quantize(graph, int8)
    if layers:
        if arrays is None:
            raise Error(f"int8={int8!r} needs sample input to choose ranges on; give data (--verify-data)")
        _quantize(network, graph, layers, arrays)
    if int8 == "all":
        quantization.explain_floats(graph)
    report = CompileReport(graph.name, report_layers(graph), int8, remarks=network.remarks())

    from .. import program as programs
    from .lower import lower

    program = lower(graph)
    report.file_bytes = len(programs.encode(program))
    if verify:
        report.verification = verify_program(network, graph.name, program, arrays, classes, exact=int8 == "off")
    report.remarks += [f"warning: {line}" for line in network.equal_bits(arrays if verify else None)]
    return Compiled(program, graph, report)


def _quantize(network: FrontEnd, graph: Graph, layers: List[Any], arrays: Dict[str, np.ndarray]) -> None:
    calibration = quantization.Calibration([layer for layer in layers if layer in network.multiplied])
    for layer in layers:
        if layer not in network.multiplied:
            layer.notes.append("not int8: its input is no output of a node, and its range is not known")
    for batch in batches(arrays):
        calibration.add(network.multiplicands(batch))
    quantization.quantize(graph, calibration.ranges())
    finish(graph)
