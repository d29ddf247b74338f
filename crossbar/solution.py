"""What a solved array gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor


@dataclass(frozen=True)
class Details:
    """The inside of a solved array, always with a batch dimension."""

    v_cell: Tensor  # [*tiles, b, m, n] V
    i_out: Tensor  # [*tiles, b, n] A
    residual: float
    iterations: int


class Solution:
    """Currents and voltages of a solved array; one vector of inputs leaves out the batch dimension b."""

    def __init__(self, i_out: Tensor, details: Details | Callable[[], Details], single: bool) -> None:
        self._i_out = i_out
        self._details = details
        self._single = single

    def _squeeze(self, a: Tensor, dim: int) -> Tensor:
        return a.squeeze(dim) if self._single else a

    @cached_property
    def _inside(self) -> Details:
        return self._details() if callable(self._details) else self._details

    @property
    def i_out(self) -> Tensor:
        """Current into the sense node of each bit line [A], [*tiles, b, n]."""
        return self._squeeze(self._i_out, -2)

    @property
    def v_cell(self) -> Tensor:
        """Voltage across each cell, word line above bit line [V], [*tiles, b, m, n].

        After `method="elimination"` this is where it is computed, iteratively.
        """
        return self._squeeze(self._inside.v_cell, -3)

    @cached_property
    def residual(self) -> float:
        """Relative error of Kirchhoff's current law, the worst of all vectors.

        The largest sum over one line of |current error at its nodes| against the largest sum over one line of
        |cell currents|. After `method="elimination"`: the largest difference between its output currents and those
        of the iterative solution, on the same scale.
        """
        inside = self._inside
        if not callable(self._details):
            return inside.residual
        error = (inside.i_out - self._i_out).abs().max().item()
        scale = inside.i_out.abs().max().item()
        return max(error / scale if scale > 0 else error, inside.residual)

    @property
    def iterations(self) -> int:
        """Applications of the line operator; 0 for a direct method."""
        return 0 if callable(self._details) else self._inside.iterations
