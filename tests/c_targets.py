"""Machines that generated C is built for and run on."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import pytest

BOARD = Path(__file__).resolve().parent.parent / "example" / "embedded" / "digits"  # start-up code and linker script
STRICT = "-std=c99 -pedantic -Wall -Wextra -Wconversion -Wshadow -Werror".split()
M4 = "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16 --specs=rdimon.specs".split()
CPU = Path("/proc/cpuinfo").read_text().split() if Path("/proc/cpuinfo").exists() else []


@dataclass(frozen=True)
class Target:
    """A machine: how to compile for it, and what runs its programs."""

    name: str
    compiler: Tuple[str, ...]
    runner: Tuple[str, ...] = ()
    needs: Tuple[str, ...] = ()  # of this machine's processor

    def check(self):
        for program in (self.compiler[0], *self.runner[:1]):
            if shutil.which(program) is None:
                pytest.skip(f"needs {program}: {PACKAGES.get(program, 'not installed')}")
        missing = set(self.needs) - set(CPU)
        if missing:
            pytest.skip(f"this processor has no {' '.join(sorted(missing))}")

    def build(self, folder, *sources, options=()):
        """Compile sources to a program, any warning being an error; returns its path."""
        self.check()
        program = folder / f"program-{self.name}"
        command = [*self.compiler, *STRICT, *options, *map(str, sources), "-o", str(program), "-lm"]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
        return program

    def run(self, program, *arguments):
        """The output of a program that ends well."""
        command = [*self.runner, str(program), *map(str, arguments)]
        result = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}\n{result.stderr}"
        return result.stdout


def _target(name, compiler, runner="", needs=""):
    return Target(name, tuple(compiler.split()), tuple(runner.split()), tuple(needs.split()))


PACKAGES = {
    "clang": "apt-get install clang",
    "aarch64-linux-gnu-gcc": "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
    "arm-linux-gnueabihf-gcc": "apt-get install gcc-arm-linux-gnueabihf libc6-dev-armhf-cross",
    "qemu-aarch64": "apt-get install qemu-user",
    "qemu-arm": "apt-get install qemu-user",
    "arm-none-eabi-gcc": "apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "apt-get install qemu-system-arm",
    "s390x-linux-gnu-gcc": "apt-get install gcc-s390x-linux-gnu libc6-dev-s390x-cross",
}
GCC = _target("gcc", "gcc -O1")
CLANG = _target("clang-native", "clang -O1 -march=native")
TARGETS = [
    GCC,
    _target("gcc-none", "gcc -O2 -march=native -DNET_SIMD=none"),
    _target("gcc-avx2", "gcc -O2 -mavx2 -mfma", needs="avx2 fma"),
    _target("gcc-avx512", "gcc -O3 -march=icelake-client", needs="avx512_vpopcntdq avx512_vnni avx512vl avx512bw"),
    CLANG,
    _target("aarch64", "aarch64-linux-gnu-gcc -O2 -static", "qemu-aarch64"),
    _target("aarch64-dotprod", "aarch64-linux-gnu-gcc -O1 -march=armv8.2-a+dotprod -static", "qemu-aarch64 -cpu max"),
    _target("armv7-neon", "arm-linux-gnueabihf-gcc -O1 -mfpu=neon -static", "qemu-arm"),
    _target("armv7", "arm-linux-gnueabihf-gcc -O1 -mfpu=vfpv3-d16 -static", "qemu-arm"),
]
SANITIZED = [
    _target("sanitized", "gcc -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"),
    _target("sanitized-native", "gcc -O1 -march=native -fsanitize=address,undefined -fno-sanitize-recover=all"),
]
CORTEX_M4 = Target(
    "cortex-m4",
    ("arm-none-eabi-gcc", "-O2", *M4, f"-T{BOARD / 'mps2_an386.ld'}"),
    ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting", "-kernel"),
)
