"""PKU RRAM: oxygen vacancies close a gap in a filament, oxygen ions open it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import Model, TwoStateModel, check_order
from .stanford import K_OVER_Q

CEILING = 100.0
"""Largest speed of the filament's tip [m/s], as published."""


TOUCH = 1e-3
"""The gap counts as closed over the last so many of its way, more and more: a step in x would have no derivative."""


@dataclass(frozen=True, kw_only=True)
class _Filament(Model):
    """What PKU devices have in common: a filament of some width, and a gap in it."""

    set_sign: ClassVar[int] = 1

    a: Value = parameter("m", "distance between vacancies", role="shape", low=1e-12, high=1e-6, fit=False)
    f: Value = parameter("1/s", "vibration frequency", role="rate", low=1e-60, high=1e60)
    ea: Value = parameter("eV", "activation energy of a vacancy", role="shape", low=0.0, high=10)
    eh: Value = parameter("eV", "hopping barrier of an oxygen ion", role="shape", low=0.0, high=10)
    ei: Value = parameter("eV", "barrier between electrode and oxide", role="shape", low=0.0, high=10)
    r: Value = parameter("1", "enhancement of the voltage at the electrode", role="shape", low=0.0, high=100)
    alpha: Value = parameter("m", "lowering of ea by the field", role="shape", low=1e-12, high=1e-6)
    alpha_h: Value = parameter("m", "lowering of eh by the field", role="shape", low=1e-12, high=1e-6)
    x_t: Value = parameter("m", "decay length of the current", role="shape", low=1e-12, high=1e-6)
    v_t: Value = parameter("V", "voltage scale of the current", role="shape", low=1e-3, high=100)
    l0: Value = parameter("m", "thickness of the switching layer: gap at x = 0", role="shape", low=1e-10, high=1e-6)
    g_min: Value = parameter("m", "gap at x = 1", role="shape", low=1e-12, high=1e-6, fit=False)
    w: Value = parameter("m", "width of the filament", role="shape", low=1e-10, high=1e-6)
    w_cf: Value = parameter("m", "width of the switching layer", role="shape", low=1e-10, high=1e-6, fit=False)
    j0: Value = parameter("A/m^2", "hopping current density", role="current", low=1.0, high=1e30)
    rho: Value = parameter("ohm m", "resistivity of the filament", role="shape", low=0.0, high=1.0)
    r_th: Value = parameter("K/W", "thermal resistance", role="shape", low=0.0, high=1e12)
    t_ini: Value = parameter("K", "ambient temperature", role="shape", default=300.0, low=1.0, high=2e3, fit=False)

    def _check(self) -> None:
        check_order("PKU", "g_min", self.g_min, "l0", self.l0, "m")
        check_order("PKU", "w", self.w, "w_cf", self.w_cf * (1.0 + 1e-9), "m")  # they may be equal

    def _gap(self, x: Value) -> Value:
        return self.l0 - (self.l0 - self.g_min) * x

    def _hopping(self, v: Value, x: Value, w: Value, ops: Ops) -> Value:
        """Current [A] of a filament of width w [m] across its gap, and of the layer beside it."""
        core = w * w
        through = core * ops.exp(-self._gap(x) / self.x_t) * ops.sinh(self._gap_voltage(v, x, ops) / self.v_t)
        return self.j0 * (math.pi / 4.0) * (through + self._beside(v, w, ops))

    def _beside(self, v: Value, w: Value, ops: Ops) -> Value:
        """What the layer beside the filament carries, over j0 pi / 4 [m^2]."""
        return (self.w_cf * self.w_cf - w * w) * ops.exp(-self.l0 / self.x_t) * ops.sinh(v / self.v_t)

    def _gap_voltage(self, v: Value, x: Value, ops: Ops) -> Value:
        """The v_g [V] with v_g + drop sinh(v_g / v_t) = v."""
        gap, b = self._gap(x), ops.abs(v) / self.v_t
        drop = self.rho * self.j0 / self.v_t * (self.l0 - gap) * ops.exp(-gap / self.x_t)
        t = b / (drop + 1e-30)
        above = ops.minimum(b, ops.log(t + ops.sqrt(1.0 + t * t)))  # each part alone would take all of v
        sinh = ops.sinh(above)
        start = above - (above + drop * sinh - b) / (1.0 + drop * ops.sqrt(1.0 + sinh * sinh))
        y = ops.fixed_point(lambda y: b - drop * ops.sinh(y), start, 0.0, above)
        return ops.select(v, 1.0, -1.0) * self.v_t * y

    def _heat(self, v: Value, i: Value, ops: Ops) -> Value:
        """kT [V] where the current is i."""
        return K_OVER_Q * (self.t_ini + self.r_th * ops.abs(v * i))

    def _gap_rate(self, v: Value, x: Value, kt: Value, ops: Ops) -> Value:
        gap, over_gap = self._gap(x), self._gap_voltage(v, x, ops)
        attempt = self.a * self.f
        top = ops.log(CEILING / attempt)
        set_ = attempt * ops.exp(ops.minimum((self.alpha * ops.relu(over_gap) / gap - self.ea) / kt, top))
        back = ops.relu(-over_gap)
        injected = attempt * ops.exp(ops.minimum((self.r * back - self.ei) / kt, top))
        field = self.alpha_h * back / (gap * kt)
        hopped = (
            attempt
            * 0.5
            * (1.0 - ops.exp(-2.0 * field))
            * ops.exp(ops.minimum(field - self.eh / kt, top + math.log(2.0)))
        )
        speed = ops.select(v, set_, -ops.minimum(injected, hopped))
        return self._windowed(speed / (self.l0 - self.g_min), x, ops)


@dataclass(frozen=True, kw_only=True)
class PKU(_Filament):
    """The gap g of a filament of constant width w in a layer of thickness l0; g = l0 - (l0 - g_min) x.

    v > 0 (SET):   dg/dt = -a f exp(-(ea - alpha v_g / g) / kT)
    v < 0 (RESET): dg/dt = min{ a f exp(-(ei + r v_g) / kT), a f exp(-eh / kT) sinh(-alpha_h v_g / (g kT)) }
    i = i_1 + j0 (pi / 4) w^2 exp(-g / x_t) sinh(v_g / v_t),  v_g = v - (i - i_1) rho (l0 - g) / (pi w^2 / 4)
    i_1 = j0 (pi / 4) (w_cf^2 - w^2) exp(-l0 / x_t) sinh(v / v_t),  T = t_ini + r_th |v i|

    x = 1 is the low resistance, v > 0 SETs; kT is in volts, energies are in eV, speeds end at 100 m/s. The voltage v_g
    of the gap is solved for; what the filament takes of v does not depend on w.

    The width is held: this is the source's law for the first SET (w = w0) until the gap closes, and for the motion of
    all cycles once w = w_cf. That a filament without a gap grows, and conducts as an ohmic wire, is not covered here:
    `PKUGrowing` holds all of it, in two states.

    Source: Huang, Kang et al., after the model RRAM v2.0 beta of Li, Jiang, Guan, Yu, Huang and Gao,
    doi:10.4231/D37H1DN48, and doi:10.1109/LED.2013.2293354.
    """

    name: ClassVar[str] = "pku"

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return self._hopping(v, x, self.w, ops)

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        return self._gap_rate(v, x, self._heat(v, self._current(v, x, ops), ops), ops)


@dataclass(frozen=True, kw_only=True)
class PKUGrowing(_Filament, TwoStateModel):
    """The whole PKU law: the gap g of a filament, and its width b = w + (w_cf - w) y, which grows and never shrinks.

    v > 0 (SET):   dg/dt as in PKU while the gap is open; once it is closed
                   db/dt = (w_eff + w_eff^2 / (2 b)) f exp(-(ea - alpha v / l0) / kT) up to b = w_cf
    v < 0 (RESET): dg/dt as in PKU; b stays as it is
    i as in PKU with b for w; once the gap is closed, and v > 0, i = i_1 + v pi b^2 / (4 rho l0)

    x = 1 is the low resistance: the gap at g_min, which stands for a closed one (the source divides by a gap of zero).
    y = 0 is the width w at first, y = 1 the width w_cf of the layer. Speeds end at 100 m/s. The gap counts as closed
    by a share that rises from 0 to 1 over the last 1e-3 of its way, where the source has a step. A window, if any, is
    one of the gap. With w = w_cf there is nothing to grow.

    Source: Huang, Kang et al., after the model RRAM v2.0 beta of Li, Jiang, Guan, Yu, Huang and Gao,
    doi:10.4231/D37H1DN48, and doi:10.1109/LED.2013.2293354.
    """

    name: ClassVar[str] = "pku_growing"
    second: ClassVar[str] = "width of the filament"

    rho: Value = parameter("ohm m", "resistivity of the filament", role="shape", low=1e-12, high=1.0)
    w_eff: Value = parameter("m", "effective step of the width", role="shape", default=0.5e-9, low=0.0, high=1e-6)

    def _width(self, y: Value) -> Value:
        return self.w + (self.w_cf - self.w) * y

    def _closed(self, v: Value, x: Value, ops: Ops) -> Value:
        """Share of the closed filament: 0 to 1 over the middle half of the last of the way, at v > 0."""
        share = ops.minimum(ops.relu(x - (1.0 - 0.75 * TOUCH)) / (0.5 * TOUCH), 1.0)
        return ops.select(v, share, 0.0)

    def _current(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value:
        b, closed = self._width(y), self._closed(v, x, ops)
        wire = v * b * b / (self.rho * self.l0) + self.j0 * self._beside(v, b, ops)
        return (1.0 - closed) * self._hopping(v, x, b, ops) + closed * (math.pi / 4.0) * wire

    def _rate(self, v: Value, x: Value, ops: Ops, y: Value = 0.0) -> Value:
        return self._gap_rate(v, x, self._heat(v, self._current(v, x, ops, y), ops), ops)

    def _second_rate(self, v: Value, x: Value, ops: Ops, y: Value) -> Value:
        b, kt = self._width(y), self._heat(v, self._current(v, x, ops, y), ops)
        step = self.w_eff + self.w_eff * self.w_eff / (2.0 * b)
        top = ops.log(CEILING / (step * self.f + 1e-30))
        speed = step * self.f * ops.exp(ops.minimum((self.alpha * ops.relu(v) / self.l0 - self.ea) / kt, top))
        room = self.w_cf - self.w
        return self._closed(v, x, ops) * ops.select(room - 1e-15, speed / ops.maximum(room, 1e-15), 0.0)
