"""Butterfly loops over cycles: coloured by cycle, with the median and the band of the quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..characterise.sweeps import excursions
from ..characterise.variability import curve_band
from ..errors import ParameterError
from ..trace import Trace
from .arrows import arrow
from .styles import FITTED, MEASURED, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "viridis"
MOST_LOOKED_AT = 200
"""Traces among which the ones with arrows are looked for."""


def loops(traces: Sequence[Trace], ax: Axes | None = None, *, arrows: bool = True, bar: bool = True) -> Axes:
    """|I| on a logarithmic axis over V, coloured by cycle, with a colour bar and arrows along the first loop."""
    import matplotlib as mpl

    if not traces:
        raise ParameterError("nothing to draw", got="no traces", allowed="at least one")
    ax = new_axes(ax)
    numbers = _numbers(traces)
    norm = mpl.colors.Normalize(min(numbers), max(max(numbers), min(numbers) + 1))
    colours = mpl.colormaps[COLOURS]
    for trace, number in zip(traces, numbers, strict=True):
        i = np.abs(np.asarray(trace.i))
        shown = np.where(i > 0, i, np.nan)
        ax.plot(trace.v, shown, color=colours(norm(number)), lw=0.7, alpha=0.9 if len(traces) < 10 else 0.5)
    _log_axes(ax, traces)
    if arrows:
        _arrows(ax, traces)
    if bar and len(traces) > 1:
        scale = mpl.cm.ScalarMappable(norm, colours)
        named = all("cycle" in trace.meta for trace in traces)
        ax.figure.colorbar(scale, ax=ax, label="cycle" if named else "trace", pad=0.02)
    return ax


def band(traces: Sequence[Trace], ax: Axes | None = None) -> Axes:
    """Median of |I| over the cycles at equal voltages, the band of the quartiles and that from 5 to 95 %."""
    ax = new_axes(ax)
    found = curve_band(traces)
    for k, name in enumerate(found.branches):
        v, q = found.v[k], found.quantiles[k]
        colour = MEASURED if name.endswith("out") else FITTED
        ax.fill_between(v, q[0], q[4], color=colour, alpha=0.15, lw=0)
        ax.fill_between(v, q[1], q[3], color=colour, alpha=0.35, lw=0)
        label = name.split()[1] if name.split()[1] not in ax.get_legend_handles_labels()[1] else None
        ax.plot(v, q[2], color=colour, label=label)
    _log_axes(ax, traces)
    handles, labels = ax.get_legend_handles_labels()
    words = {"out": "median, way out", "back": "median, way back"}
    ax.legend(handles, [words[label] for label in labels], frameon=False)
    ax.set_title(f"{found.n} curves; bands: 25-75 % and 5-95 %")
    return ax


def _numbers(traces: Sequence[Trace]) -> list[int]:
    """The cycle of each trace; its place in the list where the metadata do not tell them apart."""
    given = [trace.meta.get("cycle") for trace in traces]
    if all(isinstance(number, int) for number in given) and len(set(given)) > 1:
        return [int(number) for number in given if number is not None]
    return list(range(1, len(traces) + 1))


def _log_axes(ax: Axes, traces: Sequence[Trace]) -> None:
    ax.set_yscale("log")
    ax.set_xlabel("voltage [V]")
    ax.set_ylabel("|current| [A]")
    sizes = np.concatenate([np.abs(np.asarray(trace.i)) for trace in traces])
    sizes = sizes[sizes > 0]
    if sizes.size:
        ax.set_ylim(0.5 * float(np.quantile(sizes, 0.01)), 2 * float(sizes.max()))
    ax.axvline(0, color="0.85", lw=0.6, zorder=0)


def _arrows(ax: Axes, traces: Sequence[Trace]) -> None:
    """Arrows on both branches of the farthest excursion to either side; of equals the middle one."""
    found: dict[int, list[tuple[float, Trace, Any]]] = {}
    for trace in traces[:: max(1, len(traces) // MOST_LOOKED_AT)]:
        for part in excursions(trace):
            reach = float(np.abs(np.asarray(trace.v[part.rise])).max(initial=0.0))
            found.setdefault(part.sign, []).append((reach, trace, part))
    for parts in found.values():
        far = [part for part in parts if part[0] > 0.9 * max(reach for reach, *_ in parts)]
        reach, trace, part = far[len(far) // 2]
        v, i = np.abs(np.asarray(trace.v)), np.abs(np.asarray(trace.i))
        share = _widest(v, i, part, reach)
        for branch in (part.rise, part.back):
            near = int(np.argmin(np.abs(v[branch] - share * reach)))
            arrow(ax, np.asarray(trace.v[branch]), i[branch], near, max(2, v[branch].size // 14))


def _widest(v: Any, i: Any, part: Any, reach: float) -> float:
    """The share of the peak voltage at which the two branches lie farthest apart."""
    shares = np.linspace(0.25, 0.8, 23)
    tiny = max(1e-3 * float(i.max()), 1e-300)
    logs = []
    for branch in (part.rise, part.back):
        order = np.argsort(v[branch], kind="stable")
        logs.append(np.interp(shares * reach, v[branch][order], np.log10(np.maximum(i[branch][order], tiny))))
    return float(shares[int(np.argmax(np.abs(logs[0] - logs[1])))])
