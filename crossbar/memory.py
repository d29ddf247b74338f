"""How many vectors to solve at once within a budget of memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from devicelab.errors import ParameterError

from .analysis import Inside
from .bias import Drive
from .cells import Cells
from .solution import Solution

ARRAYS = 32
"""Cell voltages' worth of arrays that a solution in torch needs at its peak, tables included."""


def vectors_at_once(cells: Cells, drive: Drive, budget: float) -> int:
    """Largest number of input vectors whose solution stays within `budget` [bytes]; at least one.

    Raises:
        ParameterError: If the budget is not positive.
    """
    if not budget > 0:
        raise ParameterError("unusable memory budget", got=budget, allowed="a positive number of bytes")
    tiles = torch.broadcast_shapes(drive.v_wl.shape[:-2], cells.shape[:-2])
    each = 8 * ARRAYS * math.prod((*tiles, *cells.shape[-2:]))
    return max(1, int(budget / each))


def in_parts(solve_part: Callable[[Drive], Solution], drive: Drive, at_once: int) -> Solution:
    """One solution from those of successive parts of the batch.

    Args:
        solve_part: Solves the array for a part of the batch.
        drive: The whole batch.
        at_once: Vectors in a part.
    """
    starts = range(0, drive.batch, at_once)
    solutions = [solve_part(drive.of(slice(start, start + at_once))) for start in starts]

    def inside() -> Inside:
        found = [solution.inside() for solution in solutions]
        v, i = (torch.cat([getattr(part, name) for part in found], dim=-3) for name in ("v", "i"))
        return Inside(found[0].circuit, drive.v_wl, drive.v_bl, v, i)

    return Solution(
        torch.cat([solution.batched for solution in solutions], dim=-2),
        inside,
        lambda: max(solution.residual for solution in solutions),
        max(solution.iterations for solution in solutions),
        single=drive.single,
    )
