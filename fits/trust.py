"""Whether a fit may be believed: what noise does not do, noise stated too large, and other devices that fit as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from devicelab import Model, Trace

from .noise import Noise, estimate_noise
from .problem import Problem
from .region import undo

Array = NDArray[np.float64]

SIGNIFICANT = 5.0
"""Standard deviations beyond which chi2, or the likeness of neighbouring residuals, is not chance."""

MISFIT = 1.5
"""chi2 per degree of freedom from which a model is said not to describe the traces, where that is significant too."""

ALIKE = 0.3
"""The same for the correlation of neighbouring residuals: filters of an instrument make some."""

TAILS = 4.0
"""Standard deviations of the fourth moment beyond which a few residuals are too large for the rest of them: one normal
sample in 20000. A switching edge in the wrong place shows there whatever noise was stated; samples beside it do not."""

LEAST_SAMPLES = 20
"""Fewer say nothing of a fourth moment."""

EXACT = 1e-3
"""chi2 per degree of freedom below which the traces carry no noise to speak of: what is left is of the simulation."""

SIMILAR = 10.0
"""Rise of chi2, per chi2 per degree of freedom, up to which another device describes the traces as well: it is up to
exp(5) times less likely than the best."""

APART = 3.0
"""Standard deviations of a coordinate by which another device differs from the best one."""


def residual_structure(problem: Problem, theta: Array) -> dict[str, float]:
    """Whether neighbouring residuals are alike, or a few far from the rest, as those of an instrument are not.

    Returns:
        lag1: Correlation of neighbours, 0 +- 1/sqrt(n) for white noise; runs: how many runs of one sign there are less
        than chance makes, in standard deviations, with the sign of the excess (Wald and Wolfowitz, Ann. Math. Stat. 11,
        147 (1940), doi:10.1214/aoms/1177731909); inflation: factor by which alike residuals widen a variance, that of a
        mean of a first-order autoregression, (1 + lag1) / (1 - lag1); tails: how far the fourth moment exceeds that of
        normal noise, in standard deviations (Anscombe and Glynn, Biometrika 70, 227 (1983),
        doi:10.1093/biomet/70.1.227), whatever the noise that was stated.
    """
    residual = problem.residual(theta)[: problem.size]
    place = np.concatenate([np.flatnonzero(mask) for mask in problem.masks])
    pairs = np.diff(place) == 1
    now, then = residual[:-1][pairs], residual[1:][pairs]
    square = np.square(residual).mean()
    tails = float(stats.kurtosistest(residual).statistic) if residual.size >= LEAST_SAMPLES and square else 0.0
    if now.size < 2 or square == 0.0:
        return {"lag1": 0.0, "runs": 0.0, "inflation": 1.0, "tails": tails}
    lag1 = float((now * then).mean() / square)
    plus, n = float((residual > 0).mean()), now.size
    change = 2.0 * plus * (1.0 - plus)
    changes = float(((now > 0) != (then > 0)).mean())
    runs = (changes - change) / np.sqrt(change**2 / n) if change else -np.sqrt(float(n))
    alike = min(lag1, 0.99) if lag1 * np.sqrt(n) > SIGNIFICANT else 0.0
    return {"lag1": lag1, "runs": float(runs), "inflation": (1.0 + alike) / (1.0 - alike), "tails": tails}


def fit_statistics(problem: Problem, theta: Array, evaluations: int) -> dict[str, float]:
    """Of the data alone, the prior left out: see `FitResult.statistics`."""
    n, p = problem.size, theta.size
    chisqr = problem.chisqr(theta)
    log = n * np.log(max(chisqr, 1e-300) / n)
    return {
        "samples": float(n),
        "chisqr": chisqr,
        "redchi": chisqr / (n - p),
        "aic": float(log + 2 * p),
        "bic": float(log + np.log(n) * p),
        "evaluations": float(evaluations),
        **residual_structure(problem, theta),
    }


def doubts(problem: Problem, theta: Array) -> list[str]:
    """Why the residual at a vector is not that of noise; empty where it is."""
    return judge(problem, fit_statistics(problem, theta, 0))


def judge(problem: Problem, statistics: Mapping[str, float]) -> list[str]:
    """Why residuals of these statistics are not those of noise; empty where they are."""
    n, redchi, lag1 = statistics["samples"], statistics["redchi"], statistics["lag1"]
    stated = _stated_over_seen(problem) if redchi < 1.0 / MISFIT else 1.0
    loose = stated > MISFIT and 1.0 - redchi > SIGNIFICANT * np.sqrt(2.0 / n)
    out = []
    if loose:
        out.append(
            f"the noise stated is too large to judge the fit by: chi2/dof {redchi:.3g}, and the samples scatter "
            f"{np.sqrt(stated):.2g} times less. A false minimum within that noise would not show: state less, or let "
            "it be estimated (noise=None)"
        )
    if redchi < EXACT:
        return out
    if lag1 > ALIKE and lag1 * np.sqrt(n) > SIGNIFICANT:
        out.append(
            f"the model does not describe the traces: chi2/dof {redchi:.3g}, and neighbouring residuals are alike "
            f"(correlation {lag1:.2f}). A false minimum, or the wrong model or window: more starts=..., another seed, "
            "another template. Intervals are widened for it and may still miss the truth"
        )
    elif statistics["tails"] > TAILS:
        out.append(
            f"a few samples are farther off than the others allow: chi2/dof {redchi:.3g}, fourth moment of the "
            f"residual {statistics['tails']:.1f} standard deviations above that of normal noise. An edge in the "
            "wrong place, a false minimum (more starts=..., another seed) or the wrong model; or outliers "
            "(loss='huber')"
        )
    elif redchi > MISFIT and redchi - 1.0 > SIGNIFICANT * np.sqrt(2.0 / n):
        out.append(
            f"the model does not describe the traces to within the noise: chi2/dof {redchi:.3g}; neighbouring "
            "residuals are not alike, so the noise is larger than assumed, or the model is wrong throughout"
        )
    return out


def _stated_over_seen(problem: Problem) -> float:
    """Mean square of the noise that weighs the residuals over that of the scatter of neighbouring samples."""
    columns = problem.measured()
    seen = estimate_noise([Trace(trace.t, trace.v, y) for trace, y in zip(problem.traces, columns, strict=True)])
    y = np.concatenate([column[mask] for column, mask in zip(columns, problem.masks, strict=True)])
    return float(np.exp(np.mean(np.log(_square(problem.noise, y) / _square(seen, y)))))


def _square(noise: Noise, y: Array) -> Array:
    return np.asarray(np.square(noise.rel * y) + noise.floor**2)


def alternatives(
    problem: Problem,
    theta: Array,
    covariance: Array,
    others: Sequence[Array],
    statistics: Mapping[str, float],
    ends: Array | None = None,
) -> tuple[list[Model], list[str]]:
    """Devices away from the best one that describe the traces as well, and a line on each.

    Args:
        problem: What was fitted.
        theta: The best vector, [p].
        covariance: Of the coordinates, [p, p].
        others: Where other descents ended.
        statistics: Of the best vector.
        ends: Intervals in the coordinates of `Space.physical`, [p, 2]: a device inside all of them is no other one.
    """
    space = problem.space
    scale = min(problem.misfit**2, max(statistics.get("redchi", 1.0), 1e-30)) * statistics["inflation"]
    least, reach = problem.chisqr(theta), APART * np.sqrt(np.diag(covariance))
    models: list[Model] = []
    lines: list[str] = []
    kept = [theta]
    best = [undo(axis, value) for axis, value in zip(space.axes, space.physical(theta), strict=True)]
    for other in sorted(others, key=problem.chisqr):
        rise = (problem.chisqr(other) - least) / scale
        values = space.physical(other)
        apart = all((np.abs(other - near) > reach).any() for near in kept)
        if ends is not None:
            apart &= bool(((values < ends[:, 0]) | (values > ends[:, 1])).any())
        if rise > SIMILAR or not apart:
            continue
        kept.append(other)
        models.append(problem.device(other)[0])
        far = np.argsort(-np.abs(other - theta) / reach)[:3]
        words = ", ".join(
            f"{axis.name} {undo(axis, values[k]):.3g} {axis.unit} (best {best[k]:.3g})"
            for k, axis in ((k, space.axes[k]) for k in far)
        )
        lines.append(f"several solutions: another device has chi2 higher by {max(rise, 0.0) * scale:.2g} only: {words}")
    return models, lines
