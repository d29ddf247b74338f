"""Other people's readers open a table, and the version-1 file of the day the format was fixed still says the same."""

from __future__ import annotations

from pathlib import Path

import h5py
import lut_samples
import numpy as np
import pytest

from devicelab import Lut
from devicelab.lut import check
from devicelab.lut.schema import SCHEMA

GOLDEN = Path(__file__).parent.parent / "golden" / "lut_version_1.h5"


@pytest.fixture(scope="module")
def table() -> Lut:
    return lut_samples.full()


@pytest.fixture(scope="module")
def saved(table: Lut, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lut") / "full.h5"
    table.save(path)
    return path


def test_h5py_reads_values_units_and_axes(saved: Path, table: Lut) -> None:
    with h5py.File(saved) as file:
        for group, declared in SCHEMA.items():
            for name, own in declared.fields.items():
                assert file["entry"][group][name].attrs["units"].decode() == own.unit
        current = file["entry/lut/current"]
        np.testing.assert_array_equal(current[()], table.table)
        assert [axis[0].name for axis in current.dims] == ["/entry/lut/state", "/entry/lut/voltage"]


def test_xarray_reads_named_coordinates_with_units(saved: Path, table: Lut) -> None:
    xarray = pytest.importorskip("xarray", reason="xarray is not installed")
    pytest.importorskip("h5netcdf", reason="h5netcdf is not installed")
    with xarray.open_dataset(saved, group="entry/lut", engine="h5netcdf") as data:
        assert data["current"].dims == ("state", "voltage")
        assert (data["current"].attrs["units"], data["voltage"].attrs["units"]) == ("A", "V")
        at = data["current"].sel(voltage=0.0)
        assert float(abs(at).max()) == 0.0
        np.testing.assert_array_equal(data["current"].values, table.table)
    for group, declared in SCHEMA.items():
        with xarray.open_dataset(saved, group=f"entry/{group}", engine="h5netcdf") as data:
            assert set(declared.fields) == {*data.variables}
            assert set(data[declared.signal].dims) <= {*data.coords}


def test_a_nexus_reader_finds_the_plot(saved: Path, table: Lut) -> None:
    nexus = pytest.importorskip("nexusformat.nexus", reason="nexusformat is not installed")
    root = nexus.nxload(str(saved))
    plotted = root.get_default()
    assert plotted.nxclass == "NXdata"
    assert plotted.nxsignal.nxname == "current"
    assert [axis.nxname for axis in plotted.nxaxes] == ["state", "voltage"]
    assert str(plotted.nxsignal.attrs["units"]) == "A"
    np.testing.assert_array_equal(plotted.nxsignal.nxvalue, table.table)


def test_the_first_file_of_version_1_is_read_for_ever() -> None:
    """Values written down when the file was: ten rows of I = G0 (1 + 9 x) 0.25 sinh(4 v), made by hand."""
    assert check(GOLDEN) == []
    lut = Lut.load(GOLDEN)
    assert lut.table.shape == (3, 5)
    expected = 1e-6 * (1 + 9 * lut.state[:, None]) * 0.25 * np.sinh(4 * lut.voltage)
    np.testing.assert_allclose(lut.table, expected, rtol=1e-12)
    np.testing.assert_array_equal(lut.voltage, [-1.0, -0.5, 0.0, 0.5, 1.0])
    assert dict(lut.device) == {"model": "golden", "g0": 1e-6, "g0_unit": "S"}
    assert lut.provenance["note"] == "I = g0 (1 + 9 x) sinh(4 v) / 4"
    assert lut.levels is not None
    assert lut.levels.d2d is not None
    assert lut.v_read == 0.5
    np.testing.assert_array_equal(lut.levels.d2d, [0.2, 0.1])
    np.testing.assert_allclose(lut.levels.conductance, np.array([1, 10]) * 0.5e-6 * np.sinh(2.0), rtol=1e-12)
    assert lut.rate is not None
    assert lut.rate.at(0.5, 0.5) == 2.0
    assert lut.factors is not None
    assert lut.factors.rank == 1
    assert lut.curves is not None
    np.testing.assert_array_equal(lut.curves.cycle, [0, 1])
