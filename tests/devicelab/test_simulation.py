"""Closed forms that a simulated device must reproduce; derivations in docs/models.md."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from scipy.integrate import cumulative_trapezoid
from scipy.optimize import brentq

from devicelab import (
    VTEAM,
    Biolek,
    Drive,
    Joglekar,
    LinearIonDrift,
    NoWindow,
    Prodromakis,
    parameter_set,
    simulate,
    sine,
)
from devicelab.errors import ParameterError, ShapeError, TraceError
from devicelab.implicit import StepError
from devicelab.parameter_sets import parameter_set_info

EXACT = 1e-9  # closed form against closed form on the same polyline: rounding in a sum of 1000 terms
POLYLINE = 1e-5  # a sine of 1000 samples a period is a polyline: 5e-6 of the amplitude
TABLE = 1e-6  # inverse of a tabulated coordinate


def flux(drive: Drive) -> np.ndarray:
    return cumulative_trapezoid(drive.v, drive.t, initial=0.0)


def strukov(**changes: object) -> LinearIonDrift:
    return parameter_set("strukov_2008_team").replace(**changes)


def vteam(**changes: object) -> VTEAM:
    base = {
        "r_on": 1e3,
        "r_off": 1e5,
        "v_on": -0.7,
        "v_off": 0.6,
        "k_on": 40.0,
        "k_off": 25.0,
        "a_on": 2.5,
        "a_off": 1.5,
    }
    return VTEAM(**{**base, **changes})


def test_linear_drift_resistance_is_a_root_of_the_flux() -> None:
    """M(phi) = sqrt(M0^2 - 2 k dR phi) while between r_on and r_off."""
    model, drive = strukov(), sine(0.5, 1.0)
    trace = simulate(model, drive, x0=0.2)
    m0 = model.r_off - 0.2 * (model.r_off - model.r_on)
    expected = np.sqrt(m0**2 - 2 * model.k * (model.r_off - model.r_on) * flux(drive))
    assert 0 < trace.x.min() < trace.x.max() < 1
    np.testing.assert_allclose(trace.v[1:-1] / trace.i[1:-1], expected[1:-1], rtol=EXACT, err_msg="near v = 0: 0 / 0")


def test_linear_drift_with_joglekar_window_obeys_the_implicit_law() -> None:
    """r_off ln x - r_on ln(1 - x) rises by 4 k phi."""
    model, drive = strukov(window=Joglekar(p=1)), sine(1.0, 1.0)

    def law(x: np.ndarray) -> np.ndarray:
        return model.r_off * np.log(x) - model.r_on * np.log1p(-x)

    trace = simulate(model, drive, x0=0.3)
    for k in range(0, 1001, 50):
        expected = brentq(lambda x, k=k: law(x) - law(0.3) - 4 * model.k * flux(drive)[k], 1e-12, 1 - 1e-12, xtol=1e-15)
        assert trace.x[k] == pytest.approx(expected, abs=TABLE)


@pytest.mark.parametrize("window", [NoWindow(), Joglekar(p=1), Joglekar(p=3), Prodromakis(p=2)])
def test_an_ideal_memristor_returns_after_a_drive_of_zero_flux(window: object) -> None:
    trace = simulate(strukov(window=window), sine(1.0, 1.0, periods=20), x0=0.3)
    np.testing.assert_allclose(trace.x[::1000], 0.3, atol=TABLE)


def test_biolek_window_does_not_return() -> None:
    """Its profile depends on the direction, so the state is no function of the flux (Slipko and Pershin 2019)."""
    trace = simulate(strukov(window=Biolek(p=1)), sine(1.0, 1.0, periods=20), x0=0.3)
    assert abs(trace.x[-1] - 0.3) > 0.01


@pytest.mark.parametrize("v", [0.9, 1.7, -0.9, -1.7])
def test_vteam_switching_time_at_constant_voltage(v: float) -> None:
    """t = 1 / (k (v / v_th - 1)^a)."""
    model = vteam()
    threshold, k, a = (model.v_off, model.k_off, model.a_off) if v > 0 else (model.v_on, model.k_on, model.a_on)
    t_switch = 1.0 / (k * (v / threshold - 1.0) ** a)
    for share in (0.25, 0.5, 0.999):
        drive = Drive([0.0, share * t_switch], [v, v])
        travelled = abs(np.diff(simulate(model, drive, x0=1.0 if v > 0 else 0.0).x)[0])
        assert travelled == pytest.approx(share, rel=EXACT)
    end = simulate(model, Drive([0.0, 1.001 * t_switch], [v, v]), x0=1.0 if v > 0 else 0.0).x[-1]
    assert end == (0.0 if v > 0 else 1.0)


def test_vteam_switching_time_with_a_joglekar_window() -> None:
    """t = [Psi(x2) - Psi(x1)] / g, Psi = ln(x / (1 - x)) / 4 for p = 1."""
    model = vteam(window=Joglekar(p=1))
    speed = model.k_on * (1.4 / 0.7 - 1.0) ** model.a_on
    t = (np.log(9.0) - np.log(1 / 9)) / 4 / speed  # from 0.1 to 0.9
    assert simulate(model, Drive([0.0, t], [-1.4, -1.4]), x0=0.1).x[-1] == pytest.approx(0.9, rel=EXACT)


def test_vteam_half_a_sine_with_exponent_1() -> None:
    """dx = k [2 A cos(th) / (2 pi f v_off) - (pi - 2 th) / (2 pi f)], th = asin(v_off / A)."""
    model, amplitude, frequency = vteam(a_off=1.0, k_off=15.0), 1.0, 3.0
    th = np.arcsin(model.v_off / amplitude)
    travel = model.k_off * (2 * amplitude * np.cos(th) / model.v_off - (np.pi - 2 * th)) / (2 * np.pi * frequency)
    trace = simulate(model, sine(amplitude, frequency, periods=0.5, points=2000), x0=1.0)
    assert 1.0 - trace.x[-1] == pytest.approx(travel, rel=POLYLINE)
    assert trace.x[-1] > 0


def test_vteam_on_a_ramp_is_integrated_exactly_whatever_the_samples() -> None:
    """Two samples or two thousand: the same polyline, the same state."""
    model = vteam(k_on=0.4, k_off=0.3)
    coarse = Drive([0.0, 1.0, 3.0, 4.0], [0.0, 1.5, -1.5, 0.0])
    t = np.unique(np.concatenate([np.linspace(0, 4, 1999), coarse.t]))
    fine = Drive(t, np.interp(t, coarse.t, coarse.v))
    at = np.searchsorted(t, coarse.t)
    np.testing.assert_allclose(simulate(model, fine, x0=0.5).x[at], simulate(model, coarse, x0=0.5).x, atol=EXACT)


def test_state_moves_with_the_second_power_of_the_sampling() -> None:
    """Observed order of a sine sampled ever finer against a very fine one."""
    model = strukov(window=Joglekar(p=2))
    errors = []
    best = simulate(model, sine(1.0, 1.0, points=64000), x0=0.3).x[16000]
    for points in (40, 80, 160, 320):
        errors.append(abs(simulate(model, sine(1.0, 1.0, points=points), x0=0.3).x[points // 4] - best))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert (orders > 1.9).all(), orders
    assert (orders < 2.1).all(), orders


def test_exponential_resistance_is_the_geometric_mean_halfway() -> None:
    model = vteam(resistance="exponential")
    assert 1.0 / model.current(1.0, 0.5) == pytest.approx(np.sqrt(model.r_on * model.r_off), rel=EXACT)


def test_curvature_makes_the_current_a_sinh() -> None:
    model = vteam(b_on=3.0, b_off=3.0)
    v = np.linspace(-1, 1, 11)
    np.testing.assert_allclose(model.current(v, 1.0), np.sinh(3.0 * v) / 3.0 / model.r_on, rtol=EXACT)


def test_published_widths_enter_as_ratios() -> None:
    model = parameter_set("vteam_pt_hf_ti")
    assert model.k_off == pytest.approx(4.03, rel=EXACT)  # 4.03e-8 m/s over 10 nm
    assert model.k_on == pytest.approx(8e9, rel=EXACT)
    assert 1 / (model.k_off * (1 / 0.5 - 1)) == pytest.approx(0.248, abs=5e-4)  # t_reset at 1 V [s]


def test_linear_drift_rate_constant_from_mobility() -> None:
    assert parameter_set("strukov_2008_team").k == pytest.approx(1e-14 * 100 / 1e-16, rel=EXACT)


@pytest.mark.parametrize("tensors", [False, True])
def test_a_large_batch_is_simulated_in_blocks_and_looks_the_same(
    tensors: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    k, x0 = np.linspace(10, 50, 23), np.linspace(0, 1, 23)
    drive = Drive(np.linspace(0, 1, 50), np.sin(np.linspace(0, 6, 50)) * np.linspace(0.5, 1.5, 23)[:, None])
    if tensors:
        k, x0 = torch.tensor(k), torch.tensor(x0)
    device = vteam(k_on=k, window=Biolek(p=k / k))
    whole = simulate(device, drive, x0=x0)
    monkeypatch.setattr("devicelab.simulation.BLOCK", 5)
    blocks = simulate(device, drive, x0=x0)
    np.testing.assert_array_equal(np.asarray(blocks.x), np.asarray(whole.x))
    np.testing.assert_array_equal(np.asarray(blocks.i), np.asarray(whole.i))


@pytest.mark.parametrize("x0", [-0.1, 1.1, float("nan"), [0.2, 1.5]])
def test_a_start_outside_the_bounds_is_refused(x0: object) -> None:
    with pytest.raises(ParameterError, match="x0 is out of bounds"):
        simulate(vteam(), sine(1.0, 1.0), x0=x0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r_on": 1e6}, "r_on must be below r_off"),
        ({"r_on": -1.0}, "r_on .* is out of bounds"),
        ({"v_on": 0.7}, "v_on .* is out of bounds"),
        ({"v_off": -0.6}, "v_off .* is out of bounds"),
        ({"k_on": float("nan")}, "k_on .* is out of bounds"),
        ({"a_on": 0.0}, "a_on .* is out of bounds"),
        ({"polarity": 2}, "polarity is a sign"),
        ({"window": "joglekar"}, "window is not a window"),
        ({"resistance": "cubic"}, "unknown resistance law"),
        ({"r_on": np.array([1e3, 1e6])}, "r_on must be below r_off"),
    ],
)
def test_impossible_parameters_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        vteam(**changes)


def test_a_drive_that_does_not_advance_is_refused() -> None:
    with pytest.raises(TraceError, match="time does not increase"):
        simulate(vteam(), Drive([0.0, 1.0, 1.0], [0.0, 1.0, 0.0]))


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"r_on": np.array([1e3, 2e3]), "k_on": np.array([1.0, 2.0, 3.0])}, {}),
        ({"r_on": np.array([1e3, 2e3])}, {"x0": [0.1, 0.2, 0.3]}),
        ({"r_on": torch.tensor([1e3, 2e3])}, {"series_resistance": np.ones(3)}),
        ({"window": Biolek(p=np.array([1.0, 2.0]))}, {"x0": [0.1, 0.2, 0.3]}),
        ({"r_on": np.ones(0)}, {}),
    ],
)
def test_batches_that_do_not_fit_are_named(changes: dict[str, object], options: dict[str, object]) -> None:
    with pytest.raises(ShapeError, match=r"different numbers of devices(.|\n)*\[\d\]"):
        simulate(vteam(**changes), sine(1.0, 1.0), **options)


def test_a_million_samples_need_little_more_than_their_result() -> None:
    """State and current are 16 bytes a sample; the drive itself is there already."""
    drive = sine(1.0, 1.0, periods=1000, points=1000)
    simulate(vteam(), Drive(drive.t[:3], drive.v[:3]))
    tracemalloc.start()
    simulate(vteam(), drive, x0=0.3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 16 * drive.t.size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vteam_memtorch", sine(1.0, 50.0)), "no device\n.*'vteam_memtorch'\n.*\n.*parameter_set"),
        ((VTEAM, sine(1.0, 50.0)), "no device\n.*VTEAM.*\n.*\n.*a class needs parameters"),
        ((None, sine(1.0, 50.0)), "no device\n.*None"),
        ((parameter_set("vteam_memtorch"), np.zeros(5)), "no drive\n.*array"),
        ((parameter_set("vteam_memtorch"), "sine"), "no drive\n.*'sine'\n.*Drive.t, v."),
    ],
)
def test_what_is_no_device_and_no_drive_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        simulate(*arguments)


def test_a_trace_is_no_drive_but_has_one() -> None:
    device = parameter_set("vteam_memtorch")
    trace = simulate(device, sine(1.0, 5e7))
    with pytest.raises(ParameterError, match=r"Drive.from_trace"):
        simulate(device, trace)
    np.testing.assert_array_equal(simulate(device, Drive.from_trace(trace)).i, trace.i)


@pytest.mark.parametrize("name", ["x0", "series_resistance", "compliance", "tolerance"])
@pytest.mark.parametrize("value", ["1k", 1j, [1.0, [2.0]]], ids=repr)
def test_an_option_that_is_no_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"{name} is not a number"):
        simulate(parameter_set("vteam_memtorch"), sine(1.0, 5e7), **{name: value})


OVERFLOWS = {  # a voltage at which an exponential of the model is no number
    "stanford_default": 500.0,
    "yakopcic_oblea": 1e5,
    "nonlinear_drift_team_paper": 500.0,
    "data_driven_tiox_dut1": 1e3,
    "vteam_memtorch": 1e200,
    "pku_default": 500.0,
}


@pytest.mark.parametrize("name", OVERFLOWS)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_voltage_at_which_the_model_overflows_is_an_error_with_the_states_until_then(name: str) -> None:
    drive = sine(OVERFLOWS[name], parameter_set_info(name)["drive"]["frequency"])
    with pytest.raises(StepError, match=r"simulation of .* stopped: .*\n.*device 0.* of 1001") as caught:
        simulate(parameter_set(name), drive, x0=0.2)
    error = caught.value
    assert 1 <= len(error.t) == len(error.x) < 1001
    assert ((error.x >= 0) & (error.x <= 1)).all()
    assert "overflow markers" not in str(error)


def test_the_device_of_a_batch_that_overflows_is_named_and_tensors_stop_too() -> None:
    device = parameter_set("nonlinear_drift_team_paper")
    many = device.replace(gamma=np.array([4.0, 40.0]))
    with pytest.raises(StepError, match=r"device 1, 1[0-9.]* V at") as caught:
        simulate(many, sine(20.0, 1.0))
    assert caught.value.device == 1
    with pytest.raises(StepError, match="device 1") as caught:
        simulate(device.replace(gamma=torch.tensor([4.0, 40.0], dtype=torch.float64)), sine(20.0, 1.0))
    assert isinstance(caught.value.x, np.ndarray)
