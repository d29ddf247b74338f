"""Method c, any cells with line resistance: Newton's method on the cell voltages, without a matrix.

With Z the resistance operator of the lines, the cell voltages obey v = V - Z I(v) + E phi, where phi are the
potentials of floating lines, which carry no net current: E^T I(v) = 0. A Newton step solves (1 + Z D) dv = -F with
D = dI/dv, which is self-adjoint and positive in the inner product weighted by D: conjugate gradients, projected for
floating lines.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from devicelab.errors import ConvergenceError

from .cells import Cells
from .floating import Floating
from .lines import Lines

MAX_NEWTON = 60
MAX_CG = 500


@dataclass(frozen=True)
class Circuit:
    """An array with its lines, drive and floating lines, ready to be solved."""

    cells: Cells
    lines: Lines
    floating: Floating
    drive: Tensor  # [*tiles, b, m, n]: word-line minus bit-line voltage at zero current [V], float64
    linear: bool


@dataclass(frozen=True)
class State:
    """Cell voltages that solve a circuit, and how well."""

    v: Tensor  # [*tiles, b, m, n] V
    residual: float
    iterations: int


def solve_newton(circuit: Circuit, rtol: float) -> State:
    """Cell voltages of a circuit to a relative residual `rtol`.

    The residual is the largest sum over one line of |error of Kirchhoff's current law|, relative to the largest sum of
    |currents| over one line.

    Raises:
        ConvergenceError: If the residual stays above `rtol`.
    """
    v = _start(circuit)
    applications = 0
    residual = torch.inf
    for _ in range(MAX_NEWTON):
        i, d = circuit.cells.current_and_conductance(v)
        system = System(circuit.lines, circuit.floating, d, circuit.cells.dtype)
        f = circuit.drive - circuit.lines.drops(i) - v
        applications += 1
        entering, remainder = system.split(f, i)
        kirchhoff, balance = _residual(circuit, d * remainder, i)
        per_vector = torch.maximum(kirchhoff, balance)
        residual = per_vector.max().item()
        if residual <= rtol:
            return State(v, residual, applications)
        if residual != residual:
            break
        forcing = 0.1 * rtol / kirchhoff.clamp_min(1e-300)
        if not circuit.linear:
            forcing = torch.maximum(forcing, per_vector.clamp_max(0.1))
        dv, steps = system.solve(remainder, forcing)
        applications += steps
        v = _limited(circuit.cells, v, i, d, entering + dv)
    raise ConvergenceError(
        "the array's voltages did not converge",
        got=f"relative residual {residual:.3g} after {applications} applications of the line operator",
        allowed=f"rtol = {rtol:.3g}",
        hint="use float64 tensors, raise rtol, or look for cells whose current is not smooth in voltage",
    )


class System:
    """The linear system of one Newton step: S f = dv with (1 + Z D) dv = f + E phi and E^T D dv = 0."""

    def __init__(self, lines: Lines, floating: Floating, d: Tensor, dtype: torch.dtype) -> None:
        self.lines = lines
        self.dtype = dtype
        self.d = d
        self.weights = floating.weighted(d)

    def split(self, f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """The shift of floating lines that restores their current balance, and the right-hand side left after it."""
        if self.weights is None:
            return torch.zeros_like(f), f
        shift = -self.weights.spread(i)
        f = f - shift - self.lines.drops(self.d * shift)
        return shift, f - self.weights.spread(self.d * f)

    def solve(self, f: Tensor, forcing: Tensor) -> tuple[Tensor, int]:
        """Dv [*tiles, b, m, n] to the relative accuracy `forcing` [*tiles, b] in the norm weighted by D; 0 if above 1.

        Also the number of applications of the line operator.
        """
        out_type = f.dtype
        d, r = self.d.to(self.dtype), torch.where(_wide(forcing) < 1, f, 0.0).to(self.dtype)
        x = torch.zeros_like(r)
        p = r
        rr = _dot(d * r, r)
        goal = rr * forcing.to(self.dtype) ** 2
        step = 0
        while bool((rr > goal).any()) and step < MAX_CG:
            step += 1
            dp = d * p
            q = p + self.lines.drops(dp)
            if self.weights is not None:
                q = q - self.weights.spread(d * q)
            alpha = _ratio(rr, _dot(dp, q))
            x = x + _wide(alpha) * p
            r = r - _wide(alpha) * q
            rr, last = _dot(d * r, r), rr
            p = r + _wide(_ratio(rr, last)) * p
        return x.to(out_type), step

    def adjoint(self, g: Tensor, tolerance: float) -> Tensor:
        """S^T g, for gradients: h - D S Z h with h the part of `g` that floating lines do not take."""
        h = g if self.weights is None else g - self.d * self.weights.spread(g)
        rhs = self.lines.drops(h)
        if self.weights is not None:
            rhs = rhs - self.weights.spread(self.d * rhs)
        forcing = torch.full(g.shape[:-2], tolerance, dtype=g.dtype, device=g.device)
        return h - self.d * self.solve(rhs, forcing)[0]


def _start(circuit: Circuit) -> Tensor:
    """Ideal lines, unless they would lose more than the whole drive; then the voltages that a linear array allows."""
    drive = circuit.drive
    lost = circuit.lines.drops(circuit.cells.current(drive))
    if circuit.linear or bool((lost.abs().amax((-1, -2)) <= drive.abs().amax((-1, -2))).all()):
        return drive
    zero = torch.zeros_like(drive)
    i, d = circuit.cells.current_and_conductance(zero)
    return _limited(circuit.cells, zero, i, d, drive)


def _limited(cells: Cells, v: Tensor, i: Tensor, d: Tensor, dv: Tensor) -> Tensor:
    """Voltages after the step `dv`; where the conductance would shoot up, the step is taken in current instead.

    Exponential cells need this: from below, a step in voltage overshoots by orders of magnitude in current.
    """
    ahead = v + dv
    _, d_ahead = cells.current_and_conductance(ahead)
    reference = torch.maximum(d, 1e-2 * d.mean((-1, -2), keepdim=True))
    steep = ~(d_ahead <= 10 * reference)  # True for overflow too
    if not bool(steep.any()):
        return ahead
    near, far = v, ahead
    goal = (i + d * dv).abs()
    for _ in range(60):
        middle = 0.5 * (near + far)
        short = cells.current(middle).abs() < goal
        near, far = torch.where(short, middle, near), torch.where(short, far, middle)
    return torch.where(steep, near, ahead)


def _residual(circuit: Circuit, error: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    """Relative KCL residual of every vector at the nodes, and in the balance of its floating lines, [*tiles, b]."""
    size = i.abs()
    scale = torch.maximum(size.sum(-1).amax(-1), size.sum(-2).amax(-1))
    error = error.abs()
    worst = torch.maximum(error.sum(-1).amax(-1), error.sum(-2).amax(-1))
    return _ratio(worst, scale), _ratio(circuit.floating.imbalance(i), scale)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-1, -2))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """A / b, and 0 where both are 0."""
    return torch.where(b > 0, a / torch.where(b > 0, b, torch.ones_like(b)), a)


def _wide(a: Tensor) -> Tensor:
    return a[..., None, None]
