"""The binary LeNet with int8 outer layers, from MXNet to a microcontroller."""

import re
import subprocess

import mxnet as mx
import numpy as np
import pytest
from c_targets import BOARD, CORTEX_M4, GCC, TARGETS

from bmx.cli import main
from bmx.compiler import compile_block
from bmx.export_c import export
from bmx.models import get_model


@pytest.fixture(scope="module")
def network():
    """A LeNet of random numbers, and images for it."""
    random = np.random.RandomState(3)
    net = get_model("lenet")
    net.initialize(mx.init.Xavier(magnitude=2.24))
    images = random.uniform(size=(8, 1, 28, 28)).astype(np.float32)
    net(mx.nd.array(images))
    for name, parameter in net.collect_params().items():
        if name.endswith(("running_mean", "beta")):
            parameter.set_data(mx.nd.array(random.normal(0, 0.3, parameter.shape)))
        elif name.endswith(("running_var", "gamma")):
            parameter.set_data(mx.nd.array(random.uniform(0.5, 1.5, parameter.shape)))
    return net, images


@pytest.fixture(scope="module")
def lenet(network):
    """The same, compiled."""
    net, images = network
    return compile_block(net, images, int8="first-last", verify=False).program, images


@pytest.fixture(scope="module")
def exported(lenet, tmp_path_factory):
    """Its folder, with weights as an array."""
    folder = tmp_path_factory.mktemp("lenet")
    program, images = lenet
    export(program, folder, "lenet", weights="array", samples=[images])
    return folder


@pytest.mark.parametrize("target", [GCC, *TARGETS[5:]], ids=lambda target: target.name)
def test_the_engine_and_c_give_the_same(target, exported):
    program = target.build(exported, "lenet.c", "lenet_weights.c", "test_lenet.c")
    output = target.run(program, "lenet_samples.bin")
    assert re.search(r"8 samples, .* largest difference 0 of \S+, largest number at the same place in 8: pass", output)


def test_on_a_cortex_m4_without_operating_system(exported):
    program = CORTEX_M4.build(exported, BOARD / "startup.c", "lenet.c", "lenet_weights.c", "test_lenet.c")
    assert "largest difference 0 of" in CORTEX_M4.run(program)


def test_code_weights_and_memory_fit_300_kilobytes(exported):
    CORTEX_M4.check()
    sizes = []
    for source in ("lenet.c", "lenet_weights.c"):
        command = ["arm-none-eabi-gcc", "-c", "-O2", "-mcpu=cortex-m4", "-mthumb", source, "-o", f"{source}.o"]
        subprocess.run(command, cwd=exported, check=True)
        output = subprocess.run(["arm-none-eabi-size", f"{source}.o"], cwd=exported, capture_output=True, text=True)
        sizes.append(int(output.stdout.splitlines()[1].split()[0]))
    scratch = int(re.search(r"LENET_SCRATCH_SIZE (\d+)", (exported / "lenet.h").read_text())[1])
    code, weights = sizes
    assert code < 10_000 and weights < 180_000 and code + weights + scratch < 300_000
    assert f"| {weights:,} |" in (exported / "README.md").read_text()
    assert f"| {scratch:,} |" in (exported / "README.md").read_text()


def test_code_says_the_layers_and_has_only_their_kernels(exported):
    code = (exported / "lenet.c").read_text()
    calls = re.findall(r"^    (?:load|conv|pool_bits|store)\(.*", code, re.MULTILINE)
    assert [re.search(r"layer_(\w+)|$", call)[1] for call in calls] == [
        *(None, "conv1", "pool1", "conv2", "pool2", "fc1", "fc2", None),
    ]
    for kernel in ("bits_by_bits", "bytes_by_bytes", "store_counts"):
        assert kernel in code
    for kernel in ("floats_by_floats", "by_signs", "softmax", "pool_max", "prelu", "map_f32"):
        assert kernel not in code


def test_the_command_compiles_checkpoints(network, tmp_path, capsys):
    net, images = network
    net.hybridize()
    net(mx.nd.array(images))
    net.export(str(tmp_path / "digits"), 7)
    np.save(tmp_path / "images.npy", images)
    arguments = ["export-c", str(tmp_path / "digits-0007.params"), "-o", str(tmp_path / "out"), "--int8", "first-last"]
    assert main([*arguments, "--verify-data", str(tmp_path / "images.npy")]) == 0
    output = capsys.readouterr().out
    assert "binary conv 5x5" in output and "weights 166,144 bytes" in output
    assert main([*arguments, "--data-shape", "1,28,28", "--force"]) == 1
    assert "needs sample input" in capsys.readouterr().err
