"""Optimizers for networks with 1-bit weights, and a measure of how much such weights still change.

The optimizers are registered in MXNet by their names in small letters: 'radam', 'bop', 'binaryoptimizer'.

    trainer = gluon.Trainer(net.collect_params(), 'radam', {'learning_rate': 0.002})
    trainer = gluon.Trainer(net.collect_params(), BinaryOptimizer('adam', binary='bop'))
    trainer = gluon.Trainer(net.collect_params(), BinaryOptimizer('sgd', {'momentum': 0.9}, clip=1))
"""

from .binary import BinaryOptimizer, has_one_bit
from .bop import Bop
from .flip_ratio import FlipRatio, Flips
from .radam import RAdam

__all__ = ["BinaryOptimizer", "Bop", "FlipRatio", "Flips", "RAdam", "has_one_bit"]
