"""VTEAM's state with a current whose scale and curvature differ between the signs of the voltage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..ops import Ops, Value
from ..parameters import parameter
from .base import SeparableModel, check_resistances
from .threshold import Branch, overdrive_speed, overdrive_travel, resistance_between


@dataclass(frozen=True, kw_only=True)
class AsymmetricVTEAM(SeparableModel):
    """i = a / R(x) sinh(b v), a and b of each sign, R = r_off + (r_on - r_off) x; the state moves as in `VTEAM`.

    x = 1 is the low resistance, v < 0 SETs.

    Source: current of Messaris et al., IEEE Trans. Comput.-Aided Des. 37, 3151 (2018), eq. 3,
    doi:10.1109/TCAD.2018.2791468; state of Kvatinsky et al. (2015), doi:10.1109/TCSII.2015.2433536.
    """

    name: ClassVar[str] = "vteam_asymmetric"
    set_sign: ClassVar[int] = -1

    r_on: Value = parameter("ohm", "resistance scale at x = 1", role="resistance", low=1e-3, high=1e15)
    r_off: Value = parameter("ohm", "resistance scale at x = 0", role="resistance", low=1e-3, high=1e15)
    v_on: Value = parameter("V", "SET threshold", role="threshold", low=-1e3, high=-1e-6)
    v_off: Value = parameter("V", "RESET threshold", role="threshold", low=1e-6, high=1e3)
    k_on: Value = parameter("1/s", "SET rate at twice the threshold", role="rate", low=1e-60, high=1e60)
    k_off: Value = parameter("1/s", "RESET rate at twice the threshold", role="rate", low=1e-60, high=1e60)
    a_on: Value = parameter("1", "SET exponent", role="exponent", default=3.0, low=0.1, high=30)
    a_off: Value = parameter("1", "RESET exponent", role="exponent", default=3.0, low=0.1, high=30)
    a_p: Value = parameter("1", "scale of the current at v > 0", role="shape", low=1e-12, high=1e6)
    a_n: Value = parameter("1", "scale of the current at v < 0", role="shape", low=1e-12, high=1e6)
    b_p: Value = parameter("1/V", "curvature at v > 0", role="curvature", low=1e-6, high=100)
    b_n: Value = parameter("1/V", "curvature at v < 0", role="curvature", low=1e-6, high=100)

    def _check(self) -> None:
        check_resistances("AsymmetricVTEAM", self.r_on, self.r_off)

    def _current(self, v: Value, x: Value, ops: Ops) -> Value:
        scale, curvature = ops.select(v, self.a_p, self.a_n), ops.select(v, self.b_p, self.b_n)
        return scale / resistance_between(self.r_on, self.r_off, x, "linear", ops) * ops.sinh(curvature * v)

    def _branches(self) -> tuple[Branch, Branch]:
        return Branch(self.k_on, self.v_on, self.a_on), Branch(self.k_off, self.v_off, self.a_off)

    def _speed(self, v: Value, ops: Ops) -> Value:
        return overdrive_speed(v, *self._branches(), ops)

    def _travel(self, v0: Value, v1: Value, dt: Value, ops: Ops) -> Value:
        return overdrive_travel(v0, v1, dt, *self._branches(), ops)
