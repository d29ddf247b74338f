"""Endurance and retention made from known laws: what is found, and how often the intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from devicelab.characterise import arrhenius, drift, endurance, wear
from devicelab.errors import ParameterError
from devicelab.noise import Wear

CYCLES = np.unique(np.geomspace(1, 1e5, 90).round())
ONSET, EXPONENT, R_OFF, R_ON = 1e3, -0.5, 1e5, 1e3
SEEDS = 30
LEAST = 24
"""Of 30 intervals of 95 %: binomial, 3.8 standard deviations below 28.5."""


def memory(count: int, rng: np.random.Generator, rho: float) -> np.ndarray:
    steps = rng.standard_normal(count) * np.sqrt(1 - rho**2)
    steps[0] /= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1.0], [1.0, -rho], steps))


def worn(rng: np.random.Generator, rho: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """R_on constant, R_off worn by the model of `devicelab.noise`, both with lognormal scatter."""
    model = Wear(p0=ONSET, p1=0.0, p2=1e-9, p3=EXPONENT / 1e-9, stable=1.0)
    off = model.resistance(R_OFF, CYCLES) * 10 ** (0.08 * memory(CYCLES.size, rng, rho))
    return R_ON * 10 ** (0.03 * memory(CYCLES.size, rng, rho)), off


def test_gradual_wear_without_noise_is_recovered_exactly() -> None:
    grid = np.geomspace(1, 1e5, 101)  # the onset is one of the cycles, so that the search can hit it
    found = wear(grid, R_OFF * np.maximum(grid / 1e3, 1) ** EXPONENT)
    assert found.law == "gradual"
    assert found.exponent is not None
    assert found.onset is not None
    assert found.exponent.value == pytest.approx(EXPONENT, rel=0.02)
    assert found.onset.value == pytest.approx(ONSET, rel=0.05)


@pytest.mark.parametrize("rho", [0.0, 0.6])
def test_intervals_of_the_cycles_to_failure_hold_the_truth(rho: float) -> None:
    truth = ONSET * (R_OFF / R_ON / 2) ** (-1 / EXPONENT)  # R_off / R_on = 2 on the exact law
    inside = 0
    for seed in range(SEEDS):
        on, off = worn(np.random.default_rng(seed), rho)
        number = endurance(CYCLES, on, off, seed=seed).numbers["cycles_to_failure"]
        assert number.low is not None
        inside += number.low < truth < (np.inf if number.high is None else number.high)
    assert inside >= (LEAST if rho == 0 else LEAST - 2)


def test_no_wear_gives_a_lower_bound_and_no_extrapolation() -> None:
    found = 0
    for seed in range(SEEDS):
        rng = np.random.default_rng(seed)
        noise = (memory(CYCLES.size, rng, 0.6) for _ in range(2))
        fit = endurance(CYCLES, R_ON * 10 ** (0.03 * next(noise)), R_OFF * 10 ** (0.1 * next(noise)), seed=seed)
        number = fit.numbers["cycles_to_failure"]
        found += number.censored and number.value == CYCLES.max()
    assert found >= SEEDS - 3


def test_a_sudden_failure_is_told_from_a_gradual_one_and_dated() -> None:
    rng = np.random.default_rng(0)
    off = np.where(CYCLES > 2e4, 1.5e3, R_OFF) * 10 ** (0.08 * rng.standard_normal(CYCLES.size))
    found = endurance(CYCLES, np.full(CYCLES.size, R_ON), off)
    assert found.off is not None
    assert found.off.law == "sudden"
    number = found.numbers["cycles_to_failure"]
    assert number.low is not None
    assert number.high is not None
    assert number.low <= 2e4 <= number.high


def test_share_of_shut_cycles_is_counted() -> None:
    off = np.full(40, R_OFF)
    off[:4] = 1.5 * R_ON
    number = endurance(np.arange(1, 41), np.full(40, R_ON), off).numbers["failed"]
    assert number.value == 0.1
    assert (number.low, number.high) == pytest.approx((0.0279, 0.2366), abs=1e-4)  # Clopper and Pearson 1934, 4 of 40


@pytest.mark.parametrize(
    ("cycles", "on", "off", "closed", "match"),
    [
        ([1, 2, 3], [1e3] * 3, [1e5] * 2, 2.0, "no endurance"),
        ([1, 2, 3], [1e3] * 3, [1e5, 0.0, 1e5], 2.0, "resistance is not positive"),
        ([1, 2, 3], [1e3] * 3, [1e5, np.nan, 1e5], 2.0, "not positive"),
        ([1, 2, 3], [1e3] * 3, [1e5] * 3, 1.0, "ratio above 1"),
    ],
)
def test_impossible_endurance_is_refused(
    cycles: list[float], on: list[float], off: list[float], closed: float, match: str
) -> None:
    with pytest.raises(ParameterError, match=match):
        endurance(cycles, on, off, closed=closed)


def test_prediction_interval_of_drift_holds_a_new_reading_also_where_readings_remember() -> None:
    time = np.geomspace(1, 1e5, 200)
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        found = drift(time, 1e4 * time**0.02 * 10 ** (0.02 * memory(200, rng, 0.6)), at=1e8).at
        assert found.low is not None
        assert found.high is not None
        inside += found.low < 1e4 * 1e8**0.02 * 10 ** (0.02 * rng.standard_normal()) < found.high
    assert inside >= 86  # binomial about 95, 4 standard deviations


def test_the_law_of_drift_that_made_the_readings_has_the_smaller_aicc() -> None:
    time = np.geomspace(1, 1e6, 60)
    rng = np.random.default_rng(0)
    for law, exact in (("power", 1e3 * time**0.2), ("log", 1e3 + 800 * np.log10(time))):
        fits = {name: drift(time, exact * (1 + 0.002 * rng.standard_normal(60)), law=name) for name in ("power", "log")}
        assert min(fits, key=lambda name: fits[name].aicc) == law


def test_activation_energy_and_life_follow_from_exact_failure_times() -> None:
    boltzmann = 8.617333262e-5  # eV/K
    exact = {kelvin: 1e-9 * np.exp(1.2 / (boltzmann * kelvin)) for kelvin in (400.0, 425.0, 450.0, 475.0)}
    found = arrhenius(exact, at=358.15)
    assert found.energy.value == pytest.approx(1.2, rel=1e-6)
    assert found.life.value == pytest.approx(1e-9 * np.exp(1.2 / (boltzmann * 358.15)), rel=1e-5)
    hottest = 1.2 / boltzmann / np.log(3.15576e8 / 1e-9)  # where the same law gives ten years
    assert found.hottest.value == pytest.approx(hottest, rel=1e-6)


def test_one_temperature_gives_no_activation_energy() -> None:
    with pytest.raises(ParameterError, match="no Arrhenius line"):
        arrhenius({400.0: [1e3, 2e3, 3e3]})
