"""Losses with smoothed labels, mixed images and a teacher, against NumPy."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

import bmx
from bmx.training import Batches, Checkpoint, Objective, fit
from bmx.training.objective import teacher


@pytest.fixture
def batch():
    random = np.random.RandomState(0)
    return mx.nd.array(random.randn(6, 4)), mx.nd.array([0, 1, 2, 0, 1, 1])


def log_softmax(scores):
    scores = scores - scores.max(1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(1, keepdims=True))


def network():
    net = nn.Dense(3, in_units=4)
    net.initialize(mx.init.Normal(1))
    return net


def test_plain_loss_is_the_cross_entropy(batch):
    net = network()
    expected = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(batch[0]), batch[1]).asnumpy()
    np.testing.assert_allclose(Objective(3)(net, *batch, None).asnumpy(), expected, rtol=1e-5)


def test_label_smoothing(batch):
    net = network()
    targets = np.eye(3)[batch[1].asnumpy().astype(int)] * 0.7 + 0.1
    expected = -(targets * log_softmax(net(batch[0]).asnumpy())).sum(1)
    np.testing.assert_allclose(Objective(3, smoothing=0.3)(net, *batch, None).asnumpy(), expected, rtol=1e-5)


def test_mixup_mixes_images_and_labels_alike(batch):
    net = network()
    weight = np.random.RandomState(7).beta(0.4, 0.4)
    images, labels = batch[0].asnumpy(), np.eye(3)[batch[1].asnumpy().astype(int)]
    mixed, targets = (weight * array + (1 - weight) * array[::-1] for array in (images, labels))
    expected = -(targets * log_softmax(net(mx.nd.array(mixed)).asnumpy())).sum(1)
    found = Objective(3, mixup=0.4)(net, *batch, np.random.RandomState(7)).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_distillation(batch):
    net, other = network(), network()
    targets = np.eye(3)[batch[1].asnumpy().astype(int)]
    scores, wanted = net(batch[0]).asnumpy(), np.exp(log_softmax(other(batch[0]).asnumpy() / 2))
    expected = 0.75 * -(targets * log_softmax(scores)).sum(1) + 0.25 * 4 * -(wanted * log_softmax(scores / 2)).sum(1)
    found = Objective(3, teacher=other, temperature=2, teacher_weight=0.25)(net, *batch, None).asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_teacher_of_other_classes(batch):
    other = nn.Dense(5, in_units=4)
    other.initialize()
    with pytest.raises(bmx.Error, match="the teacher knows 5 classes, the network 3"):
        Objective(3, teacher=other)(network(), *batch, None)


def test_a_checkpoint_is_a_teacher_without_its_softmax(tmp_path):
    net = nn.HybridSequential()
    net.add(nn.Dense(4), nn.BatchNorm(), nn.Dense(2))
    net.initialize(mx.init.Xavier())
    images, labels = np.random.rand(16, 1, 2, 2).astype(np.float32), np.arange(16, dtype=np.float32) % 2
    batches = Batches(images, labels, 8, train=True)
    fit(net, batches, Batches(images, labels, 8), mx.optimizer.SGD(), 1, str(tmp_path / "net"), log=lambda line: None)
    loaded = teacher(Checkpoint(str(tmp_path / "net")).params_file(1))
    np.testing.assert_allclose(loaded(mx.nd.array(images)).asnumpy(), net(mx.nd.array(images)).asnumpy(), rtol=1e-4)
    before = {name: param.data().asnumpy() for name, param in loaded.collect_params().items()}
    fit(net, batches, Batches(images, labels, 8), mx.optimizer.SGD(), 1, objective=Objective(2, teacher=loaded))
    for name, param in loaded.collect_params().items():
        np.testing.assert_array_equal(param.data().asnumpy(), before[name])


def test_no_teacher(tmp_path):
    with pytest.raises(bmx.Error, match="teacher net.json: expected the name of a checkpoint, PREFIX-NNNN.params"):
        teacher("net.json")
    with pytest.raises(bmx.Error, match="none-0001.params: no such file"):
        teacher(str(tmp_path / "none-0001.params"))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"smoothing": 1}, "label smoothing is 1; allowed: 0 to less than 1"),
        ({"mixup": -1}, "mixup is -1; allowed: 0 or more"),
        ({"temperature": 0}, "temperature is 0; allowed: more than 0"),
        ({"teacher_weight": 2}, "weight of the teacher is 2; allowed: 0 to 1"),
    ],
)
def test_impossible_objectives(options, message):
    with pytest.raises(bmx.Error, match=message):
        Objective(3, **options)
