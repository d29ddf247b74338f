"""Profile likelihood: how far a parameter can go while all others do their best to keep the fit.

Intervals need neither a quadratic misfit nor a determined parameter: where the misfit stays low to the end of the range
the interval is open, and what the traces do say is a bound, in a quantity that they can see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from devicelab import Model
from devicelab.errors import ParameterError, unknown_name

from .problem import Problem
from .region import undo
from .result import FitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

REACH = 12.0
"""Decades around the estimate over which a quantity is followed that is not an axis of the search itself."""

MOST = 60
"""Largest number of points a side: steps double where the misfit stays low, so this reaches any end of any range."""

SUDDEN = 0.3
"""A rise out of the interval from below this share of the threshold is first taken for a lost path: the step is halved,
up to `HALVINGS` times. Valleys bend: along a rate the threshold must follow to a fraction of its overshoot."""

HALVINGS = 6

NEAR = 0.03
"""An end counts as found when the misfit there is the threshold to this share."""

SCAN = np.geomspace(1e-5, 0.3, 48)
"""Distances, in widths of the box, at which each coordinate is tried where a descent did not succeed. Where a switching
edge falls between two samples the misfit has steps along which a gradient says nothing, and valleys as narrow as the
overshoot of the threshold, 1e-4 of the box for a device ten thousand times faster than the sampling."""

FAINT = 1e-3
"""Weight left to the prior of the search: a profile is of the likelihood alone, but a path needs somewhere to go on a
plain. It adds at most 1e-4 to chi2 at the far ends of an axis."""

ELSEWHERE, ELSEWHERE_SCREEN = 6, 512
"""Other descents that seed the paths, and the screen that they start from."""

RESTARTS = 4
"""Times that all begins anew because a path came by a better fit: each lowers chi2 by much less than the one before."""


@dataclass(frozen=True)
class Profile:
    """The misfit along one parameter, the others refitted.

    Args:
        name: Parameter, or ``x0_k``.
        unit: Its unit.
        estimate: Best value.
        values: Values tried, ascending, [n].
        delta: Increase of chi2 over its least, divided by `scale`, [n].
        threshold: Largest `delta` inside the interval.
        scale: chi2 per degree of freedom and `inflation`, where the model misfits, that `delta` was divided by.
        level: Confidence.
        low: Lower end of the interval; the end of the range tried where `open_low`.
        high: Upper end.
        open_low: Whether the misfit stays below the threshold to the lower end of the range.
        open_high: The same at the upper end.
        models: The device at every value tried.
        log: Whether the quantity is followed by its logarithm.
        bound: What the traces say where an end is open, or empty.
        note: That the estimate is not the fit's, because the walk came by a better one; or empty.
    """

    name: str
    unit: str
    estimate: float
    values: Array
    delta: Array
    threshold: float
    scale: float
    level: float
    low: float
    high: float
    open_low: bool
    open_high: bool
    models: list[Model] = field(repr=False)
    log: bool
    bound: str = ""
    note: str = ""

    @property
    def inside(self) -> list[Model]:
        """The devices on the path that the traces cannot tell from the best one: below the threshold."""
        return [model for model, delta in zip(self.models, self.delta, strict=True) if delta <= self.threshold]

    def line(self) -> str:
        """One line: interval or bound."""
        unit = "" if self.unit == "1" else f" {self.unit}"
        if self.open_low and self.open_high:
            words = "anything"
        elif self.open_high:
            words = f"at least {self.low:.4g}{unit}"
        elif self.open_low:
            words = f"at most {self.high:.4g}{unit}"
        else:
            words = f"{self.low:.4g} .. {self.high:.4g}{unit}"
        extra = "".join(f"; {text}" for text in (self.bound, self.note) if text)
        return f"{self.name:<10}{self.estimate:>12.5g}   {words}{extra}"


def profile(
    result: FitResult,
    names: str | Sequence[str] | None = None,
    *,
    level: float = 0.95,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Profile]:
    """Profile likelihood intervals.

    From the best fit the parameter is moved in steps and all others are fitted again from where they were. The interval
    ends where chi2 has risen by the quantile: of chi2 with one degree of freedom where the noise explains the residual,
    of F(1, n - p) on chi2 per degree of freedom where it does not. Rates are profiled themselves, not as the speed at
    a reference voltage that the search uses.

    Args:
        result: A fit.
        names: Parameters or ``x0_k``; by default all parameters that were fitted.
        level: Confidence.
        progress: Called with the line of every finished profile.

    Returns:
        A profile by name.

    Raises:
        ParameterError: If a name was not fitted, or the level is not between 0 and 1.

    Source: Venzon and Moolgavkar, Appl. Statist. 37, 87 (1988), doi:10.2307/2347496; Raue et al., Bioinformatics 25,
    1923 (2009), doi:10.1093/bioinformatics/btp358.
    """
    if not 0 < level < 1:
        raise ParameterError("level is a probability", got=level, allowed="between 0 and 1")
    axes = result.problem.space.axes
    known = [axis.name for axis in axes]
    wanted = [axis.name for axis in axes if not axis.is_state] if names is None else _listed(names)
    for name in wanted:
        if name not in known:
            raise unknown_name("fitted parameter", name, known)
    robust = result.problem.loss != "linear"  # whose knee goes with the misfit
    problem = result.problem if robust else replace(result.problem, misfit=FAINT)
    theta = min(problem.vector(problem.descend(result.theta).params), result.theta, key=problem.chisqr)
    pool = [(result.model, list(result.x0)), *_elsewhere(problem, result.seed)]
    done: dict[str, Profile] = {}
    restarts, again = 0, list(wanted)
    while again:
        name = again.pop(0)
        found, better = _profile(result, problem, theta, known.index(name), level, pool)
        if better is not None and restarts < RESTARTS:
            theta, done, restarts, again = better, {}, restarts + 1, list(wanted)
            continue
        first_pass = name not in done
        done[name] = found
        if progress is not None:
            progress(found.line())
        if not again and first_pass:  # what later paths found may reach beyond the ends of earlier ones
            again = [name for name, entry in done.items() if _reaches_beyond(entry, problem, theta, pool, known)]
    gain = problem.chisqr(result.theta) - problem.chisqr(theta)
    far = gain > result.problem.misfit**2
    note = f"around a better fit than the one given, met on the way: chi2 lower by {gain:.3g}" if far else ""
    return {name: replace(done[name], note=note) for name in wanted}


Device = tuple[Model, list[float]]


def _elsewhere(problem: Problem, seed: int) -> list[Device]:
    """Other minima of the misfit: an interval may have parts that no path from the best fit finds."""
    thin, out = problem.thinned(), []
    for start in problem.screen(ELSEWHERE_SCREEN, seed)[:ELSEWHERE]:
        rough = thin.vector(thin.descend(start, most=60).params)
        out.append(problem.device(problem.vector(problem.descend(rough, most=60).params)))
    return out


def _reaches_beyond(found: Profile, problem: Problem, theta: Array, pool: list[Device], known: list[str]) -> bool:
    """Whether the pool holds a device inside the interval's misfit and outside its ends."""
    k = known.index(found.name)
    scale = found.scale
    vectors = np.array([problem.space.encode(model, x0) for model, x0 in pool])
    delta = np.array([problem.chisqr(vector) - problem.chisqr(theta) for vector in vectors]) / scale
    values = problem.space.physical(vectors)[:, k]
    low, high = sorted(np.log10(abs(end)) if found.log else end for end in (found.low, found.high))
    width = high - low
    outside = (values < low - 0.02 * width) | (values > high + 0.02 * width)
    return bool((outside & (delta <= found.threshold)).any())


def _listed(names: str | Sequence[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def follow(problem: Problem, theta: Array, k: int) -> tuple[Problem, Array]:
    """The same problem with axis k the parameter itself or its logarithm, not a speed or a ratio."""
    axis = problem.space.axes[k]
    if axis.plain:
        return problem, theta
    value = float(problem.space.physical(theta)[k])
    low, high = value - REACH, value + REACH
    bare = replace(axis, reference=None, base=None, low=low, high=high, floor=low, ceiling=high)
    if axis.base is not None:  # the resistance above another one stays above it
        other = float(np.log10(getattr(problem.device(theta)[0], axis.base)))
        bare = replace(bare, low=other, floor=other + 1e-6)
    space = copy(problem.space)
    space.axes = [bare if j == k else entry for j, entry in enumerate(space.axes)]
    for end in ("low", "high", "floor", "ceiling"):
        setattr(space, end, np.array([getattr(entry, end) for entry in space.axes]))
    space.width, space.middle = space.high - space.low, 0.5 * (space.low + space.high)
    space._referred = [entry for entry in space._referred if entry.name != axis.name]
    moved = theta.copy()
    moved[k] = value
    return replace(problem, space=space), moved


@dataclass
class _Path:
    """The walk along one axis."""

    problem: Problem
    k: int
    least: float
    scale: float
    threshold: float
    points: list[tuple[float, Array]]
    """(delta, vector) of every point tried."""

    def cost(self, theta: Array) -> float:
        """Of data and of the prior of the other axes."""
        squares = np.square(self.problem.residual(theta))
        return float(squares.sum() - squares[self.k - theta.size])

    def known(self, pool: Sequence[Device]) -> list[tuple[float, Array]]:
        """The best point, and those of other paths that are inside the interval of this one."""
        space = self.problem.space
        vectors = [space.encode(model, x0) for model, x0 in pool]
        if vectors:
            squares = np.square(self.problem.residual(np.array(vectors)))
            cost = squares.sum(-1) - squares[:, self.k - len(space.axes)]
            delta = (cost - self.least) / self.scale
            self.points += [(float(d), v) for d, v in zip(delta, vectors, strict=True) if d <= self.threshold]
        return self.points

    def at(self, value: float, *guesses: Array) -> tuple[float, Array]:
        """Delta and vector of the best fit with the axis held, from the guesses in turn until one is inside."""
        best = self._descend(value, guesses[0])
        for guess in guesses[1:]:
            if best[0] > self.threshold:
                best = min(best, self._descend(value, guess), key=lambda point: point[0])
        for _ in range(2):
            if best[0] > self.threshold:
                best = min(best, self._descend(value, self._around(value, best[1])), key=lambda point: point[0])
        self.points.append(best)
        return best

    def _descend(self, value: float, guess: Array) -> tuple[float, Array]:
        start = guess.copy()
        start[self.k] = value
        outcome = self.problem.descend(start, held={self.k: value}, most=100)
        theta = self.problem.vector(outcome.params)
        return (self.cost(theta) - self.least) / self.scale, theta

    def _around(self, value: float, centre: Array) -> Array:
        """The best of points around a centre that differ from it in one coordinate, by amounts of all sizes."""
        space = self.problem.space
        offsets = np.concatenate([-SCAN[::-1], SCAN])
        cloud = np.repeat(centre[None, :], len(space.axes) * offsets.size, axis=0)
        at = np.repeat(np.arange(len(space.axes)), offsets.size)
        cloud[np.arange(at.size), at] += np.tile(offsets, len(space.axes)) * space.width[at]
        cloud = np.clip(cloud, space.floor, space.ceiling)
        cloud[:, self.k] = value
        cost = np.concatenate([np.square(self.problem.residual(part)).sum(-1) for part in np.array_split(cloud, 8)])
        return np.asarray(cloud[int(cost.argmin())])


def _profile(
    result: FitResult,
    whole: Problem,
    theta: Array,
    k: int,
    level: float,
    pool: list[Device],
) -> tuple[Profile, Array | None]:
    """The profile around a best vector, and a vector that fits better if one was met.

    Each side begins at the farthest point that any path has found inside the interval; `pool` collects them.
    """
    problem, best = follow(whole, theta, k)
    axis = problem.space.axes[k]
    scale = result.problem.misfit**2 * result.statistics["inflation"]
    threshold = _quantile(level, problem, scale)
    path = _Path(problem, k, 0.0, scale, threshold, [])
    path.least = path.cost(best)
    path.points.append((0.0, best))
    spread = np.sqrt(scale * max(float(replace(problem, misfit=1.0).covariance(best)[k, k]), 1e-30))
    step = float(np.clip(0.7 * spread, 1e-4 * (axis.ceiling - axis.floor), 0.1 * (axis.high - axis.low)))
    ends, opened = [], []
    for sign, limit in ((-1, axis.floor), (1, axis.ceiling)):
        start = max(path.known(pool), key=lambda point, sign=sign: sign * point[1][k])  # type: ignore[misc]
        end, is_open = _walk(path, start, sign, step, limit, threshold)
        ends.append(end)
        opened.append(is_open)
    pool += [problem.device(vector) for delta, vector in path.points if delta <= threshold]
    order = sorted(path.points, key=lambda point: point[1][k])
    delta = np.array([point[0] for point in order])
    models = [problem.device(point[1])[0] for point in order]
    values = np.array([undo(axis, point[1][k]) for point in order])
    estimate, low, high = (undo(axis, value) for value in (best[k], *ends))
    if axis.sign < 0:  # the larger magnitude is the lower value
        values, delta, models, low, high, opened = values[::-1], delta[::-1], models[::-1], high, low, opened[::-1]
    made = Profile(
        axis.name, axis.unit, estimate, values, delta, threshold, scale, level, low, high, opened[0], opened[1], models,
        axis.log,
    )  # fmt: skip
    better = None
    if delta.min() < -NEAR * threshold:
        model, x0 = problem.device(order[int(delta.argmin())][1])
        moved = whole.vector(whole.descend(whole.space.encode(model, x0)).params)
        better = moved if whole.chisqr(moved) < whole.chisqr(theta) - NEAR * threshold * scale else None
    return replace(made, bound=_bound(result, made)), better


def _quantile(level: float, problem: Problem, scale: float) -> float:
    if scale <= 1.0:
        return float(stats.chi2.ppf(level, 1))
    return float(stats.f.ppf(level, 1, problem.size - len(problem.space.axes)))


def _walk(
    path: _Path, start: tuple[float, Array], sign: int, step: float, limit: float, threshold: float
) -> tuple[float, bool]:
    """The end of the interval on one side, and whether it is open."""
    if sign * (limit - start[1][path.k]) <= 0:
        return limit, True
    k, halved = path.k, 0
    before, here = start, start
    for _ in range(MOST):
        value = here[1][k] + sign * step
        last = sign * (limit - value) <= 1e-9 * abs(step)
        value = limit if last else value
        ahead = value - here[1][k]
        moved = here[1][k] - before[1][k]
        guess = here[1] + (here[1] - before[1]) * (ahead / moved if moved else 0.0)
        guess = np.clip(guess, path.problem.space.floor, path.problem.space.ceiling)
        found = path.at(value, guess, here[1])
        if found[0] > threshold and here[0] < SUDDEN * threshold and halved < HALVINGS:
            step, halved = 0.5 * step, halved + 1
            continue
        if found[0] > threshold:
            return _root(path, here, found, threshold), False
        if last:
            return limit, True
        rise = found[0] - here[0]
        if rise < 0.1 * threshold:
            step, halved = 2.0 * step, max(0, halved - 1)
        elif rise > 0.5 * threshold:
            step *= 0.5
        before, here = here, found
    return here[1][k], True


def _root(path: _Path, inside: tuple[float, Array], outside: tuple[float, Array], threshold: float) -> float:
    """Where the misfit is the threshold, between two points; the root of the misfit is about straight there."""
    k = path.k
    for _ in range(5):
        a, b = (np.sqrt(max(point[0], 0.0)) for point in (inside, outside))
        share = float(np.clip((np.sqrt(threshold) - a) / (b - a), 0.1, 0.9))
        value = inside[1][k] + share * (outside[1][k] - inside[1][k])
        found = path.at(value, inside[1] + share * (outside[1] - inside[1]))
        if abs(found[0] - threshold) < NEAR * threshold:
            return float(value)
        inside, outside = (found, outside) if found[0] < threshold else (inside, found)
    a, b = (np.sqrt(max(point[0], 0.0)) for point in (inside, outside))
    share = (np.sqrt(threshold) - a) / (b - a)
    return float(inside[1][k] + share * (outside[1][k] - inside[1][k]))


def switching_time(model: Model, v: float, low: float = 0.1, high: float = 0.9) -> float:
    """Time that a constant voltage takes to move the state between 10 and 90 % [s]; inf where it does not move it.

    The integral of dx / |dx/dt| by Gauss-Legendre quadrature on 64 nodes.
    """
    node, weight = np.polynomial.legendre.leggauss(64)
    x = low + 0.5 * (high - low) * (node + 1.0)
    rate = np.abs(np.broadcast_to(np.asarray(model.rate(v, x), dtype=float), x.shape))
    if not (rate > 0).all():
        return float("inf")
    return float(np.sum(weight / rate) * 0.5 * (high - low))


def _bound(result: FitResult, found: Profile) -> str:
    """What an open end of a rate or an exponent means, in seconds at the largest voltage applied.

    A rate without an upper end is a device that switches between two samples: its speed has no trace in the data, but
    the time it took has a longest value.
    """
    if not (found.open_low or found.open_high):
        return ""
    role = next((entry.role for entry in result.model.parameters() if entry.name == found.name), "")
    if role not in ("rate", "exponent"):
        return ""
    v = _driving_voltage(result, found.name)
    if v is None:
        return "no voltage of this sign was applied"
    times = np.array([switching_time(model, v) for model in found.inside])
    name = "t_set" if v * result.model.polarity * result.model.set_sign > 0 else "t_reset"
    steps = [float(np.median(np.diff(trace.t))) for trace in result.traces]
    finite = times[np.isfinite(times)]
    if not finite.size:
        return f"{name}: no switching at {v:.3g} V"
    least, most = float(finite.min()), float(times.max())
    sampling = f"samples are {min(steps):.2g} s apart"
    if np.isfinite(most) and (found.open_high or role == "exponent"):
        return f"{name} at {v:.3g} V at most {most:.2g} s ({sampling})"
    return f"{name} at {v:.3g} V at least {least:.2g} s"


def _driving_voltage(result: FitResult, name: str) -> float | None:
    """The largest voltage of the sign at which the parameter changes the rate, or None."""
    model = result.model
    ends = {max(float(trace.v.max()) for trace in result.traces), min(float(trace.v.min()) for trace in result.traces)}
    value = float(getattr(model, name))
    changed = model.bind(**{name: 1.5 * value})
    moved = {v: abs(float(changed.rate(v, 0.5)) - float(model.rate(v, 0.5))) for v in ends if v != 0}
    best = max(moved, key=lambda v: moved[v], default=None)
    return best if best is not None and moved[best] > 0 else None


def plot_profiles(profiles: dict[str, Profile] | Iterable[Profile]) -> Figure:
    """The misfit along every parameter, the threshold, the estimate and the interval."""
    import matplotlib.pyplot as plt

    from devicelab.plot import ACCENT, FITTED, MEASURED

    every: list[Profile] = list(profiles.values()) if isinstance(profiles, dict) else list(profiles)
    columns = min(4, max(1, len(every)))
    rows = -(-len(every) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.7 * columns, 2.3 * rows), squeeze=False, sharey=True, layout="constrained"
    )
    grid: Any = axes.ravel()
    for ax, entry in zip(grid, every, strict=False):
        ax.plot(entry.values, np.maximum(entry.delta, 0.0), ".-", color=MEASURED, lw=1, ms=4)
        ax.axhline(entry.threshold, color=ACCENT, lw=0.8, ls="--")
        ax.axvline(entry.estimate, color=FITTED, lw=0.9)
        ax.axvspan(entry.low, entry.high, color=FITTED, alpha=0.12, lw=0)
        if entry.log and (entry.values > 0).all() and entry.values[-1] > 30 * entry.values[0]:
            ax.set_xscale("log")
        unit = "" if entry.unit == "1" else f" [{entry.unit}]"
        ax.set_xlabel(entry.name + unit)
        ax.set_ylim(0, 2.5 * entry.threshold)
        opened = [words for words, flag in (("open below", entry.open_low), ("open above", entry.open_high)) if flag]
        if opened:
            ax.set_title(", ".join(opened), fontsize=9, color=ACCENT)
    for ax in grid[len(every) :]:
        ax.set_visible(False)
    for row in axes:
        row[0].set_ylabel("increase of chi2")
    return figure
