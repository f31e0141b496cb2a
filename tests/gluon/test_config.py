"""BinaryLayerConfig, set_binary_layer_config, and what the layers refuse."""

import mxnet as mx
import numpy as np
import pytest

from bmx import Error
from bmx.gluon import nn

DEFAULTS = {
    "grad_cancel": 1.0,
    "bits": 1,
    "bits_a": 1,
    "activation": "det_sign",
    "weight_quantization": "det_sign",
    "approximation": "",
    "grad_bit": 32,
    "grad_dtype": "",
}


@pytest.fixture(autouse=True)
def unchanged_configuration():
    assert nn.binary_layer_config.get_values() == DEFAULTS
    yield
    assert nn.binary_layer_config.get_values() == DEFAULTS


def test_layers_take_what_they_are_not_given_from_the_configuration():
    with nn.set_binary_layer_config(grad_cancel=0.3, bits=3, bits_a=2):
        activation, convolution, dense = nn.QActivation(), nn.QConv2D(2, 3), nn.QDense(2)
        given = nn.QActivation(bits=1, gradient_cancel_threshold=0.7, method="det_sign")
    assert repr(activation) == "QActivation(round, bits=2, gradient_cancel_threshold=0.3)"
    assert (convolution.bits, convolution.method, dense.bits) == (3, "dorefa", 3)
    assert repr(given) == "QActivation(det_sign, bits=1, gradient_cancel_threshold=0.7)"


def test_configuration_counts_when_a_layer_is_made():
    layer = nn.QActivation()
    with nn.set_binary_layer_config(bits_a=2):
        np.testing.assert_array_equal(layer(mx.nd.array([-0.3, 0.3])).asnumpy(), [-1, 1])


def test_configurations_nest():
    with nn.set_binary_layer_config(bits=2):
        with nn.set_binary_layer_config(bits_a=4, bits=None):
            assert (nn.binary_layer_config.bits, nn.binary_layer_config.bits_a) == (2, 4)
            with nn.set_binary_layer_config(bits=1):
                assert (nn.binary_layer_config.bits, nn.binary_layer_config.weight_quantization) == (1, "det_sign")
            assert nn.binary_layer_config.weight_quantization == "dorefa"
        assert (nn.binary_layer_config.bits, nn.binary_layer_config.bits_a) == (2, 1)


def test_one_context_can_be_entered_again():
    context = nn.set_binary_layer_config(bits=2)
    with context, context:
        assert nn.binary_layer_config.bits == 2
    with context:
        assert nn.binary_layer_config.bits == 2


def test_configuration_comes_back_after_an_exception():
    with pytest.raises(ZeroDivisionError), nn.set_binary_layer_config(bits=2, approximation="xnor"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "values, expected",
    [
        ({"bits_a": 32}, {"activation": "relu"}),
        ({"bits_a": 32, "activation": "det_sign"}, {"activation": "relu"}),  # BMXNet v2's scripts pass such defaults on
        ({"bits_a": 32, "activation": "clip"}, {"activation": "clip"}),
        ({"bits_a": 2, "activation": "det_sign"}, {"activation": "round"}),
        ({"bits_a": 1, "activation": "sign_approx_sign"}, {"activation": "sign_approx_sign"}),
        ({"bits": 7}, {"weight_quantization": "dorefa"}),
        ({"bits": 32, "weight_quantization": "det_sign"}, {"weight_quantization": "identity"}),
        ({"activation": "swish_sign"}, {"activation": "swish_sign"}),
        ({"weight_quantization": "swish_sign"}, {"weight_quantization": "swish_sign"}),
        ({"bits": 2, "weight_quantization": "twn"}, {"weight_quantization": "twn"}),
    ],
)
def test_methods_follow_the_bits(values, expected):
    with nn.set_binary_layer_config(**values):
        assert nn.binary_layer_config.get_values() == dict(DEFAULTS, **dict(values, **expected))


def test_ternary_weights_give_way_to_other_bits_inside():
    with nn.set_binary_layer_config(bits=2, weight_quantization="twn"), nn.set_binary_layer_config(bits=32):
        assert nn.QConv2D(2, 3).method == "identity"


@pytest.mark.parametrize(
    "approximation, block",
    [("", nn.BinaryConvolution), ("binet", nn.ScaledWeightsBinaryConv), ("xnor", nn.ScaledBinaryConv)],
)
def test_activated_conv_follows_the_approximation(approximation, block):
    with nn.set_binary_layer_config(approximation=approximation):
        assert type(nn.activated_conv(3)) is block
    assert type(nn.activated_conv(3)) is nn.BinaryConvolution


def test_quantization_functions():
    x = mx.nd.array([-0.4, 0.4])
    config = nn.BinaryLayerConfig()
    np.testing.assert_array_equal(config.get_activation_function()(mx.nd, x).asnumpy(), [-1, 1])
    np.testing.assert_array_equal(config.get_activation_function(bits=1, method="round")(mx.nd, x).asnumpy(), [0, 0])
    np.testing.assert_allclose(config.get_weight_quantization_function(bits=2)(mx.nd, x).asnumpy(), [-1, 1])


def test_configuration_prints_its_values():
    assert repr(nn.BinaryLayerConfig(bits=2)) == (
        "BinaryLayerConfig(grad_cancel=1.0, bits=2, bits_a=1, activation='det_sign', "
        "weight_quantization='dorefa', approximation='', grad_bit=32, grad_dtype='')"
    )


@pytest.mark.parametrize(
    "values, message",
    [
        ({"bit": 2}, "no 'bit'; it has grad_cancel, bits"),
        ({"bits": 0}, "bits=0: .* 1 to 32"),
        ({"bits_a": 33}, "bits=33"),
        ({"grad_cancel": -1}, "grad_cancel=-1.* at least 0"),
        ({"grad_cancel": float("nan")}, "grad_cancel=nan"),
        ({"grad_cancel": "1"}, "grad_cancel='1'"),
        ({"activation": "signum"}, "activation='signum'.*det_sign"),
        ({"weight_quantization": "signum"}, "weight_quantization='signum'"),
        ({"bits": 1, "weight_quantization": "twn"}, "weight_quantization='twn' with bits=1: .* bits=2"),
        ({"grad_bit": 0}, "bits=0"),
        ({"grad_dtype": "float16"}, "grad_dtype='float16': allowed are '', 'float32', 'float32x2', 'bfloat16'"),
        ({"approximation": "xor"}, "approximation='xor'.*'binet', 'xnor'"),
    ],
)
def test_impossible_configurations(values, message):
    with pytest.raises(Error, match=message):
        nn.binary_layer_config.set_values(**{"bits": 2, **values})  # nothing of it is kept
    with pytest.raises(Error, match=message), nn.set_binary_layer_config(**values):
        pass
    with pytest.raises((Error, TypeError)):
        nn.BinaryLayerConfig(**values)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: nn.QActivation(bits=0), "bits=0"),
        (lambda: nn.QActivation(bits=2, method="det_sign"), "'det_sign' for activations of 2 bits; there are round"),
        (lambda: nn.QActivation(method="tanh"), "'tanh' for activations of 1 bits; there are det_sign"),
        (lambda: nn.QActivation(gradient_cancel_threshold=-0.1), "gradient_cancel_threshold=-0.1"),
        (lambda: nn.QDense(3, bits=40), "bits=40"),
        (lambda: nn.QDense(3, bits_a=0), "bits=0"),
        (lambda: nn.QDense(3, use_bias=True), "use_bias=True: a binary layer has no bias"),
        (lambda: nn.QDense(3, activation="relu"), "activation='relu': a binary layer has no activation"),
        (lambda: nn.QConv2D(3, 3, use_bias=True), "use_bias=True"),
        (lambda: nn.QConv1D(3, 3, activation="tanh"), "activation='tanh'"),
        (lambda: nn.QConv2D(3, 3, bits=2, quantization="det_sign"), "'det_sign' for weights of 2 bits; .* dorefa"),
        (lambda: nn.QConv2D(3, 3, quantization="twn"), "'twn' for weights of 1 bits; there are det_sign"),
        (lambda: nn.QConv2D(3, 3, bits=3, quantization="twn"), "'twn' for weights of 3 bits; there are dorefa"),
        (lambda: nn.QConv2D(3, 3, apply_scaling="filter"), "apply_scaling='filter': .*'layer' and 'learned'"),
        (lambda: nn.QDense(3, apply_scaling=2), "apply_scaling=2"),
        (lambda: nn.QConv2D(3, 3, pad_value=1), "pad_value=1: allowed are -1.0 and 0.0"),
        (lambda: nn.QConv2D(3, 3, layout="NHWC"), "layout='NHWC': QConv2D works on NCHW"),
        (lambda: nn.QConv1D(3, 3, layout="NCHW"), "layout='NCHW': QConv1D works on NCW"),
        (lambda: nn.QConv2D(3, (3, 3, 3)), r"kernel_size=\(3, 3, 3\): allowed is an integer of at least 1, or 2 of"),
        (lambda: nn.QConv2D(3, 2.5), "kernel_size=2.5: allowed is an integer of at least 1, or 2 of them"),
        (lambda: nn.QConv1D(3, 0), "kernel_size=0"),
        (lambda: nn.QConv2D(3, 3, strides=(1,)), "strides="),
        (lambda: nn.QConv2D(3, 3, padding=-1), "padding=-1: .* at least 0"),
        (lambda: nn.QConv3D(3, 3, dilation=0), "dilation=0"),
        (lambda: nn.QConv2D(0, 3), "channels=0"),
        (lambda: nn.QConv2D(4, 3, groups=3), "groups=3: must divide in_channels=0 and channels=4"),
        (lambda: nn.QConv2D(4, 3, groups=2, in_channels=3), "groups=2: must divide in_channels=3"),
        (lambda: nn.QDense(-1), "units=-1: allowed is an integer of at least 1$"),
        (lambda: nn.QConv2D(3, 3, grad_dtype="half"), "grad_dtype='half': allowed are"),
        (lambda: nn.ScaledBinaryConv(3, dilation=2), r"dilation=\(2, 2\)"),
        (lambda: nn.BinaryConvolution(3, clip_threshold=-1), "-1"),
    ],
)
def test_impossible_layers(make, message):
    with pytest.raises(Error, match=message):
        make()
