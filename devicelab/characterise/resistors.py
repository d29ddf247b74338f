"""Resistance in series with the device: inside the measured voltage, and outside it, in the circuit that drives it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import linregress, t

from ..trace import Trace
from .number import Number
from .sweeps import Excursion
from .variability import correlation_time

Array = NDArray[np.float64]
MIN_SAMPLES = 20
DEVICE_SHARE = 0.1
WHITE = 3.0
CLOSE = 0.01
BETTER = 10.0
NEAR_JUMP = 12
DIP = 0.03


def series_resistance(trace: Trace, parts: list[Excursion], keep: NDArray[np.bool_]) -> Number | None:
    """Series resistance [ohm] of the low-resistance branch where its curvature tells it, else an upper bound.

    With a device a sinh(b V) behind a resistor, V = I R + asinh(I / a) / b: the device bends the branch at low current
    and the resistor straightens it at high. R is given where the law with both beats (BIC by 10, correlated residuals
    counted as fewer) the device alone and a resistor alone and leaves white residuals below 1 % of the largest voltage,
    both ends of its interval are positive, and the device takes at least a tenth of the voltage all along.

    Otherwise dV / dI = R + dV_device / dI at the top of the branch is an upper bound (censored), by regression over the
    upper half of the free current: the better the device conducts, the closer.

    Args:
        trace: One cycle.
        parts: Its excursions that switch.
        keep: Samples that no compliance limit holds, shape [t].
    """
    branch = _best_branch(trace, parts, keep)
    if branch is None:
        return None
    v, i = branch
    found = _told(v, i)
    if found is not None:
        return found
    upper = i > 0.5 * i.max()
    if np.count_nonzero(upper) < 6 or np.ptp(i[upper]) == 0:
        return None
    fit = linregress(i[upper], v[upper])
    half = float(t.ppf(0.975, np.count_nonzero(upper) - 2) * fit.stderr)
    if not fit.slope > 0:
        return None
    method = "upper bound: dV/dI over the upper half of the free current, low-resistance branch"
    slope = float(fit.slope)
    return Number(slope, "ohm", method, slope - half, slope + half, "95 % of the regression", censored=True)


def _best_branch(trace: Trace, parts: list[Excursion], keep: NDArray[np.bool_]) -> tuple[Array, Array] | None:
    """|V| and |I| of the branch that conducts best."""
    best: tuple[float, Array, Array] | None = None
    for part in parts:
        for branch in (part.rise, part.back):
            i = part.sign * np.asarray(trace.i[branch])[keep[branch]]
            v = part.sign * np.asarray(trace.v[branch])[keep[branch]]
            if i.size >= 8 and i.max() > 0 and v.max() > 0:
                high = v > 0.3 * v.max()
                g = float(np.median(i[high] / v[high]))
                if best is None or g > best[0]:
                    best = (g, v, i)
    return None if best is None else best[1:]


def _told(v: Array, i: Array) -> Number | None:
    """R of V = I R + asinh(I / a) / b, None where the branch does not tell it."""
    good = (v > 0) & (i > 0)
    v, i = v[good], i[good]
    if v.size < MIN_SAMPLES:
        return None
    top_v, top_i = float(v.max()), float(i.max())
    x, y = i / top_i, v / top_v

    def residual(p: Array) -> Array:  # r, ln b, ln a in units of the largest voltage and current
        return np.asarray(p[0] * x + np.arcsinh(x * np.exp(-p[2])) * np.exp(-p[1]) - y)

    starts = ([0.5, 1.5, -2.0], [0.2, 2.5, -4.0], [0.8, 2.0, -1.0])
    limits = ([0.0, -6.0, -14.0], [2.0, 6.0, 6.0])
    fits = [least_squares(residual, start, bounds=limits) for start in starts]
    best = min(fits, key=lambda fit: float(fit.cost))

    def without(p: Array) -> Array:
        return residual(np.array([0.0, *p]))

    lower, upper = limits
    bare = [least_squares(without, start[1:], bounds=(lower[1:], upper[1:])) for start in starts]
    alone = min(bare, key=lambda fit: float(fit.cost))
    ohm = float(np.sum((y - x * (x @ y) / (x @ x)) ** 2))
    rest = np.asarray(best.fun)
    memory = correlation_time(rest[np.argsort(x)])
    n = v.size / memory
    size = max(2 * float(best.cost), 1e-20)
    gains = [n * np.log(max(2 * float(alone.cost), size) / size) - np.log(n), n * np.log(ohm / size) - 2 * np.log(n)]
    jacobian = np.asarray(best.jac)
    cov = np.linalg.pinv(jacobian.T @ jacobian) * size / max(1.0, v.size - 3) * memory
    r = float(best.x[0])
    half = float(t.ppf(0.975, max(1.0, n - 3)) * np.sqrt(cov[0, 0]))
    if (
        min(gains) < BETTER
        or not r - half > 0
        or r + half > (1 - DEVICE_SHARE) * float(np.min(y[x > 0.1] / x[x > 0.1]))
    ):
        return None
    if memory > WHITE or np.sqrt(size / v.size) > CLOSE:
        return None  # another law than this one
    unit = top_v / top_i
    method = "curvature of the low-resistance branch: supposing a sinh(b V) behind a resistor"
    return Number(r * unit, "ohm", method, (r - half) * unit, (r + half) * unit, "95 % of the fit")


def load_resistance(trace: Trace, part: Excursion) -> Number | None:
    """Resistance [ohm] between source and device, from the load line along which the device voltage falls in a set.

    While the device jumps, V = source(t) - R I: the source is smooth over a few samples and the current is not. Least
    squares of V on I and a parabola in time, over twelve samples to each side of the steepest rise. None where the
    voltage does not fall by 3 % of itself, that is where the voltage was measured at, or held by, the source.

    Args:
        trace: One cycle; the voltage that the device sees.
        part: The excursion that sets.
    """
    v, i = part.sign * np.asarray(trace.v[part.rise]), part.sign * np.asarray(trace.i[part.rise])
    if v.size < 2 * NEAR_JUMP // 2 + 6:
        return None
    jump = int(np.argmax(np.diff(i)))
    near = slice(max(0, jump - NEAR_JUMP), min(v.size, jump + NEAR_JUMP + 2))
    v, i = v[near], i[near]
    at = jump - near.start
    before, after = v[: at + 1], v[at + 1 :]
    if before.size < 4 or after.size < 2 or float(before.max() - after.min()) < DIP * float(before.max()):
        return None
    time = np.arange(v.size) - at
    columns = np.stack([np.ones(v.size), time, time**2, -i], axis=1)
    scale = np.abs(columns).max(0)
    solution, *_ = np.linalg.lstsq(columns / scale, v, rcond=None)
    rest = v - columns @ (solution / scale)
    cov = np.linalg.pinv((columns / scale).T @ (columns / scale)) * float(rest @ rest) / (v.size - 4)
    r = float(solution[3] / scale[3])
    half = float(t.ppf(0.975, v.size - 4) * np.sqrt(cov[3, 3]) / scale[3])
    if not r - half > 0:
        return None
    method = "load line: fall of the voltage over the rise of the current in the set"
    return Number(r, "ohm", method, r - half, r + half, "95 % of the regression")
