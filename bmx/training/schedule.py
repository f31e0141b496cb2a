"""Learning rates over a run: MXNet's schedulers, made from numbers of epochs."""

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
    """Return a schedule of MXNet, which optimizers take as ``lr_scheduler``.

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
        If a parameter is out of its range.

    Examples
    --------
    >>> rates = learning_rates("cosine", 0.1, epochs=3, batches=10, warmup_epochs=1)
    >>> [round(rates(update), 3) for update in (1, 5, 10, 20, 30)]
    [0.01, 0.05, 0.1, 0.05, 0.0]
    """
    if mode not in MODES:
        raise Error(f"learning-rate schedule {mode!r}; allowed: {', '.join(MODES)}")
    if not 0 <= warmup_epochs < max(epochs, 1):
        raise Error(f"{warmup_epochs:g} epochs of warm-up; allowed in a run of {epochs}: 0 or more, and fewer than it")
    total = epochs * batches
    warmup = {"base_lr": base, "warmup_steps": round(warmup_epochs * batches)}
    if mode == "poly":
        return mx.lr_scheduler.PolyScheduler(total, pwr=power, final_lr=final, **warmup)
    if mode == "cosine":
        return mx.lr_scheduler.CosineScheduler(total, final_lr=final, **warmup)
    steps = sorted(steps or (epochs / 2, epochs * 3 / 4)) if mode == "step" else [epochs + 1]
    if steps[0] <= 0 or len(set(steps)) < len(steps):
        raise Error(f"steps after epochs {', '.join(f'{step:g}' for step in steps)}; allowed: different ones above 0")
    places = sorted({max(1, round(step * batches)) for step in steps})
    return mx.lr_scheduler.MultiFactorScheduler(places, factor=factor, **warmup)
