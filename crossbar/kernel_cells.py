"""The kernel's layout, and the laws of the cells in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

from .simd import at_least, gather, gather_four, larger, load, smaller, splat, square_root, store

ROWS, LANES = 4, 8
WIDTH = ROWS * LANES

INNER, OUTER = 5 * WIDTH, 3 * WIDTH
X, P, R, T, D = range(0, INNER, WIDTH)  # inner: step, direction, residual, its image, conductance
V, C, U = range(0, OUTER, WIDTH)  # outer: voltage, current, line drop

OHMIC, SINH, TABLE, POLYNOMIAL = 0, 1, 2, 3

Flat = Any
"""A flat array of floats."""

Parts = Any
"""A tuple of arrays and numbers."""

jit: Callable[[Callable[..., Any]], Any] = njit(nogil=True, error_model="numpy", boundscheck=False)
"""For functions that become part of `kernel.solve_groups`, which alone is cached."""


def sources() -> str:
    """Hash of every source file that is compiled into the kernel."""
    files = (Path(__file__).with_name(name) for name in ("kernel.py", "kernel_cells.py", "simd.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@jit
def sinh(outer: Flat, conductance: Flat, o: int, g: Flat, b: Flat, k: int, halvings: int) -> None:
    """The law of `Sinh`: a series for sinh at b v / 2^halvings, then doublings."""
    scale = 0.5**halvings
    for row in range(ROWS):
        u = (scale * b[k + row]) * load(outer, o + V + row * LANES, LANES)
        t = u * u
        s = 1.0 + t * (1 / 6 + t * (1 / 120 + t * (1 / 5040 + t * (1 / 362880 + t * (1 / 39916800 + t * 1.6e-10)))))
        s = u * s
        c = square_root(1.0 + s * s)
        for _ in range(halvings):
            twice = 2.0 * s
            s, c = twice * c, 1.0 + twice * s
        store(outer, o + C + row * LANES, (g[k + row] / b[k + row]) * s)
        store(conductance, row * LANES, g[k + row] * c)


@jit
def ohmic(outer: Flat, conductance: Flat, o: int, g: Flat, k: int) -> None:
    """The law of `Ohmic`."""
    for row in range(ROWS):
        v = load(outer, o + V + row * LANES, LANES)
        store(outer, o + C + row * LANES, g[k + row] * v)
        store(conductance, row * LANES, splat(g[k + row], v))


@jit
def table(
    outer: Flat,
    conductance: Flat,
    o: int,
    amplitudes: Flat,
    k: int,
    nodes: Flat,
    bins: Flat,
    pieces: Flat,
    refine: int,
    ranks: int,
) -> None:
    """Current and conductance of a low-rank table, linear beyond its ends; see `fast._pieces`."""
    first, last = nodes[0], nodes[nodes.shape[0] - 1]
    per_volt = bins.shape[0] / (last - first)
    for row in range(ROWS):
        v = load(outer, o + V + row * LANES, LANES)
        inside = smaller(larger(v, splat(first, v)), splat(last, v))
        piece = gather(bins, smaller((inside - first) * per_volt, splat(bins.shape[0] - 1.0, v)))
        for _ in range(refine):
            piece = piece + at_least(inside, gather(nodes, piece + 1.0))
        s = inside - gather(nodes, piece)
        i = splat(0.0, v)
        d = i
        for rank in range(ranks):
            a = amplitudes[(k + row) * ranks + rank]
            c0, c1, c2, c3 = gather_four(pieces, piece * (4.0 * ranks) + 4.0 * rank)
            i = i + a * (c0 + s * (c1 + s * (c2 + s * c3)))
            d = d + a * (c1 + s * (2.0 * c2 + 3.0 * s * c3))
        store(outer, o + C + row * LANES, i + d * (v - inside))
        store(conductance, row * LANES, d)


@jit
def polynomial(
    outer: Flat,
    conductance: Flat,
    o: int,
    amplitudes: Flat,
    k: int,
    ends: Flat,
    coefficients: Flat,
    terms: int,
    ranks: int,
) -> None:
    """Current and conductance of a sum of polynomials in v / max |v|, linear beyond the ends of their range."""
    low, high = ends[0], ends[1]
    per_volt = 1.0 / max(-low, high)
    for row in range(ROWS):
        v = load(outer, o + V + row * LANES, LANES)
        inside = smaller(larger(v, splat(low, v)), splat(high, v))
        t = inside * per_volt
        i = splat(0.0, v)
        d = i
        for rank in range(ranks):
            a = amplitudes[(k + row) * ranks + rank]
            value = splat(coefficients[(rank + 1) * terms - 1], v)
            slope = splat(0.0, v)
            for term in range(terms - 2, -1, -1):
                slope = slope * t + value
                value = value * t + coefficients[rank * terms + term]
            i = i + a * value
            d = d + a * slope
        d = d * per_volt
        store(outer, o + C + row * LANES, i + d * (v - inside))
        store(conductance, row * LANES, d)
