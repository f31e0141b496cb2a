"""Learning rates over a run."""

import math
import sys

import pytest

import bmx
from bmx.training import learning_rates


def rates(mode, updates, **options):
    schedule = learning_rates(mode, 1.0, epochs=10, batches=10, **options)
    return [round(schedule(update), 4) for update in updates]


def test_modes():
    assert rates("constant", [1, 50, 100]) == [1, 1, 1]
    assert rates("step", [1, 50, 51, 75, 76, 100]) == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert rates("step", [30, 31, 100], steps=[3], factor=0.5) == [1, 0.5, 0.5]
    assert rates("poly", [1, 50, 100], power=1, final=0.1) == [0.991, 0.55, 0.1]
    assert rates("cosine", [0, 50, 100], final=0.2) == [1, 0.6, 0.2]


@pytest.mark.parametrize("mode", ["constant", "step", "poly", "cosine"])
def test_warm_up_rises_to_the_rate(mode):
    assert rates(mode, [1, 5, 10, 20], warmup_epochs=2)[:3] == [0.05, 0.25, 0.5]
    assert rates(mode, [1, 5, 10, 20], warmup_epochs=2)[3] == 1


def test_rates_follow_their_formulas():
    def cosine(t):
        return 0.1 + 0.9 * (1 + math.cos(math.pi * t)) / 2

    # 20 updates of warm-up; the 80 behind them go from the base rate to the final one.
    assert rates("cosine", range(21, 101), warmup_epochs=2, final=0.1) == [round(cosine(i / 79), 4) for i in range(80)]
    assert rates("poly", range(21, 101), warmup_epochs=2) == [round((1 - i / 79) ** 2, 4) for i in range(80)]
    assert rates("step", [20, 50, 51], warmup_epochs=2) == [1, 1, 0.1]


@pytest.mark.parametrize("mode", ["constant", "step", "poly", "cosine"])
@pytest.mark.parametrize("epochs, batches, warmup", [(1, 1, 0), (2, 1, 1), (1, 2, 0.5), (1, 3, 0.2)])
def test_the_shortest_runs_have_finite_rates(mode, epochs, batches, warmup):
    schedule = learning_rates(mode, 1.0, epochs=epochs, batches=batches, warmup_epochs=warmup)
    assert all(0 <= schedule(update) <= 1 for update in range(1, epochs * batches + 3))


def test_gluoncv_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gluoncv.utils", None)
    with pytest.raises(bmx.Error, match=r"schedules need gluoncv .*pip install 'bmx-mxnet\[examples\]'"):
        rates("constant", [1])


@pytest.mark.parametrize("mode", ["step", "cosine", "poly"])
def test_a_resumed_schedule_goes_on(mode):
    assert rates(mode, range(1, 101), warmup_epochs=1)[60:] == rates(mode, range(61, 101), warmup_epochs=1)


@pytest.mark.parametrize(
    "mode, options, message",
    [
        ("exponential", {}, "schedule 'exponential'; allowed: constant, step, poly, cosine"),
        ("cosine", {"warmup_epochs": 10}, "10 epochs of warm-up; allowed in a run of 10: 0 or more, and fewer"),
        ("cosine", {"warmup_epochs": -1}, "-1 epochs of warm-up"),
        ("step", {"steps": [3, 3]}, "steps after epochs 3, 3; allowed: different ones above 0"),
        ("step", {"steps": [0]}, "steps after epochs 0"),
    ],
)
def test_impossible_schedules(mode, options, message):
    with pytest.raises(bmx.Error, match=message):
        rates(mode, [1], **options)
