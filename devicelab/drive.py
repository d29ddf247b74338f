"""Voltage drives: what a waveform generator puts out.

A drive *is* the polyline through its samples, in Python, in ngspice and on a real generator alike. So there is no
sampling error to argue about; a sine of 1000 samples a period differs from the ideal one by 5e-6 of its amplitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ParameterError, ShapeError, TraceError
from .parameters import numbers
from .trace import Trace, check_time


@dataclass(frozen=True, eq=False)
class Drive:
    """A voltage over time.

    Args:
        t: Time [s], strictly increasing, shape [t].
        v: Voltage [V], shape [t] or [b, t].
        source: The same waveform as an ngspice source, such as ``SIN(0 1 50)``; without it, the polyline is used.

    Raises:
        TraceError: If a value is not finite or time does not increase.
        ShapeError: If `v` does not have one value for every time.
    """

    t: NDArray[np.float64]
    v: NDArray[np.float64]
    source: str | None = None

    def __post_init__(self) -> None:
        t, v = _checked(self.t, self.v, "voltage")
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "v", v)

    @classmethod
    def from_trace(cls, trace: Trace) -> Drive:
        """The drive that a measured trace was taken with."""
        return cls(trace.t, trace.v)


@dataclass(frozen=True, eq=False)
class CurrentDrive:
    """A current over time, for a device on a current source.

    Args:
        t: Time [s], strictly increasing, shape [t].
        i: Current [A], shape [t] or [b, t].

    Raises:
        TraceError: If a value is not finite or time does not increase.
        ShapeError: If `i` does not have one value for every time.
    """

    t: NDArray[np.float64]
    i: NDArray[np.float64]

    def __post_init__(self) -> None:
        t, i = _checked(self.t, self.i, "current")
        object.__setattr__(self, "t", t)
        object.__setattr__(self, "i", i)

    @classmethod
    def from_drive(cls, drive: Drive, scale: float = 1.0) -> CurrentDrive:
        """The same waveform as a current: ``CurrentDrive.from_drive(sine(1e-3, 50.0))`` is 1 mA at 50 Hz."""
        return cls(drive.t, scale * drive.v)


def _checked(t: Any, s: Any, what: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for name, values in (("time", t), (what, s)):
        if numbers(values) is None:
            raise TraceError(
                f"drive {name} is not numbers", got=f"{values!r:.80}", allowed="a list or array of numbers"
            )
    t, s = np.asarray(t, dtype=float), np.asarray(s, dtype=float)
    check_time(t)
    if s.ndim not in (1, 2) or s.shape[-1] != t.size:
        raise ShapeError(
            f"drive {what} and time do not fit", got=f"t {t.shape}, {what} {s.shape}", allowed="shape [t] or [b, t]"
        )
    bad = np.argwhere(~np.isfinite(s))
    if bad.size:
        where = f"{len(bad)} bad values, the first at sample {bad[0][-1]}"
        raise TraceError(f"drive {what} is not finite", got=where, allowed="finite numbers")
    return t, s


def sine(amplitude: float, frequency: float, *, periods: float = 1.0, points: int = 1000, offset: float = 0.0) -> Drive:
    """A sine that starts at `offset` and rises.

    Args:
        amplitude: Peak voltage [V]; negative to begin with the negative half.
        frequency: Frequency [Hz].
        periods: Number of periods.
        points: Samples a period.
        offset: Mean voltage [V].
    """
    _check_positive(frequency=frequency, periods=periods, points=points)
    _check_numbers(amplitude=amplitude, offset=offset)
    n = max(2, round(points * periods) + 1)
    t = np.linspace(0.0, periods / frequency, n)
    v = offset + amplitude * np.sin(2 * np.pi * frequency * t)
    return Drive(t, v, source=f"SIN({offset!r} {amplitude!r} {frequency!r})")


def triangle(
    amplitude: float, period: float, *, negative: float | None = None, cycles: int = 1, points: int = 1000
) -> Drive:
    """A double sweep 0 -> amplitude -> 0 -> negative -> 0.

    Args:
        amplitude: First peak [V]; negative to begin with the negative branch.
        period: Duration of one cycle [s].
        negative: Second peak [V]; minus `amplitude` by default, 0 for a one-sided sweep.
        cycles: Number of cycles.
        points: Samples a cycle, rounded up to a multiple of four so that every peak is a sample.
    """
    _check_positive(period=period, cycles=cycles, points=points)
    _check_numbers(amplitude=amplitude, **({} if negative is None else {"negative": negative}))
    second = -amplitude if negative is None else negative
    quarter = -(-points // 4)
    corners = np.array([0.0, amplitude, 0.0, second, 0.0])
    one = np.interp(np.arange(4 * quarter) / quarter, np.arange(5), corners)
    v = np.append(np.tile(one, cycles), 0.0)
    t = np.arange(v.size, dtype=np.float64) * (period / (4 * quarter))
    corner_t = np.arange(4 * cycles + 1, dtype=np.float64) * (period / 4)
    corner_v = np.append(np.tile(corners[:4], cycles), 0.0)
    return Drive(t, v, source=polyline_source(corner_t, corner_v))


def pulses(
    amplitudes: float | list[float] | NDArray[np.float64],
    width: float,
    *,
    gap: float | None = None,
    edge: float | None = None,
    count: int = 1,
    base: float = 0.0,
    points: int = 20,
) -> Drive:
    """A train of trapezoidal pulses.

    Args:
        amplitudes: Voltage of each pulse [V]; a list is repeated `count` times.
        width: Time at the top [s], without edges.
        gap: Time at `base` between pulses [s]; `width` by default.
        edge: Rise and fall time [s]; a twentieth of `width` by default. Never zero: no generator has such edges.
        count: Repetitions of the list.
        base: Voltage between pulses [V].
        points: Samples on each flat stretch and its edge.
    """
    gap = width if gap is None else gap
    edge = width / 20 if edge is None else edge
    _check_positive(width=width, gap=gap, edge=edge, count=count, points=points)
    _check_numbers(amplitudes=amplitudes, base=base)
    if np.size(amplitudes) == 0:
        raise ParameterError("no pulses", got="no amplitudes", allowed="one voltage or more")
    tops = np.tile(np.atleast_1d(np.asarray(amplitudes, dtype=float)), count)
    starts = gap + np.arange(tops.size) * (gap + width + 2 * edge)
    corner_t = np.concatenate(
        [[0.0], (starts[:, None] + np.array([0.0, edge, edge + width, 2 * edge + width])).ravel()]
    )
    zero = np.full_like(tops, base)
    corner_v = np.concatenate([[base], np.stack([zero, tops, tops, zero], axis=1).ravel()])
    corner_t = np.append(corner_t, corner_t[-1] + gap)
    corner_v = np.append(corner_v, base)
    pieces = [np.linspace(a, b, points, endpoint=False) for a, b in pairwise(corner_t)]
    t = np.append(np.concatenate(pieces), corner_t[-1])
    return Drive(t, np.interp(t, corner_t, corner_v), source=polyline_source(corner_t, corner_v))


def polyline_source(t: NDArray[np.float64], v: NDArray[np.float64]) -> str:
    """A polyline as an ngspice PWL source."""
    return "PWL(" + " ".join(f"{a:.17g} {b:.17g}" for a, b in zip(t, v, strict=True)) + ")"


def _check_positive(**values: float) -> None:
    for name, value in values.items():
        if numbers(value) is None or not (np.isfinite(value) and value > 0):
            raise ParameterError(f"{name} must be positive", got=repr(value), allowed="a finite number above 0")


def _check_numbers(**values: Any) -> None:
    for name, value in values.items():
        if numbers(value) is None or not np.isfinite(value).all():
            raise ParameterError(f"{name} is not a finite number", got=repr(value), allowed="a finite number, in volts")
