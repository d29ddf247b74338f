"""From a measured file to an array, on the data sets that lie beside the checkout; nothing of them is committed.

What is expected was read off the traces by eye: the VCM loops SET at about -0.9 V into a 300 uA compliance and have
about 3 kohm at low resistance; the Keithley sweeps SET at about -2 V and RESET between 1 and 1.6 V.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import crossbar
import fits
from devicelab import VTEAM, Lut, Trace
from devicelab.readers import read_traces

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
VCM = DATA / "vcm_w264740_40loops" / "ivloops_40cycles.csv"
KEITHLEY = DATA / "rram_keithley4200_h16248L" / "M12"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the measured data sets are not beside this checkout")

TEMPLATE = VTEAM(r_on=1e3, r_off=1e5, v_on=-0.5, v_off=0.5, k_on=1.0, k_off=1.0, resistance="exponential")


def fitted(traces: list[Trace]) -> fits.FitResult:
    return fits.fit(TEMPLATE, traces, starts=6)


def solves_as_an_array(result: fits.FitResult) -> None:
    lut = Lut.from_model(result.model, 0.5)
    low, high = lut.conductance_range(0.2)
    g = torch.linspace(low, high, 256, dtype=torch.float64).reshape(16, 16)
    cells = crossbar.LutCells(lut, torch.from_numpy(lut.state_for(g.numpy(), 0.2)))
    v_in = torch.full((16,), 0.2, dtype=torch.float64)
    ideal = crossbar.solve(cells, v_in).i_out
    real = crossbar.solve(cells, v_in, crossbar.Wires(1.0, 1.0, 1.0, 1.0)).i_out
    torch.testing.assert_close(ideal, 0.2 * g.sum(0), rtol=1e-9, atol=0)  # cells were programmed to g at 0.2 V
    assert ((real < ideal) & (real > 0.5 * ideal)).all()


def test_vcm_loops_become_a_device() -> None:
    result = fitted(read_traces(VCM)[:1])
    assert result.model.polarity == 1  # SETs at negative voltage, as VTEAM does
    assert result.metrics["masked"] > 0.1  # the compliance plateau takes no part
    assert result.metrics["nrmse"] < 0.15
    assert result.model.r_on == pytest.approx(3e3, rel=0.2)
    assert -1.1 < result.model.v_on < -0.7
    solves_as_an_array(result)


def test_keithley_sweeps_become_a_device() -> None:
    sets, resets = (read_traces(KEITHLEY / f"03 endurance {kind}.xlsx") for kind in ("set", "reset"))
    assert len(sets) == len(resets) == 50
    result = fitted([sets[1], resets[0]])
    assert -2.5 < result.model.v_on < -1.0
    assert 0.5 < result.model.v_off < 2.0
    assert result.metrics["log_rmse"] < 0.3
    solves_as_an_array(result)


def test_sweeps_of_one_sign_do_not_pretend_to_know_the_other() -> None:
    result = fitted(read_traces(KEITHLEY / "03 endurance set.xlsx")[:1])
    notes = {estimate.name: estimate.note for estimate in result.estimates}
    assert "not determined" in notes["v_off"]
    assert "not determined" in notes["a_off"]
    assert np.isfinite(result.metrics["nrmse"])
