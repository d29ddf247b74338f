# ruff: noqa: ANN001, ANN201, ANN202, SIM300
# mypy: ignore-errors
"""Method c on a GPU for tiles of any number of word lines, whose state is kept in a scratch space; see `gpu_kernel`.

A program takes the tile apart in bands of word lines and goes down all bands at the same time, a line of each at a
time. What a bit line loses is, band by band, a running sum from the top of the band plus what `bands` finds from the
bands' totals when all have come down: the next pass adds it, and products with it follow from sums over columns. So
one pass makes one step of conjugate gradients; within it no thread waits for another.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_kernel import (
    MAX_CG,
    NOTHING,
    accuracy,
    along,
    bands,
    down_to_sense,
    four_sums,
    from_driver,
    rounded,
    store_summary,
    verdict,
)
from .gpu_laws import law

jit: Any = triton.jit

DEFERRED = tl.constexpr(1e-2)
"""Share of a squared residual that must be left for a step to be taken together with the next one."""


@jit
def _currents(
    vs, fs, rs, ps, ds, xs, drives, ground, cells, steepness, nodes, bins, pieces, to_driver, to_sense, ends,
    m, n, depth, rank_stride, n_nodes, n_bins, newton, per_p, per_r, begun, floor,
    KIND: tl.constexpr, HALVINGS: tl.constexpr, RANKS: tl.constexpr, REFINE: tl.constexpr, BANDS: tl.constexpr,
    COLUMNS: tl.constexpr, WORDS_ALIKE: tl.constexpr, BITS_ALIKE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Down the bands: the rest of the Newton step taken, currents, and Kirchhoff's voltage law of a band by itself.

    Returns sums of the currents in every band for `bands`, the longest word line's currents and conductances, the same
    of bit lines by band, whether a conductance has shot up, the extremes of the voltages, and the largest drive.
    """
    band, column = tl.arange(0, BANDS)[:, None], tl.arange(0, COLUMNS)[None, :]
    below, weighted = tl.zeros([BANDS, COLUMNS], ACC), tl.zeros([BANDS, COLUMNS], ACC)
    sizes, widths = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    low, high = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    steep, span = tl.full([BANDS, COLUMNS], -1.0, tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    longest, widest = tl.zeros([BANDS], tl.float32), tl.zeros([BANDS], tl.float32)
    for k in range(depth):
        at = (k * BANDS + band) * COLUMNS + column
        row = band * depth + k
        inside = (row < m) & (column < n)
        cell = row * n + column
        drive = tl.load(drives + row, mask=row < m, other=0.0).to(ACC)
        applied = tl.where(inside, drive - ground, 0.0)
        if newton == 0:
            v = applied
            before = tl.full([BANDS, COLUMNS], float("inf"), tl.float32)
            span = tl.maximum(span, tl.abs(applied).to(tl.float32))
        else:
            v = tl.load(vs + at) + (per_p * tl.load(ps + at) + per_r * tl.load(rs + at)).to(ACC)
            if ACC == tl.float64:
                v += tl.load(xs + at, mask=begun > 0, other=0.0).to(ACC)
            before = tl.load(ds + at)
        seen = tl.where(inside, v, 0.0).to(tl.float32)
        low, high = tl.minimum(low, seen), tl.maximum(high, seen)
        i, wide = law(
            v, cells, steepness, cell, inside, rank_stride, nodes, bins, pieces, n_nodes, n_bins,
            KIND, HALVINGS, RANKS, REFINE,
        )  # fmt: skip
        d = wide.to(tl.float32)
        steep = tl.maximum(steep, d - 10.0 * tl.maximum(before, floor))
        word = from_driver(to_driver, row, column, n, inside, WORDS_ALIKE).to(ACC)
        bit = down_to_sense(to_sense, row, column, m, n, inside, BITS_ALIKE).to(ACC) - ends
        below += i
        weighted += bit * i
        tl.store(vs + at, v)
        tl.store(ds + at, d)
        tl.store(fs + at, applied - v - along(i, word) - (bit * below - weighted))
        size, width = rounded(tl.abs(i).to(tl.float32)), rounded(d)
        sizes += size
        widths += width
        longest = tl.maximum(longest, tl.sum(size, axis=1))
        widest = tl.maximum(widest, tl.sum(width, axis=1))
    return below, weighted, tl.max(longest), tl.max(widest), sizes, widths, steep, low, high, span


@jit
def _errors(
    fs, rs, ds, slope, base, to_sense, ends, m, n, depth,
    BANDS: tl.constexpr, COLUMNS: tl.constexpr, BITS_ALIKE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Down the bands: what is left of Kirchhoff's laws. Returns the largest error of a line and of a voltage."""
    band, column = tl.arange(0, BANDS)[:, None], tl.arange(0, COLUMNS)[None, :]
    errors, scale = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    longest = tl.zeros([BANDS], tl.float32)
    for k in range(depth):
        at = (k * BANDS + band) * COLUMNS + column
        row = band * depth + k
        inside = (row < m) & (column < n)
        bit = down_to_sense(to_sense, row, column, m, n, inside, BITS_ALIKE).to(ACC) - ends
        f = tl.where(inside, tl.load(fs + at) - bit * slope - base, 0.0).to(tl.float32)
        tl.store(rs + at, f)
        error = rounded(tl.load(ds + at) * tl.abs(f))
        errors += error
        longest = tl.maximum(longest, tl.sum(error, axis=1))
        scale = tl.maximum(scale, tl.abs(f))
    finite = tl.sum(errors) < float("inf")
    worst = tl.maximum(tl.max(longest), tl.max(tl.sum(errors, axis=0)))
    return tl.where(finite, worst, float("inf")), tl.max(scale)


@jit
def _step(
    ps, rs, ds, xs, slope, base, to_driver, to_sense, ends, m, n, depth, steps, unit, alpha, beta,
    flush, begun, per_p, per_r,
    BANDS: tl.constexpr, COLUMNS: tl.constexpr, WORDS_ALIKE: tl.constexpr, BITS_ALIKE: tl.constexpr,
    MERGED: tl.constexpr,
):  # fmt: skip
    """Down the bands: the last step of conjugate gradients taken, and the next direction p with its image q.

    The image of the last direction is found again rather than kept. Returns `slope` and `base` of the next, and the
    products r.r, p.r, p.q and q.q.
    """
    band, column = tl.arange(0, BANDS)[:, None], tl.arange(0, COLUMNS)[None, :]
    old_below, old_weighted = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    below, weighted = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    rr, pr = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
    # sums over d, with and without t, the part of q that is known here, and `bit`
    pt, tt, t1 = tl.zeros_like(rr), tl.zeros_like(rr), tl.zeros_like(rr)
    tb, d1, db, dbb = tl.zeros_like(rr), tl.zeros_like(rr), tl.zeros_like(rr), tl.zeros_like(rr)
    for k in range(depth):
        at = (k * BANDS + band) * COLUMNS + column
        row = band * depth + k
        inside = (row < m) & (column < n)
        d = tl.load(ds + at)
        r = tl.load(rs + at)
        word = from_driver(to_driver, row, column, n, inside, WORDS_ALIKE).to(tl.float32)
        bit = down_to_sense(to_sense, row, column, m, n, inside, BITS_ALIKE).to(tl.float32) - ends
        if steps == 0:
            r = unit * r
            p = r
        else:
            p = tl.load(ps + at)
            if flush > 0:
                taken = per_p * p + per_r * r
                if MERGED:
                    tl.store(xs + at, tl.load(xs + at) + taken)
                else:
                    tl.store(xs + at, tl.load(xs + at, mask=begun > 0, other=0.0) + taken)
            drawn = d * p
            old_below += drawn
            old_weighted += bit * drawn
            r -= alpha * (p + along(drawn, word) + (bit * (old_below + slope) - old_weighted) + base)
            p = r + beta * p
        tl.store(rs + at, r)
        tl.store(ps + at, p)
        drawn = d * p
        below += drawn
        weighted += bit * drawn
        t = p + along(drawn, word) + (bit * below - weighted)
        dt = d * t
        dbit = d * bit
        rr += d * r * r
        pr += drawn * r
        pt += drawn * t
        tt += dt * t
        t1 += dt
        tb += dt * bit
        d1 += d
        db += dbit
        dbb += dbit * bit
    slope, base = bands(below, weighted, ends)
    pq = pt + slope * weighted + base * below
    qq = tt + 2.0 * (slope * tb + base * t1) + slope * (slope * dbb + 2.0 * base * db) + base * base * d1
    rr, pr, pq, qq = four_sums(rr, pr, pq, qq)
    return slope, base, rr, pr, pq, qq


@jit
def blocked(
    v_wl,  # as in `resident`
    v_bl,
    g,
    b,
    nodes,
    bins,
    pieces,
    to_driver,
    to_sense,
    inner,  # [programs, 3 or 4, depth, BANDS, COLUMNS] float32: direction, residual, conductance; step if float64
    outer,  # [programs, 1 or 2, depth, BANDS, COLUMNS]: voltage; Kirchhoff's voltage law if float64
    i_out,
    v_out,
    extremes,
    residual,
    counts,
    m,
    n,
    batch,
    total,  # tiles * batch
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
    BANDS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WORDS_ALIKE: tl.constexpr,
    BITS_ALIKE: tl.constexpr,
    KEEP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Input vectors one after the other, each in `BANDS` bands of word lines.

    Barriers separate the passes, so that it does not matter which thread has which cell.
    """
    MERGED: tl.constexpr = ACC == tl.float32
    depth = tl.cdiv(m, BANDS)
    area = depth * BANDS * COLUMNS
    program = tl.program_id(0).to(tl.int64)
    if MERGED:
        ps, vs = inner + program * 3 * area, outer + program * area
        xs, fs = vs, ps + area
    else:
        ps, vs = inner + program * 4 * area, outer + program * 2 * area
        xs, fs = ps + 3 * area, vs + area
    rs, ds = ps + area, ps + 2 * area
    band, column = tl.arange(0, BANDS)[:, None], tl.arange(0, COLUMNS)[None, :]
    last = (band + 1) * depth
    ends = down_to_sense(to_sense, last, column, m, n, (last < m) & (column < n), BITS_ALIKE).to(ACC)
    ends_32 = ends.to(tl.float32)
    for index in range(program, total, tl.num_programs(0)):
        tile, vector = index // batch, index % batch
        ground = tl.load(v_bl + tile * bl_stride + vector * n + column, mask=column < n, other=0.0).to(ACC)
        drives, cells, steepness = v_wl + tile * wl_stride + vector * m, g + tile * cell_stride, b + tile * cell_stride
        status, newton, count, begun = 0, 0, 0, 0
        relative, floor, span, per_p, per_r, lowest, highest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        while status == 0:
            below, weighted, size, widest, sizes, widths, steep, low, high, applied = _currents(
                vs, fs, rs, ps, ds, xs, drives, ground, cells, steepness, nodes, bins, pieces, to_driver, to_sense,
                ends, m, n, depth, rank_stride, n_nodes, n_bins, newton, per_p, per_r, begun, floor,
                KIND, HALVINGS, RANKS, REFINE, BANDS, COLUMNS, WORDS_ALIKE, BITS_ALIKE, ACC,
            )  # fmt: skip
            tl.store(i_out + index * n + column, tl.sum(below, axis=0)[None, :], mask=column < n)
            slope, base = bands(below, weighted, ends)
            lowest, highest, span = tl.min(low), tl.max(high), tl.maximum(span, tl.max(applied))
            size = tl.maximum(size, tl.max(tl.sum(sizes, axis=0)))
            size = tl.maximum(size, NOTHING * span * tl.maximum(widest, tl.max(tl.sum(widths, axis=0))))
            tl.debug_barrier()
            worst, scale = _errors(
                fs, rs, ds, slope, base, to_sense, ends, m, n, depth, BANDS, COLUMNS, BITS_ALIKE, ACC
            )
            tl.debug_barrier()
            relative = tl.where(size > 0.0, worst / tl.where(size > 0.0, size, 1.0), worst)
            status = verdict(relative, rtol, tl.max(steep) > 0.0, newton)
            count += 1
            if status == 0:
                # the linear system, in units of `scale`
                if newton == 0:
                    floor = 1e-2 * tl.sum(widths) / (m * n)
                newton += 1
                scale = tl.maximum(scale, 1e-30)
                slope_32, base_32 = tl.zeros([BANDS, COLUMNS], tl.float32), tl.zeros([BANDS, COLUMNS], tl.float32)
                alpha, beta, goal = 0.0, 0.0, 0.0
                owed, per_p, per_r = 0.0, 0.0, 0.0
                steps, going, flush, begun = 0, 1, 0, 0
                while going == 1:
                    slope_32, base_32, rr, pr, pq, qq = _step(
                        ps, rs, ds, xs, slope_32, base_32, to_driver, to_sense, ends_32, m, n, depth, steps,
                        1.0 / scale, alpha, beta, flush, begun, per_p, per_r,
                        BANDS, COLUMNS, WORDS_ALIKE, BITS_ALIKE, MERGED,
                    )  # fmt: skip
                    tl.debug_barrier()
                    if steps == 0:
                        forcing = accuracy(relative, rtol, KIND)
                        goal = rr * forcing * forcing
                    if flush > 0:
                        begun, owed = 1, 0.0
                    else:
                        owed = alpha  # of the direction before this one: p = r + beta * that one
                    steps += 1
                    alpha = tl.where(pq > 0.0, pr / tl.where(pq > 0.0, pq, 1.0), 0.0)
                    after = tl.maximum(rr + alpha * (alpha * qq - 2.0 * pq), 0.0)  # from products taken before the step
                    share = tl.where(owed > 0.0, owed / tl.where(owed > 0.0, beta, 1.0), 0.0)
                    per_p, per_r = scale * (alpha + share), -scale * share
                    beta = after / tl.maximum(rr, 1e-37)
                    flush = tl.where((owed > 0.0) | (beta < DEFERRED), 1, 0)
                    going = tl.where((after > goal) & (steps < MAX_CG) & (pq > 0.0), 1, 0)
                count += steps
        if KEEP:
            for k in range(depth):
                row = band * depth + k
                v = tl.load(vs + (k * BANDS + band) * COLUMNS + column)
                tl.store(v_out + index * m * n + row * n + column, v, mask=(row < m) & (column < n))
        store_summary(index, lowest, highest, relative, status, count, extremes, residual, counts)
        tl.debug_barrier()
