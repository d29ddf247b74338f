"""A fit that is wrong does not look right: structure in the residual, other solutions, bent valleys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from devicelab import VTEAM, Trace, simulate, triangle
from fits import FitResult, fit
from fits.problem import Problem
from fits.result import _alternatives, bent, residual_structure

TRUTH = VTEAM(r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=60.0, k_off=40.0, a_on=2.0, a_off=2.0)
SHAPE = ("b_on", "b_off", "a_on", "a_off")
NOISE = (0.02, 1e-6)
QUICK = {"fixed": SHAPE, "noise": NOISE, "screen": 256, "starts": 2}


def measured(model: VTEAM = TRUTH, memory: float = 0.0, scale: float = 1.0, points: int = 300) -> Trace:
    """A loop with first-order autoregressive noise of the stated size."""
    ideal = simulate(model, triangle(-1.0, 1.0, points=points), x0=0.05)
    white = np.random.default_rng(1).normal(size=len(ideal))
    noise = white.copy()
    for k in range(1, noise.size):
        noise[k] = memory * noise[k - 1] + np.sqrt(1.0 - memory**2) * white[k]
    return Trace(ideal.t, ideal.v, ideal.i + scale * np.hypot(NOISE[0] * ideal.i, NOISE[1]) * noise)


@pytest.fixture(scope="module")
def good() -> FitResult:
    return fit(TRUTH, measured(), **QUICK)


def test_a_right_model_with_white_noise_is_trusted(good: FitResult) -> None:
    assert good.trusted
    assert not good.warnings
    assert abs(good.statistics["lag1"]) < 4 / np.sqrt(good.statistics["samples"])
    assert abs(good.statistics["runs"]) < 4
    assert good.statistics["inflation"] == 1.0
    assert "NOT TRUSTED" not in good.report()


def test_correlated_noise_is_measured_and_widens_the_intervals(good: FitResult) -> None:
    """An autoregression of 0.8: the variance of a mean is (1 + 0.8) / (1 - 0.8) = 9 times that of white noise."""
    result = fit(TRUTH, measured(memory=0.8), **QUICK)
    truth = result.problem.space.encode(TRUTH, [0.05])  # a fit takes some of it away
    assert residual_structure(result.problem, truth)["lag1"] == pytest.approx(0.8, abs=0.12)
    assert result.statistics["runs"] < -5
    r = result.statistics["lag1"]
    assert result.statistics["inflation"] == pytest.approx((1 + r) / (1 - r))
    k = result.problem.space.index("r_on")
    assert 1.6 < (result.covariance[k, k] / good.covariance[k, k]) ** 0.5 < 4.5
    assert not result.trusted


def test_the_wrong_law_is_not_trusted() -> None:
    other = TRUTH.replace(resistance="exponential", k_on=10.0, k_off=6.0)
    result = fit(TRUTH, measured(other), **QUICK)
    assert not result.trusted
    assert any("does not describe the traces" in line and "alike" in line for line in result.warnings)
    assert "NOT TRUSTED" in result.report()
    assert '"trusted": false' in result.to_json()


def test_noise_twice_as_large_as_stated_is_told_from_a_wrong_model(good: FitResult) -> None:
    result = fit(TRUTH, measured(scale=2.0), **QUICK)
    assert result.statistics["redchi"] == pytest.approx(4.0, rel=0.3)
    assert any("noise is larger than assumed" in line for line in result.warnings)
    k = result.problem.space.index("r_on")  # the stated noise is a scale only
    assert (result.covariance[k, k] / good.covariance[k, k]) ** 0.5 == pytest.approx(2.0, rel=0.2)


def test_neighbours_across_a_gap_of_the_mask_are_no_neighbours(good: FitResult) -> None:
    """Every second sample left out: no pair is left, and nothing is said."""
    mask = np.arange(good.masks[0].size) % 2 == 0
    problem = replace(good.problem, masks=[mask])
    assert residual_structure(problem, good.theta)["lag1"] == 0.0


class Analytic(Problem):
    """A least-squares problem in closed form on the coordinates of a real one, u = (theta - centre) / width."""

    def made(self, u: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def residual(self, theta: np.ndarray) -> np.ndarray:
        u = (theta - self.space.middle) / self.space.width
        data = self.made(u)
        rest = np.zeros((*theta.shape[:-1], self.size - data.shape[-1]))
        return np.concatenate([data, rest, 1e-6 * u], axis=-1)

    @classmethod
    def like(cls, other: Problem) -> Problem:
        return cls(other.traces, other.masks, other.noise, other.space, other.bench, misfit=1.0)


class Straight(Analytic):
    def made(self, u: np.ndarray) -> np.ndarray:
        return u / 0.01


class Even(Analytic):
    """The misfit depends on the square of the first coordinate, as it does on the curvature of a sinh that is nearly
    straight: (u^2 - 0.04) / sigma, minima at +-0.2."""

    sigma = 0.016

    def made(self, u: np.ndarray) -> np.ndarray:
        return np.concatenate([(u[..., :1] ** 2 - 0.04) / self.sigma, u[..., 1:] / 0.01], axis=-1)


class Strong(Even):
    sigma = 0.0275


class Narrow(Even):
    sigma = 0.001


def at_minimum(problem: Problem) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    theta = problem.space.middle.copy()
    theta[0] += 0.2 * problem.space.width[0]
    jac = problem.jacobian(theta)
    return theta, np.linalg.inv(jac.T @ jac), jac


def test_a_parabola_is_not_bent_and_the_square_of_a_coordinate_is(good: FitResult) -> None:
    """At 1.96 standard deviations d = 1.96 sigma / 0.4 above and below 0.2, chi2 has risen (1 +- d / 0.4)^2
    times as far as the parabola: 0.65 and 1.44 for sigma = 0.016, 0.44 and 1.78 for 0.0275."""
    for kind, expected in ((Straight, {}), (Even, {}), (Strong, {0: (pytest.approx(1 / 0.663, rel=0.01), 1.0)})):
        problem = kind.like(good.problem)
        theta, covariance, jac = at_minimum(problem)
        theta = problem.space.middle if kind is Straight else theta
        assert bent(problem, theta, covariance, jac) == expected, kind


def test_the_other_of_two_wells_is_named(good: FitResult) -> None:
    problem = Narrow.like(good.problem)
    theta, covariance, _ = at_minimum(problem)
    other, wall = theta.copy(), theta.copy()
    other[0] -= 0.4 * problem.space.width[0]
    wall[0] -= 0.1 * problem.space.width[0]  # between the wells chi2 is 900
    close = theta + 0.1 * np.sqrt(np.diag(covariance))
    models, lines = _alternatives(problem, theta, covariance, [other, wall, close], {"inflation": 1.0})
    assert len(models) == len(lines) == 1
    name = problem.space.axes[0].name
    assert getattr(models[0], name) == pytest.approx(getattr(problem.device(other)[0], name))
    assert "several solutions" in lines[0]
    assert name in lines[0]


def set_voltage(trace: Trace) -> float:
    """The first voltage at which the current of the negative half has half its largest magnitude."""
    there = (-trace.v > 0) & (-trace.i > 0.5 * (-trace.i).max())
    return float(trace.v[there][0])


def test_errors_of_the_switching_voltages_are_those_put_in() -> None:
    shifted = TRUTH.replace(v_on=-0.4)
    trace = measured(scale=0.01)
    step = float(np.abs(np.diff(trace.v)).max())
    right = fit(TRUTH, trace, **QUICK)
    assert right.metrics["v_set_error"] < step
    assert right.metrics["v_reset_error"] < step
    wrong = fit(shifted, trace, vary=["r_on", "r_off"], noise=NOISE, screen=64, starts=1)
    expected = abs(set_voltage(trace) - set_voltage(wrong.simulate()[0]))
    assert 0.08 < expected < 0.2
    assert wrong.metrics["v_set_error"] == pytest.approx(expected, abs=step)
    assert "V_set" in wrong.report()


def test_the_ends_of_the_box_are_one_misfit_from_its_middle(good: FitResult) -> None:
    space = good.problem.space
    at_top = replace(good.problem, misfit=3.0).residual(space.high)[-len(space.axes) :]
    np.testing.assert_allclose(at_top, 3.0)
    np.testing.assert_allclose(good.problem.residual(space.middle)[-len(space.axes) :], 0.0)
