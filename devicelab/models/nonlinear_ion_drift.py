"""Non-linear ion drift: the state moves with an odd power of the voltage, the current is a sinh and a diode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import SeparableModel
from .threshold import ramp_integral


@dataclass(frozen=True, kw_only=True)
class NonlinearIonDrift(SeparableModel):
    """i = x^n beta sinh(alpha v) + chi (exp(gamma v) - 1),  dx/dt = a sign(v) |v|^m f(x).

    x = 1 is the low resistance; v > 0 SETs. The published m is an odd integer; with sign(v) |v|^m any real m will do.

    Source: Yang et al., Nat. Nanotechnol. 3, 429 (2008), doi:10.1038/nnano.2008.160; Lehtonen and Laiho, Proc. CNNA
    (2010); as in Kvatinsky et al. (2013), eq. 9 and 10, doi:10.1109/TCSI.2012.2215714.
    """

    name: ClassVar[str] = "nonlinear_ion_drift"
    set_sign: ClassVar[int] = 1

    beta: Value = parameter("A", "scale of the tunnelling current", role="current", low=1e-30, high=1e3)
    alpha: Value = parameter("1/V", "curvature of the tunnelling current", role="curvature", low=1e-6, high=100)
    chi: Value = parameter("A", "saturation current of the diode", role="current", low=1e-30, high=1e3)
    gamma: Value = parameter("1/V", "curvature of the diode", role="curvature", low=1e-6, high=100)
    n: Value = parameter("1", "exponent of the state in the current", role="exponent", low=0.1, high=30)
    a: Value = parameter("1/(s V^m)", "rate at 1 V", role="rate", low=1e-60, high=1e60)
    m: Value = parameter("1", "exponent of the voltage in the rate", role="exponent", low=0.1, high=30)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        tunnel = ops.power(ops.relu(x), self.n) * self.beta * ops.sinh(self.alpha * v)
        return tunnel + self.chi * (ops.exp(self.gamma * v) - 1.0)

    def _speed(self, v: Value, ops: Ops) -> Value:
        return self.a * (ops.power(ops.relu(v), self.m) - ops.power(ops.relu(-v), self.m))

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        sign = ops.select(v0 + v1, 1.0 + 0.0 * v0, -1.0 + 0.0 * v0)
        return sign * self.a * dt * ramp_integral(sign * v0, sign * v1, self.m, ops)  # exact, unlike the five points
