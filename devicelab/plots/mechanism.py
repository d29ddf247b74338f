"""Conduction laws over one branch, each with its distance to the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..characterise.conduction import current
from ..characterise.summary import branches, conduction_of
from ..errors import ParameterError
from ..trace import Trace
from .styles import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#d95f02", "#1b9e77", "#7570b3", "#e7298a")


def mechanism(traces: Sequence[Trace], ax: Axes | None = None, *, laws: int = 3) -> Axes:
    """|I| over |V| on logarithmic axes for the branches of the first loop, with the best laws through each.

    Args:
        traces: Traces; the first with both a set and a reset is drawn.
        ax: Axes, new ones unless given.
        laws: How many laws a branch.
    """
    import matplotlib as mpl
    import matplotlib.ticker

    width = float(mpl.rcParams["figure.figsize"][0])
    ax = new_axes(ax, (width, width))
    found = conduction_of(traces)
    if not found:
        raise ParameterError("no branch to fit", got=f"{len(traces)} traces", allowed="a loop above the noise")
    samples = branches(traces)
    for k, (name, fits) in enumerate(found.items()):
        v, i = (np.abs(column) for column in samples[name])
        ax.plot(
            v, i, "os^v"[k % 4], ms=2.5, color=("#1f4e79", "#666666", "#6baed6", "#bbbbbb")[k % 4], label=_short(name)
        )
        grid = np.geomspace(v.min(), v.max(), 100)
        for fit, colour in zip(fits[:laws], _COLOURS, strict=False):
            ax.plot(grid, current(fit, grid), color=colour, lw=1, ls=("-", "--", "-.", ":")[k % 4],
                    label=f"{fit.name.replace('_', ' ')}, ΔAICc {fit.delta:.1f}")  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.xaxis.set_minor_formatter(mpl.ticker.LogFormatterSciNotation(minor_thresholds=(1.5, 0.4)))
    ax.set_xlabel("|voltage| [V]")
    ax.set_ylabel("|current| [A]")
    ax.figure.legend(frameon=False, fontsize="small", loc="outside lower center", ncols=min(2, len(found)))
    return ax


def _short(name: str) -> str:
    """The name of a branch, such as `low resistance, negative voltage, way back`, without what goes without saying."""
    return name.replace(" resistance", "").replace("negative voltage", "V < 0").replace("positive voltage", "V > 0")
