"""Resistance in series with the device: inside the measured voltage, and outside it, in the circuit that drives it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import linregress, t

from ..trace import Trace
from .number import Number
from .sweeps import Excursion
from .variability import correlation_time

Array = NDArray[np.float64]
MIN_SAMPLES = 20
DEVICE_SHARE = 0.4
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
    both ends of its interval are positive, and the device takes at least two fifths of the voltage all along: a nearly
    straight branch is as well a filament with an ohmic part (on cells where a weaker rule gave a value, it followed
    R_on from cycle to cycle, as no resistor does).

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
    """R of V = I R + asinh(I / a) / b, None where the branch does not tell it.

    For a given a the law is linear in R and 1 / b: a search in ln a alone, and closed forms.
    """
    good = (v > 0) & (i > 0)
    v, i = v[good], i[good]
    if v.size < MIN_SAMPLES:
        return None
    order = np.argsort(i, kind="stable")
    top_v, top_i = float(v.max()), float(i.max())
    x, y = i[order] / top_i, v[order] / top_v
    ohm = float(np.sum((y - x * (x @ y) / (x @ x)) ** 2))
    with_r, without = (_searched(x, y, column) for column in (2, 3))
    if with_r is None or without is None:
        return None
    r, c, rss, final = with_r
    memory = correlation_time(y - r * x - c * np.arcsinh(x * np.exp(-final)))
    size, n = max(rss, 1e-20), v.size / memory
    gains = [n * np.log(max(without[2], size) / size) - np.log(n), n * np.log(ohm / size) - 2 * np.log(n)]
    if min(gains) < BETTER:
        return None
    columns = np.stack([x, np.arcsinh(x * np.exp(-final)), -c * x / np.hypot(x, np.exp(final))])
    cov = np.linalg.pinv(columns @ columns.T) * size / max(1.0, v.size - 3) * memory
    half = float(t.ppf(0.975, max(1.0, n - 3)) * np.sqrt(cov[0, 0]))
    value, most = r, (1 - DEVICE_SHARE) * float(np.min(y[x > 0.1] / x[x > 0.1]))
    if not value - half > 0 or value + half > most or memory > WHITE or np.sqrt(size / v.size) > CLOSE:
        return None  # another law than this one
    unit = top_v / top_i
    method = "curvature of the low-resistance branch: sinh(b V) behind a resistor, or a filament with an ohmic part"
    return Number(value * unit, "ohm", method, (value - half) * unit, (value + half) * unit, "95 % of the fit")


def _searched(x: Array, y: Array, column: int) -> tuple[float, float, float, float] | None:
    """R, 1 / b, residual squares and ln a at the smallest of one of the columns of `_linear`, in three finer rounds."""
    grid, found = np.linspace(-14.0, 3.0, 35), None
    for width in (0.5, 0.025, 0.0):
        parts = _linear(x, y, grid)
        best = int(np.argmin(parts[column]))
        if not np.isfinite(parts[column][best]):
            return None
        found = (float(parts[0][best]), float(parts[1][best]), float(parts[column][best]), float(grid[best]))
        grid = grid[best] + width * np.linspace(-1.0, 1.0, 41)
    return found


def _linear(x: Array, y: Array, grid: Array) -> tuple[Array, Array, Array, Array]:
    """R, 1 / b and residual squares of y = R x + asinh(x / a) / b for each ln a; the last without R."""
    shape = np.arcsinh(x * np.exp(-grid)[:, None])
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    xs, sy, ss = shape @ x, shape @ y, np.sum(shape**2, axis=-1)
    flat = xx * ss - xs**2
    with np.errstate(divide="ignore", invalid="ignore"):
        r, c = (ss * xy - xs * sy) / flat, (xx * sy - xs * xy) / flat
    able = (flat > 1e-12 * xx * ss) & (r >= 0) & (c > 0)
    rss = np.where(able, np.maximum(yy - r * xy - c * sy, 0.0), np.inf)
    return r, c, rss, np.maximum(yy - sy**2 / ss, 0.0)


def load_resistance(trace: Trace, part: Excursion) -> Number | None:
    """Resistance [ohm] between source and device, from the load line along which the device voltage falls in a set.

    While the device jumps, V = source(t) - R I: the source is smooth over a few samples and the current is not. Least
    squares of V on I and a parabola in time, over twelve samples to each side of the steepest rise. None where the
    voltage does not fall by 3 % of itself, that is where the voltage was measured at, or held by, the source.

    Args:
        trace: One cycle; the voltage that the device sees.
        part: The excursion that sets.
    """
    rows = slice(part.start, part.stop)
    v, i = part.sign * np.asarray(trace.v[rows]), part.sign * np.asarray(trace.i[rows])
    if v.size < NEAR_JUMP + 6:
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
