"""The cells of a matrix on arrays: what a lookup table makes of written conductances, kept for the solvers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from devicelab import Lut
from devicelab.errors import ParameterError

from . import compiled
from .bias import Bias
from .cells import Ohmic
from .config import Config
from .devices import Population, interpolate
from .floorplan import Place, coupled
from .lut_cells import LutCells

RANK = 0.1
"""Error of the table's factors, relative to a state's largest current, in units of `Config.rtol`."""
SMOOTH = 0.1
"""Error of polynomials that stand for the table, relative to a state's current, in the same units."""
LEAST = 1e-12
"""Of both errors: rounding is not undercut."""


@dataclass(frozen=True)
class _Part:
    """A lookup table up to some voltage."""

    voltage: Any
    state: Any
    table: Any
    slope: Any

    @staticmethod
    def of(lut: Lut, most: float) -> _Part:
        """The nodes within +-`most`, and the next on either side."""
        first = max(0, int(np.searchsorted(lut.voltage, -most, side="right")) - 1)
        stop = min(lut.voltage.size, int(np.searchsorted(lut.voltage, most)) + 1)
        return _Part(lut.voltage[first:stop], lut.state, lut.table[:, first:stop], lut.slope[:, first:stop])


class ChipCells(nn.Module):
    """What `crossbar.chip.Chip` knows of its cells.

    Args:
        lut: The device; None for ohmic cells.
        config: The arrays.
    """

    g: Tensor
    seen: Tensor | None
    place: Place | None
    devices_on_chip: Population
    _smooth: Tensor | None  # `_polynomials`

    def __init__(self, lut: Lut | None, config: Config) -> None:
        super().__init__()
        self.lut, self.config = lut, config
        self._bases: dict[tuple[torch.device, float | None], LutCells] = {}
        self._kept: tuple[Tensor, int, LutCells] | None = None  # cells of what was written
        self._sent: Tensor | None = None  # `_smooth` on the device of the inputs

    @property
    def _solved(self) -> bool:
        """Whether the array has no matrix, because its cells are non-linear and its lines have resistance or float."""
        return self.config.nonlinear and coupled(self.config)

    def _lut_cells(self, g: Tensor, reach: float | None = None) -> LutCells:
        """Cells of the table that conduct `g` at the read voltage; those beyond the table as scaled ones.

        Args:
            g: Conductances.
            reach: Largest voltage that they see [V]; the table is then as exact as `rtol` asks. None: the whole table.
        """
        if self.lut is None:  # `conductance_range` saw to it
            raise ParameterError("non-linear cells need a lookup table")
        conductance, state = self.lut.mapping(self.config.v_read)
        known = g.clamp(float(conductance[0]), float(conductance[-1]))
        x = interpolate(known, conductance, state).clamp(0.0, 1.0)
        return self._basis(g.device, reach).at(x, None if self.devices_on_chip.exact else g / known)

    def _basis(self, device: torch.device, reach: float | None = None) -> LutCells:
        """The table, factorised once; only as far as it is needed."""
        if (device, reach) not in self._bases:
            if self.lut is None:
                raise ParameterError("non-linear cells need a lookup table")
            lowest = float(self.lut.state[0])
            x = torch.full((1, 1), lowest, dtype=torch.float64, device=device)
            table = self.lut if reach is None else _Part.of(self.lut, reach)
            tolerance = 1e-9 if reach is None else max(RANK * self.config.rtol, LEAST)
            self._bases[device, reach] = LutCells(table, x, tolerance=tolerance)
        return self._bases[device, reach]

    def _between_lines(self, g: Tensor) -> LutCells:
        """Cells for arrays that are solved: no node leaves the range of the drivers, +-`v_read`.

        Those of what was written are kept, amplitudes too where they fit the budget, until something is written.
        """
        reach = 2 * self.config.v_read
        if g.requires_grad or torch.compiler.is_compiling():
            return self._lut_cells(g, reach)
        kept, now = self._kept, compiled.version(g)
        if kept is not None and kept[0] is g and kept[1] == now:
            return kept[2]
        cells = self._lut_cells(g, reach)
        if (g is self.g or g is self.seen) and 8 * cells.rank * g.numel() <= self.config.budget:
            amplitudes = cells.amplitudes()
            cells.__dict__["amplitudes"] = lambda: amplitudes  # an attribute, for solvers go by the exact type
            self._kept = g, now, cells
        return cells

    def _per_feature(self, g: Tensor) -> Tensor:
        """Current of every non-linear cell for each feature of its input [A], [F, *g.shape]."""
        cells = self._lut_cells(g, self.config.v_read)
        if self.config.dac.encoding != "pulse-width":
            return cells.amplitudes()
        v = self.config.v_read
        ends = torch.tensor([v, -v], dtype=torch.float64, device=g.device)
        at_ends: Tensor = torch.einsum("rv,r...->v...", cells.features(ends), cells.amplitudes())
        return at_ends * torch.sign(ends).view(2, *(1,) * g.dim())

    def _features(self, u: Tensor) -> list[Tensor]:
        """Functions of the inputs, in -1..1, whose products with `_per_feature` are currents."""
        v = self.config.v_read
        if not self.config.nonlinear:
            return [u]
        if self.config.dac.encoding == "pulse-width":
            return [u.clamp(min=0), u.clamp(max=0)]
        table, smooth = self._basis(u.device, v), self._smooth
        plain = u.device.type == "cpu" and u.dtype == torch.float32 and not u.requires_grad
        if plain and compiled.kernel() is not None:
            return compiled.features(table, u * v) if smooth is None else compiled.polynomials(u, smooth)
        if smooth is None:
            return list(table.features(u * v))
        return [_horner(u, row) for row in self._powers(smooth, u)]

    def _powers(self, smooth: Tensor, u: Tensor) -> Tensor:
        """The polynomials where the inputs are, sent there once."""
        if torch.compiler.is_compiling():
            return smooth.to(u)
        if self._sent is None or (self._sent.device, self._sent.dtype) != (u.device, u.dtype):
            with torch.inference_mode(False):  # for later passes with gradients too
                self._sent = smooth.to(u)
        return self._sent

    def _polynomials(self) -> Tensor | None:
        """The table as polynomials of inputs in -1..1, [rank, terms]; None: it is not smooth enough."""
        v = self.config.v_read
        if not self.config.nonlinear or self._solved or self.config.dac.encoding == "pulse-width":
            return None
        return self._basis(torch.device("cpu"), v).polynomial(-v, v, max(SMOOTH * self.config.rtol, LEAST))

    def cells(self, sign: int = 1, row: int = 0, column: int = 0, *, slice: int = 0, matrix: int = 0) -> Any:
        """The cells of one tile, for `crossbar.solve`: `sign` -1 for the minus array of "two arrays".

        Where layers share tiles, all cells of the tile, neighbours included; `drive` and `bit_lines` say which lines
        of it belong to the block.

        Args:
            sign: Plus or minus array.
            row: Number of the row tile.
            column: Number of the column tile.
            slice: Number of the slice, least first.
            matrix: Number of the matrix.
        """
        array = 1 if sign < 0 else 0
        if self.place is None:
            g = self.g[matrix, slice, array, row, column]
        else:
            tile = self.place.tile[self.place.block(row, column, matrix)]
            g = self.place.floor.cells[tile, slice, array].to(self.g)
        return self._lut_cells(g) if self.config.nonlinear else Ohmic(g)

    def drive(self, v: Tensor, row: int = 0, column: int = 0, *, matrix: int = 0) -> Tensor | Bias:
        """What drives the tile that `cells` gives, for `crossbar.solve`.

        Args:
            v: Voltages of the word lines of one row tile [V], [b, rows]; those of the inputs are the last ones.
            row: Number of the row tile.
            column: Number of the column tile.
            matrix: Number of the matrix.

        Returns:
            Voltages of the tile's word lines [b, rows]; a `Bias` where lines float.
        """
        if self.place is None:
            return v
        block = self.place.block(row, column, matrix)
        own = nn.functional.pad(v, (0, 1))[:, self.place.source[block]]
        return self.place.bias(own, block)

    def bit_lines(self, column: int = 0, *, row: int = 0, matrix: int = 0) -> Tensor:
        """Bit lines of one column tile, on the tile that `cells` gives."""
        if self.place is None:
            return torch.arange(self.config.columns, device=self.g.device)
        bit = self.place.bit[self.place.block(row, column, matrix)]
        return bit[bit < self.config.columns]


def _horner(u: Tensor, coefficients: Tensor) -> Tensor:
    """A polynomial without a constant term."""
    out: Tensor = coefficients[-1] * u
    for c in coefficients[1:-1].flip(0):
        out = (out + c) * u
    return out
