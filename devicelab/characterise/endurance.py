"""Resistances over cycles: the window, how it wears, and the cycles after which it is closed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError
from .number import Number
from .variability import correlation_time

Array = NDArray[np.float64]
MIN_CYCLES = 12
POINTS = 300
KNOTS = 30
DRAWS = 400
BREAK = 3
"""Parameters that a break counts for: its place is searched for, so it gains more by chance than one parameter does."""
FAR = 6.0
"""Decades beyond the measured cycles to which a closing window is followed."""


@dataclass(frozen=True, eq=False)
class WearFit:
    """How one resistance changes with cycles, by the empirical metal-oxide model of `devicelab.noise.Wear`.

    R = R0 up to x_th; beyond it "gradual" R = R0 (x / x_th)^p, "sudden" R = R1, or "none": no change.

    Args:
        law: The law with the smallest BIC.
        delta: BIC of each law above the best.
        r0: R0 [ohm].
        onset: x_th [cycles], None without a change.
        exponent: p of gradual wear, None otherwise.
        after: R1 of sudden wear [ohm], None otherwise.
    """

    law: str
    delta: dict[str, float]
    r0: Number
    onset: Number | None = None
    exponent: Number | None = None
    after: Number | None = None

    def resistance(self, x: Any) -> Array:
        """Fitted resistance [ohm] after `x` cycles."""
        cycles = np.asarray(x, dtype=float)
        if self.onset is None:
            return np.full(cycles.shape, self.r0.value)
        if self.after is not None:
            return np.where(cycles > self.onset.value, self.after.value, self.r0.value)
        assert self.exponent is not None  # noqa: S101  # gradual wear has both
        return np.asarray(self.r0.value * np.maximum(cycles / self.onset.value, 1.0) ** self.exponent.value)


@dataclass(frozen=True, eq=False)
class Endurance:
    """Window of a device over cycles.

    Args:
        numbers: Name to number: r_on, r_off, window (medians), window_least, failed, cycles_to_failure, ...
        on: Wear of the low resistance, None with fewer than 12 cycles.
        off: Wear of the high resistance, None with fewer than 12 cycles.
    """

    numbers: dict[str, Number]
    on: WearFit | None = None
    off: WearFit | None = None


def wear(cycles: Any, r: Any, *, seed: int = 0) -> WearFit:
    """Wear of one resistance: least squares of log R over log cycles, onset by search, the law by BIC.

    BIC takes correlated residuals as fewer samples and a break as three parameters. Intervals by a block bootstrap of
    the residuals, percentiles.

    Args:
        cycles: Cycle numbers, > 0, shape [n], n >= 12.
        r: Resistance [ohm], > 0, shape [n].
        seed: Of the bootstrap.

    Raises:
        ParameterError: If there are fewer than 12 pairs or one is not positive.
    """
    x, y = _checked(cycles, r)
    return _described(x, y, _draws(x, y[None], seed)[0])


def endurance(cycles: Any, r_on: Any, r_off: Any, *, closed: float = 2.0, seed: int = 0) -> Endurance:
    """Window, wear of both resistances, and cycles until the fitted window falls to `closed`.

    Where both fits hold, cycles to failure is the intersection of their extrapolation with R_off / R_on = `closed`:
    the fitted middle, not the first bad cycle. Its interval is of a block bootstrap over cycles, both resistances of a
    cycle together; an end that lies more than six decades beyond the last cycle is not given. Without wear there is no
    extrapolation: the last cycle is then a lower bound (censored).

    Args:
        cycles: Cycle numbers, > 0, shape [n].
        r_on: Low resistance [ohm], shape [n].
        r_off: High resistance [ohm], shape [n].
        closed: Ratio at which the window counts as closed, > 1.
        seed: Of the bootstrap.

    Raises:
        ParameterError: If the lengths differ, a value is not positive or `closed` is not above 1.
    """
    x = np.asarray(cycles, dtype=float).ravel()
    on, off = np.asarray(r_on, dtype=float).ravel(), np.asarray(r_off, dtype=float).ravel()
    if not (x.size == on.size == off.size and x.size > 0):
        raise ParameterError("no endurance", got=f"{x.size} cycles, {on.size} and {off.size} resistances",
                             allowed="one of each a cycle")  # fmt: skip
    for name, values in (("cycle", x), ("resistance", on), ("resistance", off)):
        if not (np.all(values > 0) and np.isfinite(values).all()):
            raise ParameterError(f"a {name} is not positive", got=float(np.nanmin(values)), allowed="> 0, finite")
    if not 1 < closed < np.inf:
        raise ParameterError("a closed window is a ratio above 1", got=closed, allowed="> 1")
    numbers = _plain(on, off, closed, seed)
    if x.size < MIN_CYCLES:
        return Endurance(numbers)
    order = np.argsort(x, kind="stable")
    log_x, rows = _thinned(np.log10(x[order]), np.log10(np.stack([on, off])[:, order]))
    draws = _draws(log_x, rows, seed)
    fits = [_described(log_x, row, drawn) for row, drawn in zip(rows, draws, strict=True)]
    for name, fit in zip(("on", "off"), fits, strict=True):
        for part, number in (("onset", fit.onset), ("exponent", fit.exponent), ("after", fit.after)):
            if number is not None:
                numbers[f"wear_{name}.{part}"] = number
    numbers["cycles_to_failure"] = _failure(float(x.max()), fits, draws, float(np.log10(closed)))
    return Endurance(numbers, fits[0], fits[1])


def _plain(on: Array, off: Array, closed: float, seed: int) -> dict[str, Number]:
    """Medians with a bootstrap interval over cycles, and how often the window is shut."""
    rng = np.random.default_rng(seed)
    ratio = off / on
    n = ratio.size
    pick = rng.integers(0, n, (DRAWS, n)) if 3 <= n <= 2000 else None
    found = {}
    for name, unit, values in (("r_on", "ohm", on), ("r_off", "ohm", off), ("window", "1", ratio)):
        words = f"median of {n} cycles" + (", R_off / R_on" if unit == "1" else "")
        low, high = (None, None) if n < 3 else _median_ends(values, pick)
        told = "95 %, bootstrap" if pick is not None else "95 %, order statistics"
        found[name] = Number(float(np.median(values)), unit, words, low, high, told if n >= 3 else "none given")
    found["window_least"] = Number(float(ratio.min()), "1", f"smallest R_off / R_on of {n} cycles")
    shut = int(np.count_nonzero(ratio < closed))
    from scipy.stats import beta

    least = float(beta.ppf(0.025, shut, n - shut + 1)) if shut else 0.0
    most = float(beta.ppf(0.975, shut + 1, n - shut)) if shut < n else 1.0
    found["failed"] = Number(shut / n, "1", f"share of cycles with R_off / R_on below {closed:g}", least, most,
                             "95 %, Clopper-Pearson")  # fmt: skip
    return found


def _median_ends(values: Array, pick: NDArray[np.int_] | None) -> tuple[float, float]:
    if pick is not None:
        low, high = np.percentile(np.median(values[pick], axis=-1), (2.5, 97.5))
        return float(low), float(high)
    n, ordered = values.size, np.sort(values)
    away = 0.98 * np.sqrt(n)
    return float(ordered[int(n / 2 - away)]), float(ordered[int(np.ceil(n / 2 + away)) - 1])


def _checked(cycles: Any, r: Any) -> tuple[Array, Array]:
    x, y = np.asarray(cycles, dtype=float).ravel(), np.asarray(r, dtype=float).ravel()
    if x.size != y.size or x.size < MIN_CYCLES or not (np.all(x > 0) and np.all(y > 0)) or np.ptp(x) == 0:
        raise ParameterError(
            "no wear to fit", got=f"{x.size} cycles, {y.size} resistances", allowed=f"{MIN_CYCLES} pairs, all > 0"
        )
    order = np.argsort(x, kind="stable")
    log_x, rows = _thinned(np.log10(x[order]), np.log10(y[order])[None])
    return log_x, rows[0]


def _thinned(x: Array, rows: Array) -> tuple[Array, Array]:
    """Means over equal numbers of neighbours, at most 300 of them: all equally exact."""
    size = int(np.ceil(x.size / POINTS))
    if size == 1:
        return x, rows
    kept = x.size // size * size
    return x[:kept].reshape(-1, size).mean(-1), rows[:, :kept].reshape(rows.shape[0], -1, size).mean(-1)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Gradual and sudden fits of the samples (first row) and of their bootstrap draws: [draws + 1, 3] each.

    Columns: level, onset and exponent (gradual); level, onset and level after (sudden). Logarithms to base 10.
    """

    gradual: Array
    sudden: Array
    rss: tuple[float, float, float]
    memory: float


def _draws(x: Array, rows: Array, seed: int) -> list[_Drawn]:
    """Fits of each row of log R and of block-bootstrap draws, the same blocks in all rows."""
    inner = x[2:-3]
    knots = np.unique(np.concatenate([inner, np.linspace(x[0], inner[-1], KNOTS)]))
    own = [_fitted(x, row[None], knots) for row in rows]
    memories = [correlation_time(row - _gradual(x, fit[0][0])) for row, fit in zip(rows, own, strict=True)]
    length = int(np.clip(np.ceil(2 * max(memories)), 1, x.size // 4))
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, x.size - length + 1, (DRAWS, -(-x.size // length)))
    index = (starts[..., None] + np.arange(length)).reshape(DRAWS, -1)[:, : x.size]
    made = []
    for row, (gradual, sudden, rss), memory in zip(rows, own, memories, strict=True):
        again = []
        for kind, first in (("gradual", gradual[0]), ("sudden", sudden[0])):
            line = _gradual(x, first) if kind == "gradual" else np.where(x > first[1], first[2], first[0])
            residual = row - line
            parts = _fitted(x, line + residual[index], knots)
            again.append(np.concatenate([first[None], parts[0 if kind == "gradual" else 1]]))
        after = np.minimum(np.searchsorted(x, again[1][:, 1], side="right"), x.size - 1)
        share = np.concatenate([[0.5], rng.random(DRAWS)])  # a jump is somewhere between two cycles
        again[1][:, 1] += share * (x[after] - again[1][:, 1])
        made.append(_Drawn(again[0], again[1], rss, memory))
    return made


def _gradual(x: Array, p: Array) -> Array:
    return np.asarray(p[0] + p[2] * np.maximum(x - p[1], 0.0))


def _fitted(x: Array, y: Array, knots: Array) -> tuple[Array, Array, tuple[float, float, float]]:
    """Best hinge and best step of each row of y [b, n] over all knots, and the residual squares of the first row."""
    total = np.sum((y - y.mean(-1, keepdims=True)) ** 2, axis=-1)
    parts, least = [], [float(total[0])]
    for shape in (np.maximum(x[None] - knots[:, None], 0.0), (x[None] > knots[:, None]).astype(float)):
        centred = shape - shape.mean(-1, keepdims=True)
        square = np.sum(centred**2, axis=-1)
        product = (y - y.mean(-1, keepdims=True)) @ centred.T
        gain = product**2 / square
        best = np.argmax(gain, axis=-1)
        row = np.arange(y.shape[0])
        slope = product[row, best] / square[best]
        level = y.mean(-1) - slope * shape.mean(-1)[best]
        least.append(float(max(total[0] - gain[0, best[0]], 0.0)))
        parts.append(np.stack([level, knots[best], slope], axis=-1))
    parts[1][:, 2] += parts[1][:, 0]  # the level after the step, not the height of the step
    return parts[0], parts[1], (least[0], least[1], least[2])


def _described(x: Array, y: Array, drawn: _Drawn) -> WearFit:
    n = x.size
    counted = max(4.0, n / drawn.memory)
    floor = 1e-24 * max(1.0, float(np.mean(y**2))) * n
    sizes = dict(zip(("none", "gradual", "sudden"), drawn.rss, strict=True))
    cost = {"none": 2, "gradual": 3 + BREAK, "sudden": 3 + BREAK}
    bic = {law: counted * np.log(max(rss, floor) / n) + cost[law] * np.log(counted) for law, rss in sizes.items()}
    best = min(bic, key=lambda law: bic[law])
    delta = {law: float(value - bic[best]) for law, value in bic.items()}
    words = "least squares of log R over log cycles"
    if best == "none":
        half = 1.96 * float(np.std(y, ddof=1)) / np.sqrt(counted)
        middle = float(y.mean())
        ends = (10 ** (middle - half), 10 ** (middle + half))
        return WearFit(best, delta, Number(10**middle, "ohm", "geometric mean, no wear seen", *ends, "95 %"))
    table = drawn.gradual if best == "gradual" else drawn.sudden
    low, high = np.percentile(table[1:], (2.5, 97.5), axis=0)
    told = "95 %, block bootstrap"

    def power(column: int, unit: str, method: str) -> Number:
        value, *ends = (float(10.0 ** end[column]) for end in (table[0], low, high))
        return Number(value, unit, method, ends[0], ends[1], told)

    r0, onset = power(0, "ohm", f"{words}, before the onset"), power(1, "1", f"{words}, {best} wear begins [cycles]")
    if best == "sudden":
        return WearFit(best, delta, r0, onset, None, power(2, "ohm", f"{words}, after the onset"))
    exponent = Number(float(table[0, 2]), "1", f"{words}, R grows as cycles to this power", float(low[2]),
                      float(high[2]), told)  # fmt: skip
    return WearFit(best, delta, r0, onset, exponent)


def _failure(last: float, fits: list[WearFit], draws: list[_Drawn], closed: float) -> Number:
    """Cycles at which the fitted window is closed; a lower bound where it is not seen to close."""
    words = f"fitted R_off / R_on = {10**closed:.3g}"
    times = np.stack([_closing(row, fits, draws, closed, float(np.log10(last))) for row in range(DRAWS + 1)])
    if not np.isfinite(times[0]):
        return Number(last, "1", f"{words} is not reached: no closing window seen in the measured cycles",
                      censored=True)  # fmt: skip
    low, high = np.percentile(times[1:], (2.5, 97.5), method="inverted_cdf")
    beyond = float(10 ** times[0]) / last
    method = f"{words}, {'within the measured cycles' if beyond <= 1 else f'{beyond:.3g} times the last cycle'}"
    told = "95 %, block bootstrap" + ("" if np.isfinite(high) else "; no upper end, some draws never close")
    ends = tuple(float(10**end) if np.isfinite(end) else None for end in (low, high))
    return Number(float(10 ** times[0]), "1", method, ends[0], ends[1], told)


def _closing(row: int, fits: list[WearFit], draws: list[_Drawn], closed: float, last: float) -> float:
    """log10 of the cycle where the window of one draw is closed, infinite where it stays open within six decades."""
    lines = []
    for fit, drawn in zip(fits, draws, strict=True):
        if fit.law == "none":
            lines.append((np.log10(fit.r0.value), 0.0, 0.0, 0.0))
        else:
            p = drawn.gradual[row] if fit.law == "gradual" else drawn.sudden[row]
            lines.append((p[0], p[1], p[2], 0.0) if fit.law == "gradual" else (p[0], p[1], 0.0, p[2] - p[0]))

    def window(x: float) -> float:
        on, off = (level + slope * max(x - onset, 0.0) + step * (x > onset) for level, onset, slope, step in lines)
        return float(off - on - closed)

    if window(0.0) <= 0:
        return 0.0
    onsets = sorted({float(line[1]) for line in lines})
    edges = [0.0, *(edge for edge in onsets if edge > 0), last + FAR]
    for a, b in pairwise(edges):
        start, end = window(a + 1e-9), window(b)
        if start <= 0:
            return a
        if end <= 0:
            return a + (b - a) * start / (start - end)  # linear in between
    return np.inf
