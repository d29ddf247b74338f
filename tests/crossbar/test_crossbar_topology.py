"""Every topology and bias of an array, against exact nodal analysis."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from crossbar_oracle import exact

from crossbar import Bias, Ohmic, Sinh, Wires, effective_conductance, solve

M, N = 7, 5
B_STEEP = 6.0  # 1/V
TIGHT = 1e-10  # rtol asked of the iteration
EXACT = 1e-9  # what remains against a direct solve, in relative current
RNG = np.random.default_rng(11)

NUMBER = {"r_wl": 1.0, "r_bl": 2.0}
PER_LINE = {"r_wl": RNG.uniform(0, 9, M), "r_bl": RNG.uniform(0, 9, N)}
PER_SEGMENT = {"r_wl": RNG.uniform(0, 9, (M, N - 1)), "r_bl": RNG.uniform(0, 9, (M - 1, N))}
ENDS: dict[str, dict[str, Any]] = {
    "left, bottom": {"r_source": 0.5, "r_sense": 3.0},
    "right, bottom": {"r_source_right": 0.5, "r_sense": 3.0},
    "left, top": {"r_source": 0.5, "r_sense_top": 3.0},
    "right, top": {"r_source_right": RNG.uniform(0, 9, M), "r_sense_top": RNG.uniform(0, 9, N)},
    "both, bottom": {"r_source": 0.5, "r_source_right": 0.7, "r_sense": 3.0},
    "both, both": {"r_source": 0.5, "r_source_right": 0.7, "r_sense": 3.0, "r_sense_top": RNG.uniform(0, 9, N)},
    "loads of 10 kohm": {"r_source": 0.5, "r_sense": 1e4},
    "ideal ends": {"r_source": 0.0, "r_source_right": 0.0, "r_sense": 0.0, "r_sense_top": 0.0},
}


def made(wires: dict[str, Any]) -> Wires:
    """`Wires` of a dict as the oracle takes it, in which an absent terminal is open."""
    closed = {name: torch.as_tensor(r) if isinstance(r, np.ndarray) else r for name, r in wires.items()}
    return Wires(**{"r_source": np.inf, "r_sense": np.inf, **closed})


def compare(wires: dict[str, Any], bias: Bias | None = None) -> None:
    rng = np.random.default_rng(5)
    g = 10 ** rng.uniform(-5, -2, (M, N))
    v = rng.uniform(-0.3, 0.5, M)
    bias = bias or Bias(torch.tensor(v))
    lines = {
        "v_bl": None if bias.v_bl is None else bias.v_bl.numpy(),
        "floating_wl": () if bias.floating_wl is None else np.flatnonzero(bias.floating_wl),
        "floating_bl": () if bias.floating_bl is None else np.flatnonzero(bias.floating_bl),
    }
    for cells, current, conductance in (
        (Ohmic(torch.tensor(g)), lambda u: g * u, lambda u: g),
        (
            Sinh(torch.tensor(g), B_STEEP),
            lambda u: g * np.sinh(B_STEEP * u) / B_STEEP,
            lambda u: g * np.cosh(B_STEEP * u),
        ),
    ):
        v_cell, i_out = exact(current, conductance, wires, bias.v_wl.numpy(), (M, N), **lines)
        solution = solve(cells, bias, made(wires), rtol=TIGHT)
        scale = np.abs(current(v_cell)).sum(axis=0).max()
        np.testing.assert_allclose(solution.i_out, i_out, rtol=0, atol=EXACT * scale)
        np.testing.assert_allclose(solution.v_cell, v_cell, rtol=0, atol=EXACT * bias.v_wl.abs().max().item())


@pytest.mark.parametrize("ends", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("inner", [NUMBER, PER_LINE, PER_SEGMENT], ids=["number", "per line", "per segment"])
def test_lines_of_every_kind(inner: dict[str, Any], ends: dict[str, Any]) -> None:
    compare({**inner, **ends})


@pytest.mark.parametrize("scheme", ["v/2", "v/3", "grounded", "floating"])
@pytest.mark.parametrize("ends", ["left, bottom", "right, top", "both, both"])
def test_write_schemes(scheme: str, ends: str) -> None:
    compare({**PER_SEGMENT, **ENDS[ends]}, Bias.write(1.0, 4, 2, M, N, scheme))


def test_a_selected_cell_sees_the_write_voltage_and_the_others_their_share() -> None:
    for scheme, shares in (("v/2", {0.0, 0.5, 1.0}), ("v/3", {-1 / 3, 1 / 3, 1.0}), ("grounded", {0.0, 1.0})):
        cells = Ohmic(torch.full((M, N), 1e-4, dtype=torch.float64))
        v_cell = solve(cells, Bias.write(3.0, 4, 2, M, N, scheme)).v_cell / 3
        assert v_cell[4, 2] == pytest.approx(1.0)
        assert {round(v, 9) for v in v_cell.flatten().tolist()} == {round(share, 9) for share in shares}


@pytest.mark.parametrize("shape", [(9, 4), (4, 9)])
def test_elimination_with_lines_of_every_kind(shape: tuple[int, int]) -> None:
    m, n = shape
    rng = np.random.default_rng(3)
    g = 10 ** rng.uniform(-5, -2, shape)
    wires = {
        "r_wl": rng.uniform(0, 9, (m, n - 1)),
        "r_bl": rng.uniform(0, 9, (m - 1, n)),
        "r_source": rng.uniform(0, 9, m),
        "r_sense": rng.uniform(0, 9, n),
    }
    found = effective_conductance(torch.tensor(g), made(wires)).numpy()
    for i in range(m):
        _, i_out = exact(lambda u: g * u, lambda u: g, wires, np.eye(m)[i], shape)
        np.testing.assert_allclose(found[i], i_out, rtol=0, atol=EXACT * g.max())


def test_linear_arrays_are_reciprocal_and_superpose() -> None:
    rng = np.random.default_rng(7)
    g = torch.tensor(10 ** rng.uniform(-5, -2, (M, N)))
    wires = Wires(3.0, 2.0, 1.0, 4.0)
    forward = effective_conductance(g, wires)
    # the same array driven at its sense nodes: turned by a quarter, with the roles of the lines exchanged
    turned = Wires(2.0, 3.0, 4.0, 1.0)
    backward = effective_conductance(g.flip(-2, -1).mT, turned)
    torch.testing.assert_close(backward.mT.flip(-2, -1), forward, rtol=EXACT, atol=0)
    a, b = (torch.tensor(rng.uniform(-1, 1, M)) for _ in range(2))
    currents = [solve(Ohmic(g), v, wires, method="newton", rtol=TIGHT).i_out for v in (a, b, 2 * a - 3 * b)]
    torch.testing.assert_close(currents[2], 2 * currents[0] - 3 * currents[1], rtol=0, atol=EXACT * 1e-2)


def test_reflection_of_the_array_reflects_the_solution() -> None:
    rng = np.random.default_rng(8)
    g, v = torch.tensor(10 ** rng.uniform(-5, -2, (M, N))), torch.tensor(rng.uniform(-1, 1, M))
    left = solve(Sinh(g, B_STEEP), v, Wires(1.0, 2.0, r_source=3.0, r_sense=1.0), rtol=TIGHT)
    right = Wires(1.0, 2.0, r_source=np.inf, r_source_right=3.0, r_sense=1.0)
    mirrored = solve(Sinh(g.flip(-1), B_STEEP), v, right, rtol=TIGHT)
    torch.testing.assert_close(mirrored.i_out.flip(-1), left.i_out, rtol=0, atol=EXACT * 1e-2)


def test_more_line_resistance_never_raises_the_supplied_power() -> None:
    g = torch.tensor(10 ** np.random.default_rng(9).uniform(-5, -2, (M, N)))
    v = torch.linspace(0.1, 1.0, M, dtype=torch.float64)
    powers = [solve(Sinh(g, B_STEEP), v, Wires(r, r, r, r)).power().supplied for r in (0.0, 0.1, 1.0, 10.0, 100.0)]
    assert all(after < before for before, after in pairwise(powers))


def test_power_is_conserved_and_sneak_currents_add_up() -> None:
    g = torch.tensor(10 ** np.random.default_rng(10).uniform(-5, -2, (M, N)))
    solution = solve(Sinh(g, B_STEEP), Bias.write(0.6, 2, 3, M, N, "floating"), Wires(1.0, 2.0, 3.0, 4.0), rtol=TIGHT)
    power = solution.power()
    spent = power.cells.sum() + power.word_lines.sum() + power.bit_lines.sum()
    assert power.supplied == pytest.approx(spent.item(), rel=EXACT)
    sneak = solution.sneak(2, 3)
    assert sneak.output.item() == pytest.approx(solution.i_out[3].item(), rel=EXACT)
    assert (sneak.selected + sneak.through_column).item() == pytest.approx(sneak.output.item(), rel=EXACT)
    nodes = solution.nodes()
    torch.testing.assert_close(nodes.word - nodes.bit, solution.v_cell, rtol=0, atol=EXACT)
