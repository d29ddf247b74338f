"""Numbers of measured sets against independent looks at the same devices."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from devicelab.characterise import Study, study
from devicelab.readers import read_dataset

DATA = Path(__file__).parents[3] / "shared" / "data"
VCM = DATA / "vcm_w264740_40loops" / "ivloops_40cycles.csv"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the measured sets are not at {DATA}")

INDEPENDENT = (-0.895, 0.066)
"""V_set of 100 loops of the same run [V], mean and standard deviation, by an independent look."""


@cache
def vcm() -> Study:
    return study(read_dataset(str(VCM)))


@pytest.mark.parametrize("method", ["max_slope", "threshold", "charge_flux"])
def test_set_voltage_agrees_with_the_independent_look(method: str) -> None:
    values = vcm().values(f"v_set.{method}")
    mean, sd = INDEPENDENT
    assert values.size == 40
    # difference of two means, of 40 and of 100 loops of one run, within 2.5 standard errors
    assert abs(values.mean() - mean) < 2.5 * sd * np.sqrt(1 / 40 + 1 / 100)
    assert values.std(ddof=1) == pytest.approx(sd, rel=0.3)  # 11 % standard error of 40, 7 % of 100


def test_compliance_of_the_active_circuit_is_300_microampere() -> None:
    levels = vcm().values("compliance_negative")
    assert levels.size == 40
    assert levels.mean() == pytest.approx(300e-6, rel=0.02)  # as the set's description states it
    assert "compliance_positive" not in vcm().names()


def test_negative_voltage_sets_the_vcm_device() -> None:
    assert {cycle.polarity for cycle in vcm().cycles} == {-1}


def test_low_resistance_agrees_with_a_plain_reading_of_the_file() -> None:
    """Straight line through all samples of the falling negative branch between -0.1 and -0.5 V, by numpy alone."""
    table = np.loadtxt(VCM, delimiter=",", skiprows=1)
    plain = []
    for cycle in np.unique(table[:, 0]):
        v, i = table[table[:, 0] == cycle][:, 2:].T
        back = slice(int(np.argmin(v)), None)
        chosen = (v[back] > -0.5) & (v[back] < -0.1)
        plain.append(1 / np.polyfit(v[back][chosen], i[back][chosen], 1)[0])
    # at -0.146 V against the slope over 0.4 V: the branch is ohmic to a tenth
    assert np.median(vcm().values("r_on")) == pytest.approx(np.median(plain), rel=0.1)


def test_keithley_forming_is_told_from_cycling_and_compliance_is_the_one_set() -> None:
    found = study(read_dataset(str(DATA / "rram_keithley4200_h16248L" / "M12" / "*.xlsx")))
    formed = [cycle for cycle in found.cycles if cycle.forming]
    assert [cycle.meta["file"] for cycle in formed] == ["01 Electroforming.xlsx"]
    assert np.median(found.values("compliance_negative")) == pytest.approx(5e-4, rel=1e-3)
    assert found.polarity() == -1


def test_knowm_device_sets_at_positive_voltage_in_every_trace_that_tells() -> None:
    found = study(read_dataset(str(DATA / "knowm_w_sdc_sine")))
    assert {cycle.polarity for cycle in found.cycles} <= {0, 1}
    assert sum(cycle.polarity for cycle in found.cycles) > 40
