"""Arrays whose lines take little, expanded about ideal lines: compiled for one CPU core, converter included.

Of every word line's voltage, functions and their slopes are worked out once; a cell's current is then a Taylor series
in what the lines take from it. To first order the current of a bit line needs no drop of its own: with what flows
through each segment, C, and the conductance above it, E, the bit line's part is the sum of R C E over its segments.
Tiles that need more are swept: drops from currents, currents from drops, as often as `expansion` found necessary.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numba.core import types

from .kernel_cells import Flat, jit
from .simd import Vector, _extreme, _intrinsic, _splat, _unary, load, splat, store
from .tile_kernel import LANES, run_length

PANELS = 4
"""Panels that share what is read of the cells."""
HALF = 16
"""Vectors of a panel that are swept together."""
PAIR = 2
"""Columns that lie together."""

rounded = _unary("rint")
least = _extreme("minimum")  # these two keep what is not a number
most_of = _extreme("maximum")


@_intrinsic
def spread(typing: Any, array: Any, offset: Any, length: Any) -> Any:
    """A vector of `length` (a literal) times the number at `offset` in a flat array."""
    vector = Vector(array.dtype, length.literal_value)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        return _splat(builder, builder.load(builder.gep(data, [args[1]])), vector)

    return vector(array, types.intp, length), generate


@jit
def _gather(
    x: Flat, base: int, places: Flat, apart: int, planes: int, corners: Flat, first: int, count: int, rest: Flat,
    out: Flat, at: int,
) -> None:  # fmt: skip
    """The planes of the word lines of one tile for one panel, [rows, planes, LANES]; idle ones are at rest."""
    run = run_length(corners, first, count) if count == LANES else 1
    for row in range(places.shape[0]):
        for plane in range(planes):
            to = at + (row * planes + plane) * LANES
            if places[row] < 0:
                store(out, to, splat(rest[plane], load(out, to, LANES)))
                continue
            start = base + places[row] + plane * apart
            if run == 16:
                for lane in range(0, LANES, 16):
                    store(out, to + lane, load(x, start + corners[first + lane], 16))
            elif run == 8:
                for lane in range(0, LANES, 8):
                    store(out, to + lane, load(x, start + corners[first + lane], 8))
            elif run == 4:
                for lane in range(0, LANES, 4):
                    store(out, to + lane, load(x, start + corners[first + lane], 4))
            else:
                for lane in range(LANES):
                    out[to + lane] = x[start + corners[first + min(lane, count - 1)]]


@jit
def _first_order(
    cells: Flat, q: int, given: Flat, at: int, bit: Flat, rows: int, columns: int, ranks: int, planes: int, out: Flat,
    to: int,
) -> None:  # fmt: skip
    """Column currents of one tile to first order in the lines, [columns, LANES]."""
    zero = splat(0.0, load(given, at, LANES))
    for j in range(0, columns, PAIR):
        c0, c1, e0, e1, s0, s1 = zero, zero, zero, zero, zero, zero
        for i in range(rows):
            x = at + i * planes * LANES
            d0, d1, w0, w1 = zero, zero, zero, zero
            for _ in range(ranks):
                value, slope = load(given, x, LANES), load(given, x + ranks * LANES, LANES)
                c0, c1 = c0 + spread(cells, q, LANES) * value, c1 + spread(cells, q + 1, LANES) * value
                d0, d1 = d0 + spread(cells, q, LANES) * slope, d1 + spread(cells, q + 1, LANES) * slope
                w0, w1 = w0 + spread(cells, q + 2, LANES) * value, w1 + spread(cells, q + 3, LANES) * value
                q += 2 * PAIR
                x += LANES
            e0, e1 = e0 + d0, e1 + d1
            s0, s1 = s0 + d0 * w0, s1 + d1 * w1
            s0, s1 = (
                s0 + (spread(bit, i * columns + j, LANES) * c0) * e0,
                s1 + (spread(bit, i * columns + j + 1, LANES) * c1) * e1,
            )
        store(out, to + j * LANES, c0 - s0)
        store(out, to + (j + 1) * LANES, c1 - s1)


@jit
def _swept(
    sweeps: int, cells: Flat, q: int, given: Flat, at: int, word: Flat, bit: Flat, rows: int, columns: int, ranks: int,
    planes: int, scratch: Flat, out: Flat, to: int,
) -> None:  # fmt: skip
    """Column currents of one tile for HALF vectors after some sweeps."""
    zero = splat(0.0, load(given, at, HALF))
    drops, flow, rise = rows * columns * HALF, 2 * rows * columns * HALF, (2 * rows + 1) * columns * HALF
    for j in range(columns):
        store(out, to + j * LANES, zero)
    for i in range(rows):
        for j in range(columns):
            x = at + i * planes * LANES
            k = q + ((j // PAIR) * rows + i) * 2 * PAIR * ranks + j % PAIR
            now, drop = zero, zero
            for _ in range(ranks):
                value = load(given, x, HALF)
                now, drop = now + spread(cells, k, HALF) * value, drop + spread(cells, k + PAIR, HALF) * value
                x += LANES
                k += 2 * PAIR
            store(scratch, (i * columns + j) * HALF, now)
            store(scratch, drops + (i * columns + j) * HALF, drop)
            store(out, to + j * LANES, load(out, to + j * LANES, HALF) + now)
    for sweep in range(1, sweeps + 1):
        for j in range(columns):
            store(scratch, flow + j * HALF, load(out, to + j * LANES, HALF))
            store(scratch, rise + j * HALF, zero)
            store(out, to + j * LANES, zero)
        for i in range(rows - 1, -1, -1):
            for j in range(columns):
                x = at + i * planes * LANES
                k = q + ((j // PAIR) * rows + i) * 2 * PAIR * ranks + j % PAIR
                cell, column = (i * columns + j) * HALF, j * HALF
                now, slope, bend, third = zero, zero, zero, zero
                for _ in range(ranks):
                    now = now + spread(cells, k, HALF) * load(given, x, HALF)
                    slope = slope + spread(cells, k, HALF) * load(given, x + ranks * LANES, HALF)
                    bend = bend + spread(cells, k, HALF) * load(given, x + 2 * ranks * LANES, HALF)
                    third = third + spread(cells, k, HALF) * load(given, x + 3 * ranks * LANES, HALF)
                    x += LANES
                    k += 2 * PAIR
                below = load(scratch, flow + column, HALF)
                above = load(scratch, rise + column, HALF) + spread(bit, i * columns + j, HALF) * below
                store(scratch, rise + column, above)
                store(scratch, flow + column, below - load(scratch, cell, HALF))
                lost = load(scratch, drops + cell, HALF) + above
                now = now - lost * (slope - lost * (bend - lost * third))
                store(scratch, cell, now)
                store(out, to + j * LANES, load(out, to + j * LANES, HALF) + now)
            if sweep < sweeps:
                behind = zero
                for j in range(columns - 1, -1, -1):
                    cell = (i * columns + j) * HALF
                    behind = behind + load(scratch, cell, HALF)
                    store(scratch, drops + cell, behind)
                drop = zero
                for j in range(columns):
                    cell = drops + (i * columns + j) * HALF
                    drop = drop + spread(word, i * columns + j, HALF) * load(scratch, cell, HALF)
                    store(scratch, cell, drop)


@jit
def _add(
    currents: Flat, plus: int, minus: int, sums: Flat, at: int, gain: float, zero: float, step: float, most: float
) -> None:
    """One output of one tile through its converter, added up; without a converter where `most` is 0."""
    i = load(currents, plus, LANES)
    if minus >= 0:
        i = i - load(currents, minus, LANES)
    i = gain * i + zero
    if most > 0:
        i = step * most_of(least(rounded(i), splat(most, i)), splat(-most, i))
    store(sums, at, load(sums, at, LANES) + i)


@jit
def _scatter(y: Flat, at: int, out: Flat, to: int, places: Flat, first: int, count: int) -> None:
    """One output of one panel to where it belongs."""
    if count == LANES and places[first + LANES - 1] - places[first] == LANES - 1:
        store(out, to + places[first], load(y, at, LANES))
    else:
        for lane in range(count):
            out[to + places[first + lane]] = y[at + lane]


def _entry(version: str) -> Any:
    """The compiled product; cached under its own source and that of what it calls, as in `kernel`."""

    @njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)
    def product(
        x: Any,
        apart: int,
        shifts: Any,
        lines: Any,
        corners: Any,
        rest: Any,
        cells: Any,
        sweeps: Any,
        word: Any,
        bit: Any,
        ranks: int,
        pairs: Any,
        together: int,
        steps: Any,
        gains: Any,
        zeros: Any,
        most: float,
        analog: bool,
        out: Any,
        places: Any,
        n_out: int,
        stride: int,
        top: int,
        bottom: int,
        first: int,
        stop: int,
    ) -> None:
        """Panels `first` to `stop`, for all matrices.

        Args:
            x: Planes of functions of the inputs, flat float32: coefficients of Taylor's series, the first two at least.
            apart: From one plane to the next.
            shifts: Where each matrix's inputs and outputs begin, [M, 2].
            lines: Place of each word line's input from the corner of a window, [R, rows]; -1: grounded.
            corners: Corners of the windows in `x`, [p].
            rest: The planes at 0 V.
            cells: Amplitudes, and those times the word line's resistance, [M, S, P, R, K, pairs, rows, ranks, 2, 2].
            sweeps: 1 for first order, [M, S, P, R, K].
            word: Resistance before each cell, [rows, columns].
            bit: Resistance below each cell, [rows, columns].
            ranks: Terms of the cells' law.
            pairs: Columns (of all arrays of a slice) whose difference is an output, [outputs, 2]; -1: none.
            together: 1 where both columns of a pair go through one converter, else 2.
            steps: Of every converter [A], [M, R, X S K outputs].
            gains: Steps per ampere.
            zeros: What it adds, in steps.
            most: Largest code; 0: no converter.
            analog: Whether tiles below each other share a converter, the first one's.
            out: Outputs, flat.
            places: Places of the positions in `out`, [p].
            n_out: Outputs of a channel.
            stride: From one output to the next in `out`.
            top: First row of tiles.
            bottom: Behind the last.
            first: First panel.
            stop: Behind the last.
        """
        _ = version
        total, planes = corners.shape[0], rest.shape[0]
        matrices, slices, arrays, down, across = sweeps.shape
        rows, columns = word.shape
        outputs = pairs.shape[0]
        flat, rw, rb = cells.ravel(), word.ravel(), bit.ravel()
        each = rows * columns * 2 * ranks
        width = across * outputs
        given = np.zeros(PANELS * rows * planes * LANES, np.float32)
        scratch = np.zeros((2 * rows + 2) * columns * HALF, np.float32)
        currents = np.zeros(arrays * columns * LANES, np.float32)
        sums = np.empty(slices * together * width * PANELS * LANES, np.float32)
        held = rows * planes * LANES
        for begin in range(first, stop, PANELS):
            for m in range(matrices):
                sums[:] = 0.0
                for r in range(top, bottom):
                    for panel in range(PANELS):
                        p = (begin + panel) * LANES
                        if begin + panel < stop:
                            count = min(LANES, total - p)
                            _gather(
                                x, shifts[m, 0], lines[r], apart, planes, corners, p, count, rest, given, panel * held
                            )
                    direct = most > 0 and not analog
                    for s in range(slices):
                        for k in range(across):
                            for panel in range(PANELS):
                                if begin + panel >= stop:
                                    break
                                for a in range(arrays):
                                    tile = (((m * slices + s) * arrays + a) * down + r) * across + k
                                    if sweeps[m, s, a, r, k] == 1:
                                        _first_order(
                                            flat, tile * each, given, panel * held, rb, rows, columns, ranks, planes,
                                            currents, a * columns * LANES,
                                        )  # fmt: skip
                                    else:
                                        for half in range(0, LANES, HALF):
                                            _swept(
                                                sweeps[m, s, a, r, k], flat, tile * each, given, panel * held + half,
                                                rw, rb, rows, columns, ranks, planes, scratch,
                                                currents, a * columns * LANES + half,
                                            )  # fmt: skip
                                for o in range(outputs):
                                    if k * outputs + o >= n_out:
                                        break
                                    for channel in range(together):
                                        row = (s * together + channel) * width + k * outputs + o
                                        _add(
                                            currents,
                                            pairs[o, channel] * LANES,
                                            pairs[o, 1] * LANES if together == 1 else -1,
                                            sums,
                                            (row * PANELS + panel) * LANES,
                                            gains[m, r, row] if direct else np.float32(1.0),
                                            zeros[m, r, row] if direct else np.float32(0.0),
                                            steps[m, r, row],
                                            most if direct else np.float32(0.0),
                                        )
                for channel in range(slices * together):
                    for o in range(n_out):
                        row = channel * width + o
                        for panel in range(PANELS):
                            p = (begin + panel) * LANES
                            if begin + panel >= stop:
                                break
                            at = (row * PANELS + panel) * LANES
                            if analog and most > 0:
                                store(given, 0, load(sums, at, LANES))
                                store(sums, at, splat(0.0, load(sums, at, LANES)))
                                _add(given, 0, -1, sums, at, gains[m, 0, row], zeros[m, 0, row], steps[m, 0, row], most)
                            to = shifts[m, 1] + (channel * n_out + o) * stride
                            _scatter(sums, at, out, to, places, p, min(LANES, total - p))

    return product


def sources() -> str:
    """Hash of every source file that is compiled into the product."""
    names = ("expansion_kernel.py", "tile_kernel.py", "kernel_cells.py", "simd.py")
    files = (Path(__file__).with_name(name) for name in names)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


product = _entry(sources())
