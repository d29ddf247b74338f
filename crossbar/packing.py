"""Rectangles on as few tiles as can be found, and how few there must be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab.errors import ParameterError

Integers = NDArray[np.int64]
MANY = 3000
"""Blocks from which on only one order is tried."""


@dataclass(frozen=True)
class Packing:
    """Where rectangles lie: the number of the tile, and lines from the corner of drivers and sense nodes.

    Args:
        tile: Of each rectangle.
        up: Word lines between it and the sense nodes.
        along: Bit lines between it and the drivers.
        tiles: Number of tiles.
        least: A bound: fewer tiles cannot hold them, however they are placed.
    """

    tile: Integers
    up: Integers
    along: Integers
    tiles: int
    least: int


def pack(heights: Sequence[int], widths: Sequence[int], rows: int, columns: int) -> Packing:
    """Rectangles on tiles of `rows` x `columns`, not turned, by the best of several orders.

    Each order places the next rectangle into the maximal free rectangle that it fits best (Jylanki, A thousand ways to
    pack the bin, 2010: MAXRECTS with best short side or best area). It is deterministic.

    Args:
        heights: Word lines of each.
        widths: Bit lines of each.
        rows: Word lines of a tile.
        columns: Bit lines of a tile.

    Raises:
        ParameterError: If one is larger than a tile, or empty.
    """
    h, w = (np.asarray(values, dtype=np.int64).reshape(-1) for values in (heights, widths))
    if len(h) and not (h.min() > 0 and w.min() > 0 and h.max() <= rows and w.max() <= columns):
        raise ParameterError("a block does not fit a tile", got=f"up to {h.max()} x {w.max()}", allowed=(rows, columns))
    least = least_tiles(h, w, rows, columns)
    best: Packing | None = None
    for keys in _orders(h, w):
        order = np.lexsort(tuple(-key for key in reversed(keys)))
        for by_area in (False, True):
            tile, up, along, tiles = _placed(h, w, rows, columns, order, by_area=by_area)
            if best is None or tiles < best.tiles:
                best = Packing(tile, up, along, tiles, least)
            if best.tiles == least or len(h) > MANY:
                return best
    if best is None:  # there is always an order
        raise ParameterError("nothing to pack")
    return best


def _orders(h: Integers, w: Integers) -> list[tuple[Integers, ...]]:
    """Keys by which rectangles are sorted, largest first."""
    area, longer = h * w, np.maximum(h, w)
    return [(area, longer), (longer, area), (h, w), (w, h), (h + w, area)]


def _placed(
    h: Integers, w: Integers, rows: int, columns: int, order: Integers, *, by_area: bool
) -> tuple[Integers, Integers, Integers, int]:
    tile, up, along = (np.zeros(len(h), dtype=np.int64) for _ in range(3))
    free = np.empty((0, 5), dtype=np.int64)  # tile, up, along, height, width of every maximal free rectangle
    tiles = 0
    for k in order:
        high, wide = int(h[k]), int(w[k])
        if high == rows and wide == columns:
            tile[k] = tiles
            tiles += 1
            continue
        fits = np.flatnonzero((free[:, 3] >= high) & (free[:, 4] >= wide))
        if not len(fits):
            free = np.vstack([free, [[tiles, 0, 0, rows, columns]]])
            fits = np.array([len(free) - 1])
            tiles += 1
        found = free[fits]
        over_h, over_w = found[:, 3] - high, found[:, 4] - wide
        short = np.minimum(over_h, over_w)
        left = found[:, 3] * found[:, 4] - high * wide
        first, second = (left, short) if by_area else (short, np.maximum(over_h, over_w))
        best = found[np.lexsort((found[:, 2], found[:, 1], found[:, 0], second, first))[0]]
        tile[k], up[k], along[k] = best[:3]
        here = free[:, 0] == best[0]
        rest = _without(free[here], int(up[k]), int(along[k]), high, wide)
        free = np.vstack([free[~here], rest])
    return tile, up, along, tiles


def _without(free: Integers, up: int, along: int, high: int, wide: int) -> Integers:
    """Maximal free rectangles of one tile after a rectangle was placed in it."""
    parts: list[tuple[int, ...]] = []
    for n, y, x, height, width in free.tolist():
        if up >= y + height or up + high <= y or along >= x + width or along + wide <= x:
            parts.append((n, y, x, height, width))
            continue
        parts += [(n, y, x, up - y, width), (n, up + high, x, y + height - up - high, width)]
        parts += [(n, y, x, height, along - x), (n, y, along + wide, height, x + width - along - wide)]
    real = list(dict.fromkeys(part for part in parts if part[3] > 0 and part[4] > 0))
    kept = [a for a in real if not any(b != a and _inside(a, b) for b in real)]
    return np.array(kept, dtype=np.int64).reshape(-1, 5)


def _inside(a: Sequence[int], b: Sequence[int]) -> bool:
    return a[1] >= b[1] and a[2] >= b[2] and a[1] + a[3] <= b[1] + b[3] and a[2] + a[4] <= b[2] + b[4]


def least_tiles(h: Any, w: Any, rows: int, columns: int) -> int:
    """A lower bound on the number of tiles.

    The area of rectangles whose sides are rounded by dual feasible functions: with a threshold p up to half of a side,
    what is longer than the side less p counts as the whole of it, and what is shorter than p as nothing (Fekete and
    Schepers, Math. Program. 91, 11 (2001), doi:10.1007/s101070100243).

    Args:
        h: Word lines of each rectangle.
        w: Bit lines of each.
        rows: Word lines of a tile.
        columns: Bit lines of a tile.
    """
    h, w = np.asarray(h, dtype=np.int64), np.asarray(w, dtype=np.int64)
    if not len(h):
        return 0
    areas = _rounded(h, rows) @ _rounded(w, columns).T
    return math.ceil(int(areas.max()) / (rows * columns))


def _rounded(sides: Integers, most: int) -> Integers:
    """Sides for every threshold that makes a difference, [thresholds, rectangles]."""
    thresholds = np.unique(np.concatenate([[0], sides, most - sides + 1]))
    thresholds = thresholds[2 * thresholds <= most][:, None]
    return np.where(sides > most - thresholds, most, np.where(sides < thresholds, 0, sides))
