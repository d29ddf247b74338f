"""Bootstrap intervals: what the estimates would have been with other cycles, or other noise, of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from devicelab import Trace
from devicelab.errors import ConvergenceError, ParameterError

from .compare import sweeps
from .keep import kept_outcomes
from .problem import Problem
from .result import FitResult

Array = NDArray[np.float64]
Kind = Literal["cycles", "residual", "wild"]

ENOUGH_CYCLES = 6
"""Fewer traces of one sweep have too few different resamples (462 of 6) for their spread to be a distribution."""

STRUCTURED = 2.0
"""chi2 per degree of freedom above which residuals hold more than noise, and must keep their place and their runs."""


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Estimates from resampled data.

    Args:
        kind: How data were resampled.
        names: Parameters.
        units: Their units.
        samples: Estimates, shape [draws, parameters].
        level: Confidence.
        low: Lower ends, percentiles, shape [parameters].
        high: Upper ends.
        failed: Draws whose fit did not converge; they are not in `samples`.
    """

    kind: Kind
    names: list[str]
    units: list[str]
    samples: Array
    level: float
    low: Array
    high: Array
    failed: int

    def interval(self, name: str) -> tuple[float, float]:
        """The interval of one parameter."""
        k = self.names.index(name)
        return float(self.low[k]), float(self.high[k])

    def report(self) -> str:
        """One line a parameter."""
        words = {"cycles": "whole traces", "residual": "residuals", "wild": "signs of runs of residuals"}[self.kind]
        lines = [f"bootstrap of {words}, {len(self.samples)} draws" + (f", {self.failed} failed" * bool(self.failed))]
        for k, name in enumerate(self.names):
            median = np.median(self.samples[:, k])
            lines.append(f"{name:<10}{median:>12.5g}  {self.units[k]:<5}{self.low[k]:.4g} .. {self.high[k]:.4g}")
        return "\n".join(lines)


def bootstrap(
    result: FitResult,
    *,
    kind: Kind | None = None,
    draws: int = 200,
    level: float = 0.95,
    seed: int = 0,
    workers: int | None = 1,
    folder: str | Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> Bootstrap:
    """Intervals from fits to resampled data, each started from the estimate.

    cycles: traces of the same sweep are drawn with replacement, whole: nothing is assumed of the noise, and how cycles
    differ is part of the interval. residual: the model's current plus residuals drawn anew: the noise is white in the
    variance-stabilised current. wild: residuals keep their place and change sign in runs as long as they are
    correlated: noise of any size, and misfit that goes in runs.

    Args:
        result: A fit.
        kind: By default cycles where six traces share a sweep, else residual where the noise explains the residuals,
            else wild.
        draws: Resamples.
        level: Confidence.
        seed: Of the resamples.
        workers: Processes; 1 stays in this one; None takes all cores.
        folder: Where finished draws are kept, so that the same call goes on after a stop; nowhere by default.
        progress: Called with a line of text at every tenth.

    Raises:
        ParameterError: If cycles are asked for and no two traces share a sweep, or draws or level make no sense.
        ConvergenceError: If fewer than half of the draws converge.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993); Wu, Ann. Statist. 14, 1261 (1986),
    doi:10.1214/aos/1176350142 (wild).
    """
    if draws < 20 or not 0 < level < 1:
        raise ParameterError("impossible bootstrap", got=(draws, level), allowed="at least 20 draws, 0 < level < 1")
    groups = sweeps(result.traces)
    most = max(len(group) for group in groups)
    if kind is None:
        quiet = result.statistics["redchi"] < STRUCTURED
        kind = "cycles" if most >= ENOUGH_CYCLES else "residual" if quiet else "wild"
    if kind not in ("cycles", "residual", "wild"):
        raise ParameterError("unknown kind of bootstrap", got=kind, allowed="cycles, residual, wild")
    if kind == "cycles" and most < 2:
        raise ParameterError("no cycles to resample", got=f"{len(groups)} different sweeps", allowed="two of one sweep")
    seeds = np.random.SeedSequence(seed).spawn(draws)
    tasks = [_Task(result.problem, result.theta, kind, one) for one in seeds]
    rows: dict[int, Array] = {}
    say = progress or (lambda line: None)
    for n, (k, outcome) in enumerate(kept_outcomes(_draw, tasks, workers, folder), 1):
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            rows[k] = outcome
        if n % max(1, draws // 10) == 0:
            say(f"bootstrap {n} of {draws}")
    if len(rows) < draws / 2:
        raise ConvergenceError("most fits to resampled data did not converge", got=f"{len(rows)} of {draws} did")
    axes = result.problem.space.axes
    samples = np.array([rows[k] for k in sorted(rows)])
    if kind == "cycles":  # the initial states went with their traces
        axes = [axis for axis in axes if not axis.is_state]
        samples = samples[:, : len(axes)]
    ends = np.percentile(samples, (50 * (1 - level), 50 * (1 + level)), axis=0)
    names, units = [axis.name for axis in axes], [axis.unit for axis in axes]
    return Bootstrap(kind, names, units, samples, level, ends[0], ends[1], draws - len(rows))


@dataclass(frozen=True)
class _Task:
    problem: Problem
    theta: Array
    kind: Kind
    seed: np.random.SeedSequence


def _draw(task: _Task) -> Array | None:
    """Parameters [p] of one fit to resampled data, None if it did not converge."""
    rng = np.random.default_rng(task.seed)
    if task.kind == "cycles":
        problem, start = _other_cycles(task.problem, task.theta, rng)
    else:
        problem, start = _other_noise(task.problem, task.theta, task.kind, rng), task.theta
    outcome = problem.settle(problem.descend(start))
    if not outcome.success:
        return None
    values = problem.space.physical(problem.vector(outcome.params))
    log = np.array([axis.log for axis in problem.space.axes])
    sign = np.array([axis.sign for axis in problem.space.axes])
    return np.asarray(np.where(log, sign * 10.0 ** np.where(log, values, 0.0), values))


def _other_cycles(problem: Problem, theta: Array, rng: np.random.Generator) -> tuple[Problem, Array]:
    chosen = np.arange(len(problem.traces))
    for group in sweeps(problem.traces):
        chosen[group] = rng.choice(group, len(group))
    axes = problem.space.axes
    start = theta.copy()
    states = [k for k, axis in enumerate(axes) if axis.is_state]
    if len(states) == len(chosen):
        start[states] = theta[np.array(states)[chosen]]
    traces, masks = [problem.traces[k] for k in chosen], [problem.masks[k] for k in chosen]
    weights = None if problem.weights is None else [problem.weights[k] for k in chosen]
    return replace(problem, traces=traces, masks=masks, weights=weights), start


def _other_noise(problem: Problem, theta: Array, kind: Kind, rng: np.random.Generator) -> Problem:
    noise, traces = problem.noise, []
    for trace, mask, fitted in zip(problem.traces, problem.masks, problem.simulate(theta), strict=True):
        level = noise.transform(fitted)
        measured = getattr(trace, problem.quantity)
        residual = (noise.transform(measured) - level)[mask]
        if kind == "residual":
            drawn = rng.choice(residual - residual.mean(), residual.size)
        else:
            block = run_length(residual)
            signs = rng.choice([-1.0, 1.0], -(-residual.size // block) + 1).repeat(block)
            drawn = residual * signs[rng.integers(block) :][: residual.size]
        again = measured.copy()
        again[mask] = np.sinh(noise.rel * (level[mask] + drawn)) * noise.floor / noise.rel
        columns = {"v": trace.v, "i": trace.i, problem.quantity: again}
        traces.append(Trace(trace.t, columns["v"], columns["i"], meta=trace.meta))
    return replace(problem, traces=traces)


def run_length(residual: Array) -> int:
    """Samples over which residuals stay alike: the integrated autocorrelation 1 + 2 sum rho."""
    centred = residual - residual.mean()
    total = float(centred @ centred)
    if total == 0:
        return 1
    length = 1.0
    for lag in range(1, residual.size // 4):
        rho = float(centred[lag:] @ centred[:-lag]) / total
        if rho < 2 / np.sqrt(residual.size):
            break
        length += 2 * rho
    return max(1, round(length))
