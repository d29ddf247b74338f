"""Spectra and telegraph signals made from known laws."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from devicelab.characterise import physical_floors, read_spectrum, telegraph_levels
from devicelab.errors import ParameterError
from devicelab.noise import flicker, telegraph


def coloured(count: int, beta: float, white: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of density f^-beta + white at dt = 1 s, cut out of a longer record (Timmer and Koenig 1995)."""
    length = 8 * count
    f = np.fft.rfftfreq(length, 1.0)
    f[0] = f[1]
    z = rng.standard_normal(f.size) + 1j * rng.standard_normal(f.size)
    return np.fft.irfft(z * np.sqrt((f**-beta + white) * length) / 2, length)[:count]


@pytest.mark.parametrize("beta", [0.7, 1.0, 1.5, 2.0])
def test_intervals_of_exponent_and_density_hold_the_truth(beta: float) -> None:
    inside = np.zeros(2)
    for seed in range(60):
        found = read_spectrum(coloured(2048, beta, 0.0, np.random.default_rng(seed)), 1.0)
        for k, (number, truth) in enumerate(((found.exponent, beta), (found.at_1hz, 1.0))):
            assert number.low is not None
            assert number.high is not None
            inside[k] += number.low < truth < number.high
    assert (inside >= 51).all(), inside  # binomial about 57, 3.6 standard deviations


def test_corner_and_white_floor_are_those_put_in() -> None:
    inside = np.zeros(2)
    for seed in range(30):
        found = read_spectrum(coloured(4096, 1.0, 20.0, np.random.default_rng(seed)), 1.0)
        assert found.corner is not None
        for k, (number, truth) in enumerate(((found.corner, 0.05), (found.white, 20.0))):
            assert number.low is not None
            assert number.high is not None
            inside[k] += number.low < truth < number.high
    assert (inside >= 24).all(), inside


def test_a_pure_power_law_has_no_floor_and_the_bound_says_so() -> None:
    told = sum(
        not read_spectrum(coloured(2048, 1.0, 0.0, np.random.default_rng(s)), 1.0).white.censored for s in range(60)
    )
    assert told <= 9  # a test at 5 %, 3.5 standard deviations above 3


def test_thermal_and_shot_floors_are_nyquists_and_schottkys() -> None:
    found = physical_floors(1e-6, 1e5, 300.0)
    assert found["thermal"].value == pytest.approx(1.6568e-25, rel=1e-4)  # 4 x 1.380649e-23 x 300 / 1e5
    assert found["shot"].value == pytest.approx(3.20435e-25, rel=1e-4)  # 2 x 1.602177e-19 x 1e-6


@pytest.mark.parametrize(
    ("x", "match"), [(np.ones(100), "constant"), (np.arange(10.0), "too few"), (np.full(100, np.nan), "too few")]
)
def test_a_spectrum_needs_noise(x: np.ndarray, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        read_spectrum(x, 1.0)


def test_intervals_of_the_mean_times_hold_the_truth_also_of_short_stays() -> None:
    inside = np.zeros(3)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        state = np.asarray(telegraph((1, 3000), 1e-3, rng, t_capture=0.05, t_emission=0.004))[0]
        found = telegraph_levels(1e-6 + 2e-7 * state + 4e-8 * rng.standard_normal(3000), 1e-3)
        assert found.clear, found.why
        assert len(found.levels) == 2
        truths = ((found.time_low, 0.05), (found.time_high, 0.004), (found.amplitude, 2e-7))
        for k, (number, truth) in enumerate(truths):
            assert number.low is not None
            assert number.high is not None
            inside[k] += number.low < truth < number.high
    assert (inside >= 9).all(), inside  # binomial about 11.4, 3.2 standard deviations


def test_two_traps_make_four_levels_of_which_three_are_told_as_three() -> None:
    rng = np.random.default_rng(3)
    fast, slow = (np.asarray(telegraph((1, 12000), 1e-3, rng, t_capture=t, t_emission=t))[0] for t in (0.05, 0.4))
    found = telegraph_levels(1e-6 + 2e-7 * (fast + slow) + 2e-8 * rng.standard_normal(12000), 1e-3)
    assert [level.value for level in found.levels] == pytest.approx([1e-6, 1.2e-6, 1.4e-6], rel=2e-3)
    assert found.clear


def test_flicker_noise_is_not_believed_to_be_a_telegraph_signal() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = np.asarray(flicker((1, 3000), 1e-3, rng, f_low=1e-2, f_high=100.0))[0]
        assert not telegraph_levels(x, 1e-3).clear


def test_levels_do_not_depend_on_unit_or_offset() -> None:
    rng = np.random.default_rng(1)
    x = np.asarray(telegraph((1, 3000), 1.0, rng, t_capture=20.0, t_emission=10.0))[0] + 0.1 * rng.standard_normal(3000)
    one, other = telegraph_levels(x, 1.0), telegraph_levels(1e-6 * x - 3.0, 1e-3)
    assert other.amplitude.value == pytest.approx(1e-6 * one.amplitude.value, rel=1e-6)
    assert other.time_low.value == pytest.approx(1e-3 * one.time_low.value, rel=1e-6)


@pytest.mark.parametrize("white", [0.3, 1.0, 3.0])
def test_a_white_floor_too_weak_to_be_told_does_not_make_the_exponent_too_sure(white: float) -> None:
    """Without the upper end that allows for a floor, 14 to 44 of 60 hold the truth."""
    inside = 0
    for seed in range(30):
        exponent = read_spectrum(coloured(4096, 0.7, white, np.random.default_rng(seed)), 1.0).exponent
        assert exponent.low is not None
        assert exponent.high is not None
        inside += exponent.low < 0.7 < exponent.high
    assert inside >= 26  # binomial about 28.5, 2 standard deviations


@pytest.mark.parametrize(("sd", "dt"), [(1.0, 1.0), (3e-7, 0.02)])
def test_density_of_white_noise_is_twice_its_variance_times_the_step(sd: float, dt: float) -> None:
    """One-sided: the integral up to 1 / (2 dt) is the variance."""
    found = read_spectrum(sd * np.random.default_rng(0).standard_normal(20_000), dt)
    assert np.mean(found.s[1:-1]) == pytest.approx(2 * sd**2 * dt, rel=0.05)
    assert found.f[-1] == pytest.approx(0.5 / dt)


def test_importing_characterise_loads_no_compiler_before_a_telegraph_signal_is_asked_for() -> None:
    code = (
        "import sys, numpy as np, devicelab.characterise as c\n"
        "assert not {'numba', 'torch', 'matplotlib', 'lmfit'} & set(sys.modules), 'early'\n"
        "c.telegraph_levels(np.random.default_rng(0).standard_normal(100), 0.1)\n"
        "assert 'numba' in sys.modules"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_floors_of_physics_at_one_kilohm_and_one_microampere() -> None:
    """Johnson 1928: 4 k T / R = 1.6568e-23 A2/Hz at 300 K; Schottky 1918: 2 q I = 3.2044e-25 A2/Hz."""
    found = physical_floors(-1e-6, 1e3, 300.0)
    assert found["thermal"].value == pytest.approx(1.6568e-23, rel=1e-4)
    assert found["shot"].value == pytest.approx(3.2044e-25, rel=1e-4)
