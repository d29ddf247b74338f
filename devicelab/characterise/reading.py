"""What happens while a state is read: retention, noise spectrum, telegraph levels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import welch
from scipy.stats import linregress, t

from ..errors import ParameterError
from .number import Number

Array = NDArray[np.float64]
TEN_YEARS = 10 * 365.25 * 86400.0


def retention(time: Any, r: Any, *, at: float = TEN_YEARS) -> tuple[Number, Number]:
    """Drift exponent and resistance extrapolated to a time, R = R_1 t^nu.

    Straight line of log R over log t; the interval is that of a new reading (prediction), which widens with the
    distance of the extrapolation. It covers scatter, and not that the law itself may end.

    Args:
        time: Since programming [s], > 0, shape [n], n >= 5.
        r: Resistance [ohm], > 0, shape [n].
        at: Time of the extrapolation [s]; ten years unless given.

    Returns:
        Exponent nu [1] and resistance [ohm] at the time.
    """
    x, y = np.asarray(time, dtype=float), np.asarray(r, dtype=float)
    if x.size != y.size or x.size < 5 or not (np.all(x > 0) and np.all(y > 0)) or np.ptp(x) == 0:
        raise ParameterError("no retention", got=f"{x.size} times, {y.size} resistances", allowed="5 pairs, all > 0")
    log_t, log_r = np.log10(x), np.log10(y)
    fit = linregress(log_t, log_r)
    n = x.size
    q = float(t.ppf(0.975, n - 2))
    residual = float(np.sqrt(np.sum((log_r - fit.intercept - fit.slope * log_t) ** 2) / (n - 2)))
    distance = np.log10(at) - log_t.mean()
    half = q * residual * float(np.sqrt(1 + 1 / n + distance**2 / np.sum((log_t - log_t.mean()) ** 2)))
    middle = float(fit.intercept + fit.slope * np.log10(at))
    slope, error = float(fit.slope), q * float(fit.stderr)
    beyond = f"{at / x.max():.3g} times the longest measured time"
    words = "straight line of log R over log t"
    return (
        Number(slope, "1", words, slope - error, slope + error, "95 % of the regression"),
        Number(
            10**middle, "ohm", f"{words}, {beyond}", 10 ** (middle - half), 10 ** (middle + half), "95 %, prediction"
        ),
    )


def noise_spectrum(i: Any, dt: float) -> tuple[Array, Array, Number]:
    """Spectral density of a read current, and the exponent beta of S ~ 1 / f^beta.

    Welch's method in eight half-overlapping Hann windows; the exponent by regression of log S over log f between the
    second frequency and half of the Nyquist frequency.

    Args:
        i: Current [A] at equal times, shape [n], n >= 64.
        dt: Time between samples [s].

    Returns:
        Frequency [Hz], one-sided density [A2/Hz], exponent [1].
    """
    x = np.asarray(i, dtype=float).ravel()
    if x.size < 64 or not dt > 0:
        raise ParameterError("too few samples for a spectrum", got=(x.size, dt), allowed="64 samples, dt > 0")
    f, s = welch(x, 1 / dt, nperseg=max(32, 2 * (x.size // 9)), detrend="constant")
    used = (f >= f[2]) & (f <= 0.25 / dt) & (s > 0)
    bins = np.flatnonzero(used)
    edges = np.geomspace(f[bins[0]], f[bins[-1]] * 1.0001, 13)
    group = np.digitize(f[bins], edges)
    points = [
        (np.mean(np.log10(f[bins][group == k])), np.mean(np.log10(s[bins][group == k]))) for k in np.unique(group)
    ]
    fit = linregress(*np.array(points).T)
    beta = -float(fit.slope)
    half = float(t.ppf(0.975, len(points) - 2) * fit.stderr)
    words = "regression of log S over log f in equal steps of log f, Welch"
    return f, s, Number(beta, "1", words, beta - half, beta + half, "95 % of the regression")


@dataclass(frozen=True)
class Telegraph:
    """A random telegraph signal of two levels.

    Args:
        low: Lower level, unit of the signal.
        high: Upper level.
        noise: Standard deviation about the levels.
        time_low: Mean time in the lower level [s].
        time_high: Mean time in the upper level [s].
        switches: Number of changes seen.
        clear: Whether the levels lie more than four standard deviations apart; if not, believe nothing above.
    """

    low: float
    high: float
    noise: float
    time_low: Number
    time_high: Number
    switches: int
    clear: bool


def telegraph_levels(i: Any, dt: float) -> Telegraph:
    """Two levels of a read current by two-means, and the mean times in each.

    Interval of a mean time: exponential stays, gamma quantiles of their number. Times shorter than a few samples are
    missed, so the mean times are upper bounds when they come near `dt`.

    Args:
        i: Current [A] at equal times, shape [n], n >= 20.
        dt: Time between samples [s].
    """
    from scipy.stats import gamma

    x = np.asarray(i, dtype=float).ravel()
    if x.size < 20 or np.ptp(x) == 0 or not dt > 0:
        raise ParameterError("no telegraph signal", got=(x.size, dt), allowed="20 samples that differ, dt > 0")
    low, high = float(np.quantile(x, 0.05)), float(np.quantile(x, 0.95))
    up = x > 0.5 * (low + high)
    for _ in range(50):
        if up.all() or not up.any():
            break
        low, high = float(x[~up].mean()), float(x[up].mean())
        new = x > 0.5 * (low + high)
        if np.array_equal(new, up):
            break
        up = new
    noise = float(np.sqrt(np.mean((x - np.where(up, high, low)) ** 2)))
    switches = int(np.count_nonzero(np.diff(up.astype(int))))
    times = []
    for state in (False, True):
        left = max(1, int(np.count_nonzero((up[:-1] == state) & (up[1:] != state))))
        spent = float(np.count_nonzero(up == state)) * dt
        short, long = (spent / float(gamma.ppf(q, left)) for q in (0.975, 0.025))
        words = f"time in the level over {left} exits"
        times.append(Number(spent / left, "s", words, short, long, "95 %, exponential stays"))
    return Telegraph(low, high, noise, times[0], times[1], switches, high - low > 4 * noise)
