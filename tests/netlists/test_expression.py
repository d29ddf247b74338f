"""The symbolic scalar writes what Python would compute."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

import netlists
from devicelab import VTEAM, WINDOWS, parameter_set, parameter_sets
from devicelab.errors import ParameterError
from devicelab.ops import NUMPY
from netlists.expression import SPICE, Expression, SpiceOps, number, plain

spice = pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")

DIGITS = 1e-9
"""ngspice reprints every number of a B-source with 11 digits; a few of them meet in one expression."""

U = Expression("u")


def test_a_value_cannot_be_asked_for_its_truth() -> None:
    with pytest.raises(TypeError, match=r"must not branch on values, use ops\.select"):
        bool(U)
    with pytest.raises(TypeError):
        max(U, 0.0)  # compares


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (U - (U - 1.0), "u - (u - 1.0)"),
        (U / (2.0 * U), "u / (2.0 * u)"),
        (-U * U, "(-u) * u"),
        (U * -0.5, "u * (-0.5)"),
        (1.0 - U, "1.0 - u"),
        (np.float64(2.0) * U, "2.0 * u"),
        (U**2, "u * u"),
        (SPICE.power(SPICE.relu(U), 3.0), "(u > 0 ? pow(u, 3.0) : 0.0)"),
    ],
)
def test_text_keeps_the_order_of_operations(made: Expression, text: str) -> None:
    assert str(made) == text


def test_neutral_elements_leave_no_trace_in_the_text() -> None:
    assert 0.0 * U == 0.0
    assert 1.0 * U is U
    assert U + 0.0 is U
    assert 1.0 + 0.0 * U == 1.0


def test_named_values_and_solved_equations_become_nodes_once() -> None:
    ops = SpiceOps("c_")
    long = U * U + U * U + U * U + U * U + U * U
    assert ops.let(U) is U
    assert str(ops.let(long)) == str(ops.let(long)) == "V(c_l0)"

    def law(y: Expression) -> Expression:
        return 1.0 - ops.let(long * y)

    assert str(ops.fixed_point(law, 0.0, -1.0, 1.0)) == str(ops.fixed_point(law, 0.5, -1.0, 1.0)) == "V(c_y0)"
    assert str(ops.fixed_point(lambda y: 2.0 - y, 0.0, -1.0, 1.0)) == "V(c_y1)"
    assert [line.split()[0] for line in ops.elements] == ["Bc_l0", "Bc_l1", "Bc_y0", "Bc_y1"]
    assert ops.elements[2] == "Bc_y0 c_y0 0 V=1.0 - V(c_l1)"


def test_a_bare_power_is_refused_because_ngspice_takes_the_absolute_base() -> None:
    with pytest.raises(TypeError, match=r"write ops\.power"):
        U**3


def test_numbers_keep_all_digits_and_use_no_suffix() -> None:
    assert number(1e6) == "1000000.0"  # 1M would be a milli
    assert float(number(math.pi)) == math.pi
    with pytest.raises(ParameterError, match="not finite"):
        number(math.inf)


def evaluate(expressions: list[str], elements: tuple[str, ...] = ()) -> np.ndarray:
    lines = [*elements, *(f"Be{k} n{k} 0 V={text}" for k, text in enumerate(expressions))]
    result = netlists.run(
        "\n".join(["* values", "V1 one 0 1", "R1 one 0 1", *lines, ".options reltol=1e-10 vntol=1e-12", ".op", ".end"])
    )
    return np.array([result[f"v(n{k})"][0] for k in range(len(expressions))])


@spice
@pytest.mark.spice
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sinh", "tanh", "abs", "sinhc", "relu"])
def test_functions_equal_numpy(name: str) -> None:
    values = [1e-9, 0.3, 2.5, 30.0] if name in ("log", "sqrt") else [-30.0, -0.3, -1e-7, 0.0, 1e-9, 1e-3, 2.5, 30.0]
    texts = [plain(getattr(SPICE, name)(Expression(f"({value!r}*V(one))"))) for value in values]
    expected = [float(getattr(NUMPY, name)(np.float64(value))) for value in values]
    np.testing.assert_allclose(evaluate(texts), expected, rtol=DIGITS, atol=1e-14)


@spice
@pytest.mark.spice
def test_power_is_zero_below_zero_and_has_no_infinite_derivative_at_zero() -> None:
    texts = [plain(SPICE.power(Expression(f"({value}*V(one))"), 0.3)) for value in ("(-2)", "0", "1e-20", "2")]
    np.testing.assert_allclose(evaluate(texts), [0.0, 0.0, 1e-6, 2**0.3], rtol=DIGITS)


@spice
@pytest.mark.spice
def test_functions_stay_finite_far_outside_their_range() -> None:
    far = [Expression(f"({value}*V(one))") for value in ("1e4", "(-1e4)")]
    values = evaluate([plain(getattr(SPICE, name)(u)) for name in ("exp", "sinh", "tanh", "sinhc") for u in far])
    assert np.isfinite(values).all()


@spice
@pytest.mark.spice
def test_select_takes_the_branch_that_numpy_takes() -> None:
    cases = [("(-1*V(one))", 3.0), ("(0*V(one))", 3.0), ("(1*V(one))", 2.0)]
    texts = [plain(SPICE.select(Expression(u), 2.0, 3.0)) for u, _ in cases]
    assert evaluate(texts).tolist() == [value for _, value in cases]


@spice
@pytest.mark.spice
@pytest.mark.parametrize(
    ("name", "window"),
    [(name, "biolek") for name in parameter_sets()] + [("vteam_memtorch", window) for window in WINDOWS],
)
def test_equations_in_ngspice_equal_those_in_numpy_on_random_points(name: str, window: str) -> None:
    model = parameter_set(name).replace(window=WINDOWS[window](), polarity=1)
    if isinstance(model, VTEAM):
        model = model.replace(b_on=0.5, b_off=2.5, resistance="exponential")
    rng = np.random.default_rng(1)
    points = list(zip(rng.uniform(-1.5, 1.5, 30).tolist(), rng.uniform(0, 1, 30).tolist(), strict=True))
    points += list(itertools.product([-1.0, 0.0, 1.0], [0.0, 1.0]))
    leaves = [(Expression(f"({v!r}*V(one))"), Expression(f"({x!r}*V(one))")) for v, x in points]
    law = {"current": model._current, "rate": model._rate}
    for quantity, expected in (("current", model.current), ("rate", model.rate)):
        each = [SpiceOps(f"p{k}_") for k in range(len(leaves))]
        texts = [plain(law[quantity](v, x, ops)) for (v, x), ops in zip(leaves, each, strict=True)]
        wanted = np.array([float(expected(v, x)) for v, x in points])
        floor = DIGITS * np.abs(wanted).max()  # differences of nearly equal numbers, such as 1 - x^p at the ends
        elements = tuple(line for ops in each for line in ops.elements)
        np.testing.assert_allclose(evaluate(texts, elements), wanted, rtol=1e-8, atol=floor, err_msg=quantity)
