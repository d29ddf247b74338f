"""Cells made of cells: an element in series (1T1R, 1S1R), and faults."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from devicelab.errors import ParameterError, ShapeError

from .cells import LARGEST, Cells, _Tensors


class Element(Protocol):
    """A series element: a rising current law, the same at every cell or one for each."""

    def current(self, v: Tensor) -> Tensor:
        """Current [A] at the voltages `v` [V], [*tiles, b, m, n]."""
        ...

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Current [A] and its derivative with respect to `v` [S]."""
        ...


class Transistor:
    """An n-channel access transistor with a fixed gate voltage above its source (Shichman-Hodges, level 1).

    For a drain-source voltage u below the overdrive w = v_gate - v_threshold, i = k (w u - u^2 / 2); above it,
    k w^2 / 2; both times (1 + slope u). At negative u source and drain change places. `r_off` carries what leaks.

    Args:
        k: Transconductance parameter [A/V^2].
        v_gate: Gate voltage above the source [V]; a number, or one for each cell.
        v_threshold: Threshold voltage [V].
        slope: Channel-length modulation [1/V].
        r_off: Resistance in parallel with the channel [ohm].
    """

    def __init__(
        self,
        k: float,
        v_gate: float | Tensor,
        v_threshold: float = 0.5,
        *,
        slope: float = 0.0,
        r_off: float = 1e12,
    ) -> None:
        if not (k > 0 and slope >= 0 and r_off > 0):
            raise ParameterError("unusable transistor", got=(k, slope, r_off), allowed="k > 0, slope >= 0, r_off > 0")
        self.k, self.slope, self.r_off = k, slope, r_off
        self.overdrive = (torch.as_tensor(v_gate, dtype=torch.float64) - v_threshold).clamp_min(0.0)

    def current(self, v: Tensor) -> Tensor:
        """Drain current [A]."""
        return self.current_and_conductance(v)[0]

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Drain current [A] and output conductance [S]."""
        w = self.overdrive.to(dtype=v.dtype, device=v.device)
        w = w.unsqueeze(-3) if w.dim() > 1 else w
        size = v.abs()
        u = torch.minimum(size, w)
        channel, bend = self.k * (w * u - u * u / 2), self.k * (w - u)
        i = channel * (1 + self.slope * size)
        g = bend * (1 + self.slope * size) + channel * self.slope
        return v.sign() * i + v / self.r_off, g + 1 / self.r_off


class Threshold:
    """A symmetric selector, i = i_0 sinh(v / v_0).

    Args:
        i_0: Current scale [A].
        v_0: Voltage scale [V].
    """

    def __init__(self, i_0: float, v_0: float) -> None:
        if not (i_0 > 0 and v_0 > 0):
            raise ParameterError("unusable selector", got=(i_0, v_0), allowed="i_0 > 0, v_0 > 0")
        self.i_0, self.v_0 = i_0, v_0

    def current(self, v: Tensor) -> Tensor:
        """Selector current [A]."""
        return self.i_0 * torch.sinh(v / self.v_0)

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Selector current [A] and conductance [S]."""
        return self.current(v), self.i_0 / self.v_0 * torch.cosh(v / self.v_0)


class Series(_Tensors):
    """Cells with an element in series, such as a transistor (1T1R) or a selector (1S1R).

    The voltage divides so that both carry the same current; that is solved cell by cell, to rounding.

    Args:
        cells: The memory cells, [*tiles, m, n].
        element: The series element, from the cell to the bit line.
    """

    def __init__(self, cells: Cells, element: Element) -> None:
        self.cells, self.element = cells, element
        self._per_cell = torch.empty(cells.shape, dtype=cells.dtype, device=cells.device)

    def divide(self, v: Tensor) -> Tensor:
        """Voltage across the memory cell [V] when `v` [V] is across both, [*tiles, b, m, n]."""
        with torch.no_grad():
            low, high = torch.minimum(v, torch.zeros_like(v)), v.clamp_min(0.0)
            inner = 0.5 * (low + high)
            for _ in range(100):
                (a, da), (b, db) = (
                    self.cells.current_and_conductance(inner),
                    self.element.current_and_conductance(v - inner),
                )
                too_high = a > b
                low, high = torch.where(too_high, low, inner), torch.where(too_high, inner, high)
                newton = inner - (a - b) / (da + db).clamp_min(torch.finfo(v.dtype).tiny)
                safe = (newton > low) & (newton < high)  # False for NaN
                after = torch.where(safe, newton, 0.5 * (low + high))
                moved = (after - inner).abs().max()
                inner = after
                if moved <= 4 * torch.finfo(v.dtype).eps * v.abs().max():
                    break
        return inner

    def current(self, v: Tensor) -> Tensor:
        """Current through both [A]; differentiable by the divider's implicit response."""
        inner = self.divide(v.detach())
        _, da = self.cells.current_and_conductance(inner)
        _, db = self.element.current_and_conductance((v - inner).detach())
        share = (db / (da + db).clamp_min(torch.finfo(v.dtype).tiny)).detach()
        # to first order in everything: share of dv falls on the cell, and each law's own change on the other
        through_cell, through_element = self.cells.current(inner), self.element.current(v - inner)
        return share * through_cell + (1 - share) * through_element

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Current through both [A] and its derivative [S]."""
        inner = self.divide(v)
        i, da = self.cells.current_and_conductance(inner)
        _, db = self.element.current_and_conductance(v - inner)
        return i, da * db / (da + db).clamp_min(torch.finfo(v.dtype).tiny)

    def check(self, v: Tensor) -> None:
        """Refuse memory cells beyond their range."""
        self.cells.check(self.divide(v))


class Faulty(_Tensors):
    """Cells of which some are broken: ohmic, whatever they were.

    Args:
        cells: The cells, [*tiles, m, n].
        fault: Conductance of the broken cells [S], NaN where a cell is sound, [m, n] or [*tiles, m, n]; 0 is an open
            cell, 1 S a short.
    """

    def __init__(self, cells: Cells, fault: Tensor) -> None:
        fault = torch.as_tensor(fault).to(dtype=cells.dtype, device=cells.device)
        if fault.shape != cells.shape[-fault.dim() :]:
            raise ShapeError("fault does not fit the cells", got=tuple(fault.shape), allowed=tuple(cells.shape))
        if bool((fault < 0).any()) or bool((fault > LARGEST).any()):
            raise ParameterError("conductance of a fault is out of bounds", got=fault.nan_to_num().aminmax())
        self.cells, self._per_cell = cells, fault.expand(cells.shape)
        self.broken = ~fault.isnan()
        self.g = fault.nan_to_num(0.0)

    def _fault(self, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.broken.unsqueeze(-3), self.g.unsqueeze(-3).to(v.dtype)

    def current(self, v: Tensor) -> Tensor:
        """Current of the sound cells' law, or g v [A]."""
        broken, g = self._fault(v)
        return torch.where(broken, g * v, self.cells.current(v.masked_fill(broken, 0.0)))

    def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Current [A] and conductance [S]."""
        broken, g = self._fault(v)
        i, d = self.cells.current_and_conductance(v.masked_fill(broken, 0.0))
        return torch.where(broken, g * v, i), torch.where(broken, g, d)

    def check(self, v: Tensor) -> None:
        """Refuse sound cells beyond their range."""
        self.cells.check(v.masked_fill(self._fault(v)[0], 0.0))
