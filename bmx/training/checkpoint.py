"""Checkpoints: a network as MXNet's symbol and params files, and a file with all that a run needs to resume.

All are written to temporary files that are then renamed. So the old files survive if a run is stopped or the disk is
full.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from ..checkpoints.names import params_files
from ..checkpoints.params_file import parse_params, read_bytes, write_params
from ..checkpoints.sample_shape import RECORDED
from ..errors import Error
from ..journal import finish
from ..writing import Write, check_writable, clear_leftovers, content, new_folder, write_together
from .data import check_mode

FORMAT = 2


class Checkpoint:
    """The files of a training run that begin with `prefix`.

    - ``<prefix>-symbol.json``: the network as a symbol of the variable ``data``, ending in a softmax;
    - ``<prefix>-NNNN.params``: its parameters after epoch NNNN; only the newest file is kept;
    - ``<prefix>.resume``: parameters, optimizer state and progress, from which the run resumes;
    - ``<prefix>-labels.txt``: the names of the classes, if they have names, one per line for ``bmx run --labels``.

    :func:`mxnet.model.load_checkpoint`, Module, SymbolBlock and ``tools/model_converter`` read the first two.

    Parameters
    ----------
    prefix : str
        Folder and beginning of the files' names. The folder is made if needed.
    class_names : sequence of str, optional
        Names without line breaks. By default no file with names is written.

    Attributes
    ----------
    sample_shape : tuple of int or None
        Shape of an image without the batch, or None if unknown. The symbol records it for `bmx compile` and others.
    """

    def __init__(self, prefix: str, class_names: Sequence[str] = ()):
        self.prefix = prefix
        self.sample_shape: Optional[Tuple[int, ...]] = None
        self.resume_file = f"{prefix}.resume"
        self.labels_file = f"{prefix}-labels.txt"
        self._labels = "".join(f"{name}\n" for name in class_names).encode()
        self._newest: Optional[int] = None  # epoch of the last params file that this run has written
        self._best: Optional[int] = None  # epoch of the best one
        self._overwritten: Tuple[str, ...] = ()  # files of an earlier run, removed at the first save of this one

    def params_file(self, epoch: int) -> str:
        """Return the name of the params file of `epoch`."""
        return f"{self.prefix}-{epoch:04d}.params"

    def prepare(self, resume: bool = False, overwrite: bool = False) -> None:
        """Check before a long training that the run may and can write its files. Leaves nothing behind.

        Parameters
        ----------
        resume : bool, default False
            Whether the run resumes from these files.
        overwrite : bool, default False
            Whether it may replace an earlier run, whose files are removed at the first save of this one.

        Raises
        ------
        bmx.Error
            If nothing can be written there, or there is an earlier run that is neither resumed nor overwritten.
        """
        folder, name = os.path.split(self.prefix)
        if not name:
            raise Error(f"prefix {self.prefix!r}: ends in a folder; files need the beginning of a name, such as net")
        finish(self.resume_file)
        if resume:
            self._must_exist()
        elif os.path.exists(self.resume_file):
            if not overwrite:
                raise Error(
                    f"{self.resume_file}: there is an earlier run with this prefix; go on with it (--resume), take "
                    "another prefix (--prefix), or let this run take its place (--overwrite)"
                )
            best = f"{self.prefix}-best"
            self._overwritten = (
                *(*params_files(self.prefix), *params_files(best), f"{best}-symbol.json", self.labels_file),
            )
        elif self._labels:
            self._must_not_lose_labels()
        try:
            with self._folder(keep=False):
                check_writable(self.resume_file)
        except OSError as error:
            raise Error(f"{self.resume_file}: cannot be written ({error.strerror}); take another prefix") from None

    def save(self, net: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer, progress: Dict[str, Any]) -> None:
        """Write all files, or none.

        Parameters
        ----------
        net : mxnet.gluon.HybridBlock
            Network with one input and class scores as output, all parameters initialized.
        trainer : mxnet.gluon.Trainer
            The trainer of the network's parameters.
        progress : dict
            State of the run as JSON values. It has ``epoch``, the number of finished epochs, ``batch``, the number of
            finished batches of the next epoch, and ``settings``, a dict.

        Raises
        ------
        bmx.Error
            If a file cannot be written.
        """
        check_mode("bmx.training.Checkpoint")
        epoch = progress["epoch"] + (progress["batch"] > 0)
        optimizer = trainer._optimizer
        counters = {place: getattr(owner, name) for place, owner, name in _counters(optimizer)}
        stale = {self.params_file(self._newest)} if self._newest is not None else set()
        labels = [(self.labels_file, content(self._labels))] if self._labels else []
        stale = sorted(stale.union(self._overwritten) - {self.params_file(epoch), *dict(labels)})
        names = [os.path.relpath(path, os.path.dirname(self.prefix) or ".") for path in stale]
        progress = {**progress, "format": FORMAT, "updates": optimizer.num_update, "counters": counters, "stale": names}
        text = json.dumps(progress)
        arrays = {"progress": _bytes_array(text.encode()), **_training_state(net, trainer)}
        resume = (self.resume_file, _writer({**arrays, "digest": _bytes_array(_digest(arrays))}))
        clear_leftovers([f"{self.prefix}-best-symbol.json"])
        with self._folder():
            write_together([*labels, *self._network_files(net, epoch), resume])
        _remove(stale)
        self._newest, self._overwritten = epoch, ()

    def save_best(self, net: mx.gluon.HybridBlock, epoch: int) -> None:
        """Write the network as ``<prefix>-best-symbol.json`` and ``<prefix>-best-NNNN.params``.

        Raises
        ------
        bmx.Error
            If a file cannot be written.
        """
        check_mode("bmx.training.Checkpoint")
        best = Checkpoint(f"{self.prefix}-best")
        best.sample_shape = self.sample_shape
        write_together(best._network_files(net, epoch))
        if self._best not in (None, epoch):
            _remove({best.params_file(self._best)})
        self._best = epoch

    def _must_exist(self) -> None:
        finish(self.resume_file)
        if not os.path.exists(self.resume_file):
            raise Error(f"{self.resume_file}: not found; there is no run with this prefix to resume")

    def _must_not_lose_labels(self) -> None:
        """Refuse to overwrite a file of names that no earlier run has written: a person may have written it."""
        try:
            with open(self.labels_file, "rb") as file:
                same = file.read() == self._labels
        except FileNotFoundError:
            return
        except OSError as error:
            raise Error(f"{self.labels_file}: cannot be read ({error.strerror})") from None
        if not same:
            raise Error(
                f"{self.labels_file}: exists, with other classes than this run has and with no run beside it; move it "
                "away, or take another prefix (--prefix)"
            )

    @contextlib.contextmanager
    def _folder(self, keep: bool = True) -> Iterator[None]:
        folder = os.path.dirname(self.prefix)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(new_folder(folder, keep))
            except OSError as error:
                raise Error(f"cannot make the folder {folder} of the checkpoint: {error.strerror}") from None
            yield

    def _network_files(self, net: mx.gluon.HybridBlock, epoch: int) -> List[Tuple[str, Write]]:
        recorded = {} if self.sample_shape is None else {RECORDED: str(tuple(self.sample_shape))}
        symbol = mx.sym.softmax(net(mx.sym.var("data", attr=recorded)), name="softmax")
        auxiliary = set(symbol.list_auxiliary_states())
        arrays = {
            ("aux:" if param.name in auxiliary else "arg:") + param.name: param.list_data()[0].as_in_context(mx.cpu())
            for param in net.collect_params().values()
        }
        # First the parameters: their name is new in each epoch, so a kill in between leaves the old files intact.
        return [
            (self.params_file(epoch), _writer(arrays)),
            (f"{self.prefix}-symbol.json", content(symbol.tojson().encode())),
        ]

    def restore(self, net: mx.gluon.HybridBlock, trainer: mx.gluon.Trainer, settings: Dict[str, Any]) -> Dict[str, Any]:
        """Restore the saved parameters of `net` and state of `trainer`. Returns the progress.

        Nothing changes before the whole file has been checked. The `settings` must equal the saved ones.

        Raises
        ------
        bmx.Error
            If there is no file to resume from, or it is damaged or has another network, optimizer or settings.
        """
        check_mode("bmx.training.Checkpoint")
        self._must_exist()
        saved = load_arrays(self.resume_file)
        digest = saved.pop("digest", None) if isinstance(saved, dict) else None
        try:
            progress = json.loads(saved["progress"].asnumpy().tobytes().decode())
            form, saved_settings = progress.pop("format"), dict(progress["settings"])
        except (KeyError, ValueError, TypeError, AttributeError):
            raise Error(f"{self.resume_file}: not a file to resume from; start the run anew") from None
        if form != FORMAT:
            raise Error(f"{self.resume_file}: format {form}, this version reads {FORMAT}; start the run anew")
        if digest is None or digest.asnumpy().tobytes() != _digest(saved):
            raise Error(f"{self.resume_file}: damaged, its digest is another one; start the run anew")
        del saved["progress"]
        updates, counters, stale = progress.pop("updates"), progress.pop("counters"), progress.pop("stale", [])
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
        for place, owner, name in _counters(optimizer):
            setattr(owner, name, counters.get(place, getattr(owner, name)))
        self._newest = progress["epoch"] + (progress["batch"] > 0)
        folder = os.path.dirname(self.prefix)  # a kill may have come between the save and the removal
        self._overwritten = tuple(os.path.join(folder, name) for name in stale)
        if progress["history"]:
            self._best = best_epoch(progress["history"])["epoch"]
        return progress


def best_epoch(history: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return the row of the epoch with the highest accuracy, the first of several."""
    return max(history, key=lambda row: row["accuracy"])


def load_arrays(path: str) -> Dict[str, mx.nd.NDArray]:
    """Return the arrays of an MXNet params file.

    Raises
    ------
    bmx.Error
        If it cannot be read, is not a params file, or is incomplete.
    """
    data = read_bytes(path)
    parse_params(data, path)
    return mx.nd.load_frombuffer(data)


def _writer(arrays: Dict[str, mx.nd.NDArray]) -> Write:
    """Return a function that writes arrays to an MXNet params file of a given name."""
    return lambda path: write_params(path, arrays)


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


def _remove(paths: Iterable[str]) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def _bytes_array(data: bytes) -> mx.nd.NDArray:
    return mx.nd.array(np.frombuffer(data, np.uint8), dtype=np.uint8)


def _digest(arrays: Dict[str, mx.nd.NDArray]) -> bytes:
    """Return a checksum of names, shapes, types and values."""
    result = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        values = array.asnumpy()
        result.update(f"{name} {values.shape} {values.dtype} ".encode())
        result.update(np.ascontiguousarray(values).data)
    return result.digest()


def _counters(optimizer: mx.optimizer.Optimizer, prefix: str = "") -> Iterator[Tuple[str, Any, str]]:
    """Yield the numbers that an optimizer updates in its own attributes, such as Nadam's ``m_schedule``.

    Each comes as a name, the optimizer, which may lie inside another one, and its attribute. Arguments of the
    constructor and numbers that MXNet itself keeps are left out.
    """
    options = {name for kind in type(optimizer).__mro__ for name in inspect.signature(kind.__init__).parameters}
    for name, value in sorted(vars(optimizer).items()):
        if isinstance(value, mx.optimizer.Optimizer):
            yield from _counters(value, f"{prefix}{name}.")
        elif type(value) in (int, float) and name not in options | {"lr", "num_update"}:
            yield prefix + name, optimizer, name
