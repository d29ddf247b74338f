"""Cycle-to-cycle variability: parameters drawn anew once a switching event, never once a time step.

An event is a SET or a RESET: the state has turned round and moves the other way. A voltage of one sign moves a device
one way, so an event can only begin where the voltage crosses zero, and it does begin there if the stretch until the
next crossing moves the state at all; a read below the threshold, or a second SET pulse after the first, draws nothing.

At zero volts no current flows whatever the resistance, so the current is continuous across an event. The resistance is
not, in general. What a SET draws describes the filament that it is about to form (r_on, the SET threshold and rate),
what a RESET draws the gap that it is about to open (r_off, the RESET threshold and rate): a device that switches fully
begins a SET at x = 0, where R = r_off was drawn by the RESET before, and keeps its resistance too. One that has stopped
at x begins the next event with a step of its conductance in proportion to the share of the newly drawn end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import exact
from .circuit import plain
from .drive import Drive
from .errors import ParameterError, unknown_name
from .models.base import Model, SeparableModel, check_one_state
from .ops import NUMPY, Value
from .simulation import simulate, split_at_zero, with_time_axis
from .trace import Trace
from .variability import Generator, autoregressive, correlation_factor

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

SET, RESET = 1, -1
ORDERED = (("r_on", "r_off"), ("r_low", "r_high"))
"""Pairs whose first stays below the second by construction."""

MOTION = ("threshold", "rate", "exponent")
"""Roles of parameters that the motion sees; the current sees all others."""


ROUNDING = 1e-9
"""Voltages below this share of the largest are zero."""


@dataclass(frozen=True, kw_only=True)
class EventSpread:
    """How much switching events differ.

    Values are lognormal around the model's own (the median), truncated at 6 sigma; signs stay. r_on is drawn below and
    r_off above their geometric mean, so r_on < r_off whichever events they come from.

    Args:
        set: Coefficient of variation by parameter, drawn at every SET.
        reset: The same for every RESET. A name in both is drawn at every event.
        memory: Events of the same kind after which the autocorrelation is 1/e (AR(1), the sampled Ornstein-Uhlenbeck
            process); 0: independent.
        correlation: Correlation of the logarithms within an event, by pair of names of the same kind.

    Raises:
        ParameterError: If a coefficient of variation or the memory is negative.
    """

    set: dict[str, float] = field(default_factory=dict)
    reset: dict[str, float] = field(default_factory=dict)
    memory: float = 0.0
    correlation: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {**self.set, **self.reset, "memory": self.memory}.items():
            if not (np.isfinite(value) and value >= 0):
                raise ParameterError(f"{name}: a spread or memory must not be negative", got=value, allowed=">= 0")


@dataclass(frozen=True)
class Events:
    """The switching events of a device.

    Args:
        t_set: Where each SET begins [s], [n]: the zero of the voltage before it.
        t_reset: Where each RESET begins [s], [m].
        set: Values drawn at each SET by parameter, [n].
        reset: Values drawn at each RESET by parameter, [m].
    """

    t_set: Array
    t_reset: Array
    set: dict[str, Array]
    reset: dict[str, Array]


def simulate_events(
    model: Model, drive: Drive, spread: EventSpread, rng: Generator, *, x0: Value = 0.0, **circuit: Any
) -> tuple[Trace, list[Events]]:
    """A device whose parameters are drawn anew at every switching event.

    Of a separable model under a bare voltage source, ten thousand cycles of a thousand samples are one pass over the
    samples; other models are solved from zero crossing to zero crossing.

    Args:
        model: The device; its values are the medians. Parameters of shape [b] give b devices with draws of their own.
        drive: Voltage over time, [t].
        spread: How much events differ.
        rng: numpy or torch generator.
        x0: State at the first sample, scalar or [b].
        circuit: `series_resistance` and `compliance`, as in `simulate`.

    Returns:
        Trace of shape [t] or [b, t], and the events of each device.

    Raises:
        ParameterError: If a name is unknown, a parameter with a spread is zero, or a value leaves its bounds.
        StepError: As in `simulate`.
    """
    check_one_state(model, "simulations of switching events")
    if drive.v.ndim != 1:
        raise ParameterError("one drive for all devices", got=f"shape {drive.v.shape}", allowed="[t]")
    _check_names(model, spread)
    values = {name: plain(value) for name, value in model.values().items()}
    inner = {name: plain(value) for name, value in model.window.values().items()}
    starts = plain(x0)
    shape = np.broadcast_shapes(*(a.shape for a in (*values.values(), *inner.values(), starts)))
    count = shape[0] if shape else 1

    def of(value: Array, k: int) -> float:
        return float(value[k if value.size > 1 else 0] if value.ndim else value)

    traces, events = [], []
    for k in range(count):
        window = model.window.bind(**{name: of(value, k) for name, value in inner.items()})
        own = model.bind(window=window, **{name: of(value, k) for name, value in values.items()})
        trace, found = _one(own, drive, spread, rng, of(starts, k), circuit)
        traces.append(trace)
        events.append(found)
    if not shape:
        return traces[0], events
    stacked = {name: np.stack([getattr(trace, name) for trace in traces]) for name in ("v", "i", "x")}
    return Trace(drive.t, meta=traces[0].meta, **stacked), events


def _check_names(model: Model, spread: EventSpread) -> None:
    known = list(model.values())
    for name in (*spread.set, *spread.reset):
        if name not in known:
            raise unknown_name("parameter", name, known)
    for a, b in spread.correlation:
        if not any({a, b} <= set(kind) for kind in (spread.set, spread.reset)):
            raise ParameterError(
                "a correlation is between two parameters of the same kind of event",
                got=f"{a}, {b}",
                allowed=f"two of {list(spread.set)} or two of {list(spread.reset)}",
            )


def _one(
    model: Model, drive: Drive, spread: EventSpread, rng: Generator, x0: float, circuit: dict[str, Any]
) -> tuple[Trace, Events]:
    still = np.abs(drive.v) <= ROUNDING * np.abs(drive.v).max()  # sin(pi) is not 0, and no crossing of its own
    t, v, keep = split_at_zero(drive.t, np.where(still, 0.0, drive.v))
    bounds, signs = stretches(v)
    peaks = signs * np.maximum.reduceat(np.abs(v), bounds[:-1])
    kinds = (signs * model.polarity * model.set_sign).astype(np.int64)
    draws = {kind: _draw(model, spread, kind, int((kinds == kind).sum()), rng) for kind in (SET, RESET)}
    order = _order(model, draws, kinds, peaks)
    values = _along(model, draws, order)
    x, i, at = None, None, v
    if isinstance(model, SeparableModel) and not circuit:
        found = exact.chain(model.bind(**values), bounds, t, v, x0)
        x, i = found if found is not None else (None, None)
    if x is None or i is None:
        x, i, at = _piecewise(model, values, bounds, t, v, x0, circuit)
    begins = {kind: np.flatnonzero(order.begins & (kinds == kind)) for kind in (SET, RESET)}
    events = Events(
        t[bounds[begins[SET]]],
        t[bounds[begins[RESET]]],
        {name: value[: begins[SET].size] for name, value in draws[SET].items()},
        {name: value[: begins[RESET].size] for name, value in draws[RESET].items()},
    )
    meta = {"source": "simulation", "model": model.name, "events": len(begins[SET]) + len(begins[RESET]), **circuit}
    return Trace(drive.t, at[keep], i[keep], x[keep], meta), events


def stretches(v: Array) -> tuple[Indices, Array]:
    """Samples at which the sign of the voltage changes, both ends included [n + 1], and the signs between them [n].

    Time at zero volts belongs to the stretch before it.
    """
    sign = np.sign(v[:-1] + v[1:])
    moving = np.flatnonzero(sign)
    if moving.size == 0:
        return np.array([0, v.size - 1]), np.array([1.0])
    sign = sign[moving]
    change = np.flatnonzero(sign[1:] != sign[:-1]) + 1
    return np.concatenate([[0], moving[change], [v.size - 1]]), sign[np.append(0, change)]


def _draw(model: Model, spread: EventSpread, kind: int, count: int, rng: Generator) -> dict[str, Array]:
    """Values for every event of a kind that may come, [count] or at least one."""
    cv = spread.set if kind == SET else spread.reset
    names = list(cv)
    if not names:
        return {}
    matrix = np.eye(len(names))
    for (a, b), value in spread.correlation.items():
        if a in cv and b in cv:
            matrix[names.index(a), names.index(b)] = matrix[names.index(b), names.index(a)] = value
    size = (len(names), max(count, 1))
    walk = plain(autoregressive(0.0, 1.0, spread.memory, size, rng)).T
    z = (walk @ correlation_factor(matrix, len(names)).T).clip(-6.0, 6.0)
    drawn = {name: _around(model, name, np.sqrt(np.log1p(cv[name] ** 2)) * z[:, k]) for k, name in enumerate(names)}
    model.replace(**drawn)  # bounds and order are checked
    return drawn


def _around(model: Model, name: str, wiggle: Array) -> Array:
    """The parameter times exp(wiggle), or on its side of the geometric mean of an ordered pair."""
    value = float(getattr(model, name))
    if value == 0:
        raise ParameterError("a parameter that is zero has no relative spread", got=name)
    for low, high in ORDERED:
        if name in (low, high) and high in model.values():
            middle = (float(getattr(model, low)) * float(getattr(model, high))) ** 0.5
            if name == low:
                return np.asarray(middle / (1.0 + (middle / value - 1.0) * np.exp(-wiggle)))
            return np.asarray(middle * (1.0 + (value / middle - 1.0) * np.exp(wiggle)))
    return np.asarray(value * np.exp(wiggle))


@dataclass(frozen=True)
class _Order:
    """Which draw holds in which stretch.

    Args:
        begins: Whether an event begins with the stretch, [n].
        motion: Number of the draw that the motion sees, by kind, [n]; the next one where none has begun.
        current: Number of the draw that the current sees, by kind, [n].
        mover: Kind that the stretch would be, [n].
        last: Kind of the event that the stretch belongs to, [n].
    """

    begins: NDArray[np.bool_]
    motion: dict[int, Indices]
    current: dict[int, Indices]
    mover: Indices
    last: Indices


def _order(model: Model, draws: dict[int, dict[str, Array]], kinds: Indices, peaks: Array) -> _Order:
    """Stretches alternate in kind, so if each moves the state, each begins an event; else one after the other."""
    n = kinds.size
    number = np.arange(n) // 2
    fresh = np.ones(n, dtype=bool)
    for kind in (SET, RESET):
        mine = kinds == kind
        fresh[mine] = _moves(model.bind(**{k: value[number[mine]] for k, value in draws[kind].items()}), peaks[mine])
    if fresh.all():
        seen = {kind: np.maximum(np.cumsum(kinds == kind) - 1, 0) for kind in (SET, RESET)}
        return _Order(fresh, seen, seen, kinds, kinds)
    begins = np.zeros(n, dtype=bool)
    motion = {kind: np.zeros(n, dtype=np.int64) for kind in (SET, RESET)}
    current = {kind: np.zeros(n, dtype=np.int64) for kind in (SET, RESET)}
    last = np.zeros(n, dtype=np.int64)
    at, latest = {SET: -1, RESET: -1}, 0
    for s in range(n):
        kind = int(kinds[s])
        candidate = at[kind]
        if kind != latest:
            candidate += 1
            own = model.bind(**{k: value[candidate : candidate + 1] for k, value in draws[kind].items()})
            if _moves(own, peaks[s : s + 1])[0]:
                at[kind], latest, begins[s] = candidate, kind, True
        for each in (SET, RESET):
            motion[each][s] = candidate if each == kind else max(at[each], 0)
            current[each][s] = max(at[each], 0)
        last[s] = latest or kind
    return _Order(begins, motion, current, kinds, last)


def _moves(model: Model, peaks: Array) -> NDArray[np.bool_]:
    """Whether the peak voltages [n] move devices with parameters scalar or [n]."""
    if isinstance(model, SeparableModel):
        return np.broadcast_to(model._speed(model.polarity * peaks, NUMPY) != 0, peaks.shape)
    states = np.linspace(0.05, 0.95, 7)
    rate = np.asarray(with_time_axis(model).rate(peaks[:, None], states))
    return np.asarray((np.broadcast_to(rate, (peaks.size, 7)) != 0).any(axis=-1))


def _along(model: Model, draws: dict[int, dict[str, Array]], order: _Order) -> dict[str, Array]:
    """Values of the drawn parameters in every stretch, [n]."""
    roles = {entry.name: entry.role for entry in model.parameters()}
    values: dict[str, Array] = {}
    for name in {**draws[SET], **draws[RESET]}:
        moves = roles[name] in MOTION
        index = order.motion if moves else order.current
        held = {kind: draws[kind][name][index[kind]] for kind in (SET, RESET) if name in draws[kind]}
        if len(held) == 2:
            values[name] = np.where((order.mover if moves else order.last) == SET, held[SET], held[RESET])
        else:
            (values[name],) = held.values()
    return values


def _piecewise(
    model: Model, values: dict[str, Array], bounds: Indices, t: Array, v: Array, x0: float, circuit: dict[str, Any]
) -> tuple[Array, Array, Array]:
    """State, current and device voltage [t], one stretch after the other."""
    x, i, u = np.empty(t.size), np.empty(t.size), np.empty(t.size)
    x[0] = x0
    for k in range(bounds.size - 1):
        at = slice(int(bounds[k]), int(bounds[k + 1]) + 1)
        own = model.bind(**{name: float(value[k]) for name, value in values.items()})
        part = simulate(own, Drive(t[at], v[at]), x0=float(np.clip(x[at.start], 0.0, 1.0)), **circuit)
        x[at], i[at], u[at] = part.x, part.i, part.v
    return x, i, u
