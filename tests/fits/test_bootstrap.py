"""Bootstrap: agrees with the covariance where that is right, and sees how cycles differ, which a covariance cannot."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import VTEAM, Trace, simulate, triangle
from devicelab.errors import ParameterError
from fits import fit
from fits.bootstrap import _other_noise, bootstrap, run_length

NOISE = (0.02, 1e-6)
TRUTH = VTEAM(r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=20.0, k_off=20.0, a_on=2.0, a_off=2.0)
QUICK = {"noise": NOISE, "screen": 256, "starts": 2, "fixed": ["b_on", "b_off", "a_on", "a_off"]}


def measured(model: VTEAM, seed: int) -> Trace:
    ideal = simulate(model, triangle(-1.0, 1.0, points=160), x0=0.1)
    sigma = np.hypot(NOISE[0] * ideal.i, NOISE[1])
    return Trace(ideal.t, ideal.v, ideal.i + sigma * np.random.default_rng(seed).normal(size=len(ideal)))


@pytest.mark.parametrize("kind", ["residual", "wild"])
def test_white_noise_gives_the_interval_of_the_covariance(kind: str) -> None:
    result = fit(TRUTH, measured(TRUTH, 1), **QUICK)
    found = bootstrap(result, kind=kind, draws=150, seed=1)
    for e in result.estimates:
        if e.name in ("r_on", "r_off"):
            low, high = found.interval(e.name)
            # a percentile of 150 draws scatters by a tenth, the residuals of 160 samples by a twentieth
            assert high - low == pytest.approx(e.high - e.low, rel=0.35), found.report()


def test_cycles_that_differ_widen_the_interval() -> None:
    """Mean ln r_on of n cycles with spread s: 95 % is 2 * 1.96 s / sqrt(n), however well each one is measured."""
    rng = np.random.default_rng(4)
    spread, n = 0.1, 8
    r_on = 1e3 * np.exp(spread * rng.normal(size=n))
    traces = [measured(TRUTH.replace(r_on=float(r)), 10 + k) for k, r in enumerate(r_on)]
    result = fit(TRUTH, traces, **QUICK)
    found = bootstrap(result, draws=100)
    assert found.kind == "cycles"
    low, high = found.interval("r_on")
    expected = 2 * 1.96 * np.log(r_on).std() / np.sqrt(n)
    assert np.log(high / low) == pytest.approx(expected, rel=0.4)  # 100 draws of 8
    covariance = next(e for e in result.estimates if e.name == "r_on")
    assert found.failed < 10
    assert np.log(high / low) > 2 * np.log(covariance.high / covariance.low) / np.sqrt(result.statistics["redchi"])


def test_runs_of_residuals_are_measured() -> None:
    rng = np.random.default_rng(2)
    white = rng.normal(size=4000)
    assert run_length(white) == 1
    # AR(1) with coefficient r: 1 + 2 r / (1 - r)
    slow = np.zeros(20000)
    for k in range(1, slow.size):
        slow[k] = 0.8 * slow[k - 1] + rng.normal()
    assert run_length(slow) == pytest.approx(9, abs=2)


def test_wild_draws_keep_the_runs_of_residuals() -> None:
    """Signs change run by run, so resampled residuals are about as alike to their neighbours as the residuals were."""
    trace = measured(TRUTH, 1)
    slow = np.sin(2 * np.pi * np.arange(len(trace)) / 40)  # a misfit in runs of 20 samples, ten times the noise
    result = fit(TRUTH, Trace(trace.t, trace.v, trace.i * (1 + 0.2 * slow)), **QUICK)
    problem, noise = result.problem, result.problem.noise
    level = noise.transform(problem.simulate(result.theta)[0])
    alike = []
    for seed in range(20):
        again = _other_noise(problem, result.theta, "wild", np.random.default_rng(seed)).traces[0]
        residual = noise.transform(again.i) - level
        alike.append(float(residual[1:] @ residual[:-1] / (residual @ residual)))
    assert np.mean(alike) > 0.5  # near 0 if every sample had its own sign


def test_impossible_bootstraps_are_refused() -> None:
    result = fit(TRUTH, measured(TRUTH, 1), **QUICK)
    with pytest.raises(ParameterError, match="no cycles to resample"):
        bootstrap(result, kind="cycles")
    with pytest.raises(ParameterError, match="at least 20 draws"):
        bootstrap(result, draws=3)
