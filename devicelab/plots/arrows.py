"""Arrows along a curve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def arrow(ax: Axes, x: Any, y: Any, at: int, step: int, colour: str = "black") -> None:
    """An arrow from sample `at - step` to `at + step`; at each end the median of three samples."""
    k = int(np.clip(at, step + 1, len(x) - step - 2))
    if k <= step:
        return
    ends = [(float(x[j]), float(np.median(y[j - 1 : j + 2]))) for j in (k - step, k + step)]
    if np.isfinite(ends).all() and ends[0] != ends[1] and (ax.get_yscale() != "log" or min(e[1] for e in ends) > 0):
        style = {"arrowstyle": "-|>", "color": colour, "lw": 1.0, "mutation_scale": 9, "shrinkA": 0, "shrinkB": 0}
        ax.annotate("", ends[1], ends[0], arrowprops=style, zorder=5)
