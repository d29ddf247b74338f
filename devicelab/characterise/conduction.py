"""Conduction mechanisms of a branch: fits, ranking, and whether the implied constants make sense.

Every law is fitted to ln |I|, which is the straight-line fit in its own coordinates (ln(I / V) differs from ln I by a
known number), so that the residuals of all are the same quantity and AICc may compare them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.constants import electron_mass, elementary_charge, epsilon_0, hbar, k
from scipy.optimize import least_squares
from scipy.stats import t

from ..errors import ParameterError

Array = NDArray[np.float64]
CAVEAT = (
    "A straight line does not prove a mechanism: several laws are nearly straight over one decade of current. "
    "Temperature and thickness series decide."
)
PERMITTIVITY = (2.0, 100.0)
BARRIER = (0.1, 5.0)


@dataclass(frozen=True)
class MechanismFit:
    """One law fitted to one branch.

    Args:
        name: Of the law.
        formula: I(V) with its parameters.
        parameters: ln of the factor and, where there is one, the slope b in the law's own coordinates.
        intervals: 95 % of the regression.
        rms: Root mean square residual of ln |I|.
        r2: Share of the variance of ln |I| explained.
        aicc: Akaike's criterion with the correction for small samples.
        delta: AICc above the best law.
        constants: Implied physical constants, with their units in the name.
        sensible: Whether they can be true; None where thickness or temperature would have to be known.
        verdict: Why.
    """

    name: str
    formula: str
    parameters: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    rms: float
    r2: float
    aicc: float
    delta: float
    constants: dict[str, float]
    sensible: bool | None
    verdict: str


@dataclass(frozen=True)
class _Law:
    formula: str
    known: Callable[[Array], Array]
    slope: Callable[[Array], Array] | None


LAWS: dict[str, _Law] = {
    "ohmic": _Law("a V", np.log, None),
    "sclc": _Law("a V^2", lambda v: 2 * np.log(v), None),
    "schottky": _Law("a exp(b sqrt(V))", np.zeros_like, np.sqrt),
    "poole_frenkel": _Law("a V exp(b sqrt(V))", np.log, np.sqrt),
    "fowler_nordheim": _Law("a V^2 exp(-b / V)", lambda v: 2 * np.log(v), lambda v: -1 / v),
    "trap_assisted_tunnelling": _Law("a exp(-b / V)", np.zeros_like, lambda v: -1 / v),
}
_NONLINEAR: dict[str, tuple[str, Callable[[Array, float], Array]]] = {
    "direct_tunnelling": ("a (V + b V^3)", lambda v, b: np.log(v) + np.log1p(b * v**2)),
    "sinh": ("a sinh(b V)", lambda v, b: b * v + np.log(-np.expm1(-2 * b * v)) - np.log(2.0)),
}


def mechanisms(
    v: Any, i: Any, *, thickness: float | None = None, temperature: float = 300.0, area: float | None = None
) -> list[MechanismFit]:
    """The laws fitted to one branch, the best first. See `CAVEAT`.

    Ohmic; space-charge limited (Mott and Gurney); Schottky and Poole-Frenkel (ln I or ln(I / V) over sqrt(V));
    Fowler-Nordheim; trap-assisted tunnelling; direct tunnelling (Simmons, intermediate voltage, V + b V^3); sinh, as
    hopping has it.

    Args:
        v: Voltage of one polarity [V], shape [n]; compliance and switching left out.
        i: Current [A], shape [n].
        thickness: Of the film [m], for the constants.
        temperature: [K].
        area: Of the device [m2], for the mobility of the space-charge law.

    Raises:
        ParameterError: If fewer than 8 samples have V and I of one sign.
    """
    volts, log_i = _checked(v, i)
    fits = [_linear(name, law, volts, log_i) for name, law in LAWS.items()]
    fits += [_curved(name, *law, volts, log_i) for name, law in _NONLINEAR.items()]
    best = min(aicc for *_, aicc in fits)
    made = []
    for name, formula, parameters, intervals, rms, r2, aicc in fits:
        constants, sensible, verdict = _constants(name, parameters, thickness, temperature, area)
        made.append(
            MechanismFit(name, formula, parameters, intervals, rms, r2, aicc, aicc - best, constants, sensible, verdict)
        )
    return sorted(made, key=lambda fit: fit.aicc)


def current(fit: MechanismFit, v: Any) -> Array:
    """|Current| [A] of a fitted law at |voltages| [V]."""
    volts = np.abs(np.asarray(v, dtype=float))
    if fit.name in _NONLINEAR:
        log_i = _NONLINEAR[fit.name][1](volts, fit.parameters["b"])
    else:
        law = LAWS[fit.name]
        log_i = law.known(volts) + (0.0 if law.slope is None else fit.parameters["b"] * law.slope(volts))
    return np.asarray(np.exp(fit.parameters["ln_a"] + log_i))


def _checked(v: Any, i: Any) -> tuple[Array, Array]:
    volts, amps = np.asarray(v, dtype=float).ravel(), np.asarray(i, dtype=float).ravel()
    if volts.size != amps.size:
        raise ParameterError("voltage and current differ in length", got=(volts.size, amps.size))
    good = volts * amps > 0
    both = bool((volts[good] > 0).any() and (volts[good] < 0).any())
    if good.sum() < 8 or both:
        raise ParameterError(
            "no branch to fit",
            got=f"{int(good.sum())} samples with V I > 0{', of both polarities' if both else ''}",
            allowed="at least 8, of one polarity",
            hint="give one branch: trace.v[excursion.back]",
        )
    return np.abs(volts[good]), np.log(np.abs(amps[good]))


_Raw = tuple[str, str, dict[str, float], dict[str, tuple[float, float]], float, float, float]


def _linear(name: str, law: _Law, v: Array, log_i: Array) -> _Raw:
    y = log_i - law.known(v)
    columns = [np.ones_like(v)] + ([] if law.slope is None else [law.slope(v)])
    return _described(name, law.formula, np.stack(columns, axis=1), y, log_i)


def _described(name: str, formula: str, x: Array, y: Array, log_i: Array) -> _Raw:
    solution = np.linalg.lstsq(x, y, rcond=None)[0]
    residual = y - x @ solution
    names = ("ln_a", "b")[: x.shape[1]]
    n = y.size
    variance = float(residual @ residual) / max(1, n - x.shape[1])
    half = t.ppf(0.975, max(1, n - x.shape[1])) * np.sqrt(variance * np.diag(np.linalg.pinv(x.T @ x)))
    parameters = {key: float(value) for key, value in zip(names, solution, strict=True)}
    intervals = {key: (float(value - h), float(value + h)) for key, value, h in zip(names, solution, half, strict=True)}
    return (name, formula, parameters, intervals, *_quality(residual, log_i, x.shape[1]))


def _curved(name: str, formula: str, law: Callable[[Array, float], Array], v: Array, log_i: Array) -> _Raw:
    """ln a in closed form, b > 0 by least squares in ln b."""

    def residual(p: Array) -> Array:
        rest = log_i - law(v, float(np.exp(p[0])))
        return np.asarray(rest - rest.mean())

    starts = np.log(np.array([0.1, 1.0, 10.0]) / v.max())
    found = min((least_squares(residual, [start], bounds=(-25, 12)) for start in starts), key=lambda fit: fit.cost)
    b = float(np.exp(found.x[0]))
    ln_a = float(np.mean(log_i - law(v, b)))
    n = v.size
    curvature = float(np.sum(np.square(np.asarray(found.jac))))
    spread = np.sqrt(2 * found.cost / max(1, n - 2) / curvature) if curvature > 1e-12 else np.inf
    half = float(min(t.ppf(0.975, max(1, n - 2)) * spread, 50.0))
    intervals = {"b": (b * float(np.exp(-half)), b * float(np.exp(half)))}
    return (name, formula, {"ln_a": ln_a, "b": b}, intervals, *_quality(residual(found.x), log_i, 2))


def _quality(residual: Array, log_i: Array, parameters: int) -> tuple[float, float, float]:
    n, p = residual.size, parameters + 1  # and the variance
    mean_square = max(float(np.mean(residual**2)), 1e-24)
    r2 = 1 - mean_square / max(float(np.var(log_i)), 1e-24)
    return float(np.sqrt(mean_square)), r2, n * float(np.log(mean_square)) + 2 * p + 2 * p * (p + 1) / (n - p - 1)


def _constants(
    name: str, p: dict[str, float], thickness: float | None, temperature: float, area: float | None
) -> tuple[dict[str, float], bool | None, str]:
    q = elementary_charge
    if name in ("schottky", "poole_frenkel"):
        if p["b"] <= 0:
            return {}, False, "the current falls below the law with voltage: b is not positive"
        share = 4 if name == "schottky" else 1
        product = (q / (k * temperature)) ** 2 * q / (share * np.pi * epsilon_0) / p["b"] ** 2
        return _permittivity(float(product), thickness)
    if name in ("fowler_nordheim", "trap_assisted_tunnelling"):
        if p["b"] <= 0:
            return {}, False, "no barrier: b is not positive"
        if thickness is None:
            return {}, None, "give the thickness for the barrier"
        field = 3 * q * hbar / (4 * np.sqrt(2 * electron_mass)) * p["b"] / thickness
        barrier = float(field ** (2 / 3) / q)
        return {"barrier [eV]": barrier}, *_between(barrier, BARRIER, "barrier", "eV, free electron mass")
    if name == "sclc" and thickness is not None and area is not None:
        product = float(np.exp(p["ln_a"]) * thickness**3 * 8 / 9 / (epsilon_0 * area))
        return {"permittivity x mobility [m2/Vs]": product}, None, "the mobility needs the permittivity"
    if name == "sinh" and thickness is not None:
        hop = float(2 * k * temperature * thickness * p["b"] / q)
        return {"hopping distance [m]": hop}, *_between(hop * 1e9, (0.1, 5.0), "hopping distance", "nm")
    return {}, None, "no constant to check"


def _permittivity(product: float, thickness: float | None) -> tuple[dict[str, float], bool | None, str]:
    if thickness is None:
        span = (product / PERMITTIVITY[1], product / PERMITTIVITY[0])
        words = f"permittivity 2 to 100 would need a thickness of {span[0] * 1e9:.3g} to {span[1] * 1e9:.3g} nm"
        possible = span[1] > 0.5e-9 and span[0] < 1e-6
        return {"permittivity x thickness [m]": product}, None if possible else False, words
    value = product / thickness
    return {"permittivity [1]": value}, *_between(value, PERMITTIVITY, "relative permittivity", "")


def _between(value: float, limits: tuple[float, float], name: str, unit: str) -> tuple[bool, str]:
    good = limits[0] <= value <= limits[1]
    return good, f"{name} {value:.3g} {unit}, {'within' if good else 'outside'} {limits[0]:g} to {limits[1]:g}".strip()
