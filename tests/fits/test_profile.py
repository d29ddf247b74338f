"""Profiles: the covariance where that is right, open ends where the traces say nothing, and what they say instead."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from devicelab import VTEAM, Joglekar, Trace, parameter_set, simulate, sine
from devicelab.errors import ParameterError
from fits import fit
from fits.profile import plot_profiles, profile, switching_time

FIXED = ["b_on", "b_off"]


def noisy(trace: Trace, seed: int) -> Trace:
    sigma = np.hypot(0.02 * trace.i, 1e-5)
    return Trace(trace.t, trace.v, trace.i + sigma * np.random.default_rng(seed).normal(size=len(trace)))


def visible() -> VTEAM:
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)


def test_resistances_have_the_interval_of_the_covariance_and_hold_the_truth() -> None:
    """Resistances enter the logarithm of the current linearly, so their misfit is a parabola."""
    result = fit(visible(), noisy(simulate(visible(), sine(1.0, 0.5, points=400), x0=0.05), 3), fixed=FIXED)
    found = profile(result, ["r_on", "r_off"])
    for e in result.estimates[:2]:
        entry = found[e.name]
        assert not entry.open_low
        assert not entry.open_high
        # r_off trades off against the initial state, which is near its end
        assert entry.high - entry.low == pytest.approx(e.high - e.low, rel=0.1 if e.name == "r_on" else 0.25)
        assert entry.low < float(getattr(visible(), e.name)) < entry.high
        assert np.interp(entry.low, entry.values, entry.delta) == pytest.approx(3.84, rel=0.1)  # chi2, one degree
    assert isinstance(plot_profiles(found), Figure)


def test_a_jump_faster_than_the_sampling_bounds_the_time_not_the_rate() -> None:
    """MODELS of the published Pt/Hf/Ti device at 0.5 Hz: SET between two samples, 5 ms apart."""
    truth = parameter_set("vteam_pt_hf_ti")
    result = fit(truth, noisy(simulate(truth, sine(1.0, 0.5, points=400), x0=0.05), 3), fixed=FIXED)
    found = profile(result, ["v_on", "k_on", "a_on"])
    rate = found["k_on"]
    assert rate.open_high
    assert rate.low < float(truth.k_on)
    assert found["v_on"].low < float(truth.v_on) < found["v_on"].high
    limit = max(switching_time(model, -1.0) for model in rate.inside)
    assert switching_time(truth, -1.0) < limit < 5e-3
    assert "t_set at -1 V at most" in rate.bound
    assert "at least" in rate.line()


def test_several_amplitudes_close_the_interval_of_the_exponent() -> None:
    """The prototype's profile of a_on: 2.2 to 5.7 from one sweep, 2.95 to 3.05 from three amplitudes and two rates."""
    truth, drives = visible(), [sine(a, f, points=400) for a, f in ((1.0, 0.5), (0.85, 0.5), (1.2, 0.5), (1.0, 5.0))]
    many = [noisy(simulate(truth, drive, x0=0.05), 20 + k) for k, drive in enumerate(drives)]
    entry = profile(fit(truth, many, fixed=FIXED), "a_on")["a_on"]
    assert entry.low < 3.0 < entry.high
    assert entry.high - entry.low < 0.3


def test_switching_time_has_its_closed_forms() -> None:
    plain = visible()
    rate = 6.0 * (1.0 / 0.53 - 1.0) ** 3  # no window: constant speed
    assert switching_time(plain, -1.0) == pytest.approx(0.8 / rate, rel=1e-12)
    # f = 4 x (1 - x): logistic, 2 ln 9 / 4 over the speed
    windowed = plain.replace(window=Joglekar(p=1))
    assert switching_time(windowed, -1.0) == pytest.approx(2 * np.log(9) / 4 / rate, rel=1e-9)
    assert switching_time(plain, -0.3) == np.inf


def test_impossible_profiles_are_refused() -> None:
    result = fit(visible(), noisy(simulate(visible(), sine(1.0, 0.5, points=200), x0=0.05), 3), screen=128, starts=1)
    with pytest.raises(ParameterError, match="unknown fitted parameter"):
        profile(result, "k_onn")
    with pytest.raises(ParameterError, match="level"):
        profile(result, "r_on", level=95)
