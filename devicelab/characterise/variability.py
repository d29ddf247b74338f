"""How cycles and devices differ: spread with intervals, memory over cycles, D2D against C2C, whole curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import ParameterError
from ..trace import Trace
from .number import Number
from .sweeps import excursions

Array = NDArray[np.float64]
DRAWS = 2000


@dataclass(frozen=True)
class Spread:
    """Centre and width of a number over cycles, each with a 95 % bootstrap interval.

    Args:
        n: Number of values.
        mean: Arithmetic mean.
        median: Median.
        sd: Standard deviation (n - 1).
        cv: Coefficient of variation sd / |mean|.
        quartiles: 25 % and 75 % quantiles, unit of the values.
    """

    n: int
    mean: Number
    median: Number
    sd: Number
    cv: Number
    quartiles: tuple[float, float]


def spread(x: Any, unit: str = "1", *, seed: int = 0) -> Spread:
    """Centre and width of numbers, shape [n], n >= 3; intervals by resampling, percentiles of 2000 draws."""
    values = np.asarray(x, dtype=float).ravel()
    if values.size < 3 or not np.isfinite(values).all():
        raise ParameterError("too few numbers", got=values.size, allowed="at least 3 finite numbers")
    rng = np.random.default_rng(seed)
    again = values[rng.integers(0, values.size, (DRAWS, values.size))]
    mean, sd = again.mean(-1), again.std(-1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        boot = {"mean": mean, "median": np.median(again, axis=-1), "sd": sd, "cv": sd / np.abs(mean)}
        own = {
            "mean": float(values.mean()),
            "median": float(np.median(values)),
            "sd": float(values.std(ddof=1)),
            "cv": float(values.std(ddof=1) / abs(values.mean())),
        }
    words = {"mean": "arithmetic mean", "median": "median", "sd": "standard deviation, n - 1", "cv": "sd / |mean|"}
    made = {}
    for name, value in own.items():
        low, high = (float(end) for end in np.nanpercentile(boot[name], (2.5, 97.5)))
        method = f"{words[name]} of {values.size}"
        made[name] = Number(value, "1" if name == "cv" else unit, method, low, high, "95 %, bootstrap")
    low, high = (float(q) for q in np.percentile(values, (25, 75)))
    return Spread(values.size, made["mean"], made["median"], made["sd"], made["cv"], (low, high))


@dataclass(frozen=True, eq=False)
class Autocorrelation:
    """Whether a number remembers earlier cycles.

    Args:
        lags: Lags in cycles, 1, 2, ...
        values: Autocorrelation at the lags.
        limit: |value| below which 95 % of white sequences lie, 1.96 / sqrt(n).
        p_value: Of the Ljung-Box test that all are zero.
    """

    lags: NDArray[np.int_]
    values: Array
    limit: float
    p_value: float

    @property
    def correlated(self) -> bool:
        """Whether independence is rejected at 5 %."""
        return self.p_value < 0.05


def autocorrelation(x: Any, lags: int | None = None) -> Autocorrelation:
    """Autocorrelation over cycles and the Ljung-Box test of independence (Ljung and Box, Biometrika 65, 297, 1978).

    Args:
        x: Numbers in the order of the cycles, shape [n], n >= 8.
        lags: Number of lags; min(10, n // 4) unless given.
    """
    values = np.asarray(x, dtype=float).ravel()
    n = values.size
    if n < 8 or np.ptp(values) == 0:
        raise ParameterError("too few cycles for an autocorrelation", got=n, allowed="at least 8 that differ")
    count = min(10, n // 4) if lags is None else lags
    centred = values - values.mean()
    rho = np.array([np.sum(centred[k:] * centred[:-k]) for k in range(1, count + 1)]) / np.sum(centred**2)
    q = n * (n + 2) * np.sum(rho**2 / (n - np.arange(1, count + 1)))
    return Autocorrelation(np.arange(1, count + 1), rho, 1.96 / np.sqrt(n), float(stats.chi2.sf(q, count)))


def correlation_time(x: Any) -> float:
    """Samples that count as one independent sample: integrated autocorrelation time, at least 1.

    1 + 2 sum of the autocorrelation up to the first lag beyond five times the sum so far, which keeps the noise of the
    far lags out.

    Args:
        x: Residuals in order, shape [n].

    Source: Sokal, Monte Carlo Methods in Statistical Mechanics (1997), section 3, doi:10.1007/978-1-4899-0319-8_6.
    """
    values = np.asarray(x, dtype=float).ravel()
    centred = values - values.mean() if values.size else values
    if values.size < 8 or not np.any(centred):
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * values.size)
    rho = np.fft.irfft(np.abs(spectrum) ** 2)[: values.size // 2]
    total = 2 * np.cumsum(rho / rho[0]) - 1
    inside = np.flatnonzero(np.arange(total.size) >= 5 * total)
    return float(max(1.0, total[int(inside[0])] if inside.size else total[-1]))


@dataclass(frozen=True)
class Components:
    """Variance of a number, parted between devices and cycles.

    Args:
        d2d: Standard deviation between devices, in the unit of the number; 0 where devices differ no more than cycles.
        c2c: Standard deviation between cycles of one device.
        share: Share of the variance that is between devices (intraclass correlation).
        p_value: Of the F test that devices do not differ.
    """

    d2d: Number
    c2c: Number
    share: Number
    p_value: float


def variance_components(groups: Mapping[Any, Sequence[float]], unit: str = "1", *, seed: int = 0) -> Components:
    """D2D against C2C: one-way random effects, analysis of variance with unequal group sizes.

    Intervals by resampling whole devices: the number of devices, not of cycles, limits what is known of D2D.

    Args:
        groups: Device to its values over cycles; at least 2 devices with 2 cycles.
        unit: Of the values.
        seed: Of the bootstrap.

    Source: Searle, Casella, McCulloch, Variance Components (1992), section 3.6.
    """
    parts = [np.asarray(values, dtype=float) for values in groups.values() if len(values) >= 2]
    if len(parts) < 2:
        raise ParameterError("variance components need devices", got=len(parts), allowed="2 devices with 2 cycles each")
    table = np.array([(part.size, part.mean(), np.sum((part - part.mean()) ** 2)) for part in parts])
    own = _anova(table[None])[0]
    rng = np.random.default_rng(seed)
    draws = _anova(table[rng.integers(0, len(parts), (DRAWS // 4, len(parts)))])
    ends = np.percentile(draws, (2.5, 97.5), axis=0)
    units, words = (unit, unit, "1"), ("between devices", "between cycles of a device", "between-device share")
    d2d, c2c, share = (
        Number(float(own[k]), units[k], f"{words[k]}, analysis of variance of {len(parts)} devices",
               float(ends[0, k]), float(ends[1, k]), "95 %, bootstrap over devices")
        for k in range(3)
    )  # fmt: skip
    return Components(d2d, c2c, share, float(stats.f_oneway(*parts).pvalue))


def _anova(table: Array) -> Array:
    """Standard deviation between and within groups and share between, [b, 3], from [b, groups, (n, mean, squares)]."""
    n, mean, square = np.moveaxis(table, -1, 0)
    total, k = n.sum(-1), n.shape[-1]
    within = square.sum(-1) / (total - k)
    middle = np.sum(n * mean, axis=-1) / total
    between = np.sum(n * (mean - middle[:, None]) ** 2, axis=-1) / (k - 1)
    balanced = (total - np.sum(n**2, axis=-1) / total) / (k - 1)
    variance = np.maximum(0.0, (between - within) / balanced)
    whole = variance + within
    share = np.divide(variance, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.stack([np.sqrt(variance), np.sqrt(within), share], axis=-1)


@dataclass(frozen=True, eq=False)
class CurveBand:
    """Spread of whole curves over cycles, on one voltage grid for each branch.

    Args:
        v: Voltage [V], shape [branches, points], the polarity kept.
        quantiles: |Current| [A], shape [branches, 5, points]: 5, 25, 50, 75, 95 %.
        decades: Standard deviation of log10 |I| over the cycles, shape [branches, points].
        branches: "positive out", "positive back", ...
        area: Mean over all branches of the area between the 25 and 75 % curves, decades.
        n: Number of curves.
        cv: Coefficient of variation of the whole curve: integral of the standard deviation of I over V, all branches,
            over that of the mean |I|.
        spread: Mean over all branches and voltages of `decades`.
    """

    v: Array
    quantiles: Array
    decades: Array
    branches: tuple[str, ...]
    area: float
    n: int
    cv: Number
    spread: Number


def curve_band(traces: Sequence[Trace], points: int = 101) -> CurveBand:
    """Whole-curve variability: quantiles of |I| at equal voltages, branch by branch.

    Every branch is taken to a common grid from 2 % to the smallest peak of its polarity, in log |I|. The area between
    the quartile curves is one number for the variability of whole curves, not of one point of them; `cv` and `spread`
    are others, with bootstrap intervals over cycles. The question is that of Acal et al. (2023,
    doi:10.1021/acsami.2c22617); these are not their coefficient (2DVC).

    Raises:
        ParameterError: If fewer than 3 traces have an excursion of one polarity.
    """
    kept: dict[str, list[tuple[Array, Array]]] = {}
    for trace in traces:
        for part in excursions(trace):
            side = "positive" if part.sign > 0 else "negative"
            for name, branch in (("out", part.rise), ("back", part.back)):
                v, i = part.sign * np.asarray(trace.v[branch]), np.abs(np.asarray(trace.i[branch]))
                if v.size >= 4:
                    order = np.argsort(v, kind="stable")
                    kept.setdefault(f"{side} {name}", []).append((v[order], i[order]))
    kept = {name: curves for name, curves in kept.items() if len(curves) >= 3}
    if not kept:
        raise ParameterError("too few curves", got=len(traces), allowed="at least 3 traces with one polarity each")
    grids, quantiles, decades, tables = [], [], [], []
    for name, curves in kept.items():
        top = float(np.min([v[-1] for v, _ in curves]))
        grid = np.linspace(0.02 * top, top, points)
        rows = np.array([np.interp(grid, v, i) for v, i in curves])
        tables.append((rows, top))
        rows = np.where(rows > 0, rows, np.nan)
        grids.append(grid if name.startswith("positive") else -grid)
        quantiles.append(np.nanpercentile(rows, (5, 25, 50, 75, 95), axis=0))
        decades.append(np.nanstd(np.log10(rows), axis=0, ddof=1))
    q = np.array(quantiles)
    area = float(np.nanmean(np.log10(q[:, 3] / q[:, 1])))
    most = max(len(curves) for curves in kept.values())
    cv, wide = _whole(tables)
    return CurveBand(np.array(grids), q, np.array(decades), tuple(kept), area, most, cv, wide)


def _whole(tables: Sequence[tuple[Array, float]], draws: int = 200) -> tuple[Number, Number]:
    """Coefficient of variation and mean spread in decades of whole curves, from |I| [n, points] and voltage span."""
    rng = np.random.default_rng(0)

    def both(rows: Sequence[Array]) -> tuple[float, float]:
        wide = sum(top * float(np.mean(r.std(0, ddof=1))) for r, (_, top) in zip(rows, tables, strict=True))
        middle = sum(top * float(np.mean(r.mean(0))) for r, (_, top) in zip(rows, tables, strict=True))
        logs = [np.log10(np.where(r > 0, r, np.nan)) for r in rows]
        return wide / middle, float(np.nanmean([np.nanmean(np.nanstd(log, axis=0, ddof=1)) for log in logs]))

    own = both([rows for rows, _ in tables])
    again = np.array([both([rows[rng.integers(0, len(rows), len(rows))] for rows, _ in tables]) for _ in range(draws)])
    low, high = np.percentile(again, (2.5, 97.5), axis=0)
    words = ("integral of sd of I over V, over that of mean |I|", "mean standard deviation of log10 |I|, decades")
    first, second = (
        Number(own[k], "1", f"whole curves: {words[k]}", float(low[k]), float(high[k]), "95 %, bootstrap over cycles")
        for k in range(2)
    )
    return first, second
