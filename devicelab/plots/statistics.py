"""Statistics over cycles and devices: distribution papers, boxes, trends, correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ..characterise.distributions import MIN_SAMPLES, DistributionFit, fit_distribution, rank_distributions
from ..characterise.number import engineering
from ..errors import ParameterError, unknown_name
from .styles import new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPERS = ("normal", "lognormal", "weibull")
_TICKS = np.array([0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])
MOST_WRITTEN = 10
"""Numbers a side up to which a correlation map says its values."""
_COLOURS = ("#1f4e79", "#d95f02", "#1b9e77", "#7570b3", "#666666")


def cdf(samples: Mapping[str, Any], ax: Axes | None = None, *, paper: str | None = None, label: str = "value") -> Axes:
    """Cumulative distributions on the paper where the fitted distribution is a straight line.

    Normal and lognormal paper: probit of the probability over x or log x; Weibull paper: ln(-ln(1 - F)) over log x.
    Plotting positions (k - 0.3) / (n + 0.4) (Benard).

    Args:
        samples: Name to numbers, [n].
        ax: Axes, new ones unless given.
        paper: "normal", "lognormal" or "weibull"; that of the best fit of the first sample unless given.
        label: Of the x axis, with its unit.
    """
    ax = new_axes(ax)
    first = np.asarray(next(iter(samples.values())), dtype=float)
    if paper is None:
        paper = next(fit.family for fit in rank_distributions(first, draws=50) if fit.family in PAPERS)
    if paper not in PAPERS:
        raise unknown_name("paper", paper, list(PAPERS))
    negative = bool(np.all(first < 0)) and paper != "normal"
    for (name, numbers), colour in zip(samples.items(), _COLOURS * len(samples), strict=False):
        x = np.sort(np.abs(np.asarray(numbers, dtype=float)) if negative else np.asarray(numbers, dtype=float))
        position = (np.arange(1, x.size + 1) - 0.3) / (x.size + 0.4)
        ax.plot(x, _scale(position, paper), "o", ms=3, color=colour, label=name)
        if x.size >= MIN_SAMPLES:
            _line(ax, x, fit_distribution(x, paper, draws=200), paper, colour)
    ticks = _scale(_TICKS, paper)
    ax.set_yticks(ticks, [f"{100 * tick:g}" for tick in _TICKS])
    ax.set_ylim(_scale(np.array([0.004, 0.996]), paper))
    ax.set_ylabel("cumulative probability [%]")
    ax.set_xlabel(f"|{label.partition(' [')[0]}| [{label.partition(' [')[2]}" if negative and "[" in label else label)
    if paper != "normal":
        _log_ticks(ax, _decades(samples))
    ax.set_title(f"{paper} paper")
    ax.legend(frameon=False)
    ax.grid(color="0.9", lw=0.5)
    return ax


def _scale(probability: Any, paper: str) -> Any:
    return np.log(-np.log1p(-probability)) if paper == "weibull" else ndtri(probability)


def _log_ticks(ax: Axes, decades: float) -> None:
    """A logarithmic x axis with plain numbers where it spans less than one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    ax.set_xscale("log")
    if decades < 1.3:
        every = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0)
        subs = every if decades < 0.5 else (1.0, 2.0, 3.0, 5.0, 7.0) if decades < 0.9 else (1.0, 2.0, 5.0)
        ax.xaxis.set_major_locator(LogLocator(subs=subs))
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: engineering(value, "", 3) if value < 1e3 else
                                                   engineering(value, "V", 3)[:-1].replace(" ", "")))  # fmt: skip
    ax.xaxis.set_minor_formatter(NullFormatter())


def _decades(samples: Mapping[str, Any]) -> float:
    sizes = np.abs(np.concatenate([np.asarray(numbers, dtype=float) for numbers in samples.values()]))
    return float(np.log10(sizes.max() / sizes.min())) if sizes.min() > 0 else 0.0


def _line(ax: Axes, x: NDArray[np.float64], fit: DistributionFit, paper: str, colour: str) -> None:
    wide = 0.1 * np.ptp(x)
    grid = np.linspace(x[0] - wide, x[-1] + wide, 200)
    if paper != "normal":
        grid = np.geomspace(0.85 * x[0], 1.15 * x[-1], 200)
    probability = np.clip(fit.cdf(grid), 1e-6, 1 - 1e-6)
    ax.plot(grid, _scale(probability, paper), color=colour, lw=1, label=f"fit, Anderson-Darling p = {fit.p_value:.2g}")


def box(samples: Mapping[str, Any], ax: Axes | None = None, *, label: str = "value", log: bool = False) -> Axes:
    """Box of the quartiles with every number beside it, whiskers to 1.5 quartile ranges."""
    ax = new_axes(ax)
    shared = {name.partition(".")[0] for name in samples}
    short = [name.partition(".")[2] if len(shared) == 1 and "." in name else name for name in samples]
    columns = [np.asarray(numbers, dtype=float) for numbers in samples.values()]
    ax.boxplot(
        columns,
        tick_labels=[name.replace("_", " ") for name in short],
        showfliers=False,
        medianprops={"color": "#d95f02"},
        widths=0.5,
    )
    rng = np.random.default_rng(0)
    for k, column in enumerate(columns):
        ax.plot(k + 1 + rng.uniform(-0.12, 0.12, column.size), column, ".", ms=3, color="#1f4e79", alpha=0.6)
    if log:
        ax.set_yscale("log")
    ax.set_ylabel(label)
    if len(columns) > 3:
        ax.set_xticks(ax.get_xticks(), [label.get_text() for label in ax.get_xticklabels()], rotation=25, ha="right")
    return ax


def endurance(samples: Mapping[str, Any], ax: Axes | None = None, *, label: str = "resistance [ohm]") -> Axes:
    """Numbers over the cycle, on a logarithmic axis where all are positive."""
    ax = new_axes(ax)
    for (name, numbers), colour in zip(samples.items(), _COLOURS * len(samples), strict=False):
        values = np.asarray(numbers, dtype=float)
        ax.plot(np.arange(1, values.size + 1), values, "o", ms=2.5, color=colour, label=name)
    if all(np.nanmin(np.asarray(numbers, dtype=float)) > 0 for numbers in samples.values()):
        ax.set_yscale("log")
    ax.set_xlabel("cycle")
    ax.set_ylabel(label)
    ax.legend(frameon=False)
    return ax


def correlation(columns: Mapping[str, Any], ax: Axes | None = None) -> Axes:
    """Spearman's rank correlation between numbers of the same cycles, as a map; only pairs present in 8 cycles."""
    from scipy.stats import spearmanr

    if len(columns) < 2:
        raise ParameterError("a correlation map needs numbers", got=len(columns), allowed="at least 2")
    ax = new_axes(ax)
    names = list(columns)
    table = np.full((len(names), len(names)), np.nan)
    for a, first in enumerate(columns.values()):
        for b, second in enumerate(columns.values()):
            x, y = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
            both = np.isfinite(x) & np.isfinite(y)
            if both.sum() >= MIN_SAMPLES and np.ptp(x[both]) > 0 and np.ptp(y[both]) > 0:
                table[a, b] = float(spearmanr(x[both], y[both]).statistic)
    image = ax.imshow(table, vmin=-1, vmax=1, cmap="RdBu_r")
    if len(names) <= MOST_WRITTEN:
        for (row, column), value in np.ndenumerate(table):
            if row != column and np.isfinite(value):
                shade = "white" if abs(value) > 0.6 else "black"
                ax.text(
                    column,
                    row,
                    f"{value:.1f}".replace("-", "\u2212"),
                    ha="center",
                    va="center",
                    color=shade,
                    size="x-small",
                )
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.figure.colorbar(image, ax=ax, label="Spearman correlation")
    return ax
