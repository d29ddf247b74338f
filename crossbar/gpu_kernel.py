# ruff: noqa: RUF005
"""Method c on a GPU: all of Newton's method and conjugate gradients for one input vector in one Triton program.

The same iteration as `newton`. `resident` keeps the state of a whole tile on chip, for tiles up to 64 x 64; `blocked`,
in `gpu_blocked`, keeps it in a scratch space, goes through it once an iteration, and takes tiles of any size. Line
drops are two running sums a line. Voltages, currents and residuals are in the accumulating type
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
ESTIMATED = tl.constexpr(1e-4)
"""Share of a squared residual down to which its next value is known from products taken before the step."""


@jit
def along(i, word):
    """Voltage that each cell loses to its word line, with `word` the resistance from the driver to each cell.

    A cell feels every current of its line through the wire that both share: the sum of word[min(j, j')] i[j'].
    """
    return tl.cumsum(word * i, axis=1) + word * (tl.cumsum(i, axis=1, reverse=True) - i)


@jit
def rounded(a):
    """Numbers to be added across threads: a product by itself, not within the addition, where threads would differ."""
    return a + 0.0


@jit
def bands(below, weighted, ends):
    """What bands of word lines add to each other's bit lines: a voltage lost there is `local` + slope * bit + base.

    `bit` is the resistance from a cell down to the end of its band, `below` and `weighted` are a band's currents and
    their sum weighted by `bit`, and `local` is what cells above and at the same place lose, less `weighted` so far.
    """
    heavy = weighted + ends * below
    slope = tl.cumsum(below, axis=0) - below
    return slope, weighted + ends * (slope + below) + (tl.cumsum(heavy, axis=0, reverse=True) - heavy)


@jit
def four_sums(a, b, c, d):
    """Sums over four arrays that are sums themselves, in one go."""
    joined = tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), [a.numel, 2, 2])
    ab, cd = tl.split(tl.sum(joined, axis=0))
    first, second = tl.split(ab)
    third, fourth = tl.split(cd)
    return first, second, third, fourth


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
def _drops(i, word, bit, DEPTH: tl.constexpr):
    """Z i: voltage that each cell loses to its two lines.

    `i` are `DEPTH` arrays, the k-th of every band of word lines; `word` and `bit` the resistances to driver and sense.
    """
    above, below = tl.zeros_like(i[0]), tl.zeros_like(i[0])
    for k in tl.static_range(DEPTH):
        above += i[k]
        below += bit[k] * i[k]
    above = tl.cumsum(above, axis=0) - above
    below = tl.cumsum(below, axis=0, reverse=True) - below
    upper = ()
    for k in tl.static_range(DEPTH):
        above += i[k]
        upper = upper + (along(i[k], word[k]) + bit[k] * above,)
    lost = ()
    for k in tl.static_range(DEPTH):
        lost = (upper[DEPTH - 1 - k] + below,) + lost
        below += bit[DEPTH - 1 - k] * i[DEPTH - 1 - k]
    return lost


@jit
def _conjugate_gradients(v, f, d, word, bit, scale, forcing, DEPTH: tl.constexpr, ACC: tl.constexpr):
    """v + x with (1 + Z D) x = f, in the inner product weighted by D, and applications of Z.

    Residuals are in units of `scale`, as products of small numbers would underflow. The length of the next residual
    comes from products taken before the step, so that one reduction serves a step, unless it falls too far for that.
    """
    r = ()
    for k in tl.static_range(DEPTH):
        r = r + (f[k] / scale,)
    p = r
    goal, steps, going = 0.0, 0, 1
    while going == 1:
        drawn = ()
        for k in tl.static_range(DEPTH):
            drawn = drawn + (d[k] * p[k],)
        lost = _drops(drawn, word, bit, DEPTH)
        rr, pr, pq, qq = tl.zeros_like(d[0]), tl.zeros_like(d[0]), tl.zeros_like(d[0]), tl.zeros_like(d[0])
        for k in tl.static_range(DEPTH):
            q = p[k] + lost[k]
            rr += d[k] * r[k] * r[k]
            pr += drawn[k] * r[k]
            pq += drawn[k] * q
            qq += d[k] * q * q
        rr, pr, pq, qq = four_sums(rr, pr, pq, qq)
        if steps == 0:
            goal = rr * forcing * forcing
        alpha = tl.where(pq > 0.0, pr / tl.where(pq > 0.0, pq, 1.0), 0.0)
        after = tl.maximum(rr + alpha * (alpha * qq - 2.0 * pq), 0.0)
        ahead, left = (), ()
        for k in tl.static_range(DEPTH):
            ahead = ahead + (v[k] + (scale * alpha * p[k]).to(ACC),)
            left = left + (r[k] - alpha * (p[k] + lost[k]),)
        v, r = ahead, left
        if after < ESTIMATED * rr:
            exact = tl.zeros_like(d[0])
            for k in tl.static_range(DEPTH):
                exact += d[k] * r[k] * r[k]
            after = tl.sum(rounded(exact))
        beta = after / tl.maximum(rr, 1e-37)
        turned = ()
        for k in tl.static_range(DEPTH):
            turned = turned + (r[k] + beta * p[k],)
        p = turned
        steps += 1
        going = tl.where((after > goal) & (steps < MAX_CG) & (pq > 0.0), 1, 0)
    return v, steps


@jit
def from_driver(to_driver, row, column, n, inside, WORDS_ALIKE: tl.constexpr):
    """Resistances from the drivers of word lines to cells."""
    if WORDS_ALIKE:
        found = tl.load(to_driver + column, mask=column < n, other=0.0)
    else:
        found = tl.load(to_driver + row * n + column, mask=inside, other=0.0)
    return found


@jit
def down_to_sense(to_sense, row, column, m, n, inside, BITS_ALIKE: tl.constexpr):
    """Resistances from cells to the sense of bit lines."""
    if BITS_ALIKE:
        found = tl.load(to_sense + row, mask=row < m, other=0.0)
    else:
        found = tl.load(to_sense + row * n + column, mask=inside, other=0.0)
    return found


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
    to_driver,  # [1 or m, n] ohm, from the driver of a word line to each of its cells
    to_sense,  # [m, 1 or n] ohm, from each cell of a bit line to its sense
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
    BANDS: tl.constexpr,
    DEPTH: tl.constexpr,
    COLUMNS: tl.constexpr,
    WORDS_ALIKE: tl.constexpr,
    BITS_ALIKE: tl.constexpr,
    KEEP: tl.constexpr,
    ACC: tl.constexpr,
):
    """One input vector on one tile, everything on chip.

    Word lines come in `BANDS` bands of `DEPTH` lines each. A thread holds a few cells of every line of its band, so
    that sums along bit lines cost additions within a thread and one running sum over the bands.
    """
    index = tl.program_id(0).to(tl.int64)
    tile, vector = index // batch, index % batch
    first, column = tl.arange(0, BANDS)[:, None] * DEPTH, tl.arange(0, COLUMNS)[None, :]
    g += tile * cell_stride
    b += tile * cell_stride
    ground = tl.load(v_bl + tile * bl_stride + vector * n + column, mask=column < n, other=0.0).to(ACC)
    drive, word, bit, word_32, bit_32, v, d = (), (), (), (), (), (), ()
    span = 0.0
    for k in tl.static_range(DEPTH):
        row = first + k
        inside = (row < m) & (column < n)
        drive = drive + (tl.load(v_wl + tile * wl_stride + vector * m + row, mask=row < m, other=0.0).to(ACC),)
        word = word + (from_driver(to_driver, row, column, n, inside, WORDS_ALIKE).to(ACC),)
        bit = bit + (down_to_sense(to_sense, row, column, m, n, inside, BITS_ALIKE).to(ACC),)
        word_32 = word_32 + (word[k].to(tl.float32),)
        bit_32 = bit_32 + (bit[k].to(tl.float32),)
        v = v + (tl.where(inside, drive[k] - ground, 0.0),)
        d = d + (tl.zeros([BANDS, COLUMNS], tl.float32),)
        span = tl.maximum(span, tl.max(tl.abs(v[k])).to(tl.float32))
    status, newton, count = 0, 0, 0
    relative, floor, low, high = 0.0, 0.0, 0.0, 0.0
    while status == 0:
        i, after = (), ()
        steep = tl.full([BANDS, COLUMNS], -1.0, tl.float32)
        for k in tl.static_range(DEPTH):
            row = first + k
            inside = (row < m) & (column < n)
            current, wide = law(
                v[k], g, b, row * n + column, inside, rank_stride, nodes, bins, pieces, n_nodes, n_bins,
                KIND, HALVINGS, RANKS, REFINE,
            )  # fmt: skip
            i = i + (current,)
            after = after + (wide.to(tl.float32),)
            steep = tl.maximum(steep, after[k] - 10.0 * tl.maximum(d[k], floor))
        d = after
        lost = _drops(i, word, bit, DEPTH)
        f = ()
        for k in tl.static_range(DEPTH):
            inside = (first + k < m) & (column < n)
            f = f + (tl.where(inside, drive[k] - ground - v[k] - lost[k], 0.0).to(tl.float32),)
        total, size, error, widths = rounded(i[0]), tl.abs(i[0]).to(tl.float32), d[0] * tl.abs(f[0]), d[0]
        scale = tl.abs(f[0])
        size, error, widths = rounded(size), rounded(error), rounded(widths)
        longest, worst, widest = tl.sum(size, axis=1), tl.sum(error, axis=1), tl.sum(widths, axis=1)
        for k in tl.static_range(1, DEPTH):
            size_k, error_k = rounded(tl.abs(i[k]).to(tl.float32)), rounded(d[k] * tl.abs(f[k]))
            total += i[k]
            size += size_k
            error += error_k
            widths += d[k]
            scale = tl.maximum(scale, tl.abs(f[k]))
            longest = tl.maximum(longest, tl.sum(size_k, axis=1))
            worst = tl.maximum(worst, tl.sum(error_k, axis=1))
            widest = tl.maximum(widest, tl.sum(rounded(d[k]), axis=1))
        tl.store(i_out + index * n + column, tl.sum(total, axis=0)[None, :], mask=column < n)
        largest = tl.maximum(tl.max(longest), tl.max(tl.sum(size, axis=0)))
        largest = tl.maximum(largest, NOTHING * span * tl.maximum(tl.max(widest), tl.max(tl.sum(widths, axis=0))))
        unbalanced = tl.maximum(tl.max(worst), tl.max(tl.sum(error, axis=0)))
        unbalanced = tl.where(
            tl.sum(error) < float("inf"), unbalanced, float("inf")
        )  # a maximum hides what is no number
        relative = tl.where(largest > 0.0, unbalanced / tl.where(largest > 0.0, largest, 1.0), unbalanced)
        status = verdict(relative, rtol, tl.max(steep) > 0.0, newton)
        count += 1
        if status == 0:
            if newton == 0:
                floor = 1e-2 * tl.sum(widths) / (m * n)
            v, steps = _conjugate_gradients(
                v, f, d, word_32, bit_32, tl.maximum(tl.max(scale), 1e-30), accuracy(relative, rtol, KIND), DEPTH, ACC
            )
            newton += 1
            count += steps
    for k in tl.static_range(DEPTH):
        row = first + k
        inside = (row < m) & (column < n)
        if KEEP:
            tl.store(v_out + index * m * n + row * n + column, v[k], mask=inside)
        seen = tl.where(inside, v[k], 0.0).to(tl.float32)
        low, high = tl.minimum(low, tl.min(seen)), tl.maximum(high, tl.max(seen))
    store_summary(index, low, high, relative, status, count, extremes, residual, counts)
