"""RAdam: Adam with a rectified learning rate."""

from __future__ import annotations

import math
from typing import Any, Tuple

import mxnet as mx


@mx.optimizer.register
class RAdam(mx.optimizer.Optimizer):
    """Rectified Adam: while there are too few gradients to know their variance, steps are smaller and not adaptive.

    Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", arXiv:1908.03265; BMXNet v2's ``Radam``. At
    step t, with g the gradient·rescale_grad + wd·w, clipped to ``clip_gradient``, as in MXNet's Adam:

        m = beta1·m + (1 - beta1)·g
        v = beta2·v + (1 - beta2)·g²
        rho = rho_inf - 2·t·beta2^t / (1 - beta2^t),    rho_inf = 2/(1 - beta2) - 1
        rho > 5:  w -= lr·r / (1 - beta1^t) · m·sqrt(1 - beta2^t) / (sqrt(v) + epsilon)
                  r² = (rho - 4)·(rho - 2)·rho_inf / ((rho_inf - 4)·(rho_inf - 2)·rho)
        else:     w -= lr / (1 - beta1^t) · m

    The paper has rho > 4; its authors' program and BMXNet v2 have 5, as here. With beta2 = 0.999 that are the first 5
    steps.

    Parameters
    ----------
    learning_rate : float, default 0.001
    beta1, beta2 : float, default 0.95 and 0.999
        Decay of the means of the gradient and of its square, 0 <= beta < 1. These and ``epsilon`` are BMXNet v2's.
    epsilon : float, default 1e-5
    **kwargs
        Those of every :class:`mxnet.optimizer.Optimizer`: lr_scheduler, wd, clip_gradient, ...

    Examples
    --------
    >>> optimizer = mx.optimizer.create('radam', learning_rate=0.1)
    >>> weight, state = mx.nd.ones((1,)), optimizer.create_state(0, mx.nd.ones((1,)))
    >>> for _ in range(3):
    ...     optimizer.update(0, weight, mx.nd.array([2.0]), state)
    >>> print(weight.asnumpy().round(3))  # no adaptive step yet: 1 - 3·0.1·2
    [0.4]
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta1: float = 0.95,
        beta2: float = 0.999,
        epsilon: float = 1e-5,
        **kwargs: Any,
    ):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def create_state(self, index: Any, weight: mx.nd.NDArray) -> Tuple[mx.nd.NDArray, mx.nd.NDArray]:
        """Return (m, v), both zero."""
        return mx.nd.zeros_like(weight), mx.nd.zeros_like(weight)

    def update(self, index: Any, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: Any) -> None:
        """Make one step."""
        self._update_count(index)
        steps = self._index_update_count[index]
        rate = self._get_lr(index) / (1 - self.beta1**steps)
        rectified = self._rectification(steps)
        mean, variance = state
        mx.nd.adam_update(
            weight,
            grad,
            mean,
            variance,
            out=weight,
            lr=rate * rectified * math.sqrt(1 - self.beta2**steps),
            wd=self._get_wd(index),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            rescale_grad=self.rescale_grad,
            clip_gradient=-1 if self.clip_gradient is None else self.clip_gradient,
        )
        if not rectified:  # then that was a step of length 0, which has brought mean and variance up to date
            weight[:] -= rate * mean

    def _rectification(self, steps: int) -> float:
        """Return the r of a step, 0 where the variance is not known well enough for an adaptive step."""
        longest = 2 / (1 - self.beta2) - 1
        decayed = self.beta2**steps
        length = longest - 2 * steps * decayed / (1 - decayed)
        if length <= 5:
            return 0.0
        return math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
