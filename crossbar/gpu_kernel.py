"""Method c on a GPU: all of Newton's method and conjugate gradients for one input vector in one Triton program.

The same iteration as `newton`. `resident` keeps the state of a whole tile on chip, for tiles up to 64 x 64; `blocked`,
in `gpu_blocked`, keeps it in a scratch space, goes through it in blocks of word lines twice an iteration, and takes
tiles of any size. Line drops are two running sums a line. Voltages, currents and residuals are in the accumulating type
(float64 where the tolerance asks for it), the inner conjugate gradients in float32, as a refinement does not need more.
A vector that has converged stops; nothing is shared between programs.

With TRITON_INTERPRET=1 in the environment the same kernels run on a CPU, slowly, which is how they are tested there.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_laws import OHMIC, law

jit: Any = triton.jit

CONVERGED = tl.constexpr(1)
HARD = tl.constexpr(2)

MAX_NEWTON = tl.constexpr(25)
MAX_CG = tl.constexpr(500)
NOTHING = tl.constexpr(1e-7)
"""Currents smaller than this share of what ideal lines would allow count as rounding."""
FINEST = tl.constexpr(1e-5)
"""Reduction of the error that float32 conjugate gradients gain in one go."""


@jit
def _drops(i, word, bit):
    """Z i: voltage that each cell loses to its two lines; word lines are driven at column 0, bit lines sensed last."""
    along = tl.cumsum(word * tl.cumsum(i, axis=1, reverse=True), axis=1)
    return along + tl.cumsum(bit * tl.cumsum(i, axis=0), axis=0, reverse=True)


@jit
def summed(a):
    """Sum over an array."""
    return tl.sum(tl.sum(a, axis=1), axis=0)


@jit
def largest(a):
    """Largest number of an array."""
    return tl.max(tl.max(a, axis=1), axis=0)


@jit
def smallest(a):
    """Smallest number of an array."""
    return tl.min(tl.min(a, axis=1), axis=0)


@jit
def largest_line(a):
    """Largest sum over one line of an array."""
    return tl.maximum(tl.max(tl.sum(a, axis=1), axis=0), tl.max(tl.sum(a, axis=0), axis=0))


@jit
def accuracy(relative, rtol, KIND: tl.constexpr):
    """How far the linear system of a Newton step is solved: as far as pays."""
    forcing = 0.1 * rtol / tl.maximum(relative, 1e-30)
    if KIND != OHMIC:
        forcing = tl.maximum(forcing, tl.minimum(relative, 0.1))
    return tl.minimum(tl.maximum(forcing, FINEST), 1.0)


@jit
def verdict(relative, rtol, steep, newton):
    """0 to go on, CONVERGED, or HARD: too steep for plain Newton steps, or not a number."""
    lost = ~(relative < 1e6) | ((newton > 0) & steep) | (newton >= MAX_NEWTON)
    return tl.where(relative <= rtol, CONVERGED, tl.where(lost, HARD, 0))


@jit
def _conjugate_gradients(f, d, word, bit, forcing):
    """The step x with (1 + Z D) x = f, in the inner product weighted by D, and applications of Z."""
    scale = tl.maximum(largest(tl.abs(f)), 1e-30)  # products of small numbers would underflow
    r = f / scale
    p = r
    rr = summed(d * r * r)
    goal = rr * forcing * forcing
    x = tl.zeros_like(f)
    steps = 0
    while (rr > goal) & (steps < MAX_CG):
        dp = d * p
        q = p + _drops(dp, word, bit)
        alpha = rr / summed(dp * q)
        x += alpha * p
        r -= alpha * q
        after = summed(d * r * r)
        p = r + (after / rr) * p
        rr = after
        steps += 1
    return x * scale, steps


@jit
def store_summary(index, low, high, relative, status, count, extremes, residual, counts):
    """What is known of a solution, see `gpu.newton_gpu`."""
    tl.store(extremes + 2 * index, low)
    tl.store(extremes + 2 * index + 1, high)
    tl.store(residual + index, relative)
    tl.store(counts + 2 * index, status)
    tl.store(counts + 2 * index + 1, count)


@jit
def resident(
    v_wl,  # [tiles or 1, b, m] V
    v_bl,  # [tiles or 1, b, n] V
    g,  # [tiles or 1, m, n] S, or amplitudes [ranks, tiles or 1, m, n]
    b,  # [tiles or 1, m, n] 1/V
    nodes,
    bins,
    pieces,
    word_segments,  # [1 or m, n] ohm, before each cell of a word line
    bit_segments,  # [1 or n, m] ohm, below each cell of a bit line
    i_out,  # [tiles, b, n] A
    v_out,  # [tiles, b, m, n] V, if wanted
    extremes,  # [tiles, b, 2] V, of the cells
    residual,  # [tiles, b]
    counts,  # [tiles, b, 2]: status, applications of the line operator
    m,
    n,
    batch,
    wl_stride,  # from one tile to the next; 0 where all share
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
    ACC: tl.constexpr,
):
    """One input vector on one tile, everything on chip."""
    index = tl.program_id(0).to(tl.int64)
    tile, vector = index // batch, index % batch
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    inside = (row < m) & (column < n)
    cell = row * n + column
    g += tile * cell_stride
    b += tile * cell_stride
    drive = tl.load(v_wl + tile * wl_stride + vector * m + row, mask=row < m, other=0.0).to(ACC)
    ground = tl.load(v_bl + tile * bl_stride + vector * n + column, mask=column < n, other=0.0).to(ACC)
    if WORDS_ALIKE:
        word = tl.load(word_segments + column, mask=column < n, other=0.0).to(ACC)
    else:
        word = tl.load(word_segments + cell, mask=inside, other=0.0).to(ACC)
    if BITS_ALIKE:
        bit = tl.load(bit_segments + row, mask=row < m, other=0.0).to(ACC)
    else:
        bit = tl.load(bit_segments + column * m + row, mask=inside, other=0.0).to(ACC)
    word_32, bit_32 = word.to(tl.float32), bit.to(tl.float32)
    v = tl.where(inside, drive - ground, 0.0)
    span = largest(tl.abs(v)).to(tl.float32)
    before = tl.zeros([ROWS, COLUMNS], tl.float32)
    columns = tl.arange(0, COLUMNS)
    status, newton, count = 0, 0, 0
    relative, floor = 0.0, 0.0
    while status == 0:
        i, wide = law(
            v, g, b, cell, inside, rank_stride, nodes, bins, pieces, n_nodes, n_bins, KIND, HALVINGS, RANKS, REFINE
        )
        d = wide.to(tl.float32)
        f = tl.where(inside, drive - ground - v - _drops(i, word, bit), 0.0)
        tl.store(i_out + index * n + columns, tl.sum(i, axis=0), mask=columns < n)
        f_32 = f.to(tl.float32)
        worst = largest_line(d * tl.abs(f_32))
        size = tl.maximum(largest_line(tl.abs(i).to(tl.float32)), NOTHING * span * largest_line(d))
        relative = tl.where(size > 0.0, worst / tl.where(size > 0.0, size, 1.0), worst)
        if newton == 0:
            floor = 1e-2 * summed(d) / (m * n)
        steep = largest(d - 10.0 * tl.maximum(before, floor)) > 0.0
        status = verdict(relative, rtol, steep, newton)
        count += 1
        if status == 0:
            x, steps = _conjugate_gradients(f_32, d, word_32, bit_32, accuracy(relative, rtol, KIND))
            v += x.to(ACC)
            before = d
            newton += 1
            count += steps
    if KEEP:
        tl.store(v_out + index * m * n + cell, v, mask=inside)
    v = tl.where(inside, v, 0.0)
    store_summary(index, smallest(v), largest(v), relative, status, count, extremes, residual, counts)
