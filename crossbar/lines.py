"""Voltage drops along the lines of an array, without a matrix: two running sums a line."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .wires import Wires


@dataclass(frozen=True)
class Line:
    """A set of parallel lines, each a chain of nodes between two terminals, of which one may be open.

    A line with both terminals open floats; its drops count from its first node.
    """

    segments: Tensor  # [lines or 1, nodes + 1] ohm, terminals included, 0 for an open one
    from_end: Tensor | None  # [lines or 1, 1]: True where only the end is closed; None if nowhere
    both: Tensor | None  # [lines or 1, 1]: True where both ends are closed; None if nowhere
    one_sided: bool  # all lines have one terminal, at the same end

    @staticmethod
    def build(segments: Tensor) -> Line:
        """Lines from the resistances of their segments [ohm], terminals included, infinite for an open one."""
        start, end = segments[:, :1].isinf(), segments[:, -1:].isinf()
        from_end, both = start & ~end, ~start & ~end
        some, all_, two = torch.stack([from_end.any(), from_end.all(), both.any()]).tolist()
        return Line(
            segments.masked_fill(segments.isinf(), 0.0),
            from_end if some else None,
            both if two else None,
            not two and (all_ or not some),
        )

    @property
    def before(self) -> Tensor:
        """Resistance before each node [ohm], [lines or 1, nodes]."""
        return self.segments[:, :-1]

    @property
    def after(self) -> Tensor:
        """Resistance after each node [ohm], [lines or 1, nodes]."""
        return self.segments[:, 1:]

    def drops(self, i: Tensor) -> Tensor:
        """Voltage lost between the terminals and each node [V] when the nodes draw `i` [A], [..., lines, nodes]."""
        segments = self.segments.to(i.dtype)
        drop = (segments[:, :-1] * _beyond(i)).cumsum(-1)
        if self.from_end is not None:
            reverse = _beyond(segments[:, 1:] * i.cumsum(-1))
            drop = torch.where(self.from_end, reverse, drop)
        if self.both is not None:  # the end terminal takes its part of the current
            share = segments[:, :-1].cumsum(-1) / _total(segments)
            drop = drop - torch.where(self.both, share * drop[..., -1:], 0.0)
        return drop

    def currents(self, i: Tensor) -> Tensor:
        """Current in each segment from start to end [A], [..., lines, nodes + 1], when the nodes draw `i`."""
        segments = self.segments.to(i.dtype)
        j = torch.cat([_beyond(i), torch.zeros_like(i[..., :1])], dim=-1)
        if self.from_end is not None:
            j = torch.where(self.from_end, j - j[..., :1], j)
        if self.both is not None:
            excess = (segments * j).sum(-1, keepdim=True) / _total(segments)
            j = j - torch.where(self.both, excess, 0.0)
        return j

    def detach(self) -> Line:
        """The same lines without gradients."""
        return replace(self, segments=self.segments.detach())

    def to(self, device: torch.device) -> Line:
        """The same lines on a device, sent there without waiting."""
        from_end, both = (None if a is None else sent(a, device) for a in (self.from_end, self.both))
        return Line(sent(self.segments, device), from_end, both, self.one_sided)


def sent(a: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a GPU without waiting, for what is sent from the CPU's memory is read at once."""
    return a.to(device, non_blocking=device.type == "cuda")


def _beyond(i: Tensor) -> Tensor:
    """Sum from each node to the end of its line."""
    return i.flip(-1).cumsum(-1).flip(-1)


def _total(segments: Tensor) -> Tensor:
    return segments.sum(-1, keepdim=True).clamp_min(torch.finfo(segments.dtype).tiny)


@dataclass(frozen=True)
class Lines:
    """Word lines and bit lines of an array: the operator Z of v = V - Z i."""

    word: Line
    bit: Line

    @staticmethod
    def build(wires: Wires, m: int, n: int, floating_wl: Tensor, floating_bl: Tensor) -> Lines:
        """Lines of an m x n array in float64; floating lines [m], [n] lose their terminals.

        They are on the CPU unless a resistance is elsewhere.
        """
        places = [r.device for r in vars(wires).values() if isinstance(r, Tensor) and r.device.type != "cpu"]
        like = torch.empty(0, dtype=torch.float64, device=places[0] if places else "cpu")
        word = _open(wires.word_segments(m, n, like), floating_wl)
        bit = _open(wires.bit_segments(m, n, like), floating_bl)
        return Lines(Line.build(word), Line.build(bit))

    def drops(self, i: Tensor) -> Tensor:
        """Z i [V]: what the cell voltages lose to the lines when the cells carry `i` [A], [..., m, n]."""
        return self.word.drops(i) + self.bit_rises(i)

    def bit_currents(self, i: Tensor) -> Tensor:
        """Current in each segment of the bit lines, downwards [A], [..., n, m + 1], when the cells carry `i` [A]."""
        return -self.bit.currents(i.mT)

    def bit_rises(self, i: Tensor) -> Tensor:
        """The part of `drops` lost along the bit lines: their potential above the sense nodes [V]."""
        return self.bit.drops(i.mT).mT

    def detach(self) -> Lines:
        """The same lines without gradients."""
        return Lines(self.word.detach(), self.bit.detach())

    def to(self, device: torch.device) -> Lines:
        """The same lines on a device."""
        return Lines(self.word.to(device), self.bit.to(device))


def _open(segments: Tensor, floating: Tensor) -> Tensor:
    if not bool(floating.any()):
        return segments
    ends = torch.zeros(segments.shape[1], dtype=torch.bool, device=segments.device)
    ends[[0, -1]] = True
    return segments.expand(len(floating), -1).masked_fill(floating.to(ends.device)[:, None] & ends, torch.inf)
