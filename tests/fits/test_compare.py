"""Comparison of models: the one that made the traces wins, by AICc and on traces it has not seen."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from devicelab import VTEAM, Biolek, Model, NoWindow, Trace, simulate, triangle
from devicelab.errors import ConvergenceError, ParameterError
from fits import fit
from fits.compare import _splits, aicc, compare, glance, held_out, sweeps

NOISE = (0.02, 2e-8)
TRUTH = VTEAM(
    r_on=1e4, r_off=2e5, v_on=-0.6, v_off=0.5, k_on=20.0, k_off=8.0, a_on=3.0, a_off=2.0, resistance="exponential"
)
QUICK = {"noise": NOISE, "screen": 512, "starts": 4, "fixed": ["b_on", "b_off", "a_on", "a_off"]}


def measured(amplitude: float, seed: int, model: Model = TRUTH) -> Trace:
    ideal = simulate(model, triangle(-amplitude, 1.0, negative=amplitude, points=160), x0=0.1)
    sigma = np.hypot(NOISE[0] * ideal.i, NOISE[1])
    return Trace(ideal.t, ideal.v, ideal.i + sigma * np.random.default_rng(seed).normal(size=len(ideal)))


def traces() -> list[Trace]:
    return [measured(1.2, 1), measured(1.2, 2), measured(1.4, 3)]


def test_the_model_that_made_the_traces_wins() -> None:
    models = {"linear": TRUTH.replace(resistance="linear"), "true": TRUTH, "window": TRUTH.replace(window=Biolek(p=1))}
    found = compare(models, traces(), folds=2, **QUICK)
    assert found.rows[0].name == "true", found.report()
    assert found.by == "held-out error"
    assert min(found.rows, key=lambda row: row.aicc).name == "true"
    best = found.rows[0]
    # the residual of a trace not seen is the noise: chi of 160 samples scatters by 1/sqrt(320), two traces in a fold
    assert best.cycles is not None
    assert best.amplitudes is not None
    assert 0.8 < best.cycles["score"] < 1.3
    assert 0.8 < best.amplitudes["score"] < 2.0
    assert found.best.model.resistance == "exponential"  # type: ignore[attr-defined]
    assert "true" in found.report()
    assert found.table()[0]["AICc above least"] == 0
    assert isinstance(found.plot(), Figure)


def test_a_needless_parameter_costs_what_the_formula_says() -> None:
    trace = measured(1.2, 5)
    small = fit(TRUTH, trace, **QUICK)
    n, k = small.statistics["samples"], len(small.estimates) + 1
    expected = n * np.log(small.statistics["chisqr"] / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert aicc(small) == pytest.approx(expected, rel=1e-12)


def test_held_out_error_of_a_fitted_device_is_its_noise() -> None:
    result = fit(TRUTH, traces()[:2], **QUICK)
    hidden = held_out(result, measured(1.2, 9))
    assert hidden["score"] == pytest.approx(1.0, abs=0.25)
    assert hidden["nrmse"] < 0.03
    assert hidden["v_set_error"] < 0.06  # two samples of 30 mV
    assert hidden["v_reset_error"] < 0.12  # gradual: noise of 2 % moves its half current further
    assert held_out(result, measured(1.2, 9, TRUTH.replace(v_on=-0.7)))["v_set_error"] > 0.05
    # a device that SETs half a volt later is found out
    assert held_out(result, measured(1.2, 9, TRUTH.replace(v_on=-0.9)))["score"] > 5


def test_sweeps_are_told_apart_by_their_extremes() -> None:
    assert sweeps(traces()) == [[0, 1], [2]]


def test_no_trace_is_both_fitted_and_held_out() -> None:
    every = [*traces(), measured(1.2, 4), measured(1.4, 5)]
    seen: dict[str, list[int]] = {"cycles": [], "amplitudes": []}
    for kind, train, test in _splits(every, None, 2):
        assert not set(train) & set(test)
        assert sorted([*train, *test]) == list(range(len(every)))
        seen[kind] += test
    assert {kind: sorted(held) for kind, held in seen.items()} == {kind: [0, 1, 2, 3, 4] for kind in seen}


def test_a_shortlist_leaves_the_others_in_the_table() -> None:
    found = compare({"far": TRUTH.replace(resistance="linear"), "true": TRUTH}, traces()[:2], shortlist=1, folds=2,
                    **QUICK)  # fmt: skip
    assert [row.name for row in found.rows] == ["true", "far"]
    assert found.rows[0].cycles is not None
    assert "not on the shortlist" in found.rows[1].problem
    with pytest.raises(ParameterError, match="shortlist"):
        compare([TRUTH], traces(), shortlist=0)


def test_the_field_is_halved_until_the_shortlist_is_left() -> None:
    """Six at a glance, two on one trace, one on all with traces held out; every candidate's time adds up."""
    windows = {"none": NoWindow(), "p1": Biolek(p=1), "p4": Biolek(p=4)}
    models = {
        f"{law} {name}": TRUTH.replace(resistance=law, window=window)
        for law in ("linear", "exponential")
        for name, window in windows.items()
    }
    lines: list[str] = []
    found = compare(models, traces()[:2], shortlist=1, folds=2, progress=lines.append, **QUICK)
    assert found.rows[0].name == "exponential none"
    assert found.rows[0].cycles is not None
    assert "of 1 trace(s) alone" in found.rows[1].problem
    assert all("at a glance: not on the shortlist" in row.problem for row in found.rows[2:])
    assert {row.name for row in found.rows} == set(models)
    assert all(row.seconds > 0 for row in found.rows)
    assert found.rows[0].seconds > found.rows[-1].seconds
    assert sum("glance" in line for line in lines[1:7]) == 6
    assert all("CPU s" in line for line in lines[1:7])


def test_a_glance_ranks_as_fits_do() -> None:
    """The device that made the trace first, by more than chance; and it costs less than a fit."""
    trace = [measured(1.2, 1)]
    models = [TRUTH, TRUTH.replace(resistance="linear"), TRUTH.replace(window=Biolek(p=1))]
    options = {name: value for name, value in QUICK.items() if name != "starts"}
    seen = [glance(model, trace, **options) for model in models]
    assert min(entry.aicc for entry in seen[1:]) > seen[0].aicc + 10.0
    assert seen[0].nrmse < 0.03  # noise of 2 % in 96 samples


def test_a_candidate_that_fails_at_a_glance_is_listed_with_its_reason() -> None:
    short = measured(1.2, 1).window(0, 6)
    found = compare({str(k): TRUTH for k in range(4)}, short, shortlist=1, **QUICK)
    assert len(found.rows) == 4
    assert all("fewer samples than parameters" in row.problem for row in found.rows)


def test_a_candidate_that_cannot_be_fitted_comes_last_with_its_reason() -> None:
    found = compare({"bad": TRUTH, "good": TRUTH}, measured(1.2, 1), holdout=(), **QUICK)
    assert found.by == "AICc"
    short = measured(1.2, 1).window(0, 6)
    failed = compare({"bad": TRUTH}, short, **QUICK)
    assert "fewer samples than parameters" in failed.rows[0].problem
    with pytest.raises(ConvergenceError, match="no candidate"):
        failed.best  # noqa: B018
    assert "fewer samples" in failed.report()


def test_impossible_comparisons_are_refused() -> None:
    with pytest.raises(ParameterError, match="no model"):
        compare({}, traces())
    with pytest.raises(ParameterError, match="no amplitudes to hold out"):
        compare([TRUTH], traces()[:2], holdout=["amplitudes"])
    with pytest.raises(ParameterError, match="folds"):
        compare([TRUTH], traces(), folds=1)
