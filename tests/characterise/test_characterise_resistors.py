"""Resistors in series: inside the measured voltage, and in the circuit around it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from characterise_cases import abrupt

from devicelab import Trace
from devicelab.characterise import characterise, free, study
from devicelab.characterise.resistors import _told
from devicelab.readers import read_dataset
from fits import compliance_mask

DATA = Path(__file__).parents[3] / "shared" / "data"
CURRENT = np.linspace(1e-6, 3e-4, 200)
SINH = np.arcsinh(CURRENT / 2e-5) / 6.0


def measured(seed: int) -> np.ndarray:
    return CURRENT + 3e-7 * np.random.default_rng(seed).standard_normal(CURRENT.size)


def test_series_resistance_is_told_from_the_curvature_of_a_sinh_device() -> None:
    inside = 0
    for seed in range(60):
        found = _told(1500.0 * CURRENT + SINH, measured(seed))
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        inside += found.low < 1500.0 < found.high
        assert found.value == pytest.approx(1500.0, rel=0.1)
    assert inside >= 51  # binomial about 57, 3.6 standard deviations


@pytest.mark.parametrize("v", [2000.0 * CURRENT, SINH], ids=["ohmic", "sinh"])
def test_a_branch_that_cannot_tell_gives_no_series_resistance(v: np.ndarray) -> None:
    assert not any(_told(v, measured(seed)) for seed in range(30))


def test_an_ohmic_device_gives_an_upper_bound_that_is_its_resistance() -> None:
    found = characterise(abrupt(noise=1e-7))
    assert "r_series" not in found
    assert found["r_series_max"].value == pytest.approx(1e3, rel=0.01)
    assert "upper bound" in found["r_series_max"].method


def loaded(resistor: float) -> Trace:
    """An abrupt device behind a resistor, the voltage across the device alone."""
    source = np.interp(np.linspace(0, 4, 401), [0, 1, 3, 4], [0, 1.2, -1.2, 0])
    on, v = False, np.empty(source.size)
    for k, value in enumerate(source):
        r = 1e3 if on else 1e5
        v[k] = value * r / (r + resistor)
        on = (on or v[k] >= 0.8) and not v[k] <= -0.1
    i = (source - v) / resistor
    return Trace(np.linspace(0, 1, 401), v, i + 1e-8 * np.random.default_rng(0).standard_normal(401))


@pytest.mark.parametrize("resistor", [2e3, 1e4])
def test_load_resistance_is_the_slope_of_the_fall_in_the_set(resistor: float) -> None:
    found = characterise(loaded(resistor))["r_load"]
    assert found.value == pytest.approx(resistor, rel=0.02)


def test_a_voltage_held_by_the_source_tells_no_load() -> None:
    assert "r_load" not in characterise(abrupt(noise=1e-7))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the measured sets are not at {DATA}")
def test_the_resistor_of_the_knowm_set_is_found_from_the_device_voltage_alone() -> None:
    """5 kohm as the folder names say; the oscilloscope's 1 Mohm beside it is within the tolerance."""
    paths = [p for p in (DATA / "knowm_w_sdc_sine").rglob("Memristor.csv") if "_5_k" in str(p) or "5kohm" in str(p)]
    paths = paths or [p for p in (DATA / "knowm_w_sdc_sine").rglob("Memristor.csv") if "47" not in str(p)]
    found = study(read_dataset([str(path) for path in paths]))
    values = found.values("r_load")
    assert values.size >= 8
    assert np.median(values) == pytest.approx(5e3, rel=0.05)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"the measured sets are not at {DATA}")
@pytest.mark.parametrize(
    ("name", "limit"),
    [("vcm_w264740_40loops", 3.02e-4), ("rram_keithley4200_h16248L/M12/03 endurance set.xlsx", 5e-4)],
)
def test_fits_leave_out_what_the_plateaus_hold(name: str, limit: float) -> None:
    """The one rule, against the compliance in the sets' descriptions: 300 and 500 uA, within 3 % of the level."""
    assert compliance_mask is free
    traces = list(read_dataset(str(DATA / name)))[:10]
    held = [trace.i < -0.97 * limit for trace in traces]
    assert 0.1 < np.mean(np.concatenate(held)) < 0.8
    same = [np.mean(~free(trace) == part) for trace, part in zip(traces, held, strict=True)]
    assert np.mean(same) > 0.98, same
