"""TEAM: current-threshold adaptive memristor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

from ..errors import ParameterError
from ..ops import Ops, Value
from ..parameters import parameter
from ..windows import NoWindow, Window
from .base import Model, check_resistances
from .vteam import Resistance


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
        cls,
        *,
        r_on: float,
        r_off: float,
        i_on: float,
        i_off: float,
        k_on: float,
        k_off: float,
        a_on: float,
        a_off: float,
        w_off: float,
        w_on: float = 0.0,
        window: Window | None = None,
        resistance: Resistance = "linear",
        polarity: int = 1,
    ) -> Self:
        """The model from published numbers: k_off > 0 and k_on < 0 in m/s, the state's range w_on..w_off in m."""
        width = w_off - w_on
        return cls(
            r_on=r_on,
            r_off=r_off,
            i_on=i_on,
            i_off=i_off,
            k_on=-k_on / width,
            k_off=k_off / width,
            a_on=a_on,
            a_off=a_off,
            window=window or NoWindow(),
            resistance=resistance,
            polarity=polarity,
        )

    def _check(self) -> None:
        check_resistances("TEAM", self.r_on, self.r_off)
        if self.resistance not in ("linear", "exponential"):
            raise ParameterError("unknown resistance law", got=repr(self.resistance), allowed="linear, exponential")

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        if self.resistance == "linear":
            return v / (self.r_off + (self.r_on - self.r_off) * x)
        return v / (self.r_off * ops.power(self.r_on / self.r_off, x))

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        i = self._current(v, x, ops)
        on = self.k_on * ops.power(ops.relu(i / self.i_on - 1.0), self.a_on)
        off = self.k_off * ops.power(ops.relu(i / self.i_off - 1.0), self.a_off)
        return self._windowed(on - off, x, ops)
