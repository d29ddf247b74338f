"""Method b, linear cells with line resistance: the whole array as one matrix, by exact elimination."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from devicelab.errors import ParameterError

from .cells import Ohmic
from .wires import Wires

LAPACK = 64
"""Size up to which LAPACK inverts faster than matrix products do."""

ENOUGH = 1e-3
"""Line resistance times admittance from which 1 - (1 + r A)^-1 is accurate."""


def effective_conductance(g: Tensor, wires: Wires) -> Tensor:
    """Conductance matrix of a whole array with its lines, so that i_out = v_in @ G.

    Exact to rounding. Each bit line reduces to the admittance that the word lines see; the word lines form a chain of
    such blocks, eliminated from the right. No formula divides by a line resistance, so any of them may be zero.

    Args:
        g: Cell conductances [S], [*tiles, m, n].
        wires: Line resistances, with one driven end and one sensed end a line.

    Returns:
        Effective conductances [S], [*tiles, m, n]; row i holds the output currents per volt on word line i.

    Raises:
        ParameterError: If a conductance is negative or not a number, or a line has other terminals.
    """
    if not eliminable(wires):
        raise ParameterError(
            "effective_conductance eliminates arrays driven at the left and sensed at the bottom",
            got=wires,
            hint="use crossbar.solve, which takes every topology",
        )
    Ohmic(g)
    m, n = g.shape[-2:]
    before, after = wires.word_segments(m, n, g)[:, :-1], wires.bit_segments(m, n, g)[:, 1:]
    if m <= n:
        return _eliminate(g, before, after)
    # reciprocity: drive the bit lines and sense the word lines, whose blocks are smaller
    return _eliminate(g.flip(-2, -1).mT, after.flip(0, 1), before.flip(0, 1)).mT.flip(-2, -1)


def _eliminate(g: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The array column by column, from the last one.

    Args:
        g: Cell conductances [S], [*tiles, m, n].
        before: Resistance before each cell of a word line [ohm], [m or 1, n].
        after: Resistance after each cell of a bit line [ohm], [n or 1, m].
    """
    m, n = g.shape[-2:]
    bit = _BitLines(g, after)
    seen = torch.zeros((*g.shape[:-2], m, m), dtype=g.dtype, device=g.device)
    outputs = seen[..., :0, :]  # current of each bit line already passed, per volt on each word line
    eye = torch.eye(m, dtype=g.dtype, device=g.device)
    accurate = False
    for j in reversed(range(n)):
        upper, own, transfer = bit.column(j)
        seen = seen - upper - upper.mT
        seen.diagonal(dim1=-2, dim2=-1).add_(own)
        outputs = torch.cat([transfer.unsqueeze(-2), outputs], dim=-2)
        r = before[:, j]
        share = _behind(r, seen, eye)
        if len(r) == 1 and j % 8 == 0:
            accurate = float((r * seen.detach().diagonal(dim1=-2, dim2=-1)).amin()) > ENOUGH
        if accurate:
            seen, outputs = (eye - share) / r, outputs @ share  # spares a product, and loses three digits at most
        else:
            both = torch.cat([seen, outputs], dim=-2) @ share
            seen, outputs = both[..., :m, :], both[..., m:, :]
    return outputs.mT


def eliminable(wires: Wires) -> bool:
    """Whether each line has just its first terminal, so that `effective_conductance` applies."""
    ends = (torch.as_tensor(r).isinf() for r in (wires.r_source_right, wires.r_sense_top))
    starts = (torch.as_tensor(r).isinf() for r in (wires.r_source, wires.r_sense))
    return all(bool(end.all()) for end in ends) and not any(bool(start.any()) for start in starts)


def _behind(r: Tensor, seen: Tensor, eye: Tensor) -> Tensor:
    """(1 + R A)^-1: share of the voltages before one more segment of resistances `r` [m or 1] that a block A gets."""
    if r.shape[0] == 1:
        return _inverse(eye + r * seen)
    share: Tensor = torch.linalg.inv(eye + r.unsqueeze(-1) * seen)
    return share


def _inverse(a: Tensor) -> Tensor:
    """Inverse of a symmetric positive definite matrix; large ones by halves, in matrix products."""
    m = a.shape[-1]
    if m <= LAPACK:
        return torch.cholesky_inverse(torch.linalg.cholesky(a))
    half = m // 2
    first = _inverse(a[..., :half, :half])
    carried = first @ a[..., :half, half:]
    second = _inverse(a[..., half:, half:] - a[..., half:, :half] @ carried)
    corner = carried @ second
    top = torch.cat([first + corner @ carried.mT, -corner], dim=-1)
    return torch.cat([top, torch.cat([-corner.mT, second], dim=-1)], dim=-2)


class _BitLines:
    """Every bit line as a ladder: ground - r_sense - node m - 1 - ... - node 0, with a cell at each node."""

    def __init__(self, g: Tensor, after: Tensor) -> None:
        m = g.shape[-2]
        r = after.T  # [m, n or 1]: resistance below each node
        self.g = g
        above: list[Tensor] = [torch.zeros_like(g[..., 0, :])]  # admittance looking up, without the node's own cell
        for k in range(m - 1):
            node = above[-1] + g[..., k, :]
            above.append(node / (1 + r[k] * node))
        below: list[Tensor] = [r[m - 1].expand_as(above[0])]  # resistance looking down
        for k in reversed(range(m - 1)):
            lower = below[-1]
            below.append(r[k] + lower / (1 + g[..., k + 1, :] * lower))
        self.prepare(torch.stack(above, dim=-2), torch.stack(below[::-1], dim=-2), r[: m - 1])

    def prepare(self, above: Tensor, z: Tensor, r: Tensor) -> None:
        """All columns' factors, each contiguous: [..., n, m].

        Args:
            above: Admittance looking up from each node [S], [..., m, n].
            z: Resistance looking down [ohm], [..., m, n].
            r: Resistance below each node but the last [ohm], [m - 1, n or 1].
        """
        g = self.g
        through = 1 / (1 + z * (above + g))
        # voltage of a node relative to the last one when the current enters below both, as a logarithm
        steps = torch.log1p(r * (above + g)[..., :-1, :])
        rise = torch.cat([torch.zeros_like(g[..., :1, :]), steps.cumsum(-2)], dim=-2)
        outer = float(rise.detach().amax()) < math.log(torch.finfo(g.dtype).max) - 80  # no overflow in exp
        # share of the current at each node that reaches the sense node
        passed = torch.log1p(g * z)
        share = through * torch.exp(passed.cumsum(-2) - passed.sum(-2, keepdim=True))
        left, right = (g * rise.exp(), z * through * g * (-rise).exp()) if outer else (g, z * through * g)
        self.rise = None if outer else rise.mT.contiguous()
        self.left, self.right, self.own, self.transfer = (
            a.mT.contiguous() for a in (left, right, g * (1 + z * above) * through, g * share)
        )

    def column(self, j: int) -> tuple[Tensor, Tensor, Tensor]:
        """What the word lines see at bit line j: mutual admittances of node i and node k > i, negative, [..., m, m].

        Also the admittance at each node and the sensed current per volt there, both [..., m].
        """
        mutual = self.left[..., j, :].unsqueeze(-1) * self.right[..., j, :].unsqueeze(-2)
        if self.rise is not None:
            rise = self.rise[..., j, :]
            mutual = mutual * (rise.unsqueeze(-1) - rise.unsqueeze(-2)).triu(1).exp()
        return mutual.triu(1), self.own[..., j, :], self.transfer[..., j, :]
