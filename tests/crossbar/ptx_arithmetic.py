"""Arithmetic of PTX on whole vectors of threads, where numpy's own is not the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]
f4, f8, i4, i8, u4, u8 = np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64
TINY = np.finfo(f4).tiny
SPLIT = 134217729.0  # 2^27 + 1


def ftz(a: Vector) -> Vector:
    """Float32 numbers too small to be normal become zeros of their sign."""
    return np.where(np.abs(a) < TINY, np.copysign(f4(0), a), a)


def fma32(a: Vector, b: Vector, c: Vector) -> Vector:
    """a b + c rounded once: the product is exact in float64, and the sum is rounded to odd before the last rounding."""
    p, d = a.astype(f8) * b, c.astype(f8)
    s = p + d
    bits = s.view(i8)
    near = (bits & 0x1FFFFFFF) == 0x10000000  # half way between two float32 numbers
    if not near.any() and not ((np.abs(s) < TINY) & (s != 0)).any():
        return s.astype(f4)
    t = s - p
    lost = (p - (s - t)) + (d - t)
    inexact = (lost != 0) & np.isfinite(s) & (bits & 1 == 0)
    if inexact.any():
        towards = np.where((lost > 0) == (s > 0), 1, -1)
        bits = np.where(inexact, bits + towards, bits)
    return bits.view(f8).astype(f4)


def fma64(a: Vector, b: Vector, c: Vector) -> Vector:
    """a b + c with the product and the sum in twice float64's length (Dekker 1971, DOI 10.1007/BF01397083)."""
    p = a * b
    x, y = a * SPLIT, b * SPLIT
    a1, b1 = x - (x - a), y - (y - b)
    a2, b2 = a - a1, b - b1
    e = ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2
    s = p + c
    t = s - p
    found: Vector = s + (((p - (s - t)) + (c - t)) + e)
    return np.where(np.isfinite(found), found, s)


def whole(a: Vector, how: str, to: Any) -> Vector:
    """Float to integer: not a number is 0, what is too large the largest."""
    rounded = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}[how](a.astype(f8))
    ends = np.iinfo(to)
    inside = np.nan_to_num(rounded, nan=0.0)
    low, high = inside <= float(ends.min), inside >= float(ends.max)
    found: Vector = np.where(low | high, 0.0, inside).astype(to)
    return np.where(low, to(ends.min), np.where(high, to(ends.max), found))


def tf32(a: Vector) -> Vector:
    """Float32 rounded to 10 bits after the point, ties away from zero; bits in, bits out."""
    kept: Vector = (a + u4(0x1000)) & u4(0xFFFFE000)
    return np.where((a & u4(0x7F800000)) == u4(0x7F800000), a, kept)


def shifted_left(a: Vector, by: Vector) -> Vector:
    bits = a.dtype.itemsize * 8
    by = by.astype(a.dtype)
    return np.where(by < bits, a << np.minimum(by, a.dtype.type(bits - 1)), a.dtype.type(0))


def shifted_right(a: Vector, by: Vector) -> Vector:
    bits = a.dtype.itemsize * 8
    most = np.minimum(by, u4(bits - 1)).astype(a.dtype)
    if a.dtype.kind == "i":
        found: Vector = a >> most
        return found
    return np.where(by < bits, a >> most, a.dtype.type(0))


def funnel(low: Vector, high: Vector, by: Vector, left: bool, wrap: bool) -> Vector:
    by = (by & u4(31) if wrap else np.minimum(by, u4(32))).astype(u8)
    both = (high.astype(u8) << u8(32)) | low
    return ((both << by) >> u8(32) if left else both >> by).astype(u4)


def divided(a: Vector, b: Vector) -> Vector:
    """Integers towards zero; all bits set where the divisor is 0."""
    safe = np.where(b == 0, b.dtype.type(1), b)
    q = a // safe
    if a.dtype.kind == "i":
        q = q + ((a % safe != 0) & ((a < 0) != (safe < 0)))
    return np.where(b == 0, np.array(-1).astype(a.dtype), q).astype(a.dtype)


def remainder(a: Vector, b: Vector) -> Vector:
    return np.where(b == 0, a, a - divided(a, b) * b).astype(a.dtype)


def high(a: Vector, b: Vector) -> Vector:
    """Upper half of a product of 32-bit or 64-bit integers."""
    if a.dtype.itemsize == 4:
        long: Any = i8 if a.dtype.kind == "i" else u8
        return ((a.astype(long) * b.astype(long)) >> long(32)).astype(a.dtype)
    many = a.astype(object) * b.astype(object)
    return np.array([int(x) >> 64 for x in many]).astype(a.dtype)


def field_of(a: Vector, at: Vector, count: Vector) -> Vector:
    """`bfe`: bits of a 32-bit integer, with its sign if it has one."""
    at, count = (at & u4(255)).astype(i8), (count & u4(255)).astype(i8)
    wide = a.astype(i8) if a.dtype.kind == "i" else a.astype(u8).astype(i8)
    bits = (wide >> np.minimum(at, 63)) & ((i8(1) << np.minimum(count, 32)) - 1)
    if a.dtype.kind == "i":
        top = np.clip(np.minimum(at + count - 1, 31), 0, 63)
        negative = ((wide >> top) & 1 == 1) & (count > 0)
        bits = np.where(negative & (count < 32), bits | -(i8(1) << np.minimum(count, 32)), bits)
    return bits.astype(u8).astype(u4)


def inserted(a: Vector, b: Vector, at: Vector, count: Vector) -> Vector:
    """`bfi`: bits of a put into b."""
    at, count = (at & u4(255)).astype(u8), (count & u4(255)).astype(u8)
    mask = (((u8(1) << np.minimum(count, u8(32))) - u8(1)) << np.minimum(at, u8(32))) & u8(0xFFFFFFFF)
    return ((b & ~mask) | ((a.astype(u8) << np.minimum(at, u8(32))) & mask)).astype(u4)


def permuted(a: Vector, b: Vector, by: Vector) -> Vector:
    """`prmt`: bytes of two 32-bit integers in another order."""
    both = (b.astype(u8) << u8(32)) | a
    out = np.zeros_like(a)
    for k in range(4):
        pick = (by >> u4(4 * k)) & u4(15)
        byte = ((both >> ((pick & u4(7)).astype(u8) * u8(8))) & u8(255)).astype(u4)
        byte = np.where(pick & u4(8), np.where(byte & u4(128), u4(255), u4(0)), byte)
        out |= byte << u4(8 * k)
    return out


def lop3(a: Vector, b: Vector, c: Vector, table: int) -> Vector:
    """Any function of three bits, by its table."""
    out = np.zeros_like(a)
    for k in range(8):
        if table >> k & 1:
            out |= (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return out


def carried(a: Vector, b: Vector, c: Vector, carry: Vector | None, *, upper: bool) -> tuple[Vector, Vector]:
    """`mad.lo.cc` and `madc.hi`: the result and what is carried on."""
    product = a.astype(u8) * b.astype(u8)
    half = product >> u8(32) if upper else product & u8(0xFFFFFFFF)
    total = half + c + (u8(0) if carry is None else carry.astype(u8))
    return total.astype(u4), (total >> u8(32)) != 0


def counted(a: Vector) -> Vector:
    return np.array([int(x).bit_count() for x in a], u4)


def leading(a: Vector) -> Vector:
    bits = a.dtype.itemsize * 8
    return np.array([bits - int(x).bit_length() for x in a], u4)
