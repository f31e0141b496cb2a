"""The interchange layout against its definition, bit by bit."""

import math
import re

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmx
from bmx.checkpoints import interchange
from bmx.checkpoints.loading import to_ndarray

UINT = {32: np.uint32, 64: np.uint64}

convolution_shapes = st.builds(
    lambda filters, channels, kernel: (filters, channels, *kernel),
    st.integers(1, 5),
    st.sampled_from([1, 2, 3, 31, 32, 33, 63, 64, 65, 96, 128]),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
dense_shapes = st.tuples(st.integers(1, 6), st.sampled_from([1, 5, 31, 32, 33, 64, 65, 127, 128, 200]))
shapes = st.one_of(convolution_shapes, dense_shapes)
word_widths = st.sampled_from([32, 64])


def defined_words(weight, word_bits):
    """The words of a weight in file order, from the module's description: slow, one bit at a time."""
    rows = weight.reshape(len(weight), -1).tolist()
    per_row = -(-len(rows[0]) // word_bits)
    words = {}
    for o, row in enumerate(rows):
        for k, value in enumerate(row):
            i, b = divmod(k, word_bits)
            position = i * len(rows) + o if weight.ndim == 2 else o * per_row + i
            words[position] = words.get(position, 0) + (0 if value < 0 else 2**b)
    return [words[position] for position in range(len(rows) * per_row)]


def random_weight(shape, seed):
    rng = np.random.RandomState(seed)
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    weight = rng.uniform(-1, 1, shape).astype(np.float32)
    chosen = rng.uniform(size=shape) < 0.2
    weight[chosen] = rng.choice(special, np.count_nonzero(chosen))
    return weight


def as_integers(words):
    return words.view(UINT[interchange.word_bits_of(words)]).ravel().tolist()


@settings(max_examples=60, deadline=None)
@given(shapes, word_widths, st.integers(0, 2**31 - 1))
def test_pack_is_the_definition(shape, word_bits, seed):
    weight = random_weight(shape, seed)
    words = interchange.pack(weight, word_bits)
    assert as_integers(words) == defined_words(weight, word_bits)
    assert words.dtype == {32: np.float32, 64: np.float64}[word_bits]
    assert words.shape == interchange.packed_shape(shape, word_bits)


@settings(max_examples=60, deadline=None)
@given(shapes, word_widths, st.integers(0, 2**31 - 1))
def test_unpack_gives_the_signs(shape, word_bits, seed):
    weight = random_weight(shape, seed)
    expected = np.where(weight < 0, -1, 1)
    words = interchange.pack(weight, word_bits)
    for stored in (words, words.ravel(), words.view(UINT[word_bits])):
        binary = interchange.unpack(stored, shape)
        assert binary.dtype == np.float32
        np.testing.assert_array_equal(binary, expected)


@settings(max_examples=60, deadline=None)
@given(shapes, word_widths, word_widths, st.integers(0, 2**31 - 1))
def test_change_of_the_word_width(shape, old, new, seed):
    weight = random_weight(shape, seed)
    changed = interchange.change_word_bits(interchange.pack(weight, old), shape, new)
    expected = interchange.pack(weight, new)
    assert changed.shape == expected.shape
    assert changed.tobytes() == expected.tobytes()


@settings(max_examples=60, deadline=None)
@given(shapes, word_widths)
def test_latent_shape_from_a_file(shape, word_bits):
    packed = interchange.packed_shape(shape, word_bits)
    inputs = math.prod(shape[1:])
    units, kernel = shape[0], shape[2:]
    assert interchange.latent_shape(packed, word_bits, units, kernel, inputs) == shape
    if shape[1] % word_bits == 0:
        assert interchange.latent_shape(packed, word_bits, units, kernel) == shape
        assert interchange.latent_shape((math.prod(packed),), word_bits, units, kernel) == shape


def test_known_words():
    weight = np.full((1, 64, 1, 1), -1, np.float32)
    weight[0, [0, 33, 63]] = 1
    assert as_integers(interchange.pack(weight, 64)) == [1 + 2**33 + 2**63]
    assert as_integers(interchange.pack(weight, 32)) == [1, 2 + 2**31]
    dense = np.full((2, 64), -1, np.float32)
    dense[0, 0] = dense[1, 1] = dense[0, 34] = dense[1, 35] = 1
    assert as_integers(interchange.pack(dense, 32)) == [1, 2, 4, 8]  # word 0 of both units, then word 1
    assert interchange.pack(dense, 32).shape == (2, 2)


def test_convolution_bytes_do_not_depend_on_the_word_width_but_dense_ones_do():
    rng = np.random.RandomState(0)
    weight = rng.uniform(-1, 1, (3, 128, 3, 3))
    assert interchange.pack(weight, 32).tobytes() == interchange.pack(weight, 64).tobytes()
    weight = rng.uniform(-1, 1, (3, 128))
    assert interchange.pack(weight, 32).tobytes() != interchange.pack(weight, 64).tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_latent_types(dtype):
    weight = np.array([[-1, 1, 0, -0.0, np.nan, -np.inf]], dtype)
    assert as_integers(interchange.pack(weight, 32)) == [0b011110]


@pytest.mark.parametrize("word_bits", [32, 64])
def test_words_keep_every_bit_in_mxnet(word_bits, tmp_path):
    """Signalling NaNs, quiet ones, infinities, denormals: into MXNet, through its files, and back."""
    rng = np.random.RandomState(0)
    words = rng.randint(0, 2**32, 4096, np.uint64) << np.uint64(32) | rng.randint(0, 2**32, 4096, np.uint64)
    exponent = np.uint64(0x7FF0_0000_0000_0000 if word_bits == 64 else 0x7F80_0000_7F80_0000)
    words[::2] |= exponent
    words[1::4] &= ~exponent
    floats = words.view(np.float64 if word_bits == 64 else np.float32)
    array = to_ndarray(floats)
    assert array.dtype == floats.dtype
    assert array.asnumpy().tobytes() == floats.tobytes()
    mx.nd.save(str(tmp_path / "words"), {"w": array.reshape((-1, 8)).copy()})
    assert mx.nd.load(str(tmp_path / "words"))["w"].asnumpy().tobytes() == floats.tobytes()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: interchange.pack(np.zeros((2, 3), np.float32), 16), "word width is 16; it must be 32 or 64"),
        (lambda: interchange.pack(np.zeros(3, np.float32), 32), "has the shape (3,); it must have 2"),
        (lambda: interchange.pack(np.zeros((2, 0), np.float32), 32), "has the shape (2, 0); it must have 2"),
        (
            lambda: interchange.pack(np.zeros((1,) * 6, np.float32), 32),
            "has the shape (1, 1, 1, 1, 1, 1); it must have 2",
        ),
        (
            lambda: interchange.unpack(np.zeros(3, np.float32), (2, 32)),
            "has 3 words of 32 bits, but a weight of shape (2, 32) has 2",
        ),
        (lambda: interchange.unpack(np.zeros(2, np.float16), (2, 32)), "not float16"),
        (lambda: interchange.unpack(np.array([2**5], np.uint32), (1, 5)), "bits set after an output's 5 weights"),
        (lambda: interchange.unpack(np.array([0, 2**6], np.uint64), (1, 70)), "bits set after an output's 70 weights"),
        (
            lambda: interchange.change_word_bits(np.zeros(2, np.float32), (2, 32), 8),
            "word width is 8; it must be 32 or 64",
        ),
        (lambda: interchange.latent_shape((3,), 32, 2), "shape (3,) of 32-bit words, which does not fit num_hidden=2"),
        (lambda: interchange.latent_shape((0,), 32, 2), "shape (0,) of 32-bit words, which does not fit"),
        (lambda: interchange.latent_shape((4, 1), 32, 2), "shape (4, 1) of 32-bit words, which does not fit"),
        (
            lambda: interchange.latent_shape((2, 3), 32, 2, inputs=97),
            "shape (2, 3) of 32-bit words, which does not fit",
        ),
        (
            lambda: interchange.latent_shape((2, 1), 32, 2, (3, 3)),
            "its variable needs the attribute __inputs_per_output__",
        ),
        (
            lambda: interchange.latent_shape((2, 1), 32, 2, (3, 3), inputs=28),
            "__inputs_per_output__ is 28; it must be a positive multiple of the kernel's size 9",
        ),
        (
            lambda: interchange.latent_shape((2, 1), 32, 2, (3, 3), inputs=0),
            "__inputs_per_output__ is 0; it must be a positive multiple",
        ),
        (lambda: interchange.latent_shape((17,), 32, 2, (3, 3)), "does not fit num_filter=2, kernel=(3, 3)"),
        (lambda: interchange.latent_shape((2, 1, 3, 2), 32, 2, (3, 3)), "does not fit num_filter=2, kernel=(3, 3)"),
        (lambda: interchange.latent_shape((1,), 32, 10**9, (10**9, 10**9)), "does not fit num_filter=1000000000"),
    ],
)
def test_wrong_sizes_are_errors(call, message):
    with pytest.raises(bmx.Error, match=re.escape(message)) as error:
        call()
    assert "\n" not in str(error.value)
