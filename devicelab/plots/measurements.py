"""Figures of pulses, endurance with wear, retention with its extrapolation, read noise and telegraph levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..characterise.findings import Finding
from ..characterise.number import engineering
from ..characterise.retention import TEN_YEARS, Arrhenius, Drift
from ..errors import ParameterError
from .styles import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#1f4e79", "#d95f02", "#1b9e77", "#7570b3", "#666666")
_ROLES = {"low": ("R_on", "#1f4e79"), "high": ("R_off", "#d95f02"), "state": ("readings", "#1f4e79")}
SHOWN_SAMPLES = 2000
FAR_BELOW = 1e-3
"""A floor of physics below this share of the smallest density is named and not drawn."""


def pulses(items: Sequence[Finding], ax: Axes | None = None) -> Axes:
    """Readings after each pulse with the fitted exponential, each ramp from its first pulse."""
    ax = new_axes(_some(items, ax))
    for item, colour in zip(items, _COLOURS * len(items), strict=False):
        ((role, values),) = item.series.y.items()
        fit = item.models["response"]
        name = {"up": "potentiation", "down": "depression"}.get(role, role)
        n = np.arange(1, values.size + 1)
        ax.plot(n, values, ".", ms=_size(n.size), color=colour, alpha=0.5, mew=0)
        ax.plot(n, fit.fitted, color=colour, label=f"{name}, label {fit.label.value:.2f}")
    ax.set_xlabel("pulse")
    unit = items[0].series.unit
    ax.set_ylabel("weight" if unit == "1" else f"{'current' if unit == 'A' else 'conductance'} [{unit}]")
    if unit != "1":
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.legend(frameon=False)
    return ax


def wear(item: Finding, ax: Axes | None = None) -> Axes:
    """Both resistances over cycles on logarithmic axes, the fitted wear, the cycles to failure with their interval."""
    ax = new_axes(ax)
    series, fits = item.series, item.models["endurance"]
    step = max(1, len(series) // SHOWN_SAMPLES)
    failure = item.numbers.get("cycles_to_failure")
    far = failure is not None and not failure.censored and failure.value < 1e3 * series.x.max()
    end = max(float(series.x.max()), failure.value if far and failure is not None else 0.0)
    grid = np.geomspace(series.x.min(), end, 300)
    for role, fit in (("low", fits.on), ("high", fits.off)):
        name, colour = _ROLES[role]
        ax.plot(
            series.x[::step],
            series.y[role][::step],
            ".",
            ms=_size(len(series)),
            mew=0,
            alpha=0.5,
            color=colour,
            label=name,
        )
        if fit is not None:
            seen = grid <= series.x.max()
            ax.plot(grid[seen], fit.resistance(grid[seen]), color="black", lw=1.2)
            ax.plot(grid[~seen], fit.resistance(grid[~seen]), color="black", lw=1.2, ls="--")
    if far and failure is not None:
        ax.axvline(failure.value, color="0.3", lw=0.8)
        if failure.low is not None:
            ax.axvspan(failure.low, failure.high if failure.high is not None else end, color="0.5", alpha=0.15, lw=0)
        ax.set_title(f"window closed after {failure.value:.3g} cycles")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("cycle")
    ax.set_ylabel("resistance [ohm]" if series.unit == "ohm" else f"1 / current [{series.unit}]")
    ax.legend(frameon=False, loc="best", markerscale=2)
    return ax


def windows(items: Sequence[Finding], ax: Axes | None = None) -> Axes:
    """Cumulative distributions of the median R_on and R_off over many devices."""
    ax = new_axes(_some(items, ax))
    for name, colour in (("r_on", "#1f4e79"), ("r_off", "#d95f02")):
        values = np.sort([item[name].value for item in items])
        ax.plot(values, (np.arange(values.size) + 0.7) / (values.size + 0.4), ".", ms=3, color=colour, label=name)
    ax.set_xscale("log")
    ax.set_xlabel(f"median over cycles [{items[0]['r_on'].unit}]")
    ax.set_ylabel(f"share of {len(items)} devices")
    ax.legend(frameon=False)
    return ax


def states(items: Sequence[Finding], ax: Axes | None = None) -> Axes:
    """Cumulative distributions of the resistance over cells, one a reading of them."""
    ax = new_axes(_some(items, ax))
    drawn = [(item, role, y) for item in items for role, y in item.series.y.items()]
    for (item, role, y), colour in zip(drawn, _COLOURS * len(drawn), strict=False):
        values = np.sort(y[y > 0])
        share = 100 * (np.arange(values.size) + 0.7) / (values.size + 0.4)
        name = item.series.name if role == "state" else f"{item.series.name}, {role}"
        ax.plot(values, share, color=colour, label=name)
    ax.set_xscale("log")
    ax.set_xlabel(f"resistance [{items[0].series.unit}]")
    ax.set_ylabel("share of cells [%]")
    ax.legend(frameon=False, fontsize="small")
    return ax


def retention(item: Finding, ax: Axes | None = None, *, until: float = TEN_YEARS) -> Axes:
    """Resistance over time on a logarithmic axis, the fitted drift, its extrapolation and prediction interval."""
    ax = new_axes(ax)
    time = item.series.x - float(item.models["shift"])
    keep = time > 0
    step = max(1, int(keep.sum()) // SHOWN_SAMPLES)
    grid = np.geomspace(time[keep].min(), max(until, time[keep].max()), 200)
    for role, values in item.series.y.items():
        name, colour = _ROLES[role]
        ax.plot(
            time[keep][::step],
            values[keep][::step],
            ".",
            ms=_size(keep.sum()),
            mew=0,
            alpha=0.6,
            color=colour,
            label=name,
        )
        fit: Drift = item.models["drift"][role]
        middle, low, high = fit.predict(grid)
        ax.plot(grid, middle, color="black", lw=1.2, label=f"{fit.law} law")
        ax.fill_between(grid, low, high, color=colour, alpha=0.15, lw=0, label="95 % of a new reading")
    ax.axvline(until, color="0.3", lw=0.8, ls=":")
    ax.set_xscale("log")
    if all(values.min() > 0 for values in item.series.y.values()) and len(item.series.y) > 1:
        ax.set_yscale("log")
    ax.set_xlabel("time [s]")
    ax.set_ylabel(f"resistance [{item.series.unit}]")
    ax.legend(frameon=False, fontsize="small", markerscale=2)
    return ax


def arrhenius(line: Arrhenius, ax: Axes | None = None) -> Axes:
    """Failure times over 1 / T with the fitted line and the activation energy."""
    ax = new_axes(ax)
    ax.plot(1 / line.temperatures, line.times, "o", color=_COLOURS[0], label="failure times")
    service = 1 / np.array([line.temperatures.max(), line.temperatures.min(), max(line.hottest.value, 1.0)])
    grid = np.linspace(service.min(), service.max(), 50)
    ax.plot(grid, np.exp(np.minimum(line.line[0] + line.line[1] * grid, 700)), color="black", lw=1.2,
            label=f"{engineering(line.energy.value, 'eV', 3)}")  # fmt: skip
    ax.axhline(TEN_YEARS, color="0.3", lw=0.8, ls=":")
    ax.annotate("ten years", (grid[0], TEN_YEARS), fontsize="small", va="bottom")
    ax.set_yscale("log")
    ax.set_xlabel("1 / temperature [1/K]")
    ax.set_ylabel("time to failure [s]")
    ax.legend(frameon=False)
    return ax


def spectrum(item: Finding, ax: Axes | None = None) -> Axes:
    """Density of a read current by Welch's method, the fitted law, its corner, and the thermal and shot floors."""
    ax = new_axes(ax)
    fit = item.models["spectrum"]
    f, s = fit.f[1:], fit.s[1:]
    ax.plot(f, s, ".", ms=2.5, mew=0, color=_COLOURS[0], alpha=0.6, label="Welch")
    ax.plot(f, fit.law(f), color="black", lw=1.2, label=f"1/f$^{{{fit.exponent.value:.2f}}}$"
            + ("" if fit.white.censored else " + white"))  # fmt: skip
    if fit.corner is not None:
        ax.axvline(
            fit.corner.value, color="0.3", lw=0.8, ls=":", label=f"corner {engineering(fit.corner.value, 'Hz', 3)}"
        )
    for name, colour in (("thermal", _COLOURS[2]), ("shot", _COLOURS[3])):
        if name in item and item[name].value > FAR_BELOW * s.min():
            ax.axhline(item[name].value, color=colour, lw=1, ls="--", label=name)
        elif name in item:
            ax.plot([], [], " ", label=f"{name} floor {item[name].value:.2g}, far below")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("frequency [Hz]")
    ax.set_ylabel(f"density [{item.series.unit}2/Hz]")
    ax.legend(frameon=False, fontsize="small", markerscale=2)
    return ax


def telegraph(item: Finding, ax: Axes | None = None) -> Axes:
    """The first reads over time, with the likeliest level at each where levels are told."""
    ax = new_axes(ax)
    levels, dt = item.models["levels"], item.models["dt"]
    (signal,) = item.series.y.values()
    count = min(signal.size, levels.path.size, SHOWN_SAMPLES)
    time = dt * np.arange(count)
    ax.plot(time, signal[:count], lw=0.5, color=_COLOURS[0], alpha=0.7)
    heights = np.array([level.value for level in levels.levels])
    if levels.clear:
        ax.step(time, heights[levels.path[:count]], where="mid", color=_COLOURS[1], lw=1)
    ax.set_title(f"{heights.size} levels" if levels.clear else "no telegraph signal told")
    ax.set_xlabel("time [s]")
    ax.set_ylabel(f"{'current' if item.series.unit == 'A' else 'signal'} [{item.series.unit}]")
    return ax


def _size(count: int) -> float:
    """Size of a dot that shows among so many."""
    return 3.0 if count > 1000 else 4.5 if count > 150 else 7.0


def _some(items: Sequence[Finding], ax: Axes | None) -> Axes | None:
    if not items:
        raise ParameterError("nothing to draw", got="no measurements", allowed="at least one")
    return ax
