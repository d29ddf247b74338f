# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors
"""Products on a GPU in one Triton program: inputs scaled and quantised, cells' law, noise, converters, tiles added.

One program makes a block of outputs. It goes through the tiles below each other; what a tile's columns carry stays in
registers until it has been converted, so partial sums never reach memory, nor do windows of images or functions of the
inputs: they are made as they are needed.

With TRITON_INTERPRET=1 in the environment the same kernel runs on a CPU, slowly, which is how it is tested there.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_laws import located

jit: Any = triton.jit

LINEAR = tl.constexpr(0)
POLYNOMIAL = tl.constexpr(1)
TABLE = tl.constexpr(2)
SIGNS = tl.constexpr(3)

TO_WHOLE = tl.constexpr(12582912.0)
"""1.5 * 2^23: added to a float32 and taken away again, it leaves the nearest whole number, even ones at ties."""


@jit
def _whole(a):
    return (a + TO_WHOLE) - TO_WHOLE


@jit
def _scaled(x, per_unit, DAC_STEPS: tl.constexpr, CLAMP: tl.constexpr):
    """Inputs in units of the largest, as the DAC makes them."""
    u = x * per_unit
    if CLAMP:
        u = tl.where(u == u, tl.minimum(tl.maximum(u, -1.0), 1.0), u)
    if DAC_STEPS > 0:
        u = _whole(u * DAC_STEPS) / DAC_STEPS
    return u


@jit
def _feature(
    u, piece, t, coefficients, k: tl.constexpr, KIND: tl.constexpr, FEATURES: tl.constexpr, TERMS: tl.constexpr
):
    """The k-th function of the inputs."""
    if KIND == POLYNOMIAL:
        value = tl.zeros_like(u) + tl.load(coefficients + (k + 1) * TERMS - 1)
        for term in tl.static_range(TERMS - 2):
            value = value * u + tl.load(coefficients + (k + 1) * TERMS - 2 - term)
        return value * u
    if KIND == TABLE:
        c = coefficients + (piece * FEATURES + k) * 4
        return tl.load(c) + t * (tl.load(c + 1) + t * (tl.load(c + 2) + t * tl.load(c + 3)))
    if KIND == SIGNS:
        return tl.maximum(u, 0.0) if k == 0 else tl.minimum(u, 0.0)
    return u


@jit
def _normal(seed, read, stage, element):
    """Standard normal numbers: Philox 4x32-10 (Salmon et al., SC 2011, DOI 10.1145/2063384.2063405), Box and Muller."""
    zero = element * 0
    a, b, _, _ = tl.philox(seed, element, zero + stage, zero + read, zero)
    size = ((a >> 8).to(tl.float32) + 1.0) * (0.5**24)
    angle = (b >> 8).to(tl.float32) * (0.5**24 * 6.283185307179586)
    return tl.sqrt(-2.0 * tl.log(size)) * tl.cos(angle)


@jit
def tiled(
    x,  # flat inputs
    per_unit,  # [1 or images] reciprocal of the largest input
    offsets,  # [n_in] int32: where an input of a window lies from its corner
    corners,  # [positions] int32
    weights,  # [M, channels, R, features, rows, columns]: codes (or A, without a converter) per feature
    step,  # [M, channels, R or 1, columns]: A a code, times the channel's coefficient
    zero,  # the same: code at no current
    limit,  # the same: codes at which the integrator saturates
    spread,  # [M, channels, R, rows, columns]: squared codes of noise per V^2
    shot,  # the same, per V and per driven line
    noise,  # int64 [2]: seed, reads so far
    nodes,  # of a table [1]: in units of the largest input
    bins,
    coefficients,  # of polynomials [features, terms], or of a table [pieces, features, 4]
    factor,  # [1 or images]: of the results
    base,  # [1] what is taken off a result for every unit of the sum of its inputs
    out,  # [images, M, columns, positions]
    vectors,  # images * positions
    positions,
    columns,
    row_tiles,
    rows,
    idle,
    image_stride,  # of inputs
    matrix_stride,
    n_nodes,
    n_bins,
    thermal,  # of noise: V^2 a driven line, in units of `shot`
    v_read,
    most,  # largest code
    per_image,  # 1 where scales are those of images, 0 where there is one for all
    KIND: tl.constexpr,
    FEATURES: tl.constexpr,
    TERMS: tl.constexpr,
    REFINE: tl.constexpr,
    CHANNELS: tl.constexpr,
    DAC_STEPS: tl.constexpr,
    CLAMP: tl.constexpr,
    CONVERT: tl.constexpr,
    ANALOG: tl.constexpr,
    SENSED: tl.constexpr,
    NOISE: tl.constexpr,
    SHIFTED: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Outputs of a block of vectors and columns, all tiles below each other and all channels together."""
    vector = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    matrix, matrices = tl.program_id(2).to(tl.int64), tl.num_programs(2)
    there, wanted = vector < vectors, column < columns
    image, position = (vector // positions).to(tl.int64), vector % positions
    begin = image * image_stride + matrix * matrix_stride + tl.load(corners + position, mask=there, other=0)
    unit = tl.load(per_unit + image * per_image, mask=there, other=0.0)[:, None]
    total = tl.zeros([BM, BN], tl.float32)
    driven = tl.zeros([BM], tl.float32)
    for channel in range(CHANNELS):
        acc = tl.zeros([BM, BN], tl.float32)
        for tile in range(row_tiles):
            if not ANALOG:
                acc = tl.zeros([BM, BN], tl.float32)
            variance = tl.zeros([BM, BN], tl.float32)
            block = (matrix * CHANNELS + channel) * row_tiles + tile
            for start in range(0, rows, BK):
                row = start + tl.arange(0, BK)
                k = tile * rows + row - idle
                live = (row < rows) & (k >= 0)
                offset = tl.load(offsets + k, mask=live, other=0)
                at = begin[:, None] + offset[None, :]
                u = _scaled(tl.load(x + at, mask=there[:, None] & live[None, :], other=0.0), unit, DAC_STEPS, CLAMP)
                if SHIFTED and channel == 0:
                    driven += tl.sum(u, axis=1)
                piece, t = 0, u
                if KIND == TABLE:
                    _, piece, t, _ = located(u, nodes, bins, n_nodes, n_bins, REFINE)
                cell = row[:, None].to(tl.int64) * columns + column[None, :]
                used = live[:, None] & wanted[None, :]
                for f in tl.static_range(FEATURES):
                    lines = weights + (block * FEATURES + f) * rows * columns
                    w = tl.load(lines + cell, mask=used, other=0.0)
                    value = _feature(u, piece, t, coefficients, f, KIND, FEATURES, TERMS)
                    acc = tl.dot(value, w, acc, input_precision=PRECISION)
                if NOISE:
                    v = u * v_read
                    lines = block * rows * columns
                    variance = tl.dot(
                        v * v,
                        tl.load(spread + lines + cell, mask=used, other=0.0),
                        variance,
                        input_precision=PRECISION,
                    )
                    hot = tl.where(v != 0.0, thermal, 0.0) + tl.abs(v)
                    variance = tl.dot(
                        hot, tl.load(shot + lines + cell, mask=used, other=0.0), variance, input_precision=PRECISION
                    )
            if NOISE:
                element = vector[:, None] * (CHANNELS * columns) + channel * columns + column[None, :]
                stage = (matrix * row_tiles + tile).to(tl.int32)
                z = _normal(tl.load(noise), tl.load(noise + 1).to(tl.int32), stage, element)
                acc += tl.sqrt(tl.maximum(variance, 0.0)) * z
            if not ANALOG:
                total += _converted(acc, step, zero, limit, block * columns + column, wanted, most, CONVERT, SENSED)
        if ANALOG:
            at = (matrix * CHANNELS + channel) * columns + column
            total += _converted(acc, step, zero, limit, at, wanted, most, CONVERT, SENSED)
    if SHIFTED:
        total -= tl.load(base) * driven[:, None]
    total *= tl.load(factor + image * per_image, mask=there, other=0.0)[:, None]
    to = (image[:, None] * matrices + matrix) * columns + column[None, :]
    tl.store(out + to * positions + position[:, None], total, mask=there[:, None] & wanted[None, :])


@jit
def _converted(acc, step, zero, limit, at, wanted, most, CONVERT: tl.constexpr, SENSED: tl.constexpr):
    """What sense circuit and converter make of columns, in A."""
    if SENSED:
        reach = tl.load(limit + at, mask=wanted, other=0.0)[None, :]
        acc += tl.load(zero + at, mask=wanted, other=0.0)[None, :]
        acc = tl.minimum(tl.maximum(acc, -reach), reach)
    if CONVERT:
        acc = tl.minimum(tl.maximum(_whole(tl.minimum(tl.maximum(acc, -2.0 * most), 2.0 * most)), -most), most)
    return acc * tl.load(step + at, mask=wanted, other=0.0)[None, :]
