#!/usr/bin/env python3
"""How many multiply-adds a cycle the inner loops of the ARM kernels could do, by llvm-mca's models of processors.

Compiles src/kernels/engine/neon*.cpp with the cross compiler, takes the innermost loop of the largest tile of each
arithmetic out of the machine code, and prints a table. An estimate: all loads hit the first-level cache, loops have no
end, and the models are LLVM's. Needs g++-aarch64-linux-gnu and llvm (22 here; models change between versions).

  python benchmark/arm/inner_loops.py
  python benchmark/arm/inner_loops.py --show binary
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
OPTIONS = "-std=c++17 -O3 -DNDEBUG -DBMX_AARCH64=1 -fPIC -fopenmp-simd".split()
OPTIONS += "-ffp-contract=off -fno-math-errno -fno-trapping-math".split()  # as CMakeLists.txt: BMX_NHWC_OPTIONS

DOT = ["-march=armv8.2-a+dotprod"]

# Name -> source, options, part of the loop's symbol, the instruction that multiplies, multiply-adds in each.
LOOPS = {
    "binary": ("neon.cpp", [], "NeonENS3_6Binary", r"cnt\t", 128),
    "int8": ("neon.cpp", [], "NeonENS3_10SignedInt8", r"smull2?\t", 8),
    "int8, dot products": ("neon_dot.cpp", DOT, "NeonDotENS3_10SignedInt8", r"sdot\t", 16),
    "float32": ("neon.cpp", [], "NeonENS3_5Float", r"fmla\t", 4),
}
# Processor -> what llvm-mca calls the model that is nearest to it.
PROCESSORS = {
    "Cortex-A53": "cortex-a53",
    "Cortex-A55": "cortex-a55",
    "Cortex-A72": "cortex-a72",
    "Cortex-A76": "neoverse-n1",
    "Apple M1": "apple-m1",
}
WITHOUT_DOT = ("Cortex-A53", "Cortex-A72")
ITERATIONS = 1000


def tool(*names):
    for name in names:
        if shutil.which(name):
            return name
    sys.exit(f"needs {names[0]}: apt-get install g++-aarch64-linux-gnu llvm")


def disassembly(source, options):
    with tempfile.TemporaryDirectory() as folder:
        made = f"{folder}/kernels.o"
        compiler = [tool("aarch64-linux-gnu-g++"), *OPTIONS, *options, f"-I{ROOT / 'src'}"]
        subprocess.run([*compiler, "-c", str(ROOT / "src" / "kernels" / "engine" / source), "-o", made], check=True)
        command = [tool("aarch64-linux-gnu-objdump"), "-d", "--no-show-raw-insn", made]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def inner_loops(text, symbol):
    """Straight pieces of code that end in a jump to their beginning, in functions whose names contain `symbol`."""
    code, inside = [], False
    for line in text.splitlines():
        begins = re.match(r"[0-9a-f]+ <(.*)>:", line)
        if begins:
            code, inside = [], symbol in begins.group(1)
        found = re.match(r"\s+([0-9a-f]+):\t(.*)", line)
        if not inside or not found:
            continue
        code.append((int(found.group(1), 16), re.sub(r"\s*(//.*|<.*>)$", "", found.group(2))))
        jump = re.match(r"b\.\w+\t([0-9a-f]+)$", code[-1][1])
        if jump and int(jump.group(1), 16) < code[-1][0]:
            body = [instruction for address, instruction in code if address >= int(jump.group(1), 16)]
            if not any(re.match(r"b|cb|tb|ret", instruction) for instruction in body[:-1]):
                yield [*body[:-1], re.sub(r"\t.*", "\t.Lloop", body[-1])]


def count(loop, pattern):
    return sum(re.match(pattern, instruction) is not None for instruction in loop)


def cycles(loop, model):
    """Of an iteration of many."""
    command = [tool("llvm-mca-22", "llvm-mca", "llvm-mca-19"), "-mtriple=aarch64-linux-gnu", f"-mcpu={model}"]
    command += ["-mattr=+dotprod", f"-iterations={ITERATIONS}", "-noalias"]
    text = "\n".join([".Lloop:", *loop]) + "\n"
    report = subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report).group(1)) / ITERATIONS


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", choices=LOOPS, help="print the instructions of this loop only")
    show = parser.parse_args().show
    texts = {}
    if show is None:
        print("| MAC / cycle |", " | ".join(PROCESSORS), "| vector arithmetic for 128 MAC |")
        print("|---" * (len(PROCESSORS) + 2) + "|")
    for name, (source, options, symbol, multiplies, macs_of_one) in LOOPS.items():
        if show not in (None, name):
            continue
        if source not in texts:
            texts[source] = disassembly(source, options)
        loop = max(inner_loops(texts[source], symbol), key=lambda loop: count(loop, multiplies))
        if show:
            print("\n".join(loop))
            continue
        macs = count(loop, multiplies) * macs_of_one
        arithmetic = count(loop, r"(?!ld|st)\w+\tv\d")
        row = []
        for processor, model in PROCESSORS.items():
            skip = "dot" in name and processor in WITHOUT_DOT
            row.append("-" if skip else f"{macs / cycles(loop, model):.1f}")
        print(f"| {name} |", " | ".join(row), f"| {arithmetic * 128 / macs:.2f} |")


if __name__ == "__main__":
    main()
