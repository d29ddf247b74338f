"""Fits of dynamic models to current-voltage traces: screen the whole box in one batch, then descend from the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lmfit
import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from devicelab import MODELS, Model, Trace
from devicelab.errors import ConvergenceError, ParameterError, TraceError, unknown_name
from devicelab.models import SeparableModel
from devicelab.simulation import trajectory

from .noise import Noise, compliance_mask, estimate_noise
from .result import Z95, Estimate, FitResult, metrics
from .space import Coordinate, Extent, Space, fit_names

Array = NDArray[np.float64]
SCREEN_POINTS = 256
POLISHED = 3
STEP = 1e-5
SETTLE = 4
FAR = 1e4  # residual where a trial point overflows


def fit(
    model: Model,
    traces: Trace | Sequence[Trace],
    *,
    vary: Sequence[str] | None = None,
    fixed: Sequence[str] = (),
    noise: Noise | tuple[float, float] | None = None,
    polarity: int | None = None,
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
    sign = polarity or set_polarity(model, listed)
    problem = _Problem.make(model.replace(polarity=sign), listed, masks, vary, fixed, noise)
    say = progress or (lambda line: None)
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
    problem.misfit = max(1.0, float(best.redchi)) ** 0.5
    best = problem.settle(problem.descend(problem.vector(best.params)))
    if not best.success:
        raise ConvergenceError(
            "the fit did not converge",
            got=str(best.message).strip(),
            hint="more starts=..., fewer parameters (fixed=[...]), or another model or window",
        )
    return problem.result(best, seed)


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


def _check(traces: list[Trace]) -> list[NDArray[np.bool_]]:
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


@dataclass
class _Problem:
    """Residuals of one fit."""

    traces: list[Trace]
    masks: list[NDArray[np.bool_]]
    noise: Noise
    space: Space
    data: list[Array]
    misfit: float = 1.0
    """How far residuals exceed the noise; intervals grow by it, and the prior is kept out of that."""

    @classmethod
    def make(
        cls,
        model: SeparableModel,
        traces: list[Trace],
        masks: list[NDArray[np.bool_]],
        vary: Sequence[str] | None,
        fixed: Sequence[str],
        noise: Noise | tuple[float, float] | None,
    ) -> _Problem:
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
        data = [noise.transform(trace.i[mask]) for trace, mask in zip(traces, masks, strict=True)]
        return cls(traces, masks, noise, space, data)

    @property
    def size(self) -> int:
        """Number of samples fitted."""
        return sum(part.size for part in self.data)

    def residual(self, theta: Array) -> Array:
        """Residuals in standard deviations, [samples + p] for one vector or [b, samples + p] for a batch.

        The last p say how far each coordinate is from the middle of its box, in half widths: a prior too weak to matter
        where the data speak. Where they do not, the estimate stays put and its interval is the box.
        """
        model, x0 = self.space.decode(theta)
        parts = []
        for trace, mask, data, start in zip(self.traces, self.masks, self.data, x0, strict=True):
            _, i = trajectory(model, trace.t, trace.v, start)
            parts.append(self.noise.transform(i[..., mask]) - data)
        axes = self.space.axes
        low, high = np.array([axis.low for axis in axes]), np.array([axis.high for axis in axes])
        prior = self.misfit * (theta - 0.5 * (low + high)) / (0.5 * (high - low))
        return np.asarray(np.nan_to_num(np.concatenate([*parts, prior], axis=-1), nan=FAR))

    def jacobian(self, theta: Array) -> Array:
        """Central differences of the residual, all columns in one batch, shape [samples + p, p]."""
        low, high = self._limits()
        step = np.diag(STEP * np.array([axis.high - axis.low for axis in self.space.axes]))
        up, down = np.minimum(theta + step, high), np.maximum(theta - step, low)
        with np.errstate(all="ignore"):
            both = self.residual(np.concatenate([up, down]))
        width = np.diagonal(up - down)
        return np.asarray((both[: theta.size] - both[theta.size :]) / width[:, None]).T

    def _limits(self) -> tuple[Array, Array]:
        return np.array([axis.floor for axis in self.space.axes]), np.array([axis.ceiling for axis in self.space.axes])

    def screen(self, count: int, seed: int) -> list[Array]:
        """Starting points, best first: a scrambled Sobol sequence in the box, evaluated on thinned traces."""
        axes = self.space.axes
        unit = qmc.Sobol(len(axes), seed=seed).random(count)
        low, high = np.array([a.low for a in axes]), np.array([a.high for a in axes])
        theta = low + unit * (high - low)
        thin = self.thinned()
        with np.errstate(all="ignore"):
            cost = np.concatenate([np.square(thin.residual(part)).sum(-1) for part in np.array_split(theta, 8)])
        return [theta[k] for k in np.argsort(cost)]

    def thinned(self) -> _Problem:
        """The same problem on fewer samples, for screening and first descents; the extremes of a sweep stay."""
        traces, masks, data = [], [], []
        for trace, mask in zip(self.traces, self.masks, strict=True):
            budget = max(64, SCREEN_POINTS // len(self.traces))
            keep = np.unique(np.linspace(0, len(trace) - 1, min(budget, len(trace))).round().astype(int))
            keep = np.union1d(keep, [int(trace.v.argmax()), int(trace.v.argmin())])
            traces.append(Trace(trace.t[keep], trace.v[keep], trace.i[keep]))
            masks.append(mask[keep])
            data.append(self.noise.transform(trace.i[keep][mask[keep]]))
        return _Problem(traces, masks, self.noise, self.space, data)

    def vector(self, params: lmfit.Parameters) -> Array:
        """Coordinates from lmfit parameters."""
        return np.array([params[axis.label].value for axis in self.space.axes])

    def descend(self, start: Array, most: int = 400) -> Any:
        """One lmfit run from a starting point."""
        params = lmfit.Parameters()
        for axis, value in zip(self.space.axes, start, strict=True):
            params.add(axis.label, value, min=axis.floor, max=axis.ceiling)
        scale = np.array([axis.high - axis.low for axis in self.space.axes])
        with np.errstate(all="ignore"):
            return lmfit.minimize(
                lambda p: self.residual(self.vector(p)),
                params,
                method="least_squares",
                jac=lambda p: self.jacobian(self.vector(p)),
                x_scale=scale,
                max_nfev=most,
                ftol=1e-5,  # a chi2 of a thousand samples changes by 1e-2, far less than its scatter
                xtol=1e-8,
            )

    def settle(self, outcome: Any) -> Any:
        """The outcome; one that ran out of evaluations counts once as many again lower chi2 by less than it scatters.

        Where a switching edge falls between two samples the residual has steps, on which a descent creeps for ever over
        differences that the noise hides: chi2 of n samples has a standard deviation of sqrt(2 n).
        """
        scatter = (2.0 * self.size) ** 0.5
        for _ in range(SETTLE):
            if outcome.success:
                break
            again = self.descend(self.vector(outcome.params))
            again.success |= bool(outcome.chisqr - again.chisqr < scatter * max(1.0, again.redchi))
            outcome = again
        return outcome

    def result(self, outcome: Any, seed: int) -> FitResult:
        """The result in the model's own parameters."""
        theta = self.vector(outcome.params)
        model, x0 = self.space.decode(theta)
        names = [axis.name for axis in self.space.axes if not axis.name.startswith("x0_")]
        model = model.replace(**{name: float(getattr(model, name)) for name in names})
        x0 = [float(value) for value in x0]
        fitted = [trajectory(model, trace.t, trace.v, start)[1] for trace, start in zip(self.traces, x0, strict=True)]
        return FitResult(
            model=model,
            x0=x0,
            estimates=self._estimates(outcome, theta),
            correlations=self._correlations(theta),
            metrics=metrics(self.traces, fitted, self.masks, self.noise),
            statistics=self._statistics(theta, outcome.nfev),
            noise=self.noise,
            traces=self.traces,
            masks=self.masks,
            seed=seed,
        )

    def _statistics(self, theta: Array, evaluations: int) -> dict[str, float]:
        """Of the data alone, the prior left out."""
        n, p = self.size, theta.size
        chisqr = float(np.square(self.residual(theta)[:n]).sum())
        log = n * np.log(chisqr / n)
        return {
            "samples": float(n),
            "chisqr": chisqr,
            "redchi": chisqr / (n - p),
            "aic": float(log + 2 * p),
            "bic": float(log + np.log(n) * p),
            "evaluations": float(evaluations),
        }

    def _estimates(self, outcome: Any, theta: Array) -> list[Estimate]:
        """Values and 95 % intervals in model units; those of rates by propagation through the coordinates."""
        covariance = self._covariance(theta)
        start = np.array([outcome.init_values[axis.label] for axis in self.space.axes])
        value, initial = self._physical(theta), self._physical(start)
        width = np.array([axis.high - axis.low for axis in self.space.axes])
        shifted = np.concatenate([theta + np.diag(1e-6 * width), theta - np.diag(1e-6 * width)])
        both = self._physical(shifted)
        gradient = (both[: theta.size] - both[theta.size :]).T / (2e-6 * width)
        reach = Z95 * np.sqrt(np.einsum("ij,jk,ik->i", gradient, covariance, gradient))
        own = 2 * Z95 * np.sqrt(np.diag(covariance)) / width
        out = []
        for k, axis in enumerate(self.space.axes):
            edge = min(theta[k] - axis.floor, axis.ceiling - theta[k]) < 1e-6 * (axis.ceiling - axis.floor)
            note = "at bound" if edge else ""
            if own[k] > 1.0:
                note = "not determined: interval wider than the range searched"
            elif own[k] > 0.5:
                note = "weakly determined"
            elif axis.log and 2 * reach[k] > max(4.0, width[k]):
                note = "not determined: trades off against threshold and exponent"
            low, high = value[k] - reach[k], value[k] + reach[k]
            if axis.plain:
                low, high = max(low, axis.floor), min(high, axis.ceiling)
            ends = _undo(axis, low), _undo(axis, high)
            best, first = _undo(axis, value[k]), _undo(axis, initial[k])
            out.append(Estimate(axis.name, axis.unit, best, ends[0], ends[1], first, note))
        return out

    def _covariance(self, theta: Array) -> Array:
        """Of the coordinates; the prior makes it finite, and it grows with the misfit."""
        jac = self.jacobian(theta)
        return np.asarray(np.linalg.inv(jac.T @ jac) * self.misfit**2)

    def _correlations(self, theta: Array) -> list[tuple[str, str, float]]:
        covariance = self._covariance(theta)
        scale = np.sqrt(np.diag(covariance))
        matrix = covariance / np.outer(scale, scale)
        names = [axis.label for axis in self.space.axes]
        pairs = [(names[a], names[b], float(matrix[a, b])) for a in range(len(names)) for b in range(a)]
        return sorted((pair for pair in pairs if abs(pair[2]) > 0.5), key=lambda pair: -abs(pair[2]))

    def _physical(self, theta: Array) -> Array:
        """Model parameters and initial states, log10 where the axis is, shape as `theta`."""
        model, x0 = self.space.decode(theta)
        columns = []
        for axis in self.space.axes:
            raw = x0[int(axis.name[3:])] if axis.name.startswith("x0_") else getattr(model, axis.name)
            columns.append(np.log10(raw) if axis.log else raw)
        return np.stack(columns, axis=-1)


def _undo(axis: Coordinate, value: float) -> float:
    return float(10.0 ** min(value, 300.0)) if axis.log else float(value)
