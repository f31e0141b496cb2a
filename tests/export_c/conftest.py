"""The network of every kernel in C, made once."""

import pytest
from c_networks import every_kernel, oracle, write_exact_samples

from bmx.export_c import export


@pytest.fixture(scope="session")
def every_kernel_in_c(tmp_path_factory):
    """Its folder, with exact.bin, samples for the test."""
    folder = tmp_path_factory.mktemp("every_kernel")
    program = every_kernel()
    export(program, folder, run=oracle(program))
    write_exact_samples(folder, program)
    return folder
