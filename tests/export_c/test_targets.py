"""Generated C on all machines: no warning from a compiler, and the numbers of the definition of a program."""

import re
import subprocess

import numpy as np
import pytest
from c_networks import every_function, oracle, special_numbers, write_exact_samples
from c_targets import CLANG, GCC, SANITIZED, STRICT, TARGETS
from hypothesis import HealthCheck, Phase, given, settings
from program_graphs import Builder, graphs

from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.export_c import export


def check_exact(output, samples=2):
    lines = [line for line in output.splitlines() if f"{samples} samples, " in line]
    assert lines and all("largest difference 0 of" in line for line in lines), output


@pytest.mark.parametrize("target", [*TARGETS, *SANITIZED], ids=lambda target: target.name)
def test_every_kernel(target, every_kernel_in_c):
    program = target.build(every_kernel_in_c, "net.c", "test_net.c")
    check_exact(target.run(program, "net_weights.bin", "exact.bin"))


@pytest.mark.parametrize("target", [GCC, CLANG, *TARGETS[-1:]], ids=lambda target: target.name)
def test_every_function(target, tmp_path):
    program = every_function()
    export(program, tmp_path, run=oracle(program))
    target.run(target.build(tmp_path, "net.c", "test_net.c"))


def test_softmax_of_numbers_whose_exponentials_overflow(tmp_path):
    b = Builder(8)
    x = b.input((5, 1, 1))
    soft = ir.Value("soft", x.shape)
    b.nodes.append(ir.Softmax("softmax", [], [ir.Floats(soft)], source=x))
    program = lower(b.graph([soft]))
    export(program, tmp_path, run=oracle(program))
    samples = np.float32([[0, 1000, 999, -1000, 3], [-500] * 5, [88, 89, 90, -90, 0], [3e38, -3e38, 0, 1, 2]])
    write_exact_samples(tmp_path, program, [samples.reshape(-1, 5, 1, 1)])
    output = GCC.run(GCC.build(tmp_path, "net.c", "test_net.c"), "net_weights.bin", "exact.bin")
    assert float(re.search(r"4 samples, .*: largest difference (\S+) of 1,", output)[1]) < 1e-6


@pytest.mark.parametrize("target", [*TARGETS[:5:4], *SANITIZED, *TARGETS[5:8:2]], ids=lambda target: target.name)
def test_nan_infinities_and_zeros(target, tmp_path):
    program, samples = special_numbers()
    export(program, tmp_path, run=oracle(program))
    write_exact_samples(tmp_path, program, [samples])
    check_exact(target.run(target.build(tmp_path, "net.c", "test_net.c"), "net_weights.bin", "exact.bin"), len(samples))


@settings(max_examples=10, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(case=graphs())
def test_random_networks(tmp_path_factory, case):
    program = lower(case[0])
    folder = tmp_path_factory.mktemp("random")
    export(program, folder, run=oracle(program))
    write_exact_samples(folder, program)
    target = SANITIZED[1]
    check_exact(target.run(target.build(folder, "net.c", "test_net.c"), "net_weights.bin", "exact.bin"))


@pytest.mark.parametrize(
    "target, options",
    [
        *((GCC, options) for options in ("-O3 -march=native", "-Os -DNET_SIMD=none", "-O2 -std=c11", "-O2 -std=gnu17")),
        *((CLANG, options) for options in ("-Os -DNET_SIMD=none", "-O1 -std=gnu17")),
    ],
)
def test_no_warning(target, options, every_kernel_in_c):
    target.check()
    command = [*target.compiler, *STRICT, *options.split(), "-c", "net.c", "-o", f"{target.name}.o"]
    result = subprocess.run(command, cwd=every_kernel_in_c, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_the_header_is_c_plus_plus_too(every_kernel_in_c):
    GCC.check()
    source = every_kernel_in_c / "user.cpp"
    source.write_text('#include "net.h"\nint main() { return net_check_weights(nullptr, 0) == NET_NULL ? 0 : 1; }\n')
    subprocess.run("gcc -c net.c -o plain.o && g++ -Wall -Werror user.cpp plain.o -lm -o user && ./user", shell=True,
                   cwd=every_kernel_in_c, check=True)  # fmt: skip


@pytest.mark.parametrize(
    "options, message",
    [
        ("-DNET_SIMD=sse", "NET_SIMD is none, avx2, avx512 or neon"),
        ("-mno-avx -DNET_SIMD=avx2", "NET_SIMD needs the compiler's option for these instructions"),
    ],
)
def test_a_wrong_choice_of_instructions_does_not_compile(options, message, every_kernel_in_c):
    GCC.check()
    command = f"gcc -fsyntax-only {options} net.c"
    result = subprocess.run(command, shell=True, cwd=every_kernel_in_c, capture_output=True, text=True)
    assert result.returncode != 0 and message in result.stderr


@pytest.mark.parametrize(
    "compiler", ["s390x-linux-gnu-gcc", "aarch64-linux-gnu-gcc -mbig-endian", "arm-none-eabi-gcc -mbig-endian"]
)
def test_a_big_endian_machine_is_refused(compiler, every_kernel_in_c):
    target = _big_endian(compiler)
    target.check()
    command = [*target.compiler, "-fsyntax-only", "net.c"]
    result = subprocess.run(command, cwd=every_kernel_in_c, capture_output=True, text=True)
    assert "net: the weights are little-endian; this compiler is for a big-endian machine" in result.stderr


def _big_endian(compiler):
    return type(GCC)(compiler, tuple(compiler.split()))


def test_cmake_builds_and_tests(every_kernel_in_c, tmp_path):
    pytest.importorskip("cmake")
    GCC.check()
    commands = f"cmake -S . -B {tmp_path} && cmake --build {tmp_path} && cd {tmp_path} && ctest --output-on-failure"
    result = subprocess.run(commands, shell=True, cwd=every_kernel_in_c, capture_output=True, text=True)
    assert result.returncode == 0 and "100% tests passed" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize("weights", ["file", "array"])
def test_make_builds_and_tests(weights, tmp_path):
    GCC.check()
    program, samples = special_numbers()
    export(program, tmp_path, "special", weights, samples=[samples], run=oracle(program))
    result = subprocess.run("make test size CC=gcc", shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0 and "special: 6 samples, out0" in result.stdout, result.stdout + result.stderr
    check_exact(result.stdout, 6)
