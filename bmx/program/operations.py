"""The operations and stores of an epilogue. Each has a class and a row in a table.

All code that depends on the kind of operation or store reads its row: the writer, reader and checks of files,
descriptions and reports, the compiler's arithmetic and passes, the lowering, the export to C. The engine's half of a
row is in src/kernels/engine/operations.h. tests/program/test_operations.py compares both halves with docs/format.md.

The compiler's graph uses the same classes. There they read and store values of the graph, here tensors of a program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from .rounding import fma, round_half_away


class ArrayField(NamedTuple):
    """A kind of field with one number per channel: how `packing` packs it, and the type of the array."""

    packing: str
    dtype: type


ARRAYS = {
    "numbers": ArrayField("f32", np.float32),
    "counts": ArrayField("i32", np.int32),
    "sign": ArrayField("sign", np.bool_),
    "flip": ArrayField("flip", np.bool_),
}
"""The kinds of fields that are arrays."""


def fields_of(text: str) -> List[Tuple[str, str]]:
    """The kind and the attribute of each field.

    Examples
    --------
    >>> fields_of("tensor source, numbers scale")
    [('tensor', 'source'), ('numbers', 'scale')]
    """
    return [(kind, attribute) for kind, _, attribute in (entry.partition(" ") for entry in text.split(", "))]


# --- functions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FunctionRow:
    """A function that the operation FUNCTION can apply.

    Attributes
    ----------
    compute : callable
        Computes it on a float64 array. The result is then rounded to float32.
    c : str
        The same as a C expression of a float y.
    monotone : bool
        Whether it never changes direction, rounding included.
    """

    compute: Callable[[np.ndarray], np.ndarray]
    c: str
    monotone: bool = True


_erf = np.vectorize(math.erf, otypes=[np.float64])


def _softsign(y: np.ndarray) -> np.ndarray:
    """Rounded twice, as in the engine. Because of that it is not monotone."""
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
"""The functions by name. In a file the number of a function is its place here, from 1."""


# --- operations; arrays are float32, one number per channel ---------------------------------------------------------


class Operation:
    """An operation of an epilogue. It is applied to the y of each pixel and channel."""


@dataclass(eq=False)
class Affine(Operation):
    """``fma(y, scale, bias)``."""

    scale: np.ndarray
    bias: np.ndarray


@dataclass(eq=False)
class Add(Operation):
    """``y + operand``. The operand has the shape of y, or sizes of 1 that broadcast."""

    operand: Any


@dataclass(eq=False)
class Multiply(Operation):
    """``y * operand``. The operand has the shape of y, or sizes of 1 that broadcast."""

    operand: Any


@dataclass(eq=False)
class PRelu(Operation):
    """``y`` where it is positive, else ``y * slope``."""

    slope: np.ndarray


@dataclass(eq=False)
class Clip(Operation):
    """``y`` clipped to the range from low to high; ReLU is ``Clip(0, inf)``."""

    low: float
    high: float


@dataclass(eq=False)
class Function(Operation):
    """One of `FUNCTIONS`, by name."""

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
    """All facts about a kind of operation.

    Attributes
    ----------
    code : int
        Its number in the file.
    kind : type
        Its class.
    fields : str
        Its fields in the file. Each is a kind and an attribute; kinds are numbers (one per channel), tensor, f32 and
        function.
    compute : callable
        Computes it in NumPy from the operation, y and, if there is an operand, the numbers of the operand. Arrays are
        float32; their last axis is the channels.
    word : str or callable
        Its name in reports and descriptions, and its section in bmx/export_c/c/epilogue.c (functions: apply_*). A
        callable takes the operation.
    c : str
        For an operation with an operand: its C expression of the floats y and t, from which the section is made.
    monotone : callable
        Whether an operation without an operand never changes direction, in any channel.
    commutative : bool
        Whether y and the operand can be exchanged.
    chooses : bool
        Whether the result is always y itself or the operand itself.
    problem : callable
        Returns the fault of an operation's numbers, as rounded in the file, in words; None if there is none.
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
    low, high = float(np.float32(operation.low)), float(np.float32(operation.high))  # refuses NaN too
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
        commutative=True,  # except that the sign of zero may differ
        chooses=True,
    ),
    OperationRow(
        *(9, Minimum, "tensor operand", lambda op, y, t: np.where((y < t) | np.isnan(y), y, t), "minimum"),
        c="y < t || y != y ? y : t",
        commutative=True,
        chooses=True,
    ),
)
"""The operations, in the order of their codes."""


# --- stores ---------------------------------------------------------------------------------------------------------


class StoreKind:
    """A store of an epilogue: what is stored of the result, and where."""


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

    In the compiler's graph the inverse scale is not set: the lowering takes it from the value.
    """

    value: Any
    inverse_scale: float = 0.0


@dataclass(eq=False)
class CountBits(StoreKind):
    """``(p <= threshold) xor flip``, where p is the number of differing bits in a binary convolution."""

    value: Any
    threshold: np.ndarray  # int32
    flip: np.ndarray  # bool


@dataclass(frozen=True)
class StoreRow:
    """All facts about a kind of store.

    Attributes
    ----------
    code : int
        Its bit in the file. Stores are written in the order of these bits.
    kind : type
        Its class.
    fields : str
        As in `OperationRow`.
    dtype : str
        The type of the tensor.
    problem : callable
        As in `OperationRow`.
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
"""The stores, in the order of their bits."""


# --- reading the tables ---------------------------------------------------------------------------------------------

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
    """The name of an operation in reports.

    Examples
    --------
    >>> word(Clip(0, math.inf)), word(Clip(0, 6)), word(Function("tanh"))
    ('relu', 'clip', 'tanh')
    """
    found = row_of(operation).word
    return found if isinstance(found, str) else found(operation)


def bits_of(y: np.ndarray, threshold: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """The bits that `Bits` stores for float32 numbers whose last axis is the channels."""
    with np.errstate(invalid="ignore"):
        return ~(np.where(flip, -y, y) < threshold)


__all__ = ["FUNCTIONS", "Operation", "StoreKind", *(row.kind.__name__ for row in (*OPERATIONS, *STORES))]
