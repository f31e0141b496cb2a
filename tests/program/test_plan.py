"""The memory plan: buffers alive at the same time lie apart."""

from hypothesis import given, settings
from hypothesis import strategies as st

from bmx.compiler.plan import ALIGNMENT, Life, clashes, plan

LIVES = st.lists(
    st.builds(
        lambda size, first, length: Life(size, first, first + length),
        *(st.integers(1, 500), st.integers(0, 12), st.integers(0, 6)),
    ),
    max_size=12,
)


def together(a, b):
    return a.first <= b.last and b.first <= a.last


@settings(max_examples=300, deadline=None)
@given(LIVES)
def test_buffers_alive_together_lie_apart_and_in_the_arena(lives):
    offsets, arena = plan(lives)
    assert arena % ALIGNMENT == 0 and all(offset % ALIGNMENT == 0 for offset in offsets)
    for life, offset in zip(lives, offsets):
        assert 0 <= offset and offset + life.size <= arena
    for i, a in enumerate(lives):
        for j, b in enumerate(lives[:i]):
            if together(a, b):
                assert offsets[i] + a.size <= offsets[j] or offsets[j] + b.size <= offsets[i]
    assert clashes(lives, offsets) == []


@settings(max_examples=300, deadline=None)
@given(LIVES, st.data())
def test_clashes_finds_a_clash_where_there_is_one(lives, data):
    offsets = [data.draw(st.integers(0, 600)) for _ in lives]
    pairs = {
        (j, i)
        for i, a in enumerate(lives)
        for j, b in enumerate(lives[:i])
        if together(a, b) and offsets[i] < offsets[j] + b.size and offsets[j] < offsets[i] + a.size
    }
    found = set(clashes(lives, offsets))
    assert found <= pairs and bool(found) == bool(pairs)


def test_a_chain_needs_the_two_largest_neighbours():
    lives = [Life(size, step, step + 1) for step, size in enumerate([64, 256, 128, 64, 512, 64])]
    assert plan(lives)[1] == 64 + 512
    assert plan([]) == ([], 0)
