"""Networks of the zoo as C: sizes of weights as published, and the engine's numbers."""

import re

import mxnet as mx
import numpy as np
import pytest
from c_targets import GCC

from bmx.compiler import compile_block
from bmx.export_c import export
from bmx.models import get_model


def compiled(name, shape, int8, **options):
    net = get_model(name, **options)
    net.initialize(mx.init.Xavier(magnitude=2.24))
    images = np.random.RandomState(0).uniform(size=(2, *shape)).astype(np.float32)
    net(mx.nd.array(images))
    return compile_block(net, images, int8=int8, verify=False).program, images


@pytest.mark.parametrize("bits_a, int8, mebibytes", [(1, "first-last", 10.9), (32, "off", 22.8)])
def test_alexnet_has_the_published_size(bits_a, int8, mebibytes, tmp_path):
    program, _ = compiled("alexnet", (3, 224, 224), int8, bits_a=bits_a)
    export(program, tmp_path, "alexnet")
    assert (tmp_path / "alexnet_weights.bin").stat().st_size / 2**20 == pytest.approx(mebibytes, rel=0.03)


def test_resnet_gives_the_numbers_of_the_engine(tmp_path):
    program, images = compiled("resnet18_e1", (3, 32, 32), "first-last", thumbnail=True, classes=10)
    export(program, tmp_path, "resnet", samples=[images])
    test = GCC.build(tmp_path, "resnet.c", "test_resnet.c")
    output = GCC.run(test, "resnet_weights.bin", "resnet_samples.bin")
    found = re.search(r"2 samples, .* largest difference (\S+) of (\S+), .* in 2: passed", output)
    assert float(found[1]) <= 1e-5 * float(found[2])
