"""Samplers have the distribution they say, and nothing but their generator decides what they return."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from devicelab import MMS, Biolek, parameter_set, simulate, sine
from devicelab.errors import ParameterError
from devicelab.noise import (
    Wear,
    apply_stuck,
    drift,
    flicker,
    levels,
    metastable_switches,
    read_noise,
    stuck,
    telegraph,
    write_noise,
)
from devicelab.variability import (
    autoregressive,
    correlated_lognormal,
    lognormal,
    resistance_pairs,
    simulate_cycles,
    spread,
    truncated_normal,
)

N = 40_000
SIGMAS = 4.5  # of the standard error: a fair sampler fails once in 150 000 runs, and seeds are fixed


def generators(seed: int = 1) -> list[object]:
    return [np.random.default_rng(seed), torch.Generator().manual_seed(seed)]


both = pytest.mark.parametrize("rng", generators(), ids=["numpy", "torch"])


def array(value: object) -> np.ndarray:
    return np.asarray(value)


def assert_mean(values: np.ndarray, expected: float) -> None:
    error = values.std() / np.sqrt(values.size)
    assert abs(values.mean() - expected) < SIGMAS * error, f"{values.mean()} against {expected} +- {error}"


@both
def test_truncated_normal_is_scipys_and_does_not_pile_up_at_its_bound(rng: object) -> None:
    x = array(truncated_normal(100.0, 500.0, 1.0, np.inf, N, rng))
    expected = stats.truncnorm((1 - 100) / 500, np.inf, loc=100, scale=500)
    assert stats.kstest(x, expected.cdf).pvalue > 1e-4
    assert (x == 1.0).mean() < 1e-3  # clamping puts 43 % of the devices there
    assert x.min() >= 1.0


@both
def test_truncated_normal_far_in_the_tail_stays_in_its_bounds(rng: object) -> None:
    x = array(truncated_normal(0.0, 1.0, 9.0, 10.0, 1000, rng))
    assert ((x >= 9.0) & (x <= 10.0)).all()
    assert x.std() > 0.01


@both
def test_lognormal_has_the_mean_and_spread_asked_for(rng: object) -> None:
    x = array(lognormal(1e4, 0.5, N, rng))
    assert_mean(x, 1e4)
    assert x.std() / x.mean() == pytest.approx(0.5, rel=0.03)


@both
def test_correlations_are_those_of_the_logarithms(rng: object) -> None:
    matrix = [[1.0, 0.7], [0.7, 1.0]]
    x = array(correlated_lognormal([1e3, 1e5], [0.1, 0.4], matrix, N, rng))
    assert np.corrcoef(np.log(x).T)[0, 1] == pytest.approx(0.7, abs=SIGMAS / np.sqrt(N))
    assert_mean(x[:, 1], 1e5)


@both
def test_r_on_is_below_r_off_by_construction(rng: object) -> None:
    on, off = resistance_pairs(1e3, 2e3, cv_on=0.8, cv_off=2.0, size=N, rng=rng)
    assert (array(off) > array(on)).all()
    assert np.median(array(on)) == pytest.approx(1e3, rel=0.03)
    assert np.median(array(off) / array(on)) == pytest.approx(2.0, rel=0.03)


@both
def test_spread_makes_a_batch_of_valid_devices(rng: object) -> None:
    model = parameter_set("vteam_memtorch")
    many = spread(model, {"r_on": 0.3, "r_off": 0.5, "v_on": 0.1, "k_on": 1.0}, 500, rng, {("v_on", "k_on"): 0.9})
    assert (array(many.v_on) < 0).all()
    assert np.corrcoef(np.log(-array(many.v_on)), np.log(array(many.k_on)))[0, 1] == pytest.approx(0.9, abs=0.05)
    assert simulate(many, sine(1.0, 50e6, points=100)).i.shape == (500, 101)


@both
def test_autoregressive_values_are_stationary_and_forget_exponentially(rng: object) -> None:
    x = array(autoregressive(2.0, 0.3, 5.0, (4000, 40), rng))
    assert x[:, 0].std() == pytest.approx(0.3, rel=0.05)
    assert x[:, -1].std() == pytest.approx(0.3, rel=0.05)
    for lag in (1, 5, 10):
        found = np.mean((x[:, :-lag] - 2.0) * (x[:, lag:] - 2.0)) / 0.09
        assert found == pytest.approx(np.exp(-lag / 5.0), abs=0.03)


def test_the_same_seed_gives_the_same_devices_and_global_state_is_untouched() -> None:
    before, torch_before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    for k in range(2):
        one = array(truncated_normal(0, 1, -1, 1, 10, generators(7)[k]))
        two = array(truncated_normal(0, 1, -1, 1, 10, generators(7)[k]))
        np.testing.assert_array_equal(one, two)
    array(telegraph((2, 50), 1e-3, generators(7)[1], t_capture=1e-2, t_emission=1e-2))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_a_seed_is_not_a_generator() -> None:
    with pytest.raises(ParameterError, match="not a random generator"):
        lognormal(1.0, 0.1, 10, 42)


@both
def test_write_noise_does_not_depend_on_how_a_pulse_is_cut(rng: object) -> None:
    """Sixteen steps of dx / 16 spread as one step of dx: variance adds up over the way."""
    zero = torch.full((N,), 0.5, dtype=torch.float64) if isinstance(rng, torch.Generator) else np.full(N, 0.5)
    once = array(write_noise(zero, 0.1, 0.05, rng))
    x = zero
    for _ in range(16):
        x = write_noise(x, 0.1 / 16, 0.05, rng)
    assert once.std() == pytest.approx(0.05 * np.sqrt(0.1), rel=0.03)
    assert array(x).std() == pytest.approx(once.std(), rel=0.03)
    assert_mean(array(x), 0.6)
    np.testing.assert_array_equal(array(write_noise(zero, 0.0, 0.05, rng)), array(zero))


@both
def test_write_noise_is_reflected_at_the_bounds(rng: object) -> None:
    top = torch.ones(N, dtype=torch.float64) if isinstance(rng, torch.Generator) else np.ones(N)
    x = array(write_noise(top, 1.0, 2.0, rng))
    assert ((x >= 0) & (x <= 1)).all()


@both
def test_thermal_and_shot_noise_have_their_textbook_size(rng: object) -> None:
    """sqrt(4 k T G B) = 4.07 pA/sqrt(Hz) at 1 kohm and 300 K; sqrt(2 q I B) = 5.66 pA at 0.1 mA and 1 Hz."""
    i = torch.full((N,), 1e-4, dtype=torch.float64) if isinstance(rng, torch.Generator) else np.full(N, 1e-4)
    noise = array(read_noise(i, 0.1, rng, bandwidth=1.0)) - 1e-4
    assert noise.std() == pytest.approx(np.hypot(4.0704e-12, 5.6606e-12), rel=0.02)
    assert_mean(noise, 0.0)


@both
def test_telegraph_noise_is_captured_for_its_share_of_the_time_whatever_the_step(rng: object) -> None:
    for dt in (1e-4, 1e-2, 1.0):
        state = array(telegraph((400, 500), dt, rng, t_capture=3e-2, t_emission=1e-2))
        assert state.mean() == pytest.approx(0.25, abs=0.03)
        assert state[:, 0].mean() == pytest.approx(0.25, abs=SIGMAS * 0.022)
    state = array(telegraph((200, 2000), 1e-3, rng, t_capture=3e-2, t_emission=1e-2))
    left = ((state[:, :-1] == 1) & (state[:, 1:] == 0)).sum() / (state[:, :-1] == 1).sum()
    assert left == pytest.approx(0.75 * -np.expm1(-1e-3 * (1 / 3e-2 + 1 / 1e-2)), rel=0.05)


@both
def test_flicker_noise_falls_as_one_over_f(rng: object) -> None:
    from scipy.signal import welch

    x = array(flicker((64, 8192), 1e-3, rng, f_low=0.5, f_high=200.0))
    f, density = welch(x, fs=1e3, nperseg=4096, axis=-1)
    inside = (f > 2) & (f < 60)
    slope = np.polyfit(np.log(f[inside]), np.log(density.mean(axis=0)[inside]), 1)[0]
    assert slope == pytest.approx(-1.0, abs=0.12)
    assert x.var() == pytest.approx(1.0, rel=0.1)


def test_levels_are_even_in_what_they_say() -> None:
    g = np.geomspace(1e-5, 1e-3, 1000)
    in_g = np.unique(levels(g, 5, 1e-5, 1e-3))
    np.testing.assert_allclose(np.diff(in_g), 2.475e-4, rtol=1e-9)
    in_r = np.unique(levels(g, 5, 1e-5, 1e-3, even_in="R"))
    np.testing.assert_allclose(np.diff(1 / in_r), -2.475e4, rtol=1e-9)
    np.testing.assert_array_equal(levels(torch.tensor(g), 5, 1e-5, 1e-3).numpy(), levels(g, 5, 1e-5, 1e-3))
    assert set(levels(g, np.array([2e-5, 5e-4]), 0, 0)) == {2e-5, 5e-4}
    assert np.abs(levels(g, 1000, 1e-5, 1e-3) - g).max() <= 0.5 * (1e-3 - 1e-5) / 999 * (1 + 1e-9)


@both
def test_stuck_devices_have_their_shares_and_no_overlap(rng: object) -> None:
    kind = array(stuck((200, 200), rng, on=0.05, off=0.1, pristine=0.02))
    for value, share in ((1, 0.05), (2, 0.1), (3, 0.02)):
        assert (kind == value).mean() == pytest.approx(share, abs=SIGMAS * np.sqrt(share / N))
    g = apply_stuck(np.full((200, 200), 5e-5), kind, 1e-3, 1e-5)
    assert set(np.round(g.ravel(), 12)) == {5e-5, 1e-3, 1e-5, 1e-6}


def test_wear_begins_at_its_threshold_and_ends_at_its_stable_value() -> None:
    wear = Wear(p0=1e6, p1=0.1, p2=-0.5, p3=0.4, stable=5e4)
    begins = 1e6 * np.exp(0.1 * 10 - 0.5)  # by hand
    assert wear.threshold() == pytest.approx(begins, rel=1e-12)
    assert wear.resistance(1e3, 0.99 * begins) == 1e3
    assert wear.resistance(1e3, 10 * begins) == pytest.approx(1e3 * 10 ** (0.4 * 0.5), rel=1e-12)
    assert wear.resistance(1e3, 1e40) == 5e4
    assert wear.threshold(temperature=596.0) == pytest.approx(1e6 * np.exp(1.0 - 0.25), rel=1e-12)
    sudden = Wear(p0=1e6, p1=0.1, p2=-0.5, p3=0.0, stable=5e4)
    np.testing.assert_array_equal(sudden.resistance(1e3, np.array([0.5, 2.0]) * begins), [1e3, 5e4])


def test_drift_follows_its_power_law() -> None:
    assert drift(1e-4, 1e3, nu=0.1) == pytest.approx(1e-4 * 10**-0.3, rel=1e-12)
    assert drift(1e-4, 0.5) == 1e-4


def test_cycles_go_on_where_the_last_one_ended() -> None:
    """One array operation against one cycle after the other."""
    base = parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)
    rng = np.random.default_rng(5)
    model = base.replace(v_on=-0.53 * np.exp(0.1 * rng.normal(size=12)), r_off=2500 * np.exp(0.2 * rng.normal(size=12)))
    drive = sine(0.9, 0.5, points=200)
    together = simulate_cycles(model, drive, x0=0.3)
    x = 0.3
    for n in range(12):
        one = simulate(base.replace(v_on=float(model.v_on[n]), r_off=float(model.r_off[n])), drive, x0=x)
        np.testing.assert_allclose(together.x[n], one.x, atol=1e-8)
        x = float(one.x[-1])


def test_ten_thousand_cycles_are_one_array_operation() -> None:
    model = spread(parameter_set("vteam_pt_hf_ti"), {"v_on": 0.05, "v_off": 0.05}, 2_000, np.random.default_rng(0))
    trace = simulate_cycles(model, sine(1.0, 0.5, points=100), x0=1.0)
    assert trace.i.shape == (2_000, 101)


def test_many_metastable_switches_are_the_deterministic_model() -> None:
    model, drive = parameter_set("mms_knowm"), sine(0.35, 100.0, points=400)
    assert isinstance(model, MMS)
    smooth = simulate(model, drive, x0=0.1)
    count = 200_000
    grained = metastable_switches(model, drive, count, np.random.default_rng(2), x0=0.1)
    assert np.abs(grained.x - smooth.x).max() < 6 * np.sqrt(0.25 / count) + 3e-3  # binomial, and voltage held a sample
    few = metastable_switches(model, drive, 10, np.random.default_rng(2), x0=0.1)
    assert set(np.round(10 * few.x, 9)) <= set(range(11))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: truncated_normal(0, 0, 0, 1, 3, r), "impossible truncated normal"),
        (lambda r: lognormal(-1, 0.1, 3, r), "impossible lognormal"),
        (lambda r: correlated_lognormal([1, 1], [0.1, 0.1], [[1, 2], [2, 1]], 3, r), "not a correlation matrix"),
        (lambda r: resistance_pairs(2e3, 1e3, cv_on=0.1, cv_off=0.1, size=3, rng=r), "r_on must be below r_off"),
        (lambda r: spread(parameter_set("vteam_memtorch"), {"r_onn": 0.1}, 3, r), "unknown parameter"),
        (lambda r: stuck(3, r, on=0.7, off=0.7), "impossible shares"),
        (lambda r: telegraph((1, 2), 1.0, r, t_capture=-1, t_emission=1), "times must be positive"),
        (lambda r: levels(np.ones(2), 1, 1e-5, 1e-3), "impossible levels"),
        (lambda r: autoregressive(0.0, -1.0, 3.0, (2, 2), r), "must not be negative"),
        (lambda r: simulate_cycles(parameter_set("vteam_memtorch"), sine(1.0, 1.0)), "cycles need parameters"),
    ],
)
def test_impossible_requests_are_refused(call: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        call(np.random.default_rng(0))


@pytest.mark.parametrize("seed", [np.random.default_rng, lambda n: torch.Generator().manual_seed(n)])
def test_noise_is_of_the_kind_of_what_it_is_added_to(seed: object) -> None:
    """Whatever made the numbers: float32 stays float32, arrays stay arrays."""
    for x in (torch.full((3,), 0.5, dtype=torch.float32), torch.full((3,), 0.5, dtype=torch.float64), np.full(3, 0.5)):
        for noisy in (write_noise(x, 0.1, 0.1, seed(0)), read_noise(1e-4 * x, 0.1, seed(0), bandwidth=1e6)):
            assert type(noisy) is type(x)
            assert noisy.dtype == x.dtype
            assert len(set(noisy.tolist())) == 3


def test_wear_and_drift_of_tensors_are_those_of_arrays() -> None:
    wear = Wear(p0=1e6, p1=0.1, p2=-0.5, p3=0.4, stable=5e4)
    sudden = Wear(p0=1e6, p1=0.1, p2=-0.5, p3=0.0, stable=5e4)
    r, x = np.array([1e3, 2e3, 8e4]), np.array([1e3, 1e8, 1e12])
    for model in (wear, sudden):
        there = model.resistance(torch.tensor(r), torch.tensor(x), temperature=torch.tensor(400.0, dtype=torch.float64))
        np.testing.assert_allclose(there.numpy(), model.resistance(r, x, temperature=400.0), rtol=1e-12)
    t = torch.tensor([0.5, 10.0], dtype=torch.float64, requires_grad=True)
    g = drift(1e-4, t)
    np.testing.assert_allclose(g.detach().numpy(), drift(1e-4, t.detach().numpy()), rtol=1e-12)
    (slope,) = torch.autograd.grad(g.sum(), t)
    np.testing.assert_allclose(slope.numpy(), [0.0, -0.1 * 1e-4 * 10.0**-1.1], rtol=1e-12)


@pytest.mark.parametrize("rounds", [50, 0])
def test_cycles_may_differ_in_their_window_only(rounds: int) -> None:
    """Also where the rounds do not settle and the cycles are run one after the other."""
    base = parameter_set("vteam_pt_hf_ti").replace(k_on=6.0)
    orders, drive = np.array([1.0, 2.0, 3.0]), sine(0.9, 0.5, points=200)
    together = simulate_cycles(base.replace(window=Biolek(p=orders)), drive, x0=0.3, rounds=rounds)
    x = 0.3
    for n in range(3):
        one = simulate(base.replace(window=Biolek(p=float(orders[n]))), drive, x0=x)
        np.testing.assert_allclose(together.x[n], one.x, atol=1e-7)
        x = float(one.x[-1])
