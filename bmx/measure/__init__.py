"""Measures models side by side: .bmx files, checkpoints of MXNet and .onnx files, each in a process of its own.

:func:`measure` starts the processes and asks them in turns, so that what disturbs the machine disturbs all of them;
:mod:`~bmx.measure.runners` loads and runs a model, in a process that imports nothing which that model does not need.
"""

from .contenders import Contender, Layer, Result, measure

__all__ = ["Contender", "Layer", "Result", "measure"]
