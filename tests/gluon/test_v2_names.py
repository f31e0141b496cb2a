"""Where BMXNet v2's scripts look for things: packages, names, parameters."""

import importlib
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

import bmx.gluon
from bmx import Error
from bmx.gluon import nn

MODULES = sorted(name[len("mxnet.gluon.") :] for name in sys.modules if name.startswith("mxnet.gluon."))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("nn")])
def test_bmx_gluon_has_the_modules_of_mxnet_gluon(name):
    module = importlib.import_module(f"bmx.gluon.{name}")
    assert module is sys.modules[f"mxnet.gluon.{name}"]
    if "." not in name:
        assert getattr(bmx.gluon, name) is module


def test_bmx_gluon_nn_has_the_modules_of_mxnet_gluon_nn_beside_its_own():
    from bmx.gluon.nn.basic_layers import Dense

    from bmx.gluon.nn.binary_layers import QDense

    assert Dense is gluon.nn.Dense
    assert QDense is nn.QDense
    assert bmx.gluon.nn is nn


def test_mxnet_gluon_nn_has_the_layers():
    assert {name for name in dir(gluon.nn) if getattr(nn, name, None) is getattr(gluon.nn, name)} >= set(nn.NAMES_OF_V2)
    from mxnet.gluon.nn import QConv2D
    from mxnet.gluon.nn.binary_layers import set_binary_layer_config

    assert QConv2D is nn.QConv2D
    assert set_binary_layer_config is nn.set_binary_layer_config
    assert all(getattr(gluon.nn.binary_layers, name) is getattr(nn, name) for name in nn.NAMES_OF_V2)


def test_mxnet_gluon_nn_keeps_its_own_layers():
    for name in ("BatchNorm", "HybridSequential", "Dense"):
        assert getattr(gluon.nn, name).__module__.startswith("mxnet.")


def test_a_network_of_mxnet_gluon_with_binary_layers_trains():
    net = gluon.nn.HybridSequential()
    with gluon.nn.set_binary_layer_config(grad_cancel=1.3):
        net.add(gluon.nn.activated_conv(8, padding=1, in_channels=3), gluon.nn.BatchNorm(), gluon.nn.Flatten())
        net.add(gluon.nn.QActivation(), gluon.nn.QDense(4))
    net.initialize()
    trainer = gluon.Trainer(net.collect_params(), "adam")
    with mx.autograd.record():
        loss = gluon.loss.L2Loss()(net(mx.nd.random.normal(shape=(2, 3, 5, 5))), mx.nd.ones((2, 4)))
    loss.backward()
    before = net[0].qconv.weight.data().copy()
    trainer.step(2)
    assert (net[0].qconv.weight.data() != before).sum() > 0


class TestLayers:
    def test_the_padding_is_the_layers_own(self):
        layer = nn.QConv2D(4, 3, padding=(1, 2), in_channels=2)
        layer.initialize()
        assert layer._kwargs["pad"] == (0, 0)
        assert layer._pre_padding == (1, 2)
        assert "stride=(1, 1), padding=(1, 2)" in repr(layer)
        data = mx.nd.array(np.sign(np.random.uniform(-1, 1, (1, 2, 5, 5))))
        padded = mx.nd.pad(data, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 2, 2), constant_value=-1)
        direct = mx.nd.Convolution(padded, layer.weight.data().det_sign(), **layer._kwargs)
        np.testing.assert_array_equal(layer(data).asnumpy(), (direct.asnumpy() + 18) / 2)

    @pytest.mark.parametrize("bits, expected", [(1, [-1, 1, 1]), (32, [-0.5, 0, 2])])
    def test_quantize_is_the_function_of_the_weights(self, bits, expected):
        for layer in (nn.QConv2D(1, 1, bits=bits), nn.QDense(1, bits=bits)):
            np.testing.assert_array_equal(layer.quantize(mx.nd, mx.nd.array([-0.5, 0, 2])).asnumpy(), expected)

    @pytest.mark.parametrize(
        "bits, method, expected", [(1, None, [-1, 1, 1]), (2, None, [0, 0, 1]), (1, "round", [0, 0, 1])]
    )
    def test_quantize_of_an_activation(self, bits, method, expected):
        layer = nn.QActivation(bits=bits, method=method)
        np.testing.assert_array_equal(layer.quantize(mx.nd, mx.nd.array([-0.5, 0, 2])).asnumpy(), expected)

    def test_a_dense_layer_takes_the_parameters_of_gluon_by_position(self):
        layer = nn.QDense(10, None, False, False, "float32", "zeros", "zeros", 7)
        assert layer.weight.shape == (10, 7)
        assert not layer._flatten
        with pytest.raises(Error, match="use_bias=True"):
            nn.QDense(10, None, True)
        with pytest.raises(Error, match="activation='relu'"):
            nn.QDense(10, "relu")


class TestConfig:
    def test_methods_fit_the_bits_if_that_is_assured(self):
        config = nn.BinaryLayerConfig()
        config.set_values(assure_consistency=True, bits=2)
        assert config.weight_quantization == "dorefa"
        config = nn.BinaryLayerConfig()
        config.set_values(False, bits=2)
        assert config.weight_quantization == "det_sign"

    def test_the_context_manager_takes_it_too(self):
        with nn.set_binary_layer_config(bits_a=4, assure_consistency=False):
            assert nn.binary_layer_config.activation == "det_sign"
            assert nn.QActivation().method == "round"
        assert nn.binary_layer_config.get_values() == nn.BinaryLayerConfig().get_values()

    @pytest.mark.parametrize(
        "bits, method, expected",
        [
            (1, "det_sign", [-1, -1, 1, 1]),
            (None, "sign_approx_sign", [-1, -1, 1, 1]),
            (1, "round", [0, 0, 1, 1]),
            (2, "dorefa", [-1, -1 / 3, 1 / 3, 1]),
            (None, "clip", [-1, -0.5, 0.5, 1]),
            (None, "relu", [0, 0, 0.5, 3]),
            (None, "leaky_clip", [-0.3, -0.5, 0.5, 0.3]),
            (None, "approx_sign", [-1, -0.75, 0.75, 1]),
            (32, "identity", [-3, -0.5, 0.5, 3]),
        ],
    )
    def test_a_function_for_each_method(self, bits, method, expected):
        function = nn.binary_layer_config.get_quantization_function(bits=bits, method=method)
        x = mx.nd.array([-3, -0.5, 0.5, 3])
        np.testing.assert_allclose(function(mx.nd, x).asnumpy(), expected, rtol=1e-5)

    def test_what_a_function_needs(self):
        config = nn.BinaryLayerConfig()
        with pytest.raises(Error, match="method='sing': there is no such method"):
            config.get_quantization_function(bits=1, method="sing")
        with pytest.raises(Error, match="bits=None: a bit width is an integer"):
            config.get_quantization_function(method="round")


class TestVisualization:
    @staticmethod
    def symbol():
        net = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, no_bias=True)
        return mx.sym.QConvolution(net, kernel=(3, 3), num_filter=4)

    def test_the_summary_counts_quantized_weights(self, capsys):
        mx.viz.print_summary(self.symbol(), shape={"data": (1, 2, 8, 8)}, quantized_bitwidth=1)
        lines = capsys.readouterr().out.splitlines()
        assert "FP params: 72 (33.33 %)" in lines
        assert "Quantized params: 144 (66.67 %)" in lines

    def test_the_summary_of_mxnet_stays(self, capsys):
        mx.viz.print_summary(self.symbol(), shape={"data": (1, 2, 8, 8)})
        assert "FP params" not in capsys.readouterr().out

    def test_a_plot_takes_the_argument_of_v2(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "graphviz", None)
        with pytest.raises(ImportError, match="graphviz"):  # only now, with all its arguments taken
            mx.viz.plot_network(self.symbol(), consolidate_binary_layers=True)
