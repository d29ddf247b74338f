"""The preconditioner that keeps iteration counts bounded, against the plain iteration and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from crossbar import ModelCells, Wires, solve

RTOL = 1e-9
SAME = 1e-7  # two iterations stopped at RTOL, in arrays that amplify by less than a hundred
LONG_LINES = Wires(1e3, 1e3, 1e3, 1e3)


class Linear:
    """A model of a resistor between 1 uS and 1 mS; models are solved in torch."""

    def current(self, v: Tensor, x: Tensor) -> Tensor:
        return (1e-6 + 1e-3 * x) * torch.sinh(3 * v) / 3


def stack(n: int) -> tuple[ModelCells, Tensor]:
    rng = np.random.default_rng(0)
    return ModelCells(Linear(), torch.tensor(rng.uniform(0, 1, (n, n)))), torch.tensor(rng.uniform(0, 0.2, (3, n)))


@pytest.mark.parametrize("ends", [{}, {"r_source_right": 50.0, "r_sense_top": 70.0}], ids=["one end", "both ends"])
def test_the_preconditioned_iteration_finds_the_same_solution(ends: dict[str, float]) -> None:
    cells, v = stack(12)
    alike = Wires(1e3, 1e3, 1e3, 1e3, **ends)
    each = Wires(torch.full((12,), 1e3, dtype=torch.float64), 1e3, 1e3, 1e3, **ends)  # listed one by one: plain
    fast, plain = (solve(cells, v, wires, rtol=RTOL) for wires in (alike, each))
    torch.testing.assert_close(fast.i_out, plain.i_out, rtol=SAME, atol=0)
    torch.testing.assert_close(fast.v_cell, plain.v_cell, rtol=0, atol=SAME)


def test_iterations_stay_bounded_as_the_array_grows() -> None:
    """Without the preconditioner the count would double with the size."""
    wires = Wires(50.0, 50.0, 50.0, 50.0)
    counts = [solve(*stack(n), wires).iterations for n in (16, 32, 64)]
    assert counts[2] < 1.5 * counts[0]


def test_gradients_through_long_lines() -> None:
    cells, v = stack(4)
    x = cells.x.clone().requires_grad_()
    v = v[:2].clone().requires_grad_()

    def currents(x: Tensor, v: Tensor) -> Tensor:
        return 1e5 * solve(ModelCells(Linear(), x), v, Wires(3e3, 3e3, 3e3, 3e3), rtol=1e-12).i_out

    assert torch.autograd.gradcheck(currents, (x, v), eps=1e-6, atol=1e-5, rtol=1e-4)
