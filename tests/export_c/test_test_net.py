"""The test program that comes with an export: what it passes, and that it fails on wrong numbers."""

import subprocess

import numpy as np
import pytest
from c_networks import oracle
from c_targets import GCC
from program_graphs import Builder

from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.errors import Error
from bmx.export_c import export, samples_bytes

SAMPLES = 5


def network():
    """Scores of four classes, all samples having another largest one, and one number."""
    b = Builder(3)
    x = b.input((4, 1, 1))
    ones = ir.Affine(np.ones(4, np.float32), np.zeros(4, np.float32))
    return lower(b.graph([b.map(x, [ones])["f32"], b.map(b.slice(x, (0, 0, 0), (1, 1, 1)))["f32"]]))


@pytest.fixture(scope="module")
def test_net(tmp_path_factory):
    """A function that runs the program on samples with these outputs: (status, output)."""
    folder, program = tmp_path_factory.mktemp("test_net"), network()
    export(program, folder, run=oracle(program))
    built = GCC.build(folder, "net.c", "test_net.c")

    def run(inputs, scores, numbers, cut=0, weights="net_weights.bin"):
        content = samples_bytes([inputs], [scores, numbers])
        (folder / "samples.bin").write_bytes(content[: len(content) - cut])
        command = [str(built), weights, "samples.bin"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        return result.returncode, result.stdout + result.stderr

    run.folder, run.program, run.built = folder, program, built
    return run


@pytest.fixture
def right():
    """Inputs, and both outputs as they are."""
    inputs = np.tile(np.float32([8, -1, 2, 3]), (SAMPLES, 1)).reshape(SAMPLES, 4, 1, 1)
    for sample in range(SAMPLES):
        inputs[sample] = np.roll(inputs[sample], sample, axis=0)
    inputs[:, 0, 0, 0] += 0.5
    return inputs, inputs.copy(), inputs[:, :1].copy()


def test_right_numbers_pass(test_net, right):
    status, output = test_net(*right)
    assert status == 0 and output.count("5 samples, ") == 2 and output.count("largest difference 0 of") == 4


@pytest.mark.parametrize("output", [1, 2])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 100.0, 4.0])
def test_one_wrong_number_in_one_sample_fails(test_net, right, output, value):
    right[output][3, 0] = value
    status, text = test_net(*right)
    assert status == 1 and text.count("FAILED") == 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_agrees_with_itself_only(test_net, right, value):
    inputs, scores, numbers = right
    inputs[2, 0], scores[2, 0], numbers[2, 0] = value, value, value
    assert test_net(*right)[0] == 0
    scores[2, 0] = 1.0
    assert test_net(*right)[0] == 1
    scores[2, 0] = -value
    assert test_net(*right)[0] == (0 if np.isnan(value) else 1)


@pytest.mark.parametrize("part, status", [(0.9e-3, 0), (1.1e-3, 1)])
def test_outputs_of_one_number_may_differ_by_roundings_only(test_net, right, part, status):
    right[2][1, 0] += part * np.abs(right[2]).max()
    assert test_net(*right)[0] == status


@pytest.mark.parametrize(
    "samples, part, status", [(2, 0.2, 0), (3, 0.2, 1), (5, 1.1e-3, 1), (5, 0.9e-3, 0), (1, 0.3, 1)]
)
def test_few_samples_of_a_classifier_may_differ_by_bits(test_net, right, samples, part, status):
    largest = np.abs(right[1]).max()
    for sample in range(samples):
        right[1][sample, right[1][sample].argmin()] -= part * largest * 0.99  # of about the same largest number
    assert test_net(*right)[0] == status


def test_another_class_fails(test_net, right):
    inputs, scores, numbers = right
    inputs[0, :, 0, 0], numbers[0] = [8.5, 8.4, 2, 3], 8.5
    scores[0, :, 0, 0] = [8.4, 8.5, 2, 3]
    assert test_net(*right)[0] == 1


def test_parts_of_samples_and_none_fail(test_net, right):
    assert "no samples, or a part of one" in test_net(*right, cut=4)[1]
    assert test_net(*right, cut=4)[0] == 1
    assert test_net(*right, cut=10**6)[0] == 1
    with pytest.raises(Error, match="no samples"):
        samples_bytes([right[0][:0]], [right[1][:0]])


def test_references_fail_with_weights_of_another_training(test_net, right):
    folder = test_net.folder
    map_step = next(step for step in test_net.program.steps if getattr(step, "epilogue", None))
    map_step.epilogue[0].scale[1] = 1.01
    export(test_net.program, folder / "other", run=oracle(test_net.program))
    (folder / "other.bin").write_bytes((folder / "other" / "net_weights.bin").read_bytes())
    status, output = test_net(*right, weights="other.bin")
    assert status == 1 and "3 references, out0" in output and output.count("FAILED") == 2
