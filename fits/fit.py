"""Fits of dynamic models to current-voltage traces: screen the whole box in one batch, then descend from the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace
from devicelab.errors import ConvergenceError, ParameterError, ShapeError, TraceError, unknown_name

from .noise import Noise, compliance_mask, estimate_noise
from .problem import TUNING, Bench, Loss, Mask, Problem
from .result import FitResult, conclude
from .shake import Shaken, shake
from .space import Extent, Space, fit_names
from .trust import doubts

Array = NDArray[np.float64]

POLISHED = 3
"""Rough descents that are finished on all samples: the thinned traces rank minima of about equal depth by chance, but
the best of three was the best of all (screens of 256 to 1024 points, 20 seeds of each kind of noise)."""

ROUGH = 60
"""Evaluations of a first descent: enough for the ones that will win; the others would creep on."""

SHORT = 12
"""Evaluations of a descent that only ranks, or takes an assisted start to the exact problem."""

SHORTLIST = 4
"""Short descents for each of the `starts` where simulations take steps: the screens of these models, whose rates change
by decades with every shape parameter, rank worse."""

RESTLESS = (
    "the search did not come to rest: descents from beside the best one still found lower ones, and the truth may be "
    "lower yet: more starts=..., or fewer parameters (fixed=[...])"
)

UNCLEAR = 0.02
"""Mean relative difference of the branches of a loop below which it does not tell the sign of SET."""


def fit(
    model: Model,
    traces: Trace | Sequence[Trace],
    *,
    vary: Sequence[str] | None = None,
    fixed: Sequence[str] = (),
    noise: Noise | tuple[float, float] | None = None,
    polarity: int | None = None,
    drive: Literal["voltage", "current"] = "voltage",
    series_resistance: float | Literal["fit"] = 0.0,
    periodic: bool = False,
    loss: Loss = "linear",
    weights: Sequence[Array] | None = None,
    start: FitResult | Model | None = None,
    screen: int = 1024,
    starts: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> FitResult:
    """Fit a model to one or several traces of the same device.

    Several traces (amplitudes, ramp rates) share every parameter; each has its own initial state. The measured voltage
    drives the model and the current is fitted, or the other way round; samples held by a compliance are left out.

    Args:
        model: Template: the class, window and options are kept, as are the values of parameters that do not vary, and
            the scale of those of which a trace says nothing in advance (lengths, energies).
        traces: Measured or simulated traces. With a series resistance, their voltage is that of the source.
        vary: Parameters to fit; by default all that a trace can determine.
        fixed: Parameters to hold at the template's value.
        noise: Standard deviation of the fitted quantity as (relative, floor [A], or [V] under a current drive);
            estimated from the traces by default.
        polarity: +1 or -1; by default found from which sign of the voltage SETs.
        drive: What the instrument prescribed; the other quantity is fitted.
        series_resistance: Between source and device [ohm]: a known value, or "fit".
        periodic: Whether each trace is a whole number of periods of a loop that repeats: the state at its end is then
            that at its start.
        loss: "huber" or "cauchy" bound what an outlier can do; "linear" is least squares.
        weights: Factor of each residual, [t] for each trace; 0 leaves a sample out.
        start: Warm start, without a screen: an earlier fit, whose noise and polarity are kept too, or a device.
        screen: Number of starting points evaluated.
        starts: How many of the best are descended from on thinned traces; the best of those on the whole ones.
        seed: Seed of the screen.
        progress: Called with one line of text at every stage.

    Returns:
        The best fit, with intervals, what could not be determined, and metrics.

    Raises:
        TraceError: If the traces cannot determine anything: no current, fewer samples than parameters.
        ParameterError: If an option is impossible.
        ConvergenceError: If no descent converged.
    """
    check_search(screen, starts)
    problem, clear = pose(
        model, traces, vary=vary, fixed=fixed, noise=noise, polarity=polarity, drive=drive,
        series_resistance=series_resistance, periodic=periodic, loss=loss, weights=weights, start=start,
    )  # fmt: skip
    say = progress or (lambda line: None)
    if start is None:
        found = from_cold(problem, screen, starts, seed, say)
    else:
        found = Shaken(problem.descend(_warm_vector(problem, start)), [], True)
    result = finish(problem, found, seed)
    if not clear:
        sign = result.model.polarity
        note = f"the sign of SET does not show in the traces; polarity {sign:+d} is a guess: give polarity=... if known"
        result = replace(result, warnings=[note, *result.warnings])
    return result


def pose(
    model: Model,
    traces: Trace | Sequence[Trace],
    *,
    vary: Sequence[str] | None = None,
    fixed: Sequence[str] = (),
    noise: Noise | tuple[float, float] | None = None,
    polarity: int | None = None,
    drive: Literal["voltage", "current"] = "voltage",
    series_resistance: float | Literal["fit"] = 0.0,
    periodic: bool = False,
    loss: Loss = "linear",
    weights: Sequence[Array] | None = None,
    start: FitResult | Model | None = None,
) -> tuple[Problem, bool]:
    """What `fit` solves for the same arguments, and whether the traces tell the sign of SET."""
    listed = [traces] if isinstance(traces, Trace) else list(traces)
    _check_options(drive, series_resistance, loss)
    masks = _check(listed, drive)
    checked = _check_weights(weights, listed)
    if periodic:
        listed, masks, checked = _closed(listed, masks, checked)
    if checked is not None:
        masks = [mask & (weight > 0) for mask, weight in zip(masks, checked, strict=True)]
    before = start.model if isinstance(start, FitResult) else start
    if before is not None and type(before) is not type(model):
        raise ParameterError(
            "a warm start is of another model", got=type(before).__name__, allowed=type(model).__name__
        )
    sign, clear = _polarity(model, listed, drive)
    sign, clear = (polarity, True) if polarity else (before.polarity, True) if before is not None else (sign, clear)
    template = model.replace(polarity=sign)
    check_names(template, [*fixed, *(vary or [])])
    names = [name for name in (fit_names(template) if vary is None else vary) if name not in fixed]
    known = 0.0 if series_resistance == "fit" else float(series_resistance)
    space = Space(
        template,
        Extent.of(listed, masks, known),
        names,
        len(listed),
        series_resistance=known,
        fit_series=series_resistance == "fit",
    )
    check_count(masks, space)
    given = start.noise if noise is None and isinstance(start, FitResult) else noise
    weighed = fitted_noise(given, listed, drive)
    return Problem(listed, masks, weighed, space, Bench(drive, periodic), checked, loss), clear


def finish(problem: Problem, found: Shaken, seed: int) -> FitResult:
    """The result after a last descent with the prior scaled to the misfit.

    Args:
        problem: What is solved.
        found: The descent to go on from, and those that ended elsewhere.
        seed: Seed of the screen.

    Raises:
        ConvergenceError: If that does not converge.
    """
    best = found.best
    problem.misfit = max(1.0, problem.spread(problem.vector(best.params)))
    best = problem.settle(problem.descend(problem.vector(best.params)))
    if not best.success:
        raise ConvergenceError(
            "the fit did not converge",
            got=str(best.message).strip(),
            hint="more starts=..., fewer parameters (fixed=[...]), or another model or window",
        )
    others = [problem.vector(other.params) for other in found.others]
    return conclude(problem, best, seed, others, [] if found.rested else [RESTLESS])


def from_cold(problem: Problem, screen: int, starts: int, seed: int, say: Callable[[str], None]) -> Shaken:
    """Descents from the best points of a screen, and from beside the best of those."""
    say(f"screening {screen} starting points for {len(problem.space.axes)} parameters")
    rough = basins(problem, screen, starts, seed)
    polished: list[Any] = []
    for k, attempt in enumerate(rough[:POLISHED]):
        polished.append(problem.descend(attempt))
        say(f"descent {k + 1} of {min(POLISHED, len(rough))}: chi2 per sample {polished[-1].chisqr / problem.size:.4g}")
        if problem.stepped and not doubts(problem, problem.vector(polished[-1].params)):
            break  # a hundred times the cost of an exact one; their rough descents rank them well enough
    best, *others = sorted(polished, key=lambda outcome: float(outcome.chisqr))
    found = shake(problem, best, starts, seed, say)
    return replace(found, others=[*others, *found.others])


def basins(problem: Problem, screen: int, starts: int, seed: int) -> list[Array]:
    """Where rough descents from the best points of a screen end, best first."""
    easy = problem if problem.exact else problem.assisted(estimate_noise(problem.traces))
    candidates, coarse = easy.screen(screen, seed), easy.thinned()
    if problem.stepped:  # their shape parameters have their scale from the template, so it is a good guess itself
        space = problem.space
        given = space.encode(space.model, [0.5] * space.n_traces, float(space.series(space.middle)))
        first = [space.middle, given, *candidates[: SHORTLIST * starts]]
        candidates = _ranked(easy.rough(), first, most=SHORT)
    rough = _ranked(coarse, candidates[:starts])
    return rough if problem.exact else _ranked(problem.thinned(), rough[:POLISHED], most=SHORT)


def _ranked(problem: Problem, starts: Sequence[Array], most: int = ROUGH) -> list[Array]:
    """Where short descents end, best first."""
    attempts = sorted((problem.descend(start, most=most) for start in starts), key=lambda attempt: attempt.chisqr)
    return [problem.vector(attempt.params) for attempt in attempts]


def _warm_vector(problem: Problem, start: FitResult | Model) -> Array:
    count = len(problem.traces)
    if not isinstance(start, FitResult):
        return problem.space.encode(start, [0.5] * count, float(problem.space.series(problem.space.middle)))
    x0 = start.x0 if len(start.x0) == count else [start.x0[0]] * count
    return problem.space.encode(start.model, x0, start.series_resistance)


def fitted_noise(noise: Noise | tuple[float, float] | None, traces: list[Trace], drive: str) -> Noise:
    """Noise of the fitted quantity, as given or estimated.

    Raises:
        ParameterError: If it is not positive.
    """
    if noise is None:
        swapped = [Trace(trace.t, trace.i, trace.v) for trace in traces] if drive == "current" else traces
        noise = estimate_noise(swapped)
    elif not isinstance(noise, Noise):
        noise = Noise(*noise)
    if not (0 < noise.rel < np.inf and 0 < noise.floor < np.inf):
        raise ParameterError("noise must be positive", got=noise, allowed="rel > 0 and floor > 0, finite")
    return noise


def _check_options(drive: str, series_resistance: float | str, loss: str) -> None:
    if drive not in ("voltage", "current"):
        raise ParameterError("unknown drive", got=repr(drive), allowed="voltage, current")
    if series_resistance != "fit" and not (
        isinstance(series_resistance, (int, float)) and 0 <= series_resistance < np.inf
    ):
        raise ParameterError("series_resistance is impossible", got=series_resistance, allowed='>= 0 ohm, or "fit"')
    if drive == "current" and series_resistance:
        raise ParameterError(
            "a series resistance does not show under a current drive but as a part of the voltage",
            got=series_resistance,
            hint="subtract R i from the voltage",
        )
    if loss not in TUNING:
        raise unknown_name("loss", loss, list(TUNING))


def check_search(screen: int, starts: int) -> None:
    """Raise `ParameterError` for impossible numbers of starting points."""
    for name, count in (("screen", screen), ("starts", starts)):
        if not 1 <= count <= 1_000_000:
            raise ParameterError(f"{name} is out of bounds", got=count, allowed="1 to 1000000")


def check_names(model: Model, names: Sequence[str]) -> None:
    """Raise `ParameterError` for a name that is not a parameter of the model."""
    known = [entry.name for entry in model.parameters()]
    for name in names:
        if name not in known:
            raise unknown_name("parameter", name, known)


def _closed(
    traces: list[Trace], masks: list[Mask], weights: list[Array] | None
) -> tuple[list[Trace], list[Mask], list[Array] | None]:
    """Traces that end where they began: one that stops a sample short of it gets its first sample again, uncounted."""
    out: list[Trace] = []
    for k, trace in enumerate(traces):
        step = 0.5 * (abs(trace.v[1] - trace.v[0]) + abs(trace.v[-1] - trace.v[-2]))
        if abs(trace.v[-1] - trace.v[0]) < 0.5 * step:
            out.append(trace)
            continue
        t = np.append(trace.t, trace.t[-1] + float(np.median(np.diff(trace.t))))
        out.append(Trace(t, np.append(trace.v, trace.v[0]), np.append(trace.i, trace.i[0]), meta=trace.meta))
        masks[k] = np.append(masks[k], False)
        if weights is not None:
            weights[k] = np.append(weights[k], 0.0)
    return out, masks, weights


def _check_weights(weights: Sequence[Array] | None, traces: list[Trace]) -> list[Array] | None:
    if weights is None:
        return None
    listed = [np.asarray(weight, dtype=float) for weight in weights]
    shapes = [weight.shape for weight in listed]
    if shapes != [trace.t.shape for trace in traces]:
        raise ShapeError("weights do not fit the traces", got=shapes, allowed=[trace.t.shape for trace in traces])
    if not all(np.isfinite(weight).all() and (weight >= 0).all() for weight in listed):
        raise ParameterError("weights must be finite and not negative", got="some that are not")
    return listed


def check_count(masks: Sequence[Mask], space: Space) -> None:
    """Raise `TraceError` unless there are more samples than coordinates."""
    samples = int(sum(mask.sum() for mask in masks))
    if samples <= len(space.axes):
        raise TraceError(
            "fewer samples than parameters",
            got=f"{samples} samples outside compliance, {len(space.axes)} parameters",
            hint="fit fewer parameters (fixed=[...]) or give more traces",
        )


def set_polarity(model: Model, traces: Sequence[Trace], drive: str = "voltage") -> int:
    """The polarity that makes the model SET at the sign of voltage at which the traces do.

    On the SET side of a loop the current is larger on the way back than on the way out.
    """
    return _polarity(model, traces, drive)[0]


def _polarity(model: Model, traces: Sequence[Trace], drive: str) -> tuple[int, bool]:
    """`set_polarity`, and whether the traces tell."""
    score, strongest = 0.0, 0.0
    for trace in traces:
        for sign in (1, -1):
            v, i = sign * trace.v, np.abs(trace.i)
            if drive == "current":  # at a given current, SET lowers the voltage
                v, i = sign * trace.i, 1.0 / np.maximum(np.abs(trace.v), 1e-12)
            rising = np.gradient(v) > 0
            level = np.linspace(0.2, 0.8, 7) * max(v.max(), 0.0)
            if level[-1] < 0.1 * np.abs(v).max():
                continue
            out = [_median_near(v[rising], i[rising], at, level[0] / 2) for at in level]
            back = [_median_near(v[~rising], i[~rising], at, level[0] / 2) for at in level]
            ratio = np.log((np.array(back) + 1e-15) / (np.array(out) + 1e-15))
            opening = float(np.nanmean(ratio)) if np.isfinite(ratio).any() else 0.0
            score += sign * opening
            strongest = max(strongest, abs(opening))
    return (model.set_sign if score >= 0 else -model.set_sign), strongest > UNCLEAR


def _median_near(v: Array, i: Array, at: float, width: float) -> float:
    near = np.abs(v - at) < width
    return float(np.median(i[near])) if near.any() else float("nan")


def _check(traces: list[Trace], drive: str) -> list[Mask]:
    if not traces:
        raise TraceError("no trace to fit", got=0, allowed="at least one")
    for trace in traces:
        if trace.i.ndim != 1:
            raise TraceError("a fit takes single traces", got=f"current of shape {trace.i.shape}", allowed="shape [t]")
        if not trace.i.any():
            raise TraceError("the trace carries no current", got=f"{len(trace)} samples, all 0 A")
        if np.ptp(trace.v) == 0:
            raise TraceError("the voltage never changes", got=f"{trace.v[0]:g} V", allowed="a sweep or pulses")
        if drive == "current" and np.ptp(trace.i) == 0:
            raise TraceError("the current never changes", got=f"{trace.i[0]:g} A", allowed="a sweep or pulses")
    if drive == "voltage":
        return [compliance_mask(trace) for trace in traces]
    swapped = [Trace(trace.t, trace.i, trace.v) for trace in traces]  # here the voltage is what a limit holds
    return [compliance_mask(trace) for trace in swapped]
