"""What a simulated trace obeys, whatever the model and the window."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from contract_cases import EVERY, SETS, STATES, Case, names
from scipy.integrate import solve_ivp

from devicelab import Biolek, Drive, Model, NoWindow, Trace, pulses, simulate, sine
from devicelab.batched import CoarseStepWarning
from devicelab.implicit import margin
from devicelab.models import SeparableModel, TwoStateModel
from devicelab.ops import Value

ROUNDING = 1e-10  # sums over 400 samples in another order
TABLE = 2e-7  # inverse of a tabulated coordinate, see coordinates.Table
ORACLE = 2e-5  # quadrature of the drive between samples, at 200 samples a period
BATCHED = 1e-5  # as STEPPED: a batch of tensors takes other steps to the same tolerance
COARSE = 0.03  # where a batch has said that its steps are too coarse: SET of JART runs away at one sample
LEAVING = 0.05  # under a window that vanishes at an end, steps of 1e-7 know the way out from 1e-6 to 1 % each time
SENSITIVITY = {
    1e-7: 2e-4,
    1e-8: 5e-5,
    1e-9: 1e-5,
}  # of a gradient by tolerance; TEAM: 1e-4 and 3e-5; else a third of it
STEPPED = 1e-5  # a loop of a few hundred steps of 1e-7 each; Simmons adds up most
every_case = pytest.mark.parametrize("case", EVERY, ids=names(EVERY))
EXACT = [case for case in SETS if isinstance(case.model, SeparableModel)]
STEPPING = [case for case in SETS if not isinstance(case.model, SeparableModel)]
every_set = pytest.mark.parametrize("case", SETS, ids=names(SETS))


def run(case: Case, drive: Drive | None = None, model: Model | None = None, x0: Value = None) -> Trace:
    return simulate(model or case.model, drive or case.drive(), x0=case.x0 if x0 is None else x0)


@every_case
def test_the_loop_is_pinched_and_passive(case: Case) -> None:
    trace = run(case)
    assert (trace.i[trace.v == 0] == 0).all()
    assert (trace.v * trace.i >= 0).all()


@every_case
def test_the_loop_is_a_loop(case: Case) -> None:
    """The drive of the set switches the device; otherwise the other laws would say nothing."""
    assert np.ptp(run(case).x) > 0.01


@every_case
def test_the_state_stays_within_its_bounds_under_a_hundredfold_overdrive(case: Case) -> None:
    for factor in (1.0, 100.0):
        slow = Drive(case.drive().t * 100.0, case.drive().v * (1.0 if factor == 1.0 else overdrive(case)))
        trace = run(case, slow)
        assert np.isfinite(trace.x).all()
        assert trace.x.min() >= 0.0
        assert trace.x.max() <= 1.0


def overdrive(case: Case) -> float:
    """100, or as far as the current is a number (exponentials of the voltage)."""
    for factor in (100.0, 30.0, 10.0, 3.0):
        with np.errstate(over="ignore", invalid="ignore"):
            i = np.asarray(case.model.current(factor * case.amplitude, STATES))
        if np.isfinite(i).all():
            return factor
    return 1.0


@every_case
def test_nothing_sticks(case: Case) -> None:
    """Driven against an end and then long enough the other way, the state leaves it again."""
    period = 1.0 / case.frequency
    swing = case.amplitude * case.model.polarity * case.model.set_sign
    for towards in (swing, -swing):
        against = pulses(towards, 20 * period, gap=period).v
        times = pulses(towards, 20 * period, gap=period).t
        for patience in 10.0 ** np.arange(0, 13):  # a SET may be many orders faster than a RESET
            t = np.concatenate([times, times[-1] + patience * times[1:]])
            trace = run(case, Drive(t, np.concatenate([against, -against[1:]])))
            moved = np.ptp(trace.x[len(times) :])
            if moved > 1e-3:
                break
        assert moved > 1e-3


def quiet_voltage(case: Case) -> float:
    """Largest voltage of either sign at which nothing moves at any state."""
    v = case.amplitude * np.linspace(0, 1, 2001)
    still = np.abs(np.asarray(case.model.rate(np.stack([v, -v])[..., None], STATES))).max(axis=(0, -1)) == 0
    return float(v[still.argmin() - 1]) if still[0] and not still.all() else 0.0


QUIET = [case for case in EVERY if quiet_voltage(case) > 0.0]
"""Models with a threshold; any voltage moves the others."""


@pytest.mark.parametrize("case", QUIET, ids=names(QUIET))
def test_reading_below_the_threshold_moves_nothing_at_all(case: Case) -> None:
    quiet = quiet_voltage(case)
    for start in (0.2, 0.7):
        trace = run(case, sine(quiet, case.frequency / 100, points=100), x0=start)
        inside = trace.x == trace.x[0]
        assert inside.all(), f"first motion at sample {inside.argmin()}"
        assert trace.x[0] == pytest.approx(start, abs=TABLE)


@every_case
def test_stretching_time_and_slowing_the_rates_leaves_the_loop_unchanged(case: Case) -> None:
    stretch = 1000.0
    rates = [entry.name for entry in case.model.parameters() if entry.role == "rate"]
    assert rates, "a dynamic model declares its rates"
    slow = case.model.bind(**{name: getattr(case.model, name) / stretch for name in rates})
    drive = case.drive()
    usual, stretched = run(case, drive), run(case, Drive(drive.t * stretch, drive.v), slow)
    steps = not isinstance(case.model, SeparableModel)
    allowed = LEAVING if steps and margin(case.model) else STEPPED
    np.testing.assert_allclose(stretched.x, usual.x, atol=allowed)
    allowed *= 100 if case.model.name == "pku_growing" else 10  # a width caught in its run to the end, by its heat
    assert np.abs(stretched.i - usual.i).max() <= allowed * np.abs(usual.i).max()


@every_case
def test_a_batch_is_a_loop_over_devices(case: Case) -> None:
    """Spread parameters and starts in one call, or one at a time."""
    factors = np.array([0.9, 1.0, 1.1])
    rate = next(entry.name for entry in case.model.parameters() if entry.role == "rate")
    starts = np.array([0.1, 0.5, 0.8])
    together = run(case, model=case.model.replace(**{rate: getattr(case.model, rate) * factors}), x0=starts)
    assert together.x.shape == together.i.shape == (3, len(together))
    for k, factor in enumerate(factors):
        one = run(case, model=case.model.replace(**{rate: getattr(case.model, rate) * factor}), x0=starts[k])
        np.testing.assert_allclose(together.x[k], one.x, atol=ROUNDING)
        np.testing.assert_allclose(together.i[k], one.i, atol=ROUNDING * np.abs(one.i).max())


@every_case
def test_a_batch_of_drives_is_a_loop_over_drives(case: Case) -> None:
    """Phases differ, so at any moment some devices are driven one way and some the other."""
    drive = case.drive(points=100)
    shifted = np.stack([drive.v, -drive.v, np.roll(drive.v[:-1], 7).take(range(len(drive.v)), mode="wrap")])
    together = run(case, Drive(drive.t, shifted))
    for k, v in enumerate(shifted):
        one = run(case, Drive(drive.t, v))
        np.testing.assert_allclose(together.x[k], one.x, atol=TABLE)


TENSORS = [case for case in EVERY if isinstance(case.model, SeparableModel) or isinstance(case.model.window, Biolek)]
"""Stepping tensors is slow: one window is enough to see that both take it alike."""


@pytest.mark.parametrize("case", TENSORS, ids=names(TENSORS))
def test_numpy_and_torch_simulate_the_same(case: Case) -> None:
    values = {name: torch.tensor([float(value)], dtype=torch.float64) for name, value in case.model.values().items()}
    steps = not isinstance(case.model, SeparableModel)
    drive = case.drive(0.9, periods=1.0, points=24) if steps else case.drive()
    with torch.no_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", CoarseStepWarning)
        theirs = run(case, drive, case.model.replace(**values))
    mine = run(case, drive)
    allowed = COARSE if said and case.model.name == "jart_vcm" else BATCHED if steps else TABLE
    np.testing.assert_allclose(theirs.x.numpy()[0], mine.x, atol=allowed)
    assert np.abs(theirs.i.numpy()[0] - mine.i).max() <= 10 * allowed * np.abs(mine.i).max()


@pytest.mark.parametrize("case", EXACT, ids=names(EXACT))
def test_gradients_of_a_trace_are_its_derivatives(case: Case) -> None:
    """By parameter, in float64, away from the ends, where the state is a smooth function of them."""
    free = [entry.name for entry in case.model.parameters()]
    named = {name: float(getattr(case.model, name)) for name in free}
    drive = gentle(case)
    peak = np.abs(run(case, drive, x0=0.4).i).max()

    def states(*logs: torch.Tensor) -> torch.Tensor:
        values = {
            key: value * torch.exp(log)[None] for (key, value), log in zip(named.items(), logs, strict=True) if value
        }
        trace = simulate(case.model.replace(**values), drive, x0=0.4)
        return torch.cat([trace.x, trace.i / peak])

    logs = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in named]
    assert torch.autograd.gradcheck(states, logs, eps=1e-5, atol=2e-4, rtol=1e-3, nondet_tol=0.0)


@pytest.mark.parametrize("case", EXACT, ids=names(EXACT))
def test_gradients_reach_a_start_that_alone_is_a_tensor(case: Case) -> None:
    drive = gentle(case)
    x0 = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(simulate(case.model, drive, x0=x0).x[:, -1].sum(), x0)
    step = 1e-4
    ends = [simulate(case.model, drive, x0=x0.detach().numpy() + h).x[:, -1] for h in (step, -step)]
    # central differences: step^2 times a third derivative, and 1e-8 of the table over the step
    np.testing.assert_allclose(slope.numpy(), (ends[0] - ends[1]) / (2 * step), rtol=2e-3, atol=2e-3)


GRADIENTS = [(case, tolerance) for case in STEPPING for tolerance in SENSITIVITY]


def long(case: Case, tolerance: float) -> bool:
    """Whether it takes more than a few seconds."""
    return case.model.name == "jart_vcm" or tolerance < (1e-8 if case.model.name in {"mms", "team"} else 1e-7)


@pytest.mark.parametrize(
    ("case", "tolerance"),
    [pytest.param(c, tol, marks=[pytest.mark.slow] * long(c, tol), id=f"{c.name}-{tol:g}") for c, tol in GRADIENTS],
)
def test_gradients_of_a_stepped_trace_are_its_derivatives(case: Case, tolerance: float) -> None:
    """All parameters moved together; differences come from the compiled solver, at a much finer tolerance."""
    named = {entry.name: float(getattr(case.model, entry.name)) for entry in case.model.parameters()}
    rng = np.random.default_rng(3)
    direction = {name: rng.uniform(0.5, 1.0) * rng.choice([-1, 1]) for name in named}
    drive = busy_half(case)
    log = torch.zeros((), dtype=torch.float64, requires_grad=True)
    moved = {name: value * torch.exp(direction[name] * log) for name, value in named.items()}
    x = simulate(case.model.bind(**moved), drive, x0=0.4, tolerance=tolerance).x
    (slope,) = torch.autograd.grad(x[-1], log)

    def end(h: float) -> float:
        there = {name: value * np.exp(direction[name] * h) for name, value in named.items()}
        return float(simulate(case.model.bind(**there), drive, x0=0.4, tolerance=1e-13).x[-1])

    near, far = ((end(h) - end(-h)) / (2 * h) for h in (3e-5, 6e-5))
    numeric = (4 * near - far) / 3  # without its third derivative: 4e-4 of the difference for TEAM and Simmons
    assert abs(numeric) > 1e-3, "a derivative of something that moves"
    allowed = 3e-3 if isinstance(case.model, TwoStateModel) else SENSITIVITY[tolerance]  # steps aim for states only
    assert float(slope) == pytest.approx(numeric, rel=allowed)


def test_single_precision_is_as_good_as_it_can_be() -> None:
    """Steps aim for 1e-5, a hundred times the resolution; no tolerance makes them chase its rounding."""
    for name in ("team_fit_to_simmons", "mms_knowm", "stanford_default"):
        case = next(case for case in SETS if case.name == f"{name}-own")
        values = {key: torch.tensor([float(value)]) for key, value in case.model.values().items()}
        drive = gentle(case)
        with warnings.catch_warnings():
            warnings.simplefilter("error", CoarseStepWarning)
            x = simulate(case.model.replace(**values), drive, x0=0.4, tolerance=1e-12).x
        assert x.dtype == torch.float32
        np.testing.assert_allclose(x.numpy()[0], run(case, drive, x0=0.4).x, atol=3e-4)


def busy_half(case: Case) -> Drive:
    """Of the halves of `gentle` the one that moves the state more, without its ends and three times as fine."""
    full = gentle(case)
    parts = [Drive(full.t[a : a + 11] - full.t[a], full.v[a : a + 11]) for a in (1, 13)]
    part = max(parts, key=lambda drive: np.ptp(run(case, drive, x0=0.4).x))
    fine = np.interp(np.arange(31) / 3, np.arange(11), part.t)  # a batch's steps follow the samples
    return Drive(fine, np.interp(fine, part.t, part.v))


def gentle(case: Case) -> Drive:
    """A sine that moves the state a little and never takes it to an end."""
    drive = case.drive(periods=1.0, points=24)
    for factor in np.geomspace(1.0, 1e-12, 49):
        quick = Drive(drive.t * factor, drive.v)
        x = run(case, quick, x0=0.4).x
        if x.min() > 0.1 and x.max() < 0.9:
            return quick
    raise AssertionError("no drive moves the state only a little")


@every_case
def test_an_ode_solver_finds_the_same_state(case: Case) -> None:
    """scipy at tight tolerances on the same polyline, as long as the state is away from its ends."""
    drive = gentle(case)
    trace = run(case, drive, x0=0.4)

    def slope(t: float, x: np.ndarray) -> np.ndarray:
        return np.asarray(case.model.rate(np.interp(t, drive.t, drive.v), x), dtype=float)

    found = [0.4]
    for a, b in zip(drive.t[:-1], drive.t[1:], strict=True):  # restart at every corner of the polyline
        options = {
            "rtol": 1e-9,
            "atol": 1e-11,
            "max_step": (b - a) / 20,
        }  # or it steps over a segment that begins at rest
        found.append(float(solve_ivp(slope, (a, b), found[-1:], method="LSODA", **options).y[0, -1]))
    assert np.abs(trace.x - found).max() < ORACLE


@every_set
def test_swapped_terminals_under_the_opposite_voltage_carry_the_opposite_current(case: Case) -> None:
    drive = case.drive()
    here = run(case, drive)
    there = run(case, Drive(drive.t, -drive.v), case.model.replace(polarity=-case.model.polarity))
    np.testing.assert_array_equal(there.x, here.x)
    np.testing.assert_array_equal(there.i, -here.i)


@every_set
def test_at_high_frequency_the_loop_closes_to_a_line(case: Case) -> None:
    """The state cannot follow: both branches carry the same current."""
    fast = sine(case.amplitude, case.frequency * 1e12, points=400)
    trace = run(case, fast, x0=0.5)
    up, down = trace.i[1:100], trace.i[101:200][::-1]
    assert np.abs(up - down).max() < 1e-3 * np.abs(trace.i).max()


@every_set
def test_lobe_area_falls_with_the_frequency_beyond_its_peak(case: Case) -> None:
    """As 1 / f, in a cycle that moves the state little; at low frequencies it may rise or fall."""

    def area(frequency: float) -> float:
        trace = run(case, sine(case.amplitude, frequency, periods=1.0, points=400), x0=0.5)
        halves = slice(0, 201), slice(200, 401)  # samples mirror each other: no lobe where the state stands still
        return max(abs(float(np.trapezoid(trace.i[half], trace.v[half]))) for half in halves)

    quick = case.frequency * 10.0 ** np.arange(0.0, 24.0)
    moved = [np.ptp(run(case, sine(case.amplitude, f, points=400), x0=0.5).x) for f in quick]
    first = next(f for f, travel in zip(quick, moved, strict=True) if travel < 1e-4)
    one, two = area(first), area(10.0 * first)
    assert one / two == pytest.approx(10.0, rel=0.01)


CORNERS = {"data_driven", "pku", "pku_growing"}
"""Models whose rate has a corner in the state: where a bound is reached, where one of two speeds takes over."""


@pytest.mark.parametrize("case", STEPPING, ids=names(STEPPING))
def test_steps_converge_with_their_tolerance(case: Case) -> None:
    """A method of third order whose steps aim for a given error makes one of tolerance^(2/3), or less, in a trace."""
    drive = gentle(case)
    exact = simulate(case.model, drive, x0=0.4, tolerance=1e-13).x
    tolerances = 10.0 ** -np.arange(4, 10)
    errors = [np.abs(simulate(case.model, drive, x0=0.4, tolerance=t).x - exact).max() for t in tolerances]
    order = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
    assert order > (0.55 if case.model.name in CORNERS else 0.7)  # 2/3 and more
    assert errors[-1] < 1e-7


def test_models_are_values() -> None:
    model = SETS[0].model
    assert dataclasses.is_dataclass(model)
    assert model.replace() == model
    assert model.replace(window=NoWindow()).window == NoWindow()
