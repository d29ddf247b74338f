"""Batches split to a budget, and the largest arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from crossbar import Bias, Sinh, Wires, solve
from devicelab.errors import ParameterError

WIRES = Wires(1.0, 2.0, 3.0, 4.0)
SAME = 1e-9  # parts and whole stop at different iterates below rtol


def test_a_small_budget_changes_nothing_but_the_parts() -> None:
    rng = np.random.default_rng(0)
    cells = Sinh(torch.tensor(10 ** rng.uniform(-6, -3, (3, 8, 7))), 4.0)
    bias = Bias(torch.tensor(rng.uniform(0, 0.3, (10, 8))), torch.tensor(rng.uniform(0, 0.1, (1, 7))))
    whole = solve(cells, bias, WIRES, rtol=1e-11)
    parts = solve(cells, bias, WIRES, rtol=1e-11, memory=3 * 8 * 32 * 3 * 8 * 7)
    assert parts.i_out.shape == (3, 10, 7)
    torch.testing.assert_close(parts.i_out, whole.i_out, rtol=SAME, atol=0)
    torch.testing.assert_close(parts.v_cell, whole.v_cell, rtol=SAME, atol=0)
    torch.testing.assert_close(parts.power().supplied, whole.power().supplied, rtol=SAME, atol=0)
    assert parts.residual <= 1e-11


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(ParameterError, match="memory budget"):
        solve(Sinh(torch.ones(2, 2), 1.0), torch.ones(2), WIRES, memory=0)


@pytest.mark.slow
def test_a_thousand_by_a_thousand_array_solves() -> None:
    rng = np.random.default_rng(0)
    cells = Sinh(torch.tensor(10 ** rng.uniform(-6, -4, (1024, 1024))), 3.0)
    solution = solve(cells, torch.tensor(rng.uniform(0, 0.2, (2, 1024))), WIRES)
    assert solution.residual <= 1e-6
    power = solution.power()
    spent = power.cells.sum((-1, -2)) + power.word_lines.sum(-1) + power.bit_lines.sum(-1)
    torch.testing.assert_close(power.supplied, spent, rtol=1e-5, atol=0)
