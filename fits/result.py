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

from devicelab import Model, Trace, __version__
from devicelab.files import write_text
from devicelab.lut import describe

from .metrics import metrics, switching_errors
from .noise import Noise
from .problem import Problem
from .space import Coordinate

Array = NDArray[np.float64]
Z95 = 1.959964
LOOSE = 2.0
"""Width of an interval, in decades, beyond which a parameter is called weakly determined."""

AT_BOUND = 1e-3
"""Distance from a hard limit, of the range between them: descents approach it from within and never reach it."""

UNSEEN = 3.0
"""Relative change of the current, in units of the relative noise, below which no switching is seen."""

SIGNIFICANT = 5.0
"""Standard deviations beyond which chi2, or the likeness of neighbouring residuals, is not chance."""

MISFIT = 1.5
"""chi2 per degree of freedom from which a model is said not to describe the traces, where that is significant too."""

ALIKE = 0.3
"""The same for the correlation of neighbouring residuals: filters of an instrument make some."""

SIMILAR = 10.0
"""Rise of chi2, per chi2 per degree of freedom, up to which another device describes the traces as well: it is up to
exp(5) times less likely than the best."""

APART = 3.0
"""Standard deviations of a coordinate by which another device differs from the best one."""

BENT = 2.0
"""Factor between the rise of chi2 at an end of an interval and what a parabola has there, from which it is no parabola;
the end itself is then off by about the root of it."""

FARTHEST = 10.0
"""Largest factor by which the end of an interval is moved for that; a profile finds the end itself."""


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


def conclude(problem: Problem, outcome: Any, seed: int, others: Sequence[Array] = ()) -> FitResult:
    """The result of the last descent, in the model's own parameters; `others` are where other descents ended."""
    theta = problem.vector(outcome.params)
    jac = problem.fine_jacobian(theta)
    statistics = _statistics(problem, theta, outcome.nfev)
    covariance = problem.covariance(theta, jac) * statistics["inflation"]
    model, x0 = problem.device(theta)
    start = np.array([outcome.init_values.get(axis.label, np.nan) for axis in problem.space.axes])
    alternatives, several = _alternatives(problem, theta, covariance, others, statistics)
    reasons = [*_doubts(statistics), *several]
    return FitResult(
        model=model,
        x0=x0,
        estimates=_estimates(problem, theta, covariance, start, bent(problem, theta, covariance, jac)),
        correlations=_correlations(problem, covariance),
        statistics=statistics,
        problem=problem,
        theta=theta,
        covariance=covariance,
        seed=seed,
        series_resistance=float(problem.space.series(theta)),
        warnings=[*reasons, *_warnings(problem, theta, model)],
        trusted=not reasons,
        alternatives=alternatives,
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


def residual_structure(problem: Problem, theta: Array) -> dict[str, float]:
    """Whether neighbouring residuals are alike, which the noise of an instrument is not.

    Returns:
        lag1: Their correlation, 0 +- 1/sqrt(n) for white noise; runs: how many runs of one sign there are less than
        chance makes, in standard deviations, with the sign of the excess (Wald and Wolfowitz, Ann. Math. Stat. 11, 147
        (1940), doi:10.1214/aoms/1177731909); inflation: factor by which alike residuals widen a variance, that of a
        mean of a first-order autoregression, (1 + lag1) / (1 - lag1).
    """
    residual = problem.residual(theta)[: problem.size]
    place = np.concatenate([np.flatnonzero(mask) for mask in problem.masks])
    pairs = np.diff(place) == 1
    now, then = residual[:-1][pairs], residual[1:][pairs]
    square = np.square(residual).mean()
    if now.size < 2 or square == 0.0:
        return {"lag1": 0.0, "runs": 0.0, "inflation": 1.0}
    lag1 = float((now * then).mean() / square)
    plus, n = float((residual > 0).mean()), now.size
    change = 2.0 * plus * (1.0 - plus)
    changes = float(((now > 0) != (then > 0)).mean())
    runs = (changes - change) / np.sqrt(change**2 / n) if change else -np.sqrt(float(n))
    alike = min(lag1, 0.99) if lag1 * np.sqrt(n) > SIGNIFICANT else 0.0
    return {"lag1": lag1, "runs": float(runs), "inflation": (1.0 + alike) / (1.0 - alike)}


def doubts(problem: Problem, theta: Array) -> list[str]:
    """Why the residual at a vector is not that of noise; empty where it is."""
    return _doubts(_statistics(problem, theta, 0))


def _doubts(statistics: Mapping[str, float]) -> list[str]:
    """Why the residual is not that of noise."""
    n, redchi, lag1 = statistics["samples"], statistics["redchi"], statistics["lag1"]
    large = redchi > MISFIT and redchi - 1.0 > SIGNIFICANT * np.sqrt(2.0 / n)
    alike = lag1 > ALIKE and lag1 * np.sqrt(n) > SIGNIFICANT
    if alike:
        return [
            f"the model does not describe the traces: chi2/dof {redchi:.3g}, and neighbouring residuals are alike "
            f"(correlation {lag1:.2f}). A false minimum, or the wrong model or window: more starts=..., another seed, "
            "another template. Intervals are widened for it and may still miss the truth"
        ]
    if large:
        return [
            f"the model does not describe the traces to within the noise: chi2/dof {redchi:.3g}; neighbouring "
            "residuals are not alike, so the noise is larger than assumed, or a few samples are far off (loss='huber')"
        ]
    return []


def _alternatives(
    problem: Problem, theta: Array, covariance: Array, others: Sequence[Array], statistics: Mapping[str, float]
) -> tuple[list[Model], list[str]]:
    """Devices away from the best one that describe the traces as well, and a line on each."""
    scale = problem.misfit**2 * statistics["inflation"]
    least, reach = problem.chisqr(theta), APART * np.sqrt(np.diag(covariance))
    models: list[Model] = []
    lines: list[str] = []
    kept = [theta]
    best = [_undo(axis, value) for axis, value in zip(problem.space.axes, problem.space.physical(theta), strict=True)]
    for other in sorted(others, key=problem.chisqr):
        rise = (problem.chisqr(other) - least) / scale
        apart = all((np.abs(other - near) > reach).any() for near in kept)
        if rise > SIMILAR or not apart:
            continue
        kept.append(other)
        models.append(problem.device(other)[0])
        far = np.argsort(-np.abs(other - theta) / reach)[:3]
        values = problem.space.physical(other)
        words = ", ".join(
            f"{axis.name} {_undo(axis, values[k]):.3g} {axis.unit} (best {best[k]:.3g})"
            for k, axis in ((k, problem.space.axes[k]) for k in far)
        )
        lines.append(f"several solutions: another device has chi2 higher by {max(rise, 0.0) * scale:.2g} only: {words}")
    return models, lines


def bent(problem: Problem, theta: Array, covariance: Array, jac: Array) -> dict[int, tuple[float, float]]:
    """Axes at an end of whose interval chi2, the others refitted, has not risen as a parabola would.

    With each, how many times farther its lower and its upper end are where chi2 rises less: the root of the ratio, at
    most `FARTHEST` times.

    The valley is entered along the direction that the covariance gives, once with all coordinates and once with those
    that are determined, and two Gauss-Newton steps of the others with the Jacobian of the best vector follow its bend:
    six batches of 2p simulations. What chi2 rises by after that is the most that a profile would have.
    """
    space, p = problem.space, theta.size
    sd = np.sqrt(np.diag(covariance))
    hessian = jac.T @ jac
    scale = covariance[0, 0] / np.linalg.inv(hessian)[0, 0]
    known = 2 * Z95 * sd / space.width < 0.5  # elsewhere a note says so already
    axis = np.concatenate([np.arange(p)] * 2)
    ends = Z95 * np.concatenate([sd, -sd])
    ends = np.clip(theta[axis] + ends, space.floor[axis], space.ceiling[axis]) - theta[axis]
    rise = np.minimum(
        _rises(problem, theta, jac, ends, np.arange(p)), _rises(problem, theta, jac, ends, np.flatnonzero(known))
    )
    moved = np.abs(ends) / sd[axis]
    ratio = rise / (scale * np.maximum(moved, 1e-9) ** 2)
    told = (moved > 0.5 * Z95) & known[axis]
    far = np.where(ratio < 1.0 / BENT, 1.0 / np.sqrt(np.maximum(ratio, 1.0 / FARTHEST**2)), 1.0)
    named = {int(k) for k in axis[told & ((ratio > BENT) | (ratio < 1.0 / BENT))]}
    return {k: (float(far[p + k]), float(far[k])) for k in sorted(named)}


def _rises(problem: Problem, theta: Array, jac: Array, ends: Array, moving: NDArray[np.intp]) -> Array:
    """Rise of chi2, prior included, with each axis moved up [p] and down [p] by `ends`, those of `moving` following."""
    space, p = problem.space, theta.size
    hessian = jac.T @ jac
    axis = np.concatenate([np.arange(p)] * 2)
    step, direction = np.zeros((p, p, p)), np.eye(p)
    for k in range(p):
        free = moving[moving != k]
        step[k][np.ix_(free, free)] = np.linalg.inv(hessian[np.ix_(free, free)])
        direction[k] -= step[k] @ hessian[:, k]
    points = theta + ends[:, None] * direction[axis]
    rise = np.full(2 * p, np.inf)
    least = np.square(problem.residual(theta)).sum()
    for _ in range(3):
        points = np.clip(points, space.floor, space.ceiling)
        residual = problem.residual(points)
        rise = np.minimum(rise, np.square(residual).sum(-1) - least)
        points = points - np.einsum("bpq,bq->bp", step[axis], residual @ jac)
    return rise


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


def _statistics(problem: Problem, theta: Array, evaluations: int) -> dict[str, float]:
    """Of the data alone, the prior left out."""
    n, p = problem.size, theta.size
    chisqr = problem.chisqr(theta)
    log = n * np.log(max(chisqr, 1e-300) / n)
    return {
        "samples": float(n),
        "chisqr": chisqr,
        "redchi": chisqr / (n - p),
        "aic": float(log + 2 * p),
        "bic": float(log + np.log(n) * p),
        "evaluations": float(evaluations),
        **residual_structure(problem, theta),
    }


def _estimates(
    problem: Problem, theta: Array, covariance: Array, start: Array, bent: Mapping[int, tuple[float, float]]
) -> list[Estimate]:
    """Values and 95 % intervals in model units; those of rates by propagation through the coordinates."""
    space = problem.space
    value, initial = space.physical(theta), space.physical(start)
    step = np.diag(1e-6 * space.width)
    both = space.physical(np.concatenate([theta + step, theta - step]))
    gradient = (both[: theta.size] - both[theta.size :]).T / (2e-6 * space.width)
    reach = Z95 * np.sqrt(np.einsum("ij,jk,ik->i", gradient, covariance, gradient))
    own = 2 * Z95 * np.sqrt(np.diag(covariance)) / space.width
    out = []
    for k, axis in enumerate(space.axes):
        edge = min(theta[k] - axis.floor, axis.ceiling - theta[k]) < AT_BOUND * (axis.ceiling - axis.floor)
        note = "at bound" if edge else ""
        if own[k] > 1.0:
            note = "not determined: interval wider than the range searched"
        elif own[k] > 0.5:
            note = "weakly determined"
        elif axis.log and 2 * reach[k] > max(4.0, space.width[k]):
            note = "not determined: trades off against threshold and exponent"
        elif axis.log and not note and 2 * reach[k] > LOOSE:
            note = "weakly determined"
        elif not note and (k in bent or _leans(gradient[k], covariance, reach[k], bent)):
            note = "interval not symmetric: use fits.profile"
        down, up = bent.get(k, (1.0, 1.0))
        low, high = value[k] - down * reach[k], value[k] + up * reach[k]
        if axis.plain:
            low, high = max(low, axis.floor), min(high, axis.ceiling)
        ends = _undo(axis, low), _undo(axis, high)
        best, first = _undo(axis, value[k]), _undo(axis, initial[k])
        out.append(Estimate(axis.name, axis.unit, best, min(ends), max(ends), first, note))
    return out


def _leans(gradient: Array, covariance: Array, reach: float, bent: Mapping[int, Any]) -> bool:
    """Whether an interval comes for the larger part from coordinates whose own interval is not symmetric."""
    sd = np.sqrt(np.diag(covariance))
    return any(Z95 * abs(gradient[j]) * sd[j] > 0.5 * reach for j in bent)


def _correlations(problem: Problem, covariance: Array) -> list[tuple[str, str, float]]:
    scale = np.sqrt(np.diag(covariance))
    matrix = covariance / np.outer(scale, scale)
    names = [axis.label for axis in problem.space.axes]
    pairs = [(names[a], names[b], float(matrix[a, b])) for a in range(len(names)) for b in range(a)]
    return sorted((pair for pair in pairs if abs(pair[2]) > 0.5), key=lambda pair: -abs(pair[2]))


def _volts(value: float) -> str:
    return f"{1e3 * value:.3g} mV" if np.isfinite(value) else "-"


def _undo(axis: Coordinate, value: float) -> float:
    return axis.sign * float(10.0 ** min(value, 300.0)) if axis.log else float(value)


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
