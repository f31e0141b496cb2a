"""Reads what works element by element: activations, arithmetic with constants and between values, comparisons."""

from __future__ import annotations

from typing import Callable, Dict, List, Tuple

import numpy as np

from ....errors import Error
from ...builder import image_shape
from ...ir import Add, Clip, Function, Map, Maximum, Minimum, Multiply, Operation, PRelu, Value
from .call import Call, Comparison, Operand, Result, operator

_INFINITY = float("inf")
_LARGEST = float(np.finfo(np.float32).max)
_RELU = Clip(0.0, _INFINITY)

# --- nothing ---------------------------------------------------------------------------------------------------------

_SAME = (
    *("_copy", "identity", "BlockGrad", "stop_gradient", "MakeLoss", "make_loss", "Dropout", "SVMOutput"),
    *("_contrib_gradientmultiplier", "LinearRegressionOutput", "MAERegressionOutput", "IdentityAttachKLSparseReg"),
    "_identity_with_attr_like_rhs",
)


@operator(*_SAME)
def same(call: Call) -> Result:
    """Operators that only have another gradient; Dropout does nothing in inference."""
    if call.node.op == "Dropout":
        call.attributes.word("mode", "training", "training")
    return call.inputs[0] if isinstance(call.inputs[0], Comparison) else call.value()


@operator("Cast", "cast", "amp_cast")
def cast(call: Call) -> Value:
    """A cast to float32: everything is float32."""
    call.attributes.word("dtype", "", "float32")
    return call.value()


# --- functions -------------------------------------------------------------------------------------------------------

_FUNCTIONS: Dict[str, Tuple[str, ...]] = {
    "tanh": ("tanh",),
    "sigmoid": ("sigmoid",),
    "softsign": ("softsign",),
    "exp": ("exp",),
    "log": ("log",),
    "sqrt": ("sqrt",),
    "rsqrt": ("sqrt", "reciprocal"),
    "square": ("square",),
    "abs": ("abs",),
    "negative": ("negate",),
    "reciprocal": ("reciprocal",),
    "round": ("round",),
    "_contrib_round_ste": ("round",),
    "sign": ("signum",),
    "_contrib_sign_ste": ("signum",),
    "LogisticRegressionOutput": ("sigmoid",),
}


@operator(*_FUNCTIONS)
def function(call: Call) -> Value:
    """One of the engine's functions, or two."""
    return call.builder.function(call.name, call.value(), *_FUNCTIONS[call.node.op])


@operator("relu")
def relu(call: Call) -> Value:
    """max(x, 0)."""
    return call.builder.map(call.name, call.value(), _RELU)


@operator("clip")
def clip(call: Call) -> Value:
    """Between two numbers."""
    low, high = (call.attributes.number(name) for name in ("a_min", "a_max"))
    return call.builder.map(call.name, call.value(), Clip(low, high))


@operator("hard_sigmoid")
def hard_sigmoid(call: Call) -> Value:
    """clip(alpha x + beta, 0, 1)."""
    alpha, beta = call.attributes.number("alpha", 0.2), call.attributes.number("beta", 0.5)
    y = call.builder.affine(f"{call.name}_line", call.value(), alpha, beta)
    return call.builder.map(call.name, y, Clip(0.0, 1.0))


@operator("Activation")
def activation(call: Call) -> Value:
    """The activations of MXNet."""
    functions = {"tanh": "tanh", "sigmoid": "sigmoid", "softrelu": "softplus", "softsign": "softsign"}
    kind = call.attributes.word("act_type", "", "relu", *functions)
    return relu(call) if kind == "relu" else call.builder.function(call.name, call.value(), functions[kind])


@operator("LeakyReLU")
def leaky_relu(call: Call) -> Value:
    """Leaky, with one slope or one a channel, ELU, SELU, GELU; RReLU, without its mask, has the mean of its bounds."""
    attributes, x = call.attributes, call.value()
    kind = attributes.word("act_type", "leaky", "leaky", "prelu", "elu", "selu", "gelu", "rrelu")
    if kind in ("selu", "gelu"):
        return call.builder.function(call.name, x, kind)
    channels = x.shape[0]
    if kind == "prelu":
        gamma = call.finite(1, "gamma")
        if gamma.size not in (1, channels):
            raise Error(f"gamma has {gamma.size} numbers; allowed: 1 and {channels}, the channels")
        return call.builder.map(call.name, x, PRelu(np.broadcast_to(gamma.reshape(-1), (channels,)).copy()))
    slope = attributes.number("slope", 0.25)
    if kind == "rrelu":
        slope = (attributes.number("lower_bound", 0.125) + attributes.number("upper_bound", 0.334)) / 2
    # slope * (exp(x) - 1) where x is not positive: ELU, and then a leaky ReLU of what is not positive
    before = [Function("elu")] if kind == "elu" else []
    return call.builder.map(call.name, x, *before, PRelu(np.full(channels, slope, np.float32)))


# --- arithmetic ------------------------------------------------------------------------------------------------------


def _scalar(names: str) -> Callable:
    """Register an operator of a value and the attribute `scalar`."""

    def register(function: Callable[[Call, Value, float], Value]) -> Callable:
        @operator(*names.split())
        def read(call: Call) -> Value:
            return function(call, call.value(), call.attributes.number("scalar", 1.0))

        return read

    return register


_scalar("_plus_scalar _PlusScalar")(lambda call, x, c: call.builder.affine(call.name, x, bias=c))
_scalar("_minus_scalar _MinusScalar")(lambda call, x, c: call.builder.affine(call.name, x, bias=-c))
_scalar("_rminus_scalar _RMinusScalar")(lambda call, x, c: call.builder.affine(call.name, x, -1.0, c))
_scalar("_mul_scalar _MulScalar")(lambda call, x, c: call.builder.affine(call.name, x, c))
_scalar("_div_scalar _DivScalar")(lambda call, x, c: call.builder.affine(call.name, x, _inverse(c)))
_scalar("_maximum_scalar _MaximumScalar")(lambda call, x, c: call.builder.map(call.name, x, Clip(c, _INFINITY)))
_scalar("_minimum_scalar _MinimumScalar")(lambda call, x, c: call.builder.map(call.name, x, Clip(-_INFINITY, c)))


@_scalar("_rdiv_scalar _RDivScalar")
def divided_by(call: Call, x: Value, number: float) -> Value:
    """The quotient of a number and x."""
    return call.builder.affine(call.name, call.builder.function(f"{call.name}_inverse", x, "reciprocal"), number)


@_scalar("_power_scalar _PowerScalar")
def power(call: Call, x: Value, number: float) -> Value:
    """A square or a root."""
    functions = {2.0: ("square",), 0.5: ("sqrt",), 1.0: (), -1.0: ("reciprocal",), -0.5: ("sqrt", "reciprocal")}
    if number not in functions:
        raise Error(f"the power {number} is not supported; allowed: {', '.join(map(str, functions))}")
    return call.builder.function(call.name, x, *functions[number])


def _inverse(number: object) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return (1 / np.asarray(number, np.float64)).astype(np.float32)


_ADD = ("elemwise_add", "_plus", "_Plus", "_add", "broadcast_add", "broadcast_plus", "_grad_add")
_SUBTRACT = ("elemwise_sub", "_minus", "_Minus", "_sub", "broadcast_sub", "broadcast_minus")
_MULTIPLY = ("elemwise_mul", "_mul", "_Mul", "broadcast_mul")
_DIVIDE = ("elemwise_div", "_div", "_Div", "broadcast_div")


@operator(*_ADD)
def add(call: Call) -> Value:
    """A sum. ``sign + (sign == 0)``, with which quantizers are composed, is the sign that never is 0."""
    for a, b in (call.inputs, call.inputs[::-1]):
        if isinstance(b, Comparison):
            return _sign_without_zero(call, a, b)
    if _constants(call):
        return _by_number(call, lambda x, numbers: call.builder.affine(call.name, x, bias=numbers))
    a, b = _pair(call)
    return call.builder.affine(call.name, a, 2.0) if a is b else call.builder.map(call.name, a, Add(b))


@operator(*_SUBTRACT)
def subtract(call: Call) -> Result:
    """A difference. ``sign - BlockGrad(sign)``, which only carries a gradient, is 0."""
    a, b = call.inputs
    if _constants(call):
        first = isinstance(a, Value)
        return _by_number(
            call, lambda x, numbers: call.builder.affine(call.name, x, *((1, -numbers) if first else (-1, numbers)))
        )
    if a is b and _sign_source(call, call.value()) is not None:
        return np.zeros((1,), np.float32)
    negative = call.builder.function(f"{call.name}_negative", call.value(1), "negate")
    a, b = _pair(call, negative)
    return call.builder.map(call.name, a, Add(b))


@operator(*_MULTIPLY)
def multiply(call: Call) -> Value:
    """A product."""
    if _constants(call):
        return _by_number(call, lambda x, numbers: call.builder.affine(call.name, x, numbers))
    a, b = _pair(call)
    return call.builder.function(call.name, a, "square") if a is b else call.builder.map(call.name, a, Multiply(b))


@operator(*_DIVIDE)
def divide(call: Call) -> Value:
    """A quotient: multiplied by the inverse."""
    if isinstance(call.inputs[1], np.ndarray):
        return _by_number(call, lambda x, numbers: call.builder.affine(call.name, x, _inverse(numbers)))
    if _constants(call):
        return _by_number(
            call,
            lambda x, numbers: call.builder.affine(
                call.name, call.builder.function(f"{call.name}_inverse", x, "reciprocal"), numbers
            ),
        )
    a, b = _pair(call, call.builder.function(f"{call.name}_inverse", call.value(1), "reciprocal"))
    return call.builder.map(call.name, a, Multiply(b))


@operator("broadcast_maximum", "_maximum", "_Maximum", "broadcast_minimum", "_minimum", "_Minimum")
def extreme(call: Call) -> Value:
    """The larger or smaller of two values, or of a value and a constant."""
    maximum = "max" in call.node.op.lower()
    kind = Maximum if maximum else Minimum
    if not _constants(call):
        a, b = _pair(call)
        return a if a is b else call.builder.map(call.name, a, kind(b))

    def beside(x: Value, numbers: np.ndarray) -> Value:
        if (numbers == numbers[0]).all():
            low, high = (numbers[0], _INFINITY) if maximum else (-_INFINITY, numbers[0])
            return call.builder.map(call.name, x, Clip(float(low), float(high)))
        return call.builder.map(call.name, x, kind(_numbers_like(call, x, numbers)))

    return _by_number(call, beside)


@operator("add_n", "ElementWiseSum")
def add_n(call: Call) -> Value:
    """A sum of values of one shape."""
    total = call.value()
    for number in range(1, len(call.inputs)):
        total = call.builder.map(call.name, total, Add(call.value(number)))
    return total


def _constants(call: Call) -> bool:
    return any(isinstance(operand, np.ndarray) for operand in call.inputs)


def _by_number(call: Call, apply: Callable[[Value, np.ndarray], Value]) -> Value:
    """``apply(value, numbers)`` of the value and the constant that are the inputs; see `Builder.by_number`."""
    number = 0 if isinstance(call.inputs[0], np.ndarray) else 1
    x = call.value(1 - number)
    if x.shape != call.shape:
        raise Error("a value that is broadcast over a larger constant is not supported")
    return call.builder.by_number(call.name, x, call.result_shapes[0], call.inputs[number], apply)


def _pair(call: Call, second: Value = None) -> Tuple[Value, Value]:
    """Two values, the first of the shape of the output; `second` in the place of the second one."""
    a, b = call.value(0), call.value(1)
    if len(call.shapes[0]) != len(call.shapes[1]):
        raise Error("values with other numbers of dimensions are not supported; reshape one of them")
    b = b if second is None else second
    if a.shape != call.shape:
        a, b = b, a
    other = [size for size, full in zip(b.shape, call.shape) if size not in (1, full)]
    if a.shape != call.shape or other or image_shape(call.result_shapes[0]) != a.shape:
        raise Error(f"values of the shapes {a.shape} and {b.shape}: one must have the shape of the result")
    return a, b


# --- comparisons -----------------------------------------------------------------------------------------------------

_COMPARISONS = ("_equal_scalar", "_greater_scalar", "_greater_equal_scalar", "_lesser_scalar", "_lesser_equal_scalar")


@operator(*_COMPARISONS)
def comparison(call: Call) -> Comparison:
    """What `where`, and the sum with a sign, understand."""
    return Comparison(call.value(), call.node.op, call.attributes.number("scalar", 1.0))


@operator("where")
def where(call: Call) -> Operand:
    """A choice between values by a comparison with a number; between a value and itself that value.

    With m = 1 where the comparison is true and else 0, it is m a + (1 - m) b, of which one product is 0. Infinite
    operands become the largest floats, for 0 times infinity is NaN. A NaN in the operand that is not chosen stays one.
    """
    if len(call.inputs) == 3 and call.inputs[1] is call.inputs[2]:
        return call.inputs[1]
    condition = call.inputs[0]
    if len(call.inputs) != 3 or not isinstance(condition, Comparison):
        raise Error("a choice by anything but a comparison with a number is not supported")
    chosen, other = (_choice(call, number, condition.value) for number in (1, 2))
    if {condition.value.shape, chosen.shape, other.shape} != {call.shape}:
        raise Error("a choice between values of other shapes than the result's is not supported")
    no = _is_false(call, condition)
    yes = call.builder.affine(f"{call.name}_yes", no, -1.0, 1.0)
    finite = Clip(-_LARGEST, _LARGEST)
    first = call.builder.map(f"{call.name}_first", chosen, finite, Multiply(yes))
    return call.builder.map(call.name, other, finite, Multiply(no), Add(first))


def _is_false(call: Call, condition: Comparison) -> Value:
    """1 where a comparison is false, as all with NaN are, and else 0.

    x < t is false where x - t has no sign; x <= t is x < the next larger float.
    """
    signs = {"_lesser_scalar": 1, "_lesser_equal_scalar": 1, "_greater_scalar": -1, "_greater_equal_scalar": -1}
    if condition.operator not in signs:
        raise Error(f"a choice by {condition.operator} is not supported")
    sign, number = signs[condition.operator], np.float32(condition.number)
    if condition.operator.endswith("_equal_scalar"):
        number = np.nextafter(number, np.float32(sign * _INFINITY))
    name = f"{call.name}_no"
    difference = call.builder.affine(f"{name}_difference", condition.value, sign, -sign * number)
    return call.builder.affine(name, call.builder.function(f"{name}_sign", difference, "sign1"), 0.5, 0.5)


def _choice(call: Call, number: int, like: Value) -> Value:
    """What `where` chooses from; one number everywhere is made of any value, which is cheaper than a constant."""
    operand = call.inputs[number]
    if isinstance(operand, np.ndarray) and operand.size and (operand == operand.flat[0]).all():
        return _numbers_like(call, like, operand.flat[0])
    return call.value(number)


def _numbers_like(call: Call, like: Value, numbers: np.ndarray) -> Value:
    """One number, or one a channel, in the shape of a value; NaN where that is NaN."""
    zero = call.builder.map(f"{call.name}_zero", like, Clip(0.0, 0.0))
    return call.builder.affine(f"{call.name}_number", zero, bias=numbers)


def _sign_source(call: Call, sign: Value) -> Value:
    """What a value is the sign of (-1, 0 or 1), or None."""
    node = call.builder.graph.producer(sign)
    operations: List[Operation] = node.epilogue
    is_sign = isinstance(node, Map) and len(operations) == 1 and isinstance(operations[0], Function)
    return node.source if is_sign and operations[0].name == "signum" else None


def _sign_without_zero(call: Call, sign: Operand, zero: Comparison) -> Value:
    source = _sign_source(call, sign) if isinstance(sign, Value) else None
    of_it = zero.value in (sign, source) or _sign_source(call, zero.value) is source
    if source is None or zero.operator != "_equal_scalar" or zero.number != 0 or not of_it:
        raise Error(f"the result of {zero.operator} in a sum is not supported, but for sign(x) + (x == 0)")
    return call.builder.function(call.name, source, "sign1")
