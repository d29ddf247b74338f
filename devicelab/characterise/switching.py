"""Where a device switches: the named methods, on the way out of one excursion.

All take voltage and current with the polarity taken out (v > 0 on the excursion) in order of time, and give the
switching voltage [V] or None where the method finds no switching. They differ most where switching is gradual, so the
spread over the methods is itself a number to report.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import cumulative_trapezoid
from scipy.signal import savgol_filter

from .sweeps import Kind

Array = NDArray[np.float64]
NEAR_TOP = 0.97
SHARE = 0.5


def max_slope(t: Array, v: Array, i: Array, kind: Kind, threshold: float | None) -> float | None:
    """Voltage where dI/dV is largest (set) or most negative (reset).

    Slopes by local straight lines over 5 samples, or 2 % of the branch if that is more.
    """
    width = _width(v.size)
    if v.size < width + 2:
        return None
    climb = savgol_filter(i, width, 1, deriv=1)
    ramp = savgol_filter(v, width, 1, deriv=1)
    usual = float(np.median(ramp))
    if not usual > 0:
        return None
    slope = climb / np.maximum(ramp, 0.2 * usual)
    edge = width // 2
    inner = (slope if kind == "set" else -slope)[edge:-edge]
    k = edge + int(np.argmax(inner))
    return float(savgol_filter(v, width, 1)[k]) if inner.max() > 0 else None


def threshold_current(t: Array, v: Array, i: Array, kind: Kind, threshold: float | None) -> float | None:
    """Voltage where the current first rises through a threshold (set) or falls through it after its maximum (reset).

    The threshold [A] is half of the largest current of the branch unless given. Linear between the two samples.
    """
    top = int(np.argmax(i))
    level = SHARE * float(i[top]) if threshold is None else threshold
    if kind == "set":
        beyond = np.flatnonzero((i[1:] >= level) & (i[:-1] < level))
        k = int(beyond[0]) if beyond.size else -1
    else:
        below = np.flatnonzero((i[top + 1 :] <= level) & (i[top:-1] > level))
        k = top + int(below[0]) if below.size else -1
    if k < 0:
        return None
    share = (level - i[k]) / (i[k + 1] - i[k])
    return float(v[k] + share * (v[k + 1] - v[k]))


def max_current(t: Array, v: Array, i: Array, kind: Kind, threshold: float | None) -> float | None:
    """Voltage at the largest current (reset), or where 97 % of the largest current is first reached (set)."""
    if kind == "set":
        return float(v[int(np.argmax(i >= NEAR_TOP * np.max(i)))])
    top = int(np.argmax(i))
    return float(v[top]) if top < v.size - 1 else None


def charge_flux(t: Array, v: Array, i: Array, kind: Kind, threshold: float | None) -> float | None:
    """Voltage at the knee of charge over flux: farthest from the chord, below it (set) or above it (reset).

    q = integral of i dt, phi = integral of v dt. Where the conductance jumps once, q(phi) is two straight lines and
    the knee is the jump exactly; integrals need no smoothing.
    """
    q = np.asarray(cumulative_trapezoid(i, t, initial=0))
    flux = np.asarray(cumulative_trapezoid(v, t, initial=0))
    if not (q[-1] > 0 and flux[-1] > 0):
        return None
    height = q / q[-1] - flux / flux[-1]
    k = int(np.argmax(-height if kind == "set" else height))
    return float(v[k]) if 0 < k < v.size - 1 else None


Method = Callable[[Array, Array, Array, Kind, float | None], float | None]
METHODS: dict[str, tuple[Method, dict[str, str]]] = {
    "max_slope": (max_slope, {
        "set": "largest dI/dV, straight lines over 5 samples or 2 % of the branch",
        "reset": "most negative dI/dV, straight lines over 5 samples or 2 % of the branch",
    }),
    "threshold": (threshold_current, {"set": "rise through a current", "reset": "fall through a current"}),
    "max_current": (max_current, {"set": "97 % of the largest current first reached", "reset": "largest current"}),
    "charge_flux": (charge_flux, {"set": "knee of charge over flux", "reset": "knee of charge over flux"}),
}  # fmt: skip
"""Method, and what it is in words, for set and for reset."""


def _width(n: int) -> int:
    return max(5, 2 * (n // 100) + 1)
