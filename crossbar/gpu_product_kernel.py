# ruff: noqa: ANN001, ANN201, ANN202, RUF005
# mypy: ignore-errors
"""Products on a GPU: what tiles make of prepared inputs, with noise and converters, in one Triton program.

`gpu_input_kernel.prepared` scales, rounds and puts through the cells' law every input once, and leaves each function of
it as two halves in a word of four bytes. One program of `tiled` makes a block of outputs from such words. It goes
through the tiles below each other; what a tile's columns carry stays in registers until it has been converted, so
partial sums never reach memory, nor do windows of images: they are gathered as they are needed.

Weights are sums of two halves (16-bit floating-point numbers, 11 bits each) in units of their column. Their product
with a function of an input, a pair of halves too, is three products on tensor cores; what is left out is 2^-22 of it.
With whole numbers up to 2048, which one half holds, it is two. Sums are in float32.

With TRITON_INTERPRET=1 in the environment the same kernels run on a CPU, slowly, which is how they are tested there.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_input_kernel import (
    ALL,
    LARGEST,
    LINEAR,
    NO_NUMBER_BITS,
    SIGNS,
    TO_WHOLE,
    first,
    index,
    nearest,
    range_of,
    second,
    within,
)
from .gpu_input_kernel import prepared as prepared
from .gpu_input_kernel import scaled as _scaled  # noqa: F401
from .gpu_input_kernel import whole as _whole  # noqa: F401
from .gpu_noise_kernel import normal

jit: Any = triton.jit

NONE = tl.constexpr(0)
EVEN = tl.constexpr(1)
LOGARITHMIC = tl.constexpr(2)


@jit
def _digit(number, shift, base):
    """A signed digit as a half, exact up to 1023: its bits are those of 1024 more, less the leading one."""
    bits = ((tl.abs(number) >> shift) & (base - 1)) | 0x6400
    value = bits.to(tl.int16).to(tl.float16, bitcast=True) - 1024.0
    value = tl.where(number == NO_NUMBER_BITS, float("nan"), value)
    return tl.where(number < 0, -value, value)


@jit
def tiled(
    words,  # [planes, inputs], see `prepared`
    peak,  # [1 or images]
    offsets,  # [n_in] int32: where an input of a window lies from its corner
    corners,  # [positions] int32
    weights,  # [2, M, channels, R, features, rows, width]: halves of the weights, the larger ones first
    back,  # [M, channels, columns]: codes (or A, without a converter) of a column's unit
    step,  # [M, channels, R or 1, columns]: A a code, times the channel's coefficient
    zero,  # the same: code at no current
    limit,  # the same: codes at which the integrator saturates
    variances,  # [1 or 2, M, channels, R, rows, width]: noise's weights by voltage squared, by voltage
    loud,  # [M, channels, columns]: squared codes of a column's unit of those
    noise,  # int64 [2]: seed, reads so far
    digits,  # of cells that are not linear, read digit by digit: words of the functions, [2 base - 1, features]
    unit,  # [1] of the results, for a largest input of 1
    base,  # [1] what is taken off a result for every unit of the sum of its inputs
    out,  # [images, M, columns, positions]
    vectors,  # images * positions
    positions,
    columns,
    width,  # columns and what fills them up to a multiple of 16
    row_tiles,
    rows,
    idle,
    image_stride,  # of inputs
    matrix_stride,
    inputs,
    half,  # from larger to smaller halves
    quiet,  # from weights of noise by voltage squared to those by voltage
    thermal,  # of noise: share of the largest input at which shot noise equals thermal noise
    most,  # largest code
    decades,  # of a logarithmic converter
    KIND: tl.constexpr,
    FEATURES: tl.constexpr,
    CHANNELS: tl.constexpr,
    WHOLE: tl.constexpr,
    DAC_STEPS: tl.constexpr,
    PER_IMAGE: tl.constexpr,
    LAW: tl.constexpr,
    LONG: tl.constexpr,
    ANALOG: tl.constexpr,
    SENSED: tl.constexpr,
    NOISE: tl.constexpr,  # by voltage squared (1), by voltage (2), or both (3)
    SHIFTED: tl.constexpr,
    PLANES: tl.constexpr,  # digits of an input that are read one by one
    DIGIT: tl.constexpr,  # bits of each
    TOGETHER: tl.constexpr,  # of them at once
    IMAGES: tl.constexpr,
    PLAIN: tl.constexpr,  # whether inputs lie in the order of the lines
    WIDE: tl.constexpr,
    ONE: tl.constexpr,  # whether BK takes all of a tile's rows
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Outputs of a block of vectors and columns, all tiles below each other and all channels together."""
    vector = tl.program_id(0) * BM + tl.arange(0, BM)
    column = tl.program_id(1) * BN + tl.arange(0, BN)
    matrix, matrices = tl.program_id(2), tl.num_programs(2)
    there, wanted = vector < vectors, column < columns
    image, position = vector // positions, vector % positions
    begin = index(image, WIDE) * image_stride + index(matrix, WIDE) * matrix_stride
    if IMAGES:
        begin += tl.load(corners + position, mask=there, other=0)
    total = tl.zeros([BM, BN], tl.float32)
    driven = tl.zeros([BM], tl.float32)
    for channel in range(CHANNELS):
        at = (matrix * CHANNELS + channel) * columns + column
        scale = tl.load(back + at, mask=wanted, other=0.0)[None, :]
        hush = tl.load(loud + at, mask=wanted, other=0.0)[None, :]
        # digits one by one are not unrolled, which would take minutes to compile
        for group in (range if TOGETHER == 1 else tl.static_range)(0, PLANES, TOGETHER):
            accs, spreads = _zeros(1 if TOGETHER == 1 else min(TOGETHER, PLANES - group), NOISE, BM, BN)
            for tile in range(row_tiles):
                if not ANALOG:
                    accs, spreads = _zeros(1 if TOGETHER == 1 else min(TOGETHER, PLANES - group), NOISE, BM, BN)
                block = (matrix * CHANNELS + channel) * row_tiles + tile
                if ONE:
                    accs, spreads, summed = _rows(
                        accs, spreads, words, begin, offsets, weights, variances, digits, there, column, block, 0, tile,
                        rows, width, idle, inputs, half, quiet, thermal, KIND, FEATURES, WHOLE, NOISE, SHIFTED, group,
                        1 if TOGETHER == 1 else min(TOGETHER, PLANES - group), DIGIT, IMAGES, PLAIN, BM, BK,
                    )  # fmt: skip
                    if SHIFTED and group == 0 and channel == 0:
                        driven += summed
                else:
                    for start in range(0, rows, BK):
                        accs, spreads, summed = _rows(
                            accs, spreads, words, begin, offsets, weights, variances, digits, there, column, block,
                            start, tile, rows, width, idle, inputs, half, quiet, thermal, KIND, FEATURES, WHOLE, NOISE,
                            SHIFTED, group, 1 if TOGETHER == 1 else min(TOGETHER, PLANES - group), DIGIT, IMAGES,
                            PLAIN, BM, BK,
                        )  # fmt: skip
                        if SHIFTED and group == 0 and channel == 0:
                            driven += summed
                if not ANALOG:
                    at = block * columns + column
                    for p in tl.static_range(1 if TOGETHER == 1 else min(TOGETHER, PLANES - group)):
                        acc = accs[p] * scale
                        if NOISE:
                            stage = ((matrix * row_tiles + tile) * CHANNELS + channel) * PLANES + group + p
                            acc += tl.sqrt(spreads[p] * hush) * _drawn(noise, stage, BM, BN)
                        total += _converted(acc, step, zero, limit, at, wanted, most, decades, LAW, LONG, SENSED) * (
                            _weight(group + p, WHOLE, DIGIT, DAC_STEPS)
                        )
            if ANALOG:
                at = (matrix * CHANNELS + channel) * columns + column
                for p in tl.static_range(1 if TOGETHER == 1 else min(TOGETHER, PLANES - group)):
                    acc = accs[p] * scale
                    if NOISE:
                        stage = (matrix * CHANNELS + channel) * PLANES + group + p
                        acc += tl.sqrt(spreads[p] * hush) * _drawn(noise, stage, BM, BN)
                    total += _converted(acc, step, zero, limit, at, wanted, most, decades, LAW, LONG, SENSED) * (
                        _weight(group + p, WHOLE, DIGIT, DAC_STEPS)
                    )
    if SHIFTED:
        total -= tl.load(base) * (driven / DAC_STEPS if WHOLE == 2 else driven)[:, None]
    top = tl.load(peak + image, mask=there, other=1.0) if PER_IMAGE else tl.load(peak)
    top = range_of(top) * tl.load(unit)
    total *= top[:, None] if PER_IMAGE else top
    line = (index(image, WIDE) * matrices + matrix) * columns
    if IMAGES:
        to = (line[None, :] + column[:, None]) * positions + position[None, :]
        tl.store(out + to, tl.trans(total), mask=there[None, :] & wanted[:, None])
    else:
        tl.store(out + (line[:, None] + column[None, :]), total, mask=there[:, None] & wanted[None, :])


@jit
def _zeros(COUNT: tl.constexpr, NOISE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Sums of columns for every digit, and of their variances."""
    accs, spreads = (), ()
    for _ in tl.static_range(COUNT):
        accs = accs + (tl.zeros([BM, BN], tl.float32),)
        if NOISE:
            spreads = spreads + (tl.zeros([BM, BN], tl.float32),)
    return accs, spreads


@jit
def _weight(plane, WHOLE: tl.constexpr, DIGIT: tl.constexpr, DAC_STEPS: tl.constexpr):
    """Of one digit in the sum."""
    if WHOLE == 2:
        return (tl.full([], 1, tl.int32) << (DIGIT * plane)).to(tl.float32) * ((2**DIGIT - 1) / DAC_STEPS)
    else:  # what follows a return is compiled too
        return 1.0


@jit
def _drawn(noise, stage, BM: tl.constexpr, BN: tl.constexpr):
    return normal(noise, stage, tl.program_id(0) * BM, tl.program_id(1) * BN, BM, BN)


@jit
def _gathered(words, begin, offset, there, live, IMAGES: tl.constexpr):
    """Words of inputs [BM, BK]; of images, neighbouring threads take neighbouring positions."""
    if IMAGES:
        return tl.trans(
            tl.load(words + (begin[None, :] + offset[:, None]), mask=there[None, :] & live[:, None], other=0)
        )
    return tl.load(words + (begin[:, None] + offset[None, :]), mask=there[:, None] & live[None, :], other=0)


@jit
def _plane(words, inputs, N: tl.constexpr):
    """Where the N-th words of the inputs begin; 32 bits need not hold the distance."""
    for _ in tl.static_range(N):
        words += inputs
    return words


@jit
def _times(high, low, w, smaller, acc, PAIR: tl.constexpr):
    """The sum plus the product of pairs, or of whole numbers with pairs; what is left out is beyond float32."""
    if PAIR:
        acc = tl.dot(low, w, acc)
    acc = tl.dot(high, smaller, acc)
    return tl.dot(high, w, acc)


@jit
def _rows(
    accs, spreads, words, begin, offsets, weights, variances, digits, there, column, block, start, tile, rows, width,
    idle, inputs, half, quiet, thermal,
    KIND: tl.constexpr, FEATURES: tl.constexpr, WHOLE: tl.constexpr, NOISE: tl.constexpr, SHIFTED: tl.constexpr,
    group, HERE: tl.constexpr, DIGIT: tl.constexpr, IMAGES: tl.constexpr, PLAIN: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """What BK rows of a tile add to the sums of its columns and to their variances, and the sum of its inputs."""
    row = start + tl.arange(0, BK)
    k = tile * rows + row - idle
    live = (row < rows) & (k >= 0)
    offset = k if PLAIN else tl.load(offsets + k, mask=live, other=0)
    used = (row < rows)[:, None] & (column < width)[None, :]
    cell = row[:, None] * width + column[None, :]
    cells = rows * width
    lines = block.to(tl.int64) * cells
    other: tl.constexpr = 1 if KIND == SIGNS else FEATURES  # the first plane of words that is no function of the inputs
    summed = tl.zeros([BM], tl.float32)
    word = _gathered(words, begin, offset, there, live, IMAGES)
    if WHOLE == 2 and SHIFTED:
        summed = tl.sum(tl.where(word == NO_NUMBER_BITS, float("nan"), word.to(tl.float32)), axis=1)
    for f in tl.static_range(FEATURES):
        w = tl.load(weights + ((lines * FEATURES + f * cells) + cell), mask=used, other=0.0)
        smaller = tl.load(weights + ((lines * FEATURES + f * cells + half) + cell), mask=used, other=0.0)
        new = ()
        if WHOLE == 2:
            for p in tl.static_range(HERE):
                high = _digit(word, (group + p) * DIGIT, 2**DIGIT)
                if KIND == SIGNS:
                    new = new + (_times(_sign(high, f), high, w, smaller, accs[p], False),)
                elif KIND == LINEAR:
                    new = new + (_times(high, high, w, smaller, accs[p], False),)
                else:
                    which = high.to(tl.int32) + (2**DIGIT - 1)
                    value = tl.load(digits + tl.where(high == high, which, 2 ** (DIGIT + 1) - 1) * FEATURES + f)
                    new = new + (_times(first(value), second(value), w, smaller, accs[p], True),)
        else:
            if f > 0 and KIND != SIGNS:
                word = _gathered(_plane(words, inputs, f), begin, offset, there, live, IMAGES)
            high, low = first(word), second(word)
            if KIND == SIGNS:
                low = tl.where(_sign(high, f) == high, low, tl.zeros_like(low))
                high = _sign(high, f)
            new = new + (_times(high, low, w, smaller, accs[0], WHOLE == 0),)
        accs = new
    if NOISE:
        quiet_ones = variances + (lines + cell)
        noisy = ()
        if WHOLE == 2:
            for p in tl.static_range(HERE):
                size = tl.abs(_digit(word, (group + p) * DIGIT, 2**DIGIT).to(tl.float32)) * (1.0 / (2**DIGIT - 1))
                acc = spreads[p]
                if NOISE & 1:
                    w = tl.load(quiet_ones, mask=used, other=0.0)
                    acc = tl.dot((size * size * LARGEST).to(tl.float16), w, acc)
                if NOISE & 2:
                    w = tl.load(quiet_ones + quiet, mask=used, other=0.0)
                    hot = (tl.where(size != 0.0, thermal, 0.0) + size) / (1.0 + thermal)
                    acc = tl.dot((hot * LARGEST).to(tl.float16), w, acc)
                noisy = noisy + (acc,)
        else:
            word = _gathered(_plane(words, inputs, other), begin, offset, there, live, IMAGES)
            acc = spreads[0]
            if NOISE & 1:
                acc = tl.dot(first(word), tl.load(quiet_ones, mask=used, other=0.0), acc)
            if NOISE & 2:
                acc = tl.dot(second(word), tl.load(quiet_ones + quiet, mask=used, other=0.0), acc)
            noisy = noisy + (acc,)
        spreads = noisy
    if SHIFTED and WHOLE != 2:
        last = _plane(words, inputs, other + (1 if NOISE else 0))
        word = _gathered(last, begin, offset, there, live, IMAGES)
        summed = tl.sum(word.to(tl.float32, bitcast=True), axis=1)
    return accs, spreads, summed


@jit
def _sign(a, f: tl.constexpr):
    """Numbers of one sign, the others as zero; what is not a number stays so."""
    if f == 0:
        return tl.maximum(a, 0.0, propagate_nan=ALL).to(a.dtype)  # Triton 3.6 makes float32 of it
    return tl.minimum(a, 0.0, propagate_nan=ALL).to(a.dtype)


@jit
def _converted(
    acc, step, zero, limit, at, wanted, most, decades, LAW: tl.constexpr, LONG: tl.constexpr, SENSED: tl.constexpr
):
    """What sense circuit and converter make of columns, in A."""
    if SENSED:
        acc += tl.load(zero + at, mask=wanted, other=0.0)[None, :]
        acc = within(acc, tl.load(limit + at, mask=wanted, other=0.0)[None, :])
    if LAW == EVEN:
        acc = within(nearest(acc, LONG), most) if LONG else within(acc + TO_WHOLE, most, TO_WHOLE) - TO_WHOLE
    elif LAW == LOGARITHMIC:
        size = tl.minimum(tl.abs(acc), 1.0)
        least = tl.exp2(-3.3219280948873623 * decades)
        per_code = 3.3219280948873623 * decades / tl.maximum(most - 1.0, 1.0)
        value = tl.exp2(nearest(tl.log2(tl.maximum(size, least)) * (1.0 / per_code), False) * per_code)
        value = tl.where(size < 0.5 * least, 0.0, value)
        acc = tl.where(acc == acc, tl.where(acc < 0.0, -value, value), acc)
    return acc * tl.load(step + at, mask=wanted, other=0.0)[None, :]
