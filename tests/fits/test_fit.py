"""Fits find what made a trace, within the intervals they state, and say what they cannot find."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from devicelab import VTEAM, Joglekar, LinearIonDrift, Trace, parameter_set, simulate, sine, triangle
from devicelab.errors import FileFormatError, ParameterError, TraceError
from fits import fit
from fits.noise import Noise, compliance_mask, estimate_noise
from fits.space import Extent, Space, fit_names

REL = 0.02  # noise: 2 % of the reading
FLOOR = 1e-3  # and 0.1 % of the largest current of the first trace


def noisy(trace: Trace, seed: int, floor: float | None = None) -> Trace:
    rng = np.random.default_rng(seed)
    sigma = np.hypot(REL * trace.i, FLOOR * np.abs(trace.i).max() if floor is None else floor)
    return Trace(trace.t, trace.v, trace.i + sigma * rng.normal(size=len(trace)))


def visible() -> VTEAM:
    """Pt/Hf/Ti with a SET that a 0.5 Hz sweep can see."""
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)


def several(model: VTEAM, seed: int) -> list[Trace]:
    drives = [sine(a, f, points=400) for a, f in ((1.0, 0.5), (0.85, 0.5), (1.2, 0.5), (1.0, 5.0))]
    return [noisy(simulate(model, drive, x0=0.05), seed + k, floor=1e-5) for k, drive in enumerate(drives)]


def test_several_traces_recover_the_device_that_made_them() -> None:
    truth = visible()
    result = fit(truth.replace(r_on=300.0, r_off=1e4, k_on=100.0, k_off=1.0), several(truth, 1), seed=1)
    inside = 0
    shape = {"b_on", "b_off"}
    for e in result.estimates:
        true = 0.05 if e.name.startswith("x0_") else float(getattr(truth, e.name))
        inside += bool(e.low <= true <= e.high)
        if e.name not in shape and not e.name.startswith("x0_"):
            assert "determined" in e.note or e.value == pytest.approx(true, rel=0.15), e
    assert inside >= 0.75 * len(result.estimates), result.report()  # 95 % intervals: 3 sigma below for a dozen
    assert result.metrics["nrmse"] < 2 * REL
    assert 0.7 < result.statistics["redchi"] < 1.4


def test_linear_ion_drift_is_recovered_from_two_loops() -> None:
    truth = parameter_set("strukov_2008_team").replace(window=Joglekar(p=1), r_on=2e3)
    traces = [noisy(simulate(truth, sine(a, 1.0, points=400), x0=0.2), 5) for a in (1.0, 1.4)]
    result = fit(truth.replace(r_on=1e3, r_off=5e4, k=1e3), traces)
    for e in result.estimates:
        true = 0.2 if e.name.startswith("x0") else getattr(truth, e.name)
        width = e.high - e.low
        if "not determined" in e.note:
            assert e.name == "r_on", "the loop stays far from x = 1, so r_on hides behind r_off"
            continue
        assert abs(e.value - true) < width, f"{e.name}: {e.value:.4g} +- {width / 2:.2g}, true {true:.4g}"
    assert isinstance(result.model, LinearIonDrift)


def test_what_a_trace_cannot_tell_is_named() -> None:
    """SET of the published device is a step at 0.5 Hz: its rate and exponent leave no mark (MemTorch, Pt/Hf/Ti)."""
    trace = noisy(simulate(parameter_set("vteam_pt_hf_ti"), sine(1.0, 0.5, points=400), x0=0.05), 3)
    result = fit(parameter_set("vteam_pt_hf_ti"), trace)
    undetermined = {e.name for e in result.estimates if "not determined" in e.note}
    assert undetermined & {"k_on", "a_on"}
    assert not undetermined & {"r_on", "r_off", "v_on", "x0_0"}
    assert "not determined" in result.report()
    assert result.metrics["nrmse"] < 2 * REL


def test_the_polarity_is_found() -> None:
    truth = visible().replace(polarity=-1)
    trace = noisy(simulate(truth, sine(1.0, 0.5, points=400), x0=0.05), 8)
    assert fit(visible(), trace, screen=256, starts=2).model.polarity == -1


def test_the_same_seed_gives_the_same_fit() -> None:
    trace = noisy(simulate(visible(), sine(1.0, 0.5, points=200), x0=0.05), 8)
    one, two = (fit(visible(), trace, screen=128, starts=1, seed=4) for _ in range(2))
    assert one.to_json() == two.to_json()


def test_a_warm_start_finds_the_next_cycle_without_a_screen() -> None:
    first, second = (noisy(simulate(visible(), sine(1.0, 0.5, points=200), x0=0.05), seed) for seed in (8, 9))
    cold = fit(visible(), first, screen=256, starts=2)
    warm = fit(visible(), second, start=cold)
    again = fit(visible(), second, screen=256, starts=2, noise=cold.noise)
    worse = warm.statistics["chisqr"] - again.statistics["chisqr"]
    assert -0.2 < worse < 1.0  # the cold fit looks beside its minimum too; chi2 of 200 samples scatters by 20
    assert warm.model.r_on == pytest.approx(again.model.r_on, rel=1e-3)
    other = fit(visible(), second, start=visible(), noise=cold.noise)
    assert other.statistics["chisqr"] == pytest.approx(again.statistics["chisqr"], abs=1.0)


def test_a_descent_with_a_held_coordinate_stays_there_and_costs_more() -> None:
    result = fit(visible(), noisy(simulate(visible(), sine(1.0, 0.5, points=200), x0=0.05), 8), screen=256, starts=2)
    problem, k = result.problem, next(k for k, axis in enumerate(result.problem.space.axes) if axis.name == "r_on")
    sd = result.covariance[k, k] ** 0.5
    outcome = problem.descend(result.theta, held={k: result.theta[k] + sd})
    theta = problem.vector(outcome.params)
    assert theta[k] == result.theta[k] + sd
    rise = (problem.chisqr(theta) - problem.chisqr(result.theta)) / problem.misfit**2
    assert rise == pytest.approx(1.0, rel=0.3)  # a parabola near the minimum


def test_coordinates_encode_what_they_decode() -> None:
    result = fit(visible(), noisy(simulate(visible(), sine(1.0, 0.5, points=100), x0=0.05), 8), screen=128, starts=1)
    np.testing.assert_allclose(result.problem.space.encode(result.model, result.x0), result.theta, rtol=1e-9)


def test_a_fit_is_written_and_its_parameter_set_read_back(tmp_path: Path) -> None:
    trace = noisy(simulate(visible(), sine(1.0, 0.5, points=200), x0=0.05), 8)
    result = fit(visible(), trace, screen=128, starts=1, fixed=["b_on", "b_off"])
    result.to_json(tmp_path / "fit.json")
    assert json.loads((tmp_path / "fit.json").read_text())["device"]["model"] == "vteam"
    with pytest.raises(FileFormatError, match="exists"):
        result.to_json(tmp_path / "fit.json")
    (tmp_path / "mine.toml").write_text(result.parameter_set())
    assert parameter_set(str(tmp_path / "mine.toml")) == result.model


def test_noise_is_estimated_from_the_trace_itself() -> None:
    trace = noisy(simulate(visible(), triangle(1.0, 2.0, points=2000), x0=0.05), 9)
    noise = estimate_noise([trace])
    assert noise.rel == pytest.approx(REL, rel=0.3)
    assert noise.floor == pytest.approx(FLOOR * np.abs(trace.i).max(), rel=0.5)


def test_samples_held_by_a_compliance_are_left_out() -> None:
    v = np.concatenate([np.linspace(0, 1, 100), np.linspace(1, 0, 100)])
    i = np.minimum(v * 1e-3, 5e-4)
    keep = compliance_mask(Trace(np.arange(200.0), v, i))
    assert keep[:45].all()
    assert not keep[55:145].any()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"traces": []}, TraceError, "no trace to fit"),
        ({"fixed": ["r_onn"]}, ParameterError, "(?s)unknown parameter.*r_on"),
        ({"vary": ["nothing"]}, ParameterError, "unknown parameter"),
        ({"noise": (0.0, 1e-6)}, ParameterError, "noise must be positive"),
    ],
)
def test_impossible_requests_are_refused(arguments: dict, error: type, message: str) -> None:
    trace = simulate(visible(), sine(1.0, 0.5, points=100))
    with pytest.raises(error, match=message):
        fit(visible(), **{"traces": trace, **arguments})


T = np.linspace(0, 1, 50)


@pytest.mark.parametrize(
    ("v", "i", "message"),
    [
        (np.sin(6 * T), 0 * T, "no current"),
        (0 * T + 0.3, T * 1e-3, "voltage never changes"),
        (np.sin(6 * T), np.stack([T, T]), "single traces"),
    ],
)
def test_traces_that_say_nothing_are_refused(v: np.ndarray, i: np.ndarray, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        fit(visible(), Trace(T, v, i))


def test_fewer_samples_than_parameters_are_refused() -> None:
    with pytest.raises(TraceError, match="fewer samples than parameters"):
        fit(visible(), simulate(visible(), sine(1.0, 0.5, points=6), x0=0.3))


def test_residuals_are_standard_deviations() -> None:
    noise = Noise(0.02, 1e-6)
    i = np.array([1e-8, 1e-5, 1e-3])
    sigma = np.hypot(noise.rel * i, noise.floor)
    np.testing.assert_allclose(noise.transform(i + 0.01 * sigma) - noise.transform(i), 0.01, rtol=0.01)


def test_the_speed_of_a_device_that_heats_itself_is_referred_to_where_it_does_not_run_away() -> None:
    """In its low resistance PKU would move at 1e23 /s under 1.5 V; there the box of a 1 kHz sweep would not hold it."""
    truth, drive = parameter_set("pku_default"), sine(1.5, 1e3, points=100)
    trace = simulate(truth, drive, x0=0.2)
    names = ["v_t", "j0", "f"]
    space = Space(truth, Extent.of([trace], [np.ones(len(trace), dtype=bool)]), names, 1)
    theta = space.encode(truth, [0.2])
    k = space.index("f")
    assert space.low[k] < theta[k] < space.high[k]
    for name in names:
        assert getattr(space.decode(theta)[0], name) == pytest.approx(getattr(truth, name), rel=1e-9)


def test_parameters_that_scale_the_current_together_are_encoded_as_they_are_decoded() -> None:
    """The current of JART VCM at the reference depends on several of them at once."""
    drive = sine(1.3, 1.0, points=40)
    template = parameter_set("jart_vcm_v1b")
    truth = template.replace(mobility=6e-6, n_min=1.2e24, nu=1e13)
    trace = Trace(drive.t, drive.v, truth.current(drive.v, 0.1))
    extent = Extent.of([trace], [np.ones(len(trace), dtype=bool)])
    space = Space(template, extent, fit_names(template), 1)
    back = space.decode(space.encode(truth, [0.1]))[0]
    for name in fit_names(template):
        assert getattr(back, name) == pytest.approx(getattr(truth, name), rel=1e-6), name
