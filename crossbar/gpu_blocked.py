# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors
"""Method c on a GPU for tiles of any number of word lines, whose state is kept in a scratch space; see `gpu_kernel`."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_kernel import MAX_CG, NOTHING, accuracy, largest, smallest, store_summary, summed, verdict
from .gpu_laws import law

jit: Any = triton.jit


@jit
def _point_down(
    xs, vs, area, drives, ground, cells, steepness, nodes, bins, pieces, word_segments, word,
    m, n, n_blocks, rank_stride, n_nodes, n_bins, newton, scale, alpha, floor, span,
    KIND: tl.constexpr, HALVINGS: tl.constexpr, RANKS: tl.constexpr, REFINE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WORDS_ALIKE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Down the blocks: the Newton step taken, currents, drops along word lines.

    Returns currents of the bit lines, whether a conductance has shot up (if positive), the largest and the whole
    conductance of a line and of all cells, the extremes of the voltages, and the largest drive.
    """
    column = tl.arange(0, COLUMNS)[None, :]
    below = tl.zeros([1, COLUMNS], ACC)
    steep, widest, sum_d, low, high = -1.0, 0.0, 0.0, 0.0, 0.0
    column_d = tl.zeros([1, COLUMNS], tl.float32)
    for k in range(n_blocks):
        row = k * ROWS + tl.arange(0, ROWS)[:, None]
        at = row * COLUMNS + column
        inside = (row < m) & (column < n)
        cell = row * n + column
        drive = tl.load(drives + row, mask=row < m, other=0.0).to(ACC)
        applied = tl.where(inside, drive - ground, 0.0)
        if newton == 0:
            v = applied
            before = tl.full([ROWS, COLUMNS], float("inf"), tl.float32)
            span = tl.maximum(span, largest(tl.abs(applied)).to(tl.float32))
        else:
            v = tl.load(vs + at) + (scale * (tl.load(xs + at) + alpha * tl.load(xs + area + at))).to(ACC)
            before = tl.load(xs + 4 * area + at)
        seen = tl.where(inside, v, 0.0).to(tl.float32)
        low, high = tl.minimum(low, smallest(seen)), tl.maximum(high, largest(seen))
        i, wide = law(
            v, cells, steepness, cell, inside, rank_stride, nodes, bins, pieces, n_nodes, n_bins,
            KIND, HALVINGS, RANKS, REFINE,
        )  # fmt: skip
        d = wide.to(tl.float32)
        steep = tl.maximum(steep, largest(d - 10.0 * tl.maximum(before, floor)))
        if not WORDS_ALIKE:
            word = tl.load(word_segments + cell, mask=inside, other=0.0).to(ACC)
        drop = tl.cumsum(word * tl.cumsum(i, axis=1, reverse=True), axis=1)
        tl.store(vs + at, v)
        tl.store(xs + 4 * area + at, d)
        tl.store(vs + area + at, i)
        tl.store(vs + 2 * area + at, tl.where(inside, applied - v - drop, 0.0))
        below += tl.sum(i, axis=0)[None, :]
        widest = tl.maximum(widest, tl.max(tl.sum(d, axis=1), axis=0))
        column_d += tl.sum(d, axis=0)[None, :]
        sum_d += summed(d)
    return below, steep, tl.maximum(widest, largest(column_d)), sum_d, low, high, span


@jit
def _point_up(
    xs, vs, area, below, bit_segments, m, n, n_blocks,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, BITS_ALIKE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Up the blocks: drops along bit lines, what is left of Kirchhoff's laws.

    Returns the largest error and the largest current of a line, and the largest error of a voltage.
    """
    column = tl.arange(0, COLUMNS)[None, :]
    rise = tl.zeros([1, COLUMNS], ACC)
    worst, size, scale = 0.0, 0.0, 0.0
    column_error = tl.zeros([1, COLUMNS], tl.float32)
    column_size = tl.zeros([1, COLUMNS], tl.float32)
    for k in range(n_blocks):
        row = (n_blocks - 1 - k) * ROWS + tl.arange(0, ROWS)[:, None]
        at = row * COLUMNS + column
        inside = (row < m) & (column < n)
        bit = _below(bit_segments, row, column, m, inside, BITS_ALIKE).to(ACC)
        i = tl.load(vs + area + at)
        lost = bit * (below - (tl.cumsum(i, axis=0, reverse=True) - i))
        f = tl.where(inside, tl.load(vs + 2 * area + at) - rise - tl.cumsum(lost, axis=0, reverse=True), 0.0)
        f_32 = f.to(tl.float32)
        tl.store(xs + 2 * area + at, f_32)
        scale = tl.maximum(scale, largest(tl.abs(f_32)))
        error = tl.load(xs + 4 * area + at) * tl.abs(f_32)
        i_32 = tl.abs(i).to(tl.float32)
        worst = tl.maximum(worst, tl.max(tl.sum(error, axis=1), axis=0))
        size = tl.maximum(size, tl.max(tl.sum(i_32, axis=1), axis=0))
        column_error += tl.sum(error, axis=0)[None, :]
        column_size += tl.sum(i_32, axis=0)[None, :]
        rise += tl.sum(lost, axis=0)[None, :]
        below -= tl.sum(i, axis=0)[None, :]
    return tl.maximum(worst, largest(column_error)), tl.maximum(size, largest(column_size)), scale


@jit
def _gradient_down(
    xs, area, word_segments, word, m, n, n_blocks, steps, unit, alpha, beta,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WORDS_ALIKE: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    """Down the blocks: the last step of conjugate gradients taken, the next direction, its drops along word lines.

    Returns what the direction draws from the bit lines, and products of residual and direction.
    """
    column = tl.arange(0, COLUMNS)[None, :]
    ps, rs, ts = xs + area, xs + 2 * area, xs + 3 * area
    under = tl.zeros([1, COLUMNS], tl.float32)
    rr, pr = 0.0, 0.0
    for k in range(n_blocks):
        row = k * ROWS + tl.arange(0, ROWS)[:, None]
        at = row * COLUMNS + column
        if steps == 0:
            r = unit * tl.load(rs + at)
            p = tl.zeros([ROWS, COLUMNS], tl.float32)
            tl.store(xs + at, p)
        else:
            p = tl.load(ps + at)
            r = tl.load(rs + at) - alpha * tl.load(ts + at)
            tl.store(xs + at, tl.load(xs + at) + alpha * p)
        d = tl.load(xs + 4 * area + at)
        p = r + beta * p
        drawn = d * p
        if not WORDS_ALIKE:
            inside = (row < m) & (column < n)
            word = tl.load(word_segments + row * n + column, mask=inside, other=0.0).to(ACC)
        drop = tl.cumsum(word.to(tl.float32) * tl.cumsum(drawn, axis=1, reverse=True), axis=1)
        tl.store(rs + at, r)
        tl.store(ps + at, p)
        tl.store(ts + at, p + drop)
        rr += summed(d * r * r)
        pr += summed(drawn * r)
        under += tl.sum(drawn, axis=0)[None, :]
    return under, rr, pr


@jit
def _gradient_up(
    xs, area, under, bit_segments, m, n, n_blocks, ROWS: tl.constexpr, COLUMNS: tl.constexpr, BITS_ALIKE: tl.constexpr
):
    """Up the blocks: the direction's drops along bit lines, and products of direction and image."""
    column = tl.arange(0, COLUMNS)[None, :]
    ts = xs + 3 * area
    lift = tl.zeros([1, COLUMNS], tl.float32)
    pq, qq = 0.0, 0.0
    for k in range(n_blocks):
        row = (n_blocks - 1 - k) * ROWS + tl.arange(0, ROWS)[:, None]
        at = row * COLUMNS + column
        bit = _below(bit_segments, row, column, m, (row < m) & (column < n), BITS_ALIKE).to(tl.float32)
        d = tl.load(xs + 4 * area + at)
        drawn = d * tl.load(xs + area + at)
        lost = bit * (under - (tl.cumsum(drawn, axis=0, reverse=True) - drawn))
        q = tl.load(ts + at) + lift + tl.cumsum(lost, axis=0, reverse=True)
        tl.store(ts + at, q)
        pq += summed(drawn * q)
        qq += summed(d * q * q)
        lift += tl.sum(lost, axis=0)[None, :]
        under -= tl.sum(drawn, axis=0)[None, :]
    return pq, qq


@jit
def _below(bit_segments, row, column, m, inside, BITS_ALIKE: tl.constexpr):
    """Resistances below each cell of a block."""
    if BITS_ALIKE:
        found = tl.load(bit_segments + row, mask=row < m, other=0.0)
    else:
        found = tl.load(bit_segments + column * m + row, mask=inside, other=0.0)
    return found


@jit
def blocked(
    v_wl,  # as in `resident`
    v_bl,
    g,
    b,
    nodes,
    bins,
    pieces,
    word_segments,
    bit_segments,
    inner,  # [programs, 5, blocks * ROWS, COLUMNS] float32: step, direction, residual, image, conductance
    outer,  # [programs, 3, blocks * ROWS, COLUMNS]: voltage, current, line drop
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
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    WORDS_ALIKE: tl.constexpr,
    BITS_ALIKE: tl.constexpr,
    KEEP: tl.constexpr,
    ACC: tl.constexpr,
):
    """Input vectors one after the other, each in blocks of `ROWS` word lines.

    Every iteration goes down the blocks, along the word lines, and up again, along the bit lines. Barriers separate the
    two ways, as a thread reads what others wrote.
    """
    n_blocks = tl.cdiv(m, ROWS)
    area = n_blocks * ROWS * COLUMNS
    program = tl.program_id(0).to(tl.int64)
    xs = inner + program * 5 * area  # step, direction, residual, image, conductance
    vs = outer + program * 3 * area  # voltage, current, line drop
    column = tl.arange(0, COLUMNS)[None, :]
    word = tl.load(word_segments + column, mask=column < n, other=0.0).to(ACC)  # where they are alike
    for index in range(program, total, tl.num_programs(0)):
        tile, vector = index // batch, index % batch
        ground = tl.load(v_bl + tile * bl_stride + vector * n + column, mask=column < n, other=0.0).to(ACC)
        drives, cells, steepness = v_wl + tile * wl_stride + vector * m, g + tile * cell_stride, b + tile * cell_stride
        status, newton, count = 0, 0, 0
        relative, scale, alpha, floor, span = 0.0, 0.0, 0.0, 0.0, 0.0
        low, high = 0.0, 0.0
        while status == 0:
            below, steep, widest, sum_d, low, high, span = _point_down(
                xs, vs, area, drives, ground, cells, steepness, nodes, bins, pieces, word_segments, word,
                m, n, n_blocks, rank_stride, n_nodes, n_bins, newton, scale, alpha, floor, span,
                KIND, HALVINGS, RANKS, REFINE, ROWS, COLUMNS, WORDS_ALIKE, ACC,
            )  # fmt: skip
            tl.store(i_out + index * n + column, below, mask=column < n)
            tl.debug_barrier()
            worst, size, scale = _point_up(
                xs, vs, area, below, bit_segments, m, n, n_blocks, ROWS, COLUMNS, BITS_ALIKE, ACC
            )
            tl.debug_barrier()
            size = tl.maximum(size, NOTHING * span * widest)
            relative = tl.where(size > 0.0, worst / tl.where(size > 0.0, size, 1.0), worst)
            status = verdict(relative, rtol, steep > 0.0, newton)
            count += 1
            if status == 0:
                # the linear system: the step is x and `alpha` times the direction, in units of `scale`
                if newton == 0:
                    floor = 1e-2 * sum_d / (m * n)
                newton += 1
                scale = tl.maximum(scale, 1e-30)
                alpha, beta, goal = 0.0, 0.0, 0.0
                steps, going = 0, 1
                while going == 1:
                    under, rr, pr = _gradient_down(
                        xs, area, word_segments, word, m, n, n_blocks, steps, 1.0 / scale, alpha, beta,
                        ROWS, COLUMNS, WORDS_ALIKE, ACC,
                    )  # fmt: skip
                    tl.debug_barrier()
                    pq, qq = _gradient_up(xs, area, under, bit_segments, m, n, n_blocks, ROWS, COLUMNS, BITS_ALIKE)
                    tl.debug_barrier()
                    if steps == 0:
                        forcing = accuracy(relative, rtol, KIND)
                        goal = rr * forcing * forcing
                    steps += 1
                    alpha = tl.where(pq > 0.0, pr / tl.where(pq > 0.0, pq, 1.0), 0.0)
                    after = tl.maximum(rr + alpha * (alpha * qq - 2.0 * pq), 0.0)  # from products taken before the step
                    beta = after / tl.maximum(rr, 1e-37)
                    going = tl.where((after > goal) & (steps < MAX_CG) & (pq > 0.0), 1, 0)
                count += steps
        if KEEP:
            for k in range(n_blocks):
                row = k * ROWS + tl.arange(0, ROWS)[:, None]
                v = tl.load(vs + row * COLUMNS + column)
                tl.store(v_out + index * m * n + row * n + column, v, mask=(row < m) & (column < n))
        store_summary(index, low, high, relative, status, count, extremes, residual, counts)
        tl.debug_barrier()
