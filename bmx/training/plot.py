"""The curves of a run as a picture."""

from __future__ import annotations

from typing import Any, Dict, List

from ..errors import Error
from ..writing import write_atomically


def plot_curves(path: str, history: List[Dict[str, Any]], title: str = "") -> None:
    """Draw the training loss and the validation accuracy of each epoch into the PNG file `path`.

    Parameters
    ----------
    path : str
        Name of the picture.
    history : list of dict
        What :func:`bmx.training.fit` returns: ``epoch``, ``loss`` and ``accuracy`` (0 to 1) of each epoch.
    title : str, optional
        A line above the curves.

    Raises
    ------
    bmx.Error
        If matplotlib is not installed or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise Error("curves need matplotlib: pip install 'bmx-mxnet[examples]'") from None
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    epochs = [row["epoch"] for row in history]
    left = figure.add_subplot(title=title, xlabel="epoch", ylabel="training loss", yscale="log")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.plot(epochs, [row["loss"] for row in history], "C0.-", label="training loss")
    right = left.twinx()
    right.set_ylabel("validation accuracy (%)")
    right.plot(epochs, [100 * row["accuracy"] for row in history], "C1.-", label="validation accuracy")
    figure.legend(loc="center right", bbox_to_anchor=(1, 0.5), bbox_transform=left.transAxes)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
