"""Voltage drops along the lines of an array, without a matrix: two running sums a line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .wires import Wires


@dataclass(frozen=True)
class Line:
    """A set of parallel lines, each a chain of nodes between two terminals, of which one may be open.

    A line with both terminals open floats; its drops count from its first node.
    """

    before: Tensor  # [lines or 1, nodes]: resistance before each node, 0 where the start is open
    after: Tensor  # [lines or 1, nodes]: resistance after each node, 0 where the end is open
    from_end: Tensor | None  # [lines or 1, 1]: True where only the end is closed; None if nowhere
    share: Tensor | None  # [lines or 1, nodes]: share of a line's resistance before each node; None if all one-sided

    @staticmethod
    def build(segments: Tensor) -> Line:
        """Lines from the resistances of their segments [ohm], terminals included, [lines or 1, nodes + 1]."""
        start, inner, end = segments[:, :1], segments[:, 1:-1], segments[:, -1:]
        zero = torch.zeros_like(start)
        before = torch.cat([torch.where(start.isinf(), zero, start), inner], dim=1)
        after = torch.cat([inner, torch.where(end.isinf(), zero, end)], dim=1)
        from_end = start.isinf() & ~end.isinf()
        both = ~start.isinf() & ~end.isinf()
        total = (before.sum(1, keepdim=True) + after[:, -1:]).clamp_min(1e-300)
        share = torch.where(both, before.cumsum(1) / total, zero) if bool(both.any()) else None
        return Line(before, after, from_end if bool(from_end.any()) else None, share)

    def drops(self, i: Tensor) -> Tensor:
        """Voltage lost between the terminals and each node [V] when the nodes draw `i` [A], [..., lines, nodes]."""
        drop = (self.before.to(i.dtype) * i.flip(-1).cumsum(-1).flip(-1)).cumsum(-1)
        if self.from_end is not None:
            reverse = (self.after.to(i.dtype) * i.cumsum(-1)).flip(-1).cumsum(-1).flip(-1)
            drop = torch.where(self.from_end, reverse, drop)
        if self.share is not None:  # the second terminal takes its part of the current
            drop = drop - self.share.to(i.dtype) * drop[..., -1:]
        return drop

    def detach(self) -> Line:
        """The same lines without gradients."""
        return Line(self.before.detach(), self.after.detach(), self.from_end, detached(self.share))


def detached(a: Tensor | None) -> Tensor | None:
    """`a` without gradients."""
    return None if a is None else a.detach()


@dataclass(frozen=True)
class Lines:
    """Word lines and bit lines of an array: the operator Z of v = V - Z i."""

    word: Line
    bit: Line

    @staticmethod
    def build(wires: Wires, m: int, n: int, floating_wl: Tensor, floating_bl: Tensor) -> Lines:
        """Lines of an m x n array in float64; floating lines [m], [n] lose their terminals."""
        like = torch.empty(0, dtype=torch.float64, device=floating_wl.device)
        word = _open(wires.word_segments(m, n, like), floating_wl)
        bit = _open(wires.bit_segments(m, n, like), floating_bl)
        return Lines(Line.build(word), Line.build(bit))

    def drops(self, i: Tensor) -> Tensor:
        """Z i [V]: what the cell voltages lose to the lines when the cells carry `i` [A], [..., m, n]."""
        return self.word.drops(i) + self.bit_rises(i)

    def bit_rises(self, i: Tensor) -> Tensor:
        """The part of `drops` lost along the bit lines: their potential above the sense nodes [V]."""
        return self.bit.drops(i.transpose(-1, -2)).transpose(-1, -2)

    def detach(self) -> Lines:
        """The same lines without gradients."""
        return Lines(self.word.detach(), self.bit.detach())


def _open(segments: Tensor, floating: Tensor) -> Tensor:
    if not bool(floating.any()):
        return segments
    ends = torch.zeros(segments.shape[1], dtype=torch.bool, device=segments.device)
    ends[[0, -1]] = True
    return segments.expand(len(floating), -1).masked_fill(floating[:, None] & ends, torch.inf)
