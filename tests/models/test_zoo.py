"""The networks of the zoo: shapes, parameters and sizes as published, training, conversion, float twins, bad input."""

import json
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

import bmx
from bmx.gluon import nn
from bmx.gluon.nn import Shift
from bmx.models import DenseNet, MeliusNet, QuickNet, get_model, model_names
from bmx.models.blocks import Precision
from bmx.models.densenet import ChannelShuffle
from bmx.models.quicknet import Blur
from bmx.network_summary import summary

INPUT_SHAPES = {"lenet": (1, 28, 28), "binarynet_cifar": (3, 32, 32)}

# One of each family, the smallest, on an input as small as it takes.
SMALLEST = {
    "lenet": ((1, 28, 28), {}),
    "binarynet_cifar": ((3, 16, 16), {}),
    "alexnet": ((3, 64, 64), {"classes": 10}),
    "resnet18_v1": ((3, 32, 32), {"classes": 10, "thumbnail": True}),
    "resnet18_v2": ((3, 32, 32), {"classes": 10, "thumbnail": True}),
    "resnet18_e1": ((3, 32, 32), {"classes": 10, "thumbnail": True}),
    "resnet18_e2": ((3, 48, 48), {"classes": 10}),  # sizes that are odd on the way
    "resnet50_v1": ((3, 32, 32), {"classes": 10}),
    "resnet50_v2": ((3, 32, 32), {"classes": 10}),
    "birealnet18": ((3, 48, 48), {"classes": 10}),
    "reactnet_r18": ((3, 48, 48), {"classes": 10}),
    "densenet28": ((3, 64, 64), {"classes": 10}),
    "meliusnet22": ((3, 64, 64), {"classes": 10}),
    "meliusneta": ((3, 16, 16), {"classes": 10, "thumbnail": True}),
    "quicknet_small": ((3, 64, 64), {"classes": 10}),
}


def input_shape(name):
    return INPUT_SHAPES.get(name, (3, 224, 224))


def running_averages(net, shape):
    """Number of BatchNorm's running averages: two of the four numbers of each channel."""
    return sum(int(np.prod(s)) for s in net(mx.sym.var("data")).infer_shape(data=(1, *shape))[2])


def operators(net):
    return {node["op"] for node in json.loads(net(mx.sym.var("data")).tojson())["nodes"]} - {"null"}


@pytest.mark.parametrize("name", model_names())
def test_any_batch_gives_scores_and_names_are_the_same_in_every_instance(name):
    first, second = (get_model(name, classes=7)(mx.sym.var("data")) for _ in range(2))
    assert first.list_inputs() == second.list_inputs()
    assert len(set(first.list_inputs())) == len(first.list_inputs())
    assert first.infer_shape(data=(2, *input_shape(name)))[1] == [(2, 7)]


@pytest.mark.parametrize(
    "name, parameters",
    [  # as Larq's zoo counts them; the image's BatchNorm, 3 x 4 numbers, is BMXNet's
        ("birealnet18", 11_699_112),
        ("resnet18_e1", 11_699_368 + 12),
        ("densenet28", 5_150_504),
        ("densenet37", 8_734_120),
        ("densenet45", 13_939_240),
    ],
)
def test_parameters_are_those_of_the_larq_zoo(name, parameters):
    assert summary(get_model(name), input_shape(name)).parameters == parameters


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("meliusnet22", 6_944_584),
        ("quicknet_small", 12_655_688),
        ("quicknet", 13_234_088),
        ("quicknet_large", 23_342_248),
    ],
)
def test_parameters_are_those_of_the_larq_zoo_which_left_running_averages_out_here(name, parameters):
    net = get_model(name)
    total = summary(net, input_shape(name)).parameters
    assert total - running_averages(net, input_shape(name)) == parameters


@pytest.mark.parametrize(
    "name, mebibytes, tolerance",
    [  # published to one or two decimals, without running averages
        ("alexnet", 22.7, 0.1),  # with a bias in the float convolution, or without BatchNorm's fixed gammas
        ("birealnet18", 4.0, 0.05),
        ("birealnet34", 43.7 / 8 / 1.048576, 0.05),  # the paper says 43.7 Mbit
        ("resnet18_e1", 4.0, 0.05),
        ("resnet34_e1", 5.23, 0.005),
        ("densenet28", 4.04, 0.006),
        ("densenet37", 5.13, 0.005),
        ("densenet45", 7.35, 0.005),
        ("meliusnet22", 3.88, 0.005),
        ("meliusnet29", 5.07, 0.005),
        ("meliusnet42", 10.1, 0.05),
        ("meliusnet59", 17.39, 0.005),
        ("meliusneta", 4.05, 0.005),
        ("meliusnetb", 5.0, 0.05),
        ("meliusnetc", 4.46, 0.005),
        ("quicknet_small", 4.0, 0.005),
        ("quicknet", 4.17, 0.005),
        ("quicknet_large", 5.4, 0.005),
    ],
)
def test_1_bit_sizes_are_the_published_ones(name, mebibytes, tolerance):
    net = get_model(name)
    size = summary(net, input_shape(name)).memory - 4 * running_averages(net, input_shape(name))
    assert size / 2**20 == pytest.approx(mebibytes, abs=tolerance)


@pytest.mark.parametrize(
    "family", [bmx.models.ResNet, bmx.models.ResNetE, bmx.models.BiRealNet, DenseNet, MeliusNet, QuickNet]
)
def test_docstrings_have_the_sizes(family):
    rows = re.findall(r"^ +(\w+) +([\d.]+) million +([\d.]+) MiB +([\d.]+) MiB ", family.__doc__, re.MULTILINE)
    assert rows
    for name, *numbers in rows:
        result = summary(get_model(name), input_shape(name))
        expected = [result.parameters / 1e6, result.memory / 2**20, result.float_memory / 2**20]
        assert numbers == [f"{number:.1f}" for number in expected]


@pytest.mark.parametrize("name", ["lenet", "alexnet", "binarynet_cifar", "reactnet_r18"])
def test_docstrings_without_a_table_have_the_sizes(name):
    net = get_model(name)
    text = " ".join(type(net).__doc__.split())
    found = re.search(r"([\d.]+) million parameters, ([\d.]+) MiB in 1 bit.*?([\d.]+) MiB in float32", text)
    result = summary(net, input_shape(name))
    expected = [result.parameters / 1e6, result.memory / 2**20, result.float_memory / 2**20]
    assert list(found.groups()) == [f"{number:.1f}" for number in expected]
    assert name != "lenet" or round(result.memory / 1000) == 206  # as published, in kB


@pytest.mark.parametrize(
    "options", [{"bits": "1", "bits_a": "1"}, {"bits": None, "bits_a": None}, {"bits": 1.5, "bits_a": 1.5},
                {"bits": True, "bits_a": True}, {"classes": "3"}, {"classes": 0}]
)  # fmt: skip
@pytest.mark.parametrize("name", ["lenet", "binarynet_cifar"])
def test_what_is_no_number_of_bits_or_classes(name, options):
    with pytest.raises(bmx.Error, match="a bit width is an integer from 1 to 32|classes is .*; allowed: 1 or more"):
        get_model(name, **options)


def train(net, shape, steps=2):
    """Losses of a few steps on two samples."""
    net.initialize(mx.init.Xavier())
    net.hybridize()
    images, labels = mx.nd.random.uniform(-1, 1, shape=(2, *shape)), mx.nd.array([1, 3])
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1e-3})
    losses = []
    for _ in range(steps):
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels)
        loss.backward()
        trainer.step(2)
        losses.append(float(loss.mean().asscalar()))
    assert np.isfinite(losses).all()
    assert len(set(losses)) == steps
    return losses


@pytest.mark.parametrize("name", SMALLEST)
def test_trains_and_converts(name, tmp_path):
    shape, options = SMALLEST[name]
    net = get_model(name, **options)
    train(net, shape)
    net.export(str(tmp_path / "net"))
    report = bmx.convert_checkpoint(str(tmp_path / "net-0000.params"), data_shape=shape)
    assert all(layer.is_packed for layer in report.layers)
    assert report.verification.agreement is not None  # it was run; had outputs been different, it were refused
    packed = summary(mx.sym.load(str(tmp_path / "binarized_net-symbol.json")), shape)
    result = summary(net, shape)
    assert (packed.weights, packed.macs) == (result.weights, result.macs)
    assert sum(layer.bytes_after for layer in report.layers) == pytest.approx(result.weights[1] / 8, rel=0.01)


@pytest.mark.parametrize("name", SMALLEST)
def test_32_bits_are_the_float_twin(name):
    shape, options = SMALLEST[name]
    net, binary = get_model(name, 32, 32, **options), get_model(name, **options)
    allowed = {"Convolution", "FullyConnected", "BatchNorm", "Activation", "Pooling", "Flatten", "Concat"}
    allowed |= {"elemwise_add", "broadcast_add", "slice_axis", "LeakyReLU", "Reshape", "SwapAxis"}
    assert operators(net) <= allowed
    float_summary, binary_summary = summary(net, shape), summary(binary, shape)
    assert set(float_summary.weights) == set(float_summary.macs) == {32}
    assert sum(float_summary.macs.values()) == sum(binary_summary.macs.values())
    if name != "reactnet_r18":  # its sign has shifts
        assert float_summary.parameters == binary_summary.parameters


@pytest.mark.parametrize("name, bits, bits_a", [("alexnet", 1, 32), ("resnet18_e1", 2, 4), ("quicknet_small", 32, 1)])
def test_other_bits_train(name, bits, bits_a):
    shape, options = SMALLEST[name]
    net = get_model(name, bits, bits_a, **options)
    train(net, shape)
    result = summary(net, shape)
    assert bits in result.weights and max(bits, bits_a) in result.macs


@pytest.mark.parametrize("name", ["resnet18_e2", "reactnet_r18", "meliusneta", "quicknet_small"])
def test_hybridized_is_the_same(name):
    shape, options = SMALLEST[name]
    net = get_model(name, **options)
    net.initialize(mx.init.Xavier())
    images = mx.nd.random.uniform(-1, 1, shape=(2, *shape))
    imperative = net(images).asnumpy()
    net.hybridize()
    np.testing.assert_allclose(net(images).asnumpy(), imperative, rtol=1e-4, atol=1e-4)


def test_configuration_around_the_making_counts():
    with nn.set_binary_layer_config(grad_cancel=1.3, approximation="xnor"):
        net = get_model("alexnet")
    convs = [block for block in net.features if isinstance(block, nn.BinaryConvolution)]
    assert [type(conv) for conv in convs] == [nn.ScaledBinaryConv] * 4
    assert all(conv.qact.threshold == 1.3 for conv in convs)


def test_few_bits_are_padded_with_zeros():
    conv = Precision(2, 2).conv(4, 3, padding=1)
    conv.initialize()
    assert not conv(mx.nd.zeros((1, 3, 5, 5))).asnumpy().any()


def test_blur_keeps_constants_and_is_not_trained():
    blur = Blur(3)
    blur.initialize(mx.init.Xavier())
    out = blur(mx.nd.full((1, 3, 8, 8), 5))
    assert out.shape == (1, 3, 4, 4)
    np.testing.assert_allclose(out[0, :, 1:, 1:].asnumpy(), 5, rtol=1e-6)
    assert blur.weight.grad_req == "null"


def test_channel_shuffle():
    x = np.arange(2 * 6 * 2 * 2, dtype=np.float32).reshape(2, 6, 2, 2)
    out = ChannelShuffle(3)(mx.nd.array(x)).asnumpy()
    np.testing.assert_array_equal(out, x[:, [0, 2, 4, 1, 3, 5]])


@pytest.mark.parametrize("name", [name for name in SMALLEST if name not in ("lenet", "binarynet_cifar", "alexnet")])
def test_checkpoints_have_stages_1_to_4(name):
    parameters = list(get_model(name, **SMALLEST[name][1]).collect_params())
    assert {found[1] for found in map(re.compile(r"stage(\d+)_").match, parameters) if found} == set("1234")


def test_shift_starts_at_zero():
    shift = Shift(3)
    shift.initialize(mx.init.Xavier())
    x = mx.nd.random.uniform(shape=(2, 3, 4, 4))
    np.testing.assert_array_equal(shift(x).asnumpy(), x.asnumpy())


def test_names_of_bmxnet_v2():
    assert get_model("ResNet18_v1").depth == 18
    assert get_model("meliusnet_a")(mx.sym.var("data")).infer_shape(data=(1, 3, 224, 224))[1] == [(1, 1000)]


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        (("resnet19",), {}, "no model 'resnet19'; there are alexnet, binarynet_cifar"),
        ((None,), {}, "no model None"),
        (
            ("resnet18_v1",),
            {"thumbnails": True},
            "resnet18_v1: no option 'thumbnails'; there are bits, bits_a, classes",
        ),
        (("resnet18_v1",), {"depth": 34}, "no option 'depth'"),
        (("alexnet",), {"thumbnail": True}, "alexnet: no option 'thumbnail'"),
        (("alexnet", 0), {}, "bits=0: a bit width is an integer from 1 to 32"),
        (("alexnet", 1, 33), {}, "bits=33"),
        (("birealnet18",), {"classes": 0}, "BiRealNet: classes is 0; allowed: 1 or more"),
        (("lenet", 1, 32), {}, "lenet: bits is 1 and bits_a is 32"),
    ],
)
def test_bad_input_is_named(arguments, options, message):
    with pytest.raises(bmx.Error, match=re.escape(message)):
        get_model(*arguments, **options)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: bmx.models.ResNet(20), "ResNet: depth is 20; allowed: 18, 34, 50, 101, 152"),
        (lambda: bmx.models.ResNetE(18, 3), "ResNetE: version is 3; allowed: 1, 2"),
        (lambda: DenseNet(22), "DenseNet: depth is 22; allowed: 28, 37, 45"),
        (lambda: QuickNet("tiny"), "QuickNet: size is 'tiny'; allowed: small, base, large"),
    ],
)
def test_unknown_variants_are_named(make, message):
    with pytest.raises(bmx.Error, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", ["lenet", "resnet18_e1", "alexnet"])
@pytest.mark.parametrize("bits", [1, 2, 32])
def test_activations_have_as_many_bits_as_weights_by_default(name, bits):
    symbols = [get_model(name, *given)(mx.sym.var("data")).tojson() for given in ((bits,), (bits, bits))]
    assert symbols[0] == symbols[1]
