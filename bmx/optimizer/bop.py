"""Bop: an optimizer that flips 1-bit weights and keeps no latent ones."""

from __future__ import annotations

from typing import Any

import mxnet as mx

from ..errors import Error


@mx.optimizer.register
class Bop(mx.optimizer.Optimizer):
    """The binary optimizer: a weight flips when the mean of its gradients is large and has its sign.

    Helwegen et al., "Latent Weights Do Not Exist: Rethinking Binarized Neural Network Optimization", arXiv:1906.02107;
    Larq's ``Bop``. With g the gradient·rescale_grad, clipped to ``clip_gradient``:

        m = (1 - gamma)·m + gamma·g
        w = -sign(w) where sign(w)·m > threshold, else sign(w)

    Weights are -1 and +1 from the first step on, whatever they were (a negative one -1, all others +1). It is for the
    1-bit weights alone, :class:`BinaryOptimizer` gives them to it and the others to another optimizer. Weights
    quantized by 'sign_approx_sign' have no gradient at -1 and +1, so Bop cannot train them.

    Parameters
    ----------
    gamma : float, optional
        Adaptivity rate, 0 < gamma <= 1: the smaller, the more gradients count and the fewer weights flip. Default: the
        ``base_lr`` of ``lr_scheduler``, else 1e-4. This is what MXNet calls the learning rate: ``lr_scheduler``,
        ``lr_mult`` and ``set_learning_rate`` change it; the paper lowers it in the course of the training.
    threshold : float, default 1e-8
        At least 0: the larger, the fewer weights flip.
    **kwargs
        Those of every :class:`mxnet.optimizer.Optimizer`. Weight decay would mean nothing; ``wd`` is refused.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed.

    Examples
    --------
    >>> optimizer = mx.optimizer.create('bop', gamma=0.5, threshold=0.4)
    >>> weight, state = mx.nd.array([1, 1, -1]), optimizer.create_state(0, mx.nd.ones((3,)))
    >>> for _ in range(2):
    ...     optimizer.update(0, weight, mx.nd.array([1, -1, -0.7]), state)
    ...     print(weight.asnumpy())
    [-1.  1. -1.]
    [-1.  1.  1.]
    """

    def __init__(self, gamma: float | None = None, threshold: float = 1e-8, **kwargs: Any):
        if "learning_rate" in kwargs:
            raise Error(f"learning_rate={kwargs['learning_rate']!r}: Bop has none; its rate is gamma")
        if kwargs.get("wd"):
            raise Error(f"wd={kwargs['wd']!r}: weights that are -1 or +1 cannot decay; leave wd out")
        if gamma is None and kwargs.get("lr_scheduler") is None:
            gamma = 1e-4
        if gamma is not None and not 0 < gamma <= 1:
            raise Error(f"gamma={gamma!r}: allowed is 0 < gamma <= 1")
        if not threshold >= 0:
            raise Error(f"threshold={threshold!r}: a threshold is a number of at least 0")
        super().__init__(learning_rate=gamma, **kwargs)
        self.threshold = threshold

    def create_state(self, index: Any, weight: mx.nd.NDArray) -> mx.nd.NDArray:
        """Return m, zero."""
        return mx.nd.zeros_like(weight)

    def update(self, index: Any, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: mx.nd.NDArray) -> None:
        """Make one step."""
        self._update_count(index)
        gamma = self._get_lr(index)
        grad = grad * self.rescale_grad
        if self.clip_gradient is not None:
            grad = mx.nd.clip(grad, -self.clip_gradient, self.clip_gradient)
        state[:] = (1 - gamma) * state + gamma * grad
        sign = 1 - 2 * (weight < 0)
        weight[:] = sign * (1 - 2 * (sign * state > self.threshold))
