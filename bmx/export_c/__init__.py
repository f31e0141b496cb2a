"""A compiled network as C source, for embedded devices: docs/export_c.md. Needs NumPy only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Union

import numpy as np

from .. import program as programs
from ..errors import Error
from ..files import check_apart
from ..journal import finish
from ..writing import content, new_folder, write_together
from .names import check_name
from .project import cmake_lists, makefile, readme, weights_array
from .samples import Run, engine, samples_bytes, with_outputs, write_test
from .source import write_source

__all__ = ["Report", "check_output", "export", "replaced_files", "samples_bytes"]


@dataclass(frozen=True)
class Report:
    """The files that `export` has written.

    Attributes
    ----------
    folder : str
    files : list of str
        Their names in the folder.
    weights, scratch : int
        Bytes of the weights, and of the scratch memory that the network needs.
    """

    folder: str
    files: List[str]
    weights: int
    scratch: int

    def __str__(self) -> str:
        return (
            f"{self.folder}: {', '.join(self.files)}\n"
            f"weights {self.weights:,} bytes, scratch memory {self.scratch:,} bytes"
        )


def export(
    program: Union[programs.Program, str, os.PathLike],
    folder: Union[str, os.PathLike],
    name: str = "net",
    weights: str = "file",
    force: bool = False,
    samples: Optional[Sequence[np.ndarray]] = None,
    run: Optional[Run] = None,
) -> Report:
    """Write a compiled network as C source, with a test, build files and a README.

    Parameters
    ----------
    program : bmx.program.Program or path of a .bmx file
    folder : path
        The folder for the files. It is made if it does not exist.
    name : str
        Prefix of all files, functions and macros.
    weights : {'file', 'array'}
        Whether the weights become net_weights.bin or an array in net_weights.c.
    force : bool
        Overwrite existing files.
    samples : sequence of ndarray, optional
        One array (samples, ...) per input. They and their outputs become net_samples.bin, which the test reads.
    run : callable, optional
        Computes the reference outputs of a sample. It takes and returns a list of arrays without the batch. Default:
        the engine of bmx.

    Returns
    -------
    Report

    Raises
    ------
    bmx.Error
        If the name is not allowed in C, a file exists, cannot be written or is the .bmx file itself, the .bmx file is
        not valid or has a step that cannot be written in C, or samples have a wrong shape. Then nothing is written.
    """
    folder, array = os.fspath(folder), weights == "array"
    names = check_output(folder, name, weights, samples is not None, force)  # before the work, which may take minutes
    if not isinstance(program, programs.Program):
        check_apart(replaced_files(folder, name), [os.fspath(program)])
        program = programs.decode(program)
    source = write_source(program, name, array)
    run = run or engine(program)
    texts = [source.header, source.code, weights_array(source) if array else source.weights]
    texts += [write_test(source, program, run, array)]
    texts += [makefile(source, array), cmake_lists(source, array), readme(source, program, array)]
    texts += [with_outputs(program, samples, run)] if samples is not None else []
    contents = {file: text if isinstance(text, bytes) else text.encode() for file, text in zip(names, texts)}
    _write(folder, contents, _optional(name))
    return Report(folder, names, len(source.weights), source.scratch)


def check_output(folder: str, name: str, weights: str, samples: bool, force: bool) -> List[str]:
    """The names of the files that `export` would write. Raises bmx.Error if `export` would refuse."""
    check_name(name)
    if weights not in ("file", "array"):
        raise Error(f"weights is {weights!r}; allowed: 'file', 'array'")
    names = [f"{name}.h", f"{name}.c", f"{name}_weights.{'c' if weights == 'array' else 'bin'}", f"test_{name}.c"]
    names += ["Makefile", "CMakeLists.txt", "README.md", *([f"{name}_samples.bin"] if samples else [])]
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise Error(f"{folder}: this is a file; give a folder")
    finish(os.path.join(folder, names[0]))
    existing = [file for file in dict.fromkeys(names + _optional(name)) if os.path.lexists(os.path.join(folder, file))]
    if existing and not force:
        raise Error(f"{folder}: {', '.join(existing)} exists already; overwrite with --force, or choose another folder")
    return names


def replaced_files(folder: str, name: str) -> List[str]:
    """The files that `export` may write or remove, with any options."""
    both = (check_output(folder, name, weights, samples=True, force=True) for weights in ("file", "array"))
    return [os.path.join(folder, file) for file in dict.fromkeys(file for names in both for file in names)]


def _optional(name: str) -> List[str]:
    """Files that only some exports write. Those of an earlier export must not be mistaken for files of this one."""
    return [f"{name}_weights.bin", f"{name}_weights.c", f"{name}_samples.bin"]


def _write(folder: str, contents: Dict[str, bytes], optional: List[str]) -> None:
    """Write all files or none."""
    try:
        with new_folder(folder):
            write_together([(os.path.join(folder, file), content(data)) for file, data in contents.items()])
            for file in optional:
                if file not in contents and os.path.lexists(os.path.join(folder, file)):
                    os.remove(os.path.join(folder, file))
    except OSError as error:
        raise Error(f"{folder}: cannot be written: {error.strerror or error}") from None
