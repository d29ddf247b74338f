"""Method c compiled for one CPU core: Newton's method and conjugate gradients on a few vectors at a time.

The same iteration as `newton`, arranged for the memory and the vector units. `LANES` input vectors advance together,
in blocks of `ROWS` word lines: a running sum along a word line then moves LANES * ROWS numbers at a time, one along a
bit line LANES. Voltages, currents and residuals are float64, the inner conjugate gradients float32, as a refinement
does not need more. What the inner iteration needs of a cell lies together in `inner`, what the outer one in `outer`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from .kernel_cells import (
    INNER,
    LANES,
    OHMIC,
    OUTER,
    POLYNOMIAL,
    ROWS,
    SINH,
    TABLE,
    WIDTH,
    C,
    D,
    Flat,
    P,
    Parts,
    R,
    T,
    U,
    V,
    X,
    jit,
    ohmic,
    polynomial,
    sinh,
    sources,
    table,
)
from .simd import fold, larger, load, magnitude, narrow, splat, store, widen

RR, PR, PQ, QQ = range(0, 4 * LANES, LANES)  # products of residual, direction and image

CONVERGED, HARD = 0, 1

MAX_NEWTON, MAX_CG = 25, 400


@jit
def word_offset(word: Flat, ib: int, j: int, n: int) -> int:
    """Where the resistances before the cells (ib, j) are; one block of them serves all blocks if that is all."""
    return (ib * n + j) * WIDTH if word.shape[0] > n * WIDTH else j * WIDTH


@jit
def _word_drops(cells: Flat, word: Flat, size: int, slot: int, zero: Flat, ib: int, n: int) -> None:
    """What a block of word lines loses up to each cell, in place of the currents beyond it."""
    drop = zero
    for j in range(n):
        o = (ib * n + j) * size + slot
        drop = drop + load(word, word_offset(word, ib, j, n), WIDTH) * load(cells, o, WIDTH)
        store(cells, o, drop)


@jit
def _advance(inner: Flat, word: Flat, columns: Flat, alpha: Flat, beta: Flat, dots: Flat, blocks: int, n: int) -> None:
    """Step, residual and direction of one iteration, then word-line drops of the direction's currents.

    Also the products of the residual with itself and with the direction.
    """
    a, b = load(alpha, 0, WIDTH), load(beta, 0, WIDTH)
    columns[:] = 0.0
    rr = splat(0.0, load(dots, 0, LANES))
    pr = rr
    for ib in range(blocks):
        behind = splat(0.0, a)
        rr_block, pr_block = behind, behind
        for j in range(n - 1, -1, -1):
            o = (ib * n + j) * INNER
            p, d = load(inner, o + P, WIDTH), load(inner, o + D, WIDTH)
            r = load(inner, o + R, WIDTH) - a * load(inner, o + T, WIDTH)
            store(inner, o + X, load(inner, o + X, WIDTH) + a * p)
            store(inner, o + R, r)
            p = r + b * p
            store(inner, o + P, p)
            current = d * p
            rr_block = rr_block + d * r * r
            pr_block = pr_block + current * r
            behind = behind + current
            store(inner, o + T, behind)
            k = j * 2 * LANES
            store(columns, k, load(columns, k, LANES) + fold(current, LANES))
        _word_drops(inner, word, INNER, T, splat(0.0, a), ib, n)
        rr = rr + widen(fold(rr_block, LANES))
        pr = pr + widen(fold(pr_block, LANES))
    store(dots, RR, rr)
    store(dots, PR, pr)


@jit
def _image(inner: Flat, bit: Flat, columns: Flat, dots: Flat, blocks: int, n: int) -> None:
    """Bit-line drops added: image of the direction, and its products with the direction and with itself."""
    first = splat(0.0, load(dots, 0, LANES))
    second = first
    for ib in range(blocks - 1, -1, -1):
        partial_first = narrow(splat(0.0, first))
        partial_second = narrow(splat(0.0, first))
        for j in range(n):
            k = j * 2 * LANES
            current, rise = load(columns, k, LANES), load(columns, k + LANES, LANES)
            pq = splat(0.0, current)
            qq = splat(0.0, current)
            for row in range(ROWS - 1, -1, -1):
                o = (ib * n + j) * INNER + row * LANES
                rise = rise + bit[(ib * n + j) * ROWS + row] * current
                p, d = load(inner, o + P, LANES), load(inner, o + D, LANES)
                drawn = d * p
                current = current - drawn
                q = p + load(inner, o + T, LANES) + rise
                store(inner, o + T, q)
                pq = pq + drawn * q
                qq = qq + d * q * q
            store(columns, k, current)
            store(columns, k + LANES, rise)
            partial_first = partial_first + pq
            partial_second = partial_second + qq
        first = first + widen(partial_first)
        second = second + widen(partial_second)
    store(dots, PQ, first)
    store(dots, QQ, second)


@jit
def _conjugate_gradients(inner: Flat, word: Flat, bit: Flat, columns: Flat, goal: Flat, blocks: int, n: int) -> int:
    """Newton step in slot X from the residual in slot R; returns the number of applications of the line operator."""
    dots = np.zeros(4 * LANES)
    alpha = np.zeros(WIDTH, np.float32)
    beta = np.zeros(WIDTH, np.float32)
    steps = 0
    while steps < MAX_CG:
        _advance(inner, word, columns, alpha, beta, dots, blocks, n)
        _image(inner, bit, columns, dots, blocks, n)
        steps += 1
        busy = False
        for lane in range(LANES):
            a, b = 0.0, 0.0
            rr, pq = dots[RR + lane], dots[PQ + lane]
            if rr > goal[lane] and pq > 0.0:
                a = dots[PR + lane] / pq
                after = max(rr + a * (a * dots[QQ + lane] - 2.0 * pq), 0.0)
                b = after / rr
                busy = busy or after > goal[lane]
            for row in range(ROWS):
                alpha[row * LANES + lane] = a
                beta[row * LANES + lane] = b
        if not busy:
            break
    a = load(alpha, 0, WIDTH)
    for cell in range(blocks * n):
        o = cell * INNER
        store(inner, o + X, load(inner, o + X, WIDTH) + a * load(inner, o + P, WIDTH))
    return steps


@jit
def _currents(
    kind: int,
    law: Parts,
    tile: int,
    inner: Flat,
    outer: Flat,
    word: Flat,
    columns: Flat,
    scratch: Parts,
    blocks: int,
    n: int,
) -> float:
    """Newton step taken; cell currents and conductances; word-line drops. Returns the largest excess of conductance."""
    g, b, halvings, nodes, bins, pieces, refine, ranks = law
    conductance, steep = scratch
    columns[:] = 0.0
    floor = steep[0]
    excess = splat(-1.0, load(conductance, 0, WIDTH))
    for ib in range(blocks):
        behind = splat(0.0, excess)
        for j in range(n - 1, -1, -1):
            o, oi = (ib * n + j) * OUTER, (ib * n + j) * INNER
            k = ((tile * blocks + ib) * n + j) * ROWS
            store(outer, o + V, load(outer, o + V, WIDTH) + widen(load(inner, oi + X, WIDTH)))
            if kind == OHMIC:
                ohmic(outer, conductance, o, g, k)
            elif kind == SINH:
                sinh(outer, conductance, o, g, b, k, halvings)
            elif kind == POLYNOMIAL:
                polynomial(outer, conductance, o, g, k, nodes, pieces, refine, ranks)
            else:
                table(outer, conductance, o, g, k, nodes, bins, pieces, refine, ranks)
            d = load(conductance, 0, WIDTH)
            before = widen(load(inner, oi + D, WIDTH))
            excess = larger(excess, d - 10.0 * larger(before, splat(floor, before)))
            store(inner, oi + D, narrow(d))
            current = load(outer, o + C, WIDTH)
            behind = behind + current
            store(outer, o + U, behind)
            c = j * 4 * LANES
            store(columns, c, load(columns, c, LANES) + fold(current, LANES))
        _word_drops(outer, word, OUTER, U, splat(0.0, excess), ib, n)
    store(conductance, 0, excess)
    most: float = conductance.max()
    return most


@jit
def _residuals(
    inner: Flat, outer: Flat, bit: Flat, columns: Flat, drive: Flat, ground: Flat, sums: Flat, blocks: int, n: int
) -> None:
    """Residual voltages into slot R; its squared norm, the worst error and size of a line's current: sums [3 LANES]."""
    zero = splat(0.0, load(sums, 0, LANES))
    norm, worst, scale = zero, zero, zero
    for ib in range(blocks - 1, -1, -1):
        for row in range(ROWS - 1, -1, -1):
            errors, sizes = zero, zero
            v_drive = load(drive, ib * WIDTH + row * LANES, LANES)
            for j in range(n):
                o, k = (ib * n + j) * OUTER + row * LANES, j * 4 * LANES
                oi = (ib * n + j) * INNER + row * LANES
                below, rise = load(columns, k, LANES), load(columns, k + LANES, LANES)
                rise = rise + bit[(ib * n + j) * ROWS + row] * below
                current = load(outer, o + C, LANES)
                store(columns, k, below - current)
                store(columns, k + LANES, rise)
                f = v_drive - load(ground, j * LANES, LANES) - load(outer, o + V, LANES)
                f = f - load(outer, o + U, LANES) - rise
                store(inner, oi + R, narrow(f))
                error = magnitude(widen(load(inner, oi + D, LANES)) * f)
                size = magnitude(current)
                norm = norm + error * magnitude(f)
                errors = errors + error
                sizes = sizes + size
                store(columns, k + 2 * LANES, load(columns, k + 2 * LANES, LANES) + error)
                store(columns, k + 3 * LANES, load(columns, k + 3 * LANES, LANES) + size)
            worst, scale = larger(worst, errors), larger(scale, sizes)
    for j in range(n):
        k = j * 4 * LANES
        worst = larger(worst, load(columns, k + 2 * LANES, LANES))
        scale = larger(scale, load(columns, k + 3 * LANES, LANES))
    store(sums, 0, norm)
    store(sums, LANES, worst)
    store(sums, 2 * LANES, scale)


@jit
def _clear(inner: Flat, blocks: int, n: int) -> None:
    """Step, direction and image zero, as at the start of every Newton step."""
    for cell in range(blocks * n):
        inner[cell * INNER : cell * INNER + R] = 0.0
        inner[cell * INNER + T : cell * INNER + D] = 0.0


@jit
def _accept(inner: Flat, blocks: int, n: int) -> None:
    """The residual as step: what the lines would lose if the currents stayed."""
    for cell in range(blocks * n):
        o = cell * INNER
        store(inner, o + X, load(inner, o + R, WIDTH))


@jit
def _group(
    kind: int,
    law: Parts,
    tile: int,
    lines: Parts,
    drive: Flat,
    ground: Flat,
    rtol: float,
    memory: Parts,
    i_out: Flat,
    blocks: int,
    n: int,
) -> tuple[int, float, int]:
    """One group of LANES vectors from the start in slot V; (status, residual, applications)."""
    word, bit, word_64, bit_64 = lines
    inner, outer, columns, columns_64, conductance = memory
    sums = np.zeros(3 * LANES)
    goal = np.zeros(LANES)
    steep = np.zeros(1)
    applications = 0
    residual = 0.0
    inner[:] = 0.0
    for newton in range(MAX_NEWTON):
        excess = _currents(kind, law, tile, inner, outer, word_64, columns_64, (conductance, steep), blocks, n)
        for j in range(n):
            for lane in range(LANES):
                i_out[j, lane] = columns_64[j * 4 * LANES + lane]
        _residuals(inner, outer, bit_64, columns_64, drive, ground, sums, blocks, n)
        applications += 1
        residual = 0.0
        for lane in range(LANES):
            scale = sums[2 * LANES + lane]
            relative = sums[LANES + lane] / scale if scale > 0.0 else sums[LANES + lane]
            if not (relative < 1e6 and sums[lane] < 1e300):  # too steep, or not a number
                return HARD, relative, applications
            residual = max(residual, relative)
            forcing = 0.1 * rtol / max(relative, 1e-300)
            if kind != OHMIC:
                forcing = max(forcing, min(relative, 0.1))
            forcing = max(forcing, 1e-5)  # float32 gains no more in one go
            goal[lane] = sums[lane] * min(forcing, 1.0) ** 2
        if residual <= rtol:
            return CONVERGED, residual, applications
        if newton > 0 and excess > 0.0:
            return HARD, residual, applications
        if newton == 0:
            total = 0.0
            for cell in range(blocks * n):
                for q in range(WIDTH):
                    total += inner[cell * INNER + D + q]
            steep[0] = 1e-2 * total / (blocks * n * WIDTH)
            if 2.0 * residual * residual <= rtol:  # lines so good that what they take from each other may wait
                _accept(inner, blocks, n)
                continue
        _clear(inner, blocks, n)
        applications += _conjugate_gradients(inner, word, bit, columns, goal, blocks, n)
    return HARD, residual, applications


@jit
def _solve_groups(
    kind: int,
    law: Parts,
    lines: Parts,
    v_wl: Flat,
    v_bl: Flat,
    rtol: float,
    start: int,
    stop: int,
    i_out: Flat,
    v_out: Flat,
    hard: Flat,
) -> tuple[float, int, float, float]:
    """Groups of vectors `start` to `stop` of the stack.

    Args:
        kind: OHMIC, SINH, TABLE or POLYNOMIAL.
        law: Parameters of the cells, see `fast`.
        lines: Resistances before each cell [blocks or 1, n, WIDTH] and below each cell [blocks, n, ROWS], flat, in
            float32 and in float64.
        v_wl: Word-line voltages [V], [tiles, groups, blocks * WIDTH].
        v_bl: Bit-line voltages [V], [tiles, groups, n * LANES].
        rtol: Bound on the relative residual.
        start: First group, counted over tiles and groups.
        stop: One beyond the last group.
        i_out: Output currents [A], [tiles, groups, n, LANES].
        v_out: Cell voltages [V], [tiles, groups, blocks, n, WIDTH], or with no tiles if not wanted.
        hard: Set where plain Newton steps did not converge, [tiles, groups].

    Returns:
        Worst residual, most applications of the line operator, and for tables the range of cell voltages [V].
    """
    groups = v_wl.shape[1]
    blocks, n = v_wl.shape[2] // WIDTH, i_out.shape[2]
    memory = (
        np.zeros(blocks * n * INNER, np.float32),
        np.zeros(blocks * n * OUTER),
        np.zeros(n * 2 * LANES, np.float32),
        np.zeros(n * 4 * LANES),
        np.zeros(WIDTH),
    )
    outer = memory[1]
    worst, most, low, high = 0.0, 0, 0.0, 0.0
    for index in range(start, stop):
        tile, group = index // groups, index % groups
        drive, ground = v_wl[tile, group], v_bl[tile, group]
        for ib in range(blocks):
            for j in range(n):
                for q in range(WIDTH):
                    outer[(ib * n + j) * OUTER + V + q] = drive[ib * WIDTH + q] - ground[j * LANES + q % LANES]
        status, residual, applications = _group(
            kind, law, tile, lines, drive, ground, rtol, memory, i_out[tile, group], blocks, n
        )
        if status != CONVERGED:
            hard[tile, group] = True
            continue
        worst, most = max(worst, residual), max(most, applications)
        if v_out.shape[0]:
            for ib in range(blocks):
                for j in range(n):
                    for q in range(WIDTH):
                        v_out[tile, group, ib, j, q] = outer[(ib * n + j) * OUTER + V + q]
        if kind in (TABLE, POLYNOMIAL):
            for cell in range(blocks * n):
                v = outer[cell * OUTER + V : cell * OUTER + V + WIDTH]
                low, high = min(low, v.min()), max(high, v.max())
    return worst, most, low, high


def _entry(version: str) -> Any:
    """`_solve_groups`, kept on disk.

    Numba keys its cache on the file of the function and on what it closes over, but not on what it calls from other
    files. Hence this alone is cached, and closes over all the sources: a change of any of them compiles anew.
    """

    @njit(nogil=True, cache=True, error_model="numpy", boundscheck=False)
    def solve_groups(*args: Any) -> Any:
        _ = version
        return _solve_groups(*args)

    return solve_groups


solve_groups = _entry(sources())
