"""Linux gives tiles to a process that asks, if the signal stacks of its threads have room for them."""

import os
import subprocess
import sys

import pytest

from bmx import library
from bmx.errors import Error

ISA_WITH_A_SIGNAL_STACK = """
import ctypes, sys

class Stack(ctypes.Structure):
    _fields_ = [("memory", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

memory = ctypes.create_string_buffer(int(sys.argv[1]))
stack = Stack(ctypes.addressof(memory), 0, len(memory))
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
from bmx import library
print(library.isa())
"""


def isa(root, stack, **environment):
    done = subprocess.run(
        [sys.executable, "-c", ISA_WITH_A_SIGNAL_STACK, str(stack)],
        env={**{k: v for k, v in os.environ.items() if k != "BMX_ISA"}, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip(), done.stderr


def test_without_permission_for_tiles_the_next_instruction_set_is_taken_silently(root):
    try:
        library.path("libbmx.so")
    except Error as error:
        pytest.skip(str(error))
    if isa(root, 65536) != ("amx", ""):
        pytest.skip("this machine has no AMX")
    assert isa(root, 4096) == ("avx512", "")
    forced, error = isa(root, 4096, BMX_ISA="amx")
    assert forced == "" and "BMX_ISA is 'amx'; this machine runs avx512, " in error.splitlines()[-1]
