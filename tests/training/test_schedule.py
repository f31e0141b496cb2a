"""Learning rates over a run."""

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
