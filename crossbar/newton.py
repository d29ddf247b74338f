"""Method c, any cells with line resistance: Newton's method on the cell voltages, without a matrix.

With Z the resistance operator of the lines, the cell voltages obey v = V - Z I(v) + E phi, where phi are the
potentials of floating lines, which carry no net current: E^T I(v) = 0. A Newton step solves (1 + Z D) dv = -F with
D = dI/dv, which is self-adjoint and positive in the inner product weighted by D: conjugate gradients, projected for
floating lines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from devicelab.errors import ConvergenceError

from .cells import Cells
from .floating import Floating
from .lines import Lines
from .spectral import LONG, Spectrum

MAX_NEWTON = 40
MAX_DESCENT = 300
MAX_CG = 500
NOTHING = 1e-7


@dataclass(frozen=True)
class Circuit:
    """An array with its lines, drive and floating lines, ready to be solved."""

    cells: Cells
    lines: Lines
    floating: Floating
    drive: Tensor  # [*tiles, b, m, n]: word-line minus bit-line voltage at zero current [V], float64
    linear: bool

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """Eigenvectors of the lines, where they are alike and none floats."""
        return Spectrum.of(self.lines.detach(), *self.drive.shape[-2:]) if self.floating.none else None


@dataclass(frozen=True)
class State:
    """Cell voltages that solve a circuit, and how well."""

    v: Tensor  # [*tiles, b, m, n] V
    residual: float
    iterations: int


def solve_newton(circuit: Circuit, rtol: float) -> State:
    """Cell voltages of a circuit to a relative residual `rtol`.

    The residual is the largest sum over one line of |error of Kirchhoff's current law|, relative to the largest sum of
    |currents| over one line. Newton steps limited cell by cell come first, which is fast; where they go astray, steps
    along which the array's dissipation falls, which always arrive.

    Raises:
        ConvergenceError: If the residual stays above `rtol`.
    """
    applications = 0
    point = Point(circuit, _start(circuit))
    for _ in range(MAX_NEWTON):
        applications += 1
        if point.residual <= rtol or not point.residual < torch.inf:
            break
        dv, steps = point.newton_step(rtol)
        applications += steps
        point = Point(circuit, _limited(circuit.cells, point, dv))
    if not point.residual <= rtol:
        point, steps = _descend(circuit, rtol)
        applications += steps
    if point.residual <= rtol:
        return State(point.v, point.residual, applications)
    raise ConvergenceError(
        "the array's voltages did not converge",
        got=f"relative residual {point.residual:.3g} after {applications} applications of the line operator",
        allowed=f"rtol = {rtol:.3g}",
        hint="use float64 tensors, raise rtol, or look for cells whose current is not smooth in voltage",
    )


class Point:
    """Where an iteration stands: voltages, and what they imply."""

    def __init__(self, circuit: Circuit, v: Tensor) -> None:
        self.circuit = circuit
        self.v = v
        self.i, self.d = circuit.cells.current_and_conductance(v)
        self.system = System(circuit.lines, circuit.floating, self.d, circuit.cells.dtype, circuit.spectrum)
        f = circuit.drive - circuit.lines.drops(self.i) - v
        self.entering, self.remainder = self.system.split(f, self.i)
        self.kirchhoff, balance = _residual(circuit, self.d * self.remainder, self.i, self.d)
        self.per_vector = torch.maximum(self.kirchhoff, balance)
        self.residual = self.per_vector.max().item()

    def newton_step(self, rtol: float, *, loosest: float = 0.1) -> tuple[Tensor, int]:
        """The step to the solution of the linearised array, as exact as pays, and applications of the operator."""
        forcing = 0.1 * rtol / self.kirchhoff.clamp_min(1e-300)
        if not self.circuit.linear:
            forcing = torch.maximum(forcing, self.per_vector.clamp_max(loosest))
        dv, steps = self.system.solve(self.remainder, forcing)
        return self.entering + dv, steps


class System:
    """The linear system of one Newton step: S f = dv with (1 + Z D) dv = f + E phi and E^T D dv = 0."""

    def __init__(
        self, lines: Lines, floating: Floating, d: Tensor, dtype: torch.dtype, spectrum: Spectrum | None = None
    ) -> None:
        self.lines = lines
        self.dtype = dtype
        self.d = d
        self.weights = floating.weighted(d)
        self.spectrum = spectrum if spectrum is not None and spectrum.length(d) > LONG else None

    def _projected(self, f: Tensor) -> Tensor:
        """`f` without its net weighted current on floating lines."""
        return f if self.weights is None else f - self.weights.spread(self.d.to(f.dtype) * f)

    def split(self, f: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
        """The shift of floating lines that restores their current balance, and the right-hand side left after it."""
        if self.weights is None:
            return torch.zeros_like(f), f
        shift = -self.weights.spread(i)
        f = f - shift - self.lines.drops(self.d * shift)
        return shift, self._projected(f)

    def solve(self, f: Tensor, forcing: Tensor) -> tuple[Tensor, int]:
        """Dv [*tiles, b, m, n] to the relative accuracy `forcing` [*tiles, b] in the norm weighted by D; 0 if above 1.

        Also the number of applications of the line operator.
        """
        if self.spectrum is not None:
            dv, steps = self.spectrum.solve(f.to(self.dtype), self.d.to(self.dtype), forcing.to(self.dtype))
            return dv.to(f.dtype), steps
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
            q = self._projected(p + self.lines.drops(dp))
            alpha = _ratio(rr, _dot(dp, q))
            x = x + _wide(alpha) * p
            r = r - _wide(alpha) * q
            rr, last = _dot(d * r, r), rr
            p = r + _wide(_ratio(rr, last)) * p
        return x.to(out_type), step

    def adjoint(self, g: Tensor, tolerance: float) -> Tensor:
        """S^T g, for gradients: h - D S Z h with h the part of `g` that floating lines do not take."""
        h = g if self.weights is None else g - self.d * self.weights.spread(g)
        rhs = self._projected(self.lines.drops(h))
        forcing = torch.full(g.shape[:-2], tolerance, dtype=g.dtype, device=g.device)
        return h - self.d * self.solve(rhs, forcing)[0]


def _descend(circuit: Circuit, rtol: float) -> tuple[Point, int]:
    """Newton steps cut where dissipation stops falling; the last point, and applications of the line operator.

    With potentials that carry the line currents j, the energy whose minimum is the solution changes along a step
    (dv, dj) as sum (I(v) - j) dv. It is convex, so its minimum along the step is where that vanishes.
    """
    point = Point(circuit, circuit.drive)
    j = torch.zeros_like(point.v)
    applications = 1
    for _ in range(MAX_DESCENT):
        if not rtol < point.residual < torch.inf:
            break
        dv, steps = point.newton_step(rtol, loosest=1e-3)
        dj = point.i + point.d * dv - j
        t = _along(circuit.cells, point.v, dv, j, dj)
        j = j + _wide(t) * dj
        point = Point(circuit, point.v + _wide(t) * dv)
        applications += 1 + steps
    return point, applications


def _along(cells: Cells, v: Tensor, dv: Tensor, j: Tensor, dj: Tensor) -> Tensor:
    """Fraction of a step, up to 1, at which dissipation stops falling, [*tiles, b]."""
    low, high = torch.zeros(v.shape[:-2], dtype=v.dtype, device=v.device), torch.ones_like(v[..., 0, 0])

    def rising(t: Tensor) -> Tensor:
        return ~(_dot(cells.current(v + _wide(t) * dv) - j - _wide(t) * dj, dv) <= 0)  # True for overflow too

    if not bool(rising(high).any()):
        return high
    full = ~rising(high)
    for _ in range(40):
        middle = 0.5 * (low + high)
        up = rising(middle)
        low, high = torch.where(up, low, middle), torch.where(up, middle, high)
    return torch.where(full, 1.0, high)


def _start(circuit: Circuit) -> Tensor:
    """Ideal lines, unless they would lose more than the whole drive; then the voltages that a linear array allows."""
    drive = circuit.drive
    lost = circuit.lines.drops(circuit.cells.current(drive))
    if circuit.linear or bool((lost.abs().amax((-1, -2)) <= drive.abs().amax((-1, -2))).all()):
        return drive
    return _limited(circuit.cells, Point(circuit, torch.zeros_like(drive)), drive)


def _limited(cells: Cells, point: Point, dv: Tensor) -> Tensor:
    """Voltages after the step `dv`; where the conductance would shoot up, the step is taken in current instead.

    Exponential cells need this: from below, a step in voltage overshoots by orders of magnitude in current.
    """
    v, i, d = point.v, point.i, point.d
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


def _residual(circuit: Circuit, error: Tensor, i: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Relative KCL residual of every vector at the nodes, and in the balance of its floating lines, [*tiles, b].

    Currents ten million times smaller than ideal lines would allow count as rounding.
    """
    scale = torch.maximum(_largest_line(i), NOTHING * _largest_line(d) * circuit.drive.abs().amax((-1, -2)))
    worst = _largest_line(error)
    return _ratio(worst, scale), _ratio(circuit.floating.imbalance(i), scale)


def _largest_line(i: Tensor) -> Tensor:
    """Largest sum of |i| over one line, [*tiles, b]."""
    size = i.abs()
    return torch.maximum(size.sum(-1).amax(-1), size.sum(-2).amax(-1))


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-1, -2))


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """A / b, and 0 where both are 0."""
    return torch.where(b > 0, a / torch.where(b > 0, b, torch.ones_like(b)), a)


def _wide(a: Tensor) -> Tensor:
    return a[..., None, None]
