# ruff: noqa: ANN001, ANN201, ANN202
# mypy: ignore-errors
"""Laws of cells in Triton kernels: current and conductance at voltages, as `cells` and `lut_cells` have them."""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from .gpu_interpreter import mend

mend()
jit: Any = triton.jit

OHMIC = tl.constexpr(0)
SINH = tl.constexpr(1)
TABLE = tl.constexpr(2)
POLYNOMIAL = tl.constexpr(3)


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
        a = tl.load(amplitudes + cell, mask=inside, other=0.0).to(v.dtype)
        amplitudes += stride  # 32 bits need not hold the distance
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
        a = tl.load(amplitudes + cell, mask=inside, other=0.0).to(v.dtype)
        amplitudes += stride  # 32 bits need not hold the distance
        i += a * value
        d += a * slope
    d = d * per_volt
    return i + d * (v - at), d


@jit
def law(
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
