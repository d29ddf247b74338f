"""Every model x window x drive by ngspice and by `devicelab.simulate`: the translation of the equations is right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

import netlists
from devicelab.models import MODELS
from devicelab.windows import WINDOWS, Window
from netlists.conformance import KINDS, ORDERS, Row, _excursions, _explained, conformance_devices, table

pytestmark = [
    pytest.mark.spice,
    pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed"),
]

RUNAWAYS = {("pku", "none", "triangle"), ("pku_growing", "none", "triangle")}
"""Where SET feeds on itself and ends within 1e-7 of the drive, ngspice does not reach the limit meanwhile."""


def every_window() -> list[Window]:
    return [cls(**ORDERS.get(name, {})) for name, cls in WINDOWS.items()]


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """Every model with one window on one drive, and two models with every window on every drive."""
    devices = conformance_devices()
    quick = {name: device for name, device in devices.items() if name != "jart_vcm"}  # 25,000 points: see the slow test
    found = netlists.conformance(quick, [WINDOWS["biolek"]()], kinds=["sine"])
    few = {name: devices[name] for name in ("linear_ion_drift", "vteam")}
    found += netlists.conformance(few, every_window())
    yield found
    print(f"\n{table(found)}")  # shown by pytest -s or on failure


def test_every_registered_model_has_a_device() -> None:
    assert set(MODELS) <= set(conformance_devices())


@pytest.mark.slow
def test_every_model_window_and_drive_agrees() -> None:
    found = netlists.conformance()
    print(f"\n{table(found)}")
    assert len(found) == len(conformance_devices()) * len(WINDOWS) * len(KINDS)
    over = [row for row in found if not row.ok]
    assert {(row.model, row.window, row.drive) for row in over} <= RUNAWAYS, f"\n{table(over)}"
    assert all("runs away" in row.note for row in over), f"\n{table(over)}"


def attempt(size: float, over: float = 1e-7, way: float = 0.5) -> Row:
    row = Row(model="any", window="none", drive="sine", x_error=size, i_error=size / 10, limit=1e-3, reltol=1e-9)
    return replace(row, over=over, way=way)


def test_only_a_runaway_explains_a_row_that_is_over_its_limit() -> None:
    """Off for a moment, meanwhile moving far, and closer with every tighter attempt; it stays over its limit."""
    found = _explained([attempt(3e-2), attempt(6e-3)])
    assert found == replace(attempt(6e-3), note=found.note)
    assert not found.ok
    assert "over the limit for 1e-07 of the drive, where SET runs away: 3e-02 at 1e-09" in table([found])
    for other in (
        [attempt(3e-2)],  # nothing to see it shrink by
        [attempt(3e-2), attempt(4e-2)],  # no closer: a wrong equation
        [attempt(3e-2, over=1e-3), attempt(6e-3, over=1e-3)],  # off for long
        [attempt(3e-2, way=1e-3), attempt(6e-3, way=1e-3)],  # off where nothing moves
        [attempt(3e-2), attempt(np.nan)],
    ):
        assert "runs away" not in _explained(other).note
        assert "over the limit" in table([_explained(other)])
    assert _explained([attempt(3e-2), attempt(4e-2)]).x_error == 3e-2


def test_a_row_says_at_which_settings_ngspice_failed() -> None:
    failed = Row(**(vars(attempt(np.nan)) | {"note": "ngspice failed"}))
    found = _explained([failed, replace(attempt(1e-5), points=100, step=0.2)])
    assert found.ok
    assert "steps of 0.2, ngspice fails at 1e-09 with longer steps" in table([found])
    assert _explained([failed]) == failed
    assert "| ngspice failed |" in table([failed])


def test_time_spent_off_and_way_made_meanwhile() -> None:
    t, x = np.array([0.0, 1.0, 2.0, 3.0, 10.0]), np.array([0.0, 0.0, 0.5, 0.5, 0.5])
    off = np.array([False, False, True, False, False])
    assert _excursions(t, x, off) == (0.2, 0.5)
    assert _excursions(t, x, ~off) == (1.0, 0.0)  # from 0 to 2 and on to 10; in the second nothing moves
    assert _excursions(t, x, off & False) == (0.0, 0.0)
    assert _excursions(t, np.stack([x, 3.0 * x]), off) == (0.2, 1.5)  # of state and current the one that moves most


def test_state_and_current_agree_within_the_limits(rows: list[Row]) -> None:
    over = [row for row in rows if not row.ok]
    assert not over, f"\n{table(over)}"


def test_every_run_moved_the_state(rows: list[Row]) -> None:
    still = [row for row in rows if not row.travel > 0.02]
    assert not still, f"\n{table(still)}"


def test_a_looser_tolerance_is_seen_in_the_table() -> None:
    device = conformance_devices()["vteam"]
    window = WINDOWS["joglekar"]()
    tight, loose = (netlists.conformance({"vteam": device}, [window], reltol=reltol) for reltol in (1e-8, 1e-3))
    assert max(row.x_error for row in loose) > 10 * max(row.x_error for row in tight)


def test_a_device_that_cannot_be_driven_is_a_row_with_a_reason() -> None:
    stuck = conformance_devices()["vteam"].replace(v_off=5.0)
    (row, *_) = netlists.conformance({"stuck": stuck}, [WINDOWS["none"]()])
    assert np.isnan(row.x_error)
    assert not row.ok
    assert row.note == "no voltage up to that of its parameter set moves the state both ways"
