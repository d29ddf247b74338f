"""Variability: how devices differ, how cycles differ, and what noise adds.

Every sampler takes a Generator, numpy or torch, and returns what that generator makes: same seed, same result, and no
global state is touched. Parameters drawn here go into a model as arrays; the equations do not change::

    rng = np.random.default_rng(1)
    r_on, r_off = resistance_pairs(1e3, 1e5, cv_on=0.1, cv_off=0.3, size=10_000, rng=rng)
    trace = simulate(model.replace(r_on=r_on, r_off=r_off), drive)  # 10 000 devices in one array operation
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from .errors import ParameterError
from .ops import Value

Generator: TypeAlias = Any
"""A `numpy.random.Generator` or a `torch.Generator`."""

Shape: TypeAlias = "int | tuple[int, ...]"


def truncated_normal(mean: float, sd: float, low: float, high: float, size: Shape, rng: Generator) -> Value:
    """Normal numbers conditioned on low <= x <= high; not clipped, so nothing piles up at the bounds.

    Args:
        mean: Mean of the normal before truncation.
        sd: Its standard deviation, > 0.
        low: Lower bound.
        high: Upper bound, > low.
        size: Shape of the result.
        rng: numpy or torch generator.

    Raises:
        ParameterError: If sd <= 0 or the bounds are not in order.
    """
    from scipy.special import ndtr, ndtri

    if not (sd > 0 and low < high):
        raise ParameterError(
            "impossible truncated normal", got=f"sd {sd}, {low} to {high}", allowed="sd > 0, low < high"
        )
    a, b = (low - mean) / sd, (high - mean) / sd
    if a > 0:  # far in the upper tail ndtr is 1 to every digit: take the mirror image
        return -truncated_normal(-mean, sd, -high, -low, size, rng)
    u = ndtr(a) + uniform(size, rng) * (ndtr(b) - ndtr(a))
    if is_torch(rng):
        import torch

        return (mean + sd * torch.special.ndtri(u)).clip(low, high)
    return np.clip(mean + sd * ndtri(u), low, high)


def lognormal(mean: float, cv: float, size: Shape, rng: Generator) -> Value:
    """Lognormal numbers with this mean and coefficient of variation.

    Raises:
        ParameterError: If mean <= 0 or cv < 0.
    """
    if not (mean > 0 and cv >= 0):
        raise ParameterError("impossible lognormal", got=f"mean {mean}, cv {cv}", allowed="mean > 0, cv >= 0")
    sigma = np.sqrt(np.log1p(cv * cv))
    return _exp(np.log(mean) - 0.5 * sigma**2 + sigma * normal(size, rng))


def correlated_lognormal(means: Any, cvs: Any, correlation: Any, size: int, rng: Generator) -> Value:
    """Lognormal vectors whose logarithms are correlated, shape [size, n].

    Args:
        means: Means, [n], > 0.
        cvs: Coefficients of variation, [n].
        correlation: Correlation matrix of the logarithms, [n, n].
        size: Number of vectors.
        rng: numpy or torch generator.

    Raises:
        ParameterError: If the matrix is not a correlation matrix, or a mean is not positive.
    """
    means, cvs, matrix = (np.asarray(value, dtype=float) for value in (means, cvs, correlation))
    if not (means > 0).all() or not (cvs >= 0).all():
        raise ParameterError("impossible lognormal", got=f"means {means}, cvs {cvs}", allowed="means > 0, cvs >= 0")
    factor = correlation_factor(matrix, means.size)
    sigma = np.sqrt(np.log1p(cvs**2))
    z = normal((size, means.size), rng)
    return _exp(_as(np.log(means) - 0.5 * sigma**2, rng) + (z @ _as(factor.T, rng)) * _as(sigma, rng))


def correlation_factor(matrix: Any, n: int) -> Any:
    """F [n, n] with F F^T = matrix; z F^T of independent normals z [..., n] has these correlations.

    Raises:
        ParameterError: If it is not a correlation matrix.
    """
    unit = matrix.shape == (n, n) and np.allclose(matrix, matrix.T) and np.allclose(np.diag(matrix), 1.0)
    values, vectors = np.linalg.eigh(matrix) if unit else (np.array([-1.0]), None)
    if values.min() < -1e-10:
        raise ParameterError(
            "not a correlation matrix",
            got=matrix.tolist(),
            allowed=f"symmetric {n} x {n}, ones on the diagonal, no negative eigenvalue",
        )
    return vectors * np.sqrt(np.maximum(values, 0.0))


def resistance_pairs(
    r_on: float, r_off: float, *, cv_on: float, cv_off: float, size: Shape, rng: Generator, correlation: float = 0.0
) -> tuple[Value, Value]:
    """r_on and r_off of many devices, r_on < r_off by construction.

    ln r_on and ln(r_off / r_on - 1) are normal, so the ratio stays above 1.

    Args:
        r_on: Median low resistance [ohm].
        r_off: Median high resistance [ohm], > r_on.
        cv_on: Coefficient of variation of r_on.
        cv_off: Coefficient of variation of r_off / r_on - 1.
        size: Shape of the results.
        rng: numpy or torch generator.
        correlation: Between the two normals, -1 to 1.

    Raises:
        ParameterError: If r_on >= r_off, or a spread or the correlation is out of bounds.
    """
    if not 0 < r_on < r_off:
        raise ParameterError("r_on must be below r_off", got=f"{r_on} and {r_off} ohm", allowed="0 < r_on < r_off")
    if not (cv_on >= 0 and cv_off >= 0 and abs(correlation) <= 1):
        raise ParameterError(
            "impossible spread", got=(cv_on, cv_off, correlation), allowed="cv >= 0, |correlation| <= 1"
        )
    z1, z2 = normal(size, rng), normal(size, rng)
    z2 = correlation * z1 + np.sqrt(1.0 - correlation**2) * z2
    on = r_on * _exp(np.sqrt(np.log1p(cv_on**2)) * z1)
    return on, on * (1.0 + (r_off / r_on - 1.0) * _exp(np.sqrt(np.log1p(cv_off**2)) * z2))


def spread(
    model: Any, cv: dict[str, float], size: int, rng: Generator, correlation: dict[tuple[str, str], float] | None = None
) -> Any:
    """The model with some parameters drawn from lognormals around their values, [size] devices.

    Signs stay (a SET threshold stays negative), bounds are respected by truncation of the normal to 6 sigma, and
    r_on < r_off by construction where both vary or either does.

    Args:
        model: The device; its values are the medians.
        cv: Coefficient of variation by parameter name.
        size: Number of devices.
        rng: numpy or torch generator.
        correlation: Correlation of the logarithms by pair of names; r_off stands for r_off / r_on - 1.

    Raises:
        ParameterError: If a name is unknown or a parameter is zero.
    """
    from .errors import unknown_name

    names = list(cv)
    for name in {*names, *(name for pair in (correlation or {}) for name in pair)}:
        if name not in model.values() or name not in cv:
            raise unknown_name("parameter", name, names if name in model.values() else list(model.values()))
    matrix = np.eye(len(names))
    for (a, b), value in (correlation or {}).items():
        matrix[names.index(a), names.index(b)] = matrix[names.index(b), names.index(a)] = value
    z = (normal((size, len(names)), rng) @ _as(correlation_factor(matrix, len(names)).T, rng)).clip(-6.0, 6.0)
    drawn: dict[str, Any] = {}
    for k, name in enumerate(names):
        value, sigma = float(getattr(model, name)), float(np.sqrt(np.log1p(cv[name] ** 2)))
        if value == 0:
            raise ParameterError("a parameter that is zero has no relative spread", got=name)
        if name != "r_off":
            drawn[name] = value * _exp(sigma * z[:, k])
    if {"r_on", "r_off"} & set(names) and {"r_on", "r_off"} <= set(model.values()):
        excess = float(model.r_off) / float(model.r_on) - 1.0
        sigma = float(np.sqrt(np.log1p(cv.get("r_off", 0.0) ** 2)))
        wiggle = z[:, names.index("r_off")] if "r_off" in names else 0.0 * z[:, 0]
        drawn["r_off"] = drawn.get("r_on", float(model.r_on)) * (1.0 + excess * _exp(sigma * wiggle))
    return model.replace(**drawn)


def autoregressive(mean: Value, sd: float, cycles_to_forget: float, size: tuple[int, int], rng: Generator) -> Value:
    """Values that remember: AR(1) over cycles, the sampled Ornstein-Uhlenbeck process, shape [devices, cycles].

    X(n+1) = m(n+1) + rho (X(n) - m(n)) + sd sqrt(1 - rho^2) e, rho = exp(-1 / cycles_to_forget): stationary from the
    first cycle with standard deviation `sd` and autocorrelation rho^k, whatever the memory.

    Args:
        mean: Mean, a number or one a cycle [cycles] for a slow drift.
        sd: Stationary standard deviation.
        cycles_to_forget: Cycles after which the autocorrelation is 1/e; 0: independent.
        size: Devices and cycles.
        rng: numpy or torch generator.

    Raises:
        ParameterError: If `sd` or the memory is negative.
    """
    from scipy.signal import lfilter

    if not (sd >= 0 and cycles_to_forget >= 0):
        raise ParameterError("sd and memory must not be negative", got=(sd, cycles_to_forget))
    rho = float(np.exp(-1.0 / cycles_to_forget)) if cycles_to_forget > 0 else 0.0
    noise = normal(size, rng)
    steps = noise.cpu().numpy() if is_torch(rng) else noise
    steps = np.concatenate([steps[:, :1], np.sqrt(1.0 - rho * rho) * steps[:, 1:]], axis=1)
    return mean + sd * _as(lfilter([1.0], [1.0, -rho], steps, axis=1), rng)


def is_torch(rng: Generator) -> bool:
    """Whether a generator is torch's.

    Raises:
        ParameterError: If it is neither numpy's nor torch's.
    """
    if isinstance(rng, np.random.Generator):
        return False
    if type(rng).__module__.startswith("torch"):
        return True
    raise ParameterError(
        "not a random generator",
        got=repr(rng),
        allowed="numpy.random.Generator or torch.Generator",
        hint="numpy.random.default_rng(seed)",
    )


def normal(size: Shape, rng: Generator) -> Value:
    """Standard normal numbers of a shape, float64."""
    if not is_torch(rng):
        return rng.normal(size=size)
    import torch

    shape = (size,) if isinstance(size, int) else size
    return torch.randn(shape, generator=rng, device=rng.device, dtype=torch.float64)


def uniform(size: Shape, rng: Generator) -> Value:
    """Uniform numbers in [0, 1) of a shape, float64."""
    if not is_torch(rng):
        return rng.uniform(size=size)
    import torch

    shape = (size,) if isinstance(size, int) else size
    return torch.rand(shape, generator=rng, device=rng.device, dtype=torch.float64)


def _as(array: Any, rng: Generator) -> Value:
    if not is_torch(rng):
        return array
    import torch

    return torch.as_tensor(array, dtype=torch.float64, device=rng.device)


def _exp(value: Value) -> Value:
    return value.exp() if hasattr(value, "exp") else np.exp(value)


def simulate_cycles(model: Any, drive: Any, *, x0: float = 0.0, rounds: int = 50) -> Any:
    """Many cycles of one device whose parameters change from cycle to cycle, as one array operation a round.

    Parameters of shape [c] hold one value a cycle: they change between cycles, at 0 V, never within one. Every cycle
    begins in the state where the one before it ended. All cycles run at once, from guessed starts that are corrected
    until they agree; a device that switches fully forgets its start, so two rounds are usual.

    Args:
        model: The device; at least one parameter of shape [c].
        drive: One cycle of the voltage, shape [t], beginning and ending at 0 V.
        x0: State at the very first sample.
        rounds: Rounds before the cycles are run one after the other.

    Returns:
        Trace of shape [c, t]; row n is cycle n.

    Raises:
        ParameterError: If no parameter is batched, or the drive does not begin and end at 0 V.
    """
    from .models.base import check_one_state
    from .simulation import simulate

    check_one_state(model, "simulations of many cycles")
    counts = {np.shape(value)[0] for value in model._leaves() if np.ndim(value) == 1}
    if len(counts) != 1:
        raise ParameterError("cycles need parameters of one length", got=sorted(counts), allowed="shape [cycles]")
    if abs(drive.v[0]) > 1e-9 * abs(drive.v).max() or abs(drive.v[-1]) > 1e-9 * abs(drive.v).max():
        raise ParameterError("a cycle begins and ends at 0 V", got=f"{drive.v[0]:g} V and {drive.v[-1]:g} V")
    (count,) = counts
    starts = np.full(count, float(x0))
    for _ in range(min(rounds, count) + 1):
        trace = simulate(model, drive, x0=starts)
        ends = np.asarray(trace.x[:-1, -1]).clip(0.0, 1.0)
        if np.array_equal(ends, starts[1:]) or float(abs(ends - starts[1:]).max()) < 1e-9:
            return trace
        starts = np.concatenate([[float(x0)], ends])
    for n in range(count - 1):
        own = model.bind(window=_cycle(model.window, n)) if model.window.values() else model
        starts[n + 1] = float(simulate(_cycle(own, n), drive, x0=starts[n : n + 1]).x[0, -1])
    return simulate(model, drive, x0=starts)


def _cycle(owner: Any, n: int) -> Any:
    """A model or window with entry n of what is batched."""
    return owner.bind(**{name: v[n : n + 1] if np.ndim(v) == 1 else v for name, v in owner.values().items()})
