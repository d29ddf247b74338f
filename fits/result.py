"""What a fit found, what it could not find, and how well it describes the traces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from devicelab import Model, Trace, __version__
from devicelab.files import write_text
from devicelab.lut import describe

from .metrics import metrics, switching_errors
from .noise import Noise
from .problem import Problem
from .region import ROUNDS, STEPPED_ROUNDS, region_ends, undo
from .space import Coordinate
from .trust import alternatives, fit_statistics, judge

Array = NDArray[np.float64]
Z95 = 1.959964
LOOSE = 2.0
"""Width of an interval, in decades, beyond which a parameter is called weakly determined."""

AT_BOUND = 1e-3
"""Distance from a hard limit, of the range between them: descents approach it from within and never reach it."""

UNSEEN = 3.0
"""Relative change of the current, in units of the relative noise, below which no switching is seen."""

SKEWED = 1.3
"""Ratio of the two halves of an interval from which it is called not symmetric."""


@dataclass(frozen=True)
class Estimate:
    """One fitted parameter.

    Args:
        name: Parameter, or ``x0_k``: initial state of trace k.
        unit: Its unit.
        value: Best value.
        low: Lower end of the 95 % interval.
        high: Upper end.
        initial: Value at the start of the last descent.
        note: "at bound", "not determined: ...", or empty.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    initial: float
    note: str = ""


@dataclass(frozen=True)
class FitResult:
    """The outcome of `fits.fit`.

    Args:
        model: The fitted device.
        x0: Initial state of each trace.
        estimates: Every parameter with its interval.
        correlations: Pairs of search coordinates whose correlation exceeds 0.5 in magnitude, strongest first.
        statistics: Samples, chi2, reduced chi2, AIC, BIC, evaluations, and `residual_structure`.
        problem: What was solved: traces, masks, noise and coordinates, with the methods to go on from there.
        theta: The best vector of coordinates, [p], in the order of `problem.space.axes`.
        covariance: Of these coordinates, [p, p].
        seed: Seed of the screen.
        series_resistance: Between source and device [ohm], known or fitted.
        warnings: What the reader must know before using the numbers.
        trusted: False where the residual is not that of noise, or another device describes the traces as well.
        alternatives: Such other devices that the search met.
    """

    model: Model
    x0: list[float]
    estimates: list[Estimate]
    correlations: list[tuple[str, str, float]]
    statistics: Mapping[str, float]
    problem: Problem = field(repr=False)
    theta: Array = field(repr=False)
    covariance: Array = field(repr=False)
    seed: int = 0
    series_resistance: float = 0.0
    warnings: list[str] = field(default_factory=list)
    trusted: bool = True
    alternatives: list[Model] = field(default_factory=list)

    @cached_property
    def metrics(self) -> Mapping[str, float]:
        """See `metrics` and `switching_errors`; computed when first asked for, as fits of cycles need few."""
        return _metrics(self.problem, self.theta)

    @property
    def traces(self) -> list[Trace]:
        """The traces fitted."""
        return self.problem.traces

    @property
    def masks(self) -> list[NDArray[np.bool_]]:
        """Which samples took part."""
        return self.problem.masks

    @property
    def noise(self) -> Noise:
        """Weights that were used."""
        return self.problem.noise

    def simulate(self) -> list[Trace]:
        """What the instrument would have seen on the fitted device, under the drive of each trace."""
        out = []
        for trace, (x, y) in zip(self.traces, self.problem.respond(self.theta), strict=True):
            v, i = (trace.v, y) if self.problem.quantity == "i" else (y, trace.i)
            out.append(Trace(trace.t, v, i, x, {"source": "fit", "model": self.model.name}))
        return out

    def report(self) -> str:
        """A table to read: values, intervals, starts, flags, correlations, metrics."""
        s, m = self.statistics, self.metrics
        from devicelab.windows import window_name

        lines = [
            f"model {self.model.name}, window {window_name(self.model.window)}, polarity {self.model.polarity:+d}",
            f"{len(self.traces)} trace(s), {s['samples']:.0f} samples, noise {100 * self.noise.rel:.2g} % and "
            f"{self.noise.floor:.3g} {'AV'[self.problem.quantity == 'v']}, {s['evaluations']:.0f} evaluations",
            "",
            f"{'parameter':<10}{'value':>12}  {'unit':<5} {'95 % interval':^25}  {'start':>10}  note",
        ]
        for e in self.estimates:
            interval = f"{e.low:.4g} .. {e.high:.4g}" if np.isfinite(e.low) else "-"
            lines.append(
                f"{e.name:<10}{e.value:>12.5g}  {e.unit:<5} {interval:^25}  {e.initial:>10.3g}  {e.note}".rstrip()
            )
        lines += ["", f"chi2/dof {s['redchi']:.4g}   AIC {s['aic']:.1f}   BIC {s['bic']:.1f}"]
        lines[-1] += f"   residual: correlation of neighbours {s['lag1']:+.2f}, runs of one sign {s['runs']:+.1f} sd"
        lines.append(
            f"NRMSE {100 * m['nrmse']:.2f} %   log10 RMSE {m['log_rmse']:.3f} decades   loop area "
            f"{100 * m['area_error']:+.1f} %   samples left out (compliance) {100 * m['masked']:.0f} %"
        )
        if self.correlations:
            lines.append("correlations  " + "  ".join(f"{a}~{b} {c:+.2f}" for a, b, c in self.correlations[:6]))
        if np.isfinite(m.get("v_set_error", np.nan)) or np.isfinite(m.get("v_reset_error", np.nan)):
            lines.append(f"mean error of V_set {_volts(m['v_set_error'])}, of V_reset {_volts(m['v_reset_error'])}")
        if not self.trusted:
            lines.append("NOT TRUSTED, for the reasons that follow")
        return "\n".join([*lines, *(f"warning: {line}" for line in self.warnings)])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples, as plain types."""
        return {
            "format": "devicelab-fit",
            "version": 1,
            "devicelab": __version__,
            "device": describe(self.model),
            "x0": self.x0,
            "estimates": [asdict(e) for e in self.estimates],
            "correlations": [list(entry) for entry in self.correlations],
            "metrics": dict(self.metrics),
            "statistics": dict(self.statistics),
            "noise": asdict(self.noise),
            "bench": {"drive": self.problem.bench.drive, "periodic": self.problem.bench.periodic},
            "series_resistance": self.series_resistance,
            "loss": self.problem.loss,
            "warnings": list(self.warnings),
            "trusted": self.trusted,
            "alternatives": [describe(model) for model in self.alternatives],
            "seed": self.seed,
            "traces": [{k: str(v) for k, v in trace.meta.items()} for trace in self.traces],
        }

    def to_json(self, path: str | Path | None = None, *, force: bool = False) -> str:
        """`to_dict` as JSON text; written to `path` if given."""
        text = json.dumps(_finite(self.to_dict()), indent=2) + "\n"
        if path is not None:
            write_text(path, text, force=force)
        return text

    def parameter_set(self) -> str:
        """The fitted device as a parameter-set file, to be read by `devicelab.parameter_set(PATH)`."""
        from devicelab.windows import window_name

        m = self.model
        files = ", ".join(str(trace.meta.get("file", "a trace")) for trace in self.traces)
        lines = [f'model = "{m.name}"', f'title = "fit to {files}"', f'source = "devicelab {__version__}"']
        lines += [f'fitted_to = "{files}"', f"polarity = {m.polarity}"]
        if hasattr(m, "resistance"):
            lines.append(f'resistance = "{m.resistance}"')
        lines += ["", "[window]", f'name = "{window_name(m.window)}"']
        lines += [f"{name} = {float(value)!r}" for name, value in m.window.values().items()]
        lines += ["", "[parameters]"]
        lines += [f"{entry.name} = {float(getattr(m, entry.name))!r} # {entry.unit}" for entry in m.parameters()]
        return "\n".join(lines) + "\n"


def conclude(
    problem: Problem, outcome: Any, seed: int, others: Sequence[Array] = (), reasons: Sequence[str] = ()
) -> FitResult:
    """The result of the last descent, in the model's own parameters.

    Args:
        problem: What was solved.
        outcome: The last descent.
        seed: Seed of the screen.
        others: Where other descents ended.
        reasons: Why the search itself is not to be trusted.
    """
    theta = problem.vector(outcome.params)
    jac = problem.fine_jacobian(theta)
    statistics = fit_statistics(problem, theta, outcome.nfev)
    covariance = problem.covariance(theta, jac) * statistics["inflation"]
    model, x0 = problem.device(theta)
    start = np.array([outcome.init_values.get(axis.label, np.nan) for axis in problem.space.axes])
    ends, notes = _intervals(problem, theta, covariance, statistics)
    models, several = alternatives(problem, theta, covariance, others, statistics, ends)
    why = [*reasons, *judge(problem, statistics), *several]
    return FitResult(
        model=model,
        x0=x0,
        estimates=_estimates(problem, theta, start, _with_others(problem, theta, ends, others, statistics), notes),
        correlations=_correlations(problem, covariance),
        statistics=statistics,
        problem=problem,
        theta=theta,
        covariance=covariance,
        seed=seed,
        series_resistance=float(problem.space.series(theta)),
        warnings=[*why, *_warnings(problem, theta, model)],
        trusted=not why,
        alternatives=models,
    )


def _metrics(problem: Problem, theta: Array) -> dict[str, float]:
    """`metrics`, and for driven devices `switching_errors`, samples left out taken as measured."""
    fitted = problem.simulate(theta)
    out = metrics(_fitted_columns(problem), fitted, problem.masks, problem.noise)
    if problem.bench.drive == "nothing":
        return out
    again = []
    for trace, y, mask in zip(problem.traces, fitted, problem.masks, strict=True):
        v, i = (
            (trace.v, np.where(mask, y, trace.i)) if problem.quantity == "i" else (np.where(mask, y, trace.v), trace.i)
        )
        again.append(Trace(trace.t, v, i))
    return {**out, **switching_errors(problem.traces, again)}


def _fitted_columns(problem: Problem) -> list[Trace]:
    """The traces with the fitted quantity as `i`."""
    if problem.quantity == "i":
        return problem.traces
    return [Trace(trace.t, trace.i, trace.v) for trace in problem.traces]


def _warnings(problem: Problem, theta: Array, model: Model) -> list[str]:
    if problem.bench.drive == "nothing":
        return []
    out = []
    states = np.concatenate([x for x, _ in problem.respond(theta)])
    top = max(float(np.abs(trace.v).max()) for trace in problem.traces)
    with np.errstate(all="ignore"):
        low, high = (np.abs(float(model.current(top, x))) for x in (states.min(), states.max()))
        contrast = abs(np.log(high / low)) if low > 0 and high > 0 else np.inf if high > low else 0.0
    if contrast < UNSEEN * problem.noise.rel:
        out.append(
            "no switching shows in the traces: the fitted state changes the current by less than the noise, so nothing "
            "that moves the state is determined, whatever its interval"
        )
    for sign, name in ((1.0, "positive"), (-1.0, "negative")):
        if min(float((sign * trace.v).min()) for trace in problem.traces) >= -0.02 * top:
            motion = "SET" if sign * model.polarity * model.set_sign > 0 else "RESET"
            out.append(f"only {name} voltages: the traces can show {motion} at most, and not the way back")
    return out


def _intervals(
    problem: Problem, theta: Array, covariance: Array, statistics: Mapping[str, float]
) -> tuple[Array, list[str]]:
    """95 % intervals in the coordinates of `Space.physical`, [p, 2], and a note on each.

    The ends are those of the likelihood region. Of parameters that are not determined, and where the region was not
    followed to its end, they are those of the covariance, by propagation through the coordinates.
    """
    space = problem.space
    value = space.physical(theta)
    step = np.diag(1e-6 * space.width)
    both = space.physical(np.concatenate([theta + step, theta - step]))
    gradient = (both[: theta.size] - both[theta.size :]).T / (2e-6 * space.width)
    quantile = interval_quantile(problem)
    reach = quantile * np.sqrt(np.einsum("ij,jk,ik->i", gradient, covariance, gradient))
    own = 2 * quantile * np.sqrt(np.diag(covariance)) / space.width
    notes = [_note(axis, *row) for axis, *row in zip(space.axes, theta, own, reach, space.width, strict=True)]
    told = [k for k, note in enumerate(notes) if not note.startswith("not determined")]
    scale = problem.misfit**2 * statistics["inflation"]
    rounds = STEPPED_ROUNDS if problem.stepped else ROUNDS
    ends = np.stack([value - reach, value + reach], axis=-1)
    if told:
        region, met = region_ends(problem, theta, told, quantile**2 * scale, rounds)
        far = np.stack([np.minimum(region[:, 0], ends[told, 0]), np.maximum(region[:, 1], ends[told, 1])], axis=-1)
        ends[told] = np.where(met, region, far)
    for k, (down, up) in enumerate(np.abs(ends - value[:, None])):
        if not notes[k] and not down < SKEWED * up < SKEWED**2 * down:
            notes[k] = "interval not symmetric"
    return ends, notes


def _with_others(
    problem: Problem, theta: Array, ends: Array, others: Sequence[Array], statistics: Mapping[str, float]
) -> Array:
    """The intervals, [p, 2], with the other minima that are as likely as their ends."""
    rise = interval_quantile(problem) ** 2 * problem.misfit**2 * statistics["inflation"]
    least = problem.chisqr(theta)
    near = [problem.space.physical(other) for other in others if problem.chisqr(other) - least < rise]
    low, high = (end(np.array([column, *near]), axis=0) for end, column in zip((np.min, np.max), ends.T, strict=True))
    return np.stack([low, high], axis=-1)


def _estimates(problem: Problem, theta: Array, start: Array, ends: Array, notes: Sequence[str]) -> list[Estimate]:
    """Values and intervals in model units."""
    value, initial = problem.space.physical(theta), problem.space.physical(start)
    out = []
    for k, axis in enumerate(problem.space.axes):
        low, high = ends[k]
        if axis.plain:
            low, high = max(low, axis.floor), min(high, axis.ceiling)
        pair = undo(axis, low), undo(axis, high)
        best, first = undo(axis, value[k]), undo(axis, initial[k])
        out.append(Estimate(axis.name, axis.unit, best, min(pair), max(pair), first, notes[k]))
    return out


def interval_quantile(problem: Problem) -> float:
    """Half width of a 95 % interval in standard deviations: of Student's t where these come from the residual."""
    if problem.misfit > 1.0:
        return float(stats.t.ppf(0.975, max(1, problem.size - len(problem.space.axes))))
    return Z95


def _note(axis: Coordinate, theta: float, own: float, reach: float, width: float) -> str:
    """What the covariance says of a parameter; `own` is the width of its coordinate's interval in those of the box."""
    if own > 1.0:
        return "not determined: interval wider than the range searched"
    if own > 0.5:
        return "weakly determined"
    if axis.log and 2 * reach > max(4.0, width):
        return "not determined: trades off against threshold and exponent"
    if min(theta - axis.floor, axis.ceiling - theta) < AT_BOUND * (axis.ceiling - axis.floor):
        return "at bound"
    return "weakly determined" if axis.log and 2 * reach > LOOSE else ""


def _correlations(problem: Problem, covariance: Array) -> list[tuple[str, str, float]]:
    scale = np.sqrt(np.diag(covariance))
    matrix = covariance / np.outer(scale, scale)
    names = [axis.label for axis in problem.space.axes]
    pairs = [(names[a], names[b], float(matrix[a, b])) for a in range(len(names)) for b in range(a)]
    return sorted((pair for pair in pairs if abs(pair[2]) > 0.5), key=lambda pair: -abs(pair[2]))


def _volts(value: float) -> str:
    return f"{1e3 * value:.3g} mV" if np.isfinite(value) else "-"


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
