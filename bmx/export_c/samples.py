"""Reference outputs of a network, and the test program test_net.c that compares with them."""

from __future__ import annotations

import math
from string import Template
from typing import Callable, List, Sequence

import numpy as np

from .. import program as programs
from ..errors import Error
from .layers import literal
from .names import comment
from .sections import rename, text_of
from .source import Source

__all__ = ["Run", "engine", "reference_inputs", "samples_bytes", "with_outputs", "write_test"]

Run = Callable[[List[np.ndarray]], List[np.ndarray]]
"""Computes the outputs of a network for one sample: arrays without the batch."""

REFERENCES = 3
_LARGEST_OUTPUT = 1024  # most numbers of an output in test_net.c; of a larger output only some are compared


def engine(program: programs.Program) -> Run:
    """The engine of bmx with this program."""
    from ..runtime import Model

    model = Model(programs.encode(program))

    def run(inputs: List[np.ndarray]) -> List[np.ndarray]:
        outputs = model.run(*inputs)
        return list(outputs) if isinstance(outputs, tuple) else [outputs]

    return run


def _scale(program: programs.Program, number: int) -> float:
    """A power of two that scales an input: the range of its bytes if it is stored as bytes at once, else 1."""
    for step in program.steps:
        if isinstance(step, programs.Load) and step.input == number and not step.epilogue:
            for store in step.stores:
                if isinstance(store, programs.Bytes):
                    largest = max(store.value.zero_point, 255 - store.value.zero_point) / store.inverse_scale
                    return 2.0 ** math.floor(math.log2(largest))
    return 1.0


def reference_inputs(program: programs.Program, references: int = REFERENCES) -> List[List[np.ndarray]]:
    """Random inputs for each reference, the same that test_net.c generates."""
    state, samples = 1, []
    for _ in range(references):
        sample = []
        for number, port in enumerate(program.inputs):
            values = np.empty(math.prod(port.shape), np.int64)
            for i in range(len(values)):
                state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
                values[i] = (state >> 16) - 32768
            numbers = (values / 32768.0 * _scale(program, number)).astype(np.float32)
            sample.append(numbers.reshape(port.shape))
        samples.append(sample)
    return samples


def samples_bytes(inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> bytes:
    """The content of a file that test_net reads: for each sample its inputs, then its outputs, as 32-bit floats.

    Parameters
    ----------
    inputs, outputs : sequence of ndarray
        Arrays (samples, ...), in the order of the network's inputs and outputs.

    Raises
    ------
    bmx.Error
        If the arrays have different numbers of samples, or no samples.
    """
    arrays = [np.asarray(array, "<f4") for array in (*inputs, *outputs)]
    counts = {len(array) for array in arrays}
    if len(counts) != 1:
        raise Error(f"arrays have {sorted(counts)} samples; all inputs and outputs must have the same number")
    if counts == {0}:
        raise Error("there are no samples; give at least one")
    return np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1).tobytes()


def with_outputs(program: programs.Program, inputs: Sequence[np.ndarray], run: Run) -> bytes:
    """`samples_bytes` of inputs and the outputs that `run` computes."""
    if len(inputs) != len(program.inputs):
        raise Error(f"samples for {len(inputs)} inputs; the network has {len(program.inputs)}")
    for port, array in zip(program.inputs, inputs):
        if array.shape[1:] != port.shape:
            raise Error(
                f"samples of {port.name!r} have the shape {array.shape}; the network needs (samples, *{port.shape})"
            )
    arrays = [np.asarray(array, np.float32) for array in inputs]
    outputs = [run([array[i] for array in arrays]) for i in range(len(arrays[0]))]
    return samples_bytes(arrays, [np.stack(parts) for parts in zip(*outputs)])


def write_test(source: Source, program: programs.Program, run: Run, array: bool) -> str:
    """The text of test_net.c."""
    samples = reference_inputs(program)
    outputs = [run(sample) for sample in samples]
    steps = [-(-math.prod(port.shape) // _LARGEST_OUTPUT) for port in program.outputs]
    expected = [
        _array(f"expected_{name}", [np.asarray(sample[number], np.float32).reshape(-1)[::step] for sample in outputs])
        for number, (name, step) in enumerate(zip(source.outputs, steps))
    ]
    sizes = source.sizes
    in_sizes, out_sizes = sizes[: len(source.inputs)], sizes[len(source.inputs) :]
    buffers = [f"sample_{name}" for name in source.inputs + source.outputs]
    results = buffers[len(source.inputs) :]
    memory = [f"static float {buffer}[{size}];" for buffer, size in zip(buffers, sizes)]
    memory += [f"static float read_{name}[{size}];" for name, size in zip(source.outputs, out_sizes)]
    memory += [] if array else ["static uint32_t weights_memory[NET_WEIGHTS_SIZE / 4];"]
    scales = [literal(_scale(program, number)) for number in range(len(program.inputs))]
    values = {
        "usage_arguments": " [SAMPLES]" if array else " [WEIGHTS [SAMPLES]]",
        "usage": "   compares with references, and with the samples of a file."
        + ("" if array else " The default for WEIGHTS is net_weights.bin."),
        "memory": "\n".join(memory) + "\n",
        "outputs": len(results),
        "sample_numbers": " + ".join(sizes),
        "references": REFERENCES,
        "expected": "\n".join(expected),
        "run": f"net_run({', '.join(['weights', 'scratch', *buffers])})",
        "run_null": f"net_run({', '.join(['weights', 'NULL', *buffers])})",
        "run_misaligned": f"net_run({', '.join(['weights', '(uint8_t *)scratch + 1', *buffers])})",
        "run_others": f"net_run({', '.join(['others', 'scratch', *buffers])})",
        "random": "\n".join(
            f"        random_numbers(&state, {scale}, {buffer}, {size});"
            for scale, buffer, size in zip(scales, buffers, in_sizes)
        ),
        "compare": "\n".join(
            f"        compare({buffer}, expected_{name}[i], {size}, {step}, &r[{number}]);"
            for number, (buffer, name, size, step) in enumerate(zip(results, source.outputs, out_sizes, steps))
        ),
        "read": _read(buffers[: len(source.inputs)] + [f"read_{name}" for name in source.outputs]),
        "compare_samples": "\n".join(
            f"        compare({buffer}, read_{name}, {size}, 1, &r[{number}]);"
            for number, (buffer, name, size) in enumerate(zip(results, source.outputs, out_sizes))
        ),
        "main": _MAIN_ARRAY if array else _MAIN_FILE,
        "samples_at": 1 if array else 2,
    }
    names = ", ".join(
        f'"{comment(port.name)}"' for port in program.outputs
    )  # substituted last, because they must not be renamed
    return Template(rename(Template(text_of("test.c")).safe_substitute(values), source.name)).substitute(names=names)


def _read(buffers: List[str]) -> str:
    return "\n".join(f"        numbers += fread({buffer}, sizeof(float), COUNT({buffer}), file);" for buffer in buffers)


def _array(name: str, rows: List[np.ndarray]) -> str:
    lines = [f"static const float {name}[REFERENCES][{len(rows[0])}] = {{"]
    for row in rows:
        numbers = [literal(number) for number in row]
        parts = [", ".join(numbers[first : first + 8]) for first in range(0, len(numbers), 8)]
        lines += ["    {" + ",\n     ".join(parts) + "},"]
    return "\n".join([*lines, "};"])


_MAIN_ARRAY = "    const void *weights = net_weights;"
_MAIN_FILE = """\
    const void *weights = weights_memory;
    const char *path = argc > 1 ? argv[1] : "net_weights.bin";
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(weights_memory, 1, NET_WEIGHTS_SIZE, file) != NET_WEIGHTS_SIZE) {
        fprintf(stderr, "%s: cannot be read, or is too short\\n", path);
        if (file != NULL) fclose(file);
        return 1;
    }
    fclose(file);"""
