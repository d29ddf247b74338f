"""Cells: lookup tables and models at the crossings, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from crossbar_oracle import exact
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from crossbar import LutCells, ModelCells, Ohmic, Sinh, Wires, effective_conductance, solve
from devicelab.errors import ConvergenceError, LutError, ParameterError, ShapeError

LOW_RANK = 1e-8  # the table's own truncation is 1e-9 of each row's largest current
USUAL = {"r_wl": 1.0, "r_bl": 2.0, "r_source": 0.5, "r_sense": 3.0}


@dataclass
class Table:
    voltage: np.ndarray
    state: np.ndarray
    table: np.ndarray

    @property
    def slope(self) -> np.ndarray:
        return PchipInterpolator(self.voltage, self.table, axis=1).derivative()(self.voltage)


def two_branch_table(v_max: float = 0.5) -> Table:
    """A filament and a tunnel gap in parallel, with unequal branches and an uneven voltage grid."""
    voltage = np.concatenate([np.linspace(-v_max, 0, 12), np.geomspace(0.02, v_max, 15)])
    state = np.array([0.0, 0.2, 0.5, 1.0])
    g, tunnel = 1e-4 * state[:, None] ** 2 + 1e-6, 2e-6 * (1 - 0.5 * state[:, None])
    return Table(voltage, state, g * voltage + tunnel * (np.exp(4 * voltage) - 1) + tunnel * np.sinh(6 * voltage))


def interpolate(table: Table, v: np.ndarray, x: np.ndarray, derivative: int = 0) -> np.ndarray:
    """The table's own rule, by scipy: PCHIP in voltage, linear in state."""
    rows = np.stack([PchipInterpolator(table.voltage, row)(v, nu=derivative) for row in table.table])
    k = np.clip(np.searchsorted(table.state, x, side="right") - 1, 0, len(table.state) - 2)
    t = (x - table.state[k]) / (table.state[k + 1] - table.state[k])
    pick = lambda k: np.take_along_axis(rows, k[None], axis=0)[0]  # noqa: E731
    return (1 - t) * pick(k) + t * pick(k + 1)


@pytest.fixture
def states() -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 1, (12, 10))


@pytest.fixture
def inputs() -> np.ndarray:
    return np.random.default_rng(4).uniform(-0.3, 0.4, 12)


def test_low_rank_table_is_the_interpolation_rule(states: np.ndarray) -> None:
    table = two_branch_table()
    cells = LutCells(table, torch.tensor(states))
    v = np.random.default_rng(5).uniform(-0.5, 0.5, (12, 10))
    i, g = cells.current_and_conductance(torch.tensor(v)[None])
    np.testing.assert_allclose(i[0], interpolate(table, v, states), rtol=0, atol=LOW_RANK * np.abs(table.table).max())
    slope = interpolate(table, v, states, derivative=1)
    np.testing.assert_allclose(g[0], slope, rtol=0, atol=LOW_RANK * slope.max())


def test_separable_table_has_rank_one() -> None:
    voltage, state = np.linspace(-0.5, 0.5, 41), np.linspace(0, 1, 9)
    table = Table(voltage, state, (1e-6 + 1e-4 * state[:, None] ** 2) * np.sinh(5 * voltage))
    assert LutCells(table, torch.full((2, 2), 0.3)).rank == 1


@pytest.mark.parametrize("wires", [USUAL, dict.fromkeys(USUAL, 0.0)], ids=["wires", "ideal"])
def test_table_in_an_array_equals_the_exact_nodal_solution(
    wires: dict[str, float], states: np.ndarray, inputs: np.ndarray
) -> None:
    table = two_branch_table()
    v_cell, i_out = exact(
        lambda v: interpolate(table, v, states),
        lambda v: interpolate(table, v, states, derivative=1),
        wires,
        inputs,
        states.shape,
    )
    solution = solve(LutCells(table, torch.tensor(states)), torch.tensor(inputs), Wires(**wires), rtol=1e-10)
    np.testing.assert_allclose(solution.i_out, i_out, rtol=LOW_RANK, atol=LOW_RANK * np.abs(i_out).max())
    np.testing.assert_allclose(solution.v_cell, v_cell, rtol=0, atol=LOW_RANK)


class Exponential:
    """i = 1e-4 x v + 1e-7 (exp(10 v) - 1): not odd in voltage, no closed derivative given."""

    def current(self, v: Tensor, x: Tensor) -> Tensor:
        return 1e-4 * x * v + 1e-7 * torch.expm1(10 * v)


def test_model_in_an_array_equals_the_exact_nodal_solution(states: np.ndarray, inputs: np.ndarray) -> None:
    v_cell, _ = exact(
        lambda v: 1e-4 * states * v + 1e-7 * np.expm1(10 * v),
        lambda v: 1e-4 * states + 1e-6 * np.exp(10 * v),
        USUAL,
        inputs,
        states.shape,
    )
    solution = solve(ModelCells(Exponential(), torch.tensor(states)), torch.tensor(inputs), Wires(**USUAL), rtol=1e-10)
    np.testing.assert_allclose(solution.v_cell, v_cell, rtol=0, atol=1e-10)


def test_gradients_reach_states_and_the_table() -> None:
    base = two_branch_table()
    x = torch.tensor(np.random.default_rng(6).uniform(0.05, 0.95, (3, 2)), requires_grad=True)
    values = torch.tensor(base.table, requires_grad=True)

    class Trainable:
        voltage, state, slope = base.voltage, base.state, base.slope
        table: Tensor

    def currents(values: Tensor, x: Tensor) -> Tensor:
        lut = Trainable()
        lut.table = values * torch.tensor(base.voltage != 0)  # the column at 0 V is not free
        return 1e4 * solve(LutCells(lut, x), torch.tensor([0.3, -0.2, 0.1]), Wires(100.0, 100.0), rtol=1e-12).i_out

    assert torch.autograd.gradcheck(currents, (1.0 * values, x), eps=1e-9, atol=1e-4, rtol=1e-4)


def test_cells_beyond_the_table_are_refused_with_the_range_needed(states: np.ndarray) -> None:
    cells = LutCells(two_branch_table(v_max=0.2), torch.tensor(states))
    v = torch.full((12,), 0.3)
    for wires in (None, Wires(**USUAL)):
        with pytest.raises(LutError, match=r"outside the voltages(.|\n)*0\.\d+ V"):
            solve(cells, v, wires)


def test_unusable_tables_are_refused(states: np.ndarray) -> None:
    falling = two_branch_table()
    falling.table = falling.table * np.cos(4 * falling.voltage)
    with pytest.raises(LutError, match="falls with voltage"):
        LutCells(falling, torch.tensor(states))
    biased = two_branch_table()
    biased.table = biased.table + 1e-9
    with pytest.raises(LutError, match="not zero at 0 V"):
        LutCells(biased, torch.tensor(states))
    short = two_branch_table()
    short.state = 0.5 * short.state
    with pytest.raises(LutError, match="states outside"):
        LutCells(short, torch.tensor(states))


GOOD = torch.full((3, 2), 1e-4)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ParameterError, "line resistance r_wl", lambda: Wires(r_wl=-1.0)),
        (ParameterError, "line resistance r_bl", lambda: Wires(r_bl=float("nan"))),
        (ParameterError, "conductance g", lambda: Ohmic(-GOOD)),
        (ParameterError, "conductance g", lambda: Sinh(GOOD * float("nan"), 1.0)),
        (ParameterError, "non-linearity b", lambda: Sinh(GOOD, -1.0)),
        (ShapeError, "b does not fit g", lambda: Sinh(GOOD, torch.ones(4, 4))),
        (ParameterError, "state x", lambda: LutCells(two_branch_table(), GOOD + 1.0)),
        (ShapeError, "one value for each cell", lambda: Ohmic(torch.ones(3))),
        (ShapeError, "v_wl does not fit", lambda: solve(Ohmic(GOOD), torch.ones(2))),
        (ParameterError, "v_wl holds values", lambda: solve(Ohmic(GOOD), torch.tensor([1.0, float("nan"), 0.0]))),
        (ShapeError, "r_wl does not fit", lambda: solve(Ohmic(GOOD), torch.ones(3), Wires(r_wl=torch.ones(5)))),
        (ParameterError, "unknown method", lambda: solve(Ohmic(GOOD), torch.ones(3), method="magic")),
        (ParameterError, "cannot solve", lambda: solve(Sinh(GOOD, 1.0), torch.ones(3), method="elimination")),
        (ParameterError, "rtol", lambda: solve(Ohmic(GOOD), torch.ones(3), rtol=0.0)),
        (ParameterError, "conductance g", lambda: effective_conductance(-GOOD, Wires(1.0, 1.0))),
    ],
)
def test_bad_input_is_named(error: type[Exception], message: str, call: object) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


class Falling:
    """A cell with negative differential resistance and a jump: no Newton method gets anywhere."""

    def current(self, v: Tensor, x: Tensor) -> Tensor:
        return 1e-2 * x * torch.where(torch.sin(1e4 * v) > 0, v + 1.0, v)


def test_no_solution_is_an_error_and_not_a_number(states: np.ndarray) -> None:
    with pytest.raises(ConvergenceError, match=r"residual \S+ after \d+"):
        solve(ModelCells(Falling(), torch.tensor(states)), torch.full((12,), 0.3), Wires(50.0, 50.0))
