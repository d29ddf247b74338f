"""What the instrument adds to a trace, and which samples say nothing about the device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d
from scipy.optimize import least_squares

from devicelab import Trace
from devicelab.characterise.instrument import free as compliance_mask
from devicelab.characterise.instrument import scatter

Array = NDArray[np.float64]
_GAUSSIAN = 1.4826  # standard deviation over median absolute deviation
__all__ = ["Noise", "compliance_mask", "estimate_noise"]
REL_RANGE = (0.005, 0.3)
MOST_BINS = 12


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
    whatever the few switching edges do, and sigma^2 against i^2 is a straight line. Where no bin shows a
    floor, it is what the relative part is in the quietest twelfth: the traces say that it is no larger, not that it is
    zero.
    """
    spread, level = [], []
    for trace in traces:
        spread.append(scatter(trace.i))
        level.append(np.abs(uniform_filter1d(trace.i, size=9))[1:-1])
    every, current = np.concatenate(spread), np.concatenate(level)
    top = float(current.max())
    if top == 0.0:
        return Noise(REL_RANGE[0], 1e-15)
    bins = np.array_split(np.argsort(current), max(2, min(MOST_BINS, current.size // 25)))
    sigma = _GAUSSIAN * np.array([np.median(every[part]) for part in bins])
    square = np.array([np.mean(np.square(current[part])) for part in bins])
    log_sigma = np.log(np.maximum(sigma, 1e-7 * top))

    def misfit(p: Array) -> Array:  # in logarithms, because the errors of the sigmas are relative
        return np.asarray(0.5 * np.logaddexp(2 * p[0] + np.log(square + 1e-300), 2 * p[1]) - log_sigma)

    found = least_squares(misfit, [np.log(0.02), float(log_sigma.min())], loss="soft_l1").x
    rel = float(np.clip(np.exp(found[0]), *REL_RANGE))
    quiet = np.sort(current)[: max(1, current.size // MOST_BINS)]
    return Noise(rel, max(float(np.exp(found[1])), rel * float(np.sqrt(np.mean(quiet**2))), 1e-6 * top))
