"""Method c on a GPU: all of Newton's method and conjugate gradients for one input vector in one Triton program.

The same iteration as `newton`. `resident` keeps the state of a whole tile on chip, for tiles up to 64 x 64; `blocked`
keeps it in a scratch space, goes through it in blocks of word lines twice an iteration, and takes tiles of any size.
Line drops are two running sums a line. Voltages, currents and residuals are in the accumulating type (float64 where
the tolerance asks for it), the inner conjugate gradients in float32, as a refinement does not need more. A vector that
has converged stops; nothing is shared between programs.

With TRITON_INTERPRET=1 in the environment the same kernels run on a CPU, slowly, which is how they are tested there.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

jit: Any = triton.jit

OHMIC = tl.constexpr(0)
SINH = tl.constexpr(1)
TABLE = tl.constexpr(2)
POLYNOMIAL = tl.constexpr(3)

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
def _sinh(v, g, b, HALVINGS: tl.constexpr):
    """The law of `Sinh`: a series for sinh at b v / 2^halvings, then doublings. Accurate at small voltages too."""
    scale: tl.constexpr = 0.5**HALVINGS
    u = scale * b * v
    t = u * u
    s = 1.0 + t * (1 / 6 + t * (1 / 120 + t * (1 / 5040 + t * (1 / 362880 + t * (1 / 39916800 + t * 1.6e-10)))))
    s = u * s
    c = tl.sqrt(1.0 + s * s)
    for _ in tl.static_range(HALVINGS):
        s, c = 2.0 * s * c, 1.0 + 2.0 * s * s
    return g / b * s, g * c


@jit
def located(v, nodes, bins, n_nodes, n_bins, REFINE: tl.constexpr):
    """Voltages clamped to a table, the pieces in which they lie, how far into them (0 to 1), and how wide those are."""
    first, last = tl.load(nodes), tl.load(nodes + n_nodes - 1)
    at = tl.where(v == v, tl.minimum(tl.maximum(v, first), last), first)
    piece = tl.load(bins + tl.minimum(((at - first) * (n_bins / (last - first))).to(tl.int32), n_bins - 1))
    for _ in tl.static_range(REFINE):
        beyond = (piece < n_nodes - 2) & (at >= tl.load(nodes + piece + 1))
        piece = tl.where(beyond, piece + 1, piece)
    start = tl.load(nodes + piece)
    width = tl.load(nodes + piece + 1) - start
    return at, piece, (at - start) / width, width


@jit
def _table(
    v,
    amplitudes,
    cell,
    inside,
    stride,
    nodes,
    bins,
    pieces,
    n_nodes,
    n_bins,
    RANKS: tl.constexpr,
    REFINE: tl.constexpr,
):
    """The law of `LutCells`: piecewise cubic in voltage, a sum of `RANKS` terms, linear beyond its ends."""
    at, piece, t, width = located(v, nodes, bins, n_nodes, n_bins, REFINE)
    i, d = tl.zeros_like(v), tl.zeros_like(v)
    for rank in tl.static_range(RANKS):
        c = pieces + (piece * RANKS + rank) * 4
        c1, c2, c3 = tl.load(c + 1), tl.load(c + 2), tl.load(c + 3)
        a = tl.load(amplitudes + rank * stride + cell, mask=inside, other=0.0).to(v.dtype)
        i += a * (tl.load(c) + t * (c1 + t * (c2 + t * c3)))
        d += a * (c1 + t * (2.0 * c2 + 3.0 * t * c3))
    d = d / width
    return i + d * (v - at), d


@jit
def _polynomial(v, amplitudes, cell, inside, stride, ends, coefficients, RANKS: tl.constexpr, TERMS: tl.constexpr):
    """A sum of `RANKS` polynomials in v / max |v|, linear beyond the ends of their range."""
    low, high = tl.load(ends), tl.load(ends + 1)
    per_volt = 1.0 / tl.maximum(-low, high)
    at = tl.where(v == v, tl.minimum(tl.maximum(v, low), high), low)
    t = at * per_volt
    i, d = tl.zeros_like(v), tl.zeros_like(v)
    for rank in tl.static_range(RANKS):
        value = tl.zeros_like(v) + tl.load(coefficients + (rank + 1) * TERMS - 1)
        slope = tl.zeros_like(v)
        for k in tl.static_range(TERMS - 1):
            slope = slope * t + value
            value = value * t + tl.load(coefficients + (rank + 1) * TERMS - 2 - k)
        a = tl.load(amplitudes + rank * stride + cell, mask=inside, other=0.0).to(v.dtype)
        i += a * value
        d += a * slope
    d = d * per_volt
    return i + d * (v - at), d


@jit
def _law(
    v,
    g,
    b,
    cell,
    inside,
    stride,
    nodes,
    bins,
    pieces,
    n_nodes,
    n_bins,
    KIND: tl.constexpr,
    HALVINGS: tl.constexpr,
    RANKS: tl.constexpr,
    REFINE: tl.constexpr,
):
    """Current and conductance of the cells at the offsets `cell`; none where not `inside`."""
    if KIND == TABLE:
        return _table(v, g, cell, inside, stride, nodes, bins, pieces, n_nodes, n_bins, RANKS, REFINE)
    if KIND == POLYNOMIAL:
        return _polynomial(v, g, cell, inside, stride, nodes, pieces, RANKS, REFINE)
    conductance = tl.load(g + cell, mask=inside, other=0.0).to(v.dtype)
    if KIND == SINH:
        steepness = tl.load(b + cell, mask=inside, other=1.0).to(v.dtype)
        return _sinh(v, conductance, steepness, HALVINGS)
    return conductance * v, conductance


@jit
def _total(a):
    return tl.sum(tl.sum(a, axis=1), axis=0)


@jit
def _largest(a):
    return tl.max(tl.max(a, axis=1), axis=0)


@jit
def _smallest(a):
    return tl.min(tl.min(a, axis=1), axis=0)


@jit
def _largest_line(a):
    """Largest sum over one line of an array."""
    return tl.maximum(tl.max(tl.sum(a, axis=1), axis=0), tl.max(tl.sum(a, axis=0), axis=0))


@jit
def _forcing(relative, rtol, KIND: tl.constexpr):
    """How far the linear system of a Newton step is solved: as far as pays."""
    forcing = 0.1 * rtol / tl.maximum(relative, 1e-30)
    if KIND != OHMIC:
        forcing = tl.maximum(forcing, tl.minimum(relative, 0.1))
    return tl.minimum(tl.maximum(forcing, FINEST), 1.0)


@jit
def _status(relative, rtol, steep, newton):
    """0 to go on, CONVERGED, or HARD: too steep for plain Newton steps, or not a number."""
    lost = ~(relative < 1e6) | ((newton > 0) & steep) | (newton >= MAX_NEWTON)
    return tl.where(relative <= rtol, CONVERGED, tl.where(lost, HARD, 0))


@jit
def _conjugate_gradients(f, d, word, bit, forcing):
    """The step x with (1 + Z D) x = f, in the inner product weighted by D, and applications of Z."""
    scale = tl.maximum(_largest(tl.abs(f)), 1e-30)  # products of small numbers would underflow
    r = f / scale
    p = r
    rr = _total(d * r * r)
    goal = rr * forcing * forcing
    x = tl.zeros_like(f)
    steps = 0
    while (rr > goal) & (steps < MAX_CG):
        dp = d * p
        q = p + _drops(dp, word, bit)
        alpha = rr / _total(dp * q)
        x += alpha * p
        r -= alpha * q
        after = _total(d * r * r)
        p = r + (after / rr) * p
        rr = after
        steps += 1
    return x * scale, steps


@jit
def _store_summary(index, low, high, relative, status, count, extremes, residual, counts):
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
    span = _largest(tl.abs(v)).to(tl.float32)
    before = tl.zeros([ROWS, COLUMNS], tl.float32)
    columns = tl.arange(0, COLUMNS)
    status, newton, count = 0, 0, 0
    relative, floor = 0.0, 0.0
    while status == 0:
        i, wide = _law(
            v, g, b, cell, inside, rank_stride, nodes, bins, pieces, n_nodes, n_bins, KIND, HALVINGS, RANKS, REFINE
        )
        d = wide.to(tl.float32)
        f = tl.where(inside, drive - ground - v - _drops(i, word, bit), 0.0)
        tl.store(i_out + index * n + columns, tl.sum(i, axis=0), mask=columns < n)
        f_32 = f.to(tl.float32)
        worst = _largest_line(d * tl.abs(f_32))
        size = tl.maximum(_largest_line(tl.abs(i).to(tl.float32)), NOTHING * span * _largest_line(d))
        relative = tl.where(size > 0.0, worst / tl.where(size > 0.0, size, 1.0), worst)
        if newton == 0:
            floor = 1e-2 * _total(d) / (m * n)
        steep = _largest(d - 10.0 * tl.maximum(before, floor)) > 0.0
        status = _status(relative, rtol, steep, newton)
        count += 1
        if status == 0:
            x, steps = _conjugate_gradients(f_32, d, word_32, bit_32, _forcing(relative, rtol, KIND))
            v += x.to(ACC)
            before = d
            newton += 1
            count += steps
    if KEEP:
        tl.store(v_out + index * m * n + cell, v, mask=inside)
    v = tl.where(inside, v, 0.0)
    _store_summary(index, _smallest(v), _largest(v), relative, status, count, extremes, residual, counts)


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
    xs = inner + program * 5 * area
    ps, rs, ts, ds = xs + area, xs + 2 * area, xs + 3 * area, xs + 4 * area
    vs = outer + program * 3 * area
    cs, us = vs + area, vs + 2 * area
    columns = tl.arange(0, COLUMNS)
    column = columns[None, :]
    if WORDS_ALIKE:
        word = tl.load(word_segments + column, mask=column < n, other=0.0).to(ACC)
    for index in range(program, total, tl.num_programs(0)):
        tile, vector = index // batch, index % batch
        ground = tl.load(v_bl + tile * bl_stride + vector * n + column, mask=column < n, other=0.0).to(ACC)
        status, newton, count = 0, 0, 0
        relative, scale, alpha, floor, span = 0.0, 0.0, 0.0, 0.0, 0.0
        low, high = 0.0, 0.0
        while status == 0:
            # down: Newton step taken, currents, drops along word lines
            below = tl.zeros([1, COLUMNS], ACC)
            steep, widest, sum_d, low, high = -1.0, 0.0, 0.0, 0.0, 0.0
            column_d = tl.zeros([1, COLUMNS], tl.float32)
            for k in range(n_blocks):
                row = k * ROWS + tl.arange(0, ROWS)[:, None]
                at = row * COLUMNS + column
                inside = (row < m) & (column < n)
                cell = row * n + column
                drive = tl.load(v_wl + tile * wl_stride + vector * m + row, mask=row < m, other=0.0).to(ACC)
                applied = tl.where(inside, drive - ground, 0.0)
                if newton == 0:
                    v = applied
                    before = tl.full([ROWS, COLUMNS], float("inf"), tl.float32)
                    span = tl.maximum(span, _largest(tl.abs(applied)).to(tl.float32))
                else:
                    v = tl.load(vs + at) + (scale * (tl.load(xs + at) + alpha * tl.load(ps + at))).to(ACC)
                    before = tl.load(ds + at)
                seen = tl.where(inside, v, 0.0).to(tl.float32)
                low, high = tl.minimum(low, _smallest(seen)), tl.maximum(high, _largest(seen))
                i, wide = _law(
                    v, g + tile * cell_stride, b + tile * cell_stride, cell, inside, rank_stride,
                    nodes, bins, pieces, n_nodes, n_bins, KIND, HALVINGS, RANKS, REFINE,
                )  # fmt: skip
                d = wide.to(tl.float32)
                steep = tl.maximum(steep, _largest(d - 10.0 * tl.maximum(before, floor)))
                if not WORDS_ALIKE:
                    word = tl.load(word_segments + cell, mask=inside, other=0.0).to(ACC)
                drop = tl.cumsum(word * tl.cumsum(i, axis=1, reverse=True), axis=1)
                tl.store(vs + at, v)
                tl.store(ds + at, d)
                tl.store(cs + at, i)
                tl.store(us + at, tl.where(inside, applied - v - drop, 0.0))
                below += tl.sum(i, axis=0)[None, :]
                widest = tl.maximum(widest, tl.max(tl.sum(d, axis=1), axis=0))
                column_d += tl.sum(d, axis=0)[None, :]
                sum_d += _total(d)
            tl.store(i_out + index * n + column, below, mask=column < n)
            widest = tl.maximum(widest, _largest(column_d))
            tl.debug_barrier()
            # up: drops along bit lines, what is left of Kirchhoff's laws
            rise = tl.zeros([1, COLUMNS], ACC)
            worst, size, scale = 0.0, 0.0, 0.0
            column_error = tl.zeros([1, COLUMNS], tl.float32)
            column_size = tl.zeros([1, COLUMNS], tl.float32)
            for k in range(n_blocks):
                row = (n_blocks - 1 - k) * ROWS + tl.arange(0, ROWS)[:, None]
                at = row * COLUMNS + column
                inside = (row < m) & (column < n)
                if BITS_ALIKE:
                    bit = tl.load(bit_segments + row, mask=row < m, other=0.0).to(ACC)
                else:
                    bit = tl.load(bit_segments + column * m + row, mask=inside, other=0.0).to(ACC)
                i = tl.load(cs + at)
                lost = bit * (below - (tl.cumsum(i, axis=0, reverse=True) - i))
                f = tl.where(inside, tl.load(us + at) - rise - tl.cumsum(lost, axis=0, reverse=True), 0.0)
                f_32 = f.to(tl.float32)
                tl.store(rs + at, f_32)
                scale = tl.maximum(scale, _largest(tl.abs(f_32)))
                error = tl.load(ds + at) * tl.abs(f_32)
                i_32 = tl.abs(i).to(tl.float32)
                worst = tl.maximum(worst, tl.max(tl.sum(error, axis=1), axis=0))
                size = tl.maximum(size, tl.max(tl.sum(i_32, axis=1), axis=0))
                column_error += tl.sum(error, axis=0)[None, :]
                column_size += tl.sum(i_32, axis=0)[None, :]
                rise += tl.sum(lost, axis=0)[None, :]
                below -= tl.sum(i, axis=0)[None, :]
            tl.debug_barrier()
            worst = tl.maximum(worst, _largest(column_error))
            size = tl.maximum(tl.maximum(size, _largest(column_size)), NOTHING * span * widest)
            relative = tl.where(size > 0.0, worst / tl.where(size > 0.0, size, 1.0), worst)
            status = _status(relative, rtol, steep > 0.0, newton)
            count += 1
            if status == 0:
                # the linear system: x in `xs` and `alpha` times `ps`, in units of `scale`
                if newton == 0:
                    floor = 1e-2 * sum_d / (m * n)
                newton += 1
                scale = tl.maximum(scale, 1e-30)
                unit = 1.0 / scale
                alpha, beta, goal = 0.0, 0.0, 0.0
                steps, going = 0, 1
                while going == 1:
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
                        d = tl.load(ds + at)
                        p = r + beta * p
                        drawn = d * p
                        if not WORDS_ALIKE:
                            inside = (row < m) & (column < n)
                            word = tl.load(word_segments + row * n + column, mask=inside, other=0.0).to(ACC)
                        drop = tl.cumsum(word.to(tl.float32) * tl.cumsum(drawn, axis=1, reverse=True), axis=1)
                        tl.store(rs + at, r)
                        tl.store(ps + at, p)
                        tl.store(ts + at, p + drop)
                        rr += _total(d * r * r)
                        pr += _total(drawn * r)
                        under += tl.sum(drawn, axis=0)[None, :]
                    tl.debug_barrier()
                    lift = tl.zeros([1, COLUMNS], tl.float32)
                    pq, qq = 0.0, 0.0
                    for k in range(n_blocks):
                        row = (n_blocks - 1 - k) * ROWS + tl.arange(0, ROWS)[:, None]
                        at = row * COLUMNS + column
                        if BITS_ALIKE:
                            bit_32 = tl.load(bit_segments + row, mask=row < m, other=0.0).to(tl.float32)
                        else:
                            inside = (row < m) & (column < n)
                            bit_32 = tl.load(bit_segments + column * m + row, mask=inside, other=0.0).to(tl.float32)
                        d = tl.load(ds + at)
                        drawn = d * tl.load(ps + at)
                        lost_32 = bit_32 * (under - (tl.cumsum(drawn, axis=0, reverse=True) - drawn))
                        q = tl.load(ts + at) + lift + tl.cumsum(lost_32, axis=0, reverse=True)
                        tl.store(ts + at, q)
                        pq += _total(drawn * q)
                        qq += _total(d * q * q)
                        lift += tl.sum(lost_32, axis=0)[None, :]
                        under -= tl.sum(drawn, axis=0)[None, :]
                    tl.debug_barrier()
                    if steps == 0:
                        forcing = _forcing(relative, rtol, KIND)
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
        _store_summary(index, low, high, relative, status, count, extremes, residual, counts)
        tl.debug_barrier()
