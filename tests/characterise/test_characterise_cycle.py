"""Numbers of one cycle against closed forms of a device that jumps between two resistors."""

from __future__ import annotations

import numpy as np
import pytest
from characterise_cases import R_OFF, R_ON, V_RESET, V_SET, abrupt

from devicelab import Trace
from devicelab.characterise import characterise, excursions, free, plateaus, split_cycles, study
from devicelab.errors import ParameterError

STEP = 4 * 1.2 / 400
"""Voltage between samples [V]."""
SLOPE_WINDOW = 3 * STEP
"""Straight lines over five samples see a jump up to two samples off, and the voltage between two."""
EXACT = 1e-9
SAMPLED = 0.03
"""The jump lies somewhere within a step: area and energy are known to about a step over the loop."""


@pytest.mark.parametrize("method", ["max_slope", "threshold", "max_current", "charge_flux"])
@pytest.mark.parametrize("sign", [1, -1])
def test_every_method_finds_the_jump_of_an_abrupt_reset(method: str, sign: int) -> None:
    assert characterise(abrupt(sign=sign))[f"v_reset.{method}"].value == pytest.approx(sign * V_RESET, abs=SLOPE_WINDOW)


@pytest.mark.parametrize("method", ["max_slope", "threshold", "max_current", "charge_flux"])
def test_every_method_finds_the_jump_of_an_abrupt_set_into_compliance(method: str) -> None:
    number = characterise(abrupt(compliance=5e-4))[f"v_set.{method}"]
    assert number.value == pytest.approx(V_SET, abs=SLOPE_WINDOW)
    assert number.unit == "V"
    assert number.low is not None
    assert number.high == pytest.approx(number.low + STEP, rel=1e-6)


def test_threshold_method_uses_the_threshold_given() -> None:
    v = np.concatenate([np.linspace(0, 1, 101), np.linspace(0.99, 0, 100)])
    i = np.where(np.arange(v.size) <= 100, 1e-3 * v**2, 1e-3 * v)  # crosses 2.5e-4 A at 0.5 V on the way out
    cycle = characterise(Trace(np.arange(v.size, dtype=float), v, i), threshold=2.5e-4)
    assert cycle["v_set.threshold"].value == pytest.approx(0.5, abs=1e-3)


def test_resistances_and_ratio_are_those_of_the_resistors() -> None:
    cycle = characterise(abrupt(), v_read=0.2)
    assert cycle["r_on"].value == pytest.approx(R_ON, rel=EXACT)
    assert cycle["r_off"].value == pytest.approx(R_OFF, rel=EXACT)
    assert cycle["ratio"].value == pytest.approx(R_OFF / R_ON, rel=EXACT)


def test_interval_of_a_noisy_resistance_covers_the_truth_in_about_95_of_100_traces() -> None:
    inside = 0
    for seed in range(100):
        number = characterise(abrupt(noise=2e-7, seed=seed), v_read=0.2)["r_off"]
        assert number.low is not None
        assert number.high is not None
        inside += number.low <= R_OFF <= number.high
    assert 88 <= inside <= 100  # binomial, 3 standard deviations about 95, and the floor may widen them


def test_a_current_below_the_noise_gives_a_bound_and_no_number() -> None:
    number = characterise(abrupt(noise=2e-5, seed=3), v_read=0.1)["r_off"]
    assert number.censored
    assert "lower bound" in number.method


def test_energy_and_area_of_the_set_excursion_are_the_integrals() -> None:
    # out: V^2 / R_OFF to 0.8 V, then V^2 / R_ON to 1.2 V and back to 0, at 4.8 V/s; reset likewise from 0 to 0.6 V.
    energy = (V_SET**3 / R_OFF + (1.2**3 - V_SET**3) / R_ON + 1.2**3 / R_ON) / 3 / 4.8
    area = sum(0.5 * abs(v) ** 2 * (1 / R_ON - 1 / R_OFF) for v in (V_SET, V_RESET))
    cycle = characterise(abrupt())
    assert cycle["energy_set"].value == pytest.approx(energy, rel=SAMPLED)
    assert cycle["area"].value == pytest.approx(area, rel=SAMPLED)


def test_power_of_the_set_is_that_after_the_jump_and_of_the_reset_that_before_it() -> None:
    cycle = characterise(abrupt())
    assert cycle["power_set"].value == pytest.approx(V_SET**2 / R_ON, rel=SAMPLED)
    assert cycle["power_reset"].value == pytest.approx(V_RESET**2 / R_ON, rel=SAMPLED)


def test_without_measured_time_there_is_no_energy() -> None:
    assert "energy_set" not in characterise(abrupt(time="synthetic: one second a sample"))


def test_polarity_is_the_sign_of_the_voltage_that_sets() -> None:
    assert characterise(abrupt()).polarity == 1
    assert characterise(abrupt(sign=-1)).polarity == -1
    v = np.sin(np.linspace(0, 2 * np.pi, 200))
    assert characterise(Trace(np.arange(200.0), v, v / R_ON)).polarity == 0


def test_compliance_plateau_is_found_and_masked() -> None:
    trace = abrupt(compliance=5e-4, noise=1e-7)
    (found,) = plateaus(trace)
    held = (trace.v >= 0.8) & (trace.i > 4.99e-4)
    assert found.sign == 1
    assert found.level == pytest.approx(5e-4, rel=1e-3)
    masked = ~free(trace)
    assert masked[held].all()
    assert (trace.i[masked] > 0.97 * 5e-4).all()  # a sample within 3 % of the level cannot be told from a held one


def test_a_resistor_has_no_plateau() -> None:
    assert free(Trace(np.arange(200.0), np.sin(np.arange(200.0) / 20), np.sin(np.arange(200.0) / 20) / R_ON)).all()


def test_noise_floor_is_the_standard_deviation_of_the_noise() -> None:
    floors = [characterise(abrupt(noise=1e-6, seed=seed, points=4000))["noise_floor"].value for seed in range(5)]
    assert np.mean(floors) == pytest.approx(1e-6, rel=0.1)  # 5 x 600 samples near zero: 3 % standard error


def test_series_resistance_bound_of_a_diode_with_resistor_is_close_above_the_resistor() -> None:
    # v = R i + v0 asinh(i / i0): dV/dI falls to R as the current rises
    r, v0, i0 = 500.0, 0.05, 1e-6
    i = np.concatenate([np.linspace(0, 2e-3, 200), np.linspace(2e-3, 0, 200)[1:]])
    v = r * i + v0 * np.arcsinh(i / i0)
    out = np.where(np.arange(i.size) < 199, 0.1 * i, i)
    bound = characterise(Trace(np.arange(i.size, dtype=float), v, out))["r_series_max"].value
    assert r < bound < r + v0 / 1e-3  # dV/dI - R = v0 / i, at most v0 over half of the largest current


def test_excursions_know_where_they_set_and_reset() -> None:
    assert [(part.sign, part.kind) for part in excursions(abrupt())] == [(1, "set"), (-1, "reset")]


def test_a_record_of_three_cycles_is_parted_into_three() -> None:
    one = abrupt()
    v, i = (np.concatenate([column] + [column[1:]] * 2) for column in (one.v, one.i))
    parts = split_cycles(Trace(np.arange(v.size, dtype=float), v, i))
    assert len(parts) == 3
    assert all(characterise(part).value("v_reset.threshold") == pytest.approx(V_RESET, abs=STEP) for part in parts)


def test_forming_is_told_from_cycling() -> None:
    fresh = abrupt(v_set=1.19)
    pristine = Trace(fresh.t, fresh.v, np.where(np.abs(fresh.i) < 2e-5, fresh.i * 1e-3, fresh.i))
    found = study([pristine, *(abrupt(v_set=0.6 + 0.01 * k) for k in range(9))])
    assert [cycle.forming for cycle in found.cycles] == [True] + [False] * 9
    assert found.values("v_set.threshold").size == 9


def test_a_read_voltage_must_be_a_magnitude() -> None:
    with pytest.raises(ParameterError, match="v_read must be positive"):
        characterise(abrupt(), v_read=-0.1)


def test_traces_of_several_devices_are_refused() -> None:
    one = abrupt()
    with pytest.raises(ParameterError, match="several devices in one trace"):
        characterise(Trace(one.t, one.v, np.stack([one.i, one.i])))


def test_the_csv_has_one_row_a_cycle_and_units_in_the_head() -> None:
    lines = study([abrupt(), abrupt()]).to_csv().splitlines()
    assert len(lines) == 3
    assert "v_set.threshold [V]" in lines[0]
    assert "r_on [ohm]" in lines[0]


def test_a_sweep_that_does_not_come_back_encloses_no_area_and_gives_its_resistance() -> None:
    v = np.linspace(0.0, 0.35, 36)
    found = characterise(Trace(np.arange(36.0), v, v / 5e3 + 1e-9 * np.random.default_rng(0).standard_normal(36)))
    assert "area" not in found
    assert found["r_read"].value == pytest.approx(5e3, rel=0.01)
    assert "no switching" in found["r_read"].method


def test_the_area_of_a_record_that_begins_amid_a_loop_is_that_of_the_whole_loop() -> None:
    """Closed form of the abrupt loop: triangles between 1/R_off and 1/R_on, V_set^2 / 2 and V_reset^2 / 2."""
    trace = abrupt()
    expected = 0.5 * (1 / R_ON - 1 / R_OFF) * (V_SET**2 + V_RESET**2)
    cut = 60  # 0.72 V on the way out
    turned = Trace(trace.t, *(np.concatenate([y[cut:], y[1 : cut + 1]]) for y in (trace.v, trace.i)))
    for one in (trace, turned):
        assert characterise(one)["area"].value == pytest.approx(expected, rel=0.03)


def test_samples_that_the_compliance_holds_are_counted_and_left_out() -> None:
    """At 0.6 V of 1 kohm the source would give 600 uA: held to 300 uA the read there is of the source, and is none."""
    trace = abrupt(compliance=3e-4)
    cycle = characterise(trace, v_read=0.6)
    assert cycle.held == pytest.approx(np.mean(trace.i > 0.97 * 3e-4), abs=0.02)
    assert cycle.held > 0.1
