"""Pulses, endurance and reads that were measured, against plain numpy on the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devicelab.characterise import series_of
from devicelab.characterise.findings import Finding, findings
from devicelab.readers import read_tables

DATA = Path(__file__).parents[3] / "shared" / "data"
NI = DATA / "ni_1t1r_rram_array"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the measured sets are not at {DATA}")


def found(path: Path) -> tuple[Finding, ...]:
    (one,) = findings(series_of(read_tables(path)))
    return one.items


def test_gong_pulses_rise_straight_and_fall_bent() -> None:
    path = DATA / "gong2018_pulse_response" / "gong_et_al.csv"
    up, down = found(path)
    plain = np.loadtxt(path, delimiter=",")
    for item, column in ((up, plain[:, 0]), (down, plain[:, 1])):
        halves = np.polyfit(np.arange(500), column[:500], 1)[0], np.polyfit(np.arange(500), column[500:], 1)[0]
        label = item["label"]
        assert label.low is not None
        assert label.high is not None
        if item is up:
            assert label.low < 0 < label.high
            assert halves[1] == pytest.approx(halves[0], rel=0.5)
        else:  # steps shrink on the way down: NeuroSim's label is negative
            assert label.high < -1
            assert abs(halves[1]) < 0.5 * abs(halves[0])
        # differences of neighbours hold both noises, of readings (twice) and of pulses, in weights of the fitted range
        noise = np.hypot(np.sqrt(2) * item["read_noise"].value, item["step_noise"].value) * item["range"].value / 2
        assert np.std(np.diff(column)) == pytest.approx(noise, rel=0.05)


def test_endurance_of_the_array_cell_has_the_medians_and_bad_cycles_of_the_file() -> None:
    (item,) = found(NI / "1us_endurance.tsv")
    _, low, high, cycle = np.loadtxt(NI / "1us_endurance.tsv").T
    assert item["r_on"].value == pytest.approx(np.median(low), rel=1e-9)
    assert item["failed"].value == pytest.approx(np.mean(high / low < 2), rel=1e-9)
    early, late = low[cycle < 1e5], low[cycle > 9e5]
    onset, exponent = item["wear_on.onset"].value, item["wear_on.exponent"].value
    told = (np.median(cycle[cycle > 9e5]) / onset) ** exponent
    assert np.median(late) / np.median(early) == pytest.approx(
        told, rel=0.06
    )  # scatter of R_on is 10 %, of medians less


def test_thousand_cells_of_the_array_are_parted_and_their_spread_is_that_of_the_file() -> None:
    (one,) = findings(series_of(read_tables(NI / "100cyc.tsv")))
    address, low, _, _ = np.loadtxt(NI / "100cyc.tsv").T
    assert len(one.items) == np.unique(address).size
    pairs = np.log10(low).reshape(-1, 2)
    assert one.together["log10_r_on.c2c"].value == pytest.approx(
        np.sqrt(np.mean(np.ptp(pairs, axis=1) ** 2) / 2), rel=1e-9
    )


def test_reads_of_one_state_are_noise_without_a_telegraph_signal() -> None:
    (item,) = found(NI / "ret1.csv")
    current = np.loadtxt(NI / "ret1.csv", delimiter=",")[:, 4]
    assert item["mean"].value == pytest.approx(current.mean(), rel=1e-9)
    assert "rtn.amplitude" not in item
    assert any("not told" in line for line in item.remarks)
    assert any("line at 4.5" in line for line in item.remarks)  # seen by eye in the spectrum
    # Parseval: the density integrates to the variance
    spectrum = item.models["spectrum"]
    assert np.trapezoid(spectrum.s[1:], spectrum.f[1:]) == pytest.approx(np.var(current), rel=0.25)
