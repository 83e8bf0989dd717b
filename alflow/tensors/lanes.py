"""Eight numbers at once: explicit SIMD for the compiled kernels.

Inside a compiled function (:mod:`alflow.tensors.jit`) :func:`load` reads eight consecutive numbers of a row of an
array; the result adds, multiplies and divides like a number, eight times. What a loop vectoriser would have to guess is
said outright, so that speed and rounding do not depend on its mood. LLVM maps the eight lanes to whatever the processor
has: one AVX-512 register, two AVX ones, four of NEON. NaN and infinity behave as in scalar code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

from alflow.tensors.jit import inlined, shared

__all__ = [
    "WIDTH",
    "FloatArray",
    "exp",
    "keep_positive",
    "lane_sum",
    "load",
    "log",
    "narrow",
    "rounded",
    "row_sums",
    "splat",
    "splat_at",
    "sqrt",
    "store",
    "turn",
]

WIDTH: Final = 8
"""Lanes handled together."""

_LN_2: Final = math.log(2.0)
_LN_2_HIGH: Final = 0.693359375
"""Leading bits of ln 2: its product with an exponent is exact."""
_LN_2_LOW: Final = -2.121944400546905827679e-4
_BITS_OF_ROOT_HALF: Final = 0x3FE6A09E667F3BCD


_CONTRACT: Final = ("contract",)
"""The one liberty taken: a·b + c may be rounded once instead of twice."""


FloatArray = npt.NDArray[np.floating[Any]]


_emitted = cast(Callable[[Callable[..., Any]], Callable[..., Any]], intrinsic)


@shared
def rounded(count: int, step: int = WIDTH) -> int:
    """The next multiple of a step."""
    return (count + step - 1) // step * step


class _Lanes(types.Type):
    """Eight numbers of one floating-point type."""

    def __init__(self, scalar: types.Float) -> None:
        self.scalar = scalar
        super().__init__(name=f"Lanes({scalar})")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: _Lanes) -> None:
        super().__init__(manager, kind, _vector(kind.scalar))


def _scalar(kind: types.Float) -> ir.Type:
    return ir.FloatType() if kind.bitwidth == 32 else ir.DoubleType()


def _vector(kind: types.Float) -> ir.VectorType:
    return ir.VectorType(_scalar(kind), WIDTH)


def _integers(kind: types.Float) -> ir.VectorType:
    return ir.VectorType(ir.IntType(kind.bitwidth), WIDTH)


def _constant(vector: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(vector, [ir.Constant(vector.element, value)] * WIDTH)


def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Address of eight consecutive numbers: element ``column`` of row ``row`` of a C-contiguous array."""
    array = context.make_array(signature.args[0])(context, builder, value=arguments[0])
    (_, width) = cgutils.unpack_tuple(builder, array.shape, 2)
    row, column = (
        context.cast(builder, value, kind, types.intp)
        for value, kind in zip(arguments[1:3], signature.args[1:3], strict=True)
    )
    place = builder.gep(array.data, [builder.add(builder.mul(row, width), column)])
    return builder.bitcast(place, _vector(signature.args[0].dtype).as_pointer())


@_emitted
def load(_: Any, array: Any, row: Any, column: Any) -> Any:
    """Eight consecutive numbers of one row of a C-contiguous matrix, from a column on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].dtype
        return builder.load(_pointer(context, builder, signature, arguments), align=kind.bitwidth // 8)

    return _Lanes(array.dtype)(array, row, column), generate


@_emitted
def store(_: Any, array: Any, row: Any, column: Any, value: Any) -> Any:
    """Write eight lanes into one row of a C-contiguous matrix, from a column on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].dtype
        builder.store(arguments[3], _pointer(context, builder, signature, arguments), align=kind.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, row, column, value), generate


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight lanes of eight rows as eight rows of eight lanes: three rounds of exchanging halves."""
    integers = ir.VectorType(ir.IntType(32), WIDTH)
    for distance in (1, 2, 4):
        turned = list(rows)
        for i in range(WIDTH):
            if i & distance:
                continue
            upper = [k if not k & distance else WIDTH + k - distance for k in range(WIDTH)]
            lower = [k + distance if not k & distance else WIDTH + k for k in range(WIDTH)]
            for place, order in ((i, upper), (i | distance, lower)):
                turned[place] = builder.shuffle_vector(rows[i], rows[i | distance], ir.Constant(integers, order))
        rows = turned
    return rows


def _rows(context: Any, builder: Any, signature: Any, arguments: Any) -> list[Any]:
    """Addresses of eight lanes in each of eight consecutive rows."""
    array, row, column = arguments
    return [_pointer(context, builder, signature, [array, builder.add(row, row.type(i)), column]) for i in range(WIDTH)]


@_emitted
def turn(_: Any, source: Any, row: Any, column: Any, target: Any, to_row: Any, to_column: Any) -> Any:
    """Write an 8 × 8 block of one matrix transposed into another; each block by its first row and column."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        align = signature.args[0].dtype.bitwidth // 8
        ends = signature.return_type(*signature.args[:3]), signature.return_type(*signature.args[3:])
        values = [builder.load(p, align=align) for p in _rows(context, builder, ends[0], arguments[:3])]
        places = _rows(context, builder, ends[1], arguments[3:])
        for value, place in zip(_turned(builder, values), places, strict=True):
            builder.store(value, place, align=align)
        return context.get_dummy_value()

    return types.none(source, row, column, target, to_row, to_column), generate


@_emitted
def row_sums(_: Any, array: Any, row: Any, column: Any) -> Any:
    """Sum of eight lanes in each of eight consecutive rows, as lanes; always in the same order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        align = signature.args[0].dtype.bitwidth // 8
        values = [builder.load(p, align=align) for p in _rows(context, builder, signature, arguments)]
        values = _turned(builder, values)
        while len(values) > 1:
            half = len(values) // 2
            values = [builder.fadd(a, b) for a, b in zip(values[:half], values[half:], strict=True)]
        return values[0]

    return _Lanes(array.dtype)(array, row, column), generate


@_emitted
def splat(_: Any, value: Any) -> Any:
    """The same number in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0], _vector(signature.args[0]))

    return _Lanes(value)(value), generate


@_emitted
def splat_at(_: Any, array: Any, row: Any, column: Any) -> Any:
    """One number of a C-contiguous matrix in all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].dtype
        place = builder.bitcast(_pointer(context, builder, signature, arguments), _scalar(kind).as_pointer())
        return _spread(builder, builder.load(place), _vector(kind))

    return _Lanes(array.dtype)(array, row, column), generate


@_emitted
def narrow(_: Any, value: Any, array: Any) -> Any:
    """Lanes in the floating-point type of an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, target = signature.args[0].scalar, signature.args[1].dtype
        return arguments[0] if source == target else builder.fptrunc(arguments[0], _vector(target))

    return _Lanes(array.dtype)(value, array), generate


@_emitted
def lane_sum(_: Any, value: Any) -> Any:
    """Sum of the eight lanes, always in the same order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (value,), width = arguments, WIDTH
        while width > 1:
            width //= 2
            order = [*range(width, 2 * width), *range(WIDTH - width)]
            mask = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), order)
            value = builder.fadd(value, builder.shuffle_vector(value, value, mask))
        return builder.extract_element(value, ir.IntType(32)(0))

    return value.scalar(value), generate


def _spread(builder: Any, value: Any, vector: ir.VectorType) -> Any:
    """A scalar in all lanes."""
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH))


def _arithmetic(name: str) -> Callable[..., Any]:
    """An operator between lanes, or between lanes and a number."""

    @_emitted
    def operation(_: Any, a: Any, b: Any) -> Any:
        lanes = a if isinstance(a, _Lanes) else b

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = _vector(lanes.scalar)
            pair = [
                value
                if isinstance(kind, _Lanes)
                else _spread(builder, context.cast(builder, value, kind, lanes.scalar), vector)
                for value, kind in zip(arguments, signature.args, strict=True)
            ]
            return getattr(builder, name)(*pair, flags=_CONTRACT)

        return lanes(a, b), generate

    def choose(a: Any, b: Any) -> Any:
        one, other = isinstance(a, _Lanes), isinstance(b, _Lanes)
        known = (one and other) or (one and isinstance(b, types.Number)) or (other and isinstance(a, types.Number))
        return (lambda a, b: operation(a, b)) if known else None

    return choose


for _operator, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    overload(_operator, strict=False)(_arithmetic(_name))


@_emitted
def sqrt(_: Any, value: Any) -> Any:
    """Square root."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].scalar
        prototype = ir.FunctionType(_vector(kind), [_vector(kind)])
        name = f"llvm.sqrt.v{WIDTH}f{kind.bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, prototype, name), arguments)

    return value(value), generate


@_emitted
def keep_positive(_: Any, value: Any) -> Any:
    """The larger of the number and 0; NaN stays NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zero = _constant(_vector(signature.args[0].scalar), 0.0)
        return builder.select(builder.fcmp_ordered("<", arguments[0], zero), zero, arguments[0])

    return value(value), generate


@_emitted
def exp(_: Any, value: Any) -> Any:
    """e^x to rounding for |x| ≤ 87 (float32) or 708 (float64); zero below, constant above.

    e^x = 2^k e^f with |f| ≤ ½ ln 2, and the Taylor series of e^f: to degree 7 in float32, 13 in float64.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].scalar
        vector, integers = _vector(kind), _integers(kind)
        digits, bias, largest, degree = (23, 127, 87.0, 7) if kind.bitwidth == 32 else (52, 1023, 708.0, 13)

        def times_plus(a: Any, b: float, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, _constant(vector, b), flags=_CONTRACT), c, flags=_CONTRACT)

        x = arguments[0]
        low, high = (_constant(vector, end) for end in (-largest, largest))
        gone = builder.fcmp_ordered("<", x, low)
        x = builder.select(gone, low, x)
        x = builder.select(builder.fcmp_ordered(">", x, high), high, x)
        # Adding 1.5 · 2^digits rounds to an integer and leaves it in the last bits.
        magic = _constant(vector, 1.5 * 2.0**digits)
        shifted = times_plus(x, 1.0 / _LN_2, magic)
        k = builder.fsub(shifted, magic)
        f = times_plus(k, -_LN_2_LOW, times_plus(k, -_LN_2_HIGH, x))
        series = _constant(vector, 1.0 / math.factorial(degree))
        for power in reversed(range(degree)):
            term = _constant(vector, 1.0 / math.factorial(power))
            series = builder.fadd(builder.fmul(series, f, flags=_CONTRACT), term, flags=_CONTRACT)
        exponent = builder.shl(builder.bitcast(shifted, integers), _constant(integers, digits))
        scale = builder.bitcast(builder.add(exponent, _constant(integers, bias << digits)), vector)
        return builder.select(gone, _constant(vector, 0.0), builder.fmul(series, scale))

    return value(value), generate


@_emitted
def _take_apart(_: Any, value: Any) -> Any:
    """Mantissa in [√½, √2) and exponent of positive float64 lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0].scalar
        integers = _integers(kind)
        bits = builder.bitcast(arguments[0], integers)
        above = builder.sub(bits, _constant(integers, _BITS_OF_ROOT_HALF))
        exponent = builder.ashr(above, _constant(integers, 52))
        mantissa = builder.sub(bits, builder.shl(exponent, _constant(integers, 52)))
        small = builder.trunc(exponent, ir.VectorType(ir.IntType(32), WIDTH))  # AVX2 converts only 32 bits at once
        parts = [builder.bitcast(mantissa, _vector(kind)), builder.sitofp(small, _vector(kind))]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.containers.UniTuple(value, 2)(value), generate


@inlined
def log(value: Any) -> Any:
    """Natural logarithm of positive float64 numbers, to rounding.

    ln x = k ln 2 + 2 artanh s,  s = (m − 1)/(m + 1), where the series in s² ≤ 0.03 is cut after ten terms.
    """
    mantissa, exponent = _take_apart(value)
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = z * (1.0 / 19.0) + 1.0 / 17.0
    series = series * z + 1.0 / 15.0
    series = series * z + 1.0 / 13.0
    series = series * z + 1.0 / 11.0
    series = series * z + 1.0 / 9.0
    series = series * z + 1.0 / 7.0
    series = series * z + 1.0 / 5.0
    series = series * z + 1.0 / 3.0
    return exponent * _LN_2 + (s + s) * (series * z + 1.0)
