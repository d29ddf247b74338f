"""`netlists.simulate`: circuits around a device, checked by Kirchhoff's laws and closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import devicelab
import netlists
from devicelab import VTEAM, Biolek, Drive, Joglekar, parameter_set, pulses, sine, triangle
from devicelab.errors import ParameterError, ShapeError

pytestmark = [
    pytest.mark.spice,
    pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed"),
]

DRIFT = parameter_set("strukov_2008_team")
DEVICE = VTEAM(r_on=1e4, r_off=2e5, v_on=-0.9, v_off=0.8, k_on=50.0, k_off=20.0, b_off=2.5, window=Biolek(p=2.0))

LAW = 1e-8
"""Newton's tolerance on voltages, and the 11 digits of numbers in a B-source."""

STATE = 3e-5
"""What trap at reltol 1e-8 leaves in the state (see the conformance table)."""


def test_linear_drift_follows_the_closed_form_of_the_flux() -> None:
    """R^2 falls linearly with the flux, R0^2 - 2 k (r_off - r_on) phi (Strukov 2008 without a window)."""
    trace = netlists.simulate(DRIFT, sine(1.0, 1.0), x0=0.3)
    flux = (1 - np.cos(2 * np.pi * trace.t)) / (2 * np.pi)
    span = DRIFT.r_off - DRIFT.r_on
    start = DRIFT.r_off - span * 0.3
    resistance = np.sqrt(start**2 - 2 * DRIFT.k * span * flux)
    np.testing.assert_allclose(trace.x, (DRIFT.r_off - resistance) / span, atol=STATE)
    np.testing.assert_allclose(trace.i, np.sin(2 * np.pi * trace.t) / resistance, atol=1e-4 * np.abs(trace.i).max())


def test_voltage_divides_between_series_resistance_and_device() -> None:
    trace = netlists.simulate(DEVICE, triangle(2.0, 1.0), x0=0.2, series_resistance=5e3)
    np.testing.assert_allclose(trace.meta["v_applied"], trace.v + 5e3 * trace.i, atol=LAW)
    np.testing.assert_allclose(trace.i, DEVICE.current(trace.v, trace.x), rtol=LAW, atol=1e-14)


def test_device_behind_a_resistor_moves_as_its_own_voltage_says() -> None:
    trace = netlists.simulate(DEVICE, triangle(2.0, 1.0), x0=0.2, series_resistance=5e3)
    exact = devicelab.simulate(DEVICE, Drive(trace.t, trace.v), x0=0.2)
    assert np.ptp(trace.x) > 0.5
    np.testing.assert_allclose(trace.x, exact.x, atol=STATE)


@pytest.mark.parametrize("series_resistance", [0.0, 2e3])
def test_compliance_bounds_the_current_and_only_where_it_would_be_exceeded(series_resistance: float) -> None:
    limit = 50e-6
    drive = triangle(2.0, 1.0, negative=-1.5)
    trace = netlists.simulate(DEVICE, drive, x0=0.2, compliance=limit, series_resistance=series_resistance)
    assert np.abs(trace.i).max() == pytest.approx(limit, rel=1e-4)
    inside = np.abs(trace.i) < 0.999 * limit
    drop = trace.meta["v_applied"] - trace.v - series_resistance * trace.i
    np.testing.assert_allclose(drop[inside], 0.0, atol=LAW)
    assert (drop * trace.i >= -LAW).all()  # the limiter takes power, it gives none
    assert (~inside).any()


def test_polarity_reverses_voltage_and_current() -> None:
    drive, reversed_drive = triangle(1.5, 1.0), triangle(-1.5, 1.0)
    straight = netlists.simulate(DEVICE, drive, x0=0.4)
    turned = netlists.simulate(DEVICE.replace(polarity=-1), reversed_drive, x0=0.4)
    grid = np.linspace(0, 1, 200)
    np.testing.assert_allclose(
        np.interp(grid, turned.t, turned.x), np.interp(grid, straight.t, straight.x), atol=2 * STATE
    )


def test_ngspice_waveform_and_its_polyline_are_the_same_drive() -> None:
    drive = sine(1.0, 1.0, periods=2)
    model = DRIFT.replace(window=Joglekar(p=2.0))
    named = netlists.simulate(model, drive, x0=0.3)
    polyline = netlists.simulate(model, replace(drive, source=None), x0=0.3)
    at = np.interp(named.t, polyline.t, polyline.x)
    np.testing.assert_allclose(at, named.x, atol=2e-5)  # 1000 chords a period: 5e-6 of the amplitude


def test_time_of_a_measured_drive_keeps_its_origin() -> None:
    drive = Drive(np.array([5.0, 5.5, 6.0]), np.array([0.0, 1.0, 0.0]))
    trace = netlists.simulate(DRIFT, drive, x0=0.3)
    assert trace.t[0] == 5.0
    assert trace.t[-1] == pytest.approx(6.0)
    np.testing.assert_allclose(trace.v, np.interp(trace.t, drive.t, drive.v), atol=1e-9)


def test_tighter_tolerance_brings_a_pulse_train_closer() -> None:
    drive = pulses([1.4, -1.3], 5e-3, count=10)
    errors = []
    for reltol in (1e-4, 1e-6, 1e-8):
        trace = netlists.simulate(DEVICE, drive, x0=0.3, reltol=reltol)
        exact = devicelab.simulate(DEVICE, Drive(trace.t, trace.v), x0=0.3)
        errors.append(np.abs(trace.x - exact.x).max())
    assert errors[0] > 10 * errors[2]
    assert errors[2] < STATE


def test_settings_and_version_travel_with_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "bench.cir"
    trace = netlists.simulate(DEVICE, sine(1.0, 10.0), x0=0.25, reltol=1e-6, method="gear", max_step=1e-4, save=path)
    wanted = {"source": "ngspice", "model": "vteam", "x0": 0.25, "reltol": 1e-6, "method": "gear", "max_step": 1e-4}
    assert wanted.items() <= trace.meta.items()
    assert trace.meta["ngspice"] == netlists.ngspice_version()
    text = path.read_text()
    assert "method=gear reltol=1e-06" in text
    assert netlists.run(text)["v(x)"][-1] == trace.x[-1]  # the saved netlist is the whole experiment


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x0": 1.5}, "x0 is out of bounds"),
        ({"x0": float("nan")}, "x0 is out of bounds"),
        ({"series_resistance": -1.0}, "series_resistance is out of bounds"),
        ({"compliance": 0.0}, "compliance is out of bounds"),
        ({"reltol": 0.0}, "reltol is out of bounds"),
        ({"max_step": -1.0}, "max_step is out of bounds"),
        ({"method": "euler"}, "unknown integration method"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        netlists.simulate(DEVICE, sine(1.0, 1.0), **arguments)  # type: ignore[arg-type]


def test_a_batch_of_drives_is_refused() -> None:
    with pytest.raises(ShapeError, match="one drive"):
        netlists.simulate(DEVICE, Drive(np.array([0.0, 1.0]), np.zeros((3, 2))))
