"""VTEAM: voltage-threshold adaptive memristor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from ..ops import Ops, Value
from ..parameters import parameter
from ..windows import NoWindow, Window
from .base import SeparableModel, check_resistances
from .threshold import (
    Branch,
    Resistance,
    check_law,
    normalised_rates,
    overdrive_speed,
    overdrive_travel,
    resistance_between,
)


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
        cls, *, k_on: float, k_off: float, w_off: float, w_on: float = 0.0, window: Window | None = None, **others: Any
    ) -> Self:
        """The model from published numbers: k_off > 0 and k_on < 0 in m/s, the state's range w_on..w_off in m.

        The other arguments are those of the constructor.
        """
        return cls(window=window or NoWindow(), **normalised_rates(k_on, k_off, w_on, w_off), **others)

    def _check(self) -> None:
        check_resistances("VTEAM", self.r_on, self.r_off)
        check_law(self.resistance)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        curvature = self.b_off + (self.b_on - self.b_off) * x
        return v / resistance_between(self.r_on, self.r_off, x, self.resistance, ops) * ops.sinhc(curvature * v)

    def _branches(self) -> tuple[Branch, Branch]:
        return Branch(self.k_on, self.v_on, self.a_on), Branch(self.k_off, self.v_off, self.a_off)

    def _speed(self, v: Value, ops: Ops) -> Value:
        return overdrive_speed(v, *self._branches(), ops)

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        return overdrive_travel(v0, v1, dt, *self._branches(), ops)
