"""Short vectors of floats as values in numba code, so that running sums stay in registers.

A vector is loaded from and stored to a flat array at an offset; `+ - *` work between vectors and with numbers. LLVM
maps any length to what the processor has.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.core.extending import intrinsic, models, overload, register_model

_ELEMENTS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_declare: Any = cgutils.get_or_insert_function
_intrinsic: Callable[[Callable[..., Any]], Any] = intrinsic(prefer_literal=True)
_FLAGS = ("contract", "nsz")


class Vector(types.Type):
    """`length` floats of one type."""

    def __init__(self, dtype: Any, length: int) -> None:
        self.dtype = dtype
        self.length = length
        super().__init__(name=f"Vector({dtype}, {length})")

    @property
    def ir(self) -> ir.VectorType:
        """The LLVM type."""
        return ir.VectorType(_ELEMENTS[self.dtype], self.length)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.ir)  # type: ignore[no-untyped-call]


def _pointer(context: Any, builder: Any, array: Any, offset: Any, array_type: Any, vector: Vector) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), vector.ir.as_pointer())


def _align(vector: Vector) -> int:
    return int(vector.dtype.bitwidth) // 8


@_intrinsic
def load(typing: Any, array: Any, offset: Any, length: Any) -> Any:
    """The vector of `length` (a literal) numbers at `offset` in a flat array."""
    vector = Vector(array.dtype, length.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, args[0], args[1], array, vector), align=_align(vector))

    return vector(array, types.intp, length), generate


@_intrinsic
def store(typing: Any, array: Any, offset: Any, value: Any) -> Any:
    """Write a vector to `offset` in a flat array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, args[0], args[1], array, value), align=_align(value))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def _splat(builder: Any, scalar: Any, vector: Vector) -> Any:
    one = builder.insert_element(ir.Constant(vector.ir, ir.Undefined), scalar, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), vector.length), [0] * vector.length)
    return builder.shuffle_vector(one, ir.Constant(vector.ir, ir.Undefined), mask)


@_intrinsic
def splat(typing: Any, scalar: Any, like: Any) -> Any:
    """A vector like `like` with one number everywhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = context.cast(builder, args[0], scalar, like.dtype)
        return _splat(builder, number, like)

    return like(scalar, like), generate


def _operator(function: Any, instruction: str) -> None:
    @_intrinsic
    def compute(typing: Any, a: Any, b: Any) -> Any:
        vector = a if isinstance(a, Vector) else b

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            wide = [
                arg
                if isinstance(kind, Vector)
                else _splat(builder, context.cast(builder, arg, kind, vector.dtype), vector)
                for arg, kind in zip(args, (a, b), strict=True)
            ]
            return getattr(builder, instruction)(*wide, flags=_FLAGS)

        return vector(a, b), generate

    @overload(function, strict=False)
    def choose(a: Any, b: Any) -> Callable[[Any, Any], Any] | None:
        if isinstance(a, Vector) or isinstance(b, Vector):
            return lambda a, b: compute(a, b)
        return None


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


def _call(builder: Any, name: str, vector: Vector, args: Any) -> Any:
    """Call of an LLVM intrinsic whose arguments and result are vectors of one type."""
    full = f"llvm.{name}.v{vector.length}f{vector.dtype.bitwidth}"
    kind = ir.FunctionType(vector.ir, [vector.ir] * len(args))
    return builder.call(_declare(builder.module, kind, full), args)


def _unary(name: str) -> Any:
    @_intrinsic
    def compute(typing: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _call(builder, name, a, args)

        return a(a), generate

    return compute


square_root = _unary("sqrt")
magnitude = _unary("fabs")


@_intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of two vectors, number by number; `a` where `b` is not a number."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _call(builder, "maxnum", a, args)

    return a(a, b), generate


@_intrinsic
def narrow(typing: Any, a: Any) -> Any:
    """A float64 vector in float32."""
    vector = Vector(types.float32, a.length)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fptrunc(args[0], vector.ir)

    return vector(a), generate


@_intrinsic
def widen(typing: Any, a: Any) -> Any:
    """A float32 vector in float64."""
    vector = Vector(types.float64, a.length)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fpext(args[0], vector.ir)

    return vector(a), generate


@_intrinsic
def fold(typing: Any, a: Any, length: Any) -> Any:
    """Sum of the consecutive pieces of `length` (a literal) numbers of a vector."""
    vector = Vector(a.dtype, length.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        index = ir.VectorType(ir.IntType(32), vector.length)
        pieces = [
            builder.shuffle_vector(
                args[0], ir.Constant(a.ir, ir.Undefined), ir.Constant(index, list(range(k, k + vector.length)))
            )
            for k in range(0, a.length, vector.length)
        ]
        while len(pieces) > 1:
            pieces = [builder.fadd(p, q, flags=_FLAGS) for p, q in zip(pieces[::2], pieces[1::2], strict=True)]
        return pieces[0]

    return vector(a, length), generate
