"""Which cell of which array holds what part of a weight: schemes, bit slices, tiles, and back from columns to outputs.

Shapes: M matrices (groups of a convolution), S slices, P arrays of a slice (2 for "two arrays"), R row tiles, K column
tiles, then word lines and bit lines. X channels of a slice are read apart: 2 where plus and minus are subtracted
digitally.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from devicelab.errors import ParameterError

from .config import Config
from .devices import through


@dataclass(frozen=True)
class Layout:
    """Where the weights of M matrices [M, n_out, n_in] lie."""

    config: Config
    matrices: int
    n_out: int
    n_in: int

    def __post_init__(self) -> None:
        if not self.differential and self.config.slice_bits and self.config.slices * self.config.slice_bits < 2:
            raise ParameterError("a sign needs two bits", got=f"1 bit, {self.config.scheme}", allowed="at least 2 bits")

    @property
    def differential(self) -> bool:
        """Whether a weight is the difference of two cells that both move."""
        return self.config.scheme in ("two arrays", "two columns")

    @property
    def outputs(self) -> int:
        """Outputs of one tile."""
        columns = self.config.columns
        return {"two columns": columns // 2, "reference column": columns - 1}.get(self.config.scheme, columns)

    @property
    def row_tiles(self) -> int:
        """Tiles below each other."""
        return -(-self.n_in // self.config.rows)

    @property
    def column_tiles(self) -> int:
        """Tiles beside each other."""
        return -(-self.n_out // self.outputs)

    @property
    def idle_rows(self) -> int:
        """Word lines of the first tile that no input uses: they are grounded, farthest from the sense end."""
        return self.row_tiles * self.config.rows - self.n_in

    @property
    def shape(self) -> torch.Size:
        """[M, S, P, R, K, rows, columns] of all cells."""
        c = self.config
        arrays = 2 if c.scheme == "two arrays" else 1
        return torch.Size((self.matrices, c.slices, arrays, self.row_tiles, self.column_tiles, c.rows, c.columns))

    @property
    def apart(self) -> int:
        """Channels of a slice that are converted apart, X."""
        return 2 if self.config.subtraction == "digital" and self.config.scheme != "offset" else 1

    @property
    def channels(self) -> int:
        """Numbers that one output of one tile is made from, S X."""
        return self.config.slices * self.apart

    @property
    def _steps(self) -> int | None:
        """Steps of a whole weight; None: continuous."""
        bits = self.config.slice_bits
        return None if bits is None else int(2 ** (bits * self.config.slices)) - 1

    def shares(self, w: Tensor) -> Tensor:
        """Share of the conductance range of every cell, [M, S, P, R, K, rows, columns].

        Args:
            w: Weights within -1..1, [M, n_out, n_in]; gradients go straight through the slicing.
        """
        if self.differential:
            parts = torch.stack([self._slices(w.clamp(min=0)), self._slices((-w).clamp(min=0))], dim=2)
        else:
            parts = self._slices(w).unsqueeze(2)
        tiles = self._tiles(parts)
        scheme, columns = self.config.scheme, self.config.columns
        if scheme == "two columns":
            tiles = tiles.movedim(2, -1).flatten(-2).unsqueeze(2)
            tiles = torch.nn.functional.pad(tiles, (0, columns - tiles.shape[-1]))
        elif scheme == "reference column":
            zero = self.zero(w).view(1, -1, *(1,) * 5).expand(*tiles.shape[:-1], 1)
            tiles = torch.cat([tiles, zero], dim=-1)
        return tiles

    def zero(self, like: Tensor) -> Tensor:
        """Share of the conductance range at which a cell without a partner holds a zero weight, one a slice [S]."""
        found: Tensor = self._slices(torch.zeros(1, 1, 1, dtype=like.dtype, device=like.device)).flatten()
        return found

    def coefficients(self) -> list[float]:
        """Weight, in units of the largest, of a difference of 1 in the share of each channel, [S X]."""
        steps, c = self._steps, self.config
        if steps is None:
            each = [1.0 if self.differential else 2.0]
        else:
            whole = steps if self.differential else (steps - 1) / 2
            base = 2 ** (c.slice_bits or 0)
            each = [base**s * (base - 1) / whole for s in range(c.slices)]
        return [value for one in each for value in ([one, -one] if self.apart == 2 else [one])]

    def combined(self, channels: Tensor) -> Tensor:
        """The sum over channels [..., S X, any], each with its coefficient; none of them has to reach a device."""
        parts = zip(channels.unbind(-2), self.coefficients(), strict=True)
        total: Tensor = sum(part if c == 1.0 else part * c for part, c in parts)  # type: ignore[assignment]
        return total

    def _slices(self, w: Tensor) -> Tensor:
        """Digits of a weight as shares of a cell's range, least first, [M, S, n_out, n_in]."""
        steps = self._steps
        if steps is None:
            return (w if self.differential else (w + 1) / 2).unsqueeze(1)
        if self.differential:
            number, exact = (w.detach() * steps).round(), w
        else:
            half = (steps - 1) / 2
            number, exact = (w.detach() * half).round() + half, (w * half + half) / steps
        base, digits = 2 ** (self.config.slice_bits or 0), []
        for _ in range(self.config.slices):
            digits.append(through(number % base / (base - 1), exact))
            number = torch.div(number, base, rounding_mode="floor")
        return torch.stack(digits, dim=1)

    def _tiles(self, a: Tensor) -> Tensor:
        """[..., n_out, n_in] as [..., R, K, rows, outputs of a tile]; cells without a weight have share 0."""
        right = self.column_tiles * self.outputs - self.n_out
        a = torch.nn.functional.pad(a.mT, (0, right, self.idle_rows, 0))
        found: Tensor = a.unflatten(-2, (self.row_tiles, -1)).unflatten(-1, (self.column_tiles, -1)).transpose(-3, -2)
        return found

    def sensed(self, columns: Tensor, *, combine: bool = True) -> Tensor:
        """What is read apart, from something of every bit line.

        Args:
            columns: [..., M, S, P, R, K, any, columns]: currents, or conductances to the inputs.
            combine: Whether the two columns of an analog subtraction are subtracted; if not, they are added, as
                variances are.

        Returns:
            [..., M, R, any, S X, K outputs].
        """
        scheme = self.config.scheme
        minus: Tensor | None
        if scheme == "two arrays":
            plus, minus = columns.unbind(-5)
        elif scheme == "two columns":
            pairs = columns.squeeze(-5)[..., : 2 * self.outputs]
            plus, minus = pairs[..., 0::2], pairs[..., 1::2]
        else:
            plus = columns.squeeze(-5)[..., : self.outputs]
            minus = columns.squeeze(-5)[..., -1:].expand_as(plus) if scheme == "reference column" else None
        if minus is None:
            apart = plus.unsqueeze(-5)
        elif self.apart == 2:
            apart = torch.stack([plus, minus], dim=-5)
        else:
            apart = (plus - minus if combine else plus + minus).unsqueeze(-5)
        # [..., M, S, X, R, K, any, outputs] -> [..., M, R, any, S, X, K, outputs]
        lead = apart.dim() - 7
        order = [*range(lead), *(lead + k for k in (0, 3, 5, 1, 2, 4, 6))]
        return apart.permute(order).flatten(-4, -3).flatten(-2)

    def order(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [n_in] and outputs [n_out] in the order in which lines lose least.

        Within each tile the largest outputs come next to the drivers, the largest inputs next to the sense nodes.
        """
        size = w.detach().abs() if self.differential else w.detach()  # as the conductances
        heavy_in, heavy_out = size.sum((0, 1)), size.sum((0, 2))
        ins = _sorted_in_blocks(heavy_in, self.config.rows, self.idle_rows, descending=False)
        outs = _sorted_in_blocks(heavy_out, self.outputs, 0, descending=True)
        return ins, outs


def _sorted_in_blocks(values: Tensor, size: int, missing: int, *, descending: bool) -> Tensor:
    """Indices that sort each block of `size` values; the first block lacks `missing`."""
    first = max(0, size - missing)
    starts = [0, *range(first, len(values), size), len(values)]
    parts = [
        start + values[start:stop].argsort(descending=descending, stable=True)
        for start, stop in pairwise(starts)
        if stop > start
    ]
    return torch.cat(parts)
