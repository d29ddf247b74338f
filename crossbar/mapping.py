"""Weights on arrays: a matrix cut into tiles of plus and minus cells, and the product computed by them."""

from __future__ import annotations

import torch
from torch import Tensor

from devicelab import Lut
from devicelab.errors import ParameterError

from .cells import Ohmic
from .config import Config
from .engine import solve
from .linear import effective_conductance
from .lut_cells import LutCells

_BYTES_PER_CELL = 150  # what one vector keeps for each cell while a non-linear array is solved


class TiledMatrix(torch.nn.Module):
    """A matrix [n_out, n_in] held by differential pairs of cells.

    A weight w > 0 is a conductance g_low + (g_high - g_low) w / w_max in the plus array and g_low in the minus array;
    w < 0 the other way round. g_low and g_high are the ends of the device at `config.v_read`. Cells that no weight uses
    stay at g_low: they are there, and leak. Unused rows are grounded and lie farthest from the sense end.

    Args:
        weight: The matrix, [n_out, n_in].
        lut: The device.
        config: The arrays.
    """

    x: Tensor
    gain: Tensor
    g_eff: Tensor | None

    def __init__(self, weight: Tensor, lut: Lut, config: Config) -> None:
        super().__init__()
        self.n_out, self.n_in = weight.shape
        self.lut, self.config = lut, config
        later = config.but(rows=64, columns=64, v_read=0.2, nonlinear=True, wires=None, rtol=1e-3, budget=1e9)
        if later != Config():
            raise ParameterError("not built yet", got=later)
        low, high = lut.conductance_range(config.v_read)
        top = float(weight.detach().abs().max())
        if top == 0 or not torch.isfinite(weight).all():
            raise ParameterError(
                "a weight matrix cannot be mapped", got="all zero or not finite", allowed="finite, not all zero"
            )
        self.register_buffer("gain", torch.tensor(top / (high - low), dtype=weight.dtype, device=weight.device))
        plus, minus = weight.detach().clamp(min=0), (-weight.detach()).clamp(min=0)
        share = torch.stack([self._tiles(plus), self._tiles(minus)]).double() / top
        states = torch.from_numpy(lut.state_for((low + (high - low) * share).cpu().numpy(), config.v_read))
        self.register_buffer("x", states.to(weight.dtype).clamp(0, 1).to(weight.device))
        self.register_buffer("g_eff", None if config.nonlinear else self._linear().to(weight.dtype))

    def _tiles(self, matrix: Tensor) -> Tensor:
        """[n_out, n_in] as [row tiles, column tiles, rows, columns], padded with zeros at the far ends."""
        rows, columns = self.config.rows, self.config.columns
        down, right = -self.n_in % rows, -self.n_out % columns
        padded = torch.nn.functional.pad(matrix.T, (0, right, down, 0))
        return padded.reshape(padded.shape[0] // rows, rows, -1, columns).transpose(1, 2)

    @property
    def devices(self) -> int:
        """Cells on the chip, unused ones included."""
        return self.x.numel()

    @property
    def tiles(self) -> int:
        """Arrays on the chip."""
        return self.x.shape[:3].numel()

    def _linear(self) -> Tensor:
        """Conductance matrix that ohmic tiles put between inputs and outputs, lines included, [n_in', n_out']."""
        g = self._conductance(self.x)
        if self.config.wires is not None:
            g = effective_conductance(g, self.config.wires)
        difference = g[0] - g[1]
        return difference.transpose(1, 2).reshape(difference.shape[0] * self.config.rows, -1)

    def _conductance(self, x: Tensor) -> Tensor:
        """Conductance [S] of cells at the states `x`, read at `config.v_read`; float64."""
        i = self.lut.current(self.config.v_read, x.cpu().numpy())
        return torch.from_numpy(i).to(x.device) / self.config.v_read

    def forward(self, v: Tensor) -> Tensor:
        """Product with the matrix.

        Args:
            v: Inputs as word-line voltages [V], [b, n_in].

        Returns:
            Weighted sums times 1 V, [b, n_out].
        """
        v = torch.nn.functional.pad(v, (-self.n_in % self.config.rows, 0))
        if self.g_eff is not None:
            i = v @ self.g_eff
        else:
            per_vector = self.x.numel() * _BYTES_PER_CELL
            size = max(1, int(self.config.budget // per_vector))
            i = torch.cat([self._nonlinear(part) for part in v.split(size)])
        return i[:, : self.n_out] * self.gain

    def _nonlinear(self, v: Tensor) -> Tensor:
        """Difference of the two arrays' output currents [A], summed over row tiles, [b, n_out']."""
        v = v.reshape(len(v), -1, self.config.rows).transpose(0, 1).unsqueeze(1)  # [row tiles, 1, b, rows]
        cells = LutCells(self.lut, self.x)
        i = solve(cells, v.expand(2, -1, self.x.shape[2], -1, -1), self.config.wires, rtol=self.config.rtol).i_out
        out = (i[0] - i[1]).sum(0)  # [column tiles, b, columns]
        return out.transpose(0, 1).reshape(out.shape[1], -1)

    def cells(self, sign: int = 1, row: int = 0, column: int = 0) -> LutCells | Ohmic:
        """The cells of one tile: `sign` +1 for the plus array, -1 for the minus array."""
        x = self.x[0 if sign > 0 else 1, row, column]
        if self.config.nonlinear:
            return LutCells(self.lut, x)
        return Ohmic(self._conductance(x).to(x))
