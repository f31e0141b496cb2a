"""The operators on the CPU against their NumPy definition: 1-bit results are equal, others within float rounding."""

import mxnet as mx
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmx  # noqa: F401  (registers the operators)

SPECIAL = np.float32([0.0, -0.0, np.nan, np.inf, -np.inf, 0.5, -0.5, 1e-45, -1e-45])


def values(seed, shape, special=True):
    """Floats about 0, some of them from SPECIAL."""
    random = np.random.RandomState(seed)
    x = random.uniform(-1.5, 1.5, shape).astype(np.float32)
    if special:
        x = np.where(random.uniform(size=shape) < 0.1, random.choice(SPECIAL, shape), x)
    return x.astype(np.float32)


def run(operator, data, weight, bias, grad=None, **attributes):
    """Output of the operator and, for a gradient of the output, the gradients of its inputs."""
    arrays = [mx.nd.array(a, dtype=a.dtype) for a in (data, weight, bias) if a is not None]
    packed = attributes.get("binarized_weights_only", False)  # such weights have no gradient
    for number, a in enumerate(arrays):
        if not (packed and number == 1):
            a.attach_grad()
    with mx.autograd.record():
        out = operator(*arrays, no_bias=bias is None, **attributes)
    if grad is None:
        return out.asnumpy(), None
    out.backward(mx.nd.array(grad))
    return out.asnumpy(), [None if a.grad is None else a.grad.asnumpy() for a in arrays]


def check(operator, define, define_backward, data, weight, bias, **attributes):
    expected = define(data, weight, bias, **attributes)
    grad = values(99, expected.shape, special=False)
    out, grads = run(operator, data, weight, bias, grad, **attributes)
    # tanh of DoReFa's weights differs in its last bit between libraries, which now and then moves a weight that lies
    # between two levels by one of them.
    bits = attributes.get("weight_bit", 1)
    tolerance = {"rtol": 1e-4, "atol": 1e-4 + (4 / (2**bits - 1) if 10 <= bits < 32 else 0)}
    exact = attributes.get("act_bit", 1) == attributes.get("weight_bit", 1) == 1 and bias is None
    exact = exact and not (attributes.get("float_input") and (np.abs(data) != 1).any())
    if exact and attributes.get("scaling_mode", "none") != "forward":
        np.testing.assert_array_equal(out, expected)
    else:
        np.testing.assert_allclose(out, expected, **tolerance)
    for got, wanted in zip(grads, define_backward(grad, data, weight, bias, **attributes)):
        if wanted is not None:
            np.testing.assert_allclose(got, wanted, **tolerance)


def check_convolution(data, weight, bias=None, **attributes):
    check(mx.nd.QConvolution, oracle.qconvolution, oracle.qconvolution_backward, data, weight, bias, **attributes)


def check_fully_connected(data, weight, bias=None, **attributes):
    forward, backward = oracle.qfully_connected, oracle.qfully_connected_backward
    check(mx.nd.QFullyConnected, forward, backward, data, weight, bias, **attributes)


class TestQActivation:
    @pytest.mark.parametrize("act_bit", [1, 2, 3, 4, 5, 7, 8, 12, 16, 23, 24, 25, 31, 32])
    @pytest.mark.parametrize("backward_only", [False, True])
    def test_equals_its_definition(self, act_bit, backward_only):
        ties = np.float32([0.5, 1.5, 2.5, 3.5]) / (2**act_bit - 1)
        x = np.concatenate([values(act_bit, (3, 70)).ravel(), SPECIAL, ties])
        grad = values(1, x.shape, special=False)
        data = mx.nd.array(x)
        data.attach_grad()
        with mx.autograd.record():
            out = mx.nd.QActivation(data, act_bit=act_bit, backward_only=backward_only)
        out.backward(mx.nd.array(grad))
        attributes = {"act_bit": act_bit, "backward_only": backward_only}
        np.testing.assert_array_equal(out.asnumpy(), oracle.qactivation(x, **attributes))
        np.testing.assert_array_equal(data.grad.asnumpy(), oracle.qactivation_backward(grad, x, **attributes))

    @pytest.mark.parametrize("estimator", ["ste", "approx_sign", "swish_sign"])
    @pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0, 1e9, np.inf])
    def test_the_window_and_the_estimator_shape_the_gradient(self, estimator, threshold):
        x = values(3, (200,))
        if estimator != "ste":
            x[np.isinf(x) & np.isinf(threshold)] = 0  # the surrogates' slopes are about finite values
        grad = values(4, (200,), special=False)
        data = mx.nd.array(x)
        data.attach_grad()
        with mx.autograd.record():
            out = mx.nd.QActivation(data, gradient_cancel_threshold=threshold, estimator=estimator)
        out.backward(mx.nd.array(grad))
        expected = oracle.qactivation_backward(grad, x, gradient_cancel_threshold=threshold, estimator=estimator)
        np.testing.assert_allclose(data.grad.asnumpy(), expected, rtol=2e-5, atol=1e-6)

    @pytest.mark.parametrize("shape", [(1,), (2, 3), (2, 3, 4, 5), (300, 300)])
    def test_takes_any_shape(self, shape):
        x = values(5, shape)
        np.testing.assert_array_equal(mx.nd.QActivation(mx.nd.array(x)).asnumpy(), oracle.sign(x))


def some_signs(shape, others, seed=0):
    """-1 and +1, and in the last place a value that is neither, if asked for: one decides about all."""
    x = oracle.sign(values(seed, shape))
    if others:
        x.flat[-1] = others
    return x


class TestQConvolution:
    @pytest.mark.parametrize("channels", [1, 3, 31, 64, 65])
    @pytest.mark.parametrize("kernel", [1, 2, 3])
    @pytest.mark.parametrize("size", [1, 4, 9])
    def test_one_bit_on_a_grid(self, channels, kernel, size):
        data, weight = values(1, (2, channels, size, size)), values(2, (5, channels, kernel, kernel))
        for extra in (
            {},
            {"pad": (1, 1)},
            {"pad": (1, 1), "pad_value": -1.0, "no_offset": True},
            {"pad": (1, 1), "stride": (2, 3), "true_gradient": True},
            {"pad": (1, 1), "gradient_cancel_threshold": 0.5, "estimator": "approx_sign"},
        ):
            if size + 2 * extra.get("pad", (0, 0))[0] >= kernel:
                check_convolution(data, weight, kernel=(kernel, kernel), num_filter=5, **extra)

    @pytest.mark.parametrize("weight_bit", [1, 2, 3, 5, 8, 16, 31, 32])
    @pytest.mark.parametrize("act_bit", [1, 2, 3, 6, 8, 17, 32])
    def test_every_pair_of_bit_widths(self, act_bit, weight_bit):
        data, weight = values(3, (2, 6, 5, 5), special=False), values(4, (4, 3, 3, 3), special=False)
        check_convolution(
            data,
            weight,
            np.float32([1, -2, 3, 0.25]),
            kernel=(3, 3),
            num_filter=4,
            pad=(1, 0),
            num_group=2,
            act_bit=act_bit,
            weight_bit=weight_bit,
        )

    @pytest.mark.parametrize("bits", range(1, 33))
    def test_all_bit_widths_from_1_to_32(self, bits):
        data, weight = values(bits, (1, 2, 4, 4), special=False), values(bits + 1, (3, 2, 2, 2), special=False)
        check_convolution(data, weight, kernel=(2, 2), num_filter=3, act_bit=bits, weight_bit=bits)

    @pytest.mark.parametrize("mode", ["bb", "bf", "ff"])
    @pytest.mark.parametrize("scaling", ["none", "forward", "backward"])
    @pytest.mark.parametrize("bits", [(1, 1), (1, 4)])
    def test_scaling_and_gradient_modes(self, mode, scaling, bits):
        data, weight = values(5, (2, 7, 5, 6), special=False), values(6, (4, 7, 3, 3), special=False)
        check_convolution(
            data,
            weight,
            np.float32([1, 2, 3, 4]),
            kernel=(3, 3),
            num_filter=4,
            scaling_mode=scaling,
            gradient_update_mode=mode,
            act_bit=bits[0],
            weight_bit=bits[1],
        )

    def test_one_and_three_spatial_dimensions(self):
        check_convolution(values(7, (2, 5, 9)), values(8, (4, 5, 3)), kernel=(3,), num_filter=4, pad=(2,), stride=(2,))
        check_convolution(
            values(9, (1, 4, 3, 5, 6)),
            values(10, (6, 2, 2, 3, 3)),
            kernel=(2, 3, 3),
            num_filter=6,
            num_group=2,
            pad=(1, 0, 1),
            dilate=(1, 2, 1),
        )

    @pytest.mark.parametrize("channels", [1, 31, 64, 130])
    @pytest.mark.parametrize("others", [None, 0.0, 0.5, np.nextafter(np.float32(1), np.float32(2))])
    def test_float_input_takes_no_sign(self, channels, others):
        data, weight = some_signs((2, channels, 4, 5), others), values(2, (8, channels, 3, 3))
        bias = np.float32(range(8))
        for extra in (
            {"true_gradient": True},
            {"pad": (1, 1), "pad_value": -1.0, "true_gradient": True},
            {"pad": (1, 1), "stride": (2, 1), "no_offset": True},  # padded with +1
            {"pad": (1, 1), "bias": bias, "pad_value": -1.0, "gradient_update_mode": "bf"},
        ):
            check_convolution(data, weight, kernel=(3, 3), num_filter=8, float_input=True, **extra)
        scaled = {"scaling_mode": "forward", "bias": bias}
        check_convolution(data, values(3, weight.shape, False), kernel=(3, 3), num_filter=8, float_input=True, **scaled)

    @pytest.mark.parametrize("special", [np.nan, np.inf])
    def test_float_input_lets_special_numbers_through(self, special):
        data, weight = some_signs((1, 2, 3, 3), special), oracle.sign(values(2, (3, 2, 2, 2)))
        out, _ = run(mx.nd.QConvolution, data, weight, None, kernel=(2, 2), num_filter=3, float_input=True)
        np.testing.assert_array_equal(
            out, oracle.qconvolution(data, weight, kernel=(2, 2), num_filter=3, float_input=True)
        )
        assert np.isfinite(out).sum() == 9

    @settings(max_examples=120, deadline=None)
    @given(st.data())
    def test_any_geometry(self, draw):
        integer = lambda low, high: draw.draw(st.integers(low, high))  # noqa: E731
        dims = integer(1, 3)
        groups = integer(1, 3)
        kernel = tuple(integer(1, 3) for _ in range(dims))
        dilate = tuple(integer(1, 2) for _ in range(dims))
        pad = tuple(integer(0, 2) for _ in range(dims))
        least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilate, pad)]
        channels, filters = integer(1, 40 if dims < 3 else 9), integer(1, 4)
        binary = draw.draw(st.booleans())
        attributes = {
            "kernel": kernel,
            "num_filter": groups * filters,
            "num_group": groups,
            "stride": tuple(integer(1, 4) for _ in range(dims)),
            "dilate": dilate,
            "pad": pad,
            "pad_value": draw.draw(st.sampled_from([0.0, -1.0])),
            "act_bit": 1 if binary else integer(1, 32),
            "weight_bit": 1 if binary else integer(1, 32),
            "no_offset": draw.draw(st.booleans()),
            "true_gradient": draw.draw(st.booleans()),
            "float_input": binary and draw.draw(st.booleans()),
        }
        if attributes["act_bit"] == 1 and not attributes["float_input"] and draw.draw(st.booleans()):
            attributes["gradient_cancel_threshold"] = draw.draw(st.sampled_from([0.0, 0.5, 1.0]))
            attributes["estimator"] = draw.draw(st.sampled_from(["ste", "approx_sign", "swish_sign"]))
        shape = (integer(1, 3), groups * channels, *[n + integer(0, 4) for n in least])
        data = values(integer(0, 999), shape, binary and not attributes["float_input"])
        if attributes["float_input"] and draw.draw(st.booleans()):
            data = oracle.sign(data)
        weight = values(integer(0, 999), (groups * filters, channels, *kernel), binary)
        bias = values(1, (groups * filters,), False) if draw.draw(st.booleans()) else None
        check_convolution(data, weight, bias, **attributes)

    @pytest.mark.parametrize("word_bits", [32, 64])
    @pytest.mark.parametrize("channels", [1, 5, 32, 48, 64, 128])
    @pytest.mark.parametrize("groups", [1, 2])
    def test_packed_words(self, word_bits, channels, groups):
        data, weight = values(11, (2, channels * groups, 5, 4)), values(12, (6, channels, 3, 2))
        packed = oracle.pack_convolution(weight, word_bits)
        attributes = {"kernel": (3, 2), "num_filter": 6, "pad": (1, 1), "num_group": groups}
        expected = oracle.qconvolution(data, weight, **attributes)
        for words in (packed, packed.ravel()):
            out, _ = run(mx.nd.QConvolution, data, words, None, binarized_weights_only=True, **attributes)
            np.testing.assert_array_equal(out, expected)
        attributes["float_input"] = True
        for x in (values(11, data.shape, special=False), oracle.sign(data)):
            expected = oracle.qconvolution(x, weight, **attributes)
            out, _ = run(mx.nd.QConvolution, x, packed, None, binarized_weights_only=True, **attributes)
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)

    def test_gradient_of_the_data_through_packed_words(self):
        data, weight = values(13, (2, 32, 4, 4)), values(14, (3, 32, 2, 2))
        bias = np.float32([1, 2, 3])
        packed = oracle.pack_convolution(weight, 32)
        attributes = {"kernel": (2, 2), "num_filter": 3, "binarized_weights_only": True}
        check_convolution(data, packed, bias, **attributes)
        check_convolution(values(13, data.shape, special=False), packed, bias, float_input=True, **attributes)

    def test_empty_batch(self):
        with mx.util.np_shape(True):
            data, weight = np.zeros((0, 3, 4, 4), np.float32), values(1, (2, 3, 3, 3))
            out, grads = run(
                mx.nd.QConvolution, data, weight, None, np.zeros((0, 2, 2, 2), np.float32), kernel=(3, 3), num_filter=2
            )
            assert out.shape == (0, 2, 2, 2)
            assert grads[0].shape == (0, 3, 4, 4)
            assert not grads[1].any()


class TestQFullyConnected:
    @pytest.mark.parametrize("inputs", [1, 5, 63, 64, 65, 200, 1024])
    @pytest.mark.parametrize("batch", [1, 7, 40])
    def test_one_bit_on_a_grid(self, inputs, batch):
        data, weight = values(1, (batch, inputs)), values(2, (33, inputs))
        window = {"gradient_cancel_threshold": 0.5, "estimator": "approx_sign"}
        for extra in ({}, {"no_offset": True}, {"true_gradient": True}, {"gradient_update_mode": "bf"}, window):
            check_fully_connected(data, weight, num_hidden=33, **extra)

    @pytest.mark.parametrize("bits", [(1, 1), (1, 2), (2, 1), (4, 4), (8, 32), (32, 1), (32, 32), (31, 31)])
    def test_bit_widths_and_bias(self, bits):
        act_bit, weight_bit = bits
        data, weight = values(3, (4, 3, 2, 2), special=False), values(4, (5, 12), special=False)
        bias = np.float32([1, 2, 3, 4, 5])
        for mode in ("bf", "ff"):
            check_fully_connected(
                data, weight, bias, num_hidden=5, act_bit=act_bit, weight_bit=weight_bit, gradient_update_mode=mode
            )

    def test_without_flattening_the_last_axis_is_the_inputs(self):
        check_fully_connected(values(5, (2, 3, 40)), values(6, (5, 40)), num_hidden=5, flatten=False)

    @pytest.mark.parametrize("inputs", [1, 5, 64, 200])
    @pytest.mark.parametrize("others", [None, 0.0, 0.5, 2.0])
    def test_float_input_takes_no_sign(self, inputs, others):
        data, weight = some_signs((7, inputs), others), values(2, (33, inputs))
        bias = np.float32(range(33))
        for extra in ({"true_gradient": True}, {"no_offset": True}, {"bias": bias, "gradient_update_mode": "bf"}):
            check_fully_connected(data, weight, num_hidden=33, float_input=True, **extra)

    @settings(max_examples=60, deadline=None)
    @given(st.integers(1, 20), st.integers(1, 300), st.integers(1, 70), st.integers(0, 999))
    def test_any_size(self, batch, inputs, units, seed):
        check_fully_connected(values(seed, (batch, inputs)), values(seed + 1, (units, inputs)), num_hidden=units)

    @pytest.mark.parametrize("word_bits", [32, 64])
    @pytest.mark.parametrize("inputs", [1, 32, 40, 64, 100, 1024])
    def test_packed_words(self, word_bits, inputs):
        data, weight = values(7, (3, inputs)), values(8, (9, inputs))
        packed = oracle.pack_fully_connected(weight, word_bits)
        expected = oracle.qfully_connected(data, weight, num_hidden=9)
        for words in (packed, packed.ravel()):
            out, _ = run(mx.nd.QFullyConnected, data, words, None, num_hidden=9, binarized_weights_only=True)
            np.testing.assert_array_equal(out, expected)
        attributes = {"num_hidden": 9, "float_input": True}
        for x in (values(7, data.shape, special=False), oracle.sign(data)):
            expected = oracle.qfully_connected(x, weight, **attributes)
            out, _ = run(mx.nd.QFullyConnected, x, packed, None, binarized_weights_only=True, **attributes)
            np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)


def test_packed_words_may_change_between_calls():
    data = values(1, (1, 64, 3, 3))
    attributes = {"num_filter": 2, "kernel": (3, 3), "binarized_weights_only": True}
    weight = mx.sym.Variable("q_weight", shape=(2, 2, 3, 3))
    symbol = mx.sym.QConvolution(mx.sym.Variable("data"), weight, name="q", **attributes)
    executor = symbol.simple_bind(mx.cpu(), data=data.shape, grad_req="null")
    for seed in range(3):
        weight = values(seed, (2, 64, 3, 3))
        executor.arg_dict["q_weight"][:] = mx.nd.array(oracle.pack_convolution(weight, 32))
        out = executor.forward(data=mx.nd.array(data))[0].asnumpy()
        np.testing.assert_array_equal(out, oracle.qconvolution(data, weight, kernel=(3, 3), num_filter=2))
