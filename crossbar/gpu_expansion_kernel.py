# ruff: noqa: ANN001, ANN201, ANN202, RUF005
# mypy: ignore-errors
"""Arrays whose lines take little on a GPU, in two Triton programs, from inputs to converted sums; see `expansion`.

`first` is the series to first order: a thread takes one vector through a block of bit lines, from the top down, with
what flows in each line, its conductance so far and the loss so far in registers; no thread asks another for anything.
`swept` sweeps whole tiles: what lines take from the cells are two products of tensor cores with the resistances between
terminals and cells, exact to float32, and currents stay in registers from sweep to sweep. Functions of the inputs are
made where they are needed, and neither windows nor partial sums reach memory.

With TRITON_INTERPRET=1 in the environment the same kernels run on a CPU, slowly, which is how they are tested there.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_input_kernel import scaled, whole
from .gpu_laws import located

jit: Any = triton.jit


@jit
def _input(x, at, offset, there):
    """Inputs of word lines; 0 where `offset` is negative, which is a line at ground."""
    offset += at * 0  # one for each vector, as `swept` has them
    return tl.load(x + at + offset, mask=there & (offset >= 0), other=0.0)


@jit
def _place(u, per_volt, v_read, nodes, bins, n_nodes, n_bins, TABLE: tl.constexpr, REFINE: tl.constexpr):
    """Where voltages lie: piece of the table and place in it, or the variable of polynomials."""
    if TABLE:
        _, piece, t, _ = located(u * v_read, nodes, bins, n_nodes, n_bins, REFINE)
        t = tl.where(u == u, t, u)
    else:
        piece, t = 0, u * per_volt
    return piece, t


@jit
def _plane(coefficients, piece, t, plane: tl.constexpr, TABLE: tl.constexpr, PLANES: tl.constexpr, TERMS: tl.constexpr):
    """One function of the inputs: a coefficient of Taylor's series of one term of the cells' law."""
    if TABLE:
        c = coefficients + (piece * PLANES + plane) * 4
        return tl.load(c) + t * (tl.load(c + 1) + t * (tl.load(c + 2) + t * tl.load(c + 3)))
    value = tl.zeros_like(t) + tl.load(coefficients + (plane + 1) * TERMS - 1)
    for term in tl.static_range(TERMS - 1):
        value = value * t + tl.load(coefficients + (plane + 1) * TERMS - 2 - term)
    return value


@jit
def _read_out(i, at, wanted, step, gain, zero, limit, most, CONVERT: tl.constexpr, SENSED: tl.constexpr):
    """What sense circuit and converter make of currents, in A; what is not a number stays so.

    Numbers of converters lie at the offsets `at`, which broadcast with the currents.
    """
    codes = i * tl.load(gain + at, mask=wanted, other=0.0)
    if SENSED:
        reach = tl.load(limit + at, mask=wanted, other=0.0)
        codes += tl.load(zero + at, mask=wanted, other=0.0)
        codes = tl.minimum(tl.maximum(codes, -reach), reach)
    if CONVERT:
        codes = tl.minimum(tl.maximum(whole(tl.minimum(tl.maximum(codes, -2.0 * most), 2.0 * most)), -most), most)
    return tl.where(i == i, codes * tl.load(step + at, mask=wanted, other=0.0), i)


@jit
def first(
    x,  # flat inputs
    per_unit,  # [1 or images] reciprocal of the largest input
    lines,  # [R, rows] int32: where a word line's input lies from the corner of a window; -1: at ground
    corners,  # [positions] int32
    planes,  # [M, channels, R, rows, ranks, 2, blocks, parts, BN / parts], see `gpu_expansion._planes`
    bit,  # [channels, rows, blocks, parts, BN / parts] ohm below each cell, where `EVEN` does not hold
    step,  # [M, channels, R or 1, width]: A a code, times the channel's coefficient
    gain,  # the same: codes an ampere
    zero,  # the same: code at no current
    limit,  # the same: codes at which the integrator saturates
    to,  # [width] int32: where a column's result belongs; -1: nowhere
    nodes,  # of a table [V]
    bins,
    coefficients,  # of polynomials [planes, terms], or of a table [pieces, planes, 4]
    factor,  # [1 or images]: of the results
    base,  # [1] what is taken off a result for every unit of the sum of its inputs
    out,  # [images, M, n_out, positions]
    vectors,  # images * positions
    positions,
    width,  # outputs of all tiles side by side, a multiple of BN / parts
    n_out,
    row_tiles,
    rows,
    image_stride,  # of inputs
    matrix_stride,
    n_nodes,
    n_bins,
    per_volt,  # largest voltage in units of the polynomials' span
    v_read,
    most,  # largest code
    even,  # ohm below each cell, and below the last one, where they are alike
    last,
    per_image,  # 1 where scales are those of images, 0 where there is one for all
    RANKS: tl.constexpr,
    TERMS: tl.constexpr,
    TABLE: tl.constexpr,
    REFINE: tl.constexpr,
    CHANNELS: tl.constexpr,
    PARTS: tl.constexpr,
    EVEN: tl.constexpr,
    DAC_STEPS: tl.constexpr,
    CLAMP: tl.constexpr,
    CONVERT: tl.constexpr,
    ANALOG: tl.constexpr,
    SENSED: tl.constexpr,
    SHIFTED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
):
    """Outputs of a block of vectors and columns to first order, all tiles below each other and all channels together.

    With c the current through a segment of a bit line, e the conductance above it and R its resistance, the line loses
    the sum of R c e; word lines take from it what each cell's conductance makes of their drops.
    """
    each: tl.constexpr = BN // PARTS
    vector = tl.program_id(0) * BM + tl.arange(0, BM)
    cells = tl.program_id(1) * BN + tl.arange(0, BN)
    column = tl.program_id(1) * each + tl.arange(0, each)
    matrix, matrices = tl.program_id(2).to(tl.int64), tl.num_programs(2)
    there = vector < vectors
    image, position = (vector // positions).to(tl.int64), vector % positions
    at = image * image_stride + matrix * matrix_stride + tl.load(corners + position, mask=there, other=0)
    unit = tl.load(per_unit + image * per_image, mask=there, other=0.0)
    target = tl.load(to + column)
    wanted = (target >= 0)[:, None]
    total = tl.zeros([each, BM], tl.float32)
    driven = tl.zeros([BM], tl.float32)
    for channel in range(CHANNELS):
        acc = tl.zeros([each, BM], tl.float32)
        for tile in range(row_tiles):
            block = (matrix * CHANNELS + channel) * row_tiles + tile
            c = tl.zeros([BN, BM], tl.float32)
            e = tl.zeros([BN, BM], tl.float32)
            s = tl.zeros([BN, BM], tl.float32)
            line = lines + tile * rows
            given, ahead = _input(x, at, tl.load(line), there), tl.load(line + tl.minimum(1, rows - 1))
            for row in range(rows):
                u = scaled(given, unit, DAC_STEPS, CLAMP)
                given = _input(x, at, ahead, there)  # of the next row, on its way while this one is worked on
                ahead = tl.load(line + tl.minimum(row + 2, rows - 1))
                if SHIFTED:
                    driven += tl.where(channel == 0, u, 0.0)
                piece, t = _place(u, per_volt, v_read, nodes, bins, n_nodes, n_bins, TABLE, REFINE)
                cell = planes + (block * rows + row) * (2 * RANKS) * (width * PARTS) + cells
                if RANKS == 1:  # the word lines' part is a product: amplitude, drop, value and slope
                    value = _plane(coefficients, piece, t, 0, TABLE, 2, TERMS)
                    slope = _plane(coefficients, piece, t, 1, TABLE, 2, TERMS)
                    a = tl.load(cell)[:, None]
                    c = tl.fma(a, value[None, :], c)
                    e = tl.fma(a, slope[None, :], e)
                    s = tl.fma(tl.load(cell + width * PARTS)[:, None], (value * slope)[None, :], s)
                else:
                    d = tl.zeros([BN, BM], tl.float32)
                    w = tl.zeros([BN, BM], tl.float32)
                    for rank in tl.static_range(RANKS):
                        value = _plane(coefficients, piece, t, rank, TABLE, 2 * RANKS, TERMS)
                        slope = _plane(coefficients, piece, t, RANKS + rank, TABLE, 2 * RANKS, TERMS)
                        a = tl.load(cell + 2 * rank * (width * PARTS))[:, None]
                        c = tl.fma(a, value[None, :], c)
                        d = tl.fma(a, slope[None, :], d)
                        w = tl.fma(tl.load(cell + (2 * rank + 1) * (width * PARTS))[:, None], value[None, :], w)
                    e += d
                    s = tl.fma(d, w, s)
                if EVEN:
                    s = tl.fma(c, e, s)
                else:
                    s = tl.fma(tl.load(bit + (channel * rows + row) * (width * PARTS) + cells)[:, None] * c, e, s)
            if EVEN:
                s = even * s + (last - even) * (c * e)
            i = c - s
            if PARTS == 2:
                sign = 1.0 - 2.0 * tl.arange(0, 2).to(tl.float32)
                i = tl.sum(tl.reshape(i, [2, each, BM]) * sign[:, None, None], axis=0)
            if ANALOG:
                acc += i
            else:
                total += _read_out(
                    i, block * width + column[:, None], wanted, step, gain, zero, limit, most, CONVERT, SENSED
                )
        if ANALOG:
            where = (matrix * CHANNELS + channel) * width + column[:, None]
            total += _read_out(acc, where, wanted, step, gain, zero, limit, most, CONVERT, SENSED)
    if SHIFTED:
        total -= tl.load(base) * driven[None, :]
    total *= tl.load(factor + image * per_image, mask=there, other=0.0)[None, :]
    place = ((image * matrices + matrix) * n_out)[None, :] + target[:, None]
    tl.store(out + place * positions + position[None, :], total, mask=wanted & there[None, :])


@jit
def _halves(a):
    """A number as the sum of two in half precision, which hold it to 22 bits."""
    high = a.to(tl.float16)
    return high, (a - high.to(tl.float32)).to(tl.float16)


@jit
def _lost(i, so_far, across, down, across_low, down_low, FINE: tl.constexpr, EXACT: tl.constexpr):
    """What cells lose to both lines when they carry `i`, [vectors and rows, columns], in units of the resistances.

    Args:
        i: Currents.
        so_far: To which it is added.
        across: Resistance from the driver that two cells of a word line share, in half precision.
        down: The same of bit lines to the sense node; 0 between vectors.
        across_low: What half precision leaves out of them.
        down_low: The same of bit lines.
        FINE: Whether currents are taken to 22 bits, and not to 11.
        EXACT: Whether nothing is left out of resistances.
    """
    high, low = _halves(i)
    found = tl.dot(high, across, so_far)
    found = tl.dot(down, high, found)
    if FINE:
        found = tl.dot(low, across, found)
        found = tl.dot(down, low, found)
        if not EXACT:
            found = tl.dot(high, across_low, found)
            found = tl.dot(down_low, high, found)
    return found


@jit
def _lost_in_sums(i, before, below, BV: tl.constexpr, RP: tl.constexpr, CP: tl.constexpr):
    """The same as running sums, where lines differ: resistances before and below each cell, [1, RP, CP]."""
    i = tl.reshape(i, [BV, RP, CP])
    dropped = tl.cumsum(before * (tl.sum(i, axis=2, keep_dims=True) - tl.cumsum(i, axis=2) + i), axis=2)
    fallen = below * tl.cumsum(i, axis=1)
    dropped += tl.sum(fallen, axis=1, keep_dims=True) - tl.cumsum(fallen, axis=1) + fallen
    return tl.reshape(dropped, [BV * RP, CP])


@jit
def _change(cell, a, lost, planes, RANKS: tl.constexpr, AREA: tl.constexpr):
    """By how much cells that lose `lost` carry more than without lines: a polynomial without a constant term."""
    now = planes[RANKS][:, None] + lost * (planes[2 * RANKS][:, None] + lost * planes[3 * RANKS][:, None])
    found = (a * lost) * now
    for rank in tl.static_range(1, RANKS):
        now = planes[2 * RANKS + rank][:, None] + lost * planes[3 * RANKS + rank][:, None]
        now = planes[RANKS + rank][:, None] + lost * now
        found += (tl.load(cell + rank * AREA) * lost) * now
    return found


@jit
def _array(
    acc, sign, cells, planes, sweeps, across, down, across_low, down_low, unit,
    RANKS: tl.constexpr, BV: tl.constexpr, RP: tl.constexpr, CP: tl.constexpr, ALIKE: tl.constexpr, EXACT: tl.constexpr,
    FINE: tl.constexpr,
):  # fmt: skip
    """Currents of one array's cells after some sweeps, [BV * RP, CP], times `sign`, added to `acc`.

    With lines alike, only what the lines make of currents' changes is worked out anew from sweep to sweep.
    """
    row, column = tl.arange(0, BV * RP) % RP, tl.arange(0, CP)
    cell = cells + row[:, None] * CP + column[None, :]
    a = tl.load(cell)
    i = a * planes[0][:, None]
    for rank in tl.static_range(1, RANKS):
        i += tl.load(cell + rank * RP * CP) * planes[rank][:, None]
    more = tl.where(sweeps > 1, 1.0, 0.0)  # a tile of one sweep is of first order, as `first` has it
    slopes = ()  # of the current over what is lost, in its units
    for plane in tl.static_range(4 * RANKS):
        if plane < RANKS:
            slopes = slopes + (planes[plane],)
        elif plane < 2 * RANKS:
            slopes = slopes + (-unit * planes[plane],)
        elif plane < 3 * RANKS:
            slopes = slopes + (more * unit * unit * planes[plane],)
        else:
            slopes = slopes + (-more * unit * unit * unit * planes[plane],)
    acc += sign * i
    if ALIKE:
        begun = tl.zeros([BV * RP, CP], tl.float32)
        begun = _lost(i, begun, across, down, across_low, down_low, True, EXACT)
    else:
        begun = _lost_in_sums(i, across, down, BV, RP, CP)
    change = _change(cell, a, begun, slopes, RANKS, RP * CP)
    for _ in range(1, sweeps):
        if ALIKE:
            lost = _lost(change, begun, across, down, across_low, down_low, FINE, EXACT)
        else:
            lost = begun + _lost_in_sums(change, across, down, BV, RP, CP)
        change = _change(cell, a, lost, slopes, RANKS, RP * CP)
    return acc + sign * change


@jit
def _picked(i, which, CP: tl.constexpr):
    """Some columns of [any, CP], in the order of their numbers."""
    here = tl.arange(0, CP)[None, :, None] == which[None, None, :]
    return tl.sum(tl.where(here, i[:, :, None], 0.0), axis=1)


@jit
def _outputs(
    acc, other, picked, removed, where, apart, wanted, step, gain, zero, limit, most,
    ARRAYS: tl.constexpr, MINUS: tl.constexpr, APART: tl.constexpr, PICK: tl.constexpr, CONVERT: tl.constexpr,
    SENSED: tl.constexpr, BV: tl.constexpr, RP: tl.constexpr, CP: tl.constexpr,
):  # fmt: skip
    """Bit lines read out, [BV, CP], from sums of their cells; of two arrays, the difference or one after the other."""
    i = tl.sum(tl.reshape(acc, [BV, RP, CP]), axis=1)
    taken = i
    if ARRAYS == 2 and APART == 2:
        taken = tl.sum(tl.reshape(other, [BV, RP, CP]), axis=1)
    if PICK:
        taken = _picked(taken, removed, CP)
        i = _picked(i, picked, CP)
        if MINUS and ARRAYS == 1 and APART == 1:
            i -= taken
    found = _read_out(i, where, wanted, step, gain, zero, limit, most, CONVERT, SENSED)
    if APART == 2:
        found += _read_out(taken, where + apart, wanted, step, gain, zero, limit, most, CONVERT, SENSED)
    return found


@jit
def swept(
    x,  # as in `first`
    per_unit,
    lines,  # [R, RP]
    corners,
    cells,  # [M, slices, arrays, R, K, ranks, RP, CP]: amplitudes
    sweeps,  # [M, slices, arrays, R, K] int32
    word,  # where lines are alike [2, CP, CP], two halves, see `_lost`; otherwise [RP, CP] before each cell
    bit,  # the same [2, BV * RP, BV * RP], or below each cell
    plus,  # [CP] int32: bit line of an output
    minus,  # [CP]: that which is subtracted
    step,
    gain,
    zero,
    limit,
    to,
    nodes,
    bins,
    coefficients,
    factor,
    base,
    out,
    vectors,
    positions,
    width,
    n_out,
    row_tiles,
    outputs,  # of a tile
    image_stride,
    matrix_stride,
    n_nodes,
    n_bins,
    per_volt,
    v_read,
    most,
    unit,  # V a unit of what `_lost` gives
    per_image,
    RANKS: tl.constexpr,
    TERMS: tl.constexpr,
    TABLE: tl.constexpr,
    REFINE: tl.constexpr,
    SLICES: tl.constexpr,
    ARRAYS: tl.constexpr,
    MINUS: tl.constexpr,
    APART: tl.constexpr,
    PICK: tl.constexpr,
    ALIKE: tl.constexpr,
    EXACT: tl.constexpr,
    FINE: tl.constexpr,
    DAC_STEPS: tl.constexpr,
    CLAMP: tl.constexpr,
    CONVERT: tl.constexpr,
    ANALOG: tl.constexpr,
    SENSED: tl.constexpr,
    SHIFTED: tl.constexpr,
    BV: tl.constexpr,
    RP: tl.constexpr,
    CP: tl.constexpr,
):
    """Outputs of a column of tiles for BV vectors, each tile swept as often as its bound asks."""
    vector = tl.program_id(0) * BV + tl.arange(0, BV)
    side, sides = tl.program_id(1), tl.num_programs(1)
    matrix, matrices = tl.program_id(2).to(tl.int64), tl.num_programs(2)
    there = vector < vectors
    image, position = (vector // positions).to(tl.int64), vector % positions
    line = tl.arange(0, BV * RP)
    of, row = tl.program_id(0) * BV + line // RP, line % RP
    driver = of < vectors
    its_image = (of // positions).to(tl.int64)
    at = its_image * image_stride + matrix * matrix_stride + tl.load(corners + of % positions, mask=driver, other=0)
    per = tl.load(per_unit + its_image * per_image, mask=driver, other=0.0)
    output = tl.arange(0, CP)
    column = side * outputs + output
    wanted = output < outputs
    target = tl.load(to + column, mask=wanted, other=-1)
    wanted = (target >= 0)[None, :]
    picked, removed = tl.load(plus + output), tl.load(minus + output)
    if ALIKE:
        m_at = output[:, None] * CP + output[None, :]
        n_at = line[:, None] * (BV * RP) + line[None, :]
        across, down = tl.load(word + m_at), tl.load(bit + n_at)
        across_low, down_low = across, down
        if not EXACT:
            across_low, down_low = tl.load(word + CP * CP + m_at), tl.load(bit + BV * RP * BV * RP + n_at)
    else:
        cell = tl.arange(0, RP)[:, None] * CP + output[None, :]
        across, down = tl.load(word + cell)[None, :, :], tl.load(bit + cell)[None, :, :]
        across_low, down_low = across, down
    total = tl.zeros([BV, CP], tl.float32)
    driven = tl.zeros([BV], tl.float32)
    spoiled = tl.zeros([BV], tl.float32)
    channels: tl.constexpr = SLICES * APART
    for of_slice in range(SLICES):
        acc = tl.zeros([BV * RP, CP], tl.float32)
        other = tl.zeros([BV * RP, CP], tl.float32)
        for tile in range(row_tiles):
            if not ANALOG:
                acc = tl.zeros([BV * RP, CP], tl.float32)
                other = tl.zeros([BV * RP, CP], tl.float32)
            offset = tl.load(lines + tile * RP + row)
            u = scaled(_input(x, at, offset, driver), per, DAC_STEPS, CLAMP)
            lone = tl.where(u == u, 0.0, 1.0)
            u = tl.where(u == u, u, 0.0)  # else it would reach the other vectors, through zeros
            spoiled += tl.sum(tl.reshape(lone, [BV, RP]), axis=1)
            if SHIFTED:
                driven += tl.where(of_slice == 0, tl.sum(tl.reshape(u, [BV, RP]), axis=1), 0.0)
            piece, t = _place(u, per_volt, v_read, nodes, bins, n_nodes, n_bins, TABLE, REFINE)
            planes = ()
            for plane in tl.static_range(4 * RANKS):
                planes = planes + (_plane(coefficients, piece, t, plane, TABLE, 4 * RANKS, TERMS),)
            for array in tl.static_range(ARRAYS):
                number = (((matrix * SLICES + of_slice) * ARRAYS + array) * row_tiles + tile) * sides + side
                if array == 1 and APART == 2:
                    other = _array(
                        other, 1.0, cells + number * RANKS * RP * CP, planes, tl.load(sweeps + number),
                        across, down, across_low, down_low, unit, RANKS, BV, RP, CP, ALIKE, EXACT, FINE,
                    )  # fmt: skip
                else:
                    acc = _array(
                        acc, 1.0 - 2.0 * array, cells + number * RANKS * RP * CP, planes, tl.load(sweeps + number),
                        across, down, across_low, down_low, unit, RANKS, BV, RP, CP, ALIKE, EXACT, FINE,
                    )  # fmt: skip
            if not ANALOG:
                where = ((matrix * channels + of_slice * APART) * row_tiles + tile) * width + column[None, :]
                total += _outputs(
                    acc, other, picked, removed, where, row_tiles * width, wanted, step, gain, zero, limit, most,
                    ARRAYS, MINUS, APART, PICK, CONVERT, SENSED, BV, RP, CP,
                )  # fmt: skip
        if ANALOG:
            where = (matrix * channels + of_slice * APART) * width + column[None, :]
            total += _outputs(
                acc, other, picked, removed, where, width, wanted, step, gain, zero, limit, most,
                ARRAYS, MINUS, APART, PICK, CONVERT, SENSED, BV, RP, CP,
            )  # fmt: skip
    if SHIFTED:
        total -= tl.load(base) * driven[:, None]
    total *= tl.load(factor + image * per_image, mask=there, other=0.0)[:, None]
    total = tl.where(spoiled[:, None] > 0.0, float("nan"), total)
    place = ((image * matrices + matrix) * n_out)[:, None] + target[None, :]
    tl.store(out + place * positions + position[:, None], total, mask=there[:, None] & wanted)
