"""The files that ``bmx bench`` writes: the measurements and the machine as JSON, and a chart."""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any, Callable, Dict, List

from ..errors import Error
from ..files import check_apart, check_target, model_files
from ..writing import Write, content, write_together

__all__ = ["check_outputs", "machine", "report", "write_results"]


def check_outputs(args: argparse.Namespace) -> None:
    """Refuse outputs that would destroy other files or fail after the work. Old reports and charts are overwritten."""
    inputs = [file for path in args.models for file in model_files(path)]
    check_apart([args.json, args.plot], [*inputs, args.data, args.labels])
    for path, what, begin in (
        (args.json, "report of bmx bench", b'{\n "machine"'),
        (args.plot, "PNG picture", b"\x89PNG"),
    ):
        if path is None:
            continue
        check_target(path)
        if os.path.isfile(path) and os.path.getsize(path) and _first_bytes(path, len(begin)) != begin:
            raise Error(f"{path}: exists already and is not a {what}; choose another name")


def _first_bytes(path: str, count: int) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(count)
    except OSError as error:
        raise Error(f"{path}: exists already and cannot be read: {error.strerror}") from None


def write_results(args: argparse.Namespace, results: List[Any], draw: Callable[[], Write]) -> None:
    """Write the measurements to the files of --json and --plot, to both or to neither."""
    files = [] if args.json is None else [(args.json, report(results))]
    files += [] if args.plot is None else [(args.plot, draw())]
    write_together(files)


def report(results: List[Any]) -> Write:
    """The measurements and the machine as a JSON file."""
    return content((json.dumps({"machine": machine(), "results": results}, indent=1) + "\n").encode())


def machine() -> Dict[str, str]:
    """The processor and software on which the measurements depend."""
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    except OSError:
        pass
    return {"processor": name, "system": platform.platform(), "python": platform.python_version()}
