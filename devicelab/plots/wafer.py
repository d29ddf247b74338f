"""Maps of a number over the positions of devices: wafers, dies, arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError, ShapeError
from .styles import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIRS = (("column", "row"), ("col", "row"), ("x", "y"), ("die_x", "die_y"), ("bitline", "wordline"))
NAMED = (
    (r"(?i)\bR(?:OW)?[ _-]?(\d+)[ _,-]*C(?:OL)?(?:UMN)?[ _-]?(\d+)", (2, 1)),
    (r"(?i)\bX[ _]?(-?\d+)[ _,]*Y[ _]?(-?\d+)", (1, 2)),
    (r"(?i)\bBL[ _-]?(\d+)[ _,-]*WL[ _-]?(\d+)", (1, 2)),
    (r"(?i)\bWL[ _-]?(\d+)[ _,-]*BL[ _-]?(\d+)", (2, 1)),
    (r"\((-?\d+\.?\d*)\s*[,;]\s*(-?\d+\.?\d*)\)", (1, 2)),
)
MOST_CELLS = 4_000_000
"""Cells of a grid drawn as a picture; scattered positions beyond are drawn as marks."""


def position(meta: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where a device lies, (column, row), as its metadata say; None where they do not.

    Understands `column` and `row`, `x` and `y`, `die_x` and `die_y`, `bitline` and `wordline`; an `address` in an array
    of `array_columns`; and names of a device or site such as `R3C5`, `X-2Y4`, `WL3_BL17`, `(2, 5)`.
    """
    low = {str(key).lower(): value for key, value in meta.items()}
    for x, y in PAIRS:
        if _is_number(low.get(x)) and _is_number(low.get(y)):
            return float(low[x]), float(low[y])
    if _is_number(low.get("address")) and _is_number(low.get("array_columns")):
        row, column = divmod(int(low["address"]), int(low["array_columns"]))
        return float(column), float(row)
    for key in ("device", "cell", "site", "group"):
        for pattern, (x_at, y_at) in NAMED:
            if isinstance(low.get(key), str) and (found := re.search(pattern, low[key])):
                return float(found[x_at]), float(found[y_at])
    return None


def wafer(
    positions: Sequence[tuple[float, float]] | NDArray[np.float64],
    values: Any,
    ax: Axes | None = None,
    *,
    label: str = "",
    log: bool | None = None,
) -> Axes:
    """A number at the position (column, row) of each device; the median where a device has several.

    Args:
        positions: Column and row of each value, shape [n, 2]; row 0 is at the top.
        values: The numbers, shape [n]; those that are not finite are drawn grey.
        ax: Axes, new ones unless given.
        label: Of the colour bar, with its unit.
        log: Logarithmic colours; where all are positive and span more than a factor of ten unless given.

    Raises:
        ShapeError: If there is nothing to draw, or the lengths differ.
    """
    import matplotlib as mpl
    import matplotlib.ticker

    where = np.asarray(positions, dtype=float).reshape(-1, 2)
    numbers = np.asarray(values, dtype=float)
    if not len(where) or numbers.shape != where.shape[:1]:
        raise ShapeError("a map needs a number for each position", got=f"{where.shape} and {numbers.shape}",
                         allowed="positions [n, 2] and values [n]")  # fmt: skip
    places, index = np.unique(where, axis=0, return_inverse=True)
    order = np.argsort(index.ravel(), kind="stable")
    cuts = np.flatnonzero(np.diff(index.ravel()[order])) + 1
    medians = np.array([_median(part) for part in np.split(numbers[order], cuts)])
    good = medians[np.isfinite(medians)]
    if log is None:
        log = bool(good.size and good.min() > 0 and good.max() > 10 * good.min())
    low, high = np.quantile(good, [0.005, 0.995]) if good.size else (0.0, 1.0)
    norm: Any = mpl.colors.LogNorm(low, high) if log else mpl.colors.Normalize(low, high)
    ax = new_axes(ax)
    colours = mpl.colormaps["viridis"].with_extremes(bad="0.85")
    x, y = _axis(places[:, 0]), _axis(places[:, 1])
    if x.size * y.size <= MOST_CELLS:
        table = np.full((y.size, x.size), np.nan)
        table[_place(places[:, 1], y), _place(places[:, 0], x)] = medians
        drawn: Any = ax.pcolormesh(x, y, np.ma.masked_invalid(table), norm=norm, cmap=colours, shading="nearest")
        drawn.set_edgecolor("white" if table.size <= 900 else "face")
        drawn.set_linewidth(0.5 if table.size <= 900 else 0.0)
        drawn.set_rasterized(table.size > 900)
    else:
        drawn = ax.scatter(places[:, 0], places[:, 1], c=medians, norm=norm, cmap=colours, marker="s", s=8)
    ax.invert_yaxis()
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(mpl.ticker.MaxNLocator(integer=True))
    wide, tall = np.ptp(places, axis=0) + 1
    ax.set_aspect("equal" if max(wide, tall) <= 4 * min(wide, tall) else "auto")
    outside = good.size and (good.min() < low or good.max() > high)
    bar = ax.figure.colorbar(
        drawn, ax=ax, label=label, pad=0.02, extend="both" if outside else "neither",
        location="top" if wide > 1.4 * tall else "right",
    )  # fmt: skip
    bar.outline.set_linewidth(0.5)
    return ax


def positions_of(metas: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The position of each device, shape [n, 2].

    Raises:
        ParameterError: If the metadata of one do not say.
    """
    found = [position(meta) for meta in metas]
    lacking = next((meta for meta, place in zip(metas, found, strict=True) if place is None), None)
    if lacking is not None:
        raise ParameterError(
            "the position of a device is not known",
            got=", ".join(f"{k}={lacking[k]!r}" for k in ("file", "device", "cell", "site") if k in lacking)
            or "no name",
            allowed="metadata row and column, x and y, or a device called such as R3C5, X-2Y4, WL3_BL17",
            hint=r"take them from the path with a profile: [detect] path = 'R(?P<row>\d+)C(?P<column>\d+)'",
        )
    return np.array(found, dtype=float)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _median(part: NDArray[np.float64]) -> float:
    good = part[np.isfinite(part)]
    return float(np.median(good)) if good.size else float("nan")


def _axis(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evenly spaced coordinates through all values, by their smallest step."""
    known = np.unique(values)
    if known.size < 2:
        return known
    step = float(np.diff(known).min())
    count = round((known[-1] - known[0]) / step) + 1
    return known[0] + step * np.arange(count) if count <= MOST_CELLS else known


def _place(values: NDArray[np.float64], axis: NDArray[np.float64]) -> NDArray[np.int64]:
    step = axis[1] - axis[0] if axis.size > 1 else 1.0
    return np.asarray(np.rint((values - axis[0]) / step), dtype=np.int64)
