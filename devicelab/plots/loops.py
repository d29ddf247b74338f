"""Butterfly loops over cycles: coloured by cycle, with the median and the band of the quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..characterise.sweeps import excursions
from ..characterise.variability import curve_band
from ..errors import ParameterError
from ..trace import Trace
from .styles import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = "viridis"
BAND = "#d95f02"


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
        for part in {part.sign: part for trace in traces[:2] for part in excursions(trace)}.values():
            _arrow(ax, traces[0] if _has(traces[0], part.sign) else traces[1], part.sign)
    if bar and len(traces) > 1:
        scale = mpl.cm.ScalarMappable(norm, colours)
        ax.figure.colorbar(scale, ax=ax, label="cycle", pad=0.02)
    return ax


def band(traces: Sequence[Trace], ax: Axes | None = None) -> Axes:
    """Median of |I| over the cycles at equal voltages, the band of the quartiles and that from 5 to 95 %."""
    ax = new_axes(ax)
    found = curve_band(traces)
    for k, name in enumerate(found.branches):
        v, q = found.v[k], found.quantiles[k]
        colour = "#1f4e79" if name.endswith("out") else BAND
        ax.fill_between(v, q[0], q[4], color=colour, alpha=0.15, lw=0)
        ax.fill_between(v, q[1], q[3], color=colour, alpha=0.35, lw=0)
        label = name.split()[1] if name.split()[1] not in ax.get_legend_handles_labels()[1] else None
        ax.plot(v, q[2], color=colour, label=label)
    _log_axes(ax, traces)
    handles, labels = ax.get_legend_handles_labels()
    words = {"out": "median, way out", "back": "median, way back"}
    ax.legend(handles, [words[label] for label in labels], frameon=False)
    ax.set_title(f"{found.n} cycles; bands: 25-75 % and 5-95 %")
    return ax


def _numbers(traces: Sequence[Trace]) -> list[int]:
    given = [trace.meta.get("cycle") for trace in traces]
    if all(isinstance(number, int) for number in given) and len(set(given)) == len(given):
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


def _has(trace: Trace, sign: int) -> bool:
    return any(part.sign == sign for part in excursions(trace))


def _arrow(ax: Axes, trace: Trace, sign: int) -> None:
    """An arrow on each branch of one excursion."""
    part: Any = next(part for part in excursions(trace) if part.sign == sign)
    for branch in (part.rise, part.back):
        v, i = np.asarray(trace.v[branch]), np.abs(np.asarray(trace.i[branch]))
        if v.size < 12:
            continue
        k, step = v.size // 2, max(2, v.size // 12)
        if i[k - step] > 0 and i[k + step] > 0:
            ax.annotate(
                "",
                (v[k + step], i[k + step]),
                (v[k - step], i[k - step]),
                arrowprops={"arrowstyle": "-|>", "color": "black", "lw": 1.0},
                zorder=5,
            )
