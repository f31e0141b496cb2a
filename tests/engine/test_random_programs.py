"""The engine against the definition of a program, on random networks of every kind of step."""

import numpy as np
import program_oracle
import pytest
from hypothesis import HealthCheck, given, settings
from program_graphs import graphs

from bmx import program as programs
from bmx.compiler.lower import lower
from bmx.runtime import Model


def outputs(content, threads, images):
    with Model(content, threads) as model:
        result = model.run(images)
    return result if isinstance(result, tuple) else (result,)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs())
def test_random_networks(case):
    """Their numbers are small integers, so that sums are exact; whatever was in memory before does not matter."""
    graph, images = case
    program = lower(graph)
    content = programs.encode(program)
    wanted = program_oracle.run(program, [images[port.name][0] for port in program.inputs])
    with pytest.MonkeyPatch.context() as patch:
        for poison, threads in ((0, 1), (255, 1), (127, 2)):
            patch.setenv("BMX_POISON", str(poison))
            for port, array, expected in zip(program.outputs, outputs(content, threads, images), wanted):
                np.testing.assert_array_equal(array[0], expected, err_msg=f"{port.name} of\n{program}")
