"""States of many cells: what was put in comes out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_characterise_commands import run

from devicelab.characterise.series import series_of
from devicelab.characterise.states import moved
from devicelab.readers import read_tables
from devicelab.readers.table import Table

CELLS, MEDIAN, DECADES, FAR = 400, 2e4, 0.3, 40


@pytest.fixture(scope="module")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 cells before and after a bake that lifts all by 0.05 decades and 40 of them by a factor of four."""
    folder = tmp_path_factory.mktemp("bake")
    rng = np.random.default_rng(0)
    first = MEDIAN * 10 ** (DECADES * rng.standard_normal(CELLS))
    second = first * 10**0.05
    second[:FAR] = 4 * first[:FAR]
    order = rng.permutation(CELLS)  # read in another order
    for name, cells, r in (("prebake", np.arange(CELLS), first), ("postbake", order, second[order])):
        rows = "\n".join(f"{cell},{value:.10g}" for cell, value in zip(cells, r, strict=True))
        (folder / f"{name}.csv").write_text(f"Address,Resistance (ohm)\n{rows}\n")
    return folder


def test_the_bake_is_found_cell_by_cell_and_forward_in_time(bake: Path) -> None:
    code, out, err = run("characterize", bake, "--json")
    assert code == 0, err
    found = json.loads(out)["states"]
    for one in found["measurements"]:
        assert one["numbers"]["decades"]["value"] == pytest.approx(DECADES, rel=0.15)
    together = {name.partition(": ")[2]: number for name, number in found["together"].items()}
    assert all(name.startswith("postbake / prebake") for name in found["together"])
    assert together["shift"]["value"] == pytest.approx(0.05, abs=1e-6)
    assert together["changed"]["value"] == FAR / CELLS
    assert together["changed"]["low"] == pytest.approx(0.0725, abs=0.0005)  # Clopper-Pearson, by the tables
    assert together["changed"]["high"] == pytest.approx(0.1337, abs=0.0005)


def test_states_are_told_from_the_columns_and_drawn(bake: Path, tmp_path: Path) -> None:
    (series,) = series_of(read_tables(bake / "prebake.csv"))
    assert series.kind == "states"
    code, _, err = run("plot", "states", bake, "--out", tmp_path / "s.pdf")
    assert code == 0, err


def test_before_and_after_in_one_file_are_compared_row_by_row() -> None:
    columns = {"cell": np.arange(20.0), "resistance before": np.full(20, 1e5), "resistance after": np.full(20, 1e4)}
    units = {"cell": "", "resistance before": "ohm", "resistance after": "ohm"}
    (series,) = series_of([Table(columns, units, {"file": "set.csv"})])
    assert set(series.y) == {"before", "after"}
    found = moved(series.y["before"], series.y["after"], 2.0)
    assert found["shift"].value == pytest.approx(-1.0)
    assert found["changed"].value == 1.0


def test_readings_of_one_cell_are_no_states() -> None:
    columns = {"device": np.zeros(50), "resistance": np.linspace(1e3, 2e3, 50)}
    with pytest.raises(Exception, match="no measurement"):
        series_of([Table(columns, {"device": "", "resistance": "ohm"}, {"file": "x.csv"})])
