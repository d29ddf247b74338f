"""Every model x window x drive by ngspice and by `devicelab.simulate`: the translation of the equations is right."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import netlists
from devicelab.models import MODELS
from devicelab.windows import WINDOWS, Window
from netlists.conformance import KINDS, ORDERS, Row, conformance_devices, table

pytestmark = [
    pytest.mark.spice,
    pytest.mark.skipif(not netlists.available(), reason="ngspice is not installed"),
]


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
    assert not over, f"\n{table(over)}"


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
