"""Pulses, retention, spectra and telegraph noise made from known laws."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab.characterise import asymmetry, noise_spectrum, pulse_response, retention, telegraph_levels
from devicelab.errors import ParameterError
from devicelab.noise import telegraph

N = np.arange(101)
FIT = 1e-4
"""Relative distance to the optimum at which least squares stops on exact curves."""


def neurosim(a: float, g_min: float = 1e-6, g_max: float = 1e-5, p_max: int = 100) -> np.ndarray:
    """B (1 - exp(-P / A)) + Gmin, B = (Gmax - Gmin) / (1 - exp(-Pmax / A))."""
    return (g_max - g_min) / (1 - np.exp(-p_max / a)) * (1 - np.exp(-N / a)) + g_min


@pytest.mark.parametrize("a", [10.0, 40.0, 300.0, -40.0])
def test_nonlinearity_is_the_a_of_neurosims_curve(a: float) -> None:
    assert pulse_response(neurosim(a)).a.value == pytest.approx(a, rel=FIT)


def test_linear_step_law_of_aihwkit_is_recovered() -> None:
    # w <- w + 0.02 (1 - 0.6 w), from w = -1
    w = [-1.0]
    for _ in range(100):
        w.append(w[-1] + 0.02 * (1 - 0.6 * w[-1]))
    found = pulse_response(w, low=-1, high=1)
    assert found.scale.value == pytest.approx(0.02, rel=FIT)
    assert found.slope.value == pytest.approx(0.6, rel=FIT)


def test_mirror_ramps_of_linear_pulses_are_symmetric_and_bent_ones_are_not() -> None:
    up = neurosim(1e4)
    kw = {"low": 1e-6, "high": 1e-5}
    assert asymmetry(pulse_response(up, **kw), pulse_response(up[::-1], **kw)).value < 0.01
    bent = neurosim(20)
    down = bent[0] + bent[-1] - bent
    assert asymmetry(pulse_response(bent, **kw), pulse_response(down, **kw)).value > 0.3


def test_write_noise_and_levels_are_those_put_in() -> None:
    rng = np.random.default_rng(0)
    w = np.linspace(-1, 1, 2001) + 0.05 * rng.standard_normal(2001)
    found = pulse_response(w, low=-1, high=1)
    assert found.write_noise.value == pytest.approx(0.05, rel=0.05)  # 3 standard errors of 1 / sqrt(2 x 2001)
    assert found.levels.value == pytest.approx(1 + 2 / 0.2, abs=1)


def test_retention_extrapolates_a_power_law_and_its_interval_covers_the_truth() -> None:
    time = np.geomspace(1, 1e5, 40)
    nu, exact = retention(time, 1e4 * time**0.02, at=1e8)
    assert nu.value == pytest.approx(0.02, rel=1e-9)
    assert exact.value == pytest.approx(1e4 * 1e8**0.02, rel=1e-9)
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        _, r = retention(time, 1e4 * time**0.02 * 10 ** (0.02 * rng.standard_normal(40)), at=1e8)
        truth = 1e4 * 1e8**0.02 * 10 ** (0.02 * rng.standard_normal())
        assert r.low is not None
        assert r.high is not None
        inside += r.low < truth < r.high
    assert 179 <= inside <= 200  # binomial about 190, 3.5 standard deviations


def test_white_noise_has_exponent_zero_and_its_density_and_brownian_motion_two() -> None:
    rng = np.random.default_rng(0)
    white = rng.standard_normal(2**15)
    _, s, beta = noise_spectrum(white, 1e-3)
    assert beta.value == pytest.approx(0, abs=0.06)
    assert s[2:].mean() == pytest.approx(2e-3, rel=0.05)  # one-sided: 2 sigma^2 dt
    assert noise_spectrum(np.cumsum(white), 1e-3)[2].value == pytest.approx(2, abs=0.2)


def test_telegraph_levels_and_times_are_those_simulated() -> None:
    rng = np.random.default_rng(1)
    state = telegraph((1, 40000), 1e-3, rng, t_capture=0.05, t_emission=0.02)[0]
    found = telegraph_levels(1e-6 + 2e-7 * state + 2e-8 * rng.standard_normal(state.size), 1e-3)
    assert found.clear
    assert (found.low, found.high) == pytest.approx((1e-6, 1.2e-6), rel=1e-3)
    assert found.time_low.value == pytest.approx(0.05, rel=0.15)  # about 570 stays: 4 % standard error
    assert found.time_high.value == pytest.approx(0.02, rel=0.15)


def test_white_noise_is_no_telegraph_signal() -> None:
    assert not telegraph_levels(np.random.default_rng(0).standard_normal(1000), 1.0).clear


def test_too_few_pulses_are_refused() -> None:
    with pytest.raises(ParameterError, match="no pulse response"):
        pulse_response([1.0, 2.0])
