"""Fits of I(V) at states that stay: what a lookup table of the current needs, from reads too gentle to switch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace
from devicelab.errors import ParameterError, ShapeError, TraceError

from .fit import check_count, check_names, finish, fitted_noise, from_cold
from .noise import Noise, compliance_mask
from .problem import Bench, Loss, Problem
from .result import FitResult
from .space import Extent, Space

Array = NDArray[np.float64]
Curve = Trace | tuple[Array, Array]


def fit_static(
    model: Model,
    curves: Curve | Sequence[Curve],
    *,
    x: float | Sequence[float] | None = None,
    vary: Sequence[str] | None = None,
    fixed: Sequence[str] = (),
    noise: Noise | tuple[float, float] | None = None,
    loss: Loss = "linear",
    screen: int = 1024,
    starts: int = 4,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> FitResult:
    """Fit the current of a model, at one state for each curve.

    `result.model` is ready for `Lut.from_model`; the parameters that move the state stay as the template has them.

    Args:
        model: Template, polarity included.
        curves: Traces, or pairs (v [V], i [A]) of shape [k]; the order of the points does not matter.
        x: State of each curve (1 = low resistance); fitted where it is not given. A single curve cannot tell its state
            from the resistances, and needs one.
        vary: Parameters to fit; by default those that traces can determine and the current depends on.
        fixed: Parameters to hold at the template's value.
        noise: Standard deviation of the current as (relative, floor [A]); estimated by default.
        loss: "linear", "huber" or "cauchy".
        screen: Number of starting points evaluated.
        starts: How many of the best are descended from.
        seed: Seed of the screen.
        progress: Called with one line of text at every stage.

    Returns:
        The best fit; `x0` holds the states.

    Raises:
        TraceError: If a curve carries no current, or there are fewer points than parameters.
        ParameterError: If a state is impossible, or the current depends on none of the parameters.
        ConvergenceError: If no descent converged.
    """
    listed = [_trace(curve) for curve in ([curves] if isinstance(curves, Trace | tuple) else curves)]
    if not listed:
        raise TraceError("no curve to fit", got=0, allowed="at least one")
    states = _states(x, len(listed))
    check_names(model, [*fixed, *(vary or [])])
    names = [name for name in (current_names(model, listed) if vary is None else vary) if name not in fixed]
    masks = [compliance_mask(trace) for trace in listed]
    space = Space(model, Extent.of(listed, masks), names, len(listed), x0=states)
    if not space.axes:
        raise ParameterError("nothing is left to fit", got="no parameter, and every state given")
    check_count(masks, space)
    problem = Problem(listed, masks, fitted_noise(noise, listed, "voltage"), space, Bench("nothing"), loss=loss)
    return finish(problem, from_cold(problem, screen, starts, seed, progress or (lambda line: None)), seed)


def current_names(model: Model, curves: Sequence[Trace]) -> list[str]:
    """Parameters that traces can determine and the current of the model depends on at the voltages of the curves."""
    v = np.concatenate([trace.v for trace in curves])
    points = np.linspace(0.0, 1.0, 5)[:, None]
    out = []
    for entry in model.parameters():
        here = float(getattr(model, entry.name))
        other = 1.01 * here if here else min(0.01, entry.high)
        with np.errstate(all="ignore"):
            before, after = (
                np.asarray(model.bind(**{entry.name: value}).current(v, points)) for value in (here, other)
            )
        if entry.fit and not np.allclose(before, after, rtol=1e-9, atol=0.0):
            out.append(entry.name)
    return out


def _trace(curve: Curve) -> Trace:
    if isinstance(curve, Trace):
        v, i = np.asarray(curve.v), np.asarray(curve.i)
    else:
        v, i = (np.asarray(column, dtype=float) for column in curve)
    if v.ndim != 1 or v.shape != i.shape:
        raise ShapeError("a curve needs one current for each voltage", got=f"v {v.shape}, i {i.shape}")
    if not i.any():
        raise TraceError("the curve carries no current", got=f"{v.size} points, all 0 A")
    order = np.argsort(v, kind="stable")  # the estimate of the noise looks at neighbours
    v, i = v[order], i[order]
    return Trace(np.arange(float(v.size)), v, i, meta=curve.meta if isinstance(curve, Trace) else {})


def _states(x: float | Sequence[float] | None, count: int) -> list[float] | None:
    if x is None:
        if count == 1:
            raise ParameterError(
                "a single curve cannot tell its state from the resistances",
                got="no x",
                hint="x=1.0 for the low resistance, x=0.0 for the high one; or several curves",
            )
        return None
    states = [float(value) for value in np.atleast_1d(np.asarray(x, dtype=float))]
    if len(states) != count:
        raise ShapeError("states and curves differ in number", got=f"{len(states)} states, {count} curves")
    if not all(0.0 <= value <= 1.0 for value in states):
        raise ParameterError("a state is out of bounds", got=states, allowed="0 (high resistance) to 1 (low)")
    return states
