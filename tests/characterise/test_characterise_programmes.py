"""Records of pulses and reads in turn."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import Trace
from devicelab.characterise.findings import findings
from devicelab.characterise.programmes import is_programme, ramps
from devicelab.characterise.series import is_swept, series_of
from devicelab.readers.table import Table

READ, STEPS = -0.2, 20


def programme() -> tuple[np.ndarray, np.ndarray]:
    """20 pulses of +1 V and 20 of -1.5 V, each followed by zero, a read at -0.2 V and zero; G = 1 to 2 uS and back."""
    v, i = [], []
    for pulse, rise in ((1.0, 1.0), (-1.5, -1.0)):
        for k in range(STEPS):
            g = 1e-6 * (1.0 + (k + 1) / STEPS if rise > 0 else 2.0 - (k + 1) / STEPS)
            for level in (pulse, 0.0, READ, 0.0):
                v.append(level)
                i.append(level * g)
    return np.array(v), np.array(i)


def test_reads_are_told_from_pulses_and_parted_where_the_pulses_change() -> None:
    v, i = programme()
    read, runs = ramps(v)
    assert read == READ
    assert [pulse for pulse, _ in runs] == [1.0, -1.5]
    for (_, rows), ends in zip(runs, ((1.05e-6, 2e-6), (1.95e-6, 1e-6)), strict=True):
        g = i[rows] / v[rows]
        assert g.size == STEPS
        assert (g[0], g[-1]) == pytest.approx(ends)


def test_a_hold_at_the_voltage_of_the_pulses_is_not_one_more_pulse() -> None:
    v, _ = programme()
    hold = np.array([1.0, 1.0, 0.0, READ, 0.0])
    _, runs = ramps(np.concatenate([hold, v[: 4 * STEPS], hold, v]))
    assert [(pulse, rows.size) for pulse, rows in runs] == [(1.0, STEPS), (1.0, STEPS), (-1.5, STEPS)]


def test_a_programme_is_no_sweep_and_a_triangle_is_no_programme() -> None:
    v, i = programme()
    assert is_programme(Trace(np.arange(v.size), v, i))
    assert not is_swept(Trace(np.arange(v.size), v, i))
    triangle = np.interp(np.linspace(0, 4, 81), [0, 1, 3, 4], [0, 1, -1, 0])
    assert is_swept(Trace(np.arange(81.0), triangle, triangle * 1e-3))


def test_a_table_of_pulses_and_reads_gives_both_ramps_in_siemens() -> None:
    v, i = programme()
    table = Table({"Time": np.arange(v.size) * 0.1, "Voltage": v, "Current": i},
                  {"Time": "s", "Voltage": "V", "Current": "A"}, {"file": "programme.txt"})  # fmt: skip
    series = series_of([table])
    assert [next(iter(item.y)) for item in series] == ["up", "down"]
    (found,) = findings(series)
    for item in found.items:
        assert item["range"].unit == "S"
        assert item["range"].value == pytest.approx(0.95e-6, rel=0.02)
