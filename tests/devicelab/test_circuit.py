"""Series resistance, compliance and current drive: Kirchhoff's laws at every sample, and closed forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from devicelab import (
    VTEAM,
    Biolek,
    CurrentDrive,
    Drive,
    LinearIonDrift,
    Model,
    parameter_set,
    parameter_sets,
    simulate,
    sine,
    triangle,
)
from devicelab.batched import CoarseStepWarning
from devicelab.errors import ConvergenceError, ParameterError
from devicelab.implicit import StepError
from devicelab.ops import Ops, Value
from devicelab.parameter_sets import parameter_set_info

KIRCHHOFF = 1e-9  # a root of a monotone function to 1e-13 of its argument, times the steepest I(V)
STEPS = 3e-6  # a loop of steps of 1e-7 each
every_set = pytest.mark.parametrize("name", parameter_sets())


def of(name: str) -> tuple[object, Drive, float]:
    info = parameter_set_info(name)["drive"]
    return parameter_set(name), sine(info["amplitude"], info["frequency"], periods=1.0, points=100), info["x0"]


def middling(model: object, drive: Drive) -> float:
    """A resistance like that of the device."""
    v = abs(drive.v).max()
    return float(v / abs(model.current(v, 0.5)))


@every_set
def test_voltages_of_device_and_resistor_add_up(name: str) -> None:
    model, drive, x0 = of(name)
    r = middling(model, drive)
    trace = simulate(model, drive, x0=x0, series_resistance=r)
    assert np.abs(trace.v + r * trace.i - drive.v).max() < KIRCHHOFF * abs(drive.v).max()
    assert (np.abs(trace.v) <= np.abs(drive.v) * (1 + KIRCHHOFF)).all()


@every_set
def test_a_compliance_is_never_exceeded_and_does_nothing_below(name: str) -> None:
    model, drive, x0 = of(name)
    free = simulate(model, drive, x0=x0)
    limit = 0.3 * np.abs(free.i).max()
    held = simulate(model, drive, x0=x0, compliance=limit)
    assert np.abs(held.i).max() <= limit * (1 + KIRCHHOFF)
    inside = np.abs(held.i) < limit * (1 - 1e-6)
    np.testing.assert_allclose(held.v[inside], drive.v[inside], atol=KIRCHHOFF)
    loose = simulate(model, drive, x0=x0, compliance=10 * np.abs(free.i).max())
    np.testing.assert_allclose(loose.x, simulate(model, drive, x0=x0, series_resistance=1e-12).x, atol=STEPS)


@every_set
def test_a_current_source_gets_its_current(name: str) -> None:
    model, drive, x0 = of(name)
    top = 0.3 * abs(float(model.current(0.3 * abs(drive.v).max(), max(x0, 0.2))))
    wanted = CurrentDrive.from_drive(drive, top / abs(drive.v).max())
    trace = simulate(model, wanted, x0=max(x0, 0.2), compliance=10.0)
    free = np.abs(trace.v) < 10.0 * (1 - 1e-9)
    assert free.mean() > 0.2
    np.testing.assert_allclose(trace.i[free], wanted.i[free], atol=KIRCHHOFF * top)
    assert np.abs(trace.v).max() <= 10.0 * (1 + KIRCHHOFF)


def test_linear_drift_under_a_current_follows_its_charge() -> None:
    """x = x0 + k q, R = r_off - (r_off - r_on) x."""
    model = LinearIonDrift(r_on=100.0, r_off=16e3, k=1e4)
    drive = CurrentDrive.from_drive(sine(1e-4, 1.0, points=200))
    trace = simulate(model, drive, x0=0.1)
    charge = np.concatenate([[0.0], np.cumsum(0.5 * (drive.i[1:] + drive.i[:-1]) * np.diff(drive.t))])
    np.testing.assert_allclose(trace.x, 0.1 + 1e4 * charge, atol=STEPS)


def test_linear_drift_behind_a_resistor_is_linear_drift_with_larger_resistances() -> None:
    model = LinearIonDrift(r_on=100.0, r_off=16e3, k=1e4)
    drive = sine(0.7, 1.0, points=400)
    behind = simulate(model, drive, x0=0.2, series_resistance=500.0)
    wider = simulate(LinearIonDrift(r_on=600.0, r_off=16.5e3, k=1e4), drive, x0=0.2)
    np.testing.assert_allclose(behind.x, wider.x, atol=STEPS)
    np.testing.assert_allclose(behind.i, wider.i, rtol=1e-4, atol=1e-12)


def test_a_fast_set_behind_a_resistor_stops_at_its_threshold() -> None:
    """SET of Pt/Hf/Ti takes 0.2 ns: behind 1 kohm the voltage across it slides along v_on, whatever the source does."""
    model = parameter_set("vteam_pt_hf_ti")
    trace = simulate(model, triangle(1.0, 2.0, points=400), x0=0.0, series_resistance=1e3)
    sliding = (trace.x > 0.02) & (trace.x < 0.98) & (np.gradient(trace.x) > 1e-6)
    assert sliding.sum() > 10
    assert np.abs(trace.v[sliding] / model.v_on - 1).max() < 2e-2  # the overdrive that moves it: (rate / k_on)^(1/3)


def test_a_solver_of_scipy_finds_the_same_loop_behind_a_resistor() -> None:
    from scipy.optimize import brentq

    model = VTEAM(r_on=1e3, r_off=1e5, v_on=-0.7, v_off=0.6, k_on=1.0, k_off=0.3, b_on=1.0, b_off=3.0)
    drive, r = sine(1.5, 1.0, points=60), 2e3

    def across(v: float, x: float) -> float:
        return brentq(lambda u: u + r * float(model.current(u, x)) - v, min(0, v), max(0, v), xtol=1e-15) if v else 0.0

    x = [0.6]
    for a, b in zip(drive.t[:-1], drive.t[1:], strict=True):

        def slope(t: float, y: np.ndarray) -> list[float]:
            return [float(model.rate(across(float(np.interp(t, drive.t, drive.v)), float(y[0])), float(y[0])))]

        x.append(float(solve_ivp(slope, (a, b), x[-1:], rtol=1e-9, atol=1e-11).y[0, -1]))
    assert min(x) > 0.01
    assert max(x) < 0.99
    np.testing.assert_allclose(simulate(model, drive, x0=0.6, series_resistance=r).x, x, atol=STEPS)


def test_order_of_the_solver_is_three() -> None:
    """Error against tolerance: a third-order method with a second-order error estimate gains 10x for 10x."""
    model, drive = parameter_set("mms_knowm"), sine(0.4, 1e3, points=8)
    exact = simulate(model, drive, x0=0.2, tolerance=1e-13).x
    errors = [np.abs(simulate(model, drive, x0=0.2, tolerance=10.0**-k).x - exact).max() for k in (6, 8, 10)]
    gains = np.log10(np.array(errors[:-1]) / np.array(errors[1:])) / 2
    assert (gains > 0.8).all(), gains


def test_long_segments_are_not_stepped_over() -> None:
    """Corners seconds apart, a compliance that holds the device most of the time: thresholds lie between the steps."""
    rng = np.random.default_rng(0)
    model = parameter_set("nonlinear_drift_team_paper").replace(window=Biolek(p=1))
    t, v = np.cumsum(10.0 ** rng.uniform(-4, 1, 40)), 3.0 * rng.normal(size=40)
    options = {"x0": 0.9, "series_resistance": 0.4, "compliance": 4e-7}
    exact = simulate(model, Drive(t, v), tolerance=1e-12, **options).x
    assert np.ptp(exact) > 1e-3
    assert np.abs(simulate(model, Drive(t, v), **options).x - exact).max() < 2e-5  # some 800 steps of 1e-7


def test_a_batch_behind_resistors_is_a_loop_over_devices() -> None:
    model, drive = parameter_set("vteam_memtorch"), sine(1.0, 50e6, points=100)
    r = np.array([0.0, 20.0, 200.0])
    limit = np.array([1e-2, 1e3, 2e-3])
    together = simulate(model, drive, x0=0.3, series_resistance=r, compliance=limit)
    for k in range(3):
        one = simulate(model, drive, x0=0.3, series_resistance=r[k], compliance=limit[k])
        np.testing.assert_array_equal(together.x[k], one.x)
        np.testing.assert_array_equal(together.v[k], one.v)


@pytest.mark.parametrize("options", [{"series_resistance": 300.0}, {"compliance": 2e-5}])
def test_tensors_behind_a_circuit_agree_and_have_gradients(options: dict[str, float]) -> None:
    model = VTEAM(r_on=1e3, r_off=1e5, v_on=-0.7, v_off=0.6, k_on=4.0, k_off=5.0, b_on=1.0, b_off=3.0)
    t = np.linspace(0.02, 0.16, 6)
    drive = Drive(t, 1.5 * np.sin(2 * np.pi * t))
    k = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    trace = simulate(model.replace(k_off=k), drive, x0=0.9, **options)
    mine = simulate(model, drive, x0=0.9, **options)
    np.testing.assert_allclose(trace.x.detach().numpy()[0], mine.x, atol=1e-4)
    (slope,) = torch.autograd.grad(trace.x[0, -1], k)
    ends = [
        simulate(model.replace(k_off=5.0 + h), drive, x0=0.9, tolerance=1e-12, **options).x[-1] for h in (-1e-3, 1e-3)
    ]
    assert float(slope) == pytest.approx((ends[1] - ends[0]) / 2e-3, rel=1e-2)


def test_a_batch_of_tensors_says_when_its_steps_are_too_coarse() -> None:
    model = parameter_set("team_fit_to_simmons")
    r_on = torch.tensor([50.0], dtype=torch.float64)
    with torch.no_grad(), pytest.warns(CoarseStepWarning, match=r"too coarse(.|\n)*sampled every"):
        simulate(model.replace(r_on=r_on), Drive([0.0, 0.05], [0.0, -1.0]), x0=0.3)


@dataclass(frozen=True, kw_only=True)
class Faulty(Model):
    """A model whose rate is the root of a negative number above half a volt."""

    name: ClassVar[str] = "faulty"
    set_sign: ClassVar[int] = 1

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return 1e-3 * v

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        return v * ops.sqrt(0.5 - v)


def test_a_rate_that_is_no_number_stops_with_the_last_good_state() -> None:
    drive = Drive([0.0, 1e-4, 2e-4, 3e-4], [0.0, 0.3, 0.4, 0.9])
    with pytest.raises(StepError, match=r"stopped(.|\n)*sample 2") as caught:
        simulate(Faulty(), drive, x0=0.2)
    assert isinstance(caught.value, ConvergenceError)
    assert caught.value.x.size == caught.value.t.size == 3
    assert np.isfinite(caught.value.x).all()


def test_a_batch_of_tensors_stops_with_the_last_good_states_of_the_device_that_failed() -> None:
    drive = Drive(np.array([0.0, 1e-4, 2e-4, 3e-4]), np.array([[0.0, 0.1, 0.1, 0.1], [0.0, 0.3, 0.4, 0.9]]))
    start = torch.tensor([0.2, 0.3], dtype=torch.float64)
    with torch.no_grad(), pytest.raises(StepError, match=r"device 1, t = 0.0002 s") as caught:
        simulate(Faulty(), drive, x0=start)
    assert caught.value.device == 1
    assert caught.value.x.size == caught.value.t.size == 3
    alone = simulate(Faulty(), Drive(drive.t[:3], drive.v[1, :3]), x0=0.3).x
    np.testing.assert_allclose(caught.value.x, alone, atol=1e-5)


def test_a_current_that_no_voltage_drives_stops() -> None:
    model = parameter_set("yakopcic_oblea")  # carries nothing at x = 0
    drive = CurrentDrive(np.array([0.0, 1e-3]), np.array([1e-6, 1e-6]))
    with pytest.raises(StepError, match="finds no voltage"):
        simulate(model, drive, x0=0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"series_resistance": -1.0}, "series_resistance must not be negative"),
        ({"series_resistance": float("nan")}, "series_resistance must not be negative"),
        ({"compliance": 0.0}, "compliance must be positive"),
        ({"compliance": -1e-3}, "compliance must be positive"),
        ({"tolerance": 0.0}, "tolerance is out of bounds"),
    ],
)
def test_impossible_circuits_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        simulate(parameter_set("vteam_memtorch"), sine(1.0, 50e6), **options)
