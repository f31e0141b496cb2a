"""BinaryOptimizer: 1-bit weights by one optimizer, all other parameters by another, and clipped latent weights."""

from __future__ import annotations

import re
from typing import Any, Dict

import mxnet as mx

from ..errors import Error


def has_one_bit(parameter: mx.gluon.Parameter) -> bool:
    """Tell whether a parameter is the weight of a layer of :mod:`bmx.gluon.nn` with ``bits=1``."""
    return getattr(parameter, "bits", 32) == 1


@mx.optimizer.register
class BinaryOptimizer(mx.optimizer.Optimizer):
    """Updates 1-bit weights in their own way: with another optimizer, clipped, or both.

    Latent weights far from zero hardly ever flip again. Clipping to [-1, 1] after each step, as BinaryNet does
    (Courbariaux et al., arXiv:1602.02830), keeps them near, whatever the optimizer.

    ``learning_rate``, ``set_learning_rate`` and a Trainer's learning rate are those of ``optimizer``; what differs for
    ``binary``, such as its schedule, is given in ``binary_params``. All steps are counted together. States are saved
    and loaded by the Trainer as those of any optimizer.

    Parameters
    ----------
    optimizer : str or mxnet.optimizer.Optimizer, default 'adam'
        For all other parameters.
    optimizer_params : dict, optional
        Its parameters, where it is a name.
    binary : str or mxnet.optimizer.Optimizer, optional
        For the 1-bit weights, such as 'bop'. Default: ``optimizer`` as well.
    binary_params : dict, optional
        Its parameters, where it is a name.
    clip : float, optional
        Clip the 1-bit weights to [-clip, clip] after each step. Default: they are not clipped.
    names : str, optional
        Regular expression that is found in the names of the 1-bit weights. Default: the weights of the layers of
        :mod:`bmx.gluon.nn` with ``bits=1`` (parameters whose attribute ``bits`` is 1). It is needed for other layers,
        and for Module, which has no layers.
    **kwargs
        What Trainer and Module hand over: param_dict, param_idx2name, sym, rescale_grad.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed, or there are no 1-bit weights among those to train.

    Examples
    --------
    >>> from bmx.gluon import nn
    >>> net = nn.HybridSequential()
    >>> net.add(nn.QDense(4, in_units=3), nn.Dense(2, in_units=4))
    >>> net.initialize(mx.init.Xavier())
    >>> trainer = mx.gluon.Trainer(net.collect_params(), BinaryOptimizer('sgd', {'learning_rate': 0.1}, 'bop'))
    >>> with mx.autograd.record():
    ...     out = net(mx.nd.ones((1, 3)))
    >>> out.backward()
    >>> trainer.step(1)
    >>> print(abs(net[0].weight.data().asnumpy()).min(), abs(net[1].weight.data().asnumpy()).max() < 2)
    1.0 True
    """

    def __init__(
        self,
        optimizer: str | mx.optimizer.Optimizer = "adam",
        optimizer_params: Dict[str, Any] | None = None,
        binary: str | mx.optimizer.Optimizer | None = None,
        binary_params: Dict[str, Any] | None = None,
        clip: float | None = None,
        names: str | None = None,
        **kwargs: Any,
    ):
        if clip is not None and not clip > 0:
            raise Error(f"clip={clip!r}: allowed is a number above 0")
        if kwargs.get("param_idx2name") and names is None:
            raise Error("BinaryOptimizer: a Module knows parameters by their names alone; say which with names='...'")
        self.clip = clip
        self.names = names
        self.optimizer = _create(optimizer, optimizer_params)
        self.binary = self.optimizer if binary is None else _create(binary, binary_params)
        self._one_bit: Dict[Any, bool] = {}  # by index, also where there are no parameters: on a server of a KVStore
        super().__init__(**{"rescale_grad": self.optimizer.rescale_grad, **kwargs})
        for part in (self.optimizer, self.binary):
            part.idx2name, part.sym_info = self.idx2name, self.sym_info
            part.set_lr_mult({})
            part.set_wd_mult({})

    @property
    def param_dict(self) -> Dict[Any, mx.gluon.Parameter]:
        """The parameters by index; a Trainer sets them."""
        return self.optimizer.param_dict

    @param_dict.setter
    def param_dict(self, parameters: Dict[Any, mx.gluon.Parameter]) -> None:
        self.optimizer.param_dict = self.binary.param_dict = parameters
        if not parameters:
            return
        self._one_bit = {
            index: has_one_bit(parameter) if self.names is None else bool(re.search(self.names, parameter.name))
            for index, parameter in parameters.items()
        }
        if not any(self._one_bit.values()):
            wanted = "of layers of bmx.gluon.nn with bits=1" if self.names is None else f"whose name has {self.names!r}"
            raise Error(
                f"BinaryOptimizer: none of the {len(parameters)} parameters is a weight {wanted}; "
                "say with names='...' which have one bit, or use the optimizer without this one"
            )

    @property
    def learning_rate(self) -> float:
        """The learning rate of ``optimizer``."""
        return self._synchronized(self.optimizer).learning_rate

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate of ``optimizer``."""
        self.optimizer.set_learning_rate(lr)

    def create_state(self, index: Any, weight: mx.nd.NDArray) -> Any:
        """Return the state that the parameter's optimizer makes for it."""
        return self._part(index).create_state(index, weight)

    def create_state_multi_precision(self, index: Any, weight: mx.nd.NDArray) -> Any:
        """Return the state that the parameter's optimizer makes for it."""
        return self._part(index).create_state_multi_precision(index, weight)

    def update(self, index: Any, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: Any) -> None:
        """Make one step with the parameter's optimizer."""
        self._step("update", index, weight, grad, state)

    def update_multi_precision(self, index: Any, weight: mx.nd.NDArray, grad: mx.nd.NDArray, state: Any) -> None:
        """Make one step with the parameter's optimizer."""
        self._step("update_multi_precision", index, weight, grad, state)

    def _step(self, update, index, weight, grad, state):
        part = self._synchronized(self._part(index))
        getattr(part, update)(index, weight, grad, state)
        self.num_update = part.num_update
        if self.clip is not None and self._is_one_bit(index):
            mx.nd.clip(weight, -self.clip, self.clip, out=weight)

    def _part(self, index):
        return self.binary if self._is_one_bit(index) else self.optimizer

    def _is_one_bit(self, index):
        if index not in self._one_bit:
            name = self.idx2name.get(index, str(index))
            self._one_bit[index] = self.names is not None and bool(re.search(self.names, name))
        return self._one_bit[index]

    def _synchronized(self, part):
        """Let a part know what MXNet changes in an optimizer from outside: the counters of steps and the scale."""
        part.rescale_grad = self.rescale_grad
        part.num_update = self.num_update
        part._all_index_update_counts = self._all_index_update_counts
        part._index_update_count = self._index_update_count
        return part

    def __getstate__(self):
        return dict(self.__dict__)  # the parts leave their parameters out themselves

    def __setstate__(self, state):
        self.__dict__ = state


def _create(optimizer, parameters):
    if isinstance(optimizer, mx.optimizer.Optimizer):
        if parameters:
            raise Error(
                f"{type(optimizer).__name__} and parameters for it, {parameters}: give parameters with a name only"
            )
        return optimizer
    try:
        return mx.optimizer.create(optimizer, **(parameters or {}))
    except ValueError as error:
        known = ", ".join(sorted(mx.optimizer.Optimizer.opt_registry))
        raise Error(f"optimizer {optimizer!r}: {error}; there are {known}") from None
