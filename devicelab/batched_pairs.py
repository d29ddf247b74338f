"""Simulation of devices with two states on torch tensors: `devicelab.batched` with a second unknown in every stage.

Both states travel as one tensor, [2, ...]. A stage is solved by Newton's method in both unknowns; where that does not
get there, as in `devicelab._pair_kernels`: one unknown within the other, each within a bracket. Then one Newton step in
both from the solution enters the graph, so gradients are those of the implicit function theorem for the pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernels import B1, B2, C2, GAMMA
from .batched import MOST, NEWTON, _error, _failure, _Stepper
from .circuit import Circuit
from .implicit import margin
from .models.base import TwoStateModel
from .ops import Value, is_tensor

ON_THE_WAY = 0.05
"""Least determinant, and least slope, with which a Newton step is taken: below, the equations say little of the way."""


def trajectory(
    model: TwoStateModel,
    t: NDArray[np.float64],
    s: NDArray[np.float64],
    x0: Value,
    y0: Value,
    circuit: Circuit,
    tolerance: float,
) -> tuple[Value, Value, Value]:
    """Both states and the device voltage at the samples of a drive, on tensors.

    Args:
        model: The device; parameters with a time axis of length 1 ([b, 1]) where they are batched.
        t: Times [s], [t].
        s: What the source prescribes, [t] or [b, t].
        x0: State at the first sample, scalar or [b, 1].
        y0: Second state at the first sample, likewise.
        circuit: What surrounds the device.
        tolerance: Error of either state that a step may make; not finer than 100 times the resolution of the tensors.

    Returns:
        x, y and v [V], all [t] or [b, t].

    Warns:
        CoarseStepWarning: If 1024 steps a sample do not reach the tolerance.
    """
    import torch

    leaves = [*model._leaves(), x0, y0, circuit.series_resistance, circuit.limit]
    like = next(value for value in leaves if is_tensor(value))
    wide = [torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in leaves]
    drive = torch.as_tensor(s, dtype=like.dtype, device=like.device)
    shape = torch.broadcast_shapes(drive[..., :1].shape, *(value.shape for value in wide), (1,))
    stepper = _PairStepper(model, circuit, tolerance, float(np.abs(s).max()), leaves, len(shape))
    z = torch.stack([wide[-4].expand(shape), wide[-3].expand(shape)])
    states, voltages = [z], [stepper.voltage(drive[..., :1].expand(shape), z)]
    z = z.clip(stepper.low, stepper.high)
    for n in range(t.size - 1):
        z = stepper.segment(z, drive[..., n : n + 1], drive[..., n + 1 : n + 2], float(t[n + 1] - t[n]))
        if not bool(torch.isfinite(z).all()):
            raise _failure(model, t[: n + 1], [state[0] for state in states], z.sum(0))
        states.append(z)
        voltages.append(stepper.voltage(drive[..., n + 1 : n + 2].expand(shape), z))
    stepper.warn()
    x, y = torch.cat(states, -1)
    return x, y, torch.cat(voltages, -1)


class _Together:
    """A device whose state is a tensor of both, as a `_Stepper` takes it."""

    def __init__(self, model: TwoStateModel) -> None:
        self._model = model
        self.name = model.name
        self.window = model.window

    def current(self, v: Any, z: Any) -> Any:
        return self._model.current(v, z[0], z[1])

    def rate(self, v: Any, z: Any) -> Any:
        import torch

        rates = self._model.rate(v, z[0], z[1]), self._model.second_rate(v, z[0], z[1])
        return torch.stack([rate.expand(z.shape[1:]) for rate in rates])


class _PairStepper(_Stepper):
    """Steps of a batch of pairs."""

    def __init__(
        self, model: TwoStateModel, circuit: Circuit, tolerance: float, peak: float, leaves: list[Value], axes: int
    ) -> None:
        import torch

        super().__init__(_Together(model), circuit, tolerance, peak, leaves)  # type: ignore[arg-type]
        like = next(value for value in leaves if is_tensor(value))
        edge = torch.tensor([margin(model), 0.0], dtype=like.dtype, device=like.device)
        self._nested = _First(model, circuit, tolerance, peak, leaves)
        self.low: Any = edge.reshape(2, *(1,) * axes)
        self.high: Any = 1.0 - self.low
        self._most = 4 * MOST  # a filament closes its gap and then grows, each in a run of its own
        self._precision = max(8.0 * self._eps, 1e-4 * self._tolerance)

    def _step(self, y: Any, s: Any, ds: Any, dt: float) -> tuple[Any, float, tuple[Any, ...]]:
        """The states at the end, the largest error, of which 1 is allowed, and the rates there."""
        torch = self._torch
        w = GAMMA * dt
        self._slope = 0.0
        z1 = self._both(s + GAMMA * ds, y, w, y.detach())
        k1 = (z1 - y) / GAMMA
        base = y + (C2 - GAMMA) * k1
        z2 = self._both(s + C2 * ds, base, w, (base + GAMMA * k1).detach())
        k2 = (z2 - base) / GAMMA
        base = y + B1 * k1 + B2 * k2
        z3 = self._both(s + ds, base, w, (base + GAMMA * k2).detach())
        k = tuple(part.detach() for part in (k1, k2, (z3 - base) / GAMMA))
        damping = 1.0 + w * torch.as_tensor(-self._slope).clip(min=0.0)
        error = float((_error(dt * self._here[0], *k) / damping).max()) / self._tolerance
        return z3, error, (k[2].where((z3 > self.low) & (z3 < self.high), 0.0) / dt,)

    def _both(self, source: Any, base: Any, w: float, guess: Any) -> Any:
        """z in [0, 1]^2 with z = base + w rate(z)."""
        torch = self._torch
        source = source.expand(base.shape[1:])
        with torch.no_grad():
            z, rate = self._pair(source, base.detach(), w, guess)
            residual = z - base.detach() - w * rate
            z = torch.where(residual.isnan(), residual, z)  # a search ends somewhere even if the rate is no number
        if not self._grad:
            return z
        with torch.no_grad():
            held, jacobian = self._held(z, residual), self._jacobian(source, w, z, rate)
        step = _solved(jacobian, z - base - w * self._rate(source, z), held)
        return torch.where(held, z, z - (step - step.detach()))

    def _pair(self, source: Any, base: Any, w: float, z: Any) -> tuple[Any, Any]:
        """The solution, and the rates there: Newton steps, with new derivatives only where they stop helping."""
        torch = self._torch
        z = z.clip(self.low, self.high)
        rate = self._rate(source, z)
        residual = z - base - w * rate
        jacobian = None
        for _ in range(NEWTON):
            small = (residual.abs() <= self._precision) | self._held(z, residual)
            if bool(small.all()):
                return z, rate
            if jacobian is None:
                jacobian = self._jacobian(source, w, z, rate)
            new = (z - _solved(jacobian, residual, self._held(z, residual))).clip(self.low, self.high)
            if torch.equal(new, z):
                return z, rate
            rate = self._rate(source, new)
            old, z, residual = residual, new, new - base - w * rate
            if not bool((residual.abs() <= torch.clamp(0.1 * old.abs(), min=self._precision)).all()):
                jacobian = None
        small = (residual.abs() <= self._precision) | self._held(z, residual)
        z = torch.where(small.all(0), z, self._nested.pair(source, base, w))
        return z, self._rate(source, z)

    def _jacobian(self, source: Any, w: float, z: Any, rate: Any) -> Any:
        """Derivatives d residual[i] / d z[j] of a stage as [i][j]."""
        torch = self._torch
        side = torch.where(z < 0.5, self._probe, -self._probe)
        zero = torch.zeros_like(side[0])
        columns = []
        for k, step in enumerate((torch.stack([side[0], zero]), torch.stack([zero, side[1]]))):
            columns.append(-w * (self._rate(source, z + step) - rate) / side[k])
            columns[k][k] += 1.0
        self._slope = (1.0 - torch.stack([columns[0][0], columns[1][1]])) / w
        return (columns[0][0], columns[1][0]), (columns[0][1], columns[1][1])


class _First(_Stepper):
    """Steps of the first state of a batch of pairs, the second one solved for at every state that is tried."""

    def __init__(
        self, model: TwoStateModel, circuit: Circuit, tolerance: float, peak: float, leaves: list[Value]
    ) -> None:
        super().__init__(_Together(model), circuit, tolerance, peak, leaves)  # type: ignore[arg-type]
        self._second = _Second(model, circuit, tolerance, peak, leaves)

    def pair(self, source: Any, base: Any, w: float) -> Any:
        """Both states with z = base + w rate(z), the first one on the way."""
        second = self._second
        second.base, second.w, second.last = base[1], w, base[1]
        x = self._search(source, base[0], w)
        return self._torch.stack([x, second.beside(source, x)])

    def _rate(self, source: Any, x: Any) -> Any:
        z = self._torch.stack([x, self._second.beside(source, x)])
        return self._model.rate(self.voltage(source, z), z)[0]


class _Second(_Stepper):
    """The second state for a given first one."""

    base: Any
    last: Any
    w: float

    def __init__(
        self, model: TwoStateModel, circuit: Circuit, tolerance: float, peak: float, leaves: list[Value]
    ) -> None:
        super().__init__(_Together(model), circuit, tolerance, peak, leaves)  # type: ignore[arg-type]
        self.low, self.high = 0.0, 1.0

    def beside(self, source: Any, x: Any) -> Any:
        """y in [0, 1] with y = base + w rate(x, y)."""
        self._x = x
        self._slope = 0.0
        self.last, _ = self._solve(source, self.base, self.w, self.last)
        return self.last

    def _rate(self, source: Any, y: Any) -> Any:
        z = self._torch.stack([self._x, y])
        return self._model.rate(self.voltage(source, z), z)[1]


def _solved(jacobian: Any, residual: Any, held: Any) -> Any:
    """jacobian^-1 residual, where a state that is held has no equation; the residual itself where that is no way."""
    import torch

    (a, b), (c, d) = jacobian
    free_x, free_y = ~held[0], ~held[1]
    one, none = torch.ones_like(a), torch.zeros_like(a)
    a, b = torch.where(free_x, a, one), torch.where(free_x & free_y, b, none)
    c, d = torch.where(free_x & free_y, c, none), torch.where(free_y, d, one)
    r, q = torch.where(free_x, residual[0], none), torch.where(free_y, residual[1], none)
    determinant = a * d - b * c
    good = determinant > ON_THE_WAY
    determinant = torch.where(good, determinant, one)
    x = torch.where(good, (d * r - b * q) / determinant, r)
    y = torch.where(good, (a * q - c * r) / determinant, q)
    return torch.stack([x, y])
