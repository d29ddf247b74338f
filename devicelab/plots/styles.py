"""Styles for print: the width of one or two columns, type that is legible there, and nothing global."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..errors import unknown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURED, FITTED, ACCENT = "#1f4e79", "#d95f02", "#7a7a7a"

STYLES: dict[str, tuple[float, float]] = {"screen": (6.0, 10.0), "one": (3.4, 7.0), "two": (7.0, 8.0)}
"""Width [inch] and size of the type [pt]: on screen, one column (86 mm), two columns (178 mm)."""


@contextmanager
def style(name: str = "screen") -> Iterator[tuple[float, float]]:
    """Within the block new figures have this style; gives their width and a good height [inch].

    Raises:
        ParameterError: If there is no such style.
    """
    import matplotlib as mpl

    if name not in STYLES:
        raise unknown_name("style", name, list(STYLES))
    width, size = STYLES[name]
    thin = 0.6 if name != "screen" else 0.8
    changes: Any = {
        "font.size": size,
        "axes.labelsize": size,
        "axes.titlesize": size,
        "legend.fontsize": size - 1,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
        "axes.linewidth": thin,
        "lines.linewidth": 1.5 * thin,
        "figure.constrained_layout.use": True,
        "pdf.fonttype": 42,
        "savefig.dpi": 300 if name != "screen" else 150,
    }
    with mpl.rc_context(changes):
        yield width, width * (0.75 if name != "two" else 0.45)


def new_axes(ax: Axes | None, size: tuple[float, float] | None = None) -> Axes:
    """The axes given, or new ones, of a size [inch] or that of the style."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]
