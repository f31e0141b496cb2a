"""Layers with ReCU's weights and learned scales: what they compute, train, export, compile and convert to."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx import quantization
from bmx.gluon import nn
from bmx.training import RisingTau


def network(**options):
    net = nn.HybridSequential()
    with nn.set_binary_layer_config(weight_quantization="recu", approximation="learned"):
        net.add(
            nn.Conv2D(32, 3, padding=1),
            nn.BatchNorm(),
            nn.activated_conv(32, 3, padding=1, **options),
            nn.BatchNorm(),
            nn.QActivation(),
            nn.QDense(4, apply_scaling="learned"),
        )
    net.initialize(mx.init.Normal(0.5))
    return net


@pytest.fixture
def images():
    return mx.nd.random.normal(shape=(4, 3, 6, 6))


def test_the_sign_is_taken_at_the_mean_of_a_filter_and_outputs_are_scaled():
    layer = nn.QConv2D(5, 3, in_channels=2, quantization="recu", apply_scaling="learned")
    layer.initialize(mx.init.Normal(1))
    layer.scale.set_data(mx.nd.array([1, 2, -0.5, 0, 3]))
    x = mx.nd.sign(mx.nd.random.normal(shape=(2, 2, 5, 5)))
    w = layer.weight.data().asnumpy()
    signs = np.where(w < w.mean(axis=(1, 2, 3), keepdims=True), -1, 1)
    products = mx.nd.Convolution(x, mx.nd.array(signs), kernel=(3, 3), num_filter=5, no_bias=True).asnumpy()
    np.testing.assert_array_equal(layer(x).asnumpy(), products * np.array([1, 2, -0.5, 0, 3]).reshape(1, 5, 1, 1))


def gradients(layer, x):
    with mx.autograd.record():
        loss = (layer(x) * mx.nd.arange(5).reshape((1, 5, 1, 1))).sum()
    loss.backward()
    return layer.weight.grad().asnumpy(), layer.scale.grad().asnumpy()


@pytest.mark.parametrize("hybridize", [False, True])
def test_gradients_are_those_of_the_composition(hybridize):
    x = mx.nd.sign(mx.nd.random.normal(shape=(2, 2, 5, 5)))
    layer = nn.QConv2D(5, 3, in_channels=2, quantization="recu", apply_scaling="learned")
    layer.initialize(mx.init.Normal(1))
    layer.tau.set_data(mx.nd.array([0.7]))
    with nn.path("composed"):
        expected = gradients(layer, x)
    if hybridize:
        layer.hybridize()
    for got, wanted in zip(gradients(layer, x), expected):
        assert np.abs(wanted).sum() > 0
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_hybridized_network_learns_its_shapes_at_the_first_call(images):
    net = network()
    net.hybridize()
    expected = net(images).asnumpy()
    net.hybridize(False)
    np.testing.assert_allclose(net(images).asnumpy(), expected, rtol=1e-5)
    assert net[2].qconv.weight.shape == (32, 32, 3, 3)


def test_export_compile_and_convert(images, tmp_path):
    net = network()
    net.hybridize()
    expected = net(images).asnumpy()
    prefix = str(tmp_path / "net")
    net.export(prefix)
    imported = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    np.testing.assert_allclose(imported(images).asnumpy(), expected, rtol=1e-5)
    compiled = bmx.compile(net, images)
    np.testing.assert_allclose(compiled(images).asnumpy(), expected, rtol=1e-4, atol=1e-4)
    bmx.convert_checkpoint(f"{prefix}-0000.params")
    text = (tmp_path / "binarized_net-symbol.json").read_text()
    assert "ReCU" not in text and "bmx_Scale" not in text
    packed = [node for node in json.loads(text)["nodes"] if "binarized_weights_only" in node.get("attrs", {})]
    assert len(packed) == 2
    arrays = mx.nd.load(str(tmp_path / "binarized_net-0000.params"))
    assert not [name for name in arrays if name.endswith("tau")]
    assert sorted(a.size for name, a in arrays.items() if name.endswith("_signs")) == [
        4 * 18,
        32 * 5,
    ]  # words of 64 bits
    symbol, arguments, auxiliary = bmx.load_checkpoint(str(tmp_path / "binarized_net"), 0)
    out = symbol.bind(mx.cpu(), {"data": images, **arguments}, aux_states=auxiliary).forward()[0]
    np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-4, atol=1e-4)


def test_tau_rises_by_the_same_factor_from_epoch_to_epoch():
    net = network()
    rising = RisingTau(net, epochs=3, first=0.6, last=0.96)
    seen = [net[2].qconv.tau.data().asscalar()]
    for epoch in (1, 2, 3):
        rising([{"epoch": epoch}])
        seen.append(net[5].tau.data().asscalar())
    np.testing.assert_allclose(seen, [0.6, (0.6 * 0.96) ** 0.5, 0.96, 0.96], rtol=1e-6)
    with pytest.raises(bmx.Error, match="first tau is 0.5; allowed: more than 0.5 and less than 1"):
        RisingTau(net, 3, 0.5)
    with pytest.raises(bmx.Error, match="no layer with quantization='recu'"):
        RisingTau(nn.QDense(2, in_units=2), 3)


def test_flips_are_counted_where_the_layer_takes_them():
    with nn.set_binary_layer_config(weight_quantization="recu"):
        layer = nn.QDense(2, in_units=2)
    layer.initialize(mx.init.Zero())
    layer.weight.set_data(mx.nd.array([[1, 2], [3, 5]]))
    flips = bmx.optimizer.FlipRatio(layer)
    layer.weight.set_data(mx.nd.array([[2, 1], [30, 50]]))
    assert flips().total == 0.5


def test_the_quantizer_of_the_configuration_is_the_function():
    function = nn.BinaryLayerConfig(weight_quantization="recu").get_weight_quantization_function()
    assert function is quantization.recu
