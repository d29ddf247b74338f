"""The least-squares problem of a fit: residuals of a batch of candidates, their Jacobian, screens and descents.

Internal, but what everything in this package is built on: `fits.fit` makes a `Problem`, screens and descends; profiles
descend with coordinates held; bootstraps swap the data. A `FitResult` carries the problem that it solved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import lmfit
import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from devicelab import Model, Trace
from devicelab.simulation import trajectory

from .noise import Noise
from .space import Space

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SCREEN_POINTS = 256
"""Samples of all traces together in a screen: enough to place every branch of a loop to a percent of its period, which
is finer than the 1024 points of a screen resolve the thresholds; the cost is proportional to it."""

STEP = 1e-5
"""Half width of a difference quotient, in widths of the box: truncation, of order its square, and rounding, of order
1e-16 over it, are both below 1e-10 of a residual."""

SETTLE = 4
"""Descents that a creeping fit is given again: chi2 falls geometrically between them, so more have not helped."""

FAR = 1e4
"""Residual where a trial point overflows: farther than any that does not."""


@dataclass
class Problem:
    """Residuals of one fit, in standard deviations, over the coordinates of a `Space`.

    Vectors `theta` have shape [p] or [b, p] in the order of `space.axes`; the last coordinates are initial states.

    Args:
        traces: What is fitted; every one has its own initial state.
        masks: Which samples of each trace count.
        noise: Weights.
        space: Coordinates; decodes a vector to a model and initial states.
        misfit: How far residuals exceed the noise; intervals grow by it, and the prior is kept out of that.
    """

    traces: list[Trace]
    masks: list[Mask]
    noise: Noise
    space: Space
    misfit: float = 1.0

    def __post_init__(self) -> None:
        self._data = [self.noise.transform(trace.i[mask]) for trace, mask in zip(self.traces, self.masks, strict=True)]

    @property
    def size(self) -> int:
        """Number of samples fitted."""
        return sum(part.size for part in self._data)

    def decode(self, theta: Array) -> tuple[Model, list[Any]]:
        """Model and initial states of a vector; of shape [b] each for a batch."""
        return self.space.decode(theta)

    def device(self, theta: Array) -> tuple[Model, list[float]]:
        """Model, validated, and initial states of one vector."""
        model, x0 = self.space.decode(theta)
        names = [axis.name for axis in self.space.axes if not axis.is_state]
        return model.replace(**{name: float(getattr(model, name)) for name in names}), [float(value) for value in x0]

    def simulate(self, theta: Array) -> list[Array]:
        """Current of each trace [A], shape [t] or [b, t]."""
        model, x0 = self.space.decode(theta)
        pairs = zip(self.traces, x0, strict=True)
        return [np.asarray(trajectory(model, trace.t, trace.v, start)[1]) for trace, start in pairs]

    def residual(self, theta: Array) -> Array:
        """Residuals in standard deviations, [samples + p] for one vector or [b, samples + p] for a batch.

        The last p say how far each coordinate is from the middle of its box, in half widths: a prior too weak to matter
        where the data speak. Where they do not, the estimate stays put and its interval is the box.
        """
        with np.errstate(all="ignore"):
            parts = [
                self.noise.transform(i[..., mask]) - data
                for i, mask, data in zip(self.simulate(theta), self.masks, self._data, strict=True)
            ]
        prior = self.misfit * 2.0 * (theta - self.space.middle) / self.space.width
        return np.asarray(np.nan_to_num(np.concatenate([*parts, prior], axis=-1), nan=FAR, posinf=FAR, neginf=-FAR))

    def jacobian(self, theta: Array, free: NDArray[np.intp] | None = None) -> Array:
        """Central differences of the residual, all columns in one batch, shape [samples + p, columns].

        Args:
            theta: Where, shape [p].
            free: Coordinates to differentiate by; all of them by default.
        """
        free = np.arange(theta.size) if free is None else free
        step = np.zeros((free.size, theta.size))
        step[np.arange(free.size), free] = STEP * self.space.width[free]
        up, down = np.minimum(theta + step, self.space.ceiling), np.maximum(theta - step, self.space.floor)
        both = self.residual(np.concatenate([up, down]))
        width = (up - down)[np.arange(free.size), free]
        return np.asarray((both[: free.size] - both[free.size :]) / width[:, None]).T

    def covariance(self, theta: Array) -> Array:
        """Of the coordinates at the best vector, [p, p]; the prior makes it finite, and it grows with the misfit."""
        jac = self.jacobian(theta)
        return np.asarray(np.linalg.inv(jac.T @ jac) * self.misfit**2)

    def chisqr(self, theta: Array) -> float:
        """Sum of squared residuals of the data alone, the prior left out."""
        return float(np.square(self.residual(theta)[: self.size]).sum())

    def screen(self, count: int, seed: int) -> list[Array]:
        """Starting points, best first: a scrambled Sobol sequence in the box, evaluated on thinned traces."""
        unit = qmc.Sobol(len(self.space.axes), seed=seed).random(count)
        theta = self.space.low + unit * self.space.width
        thin = self.thinned()
        cost = np.concatenate([np.square(thin.residual(part)).sum(-1) for part in np.array_split(theta, 8)])
        return [theta[k] for k in np.argsort(cost)]

    def thinned(self) -> Problem:
        """The same problem on fewer samples, for screening and first descents; the extremes of a sweep stay."""
        traces, masks = [], []
        for trace, mask in zip(self.traces, self.masks, strict=True):
            budget = max(64, SCREEN_POINTS // len(self.traces))
            keep = np.unique(np.linspace(0, len(trace) - 1, min(budget, len(trace))).round().astype(int))
            keep = np.union1d(keep, [int(trace.v.argmax()), int(trace.v.argmin())])
            traces.append(Trace(trace.t[keep], trace.v[keep], trace.i[keep]))
            masks.append(mask[keep])
        return replace(self, traces=traces, masks=masks)

    def vector(self, params: lmfit.Parameters) -> Array:
        """Coordinates from the lmfit parameters of an outcome."""
        return np.array([params[axis.label].value for axis in self.space.axes])

    def descend(self, start: Array, *, held: Mapping[int, float] | None = None, most: int = 400) -> Any:
        """One Levenberg-Marquardt run (trust region, bounded), through lmfit.

        Args:
            start: Vector to start from, [p].
            held: Coordinates, by index, that stay at a value, as a profile needs.
            most: Largest number of evaluations of the residual; a Jacobian counts as none.

        Returns:
            lmfit's MinimizerResult: `vector(outcome.params)` is the vector found, `outcome.chisqr` its cost with the
            prior, `outcome.success` whether it converged.
        """
        held = held or {}
        params = lmfit.Parameters()
        space = self.space
        for k, axis in enumerate(space.axes):
            fixed = {"value": held[k], "vary": False} if k in held else {"value": start[k]}
            params.add(axis.label, min=axis.floor, max=axis.ceiling, **fixed)
        free = np.array([k for k in range(len(space.axes)) if k not in held], dtype=np.intp)
        return lmfit.minimize(
            lambda p: self.residual(self.vector(p)),
            params,
            method="least_squares",
            jac=lambda p: self.jacobian(self.vector(p), free),
            x_scale=space.width[free],
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
