"""The sample traces are what their labels say, and tell the truth that lies beside them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import devicelab
import netlists
from devicelab import Drive
from devicelab.parameter_sets import model_from_dict
from devicelab.readers import read_trace

DATA = Path(__file__).parents[2] / "data"
FILES = sorted(DATA.glob("*.csv"))

SIGMAS = 5.0
"""Of some 1000 normal draws the largest is at 3.3 sigma; 5 sigma has a chance of 1e-3 to occur in a file at all."""


def truth(path: Path) -> dict[str, Any]:
    return json.loads(path.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", DATA / "make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_there_are_samples() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_has_its_row_in_the_readme_with_its_hash(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert truth(path)["sha256"] == digest
    rows = [line for line in (DATA / "README.md").read_text().splitlines() if line.startswith(f"| {path.name} ")]
    assert len(rows) == 1
    assert digest in rows[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_that_it_is_simulated(path: Path) -> None:
    assert "SIMULATED" in path.read_text().splitlines()[1]
    assert truth(path)["origin"] == "simulated"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_reader_finds_time_voltage_and_current(path: Path) -> None:
    trace = read_trace(path)
    rows = np.loadtxt(path, delimiter=",", skiprows=7)
    np.testing.assert_array_equal(np.stack([trace.t, trace.v, trace.i], axis=1), rows)
    assert len(trace) > 800


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "oxide_cycles"], ids=lambda path: path.stem)
def test_current_is_that_of_the_true_device_within_the_noise(path: Path) -> None:
    """By `devicelab.simulate`, which shares no code with ngspice but the equations."""
    info, trace = truth(path), read_trace(path)
    device = model_from_dict(info["device"])
    v = trace.v - info["series_resistance"] * trace.i  # carries 300 ohm times the noise of the current
    exact = devicelab.simulate(device, Drive(trace.t, v), x0=info["x0"])
    meter = info["instrument"]
    sigma = np.hypot(meter["relative_noise"] * exact.i, meter["noise_floor"])
    excess = np.abs(trace.i - exact.i) / (SIGMAS * sigma + 2e-2 * np.abs(exact.i))
    assert excess.max() < 1.0, f"at sample {excess.argmax()}"
    assert np.ptp(exact.x) > 0.3


def test_cycles_spread_as_the_truth_says() -> None:
    info = truth(DATA / "oxide_cycles.csv")
    for name, spread in info["spread"].items():
        drawn = np.array([cycle[name] for cycle in info["cycle_parameters"]])
        assert drawn.size == info["cycles"] == 20
        found = np.std(drawn / info["device"]["parameters"][name], ddof=1)
        assert spread / 2 < found < 2 * spread  # 20 draws: the chance to leave this band is below 1e-4


def test_compliance_is_kept() -> None:
    path = DATA / "oxide_cycles.csv"
    limit = truth(path)["compliance"]
    largest = np.abs(read_trace(path).i).max()
    assert limit < largest < limit * (1 + SIGMAS * truth(path)["instrument"]["relative_noise"])


@pytest.mark.spice
@pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed")
@pytest.mark.parametrize("name", ["oxide_fast", "drift_loop"])
def test_the_script_makes_the_same_file_again(name: str, maker: ModuleType, tmp_path: Path) -> None:
    sample = next(sample for sample in maker.samples() if sample.name == name)
    again = np.loadtxt(maker.write(sample, tmp_path), delimiter=",", skiprows=7)
    shipped = np.loadtxt(DATA / f"{name}.csv", delimiter=",", skiprows=7)
    # another ngspice may differ by 1e-4 of full scale, and then rounds to a neighbouring step of 1 nA
    np.testing.assert_allclose(again, shipped, rtol=1e-3, atol=1e-4 * np.abs(shipped[:, 2]).max())
    a, b = (json.loads((folder / f"{name}.json").read_text()) for folder in (tmp_path, DATA))
    assert {**a, "sha256": ""} == {**b, "sha256": ""}
