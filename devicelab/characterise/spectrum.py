"""Spectrum of a read current: 1/f exponent, white floor, corner, and the floors of physics beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.constants import elementary_charge, k
from scipy.optimize import minimize
from scipy.signal import periodogram, welch
from scipy.stats import chi2

from ..errors import ParameterError
from .number import Number

Array = NDArray[np.float64]
MIN_SAMPLES = 64
HANN = 35 / 18
"""Variance of Whittle estimates from a Hann-tapered periodogram over that without a taper (Dahlhaus 1988)."""
EXPONENTS = (-0.5, 4.0)


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Density of a read current and the law S = S_1 / f^beta + white through it.

    Args:
        f: Frequency [Hz].
        s: One-sided density by Welch's method [A2/Hz].
        exponent: beta [1].
        at_1hz: S_1, the 1/f part at 1 Hz [A2/Hz].
        white: White floor [A2/Hz]; an upper bound (censored) where none is told from the data.
        corner: Frequency where both parts are equal [Hz], None without a floor.
    """

    f: Array
    s: Array
    exponent: Number
    at_1hz: Number
    white: Number
    corner: Number | None

    def law(self, f: Any) -> Array:
        """Fitted density [A2/Hz] at frequencies [Hz]."""
        frequency = np.asarray(f, dtype=float)
        floor = 0.0 if self.white.censored else self.white.value
        return np.asarray(self.at_1hz.value * frequency**-self.exponent.value + floor)


def read_spectrum(i: Any, dt: float) -> Spectrum:
    """Welch's density for the eye, and a fit of S_1 / f^beta + white to the periodogram.

    The fit maximises Whittle's likelihood of a Hann-tapered periodogram between the third frequency and the last but
    one; intervals from its Fisher information, widened for the taper. The white floor is kept where it gains more
    than 3.84 in twice the log likelihood, and is otherwise an upper bound.

    Args:
        i: Current [A] (or any signal) at equal times, shape [n], n >= 64.
        dt: Time between samples [s].

    Raises:
        ParameterError: If there are fewer than 64 finite samples, they are constant, or dt is not positive.

    Source: Whittle, Ark. Mat. 2, 423 (1953); Dahlhaus, Ann. Statist. 16, 808 (1988), doi:10.1214/aos/1176350836.
    """
    x = np.asarray(i, dtype=float).ravel()
    if x.size < MIN_SAMPLES or not 0 < dt < np.inf or not np.isfinite(x).all():
        raise ParameterError("too few samples for a spectrum", got=(x.size, dt), allowed="64 finite samples, dt > 0")
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        raise ParameterError("a constant current has no spectrum", got=f"{x.size} equal samples", allowed="noise")
    f, s = welch(x, float(1 / dt), nperseg=max(32, 2 * (x.size // 9)), detrend="constant")
    grid, raw = periodogram(x, float(1 / dt), window="hann", detrend="constant")
    grid, raw = grid[3:-1], raw[3:-1]
    alone, beside = _whittle(grid, raw, white=False), _whittle(grid, raw, white=True)
    kept = 2 * (alone[2] - beside[2]) > float(chi2.ppf(0.95, 1)) * HANN
    (a, beta, *floor), cov, _ = beside if kept else alone
    middle = float(np.exp(np.mean(np.log(grid))))
    half = 1.96 * float(np.sqrt(HANN * cov[1, 1]))
    words = "Whittle likelihood of S_1 / f^beta" + (" + white" if kept else "") + ", Hann taper"
    high, told = float(beta) + half, "95 %, Fisher information"
    if not kept:
        high, told = max(high, _highest(grid, raw, beside)), "95 %, upper end by profile likelihood with a white floor"
    exponent = Number(float(beta), "1", words, float(beta) - half, high, told)
    gradient = np.array([1.0, np.log(middle)] + [0.0] * len(floor))  # ln S_1 = a + beta ln f_0
    wide = 1.96 * float(np.sqrt(HANN * gradient @ cov @ gradient))
    level = float(a + beta * np.log(middle))
    at_1hz = _exponential(level, wide, "A2/Hz", f"{words}, at 1 Hz")
    if not kept:
        top = float(np.exp(a) * (grid[-1] / middle) ** -beta)
        white = Number(top, "A2/Hz", "upper bound: the fitted density at the last frequency", censored=True)
        return Spectrum(f, s, exponent, at_1hz, white, None)
    white = _exponential(float(floor[0]), 1.96 * float(np.sqrt(HANN * cov[2, 2])), "A2/Hz", words)
    corner = (a - floor[0]) / beta + np.log(middle)
    slope = np.array([1 / beta, -(a - floor[0]) / beta**2, -1 / beta])
    spread = 1.96 * float(np.sqrt(HANN * slope @ cov @ slope))
    seen = bool(grid[0] < np.exp(corner) < grid[-1])
    return Spectrum(f, s, exponent, at_1hz, white, _exponential(float(corner), spread, "Hz", words) if seen else None)


def _highest(f: Array, raw: Array, fit: tuple[Array, Array, float]) -> float:
    """Upper end of beta where a white floor is possible but not told: twice the log likelihood falls by 3.84.

    A floor that the data do not tell still flattens the spectrum, so the law without it gives too small a beta.
    """
    limit = fit[2] + 0.5 * HANN * float(chi2.ppf(0.95, 1))
    low, high = float(fit[0][1]), EXPONENTS[1]
    for _ in range(10):  # to 0.004
        middle = 0.5 * (low + high)
        inside = _whittle(f, raw, white=True, beta=middle)[2] < limit
        low, high = (middle, high) if inside else (low, middle)
    return high


def _exponential(log: float, half: float, unit: str, method: str) -> Number:
    half = min(half, 300.0)
    return Number(
        float(np.exp(log)), unit, method, float(np.exp(log - half)), float(np.exp(log + half)),
        "95 %, Fisher information",
    )  # fmt: skip


def _whittle(f: Array, raw: Array, *, white: bool, beta: float | None = None) -> tuple[Array, Array, float]:
    """ln S at the middle frequency, beta (or the one given) and ln white; covariance; minus the log likelihood."""
    log_f = np.log(f) - np.mean(np.log(f))
    top = float(np.log(raw.mean()))
    data = raw / np.exp(top)

    def parts(p: Array) -> tuple[Array, Array]:
        pink = np.exp(np.clip(p[0] - p[1] * log_f, -200, 200))
        floor = np.exp(np.clip(p[2], -200, 200)) if white else 0.0
        s = np.maximum(pink + floor, 1e-300)
        columns = [pink / s, -log_f * pink / s] + ([floor / s] if white else [])
        return s, np.stack(columns)

    def cost(p: Array) -> tuple[float, Array]:
        s, gradient = parts(p)
        ratio = data / s
        return float(np.sum(np.log(s) + ratio)), np.asarray(gradient @ (1.0 - ratio))

    low = float(np.log(max(data[-max(4, data.size // 10) :].mean(), 1e-30)))
    middle = float(np.mean(np.log(np.maximum(data, 1e-30)))) + 0.577
    allowed = EXPONENTS if beta is None else (beta, beta)
    bounds = [(-150.0, 150.0), allowed] + ([(low - 12.0, low + 3.0)] if white else [])
    first = (0.0, 1.0, 2.0) if beta is None else (beta,)
    starts = [[middle, slope, *([low] if white else [])] for slope in first]
    fits = [minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds) for start in starts]
    best = min(fits, key=lambda fit: float(fit.fun))
    gradient = parts(best.x)[1]
    shift = np.array([top, 0.0, top][: best.x.size])
    return np.asarray(best.x) + shift, np.asarray(np.linalg.pinv(gradient @ gradient.T)), float(best.fun)


def physical_floors(current: float, resistance: float, temperature: float = 300.0) -> dict[str, Number]:
    """One-sided densities that no read can be below [A2/Hz]: thermal 4 k T / R and shot 2 q |I|.

    Source: Johnson, Phys. Rev. 32, 97 (1928); Schottky, Ann. Phys. 362, 541 (1918).

    Args:
        current: Mean read current [A].
        resistance: Of the device [ohm].
        temperature: [K].
    """
    if not (resistance > 0 and temperature > 0):
        raise ParameterError("no thermal noise", got=(resistance, temperature), allowed="R > 0 ohm, T > 0 K")
    return {
        "thermal": Number(4 * k * temperature / resistance, "A2/Hz", f"4 k T / R at {temperature:g} K"),
        "shot": Number(2 * elementary_charge * abs(current), "A2/Hz", "2 q |I|, full shot noise"),
    }


def noise_spectrum(i: Any, dt: float) -> tuple[Array, Array, Number]:
    """Frequency [Hz], one-sided density [A2/Hz] and exponent beta of S ~ 1 / f^beta; see `read_spectrum`."""
    found = read_spectrum(i, dt)
    return found.f, found.s, found.exponent
