"""Noise of the motion has the variance that its equation says, whatever the sampling; without it nothing changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from devicelab import MMS, VTEAM, Drive, parameter_set, simulate, sine
from devicelab.errors import ParameterError
from devicelab.noise import metastable_switches
from devicelab.stochastic import StanfordNoise, WriteNoise, simulate_noisy

SIGMAS = 4.5  # standard errors of a mean; seeds are fixed
both = pytest.mark.parametrize("seed", [np.random.default_rng, lambda n: torch.Generator().manual_seed(n)])


def rest(t: float, points: int) -> Drive:
    return Drive(np.linspace(0.0, t, points), np.zeros(points))


@both
@pytest.mark.parametrize("points", [3, 11, 101])
def test_the_gap_wanders_with_the_square_root_of_time_whatever_the_samples(seed: object, points: int) -> None:
    """At 0 V, T = t_ini: sd = delta_gap / (1 + exp((450 - 298) / 500)) sqrt(reference_step t)."""
    model, count, t = parameter_set("stanford_default"), 4000, 1e-7
    noise = StanfordNoise(delta_gap=5e-4, reference_step=1e-9)
    trace = simulate_noisy(model, rest(t, points), noise, seed(1), x0=0.5, count=count)
    gap = (trace.x[:, -1] - 0.5) * (model.g_max - model.g_min)
    expected = 5e-4 / (1.0 + np.exp((450.0 - 298.0) / 500.0)) * np.sqrt(1e-9 * t)
    assert gap.std() == pytest.approx(expected, rel=SIGMAS / np.sqrt(2 * count))
    assert abs(gap.mean()) < SIGMAS * expected / np.sqrt(count)


def test_at_the_reference_step_the_noise_of_the_gap_is_the_published_one() -> None:
    """One step: gap += velocity N(0, 1) dt."""
    model, dt = parameter_set("stanford_default"), 2e-9
    noise = StanfordNoise(delta_gap=0.02, reference_step=dt, t_crit=200.0, t_smooth=50.0)
    x = np.array([0.5])
    sd = noise.deviation(model, np.array([0.0]), x, 0.0 * x, dt)[0] * (model.g_max - model.g_min)
    assert sd == pytest.approx(0.02 / (1.0 + np.exp((200.0 - 298.0) / 50.0)) * dt, rel=1e-9)


def test_a_hot_filament_is_noisier() -> None:
    """T = 298 K + r_th |v i| enters the onset."""
    model = parameter_set("stanford_default")
    noise = StanfordNoise(delta_gap=0.02, reference_step=1e-9, t_smooth=50.0)
    v, x = np.array([1.2]), np.array([1.0])
    heat = 298.0 + model.r_th * float(abs(1.2 * model.current(1.2, 1.0)))
    ratio = (1 + np.exp((450 - 298.0) / 50)) / (1 + np.exp((450 - heat) / 50))
    cold, hot = (noise.deviation(model, u, x, 0.0 * x, 1e-9)[0] for u in (0.0 * v, v))
    assert ratio > 1.5
    assert hot / cold == pytest.approx(ratio, rel=1e-9)


@pytest.mark.parametrize("name", ["stanford_default", "vteam_pt_hf_ti"])
def test_without_noise_the_deterministic_model_remains(name: str) -> None:
    model = parameter_set(name)
    drive = sine(1.4, 1e3, points=200) if name.startswith("stanford") else sine(0.9, 0.5, points=200)
    silent = (
        StanfordNoise(delta_gap=0.0, reference_step=1e-9) if name.startswith("stanford") else WriteNoise(strength=0)
    )
    trace = simulate_noisy(model, drive, silent, np.random.default_rng(0), x0=0.3, count=2)
    np.testing.assert_allclose(trace.x, np.stack([simulate(model, drive, x0=0.3).x] * 2), atol=1e-5)


@pytest.mark.parametrize("points", [6, 61])
def test_write_noise_of_a_trace_grows_with_the_way_travelled(points: int) -> None:
    """sd = strength sqrt(way), away from the ends, with six samples as with sixty."""
    model = VTEAM(r_on=1e3, r_off=1e5, v_on=-0.5, v_off=0.5, k_on=1.0, k_off=1.0)
    drive = Drive(np.linspace(0.0, 0.3, points), np.full(points, -1.0))
    trace = simulate_noisy(model, drive, WriteNoise(strength=0.05), np.random.default_rng(3), x0=0.3, count=4000)
    way = simulate(model, drive, x0=0.3).x[-1] - 0.3
    assert trace.x[:, -1].std() == pytest.approx(0.05 * np.sqrt(way), rel=SIGMAS / np.sqrt(8000))
    assert trace.x[:, -1].mean() == pytest.approx(0.3 + way, abs=SIGMAS * 0.05 / np.sqrt(4000))


@both
def test_the_same_seed_gives_the_same_runs(seed: object) -> None:
    model, drive = parameter_set("vteam_pt_hf_ti"), sine(0.9, 0.5, points=40)
    runs = [simulate_noisy(model, drive, WriteNoise(strength=0.1), seed(5), x0=0.3, count=3).x for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    assert not np.array_equal(runs[0][0], runs[0][1])
    assert runs[0].min() >= 0.0
    assert runs[0].max() <= 1.0


@both
def test_metastable_switches_have_the_mean_and_variance_of_their_markov_chain(seed: object) -> None:
    """At constant voltage x_on -> x_inf + (1 - x_inf) e, x_off -> x_inf (1 - e), e = exp(-(P_on + P_off) k t).

    The number that are on is the sum of two binomials: N0 of the first chance, N - N0 of the second.
    """
    model, rng, runs, count, x0 = parameter_set("mms_knowm"), seed(6), 1500, 40, 0.25
    assert isinstance(model, MMS)
    v = 0.25
    vt = 8.617333262e-5 * model.temperature
    on = 1 / (1 + np.exp(-(v - model.v_on) / vt))
    off = 1 / (1 + np.exp((v + model.v_off) / vt))
    t = 0.8 / (model.k * (on + off))
    for points in (2, 5):
        drive = Drive(np.linspace(0.0, t, points), np.full(points, v))
        ends = np.array([metastable_switches(model, drive, count, rng, x0=x0).x[-1] for _ in range(runs)]) * count
        stay = on / (on + off) + off / (on + off) * np.exp(-0.8)
        come = on / (on + off) * (1 - np.exp(-0.8))
        mean = count * (x0 * stay + (1 - x0) * come)
        variance = count * (x0 * stay * (1 - stay) + (1 - x0) * come * (1 - come))
        assert ends.mean() == pytest.approx(mean, abs=SIGMAS * np.sqrt(variance / runs))
        assert ends.var() == pytest.approx(variance, rel=SIGMAS * np.sqrt(2 / runs))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: StanfordNoise(delta_gap=-1.0, reference_step=1e-9), "impossible noise of the gap"),
        (lambda r: StanfordNoise(delta_gap=1.0, reference_step=0.0), "impossible noise of the gap"),
        (
            lambda r: simulate_noisy(
                parameter_set("vteam_memtorch"), rest(1.0, 3), StanfordNoise(delta_gap=1.0, reference_step=1.0), r
            ),
            "needs a gap",
        ),
        (
            lambda r: simulate_noisy(parameter_set("vteam_memtorch"), rest(1.0, 3), WriteNoise(strength=1), r, x0=2),
            "x0",
        ),
        (
            lambda r: simulate_noisy(parameter_set("vteam_memtorch"), rest(1.0, 3), WriteNoise(strength=1), r, count=0),
            "runs",
        ),
    ],
)
def test_impossible_noise_is_refused(call: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call(np.random.default_rng(0))
