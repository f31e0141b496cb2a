"""A QActivation and the binary layer behind it are one operator in traced networks: no bit of a result changes."""

import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

import bmx
from bmx.gluon import nn

MODES = ["imperative", "hybridized", "static"]
SPECIAL = np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 1.0, -1.0, 0.7, -0.7])


def values(shape, seed=0, special=True):
    """Floats about 0, some of them special."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 0.8, shape).astype(np.float32)
    return np.where(random.uniform(size=shape) < 0.05, random.choice(SPECIAL, shape), x) if special else x


def trained(make, fused, mode="static", shape=(2, 5, 7, 6), passes=2, grad_req="write", path="operators", special=True):
    """Outputs, gradients and parameters of a network after some steps, all names, and its symbol if it has one."""
    net = make()
    net.initialize()
    x = mx.nd.array(values(shape, special=special))
    arrays = []
    with nn.path(path, fused=fused):
        if mode != "imperative":
            net.hybridize(static_alloc=mode == "static", static_shape=mode == "static")
        net(x)  # finds the shapes
        mx.random.seed(3)
        np.random.seed(3)  # MXNet's initializers draw from both
        net.initialize(mx.init.Xavier(), force_reinit=True)
        parameters = [parameter for parameter in net.collect_params().values() if parameter.grad_req != "null"]
        for parameter in parameters:
            parameter.grad_req = grad_req
        x.attach_grad(grad_req)
        for seed in range(passes):
            with autograd.record():
                out = net(x)
            out.backward(mx.nd.array(np.random.default_rng(seed).normal(size=out.shape)))
            arrays += [out.asnumpy(), x.grad.asnumpy()]
            for parameter in parameters:
                arrays.append(parameter.grad().asnumpy())
                parameter.set_data(parameter.data() - 0.1 * mx.nd.clip(parameter.grad(), -1, 1))
    return arrays, list(net.collect_params()), net._cached_graph[1] if mode != "imperative" else None


def same_bits(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def activations(symbol):
    return sum(node["op"] == "QActivation" for node in json.loads(symbol.tojson())["nodes"])


def check(make, nodes=0, pairs=1, **options):
    """Compare the network as it is traced and without fusion: results, names, and how many QActivations are left."""
    fused, names, symbol = trained(make, True, **options)
    plain, plain_names, plain_symbol = trained(make, False, **options)
    same_bits(fused, plain)
    imperative, _, _ = trained(make, True, **{**options, "mode": "imperative"})
    same_bits(imperative, plain)
    assert [name.split("_", 1)[1] for name in names] == [name.split("_", 1)[1] for name in plain_names]
    assert (activations(symbol), activations(plain_symbol)) == (nodes, nodes + pairs)


BLOCKS = [nn.BinaryConvolution, nn.ScaledWeightsBinaryConv, nn.ScaledBinaryConv]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("method", ["det_sign", "sign_approx_sign", "swish_sign"])
@pytest.mark.parametrize("threshold", [0, 1e-45, 0.7, 1, float("inf")])
def test_blocks_of_an_activation_and_a_convolution(block, method, threshold):
    check(lambda: block(4, padding=1, clip_threshold=threshold, activation_method=method, prefix="q_"))


@pytest.mark.parametrize("mode", ["hybridized", "static"])
@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize(
    "arguments",
    [
        {"stride": 2, "padding": 1},
        {"kernel_size": 1},
        {"kernel_size": (3, 2), "padding": (2, 0), "stride": (3, 1), "pad_value": 0.0},
        {"kernel_size": (2, 1), "stride": 9},
        {"dilation": 2, "padding": 2},
    ],
    ids=str,
)
def test_geometries(mode, grad_req, arguments):
    check(lambda: nn.BinaryConvolution(4, prefix="q_", **arguments), mode=mode, grad_req=grad_req)


@pytest.mark.parametrize("config", [{"grad_bit": 3}, {"weight_quantization": "swish_sign"}], ids=str)
def test_other_gradients_of_the_layer(config):
    def make():
        with nn.set_binary_layer_config(**config):
            return nn.BinaryConvolution(4, prefix="q_")

    check(make)


@pytest.mark.parametrize(
    "arguments",
    [{"activation_method": "round"}, {"bits_a": 2}, {"bits_a": 32}, {"bits": 4}],
    ids=str,
)
def test_what_the_operator_does_not_know_stays_as_it_is(arguments):
    signs = arguments.get("bits_a", 1) == 1 and "activation_method" not in arguments
    check(lambda: nn.BinaryConvolution(4, prefix="q_", **arguments), nodes=int(signs), pairs=0)


def sequence(*make):
    def network():
        net = nn.HybridSequential(prefix="net_")
        with net.name_scope():
            net.add(*(layer() for layer in make))
        return net

    return network


@pytest.mark.parametrize(
    "make, nodes, pairs",
    [
        ([nn.QActivation, lambda: nn.QConv2D(4, 3)], 0, 1),
        ([nn.QActivation, lambda: nn.QDense(4)], 0, 1),
        ([nn.ApproxSign, lambda: nn.QDense(4), nn.BatchNorm, nn.QActivation, lambda: nn.QDense(3)], 0, 2),
        ([nn.QActivation, nn.Flatten, lambda: nn.QDense(4)], 1, 0),
        ([nn.QActivation, nn.QActivation, lambda: nn.QDense(4)], 2, 0),
        ([nn.QActivation, lambda: nn.QDense(4, bits_a=32)], 1, 0),
        ([nn.QActivation, lambda: nn.Dense(4)], 1, 0),
        ([lambda: nn.QActivation(3), lambda: nn.QDense(4)], 0, 0),
        ([lambda: nn.QDense(4), nn.QActivation], 1, 0),
    ],
)
def test_layers_in_a_sequence(make, nodes, pairs):
    check(sequence(*make), nodes, pairs)


@pytest.mark.parametrize("shape, layer", [((2, 5, 9), nn.QConv1D), ((1, 3, 4, 3, 5), nn.QConv3D)])
def test_one_and_three_spatial_dimensions(shape, layer):
    check(sequence(nn.QActivation, lambda: layer(4, 2, padding=1)), shape=shape)


class Residual(nn.HybridSequential):
    """Adds its input to what its layers make of it."""

    def hybrid_forward(self, F, x):
        return super().hybrid_forward(F, x) + x


@pytest.mark.parametrize("grad_req", ["write", "add"])
@pytest.mark.parametrize("first", [[], [nn.BatchNorm]])
def test_residual_networks(first, grad_req):
    def make():
        net = Residual(prefix="net_")
        with net.name_scope():
            net.add(nn.activated_conv(5, padding=1), nn.BatchNorm())
        whole = nn.HybridSequential(prefix="whole_")
        whole.add(*(layer(prefix="first_") for layer in first), net)
        return whole

    check(make, grad_req=grad_req, special=not first)


@pytest.mark.parametrize("mode", MODES)
def test_the_composed_path_is_as_it_was(mode):
    results = [
        trained(lambda: nn.BinaryConvolution(4, padding=1, prefix="q_"), fused, mode, path="composed")[0]
        for fused in (True, False)
    ]
    same_bits(*results)


def test_a_layer_that_is_hybridized_alone_or_called_alone_has_no_window():
    block = nn.BinaryConvolution(4, clip_threshold=0.5, in_channels=5)
    block.initialize()
    block.qconv.hybridize()
    x = mx.nd.array(np.where(values((2, 5, 7, 6)) < 0, -1, 1))
    x.attach_grad()
    gradients = []
    for call in (block, block.qconv, block):
        with autograd.record():
            out = call(x)
        out.backward()
        gradients.append(x.grad.asnumpy())
    assert not gradients[0].any() and gradients[1].any() and not gradients[2].any()


def test_blocks_that_users_derive_keep_their_computation():
    class Louder(nn.QConv2D):
        def hybrid_forward(self, F, x, weight):
            return 2 * super().hybrid_forward(F, x, weight)

    class Shifted(nn.QActivation):
        def hybrid_forward(self, F, x):
            return super().hybrid_forward(F, x - 0.5)

    check(sequence(nn.QActivation, lambda: Louder(4, 3)), nodes=1, pairs=0)
    check(sequence(Shifted, lambda: nn.QConv2D(4, 3)), nodes=1, pairs=0)


def test_hooks_see_every_block_of_an_imperative_network():
    seen = []
    block = nn.BinaryConvolution(4)
    block.initialize()
    for child in (block.qact, block.qconv):
        child.register_forward_hook(lambda layer, *_: seen.append(layer))
    block(mx.nd.ones((1, 3, 4, 4)))
    assert seen == [block.qact, block.qconv]


@pytest.mark.parametrize(
    "name, options, nodes, pairs",
    [
        ("resnet18_e1", {"thumbnail": True}, 0, 16),
        ("resnet18_v2", {"thumbnail": True}, 0, 19),
        ("quicknet", {}, 0, 16),
        ("binarynet_cifar", {}, 1, 7),
    ],
)
def test_networks_of_the_zoo(name, options, nodes, pairs):
    def make():
        return bmx.models.get_model(name, classes=10, **options)

    fused, names, symbol = trained(make, True, shape=(2, 3, 32, 32), special=False)
    plain, plain_names, plain_symbol = trained(make, False, shape=(2, 3, 32, 32), special=False)
    same_bits(fused, plain)
    assert np.isfinite(fused[-1]).all() and fused[1].any()
    assert names == plain_names
    assert (activations(symbol), activations(plain_symbol)) == (nodes, nodes + pairs)


def test_the_summary_lists_every_layer():
    net = sequence(lambda: nn.Conv2D(4, 3), lambda: nn.activated_conv(8), nn.QActivation, lambda: nn.QDense(3))()
    net.initialize()
    net.hybridize()
    net(mx.nd.ones((1, 3, 9, 9)))
    summary = bmx.summary(net, (3, 9, 9))
    assert [layer.kind for layer in summary.layers] == [
        *("Convolution", "QActivation", "QConvolution", "QActivation", "QFullyConnected")
    ]
    traced = bmx.summary(net._cached_graph[1], (3, 9, 9))
    assert [layer.input_bits for layer in traced.layers] == [32, 1, 1]
    assert (traced.memory, traced.macs) == (summary.memory, summary.macs)


def test_files_of_parameters_are_those_of_the_layers(tmp_path):
    make = sequence(lambda: nn.activated_conv(8), nn.QActivation, lambda: nn.QDense(3))
    contents = []
    for fused in (True, False):
        with nn.path("operators", fused=fused):
            mx.random.seed(1)
            np.random.seed(1)
            net = make()
            net.initialize()
            net.hybridize()
            net(mx.nd.ones((1, 3, 9, 9)))
            net.save_parameters(str(tmp_path / "net.params"))
            contents.append((tmp_path / "net.params").read_bytes())
    assert contents[0] == contents[1]
    make().load_parameters(str(tmp_path / "net.params"))
