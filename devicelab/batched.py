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

MOST = 256
"""So many steps of a sample interval may be as short as they need to be; then each takes 1 / `COARSE` of it or more."""

COARSE = 64
FINEST = 2.0**-40
"""Shortest step, as a share of a sample interval: a corner of the rate is stepped up to, and over it."""

LEAST = 100.0
"""Finest tolerance a step of a batch aims for, in units of the resolution of its tensors: 1e-5 in float32."""

TANGENT = 100.0
"""Error that a step may make in the derivative of its end by its start, where gradients are asked for, over the
tolerance. The state feels a corner of the rate in the second order of the step, gradients in the first."""

SWING = 0.1
"""Largest change of the drive in a step, relative to its largest value: a threshold must not be jumped over unseen."""

START = tuple(
    float(np.prod([b / (b - a) for b in (GAMMA, C2, 1.0) if b != a])) for a in (GAMMA, C2, 1.0)
)  # weights that extrapolate from the stages to the start of a step
UNSEEN = 0.1
"""Share of a disagreement at the start that a step makes an error of: half of where a corner is, less than `GAMMA`."""

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
        tolerance: Error of the state that a step may make; not finer than 100 times the resolution of the tensors'
            type, which is 1e-5 in float32. Where gradients are asked for, 100 times the tolerance is what a step may
            do wrong in its own derivative.

    Returns:
        x and v [V], both [t] or [b, t].

    Warns:
        CoarseStepWarning: If 256 steps a sample do not reach the tolerance.
    """
    import torch

    leaves = [*model._leaves(), x0, circuit.series_resistance, circuit.limit]
    like = next(value for value in leaves if is_tensor(value))
    wide = [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in leaves]
    drive = torch.as_tensor(s, dtype=like.dtype, device=like.device)
    shape = torch.broadcast_shapes(drive[..., :1].shape, *(value.shape for value in wide), (1,))
    stepper = _Stepper(model, circuit, tolerance, float(np.abs(s).max()), leaves)
    x = wide[-3].expand(shape)
    states, voltages = [x], [stepper.voltage(drive[..., :1].expand(shape), x)]
    x = x.clip(stepper.low, stepper.high)
    stepper.begin(drive[..., :1], x)
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

    def __init__(self, model: Model, circuit: Circuit, tolerance: float, peak: float, leaves: list[Value]) -> None:
        import torch

        like = next(value for value in leaves if is_tensor(value))
        self._torch = torch
        self._model = model
        self._circuit = circuit
        self._eps = float(torch.finfo(like.dtype).eps)
        self._grad = torch.is_grad_enabled() and any(v.requires_grad for v in leaves if is_tensor(v))
        self._tolerance = max(tolerance, LEAST * self._eps)
        self._probe = self._eps**0.5
        self.low = margin(model)
        self.high = 1.0 - self.low
        self._peak = peak
        self._most = MOST
        self._h = 1.0
        self._slope: Any = 0.0  # of the rate by the state, as the last stage left it
        self._here: tuple[Any, ...] = (0.0,)  # where the next step begins: rate; with gradients its slope, and `_feel`
        self._needed = np.inf
        self._resistance = _column(circuit.series_resistance, like)
        self._limit = _column(circuit.limit, like)

    def begin(self, source: Any, x: Any) -> None:
        """Take note of the rate at the start."""
        if not self._grad:
            return
        at = x.detach().requires_grad_()
        rate = self._rate(source.expand(x.shape), at) + 0.0 * at
        (slope,) = self._torch.autograd.grad(rate.sum(), at)
        self._here = (rate.detach(), slope, self._torch.ones_like(at))

    def segment(self, x: Any, s0: Any, s1: Any, dt: float) -> Any:
        """The state after one interval of the drive, with steps as small as the slowest-converging device needs."""
        at, count = 0.0, 0
        swing = float((s1 - s0).abs().max())
        longest = min(1.0, max(SWING * self._peak / swing, 1.0 / COARSE)) if swing > 0.0 else 1.0
        while at < 1.0 - FINEST:
            count += 1
            finest = FINEST if count < self._most else 1.0 / COARSE
            h = min(max(self._h, finest), longest, 1.0 - at)
            h = 1.0 - at if 1.0 - at - h < FINEST else h
            new, error, there = self._step(x, s0 + (s1 - s0) * at, (s1 - s0) * h, h * dt)
            factor = 0.9 * error ** (-1.0 / 3.0) if error > 0 else 4.0
            if error > 1.0:
                if h > 1.5 * finest:
                    self._h = h * min(factor, 0.5)
                    continue
                self._needed = min(self._needed, h * dt * min(factor, 1.0))
            at += h
            x, self._here = new, there
            self._h = min(h * min(max(factor, 0.3), 4.0), 1.0)
        return x

    def warn(self) -> None:
        """Say so if steps were too coarse."""
        if np.isfinite(self._needed):
            warnings.warn(
                f"{self._model.name}: steps are too coarse for its dynamics; a state moves by more than the tolerance "
                f"allows. A drive sampled every {self._needed * COARSE:.2g} s there would do",
                CoarseStepWarning,
                stacklevel=4,
            )

    def _step(self, y: Any, s: Any, ds: Any, dt: float) -> tuple[Any, float, tuple[Any, ...]]:
        """The state at the end, the largest error, of which 1 is allowed, and what the next step wants to know."""
        w = GAMMA * dt
        z1, d1 = self._stage(s + GAMMA * ds, y, w, y.detach() + w * self._here[0])
        k1 = (z1 - y) / GAMMA
        base = y + (C2 - GAMMA) * k1
        z2, d2 = self._stage(s + C2 * ds, base, w, (base + GAMMA * k1).detach())
        k2 = (z2 - base) / GAMMA
        base = y + B1 * k1 + B2 * k2
        z3, d3 = self._stage(s + ds, base, w, (base + GAMMA * k2).detach())
        k3 = (z3 - base) / GAMMA
        damping = 1.0 + w * (-self._slope).clip(min=0.0)
        k = tuple(part.detach() for part in (k1, k2, k3))
        error = float((_error(dt * self._here[0], *k) / damping).max()) / self._tolerance
        there: tuple[Any, ...] = (k[2].where((z3 > self.low) & (z3 < self.high), 0.0) / dt,)
        if self._grad:
            feels, wrong = self._feel(k, (d1, d2, d3), dt)
            error = max(error, wrong / (TANGENT * self._tolerance))
            there = (*there, self._slope, feels)
        return z3, error, there

    def _feel(self, k: tuple[Any, ...], d: tuple[Any, Any, Any], dt: float) -> tuple[Any, float]:
        """A step of p, dp/dt = p drate/dx + rate: how the state feels its start and its speed; and its largest error.

        Where a bound holds the state nothing is felt.
        """
        rate, slope, p = self._here
        k1, k2, k3 = (GAMMA * part for part in k)
        q1 = ((p + k1) * d[0] - p) / GAMMA
        base = p + (C2 - GAMMA) * q1
        q2 = ((base + k2) * d[1] - base) / GAMMA
        base = p + B1 * q1 + B2 * q2
        end = (base + k3) * d[2]
        q3 = (end - base) / GAMMA
        wrong = _error(dt * (slope * p + rate), q1, q2, q3) / (1.0 + end.abs())
        return end, float(wrong.where(d[2] != 0.0, 0.0).max())

    def _rate(self, source: Any, x: Any) -> Any:
        return self._model.rate(self.voltage(source, x), x)

    def _stage(self, source: Any, base: Any, w: float, guess: Any) -> tuple[Any, Any]:
        """z in [0, 1] with z = base + w rate(z), and its derivative by the base, which is zero where a bound holds it.

        Keeps the derivative of the rate: exact where gradients are asked for, else as the search found it.
        """
        torch = self._torch
        source = source.expand(base.shape)
        with torch.no_grad():
            z, residual = self._solve(source, base.detach(), w, guess)
            z = torch.where(residual.isnan(), residual, z)  # a search ends somewhere even if the rate is no number
            held = self._held(z, residual)
        if not self._grad:
            return z, None
        at = z.requires_grad_()
        rate = self._rate(source, at) + 0.0 * at  # it need not depend on the state
        (self._slope,) = torch.autograd.grad(rate.sum(), at, retain_graph=True)
        by_base = 1.0 - w * self._slope
        by_base = torch.where(held, 0.0, 1.0 / torch.where(by_base.abs() > 1e-3, by_base, 1.0))
        z = z.detach()
        # the value is that of the solver; only the derivative comes from the Newton step
        newton = (base + w * rate) * by_base
        return z + (newton - newton.detach()), by_base

    def _held(self, z: Any, residual: Any) -> Any:
        """Where a bound holds the state back."""
        return ((z <= self.low) & (residual > 1e-12)) | ((z >= self.high) & (residual < -1e-12))

    def _solve(self, source: Any, base: Any, w: float, z: Any) -> tuple[Any, Any]:
        """Secant steps that begin with the last derivative, then a search; also what is left of the equation."""
        torch = self._torch
        precision = max(8.0 * self._eps, 1e-4 * self._tolerance)
        z = z.clip(self.low, self.high)
        f = z - base - w * self._rate(source, z)
        rise = 1.0 - w * self._slope + torch.zeros_like(z)
        for _ in range(NEWTON):
            done = (f.abs() <= precision) | self._held(z, f)
            if bool(done.all()):
                break
            new = (z - f / torch.where(rise > 0.05, rise, 1.0)).clip(self.low, self.high)
            new = torch.where(done, z, new)
            left = new - base - w * self._rate(source, new)
            way = new - z
            known = torch.where(left.abs() <= precision, rise, 1.0)  # a slope from elsewhere leads nowhere
            rise = torch.where(way.abs() > self._probe, (left - f) / way, known)
            z, f = new, left
        else:
            done = (f.abs() <= precision) | self._held(z, f)
            z, rise = torch.where(done, z, self._search(source, base, w)), torch.where(done, rise, 1.0)
            f = z - base - w * self._rate(source, z)
        self._slope = (1.0 - rise) / w
        return z, f

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
        if not self._grad:
            return u
        newton = -function(u) / torch.where(slope > 0, slope, 1.0)
        return u + (newton - newton.detach())


def _error(k0: Any, k1: Any, k2: Any, k3: Any) -> Any:
    """Error of a step, by what the rate at its start and those of its stages, times its length, disagree by.

    A corner of the rate before the first stage is seen by none of the stages, so what they say of the start is compared
    with what is known of it.
    """
    embedded = (B1 - 1.0 + E2) * k1 + (B2 - E2) * k2 + GAMMA * k3
    unseen = k0 - (START[0] * k1 + START[1] * k2 + START[2] * k3)
    return embedded.abs().maximum(UNSEEN * unseen.abs())


def _column(value: Value, like: Any) -> Any:
    """A circuit value as a tensor, [b, 1] where it is a batch."""
    import torch

    tensor = torch.as_tensor(value, dtype=like.dtype, device=like.device)
    return tensor[..., None] if tensor.ndim else tensor
