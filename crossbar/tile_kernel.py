"""Tiled products with a converter on every partial sum, compiled for one CPU core.

For every tile of word lines, the sums of `MR` outputs at `LANES` positions stay in registers until they are rounded and
added up: a partial sum never goes to memory. Inputs are gathered from images (or vectors) in panels of `LANES`
positions; weights, divided by the converter's step, lie so that those of `MR` outputs are next to each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit
from numba.core import types
from numba.core.extending import intrinsic, models, register_model

from .simd import Vector, _align, _call, _pointer, _splat, load, store

WIDE = 16
PARTS = 2
LANES = WIDE * PARTS
MR = 6
PANELS = 4
DEEP = 512
"""Word lines (about) whose inputs are gathered at once."""

_VECTOR = Vector(types.float32, WIDE)
_FMA = ("contract", "nsz")
_intrinsic: Callable[[Callable[..., Any]], Any] = intrinsic(prefer_literal=True)


class _Block(types.Type):
    """The sums of MR outputs at LANES positions."""

    def __init__(self) -> None:
        super().__init__(name="TileBlock")


@register_model(_Block)
class _BlockModel(models.PrimitiveModel):
    def __init__(self, manager: Any, block: Any) -> None:
        super().__init__(manager, block, ir.ArrayType(_VECTOR.ir, MR * PARTS))  # type: ignore[no-untyped-call]


_BLOCK = _Block()


def _from_parts(builder: Any, parts: list[Any]) -> Any:
    block: Any = ir.Constant(ir.ArrayType(_VECTOR.ir, MR * PARTS), ir.Undefined)
    for k, part in enumerate(parts):
        block = builder.insert_value(block, part, k)
    return block


def _vector_at(context: Any, builder: Any, array: Any, kind: Any, offset: Any, k: int) -> Any:
    place = builder.add(offset, ir.Constant(offset.type, k * WIDE))
    return _pointer(context, builder, array, place, kind, _VECTOR)


def _scalar_at(context: Any, builder: Any, array: Any, kind: Any, offset: Any, k: int) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    one = builder.load(builder.gep(data, [builder.add(offset, ir.Constant(offset.type, k))]))
    return _splat(builder, one, _VECTOR)


@_intrinsic
def _spread(typing: Any, array: Any, offset: Any) -> Any:
    """A block whose row i is `array[offset + i]` everywhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        rows = [_scalar_at(context, builder, args[0], array, args[1], i) for i in range(MR)]
        return _from_parts(builder, [row for row in rows for _ in range(PARTS)])

    return _BLOCK(array, types.intp), generate


@_intrinsic
def _fetch(typing: Any, array: Any, offset: Any) -> Any:
    """The block at `offset`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        places = [_vector_at(context, builder, args[0], array, args[1], k) for k in range(MR * PARTS)]
        return _from_parts(builder, [builder.load(place, align=_align(_VECTOR)) for place in places])

    return _BLOCK(array, types.intp), generate


@_intrinsic
def _put(typing: Any, array: Any, offset: Any, block: Any) -> Any:
    """Write a block to `offset`."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for k in range(MR * PARTS):
            place = _vector_at(context, builder, args[0], array, args[1], k)
            builder.store(builder.extract_value(args[2], k), place, align=_align(_VECTOR))
        return context.get_dummy_value()

    return types.void(array, types.intp, _BLOCK), generate


def _fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return _call(builder, "fma", _VECTOR, [a, b, c])


@_intrinsic
def _multiply_add(typing: Any, block: Any, w: Any, at_w: Any, x: Any, at_x: Any) -> Any:
    """The block plus the products of MR weights with LANES inputs."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inputs = [
            builder.load(_vector_at(context, builder, args[3], x, args[4], k), align=_align(_VECTOR))
            for k in range(PARTS)
        ]
        parts = []
        for i in range(MR):
            weight = _scalar_at(context, builder, args[1], w, args[2], i)
            for j in range(PARTS):
                parts.append(_fused(builder, weight, inputs[j], builder.extract_value(args[0], i * PARTS + j)))
        return _from_parts(builder, parts)

    return _BLOCK(_BLOCK, w, types.intp, x, types.intp), generate


@_intrinsic
def _converted(typing: Any, total: Any, block: Any, steps: Any, at: Any, most: Any) -> Any:
    """The total plus what the converter makes of a block: rounded, within +-most, times the steps of its rows."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        top = _splat(builder, args[4], _VECTOR)
        bottom = builder.fneg(top)
        parts = []
        for i in range(MR):
            step = _scalar_at(context, builder, args[2], steps, args[3], i)
            for j in range(PARTS):
                k = i * PARTS + j
                code = _call(builder, "rint", _VECTOR, [builder.extract_value(args[1], k)])
                # in this order what is not a number stays so
                code = builder.select(builder.fcmp_ordered("<", top, code), top, code)
                code = builder.select(builder.fcmp_ordered(">", bottom, code), bottom, code)
                parts.append(_fused(builder, code, step, builder.extract_value(args[0], k)))
        return _from_parts(builder, parts)

    return _BLOCK(_BLOCK, _BLOCK, steps, types.intp, types.float32), generate


_jit: Callable[[Callable[..., Any]], Callable[..., Any]] = njit(nogil=True, error_model="numpy", boundscheck=False)


@_jit
def run_length(corners: Any, first: int, count: int) -> int:
    """Length of the runs of neighbouring positions in a panel: 16, 8, 4 or 1."""
    length = WIDE
    for p in range(first + 1, first + count):
        if corners[p] != corners[p - 1] + 1:
            done = p - first
            while length > 1 and done % length != 0:
                length //= 2
    return length if length >= 4 else 1


@_jit
def _gather(
    x: Any, base: int, offsets: Any, k0: int, k1: int, corners: Any, first: int, count: int, out: Any, at: int
) -> None:
    """Inputs k0 to k1 of a panel of windows, [k1 - k0, LANES]; missing positions get the last one's."""
    run = run_length(corners, first, count) if count == LANES else 1
    if run == 16:
        for half in range(PARTS):
            corner = base + corners[first + half * WIDE]
            for k in range(k0, k1):
                store(out, at + (k - k0) * LANES + half * WIDE, load(x, corner + offsets[k], WIDE))
    elif run == 8:
        for part in range(LANES // 8):
            corner = base + corners[first + part * 8]
            for k in range(k0, k1):
                store(out, at + (k - k0) * LANES + part * 8, load(x, corner + offsets[k], 8))
    elif run == 4:
        for part in range(LANES // 4):
            corner = base + corners[first + part * 4]
            for k in range(k0, k1):
                store(out, at + (k - k0) * LANES + part * 4, load(x, corner + offsets[k], 4))
    else:
        for lane in range(LANES):
            corner = base + corners[first + min(lane, count - 1)]
            for k in range(k0, k1):
                out[at + (k - k0) * LANES + lane] = x[corner + offsets[k]]


@_jit
def _scatter(
    y: Any, out: Any, places: Any, first: int, count: int, n_out: int, stride: int, shift: int, block: int
) -> None:
    """The outputs of one block of one panel to where they belong."""
    for i in range(MR):
        o = block * MR + i
        if o >= n_out:
            return
        at = shift + o * stride
        if count == LANES and places[first + LANES - 1] - places[first] == LANES - 1:
            for half in range(PARTS):
                store(out, at + places[first] + half * WIDE, load(y, i * LANES + half * WIDE, WIDE))
        else:
            for lane in range(count):
                out[at + places[first + lane]] = y[i * LANES + lane]


def _entry(fingerprint: str) -> Any:
    """The compiled product; cached under its own source and that of what it calls, as in `kernel`."""

    @njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)
    def product(
        x: Any,
        shifts: Any,
        offsets: Any,
        corners: Any,
        weights: Any,
        starts: Any,
        steps: Any,
        zeros: Any,
        most: Any,
        out: Any,
        places: Any,
        n_out: int,
        stride: int,
        first: int,
        stop: int,
    ) -> None:
        """Groups `first` to `stop` of panels, for all matrices.

        Args:
            x: Inputs, flat float32.
            shifts: Where each matrix's inputs and outputs begin, [M, 2].
            offsets: Place of each word line's input from the corner of a window, [k].
            corners: Corners of the windows in `x`, [p].
            weights: In steps of the converter, [M, blocks, k, MR].
            starts: First word line of every tile, and k, [tiles + 1].
            steps: Step of every column's converter, [M, tiles, blocks MR].
            zeros: Offset of every column in steps, like `steps`.
            most: Largest code.
            out: Outputs, flat.
            places: Places of the positions in `out`, [p].
            n_out: Outputs of a matrix.
            stride: From one output to the next in `out`.
            first: First group of panels.
            stop: Behind the last.
        """
        _ = fingerprint
        total, deep = corners.shape[0], starts[-1]
        blocks, tiles = weights.shape[1], starts.shape[0] - 1
        tallest = 0
        for t in range(tiles):
            tallest = max(tallest, starts[t + 1] - starts[t])
        held = min(deep, max(DEEP, tallest) + tallest)
        gathered = np.empty(PANELS * held * LANES, np.float32)
        sums = np.empty(blocks * PANELS * MR * LANES, np.float32)
        flat = weights.ravel()
        rows, offs = steps.ravel(), zeros.ravel()
        for group in range(first, stop):
            for m in range(weights.shape[0]):
                sums[:] = 0.0
                t0 = 0
                while t0 < tiles:
                    t1 = t0 + 1
                    while t1 < tiles and starts[t1 + 1] - starts[t0] <= DEEP:
                        t1 += 1
                    k0, k1 = starts[t0], starts[t1]
                    for panel in range(PANELS):
                        p = (group * PANELS + panel) * LANES
                        if p < total:
                            count = min(LANES, total - p)
                            _gather(x, shifts[m, 0], offsets, k0, k1, corners, p, count, gathered, panel * held * LANES)
                    for block in range(blocks):
                        for panel in range(PANELS):
                            if (group * PANELS + panel) * LANES >= total:
                                break
                            at_y = (block * PANELS + panel) * MR * LANES
                            y = _fetch(sums, at_y)
                            at_w = ((m * blocks + block) * deep + k0) * MR
                            at_x = panel * held * LANES
                            for t in range(t0, t1):
                                row = (m * tiles + t) * blocks * MR + block * MR
                                acc = _spread(offs, row)
                                for _ in range(starts[t + 1] - starts[t]):
                                    acc = _multiply_add(acc, flat, at_w, gathered, at_x)
                                    at_w += MR
                                    at_x += LANES
                                y = _converted(y, acc, rows, row, most)
                            _put(sums, at_y, y)
                    t0 = t1
                for block in range(blocks):
                    for panel in range(PANELS):
                        p = (group * PANELS + panel) * LANES
                        if p < total:
                            at_y = (block * PANELS + panel) * MR * LANES
                            _scatter(
                                sums[at_y : at_y + MR * LANES], out, places, p, min(LANES, total - p), n_out, stride,
                                shifts[m, 1], block,
                            )  # fmt: skip

    return product


@njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)
def tabulated(x: Any, nodes: Any, bins: Any, pieces: Any, out: Any, first: int, stop: int) -> None:
    """Piecewise cubics of the numbers `first` to `stop`.

    Args:
        x: Numbers within the nodes, [n]; beyond them the last piece goes on, and what is no number stays so.
        nodes: Where pieces meet, [k].
        bins: The piece in which each of a row of equal bins starts.
        pieces: Coefficients, [k - 1, rank, 4].
        out: [rank, n].
        first: First number.
        stop: Behind the last.
    """
    last, ranks = nodes.shape[0] - 1, pieces.shape[1]
    per_unit = bins.shape[0] / (nodes[last] - nodes[0])
    for q in range(first, stop):
        value = x[q]
        place = (value - nodes[0]) * per_unit
        place = min(max(place, np.float32(0.0)), np.float32(bins.shape[0] - 1)) if place == place else np.float32(0.0)
        piece = bins[int(place)]
        while piece < last - 1 and value >= nodes[piece + 1]:
            piece += 1
        t = (value - nodes[piece]) / (nodes[piece + 1] - nodes[piece])
        for rank in range(ranks):
            c = pieces[piece, rank]
            out[rank, q] = c[0] + t * (c[1] + t * (c[2] + t * c[3]))


@njit(nogil=True, cache=True, error_model="numpy", boundscheck=False, fastmath={"contract"})
def powers(x: Any, coefficients: Any, out: Any, first: int, stop: int) -> None:
    """Polynomials without a constant term of the numbers `first` to `stop`.

    Args:
        x: Numbers, [n].
        coefficients: [rank, terms], the first of each row 0.
        out: [rank, n].
        first: First number.
        stop: Behind the last.
    """
    terms = coefficients.shape[1]
    for rank in range(coefficients.shape[0]):
        for start in range(first, stop, 1024):
            end = min(start + 1024, stop)
            given, row = x[start:end], out[rank, start:end]
            top = coefficients[rank, terms - 1]
            for q in range(end - start):
                row[q] = top * given[q]
            for k in range(terms - 2, 0, -1):
                c = coefficients[rank, k]
                for q in range(end - start):
                    row[q] = (row[q] + c) * given[q]


def _sources() -> str:
    files = (Path(__file__).with_name(name) for name in ("tile_kernel.py", "simd.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


product = _entry(_sources())
