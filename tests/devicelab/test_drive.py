"""Waveforms have the shape they say, and impossible ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from devicelab import CurrentDrive, Drive, Trace, pulses, sine, triangle
from devicelab.errors import ParameterError, ShapeError, TraceError

ROUNDING = 1e-12


def test_a_sine_reaches_its_amplitude_and_closes() -> None:
    drive = sine(1.5, 50.0, periods=2, points=400)
    assert drive.t.size == 801
    assert drive.t[-1] == pytest.approx(0.04, rel=ROUNDING)
    assert drive.v.max() == pytest.approx(1.5, rel=ROUNDING)
    assert drive.v[0] == 0.0
    assert abs(drive.v[-1]) < 1e-12


def test_a_triangle_reaches_both_ends_exactly_and_closes() -> None:
    drive = triangle(1.5, 2.0, negative=-1.0, cycles=3, points=100)
    assert drive.v.max() == 1.5
    assert drive.v.min() == -1.0
    assert drive.v[-1] == 0.0
    assert drive.t[-1] == pytest.approx(6.0, rel=ROUNDING)
    rate = np.abs(np.diff(drive.v) / np.diff(drive.t))
    assert rate.max() / rate.min() < 1.6  # amplitude 1.5 and 1.0 in the same quarter of the period


def test_a_pulse_has_its_width_at_the_top_and_finite_edges() -> None:
    drive = pulses([1.0, -2.0], 1e-6, gap=3e-6, edge=1e-7, count=2)
    high = drive.v == 1.0
    first = drive.t[high][drive.t[high] < 6e-6]
    assert first[-1] - first[0] == pytest.approx(1e-6, rel=1e-9)
    assert drive.v.min() == -2.0
    assert np.abs(np.diff(drive.v) / np.diff(drive.t)).max() <= 2.0 / 1e-7 * (1 + 1e-9)
    assert drive.t[-1] == pytest.approx(4 * (3e-6 + 1.2e-6) + 3e-6, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sine(1.0, 0.0), "frequency must be positive"),
        (lambda: sine(1.0, 1.0, points=0), "points must be positive"),
        (lambda: sine(1.0, float("inf")), "frequency must be positive"),
        (lambda: triangle(1.0, -1.0), "period must be positive"),
        (lambda: pulses(1.0, 0.0), "width must be positive"),
        (lambda: pulses(1.0, 1e-6, edge=0.0), "edge must be positive"),
        (lambda: pulses([], 1e-6), "no pulses"),
        (lambda: pulses([1.0, np.nan], 1e-6), "amplitudes is not a finite number"),
        (lambda: sine("1", 50.0), "amplitude is not a finite number"),
        (lambda: sine(1.0, None), "frequency must be positive"),
        (lambda: triangle(1.0, 1.0, negative="-1"), "negative is not a finite number"),
    ],
)
def test_impossible_waveforms_are_refused(make: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


@pytest.mark.parametrize(
    ("t", "v", "error", "message"),
    [
        ([0, 1, 1, 2], [0, 1, 2, 3], TraceError, r"time does not increase(.|\n)*t\[1\] = 1"),
        ([0, 2, 1], [0, 1, 2], TraceError, "sort the rows"),
        ([0.0], [1.0], TraceError, "too few samples"),
        ([0, 1, 2], [0, 1], ShapeError, "do not fit"),
        ([0, 1, 2], [0, np.nan, 1], TraceError, "not finite"),
        ([0, np.inf, 2], [0, 1, 2], TraceError, "time is not finite"),
        ("ab", [0, 1], TraceError, "drive time is not numbers"),
        ([0, 1], ["0", "1"], TraceError, "drive voltage is not numbers"),
        ([0, 1], [0, 1j], TraceError, "drive voltage is not numbers"),
        ([0, 1], [[0], [1, 2]], TraceError, "drive voltage is not numbers"),
    ],
)
def test_a_drive_out_of_order_is_refused(t: list, v: list, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Drive(t, v)


def test_a_current_source_speaks_of_its_current() -> None:
    with pytest.raises(TraceError, match=r"drive current is not finite(.|\n)*first at sample 1"):
        CurrentDrive(np.array([0.0, 1.0]), np.array([0.0, np.nan]))
    with pytest.raises(ShapeError, match="drive current and time do not fit"):
        CurrentDrive(np.array([0.0, 1.0]), np.zeros(3))


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (([0, 1, 2], [0, 1, 2], [0, 1]), ShapeError, "columns differ in length"),
        (([0, 1, 2], [0, 1, 2], [0, np.nan, 1]), TraceError, "column i .* not finite"),
        (([0, 1, 1], [0, 1, 2], [0, 1, 2]), TraceError, "time does not increase"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(columns: tuple, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Trace(*(np.array(column, dtype=float) for column in columns))


def test_part_of_a_trace_keeps_its_clock_and_notes() -> None:
    trace = Trace(np.arange(5.0), np.arange(5.0), np.arange(5.0), meta={"device": "A"}).window(2, 4).with_meta(cycle=3)
    assert trace.t.tolist() == [2.0, 3.0]
    assert trace.duration == 1.0
    assert dict(trace.meta) == {"device": "A", "cycle": 3}
