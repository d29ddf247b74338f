"""Statistics against scipy, closed forms and samples drawn from known distributions; mechanisms against their laws."""

from __future__ import annotations

import numpy as np
import pytest
from characterise_cases import abrupt
from scipy import stats

from devicelab.characterise import (
    autocorrelation,
    curve_band,
    fit_distribution,
    mechanisms,
    rank_distributions,
    spread,
    variance_components,
)
from devicelab.errors import ParameterError

OPTIMISER = 1e-4
"""scipy's simplex stops at about this relative distance from the maximum of the likelihood."""


def scipy_fit(name: str, x: np.ndarray) -> tuple[float, float]:
    if name == "normal":
        return stats.norm.fit(x)
    if name == "lognormal":
        s, _, scale = stats.lognorm.fit(x, floc=0)
        return float(np.log(scale)), float(s)
    shape, _, scale = {"weibull": stats.weibull_min, "gamma": stats.gamma}[name].fit(x, floc=0)
    return float(shape), float(scale)


@pytest.mark.parametrize("name", ["normal", "lognormal", "weibull", "gamma"])
@pytest.mark.parametrize("shape", [0.7, 3.0, 20.0])
def test_maximum_likelihood_agrees_with_scipy(name: str, shape: float) -> None:
    x = stats.weibull_min.rvs(shape, scale=2e-4, size=50, random_state=np.random.default_rng(1))
    found = tuple(fit_distribution(x, name, draws=10).parameters.values())
    assert found == pytest.approx(scipy_fit(name, x), rel=OPTIMISER)


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("normal", lambda rng: rng.normal(0.9, 0.05, 40)),
        ("lognormal", lambda rng: rng.lognormal(10, 0.5, 40)),
        ("weibull", lambda rng: 2 * rng.weibull(3, 40)),
    ],
)
def test_p_values_of_the_true_family_are_uniform(name: str, draw: object) -> None:
    rng = np.random.default_rng(5)
    p = [fit_distribution(draw(rng), name, draws=200).p_value for _ in range(100)]  # type: ignore[operator]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_intervals_cover_the_truth() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(100):
        low, high = fit_distribution(2 * rng.weibull(3, 60), "weibull", draws=200).intervals["scale"]
        inside += low <= 2 <= high
    assert 86 <= inside <= 100  # binomial about 95, 4 standard deviations below for the percentile interval's bias


@pytest.mark.parametrize(
    ("name", "x"),
    [
        ("lognormal", np.random.default_rng(0).lognormal(0, 1.0, 400)),
        ("weibull", np.random.default_rng(0).weibull(1.5, 400)),
        ("normal", np.random.default_rng(0).normal(0, 1, 400)),
    ],
)
def test_the_family_that_the_numbers_come_from_wins(name: str, x: np.ndarray) -> None:
    assert rank_distributions(x, draws=20)[0].family == name


def test_numbers_of_negative_voltages_are_taken_by_magnitude() -> None:
    x = np.random.default_rng(0).weibull(3, 30)
    assert fit_distribution(-x, "weibull", draws=10).parameters == fit_distribution(x, "weibull", draws=10).parameters


def test_too_few_numbers_are_refused() -> None:
    with pytest.raises(ParameterError, match="too few numbers"):
        fit_distribution([1.0, 2.0, 3.0], "normal")


def test_unknown_distribution_names_the_near_ones() -> None:
    with pytest.raises(ParameterError, match="did you mean weibull"):
        fit_distribution(np.arange(1, 20), "weibul")


def test_spread_of_known_numbers() -> None:
    found = spread([1.0, 2.0, 3.0, 4.0], "V")
    assert found.mean.value == 2.5
    assert found.sd.value == pytest.approx(np.sqrt(5 / 3), rel=1e-12)
    assert found.cv.value == pytest.approx(np.sqrt(5 / 3) / 2.5, rel=1e-12)
    assert found.quartiles == (1.75, 3.25)


def test_bootstrap_intervals_of_the_centre_and_the_width_hold_the_truth() -> None:
    rng = np.random.default_rng(5)
    truth = {"mean": 1.0, "median": 1.0, "sd": 0.2, "cv": 0.2}
    inside = dict.fromkeys(truth, 0)
    for seed in range(200):
        found = spread(rng.normal(1.0, 0.2, 60), seed=seed)
        for name, value in truth.items():
            number = getattr(found, name)
            inside[name] += number.low < value < number.high
    assert all(174 <= count <= 199 for count in inside.values()), inside  # 95 % of 200, and 4 standard deviations


def test_the_seed_of_the_bootstrap_is_the_one_given() -> None:
    x = np.random.default_rng(0).normal(1.0, 0.2, 40)
    first, again, other = (spread(x, seed=seed).mean.low for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert first == pytest.approx(other, rel=0.02)


def test_akaike_is_corrected_for_few_samples() -> None:
    """AICc = AIC + 2 k (k + 1) / (n - k - 1) (Hurvich and Tsai 1989), with the variance as one of the k of a law."""
    v, x = np.linspace(0.2, 2.0, 9), np.random.default_rng(0).lognormal(0, 0.3, 9)
    for fit in mechanisms(v, 1e-6 * np.sinh(2 * v)):
        k = len(fit.parameters) + 1
        assert fit.aicc == pytest.approx(9 * np.log(fit.rms**2) + 2 * k + 2 * k * (k + 1) / (8 - k), rel=1e-9, abs=1e-6)
    mu, sigma = np.log(x).mean(), np.log(x).std()
    likelihood = np.sum(-np.log(x * sigma * np.sqrt(2 * np.pi)) - (np.log(x) - mu) ** 2 / (2 * sigma**2))
    assert fit_distribution(x, "lognormal", draws=10).aicc == pytest.approx(4 - 2 * likelihood + 12 / 6, rel=1e-6)


def test_an_autoregressive_sequence_shows_its_memory_and_a_white_one_none() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros(4000)
    for k in range(1, x.size):
        x[k] = 0.6 * x[k - 1] + rng.standard_normal()
    found = autocorrelation(x, 3)
    assert found.values == pytest.approx([0.6, 0.36, 0.216], abs=0.06)  # 4 standard errors of about 1 / sqrt(4000)
    assert found.correlated
    rejected = sum(autocorrelation(rng.standard_normal(60)).correlated for _ in range(200))
    assert rejected <= 24  # 5 % of 200 and more than 4 standard deviations


def test_variance_components_are_those_drawn() -> None:
    rng = np.random.default_rng(3)
    groups = {k: rng.normal(rng.normal(1.0, 0.2), 0.1, 20) for k in range(200)}
    found = variance_components(groups, "V")
    assert found.d2d.value == pytest.approx(0.2, rel=0.15)  # 3 standard errors of 1 / sqrt(2 x 199)
    assert found.c2c.value == pytest.approx(0.1, rel=0.05)
    assert found.share.value == pytest.approx(0.8, abs=0.06)
    assert found.d2d.low is not None
    assert found.d2d.high is not None
    assert found.d2d.low < 0.2 < found.d2d.high


def test_equal_devices_have_no_device_to_device_part() -> None:
    rng = np.random.default_rng(4)
    found = variance_components({k: rng.normal(1.0, 0.1, 30) for k in range(30)})
    assert found.d2d.value < 0.03
    assert found.p_value > 0.01


def test_whole_curve_band_of_scaled_loops_has_the_width_of_the_scale() -> None:
    base = abrupt()
    rng = np.random.default_rng(0)
    traces = [type(base)(base.t, base.v, base.i * 10 ** (0.1 * rng.standard_normal())) for _ in range(400)]
    found = curve_band(traces)
    assert found.n == 400
    assert np.nanmean(found.decades) == pytest.approx(0.1, rel=0.12)  # 3 standard errors of 1 / sqrt(2 x 399)
    assert found.area == pytest.approx(0.1 * 1.349, rel=0.25)  # quartiles of a normal are 1.349 sd apart


V = np.linspace(0.2, 2.0, 80)
LAWS = {
    "ohmic": 1e-4 * V,
    "sclc": 1e-5 * V**2,
    "schottky": 1e-8 * np.exp(5 * np.sqrt(V)),
    "poole_frenkel": 1e-8 * V * np.exp(5 * np.sqrt(V)),
    "fowler_nordheim": 1e-4 * V**2 * np.exp(-6 / V),
    "trap_assisted_tunnelling": 1e-4 * np.exp(-6 / V),
    "direct_tunnelling": 1e-6 * (V + 0.8 * V**3),
    "sinh": 1e-7 * np.sinh(3 * V),
}
TRUE_B = {"schottky": 5, "poole_frenkel": 5, "fowler_nordheim": 6, "trap_assisted_tunnelling": 6, "sinh": 3}


@pytest.mark.parametrize("name", list(LAWS))
def test_the_law_that_made_the_current_is_ranked_among_the_best(name: str) -> None:
    noise = 1 + 0.01 * np.random.default_rng(0).standard_normal(V.size)
    (own,) = (fit for fit in mechanisms(V, LAWS[name] * noise) if fit.name == name)
    assert own.delta < 4.0  # a law with one more parameter may win by chance where it contains this one
    assert own.rms == pytest.approx(0.01, rel=0.3)
    if name in TRUE_B:
        low, high = own.intervals["b"]
        assert low < TRUE_B[name] < high or own.parameters["b"] == pytest.approx(TRUE_B[name], rel=0.01)


def test_implied_permittivity_is_the_one_of_the_poole_frenkel_slope() -> None:
    # ln(I / V) rises with sqrt(V) by q / kT sqrt(q / (pi eps0 eps_r d)) (Frenkel 1938), here for eps_r = 25, 20 nm
    q, kt, eps0 = 1.602176634e-19, 1.380649e-23 * 300, 8.8541878128e-12
    b = q / kt * np.sqrt(q / (np.pi * eps0 * 25 * 20e-9))
    fits = mechanisms(V, 1e-8 * V * np.exp(b * np.sqrt(V)), thickness=20e-9)
    (own,) = (fit for fit in fits if fit.name == "poole_frenkel")
    assert own.constants["permittivity [1]"] == pytest.approx(25, rel=1e-6)
    assert own.sensible is True


def test_a_branch_of_two_polarities_is_refused() -> None:
    with pytest.raises(ParameterError, match="no branch to fit"):
        mechanisms(np.linspace(-1, 1, 50), np.linspace(-1, 1, 50))


@pytest.mark.parametrize("law", ["fowler_nordheim", "trap_assisted_tunnelling"])
def test_implied_barrier_is_the_one_of_the_tunnelling_slope(law: str) -> None:
    # ln(I / V^2) falls with 1 / V by 6.831e9 V/m (phi / eV)^1.5 d for the free electron (Fowler and Nordheim 1928)
    b = 6.8309e9 * 1.2**1.5 * 2e-9
    v = np.linspace(1.0, 4.0, 60)
    fits = mechanisms(v, (v**2 if law == "fowler_nordheim" else 1.0) * np.exp(-b / v), thickness=2e-9)
    (own,) = (fit for fit in fits if fit.name == law)
    assert own.constants["barrier [eV]"] == pytest.approx(1.2, rel=1e-4)


def test_the_scatter_of_the_cycles_is_taken_off_the_scatter_of_the_devices() -> None:
    """Two cycles a device: device means scatter by d2d^2 + c2c^2 / 2 (Searle, Casella and McCulloch 1992)."""
    rng = np.random.default_rng(6)
    found = variance_components({k: rng.normal(rng.normal(1.0, 0.1), 0.2, 2) for k in range(3000)})
    assert found.d2d.value == pytest.approx(0.1, rel=0.12)  # 0.17 where it is not taken off
    assert found.c2c.value == pytest.approx(0.2, rel=0.04)
