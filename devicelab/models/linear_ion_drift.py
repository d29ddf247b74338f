"""Linear ion drift: two resistances in series whose boundary moves with the charge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from ..coordinates import Coordinate, Quadratic
from ..ops import Ops, Value
from ..parameters import parameter
from ..windows import NoWindow, Window
from .base import SeparableModel, check_resistances, profile_table


@dataclass(frozen=True, kw_only=True)
class LinearIonDrift(SeparableModel):
    """v = [r_on x + r_off (1 - x)] i,  dx/dt = k i f(x).

    x = 1 is the low resistance; v > 0 SETs. Only k = mu_v r_on / D^2 is observable, so it is the parameter; use
    `from_mobility` for published mobilities and thicknesses.

    Source: Strukov et al., Nature 453, 80 (2008), doi:10.1038/nature06932.
    """

    name: ClassVar[str] = "linear_ion_drift"
    set_sign: ClassVar[int] = 1

    r_on: Value = parameter("ohm", "resistance at x = 1", role="resistance", low=1e-3, high=1e15)
    r_off: Value = parameter("ohm", "resistance at x = 0", role="resistance", low=1e-3, high=1e15)
    k: Value = parameter("1/C", "motion of the state per charge", role="rate", low=1e-12, high=1e30)

    @classmethod
    def from_mobility(
        cls,
        *,
        mu_v: float,
        d: float,
        r_on: float,
        r_off: float,
        window: Window | None = None,
        polarity: int = 1,
    ) -> Self:
        """The model from an ion mobility `mu_v` [m^2/(V s)] and a thickness `d` [m]."""
        k = mu_v * r_on / d**2
        return cls(r_on=r_on, r_off=r_off, k=k, window=window or NoWindow(), polarity=polarity)

    def _check(self) -> None:
        check_resistances("LinearIonDrift", self.r_on, self.r_off)

    def _resistance(self, x: Value) -> Value:
        return self.r_off + (self.r_on - self.r_off) * x

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        return v / self._resistance(x)

    def _speed(self, v: Value, ops: Ops) -> Value:
        return self.k * v

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        return self.k * 0.5 * (v0 + v1) * dt  # the flux: exact on a ramp

    def _profile(self, x: Value, direction: int, ops: Ops) -> Value:
        return self.window._profile(x, direction, ops) / self._resistance(x)

    def _coordinate(self, direction: int, ops: Ops, like: Value) -> Coordinate:
        if isinstance(self.window, NoWindow):
            return Quadratic(self.r_on, self.r_off, ops)
        return profile_table(self, direction, ops, like)
