"""Which model: several of them fitted to the same traces, weighed by AICc and by traces that the fit has not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace
from devicelab.errors import ConvergenceError, DevicelabError, ParameterError
from devicelab.windows import window_name

from .fit import fit
from .keep import kept_outcomes
from .metrics import metrics, switching_errors
from .noise import Noise
from .result import FitResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
Holdout = Literal["cycles", "amplitudes"]
SAME_SWEEP = 0.05
HIDDEN_SCREEN = 64


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
    n, chisqr = result.statistics["samples"], result.statistics["chisqr"]
    k = len(result.estimates) + 1
    if n - k - 1 <= 0:
        return float("inf")
    return float(n * np.log(chisqr / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


@dataclass(frozen=True)
class Row:
    """One candidate.

    Args:
        name: Its label.
        result: The fit to all traces; None if it failed.
        aicc: Akaike's criterion, inf if the fit failed.
        cycles: Metrics on held-out cycles, if any were held out.
        amplitudes: Metrics on held-out amplitudes, if any were held out.
        problem: Why the fit or a held-out fit failed, or empty.
    """

    name: str
    result: FitResult | None
    aicc: float
    cycles: Mapping[str, float] | None = None
    amplitudes: Mapping[str, float] | None = None
    problem: str = ""

    @property
    def score(self) -> float:
        """Mean of the held-out scores; nan without any."""
        parts = [part["score"] for part in (self.cycles, self.amplitudes) if part is not None]
        return float(np.mean(parts)) if parts else float("nan")


@dataclass(frozen=True)
class Comparison:
    """What `fits.compare` found, the best candidate first.

    Args:
        rows: One a candidate.
        by: What decided: "held-out error" or "AICc".
    """

    rows: list[Row]
    by: str

    @property
    def best(self) -> FitResult:
        """The fit of the best candidate to all traces."""
        result = self.rows[0].result
        if result is None:
            raise ConvergenceError("no candidate could be fitted", got=self.rows[0].problem)
        return result

    def table(self) -> list[dict[str, Any]]:
        """One dict a candidate: parameters, NRMSE and log RMSE in sample and held out, AICc above the least."""
        least = min(row.aicc for row in self.rows)
        out: list[dict[str, Any]] = []
        for row in self.rows:
            line: dict[str, Any] = {"model": row.name}
            if row.result is None:
                out.append({**line, "problem": row.problem})
                continue
            line["parameters"] = len(row.result.estimates)
            sets = {"": row.result.metrics, " held-out cycles": row.cycles, " held-out amplitudes": row.amplitudes}
            for words, found in sets.items():
                if found is not None:
                    line[f"NRMSE{words} [%]"] = 100 * found["nrmse"]
                    line[f"log RMSE{words} [decades]"] = found["log_rmse"]
            line["AICc above least"] = row.aicc - least
            if np.isfinite(row.score):
                line["held-out error [sd of the noise]"] = row.score
            if row.problem:
                line["problem"] = row.problem
            out.append(line)
        return out

    def report(self) -> str:
        """The table as text, and what decided."""
        head = f"{'model':<34}{'p':>4}{'NRMSE %':>10}{'log RMSE':>10}"
        names = {"cycles": "cycles", "amplitudes": "amplitudes"}
        shown = [name for name in names if any(getattr(row, name) is not None for row in self.rows)]
        head += "".join(f"{'NRMSE % held-out ' + name:>29}" for name in shown) + f"{'AICc':>12}"
        lines = [head]
        least = min(row.aicc for row in self.rows)
        for row in self.rows:
            if row.result is None:
                lines.append(f"{row.name:<34}  {row.problem.splitlines()[0]}")
                continue
            m = row.result.metrics
            line = f"{row.name:<34}{len(row.result.estimates):>4}{100 * m['nrmse']:>10.2f}{m['log_rmse']:>10.3f}"
            for name in shown:
                part = getattr(row, name)
                line += f"{'-':>29}" if part is None else f"{100 * part['nrmse']:>29.2f}"
            lines.append(
                line + f"{row.aicc - least:>+12.1f}" + (f"  {row.problem.splitlines()[0]}" if row.problem else "")
            )
        lines.append(f"ordered by {self.by}; AICc above the least")
        by_aicc = min(self.rows, key=lambda row: row.aicc)
        if by_aicc is not self.rows[0]:
            lines.append(
                f"AICc alone would take {by_aicc.name}; it counts residuals as independent, as no misfit leaves them."
            )
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Error of each candidate, in sample and held out, and AICc above the least."""
        import matplotlib.pyplot as plt

        from devicelab.plot import ACCENT, FITTED, MEASURED

        good = [row for row in self.rows if row.result is not None]
        figure, axes = plt.subplots(
            1, 2, figsize=(9, 0.5 * len(good) + 1.6), sharey=True, width_ratios=[2, 1], layout="constrained"
        )
        y = np.arange(len(good))
        marks = [
            ("all traces fitted", "o", MEASURED),
            ("held-out cycles", "s", FITTED),
            ("held-out amplitudes", "D", ACCENT),
        ]
        for words, marker, color in marks:
            found = [
                {"all traces fitted": row.result.metrics if row.result else None, "held-out cycles": row.cycles}.get(
                    words, row.amplitudes
                )
                for row in good
            ]
            if any(part is not None for part in found):
                values = [np.nan if part is None else 100 * part["nrmse"] for part in found]
                axes[0].plot(values, y, marker, color=color, label=words, ms=6)
        axes[0].set_yticks(y, [row.name for row in good])
        axes[0].set_xlabel("NRMSE [%]")
        axes[0].legend(frameon=False, fontsize=8)
        axes[0].grid(axis="x", color="0.9")
        delta = np.array([row.aicc for row in good])
        axes[1].barh(y, delta - delta.min(), color=MEASURED, height=0.5)
        axes[1].set_xscale("symlog", linthresh=10)
        axes[1].set_xlabel("AICc above the least")
        axes[0].invert_yaxis()
        return figure


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
        shortlist: Go on with this many candidates only, those of least AICc on one trace of each kind of sweep; the
            others are listed with their error there. All by default.
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
    if shortlist is not None and splits and len(named) > shortlist:
        one_each = [listed[group[0]] for group in sweeps(listed)]
        first = compare(named, one_each, holdout=(), workers=workers, folder=folder, progress=progress, **options)
        chosen = {row.name: named[row.name] for row in first.rows[:shortlist] if row.result is not None}
        if chosen:
            more = compare(
                chosen, listed, holdout=holdout, folds=folds, workers=workers, folder=folder, progress=progress,
                **options,
            )  # fmt: skip
            return Comparison([*more.rows, *(_passed(row, len(one_each)) for row in first.rows[shortlist:])], more.by)
    options = {"noise": None, **options}
    tasks = [
        _Task(name, model, kind, [listed[k] for k in train], [listed[k] for k in test], options)
        for name, model in named.items()
        for kind, train, test in [("all", list(range(len(listed))), []), *splits]
    ]
    say = progress or (lambda line: None)
    found: dict[int, Any] = {}
    say(f"{len(tasks)} fits: {len(named)} candidates, each to all traces and to {len(splits)} parts of them")
    for k, outcome in kept_outcomes(_run, tasks, workers, folder):
        if isinstance(outcome, BaseException) and not isinstance(
            outcome, DevicelabError | ArithmeticError | ValueError
        ):
            raise outcome
        found[k] = outcome
        if isinstance(outcome, BaseException):
            text = str(outcome).splitlines()[0]
        else:
            text = f"NRMSE {100 * outcome[0].metrics['nrmse']:.2f} %"
        part = "all traces" if tasks[k].kind == "all" else f"{tasks[k].kind} held out"
        say(f"{len(found):>4} of {len(tasks)}  {tasks[k].name:<34} {part:<20} {text}")
    rows = [_row(name, [(task, found[k]) for k, task in enumerate(tasks) if task.name == name]) for name in named]
    return _ordered(rows)


@dataclass(frozen=True)
class _Task:
    name: str
    model: Model
    kind: str
    train: list[Trace]
    test: list[Trace]
    options: dict[str, Any]


def _run(task: _Task) -> tuple[FitResult, list[FitResult]]:
    result = fit(task.model, task.train, **task.options)
    return result, [predict(result, trace) for trace in task.test]


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
