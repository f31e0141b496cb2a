"""Learning rates over a run: gluoncv's schedulers, made from numbers of epochs."""

from __future__ import annotations

from typing import Sequence

import mxnet as mx

from ..errors import Error

MODES = ("constant", "step", "poly", "cosine")


def learning_rates(
    mode: str,
    base: float,
    epochs: int,
    batches: int,
    warmup_epochs: float = 0,
    steps: Sequence[float] = (),
    factor: float = 0.1,
    power: float = 2,
    final: float = 0,
) -> mx.lr_scheduler.LRScheduler:
    """Return a schedule of gluoncv, which optimizers take as ``lr_scheduler``; they count updates from 1.

    Parameters
    ----------
    mode : {'constant', 'step', 'poly', 'cosine'}
    base : float
        Learning rate after the warm-up.
    epochs, batches : int
        Epochs of the run, 1 or more, and batches of an epoch.
    warmup_epochs : float, default 0
        The rate rises linearly from 0 to `base` in them; fewer than `epochs`.
    steps : sequence of float, optional
        Of 'step': after these epochs the rate is multiplied by `factor`. Default: after half and three quarters.
    factor : float, default 0.1
    power : float, default 2
        Of 'poly': the rate is base·(1 - t)^power, t from 0 to 1.
    final : float, default 0
        Rate at the end of 'poly' and 'cosine'.

    Raises
    ------
    bmx.Error
        If a parameter is out of its range, or gluoncv is not installed.

    Examples
    --------
    >>> rates = learning_rates("cosine", 0.1, epochs=3, batches=10, warmup_epochs=1)
    >>> [round(rates(update), 3) for update in (1, 5, 10, 20, 30)]
    [0.01, 0.05, 0.1, 0.054, 0.0]
    """
    if mode not in MODES:
        raise Error(f"learning-rate schedule {mode!r}; allowed: {', '.join(MODES)}")
    if not 0 <= warmup_epochs < max(epochs, 1):
        raise Error(f"{warmup_epochs:g} epochs of warm-up; allowed in a run of {epochs}: 0 or more, and fewer than it")
    steps = sorted(steps or (epochs / 2, epochs * 3 / 4)) if mode == "step" else []
    if steps and (steps[0] <= 0 or len(set(steps)) < len(steps)):
        raise Error(f"steps after epochs {', '.join(f'{step:g}' for step in steps)}; allowed: different ones above 0")
    try:
        from gluoncv.utils import LRScheduler, LRSequential
    except ImportError as error:
        raise Error(f"learning-rate schedules need gluoncv ({error}): pip install 'bmx-mxnet[examples]'") from error
    # A part of n updates goes from its first rate to its last in n - 1 equal steps. Optimizers never ask for update 0:
    # the first part has it as one more, so that update 1 is one step up, or down.
    total, warmup = epochs * batches, round(warmup_epochs * batches)
    schedule = [LRScheduler("linear", base_lr=0, target_lr=base, niters=warmup + 1)] if warmup > 0 else []
    first = warmup + 1 if warmup > 0 else 0
    places = sorted({max(1, round(step * batches)) for step in steps})
    main = {"step_iter": [place + 1 - first for place in places], "step_factor": factor, "power": power}
    schedule.append(LRScheduler(mode, base_lr=base, target_lr=final, niters=max(2, total + 1 - first), **main))
    rates = LRSequential(schedule)
    rates.base_lr = base  # not its own 0.01, of which an optimizer with a learning rate says that it is overwritten
    return rates
