"""Random arrays by the thousand, most of them unreasonable: a solution obeys Kirchhoff and conserves energy, or raises.

Both laws are checked here with their own arithmetic, from the cell voltages alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from crossbar import Bias, Cells, LutCells, Ohmic, Sinh, Solution, Wires, solve
from devicelab import Lut, parameter_set
from devicelab.errors import ConvergenceError

TILES, VECTORS = 20, 2
RTOL = 1e-6
KIRCHHOFF = 1.5e-6  # RTOL and the rounding of this check
ENERGY = 1e-5  # a sum over all cells of errors that are RTOL on the worst line
ROUNDING = 1e-6  # currents this much smaller than ideal lines would carry are differences of rounded voltages
Array = np.ndarray


def resistances(rng: np.random.Generator, per_line: tuple[int, ...], per_segment: tuple[int, ...] | None = None) -> Any:
    """0, a number, or one for each line or segment with some of them 0, up to 1 kohm."""
    kind = rng.integers(4)
    if kind == 0:
        return 0.0
    if kind == 1:
        return float(10 ** rng.uniform(-3, 3))
    shape = per_segment if kind == 2 and per_segment else per_line
    return torch.tensor(10 ** rng.uniform(-3, 3, shape) * (rng.random(shape) > 0.2))


def wires(rng: np.random.Generator, m: int, n: int) -> Wires:
    word_ends, bit_ends = rng.integers(3, size=2)  # first, second, or both
    return Wires(
        resistances(rng, (m,), (m, n - 1)),
        resistances(rng, (n,), (m - 1, n)),
        r_source=np.inf if word_ends == 1 else resistances(rng, (m,)),
        r_source_right=resistances(rng, (m,)) if word_ends else np.inf,
        r_sense=np.inf if bit_ends == 1 else resistances(rng, (n,)),
        r_sense_top=resistances(rng, (n,)) if bit_ends else np.inf,
    )


def bias(rng: np.random.Generator, m: int, n: int, v: float) -> Bias:
    floats = [torch.tensor(rng.random(k) < (0.5 if rng.random() < 0.4 else 0.0)) for k in (m, n)]
    if floats[0].all() and floats[1].all():
        floats[0][0] = False
    v_bl = torch.tensor(rng.uniform(-v, v, (VECTORS, n))) if rng.random() < 0.5 else None
    return Bias(torch.tensor(rng.uniform(-v, v, (VECTORS, m))), v_bl, *floats)


def array(rng: np.random.Generator, m: int, n: int) -> tuple[Cells, Array, float]:
    """Cells over seven decades, open ones and shorts among them; linear to sinh(20 v)."""
    g = 10 ** rng.uniform(-9, -2, (TILES, m, n))
    if rng.random() < 0.2:
        g *= rng.random(g.shape) > 0.3
    if rng.random() < 0.1:
        g[:] = 1e3
    b = float(rng.choice([0.0, 1.0, 5.0, 20.0]))
    ohmic = b == 0 and rng.random() < 0.5
    return (Ohmic(torch.tensor(g)) if ohmic else Sinh(torch.tensor(g), b)), g, b


def assert_laws(solution: Solution, applied: Bias, g: Array, b: float, name: str) -> None:
    v = solution.v_cell.numpy()
    g = g[:, None]
    i, d = (g * v, g) if b == 0 else (g / b * np.sinh(b * v), g * np.cosh(b * v))

    def largest_line(a: Array) -> Array:
        return np.maximum(np.abs(a).sum(-1).max(-1), np.abs(a).sum(-2).max(-1))

    top = max(np.abs(a.numpy()).max() for a in (applied.v_wl, applied.v_bl) if a is not None)
    scale = np.maximum(largest_line(i), ROUNDING * top * largest_line(d * np.ones_like(v))) + 1e-300
    nodes, power = solution.nodes(), solution.power()
    kirchhoff = largest_line(d * ((nodes.word - nodes.bit).numpy() - v)) / scale
    assert (kirchhoff < KIRCHHOFF).all(), f"{name}: Kirchhoff's law off by {kirchhoff.max():.2g}"
    for mask, axis in ((applied.floating_wl, -1), (applied.floating_bl, -2)):
        net = np.abs(i.sum(axis))[..., mask.numpy()] if mask is not None else np.zeros((1, 1, 0))
        assert (net < KIRCHHOFF * scale[..., None]).all(), f"{name}: a floating line carries current"
    spent = (power.cells.sum((-1, -2)) + power.word_lines.sum(-1) + power.bit_lines.sum(-1)).numpy()
    lost = np.abs(power.supplied.numpy() - spent)
    assert (lost < ENERGY * np.maximum(spent, scale * top)).all(), f"{name}: energy is not conserved"


def survey(seed: int, stacks: int) -> int:
    """Solve and check `stacks` random stacks; the number of them that ended in an error."""
    rng = np.random.default_rng(seed)
    failures = 0
    for k in range(stacks):
        m, n = (int(size) for size in rng.integers(1, 9, 2))
        cells, g, b = array(rng, m, n)
        applied = bias(rng, m, n, 10 ** rng.uniform(-2, 1 if b < 6 else 0.3))
        lines = wires(rng, m, n)
        try:
            solution = solve(cells, applied, lines, rtol=RTOL)
        except ConvergenceError:
            failures += 1
            continue
        assert_laws(solution, applied, g, b, f"seed {seed}, stack {k}, {m}x{n}, b = {b}")
    return failures


def test_random_arrays_obey_the_laws_or_are_errors() -> None:
    assert survey(seed=0, stacks=40) <= 4  # of 1600 vectors through 800 arrays


@pytest.mark.slow
def test_thousands_of_random_arrays_obey_the_laws_or_are_errors() -> None:
    assert survey(seed=1, stacks=260) <= 8  # 5200 arrays; most errors are arrays whose every current is zero


def solved(g: Array, b: float, v: Array, wires: Wires) -> None:
    applied = Bias(torch.tensor(v)[None])
    cells = Sinh(torch.tensor(g)[None], b)
    solution = solve(cells, applied, wires, rtol=RTOL)
    assert_laws(solution, applied, g[None], b, "named case")


NAMED_WIRES = [Wires(1.0, 1.0, 1.0, 1.0), Wires(20.0, 20.0, 20.0, 20.0), Wires(0.0, 5.0, 0.0, 0.0)]


@pytest.mark.parametrize("lines", NAMED_WIRES)
@pytest.mark.parametrize("n", [4, 16])
class TestNamed:
    def test_conductances_over_nine_decades(self, n: int, lines: Wires) -> None:
        rng = np.random.default_rng(0)
        solved(10 ** rng.uniform(-10, -1, (n, n)), 3.0, rng.uniform(-1, 1, n), lines)

    def test_all_cells_shorted(self, n: int, lines: Wires) -> None:
        solved(np.full((n, n), 1e3), 3.0, np.random.default_rng(0).uniform(0, 1, n), lines)

    def test_all_cells_open(self, n: int, lines: Wires) -> None:
        solved(np.zeros((n, n)), 3.0, np.ones(n), lines)


@pytest.mark.parametrize("lines", NAMED_WIRES[:2])
@pytest.mark.parametrize("n", [4, 16])
def test_ten_volts_on_steep_cells(n: int, lines: Wires) -> None:
    """sinh(200) of ideal cells is 1e86: only the lines limit the current."""
    rng = np.random.default_rng(0)
    solved(10 ** rng.uniform(-6, -3, (n, n)), 20.0, rng.uniform(0.0, 10.0, n), lines)


def test_ten_volts_on_steep_cells_without_lines_to_limit_them_is_an_error() -> None:
    cells = Sinh(torch.full((16, 16), 1e-4, dtype=torch.float64), 20.0)
    with pytest.raises(ConvergenceError):
        solve(cells, torch.linspace(0, 10, 16), Wires(0.0, 5.0, 0.0, 0.0))


@pytest.mark.parametrize("wires", [Wires(), Wires(1.0, 1.0, 1.0, 1.0)], ids=["ideal lines", "lines"])
@pytest.mark.parametrize("kind", ["ohmic", "sinh", "table"])
def test_no_vectors_have_no_currents(kind: str, wires: Wires) -> None:
    x = torch.full((2, 3, 4), 0.5, dtype=torch.float64)
    cells: dict[str, Cells] = {
        "ohmic": Ohmic(1e-4 * x),
        "sinh": Sinh(1e-4 * x, 3.0),
        "table": LutCells(Lut.from_model(parameter_set("vteam_pt_hf_ti"), 0.6, tolerance=1e-3), x),
    }
    assert solve(cells[kind], x.new_zeros(0, 3), wires).i_out.shape == (2, 0, 4)
