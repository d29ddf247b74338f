"""TEAM: current-threshold adaptive memristor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from ..ops import Ops, Value
from ..parameters import parameter
from ..windows import NoWindow, Window
from .base import Model, check_resistances
from .threshold import Branch, Resistance, check_law, normalised_rates, overdrive_speed, resistance_between


@dataclass(frozen=True, kw_only=True)
class TEAM(Model):
    """Threshold device: still while i_on < i < i_off, a power law of the overdrive beyond them.

    dx/dt =  k_on  (i / i_on  - 1)^a_on  f(x)   for i < i_on < 0   (SET,   towards x = 1)
    dx/dt = -k_off (i / i_off - 1)^a_off f(x)   for i > i_off > 0  (RESET, towards x = 0)
    i = v / R(x),  R(x) = r_off + (r_on - r_off) x   or   r_off (r_on / r_off)^x

    x = 1 is the low resistance, i < 0 SETs. The published state w grows towards OFF, and only k / (w_off - w_on) is
    observable, so rates are in 1/s; use `from_widths` for published numbers.

    Source: Kvatinsky et al., IEEE Trans. Circuits Syst. I 60, 211 (2013), eq. 14 to 17, doi:10.1109/TCSI.2012.2215714.
    """

    name: ClassVar[str] = "team"
    set_sign: ClassVar[int] = -1

    r_on: Value = parameter("ohm", "resistance at x = 1", role="resistance", low=1e-3, high=1e15)
    r_off: Value = parameter("ohm", "resistance at x = 0", role="resistance", low=1e-3, high=1e15)
    i_on: Value = parameter("A", "SET threshold", role="threshold", low=-1e3, high=-1e-18)
    i_off: Value = parameter("A", "RESET threshold", role="threshold", low=1e-18, high=1e3)
    k_on: Value = parameter("1/s", "SET rate at twice the threshold", role="rate", low=1e-60, high=1e60)
    k_off: Value = parameter("1/s", "RESET rate at twice the threshold", role="rate", low=1e-60, high=1e60)
    a_on: Value = parameter("1", "SET exponent", role="exponent", default=3.0, low=0.1, high=30)
    a_off: Value = parameter("1", "RESET exponent", role="exponent", default=3.0, low=0.1, high=30)
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
        check_resistances("TEAM", self.r_on, self.r_off)
        check_law(self.resistance)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return v / resistance_between(self.r_on, self.r_off, x, self.resistance, ops)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        on, off = Branch(self.k_on, self.i_on, self.a_on), Branch(self.k_off, self.i_off, self.a_off)
        return self._windowed(overdrive_speed(self._current(v, x, ops), on, off, ops), x, ops)
