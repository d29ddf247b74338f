"""What the instrument adds to a trace, and which samples say nothing about the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.optimize import least_squares

from devicelab import Trace

Array = NDArray[np.float64]
_GAUSSIAN = 1.4826  # standard deviation over median absolute deviation
REL_RANGE = (0.005, 0.3)
PLATEAU_SHARE = 0.03
PLATEAU_WIDTH = 0.02


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a current sample: sigma^2 = (rel |i|)^2 + floor^2.

    Args:
        rel: Relative part.
        floor: Absolute part [A].
    """

    rel: float
    floor: float

    def transform(self, i: Array) -> Array:
        """Variance-stabilised current: a unit step is one standard deviation, whatever the current.

        asinh(i rel / floor) / rel: linear well below the crossover floor / rel, logarithmic well above it. To first
        order a difference is the weighted linear residual; a large one counts as the ratio of the currents, so a
        switching edge that comes a sample early or late weighs the same.
        """
        return np.asarray(np.arcsinh(i * (self.rel / self.floor)) / self.rel, dtype=np.float64)


def estimate_noise(traces: list[Trace]) -> Noise:
    """Noise from the traces themselves.

    Second differences see the noise and little of the device; in bins of equal current their median gives sigma(i)
    whatever the few switching edges do, and sigma^2 against i^2 is a straight line.
    """
    scatter, level = [], []
    for trace in traces:
        scatter.append(np.abs(trace.i[:-2] - 2.0 * trace.i[1:-1] + trace.i[2:]) / np.sqrt(6.0))  # white noise: var 6
        level.append(np.abs(uniform_filter1d(trace.i, size=9))[1:-1])
    every, current = np.concatenate(scatter), np.concatenate(level)
    top = float(current.max())
    if top == 0.0:
        return Noise(REL_RANGE[0], 1e-15)
    bins = np.array_split(np.argsort(current), max(2, min(12, current.size // 25)))
    sigma = _GAUSSIAN * np.array([np.median(every[part]) for part in bins])
    square = np.array([np.mean(np.square(current[part])) for part in bins])
    log_sigma = np.log(np.maximum(sigma, 1e-7 * top))

    def misfit(p: Array) -> Array:  # in logarithms, because the errors of the sigmas are relative
        return np.asarray(0.5 * np.logaddexp(2 * p[0] + np.log(square + 1e-300), 2 * p[1]) - log_sigma)

    found = least_squares(misfit, [np.log(0.02), float(log_sigma.min())], loss="soft_l1").x
    return Noise(float(np.clip(np.exp(found[0]), *REL_RANGE)), max(float(np.exp(found[1])), 1e-6 * top))


def compliance_mask(trace: Trace) -> NDArray[np.bool_]:
    """True where the current is the device's own, False where a compliance limit holds it, shape [t].

    The limit is `trace.meta["compliance"]` [A] where the file gave one; in any case a run of samples at the largest
    current of one polarity, over which the voltage changes, is taken for one.
    """
    keep = np.ones(len(trace), dtype=bool)
    limit = trace.meta.get("compliance")
    if isinstance(limit, (int, float)) and limit > 0:
        keep &= np.abs(trace.i) < 0.97 * float(limit)
    for sign in (1.0, -1.0):
        i = sign * trace.i
        top = float(i.max())
        if top <= 0:
            continue
        held = i > (1.0 - PLATEAU_WIDTH) * top
        span = np.ptp(trace.v[held])
        if held.mean() >= PLATEAU_SHARE and span > 0.1 * np.abs(trace.v).max():
            keep &= ~held
    return keep
