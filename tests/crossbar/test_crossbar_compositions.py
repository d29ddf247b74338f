"""Cells in series with transistors and selectors, and broken cells."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from crossbar_oracle import exact
from torch import Tensor

from crossbar import Cells, Faulty, Ohmic, Series, Sinh, Threshold, Transistor, Wires, solve
from devicelab.errors import ParameterError

WIRES = {"r_wl": 2.0, "r_bl": 3.0, "r_source": 1.0, "r_sense": 4.0}
TIGHT = 1e-10  # rtol asked of the iteration
EXACT = 1e-9  # what remains against a direct solve
G = 10 ** np.random.default_rng(0).uniform(-5, -3, (6, 5))
V = np.linspace(-0.4, 0.6, 6)


def test_two_resistors_in_series_are_one() -> None:
    class Resistor:
        def current(self, v: Tensor) -> Tensor:
            return v / 1e4

        def current_and_conductance(self, v: Tensor) -> tuple[Tensor, Tensor]:
            return v / 1e4, torch.full_like(v, 1e-4)

    _, i_out = exact(lambda v: v / (1 / G + 1e4), lambda v: 1 / (1 / G + 1e4), WIRES, V, G.shape)
    solution = solve(Series(Ohmic(torch.tensor(G)), Resistor()), torch.tensor(V), Wires(**WIRES), rtol=TIGHT)
    np.testing.assert_allclose(solution.i_out, i_out, rtol=0, atol=EXACT * np.abs(i_out).max())


def test_an_open_gate_isolates_the_cell_and_a_strong_one_vanishes() -> None:
    cells, v = Ohmic(torch.tensor(G)), torch.tensor(V)
    bare = solve(cells, v, Wires(**WIRES), rtol=TIGHT).i_out
    off = solve(Series(cells, Transistor(1e-3, v_gate=0.2)), v, Wires(**WIRES)).i_out
    strong = solve(Series(cells, Transistor(1e6, v_gate=3.0)), v, Wires(**WIRES), rtol=TIGHT).i_out
    assert off.abs().max() < 1e-9 * bare.abs().max()  # 1e12 ohm of leakage against 1e3..1e5 ohm cells
    torch.testing.assert_close(strong, bare, rtol=1e-6, atol=0)  # 4e-7 ohm of channel


def test_transistor_follows_the_level_1_equations() -> None:
    k, w, slope = 2e-3, 0.7, 0.05
    transistor = Transistor(k, v_gate=1.2, v_threshold=0.5, slope=slope, r_off=1e30)
    for u in (0.1, 0.5, 0.9, 2.0):
        expected = k * (w * u - u**2 / 2 if u < w else w**2 / 2) * (1 + slope * u)
        found = transistor.current(torch.tensor([[[u, -u]]], dtype=torch.float64)).flatten()
        assert found[0].item() == pytest.approx(expected, rel=1e-12)
        assert found[1].item() == pytest.approx(-expected, rel=1e-12)


def test_the_current_of_a_transistor_cell_saturates() -> None:
    """A strong memory cell cannot carry more than k w^2 / 2: the compliance of 1T1R."""
    cells = Series(Ohmic(torch.ones(1, 1, dtype=torch.float64)), Transistor(1e-4, v_gate=1.5))
    assert solve(cells, torch.tensor([5.0])).i_out.item() == pytest.approx(0.5e-4, rel=1e-6)


LAWS: dict[str, Callable[[Tensor], Cells]] = {
    "1T1R": lambda g: Series(Sinh(g, 4.0), Transistor(2e-4, v_gate=1.2, slope=0.02)),
    "1S1R": lambda g: Series(Ohmic(g), Threshold(1e-6, 0.08)),
}


@pytest.mark.parametrize("name", LAWS)
def test_gradients_pass_through_the_divided_cell(name: str) -> None:
    g = torch.tensor(G[:3, :2], requires_grad=True)
    v = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)

    def currents(g: Tensor, v: Tensor) -> Tensor:
        return 1e4 * solve(LAWS[name](g), v, Wires(100.0, 100.0), rtol=1e-12).i_out

    assert torch.autograd.gradcheck(currents, (g, v), eps=1e-7, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LAWS)
def test_both_elements_carry_the_current_that_the_lines_see(name: str) -> None:
    cells = LAWS[name](torch.tensor(G))
    assert isinstance(cells, Series)
    solution = solve(cells, torch.tensor(V), Wires(**WIRES), rtol=TIGHT)
    v = solution.v_cell[None]
    inner = cells.divide(v)
    i = cells.cells.current(inner)
    torch.testing.assert_close(cells.element.current(v - inner), i, rtol=EXACT, atol=EXACT * i.abs().max().item())
    torch.testing.assert_close(i.sum(-2)[0], solution.i_out, rtol=EXACT, atol=EXACT * i.abs().max().item())


def test_selectors_suppress_the_sneak_path() -> None:
    """Three half-selected cells in series share the voltage, which a selector punishes exponentially."""
    from crossbar import Bias

    g = torch.full((4, 4), 1e-4, dtype=torch.float64)
    bias = Bias.write(0.5, 1, 2, 4, 4, "floating")
    shares = []
    for cells in (Ohmic(g), Series(Ohmic(g), Threshold(1e-8, 0.04))):
        sneak = solve(cells, bias, Wires(1.0, 1.0, 1.0, 1.0)).sneak(1, 2)
        shares.append((sneak.through_column / sneak.output).item())
    assert shares[1] < 0.2 * shares[0]


def test_broken_cells_are_resistors_and_the_others_stay() -> None:
    fault = torch.full((6, 5), torch.nan, dtype=torch.float64)
    fault[1, 2], fault[4, 0] = 0.0, 1.0
    broken = ~fault.isnan().numpy()

    def current(v: np.ndarray) -> np.ndarray:
        return np.where(broken, fault.nan_to_num().numpy() * v, G * np.sinh(4 * v) / 4)

    def conductance(v: np.ndarray) -> np.ndarray:
        return np.where(broken, fault.nan_to_num().numpy(), G * np.cosh(4 * v))

    _, i_out = exact(current, conductance, WIRES, V, G.shape)
    solution = solve(Faulty(Sinh(torch.tensor(G), 4.0), fault), torch.tensor(V), Wires(**WIRES), rtol=TIGHT)
    np.testing.assert_allclose(solution.i_out, i_out, rtol=0, atol=EXACT * np.abs(i_out).max())


def test_a_cut_line_is_a_segment_of_a_gigaohm() -> None:
    r_wl = torch.full((6, 4), 2.0, dtype=torch.float64)
    r_wl[3, 1] = 1e9
    wires = {**WIRES, "r_wl": r_wl.numpy()}
    _, i_out = exact(lambda v: G * np.sinh(4 * v) / 4, lambda v: G * np.cosh(4 * v), wires, V, G.shape)
    solution = solve(Sinh(torch.tensor(G), 4.0), torch.tensor(V), Wires(**{**WIRES, "r_wl": r_wl}), rtol=1e-8)
    np.testing.assert_allclose(solution.i_out, i_out, rtol=0, atol=1e-7 * np.abs(i_out).max())


def test_unusable_elements_are_refused() -> None:
    for make in (lambda: Transistor(-1.0, 1.0), lambda: Threshold(0.0, 1.0)):
        with pytest.raises(ParameterError, match="unusable"):
            make()
    with pytest.raises(ParameterError, match="fault"):
        Faulty(Ohmic(torch.ones(2, 2)), -torch.ones(2, 2))
