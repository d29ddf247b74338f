"""Advice on the next sweep: the published rule, and what happens when the advice is followed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from devicelab import Trace, parameter_set, simulate, sine, triangle
from devicelab.errors import ParameterError
from devicelab.models.vteam import VTEAM
from fits import fit
from fits.design import Sweep, advise, information, overshoot, predicted
from fits.noise import Noise
from fits.profile import profile

FIXED = ["b_on", "b_off"]


def visible() -> VTEAM:
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)


def noisy(trace: Trace, seed: int) -> Trace:
    sigma = np.hypot(0.02 * trace.i, 1e-5)
    return Trace(trace.t, trace.v, trace.i + sigma * np.random.default_rng(seed).normal(size=len(trace)))


def single(truth: VTEAM) -> list[Trace]:
    return [noisy(simulate(truth, sine(1.0, 0.5, points=400), x0=0.05), 3)]


def test_overshoot_is_what_a_ramp_does() -> None:
    """An ODE solver on dx/dt = k (v / v_th - 1)^a along a ramp, until x has gone from 0 to 1."""
    model, ramp = visible(), 2.0
    done = lambda t, x: x[0] - 1.0  # noqa: E731
    done.terminal = True  # type: ignore[attr-defined]
    found = solve_ivp(lambda t, x: [6.0 * (ramp * t / 0.53) ** 3], (0, 10), [0.0], events=done, rtol=1e-10, atol=1e-12)
    assert overshoot(model, "on", ramp) == pytest.approx(ramp * found.t_events[0][0], rel=1e-6)


def test_amplitude_comes_before_rate() -> None:
    """Prototype: four amplitudes leave an exponent five times better known than three rates of one amplitude."""
    options = [
        Sweep("amplitude", triangle(1.4, 2.0, points=400)),
        Sweep("slower", triangle(1.0, 20.0, points=400)),
        Sweep("faster", triangle(1.0, 0.2, points=400)),
        Sweep("again", triangle(1.0, 2.0, points=400)),
    ]
    # one sweep does not say how RESET speeds up: devices as plausible as the true one would differ in that alone
    advice = advise(fit(visible(), single(visible()), fixed=[*FIXED, "a_off"]), "a_on", options)
    after = {option.sweep.name: option.after for option in advice.options}
    assert advice.best.sweep.name == "amplitude"
    assert after["amplitude"] < 0.7 * min(after["faster"], after["again"])
    assert all(option.after <= option.before for option in advice.options)


def test_following_the_advice_shrinks_the_interval_as_predicted() -> None:
    truth = visible()
    first = fit(truth, single(truth), fixed=FIXED)
    advice = advise(first, "a_on", v_max=1.5, fastest=1e-3)
    best = advice.best
    x0 = 0.02 if best.sweep.fresh else 0.05
    drive = best.sweep.drive
    second = fit(truth, [*single(truth), noisy(simulate(truth, drive, x0=x0), 8)], fixed=FIXED)
    entry = profile(second, "a_on")["a_on"]
    sd = np.log(entry.high / entry.low) / (2 * 1.96)
    assert sd < 0.3 * best.before
    # of the device that it turned out to be; one noise, and ends found to 3 %
    assert sd == pytest.approx(predicted(first, "a_on", best.sweep, truth), rel=0.4)
    assert best.after / 5 < sd < 5 * best.after, "the mean over the devices plausible before"
    assert entry.low < float(truth.a_on) < entry.high


@pytest.mark.slow
def test_a_jump_needs_pulses_or_ramps_thousands_of_times_faster() -> None:
    """Pt/Hf/Ti at 0.5 Hz: the rule asks for 1e6 V/s or short pulses, nothing near the sweep taken helps."""
    truth = parameter_set("vteam_pt_hf_ti")
    advice = advise(fit(truth, single(truth), fixed=FIXED), "k_on")
    assert advice.best.sweep.ramp > 1e3
    slow = [option.after for option in advice.options if option.sweep.ramp < 10]
    assert advice.best.after < 0.5 * min(slow)


def test_a_resistor_in_series_is_seen_to() -> None:
    """Information from the stepped circuit tends to that of the bare device; a large resistor dilutes it."""
    truth = visible()
    trace = simulate(truth, sine(-1.0, 0.5, points=60), x0=0.7)
    names, noise, mask = ["r_on", "r_off", "v_off"], Noise(0.02, 1e-5), [np.ones(len(trace), dtype=bool)]
    bare, small, large = (information(truth, names, [trace], [0.7], mask, noise, ohm) for ohm in (0.0, 1e-3, 300.0))
    np.testing.assert_allclose(small, bare, rtol=1e-2, atol=1e-3 * np.abs(bare).max())
    assert large[0, 0] < 0.3 * bare[0, 0]  # i = v / (R + 300): d ln i / d ln R = -R / (R + 300) = 1/4 at r_on = 100


def test_impossible_advice_is_refused() -> None:
    result = fit(visible(), single(visible()), fixed=FIXED)
    with pytest.raises(ParameterError, match="unknown fitted parameter"):
        advise(result, "b_on")
    with pytest.raises(ParameterError, match="no sweep within the limits"):
        advise(result, "a_on", v_max=0.01)
