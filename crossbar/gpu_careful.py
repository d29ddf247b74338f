# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors
"""Vectors that were too steep for the Newton kernels, once more and with care, without the host being asked.

As `newton` does it: where the conductance of a cell would shoot up, its step is taken in current instead of voltage,
and where ideal lines would lose more than the whole drive, the start is what a linear array allows. Programs look
through the status of all vectors and solve the few that were given up; one that is too hard even then keeps its status.
Everything of a tile is held by one program, in float64 but for conjugate gradients: it need not be fast.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_kernel import CONVERGED, FINEST, HARD, MAX_CG, NOTHING, rounded
from .gpu_laws import law

jit: Any = triton.jit

MAX_NEWTON = tl.constexpr(40)
BISECTIONS = tl.constexpr(60)
START, POINT, AHEAD, BETWEEN, ZERO = (tl.constexpr(phase) for phase in range(5))
"""What a round looks at: the drive, where Newton's method stands, where its step leads, between both, and 0 V."""


@jit
def _drops(i, word, bit):
    """Z i: voltage that each cell loses to its two lines; word lines are driven at column 0, bit lines sensed last."""
    along = tl.cumsum(word * tl.cumsum(i, axis=1, reverse=True), axis=1)
    return along + tl.cumsum(bit * tl.cumsum(i, axis=0), axis=0, reverse=True)


@jit
def _summed(a):
    return tl.sum(tl.sum(rounded(a), axis=1), axis=0)


@jit
def _largest(a):
    return tl.max(tl.max(a, axis=1), axis=0)


@jit
def _largest_line(a):
    a = rounded(a)
    return tl.maximum(tl.max(tl.sum(a, axis=1), axis=0), tl.max(tl.sum(a, axis=0), axis=0))


@jit
def _conjugate_gradients(f, d, word, bit, forcing):
    """The step x with (1 + Z D) x = f, in the inner product weighted by D, and applications of Z."""
    scale = tl.maximum(_largest(tl.abs(f)), 1e-30)  # products of small numbers would underflow
    r = f / scale
    p = r
    rr = _summed(d * r * r)
    goal = rr * forcing * forcing
    x = tl.zeros_like(f)
    steps = 0
    while (rr > goal) & (steps < MAX_CG):
        dp = d * p
        q = p + _drops(dp, word, bit)
        alpha = rr / _summed(dp * q)
        x += alpha * p
        r -= alpha * q
        after = _summed(d * r * r)
        p = r + (after / rr) * p
        rr = after
        steps += 1
    return x * scale, steps


@jit
def careful(
    v_wl,  # as in `gpu_kernel.resident`, up to `bit_segments`
    v_bl,
    g,
    b,
    nodes,
    bins,
    pieces,
    word_segments,  # [1 or m, n] ohm, before each cell of a word line
    bit_segments,  # [1 or n, m] ohm, below each cell of a bit line
    i_out,
    v_out,
    extremes,
    residual,
    counts,
    m,
    n,
    batch,
    total,  # vectors on all tiles
    wl_stride,
    bl_stride,
    cell_stride,
    rank_stride,
    n_nodes,
    n_bins,
    rtol,
    KIND: tl.constexpr,
    HALVINGS: tl.constexpr,
    RANKS: tl.constexpr,
    REFINE: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WORDS_ALIKE: tl.constexpr,
    BITS_ALIKE: tl.constexpr,
    KEEP: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """All vectors that were given up, one after the other."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    inside = (row < m) & (column < n)
    cell = row * n + column
    columns = tl.arange(0, COLUMNS)
    if WORDS_ALIKE:
        word = tl.load(word_segments + column, mask=column < n, other=0.0).to(tl.float64)
    else:
        word = tl.load(word_segments + cell, mask=inside, other=0.0).to(tl.float64)
    if BITS_ALIKE:
        bit = tl.load(bit_segments + row, mask=row < m, other=0.0).to(tl.float64)
    else:
        bit = tl.load(bit_segments + column * m + row, mask=inside, other=0.0).to(tl.float64)
    word_32, bit_32 = word.to(tl.float32), bit.to(tl.float32)
    start = tl.program_id(0).to(tl.int64) * CHUNK
    while start < total:
        chunk = start + tl.arange(0, CHUNK)
        given_up = tl.load(counts + 2 * chunk, mask=chunk < total, other=CONVERGED) == HARD
        left = tl.sum(given_up.to(tl.int32), axis=0)
        last = start - 1
        while left > 0:
            index = tl.min(tl.where(given_up & (chunk > last), chunk, total), axis=0)
            last = index
            left -= 1
            tile, vector = index // batch, index % batch
            cells, steepness = g + tile * cell_stride, b + tile * cell_stride
            drive = tl.load(v_wl + tile * wl_stride + vector * m + row, mask=row < m, other=0.0).to(tl.float64)
            ground = tl.load(v_bl + tile * bl_stride + vector * n + column, mask=column < n, other=0.0).to(tl.float64)
            applied = tl.where(inside, drive - ground, 0.0)
            span = _largest(tl.abs(applied))
            v, i, d, dv, near, far = applied, applied, applied, applied, applied, applied
            steep = inside
            relative, left_to_halve = span, 0
            status, phase, newton, count = 0, START, 0, tl.load(counts + 2 * index + 1)
            while status == 0:  # one look at the cells' law a round, for what the phase says
                at = tl.where(phase == AHEAD, v + dv, tl.where(phase == BETWEEN, 0.5 * (near + far), v))
                i_at, d_at = law(
                    at, cells, steepness, cell, inside, rank_stride, nodes, bins, pieces, n_nodes, n_bins,
                    KIND, HALVINGS, RANKS, REFINE,
                )  # fmt: skip
                if phase == BETWEEN:
                    short = tl.abs(i_at) < tl.abs(i + d * dv)
                    near = tl.where(short, at, near)
                    far = tl.where(short, far, at)
                    left_to_halve -= 1
                    if left_to_halve == 0:
                        v = tl.where(steep, near, v + dv)
                        phase = POINT
                elif phase == AHEAD:
                    reference = tl.maximum(d, 1e-2 * _summed(d) / (m * n))
                    steep = inside & ~(d_at <= 10.0 * reference)  # true for overflow too
                    if tl.sum(steep.to(tl.int32)) > 0:
                        near = v
                        far = at
                        left_to_halve = BISECTIONS
                        phase = BETWEEN
                    else:
                        v = at
                        phase = POINT
                elif phase == ZERO:
                    i = i_at
                    d = d_at
                    dv = applied
                    phase = AHEAD
                else:
                    lost = _drops(i_at, word, bit)
                    if (phase == START) & (tl.sum((~(tl.abs(lost) <= span)).to(tl.int32)) > 0):
                        v = tl.zeros_like(applied)
                        phase = ZERO
                    else:
                        i = i_at
                        d = d_at
                        f = tl.where(inside, applied - v - lost, 0.0)
                        error = d * tl.abs(f)
                        worst = _largest_line(error)
                        size = tl.maximum(_largest_line(tl.abs(i)), NOTHING * span * _largest_line(d))
                        relative = tl.where(size > 0.0, worst / tl.where(size > 0.0, size, 1.0), worst)
                        relative = tl.where(_summed(error) < float("inf"), relative, float("inf"))
                        gone = ~(relative < float("inf")) | (newton >= MAX_NEWTON)
                        status = tl.where(relative <= rtol, CONVERGED, tl.where(gone, HARD, 0))
                        count += 1
                        if status == 0:
                            forcing = tl.maximum(0.1 * rtol / tl.maximum(relative, 1e-30), tl.minimum(relative, 0.1))
                            forcing = tl.minimum(tl.maximum(forcing, FINEST), 1.0).to(tl.float32)
                            x, steps = _conjugate_gradients(
                                f.to(tl.float32), d.to(tl.float32), word_32, bit_32, forcing
                            )  # fmt: skip
                            dv = x.to(tl.float64)
                            newton += 1
                            count += steps
                            phase = AHEAD
            if status == CONVERGED:
                tl.store(i_out + index * n + columns, tl.sum(rounded(i), axis=0), mask=columns < n)
                if KEEP:
                    tl.store(v_out + index * m * n + cell, v, mask=inside)
                v = tl.where(inside, v, 0.0)
                tl.store(extremes + 2 * index, tl.min(tl.min(v, axis=1), axis=0))
                tl.store(extremes + 2 * index + 1, _largest(v))
                tl.store(residual + index, relative)
                tl.store(counts + 2 * index, status)
            tl.store(counts + 2 * index + 1, count)
        start += tl.num_programs(0).to(tl.int64) * CHUNK
