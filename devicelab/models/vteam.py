"""VTEAM: voltage-threshold adaptive memristor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Self

from ..errors import ParameterError
from ..ops import Ops, Value
from ..parameters import parameter
from ..windows import NoWindow, Window
from .base import SeparableModel, check_resistances

Resistance = Literal["linear", "exponential"]


@dataclass(frozen=True, kw_only=True)
class VTEAM(SeparableModel):
    """Threshold device: still between v_on < 0 and v_off > 0, a power law of the overdrive beyond them.

    dx/dt =  k_on  (v / v_on  - 1)^a_on  f(x)   for v < v_on   (SET,   towards x = 1)
    dx/dt = -k_off (v / v_off - 1)^a_off f(x)   for v > v_off  (RESET, towards x = 0)
    i = v / R(x) * sinh(u) / u,  u = (b_off + (b_on - b_off) x) v
    R(x) = r_off + (r_on - r_off) x   or   r_off (r_on / r_off)^x

    x = 1 is the low resistance, v < 0 SETs. The published state w grows towards OFF: w = w_on + (w_off - w_on)(1 - x),
    and only k / (w_off - w_on) is observable, so rates are in 1/s; use `from_widths` for published numbers.
    The curvatures b make the current a sinh; at 0 the device is ohmic at a fixed state, as published.

    Source: Kvatinsky et al., IEEE Trans. Circuits Syst. II 62, 786 (2015), doi:10.1109/TCSII.2015.2433536.
    """

    name: ClassVar[str] = "vteam"
    set_sign: ClassVar[int] = -1

    r_on: Value = parameter("ohm", "resistance at x = 1 and small voltage", role="resistance", low=1e-3, high=1e15)
    r_off: Value = parameter("ohm", "resistance at x = 0 and small voltage", role="resistance", low=1e-3, high=1e15)
    v_on: Value = parameter("V", "SET threshold", role="threshold", low=-1e3, high=-1e-6)
    v_off: Value = parameter("V", "RESET threshold", role="threshold", low=1e-6, high=1e3)
    k_on: Value = parameter("1/s", "SET rate at twice the threshold", role="rate", low=1e-60, high=1e60)
    k_off: Value = parameter("1/s", "RESET rate at twice the threshold", role="rate", low=1e-60, high=1e60)
    a_on: Value = parameter("1", "SET exponent", role="exponent", default=3.0, low=0.1, high=30)
    a_off: Value = parameter("1", "RESET exponent", role="exponent", default=3.0, low=0.1, high=30)
    b_on: Value = parameter("1/V", "curvature of I(V) at x = 1", role="curvature", default=0.0, low=0.0, high=100)
    b_off: Value = parameter("1/V", "curvature of I(V) at x = 0", role="curvature", default=0.0, low=0.0, high=100)
    resistance: Resistance = field(default="linear")

    @classmethod
    def from_widths(
        cls,
        *,
        r_on: float,
        r_off: float,
        v_on: float,
        v_off: float,
        k_on: float,
        k_off: float,
        a_on: float,
        a_off: float,
        w_off: float,
        w_on: float = 0.0,
        window: Window | None = None,
        resistance: Resistance = "linear",
    ) -> Self:
        """The model from published numbers: k_off > 0 and k_on < 0 in m/s, the state's range w_on..w_off in m."""
        width = w_off - w_on
        return cls(
            r_on=r_on,
            r_off=r_off,
            v_on=v_on,
            v_off=v_off,
            k_on=-k_on / width,
            k_off=k_off / width,
            a_on=a_on,
            a_off=a_off,
            window=window or NoWindow(),
            resistance=resistance,
        )

    def _check(self) -> None:
        check_resistances("VTEAM", self.r_on, self.r_off)
        if self.resistance not in ("linear", "exponential"):
            raise ParameterError("unknown resistance law", got=repr(self.resistance), allowed="linear, exponential")

    def _resistance(self, x: Value, ops: Ops) -> Value:
        if self.resistance == "linear":
            return self.r_off + (self.r_on - self.r_off) * x
        return self.r_off * ops.power(self.r_on / self.r_off, x)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return v / self._resistance(x, ops) * ops.sinhc((self.b_off + (self.b_on - self.b_off) * x) * v)

    def _speed(self, v: Value, ops: Ops) -> Value:
        on = self.k_on * ops.power(ops.relu(v / self.v_on - 1.0), self.a_on)
        off = self.k_off * ops.power(ops.relu(v / self.v_off - 1.0), self.a_off)
        return on - off

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        side = v0 + v1  # a ramp has one sign, so only one of the two powers moves it
        threshold, exponent = ops.select(side, self.v_off, self.v_on), ops.select(side, self.a_off, self.a_on)
        rate = ops.select(side, -self.k_off, self.k_on)
        return dt * rate * ramp_integral(v0 / threshold - 1.0, v1 / threshold - 1.0, exponent, ops)


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
    short = ops.power(middle, exponent) * (1.0 + exponent * (exponent - 1.0) / 24.0 * _relative(span, middle, ops))
    return ops.select(near, exact, short)


def _relative(span: Value, middle: Value, ops: Ops) -> Value:
    ratio = span / ops.maximum(middle, 1e-30)
    return ops.minimum(ratio * ratio, 1e-8)
