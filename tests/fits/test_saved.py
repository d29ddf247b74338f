"""The JSON of a fit is the fit: the same device, bit by bit the same prediction, the same minimum again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devicelab import VTEAM, Biolek, Trace, simulate, triangle
from devicelab.errors import FileFormatError
from fits import fit
from fits.saved import load_fit

TRUTH = VTEAM(
    r_on=1e3, r_off=2e4, v_on=-0.5, v_off=0.5, k_on=60.0, k_off=40.0, a_on=2.0, a_off=2.0, window=Biolek(p=2),
    resistance="exponential",
)  # fmt: skip
FIXED = ["b_on", "b_off", "a_on", "a_off"]


def traces() -> list[Trace]:
    rng = np.random.default_rng(0)
    out = []
    for amplitude in (1.0, 1.2):
        ideal = simulate(TRUTH, triangle(-amplitude, 1.0, points=120), x0=0.1)
        i = ideal.i + np.hypot(0.02 * ideal.i, 1e-6) * rng.normal(size=len(ideal))
        out.append(Trace(ideal.t, ideal.v, i))
    return out


def test_a_fit_read_back_predicts_the_same_currents(tmp_path: Path) -> None:
    result = fit(TRUTH, traces(), fixed=FIXED, start=TRUTH)
    result.to_json(tmp_path / "fit.json")
    saved = load_fit(tmp_path / "fit.json")
    assert saved.model == result.model
    for mine, theirs in zip(saved.simulate(traces()), result.simulate(), strict=True):
        np.testing.assert_array_equal(mine.i, theirs.i)
    again = saved.repeat(traces())
    assert again.statistics["chisqr"] == pytest.approx(result.statistics["chisqr"], rel=1e-3)
    assert [e.name for e in again.estimates] == [e.name for e in result.estimates]


def test_a_fit_behind_a_resistor_is_read_back_with_it(tmp_path: Path) -> None:
    drive = triangle(-1.2, 1.0, points=120)
    source = simulate(TRUTH, drive, x0=0.1, series_resistance=300.0)
    result = fit(TRUTH, Trace(drive.t, drive.v, source.i), fixed=FIXED, start=TRUTH, series_resistance=300.0,
                 noise=(0.02, 1e-6))  # fmt: skip
    result.to_json(tmp_path / "fit.json")
    saved = load_fit(tmp_path / "fit.json")
    assert saved.series_resistance == 300.0
    # both are solved in steps of error 1e-6 or so
    top = float(np.abs(source.i).max())
    np.testing.assert_allclose(saved.simulate([Trace(drive.t, drive.v, source.i)])[0].i, result.simulate()[0].i,
                               atol=1e-3 * top)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read"), ("{", "not a JSON"), ('{"format": "x"}', "not the JSON of a fit")]
)
def test_other_files_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "fit.json").write_text(content)
    with pytest.raises(FileFormatError, match=message):
        load_fit(tmp_path / "fit.json")
