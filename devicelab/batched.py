"""Simulation of any model behind any circuit on torch tensors: all devices take the same steps, gradients included.

The same implicit method as `devicelab._kernels`, with steps shared by the batch. Every equation of a step is solved
without a graph; one Newton step from its solution then enters the graph, which is what the implicit function theorem
asks for. So the graph holds a few evaluations of the model a step, however hard the equation was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernels import B1, B2, C2, E2, GAMMA
from .circuit import Circuit
from .implicit import StepError, margin
from .models.base import Model
from .ops import Value, is_tensor

MAX_SPLIT = 64
"""A sample interval is split into at most so many steps."""

LEAST = 1e-5
"""Finest tolerance a step of a batch aims for."""

SWING = 0.1
"""Largest change of the drive in a step, relative to its largest value: a threshold must not be jumped over unseen."""

NEWTON = 12
BISECT = 60
V_LIMIT = 1e4


class CoarseStepWarning(UserWarning):
    """Steps are too coarse for the dynamics of some device; the message says which step would do."""


def trajectory(
    model: Model, t: NDArray[np.float64], s: NDArray[np.float64], x0: Value, circuit: Circuit, tolerance: float
) -> tuple[Value, Value]:
    """State and device voltage at the samples of a drive, as `implicit.trajectory`, on tensors.

    Args:
        model: The device; parameters with a time axis of length 1 ([b, 1]) where they are batched.
        t: Times [s], [t].
        s: What the source prescribes, [t] or [b, t].
        x0: State at the first sample, scalar or [b, 1].
        circuit: What surrounds the device.
        tolerance: Error of the state that a step may make; not finer than 1e-5.

    Returns:
        x and v [V], both [t] or [b, t].

    Warns:
        CoarseStepWarning: If 64 steps a sample do not reach the tolerance.
    """
    import torch

    leaves = [*model._leaves(), x0, circuit.series_resistance, circuit.limit]
    like = next(value for value in leaves if is_tensor(value))
    wide = [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in leaves]
    drive = torch.as_tensor(s, dtype=like.dtype, device=like.device)
    shape = torch.broadcast_shapes(drive[..., :1].shape, *(value.shape for value in wide), (1,))
    stepper = _Stepper(model, circuit, max(tolerance, LEAST), float(np.abs(s).max()), like)
    x = wide[-3].expand(shape)
    states, voltages = [x], [stepper.voltage(drive[..., :1].expand(shape), x)]
    x = x.clip(stepper.low, stepper.high)
    for n in range(t.size - 1):
        x = stepper.segment(x, drive[..., n : n + 1], drive[..., n + 1 : n + 2], float(t[n + 1] - t[n]))
        if not bool(torch.isfinite(x).all()):
            raise _failure(model, t[: n + 1], states, x)
        states.append(x)
        voltages.append(stepper.voltage(drive[..., n + 1 : n + 2].expand(shape), x))
    stepper.warn()
    return torch.cat(states, -1), torch.cat(voltages, -1)


def _failure(model: Model, t: NDArray[np.float64], states: list[Any], x: Any) -> StepError:
    """The error that carries what was good of the first device that failed."""
    import torch

    row = int((~torch.isfinite(x.reshape(-1))).nonzero()[0])
    good = torch.cat(states, -1).detach().cpu().numpy().reshape(-1, t.size)[row]
    error = StepError(
        f"simulation of {model.name} stopped: the rate is not a number",
        got=f"device {row}, t = {t[-1]:.6g} s (sample {t.size - 1}), x = {good[-1]:.6g}",
        hint="a parameter or the drive is far outside the model's range; the states until then are in the error's "
        ".t and .x",
    )
    error.t, error.x, error.device = t, good, row
    return error


class _Stepper:
    """Steps of a batch."""

    def __init__(self, model: Model, circuit: Circuit, tolerance: float, peak: float, like: Any) -> None:
        import torch

        self._torch = torch
        self._model = model
        self._circuit = circuit
        self._tolerance = tolerance
        self._eps = float(torch.finfo(like.dtype).eps)
        self._probe = self._eps**0.5
        self.low = margin(model)
        self.high = 1.0 - self.low
        self._peak = peak
        self._h = 1.0
        self._needed = np.inf
        self._resistance = _column(circuit.series_resistance, like)
        self._limit = _column(circuit.limit, like)

    def segment(self, x: Any, s0: Any, s1: Any, dt: float) -> Any:
        """The state after one interval of the drive, with steps as small as the slowest-converging device needs."""
        at = 0.0
        swing = float((s1 - s0).abs().max())
        longest = min(1.0, max(SWING * self._peak / swing, 1.0 / MAX_SPLIT)) if swing > 0.0 else 1.0
        while at < 1.0 - 1e-12:
            h = min(self._h, longest, 1.0 - at)
            h = 1.0 - at if 1.0 - at - h < 1e-9 else h
            new, error = self._step(x, s0 + (s1 - s0) * at, (s1 - s0) * h, h * dt)
            factor = 0.9 * (self._tolerance / error) ** (1.0 / 3.0) if error > 0 else 4.0
            if error > self._tolerance:
                if h > 1.5 / MAX_SPLIT:
                    self._h = max(h * min(factor, 0.5), 1.0 / MAX_SPLIT)
                    continue
                self._needed = min(self._needed, h * dt * min(factor, 1.0))
            at += h
            x = new
            self._h = min(max(h * min(max(factor, 0.3), 4.0), 1.0 / MAX_SPLIT), 1.0)
        return x

    def warn(self) -> None:
        """Say so if steps were too coarse."""
        if np.isfinite(self._needed):
            warnings.warn(
                f"{self._model.name}: steps are too coarse for its dynamics; a state moves by more than the tolerance "
                f"allows. A drive sampled every {self._needed * MAX_SPLIT:.2g} s there would do",
                CoarseStepWarning,
                stacklevel=4,
            )

    def _step(self, y: Any, s: Any, ds: Any, dt: float) -> tuple[Any, float]:
        w = GAMMA * dt
        z1 = self._stage(s + GAMMA * ds, y, w, y)
        k1 = (z1 - y) / GAMMA
        base = y + (C2 - GAMMA) * k1
        z2 = self._stage(s + C2 * ds, base, w, z1)
        k2 = (z2 - base) / GAMMA
        base = y + B1 * k1 + B2 * k2
        z3 = self._stage(s + ds, base, w, z2)
        k3 = (z3 - base) / GAMMA
        error = ((B1 - 1.0 + E2) * k1 + (B2 - E2) * k2 + GAMMA * k3).detach().abs().max()
        return z3, float(error)

    def _rate(self, source: Any, x: Any) -> Any:
        return self._model.rate(self.voltage(source, x), x)

    def _stage(self, source: Any, base: Any, w: float, guess: Any) -> Any:
        """z in [0, 1] with z = base + w rate(z)."""
        torch = self._torch
        source = source.expand(base.shape)
        with torch.no_grad():
            z = self._solve(source, base.detach(), w, guess.detach())
            side = torch.where(z < 0.5, self._probe, -self._probe)
            residual = z - base - w * self._rate(source, z)
            z = torch.where(residual.isnan(), residual, z)  # a search ends somewhere even if the rate is no number
            slope = 1.0 - w * (self._rate(source, z + side) - self._rate(source, z)) / side
            held = ((z <= self.low) & (residual > 1e-12)) | ((z >= self.high) & (residual < -1e-12))
        if not torch.is_grad_enabled():
            return z
        newton = z - (z - base - w * self._rate(source, z)) / torch.where(slope.abs() > 1e-3, slope, 1.0)
        # the value is that of the solver; only the derivative comes from the Newton step
        return torch.where(held, z, z + (newton - newton.detach()))

    def _solve(self, source: Any, base: Any, w: float, z: Any) -> Any:
        torch = self._torch
        precision = 8.0 * self._eps
        z = z.clip(self.low, self.high)
        f = z - base - w * self._rate(source, z)
        for _ in range(NEWTON):
            if float(f.abs().max()) <= precision:
                return z
            side = torch.where(z < 0.5, self._probe, -self._probe)
            slope = 1.0 - w * (self._rate(source, z + side) - self._rate(source, z)) / side
            new = (z - f / torch.where(slope > 0.05, slope, 1.0)).clip(self.low, self.high)
            f = new - base - w * self._rate(source, new)
            if torch.equal(new, z):  # bounds hold whatever has not converged
                return z
            z = new
        return torch.where(f.abs() <= precision, z, self._search(source, base, w))

    def _search(self, source: Any, base: Any, w: float) -> Any:
        """Bisection from the base towards the bound in the direction of motion."""
        torch = self._torch
        inner = base.clip(self.low, self.high)
        f = inner - base - w * self._rate(source, inner)
        outer = torch.where(f > 0, self.low, self.high).to(base.dtype)
        g = outer - base - w * self._rate(source, outer)
        at_bound = (f * g > 0) & (f != 0)
        for _ in range(BISECT):
            middle = 0.5 * (inner + outer)
            same = (middle - base - w * self._rate(source, middle)) * f > 0
            inner, outer = torch.where(same, middle, inner), torch.where(same, outer, middle)
        bound = torch.where(f > 0, self.low, self.high).to(base.dtype)
        return torch.where(f == 0, base.clip(self.low, self.high), torch.where(at_bound, bound, 0.5 * (inner + outer)))

    def voltage(self, source: Any, x: Any) -> Any:
        """Voltage across the device."""
        if self._circuit.trivial:
            return source
        torch = self._torch
        if self._circuit.kind == "current":
            top = self._limit.clip(max=V_LIMIT)
            u = self._root(lambda u: self._model.current(u, x) - source, source.sign() * top)
            bound = (self._model.current(source.sign() * top, x) - source) * source.sign() < 0
            return torch.where(bound, source.sign() * top, u)
        u = self._root(lambda u: u + self._resistance * self._model.current(u, x) - source, source)
        over = self._model.current(u, x).abs() > self._limit
        if not bool(over.any()):
            return u
        held = self._root(lambda u: self._model.current(u, x) - source.sign() * self._limit, u.detach())
        return torch.where(over, held, u)

    def _root(self, function: Callable[[Any], Any], far: Any) -> Any:
        """Zero of a rising function between 0 and `far`, with its derivative by parameters."""
        torch = self._torch
        with torch.no_grad():
            low, high = far.clip(max=0.0), far.clip(min=0.0)
            u = 0.5 * far
            step = self._probe * far.abs() + 1e-12
            for k in range(BISECT):
                f = function(u)
                low, high = torch.where(f <= 0, u, low), torch.where(f >= 0, u, high)
                slope = (function(u + step) - f) / step
                new = u - f / slope
                inside = (new > low) & (new < high) & (k % 6 != 5)
                new = torch.where(inside, new, 0.5 * (low + high))
                if bool(((new - u).abs() <= 500.0 * self._eps * far.abs()).all()):
                    break
                u = new
            slope = (function(u + step) - function(u)) / step
        if not torch.is_grad_enabled():
            return u
        newton = -function(u) / torch.where(slope > 0, slope, 1.0)
        return u + (newton - newton.detach())


def _column(value: Value, like: Any) -> Any:
    """A circuit value as a tensor, [b, 1] where it is a batch."""
    import torch

    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return tensor[..., None] if tensor.ndim else tensor
