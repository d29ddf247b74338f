"""Cycle to cycle: every cycle fitted, the distribution of its parameters, and a stochastic model made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from devicelab import Drive, Model, Trace, simulate
from devicelab.characterise import autocorrelation, characterise
from devicelab.errors import ConvergenceError, DevicelabError, ParameterError, unknown_name
from devicelab.events import EventSpread
from devicelab.models.base import check_one_state
from devicelab.variability import normal

from .fit import fit
from .keep import kept_outcomes
from .noise import Noise, compliance_mask
from .result import FitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

ROLES = ("resistance", "current", "threshold", "rate")
"""What changes from cycle to cycle unless told otherwise: how wide and how long the filament is (resistances), where it
forms and breaks (thresholds) and how fast. Exponents and curvatures belong to the mechanism; one cycle says little."""

TRIED = 5
"""Cycles fitted from cold, each a candidate for what all share."""

LEAST_CYCLES = 8
"""Fewer have no distribution to speak of (`devicelab.characterise` draws the same line)."""

LONGEST = 0.95
"""Largest autocorrelation believed: an estimate from tens of cycles cannot tell 20 cycles of memory from a drift."""

HANDED_ON = 0.05
"""Median difference between the state in which a cycle begins and that in which the one before ended, up to which it is
the same one: where a model lacks something, each loop is fitted best from a state that its own end is not."""

QUANTITIES = ("v_set.threshold", "v_reset.threshold", "r_on", "r_off", "area")
SHUFFLES = 999
"""Permutations behind a p-value, which is then a multiple of 0.001."""


@dataclass(frozen=True, eq=False)
class Population:
    """A device whose parameters change from cycle to cycle: logarithms jointly normal, with memory.

    The coordinates are ln |p|, and ln(r_off / r_on - 1) for r_off: signs and r_on < r_off hold by construction. They
    are those of `devicelab.variability.spread`: `spread(population.model, population.cv, n, rng,
    population.correlation)` draws independent cycles from the same distribution; `event_spread` gives what
    `devicelab.events.simulate_events` draws from.

    Args:
        model: The median device.
        names: Parameters that change.
        mean: Mean of the coordinates, [p].
        covariance: Of the coordinates, [p, p], without the errors of the estimates.
        memory: Autocorrelation at lag 1 of each, [p]; 0 where independence is not rejected.
        noise: Of the instrument.
        x0: State before the first cycle.
        compliance: Largest |current| of the instrument at negative and at positive voltage [A]; inf without.
        starts: States at which fitted cycles began, [n], where they are not those in which the cycles before ended: a
            simulated cycle then begins at one of them. None where the state is handed on.
        seen: Coordinates of the fitted cycles, [n, p], in the order of `starts`, for draws of whole cycles.
    """

    model: Model
    names: list[str]
    mean: Array
    covariance: Array
    memory: Array
    noise: Noise
    x0: float = 0.0
    compliance: tuple[float, float] = (np.inf, np.inf)
    starts: Array | None = None
    seen: Array | None = None

    @property
    def cv(self) -> dict[str, float]:
        """Coefficient of variation of each; of r_off / r_on - 1 for r_off."""
        return {name: float(np.sqrt(np.expm1(v))) for name, v in zip(self.names, np.diag(self.covariance), strict=True)}

    @property
    def correlation(self) -> dict[tuple[str, str], float]:
        """Correlation of the coordinates by pair of names."""
        sd = np.sqrt(np.maximum(np.diag(self.covariance), 1e-300))
        matrix = np.clip(self.covariance / np.outer(sd, sd), -1.0, 1.0)
        pairs = [(a, b) for b in range(len(self.names)) for a in range(b)]
        return {(self.names[a], self.names[b]): float(matrix[a, b]) for a, b in pairs}

    def event_spread(self) -> EventSpread:
        """The same for draws at switching events: what SET forms (..._on) at each SET, the rest at each RESET.

        Correlations between SET and RESET are not in it, and one memory stands for all: the median of those found.
        """
        names, sd, values = self.names, np.sqrt(np.diag(self.covariance)), self.model.values()
        kinds: dict[str, dict[str, float]] = {"set": {}, "reset": {}}
        for name, spread in zip(names, sd, strict=True):
            if name == "r_off" and "r_on" in names:  # of r_off itself, where it is far above r_on
                j, k = names.index("r_on"), names.index("r_off")
                spread = np.sqrt(self.covariance[j, j] + self.covariance[k, k] + 2 * self.covariance[j, k])
            if name in ("r_on", "r_off") and {"r_on", "r_off"} <= set(values):
                # events spread the distance from the geometric mean of the two, which moves the resistance by less
                spread = spread / (1.0 - float(np.sqrt(values["r_on"] / values["r_off"])))
            kinds["set" if name.endswith("_on") else "reset"][name] = float(np.sqrt(np.expm1(spread**2)))
        same = {
            pair: value for pair, value in self.correlation.items() if len({name[-3:] == "_on" for name in pair}) == 1
        }
        found = self.memory[self.memory > 0]
        forget = float(-1 / np.log(np.median(found))) if found.size else 0.0
        return EventSpread(set=kinds["set"], reset=kinds["reset"], memory=forget, correlation=same)

    def draw(self, cycles: int, rng: np.random.Generator) -> Model:
        """The device with parameters of shape [cycles], consecutive cycles in order."""
        values, vectors = np.linalg.eigh(self.covariance)
        z = normal((cycles, len(self.names)), rng) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
        keep = np.sqrt(1.0 - self.memory**2)
        steps = np.concatenate([z[:1], keep * z[1:]])
        columns = [np.asarray(lfilter([1.0], [1.0, -rho], steps[:, k])) for k, rho in enumerate(self.memory)]
        return self.device(self.mean + np.stack(columns, axis=-1))

    def device(self, y: Array) -> Model:
        """The device with parameters of coordinates [cycles, p]."""
        return self.model.bind(**_undo(self.names, self.model, y))

    def simulate(
        self, drive: Drive, cycles: int, rng: np.random.Generator, *, kind: Literal["normal", "resampled"] = "normal"
    ) -> list[Trace]:
        """Consecutive cycles as the instrument would have seen them: compliance, noise; the state handed on, or drawn.

        Args:
            drive: Voltage of one cycle, [t].
            cycles: Number of cycles.
            rng: numpy generator.
            kind: "normal" draws parameters from the joint normal distribution; "resampled" draws whole fitted cycles
                with replacement, with whatever tails and dependence they have, the errors of their estimates
                included, and without memory.

        Raises:
            ParameterError: If whole cycles are asked for and the population has none.
        """
        starts = None if self.starts is None else rng.choice(self.starts, cycles)
        if kind == "resampled":
            if self.seen is None:
                raise ParameterError("no fitted cycles to draw from", got=kind, hint="a population of `fits.cycles`")
            chosen = rng.integers(len(self.seen), size=cycles)
            model = self.device(self.seen[chosen])
            starts = None if self.starts is None else self.starts[chosen]
        elif kind == "normal":
            model = self.draw(cycles, rng)
        else:
            raise unknown_name("kind of draw", kind, ["normal", "resampled"])
        trace = simulate(model, drive, x0=starts) if starts is not None else self._chain(model, drive, cycles)
        low, high = (-self.compliance[0], np.inf), (-np.inf, self.compliance[1])
        limits = np.where(np.asarray(drive.v)[:, None] < 0, low, high).T
        i: Array = np.clip(np.asarray(trace.i, dtype=float), limits[0], limits[1])
        i = i + np.hypot(self.noise.rel * i, self.noise.floor) * rng.normal(size=i.shape)
        return [Trace(drive.t, drive.v, row) for row in i]

    def _chain(self, model: Model, drive: Drive, cycles: int) -> Trace:
        """Each cycle from the state in which the one before ended."""
        check_one_state(model, "cycles that are simulated together")
        starts = np.full(cycles, self.x0)
        for _ in range(50):  # each round hands the end of a cycle to the next; a full switch forgets at once
            trace = simulate(model, drive, x0=starts)
            ends = np.concatenate([[self.x0], np.clip(trace.x[:-1, -1], 0.0, 1.0)])
            if float(np.abs(ends - starts).max()) < 1e-6:
                break
            starts = ends
        return trace


@dataclass(frozen=True, eq=False)
class Cycles:
    """What `fits.cycles` found.

    Args:
        results: The fit of each cycle, None where it failed.
        problems: Why, by number of the cycle.
        names: Parameters that were fitted cycle by cycle.
        values: Their estimates, shape [good cycles, p], model units.
        coordinates: Their logarithms, see `Population`, shape [good cycles, p].
        errors: Covariance of the estimates of each cycle, shape [good cycles, p, p].
        population: The distribution that remains when these errors are taken off.
        p_memory: p-value of the Ljung-Box test of independence of each parameter, [p].
        shared: The fit that all the other parameters were taken from.
    """

    results: list[FitResult | None] = field(repr=False)
    problems: dict[int, str]
    names: list[str]
    values: Array
    coordinates: Array
    errors: Array
    population: Population
    p_memory: Array
    shared: FitResult

    def report(self) -> str:
        """Median, spread with and without the errors of the estimates, memory; correlations above 0.3."""
        total = np.sqrt(np.expm1(self.coordinates.var(axis=0, ddof=1)))
        median = np.median(self.values, axis=0)
        lines = [
            f"{len(self.values)} cycles" + (f", {len(self.problems)} could not be fitted" if self.problems else ""),
            f"{'parameter':<10}{'median':>12}{'CV seen':>10}{'CV true':>10}{'memory':>9}{'p':>8}",
        ]
        for k, name in enumerate(self.names):
            cv = 100 * self.population.cv[name]
            lines.append(
                f"{name:<10}{median[k]:>12.5g}{100 * total[k]:>9.1f}%{cv:>9.1f}%"
                f"{self.population.memory[k]:>9.2f}{self.p_memory[k]:>8.2f}"
            )
        strong = {pair: value for pair, value in self.population.correlation.items() if abs(value) > 0.3}
        if strong:
            lines.append("correlations  " + "  ".join(f"{a}~{b} {value:+.2f}" for (a, b), value in strong.items()))
        errors = [result.metrics["nrmse"] for result in self.results if result is not None]
        lines.append(f"NRMSE of a cycle: median {100 * np.median(errors):.2f} %, largest {100 * np.max(errors):.2f} %")
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Each parameter over cycles, and its distribution with the population's."""
        import matplotlib.pyplot as plt

        from devicelab.plot import FITTED, MEASURED

        count = len(self.names)
        figure, axes = plt.subplots(
            2, count, figsize=(2.6 * count, 4.4), squeeze=False, layout="constrained", sharey=False
        )
        rng = np.random.default_rng(0)
        drawn = self.population.draw(4000, rng).values()
        for k, name in enumerate(self.names):
            axes[0, k].plot(self.values[:, k], ".-", color=MEASURED, lw=0.7, ms=3)
            axes[0, k].set_title(name, fontsize=10)
            axes[0, k].set_xlabel("cycle")
            ordered = np.sort(self.values[:, k])
            axes[1, k].step(ordered, (np.arange(ordered.size) + 0.5) / ordered.size, color=MEASURED, label="fitted")
            smooth = np.sort(np.asarray(drawn[name]))
            axes[1, k].plot(smooth, np.linspace(0, 1, smooth.size), color=FITTED, label="population")
            axes[1, k].set_xlim(*np.quantile(np.concatenate([ordered, smooth]), (0.002, 0.998)))
        axes[0, 0].set_ylabel("estimate")
        axes[1, 0].set_ylabel("cumulative share")
        axes[1, 0].legend(frameon=False, fontsize=8)
        return figure


def cycles(
    model: Model | FitResult,
    traces: Sequence[Trace],
    *,
    vary: Sequence[str] | None = None,
    workers: int | None = 1,
    folder: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Cycles:
    """Fit every cycle of a device, and the distribution that its parameters are drawn from.

    Some cycles are fitted from cold; of their devices the one that suits the others best gives the parameters that all
    cycles share. Every cycle is then fitted from there, only what changes from cycle to cycle let free. What is left of
    the scatter of the estimates when the covariance of each is taken off is the spread of the device: maximum
    likelihood of y_c ~ N(mean, covariance + error_c), by expectation and maximisation.

    Args:
        model: Template, or a fit whose other parameters are shared as they are.
        traces: Consecutive cycles in order, one trace each.
        vary: Parameters that change; by default resistances, thresholds and rates that one cycle determines.
        workers: Processes; 1 stays in this one; None takes all cores.
        folder: Where finished fits are kept, so that the same call goes on after a stop; nowhere by default.
        progress: Called with a line of text as cycles end.
        **options: For `fits.fit`.

    Raises:
        ParameterError: If there are fewer than 8 cycles, or a name is unknown.
        ConvergenceError: If fewer than 8 cycles could be fitted.

    Source: random-effects model with known errors: Laird and Ware, Biometrics 38, 963 (1982), doi:10.2307/2529876.
    """
    listed = list(traces)
    if len(listed) < LEAST_CYCLES:
        raise ParameterError("too few cycles", got=len(listed), allowed=f"at least {LEAST_CYCLES}")
    say = progress or (lambda line: None)
    shared = model if isinstance(model, FitResult) else _shared(model, listed, vary, options, workers, folder, say)
    names = _varying(shared, vary)
    say(f"fitting {', '.join(names)} in each of {len(listed)} cycles")
    tasks = [_Task(shared, trace, names, options) for trace in listed]
    results: list[FitResult | None] = [None] * len(listed)
    problems: dict[int, str] = {}
    for n, (k, outcome) in enumerate(kept_outcomes(_one, tasks, workers, folder), 1):
        if isinstance(outcome, DevicelabError):
            problems[k] = str(outcome)
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            results[k] = outcome
        if n % max(1, len(listed) // 10) == 0:
            say(f"cycle fits {n} of {len(listed)}")
    good = [result for result in results if result is not None]
    if len(good) < LEAST_CYCLES:
        raise ConvergenceError("too few cycles could be fitted", got=f"{len(good)} of {len(listed)}")
    rows = [_coordinates(result, names) for result in good]
    y, errors = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    mean, covariance = random_effects(y, errors)
    memory, p = _memory(y, mean, covariance)
    centre = shared.model.replace(**{k: float(v) for k, v in _undo(names, shared.model, mean).items()})
    population = Population(
        centre, names, mean, covariance, memory, shared.noise, float(np.median([result.x0[0] for result in good])),
        _compliance(listed), _starts(results), y,
    )  # fmt: skip
    values = np.array([[float(getattr(result.model, name)) for name in names] for result in good])
    return Cycles(results, problems, names, values, y, errors, population, p, shared)


@dataclass(frozen=True)
class _Task:
    shared: FitResult
    trace: Trace
    names: list[str]
    options: dict[str, Any]


def _one(task: _Task) -> FitResult:
    warm = {key: value for key, value in task.options.items() if key not in ("screen", "starts", "vary", "fixed")}
    return fit(task.shared.model, task.trace, **{**warm, "vary": task.names, "start": task.shared})


@dataclass(frozen=True)
class _Cold:
    model: Model
    trace: Trace
    options: dict[str, Any]


def _cold(task: _Cold) -> FitResult:
    return fit(task.model, task.trace, **task.options)


def _shared(
    model: Model, traces: list[Trace], vary: Sequence[str] | None, options: dict[str, Any], workers: int | None,
    folder: str | Path | None, say: Callable[[str], None],
) -> FitResult:  # fmt: skip
    """Of cold fits to some cycles, the one whose shared parameters suit all of these cycles best."""
    chosen = [traces[k] for k in np.linspace(0, len(traces) - 1, TRIED).round().astype(int)]
    found: dict[int, FitResult] = {}
    tasks = [_Cold(model, trace, options) for trace in chosen]
    for n, (k, outcome) in enumerate(kept_outcomes(_cold, tasks, workers, folder), 1):
        say(f"cold fit {n} of {len(chosen)}")
        if isinstance(outcome, FitResult):
            found[k] = outcome
        elif not isinstance(outcome, ConvergenceError):
            raise outcome
    cold = [found[k] for k in sorted(found)]
    if not cold:
        raise ConvergenceError("no cycle could be fitted from cold", hint="another model or window, or more starts=...")
    noise = Noise(*(float(np.median([getattr(result.noise, part) for result in cold])) for part in ("rel", "floor")))
    costs = []
    for result in cold:
        names = _varying(result, vary)
        total = 0.0
        for trace in chosen:
            try:
                total += _one(_Task(result, trace, names, {**options, "noise": noise})).statistics["chisqr"]
            except ConvergenceError:
                total += np.inf
        costs.append(total)
    best = cold[int(np.argmin(costs))]
    return replace(best, problem=replace(best.problem, noise=noise))


def _varying(shared: FitResult, vary: Sequence[str] | None) -> list[str]:
    model = shared.model
    roles = {entry.name: entry.role for entry in model.parameters()}
    if vary is not None:
        for name in vary:
            if name not in roles:
                raise unknown_name("parameter", name, list(roles))
            if float(getattr(model, name)) == 0.0:
                raise ParameterError("a parameter that is zero has no logarithm to spread", got=name)
        return list(vary)
    notes = {e.name: e.note for e in shared.estimates}
    vague = {name for name, note in notes.items() if "not determined" in note or "at bound" in note}
    vague |= {name for name, note in notes.items() if note and roles.get(name) == "rate"}  # its threshold says it
    fitted = [e.name for e in shared.estimates if not e.name.startswith("x0_")]
    names = [name for name in fitted if roles.get(name) in ROLES and name not in vague]
    if not names:
        raise ParameterError("one cycle determines none of the parameters", got=", ".join(sorted(vague)))
    return names


def _ratio(names: Sequence[str], model: Model) -> bool:
    return "r_off" in names and "r_on" in model.values()


def _log(names: Sequence[str], values: Mapping[str, Any], model: Model) -> Array:
    """Coordinates [..., p] of parameters."""
    columns = []
    for name in names:
        value = np.abs(np.asarray(values[name], dtype=float))
        if name == "r_off" and _ratio(names, model):
            value = np.maximum(value / np.asarray(values.get("r_on", model.values()["r_on"])) - 1.0, 1e-12)
        columns.append(np.log(value))
    return np.stack(np.broadcast_arrays(*columns), axis=-1)


def _undo(names: Sequence[str], model: Model, y: Array) -> dict[str, Any]:
    """Parameters from coordinates [..., p]."""
    out: dict[str, Any] = {}
    for k, name in enumerate(names):
        if name == "r_off" and _ratio(names, model):
            continue
        out[name] = np.sign(float(getattr(model, name))) * np.exp(y[..., k])
    if _ratio(names, model):
        r_on = out["r_on"] if "r_on" in out else float(model.values()["r_on"])
        out["r_off"] = r_on * (1.0 + np.exp(y[..., list(names).index("r_off")]))
    return out


def _coordinates(result: FitResult, names: list[str]) -> tuple[Array, Array]:
    """Coordinates of one cycle's estimates and their covariance, initial state integrated out."""
    space, theta = result.problem.space, result.theta
    step = 1e-6 * space.width

    def at(vectors: Array) -> Array:
        decoded, _ = space.decode(vectors)
        return _log(names, decoded.values(), result.model)

    gradient = (at(theta + np.diag(step)) - at(theta - np.diag(step))).T / (2 * step)
    return at(theta[None, :])[0], gradient @ result.covariance @ gradient.T


def random_effects(y: Array, errors: Array, rounds: int = 2000) -> tuple[Array, Array]:
    """Mean [p] and covariance [p, p] of true values, from estimates [n, p] with known error covariances [n, p, p]."""
    n = len(y)
    mean = np.median(y, axis=0)
    covariance = np.atleast_2d(np.cov(y.T, ddof=1)) + 1e-12 * np.eye(y.shape[1])
    for _ in range(rounds):
        weight = np.linalg.inv(covariance + errors)
        new_mean = np.linalg.solve(weight.sum(0), np.einsum("nij,nj->i", weight, y))
        gain = covariance @ weight
        true = new_mean + np.einsum("nij,nj->ni", gain, y - new_mean)
        left = covariance - gain @ covariance
        # the mean is estimated too: its own variance is what n - 1 in place of n makes up for
        new = left.mean(0) + (true - new_mean).T @ (true - new_mean) / n + np.linalg.inv(weight.sum(0))
        moved = float(np.abs(new - covariance).max() / np.abs(np.diag(covariance)).max())
        mean, covariance = new_mean, 0.5 * (new + new.T)
        if moved < 1e-7:
            break
    return mean, covariance


def _memory(y: Array, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Autocorrelation at lag 1 of the true values, 0 where independence is not rejected at 5 %; and the p-values.

    Errors of neighbouring cycles are independent, so the covariance at lag 1 is that of the true values.
    """
    centred = y - mean
    lagged = np.mean(centred[1:] * centred[:-1], axis=0)
    rho = np.clip(lagged / np.maximum(np.diag(covariance), 1e-300), -LONGEST, LONGEST)
    p = np.array([autocorrelation(column).p_value if np.ptp(column) > 0 else 1.0 for column in y.T])
    return np.where(p < 0.05, rho, 0.0), p


def _starts(results: Sequence[FitResult | None]) -> Array | None:
    """Initial states of the fitted cycles, if they are not the last states of the cycles before; None if they are."""
    good = [result for result in results if result is not None]
    begun = np.array([result.x0[0] for result in good])
    ended = np.array([float(result.problem.respond(result.theta)[0][0][-1]) for result in good])
    both = [k for k in range(1, len(results)) if results[k] is not None and results[k - 1] is not None]
    place = np.cumsum([result is not None for result in results]) - 1
    jump = begun[place[both]] - ended[place[both] - 1]
    if jump.size < LEAST_CYCLES or abs(float(np.median(jump))) < HANDED_ON or stats.wilcoxon(jump).pvalue > 0.01:
        return None
    return begun


def _compliance(traces: Sequence[Trace]) -> tuple[float, float]:
    """Level of the samples that a compliance holds, at negative and at positive voltage [A]; inf without."""
    held = [(trace, ~compliance_mask(trace)) for trace in traces]
    out = []
    for sign in (-1, 1):
        parts = [np.abs(trace.i[mask & (sign * trace.v > 0)]) for trace, mask in held]
        values = np.concatenate(parts)
        out.append(float(np.median(values)) if values.size else float("inf"))
    return out[0], out[1]


@dataclass(frozen=True)
class Agreement:
    """How one number is distributed over measured and over simulated cycles.

    Args:
        name: The number.
        unit: Its unit.
        measured: Its values over measured cycles.
        simulated: Over simulated ones.
        ks: Two-sample Kolmogorov-Smirnov statistic, and its p-value.
        anderson: Two-sample Anderson-Darling statistic, and its p-value by permutation.
        energy: Energy distance in units of the pooled standard deviation, and its p-value by permutation.
    """

    name: str
    unit: str
    measured: Array
    simulated: Array
    ks: tuple[float, float]
    anderson: tuple[float, float]
    energy: tuple[float, float]


def agreement(
    found: Cycles,
    traces: Sequence[Trace],
    *,
    cycles: int | None = None,
    seed: int = 0,
    kind: Literal["normal", "resampled"] = "normal",
) -> dict[str, Agreement]:
    """Simulated cycles against measured ones, by the distribution of V_set, V_reset, R_on, R_off and the loop area.

    Both are characterised by the same methods, and simulated cycles have the instrument's noise and compliance. The
    p-values are of the hypothesis that both come from one distribution. A population made from these same cycles is
    tested in its form, not in its forecast: for that, fit some cycles and give the others.

    Args:
        found: From `fits.cycles`.
        traces: Measured cycles to compare with.
        cycles: Simulated cycles; four times as many as measured by default.
        seed: Of the simulation and the permutations.
        kind: Of the draws, see `Population.simulate`.
    """
    rng = np.random.default_rng(seed)
    count = 4 * len(traces) if cycles is None else cycles
    drawn = found.population.simulate(typical_drive(traces), count, rng, kind=kind)
    mine, theirs = [characterise(trace) for trace in drawn], [characterise(trace) for trace in traces]
    out = {}
    for name in QUANTITIES:
        pair = [np.array([cycle.value(name) for cycle in rows]) for rows in (theirs, mine)]
        measured, simulated = (values[np.isfinite(values)] for values in pair)
        if min(measured.size, simulated.size) < LEAST_CYCLES:
            continue
        unit = next(cycle[name].unit for cycle in theirs if name in cycle)
        out[name] = two_samples(name, unit, measured, simulated, rng)
    return out


def two_samples(name: str, unit: str, measured: Array, simulated: Array, rng: np.random.Generator) -> Agreement:
    """The three tests of two samples [n] and [m]."""
    ks = stats.ks_2samp(measured, simulated)
    pooled = np.concatenate([measured, simulated])
    sd = float(pooled.std()) or 1.0
    spread = (pooled - pooled.mean()) / sd
    statistics = np.array([_two(spread, measured.size)])
    shuffled = np.array([_two(rng.permutation(spread), measured.size) for _ in range(SHUFFLES)])
    p = (1 + (shuffled >= statistics - 1e-12).sum(0)) / (SHUFFLES + 1)
    anderson, energy = ((float(statistics[0, k]), float(p[k])) for k in range(2))
    return Agreement(name, unit, measured, simulated, (float(ks.statistic), float(ks.pvalue)), anderson, energy)


def _two(pooled: Array, n: int) -> tuple[float, float]:
    """Anderson-Darling (Pettitt 1976) and energy distance of the first n against the rest."""
    a, b = pooled[:n], pooled[n:]
    m, total = b.size, pooled.size
    grid = np.sort(pooled)
    below = np.searchsorted(np.sort(a), grid[:-1], side="right")
    i = np.arange(1, total)
    anderson = float(np.sum((below * total - n * i) ** 2 / (i * (total - i))) / (n * m))
    return anderson, float(stats.energy_distance(a, b))


def typical_drive(traces: Sequence[Trace]) -> Drive:
    """The measured voltage of one cycle, from time zero: of the cycle nearest to the median of all of them."""
    grid = np.linspace(0.0, 1.0, 201)
    curves = np.array([np.interp(grid, (trace.t - trace.t[0]) / trace.duration, trace.v) for trace in traces])
    nearest = traces[int(np.argmin(np.square(curves - np.median(curves, axis=0)).sum(-1)))]
    return Drive(nearest.t - nearest.t[0], nearest.v)


def agreement_report(found: Mapping[str, Agreement]) -> str:
    """One line a number: medians, spreads and the p-values of the three tests."""
    lines = [
        f"{'number':<20}{'median measured':>17}{'simulated':>12}{'CV':>8}{'sim':>8}   "
        f"{'p: KS':>7}{'AD':>8}{'energy':>8}"
    ]
    for entry in found.values():
        a, b = entry.measured, entry.simulated
        cvs = [100 * float(values.std(ddof=1) / abs(values.mean())) for values in (a, b)]
        lines.append(
            f"{entry.name:<20}{np.median(a):>13.4g} {entry.unit:<4}{np.median(b):>11.4g}{cvs[0]:>7.1f}%{cvs[1]:>7.1f}%"
            f"   {entry.ks[1]:>7.3f}{entry.anderson[1]:>8.3f}{entry.energy[1]:>8.3f}"
        )
    return "\n".join(lines)


def plot_agreement(found: Mapping[str, Agreement]) -> Figure:
    """Cumulative distributions of measured and simulated cycles."""
    import matplotlib.pyplot as plt

    from devicelab.plot import FITTED, MEASURED

    count = max(1, len(found))
    figure, axes = plt.subplots(1, count, figsize=(2.6 * count, 2.6), squeeze=False, sharey=True, layout="constrained")
    for ax, entry in zip(axes[0], found.values(), strict=False):
        for values, color, words in ((entry.measured, MEASURED, "measured"), (entry.simulated, FITTED, "simulated")):
            ordered = np.sort(values)
            ax.step(ordered, (np.arange(ordered.size) + 0.5) / ordered.size, color=color, label=words, lw=1.1)
        ax.set_title(f"KS p = {entry.ks[1]:.2g}", fontsize=9)
        ax.set_xlabel(f"{entry.name} [{entry.unit}]")
    axes[0, 0].set_ylabel("cumulative share")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure
