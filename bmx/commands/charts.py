"""Charts of measurements: time by layer, accuracy against time, and the speed of single layers."""

from __future__ import annotations

import warnings
from typing import Any, List, Sequence, Tuple

from ..errors import Error
from ..measure import Layer
from ..measure.single_layers import KINDS
from ..writing import Write
from .bench_tables import outside_steps

__all__ = ["plot", "plot_layers", "require_matplotlib"]

_ARITHMETICS = ("float", "float x binary", "int8", "int8 x binary", "binary")  # colours in the order of KINDS
_OTHERS = ("POOL", "POOL_BITS", "MAP", "SOFTMAX", "COPY", "FILL", "LOAD", "STORE")  # greys
_MARKERS = "os^Dv"
_BELOW = 0.65  # inches from a chart to its legend; tick labels and the axis label lie between
_SMALL, _REST = 0.002, "other"  # smaller fractions of the total are summed up; kind of that sum


def require_matplotlib() -> None:
    """Raise bmx.Error if matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise Error("--plot needs matplotlib: pip install 'bmx-mxnet[examples]'") from None


def plot(results: Sequence[Any]) -> Write:
    """Draw a chart of the layers of each .bmx file, and one of accuracy against time if there are accuracies.

    Parameters
    ----------
    results : sequence of bmx.measure.Result

    Returns
    -------
    callable
        Writes the PNG file of the name that it is given.

    Raises
    ------
    bmx.Error
        If matplotlib is not installed, or there is nothing to draw.
    """
    require_matplotlib()
    layered = [result for result in results if result.layers]
    rated = [result for result in results if result.accuracy is not None]
    charts = [(_draw_layers, result) for result in layered] + ([(_draw_accuracy, rated)] if rated else [])
    if not charts:
        raise Error("there is nothing to draw: no result has layers or an accuracy")
    return _png(charts, [_height(draw, what) for draw, what in charts])


def plot_layers(reports: Sequence[Any]) -> Write:
    """Draw the speed of single layers, a chart for each report.

    Parameters
    ----------
    reports : sequence of bmx.measure.single_layers.LayersReport

    Returns
    -------
    callable
        Writes the PNG file of the name that it is given.

    Raises
    ------
    bmx.Error
        If matplotlib is not installed.
    """
    require_matplotlib()
    return _png([(_draw_speeds, report) for report in reports], [4.5] * len(reports))


def _png(charts: Sequence[Tuple[Any, Any]], heights: Sequence[float]) -> Write:
    figure = _figure(charts, heights)

    def write(path: str) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph ")  # the font lacks some letters; it draws boxes instead
            figure.savefig(path, format="png", dpi=110)

    return write


def _figure(charts: Sequence[Tuple[Any, Any]], heights: Sequence[float]) -> Any:
    """A figure of charts, one below the other. Each chart is a function and the object that it draws."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(charts), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for (draw, what), place in zip(charts, axes[:, 0]):
        draw(place, what)
    return figure


def _draw_layers(axes: Any, result: Any) -> None:
    """Bars from top to bottom in the order of the steps, with multiply-adds per second. Small steps share one bar."""
    from matplotlib.patches import Patch
    from matplotlib.transforms import ScaledTranslation

    steps = _large(result)
    colours = [_colour(_label(step)) for step in steps]
    axes.barh(range(len(steps)), [1e3 * step.seconds for step in steps], color=colours)
    for place, step in enumerate(steps):
        if step.macs and step.seconds:
            text = f" {step.macs / step.seconds / 1e9:.0f} GMAC/s"
            axes.text(1e3 * step.seconds, place, text, va="center", fontsize=6)
    axes.set_yticks(range(len(steps)), [step.name for step in steps], fontsize=6)
    axes.set_ylim(len(steps) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.set_xlabel("\n".join(["ms", *outside_steps(result)]), fontsize=8)
    whole = sum(layer.seconds for layer in result.layers)
    how = f"batch {result.batch}, {result.threads} thread(s)"
    axes.set_title(f"{result.name}, {how}\n{1e3 * result.median:.3f} ms a call, {1e3 * whole:.3f} ms in its steps")
    found = {_label(step) for step in steps}
    labels = [label for label in (*_ARITHMETICS, *_OTHERS, _REST) if label in found]
    handles = [Patch(facecolor=_colour(label), label=label) for label in labels]
    below = ScaledTranslation(0, -_BELOW, axes.figure.dpi_scale_trans)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": axes.transAxes + below}
    axes.legend(handles=handles, fontsize=7, ncols=7, borderaxespad=0, **place)


def _height(draw: Any, what: Any) -> float:
    if draw is _draw_layers:
        return 2.1 + 0.18 * len(_large(what))
    return 4 + 0.17 * -(-len(what) // _legend_columns(_labels(what)))


def _large(result: Any) -> List[Layer]:
    whole = sum(layer.seconds for layer in result.layers)
    large = [layer for layer in result.layers if layer.seconds >= _SMALL * whole]
    rest = whole - sum(layer.seconds for layer in large)
    small = len(result.layers) - len(large)
    if small <= 1:  # a single one takes no more space under its own name
        return list(result.layers)
    return [*large, Layer(f"{small} small steps", _REST, rest, 0)]


def _label(step: Layer) -> str:
    """The arithmetic of a layer, the kind of any other step."""
    return step.arithmetic or step.kind


def _colour(label: str) -> str:
    if label in _ARITHMETICS:
        return f"C{_ARITHMETICS.index(label)}"
    return str(0.35 + 0.06 * _OTHERS.index(label)) if label in _OTHERS else "0.9"


def _draw_accuracy(axes: Any, results: Sequence[Any]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    labels = _labels(results)
    for number, (label, result) in enumerate(zip(labels, results)):
        marker = _MARKERS[number // 10 % len(_MARKERS)]  # there are 10 colours
        axes.plot(1e3 * result.median / result.batch, 100 * result.accuracy, marker, label=label)
    axes.set_xscale("log")
    axes.margins(0.1)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("ms per image")
    axes.set_ylabel("accuracy (%)")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=_legend_columns(labels))


def _labels(results: Sequence[Any]) -> List[str]:
    """Names of models, with batch and threads if these differ between models."""
    varied = [name for name in ("batch", "threads") if len({getattr(result, name) for result in results}) > 1]
    hows = [", ".join(f"{name} {getattr(result, name)}" for name in varied) for result in results]
    return [f"{result.name} ({how})" if how else result.name for how, result in zip(hows, results)]


def _legend_columns(labels: Sequence[str]) -> int:
    return max(1, 110 // (max(map(len, labels)) + 8))


def _draw_speeds(axes: Any, report: Any) -> None:
    """A group of bars for each shape, warm behind cold, with the limit from reading the weights."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    shapes = list(dict.fromkeys(layer.shape for layer in report.layers))
    kinds = [kind for kind in KINDS if any(layer.kind == kind for layer in report.layers)]
    width = 0.85 / len(kinds)
    for layer in report.layers:
        place = shapes.index(layer.shape) + (kinds.index(layer.kind) - (len(kinds) - 1) / 2) * width
        colour = f"C{list(KINDS).index(layer.kind)}"
        warm, cold = (layer.macs / seconds / 1e9 for seconds in (layer.warm, layer.cold))
        limit = layer.macs / (layer.weight_bytes / report.bandwidth) / 1e9
        axes.bar(place, warm, 0.95 * width, color=colour, alpha=0.35)
        axes.bar(place, cold, 0.55 * width, color=colour)
        highest = max(warm, cold)
        if limit < 3 * highest:  # a limit farther away tells nothing
            axes.plot([place - width / 2, place + width / 2], [limit, limit], color="black", linewidth=1)
            highest = max(highest, limit)
        place = (place, highest)
        axes.annotate(f"{max(warm, cold):.0f}", place, (0, 2), textcoords="offset points", ha="center", fontsize=6)
    axes.set_yscale("log")
    axes.margins(y=0.15)
    axes.set_xticks(range(len(shapes)), [str(shape) for shape in shapes], fontsize=8)
    axes.set_ylabel("GMAC/s")
    axes.set_title(
        f"Layers, one image, {report.threads} thread(s); memory is read at {report.bandwidth / 1e9:.1f} GB/s"
    )
    axes.grid(True, axis="y", which="both", alpha=0.3)
    axes.set_axisbelow(True)
    handles = [Patch(color=f"C{list(KINDS).index(kind)}", label=KINDS[kind].name) for kind in kinds]
    handles += [Patch(color="0.3", label="cold: weights from memory"), Patch(color="0.3", alpha=0.35, label="warm")]
    handles += [Line2D([], [], color="black", linewidth=1, label="limit of a cold layer: its weights are read once")]
    axes.legend(handles=handles, fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.08))
