"""A lookup table says what its model says, and a file that is not one is refused."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.interpolate import PchipInterpolator

from devicelab import VTEAM, parameter_set
from devicelab.errors import FileFormatError, LutError
from devicelab.lut import Lut, store

ROUNDING = 1e-14


def model() -> VTEAM:
    return VTEAM(r_on=1e3, r_off=1e5, v_on=-0.7, v_off=0.6, k_on=40.0, k_off=25.0, b_on=1.0, b_off=3.0)


def uniform(n_v: int, n_x: int) -> Lut:
    voltage = np.concatenate([-np.linspace(0, 1, n_v)[:0:-1], np.linspace(0, 1, n_v)])
    state = np.linspace(0, 1, n_x)
    return Lut(voltage, state, model().current(voltage[None], state[:, None]))


def test_nodes_are_exact() -> None:
    lut = uniform(17, 9)
    np.testing.assert_allclose(lut.current(lut.voltage[None], lut.state[:, None]), lut.table, rtol=ROUNDING)
    assert (lut.current(0.0, np.linspace(0, 1, 33)) == 0).all()


def test_between_voltages_it_is_scipys_monotone_cubic() -> None:
    lut = uniform(9, 5)
    v = np.linspace(-1, 1, 203)
    expected = PchipInterpolator(lut.voltage, lut.table[2])(v)
    np.testing.assert_allclose(lut.current(v, 0.5), expected, rtol=1e-12, atol=1e-20)


def order(errors: list[float]) -> np.ndarray:
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


def test_order_of_convergence_in_state_is_two() -> None:
    v, x = 0.8, np.linspace(0.013, 0.987, 301)
    exact = model().current(v, x)
    errors = [float(np.abs(uniform(129, n + 1).current(v, x) / exact - 1).max()) for n in (16, 32, 64, 128)]
    assert (np.abs(order(errors)[1:] - 2.0) < 0.2).all(), order(errors)


def test_order_of_convergence_in_voltage_is_three_or_better() -> None:
    """Harmonic slopes are of second order where the curve is not flat, so the cubic's error falls with h^3 or h^4."""
    v = np.linspace(0.113, 0.887, 301)
    exact = model().current(v, 0.0)
    errors = [float(np.abs(uniform(n + 1, 2).current(v, 0.0) / exact - 1).max()) for n in (8, 16, 32, 64)]
    assert (order(errors) > 2.7).all(), order(errors)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4])
def test_a_table_from_a_model_keeps_its_tolerance(tolerance: float) -> None:
    lut = Lut.from_model(model(), 1.2, tolerance=tolerance)
    rng = np.random.default_rng(0)
    v, x = rng.uniform(-1.2, 1.2, 5000), rng.uniform(0, 1, 5000)
    largest = np.abs(model().current(1.2, x))
    assert (np.abs(lut.current(v, x) - model().current(v, x)) / largest).max() < 1.5 * tolerance
    assert lut.error <= tolerance


def test_saved_and_loaded_tables_are_equal_bit_for_bit(tmp_path: Path) -> None:
    lut = Lut.from_model(parameter_set("vteam_pt_hf_ti"), 1.0, tolerance=1e-3, provenance={"seed": 3})
    lut.save(tmp_path / "a.h5")
    back = Lut.load(tmp_path / "a.h5")
    for name in ("voltage", "state", "table"):
        np.testing.assert_array_equal(getattr(back, name), getattr(lut, name))
    assert back.device["model"] == "vteam"
    assert back.device["r_on"] == 100.0
    assert back.device["r_on_unit"] == "ohm"
    assert back.provenance["seed"] == 3
    assert back.error == lut.error


def test_h5py_alone_reads_a_table_with_its_axes_attached(tmp_path: Path) -> None:
    uniform(5, 3).save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        current = file["entry/lut/current"]
        assert current.dims[0][0].name.endswith("state")
        assert current.dims[1][0].name.endswith("voltage")
        assert current.attrs["units"].decode() == "A"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    uniform(9, 5).save(tmp_path / "a.h5")
    return tmp_path / "a.h5"


@pytest.mark.parametrize(
    "tamper",
    [
        lambda f: f["entry/lut/current"].__setitem__((2, 3), 1e-9),
        lambda f: f["entry/device"].attrs.__setitem__("r_on", 1.0),
        lambda f: f["entry/lut"].attrs.__setitem__("interpolation", "nearest"),
        lambda f: f["entry"].create_dataset("more", data=[1.0]),
        lambda f: f.attrs.__setitem__("content_sha256", "0" * 64),
        lambda f: f.attrs.__delitem__("content_sha256"),
    ],
    ids=["value", "parameter", "rule", "addition", "hash", "no hash"],
)
def test_a_changed_file_is_refused(saved: Path, tamper: object) -> None:
    with h5py.File(saved, "r+") as file:
        tamper(file)
    with pytest.raises(LutError, match=r"does not match its SHA-256|damaged"):
        Lut.load(saved)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(LutError, match=r"damaged|not a lookup table"):
        Lut.load(saved)


def test_another_version_or_format_is_refused(saved: Path) -> None:
    with h5py.File(saved, "r+") as file:
        file.attrs["version"] = 2
    store.seal(saved)
    with pytest.raises(LutError, match="unknown version"):
        Lut.load(saved)
    with h5py.File(saved, "r+") as file:
        file.attrs["format"] = "something"
    store.seal(saved)
    with pytest.raises(LutError, match="not a lookup table"):
        Lut.load(saved)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(LutError, match="no such lookup table"):
        Lut.load("nowhere.h5")


def test_an_existing_file_is_kept_unless_forced(saved: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(FileFormatError, match="exists"):
        uniform(5, 3).save(saved)
    assert saved.read_bytes() == before
    uniform(5, 3).save(saved, force=True)
    assert Lut.load(saved).table.shape == (3, 9)


def test_a_failed_write_leaves_the_old_file_and_no_debris(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(lut: Lut, file: h5py.File) -> None:
        file.create_group("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(store, "write", full)
    with pytest.raises(OSError, match="no space"):
        uniform(5, 3).save(saved, force=True)
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == ["a.h5"]


@pytest.mark.parametrize(
    ("v", "x", "message"),
    [
        (1.01, 0.5, "voltage is outside the table"),
        (-1.01, 0.5, "voltage is outside the table"),
        (np.nan, 0.5, "voltage is outside the table"),
        (0.5, 1.01, "state is outside the table"),
        (0.5, -1e-9, "state is outside the table"),
    ],
)
def test_outside_is_refused(v: float, x: float, message: str) -> None:
    with pytest.raises(LutError, match=message):
        uniform(5, 3).current(v, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, x, i: (v[1:], x, i), "do not fit"),
        (lambda v, x, i: (v[::-1], x, i), "axes must increase"),
        (lambda v, x, i: (v, x * 2, i), r"leaves \[0, 1\]"),
        (lambda v, x, i: (v + 0.01, x, i), "no current at 0 V"),
        (lambda v, x, i: (v, x, -i), "does not rise with voltage"),
        (lambda v, x, i: (v, x, i * np.nan), "not finite"),
        (lambda v, x, i: (v[:2], x, i[:, :2]), "too small"),
    ],
)
def test_impossible_tables_are_refused(change: object, message: str) -> None:
    lut = uniform(5, 3)
    with pytest.raises(LutError, match=message):
        Lut(*change(lut.voltage, lut.state, lut.table))


def test_the_state_for_a_conductance_reads_as_that_conductance() -> None:
    lut = Lut.from_model(model(), 1.0, tolerance=1e-3)
    low, high = lut.conductance_range(0.2)
    wanted = np.linspace(low, high, 23)
    np.testing.assert_allclose(lut.current(0.2, lut.state_for(wanted, 0.2)) / 0.2, wanted, rtol=1e-9)
    with pytest.raises(LutError, match="outside what the device can do"):
        lut.state_for(2 * high, 0.2)
    with pytest.raises(LutError, match="at 0 V"):
        lut.state_for(high, 0.0)
