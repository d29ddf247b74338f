"""Gradients through a solved array, against finite differences in float64."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from crossbar import Bias, Ohmic, Sinh, Wires, effective_conductance, solve

RTOL = 1e-12  # of the solution, so that differences over steps of 1e-6 are exact to 1e-6
M, N = 4, 3
Leaves = dict[str, Tensor]


@pytest.fixture
def leaves() -> Leaves:
    generator = torch.Generator().manual_seed(0)

    def rand(*shape: int, low: float, high: float) -> torch.Tensor:
        return (low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)).requires_grad_()

    return {
        "g": rand(M, N, low=1e-2, high=1.0),  # with resistances of order 1 the wires matter
        "v": rand(2, M, low=-1.0, high=1.0),
        "r": rand(4, low=0.1, high=0.5),
        "v_bl": rand(N, low=-0.3, high=0.3),
    }


def gradcheck(function: Callable[..., object], *inputs: torch.Tensor) -> None:
    assert torch.autograd.gradcheck(function, inputs, eps=1e-6, atol=1e-6, rtol=1e-5)


def test_newton_with_respect_to_cells_inputs_and_wires(leaves: Leaves) -> None:
    def currents(g: Tensor, v: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        solution = solve(Sinh(g, 1.5), v, Wires(*r), rtol=RTOL)
        return solution.i_out, solution.v_cell

    gradcheck(currents, leaves["g"], leaves["v"], leaves["r"])


def test_newton_with_floating_lines(leaves: Leaves) -> None:
    word, bit = torch.tensor([False, True, True, False]), torch.tensor([True, False, False])

    def currents(g: Tensor, v: Tensor, v_bl: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        solution = solve(Sinh(g, 1.5), Bias(v, v_bl.expand(2, N), word, bit), Wires(*r), rtol=RTOL)
        return solution.i_out[:, 1:], solution.v_cell

    gradcheck(currents, leaves["g"], leaves["v"], leaves["v_bl"], leaves["r"])


def test_driven_from_both_ends(leaves: Leaves) -> None:
    def currents(g: Tensor, v: Tensor, r: Tensor) -> Tensor:
        wires = Wires(r[0], r[1], r[2], r[3], r_source_right=r[0], r_sense_top=r[1])
        return solve(Sinh(g, 1.5), v, wires, rtol=RTOL).i_out

    gradcheck(currents, leaves["g"], leaves["v"], leaves["r"])


def test_elimination_with_respect_to_cells_and_wires(leaves: Leaves) -> None:
    gradcheck(lambda g, r: effective_conductance(g, Wires(*r)), leaves["g"], leaves["r"])


def test_elimination_and_newton_agree_in_the_gradient(leaves: Leaves) -> None:
    g, v, r = leaves["g"], leaves["v"], leaves["r"]
    for method in ("elimination", "newton"):
        i_out = solve(Ohmic(g), v, Wires(*r), rtol=RTOL, method=method).i_out
        found = torch.autograd.grad(i_out.square().sum(), (g, v, r))
        if method == "elimination":
            expected = found
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
