"""Training: data sets, the fit loop, checkpoints and the curves of a run.

These are what the programs in ``example/`` share; a network of one's own trains with them in a few lines, or with
MXNet's Trainer and Module alone.
"""

from .augment import affine_jitter, augmentation
from .checkpoint import Checkpoint
from .cifar import cifar10, cifar100
from .data import Batches, Dataset, synthetic
from .fit import accuracy, fit
from .imagenet import FolderBatches, RecordBatches
from .mnist import digits, fashion_mnist, load_mnist, mnist
from .objective import Objective
from .plot import plot_curves
from .schedule import learning_rates
from .tau import RisingTau
from .workers import Workers

__all__ = [
    "Batches",
    "Checkpoint",
    "Dataset",
    "FolderBatches",
    "Objective",
    "RecordBatches",
    "RisingTau",
    "Workers",
    "accuracy",
    "affine_jitter",
    "augmentation",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "fit",
    "learning_rates",
    "load_mnist",
    "mnist",
    "plot_curves",
    "synthetic",
]
