"""JART VCM v1b: oxygen vacancies move between a plug and a disc under a Schottky contact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import Model, check_order
from .stanford import K_OVER_Q

CHARGE = 1.602176634e-19
PLANCK = 6.62607015e-34
ELECTRON_MASS = 9.1093837015e-31
PERMITTIVITY = 8.8541878128e-12
VALENCE = 2.0
"""Charge number of a vacancy."""

TUNNEL = (PLANCK / (4.0 * math.pi)) ** 2 * VALENCE / (ELECTRON_MASS * PERMITTIVITY)
"""W^2 eps / n [V^2 m^3]; one constant, because ngspice does not divide by less than 1e-32."""

LEAST_FIELD = 1e-9
"""Below 1 nV the contact is ohmic; without a barrier its current would grow with the 3/2 power of the voltage."""

FIRST_DROP = 0.01
"""Voltage of the contact [V] at which its equation begins to be solved: on the branch that starts at 0 V."""

SMALL = 0.03
"""Below it u - tanh(u) is its series."""


@dataclass(frozen=True, kw_only=True)
class JARTVCM(Model):
    """A Schottky contact in series with disc, plug, oxide and lines; n is the vacancy concentration of the disc.

    v = V_s + i (R_disc + R_plug + R_s)
    R_disc = l_disc / (2 q n mu A),  R_plug = (l_cell - l_disc) / (2 q n_plug mu A)
    R_s = r_tiox + r_line (1 + r_line alpha_line r_th_line i^2),  A = pi r^2
    T = t_ini + R_th i (V_s + i (R_disc + R_plug)),  R_th = r_th for v < 0, r_th reset_scale for v > 0
    v > 0: i = A A* T^2 exp(-phi / kT) [exp(V_s / kT) - 1]
    v < 0: i = -A A* (T^2 / kT) sqrt(pi W (|V_s| + phi / cosh^2 u)) exp(-phi tanh(u) / W) [exp(|V_s| / W') - 1]
           W = (h / 4 pi) sqrt(2 n / (m eps)),  u = W / kT,  W' = W / (u - tanh u)
    phi = phi0 - [2 q^3 n (phi0 - phi_n - V_s) / (8 pi^2 eps_phi^3)]^(1/4), between 0 and phi0
    |dn/dt| = (n + n_plug) a nu / (2 l_disc) F [exp(-dW_min / kT) - exp(-dW_max / kT)]
    dW_min, dW_max = dw [sqrt(1 - g^2) -+ g pi / 2 + g asin g],  g = 2 a E / (pi dw)
    v > 0: E = [V_s + i (R_disc + R_plug)] / l_cell,  F = 1 - (n_min / n)^10
    v < 0: E = i R_disc / l_disc,  F = 1 - (n / n_max)^10

    n = n_min (n_max / n_min)^x: x = 1 is the low resistance, v < 0 SETs. The coordinate is logarithmic because the
    resistance is: nine tenths of its range lie in the lowest tenth of n. kT is in volts, energies are in eV.

    Experimental: deterministic, and compared with one independent source only, see docs/models.md. Of several solutions
    for V_s at v > 0 (phi rises faster than V_s near phi0 - phi_n) this is the one that starts at 0 V. g ends at 1.

    Source: Bengel et al., IEEE Trans. Circuits Syst. I 67, 4618 (2020), doi:10.1109/TCSI.2020.3018502; Cueppers et al.,
    APL Mater. 7, 091105 (2019), doi:10.1063/1.5108654.
    """

    name: ClassVar[str] = "jart_vcm"
    set_sign: ClassVar[int] = -1

    n_min: Value = parameter("1/m^3", "vacancies in the disc at x = 0", role="shape", low=1e20, high=1e30)
    n_max: Value = parameter("1/m^3", "vacancies in the disc at x = 1", role="shape", low=1e20, high=1e30)
    n_plug: Value = parameter("1/m^3", "vacancies in the plug", role="shape", low=1e20, high=1e30)
    nu: Value = parameter("1/s", "attempt frequency", role="rate", low=1e-60, high=1e60)
    a: Value = parameter("m", "hopping distance", role="shape", low=1e-12, high=1e-6, fit=False)
    dw: Value = parameter("eV", "activation energy of hopping", role="shape", low=0.01, high=10)
    r: Value = parameter("m", "radius of the filament", role="shape", low=1e-10, high=1e-5)
    l_cell: Value = parameter("m", "length of disc and plug", role="shape", low=1e-10, high=1e-6, fit=False)
    l_disc: Value = parameter("m", "length of the disc", role="shape", low=1e-11, high=1e-6)
    mobility: Value = parameter("m^2/(V s)", "mobility of electrons", role="shape", low=1e-12, high=1.0)
    phi0: Value = parameter("V", "barrier of the contact", role="shape", low=0.01, high=10)
    phi_n: Value = parameter("V", "Fermi level below the band edge", role="shape", low=0.0, high=10)
    eps: Value = parameter("1", "relative permittivity", role="shape", low=1.0, high=1e4, fit=False)
    eps_phi: Value = parameter("1", "the same for the image force", role="shape", low=1.0, high=1e4, fit=False)
    richardson: Value = parameter("A/(m K)^2", "Richardson constant", role="current", low=1.0, high=1e9, fit=False)
    r_th: Value = parameter("K/W", "thermal resistance at SET", role="shape", low=0.0, high=1e12)
    reset_scale: Value = parameter("1", "thermal resistance at RESET over that", role="shape", low=0.0, high=10)
    r_tiox: Value = parameter("ohm", "resistance of the TiOx layer", role="shape", low=0.0, high=1e9)
    r_line: Value = parameter("ohm", "resistance of cold lines", role="shape", low=1e-6, high=1e9)
    r_th_line: Value = parameter("K/W", "thermal resistance of lines", role="shape", low=1e-6, high=1e12, fit=False)
    alpha_line: Value = parameter("1/K", "temperature coefficient", role="shape", low=1e-9, high=1.0, fit=False)
    t_ini: Value = parameter("K", "ambient temperature", role="shape", default=293.0, low=1.0, high=2e3, fit=False)

    def _check(self) -> None:
        check_order("JARTVCM", "n_min", self.n_min, "n_max", self.n_max, "1/m^3")
        check_order("JARTVCM", "l_disc", self.l_disc, "l_cell", self.l_cell, "m")

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        point = self._operating_point(v, x, ops)
        return ops.select(v, 1.0, -1.0) * point.drop / point.resistance

    def _rate(self, v: Value, x: Value, ops: Ops) -> Value:
        point = self._operating_point(v, x, ops)
        density = self._concentration(x, ops)
        field = ops.select(v, point.heated / self.l_cell, point.disc / self.l_disc)
        step = self.a * field * VALENCE
        tilt = ops.let(ops.minimum(step / (math.pi * self.dw), 1.0))
        kt = K_OVER_Q * point.temperature
        flat = ops.sqrt(ops.maximum(1.0 - tilt * tilt, 0.0))
        barrier = self.dw * (flat - tilt * (math.pi / 2.0 - ops.arcsin(tilt)))
        hop = ops.exp(-barrier / kt) * (1.0 - ops.exp(-math.pi * self.dw * tilt / kt))
        span = ops.log(self.n_max / self.n_min)
        left = ops.select(v, x, 1.0 - x)
        edge = 1.0 - ops.exp(-10.0 * span * left)
        speed = self.nu * self.a / (2.0 * self.l_disc * span) * (1.0 + self.n_plug / density) * hop * edge
        return self._windowed(ops.select(v, -speed, speed), x, ops)

    def _concentration(self, x: Value, ops: Ops) -> Value:
        return self.n_max * ops.exp(-(1.0 - x) * ops.log(self.n_max / self.n_min))

    def _operating_point(self, v: Value, x: Value, ops: Ops) -> OperatingPoint:
        """How v divides; solved for the logarithm of the resistors' voltage over that of the contact."""
        area = math.pi * self.r * self.r
        density = self._concentration(x, ops)
        conductivity = VALENCE * CHARGE * self.mobility * area
        disc = ops.let(self.l_disc / (conductivity * density))
        heated = disc + (self.l_cell - self.l_disc) / (conductivity * self.n_plug)
        resistance = ops.let(heated + self.r_tiox + self.r_line)
        cubic = self.r_line * self.r_line * self.alpha_line * self.r_th_line / (resistance * resistance * resistance)
        cubic = ops.let(cubic)
        size = ops.abs(v)
        most = ops.let(size * _drop_of_all(ops.let(1.5 * size * ops.sqrt(3.0 * cubic)), ops))
        tunnel = ops.let(ops.sqrt(density * TUNNEL / self.eps))
        image = CHARGE / PERMITTIVITY / self.eps_phi
        lowering = ops.let(ops.sqrt(ops.sqrt(VALENCE * density * image * image * image / (8.0 * math.pi**2))))
        thermal = self.r_th * ops.select(v, self.reset_scale, 1.0) / resistance

        def parts(y: Value) -> tuple[Value, Value, Value]:
            """Drop over the resistors when cold, voltage of the contact, temperature."""
            drop = ops.let(most / (1.0 + ops.exp(-y)))
            contact = ops.let(most / (1.0 + ops.exp(y)) * (1.0 + cubic * (most * (most + drop) + drop * drop)))
            return drop, contact, ops.let(self.t_ini + thermal * drop * (contact + drop * heated / resistance))

        def balance(y: Value) -> Value:
            drop, contact, temperature = parts(y)
            chord = resistance * (1.0 + cubic * (most * (most + drop) + drop * drop))
            return ops.log(chord) + self._log_conductance(v, contact, temperature, tunnel, lowering, area, ops)

        y = ops.fixed_point(balance, ops.log(1.0 + size / FIRST_DROP), -60.0, 60.0)
        drop, contact, temperature = parts(y)
        ratio = heated / resistance
        return OperatingPoint(drop, resistance, contact + drop * ratio, drop * disc / resistance, temperature)

    def _log_conductance(
        self, v: Value, contact: Value, temperature: Value, tunnel: Value, lowering: Value, area: Value, ops: Ops
    ) -> Value:
        """Logarithm of current over voltage of the contact."""
        temperature = ops.maximum(temperature, self.t_ini)  # as it is; Newton's method in ngspice has to be told
        kt = K_OVER_Q * temperature
        u = ops.let(tunnel / kt)
        steep = ops.let(ops.tanh(u))
        depth = self.phi0 - self.phi_n - ops.select(v, contact, -contact)
        phi = ops.let(ops.relu(self.phi0 - lowering * ops.sqrt(ops.sqrt(ops.relu(depth)))))
        scale = ops.select(v, kt, tunnel / _excess(u, steep, ops))
        field = ops.log(math.pi * tunnel * ops.maximum(contact + phi * (1.0 - steep * steep), LEAST_FIELD))
        emitted = ops.select(
            v, ops.log(temperature) - phi / kt, 0.5 * field - phi * steep / tunnel - math.log(K_OVER_Q)
        )
        half = ops.let(ops.minimum(0.5 * contact / scale, 300.0))
        return ops.log(self.richardson * area * temperature / scale) + emitted + half + ops.log(ops.sinhc(half))


@dataclass(frozen=True)
class OperatingPoint:
    """How the voltage divides.

    Args:
        drop: Current times the cold resistance [V].
        resistance: Cold resistance of everything but the contact [ohm].
        heated: Voltage of contact, disc and plug [V].
        disc: Voltage of the disc [V].
        temperature: Of the filament [K].
    """

    drop: Value
    resistance: Value
    heated: Value
    disc: Value
    temperature: Value


def _drop_of_all(t: Value, ops: Ops) -> Value:
    """w in w + (4 / 27) t^2 w^3 = 1: w = 3 sinh(asinh(t) / 3) / t."""
    far = ops.log(t + ops.sqrt(1.0 + t * t)) / ops.maximum(t, 0.5 * SMALL)
    s = t * t
    third = ops.let(ops.select(t - SMALL, far, 1.0 - s * (1.0 / 6.0 - s * (3.0 / 40.0 - s * (15.0 / 336.0)))))
    return third * ops.sinhc(third * t / 3.0)


def _excess(u: Value, tanh: Value, ops: Ops) -> Value:
    """u - tanh(u) without cancellation."""
    small = ops.minimum(u, SMALL)
    s = small * small
    series = small * s * (1.0 / 3.0 - s * (2.0 / 15.0 - s * (17.0 / 315.0 - s * (62.0 / 2835.0))))
    return ops.select(u - SMALL, u - tanh, series)
