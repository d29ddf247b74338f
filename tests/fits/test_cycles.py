"""Cycle to cycle: the spread that was put in comes out, without the scatter of the estimates, and with its memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from devicelab import VTEAM, Trace, simulate, triangle
from devicelab.errors import ParameterError
from devicelab.events import simulate_events
from devicelab.variability import spread
from fits import Noise, fit
from fits.cycles import Population, agreement, agreement_report, cycles, plot_agreement, random_effects, two_samples

TRUTH = VTEAM(r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=60.0, k_off=40.0, a_on=2.0, a_off=2.0)
NOISE = (0.02, 2e-6)
DRIVE = triangle(-1.0, 1.0, points=160)
HELD = {"fixed": ["b_on", "b_off", "a_on", "a_off"], "noise": NOISE, "screen": 256, "starts": 2}
NAMES = ["r_on", "r_off", "v_on", "v_off"]
CV = {"r_on": 0.05, "r_off": 0.2, "v_on": 0.06, "v_off": 0.04}


def population(memory: float = 0.0) -> Population:
    sd = np.sqrt(np.log1p(np.array(list(CV.values())) ** 2))
    correlation = np.eye(4)
    correlation[0, 1] = correlation[1, 0] = 0.5
    mean = np.log([1e3, 19.0, 0.5, 0.5])
    return Population(
        TRUTH, NAMES, mean, np.outer(sd, sd) * correlation, np.full(4, memory), Noise(*NOISE), 0.02, (np.inf, np.inf)
    )


def test_the_spread_put_in_comes_out() -> None:
    traces = population().simulate(DRIVE, 60, np.random.default_rng(5))
    found = cycles(TRUTH, traces, vary=NAMES, **HELD)
    assert not found.problems
    for name, cv in CV.items():
        # 60 cycles give a spread to 9 % (standard error), 3 of them
        assert found.population.cv[name] == pytest.approx(cv, rel=0.28), found.report()
    seen = found.coordinates[:, 1].var(ddof=1)
    assert seen > found.population.covariance[1, 1], "the errors of the estimates are taken off"
    assert found.population.correlation["r_on", "r_off"] == pytest.approx(0.5, abs=0.3)  # 0.1 standard error
    assert (found.population.memory == 0).sum() >= 3
    assert found.population.starts is None, "each cycle began where the one before ended"
    again = agreement(found, traces, cycles=120, seed=1)
    assert {"v_set.threshold", "v_reset.threshold", "r_on", "r_off", "area"} <= set(again)
    assert all(entry.ks[1] > 0.003 for entry in again.values()), agreement_report(again)
    assert isinstance(found.plot(), Figure)
    assert isinstance(plot_agreement(again), Figure)


def test_a_wrong_spread_is_found_out() -> None:
    traces = population().simulate(DRIVE, 60, np.random.default_rng(5))
    found = cycles(TRUTH, traces, vary=["r_on", "r_off"], **HELD)  # the thresholds are taken to be fixed
    again = agreement(found, traces, cycles=120)
    assert again["v_set.threshold"].ks[1] < 0.01
    assert again["v_set.threshold"].anderson[1] < 0.01
    assert again["v_set.threshold"].energy[1] < 0.01


def test_errors_of_estimates_are_taken_off_the_spread() -> None:
    """y = truth + error, the error as large as the spread and different from cycle to cycle."""
    rng = np.random.default_rng(0)
    true = np.array([[0.04, 0.01], [0.01, 0.01]])
    n = 4000
    scale = rng.uniform(0.5, 1.5, n)
    errors = scale[:, None, None] * np.array([[0.04, -0.01], [-0.01, 0.02]])
    y = np.array([rng.multivariate_normal([1.0, 2.0], true + one) for one in errors])
    mean, covariance = random_effects(y, errors)
    np.testing.assert_allclose(mean, [1.0, 2.0], atol=0.02)
    # standard error of a variance of 4000 with total 0.08: 0.08 sqrt(2 / 4000) = 0.002
    np.testing.assert_allclose(covariance, true, atol=0.006)
    assert np.cov(y.T)[0, 0] > 1.8 * true[0, 0]


def test_no_spread_is_no_spread() -> None:
    rng = np.random.default_rng(1)
    errors = np.broadcast_to(np.array([[0.01]]), (500, 1, 1))
    _, covariance = random_effects(rng.normal(0.0, 0.1, (500, 1)), errors)
    assert covariance[0, 0] < 0.002  # three standard errors of 0.01


def test_drawn_cycles_have_the_stated_distribution_and_memory() -> None:
    drawn = population(0.8).draw(40_000, np.random.default_rng(3)).values()
    for name, cv in CV.items():
        x = np.abs(np.asarray(drawn[name]) / np.asarray(drawn["r_on"]) - 1) if name == "r_off" else np.abs(drawn[name])
        assert np.std(x) / np.mean(x) == pytest.approx(cv, rel=0.06)  # memory leaves 4400 independent cycles
        y = np.log(x) - np.log(x).mean()
        assert np.mean(y[1:] * y[:-1]) / np.mean(y * y) == pytest.approx(0.8, abs=0.02)
    assert (np.asarray(drawn["r_off"]) > np.asarray(drawn["r_on"])).all()


def test_the_sampler_of_the_library_draws_the_same() -> None:
    own = population()
    theirs = spread(own.model, own.cv, 20_000, np.random.default_rng(1), own.correlation).values()
    mine = own.draw(20_000, np.random.default_rng(2)).values()
    for name in NAMES:
        np.testing.assert_allclose(np.quantile(theirs[name], (0.1, 0.5, 0.9)), np.quantile(mine[name], (0.1, 0.5, 0.9)),
                                   rtol=0.01)  # fmt: skip


def test_draws_at_switching_events_have_the_same_spread() -> None:
    own = population(0.5)
    events = own.event_spread()
    assert set(events.set) == {"r_on", "v_on"}
    assert set(events.reset) == {"r_off", "v_off"}
    assert events.memory == pytest.approx(1 / np.log(2))
    drawn = simulate_events(TRUTH, triangle(-1.0, 1.0, points=40, cycles=4000), events, np.random.default_rng(1))[1][0]
    mine = own.draw(4000, np.random.default_rng(2)).values()
    for values, name in ((drawn.set["v_on"], "v_on"), (drawn.set["r_on"], "r_on"), (drawn.reset["r_off"], "r_off")):
        own_spread = np.log(np.abs(np.asarray(mine[name]))).std()
        assert np.log(np.abs(values)).std() == pytest.approx(own_spread, rel=0.12)  # 1300 independent: 2 %; the ratio


def test_memory_is_seen_in_the_fits() -> None:
    """AR(1) with 0.8 over 60 cycles: the estimate scatters by about 0.1 and is biased low by 4 / 60."""
    traces = population(0.8).simulate(DRIVE, 60, np.random.default_rng(8))
    found = cycles(TRUTH, traces, vary=["r_on", "v_on"], **HELD)
    assert found.population.memory[0] == pytest.approx(0.75, abs=0.25)
    assert found.p_memory[0] < 1e-3


def test_two_samples_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=60)
    same = two_samples("x", "1", a, rng.normal(size=80), rng)
    other = two_samples("x", "1", a, 1.0 + rng.normal(size=80), rng)
    wide = two_samples("x", "1", a, 2.5 * rng.normal(size=80), rng)
    for name in ("ks", "anderson", "energy"):
        assert getattr(same, name)[1] > 0.01
        assert getattr(other, name)[1] < 0.01
        assert getattr(wide, name)[1] < 0.02


def test_a_compliance_is_in_the_simulated_cycles() -> None:
    limited = Population(TRUTH, ["r_on"], np.log([1e3]), np.array([[1e-4]]), np.zeros(1), Noise(*NOISE), 0.0,
                         (3e-4, np.inf))  # fmt: skip
    trace = limited.simulate(DRIVE, 8, np.random.default_rng(0))[3]
    assert trace.i.min() > -3.4e-4
    assert trace.i.max() > 3.4e-4


def test_the_chain_hands_the_state_on() -> None:
    """Without noise or spread, cycle 2 begins where cycle 1 ended: the same as one long drive of two cycles."""
    quiet = Population(TRUTH, ["r_on"], np.log([1e3]), np.array([[1e-20]]), np.zeros(1), Noise(1e-9, 1e-18), 0.3)
    small = triangle(-0.62, 1.0, points=160)
    first, second = quiet.simulate(small, 2, np.random.default_rng(0))
    whole = simulate(TRUTH, triangle(-0.62, 1.0, points=160, cycles=2), x0=0.3)
    np.testing.assert_allclose(first.i, whole.i[:161], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(second.i, whole.i[160:], rtol=1e-6, atol=1e-12)


def test_cycles_that_begin_elsewhere_than_the_last_one_ended_draw_their_starts() -> None:
    """Each begins at 0.3 +- 0.05, and ends near 0: a device whose state relaxes, or a model that lacks something."""
    rng = np.random.default_rng(4)
    begun = 0.3 + 0.05 * rng.normal(size=20)
    traces = []
    for x0 in begun:
        ideal = simulate(TRUTH, DRIVE, x0=x0)
        assert ideal.x[-1] < 0.05
        noise = np.hypot(NOISE[0] * ideal.i, NOISE[1]) * rng.normal(size=len(ideal))
        traces.append(Trace(ideal.t, ideal.v, ideal.i + noise))
    found = cycles(fit(TRUTH, traces[0], start=TRUTH, **HELD), traces, vary=["r_on", "r_off"], noise=NOISE)
    starts = found.population.starts
    assert starts is not None
    np.testing.assert_allclose(starts, begun, atol=0.02)
    drawn = found.population.simulate(DRIVE, 200, rng)
    first = np.array([np.median(np.abs(trace.i[2:8] / trace.v[2:8])) for trace in drawn])
    seen = np.array([np.median(np.abs(trace.i[2:8] / trace.v[2:8])) for trace in traces])
    assert np.median(first) == pytest.approx(np.median(seen), rel=0.1)


def test_whole_cycles_keep_the_form_that_a_normal_distribution_has_not() -> None:
    """Two kinds of cycles, r_on 800 and 1200 ohm, r_off low with the one and high with the other."""
    own = population()
    low, high = np.log([800.0, 9.0, 0.5, 0.5]), np.log([1200.0, 30.0, 0.5, 0.5])
    seen = np.concatenate([np.tile(low, (30, 1)), np.tile(high, (10, 1))])
    spread = np.cov(seen.T) + 1e-12 * np.eye(4)
    both = replace(own, mean=seen.mean(0), covariance=spread, seen=seen, noise=Noise(1e-9, 1e-18))
    back = np.argmin(DRIVE.v) + 20  # on the way back from SET
    for kind, share in (("resampled", 1.0), ("normal", 0.5)):
        traces = both.simulate(DRIVE, 400, np.random.default_rng(1), kind=kind)
        r_on = np.array([trace.v[back] / trace.i[back] for trace in traces])
        near = (np.abs(r_on / 800 - 1) < 0.02) | (np.abs(r_on / 1200 - 1) < 0.02)
        assert near.mean() == 1.0 if share == 1.0 else near.mean() < share
        if kind == "resampled":
            assert (r_on < 1000).mean() == pytest.approx(0.75, abs=0.07)  # three standard errors
    with pytest.raises(ParameterError, match="no fitted cycles"):
        own.simulate(DRIVE, 4, np.random.default_rng(1), kind="resampled")
    with pytest.raises(ParameterError, match="unknown kind of draw"):
        own.simulate(DRIVE, 4, np.random.default_rng(1), kind="other")  # type: ignore[arg-type]


def test_too_few_cycles_are_refused() -> None:
    traces = population().simulate(DRIVE, 5, np.random.default_rng(5))
    with pytest.raises(ParameterError, match="too few cycles"):
        cycles(TRUTH, traces)
    with pytest.raises(ParameterError, match="unknown parameter"):
        cycles(fit(TRUTH, traces[0], **HELD), traces * 2, vary=["r_onn"])


def test_a_cycle_that_cannot_be_fitted_is_named() -> None:
    traces = population().simulate(DRIVE, 10, np.random.default_rng(5))
    dead = Trace(traces[4].t, traces[4].v, 0 * traces[4].i)
    found = cycles(fit(TRUTH, traces[0], **HELD), [*traces[:4], dead, *traces[5:]], vary=["r_on"])
    assert list(found.problems) == [4]
    assert "no current" in found.problems[4]
    assert len(found.values) == 9
