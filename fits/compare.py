"""Which model: several of them fitted to the same traces, weighed by AICc and by traces that the fit has not seen."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace
from devicelab.errors import DevicelabError, ParameterError
from devicelab.windows import window_name

from .comparison import Comparison, Row
from .fit import basins, fit, pose
from .keep import kept_outcomes
from .metrics import metrics, switching_errors
from .noise import Noise
from .result import FitResult

Array = NDArray[np.float64]
Holdout = Literal["cycles", "amplitudes"]
SAME_SWEEP = 0.05
HIDDEN_SCREEN = 64

GLANCE = 96
"""Samples of a glance; traces get 64 each at least."""

GLANCE_SCREEN = 256
"""Starting points of a glance."""

GLANCE_STARTS = 2
"""Rough descents of a glance."""


def label(model: Model) -> str:
    """Model, resistance law and window in words: ``vteam exponential biolek:p=2``."""
    parts = [model.name]
    if hasattr(model, "resistance"):
        parts.append(str(model.resistance))
    if window_name(model.window) != "none":
        values = ",".join(f"{name}={float(value):g}" for name, value in model.window.values().items())
        parts.append(window_name(model.window) + (f":{values}" if values else ""))
    return " ".join(parts)


def predict(result: FitResult, trace: Trace) -> FitResult:
    """The fitted device on a trace that the fit has not seen; only the trace's own initial state is fitted.

    Every parameter of the device stays. What state a device was left in before a trace belongs to the trace, so it is
    the one number taken from it.
    """
    return fit(
        result.model,
        trace,
        vary=[],
        noise=result.noise,
        polarity=result.model.polarity,
        drive="current" if result.problem.bench.drive == "current" else "voltage",
        series_resistance=result.series_resistance,
        periodic=result.problem.bench.periodic,
        loss=result.problem.loss,
        screen=HIDDEN_SCREEN,
        starts=2,
        seed=result.seed,
    )


def held_out(result: FitResult, traces: Trace | Sequence[Trace]) -> dict[str, float]:
    """Metrics of `fits.metrics.metrics` on traces that the fit has not seen, and `score`.

    Returns:
        The metrics over all traces together, those of `switching_errors`, and score: root mean square residual in
        standard deviations of the noise, in the variance-stabilised current that the fit minimises.
    """
    listed = [traces] if isinstance(traces, Trace) else list(traces)
    return _pooled([predict(result, trace) for trace in listed])


def _pooled(parts: Sequence[FitResult]) -> dict[str, float]:
    """Metrics of several predictions taken together; each trace was judged with the noise of its own fit."""
    quantity = parts[0].problem.quantity
    traces = [Trace(trace.t, trace.v, getattr(trace, quantity)) for part in parts for trace in part.traces]
    masks = [mask for part in parts for mask in part.masks]
    fitted = [getattr(trace, quantity) for part in parts for trace in part.simulate()]
    noise = Noise(parts[0].noise.rel, float(np.median([part.noise.floor for part in parts])))
    samples = sum(part.statistics["samples"] for part in parts)
    chisqr = sum(part.statistics["chisqr"] for part in parts)
    switching = switching_errors(
        [trace for part in parts for trace in part.traces], [trace for part in parts for trace in part.simulate()]
    )
    return {**metrics(traces, fitted, masks, noise), **switching, "score": float(np.sqrt(chisqr / samples))}


def aicc(result: FitResult) -> float:
    """Akaike's criterion with the correction for small samples, the scale of the noise counted as a parameter.

    Source: Hurvich and Tsai, Biometrika 76, 297 (1989), doi:10.1093/biomet/76.2.297.
    """
    return _aicc(result.statistics["samples"], result.statistics["chisqr"], len(result.estimates))


def _aicc(n: float, chisqr: float, parameters: int) -> float:
    k = parameters + 1
    if n - k - 1 <= 0:
        return float("inf")
    return float(n * np.log(chisqr / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def compare(
    models: Mapping[str, Model] | Sequence[Model],
    traces: Trace | Sequence[Trace],
    *,
    holdout: Sequence[Holdout] | None = None,
    folds: int = 3,
    shortlist: int | None = None,
    workers: int | None = 1,
    folder: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> Comparison:
    """Fit several models to the same traces and weigh them.

    Held-out cycles: the traces of each kind of sweep (same extremes, same duration) are parted in `folds` parts, each
    predicted by a fit to the others. Held-out amplitudes: each kind of sweep is predicted by a fit to the others. Every
    fit starts cold, so nothing of a held-out trace leaks into it but its initial state, see `predict`.

    Args:
        models: Templates as for `fits.fit`, with names or named by their model, law and window.
        traces: Traces of one device.
        holdout: "cycles", "amplitudes" or both; by default what the traces allow.
        folds: Parts.
        shortlist: Hold traces out for this many candidates only, found by successive halving: all get a `glance`, the
            best third (twice the shortlist at least) are fitted to one trace of each kind of sweep, and the best of
            these, by AICc, go on; the others are listed with the error where they dropped out. A single trace has no
            more to go on to than the fits after the glance. All by default.
        workers: Processes; 1 stays in this one; None takes all cores.
        folder: Where finished fits are kept, so that the same call goes on after a stop; nowhere by default.
        progress: Called with a line of text as fits end.
        **options: For `fits.fit`.

    Returns:
        Candidates with the best first: by the mean held-out error where traces were held out, else by AICc. One that
        cannot be fitted comes last, with the reason.

    Raises:
        ParameterError: If there is no candidate, or traces do not allow the `holdout` asked for.
    """
    named = dict(models) if isinstance(models, Mapping) else _named(models)
    if not named:
        raise ParameterError("no model to compare", got=0, allowed="at least one")
    if shortlist is not None and shortlist < 1:
        raise ParameterError("shortlist must be at least 1", got=shortlist)
    listed = [traces] if isinstance(traces, Trace) else list(traces)
    splits = _splits(listed, holdout, folds)
    say = progress or (lambda line: None)
    runner = _Runner({"noise": None, **options}, workers, folder, say)
    left, dropped = named, list[Row]()
    one_each = [listed[group[0]] for group in sweeps(listed)]
    if shortlist is not None:
        most = max(2 * shortlist, -(-len(named) // 3))
        if len(left) > most:
            say(f"a glance at {len(left)} candidates; the best {most} go on")
            left, dropped = _best(left, runner.glances(left, one_each), most, dropped)
        if len(left) > shortlist and splits:
            say(f"{len(left)} candidates on one trace of each sweep; the best {shortlist} go on")
            rows = [_passed(row, len(one_each)) for row in _ordered(runner.fits(left, one_each, [])).rows]
            left, dropped = _best(left, rows, shortlist, dropped)
    say(f"{len(left)} candidates, each fitted to all traces and to {len(splits)} parts of them")
    found = _ordered(runner.fits(left, listed, splits))
    rows = [replace(row, seconds=runner.seconds[row.name]) for row in (*found.rows, *dropped)]
    return Comparison(rows, found.by)


@dataclass(frozen=True)
class Glance:
    """How well a candidate does at a glance: rough descents on thinned traces.

    Args:
        aicc: Akaike's criterion of the best of them.
        nrmse: Its root mean square error over that of the current.
    """

    aicc: float
    nrmse: float


def glance(model: Model, traces: Sequence[Trace], *, seed: int = 0, **options: Any) -> Glance:
    """The beginning of `fits.fit`, on `GLANCE` samples, which ranks candidates at a tenth of the cost of fits.

    Args:
        model: Template.
        traces: Of one device.
        seed: Of the screen.
        **options: For `fits.fit`; of the options of the search only the screen counts, where it is smaller.
    """
    screen = min(GLANCE_SCREEN, options.pop("screen", GLANCE_SCREEN))
    options = {name: value for name, value in options.items() if name not in ("starts", "progress", "start")}
    problem, _ = pose(model, traces, **options)
    problem = problem.thinned(GLANCE)
    theta = basins(problem, screen, GLANCE_STARTS, seed)[0]
    found = metrics(problem.traces, problem.simulate(theta), problem.masks, problem.noise)
    return Glance(_aicc(problem.size, problem.chisqr(theta), theta.size), found["nrmse"])


@dataclass(frozen=True)
class _Task:
    name: str
    model: Model
    kind: str
    train: list[Trace]
    test: list[Trace]
    options: dict[str, Any]


def _glanced(task: _Task) -> tuple[Glance, float]:
    begin = time.process_time()
    found = glance(task.model, task.train, **task.options)
    return found, time.process_time() - begin


def _fitted(task: _Task) -> tuple[FitResult, list[FitResult], float]:
    begin = time.process_time()
    result = fit(task.model, task.train, **task.options)
    predicted = [predict(result, trace) for trace in task.test]
    return result, predicted, time.process_time() - begin


class _Runner:
    """Runs the tasks of a comparison, says how far they are, and adds up what each candidate takes."""

    def __init__(
        self, options: dict[str, Any], workers: int | None, folder: str | Path | None, say: Callable[[str], None]
    ) -> None:
        self.options, self.workers, self.folder, self.say = options, workers, folder, say
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def glances(self, named: Mapping[str, Model], traces: list[Trace]) -> list[Row]:
        """A row of each candidate without a result, those that do best first."""
        tasks = [_Task(name, model, "glance", traces, [], self.options) for name, model in named.items()]
        ranked = []
        for task, outcome in self._run(_glanced, tasks):
            if isinstance(outcome, BaseException):
                ranked.append((np.inf, Row(task.name, None, np.inf, problem=str(outcome))))
            else:
                words = f"NRMSE {100 * outcome[0].nrmse:.2f} % at a glance: not on the shortlist"
                ranked.append((outcome[0].aicc, Row(task.name, None, np.inf, problem=words)))
        return [row for _, row in sorted(ranked, key=lambda entry: entry[0])]

    def fits(
        self, named: Mapping[str, Model], traces: list[Trace], splits: list[tuple[str, list[int], list[int]]]
    ) -> list[Row]:
        """A row of each candidate, in their order."""
        tasks = [
            _Task(name, model, kind, [traces[k] for k in train], [traces[k] for k in test], self.options)
            for name, model in named.items()
            for kind, train, test in [("all", list(range(len(traces))), []), *splits]
        ]
        done = self._run(_fitted, tasks)
        return [_row(name, [(task, outcome) for task, outcome in done if task.name == name]) for name in named]

    def _run(self, function: Callable[[_Task], Any], tasks: list[_Task]) -> list[tuple[_Task, Any]]:
        """Outcomes in the order of the tasks; what is no fault of a candidate is raised."""
        found: dict[int, Any] = {}
        for k, outcome in kept_outcomes(function, tasks, self.workers, self.folder):
            if isinstance(outcome, BaseException) and not isinstance(
                outcome, DevicelabError | ArithmeticError | ValueError
            ):
                raise outcome
            found[k] = outcome
            task, spent = tasks[k], ""
            if isinstance(outcome, BaseException):
                text = str(outcome).splitlines()[0]
            else:
                self.seconds[task.name] += outcome[-1]
                first = outcome[0]
                share = first.nrmse if isinstance(first, Glance) else first.metrics["nrmse"]
                text, spent = f"NRMSE {100 * share:.2f} %", f"{outcome[-1]:>8.1f} CPU s"
            part = {"all": "fitted", "glance": "glance"}.get(task.kind, f"{task.kind} held out")
            self.say(f"{len(found):>4} of {len(tasks)}  {task.name:<34} {part:<20} {text:<16}{spent}")
        return [(task, found[k]) for k, task in enumerate(tasks)]


def _best(
    named: Mapping[str, Model], rows: Sequence[Row], most: int, dropped: Sequence[Row]
) -> tuple[dict[str, Model], list[Row]]:
    """The first `most` candidates, and the rows of the others before those `dropped` earlier."""
    return {row.name: named[row.name] for row in rows[:most]}, [*rows[most:], *dropped]


def _row(name: str, parts: list[tuple[_Task, Any]]) -> Row:
    row = Row(name, None, float("inf"))
    hidden: dict[str, list[FitResult]] = {"cycles": [], "amplitudes": []}
    for task, outcome in parts:
        if isinstance(outcome, BaseException):
            words = "" if task.kind == "all" else f"held-out {task.kind}: "
            row = replace(row, problem=words + str(outcome))
        elif task.kind == "all":
            row = replace(row, result=outcome[0], aicc=aicc(outcome[0]))
        else:
            hidden[task.kind] += outcome[1]
    broken = {task.kind for task, outcome in parts if isinstance(outcome, BaseException)}
    scores = {kind: _pooled(found) for kind, found in hidden.items() if found and kind not in broken}
    return replace(row, cycles=scores.get("cycles"), amplitudes=scores.get("amplitudes"))


def _passed(row: Row, traces: int) -> Row:
    """The row of a candidate that did not get on the shortlist."""
    if row.result is None:
        return row
    words = f"NRMSE {100 * row.result.metrics['nrmse']:.2f} % of {traces} trace(s) alone: not on the shortlist"
    return Row(row.name, None, float("inf"), problem=words)


def _ordered(rows: list[Row]) -> Comparison:
    scored = [row for row in rows if np.isfinite(row.score)]
    kinds = max((_kinds(row) for row in scored), key=len, default=set())
    by = "held-out error" if scored else "AICc"

    def key(row: Row) -> tuple[int, float, float]:
        if row.result is None:
            return 2, 0.0, 0.0
        if scored and _kinds(row) != kinds:
            return 1, row.aicc, 0.0
        return 0, row.score if scored else row.aicc, row.aicc

    return Comparison(sorted(rows, key=key), by)


def _kinds(row: Row) -> set[str]:
    return {name for name in ("cycles", "amplitudes") if getattr(row, name) is not None}


def _named(models: Sequence[Model]) -> dict[str, Model]:
    out: dict[str, Model] = {}
    for model in models:
        name, k = label(model), 2
        while name in out:
            name, k = f"{label(model)} #{k}", k + 1
        out[name] = model
    return out


def sweeps(traces: Sequence[Trace]) -> list[list[int]]:
    """Indices of the traces taken with the same sweep: extremes of the voltage and duration within 5 %."""
    kinds: list[tuple[Array, list[int]]] = []
    for k, trace in enumerate(traces):
        own = np.array([trace.v.max(), trace.v.min(), trace.duration])
        size = np.array([np.ptp(trace.v), np.ptp(trace.v), trace.duration])
        same = next((entry for entry in kinds if (np.abs(own - entry[0]) <= SAME_SWEEP * size).all()), None)
        if same is None:
            kinds.append((own, [k]))
        else:
            same[1].append(k)
    return [members for _, members in kinds]


def _splits(
    traces: Sequence[Trace], holdout: Sequence[Holdout] | None, folds: int
) -> list[tuple[str, list[int], list[int]]]:
    """(kind, indices to fit, indices to predict)."""
    if folds < 2:
        raise ParameterError("folds must be at least 2", got=folds)
    groups = sweeps(traces)
    able: list[Holdout] = []
    if max(len(group) for group in groups) >= 2:
        able.append("cycles")
    if len(groups) >= 2:
        able.append("amplitudes")
    for kind in holdout or []:
        if kind not in ("cycles", "amplitudes"):
            raise ParameterError("unknown kind of held-out traces", got=kind, allowed="cycles, amplitudes")
        if kind not in able:
            need = "two traces of one sweep" if kind == "cycles" else "traces of two sweeps"
            raise ParameterError(
                f"no {kind} to hold out", got=f"{len(traces)} trace(s), {len(groups)} sweep(s)", allowed=need
            )
    out: list[tuple[str, list[int], list[int]]] = []
    for kind in able if holdout is None else holdout:
        if kind == "cycles":
            count = min(folds, max(len(group) for group in groups))
            parts = [[k for group in groups if len(group) > 1 for k in group[f::count]] for f in range(count)]
        else:
            count = min(folds, len(groups))
            parts = [[k for group in groups[f::count] for k in group] for f in range(count)]
        out += [(kind, [k for k in range(len(traces)) if k not in part], part) for part in parts if part]
    return out
