"""Test benches: a device, its drive and what lies between them, as a complete netlist."""

from __future__ import annotations

import math
from dataclasses import dataclass

from devicelab import Drive
from devicelab.drive import polyline_source
from devicelab.errors import ParameterError, ShapeError
from devicelab.models import Model, TwoStateModel
from devicelab.simulation import check_second_start

from .expression import number
from .subckt import _single, subckt, wrap

STEEPNESS = 1e5
"""Resistance of the compliance limiter beyond its limit, in units of peak voltage / compliance: lets 1e-5 more pass."""

POINTS = 1000
"""Fewest time steps of a drive."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How ngspice integrates.

    Args:
        reltol: Relative tolerance. 1e-8 keeps the state within 2e-5 of the exact one on every drive tried; each
            corner of a pulse restarts the integration, so larger values cost accuracy there first.
        max_step: Longest time step [s]; None for the mean sampling interval of the drive, at least 1000 steps.
        method: ``trap`` or ``gear``; gear is about twice as far off and never rings.
        vntol: Absolute voltage tolerance [V]; the state is a voltage between 0 and 1 V.
        abstol: Absolute current tolerance [A].
    """

    reltol: float = 1e-8
    max_step: float | None = None
    method: str = "trap"
    vntol: float = 1e-9
    abstol: float = 1e-15

    def __post_init__(self) -> None:
        for name, high in (("reltol", 0.1), ("vntol", 1.0), ("abstol", 1.0)):
            value = getattr(self, name)
            if not 0 < value <= high:
                raise ParameterError(f"{name} is out of bounds", got=value, allowed=f"above 0, at most {high:g}")
        if self.max_step is not None and not (math.isfinite(self.max_step) and self.max_step > 0):
            raise ParameterError("max_step is out of bounds", got=self.max_step, allowed="a time above 0 s")
        if self.method not in ("trap", "gear"):
            raise ParameterError("unknown integration method", got=repr(self.method), allowed="trap, gear")

    def options(self) -> str:
        """The .options line."""
        tolerances = f"reltol={number(self.reltol)} vntol={number(self.vntol)} abstol={number(self.abstol)}"
        return f".options method={self.method} {tolerances}"

    def step(self, drive: Drive) -> float:
        """Longest time step for this drive [s]."""
        if self.max_step is not None:
            return self.max_step
        return float(drive.t[-1] - drive.t[0]) / max(POINTS, drive.t.size - 1)


def bench(
    model: Model,
    drive: Drive,
    *,
    x0: float = 0.0,
    series_resistance: float = 0.0,
    compliance: float | None = None,
    settings: Settings | None = None,
    y0: float | None = None,
) -> str:
    """A transient of one device under a voltage drive, ready for `netlists.run` or the ngspice program.

    Source ``V1`` (node ``a``), then the compliance limiter and the series resistor where there are any, then the device
    ``X1`` between node ``p`` and ground, its state on node ``x``, a second one on node ``y``. The current into the
    device is minus ``i(v1)``. Time begins at 0, wherever the drive's own time begins.

    Args:
        model: The device.
        drive: The voltage of the source over time, shape [t].
        x0: State at time 0 (1 = low resistance).
        series_resistance: Between source and device [ohm].
        compliance: Largest current of the source, of either sign [A].
        settings: How ngspice integrates.
        y0: Second state at time 0, of a device that has two; 0 by default.

    Raises:
        ParameterError: If `x0`, `y0`, `series_resistance` or `compliance` is out of bounds, or the model is a batch.
        ShapeError: If the drive is a batch.
    """
    settings = settings or Settings()
    _check(drive, x0, series_resistance, compliance)
    check_second_start(model, y0)
    start = 0.0 if y0 is None else _single("y0", y0)
    two = isinstance(model, TwoStateModel)
    nodes, second = ("x y", f" y0={number(start)}") if two else ("x", "")
    path, elements = _between(drive, series_resistance, compliance)
    step, stop = settings.step(drive), float(drive.t[-1] - drive.t[0])
    lines = [
        f"* {model.name}: test bench",
        subckt(model, "device").rstrip("\n"),
        wrap(f"V1 a 0 {drive.source or polyline_source(drive.t - drive.t[0], drive.v)}"),
        *elements,
        f"X1 {path} 0 {nodes} device x0={number(x0)}{second} tau={number(step)}",
        settings.options(),
        f".save v(a) v({path}) v(x){' v(y)' if two else ''} i(v1)",
        f".tran {number(step)} {number(stop)} 0 {number(step)}",
        ".end",
    ]
    return "\n".join(lines) + "\n"


def device_node(series_resistance: float, compliance: float | None) -> str:
    """The node at the plus terminal of the device in a `bench`."""
    return "p" if series_resistance > 0 or compliance is not None else "a"


def _between(drive: Drive, series_resistance: float, compliance: float | None) -> tuple[str, list[str]]:
    """The device's plus node, and the elements between it and the source."""
    elements = []
    node, end = "a", device_node(series_resistance, compliance)
    if compliance is not None:
        behind = "c" if series_resistance > 0 else end
        limit, slope = number(compliance), number(STEEPNESS * float(abs(drive.v).max() or 1.0) / compliance)
        over = f"(max(-I(V1) - {limit}, 0) + min(-I(V1) + {limit}, 0))"
        elements.append(f"Bc {node} {behind} V={slope} * {over}")
        node = behind
    if series_resistance > 0:
        elements.append(f"Rs {node} {end} {number(series_resistance)}")
    return end, elements


def _check(drive: Drive, x0: float, series_resistance: float, compliance: float | None) -> None:
    if drive.v.ndim != 1:
        raise ShapeError("a test bench has one drive", got=f"v of shape {drive.v.shape}", allowed="shape [t]")
    if not 0 <= x0 <= 1:
        raise ParameterError("x0 is out of bounds", got=x0, allowed="0 (high resistance) to 1 (low resistance)")
    if not (math.isfinite(series_resistance) and series_resistance >= 0):
        raise ParameterError("series_resistance is out of bounds", got=series_resistance, allowed="0 ohm or more")
    if compliance is not None and not (math.isfinite(compliance) and compliance > 0):
        raise ParameterError("compliance is out of bounds", got=compliance, allowed="a current above 0 A, or None")
