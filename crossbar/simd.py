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


def _extreme(name: str) -> Any:
    @_intrinsic
    def choose(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _call(builder, name, a, args)

        return a(a, b), generate

    return choose


larger = _extreme("maxnum")
"""The larger of two vectors, number by number; the other where one is not a number."""
smaller = _extreme("minnum")
"""The smaller of two, likewise."""


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


def _rows(context: Any, builder: Any, array: Any, array_type: Any, index: Any, vector: Vector, count: int) -> list[Any]:
    """The `count` consecutive numbers at each offset of an index vector of floats, one short vector for each."""
    data = context.make_array(array_type)(context, builder, array).data
    whole = builder.fptosi(index, ir.VectorType(ir.IntType(64), vector.length))
    short = Vector(array_type.dtype, count)
    pointers = (builder.gep(data, [builder.extract_element(whole, ir.IntType(32)(k))]) for k in range(vector.length))
    return [builder.load(builder.bitcast(p, short.ir.as_pointer()), align=_align(short)) for p in pointers]


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
    return builder.shuffle_vector(a, b, mask)


def _joined(builder: Any, parts: list[Any]) -> Any:
    """Short vectors end to end."""
    while len(parts) > 1:
        order = list(range(2 * parts[0].type.count))
        parts = [_shuffle(builder, p, q, order) for p, q in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


@_intrinsic
def gather(typing: Any, array: Any, index: Any) -> Any:
    """The numbers of a flat array at whole offsets, which come as floats."""
    vector = Vector(array.dtype, index.length)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _joined(builder, _rows(context, builder, args[0], array, args[1], index, 1))

    return vector(array, index), generate


@_intrinsic
def gather_four(typing: Any, array: Any, index: Any) -> Any:
    """Four consecutive numbers of a flat array at each offset, as four vectors."""
    vector = Vector(array.dtype, index.length)
    four: Any = types.UniTuple(vector, 4)  # type: ignore[no-untyped-call]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = _rows(context, builder, args[0], array, args[1], index, 4)
        woven = [0, 4, 1, 5, 2, 6, 3, 7]
        pairs = [_shuffle(builder, p, q, woven) for p, q in zip(rows[::2], rows[1::2], strict=True)]
        out = []
        for j in range(4):
            ends = [2 * j, 2 * j + 1, 8 + 2 * j, 9 + 2 * j]
            parts = [_shuffle(builder, p, q, ends) for p, q in zip(pairs[::2], pairs[1::2], strict=True)]
            out.append(_joined(builder, parts))
        return context.make_tuple(builder, four, out)

    return four(array, index), generate


@_intrinsic
def at_least(typing: Any, a: Any, b: Any) -> Any:
    """1 where a >= b, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.uitofp(builder.fcmp_ordered(">=", args[0], args[1]), a.ir)

    return a(a, b), generate
