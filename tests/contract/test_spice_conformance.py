"""Every model x window x drive by ngspice and by `devicelab.simulate`: the translation of the equations is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import netlists
from devicelab.models import MODELS
from devicelab.windows import WINDOWS
from netlists.conformance import KNOWN, SHARP_LIMIT, Row, conformance_devices, table

pytestmark = [
    pytest.mark.spice,
    pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed"),
]

RUNAWAY = 2e-2
"""Current of linear drift running into x = 1: a state error of 7e-5 times r_off/r_on = 160."""


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    found = netlists.conformance()
    yield found
    print(f"\n{table(found)}")  # shown by pytest -s or on failure


def test_the_table_is_complete(rows: list[Row]) -> None:
    assert set(MODELS) <= set(conformance_devices())
    wanted = {
        (device, window, drive)
        for device in conformance_devices()
        for window in WINDOWS
        for drive in ("sine", "triangle", "pulses")
    }
    assert {(row.model, row.window, row.drive) for row in rows} == wanted


def test_state_and_current_agree_within_the_limits(rows: list[Row]) -> None:
    over = [row for row in rows if not row.ok and (row.model, row.window) not in KNOWN]
    assert not over, f"\n{table(over)}"


def test_cases_over_the_limit_say_why_and_still_agree_in_the_state(rows: list[Row]) -> None:
    for row in rows:
        if (row.model, row.window) in KNOWN:
            assert row.x_error < SHARP_LIMIT, table([row])
            assert row.i_error < RUNAWAY, table([row])
            assert row.ok or row.note


def test_every_run_moved_the_state(rows: list[Row]) -> None:
    still = [row for row in rows if not row.travel > 0.02]
    assert not still, f"\n{table(still)}"
    hard = [row.travel for row in rows if row.window == "none" and row.drive != "pulses"]
    assert min(hard) > 0.5  # from 0.3 or 0.7 into a bound


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
    assert row.note == "1 V does not move the state both ways"
