"""Simmons tunnel barrier: a tunnel gap whose width moves exponentially fast with the current (Pickett)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import Model, check_order

CEILING = 1e12
"""Largest speed [nm/s]: beyond it the published exponentials leave every number system."""

IMAGE = 0.0998
"""Image potential of the barrier times its width [V nm]: e ln 2 / (8 pi eps), relative permittivity 5."""

STEEPNESS = 10.24634
"""4 pi sqrt(2 m e) / h [1 / (nm sqrt(V))], m the mass of the electron."""


@dataclass(frozen=True, kw_only=True)
class SimmonsTunnelBarrier(Model):
    """A tunnel barrier of width w [nm] between w_on and w_off; w = w_off - (w_off - w_on) x.

    dw/dt =  f_off sinh(|i| / i_off) exp(-exp((w - a_off) / w_c - |i| / b) - w / w_c)   i > 0
    dw/dt = -f_on  sinh(|i| / i_on)  exp(-exp((a_on - w) / w_c - |i| / b) - w / w_c)    i < 0
    i = sign(v) j0 / dw^2 { p e^(-B sqrt(p)) - (p + |v|) e^(-B sqrt(p + |v|)) },  B = 10.246 dw, dw = w2 - w1
    p = phi0 - |v| (w1 + w2) / (2 w) - 1.15 lam w / dw ln[w2 (w - w1) / (w1 (w - w2))],  lam = 0.0998 / w
    w1 = 1.2 lam w / phi0,  w2 = w1 + w [1 - 9.2 lam / (3 phi0 + 4 lam - 2 |v|)]

    x = 1 is the low resistance (thin barrier), v < 0 SETs. The voltage is that of the barrier: the electrodes' 215 ohm
    are `series_resistance` of `devicelab.simulate`. Speeds are in nm/s, and end at 1e12 nm/s.

    Source: Pickett et al., J. Appl. Phys. 106, 074508 (2009), doi:10.1063/1.3236506; state equation as in Kvatinsky et
    al. (2013), eq. 11 to 13, doi:10.1109/TCSI.2012.2215714; current of Simmons, J. Appl. Phys. 34, 1793 (1963),
    doi:10.1063/1.1702682. A barrier of 0.95 V, a relative permittivity of 5 and an area of 1e4 nm^2, which makes j0,
    are those of Abdalla and Pickett (2011), quoted from memory and not checked against the paper.
    """

    name: ClassVar[str] = "simmons"
    set_sign: ClassVar[int] = -1

    f_off: Value = parameter("nm/s", "speed of RESET", role="rate", low=1e-60, high=1e60)
    f_on: Value = parameter("nm/s", "speed of SET", role="rate", low=1e-60, high=1e60)
    i_off: Value = parameter("A", "current scale of RESET", role="current", low=1e-12, high=1.0)
    i_on: Value = parameter("A", "current scale of SET", role="current", low=1e-12, high=1.0)
    a_off: Value = parameter("nm", "width that RESET heads for", role="shape", low=0.1, high=100)
    a_on: Value = parameter("nm", "width that SET heads for", role="shape", low=0.1, high=100)
    b: Value = parameter("A", "current scale that shifts both", role="current", low=1e-9, high=1.0)
    w_c: Value = parameter("nm", "length over which the speed changes", role="shape", low=1e-4, high=10)
    w_on: Value = parameter("nm", "width at x = 1", role="shape", low=0.5, high=100, fit=False)
    w_off: Value = parameter("nm", "width at x = 0", role="shape", low=0.5, high=100, fit=False)
    phi0: Value = parameter("V", "barrier height", role="shape", default=0.95, low=0.1, high=10, fit=False)
    j0: Value = parameter("A nm^2/V", "scale of the current", role="current", default=0.0617, low=1e-9, high=1e3)

    def _check(self) -> None:
        check_order("SimmonsTunnelBarrier", "w_on", self.w_on, "w_off", self.w_off, "nm")

    def _width(self, x: Value) -> Value:
        return self.w_off - (self.w_off - self.w_on) * x

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        w, size = self._width(x), ops.minimum(ops.abs(v), 0.999 * self.phi0)
        lam = IMAGE / w
        w1 = 1.2 * IMAGE / self.phi0
        w2 = w1 + w - 9.2 * IMAGE / (3.0 * self.phi0 + 4.0 * lam - 2.0 * size)
        dw = w2 - w1
        steep = STEEPNESS * dw
        log = ops.log((w2 / w1) * (w - w1) / (w - w2))
        p = ops.relu(self.phi0 - size * (w1 + w2) / (2.0 * w) - 1.15 * lam * w * log / dw)
        tunnel = p * ops.exp(-steep * ops.sqrt(p)) - (p + size) * ops.exp(-steep * ops.sqrt(p + size))
        return self.j0 / (dw * dw) * ops.maximum(tunnel, 0.0) * ops.select(v, 1.0, -1.0) * self._beyond(v, ops)

    def _beyond(self, v: Value, ops: Ops) -> Value:
        """1 within the formula's range |v| < phi0; proportional to the voltage above it, where it does not hold."""
        return ops.maximum(ops.abs(v) / (0.999 * self.phi0), 1.0)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        w, i = self._width(x), self._current(v, x, ops)
        reset, set_ = ops.relu(i), ops.relu(-i)
        off = self._speed(self.f_off, reset / self.i_off, (w - self.a_off) / self.w_c - reset / self.b, w, ops)
        on = self._speed(self.f_on, set_ / self.i_on, (self.a_on - w) / self.w_c - set_ / self.b, w, ops)
        return self._windowed((on - off) / (self.w_off - self.w_on), x, ops)

    def _speed(self, f: Value, drive: Value, lag: Value, w: Value, ops: Ops) -> Value:
        """f sinh(drive) exp(-exp(lag) - w / w_c) [nm/s], in one exponential so that nothing overflows."""
        decay = ops.exp(ops.minimum(lag, 50.0)) + w / self.w_c
        small = 0.5 * (1.0 - ops.exp(-2.0 * drive))
        return f * small * ops.exp(ops.minimum(drive - decay, ops.log(CEILING / f)))
