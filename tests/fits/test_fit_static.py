"""Static fits: the current at states that stay, ready for a lookup table."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import Lut, Trace, parameter_set
from devicelab.errors import ParameterError, ShapeError, TraceError
from fits import fit_static

V = np.linspace(-0.6, 0.6, 61)
STATES = [0.05, 0.4, 0.9]


def curves(name: str, noise: float = 0.01) -> list[tuple[np.ndarray, np.ndarray]]:
    rng, model = np.random.default_rng(1), parameter_set(name)
    return [(V, np.asarray(model.current(V, x)) * (1 + noise * rng.normal(size=V.size))) for x in STATES]


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("mms_knowm", ("r_on", "r_off")),
        ("stanford_default", ("i0", "g0", "v0")),
        ("nonlinear_drift_team_paper", ("beta", "alpha", "chi", "gamma", "n")),
        ("data_driven_2021", ("a_p", "a_n", "b_p", "b_n")),
        ("yakopcic_two_branch_example", ("gmax_p", "gmax_n", "gmin_p", "gmin_n")),
        ("simmons_pickett", ("j0",)),
    ],
)
def test_the_current_of_any_model_is_recovered_at_known_states(name: str, names: tuple[str, ...]) -> None:
    truth = parameter_set(name)
    result = fit_static(truth, curves(name), x=STATES)
    assert {e.name for e in result.estimates} == set(names) | (
        {"bmax_p", "bmax_n", "bmin_p", "bmin_n"} if "two_branch" in name else set()
    )
    for e in result.estimates:
        true = float(getattr(truth, e.name))
        assert abs(e.value - true) < 2 * max(e.high - e.value, e.value - e.low), result.report()  # four sigma
        assert e.value == pytest.approx(true, rel=0.1)
    assert result.x0 == STATES


def test_a_single_curve_makes_a_table() -> None:
    truth = parameter_set("vteam_pt_hf_ti").replace(b_on=1.5)
    rng = np.random.default_rng(0)
    i = np.asarray(truth.current(V, 1.0)) * (1 + 0.01 * rng.normal(size=V.size))
    shuffled = rng.permutation(V.size)
    result = fit_static(truth.replace(r_on=1e3, b_on=0.0), (V[shuffled], i[shuffled]), x=1.0, fixed=["r_off", "b_off"])
    assert result.model.r_on == pytest.approx(truth.r_on, rel=0.01)
    assert result.model.b_on == pytest.approx(1.5, rel=0.05)
    table = Lut.from_model(result.model, 0.6)
    np.testing.assert_allclose(table.current(0.37, 1.0), truth.current(0.37, 1.0), rtol=0.02)


def test_states_that_are_not_known_are_fitted_and_what_trades_off_is_said() -> None:
    """Where R is linear in x, three curves fix three values: two ends and three states are two too many."""
    result = fit_static(parameter_set("vteam_pt_hf_ti"), curves("vteam_pt_hf_ti"))
    assert result.metrics["nrmse"] < 0.02
    assert sum("determined" in e.note for e in result.estimates) >= 2


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": None, "curves": (V, V)}, ParameterError, "single curve cannot tell its state"),
        ({"x": [0.1, 0.2], "curves": (V, V)}, ShapeError, "differ in number"),
        ({"x": 1.5, "curves": (V, V)}, ParameterError, "state is out of bounds"),
        ({"curves": []}, TraceError, "no curve"),
        ({"curves": (V, 0 * V)}, TraceError, "no current"),
        ({"curves": (V, V[:-1])}, ShapeError, "one current for each voltage"),
        ({"curves": (V, np.full_like(V, np.nan))}, TraceError, "not finite"),
        ({"curves": (V[:3] + 1, V[:3] + 1)}, TraceError, "fewer samples than parameters"),
        ({"curves": (V, V), "vary": []}, ParameterError, "nothing is left to fit"),
        ({"curves": (V, -V)}, TraceError, "no sample to fit"),
    ],
)
def test_impossible_static_fits_are_refused(change: dict, error: type, message: str) -> None:
    arguments = {"x": 1.0, **change}
    with pytest.raises(error, match=message):
        fit_static(parameter_set("vteam_pt_hf_ti"), **arguments)


def test_a_trace_serves_as_a_curve() -> None:
    truth = parameter_set("mms_knowm")
    trace = Trace(np.arange(61.0), V, np.asarray(truth.current(V, 0.5)))
    assert fit_static(truth, trace, x=0.5, fixed=["r_off"]).model.r_on == pytest.approx(truth.r_on, rel=1e-3)
