"""Checkpoints: a network as MXNet's symbol and params files, and a file with all that a run needs to go on.

All are written to temporary files that then take their names, so that a run that is stopped, or a full disk, leaves the
files of before.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
from pathlib import Path
from typing import Any, Dict

import mxnet as mx
import numpy as np

from ..compiler.params_file import parse_params, read_bytes
from ..errors import Error
from ..files import write_atomically

FORMAT = 1


class Checkpoint:
    """The files of a training run that begin with `prefix`.

    - ``<prefix>-symbol.json``: the network as a symbol of the variable ``data``, ending in a softmax;
    - ``<prefix>-NNNN.params``: its parameters in epoch NNNN, the newest only;
    - ``<prefix>.resume``: parameters, optimizer state and progress, from which the run goes on.

    The first two are what :func:`mxnet.model.load_checkpoint`, Module, SymbolBlock and ``tools/model_converter`` read.

    Parameters
    ----------
    prefix : str
        Folder and beginning of the files' names; the folder is made when needed.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.resume_file = f"{prefix}.resume"
        self._newest = None  # epoch of the params file that this run has written last

    def params_file(self, epoch: int) -> str:
        """Return the name of the params file of `epoch`."""
        return f"{self.prefix}-{epoch:04d}.params"

    def save(self, net: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer, progress: Dict[str, Any]) -> None:
        """Write all files.

        Parameters
        ----------
        net : mxnet.gluon.HybridBlock
            Network with one input and class scores as output, all parameters initialized.
        trainer : mxnet.gluon.Trainer
            The trainer of the network's parameters.
        progress : dict
            What JSON can hold about the run; among it ``epoch``, the epochs done, ``batch``, the batches done of the
            next one, and ``settings``, a dict.

        Raises
        ------
        bmx.Error
            If a file cannot be written.
        """
        folder = Path(self.prefix).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"cannot make the folder {folder} of the checkpoint: {error.strerror}") from None
        epoch = progress["epoch"] + (progress["batch"] > 0)
        self._save_network(net, epoch)
        text = json.dumps({**progress, "format": FORMAT, "updates": trainer._optimizer.num_update})
        state = {"progress": mx.nd.array(np.frombuffer(text.encode(), np.uint8), dtype=np.uint8)}
        save_arrays(self.resume_file, {**state, **_training_state(net, trainer)})
        if self._newest not in (None, epoch):
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.params_file(self._newest))
        self._newest = epoch

    def save_best(self, net: mx.gluon.HybridBlock, epoch: int) -> None:
        """Write the network as ``<prefix>-best-symbol.json`` and ``<prefix>-best-NNNN.params``.

        Raises
        ------
        bmx.Error
            If a file cannot be written.
        """
        best = Checkpoint(f"{self.prefix}-best")
        before = glob.glob(f"{glob.escape(best.prefix)}-[0-9][0-9][0-9][0-9].params")
        best._save_network(net, epoch)
        for path in before:
            if path != best.params_file(epoch):
                os.remove(path)

    def _save_network(self, net: mx.gluon.HybridBlock, epoch: int) -> None:
        symbol = mx.sym.softmax(net(mx.sym.var("data")), name="softmax")
        auxiliary = set(symbol.list_auxiliary_states())
        arrays = {
            ("aux:" if param.name in auxiliary else "arg:") + param.name: param.list_data()[0].as_in_context(mx.cpu())
            for param in net.collect_params().values()
        }
        write_atomically(f"{self.prefix}-symbol.json", symbol.save, errors=(mx.MXNetError,))
        save_arrays(self.params_file(epoch), arrays)

    def restore(self, net: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer, settings: Dict[str, Any]) -> Dict[str, Any]:
        """Set the parameters of `net` and the state of `trainer` to those saved; return the progress.

        Nothing is changed before all of the file has been checked: also the `settings`, which must be those saved.

        Raises
        ------
        bmx.Error
            If there is no file to resume from, or it is corrupt or of another network, optimizer or settings.
        """
        if not os.path.exists(self.resume_file):
            raise Error(f"{self.resume_file}: not found; there is no run with this prefix to resume")
        saved = load_arrays(self.resume_file)
        try:
            progress = json.loads(saved.pop("progress").asnumpy().tobytes().decode())
            form, updates, saved_settings = progress.pop("format"), progress.pop("updates"), dict(progress["settings"])
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Error(f"{self.resume_file}: not a file to resume from; start the run anew") from None
        if form != FORMAT:
            raise Error(f"{self.resume_file}: format {form}, this version reads {FORMAT}; start the run anew")
        for name, value in settings.items():
            if saved_settings.get(name) != value:
                raise Error(
                    f"{self.resume_file}: the run has {name} {saved_settings.get(name)}, not {value}; "
                    "resume with the same, or begin another run with another prefix"
                )
        targets = _training_state(net, trainer)
        if _shapes(targets) != _shapes(saved):
            name, _ = sorted(_shapes(targets).items() ^ _shapes(saved).items())[0]
            raise Error(f"{self.resume_file}: from another network or optimizer, see {name}; resume with the same ones")
        for name, target in targets.items():
            saved[name].copyto(target)
        optimizer = trainer._optimizer
        for i, param in enumerate(trainer._params):
            if param.grad_req != "null":
                param.set_data(param.list_data()[0])  # from the first device to all
                for updater in trainer._updaters[1:]:
                    source = trainer._updaters[0].states[i]
                    updater.states[i] = optimizer.create_state_multi_precision(i, param.list_data()[0])
                    updater.states_synced[i] = True
                    for array, target in zip(_flatten(source), _flatten(updater.states[i])):
                        array.copyto(target)
        for device in range(len(trainer._updaters)):
            counts = optimizer._all_index_update_counts.setdefault(device, {})
            counts.update(dict.fromkeys(range(len(trainer._params)), updates))
        optimizer.num_update = updates
        self._newest = progress["epoch"] + (progress["batch"] > 0)
        return progress


def save_arrays(path: str, arrays: Dict[str, mx.nd.NDArray]) -> None:
    """Write `arrays` to an MXNet params file, whole or not at all.

    Raises
    ------
    bmx.Error
        If the file cannot be written.
    """

    def write(temporary: str) -> None:
        mx.nd.save(temporary, arrays)
        mx.nd.load(temporary)  # MXNet does not notice a disk that fills up when it closes the file

    write_atomically(path, write, errors=(mx.MXNetError,))


def load_arrays(path: str) -> Dict[str, mx.nd.NDArray]:
    """Return the arrays of an MXNet params file.

    Raises
    ------
    bmx.Error
        If it cannot be read, is no such file, or is incomplete.
    """
    data = read_bytes(path)
    parse_params(data, path)
    return mx.nd.load_frombuffer(data)


def _training_state(net: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer) -> Dict[str, mx.nd.NDArray]:
    """Return, by name, the arrays that change while `trainer` trains `net`: the arrays themselves, not copies."""
    arrays = {}
    updater = trainer._updaters[0]
    for i, param in enumerate(trainer._params):
        name = param.name[len(net.prefix) :] if param.name.startswith(net.prefix) else param.name
        arrays[f"param:{name}"] = param.list_data()[0]
        if param.grad_req == "null":  # averages of BatchNorm, which every device has of its own
            for device, array in enumerate(param.list_data()[1:], 1):
                arrays[f"param:{name}:{device}"] = array
            continue
        if i not in updater.states:  # before the first step
            updater.states[i] = trainer._optimizer.create_state_multi_precision(i, param.list_data()[0])
            updater.states_synced[i] = True
        for j, state in enumerate(_flatten(updater.states[i])):
            arrays[f"state:{name}:{j}"] = state
    return arrays


def _flatten(state: Any) -> list:
    """Return the arrays in an optimizer's state, which is None, an array or a sequence of states."""
    if isinstance(state, (list, tuple)):
        return [array for part in state for array in _flatten(part)]
    return [] if state is None else [state]


def _shapes(arrays: Dict[str, mx.nd.NDArray]) -> Dict[str, tuple]:
    return {name: (array.shape, str(np.dtype(array.dtype))) for name, array in arrays.items()}
