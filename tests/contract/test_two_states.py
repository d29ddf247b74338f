"""Devices with two states: the PKU filament that grows, and linear pairs whose course is known in closed form."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

import netlists
from devicelab import Biolek, Drive, Joglekar, Trace, parameter_set, pulses, simulate, triangle
from devicelab.drive import CurrentDrive
from devicelab.errors import DevicelabError
from devicelab.implicit import StepError
from devicelab.models.base import TwoStateModel
from devicelab.models.pku import PKUGrowing
from devicelab.ops import Ops, Value
from devicelab.parameters import parameter

K_OVER_Q = 8.617333262e-5  # V/K
PI_4 = np.pi / 4.0
SET, RESET = 1.2, -1.2
FIELDS = PKUGrowing.parameters()


@dataclass(frozen=True, kw_only=True)
class Spiral(TwoStateModel):
    """x and y turn about (1/2, 1/2) with `turn` and come to rest with `fall`; x = 1 is the low resistance.

    The current does not move them: whatever is around the device, the course is that of a damped oscillation.
    """

    name: ClassVar[str] = "spiral"
    second: ClassVar[str] = "other half of an oscillation"
    set_sign: ClassVar[int] = 1

    g: Value = parameter("S", "conductance at x = 1, y = 1", role="current", low=1e-12, high=1e3)
    turn: Value = parameter("1/s", "rate of turning", role="rate", low=-1e12, high=1e12)
    fall: Value = parameter("1/s", "rate of coming to rest", role="rate", low=0.0, high=1e12)

    def _current(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value:
        return self.g * v * (0.1 + 0.5 * x + 0.4 * y)

    def _rate(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value:
        return -self.fall * (x - 0.5) - self.turn * (y - 0.5)

    def _second_rate(self, v: Value, x: Value, ops: Ops, y: Value) -> Value:
        return self.turn * (x - 0.5) - self.fall * (y - 0.5)


@dataclass(frozen=True, kw_only=True)
class Heated(TwoStateModel):
    """x moves with the voltage, faster where it is warm; y is the temperature, heated by what the device takes.

    dx/dt = k v exp(3 y), dy/dt = (r_th v i - y) / tau; x = 1 is the low resistance.
    """

    name: ClassVar[str] = "heated"
    second: ClassVar[str] = "temperature"
    set_sign: ClassVar[int] = 1

    g: Value = parameter("S", "conductance at x = 1", role="current", low=1e-12, high=1e3)
    k: Value = parameter("1/s", "rate of motion", role="rate", low=0.0, high=1e12)
    r_th: Value = parameter("1/W", "heating", role="shape", low=0.0, high=1e12)
    tau: Value = parameter("s", "time in which heat leaves", role="shape", low=1e-12, high=1e12)

    def _current(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value:
        return self.g * v * (0.1 + 0.9 * x)

    def _rate(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value:
        return self._windowed(self.k * v * ops.exp(3.0 * y), x, ops)

    def _second_rate(self, v: Value, x: Value, ops: Ops, y: Value) -> Value:
        return (self.r_th * v * self._current(v, x, ops, y) - y) / self.tau


def spiral(t: np.ndarray, turn: float, fall: float, x0: float = 0.9, y0: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Its closed form."""
    z = ((x0 - 0.5) + 1j * (y0 - 0.5)) * np.exp((-fall + 1j * turn) * t)
    return 0.5 + z.real, 0.5 + z.imag


class Law:
    """The two-state law, written from the published equations with a gap either open or closed; events by scipy.

    Args:
        p: Parameters by name.
        resistance: In series [ohm].
        compliance: Of the source [A].
    """

    def __init__(self, p: dict[str, float], resistance: float = 0.0, compliance: float = np.inf) -> None:
        self.p, self.resistance, self.compliance = p, resistance, compliance

    def gap_voltage(self, v: float, gap: float) -> float:
        p = self.p
        drop = p["rho"] * (p["l0"] - gap) * p["j0"] * np.exp(-gap / p["x_t"])
        if v == 0.0:
            return 0.0
        found = brentq(lambda u: u + drop * np.sinh(u / p["v_t"]) - abs(v), 0.0, abs(v), xtol=1e-16, rtol=1e-14)
        return float(np.sign(v) * found)

    def current(self, v: float, gap: float, b: float, closed: bool) -> float:
        p = self.p
        beside = p["j0"] * PI_4 * (p["w_cf"] ** 2 - b**2) * np.exp(-p["l0"] / p["x_t"]) * np.sinh(v / p["v_t"])
        if closed and v > 0:
            return float(beside + v * PI_4 * b**2 / (p["rho"] * p["l0"]))
        over = self.gap_voltage(v, gap)
        return float(beside + p["j0"] * PI_4 * b**2 * np.exp(-gap / p["x_t"]) * np.sinh(over / p["v_t"]))

    def voltage(self, source: float, gap: float, b: float, closed: bool) -> float:
        """Across the device."""
        u = source
        if source and self.resistance:
            ends = sorted((0.0, source))

            def left(u: float) -> float:
                return u + self.resistance * self.current(u, gap, b, closed) - source

            u = float(brentq(left, *ends, xtol=1e-16, rtol=1e-14))
        if abs(self.current(u, gap, b, closed)) > self.compliance:
            ends, limit = sorted((0.0, u)), np.sign(u) * self.compliance
            u = float(brentq(lambda v: self.current(v, gap, b, closed) - limit, *ends, xtol=1e-16, rtol=1e-14))
        return u

    def gap_speed(self, source: float, gap: float, b: float) -> float:
        p, v = self.p, self.voltage(source, gap, b, False)
        kt = K_OVER_Q * (p["t_ini"] + p["r_th"] * abs(v * self.current(v, gap, b, False)))
        over, attempt = self.gap_voltage(v, gap), p["a"] * p["f"]
        if v > 0:
            return float(-min(attempt * np.exp(-(p["ea"] - p["alpha"] * over / gap) / kt), 100.0))
        injected = attempt * np.exp(-(p["ei"] + p["r"] * over) / kt)
        hopped = attempt * np.exp(-p["eh"] / kt) * np.sinh(-p["alpha_h"] * over / (gap * kt))
        return float(min(injected, hopped, 100.0)) if v < 0 else 0.0

    def growth(self, source: float, b: float) -> float:
        p, gap = self.p, self.p["g_min"]
        v = self.voltage(source, gap, b, True)
        kt = K_OVER_Q * (p["t_ini"] + p["r_th"] * abs(v * self.current(v, gap, b, True)))
        speed = (p["w_eff"] + p["w_eff"] ** 2 / (2 * b)) * p["f"] * np.exp(-(p["ea"] - p["alpha"] * v / p["l0"]) / kt)
        return float(min(speed, 100.0))

    def trace(self, drive: Drive, x0: float, y0: float) -> tuple[np.ndarray, np.ndarray]:
        """x and y at the samples of a drive that is nowhere of both signs between two of them."""
        p = self.p
        span, room = p["l0"] - p["g_min"], p["w_cf"] - p["w"]
        gap, b = p["l0"] - span * x0, p["w"] + room * y0
        x, y = [x0], [y0]
        for k in range(drive.t.size - 1):
            ends = drive.t[k], drive.t[k + 1]
            middle = 0.5 * (drive.v[k] + drive.v[k + 1])

            def source(t: float, k: int = k) -> float:
                return float(np.interp(t, drive.t[k : k + 2], drive.v[k : k + 2]))

            at = ends[0]
            if middle < 0 or (middle > 0 and gap > p["g_min"]):
                bound = p["g_min"] if middle > 0 else p["l0"]
                if gap != bound:
                    law = partial(self.moving_gap, source, b)
                    at, gap = self.until(law, at, ends[1], gap, bound, span)
            if middle > 0 and gap == p["g_min"] and at < ends[1] and b < p["w_cf"]:
                _, b = self.until(partial(self.growing_width, source), at, ends[1], b, p["w_cf"], room)
            x.append((p["l0"] - gap) / span)
            y.append((b - p["w"]) / room)
        return np.array(x), np.array(y)

    def moving_gap(self, source: Callable[[float], float], b: float, t: float, gap: float) -> float:
        return self.gap_speed(source(t), gap, b)

    def growing_width(self, source: Callable[[float], float], t: float, b: float) -> float:
        return self.growth(source(t), b)

    @staticmethod
    def until(
        speed: Callable[[float, float], float], start: float, stop: float, z: float, bound: float, scale: float
    ) -> tuple[float, float]:
        """When and where the motion of one variable ends: at the bound or at the end of the time."""
        way = np.sign(bound - z)
        far = bound + 0.02 * way * scale  # the event is found from either side

        def slope(s: float, u: np.ndarray) -> list[float]:
            inside = float(np.clip(u[0] * scale, min(z, far), max(z, far)))
            return [speed(start + s * (stop - start), inside) * (stop - start) / scale]

        def there(s: float, u: np.ndarray) -> float:
            return float(u[0] - bound / scale)

        there.terminal = True  # type: ignore[attr-defined]
        options = {"rtol": 1e-10, "atol": 1e-12, "max_step": 0.25, "events": there}
        found = solve_ivp(slope, (0.0, 1.0), [z / scale], method="Radau", **options)
        assert found.success
        if found.t_events[0].size:
            return start + float(found.t_events[0][0]) * (stop - start), bound
        return stop, float(found.y[0, -1] * scale)


def growing(**changes: Any) -> PKUGrowing:
    model = parameter_set("pku_growing").replace(**changes)
    assert isinstance(model, PKUGrowing)
    return model


def cycle(set_: float = 1.2, reset: float = -2.2, width: float = 3e-7, points: int = 3) -> Drive:
    """A SET pulse, a RESET pulse and a SET pulse again, with ramps between them that stop at 0 V."""
    corners = np.array([0.0, set_, set_, 0.0, reset, reset, 0.0, set_, set_, 0.0])
    times = np.cumsum([0.0, 0.2, 1.0, 0.2, 0.2, 1.0, 0.2, 0.2, 1.0, 0.2]) * width
    at = np.linspace(0.0, 9.0, 9 * points + 1)
    return Drive(np.interp(at, np.arange(10), times), np.interp(at, np.arange(10), corners))


CIRCUITS = {"bare": {}, "series resistance": {"series_resistance": 2e4}, "compliance": {"compliance": 5e-5}}
AGREE = 5e-6  # steps of 1e-7, a few hundred of them; scipy at 1e-10


@pytest.mark.parametrize("circuit", CIRCUITS)
def test_an_independent_integration_finds_the_same_gap_and_width(circuit: str) -> None:
    """scipy with events on the law itself, where a gap is open or closed and nothing between."""
    around = CIRCUITS[circuit]
    drive = cycle(1.5 if around else 1.2)
    model = growing()
    trace = simulate(model, drive, x0=0.3, y0=0.02, **around)
    law = Law(model.values(), around.get("series_resistance", 0.0), around.get("compliance", np.inf))
    x, y = law.trace(drive, 0.3, 0.02)
    assert 0.1 < y[-1] < 0.9
    assert np.ptp(x[9:19]) > 0.3  # RESET opens the gap
    assert np.abs(trace.x - x).max() < AGREE
    assert np.abs(trace.y - y).max() < AGREE
    if not around:
        p = law.p
        expected = [
            law.current(v, p["l0"] - (p["l0"] - p["g_min"]) * x, p["w"] + (p["w_cf"] - p["w"]) * y, bool(x == 1.0))
            for v, x, y in zip(trace.v, trace.x, trace.y, strict=True)
        ]
        np.testing.assert_allclose(trace.i, expected, rtol=1e-9, atol=1e-18)


def test_a_cold_closed_filament_grows_as_the_closed_form_says() -> None:
    """Without heat the growth at constant v integrates: b - (w_eff / 2) ln(2 b + w_eff) = w_eff k t + const."""
    model = growing(r_th=0.0)
    p, v = model.values(), 1.3
    t = np.linspace(0.0, 4e-6, 101)
    trace = simulate(model, Drive(t, np.full(t.size, v)), x0=1.0)
    k = p["f"] * np.exp(-(p["ea"] - p["alpha"] * v / p["l0"]) / (K_OVER_Q * p["t_ini"]))
    b = p["w"] + (p["w_cf"] - p["w"]) * trace.y

    def psi(b: Any) -> Any:
        return b - 0.5 * p["w_eff"] * np.log((2 * b + p["w_eff"]) / p["w_eff"])

    grown = psi(b) - psi(p["w"])
    inside = trace.y < 1.0
    assert 20 < inside.sum() < 100  # it grows to the end, and stays there
    np.testing.assert_allclose(grown[inside], p["w_eff"] * k * t[inside], atol=1e-6 * p["w_cf"])
    assert (trace.y[~inside] == 1.0).all()
    np.testing.assert_allclose(  # the ohmic wire, with nothing beside it
        trace.i[-1], v * PI_4 * p["w_cf"] ** 2 / (p["rho"] * p["l0"]), rtol=1e-12
    )


@pytest.mark.parametrize("window", [None, Joglekar(p=2), Biolek(p=2)])
def test_the_width_never_shrinks_and_reset_leaves_it(window: Any) -> None:
    model = growing() if window is None else growing(window=window)
    rng = np.random.default_rng(5)
    t = np.linspace(0.0, 4e-6, 81)
    v = rng.uniform(-2.0, 1.3, (6, t.size))
    trace = simulate(model, Drive(t, v), x0=rng.uniform(0, 1, 6), y0=rng.uniform(0, 0.3, 6))
    growth = np.diff(trace.y, axis=-1)
    assert (growth >= 0.0).all()
    assert growth.max() > 0.01
    quiet = (v[:, 1:] <= 0) & (v[:, :-1] <= 0)
    assert quiet.sum() > 20
    assert (growth[quiet] == 0.0).all()
    assert np.diff(trace.x, axis=-1)[quiet].min() < -0.01  # while the gap opens


def test_other_compliances_leave_other_low_resistances() -> None:
    """The voltage that is left falls as the filament grows, so growth ends itself: R falls as about 1 / I_c."""
    limits = np.array([3e-6, 1e-5, 3e-5, 1e-4])
    drive = triangle(2.0, 1e-3, negative=0.0)
    trace = simulate(growing(), drive, x0=0.0, compliance=limits)
    assert trace.y.shape == trace.i.shape == (4, len(trace))
    resistance = 0.05 / growing().current(0.05, trace.x[:, -1], trace.y[:, -1])
    steps = np.diff(np.log(resistance)) / np.diff(np.log(limits))
    assert (steps > -1.2).all()
    assert (steps < -0.6).all(), steps
    narrow = simulate(parameter_set("pku_default"), drive, x0=0.0, compliance=limits)
    assert np.ptp(narrow.x[:, -1]) < 1e-9  # one state: the same resistance whatever the compliance


def test_a_filament_that_cannot_grow_has_the_gap_of_the_one_state_model() -> None:
    drive = cycle(1.2)
    one = simulate(parameter_set("pku_default"), drive, x0=0.3)
    two = simulate(growing(w_eff=0.0), drive, x0=0.3)
    open_ = (one.x < 0.99) | (drive.v < 0)
    assert open_.sum() > 10
    np.testing.assert_allclose(two.x, one.x, atol=1e-6)
    np.testing.assert_allclose(two.i[open_], one.i[open_], rtol=1e-4)
    assert (two.y == 0.0).all()
    assert one.y is None
    full = simulate(growing(w=5e-9), drive, x0=0.3, y0=0.25)
    np.testing.assert_allclose(full.x, simulate(parameter_set("pku_full_width"), drive, x0=0.3).x, atol=1e-6)
    assert (full.y == 0.25).all()  # there is no room to grow


def test_each_parameter_moved_one_percent_changes_what_is_seen() -> None:
    drive = cycle(1.3)

    def outputs(model: PKUGrowing) -> np.ndarray:
        trace = simulate(model, drive, x0=0.3, y0=0.02)
        return np.concatenate([trace.i / np.abs(trace.i).max(), trace.x, trace.y])

    reference = outputs(growing())
    moved = {
        entry.name: np.abs(outputs(growing(**{entry.name: 1.01 * getattr(growing(), entry.name)})) - reference).max()
        for entry in FIELDS
    }
    assert [name for name, change in moved.items() if change < 1e-6] == []  # ten times the error of the steps


def test_a_batch_is_a_loop_over_devices_starts_of_both_states_included() -> None:
    starts, widths = np.array([0.0, 0.1, 0.4]), np.array([0.4e-9, 0.5e-9, 0.6e-9])
    drive = cycle(1.2)
    together = simulate(growing(w=widths), drive, x0=0.3, y0=starts)
    assert together.y.shape == (3, len(together))
    for k in range(3):
        one = simulate(growing(w=widths[k]), drive, x0=0.3, y0=starts[k])
        for name in ("x", "y", "i"):
            np.testing.assert_array_equal(getattr(together, name)[k], getattr(one, name))


def test_swapped_terminals_under_the_opposite_voltage_do_the_same() -> None:
    drive = cycle(1.2)
    here = simulate(growing(), drive, x0=0.3, compliance=2e-5)
    there = simulate(growing(polarity=-1), Drive(drive.t, -drive.v), x0=0.3, compliance=2e-5)
    np.testing.assert_array_equal(there.y, here.y)
    np.testing.assert_array_equal(there.i, -here.i)


def test_a_current_source_gets_its_current_and_grows_the_filament() -> None:
    model, t = growing(), np.linspace(0.0, 1e-4, 101)
    trace = simulate(model, CurrentDrive(t, np.full(t.size, 1e-5)), x0=1.0, compliance=3.0)
    np.testing.assert_allclose(trace.i, 1e-5, rtol=1e-9)
    law = Law(model.values())
    p = law.p

    def slope(time: float, b: np.ndarray) -> list[float]:
        v = brentq(lambda u: law.current(u, p["g_min"], b[0], True) - 1e-5, 0.0, 10.0, xtol=1e-15)
        return [law.growth(v, float(b[0])) / 1e-9]  # in nm

    def nm(time: float, b: np.ndarray) -> list[float]:
        return slope(time, b * 1e-9)

    found = solve_ivp(nm, (0.0, 1e-4), [p["w"] * 1e9], method="Radau", rtol=1e-10, atol=1e-12, t_eval=t)
    width = 1e9 * (p["w"] + (p["w_cf"] - p["w"]) * trace.y)
    np.testing.assert_allclose(width, found.y[0], rtol=1e-5)
    assert np.ptp(trace.y) > 0.05


def test_steps_converge_with_their_tolerance() -> None:
    """Both states of a smooth pair, and the width of a filament that heats itself: tolerance^(2/3) or less."""
    tolerances = 10.0 ** -np.arange(3, 9)
    t = np.linspace(0.0, 1.0, 6)
    pair, grow = Spiral(g=1e-3, turn=9.0, fall=1.0), growing()
    slow = Drive(np.linspace(0, 4e-7, 6), np.linspace(1.1, 1.3, 6))
    exact = spiral(t, 9.0, 1.0)
    wide = simulate(grow, slow, x0=1.0, tolerance=1e-13).y
    assert 0.1 < wide[-1] < 0.9
    for error in (
        lambda size: max(
            np.abs(simulate(pair, Drive(t, t), x0=0.9, y0=0.5, tolerance=size).x - exact[0]).max(),
            np.abs(simulate(pair, Drive(t, t), x0=0.9, y0=0.5, tolerance=size).y - exact[1]).max(),
        ),
        lambda size: np.abs(simulate(grow, slow, x0=1.0, tolerance=size).y - wide).max(),
    ):
        errors = [error(size) for size in tolerances]
        order = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
        assert order > 0.6, errors
        assert errors[-1] < 1e-6


@pytest.mark.parametrize(
    ("turn", "fall"), [(3.0, 0.0), (3.0, 1.0), (300.0, 1.0), (1.0, 300.0), (1e5, 1e5), (-40.0, 1.0)]
)
def test_a_pair_that_turns_follows_its_closed_form_however_strong_the_coupling(turn: float, fall: float) -> None:
    """An iteration between the two unknowns would diverge in long steps with turn > fall."""
    t = np.linspace(0.0, 1.0, 201)
    trace = simulate(Spiral(g=1e-3, turn=turn, fall=fall), Drive(t, np.sin(t)), x0=0.9, y0=0.5, tolerance=1e-9)
    x, y = spiral(t, turn, fall)
    limit = 1e-7 * max(1.0, abs(turn) / max(fall, 1.0))  # errors of the steps add up while it turns
    assert np.abs(trace.x - x).max() < limit
    assert np.abs(trace.y - y).max() < limit
    np.testing.assert_allclose(trace.i, 1e-3 * trace.v * (0.1 + 0.5 * trace.x + 0.4 * trace.y), rtol=1e-12)


def torch_model(model: TwoStateModel, **values: Any) -> TwoStateModel:
    return model.replace(
        **{name: torch.tensor([float(value)], dtype=torch.float64) for name, value in model.values().items()} | values
    )


def both(model: TwoStateModel, drive: Any, **how: Any) -> tuple[Trace, Trace]:
    """The same by torch, and by numpy; steps of 1e-5 are enough to see that they agree."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return simulate(torch_model(model), drive, tolerance=1e-5, **how), simulate(model, drive, **how)


def test_numpy_and_torch_close_the_gap_and_grow_the_filament_alike() -> None:
    drive = Drive(np.array([0.0, 1.0, 2.0]) * 1e-7, np.array([0.0, 1.25, 1.25]))
    theirs, mine = both(growing(), drive, x0=0.3, y0=0.02)
    assert mine.x[1] == 1.0
    assert np.ptp(mine.y) > 0.01
    assert np.abs(theirs.x.numpy()[0] - mine.x).max() < 1e-4
    assert np.abs(theirs.y.numpy()[0] - mine.y).max() < 1e-3  # the moment at which the gap closes
    assert np.abs(theirs.i.numpy()[0] - mine.i).max() < 1e-2 * np.abs(mine.i).max()


def test_numpy_and_torch_open_the_gap_and_leave_the_width_alike() -> None:
    drive = Drive(np.array([0.0, 0.2, 0.3]) * 1e-7, np.array([0.0, -1.8, -2.0]))
    theirs, mine = both(growing(), drive, x0=0.8, y0=0.1)
    assert mine.x[-1] < 0.5
    assert np.abs(theirs.x.numpy()[0] - mine.x).max() < 1e-4
    assert (theirs.y.numpy() == 0.1).all()


@pytest.mark.parametrize(
    ("around", "source"),
    [({"series_resistance": 300.0}, Drive), ({"compliance": 3e-4}, Drive), ({"compliance": 2.0}, CurrentDrive)],
    ids=["series resistance", "compliance", "current"],
)
def test_numpy_and_torch_agree_behind_a_circuit(around: dict[str, float], source: Any) -> None:
    t = np.linspace(0.0, 1.0, 11)
    drive = source(t, np.sin(7.0 * t) * (1.0 if source is Drive else 1e-3))
    theirs, mine = both(Heated(g=1e-3, k=3.0, r_th=2e3, tau=0.1), drive, x0=0.2, y0=0.1, **around)
    assert np.ptp(mine.x) > 0.1
    assert np.ptp(mine.y) > 0.1
    for name in ("x", "y", "v"):
        assert np.abs(getattr(theirs, name).numpy()[0] - getattr(mine, name)).max() < 1e-3  # of steps of 1e-5


@pytest.mark.parametrize(("turn", "fall"), [(3.0, 1.0), (40.0, 1.0), (3.0, 8.0)])
def test_gradients_of_a_pair_are_those_of_its_closed_form(turn: float, fall: float) -> None:
    t = np.linspace(0.0, 0.5, 26)
    values = [torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (turn, fall, 0.9, 0.6)]
    model = Spiral(g=1e-3, turn=values[0], fall=values[1])
    trace = simulate(model, Drive(t, 0.1 + t), x0=values[2], y0=values[3], tolerance=1e-5)
    x, y = spiral(t, turn, fall, 0.9, 0.6)
    assert np.abs(trace.x.detach().numpy()[0] - x).max() < 2e-4
    assert np.abs(trace.y.detach().numpy()[0] - y).max() < 2e-4
    for state, part in ((trace.x, np.real), (trace.y, np.imag)):
        found = torch.autograd.grad(state[0, -1], values, retain_graph=True)
        spin = np.exp((-fall + 1j * turn) * t[-1])
        z = (0.4 + 0.1j) * spin
        expected = [part(1j * t[-1] * z), part(-t[-1] * z), part(spin), part(1j * spin)]
        size = np.abs(spin)
        for mine, theirs in zip(found, expected, strict=True):
            assert abs(float(mine) - theirs) < 5e-3 * size  # of steps of 1e-5


GROWING = ("w", "w_eff", "f", "ea", "alpha", "rho", "r_th", "l0", "w_cf", "t_ini")


@pytest.mark.parametrize("around", [{}, {"series_resistance": 2e4}], ids=["bare", "series resistance"])
def test_gradients_of_a_growing_filament_are_its_derivatives(around: dict[str, float]) -> None:
    """By every parameter that growth depends on, and by the start, from a gap that is closed."""
    drive = Drive(np.linspace(0.0, 2e-7, 4), np.linspace(1.15, 1.3, 4))
    base = growing().values()
    logs = torch.zeros(len(GROWING), dtype=torch.float64, requires_grad=True)
    start = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    moved = {name: base[name] * torch.exp(logs[k : k + 1]) for k, name in enumerate(GROWING)}
    y = simulate(growing().bind(**moved), drive, x0=1.0, y0=start, tolerance=1e-5, **around).y[0, -1]
    slopes, by_start = torch.autograd.grad(y, (logs, start))
    step = 1e-5

    def end(start: float = 0.1, **factors: float) -> float:
        changed = {name: base[name] * factor for name, factor in factors.items()}
        return float(simulate(growing().bind(**changed), drive, x0=1.0, y0=start, tolerance=1e-12, **around).y[-1])

    numeric = [(end(**{name: 1 + step}) - end(**{name: 1 - step})) / (2 * step) for name in GROWING]
    assert min(np.abs(numeric)) > 1e-3
    np.testing.assert_allclose(slopes.numpy(), numeric, rtol=2e-3, atol=1e-3 * np.abs(numeric).min())
    assert float(by_start) == pytest.approx((end(0.1 + step) - end(0.1 - step)) / (2 * step), rel=2e-3)


@pytest.mark.spice
@pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")
@pytest.mark.parametrize("around", [{}, {"series_resistance": 300.0}, {"compliance": 6e-4}], ids=str)
def test_ngspice_follows_a_pair(around: dict[str, float]) -> None:
    t = np.linspace(0.0, 1.0, 201)
    model = Spiral(g=1e-3, turn=9.0, fall=1.0, polarity=-1)
    theirs = netlists.simulate(model, Drive(t, np.sin(7.0 * t)), x0=0.9, y0=0.6, **around)
    x, y = spiral(theirs.t, 9.0, 1.0, 0.9, 0.6)
    assert np.abs(theirs.x - x).max() < 1e-5
    assert np.abs(theirs.y - y).max() < 1e-5
    np.testing.assert_allclose(theirs.i, model.current(theirs.v, theirs.x, theirs.y), rtol=1e-6, atol=1e-12)
    if "compliance" in around:
        assert np.abs(theirs.i).max() == pytest.approx(6e-4, rel=1e-4)


@pytest.mark.spice
@pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")
def test_ngspice_grows_the_filament_as_python_does() -> None:
    """From a closed gap, through growth; then RESET. The run of the gap into its end is in the conformance table."""
    t = np.linspace(0.0, 6e-7, 301)
    drive = Drive(t, 1.2 * np.sin(2 * np.pi * t / 6e-7))
    theirs = netlists.simulate(growing(), drive, x0=1.0, y0=0.05)
    mine = simulate(growing(), Drive(theirs.t, theirs.v), x0=1.0, y0=0.05)
    assert np.ptp(mine.y) > 0.01
    assert np.abs(theirs.x - mine.x).max() < 1e-3  # while the gap opens from its hard bound
    assert np.abs(theirs.y - mine.y).max() < 1e-5
    assert np.abs(theirs.i - mine.i).max() < 1e-3 * np.abs(mine.i).max()


def test_what_sees_one_state_sees_the_second_at_zero() -> None:
    model, x, v = growing(), np.linspace(0, 1, 7), np.linspace(-1, 1, 9)[:, None]
    np.testing.assert_array_equal(model.current(v, x), model.current(v, x, 0.0))
    np.testing.assert_array_equal(model.rate(v, x), model.rate(v, x, 0.0))
    assert not np.array_equal(model.current(v, x), model.current(v, x, 0.5))


@pytest.mark.parametrize("suffix", ["csv", "h5"])
def test_a_trace_keeps_its_second_state_on_disk(suffix: str, tmp_path: Path) -> None:
    from devicelab.readers import read_traces
    from devicelab.tracefile import write_traces

    trace = simulate(growing(), cycle(1.2), x0=0.3)
    one = simulate(parameter_set("pku_default"), cycle(1.2), x0=0.3)
    write_traces(tmp_path / f"both.{suffix}", [trace, one])
    again, plain = read_traces(tmp_path / f"both.{suffix}")
    np.testing.assert_array_equal(again.y, trace.y)
    np.testing.assert_array_equal(plain.x, one.x)
    assert plain.y is None
    part = trace.window(3, 9)
    np.testing.assert_array_equal(part.y, trace.y[3:9])


def test_a_trace_refuses_a_second_state_of_another_length() -> None:
    t = np.arange(4.0)
    with pytest.raises(DevicelabError, match="trace columns differ in length"):
        Trace(t, t, t, t, y=t[:3])
    with pytest.raises(DevicelabError, match="column y"):
        Trace(t, t, t, t, y=np.array([0, 1, np.nan, 0]))


@pytest.mark.parametrize(
    ("y0", "said"),
    [
        (1.2, "y0 is out of bounds"),
        (-0.1, "y0 is out of bounds"),
        (np.nan, "y0 is out of bounds"),
        ("half", "y0 is not a number"),
        (np.array([0.1, 2.0]), "y0 is out of bounds"),
        (torch.tensor([0.1, -1.0]), "y0 is out of bounds"),
        (np.zeros((2, 2)), "batches of different numbers"),
        (np.array([]), "batches of different numbers"),
    ],
)
def test_a_second_start_that_is_none_is_refused(y0: Any, said: str) -> None:
    with pytest.raises(DevicelabError, match=said):
        simulate(growing(w=np.array([4e-10, 5e-10, 6e-10])), cycle(), x0=0.3, y0=y0)


@pytest.mark.parametrize("name", ["vteam_memtorch", "pku_default"])
def test_a_model_with_one_state_takes_no_second_start(name: str) -> None:
    for run in (simulate, netlists.simulate):
        with pytest.raises(DevicelabError, match="has one state"):
            run(parameter_set(name), pulses(1.0, 1e-6), y0=0.5)


def test_ngspice_refuses_a_bad_second_start() -> None:
    with pytest.raises(DevicelabError, match="y0 is out of bounds"):
        netlists.simulate(growing(), pulses(1.0, 1e-6), y0=1.5)
    with pytest.raises(DevicelabError, match="a sub-circuit is one device"):
        netlists.simulate(growing(), pulses(1.0, 1e-6), y0=np.array([0.1, 0.2]))


def test_a_simulation_that_stops_keeps_both_states() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Broken(Spiral):
        """Its second rate is no number from y = 0.8 on."""

        name: ClassVar[str] = "broken"

        def _second_rate(self, v: Value, x: Value, ops: Ops, y: Value) -> Value:
            return self.turn * (1.0 + 0.0 * ops.log(ops.minimum(0.8 - y, 1.0)))

    t = np.linspace(0.0, 1.0, 11)
    with np.errstate(invalid="ignore"), pytest.raises(StepError, match="not a number") as stopped:
        simulate(Broken(g=1e-3, turn=1.0, fall=0.0), Drive(t, t), x0=0.5, y0=0.1)
    assert stopped.value.y is not None
    assert stopped.value.x.size == stopped.value.y.size == stopped.value.t.size > 3
    assert 0.3 < stopped.value.y[-1] < 0.8


def test_the_filament_must_fit_the_layer_and_conduct() -> None:
    with pytest.raises(DevicelabError, match="w must be below w_cf"):
        growing(w=6e-9)
    with pytest.raises(DevicelabError, match="rho"):
        growing(rho=0.0)
    with pytest.raises(DevicelabError, match="w_eff"):
        growing(w_eff=-1e-9)


def test_a_lookup_table_is_made_at_one_second_state() -> None:
    from devicelab.lut import Lut

    v, x = np.linspace(-0.5, 0.5, 7), 0.5
    pair, warm = Spiral(g=1e-3, turn=1.0, fall=1.0), Heated(g=1e-3, k=3.0, r_th=2e3, tau=0.1)
    for held in (None, 0.0, 0.4):
        table = Lut.from_model(pair, 0.5, second=held)
        np.testing.assert_allclose(table.current(v, x), pair.current(v, x, held or 0.0), rtol=1e-4, atol=1e-12)
        assert table.device["second_state"] == (held or 0.0)
        rate = Lut.from_model(warm, 0.5, second=held, rate=True).rate
        assert rate is not None
        assert float(rate.at(-0.5, x)) == pytest.approx(float(warm.rate(-0.5, x, held or 0.0)), rel=1e-3)
    with pytest.raises(DevicelabError, match="y0 is out of bounds"):
        Lut.from_model(pair, 0.5, second=-0.1)
    with pytest.raises(DevicelabError, match="has one state"):
        Lut.from_model(parameter_set("pku_default"), 0.5, second=0.1)


def test_what_hands_on_one_state_refuses_two() -> None:
    from devicelab.events import EventSpread, simulate_events
    from devicelab.stochastic import WriteNoise, simulate_noisy
    from devicelab.variability import simulate_cycles

    rng, drive = np.random.default_rng(0), pulses(1.0, 1e-6)
    for run in (
        lambda: simulate_events(growing(), drive, EventSpread(set={"j0": 0.1}), rng),
        lambda: simulate_noisy(growing(), drive, WriteNoise(strength=0.01), rng),
        lambda: simulate_cycles(growing(j0=np.array([1e13, 1.1e13])), drive),
    ):
        with pytest.raises(DevicelabError, match="hand on one state"):
            run()


def test_the_command_line_takes_a_second_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from devicelab.cli import main

    options = ["--drive", "pulses", "--amplitude", "1.2", "--period", "1e-7", "--x0", "1", "--json"]
    with pytest.raises(SystemExit) as done:
        main(["simulate", "--set", "pku_growing", "--y0", "0.2", "--out", str(tmp_path / "a.csv"), *options])
    assert done.value.code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["second state first"] == 0.2
    assert 0.2 < summary["second state last"] < 0.3
    assert "x [1],y [1]" in (tmp_path / "a.csv").read_text()
    for device, y0 in (("pku_growing", "1.5"), ("pku_default", "0.1")):
        with pytest.raises(SystemExit) as refused:
            main(["simulate", "--set", device, "--y0", y0, *options])
        assert refused.value.code == 1
        assert "y0" in capsys.readouterr().err
