"""Fits of dynamic models to current-voltage traces: screen the whole box in one batch, then descend from the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab import MODELS, Model, Trace
from devicelab.errors import ConvergenceError, ParameterError, TraceError, unknown_name
from devicelab.models import SeparableModel

from .noise import Noise, compliance_mask, estimate_noise
from .problem import Mask, Problem
from .result import FitResult, conclude
from .space import Extent, Space, fit_names

Array = NDArray[np.float64]

POLISHED = 3
"""Rough descents that are finished on all samples: the thinned traces rank minima of about equal depth by chance, but
the best of three was the best of all (screens of 256 to 1024 points, 20 seeds of each kind of noise)."""


def fit(
    model: Model,
    traces: Trace | Sequence[Trace],
    *,
    vary: Sequence[str] | None = None,
    fixed: Sequence[str] = (),
    noise: Noise | tuple[float, float] | None = None,
    polarity: int | None = None,
    start: FitResult | Model | None = None,
    screen: int = 1024,
    starts: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> FitResult:
    """Fit a model to one or several traces of the same device.

    Several traces (amplitudes, ramp rates) share every parameter; each has its own initial state. The measured voltage
    drives the model, the current is what is fitted, weighted by the noise; samples held by a compliance are left out.

    Args:
        model: Template: the class, window and options are kept, as are the values of parameters that do not vary.
        traces: Measured or simulated traces.
        vary: Parameters to fit; by default all that a trace can determine.
        fixed: Parameters to hold at the template's value.
        noise: Standard deviation of the current as (relative, floor [A]); estimated from the traces by default.
        polarity: +1 or -1; by default found from which sign of the voltage SETs.
        start: Warm start, without a screen: an earlier fit, whose noise and polarity are kept too, or a device.
        screen: Number of starting points evaluated.
        starts: How many of the best are descended from on thinned traces; the best of those on the whole ones.
        seed: Seed of the screen.
        progress: Called with one line of text at every stage.

    Returns:
        The best fit, with intervals, what could not be determined, and metrics.

    Raises:
        TraceError: If the traces cannot determine anything: no current, fewer samples than parameters.
        ConvergenceError: If no descent converged.
    """
    if not isinstance(model, SeparableModel):
        able = [name for name, cls in MODELS.items() if issubclass(cls, SeparableModel)]
        raise ParameterError(
            "this model cannot be fitted to traces yet",
            got=type(model).__name__,
            allowed=", ".join(able),
            hint="fits need the exact simulation of separable models",
        )
    listed = [traces] if isinstance(traces, Trace) else list(traces)
    masks = _check(listed)
    before = start.model if isinstance(start, FitResult) else start
    sign = polarity or (before.polarity if before is not None else set_polarity(model, listed))
    weights = start.noise if noise is None and isinstance(start, FitResult) else noise
    problem = _make(model.replace(polarity=sign), listed, masks, vary, fixed, weights)
    say = progress or (lambda line: None)
    if before is not None:
        x0 = start.x0 if isinstance(start, FitResult) else [0.5]
        first = problem.space.encode(before, x0 if len(x0) == len(listed) else [x0[0]] * len(listed))
        best = problem.descend(first)
    else:
        best = _from_cold(problem, screen, starts, seed, say)
    problem.misfit = max(1.0, float(best.redchi)) ** 0.5
    best = problem.settle(problem.descend(problem.vector(best.params)))
    if not best.success:
        raise ConvergenceError(
            "the fit did not converge",
            got=str(best.message).strip(),
            hint="more starts=..., fewer parameters (fixed=[...]), or another model or window",
        )
    return conclude(problem, best, seed)


def _from_cold(problem: Problem, screen: int, starts: int, seed: int, say: Callable[[str], None]) -> Any:
    """The best descent from the best points of a screen."""
    say(f"screening {screen} starting points for {len(problem.space.axes)} parameters")
    candidates = problem.screen(screen, seed)[:starts]
    coarse = problem.thinned()
    rough = sorted((coarse.descend(start, most=60) for start in candidates), key=lambda attempt: attempt.chisqr)
    best: Any = None
    for k, attempt in enumerate(rough[:POLISHED]):
        polished = problem.descend(problem.vector(attempt.params))
        say(f"descent {k + 1} of {min(POLISHED, len(rough))}: chi2 per sample {polished.chisqr / problem.size:.4g}")
        if best is None or polished.chisqr < best.chisqr:
            best = polished
    return best


def _make(
    model: SeparableModel,
    traces: list[Trace],
    masks: list[Mask],
    vary: Sequence[str] | None,
    fixed: Sequence[str],
    noise: Noise | tuple[float, float] | None,
) -> Problem:
    known = [entry.name for entry in model.parameters()]
    for name in [*fixed, *(vary or [])]:
        if name not in known:
            raise unknown_name("parameter", name, known)
    names = [name for name in (fit_names(model) if vary is None else vary) if name not in fixed]
    space = Space(model, Extent.of(traces, masks), names, len(traces))
    samples = int(sum(mask.sum() for mask in masks))
    if samples <= len(space.axes):
        raise TraceError(
            "fewer samples than parameters",
            got=f"{samples} samples outside compliance, {len(space.axes)} parameters",
            hint="fit fewer parameters (fixed=[...]) or give more traces",
        )
    if noise is None:
        noise = estimate_noise(traces)
    elif not isinstance(noise, Noise):
        noise = Noise(*noise)
    if not (noise.rel > 0 and noise.floor > 0):
        raise ParameterError("noise must be positive", got=noise, allowed="rel > 0 and floor > 0 A")
    return Problem(traces, masks, noise, space)


def set_polarity(model: SeparableModel, traces: Sequence[Trace]) -> int:
    """The polarity that makes the model SET at the sign of voltage at which the traces do.

    On the SET side of a loop the current is larger on the way back than on the way out.
    """
    score = 0.0
    for trace in traces:
        for sign in (1, -1):
            v, i = sign * trace.v, np.abs(trace.i)
            rising = np.gradient(v) > 0
            level = np.linspace(0.2, 0.8, 7) * max(v.max(), 0.0)
            if level[-1] < 0.1 * np.abs(v).max():
                continue
            out = [_median_near(v[rising], i[rising], at, level[0] / 2) for at in level]
            back = [_median_near(v[~rising], i[~rising], at, level[0] / 2) for at in level]
            ratio = np.log((np.array(back) + 1e-15) / (np.array(out) + 1e-15))
            score += sign * float(np.nanmean(ratio)) if np.isfinite(ratio).any() else 0.0
    return model.set_sign if score >= 0 else -model.set_sign


def _median_near(v: Array, i: Array, at: float, width: float) -> float:
    near = np.abs(v - at) < width
    return float(np.median(i[near])) if near.any() else float("nan")


def _check(traces: list[Trace]) -> list[Mask]:
    if not traces:
        raise TraceError("no trace to fit", got=0, allowed="at least one")
    for trace in traces:
        if trace.i.ndim != 1:
            raise TraceError("a fit takes single traces", got=f"current of shape {trace.i.shape}", allowed="shape [t]")
        if not trace.i.any():
            raise TraceError("the trace carries no current", got=f"{len(trace)} samples, all 0 A")
        if np.ptp(trace.v) == 0:
            raise TraceError("the voltage never changes", got=f"{trace.v[0]:g} V", allowed="a sweep or pulses")
    return [compliance_mask(trace) for trace in traces]
