"""Yakopcic: exponential thresholds in voltage, motion that slows down beyond x_p and 1 - x_n, sinh currents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..coordinates import Coordinate
from ..ops import Ops, Value
from ..parameters import parameter
from .base import SeparableModel, profile_table


@dataclass(frozen=True, kw_only=True)
class YakopcicMotion(SeparableModel):
    """The state equation that both forms share.

    dx/dt = g(v) f(x) with
    g = a_p (e^v - e^v_p) for v > v_p,  -a_n (e^-v - e^v_n) for v < -v_n,  v in volts in the exponents
    f = e^(-alpha_p (x - x_p)) (1 - x) / (1 - x_p) for x > x_p towards x = 1, else 1
    f = e^(alpha_n (x + x_n - 1)) x / (1 - x_n) for x < 1 - x_n towards x = 0, else 1
    """

    set_sign: ClassVar[int] = 1

    v_p: Value = parameter("V", "SET threshold", role="threshold", low=1e-6, high=50)
    v_n: Value = parameter("V", "magnitude of the RESET threshold", role="threshold", low=1e-6, high=50)
    a_p: Value = parameter("1/s", "SET rate", role="rate", low=1e-60, high=1e60)
    a_n: Value = parameter("1/s", "RESET rate", role="rate", low=1e-60, high=1e60)
    x_p: Value = parameter("1", "state beyond which SET slows down", role="shape", low=0.0, high=0.999)
    x_n: Value = parameter("1", "1 minus the state below which RESET slows down", role="shape", low=0.0, high=0.999)
    alpha_p: Value = parameter("1", "decay of SET beyond x_p", role="shape", low=0.0, high=1e3)
    alpha_n: Value = parameter("1", "decay of RESET below 1 - x_n", role="shape", low=0.0, high=1e3)

    @property
    def symmetric(self) -> bool:
        """The profile depends on the direction whatever the window."""
        return False

    def _speed(self, v: Value, ops: Ops) -> Value:
        up = self.a_p * ops.relu(ops.exp(v) - ops.exp(self.v_p))
        return up - self.a_n * ops.relu(ops.exp(-v) - ops.exp(self.v_n))

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        up = self.a_p * _mean_excess(v0, v1, self.v_p, ops)
        return dt * (up - self.a_n * _mean_excess(-v0, -v1, self.v_n, ops))

    def _profile(self, x: Value, direction: int, ops: Ops) -> Value:
        window = self.window._profile(x, direction, ops)
        if direction > 0:
            beyond = ops.relu(x - self.x_p)
            return window * ops.exp(-self.alpha_p * beyond) * (1.0 - beyond / (1.0 - self.x_p))
        beyond = ops.relu(1.0 - self.x_n - x)
        return window * ops.exp(-self.alpha_n * beyond) * (1.0 - beyond / (1.0 - self.x_n))

    def _kink(self, direction: int) -> Value:
        return self.x_p if direction > 0 else 1.0 - self.x_n

    def _coordinate(self, direction: int, ops: Ops, like: Value) -> Coordinate:
        return profile_table(self, direction, ops, like)


def _mean_excess(v0: Value, v1: Value, threshold: Value, ops: Ops) -> Value:
    """Mean of max(e^v - e^threshold, 0) while v goes linearly from v0 to v1; exact, also across the threshold."""
    floor = ops.exp(threshold)
    u0, u1 = ops.maximum(v0, threshold), ops.maximum(v1, threshold)
    span = v1 - v0
    wide = ops.abs(span) - 1e-4
    exact = (ops.exp(u1) - ops.exp(u0) - floor * (u1 - u0)) / ops.select(wide, span, 1.0 + 0.0 * span)
    return ops.select(wide, exact, 0.5 * (ops.exp(u0) + ops.exp(u1)) - floor)  # the trapezium, good to 1e-9


@dataclass(frozen=True, kw_only=True)
class Yakopcic(YakopcicMotion):
    """i = a1 x sinh(b v) for v > 0, a2 x sinh(b v) for v < 0, with the motion of `YakopcicMotion`.

    x = 1 is the low resistance; v > 0 SETs. At x = 0 no current flows at all, a known weakness of this form; see
    `YakopcicTwoBranch`.

    Source: Yakopcic et al., IEEE Electron Device Lett. 32, 1436 (2011), doi:10.1109/LED.2011.2163292.
    """

    name: ClassVar[str] = "yakopcic"

    a1: Value = parameter("A", "scale of the current at v > 0", role="current", low=1e-30, high=1e3)
    a2: Value = parameter("A", "scale of the current at v < 0", role="current", low=1e-30, high=1e3)
    b: Value = parameter("1/V", "curvature of I(V)", role="curvature", low=1e-6, high=100)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return ops.select(v, self.a1, self.a2) * x * ops.sinh(self.b * v)


@dataclass(frozen=True, kw_only=True)
class YakopcicTwoBranch(YakopcicMotion):
    """i = x h_max(v) + (1 - x) h_min(v), h = g sinh(b v) with g and b of each sign, the motion of `YakopcicMotion`.

    x = 1 is the low resistance; v > 0 SETs. The device conducts at x = 0 too.

    Source: Yakopcic et al., IEEE Trans. Comput.-Aided Des. 39, 1084 (2020).
    """

    name: ClassVar[str] = "yakopcic_two_branch"

    gmax_p: Value = parameter("A", "scale at x = 1, v > 0", role="current", low=1e-30, high=1e3)
    gmax_n: Value = parameter("A", "scale at x = 1, v < 0", role="current", low=1e-30, high=1e3)
    gmin_p: Value = parameter("A", "scale at x = 0, v > 0", role="current", low=1e-30, high=1e3)
    gmin_n: Value = parameter("A", "scale at x = 0, v < 0", role="current", low=1e-30, high=1e3)
    bmax_p: Value = parameter("1/V", "curvature at x = 1, v > 0", role="curvature", low=1e-6, high=100)
    bmax_n: Value = parameter("1/V", "curvature at x = 1, v < 0", role="curvature", low=1e-6, high=100)
    bmin_p: Value = parameter("1/V", "curvature at x = 0, v > 0", role="curvature", low=1e-6, high=100)
    bmin_n: Value = parameter("1/V", "curvature at x = 0, v < 0", role="curvature", low=1e-6, high=100)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        h_max = ops.select(v, self.gmax_p, self.gmax_n) * ops.sinh(ops.select(v, self.bmax_p, self.bmax_n) * v)
        h_min = ops.select(v, self.gmin_p, self.gmin_n) * ops.sinh(ops.select(v, self.bmin_p, self.bmin_n) * v)
        return x * h_max + (1.0 - x) * h_min
