"""Quantized gradients: an identity whose gradient is rounded to a few bits on its way back.

The backward pass of MXNet's arithmetic operators is linear in the gradient, so no composition of them can divide a
gradient by its own maximum. ``Custom``, MXNet's operator with Python inside, can. It runs imperatively, hybridized, in
a Module and on every device; a symbol that contains it needs ``import bmx`` where it is loaded.
"""

from __future__ import annotations

from types import ModuleType

import mxnet as mx
import numpy as np

from .quantization import Array, levels

__all__ = ["quantize_gradient"]

_OPERATOR = "bmx_quantize_gradient"


def quantize_gradient(F: ModuleType, x: Array, bits: int) -> Array:
    """Quantize the gradient that comes back, stochastically: y = x, dx = DoReFa-Net's quantization of g.

    With n = ``levels(bits)`` and M = max(abs(g)), taken for each sample (index of the first axis) on its own:

        dx = M·(2·floor(n·(g/(2·M) + 1/2) + r)/n - 1),    r uniform in [0, 1),

    one of the ``2**bits`` values from -M to M, the one below or above g. Its mean is g: what rounding loses in one step
    it gives back in others. A sample without a gradient (M = 0) keeps 0; one with a gradient that is not finite gets
    NaN. 32 bits leave the gradient alone. Zhou et al., "DoReFa-Net", 2016, equation 12.

    The random numbers follow from ``mx.random.seed``: one number is drawn in the forward pass, in the order of the
    graph, and those of the backward pass from it, so that it does not matter which branch of a network runs first.

    Parameters
    ----------
    F : module
        ``mx.nd`` or ``mx.sym``.
    x : NDArray or Symbol
        float32, (N, ...).
    bits : int
        1..32.

    Raises
    ------
    bmx.Error
        If ``bits`` is not an integer from 1 to 32.

    Examples
    --------
    >>> x = mx.nd.zeros((1, 5))
    >>> x.attach_grad()
    >>> with mx.autograd.record():
    ...     y = quantize_gradient(mx.nd, x, bits=2)
    >>> y.backward(mx.nd.array([[-3, -1, 1, 3, 0]]))
    >>> print(x.grad.asnumpy()[0, :4], abs(x.grad.asnumpy()[0, 4]))
    [-3. -1.  1.  3.] 1.0
    """
    levels(bits)
    if bits == 32:
        return F.identity(x)
    first = F.BlockGrad(F.slice_axis(F.reshape(x, shape=(-1,)), axis=0, begin=0, end=1))
    seed = F.BlockGrad(F.random.uniform_like(first))
    return F.Custom(x, seed, op_type=_OPERATOR, bits=bits)


@mx.operator.register(_OPERATOR)
class _QuantizeGradientProperties(mx.operator.CustomOpProp):
    """What MXNet asks about the operator; attributes arrive as strings."""

    def __init__(self, bits):
        super().__init__(need_top_grad=True)
        self._bits = int(bits)

    def list_arguments(self):
        return ["data", "seed"]

    def infer_shape(self, in_shape):
        return [in_shape[0], (1,)], [in_shape[0]], []

    def declare_backward_dependency(self, out_grad, in_data, out_data):
        return [out_grad[0], in_data[1]]  # the data need not be kept

    def create_operator(self, ctx, in_shapes, in_dtypes):
        return _QuantizeGradient(self._bits)


class _QuantizeGradient(mx.operator.CustomOp):
    def __init__(self, bits):
        super().__init__()
        self._bits = bits

    def forward(self, is_train, req, in_data, out_data, aux):
        self.assign(out_data[0], req[0], in_data[0])

    def backward(self, req, out_grad, in_data, out_data, in_grad, aux):
        grad, steps = out_grad[0], levels(self._bits)
        generator = np.random.Generator(np.random.SFC64(int(in_data[1].asnumpy().view(np.uint32)[0])))
        noise = mx.nd.array(generator.random(grad.shape, dtype=np.float32), ctx=grad.context)
        largest = mx.nd.max(mx.nd.abs(grad), axis=0, exclude=True, keepdims=True)
        unit = mx.nd.broadcast_div(grad, 2 * largest + (largest == 0)) + 0.5  # 0/1 where there is no gradient
        code = mx.nd.clip(mx.nd.floor(unit * steps + noise), 0, steps)  # a sum may round up to steps + 1
        self.assign(in_grad[0], req[0], mx.nd.broadcast_mul(2 * code - steps, largest / steps))
        self.assign(in_grad[1], req[1], 0)
