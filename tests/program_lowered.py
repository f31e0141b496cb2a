"""Lowers graphs, and compares what their programs compute with what the graphs say."""

import ir_oracle
import numpy as np
import program_oracle

from bmx import program as programs
from bmx.compiler.lower import lower


def agree(graph, images):
    """The program of a graph, through its file, gives what the graph says; returns the program."""
    program = programs.decode(programs.encode(lower(graph)))
    expected = ir_oracle.run(graph, images)
    found = program_oracle.run(program, [images[port.name][0] for port in program.inputs])
    for (name, value), output in zip(graph.outputs.items(), found):
        y = expected[name][0]
        if value.dtype == "u8":
            y = (y - value.zero_point) * np.float32(value.scale)
        np.testing.assert_array_equal(output, y, err_msg=f"{name}\n{graph}\n{program}")
    return program


def check(b, *outputs):
    graph = b.graph(outputs)
    return agree(graph, b.images(graph))


def steps(program, kind):
    return [step for step in program.steps if isinstance(step, kind)]


def moves(program):
    """Steps that only copy."""
    copying = [s for s in steps(program, programs.Map) if not s.epilogue and isinstance(s.stores[0], programs.Bytes)]
    return len(steps(program, programs.Copy)) + len(copying)
