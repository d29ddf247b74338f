"""What the instrument adds: compliance plateau and noise floor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..trace import Trace
from .number import Number

Array = NDArray[np.float64]
PLATEAU_WIDTH = 0.03
PLATEAU_SAMPLES = 0.03
PLATEAU_SPAN = 0.1
PLATEAU_FLAT = 0.006
_GAUSSIAN = 1.4826  # standard deviation over median absolute deviation


@dataclass(frozen=True, eq=False)
class Plateau:
    """A stretch where the source held the current.

    Args:
        sign: Polarity, +1 or -1.
        level: Median of the held current [A], positive.
        spread: Standard deviation of the held current [A].
        held: True at the held samples, shape [t].
        source: "metadata" or "found in the trace".
    """

    sign: int
    level: float
    spread: float
    held: NDArray[np.bool_]
    source: str


def plateaus(trace: Trace) -> list[Plateau]:
    """Compliance plateaus of a trace, at most one a polarity.

    The limit in `trace.meta["compliance"]` [A] is used where samples reach it. Otherwise a plateau is the current,
    3 % wide, that holds the most samples above half of the largest, if an unbroken run of at least 3 % of the trace
    stays there while the voltage moves by at least a tenth of its largest value and scatters by less than 0.6 % (a
    current that bends over gently fills the 3 % evenly, and scatters by 0.9 %).
    """
    found = []
    for sign in (1, -1):
        i = sign * np.asarray(trace.i)
        limit = trace.meta.get("compliance")
        if isinstance(limit, (int, float)) and limit > 0 and float(i.max()) > (1 - PLATEAU_WIDTH) * limit:
            held, source = i > (1 - PLATEAU_WIDTH) * limit, "metadata"
        else:
            held, source = _densest(i, np.asarray(trace.v)), "found in the trace"
        if held.any():
            found.append(Plateau(sign, float(np.median(i[held])), float(np.std(i[held])), held, source))
    return found


def _densest(i: Array, v: Array) -> NDArray[np.bool_]:
    none = np.zeros(i.size, dtype=bool)
    top = float(i.max())
    high = np.sort(i[i > 0.5 * top]) if top > 0 else np.empty(0)
    if high.size < max(4, PLATEAU_SAMPLES * i.size):
        return none
    inside = np.searchsorted(high, high * (1 + PLATEAU_WIDTH), side="right") - np.arange(high.size)
    low = float(high[int(np.argmax(inside))])
    held = (i >= low) & (i <= low * (1 + PLATEAU_WIDTH))
    edges = np.flatnonzero(np.diff(np.concatenate(([0], held.astype(int), [0]))))
    runs = [slice(a, b) for a, b in edges.reshape(-1, 2).tolist()]
    enough = max(4, PLATEAU_SAMPLES * i.size)
    span = PLATEAU_SPAN * float(np.abs(v).max())
    long = [
        run
        for run in runs
        if run.stop - run.start >= enough and np.ptp(v[run]) > span and np.std(i[run]) < PLATEAU_FLAT * low
    ]
    return held if long else none


def free(trace: Trace) -> NDArray[np.bool_]:
    """True where no plateau holds the current, so that it is the device's own, shape [t]."""
    keep = np.ones(len(trace), dtype=bool)
    for plateau in plateaus(trace):
        keep &= ~plateau.held
    return keep


def scatter(x: Any) -> Array:
    """|Second difference| / sqrt(6) of a signal, shape [n - 2]: of the size of its white noise, blind to its slope."""
    values = np.asarray(x, dtype=float)
    return np.asarray(np.abs(values[:-2] - 2 * values[1:-1] + values[2:]) / np.sqrt(6.0))


def noise_floor(trace: Trace) -> Number:
    """Standard deviation of the current near zero volts [A].

    From second differences of the samples within 15 % of the largest |voltage| (white noise gives them a variance of
    6 sigma^2), by their median absolute value; where the converter repeats values, its smallest step / sqrt(12).
    """
    i, v = np.asarray(trace.i), np.asarray(trace.v)
    bend = scatter(i)
    near = np.abs(v[1:-1]) <= 0.15 * np.abs(v).max()
    few = np.count_nonzero(near) < 8
    used = bend if few else bend[near]
    sigma = _GAUSSIAN * float(np.median(used)) if used.size else 0.0
    steps = np.abs(np.diff(i))
    step = float(steps[steps > 1e-6 * np.abs(i).max()].min(initial=np.inf))
    where = "all samples" if few else "samples within 15 % of the largest |V|"
    method = f"median |second difference|, {where}"
    if sigma == 0.0 and np.isfinite(step):
        sigma, method = step / np.sqrt(12.0), "smallest step of the current / sqrt(12)"
    n = max(2, used.size)
    half = 1.96 * 1.17 * sigma / np.sqrt(2 * n)  # the median is 1.17 times as uncertain as the standard deviation
    return Number(sigma, "A", method, max(0.0, sigma - half), sigma + half, "95 %, white noise")
