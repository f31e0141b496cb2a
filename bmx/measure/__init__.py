"""Measures models side by side: .bmx files, checkpoints of MXNet and .onnx files. Each runs in its own process.

:func:`measure` starts the processes and lets them run in turns, so that a disturbance of the machine affects all of
them. :mod:`~bmx.measure.runners` loads and runs a model in a process that imports only what the model needs.
"""

from .contenders import Contender, Layer, Result, measure

__all__ = ["Contender", "Layer", "Result", "measure"]
