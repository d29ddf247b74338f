"""What a solved array gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property

from torch import Tensor

from .analysis import Inside, Nodes, Power, Sneak, nodes, power, sneak, without_batch


class Solution:
    """Currents and voltages of a solved array; one vector of inputs leaves out the batch dimension b.

    Args:
        i_out: Output currents [A], [*tiles, b, n].
        inside: Makes cell voltages and currents when they are asked for.
        residual: Makes or is the relative residual.
        iterations: Applications of the line operator.
        single: Whether to leave out the batch dimension.
    """

    def __init__(
        self,
        i_out: Tensor,
        inside: Callable[[], Inside],
        residual: float | Callable[[], float] = 0.0,
        iterations: int = 0,
        *,
        single: bool,
    ) -> None:
        self._i_out = i_out
        self.inside = cache(inside)
        """Cell voltages and currents in float64, always with a batch dimension."""
        self._residual = residual
        self._single = single
        self.iterations = iterations
        """Applications of the line operator, the most of any vector; 0 for a direct method."""

    @property
    def batched(self) -> Tensor:
        """`i_out` with its batch dimension."""
        return self._i_out

    @property
    def i_out(self) -> Tensor:
        """Current into the sense nodes of each bit line [A], [*tiles, b, n]."""
        return self._i_out.squeeze(-2) if self._single else self._i_out

    @cached_property
    def v_cell(self) -> Tensor:
        """Voltage across each cell, word line above bit line [V], [*tiles, b, m, n]; may be computed on first use."""
        v = self.inside().v.to(self._i_out.dtype)
        return v.squeeze(-3) if self._single else v

    def nodes(self) -> Nodes:
        """Potentials of word and bit lines at every cell."""
        found = nodes(self.inside())
        return without_batch(found) if self._single else found

    def power(self) -> Power:
        """Dissipation of every cell and line, and what the sources supply."""
        found = power(self.inside())
        return without_batch(found) if self._single else found

    def sneak(self, row: int, column: int) -> Sneak:
        """Currents by class of cell when the cell (row, column) is read or written."""
        found = sneak(self.inside(), row, column)
        return without_batch(found) if self._single else found

    @cached_property
    def residual(self) -> float:
        """Relative error of Kirchhoff's current law, the worst of all vectors.

        The largest sum over one line of |current error at its nodes| against the largest sum over one line of
        |cell currents|. After `method="elimination"`: the largest difference between its output currents and those
        of an iterative solution, relative to the largest; computed on first use.
        """
        return self._residual() if callable(self._residual) else self._residual
