"""Fits through what stands around the device: a series resistance, a current source, repeated loops, outliers."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import VTEAM, CurrentDrive, Trace, parameter_set, simulate, sine, triangle
from devicelab.errors import ParameterError, ShapeError
from fits import FitResult, fit

REL = 0.01


def device() -> VTEAM:
    return parameter_set("vteam_pt_hf_ti").replace(k_on=6.0, r_on=500.0)


def noisy(values: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sigma = np.hypot(REL * values, 5e-4 * np.abs(values).max())
    return values + sigma * rng.normal(size=values.shape)


def behind(resistance: float, seed: int = 2) -> list[Trace]:
    """What a source of 1.2 and 1.8 V measures through a resistor: its own voltage."""
    out = []
    for amplitude in (1.2, 1.8):
        drive = sine(amplitude, 0.5, periods=1.25, points=240)
        clean = simulate(device(), drive, x0=0.1, series_resistance=resistance)
        out.append(Trace(drive.t, drive.v, noisy(clean.i, seed)))
    return out


def close(result: FitResult, truth: VTEAM, rel: float, names: tuple[str, ...]) -> None:
    for name in names:
        assert float(getattr(result.model, name)) == pytest.approx(getattr(truth, name), rel=rel), result.report()


def test_a_series_resistance_is_told_from_the_device_by_the_load_line() -> None:
    """Kirchhoff: r_on and the resistor are in series, but only one of them shrinks the voltage that switches."""
    result = fit(device().replace(r_on=100.0, r_off=1e4), behind(300.0), series_resistance="fit", screen=512, starts=3)
    assert result.series_resistance == pytest.approx(300.0, rel=0.1)
    close(result, device(), 0.1, ("r_on", "r_off", "v_on", "v_off"))
    assert next(e for e in result.estimates if e.name == "series_resistance").low < 300.0
    assert result.statistics["redchi"] < 1.5


def test_a_known_series_resistance_is_used_and_a_forgotten_one_seen() -> None:
    traces = behind(300.0)
    known = fit(device().replace(r_on=100.0), traces, series_resistance=300.0, screen=512, starts=2)
    close(known, device(), 0.05, ("r_on", "r_off", "v_on", "v_off"))
    assert known.statistics["redchi"] < 1.5
    forgotten = fit(device().replace(r_on=100.0), traces, screen=512, starts=2)
    assert forgotten.statistics["redchi"] > 3 * known.statistics["redchi"]
    assert known.simulate()[0].v is known.traces[0].v
    assert "series_resistance" in known.to_json()


def test_under_a_current_drive_the_voltage_is_fitted() -> None:
    truth = device()
    drive = CurrentDrive.from_drive(sine(1.5e-3, 0.5, periods=1.25, points=300))
    clean = simulate(truth, drive, x0=0.1)
    trace = Trace(drive.t, noisy(clean.v, 4), drive.i)
    result = fit(truth.replace(r_on=100.0, r_off=1e4), trace, drive="current", screen=512, starts=3)
    assert result.metrics["nrmse"] < 2 * REL
    assert result.statistics["redchi"] < 1.5
    close(result, truth, 0.1, ("r_on", "v_off"))
    (again,) = result.simulate()
    np.testing.assert_array_equal(again.i, drive.i)
    assert " V, " in result.report().splitlines()[1], "the floor of the noise is a voltage"


def test_the_polarity_is_found_under_a_current_drive() -> None:
    truth = device().replace(polarity=-1)
    drive = CurrentDrive.from_drive(sine(1.5e-3, 0.5, periods=1.25, points=200))
    trace = Trace(drive.t, noisy(simulate(truth, drive, x0=0.1).v, 4), drive.i)
    assert fit(device(), trace, drive="current", screen=128, starts=1).model.polarity == -1


def steady(seed: int) -> Trace:
    """The third period of a loop, begun near its peak and one sample short of closing."""
    drive = sine(1.2, 0.5, periods=4, points=200)
    clean = simulate(device(), drive, x0=0.5)
    part = slice(452, 652)
    assert abs(clean.x[452] - clean.x[652]) < 1e-6, "the loop has come to repeat itself"
    return Trace(clean.t[part] - clean.t[452], clean.v[part], noisy(clean.i[part], seed))


def test_a_loop_that_repeats_itself_closes() -> None:
    closed = fit(device(), steady(3), periodic=True, screen=512, starts=2)
    (fitted,) = closed.simulate()
    assert len(fitted.t) == len(steady(3)) + 1, "the sample that closes the loop"
    assert abs(fitted.x[-1] - fitted.x[0]) < 2e-3
    assert closed.statistics["samples"] == len(steady(3))
    assert closed.statistics["redchi"] < 1.6
    close(closed, device(), 0.1, ("r_on", "r_off", "v_off"))


@pytest.mark.parametrize("loss", ["huber", "cauchy"])
def test_a_robust_loss_bounds_what_outliers_do(loss: str) -> None:
    truth = device()
    drive = sine(1.2, 0.5, periods=1.25, points=300)
    i = noisy(simulate(truth, drive, x0=0.1).i, 7)
    rng = np.random.default_rng(0)
    spikes = rng.choice(i.size, 15, replace=False)
    i[spikes] *= rng.choice([0.2, 5.0], 15)
    trace = Trace(drive.t, drive.v, i)
    options = {"noise": (REL, 5e-4 * float(np.abs(i).max()) / 5), "screen": 256, "starts": 2}
    plain = fit(truth, trace, **options)
    robust = fit(truth, trace, loss=loss, **options)

    def error(result: FitResult) -> float:
        return float(np.hypot(*(np.log(getattr(result.model, n) / getattr(truth, n)) for n in ("r_on", "r_off"))))

    assert error(robust) < 0.05
    assert error(robust) < error(plain)


def test_a_weight_of_zero_leaves_a_sample_out() -> None:
    truth = device()
    drive = sine(1.2, 0.5, periods=1.25, points=200)
    i = noisy(simulate(truth, drive, x0=0.1).i, 7)
    spoilt = i.copy()
    spoilt[40:60] *= -3.0
    weight = np.ones(i.size)
    weight[40:60] = 0.0
    options = {"noise": (REL, 1e-6), "screen": 128, "starts": 1}
    clean = fit(truth, Trace(drive.t, drive.v, i), weights=[weight], **options)
    same = fit(truth, Trace(drive.t, drive.v, spoilt), weights=[weight], **options)
    assert same.statistics["samples"] == i.size - 20
    assert same.model.r_on == pytest.approx(clean.model.r_on, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"drive": "power"}, ParameterError, "unknown drive"),
        ({"series_resistance": -5.0}, ParameterError, "series_resistance is impossible"),
        ({"series_resistance": float("nan")}, ParameterError, "series_resistance is impossible"),
        ({"series_resistance": "yes"}, ParameterError, "series_resistance is impossible"),
        ({"drive": "current", "series_resistance": 5.0}, ParameterError, "subtract R i"),
        ({"loss": "hubert"}, ParameterError, "(?s)unknown loss.*huber"),
        ({"screen": 0}, ParameterError, "screen is out of bounds"),
        ({"weights": [np.ones(3)]}, ShapeError, "weights do not fit"),
        ({"weights": [np.full(101, -1.0)]}, ParameterError, "not negative"),
        ({"noise": (0.01, float("inf"))}, ParameterError, "noise must be positive"),
        ({"start": parameter_set("mms_knowm")}, ParameterError, "another model"),
    ],
)
def test_impossible_options_are_refused(options: dict, error: type, message: str) -> None:
    drive = triangle(1.0, 1.0, points=100)
    with pytest.raises(error, match=message):
        fit(device(), simulate(device(), drive, x0=0.1), **options)
