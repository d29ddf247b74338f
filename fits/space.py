"""The space a fit searches: which parameters, in which coordinates, and where to look for them in a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace
from devicelab.errors import ParameterError, TraceError, unknown_name
from devicelab.models import SeparableModel
from devicelab.parameters import Parameter

Array = NDArray[np.float64]

SERIES = "series_resistance"
"""Name of the coordinate of a fitted series resistance."""

LEAST_UNIT = 1e-30
"""Speed or current of a unit parameter below which a reference says nothing: it divides, and must not be zero."""


RUNAWAY = 2.0
"""Decades above the box from which a reference speed is that of a device that runs away."""

SEEN = 4.0
"""Decades below the top of the box at which speeds are that a sweep shows well."""

GENTLE = 5.0
"""Largest curvature looked for in traces that show none steeper, in units of the inverse of the largest voltage."""

ACROSS = 0.3
"""Share of the source's voltage at which the current of a junction behind a fitted resistance has its scale: at all of
it the junction would conduct decades more than the resistance lets through."""


@dataclass(frozen=True)
class Coordinate:
    """One axis of the search.

    Args:
        name: Name of the model parameter, ``series_resistance``, or ``x0_k`` for the initial state of trace k.
        unit: Unit of the parameter.
        log: Whether the axis is log10 of the quantity.
        low: Lower end of the box that is screened.
        high: Upper end.
        floor: Hard lower limit.
        ceiling: Hard upper limit.
        role: Role of the parameter; "state" for an initial state, "circuit" for the series resistance.
        reference: The drive [V] at which the axis is the device's speed (for a rate) or its current (for a scale of the
            current), so that it does not trade off against exponent, threshold and curvature.
        state: The state at that reference.
        base: For a resistance that must exceed another one: the name of that one; the axis is log10 of their ratio.
        sign: -1 where the axis is the logarithm of the magnitude of a negative quantity.
    """

    name: str
    unit: str
    log: bool
    low: float
    high: float
    floor: float
    ceiling: float
    role: str = "shape"
    reference: float | None = None
    state: float = 0.5
    base: str | None = None
    sign: float = 1.0

    @property
    def is_state(self) -> bool:
        """Whether it is an initial state, not a parameter."""
        return self.role == "state"

    @property
    def is_parameter(self) -> bool:
        """Whether it is a parameter of the model."""
        return self.role not in ("state", "circuit")

    @property
    def plain(self) -> bool:
        """Whether the axis is the quantity itself, or its logarithm."""
        return self.reference is None and self.base is None and self.sign > 0

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
    i_positive: float
    i_negative: float
    curvature: float

    @property
    def gentle(self) -> float:
        """The curvature [1/V] up to which the current does not look like that of a junction."""
        return GENTLE / max(self.v_positive, self.v_negative)

    @property
    def current(self) -> float:
        """Largest current of either sign [A]."""
        return max(self.i_positive, self.i_negative)

    @classmethod
    def of(cls, traces: list[Trace], masks: list[NDArray[np.bool_]], series_resistance: float = 0.0) -> Extent:
        """Extent of the traces; resistances from samples away from zero voltage and compliance.

        Args:
            traces: Voltage of the source and current.
            masks: Samples to look at.
            series_resistance: Known resistance between source and device [ohm], taken off.
        """
        voltages = [trace.v - series_resistance * trace.i for trace in traces]
        v_max = max(float(np.abs(v).max()) for v in voltages)
        resistances = []
        for trace, v, mask in zip(traces, voltages, masks, strict=True):
            good = mask & (np.abs(trace.v) > 0.1 * np.abs(trace.v).max()) & (v * trace.i > 0)
            resistances.append(v[good] / trace.i[good])
        r = np.concatenate(resistances)
        if r.size == 0:
            raise TraceError(
                "the traces hold no sample to fit",
                got=f"largest |v| {v_max:.3g} V, every sample held by compliance or with current against the voltage",
                hint="check the sign of the current, the compliance and the series resistance",
            )
        return cls(
            v_positive=max(float(v.max()) for v in voltages),
            v_negative=max(float(-v.min()) for v in voltages),
            r_low=float(np.quantile(r, 0.01)),
            r_high=float(np.quantile(r, 0.99)),
            time=float(np.median([trace.duration for trace in traces])),
            charge=float(np.median([np.trapezoid(np.abs(trace.i), trace.t) for trace in traces])),
            i_positive=max(float(trace.i[mask].max(initial=0.0)) for trace, mask in zip(traces, masks, strict=True)),
            i_negative=max(float(-trace.i[mask].min(initial=0.0)) for trace, mask in zip(traces, masks, strict=True)),
            curvature=max(_curvature(v, trace.i, mask) for v, trace, mask in zip(voltages, traces, masks, strict=True)),
        )


def _curvature(v: Array, i: Array, mask: NDArray[np.bool_]) -> float:
    """b [1/V] of a current like sinh(b v) on the ways back to 0 V, where few devices switch; 0 for an ohmic one.

    d ln|i| / d|v| is b coth(b v), 1 / |v| for an ohmic current. It is taken in eighths of the way; their upper quartile
    sees a junction whose series resistance takes the rest of the voltage, and no single jump.
    """
    found = [0.0]
    for sign in (1, -1):
        u, top = sign * v, float((sign * v).max())
        back = mask & (u > 0.1 * top) & (sign * i > 0) & (np.gradient(u) < 0) if top > 0 else np.zeros_like(mask)
        slopes = []
        for low, high in pairwise(np.linspace(0.1, 1.0, 9) * top):
            part = back & (u > low) & (u <= high)
            if part.sum() >= 2 and np.ptp(u[part]) > 0.25 * (high - low):
                slopes.append(float(np.polyfit(u[part], np.log(sign * i[part]), 1)[0]) - 2.0 / (low + high))
        if len(slopes) >= 4:
            found.append(float(np.quantile(slopes, 0.75)))
    return max(found)


class Space:
    """Maps a vector of coordinates to a model and initial states, for one vector or a batch of them.

    `axes` are the coordinates; `low`, `high`, `floor`, `ceiling`, `width` (high - low) and `middle` are theirs, [p].

    Args:
        model: Template: its class, window, options, and the values of the parameters that stay fixed.
        extent: Scales of the traces.
        vary: Names of the parameters to fit.
        n_traces: Number of traces; each has its own initial state.
        series_resistance: Between source and device [ohm], if known.
        fit_series: Fit it instead.
        x0: Initial states, where they are known and not fitted.
    """

    def __init__(
        self,
        model: Model,
        extent: Extent,
        vary: Sequence[str],
        n_traces: int,
        *,
        series_resistance: float = 0.0,
        fit_series: bool = False,
        x0: Sequence[float] | None = None,
    ) -> None:
        self.model = model
        declared = {entry.name: entry for entry in model.parameters()}
        for name in vary:
            if name not in declared:
                raise unknown_name("parameter", name, list(declared))
        axes = [_axis(model, declared[name], extent, fit_series) for name in vary]
        if fit_series:  # the total is never below the series resistance, so the least total is its ceiling
            top = extent.r_low
            axes.append(Coordinate(SERIES, "ohm", False, 0.0, top, 0.0, 1.2 * top, role="circuit"))
        if x0 is None:
            axes += [Coordinate(f"x0_{k}", "1", False, 0.0, 1.0, 0.0, 1.0, role="state") for k in range(n_traces)]
        self.axes = axes
        self.n_traces = n_traces
        self._x0 = x0
        self._series = series_resistance
        self._limits = {name: (declared[name].low, declared[name].high) for name in vary}
        self._referred = [axis for axis in axes if axis.reference is not None]
        self._referred.sort(key=lambda axis: axis.role == "rate")  # a rate may depend on the current
        self.low, self.high, self.floor, self.ceiling = (
            np.array([getattr(axis, end) for axis in axes], dtype=float) for end in ("low", "high", "floor", "ceiling")
        )
        self.width, self.middle = self.high - self.low, 0.5 * (self.low + self.high)

    def index(self, name: str) -> int:
        """Position of the coordinate of a parameter, ``series_resistance`` or ``x0_k``."""
        names = [axis.name for axis in self.axes]
        if name not in names:
            raise unknown_name("fitted parameter", name, names)
        return names.index(name)

    def decode(self, theta: Array) -> tuple[Model, list[Any]]:
        """Model and initial states from coordinates [p] or [b, p]; the batch shows up in the parameters."""
        values = self._quantities(theta)
        x0 = self._x0 if self._x0 is not None else [values.pop(f"x0_{k}") for k in range(self.n_traces)]
        values.pop(SERIES, None)
        referred = [axis.name for axis in self._referred]
        model = self.model.bind(**{name: value for name, value in values.items() if name not in referred})
        for axis in self._referred:  # those that follow have the template's values, as in `encode`
            model = model.bind(
                **{axis.name: np.clip(values[axis.name] / unit_response(model, axis), *self._limits[axis.name])}
            )
        return model, list(x0)

    def series(self, theta: Array) -> Any:
        """Series resistance [ohm] of coordinates [p] or [b, p]."""
        names = [axis.name for axis in self.axes]
        return theta[..., names.index(SERIES)] if SERIES in names else self._series

    def _quantities(self, theta: Array) -> dict[str, Any]:
        """The quantity of each axis: the parameter itself but where a reference stands for it."""
        values: dict[str, Any] = {}
        for k, axis in enumerate(self.axes):
            column = theta[..., k]
            value = axis.sign * 10.0**column if axis.log else column
            if axis.base is not None:
                value = value * values.get(axis.base, getattr(self.model, axis.base))
            values[axis.name] = value
        return values

    def encode(self, model: Model, x0: Sequence[float], series_resistance: float = 0.0) -> Array:
        """Coordinates [p] of a model, initial states and series resistance, within the hard limits."""
        out = []
        partial = model.bind(**{axis.name: getattr(self.model, axis.name) for axis in self._referred})
        units = {}
        for axis in self._referred:
            units[axis.name] = float(unit_response(partial, axis))
            partial = partial.bind(**{axis.name: getattr(model, axis.name)})
        for axis, value in zip(self.axes, self._values(model, x0, series_resistance), strict=True):
            value = value * units.get(axis.name, 1.0)
            if axis.base is not None:
                value = value / getattr(model, axis.base)
            out.append(np.log10(np.maximum(axis.sign * value, 1e-300)) if axis.log else value)
        return np.asarray(np.clip(np.array(out, dtype=float), self.floor, self.ceiling))

    def physical(self, theta: Array) -> Array:
        """Parameters, series resistance and initial states, log10 of the magnitude where the axis is, as `theta`."""
        model, x0 = self.decode(theta)
        values = self._values(model, x0, self.series(theta))
        pairs = zip(self.axes, values, strict=True)
        return np.stack([np.log10(axis.sign * value) if axis.log else value for axis, value in pairs], axis=-1)

    def _values(self, model: Model, x0: Sequence[Any], series: Any) -> list[Any]:
        return [
            x0[int(axis.name[3:])] if axis.is_state else series if axis.name == SERIES else getattr(model, axis.name)
            for axis in self.axes
        ]


def unit_response(model: Model, axis: Coordinate) -> Any:
    """Speed, or current, at the axis' reference if its parameter were 1 and, for a rate, all other rates 0."""
    with np.errstate(all="ignore"):
        return _unit_response(model, axis)


def _unit_response(model: Model, axis: Coordinate) -> Any:
    ops = model.ops()
    if axis.role != "rate":
        unit: Any = model.bind(**{axis.name: 1.0})
        return np.maximum(np.abs(unit._current(axis.reference, axis.state, ops)), LEAST_UNIT)
    alone = _no_rates(model)
    unit = model.bind(**{**alone, axis.name: 1.0})
    if isinstance(unit, SeparableModel):
        return np.maximum(np.abs(unit._speed(axis.reference, ops)), LEAST_UNIT)
    return np.maximum(np.abs(unit._rate(axis.reference, axis.state, ops)), LEAST_UNIT)


def _no_rates(model: Model) -> dict[str, Any]:
    """Zero for every rate; numpy's, by which a model may divide."""
    return {entry.name: np.float64(0.0) for entry in model.parameters() if entry.role == "rate"}


def fit_names(model: Model) -> list[str]:
    """Parameters that a fit varies unless told otherwise: those that traces can determine.

    A shape parameter that the template sets to zero is left out where zero is not the end of a finite range: there is
    no scale to look for it at.
    """
    return [entry.name for entry in model.parameters() if entry.fit and not _without_scale(model, entry)]


def _without_scale(model: Model, entry: Parameter) -> bool:
    bounded = np.isfinite(entry.high) and entry.unit == "1"
    return entry.role == "shape" and float(getattr(model, entry.name)) == 0.0 and not bounded


def _axis(model: Model, entry: Parameter, extent: Extent, behind_resistor: bool) -> Coordinate:
    v_plus, v_minus = extent.v_positive, extent.v_negative
    if model.polarity < 0:
        v_plus, v_minus = v_minus, v_plus
    v_max = max(v_plus, v_minus)
    here = float(getattr(model, entry.name))

    def linear(low: float, high: float, floor: float, ceiling: float) -> Coordinate:
        floor, ceiling = max(floor, entry.low), min(ceiling, entry.high)
        low, high = max(low, floor), min(high, ceiling)
        return Coordinate(entry.name, entry.unit, False, low, high, floor, ceiling, entry.role)

    def log(low: float, high: float, floor: float, ceiling: float, sign: float = 1.0) -> Coordinate:
        ends = sorted(np.log10(max(sign * end, 1e-300)) for end in (entry.low, entry.high) if sign * end < 1e300)
        floor = max(floor, ends[0]) if sign * entry.low >= 0 or sign < 0 else floor
        ceiling = min(ceiling, ends[-1])
        low, high = max(low, floor), min(high, ceiling)
        return Coordinate(entry.name, entry.unit, True, low, high, floor, ceiling, entry.role, sign=sign)

    if entry.role == "resistance" and entry.low > 0:
        r_low, r_high = np.log10(extent.r_low), np.log10(extent.r_high)
        if entry.name == "r_off" and hasattr(model, "r_on"):
            span = r_high - r_low
            wide = 1.5 if behind_resistor else 0.0
            return Coordinate(
                "r_off", entry.unit, True, max(0.0, span - 0.7), span + 1.0 + wide, 1e-4, span + 4.0 + wide,
                entry.role, base="r_on",
            )  # fmt: skip
        low = r_low - (1.8 if behind_resistor else 0.3)
        return log(low, r_low + 0.5, low - 1.2, r_high + 1.0)
    if entry.role in ("current", "shape"):
        scale = _current_scale(model, entry, extent, v_plus, v_minus, behind_resistor)
        if scale is not None:
            return scale
    if entry.role == "current":
        top = float(np.log10(extent.current))
        return log(top - 4.0, top + 1.0, top - 9.0, top + 4.0)
    if entry.role == "threshold":
        i_plus, i_minus = extent.i_positive, extent.i_negative
        if model.polarity < 0:
            i_plus, i_minus = i_minus, i_plus
        negative = entry.high <= 0
        if entry.unit == "A":  # SET begins in the high resistance, decades below the largest current
            top = float(np.log10(max(i_minus if negative else i_plus, 1e-3 * extent.current)))
            bottom = min(-1.0, float(np.log10(extent.r_low / extent.r_high)))
            return log(top + bottom - 0.5, top, top + bottom - 3.0, top + 0.5, -1.0 if negative else 1.0)
        if entry.unit == "V":
            top = v_minus if negative or _turns_off(model, entry.name) else v_plus
            top = top if top > 0.05 * v_max else v_max
            ends = (0.03 * top, 0.97 * top, 0.01 * top, 0.999 * top)
            return linear(-ends[1], -ends[0], -ends[3], -ends[2]) if negative else linear(*ends)
    if entry.role == "rate":
        return _rate_axis(model, entry, extent, v_plus, v_minus)
    if entry.role == "exponent":
        return linear(0.5, 6.0, 0.2, 15.0)
    if entry.role == "curvature":
        top = max(extent.gentle, 1.5 * extent.curvature)
        return linear(0.0, top, 0.0, 4.0 * top)
    if here == 0.0:
        if not np.isfinite(entry.high):
            raise ParameterError(
                f"{entry.name} is zero in the template, so there is no scale to look for it at",
                got=f"{entry.name} = 0 {entry.unit}",
                hint="a template with the order of magnitude of it, or fixed=[...]",
            )
        return linear(0.0, min(entry.high, 3.0), 0.0, min(entry.high, 30.0))
    if entry.low >= 0.0 and entry.high > 3.0 * here:  # a published value is a scale, good to a factor of three
        middle = float(np.log10(here))
        return log(middle - 0.5, middle + 0.5, middle - 1.5, middle + 1.5)
    size = abs(here)
    return linear(here - 0.7 * size, here + 0.7 * size, here - 5.0 * size, here + 5.0 * size)


def _turns_off(model: Model, name: str) -> bool:
    """Whether a positive threshold belongs to a RESET that the model has at negative voltage."""
    return model.set_sign > 0 and name.endswith(("_off", "_n"))


def _current_scale(
    model: Model, entry: Parameter, extent: Extent, v_plus: float, v_minus: float, behind_resistor: bool
) -> Coordinate | None:
    """The axis of a parameter that the current is proportional to, at some sign of the voltage and end of the state."""
    ops = model.ops()
    for state in (1.0, 0.0):
        for reference in (v_plus, -v_minus):
            if abs(reference) < 0.05 * max(v_plus, v_minus):
                continue
            zero, one, two = (
                abs(float(model.bind(**{entry.name: value})._current(reference, state, ops)))
                for value in (1e-30, 1.0, 2.0)
            )
            if not (np.isfinite(two) and one > 0 and abs(two - 2 * one) < 1e-9 * two and zero < 1e-6 * one):
                continue
            top = float(np.log10(extent.current if state else abs(reference) / extent.r_high))
            low, high = (top - 1.0, top + 1.0) if state else (top - 1.5, top + 1.0)
            if behind_resistor and extent.curvature > extent.gentle:
                reference, low = ACROSS * reference, low - 2.0
            return Coordinate(
                entry.name, entry.unit, True, low, high, low - 4.0, high + 3.0, "current",
                reference=reference, state=state,
            )  # fmt: skip
    return None


def _rate_axis(model: Model, entry: Parameter, extent: Extent, v_plus: float, v_minus: float) -> Coordinate:
    if entry.unit == "1/C":
        scale = -np.log10(extent.charge)
        return Coordinate(entry.name, entry.unit, True, scale - 1.0, scale + 2.0, scale - 4.0, scale + 6.0, entry.role)
    scale = -np.log10(extent.time)
    top = 5.0 if isinstance(model, SeparableModel) else 7.0  # a device that heats itself runs away
    reference, state = _rate_reference(model, entry, v_plus, v_minus, scale + top)
    return Coordinate(
        entry.name, entry.unit, True, scale - 0.5, scale + top, scale - 4.0, scale + 12.0, entry.role,
        reference=reference, state=state,
    )  # fmt: skip


def _rate_reference(model: Model, entry: Parameter, v_plus: float, v_minus: float, top: float) -> tuple[float, float]:
    """The end of the sweep, and a state, at which the rate alone moves the device.

    A device that heats itself may be so hot there in its low resistance that no box holds its speed, which no sweep
    ever shows: one of PKU would do 1e23 a second. Where the template's speed is beyond the top of the box (its decade),
    the point is taken whose speed is nearest to the decades that a sweep shows.
    """
    alone = {**_no_rates(model), entry.name: 1.0}
    if isinstance(model, SeparableModel):  # the thresholds will be fitted, the template's may be out of reach
        thresholds = {
            other.name: np.sign(other.low + other.high) * 1e-3
            for other in model.parameters()
            if other.role == "threshold"
        }
        unit = model.bind(**alone, **thresholds)
        return (v_plus if abs(float(unit._speed(1.0, model.ops()))) > 0 else -v_minus), 0.5
    device = model.bind(**alone)
    points = [(v, x) for x in (0.1, 0.3, 0.5, 0.7, 0.9) for v in (v_plus, -v_minus) if v]
    speeds = []
    with np.errstate(all="ignore"):
        for v, x in points:
            speed = abs(float(device._rate(v, x, model.ops())))
            speeds.append(speed if np.isfinite(speed) else 0.0)
    best = max(speeds)
    usable = [k for k, speed in enumerate(speeds) if speed > 1e-6 * best]
    if not usable:
        return points[0]
    here = [np.log10(max(speed, 1e-300)) + np.log10(abs(float(getattr(model, entry.name)))) for speed in speeds]
    if here[usable[0]] > top + RUNAWAY:
        return points[int(np.argmin(np.abs(np.array(here) - (top - SEEN))))]
    return points[usable[0]]
