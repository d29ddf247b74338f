"""Potentiation and depression by equal pulses: linearity, asymmetry, levels, write noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares
from scipy.signal import lfilter
from scipy.stats import t

from ..errors import ParameterError
from .number import Number
from .variability import correlation_time

Array = NDArray[np.float64]
MIN_PULSES = 10
LABEL = 0.07
"""Distance from the diagonal of the unit square that is one of NeuroSim's nonlinearity labels."""
BATCHES = 12
REDRAWN = 40
LASTING = 2.0
STEEP = 200.0
"""Largest number of time constants in a ramp."""


@dataclass(frozen=True, eq=False)
class PulseResponse:
    """One exponential through the response to equal pulses.

    g(n) = end + (start - end) exp(-n / a), n = 0 at the first reading. It is the curve of NeuroSim (A = a, or a / count
    when pulses are normalised) and, step by step, aihwkit's linear-step device: dw = scale (1 - slope w) with w = -1
    at the smaller and +1 at the larger conductance of the pair that is fitted.

    Args:
        a: NeuroSim's A, in pulses; large is linear.
        a_normalised: A / number of pulses, the NormA of NeuroSim's table.
        label: NeuroSim's nonlinearity label, see `nonlinearity_label`: 0 straight to 9; negative on a falling ramp.
        scale: Step of the weight at w = 0, signed.
        slope: aihwkit's gamma with its sign for this direction: the relative loss of step size per unit of weight.
        write_noise: Standard deviation of a reading about the curve, in weight; writing and reading together.
        step_noise: Standard deviation of one pulse's change of the weight, read noise taken out.
        read_noise: Standard deviation that a reading adds, weight; not carried on by the next pulses.
        levels: Readings four standard deviations apart that fit in the range.
        fitted: The curve, unit of the readings, [n].
    """

    a: Number
    a_normalised: Number
    label: Number
    scale: Number
    slope: Number
    write_noise: Number
    step_noise: Number
    read_noise: Number
    levels: Number
    fitted: Array

    def numbers(self) -> dict[str, Number]:
        """All numbers by name."""
        names = ("a", "a_normalised", "label", "scale", "slope", "write_noise", "step_noise", "read_noise", "levels")
        return {name: getattr(self, name) for name in names}


def nonlinearity_label(a_normalised: float) -> float:
    """NeuroSim's nonlinearity label of the curve y = (1 - exp(-x / A)) / (1 - exp(-1 / A)) in the unit square.

    Its table of A against label (0.01 to 9) is, to the digits printed, the largest distance of the curve from the
    diagonal, measured across it, in units of 0.07: max(y - x) / sqrt(2) / 0.07. Negative where A is.

    Args:
        a_normalised: A over the number of pulses; infinite for a straight line.

    Source: the table in `getParamA` of MLP+NeuroSim V3.0 (github.com/neurosim/MLP_NeuroSim_V3.0, `formula.cpp`, with
    `nonlinear_fit.m`); Chen, Peng, Yu, IEEE TCAD 37, 3067 (2018), doi:10.1109/TCAD.2018.2789723.
    """
    k = abs(1.0 / a_normalised) if a_normalised else np.inf
    if not np.isfinite(k):
        height = 1.0
    elif k < 1e-3:
        height = k / 8.0
    else:
        whole = -1.0 / np.expm1(-k)
        height = whole - (1.0 + np.log(k * whole)) / k
    return float(np.copysign(height / np.sqrt(2.0) / LABEL, a_normalised))


def pulse_response(
    g: Any, *, low: float | None = None, high: float | None = None, resample: bool = True
) -> PulseResponse:
    """Linearity, levels and write noise of one ramp of pulses.

    Intervals: where pulses write with noise, which stays, by a parametric bootstrap of the fitted law with the noises
    of pulse and reading that are found; otherwise of the regression, correlated residuals counted as fewer.

    Args:
        g: Readings after each pulse, conductance [S] or weight, shape [n], n >= 10.
        low: Reading that is weight -1; the fitted minimum unless given.
        high: Reading that is weight +1; the fitted maximum unless given.
        resample: Whether intervals may take a bootstrap, a second or so for 1000 pulses.

    Raises:
        ParameterError: If there are too few readings, they do not change, or `low` is not below `high`.

    Source: Chen, Peng, Yu, IEEE TCAD 37, 3067 (2018), doi:10.1109/TCAD.2018.2789723, for NeuroSim's curve.
    """
    y = np.asarray(g, dtype=float).ravel()
    if y.size < MIN_PULSES or not np.isfinite(y).all() or np.ptp(y) == 0:
        raise ParameterError("no pulse response", got=f"{y.size} readings", allowed=f"{MIN_PULSES} that change")
    if low is not None and high is not None and not low < high:
        raise ParameterError("the range of a pulse response is empty", got=(low, high), allowed="low < high")
    best = _fit(y, (0.3, 3.0, 10.0))
    start, change, k = (float(value) for value in best.x)
    fitted = _curve(best.x, y.size)
    if change == 0 or np.ptp(fitted) == 0:
        raise ParameterError("no pulse response", got=f"{y.size} readings without a trend", allowed="a ramp")
    bottom = min(fitted[0], fitted[-1]) if low is None else low
    top = max(fitted[0], fitted[-1]) if high is None else high
    gain = 2.0 / (top - bottom)
    noises = _parted((y - fitted) * gain)
    memory = correlation_time(y - fitted)
    if resample and (noises[0].low or (noises[0].value > 0 and memory > LASTING)):  # a written error stays
        half, lasting = _redrawn(y, fitted, (start, change, k))
        told = f"95 %, parametric bootstrap of {REDRAWN}, written errors last {lasting:.2g} pulses"
    else:
        jacobian = np.asarray(best.jac)
        variance = float(np.linalg.pinv(jacobian.T @ jacobian)[2, 2]) * 2 * best.cost / (y.size - 3) * memory
        half = float(t.ppf(0.975, max(1.0, y.size / memory - 3)) * np.sqrt(variance))
        told = "95 % of the fit" if memory < 1.5 else f"95 % of the fit, {memory:.2g} readings count as one"
    return _numbers(y, fitted, (start, change, k, half, told), gain, 0.5 * (top + bottom), memory, noises)


def _curve(p: Any, count: int) -> Array:
    """The ramp over `count` readings: start, change over the ramp, k = count / a with its sign."""
    x = np.arange(count) / (count - 1)
    bent = -np.expm1(-p[2] * x) / -np.expm1(-p[2]) if abs(p[2]) > 1e-6 else x
    return np.asarray(p[0] + p[1] * bent)


def _fit(y: Array, curvatures: tuple[float, ...]) -> Any:
    """Least squares from each of some curvatures, the best."""
    size, few = float(np.ptp(y)), max(2, y.size // 20)
    first, last = float(np.mean(y[:few])), float(np.mean(y[-few:]))

    def misfit(p: Array) -> Array:
        return np.asarray((_curve(p, y.size) - y) / size)

    scales = [size, size, 1.0]
    limits = ([-np.inf, -np.inf, -STEEP], [np.inf, np.inf, STEEP])
    fits = [least_squares(misfit, [first, last - first, k], x_scale=scales, bounds=limits) for k in curvatures]
    return min(fits, key=lambda fit: float(fit.cost))


def _redrawn(y: Array, fitted: Array, found: tuple[float, float, float]) -> tuple[float, float]:
    """Half width of the interval of k, and pulses over which a written error fades.

    The fitted law is run again with noise in each pulse and each reading, sized by the differences of the residuals.
    Errors fade as the law relaxes, or faster: the slowest fading that does not leave more scatter than there is.
    """
    residual = y - fitted
    lag = _lag(y.size)
    one, far = (float(np.mean((residual[k:] - residual[:-k]) ** 2)) for k in (1, lag))
    rate = -np.expm1(-found[2] / (y.size - 1))
    relaxed = 1 / rate if rate > 1 / y.size else float(y.size)
    near = (float(np.clip(found[2], -0.9 * STEEP, 0.9 * STEEP)),)
    half = lasting = 0.0
    for lasting in (relaxed, *(life for life in (y.size / 3, y.size / 10, y.size / 30, 10.0, 3.0) if life < relaxed)):
        rho = float(np.exp(-1 / lasting))
        lasts = max(0.0, (far - one) / (2 * (rho - rho**lag)))  # variance of the errors that last
        step, read = np.sqrt(lasts * (1 - rho**2)), np.sqrt(max(0.0, one / 2 - lasts * (1 - rho)))
        rng = np.random.default_rng(0)
        pulses = step * rng.standard_normal((REDRAWN, y.size))
        pulses[:, 0] = 0.0
        walk = lfilter([1.0], [1.0, -rho], pulses, axis=1)
        again = fitted + walk + read * rng.standard_normal(walk.shape)
        fits = [_fit(row, near) for row in again]
        half = float(1.96 * np.std([fit.x[2] for fit in fits], ddof=1))
        scatter = np.array([2 * fit.cost * np.ptp(row) ** 2 for fit, row in zip(fits, again, strict=True)])
        if np.quantile(scatter, 0.05) <= float(residual @ residual):
            break
    return half, lasting


def _lag(count: int) -> int:
    """A difference in pulses, short against the ramp."""
    return int(np.clip(count // 50, 2, 8))


def _numbers(
    y: Array,
    fitted: Array,
    found: tuple[float, float, float, float, str],
    gain: float,
    middle: float,
    memory: float,
    noises: tuple[Number, Number],
) -> PulseResponse:
    start, change, k, half, interval = found
    count = y.size - 1
    steep = abs(k) > 0.99 * STEEP  # one pulse does it all
    if steep:
        half, interval = 0.0, f"none: steeper than {STEEP:g} time constants in the ramp"
    told = abs(k) > half and not steep  # otherwise the ramp is straight within its noise, and A has no upper end
    low, high = sorted(1 / end for end in (k - half, k + half)) if told else (None, None)
    end = start + change / -np.expm1(-k) if abs(k) > 1e-6 else np.inf
    target = (end - middle) * gain  # weight where steps vanish: dw = rate (target - w) = scale (1 - w / target)
    rate = -np.expm1(-k / count)
    scale = rate * target if np.isfinite(target) else change * gain / count
    noise = float(np.std(y - fitted, ddof=3)) * gain
    spread = noise / np.sqrt(2 * max(2.0, y.size / memory))
    reach = abs(change) * gain
    words = "least squares of one exponential"
    a = 1 / k if k != 0 else np.inf
    pulses = (None if low is None else low * count, None if high is None else high * count)
    sense = float(np.sign(change))
    labels = sorted(sense * nonlinearity_label(1 / end if end else np.inf) for end in (k - half, k + half))
    return PulseResponse(
        Number(a * count, "1", words, pulses[0], pulses[1], interval),
        Number(a, "1", f"{words}, over {count} pulses", low, high, interval),
        Number(
            sense * nonlinearity_label(a),
            "1",
            "NeuroSim: distance from the chord / 0.07",
            None if steep else labels[0],
            None if steep else labels[1],
            interval,
        ),
        Number(float(scale), "1", "aihwkit: step of the fitted curve at weight 0"),
        Number(float(1 / target), "1", "aihwkit: 1 / weight where the steps vanish"),
        Number(
            noise, "1", "sd about the curve, weight from -1 to 1", noise - 1.96 * spread, noise + 1.96 * spread, "95 %"
        ),
        *noises,
        Number(float(1 + np.floor(reach / (4 * noise))) if noise > 0 else np.inf, "1", "range / 4 sd, plus one"),
        fitted,
    )


def _parted(residual: Array) -> tuple[Number, Number]:
    """Noise of a pulse, which stays, and of a reading, which does not, from differences of the residuals.

    A random walk read with white noise differs over L pulses by a variance of L step^2 + 2 read^2; from L = 1 and up
    to 8, short against the ramp. Intervals from twelve batches, Student's t.
    """
    lag = _lag(residual.size)
    near, far = (residual[k:] - residual[:-k] for k in (1, lag))
    near = near[: far.size] ** 2
    steps = (far**2 - near) / (lag - 1)
    words = (f"sd of one pulse: variance of differences over 1 and {lag} pulses", "sd of a reading: from the same")
    made = []
    for values, method in zip((steps, (near - steps) / 2), words, strict=True):
        middle = float(values.mean())
        ends: tuple[float | None, float | None] = (None, None)
        if values.size >= 4 * BATCHES:
            means = np.array([part.mean() for part in np.array_split(values, BATCHES)])
            half = float(t.ppf(0.975, BATCHES - 1) * means.std(ddof=1) / np.sqrt(BATCHES))
            ends = (max(0.0, middle - half) ** 0.5, max(0.0, middle + half) ** 0.5)
        told = "95 %, batches" if ends[0] is not None else "none given, too few pulses"
        made.append(Number(max(0.0, middle) ** 0.5, "1", method, *ends, told))
    return made[0], made[1]


def asymmetry(up: PulseResponse, down: PulseResponse) -> Number:
    """Mean of |up step + down step| / (|up step| + |down step|) over the weights: 0 symmetric, 1 one direction only.

    From the two linear-step laws, over weights -1 to 1; both fitted with the same `low` and `high`.
    """
    w = np.linspace(-1, 1, 401)
    steps = [fit.scale.value * (1 - fit.slope.value * w) for fit in (up, down)]
    value = float(np.mean(np.abs(steps[0] + steps[1]) / (np.abs(steps[0]) + np.abs(steps[1]))))
    return Number(value, "1", "mean of |up + down| / (|up| + |down|) over the weights")
