"""Floating lines: unknown potentials, no net current."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Floating:
    """Which lines float; `weighted` gives the projection that keeps their net current at zero."""

    word: Tensor  # [m] bool
    bit: Tensor  # [n] bool

    @cached_property
    def none(self) -> bool:
        """Whether every line is driven."""
        return not bool(self.word.any() or self.bit.any())

    def to(self, device: torch.device) -> Floating:
        """The same on a device; where no line floats, nothing is sent."""
        return self if self.none else Floating(self.word.to(device), self.bit.to(device))

    def imbalance(self, i: Tensor) -> Tensor:
        """Largest net current of a floating line [A], [*tiles, b], of cell currents `i` [*tiles, b, m, n]."""
        if self.none:
            return torch.zeros(i.shape[:-2], dtype=i.dtype, device=i.device)
        word, bit = i.sum(-1).abs() * self.word, i.sum(-2).abs() * self.bit
        return torch.maximum(word.amax(-1), bit.amax(-1))

    def weighted(self, d: Tensor) -> Weights | None:
        """Projection weighted by the cell conductances `d` [S], [*tiles, b, m, n]; None if no line floats."""
        return None if self.none else Weights.build(self, d)


@dataclass(frozen=True)
class Weights:
    """E (E^T D E)^-1 E^T for the indicator E of the floating lines: + on a word line, - on a bit line."""

    floating: Floating
    factor: Tensor  # [*tiles, b, f, f], Cholesky factor of E^T D E

    @staticmethod
    def build(floating: Floating, d: Tensor) -> Weights:
        """The factor for conductances `d`; a line without any conductance keeps its potential."""
        word, bit = floating.word, floating.bit
        top = torch.diag_embed(d.sum(-1)[..., word])
        bottom = torch.diag_embed(d.sum(-2)[..., bit])
        mutual = -d[..., word, :][..., bit]
        matrix = torch.cat(
            [torch.cat([top, mutual], -1), torch.cat([mutual.transpose(-1, -2), bottom], -1)],
            dim=-2,
        )
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        tiny = 1e-14 * diagonal.clamp_min(1e-280)
        return Weights(floating, torch.linalg.cholesky_ex(matrix + torch.diag_embed(tiny))[0])

    def potentials(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """Potentials of the word lines [*tiles, b, m] and bit lines [*tiles, b, n] that draw the net currents of `i`.

        They are 0 on lines that do not float.
        """
        word, bit = self.floating.word, self.floating.bit
        net = torch.cat([i.sum(-1)[..., word], -i.sum(-2)[..., bit]], dim=-1)
        found = torch.cholesky_solve(net.to(self.factor.dtype).unsqueeze(-1), self.factor).squeeze(-1).to(i.dtype)
        on_word, on_bit = torch.zeros_like(i[..., 0]), torch.zeros_like(i[..., 0, :])
        count = int(word.sum())
        on_word[..., word], on_bit[..., bit] = found[..., :count], found[..., count:]
        return on_word, on_bit

    def spread(self, i: Tensor) -> Tensor:
        """The cell voltages of `potentials`, [*tiles, b, m, n]."""
        on_word, on_bit = self.potentials(i)
        return on_word.unsqueeze(-1) - on_bit.unsqueeze(-2)
