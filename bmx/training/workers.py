"""The processes that train one network together, through MXNet's KVStore and its parameter servers."""

from __future__ import annotations

import os
from typing import Any, Dict, Optional

import mxnet as mx
from mxnet.base import _LIB, check_call

from ..errors import Error

KINDS = ("local", "device", "dist_sync", "dist_async")
_STOP = 10**9  # a key that is no parameter's number


class Workers:
    """One process among those that train together; without a distributed KVStore it is the only one.

    With 'dist_sync' the gradients of all workers are summed on the servers, and each worker makes the same step with
    the sum: the result is that of one worker with a batch as large as all of theirs. With 'dist_async' the servers make
    a step with the gradients of one worker as they come, and no worker waits for another.

    Parameters
    ----------
    kind : {'local', 'device', 'dist_sync', 'dist_async'}, default 'local'
        'local' and 'device' sum the gradients of several devices of this machine, on the CPU or on the devices. The
        others need the environment that ``bmx launch`` sets.
    compression : str, optional
        '2bit': gradients are sent as -threshold, 0 or +threshold; what is left over is added to the next ones.
    threshold : float, default 0.5
        It is compared with sums over the batch of a worker, not with means.

    Raises
    ------
    bmx.Error
        If a parameter is not allowed, or the environment of a distributed KVStore is missing.
    """

    def __init__(self, kind: str = "local", compression: Optional[str] = None, threshold: float = 0.5):
        if kind not in KINDS:
            raise Error(f"KVStore {kind!r}; allowed: {', '.join(KINDS)}")
        if compression not in (None, "none", "2bit"):
            raise Error(f"gradient compression {compression!r}; allowed: none, 2bit")
        if not threshold > 0:
            raise Error(f"threshold of the gradient compression is {threshold:g}; allowed: more than 0")
        self.kind = kind
        self.distributed = kind.startswith("dist")
        self.asynchronous = kind == "dist_async"
        self.threshold = threshold
        self.compression: Optional[Dict[str, Any]] = None
        self.rank, self.count, self.kvstore = 0, 1, None
        if compression == "2bit":
            if not self.distributed:
                raise Error(f"gradient compression is between machines; KVStore {kind} sends nothing")
            self.compression = {"type": "2bit", "threshold": threshold}
        if self.distributed:
            if os.environ.get("DMLC_ROLE") != "worker":
                raise Error(
                    f"KVStore {kind} needs a scheduler and servers (DMLC_ROLE is not set): start the program with "
                    "'bmx launch -n WORKERS -s SERVERS -- python ...'"
                )
            self.kvstore = mx.kv.create(kind)
            self.rank, self.count = self.kvstore.rank, self.kvstore.num_workers

    def trainer(self, parameters: mx.gluon.ParameterDict, optimizer: mx.optimizer.Optimizer) -> mx.gluon.Trainer:
        """Make the trainer of a network's parameters.

        Servers get a copy of the optimizer without the parameters, and with them without their `lr_mult` and `wd_mult`;
        so only 'dist_async', which knows no other way, updates on the servers.
        """
        return (_CompressingTrainer if self.compression else mx.gluon.Trainer)(
            parameters,
            optimizer,
            kvstore=self.kvstore or self.kind,
            compression_params=self.compression,
            update_on_kvstore=self.asynchronous,
        )

    def start(self, trainer: mx.gluon.Trainer, images: int) -> None:
        """Give all workers the parameters of the first one, before the first step with `images` images."""
        if self.distributed:  # MXNet cannot send arrays that a convolution has put into oneDNN's layout
            for param in trainer._params:
                param._init_impl(mx.nd.array(param.list_data()[0].asnumpy()), param.list_ctx())
        trainer._check_and_rescale_grad(trainer._scale / images)
        trainer._init_kvstore()
        trainer._init_params()
        if self.distributed and not self.asynchronous:
            self.kvstore.init(_STOP, mx.nd.zeros((1,)))

    def agree(self, stop: bool) -> bool:
        """Tell whether any worker wants to stop; all call it after each step, and all get the same answer."""
        if not self.distributed or self.asynchronous:
            return stop
        flag = mx.nd.full((1,), 2 * self.threshold if stop else 0)  # more than the threshold passes the compression
        self.kvstore.push(_STOP, flag)
        self.kvstore.pull(_STOP, out=flag)
        return bool(flag.asscalar() > 0)

    def leave(self) -> None:
        """Do not wait for the others when this process ends: they wait for it."""
        if self.kvstore is not None:
            check_call(_LIB.MXKVStoreSetBarrierBeforeExit(self.kvstore.handle, 0))


class _CompressingTrainer(mx.gluon.Trainer):
    """A trainer that sends and fetches gradients in two steps: MXNet cannot compress them in one."""

    def _allreduce_grads(self) -> None:
        for i, param in enumerate(self._params):
            if param.grad_req != "null":
                key = self._param2idx[param.name]
                results = param.list_data() if self._update_on_kvstore else param.list_grad()
                self._kvstore.push(key, param.list_grad(), priority=-i)
                self._kvstore.pull(key, results, priority=-i)
