"""What net_check_weights and net_run refuse; net_run from several threads."""

import ctypes
import re
import struct
import subprocess
import threading
import zlib

import numpy as np
import pytest
from c_networks import every_kernel, oracle
from c_targets import GCC
from program_graphs import Builder

from bmx.compiler.lower import lower
from bmx.export_c import export
from bmx.export_c.samples import reference_inputs

STATUS = ["OK", "NULL", "MISALIGNED", "TRUNCATED", "NOT_WEIGHTS", "VERSION", "BYTE_ORDER", "OTHER_NETWORK", "DAMAGED"]


class Network:
    """net.c as a shared library."""

    def __init__(self, folder):
        GCC.check()
        subprocess.run("gcc -O1 -shared -fPIC net.c -o net.so -lm", shell=True, cwd=folder, check=True)
        self.library = ctypes.CDLL(str(folder / "net.so"))
        self.library.net_check_weights.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        self.library.net_error.restype = ctypes.c_char_p
        header = (folder / "net.h").read_text()
        self.sizes = [int(size) for size in re.findall(r"#define NET_\w+_SIZE (\d+)", header)]
        self.weights = (folder / "net_weights.bin").read_bytes()

    def check(self, content, size=None, shift=0):
        memory, address = aligned(bytes(shift) + bytes(content))
        return STATUS[self.library.net_check_weights(address + shift, len(content) if size is None else size)]

    def run(self, *arrays, weights=None, scratch_shift=0):
        """Status and outputs."""
        weights_memory, weights_at = aligned(self.weights if weights is None else weights)
        scratch_memory, scratch_at = aligned(bytes(self.sizes[1] + 64))
        arrays = [np.ascontiguousarray(array, np.float32) for array in arrays]
        outputs = [np.full(size, np.nan, np.float32) for size in self.sizes[2 + len(arrays) :]]
        pointers = [ctypes.c_void_p(at) for at in (weights_at, scratch_at + scratch_shift)]
        pointers += [ctypes.c_void_p(array.ctypes.data) for array in arrays + outputs]
        return STATUS[self.library.net_run(*pointers)], outputs


def aligned(content):
    """Memory with the content, and the address, a multiple of 64."""
    memory = ctypes.create_string_buffer(len(content) + 64)
    address = -(-ctypes.addressof(memory) // 64) * 64
    ctypes.memmove(address, content, len(content))
    return memory, address


def changed(content, offset, form, value, checksum=True):
    content = bytearray(content)
    struct.pack_into("<" + form, content, offset, value)
    if checksum:
        struct.pack_into("<I", content, 20, zlib.crc32(content[24:]))
    return bytes(content)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    b = Builder(1)
    program = lower(b.graph([b.conv(b.input((3, 5, 4), ("bit",)), 8)["f32"]]))
    export(program, folder, run=oracle(program))
    return Network(folder)


def test_whole_weights_are_taken(network):
    assert network.check(network.weights) == "OK"


def test_truncated_weights_are_refused_at_every_length(network):
    for size in {0, 1, 8, 63, 64, 65, len(network.weights) - 64, len(network.weights) - 1}:
        assert network.check(network.weights[:size]) == "TRUNCATED", size


def test_every_flipped_bit_is_found(network):
    for bit in range(0, 8 * len(network.weights), 7):
        content = bytearray(network.weights)
        content[bit // 8] ^= 1 << bit % 8
        assert network.check(content) != "OK", bit


def test_what_is_wrong_is_said(network):
    weights = network.weights
    assert network.check(b"\x7fELF" + weights[4:]) == "NOT_WEIGHTS"
    assert network.check(changed(weights, 8, "I", 2)) == "VERSION"
    assert network.check(changed(weights, 12, "I", 0x04030201)) == "BYTE_ORDER"
    assert network.check(changed(weights, 24, "I", 7)) == "OTHER_NETWORK"
    assert network.check(changed(weights, 16, "I", len(weights) - 64)) == "DAMAGED"
    assert network.check(weights + bytes(64)) == "DAMAGED"
    assert network.check(changed(weights, len(weights) - 4, "I", 7, checksum=False)) == "DAMAGED"
    assert network.check(weights, shift=1) == "MISALIGNED"
    assert STATUS[network.library.net_check_weights(None, 64)] == "NULL"
    texts = {network.library.net_error(status) for status in range(len(STATUS))}
    assert len(texts) == len(STATUS) and network.library.net_error(99) == b"unknown error"


def test_a_run_refuses_what_it_cannot_take_and_computes_nothing(network):
    image = np.zeros((3, 5, 4))
    for status, arguments in {
        "MISALIGNED": {"scratch_shift": 2},
        "OTHER_NETWORK": {"weights": changed(network.weights, 24, "I", 7)},
    }.items():
        found, (output,) = network.run(image, **arguments)
        assert found == status and np.isnan(output).all()
    assert STATUS[network.library.net_run(None, None, None, None)] == "NULL"
    assert network.run(image)[0] == "OK"


def test_threads_run_a_network_at_once(every_kernel_in_c):
    network, program = Network(every_kernel_in_c), every_kernel()
    samples = reference_inputs(program, 4)
    alone = [network.run(*sample)[1] for sample in samples]
    wrong = []

    def work(number):
        for _ in range(20):
            status, outputs = network.run(*samples[number])
            if status != "OK" or not all(map(np.array_equal, outputs, alone[number])):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
