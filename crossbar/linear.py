"""Method b, linear cells with line resistance: the whole array as one matrix, by exact elimination."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from devicelab.errors import ParameterError

from .cells import Ohmic
from .dissection import dissected
from .optional import loaded
from .wires import Wires

LAPACK = 64
"""Size up to which LAPACK inverts faster than matrix products do."""

COMPILED = 128
"""Size up to which the compiled inverse is faster than matrix products."""

DISSECTED = {torch.float32: 96, torch.float64: 192}
"""Shorter side from which dissection on a CPU is faster than elimination column by column, or, in float32, as fast and
200 times as exact. A GPU takes no other way: columns wait for each other."""

ENOUGH = 1e-3
"""Line resistance times admittance from which 1 - (1 + r A)^-1 is accurate."""


def effective_conductance(g: Tensor, wires: Wires) -> Tensor:
    """Conductance matrix of a whole array with its lines, so that i_out = v_in @ G.

    Exact to rounding. Small arrays on a CPU go column by column: each bit line reduces to the admittance that the word
    lines see; the word lines form a chain of such blocks, eliminated from the right. Large ones, and all on a GPU, are
    joined from small blocks (`dissection`). No formula divides by a line resistance, so any of them may be zero.

    Args:
        g: Cell conductances [S], [*tiles, m, n].
        wires: Line resistances, with one driven end and one sensed end a line.

    Returns:
        Effective conductances [S], [*tiles, m, n]; row i holds the output currents per volt on word line i.

    Raises:
        ParameterError: If a conductance is negative or not a number, a line has other terminals, or rounding leaves
            nothing of the result.
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
    if g.device.type != "cpu" or min(m, n) >= DISSECTED.get(g.dtype, m + n):
        found = dissected(g, before, after)
    elif m <= n:
        found = _eliminate(g, before, after)
    else:  # reciprocity: drive the bit lines and sense the word lines, whose blocks are smaller
        found = _eliminate(g.flip(-2, -1).mT, after.flip(0, 1), before.flip(0, 1)).mT.flip(-2, -1)
    if not bool(found.detach().isfinite().all()):
        raise ParameterError(
            "the array's conductances and line resistances are too far apart to be eliminated",
            got=f"cells up to {float(g.detach().max()):.3g} S",
            hint='use crossbar.solve with method="newton"',
        )
    return found


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
    ohms = (
        before[0].tolist()
        if before.shape[0] == 1 and bit.rise is None and not _differentiated(g, before, after)
        else []
    )
    accurate = False
    j = n
    while j > 0:
        j -= 1
        upper, own, transfer = bit.column(j)
        seen = seen - upper - upper.mT
        seen.diagonal(dim1=-2, dim2=-1).add_(own)
        outputs = torch.cat([transfer.unsqueeze(-2), outputs], dim=-2)
        r = before[:, j]
        share = _behind(r, seen, eye)
        if len(r) == 1 and (j % 8 == 0 or bool(r != before[0, min(j + 1, n - 1)])):
            accurate = float((r.detach() * seen.detach().diagonal(dim1=-2, dim2=-1)).amin()) > ENOUGH
        if accurate:
            outputs = outputs @ share
            if ohms and j > 0:
                j, share, outputs = _without_gradients(bit, ohms, j, share, outputs)
                r = before[:, j]
            seen = (eye - share) / r  # spares a product, and loses three digits at most
        else:
            both = torch.cat([seen, outputs], dim=-2) @ share
            seen, outputs = both[..., :m, :], both[..., m:, :]
    return outputs.mT


def _differentiated(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(a.requires_grad for a in tensors)


def _without_gradients(
    bit: _BitLines, ohms: list[float], j: int, share: Tensor, outputs: Tensor
) -> tuple[int, Tensor, Tensor]:
    """As many further columns as stay accurate, in place and on lower triangles; upper ones hold anything on the way.

    With share = 1 - r A, the next column's 1 + r' A' is a multiple of it, a product of two vectors and a diagonal.

    Args:
        bit: The bit lines.
        ohms: Resistance before each cell of a word line.
        j: The last column done.
        share: Share behind it, [*tiles, m, m].
        outputs: Outputs of the columns from j on, [*tiles, n - j, m].

    Returns:
        The last column done now, its share, and the outputs from it on.
    """
    *tiles, m, _ = share.shape
    n = len(ohms)
    share = share.reshape(-1, m, m).clone()
    done, spare = (share.new_empty((len(share), n, m)) for _ in range(2))
    done[:, j:] = outputs.reshape(len(share), n - j, m)
    flat = (a.reshape(-1, n, m) for a in (bit.left, bit.right, bit.own, bit.transfer))
    left, right, own, transfer = (a.expand(len(share), n, m) for a in flat)
    a, diagonal = torch.empty_like(share), share.diagonal(dim1=-2, dim2=-1)
    while j > 0 and ohms[j - 1] > 0:
        r, ratio = ohms[j - 1], ohms[j - 1] / ohms[j]
        on_diagonal = (1 + ratio) - ratio * diagonal + r * own[:, j - 1]
        if (j % 8 == 1 or ratio != 1) and float(on_diagonal.amin()) - 1 <= ENOUGH:
            break
        j -= 1
        torch.baddbmm(share, right[:, j].unsqueeze(-1), left[:, j].unsqueeze(-2), beta=-ratio, alpha=-r, out=a)
        a.diagonal(dim1=-2, dim2=-1).copy_(on_diagonal)
        _inverse_into(share, a)
        done[:, j] = transfer[:, j]
        torch.bmm(done[:, j:], share, out=spare[:, j:])
        done, spare = spare, done
    return j, share.reshape(*tiles, m, m), done[:, j:].reshape(*tiles, n - j, m)


def _inverse_into(out: Tensor, a: Tensor) -> None:
    """Inverse of positive definite matrices of which only the lower triangle is read, both [tiles, m, m]."""
    m = a.shape[-1]
    compiled = loaded("inverse") if a.device.type == "cpu" else None
    if compiled is not None and m <= COMPILED:
        out.copy_(a)
        compiled.invert(out.numpy())
        return
    if m <= LAPACK:
        out.copy_(torch.cholesky_inverse(torch.linalg.cholesky(a)))
        return
    half = m // 2
    top = a.new_empty((len(a), half, half))
    _inverse_into(top, a[:, :half, :half])
    below = a[:, half:, :half]
    carried = below @ top
    bottom = a.new_empty((len(a), m - half, m - half))
    _inverse_into(bottom, torch.baddbmm(a[:, half:, half:], carried, below.mT, alpha=-1))
    corner = torch.bmm(bottom, carried)
    out[:, :half, :half] = torch.baddbmm(top, carried.mT, corner)
    out[:, half:, half:] = bottom
    out[:, half:, :half] = corner.neg_()
    out[:, :half, half:] = corner.mT


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
    if not a.requires_grad:
        out = torch.empty_like(a, memory_format=torch.contiguous_format)
        _inverse_into(out.view(-1, m, m), a.reshape(-1, m, m))
        return out
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
