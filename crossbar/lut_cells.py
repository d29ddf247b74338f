"""Cells that follow a lookup table I(v, x): cubic in voltage, linear in state, at low rank."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from devicelab.errors import LutError, ShapeError

from .cells import LARGEST, _Tensors, per_cell


class Table(Protocol):
    """What `LutCells` reads of a lookup table (`devicelab.Lut` has it)."""

    @property
    def voltage(self) -> Any:
        """Increasing voltages, 0 among them [V], [k]."""
        ...

    @property
    def state(self) -> Any:
        """Increasing states within [0, 1], [s]."""
        ...

    @property
    def table(self) -> Any:
        """Currents [A], [s, k]; rising with voltage, 0 at 0 V."""
        ...

    @property
    def slope(self) -> Any:
        """Derivatives of `table` with respect to voltage [S], [s, k]."""
        ...


MOST_TERMS = 14
"""Of a polynomial that stands for a table: more cost as much as reading the table."""


MARGIN = 1.01
"""Of bounds found from samples of a table."""


class LutCells(_Tensors):
    """Cells that follow a lookup table at fixed states.

    I(v, x) = sum over r of a_r(x) phi_r(v): the states' rows, each scaled to its largest current, have a singular value
    decomposition of which `rank` terms are kept. Each phi_r is a cubic Hermite polynomial on the table's voltages, each
    a_r linear between the table's states, so the sum is the table's own interpolation. Beyond the last voltage an
    iterate continues linearly, but a solution that ends there is refused.

    Args:
        lut: The table, e.g. a `devicelab.Lut`. If `lut.table` is a tensor that requires gradients, all rows are kept
            and gradients reach them.
        x: State of every cell, 0 to 1, [*tiles, m, n].
        tolerance: Largest error of the truncated sum, relative to the largest current of a state's row.
        scale: Factor of every cell's current, >= 0, like `x`; None: 1. For devices that stray beyond the table.

    Raises:
        LutError: If the table is not finite, not zero at 0 V, or falls with voltage, or has no such state.
        ParameterError: If a state is outside [0, 1].
    """

    def __init__(self, lut: Table, x: Tensor, *, tolerance: float = 1e-9, scale: Tensor | None = None) -> None:
        self._per_cell = torch.as_tensor(x)  # decides where everything lies
        self.lut = lut
        self.nodes = self._float64(lut.voltage)
        self.voltages: NDArray[np.float64] = (
            torch.as_tensor(lut.voltage).detach().cpu().double().numpy()
        )  # nodes, on the host
        self._states = self._float64(lut.state)
        _check(lut)
        self._set(x, scale)
        if isinstance(lut.table, Tensor) and lut.table.requires_grad:
            basis = self._float64(lut.table), self._float64(lut.slope)
            self._factors = self._float64(np.eye(len(self._states)))
        else:
            factors, value, slope = _low_rank(lut, tolerance)
            self._factors = self._float64(factors)
            basis = self._float64(value), self._float64(slope)
        self.pieces = _hermite(self.nodes, *basis)
        self._polynomials: dict[tuple[float, float, float], Tensor | None] = {}

    def _set(self, x: Tensor, scale: Tensor | None) -> None:
        self.x = self._per_cell = per_cell("state x", x, low=0.0, high=1.0, unit="")
        self.scale = None if scale is None else per_cell("scale", scale, low=0.0, high=LARGEST, unit="")
        if self.scale is not None and self.scale.shape != self.x.shape:
            raise ShapeError("scale does not fit x", got=tuple(self.scale.shape), allowed=tuple(self.x.shape))
        if bool((self.x.detach() < self._states[0]).any() or (self.x.detach() > self._states[-1]).any()):
            raise LutError(
                "states outside the lookup table",
                got=f"{self.x.min().item():.4g} to {self.x.max().item():.4g}",
                allowed=f"{self._states[0].item():.4g} to {self._states[-1].item():.4g}",
            )

    def at(self, x: Tensor, scale: Tensor | None = None) -> LutCells:
        """Cells of the same table at other states, on the same machine; nothing is factorised again."""
        other = copy.copy(self)
        other._set(x, scale)
        return other

    def _float64(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float64, device=self.device)

    @property
    def ends(self) -> tuple[float, float]:
        """First and last voltage of the table [V]."""
        return float(self.voltages[0]), float(self.voltages[-1])

    @property
    def rank(self) -> int:
        """Number of terms in the sum over products of a function of state and a function of voltage."""
        return int(self._factors.shape[1])

    def amplitudes(self) -> Tensor:
        """a_r(x) of every cell, [rank, *tiles, m, n]."""
        return self._between_states(self._factors.T)

    def _between_states(self, rows: Tensor) -> Tensor:
        """Numbers given for the table's states, [k, s], at the cells' states and scales, [k, *tiles, m, n]."""
        x = self.x.to(torch.float64)
        low = (torch.searchsorted(self._states, x.detach(), right=True) - 1).clamp(0, len(self._states) - 2)
        t = (x - self._states[low]) / (self._states[low + 1] - self._states[low])
        found: Tensor = rows[:, low] * (1 - t) + rows[:, low + 1] * t
        return found if self.scale is None else found * self.scale.to(torch.float64)

    def bounds(self, most: float, steps: Sequence[float] = ()) -> Tensor:
        """Bounds for every cell at voltages up to `most`, as far as the table goes, [3 + steps, *tiles, m, n].

        Args:
            most: Largest voltage [V].
            steps: Changes of a voltage [V].

        Returns:
            Of |current| [A], of conductance [S], of |second derivative| [A / V^2], and of how far the second derivative
            comes, within each of `steps`, from the line that the third one draws. Both jump at a table's nodes.
        """
        inside = (self.nodes > -most) & (self.nodes < most)
        ends = torch.cat([self.nodes.new_tensor([-most]), self.nodes[inside], self.nodes.new_tensor([most])])
        shares = torch.linspace(0.001, 0.999, 9, dtype=torch.float64, device=self.device)
        v = (ends[:-1, None] + shares * ends.diff()[:, None]).flatten()
        low, t, h = self._locate(v.clamp(*self.ends))
        c = self._factors @ self.pieces.detach().movedim(1, 0)[..., low]  # [4, s, samples]
        bend, third = (2 * c[2] + 6 * t * c[3]) / h**2, 6 * c[3] / h**3
        rows = [_cubic(c, t), (c[1] + t * (2 * c[2] + 3 * t * c[3])) / h, bend]
        found = [row.abs().amax(-1) for row in rows]
        for step in steps:
            near = step + v.diff().max()  # with the next sample beyond
            reach = int((torch.searchsorted(v, v + near, right=True) - torch.arange(len(v), device=self.device)).max())
            around, at = _windows(bend, reach), _windows(v.unsqueeze(0), reach) - v.unsqueeze(-1)
            off = (around - bend.unsqueeze(-1) - third.unsqueeze(-1) * at).abs()
            found.append(torch.where(at.abs() <= near, off, 0.0).amax((-1, -2)))
        return self._between_states(MARGIN * torch.stack(found))

    def smooth_bounds(self, smooth: Tensor, span: float, steps: Sequence[float]) -> Tensor:
        """`bounds` of the polynomials of v / span that stand for the table, [rank, terms], up to `span`."""
        t = torch.linspace(-1, 1, 401, dtype=torch.float64, device=self.device)
        derivative = (self._factors @ smooth.to(self.device)).T  # [terms, s]
        found = []
        for order in range(5):
            value = torch.zeros(self._factors.shape[0], len(t), dtype=t.dtype, device=t.device)
            for c in derivative.flip(0):
                value = value * t + c[:, None]
            found.append(value.abs().amax(-1) / span**order)
            derivative = derivative[1:] * torch.arange(1, max(len(derivative), 1), device=self.device)[:, None]
        rows = [*found[:3], *(found[4] * step**2 / 2 for step in steps)]
        return self._between_states(MARGIN * torch.stack(rows))

    def polynomial(self, low: float, high: float, tolerance: float) -> Tensor | None:
        """One polynomial for each term of the sum instead of its pieces, where they are smooth enough.

        Args:
            low: Least voltage of the range [V], at most 0.
            high: Largest voltage of the range [V], at least 0.
            tolerance: Largest error of a state's current in that range, relative to that current.

        Returns:
            Coefficients of (v / max(-low, high))^k, [rank, terms], the first of them 0; None if `MOST_TERMS` do not do.
        """
        key = (low, high, tolerance)
        if key not in self._polynomials:
            self._polynomials[key] = self._polynomial(*key)
        return self._polynomials[key]

    def _polynomial(self, low: float, high: float, tolerance: float) -> Tensor | None:
        largest = max(-low, high)
        nodes = self.nodes.cpu()
        inner = nodes[(nodes > low) & (nodes < high)]
        ends = torch.cat([inner.new_tensor([low]), inner, inner.new_tensor([high])])
        between = (torch.arange(1, 8, dtype=torch.float64, device="cpu") / 8)[:, None]
        v = torch.cat([ends, (ends[:-1] + between * ends.diff()).flatten()]).sort().values
        v = v[v.abs() > 1e-9 * largest]
        if not largest > 0 or self.rank > MOST_TERMS:
            return None
        where, t, _ = self._locate(v.to(self.device))
        basis = torch.stack([_cubic(pieces.detach()[:, where], t) for pieces in self.pieces]).cpu()
        factors = self._factors.cpu()
        current = factors @ basis  # [states, samples]
        for terms in range(3, MOST_TERMS + 1):
            odd = np.polynomial.chebyshev.chebfit((v / largest).numpy(), (basis / v).T.numpy(), terms - 2)
            found = torch.zeros(self.rank, terms - 1, dtype=torch.float64, device="cpu")
            for row, chebyshev in zip(found, odd.T, strict=True):
                plain = np.polynomial.chebyshev.cheb2poly(chebyshev)  # may leave out zeros at its end
                row[: len(plain)] = largest * torch.from_numpy(plain)
            powers = (v / largest) ** torch.arange(1, terms, dtype=torch.float64, device="cpu")[:, None]
            if bool(((factors @ (found @ powers) - current).abs() <= tolerance * current.abs()).all()):
                return torch.cat([found.new_zeros(self.rank, 1), found], dim=1)
        return None

    def current(self, v: Tensor) -> Tensor:
        """The table's current [A]."""
        return self._evaluate(v, conductance=False)[0]

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """The table's current [A] and slope [S]."""
        return self._evaluate(v, conductance=True)

    def _evaluate(self, v: Tensor, *, conductance: bool) -> tuple[Tensor, Tensor]:
        inside = v.clamp(*self.ends)
        low, t, step = self._locate(inside)
        beyond = v - inside
        i, g = torch.zeros_like(v), torch.zeros_like(v)
        for amplitude, pieces in zip(self.amplitudes().to(v.dtype), self.pieces.to(v.dtype), strict=True):
            c = pieces[:, low]
            slope = (c[1] + t * (2 * c[2] + 3 * t * c[3])) / step
            a = amplitude.unsqueeze(-3)
            i = i + a * (_cubic(c, t) + beyond * slope)
            if conductance:
                g = g + a * slope
        return i, g

    def _locate(self, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Interval of each voltage, position within it (0 to 1), and its width [V]."""
        nodes = self.nodes.to(v.dtype)
        low = (torch.searchsorted(nodes, v.detach().contiguous(), right=True) - 1).clamp(0, len(nodes) - 2)
        step = (nodes[1:] - nodes[:-1])[low]
        return low, (v - nodes[low]) / step, step

    def product(self, v_in: Tensor) -> Tensor:
        """Output currents with ideal lines [A], [*tiles, b, n]: one matrix product for each rank."""
        features = self.features(v_in.to(torch.float64))
        out: Tensor = sum(f @ amplitude for f, amplitude in zip(features, self.amplitudes(), strict=True))
        return out.to(self.dtype)

    def features(self, v: Tensor) -> Tensor:
        """The functions phi_r of voltages within the table, [rank, *v.shape]."""
        low, t, _ = self._locate(v)
        return torch.stack([_cubic(pieces[:, low], t) for pieces in self.pieces.to(v.dtype)])

    def check(self, v: Tensor) -> None:
        """Refuse a solution with cells beyond the table.

        Raises:
            LutError: With the range of voltages that the table would need.
        """
        if not v.numel():
            return
        low, high = self.ends
        margin = 1e-6 * (high - low)  # a voltage given in float32 may lie beyond the end by its rounding
        least, most = torch.stack(v.detach().aminmax()).tolist()
        if least < low - margin or most > high + margin:
            raise LutError(
                "cells work outside the voltages of the lookup table",
                got=f"{least:.4g} to {most:.4g} V",
                allowed=f"{low:.4g} to {high:.4g} V",
                hint="make the table for the range that was got, or lower the input voltages",
            )


def _check(lut: Table) -> None:
    voltage, table = (torch.as_tensor(a).detach().cpu() for a in (lut.voltage, lut.table))
    slope = torch.as_tensor(lut.slope).detach().cpu()
    if not bool(table.isfinite().all() and slope.isfinite().all()):
        raise LutError("the lookup table holds values that are not finite")
    if not bool((voltage == 0).any()) or bool(table[:, voltage == 0].any()):
        raise LutError("the lookup table is not zero at 0 V", hint="a passive cell carries no current at 0 V")
    if bool((table.diff(dim=1) < 0).any()) or bool((slope < 0).any()):
        raise LutError(
            "the current of the lookup table falls with voltage",
            allowed="current that rises with voltage in every state",
            hint="smooth the table, or cut its voltage range before the fall",
        )


def _low_rank(lut: Table, tolerance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors [s, r] and basis values and slopes [r, k] of a table, with the fewest terms within `tolerance`."""
    voltage, table, slope = (np.asarray(a, dtype=np.float64) for a in (lut.voltage, lut.table, lut.slope))
    scale = np.abs(table).max(axis=1, keepdims=True)
    scale[scale == 0] = 1.0
    per_node = np.gradient(voltage)  # turns slopes into currents of the same size
    u, s, vt = np.linalg.svd(np.hstack([table, slope * per_node]) / scale, full_matrices=False)
    # every entry of the remainder is below the sum of the dropped singular values
    rank = max(1, int(np.sum(np.cumsum(s[::-1])[::-1] > tolerance)))
    value, scaled_slope = np.split(vt[:rank], 2, axis=1)
    value[:, voltage == 0] = 0.0
    return scale * u[:, :rank] * s[:rank], value, scaled_slope / per_node


def _windows(a: Tensor, reach: int) -> Tensor:
    """Each number of a row with `reach` neighbours on either side, [rows, k, 2 reach + 1]; ends repeat."""
    padded = torch.nn.functional.pad(a.unsqueeze(0), (reach, reach), mode="replicate")[0]
    return padded.unfold(-1, 2 * reach + 1, 1)


def _cubic(c: Tensor, t: Tensor) -> Tensor:
    return c[0] + t * (c[1] + t * (c[2] + t * c[3]))


def _hermite(nodes: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """Coefficients of the cubic in t = (v - v_k) / h on every interval, [r, 4, k - 1]."""
    h = nodes[1:] - nodes[:-1]
    y0, y1 = value[:, :-1], value[:, 1:]
    s0, s1 = h * slope[:, :-1], h * slope[:, 1:]
    return torch.stack([y0, s0, 3 * (y1 - y0) - 2 * s0 - s1, 2 * (y0 - y1) + s0 + s1], dim=1)
