"""Data-driven ReRAM models: the resistance relaxes towards a bound that depends on the voltage."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import Model, check_order

CEILING = 150.0
"""Largest exponent: far beyond the range of any device, and still a number when multiplied."""


@dataclass(frozen=True, kw_only=True)
class DataDrivenCurrent(Model):
    """What both variants share: state, current and the bound of each sign."""

    set_sign: ClassVar[int] = -1

    r_low: Value = parameter("ohm", "resistance at x = 1", role="resistance", low=1e-3, high=1e15, fit=False)
    r_high: Value = parameter("ohm", "resistance at x = 0", role="resistance", low=1e-3, high=1e15, fit=False)
    a_p: Value = parameter("1", "scale of the current at v > 0", role="shape", low=1e-12, high=1e6)
    a_n: Value = parameter("1", "scale of the current at v < 0", role="shape", low=1e-12, high=1e6)
    b_p: Value = parameter("1/V", "curvature of I(V) at v > 0", role="curvature", low=1e-6, high=100)
    b_n: Value = parameter("1/V", "curvature of I(V) at v < 0", role="curvature", low=1e-6, high=100)

    def _check(self) -> None:
        check_order(type(self).__name__, "r_low", self.r_low, "r_high", self.r_high, "ohm")

    def _resistance(self, x: Value) -> Value:
        return self.r_high - (self.r_high - self.r_low) * x

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        scale, curvature = ops.select(v, self.a_p, self.a_n), ops.select(v, self.b_p, self.b_n)
        return scale / self._resistance(x) * ops.sinh(curvature * v)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        slope = self._resistance_slope(v, self._resistance(x), ops)
        return self._windowed(-slope / (self.r_high - self.r_low), x, ops)

    @abstractmethod
    def _resistance_slope(self, v: Value, r: Value, ops: Ops) -> Value:
        """dR/dt [ohm/s]."""


@dataclass(frozen=True, kw_only=True)
class DataDriven(DataDrivenCurrent):
    """v > 0: dR/dt = s_p expm1(k_p (R_p - R)) while R < R_p;  v < 0: dR/dt = -s_n expm1(k_n (R - R_n)) while R > R_n.

    s = A (exp(t |v|) - 1), R_p,n(v) = r0 + r1 v + r2 v^2, i = a / R sinh(b v) with a and b of each sign.
    R = r_high - (r_high - r_low) x: x = 1 is the low resistance, v < 0 SETs. At constant v it has a closed form, see
    docs/models.md. `aset` and `areset` are the magnitudes of the published A_n and A_p; published devices that SET at
    v > 0 (eta = -1) come with polarity -1.

    Source: Messaris et al., IEEE Trans. Comput.-Aided Des. 37, 3151 (2018), eq. 3 to 10, doi:10.1109/TCAD.2018.2791468.
    """

    name: ClassVar[str] = "data_driven"

    areset: Value = parameter("ohm/s", "rate of RESET (v > 0)", role="rate", low=1e-60, high=1e60)
    aset: Value = parameter("ohm/s", "rate of SET (v < 0)", role="rate", low=1e-60, high=1e60)
    t_p: Value = parameter("1/V", "voltage dependence of RESET", role="shape", low=1e-6, high=100)
    t_n: Value = parameter("1/V", "voltage dependence of SET", role="shape", low=1e-6, high=100)
    k_p: Value = parameter("1/ohm", "stiffness towards the RESET bound", role="shape", low=1e-15, high=1e3)
    k_n: Value = parameter("1/ohm", "stiffness towards the SET bound", role="shape", low=1e-15, high=1e3)
    rp0: Value = parameter("ohm", "RESET bound at 0 V", role="resistance", low=-1e15, high=1e15)
    rp1: Value = parameter("ohm/V", "its slope", role="shape", low=-1e15, high=1e15)
    rp2: Value = parameter("ohm/V^2", "its curvature", role="shape", default=0.0, low=-1e15, high=1e15)
    rn0: Value = parameter("ohm", "SET bound at 0 V", role="resistance", low=-1e15, high=1e15)
    rn1: Value = parameter("ohm/V", "its slope", role="shape", low=-1e15, high=1e15)
    rn2: Value = parameter("ohm/V^2", "its curvature", role="shape", default=0.0, low=-1e15, high=1e15)

    def _resistance_slope(self, v: Value, r: Value, ops: Ops) -> Value:
        reset = self.areset * (ops.exp(self.t_p * ops.relu(v)) - 1.0)
        set_ = self.aset * (ops.exp(self.t_n * ops.relu(-v)) - 1.0)
        below = ops.relu(self.rp0 + v * (self.rp1 + v * self.rp2) - r)
        above = ops.relu(r - (self.rn0 + v * (self.rn1 + v * self.rn2)))
        below, above = ops.minimum(self.k_p * below, CEILING), ops.minimum(self.k_n * above, CEILING)
        return reset * (ops.exp(below) - 1.0) - set_ * (ops.exp(above) - 1.0)


@dataclass(frozen=True, kw_only=True)
class DataDriven2021(DataDrivenCurrent):
    """v > 0: dR/dt = s_p (R_p - R)^2 while R < R_p;  v < 0: dR/dt = -s_n (R - R_n)^2 while R > R_n.

    s = A (1 - exp(-|v| / t)), which saturates; R_p,n(v) = r0 + r1 v; the current is that of `DataDriven`.
    R = r_high - (r_high - r_low) x: x = 1 is the low resistance, v < 0 SETs.

    Source: Messaris et al. (2017), as used in arXiv:2012.02267.
    """

    name: ClassVar[str] = "data_driven_2021"

    areset: Value = parameter("1/(ohm s)", "rate of RESET (v > 0)", role="rate", low=1e-60, high=1e60)
    aset: Value = parameter("1/(ohm s)", "rate of SET (v < 0)", role="rate", low=1e-60, high=1e60)
    t_p: Value = parameter("V", "voltage at which RESET saturates", role="shape", low=1e-4, high=100)
    t_n: Value = parameter("V", "voltage at which SET saturates", role="shape", low=1e-4, high=100)
    rp0: Value = parameter("ohm", "RESET bound at 0 V", role="resistance", low=-1e15, high=1e15)
    rp1: Value = parameter("ohm/V", "its slope", role="shape", low=-1e15, high=1e15)
    rn0: Value = parameter("ohm", "SET bound at 0 V", role="resistance", low=-1e15, high=1e15)
    rn1: Value = parameter("ohm/V", "its slope", role="shape", low=-1e15, high=1e15)

    def _resistance_slope(self, v: Value, r: Value, ops: Ops) -> Value:
        reset = self.areset * (1.0 - ops.exp(-ops.relu(v) / self.t_p))
        set_ = self.aset * (1.0 - ops.exp(-ops.relu(-v) / self.t_n))
        below, above = ops.relu(self.rp0 + self.rp1 * v - r), ops.relu(r - (self.rn0 + self.rn1 * v))
        return reset * below * below - set_ * above * above
