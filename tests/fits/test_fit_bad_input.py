"""Traces that cannot determine a device: refused, or the result says what they could not tell."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import Trace, parameter_set, simulate, sine, triangle
from devicelab.errors import ConvergenceError, TraceError
from fits import FitResult, fit
from fits.problem import Problem

QUICK = {"screen": 256, "starts": 2}


def device() -> object:
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)


def noisy(i: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(1)
    return i + np.hypot(0.01 * i, 1e-4 * np.abs(i).max()) * rng.normal(size=i.shape)


def undetermined(result: FitResult) -> set[str]:
    return {e.name for e in result.estimates if "not determined" in e.note}


def test_a_resistor_is_not_taken_for_a_memristor() -> None:
    drive = triangle(1.0, 1.0, points=200)
    result = fit(device(), Trace(drive.t, drive.v, noisy(drive.v / 1e3)), **QUICK)
    assert any("no switching" in line for line in result.warnings)
    assert any("polarity" in line for line in result.warnings)
    assert "warning: no switching" in result.report()
    assert {"a_on", "a_off"} <= undetermined(result)


def test_a_single_branch_says_which_way_it_cannot_tell() -> None:
    drive = triangle(-1.0, 1.0, negative=0.0, points=200)
    trace = Trace(drive.t, drive.v, noisy(simulate(device(), drive, x0=0.05).i))
    result = fit(device(), trace, **QUICK)
    assert result.model.polarity == 1
    assert any("only negative voltages" in line and "SET" in line for line in result.warnings)
    assert {"v_off", "k_off", "a_off"} <= undetermined(result)
    assert "r_on" not in undetermined(result)


def test_one_ramp_cannot_tell_its_polarity() -> None:
    v = np.linspace(0.02, 1.0, 120)
    result = fit(device(), Trace(np.linspace(0, 1, 120), v, noisy(v / 2e3)), **QUICK)
    assert any("polarity" in line and "guess" in line for line in result.warnings)


def test_a_trace_held_by_its_compliance_throughout_is_refused() -> None:
    t = np.linspace(0.0, 1.0, 100)
    v = np.sign(np.sin(2 * np.pi * t) + 1e-9) * np.linspace(0.5, 1.0, 100)
    with pytest.raises(TraceError, match="no sample to fit"):
        fit(device(), Trace(t, v, 1e-4 * np.sign(v), meta={"compliance": 1e-4}))


def test_current_against_the_voltage_is_refused() -> None:
    drive = triangle(1.0, 1.0, points=200)
    with pytest.raises(TraceError, match=r"(?s)no sample to fit.*sign of the current"):
        fit(device(), Trace(drive.t, drive.v, -drive.v / 1e3))


@pytest.mark.parametrize("column", ["t", "v", "i"])
def test_values_that_are_not_finite_are_refused(column: str) -> None:
    drive = triangle(1.0, 1.0, points=40)
    columns = {"t": drive.t.copy(), "v": drive.v.copy(), "i": drive.v / 1e3}
    columns[column][5] = np.nan
    with pytest.raises(TraceError, match="not finite"):
        Trace(**columns)


def test_unsorted_samples_are_refused() -> None:
    drive = triangle(1.0, 1.0, points=40)
    order = np.random.default_rng(0).permutation(drive.t.size)
    with pytest.raises(TraceError, match="time does not increase"):
        Trace(drive.t[order], drive.v[order], drive.v[order] / 1e3)


def test_as_few_samples_as_parameters_are_refused() -> None:
    drive = sine(1.0, 0.5, points=10)
    with pytest.raises(TraceError, match="fewer samples than parameters"):
        fit(device(), simulate(device(), drive, x0=0.1))


def test_a_fit_that_runs_out_of_evaluations_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real descent, cut off after two evaluations each time, gets nowhere, and must say so."""
    whole = Problem.descend

    def short(self: Problem, start: np.ndarray, **options: object) -> object:
        return whole(self, start, **{**options, "most": 2})

    monkeypatch.setattr(Problem, "descend", short)
    drive = sine(1.0, 0.5, points=200)
    trace = Trace(drive.t, drive.v, noisy(simulate(device(), drive, x0=0.05).i))
    start = device().replace(r_on=10.0, r_off=1e6, v_on=-0.9, v_off=0.1)
    with pytest.raises(ConvergenceError, match=r"(?s)did not converge.*starts"):
        fit(device(), trace, start=start)
