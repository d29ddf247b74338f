"""What the threshold models share: a power law of the overdrive, a resistance between two ends, published widths."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from ..errors import ParameterError
from ..ops import Ops, Value

Resistance = Literal["linear", "exponential"]


class Branch(NamedTuple):
    """One direction of motion: k (drive / threshold - 1)^a beyond the threshold, with k > 0 [1/s]."""

    k: Value
    threshold: Value
    a: Value


def resistance_between(r_on: Value, r_off: Value, x: Value, law: Resistance, ops: Ops) -> Value:
    """R(x) [ohm]: r_off + (r_on - r_off) x, or r_off (r_on / r_off)^x."""
    if law == "linear":
        return r_off + (r_on - r_off) * x
    return r_off * ops.power(r_on / r_off, x)


def check_law(law: str) -> None:
    """Raise `ParameterError` unless the resistance law is known."""
    if law not in ("linear", "exponential"):
        raise ParameterError("unknown resistance law", got=repr(law), allowed="linear, exponential")


def overdrive_speed(drive: Value, on: Branch, off: Branch, ops: Ops) -> Value:
    """Signed speed [1/s]: that of `on` beyond its threshold < 0, minus that of `off` beyond its own > 0, else 0."""
    rise, fall = (b.k * ops.power(ops.relu(drive / b.threshold - 1.0), b.a) for b in (on, off))
    return rise - fall


def overdrive_travel(v0: Value, v1: Value, dt: Value, on: Branch, off: Branch, ops: Ops) -> Value:
    """Integral of `overdrive_speed` over a linear ramp of one sign from v0 to v1 that takes dt [s]; exact."""
    side = v0 + v1  # of one sign, so only one of the two powers moves it
    threshold, a = ops.select(side, off.threshold, on.threshold), ops.select(side, off.a, on.a)
    mean = ramp_integral(v0 / threshold - 1.0, v1 / threshold - 1.0, a, ops)
    return dt * ops.select(side, -off.k, on.k) * mean


def ramp_integral(u0: Value, u1: Value, exponent: Value, ops: Ops) -> Value:
    """Mean of max(u, 0)^exponent while u goes linearly from u0 to u1; exact, also across u = 0.

    The primitive loses digits when u1 is close to u0; there the midpoint rule with its second-order term is exact to
    the same order.
    """
    p0, p1 = ops.relu(u0), ops.relu(u1)
    span = u1 - u0
    middle = 0.5 * (p0 + p1)
    near = ops.abs(span) - 1e-4 * middle  # <= 0 where the ramp is short against its distance from the threshold
    safe = ops.select(near, span, 1.0 + 0.0 * span)
    n = exponent + 1.0
    exact = (ops.power(p1, n) - ops.power(p0, n)) / (n * safe)
    ratio = span / ops.maximum(middle, 1e-30)
    second = ops.minimum(ratio * ratio, 1e-8)  # where it is larger, `exact` is taken
    short = ops.power(middle, exponent) * (1.0 + exponent * (exponent - 1.0) / 24.0 * second)
    return ops.select(near, exact, short)


def normalised_rates(k_on: float, k_off: float, w_on: float, w_off: float) -> dict[str, Any]:
    """Rates in 1/s from published ones: k_off > 0 and k_on < 0 in m/s, the state's range w_on..w_off in m."""
    width = w_off - w_on
    if not width > 0:
        raise ParameterError("w_off must exceed w_on", got=f"w_on = {w_on:g} m, w_off = {w_off:g} m")
    return {"k_on": -k_on / width, "k_off": k_off / width}
