"""Stanford RRAM: a conducting filament whose tip leaves a gap to the electrode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import Model, check_order

K_OVER_Q = 8.617333262e-5
"""Boltzmann's constant over the elementary charge [V/K]."""

NANOMETRE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Stanford(Model):
    """i = i0 exp(-g / g0) sinh(v / v0);  dg/dt = -vel0 exp(-ea / kT) sinh(gamma (a0 / t_ox) v / kT).

    T = t_ini + r_th |v i|;  gamma = gamma0 - beta (g / 1 nm)^alpha, and nothing moves where gamma |v| / t_ox < f_min.
    g = g_max - (g_max - g_min) x: x = 1 is the low resistance; v > 0 SETs. kT is in volts (k T / q).

    The published cut at f_min is a step: the rate falls from 3e-4 m/s to nothing, and a slow RESET slides along it.
    Here it is a tanh of relative width `smooth`, so that circuit simulators can follow; the branch it slides along,
    g(v)^alpha = (gamma0 - f_min t_ox / |v|) / beta nm, is the same.

    Source: Jiang, Yu, Wong et al., SISPAD (2014), doi:10.1109/SISPAD.2014.6931558, and its model RRAM v1.0.0
    (doi:10.4231/D37H1DN48).
    """

    name: ClassVar[str] = "stanford"
    set_sign: ClassVar[int] = 1

    i0: Value = parameter("A", "scale of the current", role="current", low=1e-15, high=1e3)
    g0: Value = parameter("m", "decay length of the current with the gap", role="shape", low=1e-12, high=1e-6)
    v0: Value = parameter("V", "voltage scale of the current", role="shape", low=1e-3, high=100)
    g_min: Value = parameter("m", "gap at x = 1", role="shape", low=0.0, high=1e-6, fit=False)
    g_max: Value = parameter("m", "gap at x = 0", role="shape", low=1e-12, high=1e-6, fit=False)
    vel0: Value = parameter("m/s", "attempt velocity of the tip", role="rate", low=1e-60, high=1e60)
    ea: Value = parameter("eV", "activation energy", role="shape", low=0.0, high=10)
    a0: Value = parameter("m", "hopping distance", role="shape", low=1e-12, high=1e-6, fit=False)
    t_ox: Value = parameter("m", "oxide thickness", role="shape", low=1e-10, high=1e-6, fit=False)
    gamma0: Value = parameter("1", "field enhancement at no gap", role="shape", low=0.0, high=1e3)
    beta: Value = parameter("1", "loss of field enhancement at a gap of 1 nm", role="shape", low=0.0, high=1e3)
    alpha: Value = parameter("1", "exponent of that loss", role="exponent", default=3.0, low=0.1, high=30, fit=False)
    f_min: Value = parameter("V/m", "least enhanced field that moves the tip", role="threshold", low=1e3, high=1e12)
    r_th: Value = parameter("K/W", "thermal resistance", role="shape", low=0.0, high=1e12)
    t_ini: Value = parameter("K", "ambient temperature", role="shape", default=298.0, low=1.0, high=2e3, fit=False)
    smooth: Value = parameter(
        "1", "relative width of the cut at f_min", role="shape", default=0.01, low=1e-6, high=0.2, fit=False
    )

    def _check(self) -> None:
        check_order("Stanford", "g_min", self.g_min, "g_max", self.g_max, "m")

    def _gap(self, x: Value) -> Value:
        return self.g_max - (self.g_max - self.g_min) * x

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return self.i0 * ops.exp(-self._gap(x) / self.g0) * ops.sinh(v / self.v0)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        gap = self._gap(x)
        kt = K_OVER_Q * (self.t_ini + self.r_th * ops.abs(v * self._current(v, x, ops)))
        gamma = ops.relu(self.gamma0 - self.beta * ops.power(gap / NANOMETRE, self.alpha))
        field = gamma * ops.abs(v) / self.t_ox
        open_ = 0.5 * (1.0 + ops.tanh((field / self.f_min - 1.0) / self.smooth))
        drift = ops.exp(-self.ea / kt) * ops.sinh(gamma * (self.a0 / self.t_ox) * v / kt)
        return self._windowed(self.vel0 / (self.g_max - self.g_min) * drift * open_, x, ops)
