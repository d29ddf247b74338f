# ruff: noqa: ANN001, ANN201, SIM109
# mypy: ignore-errors
"""Inputs of the fused product on a GPU as numbers for tensor cores: pairs of halves, or whole numbers."""

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
ALL = tl.constexpr(tl.PropagateNan.ALL)
NO_NUMBER = tl.constexpr(-1073741824.0)
NO_NUMBER_BITS = tl.constexpr(-1073741824)
"""What stands among whole numbers for what is not a number."""
SMALLEST = tl.constexpr(2.0**-126)
"""Normal number; the reciprocals of smaller ones may be infinite."""
LARGEST = tl.constexpr(16384.0)
"""Of the numbers of a pair, about: the other half then is exact to 2^-36 of it."""


@jit
def within(a, most, middle=0.0):
    """Numbers clamped to +-most about the middle; what is not a number stays so."""
    return tl.minimum(tl.maximum(a, middle - most, propagate_nan=ALL), middle + most, propagate_nan=ALL)


@jit
def whole(a):
    """The nearest whole number, below 2^22."""
    return (a + TO_WHOLE) - TO_WHOLE


@jit
def nearest(a, LONG: tl.constexpr):
    """The nearest whole number, below 2^22, or any with `LONG`."""
    if LONG:
        size = tl.abs(a)
        near = (size + 8388608.0) - 8388608.0
        return tl.where(size < 8388608.0, tl.where(a < 0.0, -near, near), a)
    return whole(a)


@jit
def number_of(x, per_unit, DAC_STEPS: tl.constexpr, CLAMP: tl.constexpr):
    """Inputs as the DAC's numbers, or, without a DAC, in units of the largest."""
    u = x * per_unit
    if CLAMP:
        u = within(u, 1.0)
    if DAC_STEPS > 0:
        u = nearest(u * DAC_STEPS, DAC_STEPS > 4194303)
    return u


@jit
def scaled(x, per_unit, DAC_STEPS: tl.constexpr, CLAMP: tl.constexpr):
    """Inputs in units of the largest, as the DAC makes them."""
    number = number_of(x, per_unit, DAC_STEPS, CLAMP)
    return number / DAC_STEPS if DAC_STEPS > 0 else number


@jit
def pair(value):
    """A number as two halves in one word."""
    high = value.to(tl.float16)
    low = (value - high.to(tl.float32)).to(tl.float16)
    return joined(high, low)


@jit
def joined(first, second):
    """Two halves in one word."""
    a, b = first.to(tl.int16, bitcast=True).to(tl.int32), second.to(tl.int16, bitcast=True).to(tl.int32)
    return (a & 0xFFFF) | (b << 16)


@jit
def first(word):
    """The first half of a word."""
    return word.to(tl.int16).to(tl.float16, bitcast=True)


@jit
def second(word):
    """The second half of a word."""
    return (word >> 16).to(tl.int16).to(tl.float16, bitcast=True)


@jit
def range_of(peak):
    """What inputs are divided by: the largest, or 1 where that is none, no number, or has no reciprocal."""
    return tl.where(peak >= SMALLEST, peak, 1.0)


@jit
def index(n, WIDE: tl.constexpr):
    """A number of 32 bits, or of 64 where there are that many inputs."""
    return n.to(tl.int64) if WIDE else n


@jit
def prepared(
    x,  # flat inputs
    peak,  # [1 or images] largest input
    sizes,  # [features]: LARGEST over the largest value of each function
    nodes,  # of a table [1]: in units of the largest input
    bins,
    coefficients,  # of polynomials [features, terms], or of a table [pieces, features, 4]
    words,  # [planes, inputs]
    total,  # inputs
    each,  # inputs of an image
    n_nodes,
    n_bins,
    thermal,  # of noise: share of the largest input at which shot noise equals thermal noise
    KIND: tl.constexpr,
    FEATURES: tl.constexpr,
    TERMS: tl.constexpr,
    REFINE: tl.constexpr,
    DAC_STEPS: tl.constexpr,
    WHOLE: tl.constexpr,  # whether words are the DAC's numbers, in pairs (1) or as such (2)
    CLAMP: tl.constexpr,
    PER_IMAGE: tl.constexpr,  # whether scales are those of images; there is one for all otherwise
    NOISE: tl.constexpr,
    SHIFTED: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Functions of every input as words; then those that noise goes by, and the input itself where it is summed."""
    at = index(tl.program_id(0), WIDE) * BLOCK + tl.arange(0, BLOCK)
    there = at < total
    top = tl.load(peak + at // each, mask=there, other=1.0) if PER_IMAGE else tl.load(peak)
    per_unit = 1.0 / range_of(top)
    number = number_of(tl.load(x + at, mask=there, other=0.0), per_unit, DAC_STEPS, CLAMP)
    u = number / DAC_STEPS if DAC_STEPS > 0 else number
    to = words + at
    if WHOLE == 2:
        tl.store(to, tl.where(number == number, number, NO_NUMBER).to(tl.int32), mask=there)
    elif WHOLE == 1:
        tl.store(to, pair(number), mask=there)
    elif KIND == POLYNOMIAL:
        for f in tl.static_range(FEATURES):
            value = tl.zeros_like(u) + tl.load(coefficients + (f + 1) * TERMS - 1)
            for term in tl.static_range(TERMS - 2):
                value = value * u + tl.load(coefficients + (f + 1) * TERMS - 2 - term)
            tl.store(to, pair(value * u * tl.load(sizes + f)), mask=there)
            to += total
    elif KIND == TABLE:
        _, piece, t, _ = located(u, nodes, bins, n_nodes, n_bins, REFINE)
        t = tl.where(u == u, t, u)
        for f in tl.static_range(FEATURES):
            c = coefficients + (piece * FEATURES + f) * 4
            value = tl.load(c) + t * (tl.load(c + 1) + t * (tl.load(c + 2) + t * tl.load(c + 3)))
            tl.store(to, pair(value * tl.load(sizes + f)), mask=there)
            to += total
    else:
        tl.store(to, pair(u * LARGEST), mask=there)
    if WHOLE == 2:
        return
    if KIND == LINEAR or KIND == SIGNS:
        to += total
    if NOISE:
        hot = (tl.where(u != 0.0, thermal, 0.0) + tl.abs(u)) / (1.0 + thermal)
        tl.store(to, joined((u * u * LARGEST).to(tl.float16), (hot * LARGEST).to(tl.float16)), mask=there)
        to += total
    if SHIFTED:
        tl.store(to, u.to(tl.int32, bitcast=True), mask=there)
