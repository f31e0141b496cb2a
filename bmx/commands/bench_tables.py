"""The tables that ``bmx bench`` prints for models and their steps."""

from __future__ import annotations

from typing import Any, List, Sequence

from ..tables import aligned

__all__ = ["best_peers", "layer_table", "outside_steps", "table"]


def table(results: Sequence[Any]) -> str:
    """One row per result of the same batch and number of threads. Ratios are relative to the first result."""
    rows = [["model", "input", "median ms", "p5", "p95", "images/s", "ratio", "memory MB", "file MB"]]
    for result in results:
        times = [f"{1e3 * seconds:.3f}" for seconds in (result.median, result.p5, result.p95)]
        memory = f"{result.memory / 1e6:.0f} ({result.memory_of_model / 1e6:.0f})"
        speed = [f"{result.images_per_second:.0f}", f"{results[0].median / result.median:.2f}"]
        rows.append([result.name, result.input, *times, *speed, memory, f"{result.file_bytes / 1e6:.2f}"])
        if result.accuracy is not None:
            rows[-1].append(f"{result.accuracy:.2%}")
    if len(rows[1]) > len(rows[0]):
        rows[0].append("accuracy")
    return "\n".join([f"batch {results[0].batch}, {results[0].threads} thread(s)", *aligned(rows, left=2)])


def best_peers(results: Sequence[Any]) -> List[str]:
    """For each .bmx file a line that compares it with the fastest other model, if there is one."""
    peers = [result for result in results if result.kind != "bmx"]
    if not peers:
        return []
    best = min(peers, key=lambda peer: peer.median)
    return [
        f"{result.name}: {best.median / result.median:.2f} times as fast as the fastest of the others, {best.name}"
        for result in results
        if result.kind == "bmx"
    ]


def layer_table(result: Any) -> str:
    """The steps of a .bmx file."""
    whole = sum(layer.seconds for layer in result.layers)
    rows = [["step", "kind", "arithmetic", "ms", "share", "GMAC/s"]]
    for name, kind, seconds, macs, arithmetic in result.layers:
        rate = f"{macs / seconds / 1e9:.0f}" if macs and seconds else ""
        rows.append([name, kind, arithmetic, f"{1e3 * seconds:.4f}", f"{seconds / whole:.1%}", rate])
    rows.append(["all steps", "", "", f"{1e3 * whole:.4f}", "", ""])
    title = f"{result.name}, batch {result.batch}, {result.threads} thread(s)"
    return "\n".join([title, *aligned(rows, left=3), *outside_steps(result)])


def outside_steps(result: Any) -> List[str]:
    """A line that explains why the times of the steps do not add up to the time of a call; none if they do."""
    difference = result.median - sum(layer.seconds for layer in result.layers)
    if abs(difference) < 0.005 * result.median:
        return []
    much = f"{1e3 * abs(difference):.4f} ms ({abs(difference) / result.median:.1%})"
    if difference > 0:
        threads = "handing steps to threads, " if result.threads > 1 else ""
        why = f"entering it from Python, {threads}other programs at one time and not at the other"
        return [f"a call takes {much} more than its steps, timed in other calls: {why}"]
    return [f"steps take {much} more than a call: each is timed on its own, in other calls"]
