"""A preconditioner that bounds the iterations of method c: equal cells and equal lines, solved exactly.

Where all word lines are alike and all bit lines too, the line operator is Z = Zw + Zb with Zw along word lines only and
Zb along bit lines only. Their eigenvectors turn (1 + s Z) into a division, for the mean conductance s of the cells. In
currents j = D dv, a Newton step (1 + D Z) j = D f is self-adjoint in the inner product weighted by Z, and so is
(1 + s Z)^-1: conjugate gradients whose count grows neither with size nor with line resistance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .lines import Line, Lines

MAX_STEPS = 200

LONG = 3.0
"""Electrical length of an array from which this pays: square root of mean conductance times largest eigenvalue of Z."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvectors of the line operator along word lines [n, n] and bit lines [m, m], and all its eigenvalues [ohm]."""

    word: Tensor
    bit: Tensor
    values: Tensor  # [m, n]

    @staticmethod
    def of(lines: Lines, m: int, n: int) -> Spectrum | None:
        """The spectrum, or None if lines differ from each other."""
        if lines.word.segments.shape[0] > 1 or lines.bit.segments.shape[0] > 1:
            return None
        along_word, word = _eigen(lines.word, n)
        along_bit, bit = _eigen(lines.bit, m)
        return Spectrum(word, bit, (along_bit[:, None] + along_word).clamp_min(0.0))

    def length(self, d: Tensor) -> float:
        """Electrical length of the array for cell conductances `d` [S], [*tiles, b, m, n]; the longest of all."""
        return float((d.detach().mean((-1, -2)).max() * self.values.max()).sqrt())

    def solve(self, f: Tensor, d: Tensor, forcing: Tensor) -> tuple[Tensor, int]:
        """Dv [*tiles, b, m, n] with (1 + Z D) dv = f, and the number of steps.

        Args:
            f: Right-hand side [V], [*tiles, b, m, n].
            d: Cell conductances [S], like `f`.
            forcing: Sum of |current errors| to reach, relative to the first; 1 or more where nothing is to be done.
        """
        s = d.mean((-1, -2), keepdim=True)
        r = torch.where(forcing[..., None, None] < 1, d * f, 0.0)
        # what is left of dv is Z times what is left of j
        goal = forcing * r.abs().sum((-1, -2)) / (1 + s.flatten(-3) * self.values.max().to(s.dtype))
        dv = torch.where(forcing[..., None, None] < 1, f, 0.0)
        zz = self._through(r, s)  # Z times the preconditioned residual
        p, zp = r - s * zz, zz
        rz = _dot(r, zz)
        steps = 0
        while steps < MAX_STEPS and bool((r.abs().sum((-1, -2)) > goal).any()):
            steps += 1
            q = p + d * zp
            alpha = _ratio(rz, _dot(zp, q))
            dv = dv - alpha * zp
            r = r - alpha * q
            zz = self._through(r, s)
            rz, last = _dot(r, zz), rz
            beta = _ratio(rz, last)
            p, zp = r - s * zz + beta * p, zz + beta * zp
        return dv, steps

    def _through(self, r: Tensor, s: Tensor) -> Tensor:
        """Z (1 + s Z)^-1 r."""
        bit, word, values = (a.to(r.dtype) for a in (self.bit, self.word, self.values))
        inside = (bit.mT @ r @ word) * (values / (1 + s * values))
        return bit @ inside @ word.mT


def _eigen(line: Line, nodes: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the drops along one line."""
    unit = torch.eye(nodes, dtype=torch.float64, device=line.segments.device)
    matrix = line.drops(unit.unsqueeze(1)).squeeze(1)
    values, vectors = torch.linalg.eigh(0.5 * (matrix + matrix.mT))
    return values, vectors


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-1, -2), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b > 0, a / torch.where(b > 0, b, torch.ones_like(b)), torch.zeros_like(a))
