"""libbmx for ARM, built by cross compilers and run by an emulator: its C++ tests, and whole programs, which give the
bits that they give on this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from program.test_engine_agrees import EXACT, cases  # noqa: F401, a fixture

from bmx import library
from bmx.runtime import Model

MACHINES = {
    "aarch64-linux-gnu": ("qemu-aarch64", ("neon_dot", "neon", "portable")),
    "arm-linux-gnueabihf": ("qemu-arm", ("neon_fma", "neon", "portable")),
}
NATIVE = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc")


def run(*command, **options):
    done = subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done


def tool(name):
    """A build tool beside this Python, or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: pip install {name}")
    return found


@pytest.fixture(scope="module", params=MACHINES)
def machine(request, root):
    """Name, build folder and emulator of a machine, with libbmx and its tests built without a warning."""
    emulator, _ = MACHINES[request.param]
    for program, package in ((f"{request.param}-g++", f"g++-{request.param}"), (emulator, "qemu-user")):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}: apt-get install {package}")
    folder = root / "build" / request.param
    cmake = tool("cmake")
    run(cmake, "--preset", request.param, f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}", cwd=root)
    built = run(cmake, "--build", folder, "--target", "bmx", "bmx_tests", "bmx_engine_tests")
    assert "warning:" not in built.stdout + built.stderr
    return request.param, folder, (emulator, "-L", f"/usr/{request.param}")


@pytest.mark.slow
def test_the_cpp_tests_pass(machine):
    _, folder, _ = machine
    ctest = str(Path(tool("cmake")).with_name("ctest"))
    patient = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    # The portable kernels are the same C++ everywhere; that they give the same bits here is the next test's.
    run(ctest, "--output-on-failure", "--parallel", 2, "--tests-regex", "default", cwd=folder, env=patient)


def run_programs(compiler, lib_folder, emulator, folder, work, root, isa=None):
    """The bytes of all outputs of the programs in `folder`, by name, and the kernels that made them."""
    program, names = work / "run_programs", sorted(file.stem for file in folder.glob("*.bmx"))
    source, include = root / "tests" / "engine" / "run_programs.c", root / "src" / "include"
    options = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
    link = [f"-L{lib_folder}", "-lbmx", f"-Wl,-rpath,{lib_folder}"]
    run(compiler, *options, source, "-o", program, *link)
    chosen = {**os.environ, "BMX_POISON": "255", **({"BMX_ISA": isa} if isa else {})}
    done = run(*emulator, program, folder, work, *names, env=chosen)
    return {name: (work / f"{name}.out").read_bytes() for name in names}, done.stdout.strip()


@pytest.fixture(scope="module")
def native(cases, tmp_path_factory, root):  # noqa: F811
    """The folder of programs and inputs, and their outputs on this machine."""
    folder, _ = cases
    libraries = library.path("libbmx.so").parent
    if NATIVE is None:
        pytest.skip("no C compiler: cc or gcc, or one that the environment variable CC names")
    for file in folder.glob("*.bmx"):
        arrays = np.load(str(file.with_suffix(".in.npz")))
        images = [arrays[port.name][0].astype(np.float32).tobytes() for port in Model(file).inputs]
        file.with_suffix(".in").write_bytes(b"".join(images))
    return folder, run_programs(NATIVE, libraries, (), folder, tmp_path_factory.mktemp("native"), root)[0]


def bits(content):
    """Of floats. What sign and payload a NaN has is up to the processor."""
    values = np.frombuffer(content, np.float32)
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))


@pytest.mark.slow
def test_programs_give_the_same_bits(machine, native, tmp_path, root):
    name, libraries, emulator = machine
    folder, wanted = native
    for isa in MACHINES[name][1]:
        found, used = run_programs(f"{name}-gcc", libraries, emulator, folder, tmp_path, root, isa)
        assert used == isa
        for program, content in found.items():
            message = f"{program} with {isa}"
            if program in EXACT:
                np.testing.assert_array_equal(bits(content), bits(wanted[program]), err_msg=message)
            else:
                floats, others = (np.frombuffer(data, np.float32) for data in (content, wanted[program]))
                np.testing.assert_allclose(floats, others, rtol=3e-6, atol=2e-5, err_msg=message)
