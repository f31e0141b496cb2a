"""What a training says of layers that could not learn, before its first step."""

import sys

import mxnet as mx
import numpy as np
import pytest

from bmx.gluon import nn
from bmx.training import Batches, fit
from bmx.training.signs import equal_bits


def block(*before):
    net = nn.HybridSequential(prefix="")
    net.add(
        nn.Conv2D(8, 3, in_channels=1), *before, nn.activated_conv(8, 3, in_channels=8), nn.BatchNorm(in_channels=8)
    )
    net.add(nn.GlobalAvgPool2D(), nn.Dense(2, in_units=8))
    net.initialize(mx.init.Xavier())
    net.hybridize()
    return net


def warnings_of(net, **options):
    lines = []
    random = np.random.RandomState(0)
    images, labels = random.uniform(size=(16, 1, 9, 9)).astype(np.float32), np.arange(16, dtype=np.float32) % 2
    train, test = Batches(images, labels, 8, train=True), Batches(images, labels, 16)
    fit(net, train, test, mx.optimizer.SGD(), options.pop("epochs", 2), log=lines.append, **options)
    return [line for line in lines if line.startswith("warning: ")]


def test_a_sign_after_a_relu_is_named_once_before_the_first_step(tmp_path):
    net = block(nn.BatchNorm(in_channels=8), nn.Activation("relu"))
    (line,) = warnings_of(net, prefix=str(tmp_path / "net"))
    assert "all bits of the input are +1, because the ReLU before it ('relu" in line
    assert not warnings_of(net, prefix=str(tmp_path / "net"), epochs=3, resume=True)


def test_a_sign_of_numbers_that_are_all_on_one_side_is_named():
    net = block(nn.BatchNorm(in_channels=8, beta_initializer=mx.init.Constant(9)))
    (line,) = warnings_of(net)
    assert "of the bits of the input are +1 on samples; the BatchNorm before it (" in line
    (line,) = warnings_of(block(nn.HybridLambda(lambda F, x: F.tanh(x) + 1.5)))
    assert "all of the bits of the input are +1 on samples; they come from" in line


@pytest.mark.parametrize("net", ["plain", "norm", "norm after a relu", "learned shift"])
def test_networks_that_can_learn_are_not_named(net):
    layers = {
        "plain": [],
        "norm": [nn.BatchNorm(in_channels=8)],
        "norm after a relu": [nn.Activation("relu"), nn.BatchNorm(in_channels=8)],
        "learned shift": [nn.Activation("relu"), nn.Shift(in_channels=8)],
    }
    assert not warnings_of(block(*layers[net]))


def test_looking_for_signs_leaves_the_network_as_it_is():
    net = block(nn.BatchNorm(in_channels=8))
    before = {name: param.data().asnumpy() for name, param in net.collect_params().items()}
    assert not equal_bits(net, mx.nd.random.uniform(shape=(8, 1, 9, 9)))
    for name, param in net.collect_params().items():
        np.testing.assert_array_equal(param.data().asnumpy(), before[name])


def test_looking_for_signs_changes_nothing_and_stops_nothing(monkeypatch):
    def run():
        mx.random.seed(3)
        net = block(nn.BatchNorm(in_channels=8), nn.Activation("relu"))
        warnings_of(net)
        return [param.data().asnumpy() for param in net.collect_params().values()]

    looked = run()
    monkeypatch.setattr(sys.modules["bmx.training.fit"], "equal_bits", lambda net, images: 1 / 0)
    for a, b in zip(looked, run()):
        np.testing.assert_array_equal(a, b)
