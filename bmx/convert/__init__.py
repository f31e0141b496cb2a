"""Packs the 1-bit weights of a trained checkpoint, one bit a weight, in BMXNet's formats; unpacks them for training."""

from ..comparison import Verification
from .conversion import convert_checkpoint
from .report import ConversionReport, LayerReport
from .unpack import Unpacked, unpack_checkpoint

__all__ = ["ConversionReport", "LayerReport", "Unpacked", "Verification", "convert_checkpoint", "unpack_checkpoint"]
