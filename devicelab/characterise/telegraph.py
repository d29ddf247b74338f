"""Random telegraph signals in a read current: levels and mean times, by a hidden Markov model.

Gaussian levels with one common noise, Markov switching between them. Expectation and maximisation as in Rabiner, Proc.
IEEE 77, 257 (1989), compiled: a hundred passes over 10 000 samples take a fraction of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm, logm

from ..errors import ParameterError
from .number import Number
from .variability import correlation_time

Array = NDArray[np.float64]
MIN_SAMPLES = 20
MOST = 3
PASSES = 200
GAP = 3.0
WHITE = 1.5


@dataclass(frozen=True, eq=False)
class Telegraph:
    """A random telegraph signal.

    Args:
        levels: Levels, ascending, unit of the signal.
        times: Mean time in each level [s].
        noise: Standard deviation about the levels.
        amplitude: Highest level minus lowest.
        switches: Changes of level along the likeliest path.
        delta: BIC of one, two, three levels above the best.
        path: Index of the likeliest level at each sample, [n].
        clear: Whether to believe it: neighbouring levels more than three standard deviations apart, and what is left
            about them white. If not, it is drift or 1/f noise cut into steps as well as anything else.
        why: What `clear` was decided on.
    """

    levels: tuple[Number, ...]
    times: tuple[Number, ...]
    noise: float
    amplitude: Number
    switches: int
    delta: dict[int, float]
    path: NDArray[np.int_]
    clear: bool
    why: str

    @property
    def low(self) -> float:
        """Lowest level."""
        return self.levels[0].value

    @property
    def high(self) -> float:
        """Highest level."""
        return self.levels[-1].value

    @property
    def time_low(self) -> Number:
        """Mean time in the lowest level [s]."""
        return self.times[0]

    @property
    def time_high(self) -> Number:
        """Mean time in the highest level [s]."""
        return self.times[-1]


def telegraph_levels(i: Any, dt: float, *, levels: int | None = None, unit: str = "A") -> Telegraph:
    """Levels of a read current and the mean time in each.

    The number of levels, two or three, is the one with the smaller BIC unless given. Mean times follow from the rates
    of the continuous process, so stays shorter than a sample are allowed for. Intervals from the observed information
    of the likelihood; those of times and rates in their logarithms.

    Args:
        i: Current [A] at equal times, shape [n], n >= 20.
        dt: Time between samples [s].
        levels: 2 or 3; chosen unless given.
        unit: Of the signal.

    Raises:
        ParameterError: If there are too few samples, they do not differ, or `dt` or `levels` is out of bounds.
    """
    x = np.asarray(i, dtype=float).ravel()
    if x.size < MIN_SAMPLES or not np.isfinite(x).all() or np.ptp(x) == 0 or not 0 < dt < np.inf:
        raise ParameterError("no telegraph signal", got=(x.size, dt), allowed="20 samples that differ, dt > 0")
    if levels is not None and levels not in range(2, MOST + 1):
        raise ParameterError("that many levels are not told apart", got=levels, allowed=f"2 to {MOST}")
    scale = float(np.std(x))
    z = (x - x.mean()) / scale
    tried = {count: _em(z, count) for count in ([levels] if levels else range(2, MOST + 1))}
    bic = {1: float(z.size * np.log(2 * np.pi * np.var(z)) + z.size + 2 * np.log(z.size))}
    bic |= {n: -2 * fit[3] + (n * n + 1) * float(np.log(z.size)) for n, fit in tried.items()}
    count = min(tried, key=lambda n: bic[n])
    means, sigma, matrix, _ = tried[count]
    path = _markov().viterbi(_emission(z, means, sigma), matrix)
    numbers = _intervals(z, means, sigma, matrix, dt)
    rest = correlation_time(z - means[path])
    gap = float(np.min(np.diff(means)) / sigma)
    clear = bool(gap > GAP and rest < WHITE and min(bic, key=lambda n: bic[n]) > 1)
    why = f"levels {gap:.2g} sd apart (more than {GAP:g} wanted), correlation time of the rest {rest:.2g} samples "
    shown = [_scaled(number, scale, float(x.mean()), unit) for number in numbers[0]]
    best = min(bic.values())
    return Telegraph(
        tuple(shown), numbers[1], float(sigma * scale), _scaled(numbers[2], scale, 0.0, unit),
        int(np.count_nonzero(np.diff(path))), {n: value - best for n, value in bic.items()}, path, clear,
        f"{why}(less than {WHITE:g} wanted)",
    )  # fmt: skip


def _scaled(number: Number, scale: float, shift: float, unit: str) -> Number:
    low, high = (None if end is None else end * scale + shift for end in (number.low, number.high))
    return Number(number.value * scale + shift, unit, number.method, low, high, number.interval)


def _emission(z: Array, means: Array, sigma: float) -> Array:
    """log density of each sample at each level, [n, k]."""
    return np.asarray(-0.5 * ((z[:, None] - means) / sigma) ** 2 - np.log(sigma) - 0.5 * np.log(2 * np.pi))


def _em(z: Array, count: int) -> tuple[Array, float, Array, float]:
    """Levels ascending, noise, transition matrix and log likelihood; the best of two starts."""
    edges = np.linspace(z.min(), z.max(), 2 * count + 1)[1::2]
    starts = (np.quantile(z, (np.arange(count) + 0.5) / count), edges)
    fits: list[tuple[Array, float, Array, float]] = []
    for start in starts:
        means, sigma = start.astype(float), 0.5 * float(np.ptp(z)) / count / 2
        matrix = np.full((count, count), 0.1 / (count - 1)) + np.eye(count) * (0.9 - 0.1 / (count - 1))
        before = -np.inf
        for _ in range(PASSES):
            total, weight, moves = _markov().expect(_emission(z, means, sigma), matrix)
            mass = weight.sum(0) + 1e-12
            means = (weight * z[:, None]).sum(0) / mass
            sigma = max(float(np.sqrt(np.sum(weight * (z[:, None] - means) ** 2) / z.size)), 1e-6)
            matrix = (moves + 1e-12) / (moves + 1e-12).sum(-1, keepdims=True)
            if total - before < 1e-7 * abs(total) and total > -np.inf:
                break
            before = total
        order = np.argsort(means)
        total = float(_markov().expect(_emission(z, means, sigma), matrix)[0])
        fits.append((means[order], sigma, matrix[np.ix_(order, order)], total))
    return max(fits, key=lambda fit: fit[3])


def _markov() -> Any:
    """The compiled parts; importing numba takes a third of a second."""
    from . import _markov as compiled

    return compiled


def _intervals(
    z: Array, means: Array, sigma: float, matrix: Array, dt: float
) -> tuple[list[Number], tuple[Number, ...], Number]:
    """Levels, mean times [s] and amplitude with intervals, in the units of z."""
    k = means.size
    generator = np.real(np.atleast_2d(logm(matrix)))
    moved = [(a, b) for a in range(k) for b in range(k) if a != b and generator[a, b] > 1e-3 / z.size]
    p = np.concatenate([means, [np.log(sigma)], [np.log(generator[a, b]) for a, b in moved]])

    def cost(q: Array) -> float:
        rates = np.zeros((k, k))
        for (a, b), value in zip(moved, q[k + 1 :], strict=True):
            rates[a, b] = np.exp(value)
        rates -= np.diag(rates.sum(-1))
        full = np.maximum(np.asarray(expm(rates)), 1e-300)
        return -float(_markov().expect(_emission(z, q[:k], float(np.exp(q[k]))), full)[0])

    steps = np.concatenate([np.full(k, 0.1 * sigma), [0.05], np.full(len(moved), 0.1)])
    cov = np.linalg.pinv(_hessian(cost, p, steps))
    half = 1.96 * np.sqrt(np.maximum(np.diag(cov), 0.0))
    words = f"hidden Markov model of {k} levels"
    told = "95 %, observed information"
    shown = [Number(float(means[a]), "1", words, float(means[a] - half[a]), float(means[a] + half[a]), told)
             for a in range(k)]  # fmt: skip
    times = []
    for a in range(k):
        rates = {n: float(np.exp(p[k + 1 + n])) for n, (start, _) in enumerate(moved) if start == a}
        total = sum(rates.values())
        if not total > 0:
            times.append(Number(z.size * dt, "s", f"{words}: no exit seen, at least the record", censored=True))
            continue
        gradient = np.zeros(p.size)
        for n, rate in rates.items():
            gradient[k + 1 + n] = rate / total
        wide = min(1.96 * float(np.sqrt(max(float(gradient @ cov @ gradient), 0.0))), 50.0)
        value = dt / total
        times.append(Number(value, "s", words, value * np.exp(-wide), value * np.exp(wide), told))
    gap = float(means[-1] - means[0])
    spread = 1.96 * float(np.sqrt(max(cov[0, 0] + cov[k - 1, k - 1] - 2 * cov[0, k - 1], 0.0)))
    return shown, tuple(times), Number(gap, "1", f"{words}: highest minus lowest", gap - spread, gap + spread, told)


def _hessian(cost: Any, p: Array, steps: Array) -> Array:
    """Second differences, central."""
    n = p.size
    found = np.empty((n, n))
    for a in range(n):
        for b in range(a, n):
            value = 0.0
            for sa, sb in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                q = p.copy()
                q[a] += sa * steps[a]
                q[b] += sb * steps[b]
                value += sa * sb * cost(q)
            found[a, b] = found[b, a] = value / (4 * steps[a] * steps[b])
    return found
