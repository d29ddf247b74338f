"""How long a state stays: drift over the logarithm of time, extrapolation, and Arrhenius over temperatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.constants import elementary_charge, k
from scipy.stats import linregress, t

from ..errors import ParameterError
from .number import Number
from .variability import correlation_time

Array = NDArray[np.float64]
TEN_YEARS = 10 * 365.25 * 86400.0
MIN_READS = 5


@dataclass(frozen=True, eq=False)
class Drift:
    """A straight line through readings of a state over the logarithm of time.

    Args:
        law: "power" (log R over log t, R = R_1 t^nu) or "log" (R over log t).
        slope: Exponent nu [1], or change a decade [ohm].
        at: Resistance extrapolated to the time asked for [ohm], with the interval of a new reading.
        aicc: Of the readings themselves, so that both laws compare.
        line: Intercept and slope in the coordinates of the law.
        spread: Terms of the prediction interval in those coordinates: t quantile, residual sd, n, mean and sum of
            squares of log10 t, effective n.
    """

    law: str
    slope: Number
    at: Number
    aicc: float
    line: tuple[float, float]
    spread: tuple[float, float, float, float, float]

    def predict(self, time: Any) -> tuple[Array, Array, Array]:
        """Resistance [ohm] at times [s], with the ends of the 95 % interval of a new reading, each shape of `time`."""
        x = np.log10(np.asarray(time, dtype=float))
        q, residual, n, mean, square = self.spread
        middle = self.line[0] + self.line[1] * x
        half = q * residual * np.sqrt(1 + 1 / n + (x - mean) ** 2 / square)
        parts = (middle, middle - half, middle + half)
        if self.law == "power":
            return (10 ** parts[0], 10 ** parts[1], 10 ** parts[2])
        return parts


def drift(time: Any, r: Any, *, at: float = TEN_YEARS, law: str = "power") -> Drift:
    """One law of drift; the interval is that of a new reading (prediction), which widens with the extrapolation.

    It covers scatter, correlated residuals included (they count as fewer), and not that the law itself may end.

    Args:
        time: Since programming [s], > 0, shape [n], n >= 5.
        r: Resistance [ohm], > 0, shape [n].
        at: Time of the extrapolation [s]; ten years unless given.
        law: "power" or "log".

    Raises:
        ParameterError: If there are fewer than 5 pairs, a time, resistance or `at` is not positive, or times are equal.
    """
    x, y = np.asarray(time, dtype=float).ravel(), np.asarray(r, dtype=float).ravel()
    good = x.size == y.size and x.size >= MIN_READS and bool(np.all(x > 0) and np.all(y > 0))
    if not good or not np.isfinite(x).all() or not np.isfinite(y).all() or np.ptp(x) == 0:
        raise ParameterError("no retention", got=f"{x.size} times, {y.size} resistances", allowed="5 pairs, all > 0")
    if not 0 < at < np.inf:
        raise ParameterError("cannot extrapolate to that time", got=at, allowed="> 0 s, finite")
    order = np.argsort(x, kind="stable")
    log_t, values = np.log10(x[order]), (np.log10(y) if law == "power" else y)[order]
    fit = linregress(log_t, values)
    residuals = values - fit.intercept - fit.slope * log_t
    memory = correlation_time(residuals)
    n = x.size / memory
    freedom = max(1.0, n - 2)
    q = float(t.ppf(0.975, freedom))
    rss = float(residuals @ residuals)
    residual = np.sqrt(rss / (x.size - 2))
    mean, square = float(log_t.mean()), float(np.sum((log_t - log_t.mean()) ** 2)) / memory
    jacobian = float(np.sum(np.log(y * np.log(10)))) if law == "power" else 0.0
    aicc = x.size * np.log(max(rss, 1e-300) / x.size) + 2 * jacobian + 6 + 24 / max(1, x.size - 4)
    counted = "" if memory < 1.5 else f", {memory:.2g} readings count as one"
    words = "straight line of log R over log t" if law == "power" else "straight line of R over log t"
    half = q * residual / np.sqrt(square)
    slope = Number(float(fit.slope), "1" if law == "power" else "ohm", words, float(fit.slope) - half,
                   float(fit.slope) + half, f"95 % of the regression{counted}")  # fmt: skip
    line = (float(fit.intercept), float(fit.slope))
    made = Drift(law, slope, slope, float(aicc), line, (q, float(residual), n, mean, square))
    value, low, high = (float(end) for end in made.predict(at))
    beyond = f"{at / x.max():.3g} times the longest measured time"
    number = Number(value, "ohm", f"{words}, {beyond}", low, high, f"95 %, prediction{counted}")
    return Drift(law, slope, number, float(aicc), line, made.spread)


def retention(time: Any, r: Any, *, at: float = TEN_YEARS) -> tuple[Number, Number]:
    """Drift exponent nu [1] and resistance [ohm] extrapolated to a time by R = R_1 t^nu; see `drift`."""
    found = drift(time, r, at=at)
    return found.slope, found.at


@dataclass(frozen=True)
class Arrhenius:
    """Failure times over temperatures, ln t_f = ln t_0 + E_a / (k T).

    Args:
        energy: Activation energy [eV].
        life: Failure time [s] at the temperature asked for, interval of a new device.
        hottest: Temperature [K] at which the fitted failure time is ten years.
        temperatures: Measured [K].
        times: Failure times [s] at them.
        line: ln t_0 and E_a / k [K].
    """

    energy: Number
    life: Number
    hottest: Number
    temperatures: Array
    times: Array
    line: tuple[float, float]


def arrhenius(failures: Mapping[float, Any], *, at: float = 358.15) -> Arrhenius:
    """Activation energy and failure time at a temperature, from failure times at several.

    Args:
        failures: Temperature [K] to failure time [s] or several of them.
        at: Temperature of the extrapolation [K]; 85 degrees Celsius unless given.

    Raises:
        ParameterError: If there are fewer than 3 failure times or 2 temperatures, or one is not positive.
    """
    pairs = [(kelvin, float(time)) for kelvin, times in failures.items() for time in np.atleast_1d(times)]
    kelvins, times = np.array(pairs, dtype=float).reshape(-1, 2).T
    if len(pairs) < 3 or np.ptp(kelvins) == 0 or not (np.all(kelvins > 0) and np.all(times > 0) and at > 0):
        raise ParameterError(
            "no Arrhenius line", got=f"{len(pairs)} failure times", allowed="3, at 2 temperatures [K] or more, all > 0"
        )
    x, y = 1 / kelvins, np.log(times)
    fit = linregress(x, y)
    n = x.size
    q = float(t.ppf(0.975, n - 2))
    residual = float(np.sqrt(np.sum((y - fit.intercept - fit.slope * x) ** 2) / (n - 2)))
    ev = k / elementary_charge
    slope, half = float(fit.slope), q * float(fit.stderr)
    middle = float(fit.intercept + slope / at)
    wide = q * residual * float(np.sqrt(1 + 1 / n + (1 / at - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)))
    words = f"straight line of ln t_f over 1 / T, {n} failures at {np.unique(kelvins).size} temperatures"
    energy = Number(slope * ev, "eV", words, (slope - half) * ev, (slope + half) * ev, "95 % of the regression")
    low, value, high = (float(np.exp(min(700.0, middle + side * wide))) for side in (-1, 0, 1))
    life = Number(value, "s", f"{words}, at {at:g} K", low, high, "95 %, prediction")
    hottest = slope / (np.log(TEN_YEARS) - float(fit.intercept))
    return Arrhenius(
        energy, life, Number(float(hottest), "K", f"{words}, where it is ten years"), kelvins, times,
        (float(fit.intercept), slope),
    )  # fmt: skip
