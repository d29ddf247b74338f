"""Method b by nested dissection: blocks of cells with wires out of all four sides, joined two by two to a whole array.

A block answers voltages put on its left and bottom terminals (the sides of drivers and sense nodes) and currents drawn
at its right and fed in at its top. With that choice no formula divides by a line resistance or a conductance, so any of
them may be zero, and joining two blocks takes the inverse of 1 + Q Y with Q a resistance and Y an admittance, both
positive semidefinite: it always exists, and rounding stays rounding, in float32 too. All blocks of all tiles are joined
at once, so an n x n array takes some 2 log2(n) batched products where elimination column by column takes n steps that
wait for each other, and n^3 operations instead of n^4.

Nested dissection: George, SIAM J. Numer. Anal. 10 (1973) 345, DOI 10.1137/0710032.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LEAF = 4
"""Least word and bit lines of the smallest blocks, which are solved whole."""

WORKING = 128
"""Numbers a cell that are in memory at once, at most; measured 90 at 128 x 128."""

SIDES = ("left", "bottom", "right", "top")


@dataclass(frozen=True)
class Blocks:
    """Equal blocks: what their terminals answer to what is put on them.

    In: voltages at "left" and "bottom" [V], currents drawn at "right" and fed in at "top" [A]. Out: currents into
    "left" and out of "bottom" [A], voltages at "right" and "top" [V].
    """

    response: Tensor  # [blocks, all out, all in]
    out: dict[str, int]  # terminals of each side, in the order of `SIDES`
    into: dict[str, int]

    @cached_property
    def _rows(self) -> dict[str, Tensor]:
        return _parts(self.response, self.out, 1)

    def part(self, out: str, into: str) -> Tensor:
        """The response of one side to another."""
        return _parts(self._rows[out], self.into, 2)[into]

    def without(self, out: str, into: str) -> Blocks:
        """The same less the sides, names with spaces between, that nobody asks for or that are at zero."""
        kept_out = {side: k for side, k in self.out.items() if side not in out.split()}
        kept_in = {side: k for side, k in self.into.items() if side not in into.split()}
        rows = torch.cat([self._rows[side] for side in kept_out], dim=1)
        parts = _parts(rows, self.into, 2)
        return Blocks(torch.cat([parts[side] for side in kept_in], dim=2), kept_out, kept_in)


def _parts(a: Tensor, sides: dict[str, int], dim: int) -> dict[str, Tensor]:
    return dict(zip(sides, a.split(list(sides.values()), dim), strict=True))


def dissected(g: Tensor, before: Tensor, after: Tensor, *, memory: float | None = None) -> Tensor:
    """Effective conductances [S], [*tiles, m, n].

    Args:
        g: Cell conductances [S], [*tiles, m, n].
        before: Resistance before each cell of a word line [ohm], [m or 1, n].
        after: Resistance after each cell of a bit line [ohm], [n or 1, m].
        memory: Budget [bytes] for working arrays; None: a quarter of what a GPU has free, or what a CPU's cache holds.
    """
    m, n = g.shape[-2:]
    plan = _Plan.of(m, n)
    word, bit = (plan.cut(r.expand(m, n).unsqueeze(0))[0] for r in (before, after.T))
    if memory is None:
        memory = torch.cuda.mem_get_info(g.device)[0] / 4 if g.is_cuda else 2.0**25
    flat = g.reshape(-1, m, n)
    at_once = max(1, int(memory / (WORKING * g.element_size() * plan.cells)))
    found = [plan.array(part, word, bit) for part in flat.split(at_once)]
    return (found[0] if len(found) == 1 else torch.cat(found)).view(g.shape)


@dataclass(frozen=True)
class _Plan:
    """In which order the blocks of an m x n array are joined."""

    m: int
    n: int
    height: int  # of the smallest blocks
    width: int
    up: int  # how often their height doubles
    over: int

    @staticmethod
    def of(m: int, n: int) -> _Plan:
        """Halves as long as blocks have `LEAF` lines; lines are added where a side does not halve evenly."""
        up, over = (max(0, (k // LEAF).bit_length() - 1) for k in (m, n))
        return _Plan(m, n, -(-m // 2**up), -(-n // 2**over), up, over)

    @property
    def cells(self) -> int:
        """Cells of the array with what was added."""
        return (self.height << self.up) * (self.width << self.over)

    @cached_property
    def across(self) -> list[bool]:
        """For every step, whether blocks are joined to those beside them, so that they stay near square."""
        steps, height, width, up, over = [], self.height, self.width, self.up, self.over
        while up or over:
            steps.append(over > 0 and (width <= height or up == 0))
            if steps[-1]:
                width, over = 2 * width, over - 1
            else:
                height, up = 2 * height, up - 1
        return steps

    def cut(self, a: Tensor) -> Tensor:
        """[k, m, n] as blocks [k, blocks, height, width], such that those to be joined are neighbours at every step."""
        rows, columns = self.height << self.up, self.width << self.over
        padded = torch.nn.functional.pad(a, (0, columns - self.n, rows - self.m, 0))
        halves = padded.reshape(len(a), *(2,) * self.up, self.height, *(2,) * self.over, self.width)
        row, column = self.up + 1, self.up + self.over + 2  # dimensions that follow the halvings
        order = [row, column]
        for beside in self.across:  # the first to be joined is the last dimension
            if beside:
                column = column - 1
                order.insert(0, column)
            else:
                row = row - 1
                order.insert(0, row)
        order = [*order[:-2], self.up + 1, self.up + self.over + 2]
        return halves.permute(0, *order).reshape(len(a), -1, self.height, self.width)

    def array(self, g: Tensor, word: Tensor, bit: Tensor) -> Tensor:
        """Effective conductances of arrays [tiles, m, n], lines as blocks."""
        blocks = _leaves(self.cut(g), word, bit)
        if not self.over:
            blocks = blocks.without("left right", "right")
        if not self.up:
            blocks = blocks.without("top", "bottom top")
        for k, across in enumerate(self.across):
            blocks = _joined(blocks, across=across, last=across not in self.across[k + 1 :])
        return blocks.response.mT[:, -self.m :, : self.n]


def _leaves(g: Tensor, before: Tensor, after: Tensor) -> Blocks:
    """The smallest blocks. With Z the resistance of their lines, (1 + Z G) v = what the terminals put on the cells.

    Args:
        g: Conductances [S], [tiles, blocks, p, q].
        before: Resistance before each cell of a word line [ohm], [blocks, p, q].
        after: Resistance after each cell of a bit line [ohm], [blocks, p, q].
    """
    tiles, _, p, q = g.shape
    along, down = before.cumsum(-1), after.flip(-2).cumsum(-2).flip(-2)
    i, j = torch.arange(p, device=g.device), torch.arange(q, device=g.device)
    row, column = i.repeat_interleave(q), j.repeat(p)
    in_row, in_column = (row.unsqueeze(1) == i).to(g), (column.unsqueeze(1) == j).to(g)  # [p q, p], [p q, q]
    shared_row = along[:, row.unsqueeze(1), torch.minimum(column.unsqueeze(1), column)]
    shared_column = down[:, torch.maximum(row.unsqueeze(1), row), column]
    z = (in_row @ in_row.T) * shared_row + (in_column @ in_column.T) * shared_column  # [blocks, p q, p q]
    sides = [
        in_row.expand(len(before), -1, -1),
        -in_column.expand(len(before), -1, -1),
        -in_row * along.flatten(1).unsqueeze(2),
        -in_column * down.flatten(1).unsqueeze(2),
    ]
    put = torch.cat(sides, dim=2)  # [blocks, p q, terminals]
    back = torch.cat([sides[0], -sides[1], sides[2], -sides[3]], dim=2).mT
    flat = g.flatten(2).unsqueeze(2)  # [tiles, blocks, 1, p q]
    eye = torch.eye(p * q, dtype=g.dtype, device=g.device)
    v = torch.linalg.solve_ex(eye + z * flat, put.expand(tiles, -1, -1, -1))[0]
    # without cells, lines hand on what is put on their other end
    half, ends = torch.eye(p + q, dtype=g.dtype, device=g.device), torch.cat([-along[:, :, -1], down[:, 0]], dim=1)
    top = torch.nn.functional.pad(half, (p + q, 0)).expand(len(before), -1, -1)
    bottom = torch.cat([half.expand(len(before), -1, -1), torch.diag_embed(ends)], dim=2)
    response = back @ (flat.mT * v) + torch.cat([top, bottom], dim=1)
    widths = dict(zip(SIDES, (p, q, p, q), strict=True))
    return Blocks(response.flatten(0, 1), widths, widths)


def _joined(blocks: Blocks, *, across: bool, last: bool) -> Blocks:
    """Every other block joined to the next one.

    Args:
        blocks: The blocks, [2 k] of them.
        across: Whether the next one lies to the right; else below.
        last: Whether nothing more is to be joined in this direction: no current is drawn at the right or fed in at the
            top, the sense nodes are at ground, and what the drivers supply is not asked for.
    """
    first, second = (Blocks(half, blocks.out, blocks.into) for half in blocks.response.unflatten(0, (-1, 2)).unbind(1))
    if across:
        if last:
            first, second = first.without("left", ""), second.without("right", "right")
        return _connected(first, second, "right", "left", [first, second])
    if last:
        first, second = first.without("top", "top"), second.without("", "bottom")
    return _connected(second, first, "top", "bottom", [first, second])


def _connected(gives: Blocks, takes: Blocks, at: str, to: str, order: list[Blocks]) -> Blocks:
    """Blocks of which one's side `at` sets the voltages v of the other's side `to`, which draws the currents i there.

    Args:
        gives: The block that sets them.
        takes: The other one.
        at: Its side.
        to: Its side.
        order: Both, from left to right or from top to bottom.
    """

    def free(sides: str) -> Iterator[tuple[str, Blocks, int]]:
        """Sides that are not joined, as they follow in the result: name, block, terminals."""
        for side in SIDES:
            for block in order:
                width = getattr(block, sides).get(side)
                if width and side != (at if block is gives else to):
                    yield side, block, width

    fed = list(free("into"))
    minus_q, y = gives.part(at, at), takes.part(to, to)
    nothing = y.new_zeros(()).expand(y.shape)
    # v = open + minus_q i, i = short + y v
    shorts = [nothing[..., :1].expand(-1, -1, k) if b is gives else b.part(to, side) for side, b, k in fed]
    opens = [b.part(at, side) if b is gives else minus_q @ s for (side, b, _), s in zip(fed, shorts, strict=True)]
    eye = torch.eye(y.shape[-1], dtype=y.dtype, device=y.device)
    v = torch.linalg.inv_ex(torch.baddbmm(eye, minus_q, y, alpha=-1))[0] @ torch.cat(opens, dim=2)
    i = torch.baddbmm(torch.cat(shorts, dim=2), y, v)
    rows = []
    for side, block, _ in free("out"):
        answer = block.part(side, at) @ i if block is gives else block.part(side, to) @ v
        start = 0
        for other, fed_block, width in fed:
            if fed_block is block:
                answer[..., start : start + width] += block.part(side, other)
            start += width
        rows.append(answer)
    return Blocks(torch.cat(rows, dim=1), _widths(free("out")), _widths(fed))


def _widths(sides: Iterable[tuple[str, Blocks, int]]) -> dict[str, int]:
    """Terminals of each side."""
    total: dict[str, int] = {}
    for side, _, width in sides:
        total[side] = total.get(side, 0) + width
    return total
