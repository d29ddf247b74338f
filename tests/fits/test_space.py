"""Where a fit looks: the curvature of the current comes from the traces."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import VTEAM, Trace, parameter_set, simulate, triangle
from fits import fit
from fits.noise import compliance_mask
from fits.space import Extent


def extent(v: np.ndarray, i: np.ndarray) -> Extent:
    trace = Trace(np.arange(float(v.size)), v, i)
    return Extent.of([trace], [compliance_mask(trace)])


SWEEP = triangle(1.0, 1.0, negative=2.0, points=400).v


@pytest.mark.parametrize("b", [0.0, 2.0, 8.0, 20.0])
def test_the_curvature_of_a_sinh_is_found(b: float) -> None:
    """d ln sinh(b v) / dv = b coth(b v), and 1 / v for an ohmic current."""
    found = extent(SWEEP, 1e-9 * np.sinh(b * SWEEP) if b else 1e-3 * SWEEP)
    assert found.curvature == pytest.approx(b, abs=0.7)  # 1 / v, from 0.5 to 5 /V, is taken off
    assert (found.curvature > found.gentle) == (b > 3)


def test_a_junction_is_seen_behind_its_resistance_and_a_switch_is_none() -> None:
    """v = ln(1 + i / i0) / b + R i: 20 /V at small currents, ohmic at large ones."""
    i = np.concatenate([[0.0], np.geomspace(1e-9, 1e-2, 4000)])
    v = np.arcsinh(i / 2e-10) / 20.0 + 40.0 * i
    branch = np.interp(np.abs(SWEEP), v, i)
    found = extent(SWEEP, np.sign(SWEEP) * branch)
    assert 10.0 < found.curvature < 20.0
    assert found.curvature > found.gentle
    switch = VTEAM(r_on=1e3, r_off=1e6, v_on=-0.5, v_off=0.5, k_on=1e3, k_off=1e3, a_on=3.0, a_off=3.0)
    jump = simulate(switch, triangle(-1.0, 1.0, points=400), x0=0.05)
    seen = extent(jump.v, jump.i)
    assert seen.curvature < 0.5 * seen.gentle


def test_a_junction_behind_an_unknown_resistance_is_fitted() -> None:
    """20 and 12 /V where the range of the sweep alone would have given 10 /V as the hard limit."""
    truth = parameter_set("vteam_asymmetric_example").replace(
        r_on=1e3, r_off=5e4, v_on=-0.25, v_off=0.35, k_on=1.0, k_off=0.5, a_p=1e-3, a_n=4e-4, b_p=12.0, b_n=20.0
    )
    drive = triangle(-1.0, 20.0, negative=2.0, points=300)
    clean = simulate(truth, drive, x0=0.3, series_resistance=50.0)
    rng = np.random.default_rng(1)
    i = clean.i + np.hypot(0.01 * clean.i, 1e-9) * rng.normal(size=len(clean))
    held = ["a_on", "a_off", "v_on", "v_off", "k_on", "k_off"]  # what is looked for is the current
    trace = Trace(drive.t, drive.v, i)
    found = fit(truth.replace(b_p=1.0, b_n=1.0), trace, series_resistance="fit", fixed=held, screen=512, starts=3)
    assert found.statistics["redchi"] < 1.5
    assert found.series_resistance == pytest.approx(50.0, rel=0.05)
    assert float(found.model.b_p) == pytest.approx(12.0, rel=0.05)  # type: ignore[attr-defined]
    assert float(found.model.b_n) == pytest.approx(20.0, rel=0.05)  # type: ignore[attr-defined]
