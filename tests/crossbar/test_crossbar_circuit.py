"""The engine against exact nodal analysis, closed forms and ngspice."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pytest
import torch
from crossbar_oracle import exact

import crossbar
from crossbar import Bias, Ohmic, Sinh, Wires, effective_conductance, solve

LINEAR = 1e-9  # float64 rounding times the condition of the oracle's matrix (1e9 for its 1e-9 ohm shorts)
TIGHT = 1e-10  # rtol asked of the iteration where its answer is compared at 1e-9 or better
SINGLE = 2e-6  # float32 output: rounding 6e-8 summed over 32 rows


def array(m: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Conductances [S] over three decades, [m, n], and word-line voltages [V], [m]."""
    rng = np.random.default_rng(seed)
    return 10 ** rng.uniform(-6, -3, (m, n)), rng.uniform(-0.2, 0.3, m)


def relative(i: torch.Tensor, expected: np.ndarray) -> float:
    """Largest error relative to the largest current."""
    return float(np.abs(np.asarray(i.detach()) - expected).max() / np.abs(expected).max())


WIRES = {
    "usual": {"r_wl": 1.0, "r_bl": 2.0, "r_source": 0.5, "r_sense": 3.0},
    "word only": {"r_wl": 5.0, "r_bl": 0.0, "r_source": 0.0, "r_sense": 0.0},
    "bit only": {"r_wl": 0.0, "r_bl": 5.0, "r_source": 0.0, "r_sense": 0.0},
    "terminals only": {"r_wl": 0.0, "r_bl": 0.0, "r_source": 100.0, "r_sense": 50.0},
    "strong": {"r_wl": 50.0, "r_bl": 50.0, "r_source": 50.0, "r_sense": 50.0},
}
BOTH_ENDS = {**WIRES["usual"], "r_source_right": 0.7, "r_sense_top": 1.5}
OTHER_ENDS = {**WIRES["usual"], "r_source": np.inf, "r_source_right": 0.7, "r_sense": np.inf, "r_sense_top": 1.5}


@pytest.mark.parametrize("wires", WIRES.values(), ids=WIRES.keys())
@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 7), (7, 1), (5, 8), (16, 12), (32, 32)])
@pytest.mark.parametrize("method", ["elimination", "newton"])
def test_linear_array_equals_the_exact_nodal_solution(m: int, n: int, wires: dict[str, float], method: str) -> None:
    g, v = array(m, n)
    v_cell, i_out = exact(lambda u: g * u, lambda u: g, wires, v, (m, n))
    solution = solve(Ohmic(torch.tensor(g)), torch.tensor(v), Wires(**wires), rtol=TIGHT, method=method)
    assert relative(solution.i_out, i_out) < LINEAR
    assert relative(solution.v_cell, v_cell) < LINEAR
    assert solution.residual < LINEAR


@pytest.mark.parametrize("wires", [*WIRES.values(), BOTH_ENDS, OTHER_ENDS])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, LINEAR), (torch.float32, SINGLE)])
def test_sinh_array_equals_the_exact_nodal_solution(
    wires: dict[str, float], dtype: torch.dtype, tolerance: float
) -> None:
    g, v = array(24, 20)
    b = 8.0
    v_cell, i_out = exact(lambda u: g * np.sinh(b * u) / b, lambda u: g * np.cosh(b * u), wires, v, g.shape)
    cells = Sinh(torch.tensor(g, dtype=dtype), b)
    solution = solve(cells, torch.tensor(v), Wires(**wires), rtol=TIGHT if dtype == torch.float64 else 1e-7)
    assert solution.i_out.dtype == dtype
    assert relative(solution.i_out, i_out) < tolerance
    assert relative(solution.v_cell, v_cell) < tolerance


@pytest.mark.parametrize(("wl", "bl"), [((1, 2, 5), ()), ((), (0, 3)), ((0, 1, 2, 3), (1, 2, 3, 4)), (range(6), ())])
def test_floating_lines_take_the_potential_that_carries_no_net_current(
    wl: Collection[int], bl: Collection[int]
) -> None:
    m, n = 6, 5
    g, v = array(m, n)
    v_bl = np.linspace(-0.1, 0.2, n)
    b = 5.0
    floating = {"floating_wl": tuple(wl), "floating_bl": tuple(bl), "v_bl": v_bl}
    wires = WIRES["usual"]
    v_cell, i_out = exact(lambda u: g * np.sinh(b * u) / b, lambda u: g * np.cosh(b * u), wires, v, (m, n), **floating)
    mask_wl, mask_bl = (torch.isin(torch.arange(k), torch.tensor(list(lines))) for k, lines in ((m, wl), (n, bl)))
    bias = Bias(torch.tensor(v), torch.tensor(v_bl), mask_wl, mask_bl)
    solution = solve(Sinh(torch.tensor(g), b), bias, Wires(**wires), rtol=TIGHT)
    assert relative(solution.v_cell, v_cell) < LINEAR
    assert relative(solution.i_out, i_out) < LINEAR


@pytest.mark.slow
@pytest.mark.parametrize("n", [128, 256])
def test_large_sinh_array_equals_the_exact_nodal_solution(n: int) -> None:
    g, v = array(n, n)
    b = 6.0
    v_cell, i_out = exact(lambda u: g * np.sinh(b * u) / b, lambda u: g * np.cosh(b * u), WIRES["usual"], v, (n, n))
    solution = solve(Sinh(torch.tensor(g), b), torch.tensor(v), Wires(**WIRES["usual"]))
    assert relative(solution.i_out, i_out) < 1e-6  # the default rtol
    assert relative(solution.v_cell, v_cell) < 1e-6


def test_one_cell_is_a_voltage_divider() -> None:
    g, wires = 1e-3, Wires(r_source=200.0, r_sense=300.0)
    solution = solve(Ohmic(torch.tensor([[g]], dtype=torch.float64)), torch.tensor([1.0]), wires)
    assert solution.i_out.item() == pytest.approx(1 / (1 / g + 500), rel=LINEAR)


def test_two_by_two_sneak_path_in_closed_form() -> None:
    """Word line 1 and bit line 0 float: three cells in series shunt the cell (0, 1)."""
    g = torch.tensor([[1e-4, 2e-4], [3e-4, 5e-4]], dtype=torch.float64)
    bias = Bias(torch.tensor([1.0, 0.0]), None, torch.tensor([False, True]), torch.tensor([True, False]))
    sneak = 1 / (1 / 1e-4 + 1 / 3e-4 + 1 / 5e-4)
    i_out = solve(Ohmic(g), bias).i_out
    assert i_out[1].item() == pytest.approx(2e-4 + sneak, rel=LINEAR)
    assert i_out[0].item() == pytest.approx(0.0, abs=1e-15)


def test_ladder_in_closed_form() -> None:
    """One word line of n equal cells into ideal bit lines is a uniform ladder: v_k ~ cosh((n - 1/2 - k) theta)."""
    n, g, r = 9, 1e-3, 40.0
    theta = 2 * np.arcsinh(np.sqrt(r * g) / 2)
    expected = g * np.cosh((n - 0.5 - np.arange(n)) * theta) / np.cosh((n + 0.5) * theta)
    cells = Ohmic(torch.full((1, n), g, dtype=torch.float64))
    i_out = solve(cells, torch.ones(1, dtype=torch.float64), Wires(r_wl=r, r_source=r)).i_out
    np.testing.assert_allclose(i_out, expected, rtol=LINEAR)


@pytest.mark.parametrize("shrink", [1e-3, 1e-6, 0.0])
def test_vanishing_wires_recover_the_ideal_product(shrink: float) -> None:
    g, v = array(8, 8)
    wires = Wires(*(shrink * r for r in (1.0, 2.0, 0.5, 3.0)))
    ideal = v @ g
    assert relative(torch.tensor(v) @ effective_conductance(torch.tensor(g), wires), ideal) <= 0.1 * shrink + 1e-15
    assert relative(solve(Ohmic(torch.tensor(g)), torch.tensor(v), wires).i_out, ideal) <= 0.1 * shrink + 1e-15


def test_tiles_and_batches_are_independent() -> None:
    g, _ = array(3 * 6, 5)
    g = torch.tensor(g).reshape(3, 6, 5)
    v = torch.tensor(np.random.default_rng(1).uniform(0, 0.3, (3, 4, 6)))
    wires = Wires(**WIRES["usual"])
    together = solve(Sinh(g, 4.0), v, wires, rtol=TIGHT)
    assert together.v_cell.shape == (3, 4, 6, 5)
    for tile in range(3):
        for k in range(4):
            alone = solve(Sinh(g[tile], 4.0), v[tile, k], wires, rtol=TIGHT)
            assert relative(together.i_out[tile, k], alone.i_out.numpy()) < LINEAR
    linear = effective_conductance(g, wires)
    torch.testing.assert_close(linear[1], effective_conductance(g[1], wires), rtol=LINEAR, atol=0)


def test_public_names() -> None:
    assert {name for name in dir(crossbar) if name[0].isupper()} >= {
        "Bias",
        "Cells",
        "LutCells",
        "ModelCells",
        "Ohmic",
        "Sinh",
        "Solution",
        "Wires",
    }


@pytest.mark.parametrize("shape", [(2, 140, 150), (9, 70), (70, 9)])
@pytest.mark.parametrize("ohm", [0.0, 1e-3, 1.0, 50.0])
def test_elimination_finds_the_same_with_and_without_gradients(shape: tuple[int, ...], ohm: float) -> None:
    """Two ways of computing: LAPACK with gradients, sweeps in place without."""
    g = torch.tensor(10 ** np.random.default_rng(0).uniform(-6, -3, shape))
    r_wl = torch.full((shape[-2], 1), ohm, dtype=torch.float64).squeeze(-1) if ohm == 1e-3 else ohm
    wires = Wires(r_wl, 2.0, 0.5, 3.0)
    plain = effective_conductance(g, wires)
    recorded = effective_conductance(g.clone().requires_grad_(), wires).detach()
    torch.testing.assert_close(plain, recorded, rtol=0, atol=1e-11 * recorded.abs().max().item())  # rounding


@pytest.mark.parametrize("m", [1, 2, 7, 64, 128])
def test_compiled_inverse(m: int) -> None:
    invert = pytest.importorskip("crossbar.inverse").invert
    b = np.random.default_rng(m).normal(size=(3, m, m))
    a = np.eye(m) + b @ b.mT if hasattr(b, "mT") else np.eye(m) + b @ b.swapaxes(1, 2)
    a[2] -= 2 * np.eye(m) * a[2].max()  # not positive definite
    found = np.tril(a) + np.triu(np.full((m, m), np.nan), 1) if m > 1 else a.copy()
    invert(found)
    np.testing.assert_allclose(found[:2], np.linalg.inv(a[:2]), rtol=0, atol=1e-12)  # of norm at most 1
    assert np.isnan(found[2]).all()
