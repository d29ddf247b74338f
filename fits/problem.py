"""The least-squares problem of a fit: residuals of a batch of candidates, their Jacobian, screens and descents.

Internal, but what everything in this package is built on: `fits.fit` makes a `Problem`, screens and descends; profiles
descend with coordinates held; bootstraps swap the data. A `FitResult` carries the problem that it solved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import lmfit
import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from devicelab import CurrentDrive, Drive, Model, Trace, simulate
from devicelab.implicit import StepError
from devicelab.models import SeparableModel
from devicelab.simulation import trajectory

from .noise import Noise
from .space import SERIES, Space

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Driven = Literal["voltage", "current", "nothing"]
Loss = Literal["linear", "huber", "cauchy"]

SCREEN_POINTS = 256
"""Samples of all traces together in a screen: enough to place every branch of a loop to a percent of its period, which
is finer than the 1024 points of a screen resolve the thresholds; the cost is proportional to it."""

STEP = 1e-5
"""Half width of a difference quotient, in widths of the box: truncation, of order its square, and rounding, of order
1e-16 over it, are both below 1e-10 of a residual."""

STEPPED = 5e-4
"""Step of a one-sided difference where the simulation takes steps, one as long as its own error allows."""

TOLERANCE = 1e-5
"""Error of the state that one step of a simulation may make: a thousandth of what 1 % noise hides."""

FINE = 1e-9
"""The same for the final, central differences, from which the intervals come."""

SCREEN_TOLERANCE = 1e-3
"""The same in a screen; with half the samples an eighth of the cost of 1e-4, and the basins are ranked no worse."""

ROUGH_TOLERANCE = 1e-4
"""The same in descents that only rank: found the basin of a Stanford device that finer ones left."""

BLUR = 30.0
"""Standard deviations beyond which a residual of a screen of stepped models counts as its logarithm: their currents
miss by decades, and the best basin is the one right on most samples, not the one least wrong on the rest."""

SETTLE = 4
"""Descents that a creeping fit is given again: chi2 falls geometrically between them, so more have not helped."""

PATIENCE = 100
"""Evaluations without gain after which a descent counts as creeping, not as cut short."""

FAR = 1e4
"""Residual where a trial point overflows: farther than any that does not."""

CLOSURE = 1e-3
"""Standard deviation of the distance between the states at both ends of a loop that repeats itself."""

REACH = 10.0
"""A current source gives up at this multiple of the largest measured voltage."""

TUNING: dict[str, float] = {"linear": np.inf, "huber": 1.345, "cauchy": 2.385}
"""Where a loss leaves the parabola [standard deviations]: 95 % efficiency on normal noise (Holland and Welsch, Commun.
Stat. A6, 813 (1977), doi:10.1080/03610927708827533)."""


@dataclass(frozen=True)
class Bench:
    """What the instrument did.

    Args:
        drive: What drives the device: the measured voltage, with the current fitted; the measured current, with the
            voltage fitted; or nothing, with the current fitted at a state that stays.
        periodic: Whether every trace is a whole number of periods in the steady state, so its ends have one state.
        assisted: The measured voltage drives the device, and the measured current the series resistance, whatever the
            drive: an approximation for screens, in which no error of the model at one sample disturbs the next.
        tolerance: Of simulations that take steps.
    """

    drive: Driven = "voltage"
    periodic: bool = False
    assisted: bool = False
    tolerance: float = TOLERANCE


@dataclass
class Problem:
    """Residuals of one fit, in standard deviations, over the coordinates of a `Space`.

    Vectors `theta` have shape [p] or [b, p] in the order of `space.axes`; the last coordinates are initial states.

    Args:
        traces: What is fitted; every one has its own initial state. With a series resistance, v is the source's.
        masks: Which samples of each trace count.
        noise: Standard deviation of the fitted quantity.
        space: Coordinates; decodes a vector to a model and initial states.
        bench: What the instrument did.
        weights: Factor of each residual, [t] for each trace; None for 1.
        loss: What a residual costs.
        misfit: How far residuals exceed the noise; intervals grow by it, and the prior is kept out of that.
    """

    traces: list[Trace]
    masks: list[Mask]
    noise: Noise
    space: Space
    bench: Bench = field(default_factory=Bench)
    weights: list[Array] | None = None
    loss: Loss = "linear"
    misfit: float = 1.0

    def __post_init__(self) -> None:
        pairs = zip(self.measured(), self.masks, strict=True)
        self._data = [self.noise.transform(values[mask]) for values, mask in pairs]

    @property
    def _bare(self) -> bool:
        """Whether the device sees the measured voltage itself."""
        resistor = SERIES in [axis.name for axis in self.space.axes] or self.space.series(self.space.middle) > 0
        return self.bench.assisted or (self.bench.drive == "voltage" and not resistor)

    @property
    def stepped(self) -> bool:
        """Whether its simulations take steps, which makes them slower, and exact to a tolerance only."""
        return self.bench.drive != "nothing" and not (isinstance(self.space.model, SeparableModel) and self._bare)

    @property
    def exact(self) -> bool:
        """Whether an assisted screen would be the same as this problem."""
        return self._bare or self.bench.drive == "nothing"

    @property
    def size(self) -> int:
        """Number of samples fitted."""
        return sum(part.size for part in self._data)

    @property
    def quantity(self) -> str:
        """Name of the fitted column: ``i``, or ``v`` under a current drive."""
        return "v" if self.bench.drive == "current" and not self.bench.assisted else "i"

    def measured(self) -> list[Array]:
        """The fitted quantity of each trace as measured [A or V], [t]."""
        return [getattr(trace, self.quantity) for trace in self.traces]

    def decode(self, theta: Array) -> tuple[Model, list[Any]]:
        """Model and initial states of a vector; of shape [b] each for a batch."""
        return self.space.decode(theta)

    def device(self, theta: Array) -> tuple[Model, list[float]]:
        """Model, validated, and initial states of one vector."""
        model, x0 = self.space.decode(theta)
        names = [axis.name for axis in self.space.axes if axis.is_parameter]
        return model.replace(**{name: float(getattr(model, name)) for name in names}), [float(value) for value in x0]

    def simulate(self, theta: Array) -> list[Array]:
        """The fitted quantity of each trace [A or V], shape [t] or [b, t]."""
        return [y for _, y in self.respond(theta)]

    def respond(self, theta: Array) -> list[tuple[Array, Array]]:
        """State and fitted quantity [A or V] of each trace, shape [t] or [b, t]."""
        model, x0 = self.space.decode(theta)
        series = self.space.series(theta)
        return [self._one(model, series, trace, start) for trace, start in zip(self.traces, x0, strict=True)]

    def _one(self, model: Model, series: Any, trace: Trace, x0: Any) -> tuple[Array, Array]:
        bench = self.bench
        if bench.drive == "nothing":
            x = _column(x0) + 0.0 * trace.v
            return x, np.asarray(wide(model).current(trace.v, x))
        if bench.drive == "current" and not bench.assisted:
            limit = REACH * float(np.abs(trace.v).max())
            return self._stepwise(model, CurrentDrive(trace.t, trace.i), x0, "v", compliance=limit)
        if not np.any(series) or bench.drive == "current":
            return self._driven(model, trace.t, trace.v, x0)
        if not bench.assisted:
            return self._stepwise(model, Drive(trace.t, trace.v), x0, "i", series_resistance=series)
        v = trace.v - _column(series) * trace.i
        x, i = self._driven(model, trace.t, v, x0)
        nudge = 1e-4 * float(np.abs(trace.v).max())
        slope = (wide(model).current(v + nudge, x) - i) / nudge
        error = (i - trace.i) / (1.0 + _column(series) * np.maximum(slope, 0.0))  # one Newton step to the load line
        return x, trace.i + error

    def _driven(self, model: Model, t: Array, v: Array, x0: Any) -> tuple[Array, Array]:
        """State and current under a voltage [t] or [b, t] across the device."""
        if isinstance(model, SeparableModel):
            x, i = trajectory(model, t, v, x0)
            return np.asarray(x + 0.0 * i), np.asarray(i)
        return self._stepwise(model, Drive(t, v), x0, "i")

    def _stepwise(
        self, model: Model, drive: Drive | CurrentDrive, x0: Any, quantity: str, **circuit: Any
    ) -> tuple[Array, Array]:
        """`devicelab.simulate`; a device of the batch that it cannot simulate gives nan, and does not stop the rest."""
        try:
            with np.errstate(all="ignore"):
                out = simulate(model, drive, x0=x0, tolerance=self.bench.tolerance, **circuit)
            return np.asarray(out.x), np.asarray(getattr(out, quantity))
        except StepError:
            leaves = [*model._leaves(), x0, *circuit.values()]
            count = max((np.size(value) for value in leaves if np.ndim(value)), default=0)
            if count == 0:
                return np.full(drive.t.shape, np.nan), np.full(drive.t.shape, np.nan)
        rows = []
        for k in range(count):
            one: Any = drive
            if isinstance(drive, Drive) and drive.v.ndim > 1:
                one = Drive(drive.t, drive.v[k])
            here = {name: _row(value, k) for name, value in circuit.items()}
            rows.append(self._stepwise(_device(model, k), one, _row(x0, k), quantity, **here))
        return np.stack([x for x, _ in rows]), np.stack([y for _, y in rows])

    def residual(self, theta: Array) -> Array:
        """Residuals in standard deviations, [n + p] for one vector or [b, n + p] for a batch.

        The first `size` are those of the samples; for periodic traces, one each for the closure of the state follows.
        The last p say how far each coordinate is from the middle of its box, in half widths: a prior too weak to matter
        where the data speak. Where they do not, the estimate stays put and its interval is the box.
        """
        with np.errstate(all="ignore"):
            responses = self.respond(theta)
            parts = [
                self.noise.transform(y[..., mask]) - data
                for (_, y), mask, data in zip(responses, self.masks, self._data, strict=True)
            ]
        if self.weights is not None:
            parts = [part * weight[mask] for part, weight, mask in zip(parts, self.weights, self.masks, strict=True)]
        parts = [self._soften(part) for part in parts]
        if self.bench.periodic:
            parts += [(x[..., -1:] - x[..., :1]) / CLOSURE for x, _ in responses]
        prior = self.misfit * 2.0 * (theta - self.space.middle) / self.space.width
        return np.asarray(np.nan_to_num(np.concatenate([*parts, prior], axis=-1), nan=FAR, posinf=FAR, neginf=-FAR))

    def _soften(self, residual: Array) -> Array:
        """Residuals whose square is the loss."""
        if self.loss == "linear":
            return residual
        knee = TUNING[self.loss] * self.misfit
        size = np.abs(residual) / knee
        if self.loss == "huber":
            soft = np.where(size > 1.0, np.sqrt(np.maximum(2.0 * size - 1.0, 0.0)), size)
        else:
            soft = np.sqrt(np.log1p(np.square(size)))
        return np.asarray(knee * np.copysign(soft, residual))

    def spread(self, theta: Array) -> float:
        """How far the residuals of the samples exceed the noise at their best vector; robust where the loss is."""
        residual = replace(self, loss="linear").residual(theta)[: self.size]
        if self.loss == "linear":
            return float(np.sqrt(np.square(residual).sum() / max(1, self.size - theta.size)))
        return float(1.4826 * np.median(np.abs(residual)))

    def jacobian(self, theta: Array, free: NDArray[np.intp] | None = None) -> Array:
        """Differences of the residual, central where it is exact, all columns in one batch, shape [n + p, columns].

        Args:
            theta: Where, shape [p].
            free: Coordinates to differentiate by; all of them by default.
        """
        free = np.arange(theta.size) if free is None else free
        rows, space = np.arange(free.size), self.space
        step = np.zeros((free.size, theta.size))
        step[rows, free] = (STEPPED if self.stepped else STEP) * space.width[free]
        if self.stepped and self.bench.tolerance > FINE:  # half the simulations; away from the nearer hard limit
            moved = theta + np.where(theta + step > space.ceiling, -step, step)
            both = self.residual(np.concatenate([theta[None], moved]))
            return np.asarray((both[1:] - both[0]) / (moved - theta)[rows, free][:, None]).T
        up, down = np.minimum(theta + step, space.ceiling), np.maximum(theta - step, space.floor)
        both = self.residual(np.concatenate([up, down]))
        return np.asarray((both[: free.size] - both[free.size :]) / (up - down)[rows, free][:, None]).T

    def fine_jacobian(self, theta: Array) -> Array:
        """The Jacobian for intervals, [n + p, p]: errors of the simulation would hide what cannot be told apart."""
        return replace(self, bench=replace(self.bench, tolerance=FINE)).jacobian(theta)

    def covariance(self, theta: Array, jac: Array | None = None) -> Array:
        """Of the coordinates at the best vector, [p, p]; the prior makes it finite, and it grows with the misfit."""
        jac = self.fine_jacobian(theta) if jac is None else jac
        return np.asarray(np.linalg.inv(jac.T @ jac) * self.misfit**2)

    def chisqr(self, theta: Array) -> float:
        """Sum of squared residuals of the samples alone, prior and closure left out; the loss, where it is robust."""
        return float(np.square(self.residual(theta)[: self.size]).sum())

    def screen(self, count: int, seed: int) -> list[Array]:
        """Starting points, best first: a scrambled Sobol sequence in the box, evaluated on thinned traces."""
        unit = qmc.Sobol(len(self.space.axes), seed=seed).random(count)
        theta = self.space.low + unit * self.space.width
        thin = self.thinned(SCREEN_POINTS // 2 if self.stepped else SCREEN_POINTS)
        thin = replace(thin, bench=replace(thin.bench, tolerance=SCREEN_TOLERANCE, periodic=False))
        costs = []
        for part in np.array_split(theta, 8):
            if self.bench.periodic:  # the state that a period leaves is nearer to closure than a drawn one
                for k, (x, _) in enumerate(thin.respond(part)):
                    part[:, self.space.index(f"x0_{k}")] = np.nan_to_num(x[..., -1], nan=0.5).clip(0.0, 1.0)
            square = np.square(thin.residual(part))
            costs.append((np.log1p(square / BLUR**2) if thin.stepped else square).sum(-1))
        return [theta[k] for k in np.argsort(np.concatenate(costs))]

    def thinned(self, points: int = SCREEN_POINTS) -> Problem:
        """The same problem on fewer samples, for screening and first descents; the extremes of a sweep stay."""
        traces, masks, weights = [], [], []
        for k, (trace, mask) in enumerate(zip(self.traces, self.masks, strict=True)):
            budget = max(64, points // len(self.traces))
            keep = np.unique(np.linspace(0, len(trace) - 1, min(budget, len(trace))).round().astype(int))
            keep = np.union1d(keep, [int(trace.v.argmax()), int(trace.v.argmin())])
            traces.append(Trace(trace.t[keep], trace.v[keep], trace.i[keep]))
            masks.append(mask[keep])
            if self.weights is not None:
                weights.append(self.weights[k][keep])
        return replace(self, traces=traces, masks=masks, weights=weights if self.weights is not None else None)

    def rough(self) -> Problem:
        """The same problem, thinned, with simulations good enough to rank."""
        thin = self.thinned()
        return replace(thin, bench=replace(thin.bench, tolerance=ROUGH_TOLERANCE))

    def assisted(self, noise: Noise) -> Problem:
        """The same problem with the measured voltage as the drive, and the current's noise; see `Bench`."""
        return replace(self, bench=replace(self.bench, assisted=True), noise=noise)

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
            gained = outcome.chisqr - again.chisqr
            again.success |= bool(again.nfev >= PATIENCE and gained < scatter * max(1.0, again.redchi))
            outcome = again
        return outcome


def wide(model: Model) -> Model:
    """The model with parameters [b] as [b, 1], so that they broadcast against time."""
    return _bind(model, _column)


def _device(model: Model, k: int) -> Model:
    return _bind(model, lambda value: _row(value, k))


def _bind(model: Model, change: Callable[[Any], Any]) -> Model:
    window = model.window.bind(**{name: change(value) for name, value in model.window.values().items()})
    return model.bind(window=window, **{name: change(value) for name, value in model.values().items()})


def _column(value: Any) -> Any:
    return np.asarray(value)[..., None] if np.ndim(value) else value


def _row(value: Any, k: int) -> Any:
    return value[k] if np.ndim(value) else value
