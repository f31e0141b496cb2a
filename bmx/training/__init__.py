"""Training: data sets, the fit loop, checkpoints and the curves of a run.

These are what the programs in ``example/`` share; a network of one's own trains with them in a few lines, or with
MXNet's Trainer and Module alone.
"""

from .checkpoint import Checkpoint
from .data import Batches, Dataset, affine_jitter, digits, load_mnist, mnist
from .fit import accuracy, fit
from .plot import plot_curves

__all__ = [
    "Batches",
    "Checkpoint",
    "Dataset",
    "accuracy",
    "affine_jitter",
    "digits",
    "fit",
    "load_mnist",
    "mnist",
    "plot_curves",
]
