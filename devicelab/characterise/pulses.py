"""Potentiation and depression by equal pulses: linearity, asymmetry, levels, write noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.stats import t

from ..errors import ParameterError
from .number import Number

Array = NDArray[np.float64]
MIN_PULSES = 10


@dataclass(frozen=True, eq=False)
class PulseResponse:
    """One exponential through the response to equal pulses.

    g(n) = end + (start - end) exp(-n / a), n = 0 at the first reading. It is the curve of NeuroSim (A = a, or a / count
    when pulses are normalised) and, step by step, aihwkit's linear-step device: dw = scale (1 - slope w) with w = -1
    at the smaller and +1 at the larger conductance of the pair that is fitted.

    Args:
        a: NeuroSim's A, in pulses; large is linear.
        a_normalised: A / number of pulses, the NormA of NeuroSim's table.
        scale: Step of the weight at w = 0, signed.
        slope: aihwkit's gamma with its sign for this direction: the relative loss of step size per unit of weight.
        write_noise: Standard deviation of a reading about the curve, in weight; writing and reading together.
        levels: Readings four standard deviations apart that fit in the range.
        fitted: The curve, unit of the readings, [n].
    """

    a: Number
    a_normalised: Number
    scale: Number
    slope: Number
    write_noise: Number
    levels: Number
    fitted: Array


def pulse_response(g: Any, *, low: float | None = None, high: float | None = None) -> PulseResponse:
    """Linearity, levels and write noise of one ramp of pulses.

    Args:
        g: Readings after each pulse, conductance [S] or weight, shape [n], n >= 10.
        low: Reading that is weight -1; the fitted minimum unless given.
        high: Reading that is weight +1; the fitted maximum unless given.

    Raises:
        ParameterError: If there are too few readings or they do not change.

    Source: Chen, Peng, Yu, IEEE TCAD 37, 3067 (2018), doi:10.1109/TCAD.2018.2789723, for NeuroSim's curve.
    """
    y = np.asarray(g, dtype=float).ravel()
    if y.size < MIN_PULSES or not np.isfinite(y).all() or np.ptp(y) == 0:
        raise ParameterError("no pulse response", got=f"{y.size} readings", allowed=f"{MIN_PULSES} that change")
    n = np.arange(y.size)
    scale_y = float(np.ptp(y))

    def curve(p: Array) -> Array:  # start, change over the ramp, ln of k = count / a with its sign
        x = n / (y.size - 1)
        bent = -np.expm1(-p[2] * x) / -np.expm1(-p[2]) if abs(p[2]) > 1e-6 else x
        return np.asarray(p[0] + p[1] * bent)

    ends = (float(np.mean(y[: max(2, y.size // 20)])), float(np.mean(y[-max(2, y.size // 20) :])))

    def misfit(p: Array) -> Array:
        return np.asarray((curve(p) - y) / scale_y)

    guess = [ends[0], ends[1] - ends[0]]
    fits = [least_squares(misfit, [*guess, k], x_scale=[scale_y, scale_y, 1.0]) for k in (0.3, 3.0, 10.0)]
    best = min(fits, key=lambda fit: fit.cost)
    start, change, k = (float(value) for value in best.x)
    jacobian = np.asarray(best.jac)
    cov = np.linalg.pinv(jacobian.T @ jacobian) * 2 * best.cost / (y.size - 3)
    half = float(t.ppf(0.975, y.size - 3) * np.sqrt(cov[2, 2]))
    fitted = curve(best.x)
    bottom = min(fitted[0], fitted[-1]) if low is None else low
    top = max(fitted[0], fitted[-1]) if high is None else high
    return _numbers(y, fitted, (start, change, k, half), 2.0 / (top - bottom), 0.5 * (top + bottom))


def _numbers(
    y: Array, fitted: Array, found: tuple[float, float, float, float], gain: float, middle: float
) -> PulseResponse:
    start, change, k, half = found
    count = y.size - 1
    told = abs(k) > half  # otherwise the ramp is straight within its noise, and A has no upper end
    low, high = sorted(1 / end for end in (k - half, k + half)) if told else (None, None)
    end = start + change / -np.expm1(-k) if abs(k) > 1e-6 else np.inf
    target = (end - middle) * gain  # weight where steps vanish: dw = rate (target - w) = scale (1 - w / target)
    rate = -np.expm1(-k / count)
    scale = rate * target if np.isfinite(target) else change * gain / count
    noise = float(np.std(y - fitted, ddof=3)) * gain
    spread = noise / np.sqrt(2 * y.size)
    reach = abs(change) * gain
    words = "least squares of one exponential"
    a = 1 / k if k != 0 else np.inf
    pulses = (None if low is None else low * count, None if high is None else high * count)
    return PulseResponse(
        Number(a * count, "1", words, pulses[0], pulses[1], "95 % of the fit"),
        Number(a, "1", f"{words}, over {count} pulses", low, high, "95 % of the fit"),
        Number(float(scale), "1", "step of the fitted curve at weight 0"),
        Number(float(1 / target), "1", "1 / weight where the steps vanish"),
        Number(
            noise, "1", "sd about the curve, weight from -1 to 1", noise - 1.96 * spread, noise + 1.96 * spread, "95 %"
        ),
        Number(float(1 + np.floor(reach / (4 * noise))) if noise > 0 else np.inf, "1", "range / 4 sd, plus one"),
        fitted,
    )


def asymmetry(up: PulseResponse, down: PulseResponse) -> Number:
    """Mean of |up step + down step| / (|up step| + |down step|) over the weights: 0 symmetric, 1 one direction only.

    From the two linear-step laws, over weights -1 to 1; both fitted with the same `low` and `high`.
    """
    w = np.linspace(-1, 1, 401)
    steps = [fit.scale.value * (1 - fit.slope.value * w) for fit in (up, down)]
    value = float(np.mean(np.abs(steps[0] + steps[1]) / (np.abs(steps[0]) + np.abs(steps[1]))))
    return Number(value, "1", "mean of |up + down| / (|up| + |down|) over the weights")
