"""Distributions of a number over cycles or devices: fits, goodness of fit, bootstrap intervals, ranking.

Maximum likelihood in closed form or by Newton's method for a whole batch of samples at once: the parametric bootstrap
behind every interval and p-value refits a thousand samples, for which `scipy.stats.fit` takes minutes. The tests hold
the batch fits against scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import digamma, polygamma

from ..errors import ParameterError, unknown_name

Array = NDArray[np.float64]
MIN_SAMPLES = 8
DRAWS = 1000


@dataclass(frozen=True)
class Family:
    """A two-parameter distribution.

    Args:
        name: As in papers.
        parameters: Names of its parameters.
        positive: Whether it needs positive numbers.
        fit: Maximum likelihood for samples [b, n], two arrays [b].
        frozen: scipy distribution of two parameters.
    """

    name: str
    parameters: tuple[str, str]
    positive: bool
    fit: Callable[[Array], tuple[Array, Array]]
    frozen: Callable[[Any, Any], Any]


def _normal(x: Array) -> tuple[Array, Array]:
    return x.mean(-1), x.std(-1)


def _lognormal(x: Array) -> tuple[Array, Array]:
    return _normal(np.log(x))


def _weibull(x: Array) -> tuple[Array, Array]:
    """Shape by Newton on 1/k = sum(x^k ln x) / sum(x^k) - mean(ln x), scale in closed form."""
    log = np.log(x / x.max(-1, keepdims=True))
    mean = log.mean(-1)
    k = 1.2 / np.maximum(log.std(-1), 1e-12)
    for _ in range(60):
        weight = np.exp(k[:, None] * log)
        total = weight.sum(-1)
        first, second = (weight * log).sum(-1) / total, (weight * log**2).sum(-1) / total
        step = (first - mean - 1 / k) / (second - first**2 + 1 / k**2)
        k = np.maximum(k - step, 0.1 * k)
        if np.all(np.abs(step) < 1e-10 * k):
            break
    return k, x.max(-1) * np.mean(np.exp(k[:, None] * log), axis=-1) ** (1 / k)


def _gamma(x: Array) -> tuple[Array, Array]:
    """Shape by Newton on ln a - digamma(a) = ln mean(x) - mean(ln x) (Minka 2002), scale in closed form."""
    mean = x.mean(-1)
    s = np.maximum(np.log(mean) - np.log(x).mean(-1), 1e-15)
    a = (3 - s + np.sqrt((s - 3) ** 2 + 24 * s)) / (12 * s)
    for _ in range(20):
        a = 1 / (1 / a + (np.log(a) - digamma(a) - s) / (a**2 * (1 / a - polygamma(1, a))))
    return a, mean / a


FAMILIES = {
    family.name: family
    for family in (
        Family("normal", ("mean", "sd"), False, _normal, lambda m, s: stats.norm(m, s)),
        Family("lognormal", ("mu", "sigma"), True, _lognormal, lambda m, s: stats.lognorm(s, 0, np.exp(m))),
        Family("weibull", ("shape", "scale"), True, _weibull, lambda k, c: stats.weibull_min(k, 0, c)),
        Family("gamma", ("shape", "scale"), True, _gamma, lambda a, c: stats.gamma(a, 0, c)),
    )
}


@dataclass(frozen=True)
class DistributionFit:
    """A distribution fitted to numbers.

    Args:
        family: Name of the distribution.
        parameters: Name to value; of |x| for the positive families.
        intervals: Name to 95 % interval, parametric bootstrap, percentiles.
        aicc: Akaike's criterion with the correction for small samples; the smallest wins.
        anderson_darling: Statistic A^2.
        p_value: Share of fitted-and-refitted bootstrap samples with an A^2 at least as large.
        n: Number of samples.
    """

    family: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    aicc: float
    anderson_darling: float
    p_value: float
    n: int

    def cdf(self, x: Any) -> Array:
        """Probability up to `x` (of |x| for the positive families)."""
        return np.asarray(FAMILIES[self.family].frozen(*self.parameters.values()).cdf(x))


def _anderson(x: Array, family: Family, a: Array, b: Array) -> Array:
    """A^2 of sorted samples [b, n] against their own fit (Anderson and Darling 1954)."""
    n = x.shape[-1]
    u = np.clip(family.frozen(a[:, None], b[:, None]).cdf(x), 1e-15, 1 - 1e-15)
    weight = 2 * np.arange(1, n + 1) - 1
    return np.asarray(-n - np.sum(weight * (np.log(u) + np.log1p(-u[:, ::-1])), axis=-1) / n)


def fit_distribution(x: Any, family: str = "normal", *, seed: int = 0, draws: int = DRAWS) -> DistributionFit:
    """Fit one distribution to numbers of one sign.

    Args:
        x: Numbers, shape [n]; for a positive family those of one sign are taken by magnitude.
        family: "normal", "lognormal", "weibull" or "gamma".
        seed: Of the bootstrap.
        draws: Bootstrap samples.

    Raises:
        ParameterError: If there are fewer than 8 different finite numbers, or of both signs for a positive family.
    """
    if family not in FAMILIES:
        raise unknown_name("distribution", family, list(FAMILIES))
    kind = FAMILIES[family]
    values = np.sort(_checked(x, kind))[None, :]
    a, b = kind.fit(values)
    rng = np.random.default_rng(seed)
    again = np.sort(kind.frozen(a[:, None], b[:, None]).rvs((draws, values.size), random_state=rng), axis=-1)
    if kind.positive:
        again = np.maximum(again, np.finfo(float).tiny)
    a2, b2 = kind.fit(again)
    statistic = float(_anderson(values, kind, a, b)[0])
    p = float((1 + np.sum(_anderson(again, kind, a2, b2) >= statistic)) / (draws + 1))
    ends = [tuple(float(end) for end in np.percentile(boot, (2.5, 97.5))) for boot in (a2, b2)]
    n = values.size
    log_likelihood = float(np.sum(kind.frozen(a, b).logpdf(values[0])))
    aicc = 4 - 2 * log_likelihood + 12 / (n - 3)
    first, second = kind.parameters
    return DistributionFit(
        family,
        {first: float(a[0]), second: float(b[0])},
        {first: (ends[0][0], ends[0][1]), second: (ends[1][0], ends[1][1])},
        aicc,
        statistic,
        p,
        n,
    )


def rank_distributions(
    x: Any, families: Sequence[str] = tuple(FAMILIES), *, seed: int = 0, draws: int = DRAWS
) -> list[DistributionFit]:
    """Fits of all distributions that the numbers allow, the best (smallest AICc) first."""
    values = np.asarray(x, dtype=float)
    both = values.size > 0 and not (np.all(values > 0) or np.all(values < 0))
    allowed = [name for name in families if not (both and name in FAMILIES and FAMILIES[name].positive)]
    return sorted((fit_distribution(x, name, seed=seed, draws=draws) for name in allowed), key=lambda fit: fit.aicc)


def _checked(x: Any, family: Family) -> Array:
    values = np.asarray(x, dtype=float).ravel()
    if values.size < MIN_SAMPLES or not np.isfinite(values).all() or np.ptp(values) == 0:
        raise ParameterError(
            "too few numbers for a distribution",
            got=f"{np.isfinite(values).sum()} finite of {values.size}, range {np.ptp(values) if values.size else 0:g}",
            allowed=f"at least {MIN_SAMPLES} finite numbers that are not all equal",
            hint="give more cycles",
        )
    if family.positive and not (np.all(values > 0) or np.all(values < 0)):
        raise ParameterError(f"a {family.name} distribution needs numbers of one sign", got="both signs or zero")
    return np.abs(values) if family.positive else values
