"""The operations and stores of an epilogue: a class each, and a row in the tables of docs/format.md.

Whatever has to know an operation or store reads its row: the writer, reader and checks of files, descriptions and
reports, the compiler's arithmetic and passes, the lowering, the export to C. The engine's half of a row is in
src/kernels/engine/operations.h. tests/program/test_operations.py holds both halves and docs/format.md against each
other.

The classes are those of the compiler's graph too: what they read and store are the values of a graph, or the tensors of
a program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .rounding import fma, round_half_away


class ArrayField(NamedTuple):
    """A kind of field that is one number a channel: how `packing` packs it, and the type of the array."""

    packing: str
    dtype: type


ARRAYS = {
    "numbers": ArrayField("f32", np.float32),
    "counts": ArrayField("i32", np.int32),
    "sign": ArrayField("sign", np.bool_),
    "flip": ArrayField("flip", np.bool_),
}
"""Those kinds of fields."""


def fields_of(text: str) -> List[Tuple[str, str]]:
    """Kind and attribute of each field.

    Examples
    --------
    >>> fields_of("tensor source, numbers scale")
    [('tensor', 'source'), ('numbers', 'scale')]
    """
    return [(kind, attribute) for kind, _, attribute in (entry.partition(" ") for entry in text.split(", "))]


# --- functions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FunctionRow:
    """A function of FUNCTION.

    Attributes
    ----------
    compute : callable
        Its meaning on a float64 array; what it gives is rounded to float32.
    c : str
        The same in C, an expression of a float y.
    monotone : bool
        Whether it rises or falls everywhere, with its roundings.
    """

    compute: Callable[[np.ndarray], np.ndarray]
    c: str
    monotone: bool = True


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softsign(y: np.ndarray) -> np.ndarray:
    """Rounded twice, as the engine does, so that it falls here and there."""
    y = np.float32(y)
    return y / (1 + np.abs(y))


def _selu(y: np.ndarray) -> np.ndarray:
    return 1.0507009873554805 * np.where(y > 0, y, 1.6732632423543772 * np.expm1(y))


_SOFTPLUS = "(y > 0 ? y : y < 0 ? 0 : y) + log1pf(expf(-fabsf(y)))"
_SELU = "1.05070099f * (y > 0 ? y : 1.67326324f * expm1f(y))"

FUNCTIONS: Dict[str, FunctionRow] = {
    "round": FunctionRow(round_half_away, "roundf(y)"),
    "tanh": FunctionRow(np.tanh, "tanhf(y)"),
    "sigmoid": FunctionRow(lambda y: 1 / (1 + np.exp(-y)), "1 / (1 + expf(-y))"),
    "softplus": FunctionRow(lambda y: np.logaddexp(0, y), _SOFTPLUS),
    "softsign": FunctionRow(_softsign, "y / (1 + fabsf(y))", monotone=False),
    "exp": FunctionRow(np.exp, "expf(y)"),
    "log": FunctionRow(np.log, "logf(y)", monotone=False),  # NaN below 0
    "sqrt": FunctionRow(np.sqrt, "sqrtf(y)", monotone=False),
    "square": FunctionRow(np.square, "y * y", monotone=False),
    "abs": FunctionRow(np.abs, "fabsf(y)", monotone=False),
    "sign1": FunctionRow(lambda y: np.where(y < 0, -1.0, 1.0), "y < 0 ? -1.0f : 1.0f"),
    "gelu": FunctionRow(
        lambda y: y * (1 + _erf(y / math.sqrt(2))) / 2, "y * (1 + erff(y * 0.70710678f)) / 2", monotone=False
    ),
    "elu": FunctionRow(lambda y: np.where(y > 0, y, np.expm1(y)), "y > 0 ? y : expm1f(y)"),
    "selu": FunctionRow(_selu, _SELU),
    "reciprocal": FunctionRow(lambda y: 1 / y, "1 / y", monotone=False),
    "negate": FunctionRow(np.negative, "-y"),
    "signum": FunctionRow(np.sign, "y > 0 ? 1.0f : y < 0 ? -1.0f : y"),
}
"""The functions by their names; the number of one in the file is its place here, from 1."""


# --- operations; arrays are float32, one number a channel -----------------------------------------------------------


class Operation:
    """What becomes of the y of each pixel and channel: one of an epilogue's operations."""


@dataclass(eq=False)
class Affine(Operation):
    """``fma(y, scale, bias)``."""

    scale: np.ndarray
    bias: np.ndarray


@dataclass(eq=False)
class Add(Operation):
    """``y + operand``: of the same shape, or with sizes of 1 in its place."""

    operand: Any


@dataclass(eq=False)
class Multiply(Operation):
    """``y * operand``: of the same shape, or with sizes of 1 in its place."""

    operand: Any


@dataclass(eq=False)
class PRelu(Operation):
    """``y`` where it is positive, else ``y * slope``."""

    slope: np.ndarray


@dataclass(eq=False)
class Clip(Operation):
    """``y`` between two numbers; ReLU is ``Clip(0, inf)``."""

    low: float
    high: float


@dataclass(eq=False)
class Function(Operation):
    """One of `FUNCTIONS`, by its name."""

    name: str


@dataclass(eq=False)
class Norm(Operation):
    """``fma(y - mean, scale, bias)``: BatchNorm, rounded as MXNet rounds it."""

    mean: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


@dataclass(eq=False)
class Maximum(Operation):
    """``y`` or `operand`, whichever is larger; NaN if one is NaN."""

    operand: Any


@dataclass(eq=False)
class Minimum(Operation):
    """``y`` or `operand`, whichever is smaller; NaN if one is NaN."""

    operand: Any


@dataclass(frozen=True)
class OperationRow:
    """What there is to know of a kind of operation.

    Attributes
    ----------
    code : int
        In the file.
    kind : type
    fields : str
        Its operands in the file, each a kind and the attribute that it is: numbers (one a channel), tensor, f32 or
        function.
    compute : callable
        Its meaning in NumPy: of the operation, y, and the numbers of the operand if there is one; float32 arrays whose
        last axis is the channels.
    word : str or callable
        What reports and descriptions call it, and its section in bmx/export_c/c/epilogue.c (of functions apply_*);
        it may depend on the operation.
    c : str
        With an operand: the meaning in C, an expression of the floats y and t; the section is made of it.
    monotone : callable
        Whether an operation without operand rises or falls everywhere, in every channel.
    commutative : bool
        Whether y and the operand can be exchanged.
    chooses : bool
        Whether what it gives is y itself or the operand itself.
    problem : callable
        What is wrong with the numbers of an operation as the file has them, in words, or nothing.
    """

    code: int
    kind: type
    fields: str
    compute: Callable[..., np.ndarray]
    word: Union[str, Callable[[Any], str]]
    c: str = ""
    monotone: Callable[[Any], bool] = lambda operation: True
    commutative: bool = False
    chooses: bool = False
    problem: Callable[[Any], Optional[str]] = lambda operation: None


def _affine(operation: Affine, y: np.ndarray) -> np.ndarray:
    return fma(y, operation.scale, operation.bias)


def _norm(operation: Norm, y: np.ndarray) -> np.ndarray:
    return fma(np.subtract(y, operation.mean, dtype=np.float32), operation.scale, operation.bias)


def _prelu(operation: PRelu, y: np.ndarray) -> np.ndarray:
    return np.where(y > 0, y, np.multiply(y, operation.slope, dtype=np.float32))


def _clip(operation: Clip, y: np.ndarray) -> np.ndarray:
    low, high = np.float32(operation.low), np.float32(operation.high)
    return np.where(y < low, low, np.where(y > high, high, y))


def _limits(operation: Clip) -> Optional[str]:
    low, high = float(np.float32(operation.low)), float(np.float32(operation.high))  # not NaN either
    return None if low <= high else f"it clips from {low} to {high}; the first must be the smaller"


def _function(operation: Function, y: np.ndarray) -> np.ndarray:
    return FUNCTIONS[operation.name].compute(np.asarray(y, np.float64)).astype(np.float32)


def _is_monotone_function(operation: Function) -> bool:
    return FUNCTIONS[operation.name].monotone


def _clip_word(operation: Clip) -> str:
    return "relu" if (operation.low, operation.high) == (0, math.inf) else "clip"


OPERATIONS = (
    OperationRow(1, Affine, "numbers scale, numbers bias", _affine, "affine"),
    OperationRow(2, Add, "tensor operand", lambda op, y, t: y + t, "add", c="y + t", commutative=True),
    OperationRow(3, Multiply, "tensor operand", lambda op, y, t: y * t, "multiply", c="y * t", commutative=True),
    OperationRow(4, PRelu, "numbers slope", _prelu, "prelu", monotone=lambda op: bool((op.slope >= 0).all())),
    OperationRow(5, Clip, "f32 low, f32 high", _clip, _clip_word, problem=_limits),
    OperationRow(6, Function, "function name", _function, lambda op: op.name, monotone=_is_monotone_function),
    OperationRow(7, Norm, "numbers mean, numbers scale, numbers bias", _norm, "norm"),
    OperationRow(
        *(8, Maximum, "tensor operand", lambda op, y, t: np.where((y > t) | np.isnan(y), y, t), "maximum"),
        c="y > t || y != y ? y : t",
        commutative=True,  # but for the sign of a 0 beside another
        chooses=True,
    ),
    OperationRow(
        *(9, Minimum, "tensor operand", lambda op, y, t: np.where((y < t) | np.isnan(y), y, t), "minimum"),
        c="y < t || y != y ? y : t",
        commutative=True,
        chooses=True,
    ),
)
"""The operations by their codes."""


# --- stores ---------------------------------------------------------------------------------------------------------


class StoreKind:
    """What a step stores of its results, and where."""


@dataclass(eq=False)
class Floats(StoreKind):
    """``y``."""

    value: Any


@dataclass(eq=False)
class Bits(StoreKind):
    """``not (y, its sign flipped where flip) < threshold``."""

    value: Any
    threshold: np.ndarray  # float32
    flip: np.ndarray  # bool


@dataclass(eq=False)
class Bytes(StoreKind):
    """``clamp(rint(y * inverse_scale) + zero point of the value, 0, 255)``.

    In the compiler's graph the inverse scale is left to the lowering, which takes it of the value.
    """

    value: Any
    inverse_scale: float = 0.0


@dataclass(eq=False)
class CountBits(StoreKind):
    """``(p <= threshold) xor flip`` for the p differing bits of a binary convolution."""

    value: Any
    threshold: np.ndarray  # int32
    flip: np.ndarray  # bool


@dataclass(frozen=True)
class StoreRow:
    """What there is to know of a kind of store.

    Attributes
    ----------
    code : int
        Its bit in the file; stores come in this order.
    kind : type
    fields : str
        As those of an `OperationRow`.
    dtype : str
        Of the tensor.
    problem : callable
        As that of an `OperationRow`.
    """

    code: int
    kind: type
    fields: str
    dtype: str
    problem: Callable[[Any], Optional[str]] = lambda store: None


def _inverse_scale(store: Bytes) -> Optional[str]:
    inverse = float(np.float32(store.inverse_scale))
    return None if 0 < inverse < math.inf else f"its inverse scale is {inverse}; it must be positive and finite"


STORES = (
    StoreRow(1, Floats, "tensor value", "f32"),
    StoreRow(2, Bits, "tensor value, numbers threshold, sign flip", "bit"),
    StoreRow(4, Bytes, "tensor value, f32 inverse_scale", "u8", problem=_inverse_scale),
    StoreRow(8, CountBits, "tensor value, counts threshold, flip flip", "bit"),
)
"""The stores by their bits."""


# --- what readers of the tables share -------------------------------------------------------------------------------

_ROWS: Dict[type, Union[OperationRow, StoreRow]] = {row.kind: row for row in (*OPERATIONS, *STORES)}


def row_of(entry: Any) -> Any:
    """The row of an operation or store."""
    return _ROWS[type(entry)]


def has_operand(operation: Operation) -> bool:
    """Whether an operation reads a tensor."""
    return hasattr(operation, "operand")


def operands(epilogue: Sequence[Operation]) -> list:
    """The tensors that operations read, in order."""
    return [operation.operand for operation in epilogue if has_operand(operation)]


def word(operation: Operation) -> str:
    """What an operation is called in reports.

    Examples
    --------
    >>> word(Clip(0, math.inf)), word(Clip(0, 6)), word(Function("tanh"))
    ('relu', 'clip', 'tanh')
    """
    found = row_of(operation).word
    return found if isinstance(found, str) else found(operation)


def bits_of(y: np.ndarray, threshold: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """What `Bits` stores of float32 numbers whose last axis is the channels."""
    with np.errstate(invalid="ignore"):
        return ~(np.where(flip, -y, y) < threshold)


__all__ = ["FUNCTIONS", "Operation", "StoreKind", *(row.kind.__name__ for row in (*OPERATIONS, *STORES))]
