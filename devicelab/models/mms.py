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
    """dx/dt = k [P_on (1 - x) - P_off x],  i = phi v [x / r_on + (1 - x) / r_off] + (1 - phi) i_d.

    i_d = af (e^(bf v) - 1) - ar (e^(-br v) - 1), the diode in parallel that the generalised model adds.

    P_on = 1 / (1 + exp(-(v - v_on) / V_T)), P_off = 1 / (1 + exp((v + v_off) / V_T)), V_T = k_B T / q.
    x = 1 is the low resistance; v > 0 SETs. No threshold: at any voltage the state relaxes, if slowly. The published
    time constant is tau = 1 / k. For N switches that jump one by one see `devicelab.noise.metastable_switches`.

    In the source the diode is af e^(bf v) - ar e^(-br v). That drives (1 - phi) (af - ar) at 0 V, which no passive
    device can; here each direction has the -1 of a junction (Shockley 1949), so that no current flows at 0 V. Both
    forms are one where af = ar, and differ by that constant elsewhere. phi = 1 is the model without a diode.

    Source: Nugent and Molter, PLoS ONE 9, e85175 (2014), doi:10.1371/journal.pone.0085175; with the diode, Molter and
    Nugent, CNNA (2016), arXiv:1608.04659.
    """

    name: ClassVar[str] = "mms"
    set_sign: ClassVar[int] = 1

    r_on: Value = parameter("ohm", "resistance at x = 1", role="resistance", low=1e-3, high=1e15)
    r_off: Value = parameter("ohm", "resistance at x = 0", role="resistance", low=1e-3, high=1e15)
    v_on: Value = parameter("V", "voltage of SET", role="threshold", low=1e-6, high=1e3)
    v_off: Value = parameter("V", "magnitude of the voltage of RESET", role="threshold", low=1e-6, high=1e3)
    k: Value = parameter("1/s", "attempts per time, 1 / tau", role="rate", low=1e-60, high=1e60)
    temperature: Value = parameter("K", "temperature", role="shape", default=298.5, low=1.0, high=2e3, fit=False)
    phi: Value = parameter("1", "share of the switches", role="shape", default=1.0, low=0.0, high=1.0, fit=False)
    af: Value = parameter("A", "scale of the diode, v > 0", role="current", default=1e-9, low=0.0, high=1e3, fit=False)
    bf: Value = parameter("1/V", "its slope, v > 0", role="curvature", default=8.5, low=0.0, high=100.0, fit=False)
    ar: Value = parameter("A", "scale of the diode, v < 0", role="current", default=1e-9, low=0.0, high=1e3, fit=False)
    br: Value = parameter("1/V", "its slope, v < 0", role="curvature", default=8.5, low=0.0, high=100.0, fit=False)

    def _check(self) -> None:
        check_resistances("MMS", self.r_on, self.r_off)

    def _probabilities(self, v: Value, ops: Ops) -> tuple[Value, Value]:
        """Rates of switching on and off, in units of k."""
        double = 2.0 * K_OVER_Q * self.temperature
        return 0.5 + 0.5 * ops.tanh((v - self.v_on) / double), 0.5 - 0.5 * ops.tanh((v + self.v_off) / double)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        switches = v * (x / self.r_on + (1.0 - x) / self.r_off)
        diode = self.af * _expm1(self.bf * v, ops) - self.ar * _expm1(-self.br * v, ops)
        return self.phi * switches + (1.0 - self.phi) * diode

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        on, off = self._probabilities(v, ops)
        return self._windowed(self.k * (on * (1.0 - x) - off * x), x, ops)


def _expm1(u: Value, ops: Ops) -> Value:
    """e^u - 1, exact at small u too: 2 sinh(u / 2) e^(u / 2)."""
    return 2.0 * ops.sinh(0.5 * u) * ops.exp(0.5 * u)
