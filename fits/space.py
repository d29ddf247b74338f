"""The space a fit searches: which parameters, in which coordinates, and where to look for them in a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace
from devicelab.errors import ParameterError, unknown_name
from devicelab.models import SeparableModel
from devicelab.parameters import Parameter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Coordinate:
    """One axis of the search.

    Args:
        name: Name of the model parameter, or ``x0_k`` for the initial state of trace k.
        unit: Unit of the parameter.
        log: Whether the axis is log10 of the quantity.
        low: Lower end of the box that is screened.
        high: Upper end.
        floor: Hard lower limit.
        ceiling: Hard upper limit.
        reference: For a rate: the drive [V] at which the axis is the device's speed, so that it does not trade off
            against exponent and threshold.
        base: For a resistance that must exceed another one: the name of that one; the axis is log10 of their ratio.
    """

    name: str
    unit: str
    log: bool
    low: float
    high: float
    floor: float
    ceiling: float
    reference: float | None = None
    base: str | None = None

    @property
    def is_state(self) -> bool:
        """Whether it is an initial state, not a parameter."""
        return self.name.startswith("x0_")

    @property
    def plain(self) -> bool:
        """Whether the axis is the quantity itself, or its logarithm."""
        return self.reference is None and self.base is None

    @property
    def label(self) -> str:
        """Name of the axis in lmfit."""
        if self.base is not None:
            return f"log10_{self.name}_over_{self.base}"
        return f"log10_{self.name}" if self.log else self.name


@dataclass(frozen=True)
class Extent:
    """Scales that a set of traces gives."""

    v_positive: float
    v_negative: float
    r_low: float
    r_high: float
    time: float
    charge: float
    current: float

    @classmethod
    def of(cls, traces: list[Trace], masks: list[NDArray[np.bool_]]) -> Extent:
        """Extent of the traces; resistances from samples away from zero voltage and compliance."""
        v_max = max(float(np.abs(trace.v).max()) for trace in traces)
        resistances = []
        for trace, mask in zip(traces, masks, strict=True):
            good = mask & (np.abs(trace.v) > 0.1 * v_max) & (trace.v * trace.i > 0)
            resistances.append(trace.v[good] / trace.i[good])
        r = np.concatenate(resistances)
        if r.size == 0:
            raise ParameterError(
                "the traces hold no sample to fit",
                got=f"largest |v| {v_max:.3g} V, every sample held by compliance or with current against the voltage",
                hint="check the sign of the current and the compliance",
            )
        return cls(
            v_positive=max(float(trace.v.max()) for trace in traces),
            v_negative=max(float(-trace.v.min()) for trace in traces),
            r_low=float(np.quantile(r, 0.01)),
            r_high=float(np.quantile(r, 0.99)),
            time=float(np.median([trace.duration for trace in traces])),
            current=max(float(np.abs(trace.i).max()) for trace in traces),
            charge=float(np.median([np.trapezoid(np.abs(trace.i), trace.t) for trace in traces])),
        )


class Space:
    """Maps a vector of coordinates to a model and initial states, for one vector or a batch of them.

    `axes` are the coordinates; `low`, `high`, `floor`, `ceiling`, `width` (high - low) and `middle` are theirs, [p].

    Args:
        model: Template: its class, window, options, and the values of the parameters that stay fixed.
        extent: Scales of the traces.
        vary: Names of the parameters to fit.
        n_traces: Number of traces; each has its own initial state.
    """

    def __init__(self, model: SeparableModel, extent: Extent, vary: list[str], n_traces: int) -> None:
        self.model = model
        declared = {entry.name: entry for entry in model.parameters()}
        for name in vary:
            if name not in declared:
                raise unknown_name("parameter", name, list(declared))
        axes = [_axis(model, declared[name], extent) for name in vary]
        axes += [Coordinate(f"x0_{k}", "1", False, 0.0, 1.0, 0.0, 1.0) for k in range(n_traces)]
        self.axes = axes
        self.n_traces = n_traces
        self.low, self.high, self.floor, self.ceiling = (
            np.array([getattr(axis, end) for axis in axes]) for end in ("low", "high", "floor", "ceiling")
        )
        self.width, self.middle = self.high - self.low, 0.5 * (self.low + self.high)

    def decode(self, theta: Array) -> tuple[SeparableModel, list[Any]]:
        """Model and initial states from coordinates [p] or [b, p]; the batch shows up in the parameters."""
        values: dict[str, Any] = {}
        rates = []
        for k, axis in enumerate(self.axes):
            column = theta[..., k]
            value = 10.0**column if axis.log else column
            if axis.reference is not None:
                rates.append((axis, value))
            values[axis.name] = value if axis.base is None else value * values.get(axis.base, self._held(axis.base))
        x0 = [values.pop(f"x0_{k}") for k in range(self.n_traces)]
        model = self.model.bind(**values)
        if rates:
            model = model.bind(**{axis.name: value / _unit_speed(model, axis) for axis, value in rates})
        return model, x0

    def _held(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode(self, model: Model, x0: Sequence[float]) -> Array:
        """Coordinates [p] of a model and initial states, within the hard limits: a start for a descent."""
        out = []
        for axis in self.axes:
            value = x0[int(axis.name[3:])] if axis.is_state else getattr(model, axis.name)
            if axis.reference is not None:
                value = value * float(_unit_speed(model, axis))
            if axis.base is not None:
                value = value / getattr(model, axis.base)
            out.append(np.log10(value) if axis.log else value)
        return np.asarray(np.clip(np.array(out, dtype=float), self.floor, self.ceiling))

    def physical(self, theta: Array) -> Array:
        """Model parameters and initial states, log10 where the axis is, shape as `theta`."""
        model, x0 = self.decode(theta)
        columns = []
        for axis in self.axes:
            raw = x0[int(axis.name[3:])] if axis.is_state else getattr(model, axis.name)
            columns.append(np.log10(raw) if axis.log else raw)
        return np.stack(columns, axis=-1)


def _unit_speed(model: Model, axis: Coordinate) -> Any:
    """Speed at the reference drive for a unit rate; tiny rather than zero below the threshold."""
    alone = {entry.name: 0.0 for entry in model.parameters() if entry.role == "rate"}
    unit: Any = model.bind(**{**alone, axis.name: 1.0})
    return np.maximum(np.abs(unit._speed(axis.reference, model.ops())), 1e-30)


def _axis(model: SeparableModel, entry: Parameter, extent: Extent) -> Coordinate:
    v_plus, v_minus = extent.v_positive, extent.v_negative
    if model.polarity < 0:
        v_plus, v_minus = v_minus, v_plus
    v_max = max(v_plus, v_minus)

    def linear(low: float, high: float, floor: float, ceiling: float) -> Coordinate:
        return Coordinate(entry.name, entry.unit, False, low, high, max(floor, entry.low), min(ceiling, entry.high))

    if entry.role == "resistance":
        r_low, r_high = np.log10(extent.r_low), np.log10(extent.r_high)
        if entry.name == "r_off" and hasattr(model, "r_on"):
            span = r_high - r_low
            return Coordinate(
                "r_off", entry.unit, True, max(0.0, span - 0.7), span + 1.0, 1e-4, span + 4.0, base="r_on"
            )
        return Coordinate(entry.name, entry.unit, True, r_low - 0.3, r_low + 0.5, r_low - 1.5, r_high + 1.0)
    if entry.role == "current":
        scale = float(np.log10(extent.current))
        return Coordinate(entry.name, entry.unit, True, scale - 4.0, scale + 1.0, scale - 9.0, scale + 4.0)
    if entry.role == "threshold":
        top = v_minus if entry.high <= 0 else v_plus
        top = top if top > 0.05 * v_max else v_max
        ends = (0.03 * top, 0.97 * top, 0.01 * top, 0.999 * top)
        return linear(-ends[1], -ends[0], -ends[3], -ends[2]) if entry.high <= 0 else linear(*ends)
    if entry.role == "rate":
        return _rate_axis(model, entry, extent, v_plus, v_minus)
    if entry.role == "exponent":
        return linear(0.5, 6.0, 0.2, 15.0)
    if entry.role == "curvature":
        return linear(0.0, 5.0 / v_max, 0.0, 20.0 / v_max)
    here = float(getattr(model, entry.name))
    low, high = max(entry.low, here / 3), min(entry.high, 3 * here)
    return linear(low, high, max(entry.low, here / 30), min(entry.high, 30 * here))


def _rate_axis(model: SeparableModel, entry: Parameter, extent: Extent, v_plus: float, v_minus: float) -> Coordinate:
    if entry.unit == "1/C":
        scale = -np.log10(extent.charge)
        return Coordinate(entry.name, entry.unit, True, scale - 1.0, scale + 2.0, scale - 4.0, scale + 6.0)
    scale = -np.log10(extent.time)
    alone = {other.name: 0.0 for other in model.parameters() if other.role == "rate"}
    alone[entry.name] = 1.0
    thresholds = {
        other.name: np.sign(other.low + other.high) * 1e-3 for other in model.parameters() if other.role == "threshold"
    }
    unit = model.bind(**alone, **thresholds)
    reference = v_plus if abs(float(unit._speed(1.0, model.ops()))) > 0 else -v_minus
    return Coordinate(entry.name, entry.unit, True, scale - 0.5, scale + 5.0, scale - 4.0, scale + 12.0, reference)


def fit_names(model: Model) -> list[str]:
    """Parameters that a fit varies unless told otherwise: those that traces can determine."""
    return [entry.name for entry in model.parameters() if entry.fit]
