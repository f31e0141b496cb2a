"""The layers in files of BMXNet v2's converter, against xnor and popcount by definition, with words of every type."""

import mxnet as mx
import numpy as np
import oracle
import pytest

from bmx import Error


def normal(*shape):
    return np.random.standard_normal(shape).astype(np.float32)


def bits(x):
    return ~(x < 0)


def convolution(data, weight, stride=(1, 1), dilate=(1, 1), pad=(0, 0)):
    """Equal bits under each window; the padding counts as 1."""
    padded = np.pad(bits(data), [(0, 0), (0, 0), *((p, p) for p in pad)], constant_values=True)
    reach = [d * (k - 1) + 1 for d, k in zip(dilate, weight.shape[2:])]
    size = [(n - r) // s + 1 for n, r, s in zip(padded.shape[2:], reach, stride)]
    out = np.zeros((len(data), len(weight), *size), np.float32)
    for y in range(size[0]):
        for x in range(size[1]):
            top, left = y * stride[0], x * stride[1]
            window = padded[:, :, top : top + reach[0] : dilate[0], left : left + reach[1] : dilate[1]]
            out[:, :, y, x] = (window[:, None] == bits(weight)[None]).sum(axis=(2, 3, 4))
    return out


def dense(data, weight):
    return (bits(data.reshape(len(data), -1))[:, None] == bits(weight)[None]).sum(axis=2).astype(np.float32)


def as_words(packed, kind):
    """Packed 32- or 64-bit words as an array of some type."""
    if kind == "numbers":
        return mx.nd.array(packed.view(np.uint32).astype(np.float64), dtype="float64")
    return mx.nd.array(packed.view(kind), dtype=kind)


WORDS = [(32, "float32"), (32, "int32"), (32, "numbers"), (64, "float64"), (64, "int64")]


@pytest.mark.parametrize("word_bits, kind", WORDS)
class TestWords:
    @pytest.mark.parametrize("channels", [32, 64, 96])
    @pytest.mark.parametrize("kernel", [(1, 1), (3, 2)])
    def test_of_a_convolution(self, word_bits, kind, channels, kernel):
        data, weight = normal(2, channels, 5, 6), normal(5, channels, *kernel)
        words = as_words(oracle.pack_convolution(weight, word_bits), kind)
        for array in (words, words.reshape(-1)):
            out = mx.nd.BinaryInferenceConvolution(mx.nd.array(data), array, kernel=kernel, num_filter=5)
            np.testing.assert_array_equal(out.asnumpy(), convolution(data, weight))

    @pytest.mark.parametrize("inputs", [7, 32, 33, 64, 1024])
    def test_of_a_dense_layer(self, word_bits, kind, inputs):
        data, weight = normal(3, inputs), normal(6, inputs)
        words = as_words(oracle.pack_fully_connected(weight, word_bits), kind)
        for array in (words, words.reshape(-1)):
            out = mx.nd.BinaryInferenceFullyConnected(mx.nd.array(data), array, num_hidden=6)
            np.testing.assert_array_equal(out.asnumpy(), dense(data, weight))

    def test_of_packed_qlayers(self, word_bits, kind):
        data, weight = normal(2, 64, 4, 4), normal(3, 64, 3, 3)
        words = as_words(oracle.pack_convolution(weight, word_bits), kind)
        options = {"kernel": (3, 3), "num_filter": 3, "binarized_weights_only": True}
        out = mx.nd.QConvolution(mx.nd.array(data), words, **options)
        np.testing.assert_array_equal(out.asnumpy(), convolution(data, weight))


@pytest.mark.parametrize(
    "geometry",
    [{"stride": (2, 1)}, {"pad": (1, 2)}, {"dilate": (2, 2), "pad": (1, 0)}, {"stride": (2, 3), "pad": (2, 1)}],
)
def test_geometry(geometry):
    data, weight = normal(2, 32, 7, 8), normal(4, 32, 3, 3)
    words = mx.nd.array(oracle.pack_convolution(weight), dtype="float32")
    out = mx.nd.BinaryInferenceConvolution(mx.nd.array(data), words, kernel=(3, 3), num_filter=4, **geometry)
    np.testing.assert_array_equal(out.asnumpy(), convolution(data, weight, **geometry))


def test_signs_of_zeros_and_nans_are_plus():
    data = mx.nd.array([[-0.0, 0.0, np.nan, -np.inf]])
    words = mx.nd.array(oracle.pack_fully_connected(np.ones((1, 4), np.float32)))
    assert mx.nd.BinaryInferenceFullyConnected(data, words, num_hidden=1).asscalar() == 3


def test_a_bias_is_added():
    data, weight, bias = normal(2, 32), normal(3, 32), normal(3)
    words = mx.nd.array(oracle.pack_fully_connected(weight))
    out = mx.nd.BinaryInferenceFullyConnected(mx.nd.array(data), words, mx.nd.array(bias), num_hidden=3, no_bias=False)
    np.testing.assert_array_equal(out.asnumpy(), dense(data, weight) + bias)


def test_gradient_of_the_data_is_that_of_the_layer_before_its_conversion():
    data, weight = mx.nd.array(normal(2, 32)), normal(3, 32)
    data.attach_grad()
    words = mx.nd.array(oracle.pack_fully_connected(weight))
    with mx.autograd.record():
        out = mx.nd.BinaryInferenceFullyConnected(data, words, num_hidden=3)
    out.backward()
    np.testing.assert_allclose(data.grad.asnumpy(), np.tile(oracle.sign(weight).sum(0) / 2, (2, 1)), rtol=1e-6)


@pytest.mark.overruns_in_mxnet  # the number of dimensions of packed words is not known before the data are
def test_variables_have_the_names_and_shapes_of_v2():
    with mx.name.NameManager():
        symbol = mx.sym.BinaryInferenceConvolution(mx.sym.var("data"), kernel=(3, 3), num_filter=8)
        symbol = mx.sym.BinaryInferenceFullyConnected(symbol, num_hidden=5)
    assert symbol.list_arguments() == [
        "data",
        "binaryinferenceconvolution0_weight",
        "binaryinferencefullyconnected0_weight",
    ]
    shapes, outputs, _ = symbol.infer_shape(data=(2, 64, 6, 6))
    assert shapes[1:] == [(8, 2, 3, 3), (5, 4)]
    assert outputs == [(2, 5)]


class TestErrors:
    def test_number_of_words(self):
        with pytest.raises(Error, match="it must have 16 words of 32 bits or 8 of 64"):
            mx.nd.BinaryInferenceFullyConnected(mx.nd.zeros((1, 128)), mx.nd.zeros((4, 3)), num_hidden=4)

    def test_numbers_that_are_no_words(self):
        words = mx.nd.array([[0.5, 1, 2, 3]], dtype="float64")
        with pytest.raises(mx.base.MXNetError, match="weight has 4 words of 64 bits; it must have 2"):
            mx.nd.BinaryInferenceFullyConnected(mx.nd.zeros((1, 128)), words, num_hidden=1).wait_to_read()

    def test_type_of_words(self):
        words = mx.nd.zeros((1, 4), dtype="float16")
        with pytest.raises(Error, match="weight must be packed words in float32, float64, int32 or int64"):
            mx.nd.BinaryInferenceFullyConnected(mx.nd.zeros((1, 128)), words, num_hidden=1)

    def test_attributes_of_other_layers(self):
        with pytest.raises(Error, match="no attribute is called 'act_bit'; there are: num_hidden, no_bias, flatten"):
            mx.nd.BinaryInferenceFullyConnected(mx.nd.zeros((1, 32)), mx.nd.zeros((1, 1)), num_hidden=1, act_bit=2)


def test_an_activation_does_not_take_an_unknown_size_for_a_known_one():
    weight = mx.sym.QActivation(mx.sym.var("w", shape=(16, 0, 3, 3)))
    out = mx.sym.Convolution(mx.sym.var("data"), weight, kernel=(3, 3), num_filter=16, no_bias=True)
    with pytest.raises(mx.base.MXNetError, match="the shape of data is not known"):
        out.infer_shape(data=(1, 2, 5, 5))


@pytest.mark.overruns_in_mxnet
def test_words_stay_as_they_are_where_the_rest_is_trained():
    weight = normal(8, 32)
    net = mx.sym.FullyConnected(mx.sym.var("data"), num_hidden=32, name="first")
    net = mx.sym.BinaryInferenceFullyConnected(net, num_hidden=8, name="packed")
    net = mx.sym.SoftmaxOutput(mx.sym.FullyConnected(net, num_hidden=2, name="last"), name="softmax")
    words = oracle.pack_fully_connected(weight)
    module = mx.mod.Module(net)
    module.fit(
        mx.io.NDArrayIter(normal(8, 5), np.zeros(8, np.float32), 4),
        num_epoch=2,
        optimizer_params={"learning_rate": 0.1, "wd": 0.1},
        arg_params={"packed_weight": mx.nd.array(words.view(np.int32), dtype="int32")},
        allow_missing=True,
    )
    assert module.get_params()[0]["packed_weight"].asnumpy().tobytes() == words.tobytes()
    with pytest.raises(Error, match="weight holds packed bits, which cannot be trained"), mx.autograd.record():
        packed = mx.nd.array(words)
        packed.attach_grad()
        mx.nd.BinaryInferenceFullyConnected(mx.nd.ones((1, 32)), packed, num_hidden=8)
