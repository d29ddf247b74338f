"""Cycle-to-cycle draws: one an event, seen in the trace where physics says, whatever the sampling."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from devicelab import VTEAM, Biolek, Drive, LinearIonDrift, parameter_set, pulses, simulate, sine
from devicelab.errors import ParameterError
from devicelab.events import EventSpread, simulate_events, stretches

ROUNDING = 1e-10
SIGMAS = 4.5  # standard errors; seeds are fixed


def device(**changes: object) -> VTEAM:
    """Switches fully, both ways, in a fraction of a half-cycle of a 1 V sine of 1 Hz."""
    base = {"r_on": 1e3, "r_off": 1e5, "v_on": -0.5, "v_off": 0.5, "k_on": 60.0, "k_off": 60.0, "a_on": 1.5}
    return VTEAM(**{**base, "a_off": 1.5, **changes})


SPREAD = EventSpread(
    set={"r_on": 0.1, "v_on": 0.05, "k_on": 0.2},
    reset={"r_off": 0.3, "v_off": 0.05},
    correlation={("r_on", "v_on"): 0.6},
)


def generators(seed: int) -> list[object]:
    return [np.random.default_rng(seed), torch.Generator().manual_seed(seed)]


@pytest.mark.parametrize("rng", generators(1), ids=["numpy", "torch"])
def test_each_cycle_shows_the_resistances_that_its_events_drew(rng: object) -> None:
    """v > 0 RESETs first: R_off is read at its end, R_on at the end of the negative half."""
    cycles = 40
    trace, (events,) = simulate_events(device(), sine(1.0, 1.0, periods=cycles, points=200), SPREAD, rng, x0=1.0)
    assert events.t_reset == pytest.approx(np.arange(cycles))
    assert events.t_set == pytest.approx(np.arange(cycles) + 0.5)
    late_reset, late_set = 90 + 200 * np.arange(cycles), 190 + 200 * np.arange(cycles)
    np.testing.assert_allclose(trace.v[late_reset] / trace.i[late_reset], events.reset["r_off"], rtol=1e-9)
    np.testing.assert_allclose(trace.v[late_set] / trace.i[late_set], events.set["r_on"], rtol=1e-9)
    first = 200 * np.arange(cycles) + 5  # early in the RESET half the last SET still shows
    np.testing.assert_allclose(trace.v[first[1:]] / trace.i[first[1:]], events.set["r_on"][:-1], rtol=1e-9)


def test_events_are_those_of_half_cycles_simulated_one_after_the_other() -> None:
    drive = sine(1.0, 1.0, periods=6, points=100)
    trace, (events,) = simulate_events(device(), drive, SPREAD, np.random.default_rng(3), x0=0.7)
    x, r_on = 0.7, events.set["r_on"][0]
    for k, (a, b) in enumerate(pairwise(range(0, 601, 50))):
        n, reset = k // 2, k % 2 == 0
        r_on = r_on if reset else events.set["r_on"][n]
        own = device(
            r_on=r_on,
            r_off=events.reset["r_off"][n],
            v_off=events.reset["v_off"][n],
            v_on=events.set["v_on"][n],
            k_on=events.set["k_on"][n],
        )
        part = simulate(own, Drive(drive.t[a : b + 1], drive.v[a : b + 1]), x0=x)
        np.testing.assert_allclose(trace.x[a : b + 1], part.x, atol=ROUNDING)
        np.testing.assert_allclose(trace.i[a:b], part.i[:-1], atol=ROUNDING * 1e-3)
        x = float(part.x[-1])


def test_draws_do_not_depend_on_the_sampling() -> None:
    coarse, fine = (sine(1.0, 1.0, periods=5, points=n) for n in (100, 400))
    one, (a,) = simulate_events(device(), coarse, SPREAD, np.random.default_rng(5), x0=1.0)
    two, (b,) = simulate_events(device(), fine, SPREAD, np.random.default_rng(5), x0=1.0)
    for name in SPREAD.set:
        np.testing.assert_array_equal(a.set[name], b.set[name])
    np.testing.assert_allclose(two.x[::4], one.x, atol=5e-3)  # polylines of 100 and 400 samples a period


def test_the_current_is_continuous_across_events() -> None:
    """Partial switching, so that R itself jumps: still no current flows where it does."""
    slow = device(k_on=1.0, k_off=1.0)
    drive = Drive(np.linspace(0.0, 10.0, 2001), np.sin(2 * np.pi * (np.linspace(0.0, 10.0, 2001) + 0.0007)))
    trace, (events,) = simulate_events(slow, drive, SPREAD, np.random.default_rng(2), x0=0.5)
    assert 0.01 < trace.x.min() < trace.x.max() < 0.99
    assert events.t_set.size + events.t_reset.size >= 19
    near = np.searchsorted(drive.t, np.concatenate([events.t_set, events.t_reset[1:]]))
    for k in near:
        assert abs(trace.i[k] - trace.i[k - 1]) <= 1.01 * abs(drive.v[k] - drive.v[k - 1]) / 1e3  # at most 1 / r_on


def test_reads_and_repeated_pulses_draw_nothing() -> None:
    """SET, SET, three small reads of the other sign, SET, RESET, read, RESET: two events."""
    volts = [-1.0, -1.0, 0.1, 0.1, 0.1, -1.0, 1.0, -0.1, 1.0]
    trace, (events,) = simulate_events(device(), pulses(volts, 1.0), SPREAD, np.random.default_rng(0), x0=0.0)
    assert events.t_set.size == 1
    assert events.t_reset.size == 1
    seen = np.flatnonzero(trace.v == 0.1)
    np.testing.assert_allclose(trace.v[seen] / trace.i[seen], events.set["r_on"][0], rtol=1e-9)
    seen = np.flatnonzero(trace.v == -0.1)
    np.testing.assert_allclose(trace.v[seen] / trace.i[seen], events.reset["r_off"][0], rtol=1e-9)


def test_reads_of_either_sign_show_the_same_resistance() -> None:
    """Halfway, where r_on and r_off both count: what the next event will draw is not seen before it happens."""
    drive = pulses([-1.0, -0.1, 0.1, -0.1, 1.0, 0.1, -0.1, 0.1], 0.2)
    trace, (events,) = simulate_events(device(k_on=2.0, k_off=1.0), drive, SPREAD, np.random.default_rng(1), x0=0.2)
    assert events.t_set.size == events.t_reset.size == 1
    top, t = drive.t[drive.v == 1.0], drive.t
    after_set = (t > t[drive.v == -1.0][-1]) & (t < top[0] - 0.02)  # the edge of the RESET pulse is its own
    for late in (after_set, t > top[-1]):
        seen = late & (np.abs(drive.v) == 0.1)
        assert 0.1 < trace.x[seen][0] < 0.9
        np.testing.assert_allclose(trace.v[seen] / trace.i[seen], trace.v[seen][0] / trace.i[seen][0], rtol=1e-9)


def test_a_threshold_drawn_above_the_amplitude_waits_for_a_larger_voltage() -> None:
    """Nothing has moved, so nothing is drawn anew: five SET halves up to the median threshold, then five of 1 V."""
    drive = sine(1.0, 1.0, periods=10, points=40)
    drive = Drive(drive.t, np.where(drive.t < 5.0, np.maximum(drive.v, -0.5), drive.v))
    spread = EventSpread(set={"v_on": 0.1}, reset={"v_off": 0.01})
    first = []
    for seed in range(12):
        _, (events,) = simulate_events(device(k_on=1e4), drive, spread, np.random.default_rng(seed), x0=0.0)
        hard = np.flatnonzero(events.set["v_on"] < -0.5)
        first.append(events.set["v_on"][0] < -0.5)
        waits = hard[0] + 0.5 if hard.size and hard[0] < 5 else None
        if waits is not None:
            assert events.t_set[: hard[0]] == pytest.approx(np.arange(hard[0]) + 0.5)
            assert events.t_set[hard[0]] == pytest.approx(5.5)
        assert events.t_set.size == (hard[0] + 5 if waits is not None else 10)
    assert any(first)
    assert not all(first)


def test_values_are_lognormal_about_those_of_the_model() -> None:
    count = 20_000
    t = np.arange(4 * count + 1) / 4.0
    drive = Drive(t, np.resize([0.0, 1.0, 0.0, -1.0], t.size))
    _, (events,) = simulate_events(device(), drive, SPREAD, np.random.default_rng(7), x0=1.0)
    log = np.log(np.stack([events.set["r_on"] / 1e3, events.set["v_on"] / -0.5, events.set["k_on"] / 60.0]))
    assert log.shape == (3, count)
    sigma = np.sqrt(np.log1p(np.array([0.1, 0.05, 0.2]) ** 2))
    assert (np.abs(log.mean(axis=1)) < SIGMAS * sigma / np.sqrt(count) + 0.002).all()
    # r_on is drawn below the geometric mean of r_on and r_off, ten times its value: its spread shrinks by a tenth
    np.testing.assert_allclose(log.std(axis=1), sigma * np.array([0.9, 1.0, 1.0]), rtol=0.03)
    assert np.corrcoef(log)[0, 1] == pytest.approx(0.6, abs=0.03)
    assert np.corrcoef(log)[0, 2] == pytest.approx(0.0, abs=0.03)


def test_a_wide_spread_keeps_r_on_below_r_off() -> None:
    wide = EventSpread(set={"r_on": 2.0}, reset={"r_off": 2.0})
    near = device(r_off=1.5e3)
    trace, (events,) = simulate_events(near, sine(1.0, 1.0, periods=500, points=20), wide, np.random.default_rng(4))
    assert events.set["r_on"].max() < (1e3 * 1.5e3) ** 0.5 < events.reset["r_off"].min()
    assert np.isfinite(trace.i).all()


def test_events_remember_as_long_as_they_should() -> None:
    """Autocorrelation exp(-n / memory) of the logarithms, and none between SET and RESET."""
    spread = EventSpread(set={"v_on": 0.1}, reset={"v_off": 0.1}, memory=5.0)
    t = np.arange(4 * 20_000 + 1) / 4.0
    drive = Drive(t, np.resize([0.0, 1.0, 0.0, -1.0], t.size))
    _, (events,) = simulate_events(device(), drive, spread, np.random.default_rng(8))
    z, other = np.log(-events.set["v_on"]), np.log(events.reset["v_off"])
    z, other = (z - z.mean()) / z.std(), (other - other.mean()) / other.std()
    for lag in (1, 5, 10):
        assert np.mean(z[:-lag] * z[lag:]) == pytest.approx(np.exp(-lag / 5.0), abs=0.05)
    assert np.mean(z * other) == pytest.approx(0.0, abs=0.08)


@pytest.mark.parametrize("kind", [0, 1], ids=["numpy", "torch"])
def test_the_same_seed_gives_the_same_events(kind: int) -> None:
    runs = [
        simulate_events(device(), sine(1.0, 1.0, periods=5, points=50), SPREAD, generators(11)[kind])[0] for _ in (0, 1)
    ]
    np.testing.assert_array_equal(runs[0].i, runs[1].i)
    other, _ = simulate_events(device(), sine(1.0, 1.0, periods=5, points=50), SPREAD, generators(12)[kind])
    assert not np.array_equal(other.i, runs[0].i)


def test_a_parameter_of_both_directions_is_drawn_at_every_event() -> None:
    """Linear ion drift has one rate for both; a window with a table for every draw of its resistances."""
    model = LinearIonDrift(r_on=100.0, r_off=16e3, k=4e4, window=Biolek(p=2))
    spread = EventSpread(set={"k": 0.3, "r_on": 0.1}, reset={"k": 0.3, "r_off": 0.1})
    drive = sine(1.0, 1.0, periods=3, points=200)
    trace, (events,) = simulate_events(model, drive, spread, np.random.default_rng(0), x0=0.3)
    assert np.unique([*events.set["k"], *events.reset["k"]]).size == 6
    own = model.replace(k=events.reset["k"][0], r_off=events.reset["r_off"][0], r_on=events.set["r_on"][0])
    start = float(trace.x[100])
    part = simulate(own, Drive(drive.t[100:201], drive.v[100:201]), x0=start)
    np.testing.assert_allclose(trace.x[100:201], part.x, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"series_resistance": 200.0, "compliance": 1e-2}])
def test_models_that_are_stepped_have_events_too(options: dict[str, float]) -> None:
    model = parameter_set("team_fit_to_simmons")
    drive = sine(1.0, 10.0, periods=3, points=200)
    spread = EventSpread(set={"r_on": 0.1, "k_on": 0.2}, reset={"r_off": 0.1})
    trace, (events,) = simulate_events(model, drive, spread, np.random.default_rng(0), x0=0.3, **options)
    assert events.t_reset.size == events.t_set.size == 3
    own = model.replace(r_off=events.reset["r_off"][1], r_on=events.set["r_on"][1], k_on=events.set["k_on"][1])
    half = slice(300, 401)
    part = simulate(own, Drive(drive.t[half], drive.v[half]), x0=float(trace.x[300]), **options)
    np.testing.assert_allclose(trace.x[half], part.x, atol=1e-9)
    np.testing.assert_allclose(trace.v[301:400], part.v[1:-1], atol=1e-9)


def test_many_devices_have_events_of_their_own() -> None:
    many = device(r_off=np.array([5e4, 1e5, 2e5]))
    drive = sine(1.0, 1.0, periods=4, points=50)
    trace, events = simulate_events(many, drive, SPREAD, np.random.default_rng(0), x0=np.array([0.0, 0.5, 1.0]))
    assert trace.i.shape == (3, 201)
    assert len({float(found.set["v_on"][0]) for found in events}) == 3


def test_no_spread_is_the_plain_simulation() -> None:
    drive = Drive(np.linspace(0.0, 3.0, 301), np.sin(2 * np.pi * np.linspace(0.01, 3.01, 301)))
    for model in (device(), device(polarity=-1), device(window=Biolek(p=2))):
        trace, _ = simulate_events(model, drive, EventSpread(), np.random.default_rng(0), x0=0.4)
        np.testing.assert_allclose(trace.x, simulate(model, drive, x0=0.4).x, atol=1e-7)


@pytest.mark.parametrize(
    ("v", "bounds", "signs"),
    [
        ([0, 1, 0, -1, 0], [0, 2, 4], [1, -1]),
        ([0, 0, 1, 0, 0, -1, 0, 0], [0, 4, 7], [1, -1]),
        ([0, 0, 0], [0, 2], [1]),
        ([-1, -1], [0, 1], [-1]),
        ([0, 0, -1, 0, -1, 0, 1], [0, 5, 6], [-1, 1]),
    ],
)
def test_stretches_end_where_the_sign_changes(v: list[float], bounds: list[int], signs: list[int]) -> None:
    found = stretches(np.array(v, dtype=float))
    assert found[0].tolist() == bounds
    assert found[1].tolist() == signs


@pytest.mark.parametrize(
    ("spread", "message"),
    [
        (lambda: EventSpread(set={"v_onn": 0.1}), "unknown parameter"),
        (lambda: EventSpread(set={"v_on": -0.1}), "must not be negative"),
        (lambda: EventSpread(memory=float("nan")), "must not be negative"),
        (lambda: EventSpread(set={"b_on": 0.1}), "no relative spread"),
        (
            lambda: EventSpread(set={"v_on": 0.1}, reset={"v_off": 0.1}, correlation={("v_on", "v_off"): 0.5}),
            "same kind",
        ),
        (
            lambda: EventSpread(set={"v_on": 0.1, "k_on": 0.1}, correlation={("v_on", "k_on"): 2.0}),
            "correlation matrix",
        ),
    ],
)
def test_impossible_spreads_are_refused(spread: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        simulate_events(device(), sine(1.0, 1.0), spread(), np.random.default_rng(0))
