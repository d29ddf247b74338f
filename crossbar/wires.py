"""Line resistances of an array."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devicelab.errors import ParameterError, ShapeError

Resistance = float | Tensor


@dataclass(frozen=True)
class Wires:
    """Resistances of the lines of an m x n array [ohm].

    Word line i is driven at its left end, bit line j is sensed at its lower end (row m - 1). A terminal resistance
    includes the first segment of its line. An infinite terminal is an open end; a line needs at least one closed end,
    unless it is left floating by the `Bias`.

    Args:
        r_wl: Between neighbouring cells of a word line: a number, one for each line [m], or each segment [m, n - 1].
        r_bl: Between neighbouring cells of a bit line: a number, one for each line [n], or each segment [m - 1, n].
        r_source: From the driver to the first cell of a word line: a number, or one for each line [m].
        r_sense: From the last cell of a bit line to the sense node: a number, or one for each line [n].
        r_source_right: From a second driver at the same voltage to the last cell of a word line; infinite if none.
        r_sense_top: From the first cell of a bit line to a second sense node; infinite if none.

    Raises:
        ParameterError: If a resistance is negative or not a number, or a segment is infinite.
    """

    r_wl: Resistance = 0.0
    r_bl: Resistance = 0.0
    r_source: Resistance = 0.0
    r_sense: Resistance = 0.0
    r_source_right: Resistance = math.inf
    r_sense_top: Resistance = math.inf

    def __post_init__(self) -> None:
        for name in ("r_wl", "r_bl", "r_source", "r_sense", "r_source_right", "r_sense_top"):
            value = torch.as_tensor(getattr(self, name), dtype=torch.float64).detach()
            finite_only = name in ("r_wl", "r_bl")
            if not bool((value >= 0).all()) or (finite_only and bool(value.isinf().any())):
                raise ParameterError(
                    f"unusable line resistance {name}",
                    got=value.min().item() if value.numel() > 1 else value.item(),
                    allowed="0 <= r < inf ohm" if finite_only else "0 <= r <= inf ohm",
                )

    @property
    def ideal(self) -> bool:
        """Whether every line is a perfect conductor."""
        return not any(bool(torch.as_tensor(r).any()) for r in (self.r_wl, self.r_bl, *self._terminals()))

    def _terminals(self) -> tuple[Resistance, Resistance]:
        return self.r_source, self.r_sense

    def word_segments(self, m: int, n: int, like: Tensor) -> Tensor:
        """Resistances along each word line from the left terminal to the right one, [m or 1, n + 1]."""
        return _segments(
            "r_wl", self.r_wl, ("r_source", self.r_source), ("r_source_right", self.r_source_right), m, n, like
        )

    def bit_segments(self, m: int, n: int, like: Tensor) -> Tensor:
        """Resistances along each bit line from the top terminal to the bottom one, [n or 1, m + 1]."""
        inner = self.r_bl
        if isinstance(inner, Tensor) and inner.dim() == 2:
            inner = inner.T
        return _segments("r_bl", inner, ("r_sense_top", self.r_sense_top), ("r_sense", self.r_sense), n, m, like)


def _segments(
    name: str,
    inner: Resistance,
    start: tuple[str, Resistance],
    end: tuple[str, Resistance],
    lines: int,
    nodes: int,
    like: Tensor,
) -> Tensor:
    parts = [
        _columns(start[0], start[1], lines, 1, like),
        _columns(name, inner, lines, nodes - 1, like),
        _columns(end[0], end[1], lines, 1, like),
    ]
    rows = max(part.shape[0] for part in parts)
    return torch.cat([part.expand(rows, part.shape[1]) for part in parts], dim=1)


def _columns(name: str, r: Resistance, lines: int, width: int, like: Tensor) -> Tensor:
    r = torch.as_tensor(r).to(like, non_blocking=like.is_cuda)
    if r.dim() == 0:
        return r.expand(1, width)
    if r.shape == (lines,):
        return r[:, None].expand(lines, width)
    if r.shape == (lines, width):
        return r
    raise ShapeError(
        f"{name} does not fit the array",
        got=tuple(r.shape),
        allowed=f"a number, or one for each of the {lines} lines, or for each segment {(lines, width)}",
    )
