"""Thresholds ask what the operations before a sign would have told, for every number that there can be."""

from fractions import Fraction

import epilogue_oracle
import ir_oracle
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bmx.compiler import arithmetic, ir
from bmx.compiler.passes import thresholds
from bmx.program import rounding

CHANNELS = 4

hard = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-45, -1e-45, 1.2e-38, -1e-30, 1e30, 3.4e38, -3.4e38])
finite = st.one_of(hard, st.floats(-100, 100, width=32), st.floats(allow_nan=False, allow_infinity=False, width=32))
number = st.one_of(finite, st.sampled_from([np.inf, -np.inf, np.nan]))
whole = st.integers(-80, 80).map(float)  # the numbers that counts are, so that ties are common


def arrays(elements):
    return st.lists(elements, min_size=CHANNELS, max_size=CHANNELS).map(lambda values: np.array(values, np.float32))


def operations(numbers, means):
    """Channelwise operations, BatchNorm most of all."""
    norm = st.builds(ir.Norm, arrays(means), arrays(numbers), arrays(numbers))
    affine = st.builds(ir.Affine, arrays(numbers), arrays(numbers))
    clip = st.tuples(finite, finite).map(lambda bounds: ir.Clip(min(bounds), max(bounds)))
    slope = st.builds(ir.PRelu, arrays(numbers))
    function = st.sampled_from(sorted(epilogue_oracle.FUNCTIONS)).map(ir.Function)
    return st.lists(st.one_of(norm, norm, affine, clip, slope, function), min_size=1, max_size=3)


def after(chain, y):
    """The chain by the oracle, of (numbers, channels)."""
    with np.errstate(all="ignore"):
        for operation in chain:
            y = ir_oracle.apply(operation, y)
    return y


def is_plus(z, threshold=0.0, flip=False):
    with np.errstate(invalid="ignore"):
        return ~(np.where(flip, -z, z) < threshold)


def binary_layer(chain, count, step, flip=None):
    """A binary convolution of `count` inputs whose result goes through a chain into a sign."""
    bits = ir.Value("bits", (CHANNELS, 1, 1), "bit")
    flip = np.zeros(CHANNELS, bool) if flip is None else flip
    return ir.Conv(
        "layer",
        list(chain),
        [ir.Bits(bits, np.zeros(CHANNELS, np.float32), flip)],
        source=ir.Value("x", (count, 1, 1), "bit"),
        weight=np.ones((CHANNELS, count, 1, 1), np.int8),
        all=float(count),
        step=step,
    )


def check_counts(chain, count, step):
    layer = binary_layer(chain, count, step)
    p = np.arange(count + 1)
    y = np.float32(count) - np.float32(step) * p.astype(np.float32)
    wanted = is_plus(after(chain, np.repeat(y[:, None], CHANNELS, axis=1)))
    found = thresholds.count_thresholds(layer)
    if found is None:
        assert ((wanted[1:] != wanted[:-1]).sum(axis=0) > 1).any()
    else:
        threshold, flip = found
        assert threshold.dtype == np.int32
        np.testing.assert_array_equal((p[:, None] <= threshold) ^ flip, wanted)
    return found


@settings(max_examples=150, deadline=None)
@given(operations(number, st.one_of(number, whole)), st.integers(1, 70), st.sampled_from([1.0, 2.0]))
def test_counts_are_compared_as_the_chain_would_for_all_counts_and_parameters(chain, count, step):
    check_counts(chain, count, step)


@settings(max_examples=80, deadline=None)
@given(arrays(whole), arrays(finite), arrays(st.one_of(finite, whole)), st.integers(1, 70))
def test_batch_norm_of_finite_numbers_is_always_a_threshold_of_counts(mean, scale, bias, count):
    assert check_counts([ir.Norm(mean, scale, bias)], count, 1.0) is not None


@pytest.mark.parametrize(
    "scale, bias, threshold, flip",
    [
        (1, 0, 5, False),  # y - 4 >= 0 for p <= 5 of y = 9 - p: a tie is +1
        (-1, 0, 4, True),
        (0, 0, 9, False),  # always +1
        (0, -1, 9, True),  # always -1
        (1e-45, 0, 5, False),
        (-1e-45, 1e-45, 3, True),
        (np.inf, 0, 5, False),  # infinity times 0 is NaN, which is +1
        (np.nan, 0, 9, False),
        (1, np.inf, 9, False),
        (1, -np.inf, 9, True),
    ],
)
def test_thresholds_of_counts_of_batch_norm(scale, bias, threshold, flip):
    same = (np.full(CHANNELS, number, np.float32) for number in (4, scale, bias))
    found = check_counts([ir.Norm(*same)], 9, 1.0)
    assert (found[0][0], found[1][0]) == (threshold, flip)


def test_all_counts_of_large_layers():
    random = np.random.RandomState(0)
    for count in (64 * 9, 512 * 9, 25088):
        mean, scale, bias = random.uniform(0, count, CHANNELS), random.standard_normal(CHANNELS), np.zeros(CHANNELS)
        chain = [ir.Norm(*(array.astype(np.float32) for array in (mean, scale, bias)))]
        assert check_counts(chain, count, 1.0) is not None


def test_channels_are_evaluated_in_parts(monkeypatch):
    monkeypatch.setattr(thresholds, "_ELEMENTS", 10)
    random = np.random.RandomState(0)
    chain = [ir.Norm(*random.standard_normal((3, CHANNELS)).astype(np.float32)), ir.Clip(-1.0, 1.0)]
    assert check_counts(chain, 7, 2.0) is not None


def test_bits_that_change_twice_are_no_threshold():
    chain = [ir.Function("abs"), ir.Affine(np.ones(CHANNELS, np.float32), np.full(CHANNELS, -3, np.float32))]
    assert check_counts(chain, 8, 2.0) is None


# Floats


def neighbours(threshold):
    """A few float32 numbers on both sides of each threshold."""
    numbers = [threshold]
    for direction in (np.inf, -np.inf):
        number = threshold
        for _ in range(3):
            number = np.nextafter(number, np.float32(direction), dtype=np.float32)
            numbers.append(number)
    return np.stack(numbers)


EVERYWHERE = np.concatenate(
    [np.ldexp(np.float32(1.37), np.arange(-149, 128, 7)).astype(np.float32), np.arange(0, 50, dtype=np.float32)]
)
EVERYWHERE = np.concatenate([EVERYWHERE, -EVERYWHERE, np.float32([0.0, -0.0, 3.4028235e38, -3.4028235e38])])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(operations(number, number), arrays(finite), st.lists(st.booleans(), min_size=CHANNELS, max_size=CHANNELS))
def test_floats_are_compared_as_the_chain_would(chain, threshold, flip):
    flip = np.array(flip)
    chain = [operation for operation in chain if arithmetic.is_monotone(operation)]
    found = thresholds.float_thresholds(chain, threshold, flip)
    if found is None:  # only because of NaN, or of infinities that could give it
        if not all(map(thresholds._is_finite, chain)):
            return
        with np.errstate(all="ignore"):
            ends = np.repeat(np.float32([[3.4028235e38], [-3.4028235e38]]), CHANNELS, axis=1)
            assert any(np.isnan(after(chain[: n + 1], ends)).any() for n in range(len(chain)))
        return
    new, new_flip = found
    y = np.concatenate([np.repeat(EVERYWHERE[:, None], CHANNELS, axis=1), neighbours(np.where(new_flip, -new, new))])
    y = np.where(np.isfinite(y), y, np.float32(0))
    np.testing.assert_array_equal(is_plus(y, new, new_flip), is_plus(after(chain, y), threshold, flip))


@pytest.mark.parametrize("scale, falling", [(1, False), (-1, True)])
def test_the_largest_numbers_are_among_those_compared(scale, falling):
    largest = np.finfo(np.float32).max
    chain = [ir.Affine(np.float32([scale]), np.float32([-largest]))]  # >= 0 for one finite number only
    threshold, flip = thresholds.float_thresholds(chain, np.zeros(1, np.float32), np.zeros(1, bool))
    assert (threshold.tolist(), flip.tolist()) == ([largest], [falling])


@pytest.mark.parametrize("name", ["round", "tanh", "sigmoid", "softplus", "softsign", "exp", "elu", "selu", "signum"])
def test_thresholds_before_functions(name):
    scale, bias = np.float32([1, -0.9, 1e-3, 0.7]), np.float32([-0.3, 0.2, -0.5, 0.25])
    chain = [ir.Norm(np.float32([0.1, -2, 3, 0]), scale, bias), ir.Function(name), ir.Affine(scale, bias)]
    new, flip = thresholds.float_thresholds(chain, np.zeros(CHANNELS, np.float32), np.zeros(CHANNELS, bool))
    y = np.linspace(-5, 5, 4001, dtype=np.float32)[:, None].repeat(CHANNELS, axis=1)
    np.testing.assert_array_equal(is_plus(y, new, flip), is_plus(after(chain, y)))


def test_as_many_of_the_last_operations_are_folded_as_are_monotone():
    ones, two = np.ones(CHANNELS, np.float32), np.full(CHANNELS, 2, np.float32)
    bits = ir.Bits(ir.Value("bits", (CHANNELS,), "bit"), 0 * ones, np.zeros(CHANNELS, bool))
    chain = [ir.Affine(two, -ones), ir.Function("abs"), ir.Affine(ones, -two), ir.Clip(-1.0, 5.0)]
    thresholds.fold_last(chain, bits)
    assert [type(operation) for operation in chain] == [ir.Affine, ir.Function]
    np.testing.assert_array_equal(bits.threshold, two)


def test_operations_that_give_nan_are_kept():
    huge, zero = np.full(CHANNELS, 1e38, np.float32), np.zeros(CHANNELS, np.float32)
    bits = ir.Bits(ir.Value("bits", (CHANNELS,), "bit"), zero, zero > 0)
    chain = [ir.Affine(huge, zero), ir.Affine(zero, -huge)]  # infinity times 0 where y is large
    thresholds.fold_last(chain, bits)
    assert len(chain) == 1


# Arithmetic


def rounded(exact):
    """The float32 number next to a fraction, the even one of two."""
    guess = np.float32(float(exact))
    candidates = [guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))]
    return min(candidates, key=lambda c: (abs(Fraction(float(c)) - exact), int(c.view(np.int32)) & 1))


moderate = st.one_of(st.floats(-(2.0**60), 2.0**60, width=32), st.floats(-1, 1, width=32), whole)


@settings(max_examples=300, deadline=None)
@given(moderate, moderate, moderate)
def test_fma_rounds_once(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    a, b, c = (np.float32([x]) for x in (a, b, c))
    for fma in (rounding.fma, epilogue_oracle.fma):
        assert fma(a, b, c)[0] == rounded(exact)


def test_fma_of_infinities_and_nan():
    values = np.float32([0, 1, np.inf, -np.inf, np.nan, 3e38])
    a, b, c = (grid.ravel() for grid in np.meshgrid(values, values, values))
    with np.errstate(all="ignore"):
        wanted = (a.astype(float) * b + c).astype(np.float32)
        np.testing.assert_array_equal(rounding.fma(a, b, c), wanted)


@pytest.mark.parametrize("name", sorted(epilogue_oracle.FUNCTIONS))
def test_functions_are_the_oracles(name):
    y = np.concatenate([EVERYWHERE, np.float32([np.inf, -np.inf, np.nan, 0.5, 1.5, 2.5, -0.5, -2.5])])
    with np.errstate(all="ignore"):
        mine = arithmetic.apply(ir.Function(name), y[:, None])[:, 0]
        np.testing.assert_allclose(mine, epilogue_oracle.FUNCTIONS[name](y).astype(np.float32), rtol=2e-7)
