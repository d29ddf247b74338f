"""MMS: a metastable switch, many of which in parallel are a memristor (Knowm)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import Model, check_resistances
from .stanford import K_OVER_Q


@dataclass(frozen=True, kw_only=True)
class MMS(Model):
    """dx/dt = k [P_on (1 - x) - P_off x],  i = v [x / r_on + (1 - x) / r_off].

    P_on = 1 / (1 + exp(-(v - v_on) / V_T)), P_off = 1 / (1 + exp((v + v_off) / V_T)), V_T = k_B T / q.
    x = 1 is the low resistance; v > 0 SETs. No threshold: at any voltage the state relaxes, if slowly. The published
    time constant is tau = 1 / k. For N switches that jump one by one see `devicelab.noise.metastable_switches`. The
    diode that the source puts in parallel, a current with its own amplitudes and slopes, is not covered.

    Source: Nugent and Molter, PLoS ONE 9, e85175 (2014), doi:10.1371/journal.pone.0085175.
    """

    name: ClassVar[str] = "mms"
    set_sign: ClassVar[int] = 1

    r_on: Value = parameter("ohm", "resistance at x = 1", role="resistance", low=1e-3, high=1e15)
    r_off: Value = parameter("ohm", "resistance at x = 0", role="resistance", low=1e-3, high=1e15)
    v_on: Value = parameter("V", "voltage of SET", role="threshold", low=1e-6, high=1e3)
    v_off: Value = parameter("V", "magnitude of the voltage of RESET", role="threshold", low=1e-6, high=1e3)
    k: Value = parameter("1/s", "attempts per time, 1 / tau", role="rate", low=1e-60, high=1e60)
    temperature: Value = parameter("K", "temperature", role="shape", default=298.5, low=1.0, high=2e3, fit=False)

    def _check(self) -> None:
        check_resistances("MMS", self.r_on, self.r_off)

    def _probabilities(self, v: Value, ops: Ops) -> tuple[Value, Value]:
        """Rates of switching on and off, in units of k."""
        double = 2.0 * K_OVER_Q * self.temperature
        return 0.5 + 0.5 * ops.tanh((v - self.v_on) / double), 0.5 - 0.5 * ops.tanh((v + self.v_off) / double)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return v * (x / self.r_on + (1.0 - x) / self.r_off)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        on, off = self._probabilities(v, ops)
        return self._windowed(self.k * (on * (1.0 - x) - off * x), x, ops)
