"""Simulation of a device: exact where the model is separable, implicit and adaptive everywhere else.

Under a voltage drive along a stretch on which the voltage keeps its sign, the state of a separable model moves one way,
so its natural coordinate psi is a running sum of the travel between samples, clipped at its end: one cumulative sum
and one inversion, no time stepping. The only loop is over changes of sign. That is done here by array operations, which
tensors need, and in `devicelab.exact` by compiled kernels, which plain numbers take. Models that are not separable, and
any model behind a series resistance, a compliance or a current source, go to `devicelab.implicit`, or, with tensors, to
`devicelab.batched`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import exact, implicit
from .circuit import Circuit, plain
from .drive import CurrentDrive, Drive
from .errors import ParameterError, ShapeError
from .models.base import Model, SeparableModel, TwoStateModel
from .ops import Ops, Value, is_tensor, ops_for
from .parameters import numbers
from .trace import Trace


def simulate(
    model: Model,
    drive: Drive | CurrentDrive,
    *,
    x0: Value = 0.0,
    series_resistance: Value = 0.0,
    compliance: Value = None,
    tolerance: float = implicit.TOLERANCE,
    y0: Value = None,
) -> Trace:
    """Current and state of a device under a drive.

    Args:
        model: The device. Parameters of shape [b] give b devices at once; tensors give tensors, with gradients.
        drive: The voltage or current over time, shape [t] or [b, t].
        x0: State at the first sample, in [0, 1] (1 = low resistance), scalar or [b].
        series_resistance: Between source and device [ohm], scalar or [b].
        compliance: Largest current of a voltage source [A], or largest voltage of a current source [V], scalar or [b].
        tolerance: Error of the state that one step may make, where there are steps; separable models under a bare
            voltage source have none.
        y0: Second state at the first sample, in [0, 1], scalar or [b]; 0 by default. Only for a model with two states.

    Returns:
        Trace with t [t], v across the device [V], i [A] and x, of shape [t] or [b, t], and y of a device with two
        states.

    Raises:
        ParameterError: If `x0` or `y0` leaves [0, 1], `y0` is given to a model with one state, a resistance,
            compliance or tolerance is impossible, or `model` and `drive` are something else.
        StepError: If the solver has to stop, or the current is no number; the error carries the states until then.
    """
    _check_kinds(model, drive)
    _check(x0, tolerance)
    if isinstance(drive, Drive) and compliance is None and type(series_resistance) is float and not series_resistance:
        circuit, source = _BARE, drive.v
    elif isinstance(drive, CurrentDrive):
        circuit, source = Circuit("current", series_resistance, compliance), drive.i
    else:
        circuit, source = Circuit("voltage", series_resistance, compliance), drive.v
    meta = {"source": "simulation", "model": model.name}
    if not circuit.trivial:
        meta |= {"drive": circuit.kind, "series_resistance": series_resistance, "compliance": compliance}
    bare = circuit is _BARE and y0 is None and source.ndim == 1
    if bare and isinstance(model, SeparableModel) and exact.single(model, x0):
        found = exact.trajectory(model, drive.t, source, x0)
        if found is not None:
            x, i = found
            _check_current(model, drive.t, source, i, x)
            return Trace.of(drive.t, source, i, x, meta)
    y0 = _second_start(model, y0)
    _check_devices(model, source, x0, circuit, y0)
    if isinstance(model, TwoStateModel):
        x, y, v, i = _solve_pair(model, drive.t, source, x0, y0, circuit, tolerance)
    else:
        y = None
        x, v, i = _solve(model, drive.t, source, x0, circuit, tolerance)
    _check_current(model, drive.t, v, i, x)
    x = x + 0.0 * i  # a batch of resistances shares one state
    y = y if y is None else y + 0.0 * i
    kept = {k: value for k, value in meta.items() if value is not None}
    return Trace(t=_like(drive.t, x), v=v, i=i, x=x, y=y, meta=kept)


BLOCK = 1024
"""Devices that are simulated at once, where no gradient is asked for."""

_BARE = Circuit()

_AnyModel = TypeVar("_AnyModel", bound=Model)


def _check_kinds(model: object, drive: object) -> None:
    """Raise `ParameterError` unless these are a device and a drive."""
    if not isinstance(model, Model):
        known = isinstance(model, str) or (isinstance(model, type) and issubclass(model, Model))
        raise ParameterError(
            "this is no device",
            got=repr(model)[:80],
            allowed="an instance of a model, such as parameter_set('vteam_memtorch')",
            hint="parameter_set(NAME) makes one; a class needs parameters first" if known else None,
        )
    if not isinstance(drive, Drive | CurrentDrive):
        raise ParameterError(
            "this is no drive",
            got=repr(drive)[:80],
            allowed="a Drive or a CurrentDrive: sine(1.0, 50.0), triangle, pulses, Drive(t, v)",
            hint="Drive.from_trace(trace) is the drive of a trace" if isinstance(drive, Trace) else None,
        )


def _check_current(model: Model, t: NDArray[np.float64], v: Value, i: Value, x: Value) -> None:
    """Raise `StepError` with the states until then where current or state is no finite number."""
    if is_tensor(i):
        if bool((i.detach().sum() + x.detach().sum()).isfinite()):
            return
        v, i, x = (plain(value) for value in (v, i, x))
    with np.errstate(all="ignore"):
        if np.isfinite(i.sum() + x.sum()):
            return
        bad = ~np.isfinite(i + 0.0 * x)
    if not bad.any():
        return
    rows = bad.reshape(-1, t.size)
    row = int(rows.any(axis=1).argmax())
    at = int(rows[row].argmax())
    volts = float(np.broadcast_to(v, bad.shape).reshape(-1, t.size)[row, at])
    raise implicit.step_error(
        f"simulation of {model.name} stopped: the current is no finite number",
        f"device {row}, {volts:.6g} V at t = {t[at]:.6g} s (sample {at} of {t.size})",
        "the voltage is far outside the model's range, where its equations overflow: drive it with less, "
        "or put a series_resistance or compliance around it",
        t[:at],
        np.broadcast_to(x, bad.shape).reshape(-1, t.size)[row, :at].copy(),
        row,
    )


def _check(x0: Value, tolerance: float) -> None:
    check_start("x0", x0, "0 (high resistance) to 1 (low resistance)")
    if not (is_tensor(tolerance) or numbers(tolerance) is not None):
        raise ParameterError("tolerance is not a number", got=repr(tolerance)[:80], allowed="a number, array or tensor")
    if np.ndim(tolerance) or not 1e-13 <= tolerance <= 0.1:
        raise ParameterError("tolerance is out of bounds", got=tolerance, allowed="1e-13 to 0.1 of the state's range")


def check_start(name: str, value: Value, allowed: str) -> None:
    """Raise `ParameterError` unless a state at the first sample is one, or several, from 0 to 1."""
    if not (is_tensor(value) or numbers(value) is not None):
        raise ParameterError(f"{name} is not a number", got=repr(value)[:80], allowed="a number, array or tensor")
    if isinstance(value, float | int):
        good = 0.0 <= value <= 1.0
    else:
        start = plain(value)
        good = bool(((start >= 0) & (start <= 1)).all())
    if not good:
        raise ParameterError(f"{name} is out of bounds", got=value, allowed=allowed)


def check_second_start(model: Model, y0: Value) -> None:
    """Raise `ParameterError` unless this is a start of the second state, or None, for a model that has one."""
    if y0 is None:
        return
    if not isinstance(model, TwoStateModel):
        raise ParameterError(
            f"{model.name} has one state",
            got=f"y0={y0!r}"[:80],
            allowed="no y0",
            hint="y0 is where the second state of a model with two begins, such as pku_growing",
        )
    check_start("y0", y0, f"0 to 1, of the {model.second}")


def _second_start(model: Model, y0: Value) -> Value:
    """y0, checked; 0 where there is none."""
    check_second_start(model, y0)
    return 0.0 if y0 is None else y0


def _check_devices(model: Model, source: NDArray[np.float64], x0: Value, circuit: Circuit, y0: Value = 0.0) -> None:
    """Raise `ShapeError` unless parameters, start, drive and circuit are of one number of devices, or of one each."""
    shapes = {name: np.shape(value) for name, value in model.values().items()}
    shapes |= {f"window.{name}": np.shape(value) for name, value in model.window.values().items()}
    shapes |= {"x0": np.shape(x0), "y0": np.shape(y0), "drive": source.shape[:-1]}
    shapes |= {"series_resistance": np.shape(circuit.series_resistance), "compliance": np.shape(circuit.limit)}
    batched = {name: shape for name, shape in shapes.items() if shape}
    try:
        count = np.broadcast_shapes(*batched.values())
    except ValueError:
        count = (0,)
    if 0 in count:
        raise ShapeError(
            "batches of different numbers of devices, or of none",
            got=", ".join(f"{name} {list(shape)}" for name, shape in batched.items()),
            allowed="numbers, or the same number of devices everywhere",
        )


def _solve(
    model: Model, t: NDArray[np.float64], source: NDArray[np.float64], x0: Value, circuit: Circuit, tolerance: float
) -> tuple[Value, Value, Value]:
    """State, device voltage and current."""
    if isinstance(model, SeparableModel) and circuit.trivial:
        x, i = _by_blocks(model, t, source, x0)
        return x, _like(source, x), i
    wide = with_time_axis(model)
    values = [*model._leaves(), x0, circuit.series_resistance, circuit.limit]
    if any(is_tensor(value) for value in values):
        from . import batched

        x, v = batched.trajectory(wide, t, source, _column(x0), circuit, tolerance)
        return x, v, wide.current(v, x)
    x, v = implicit.trajectory(model, t, source, x0, circuit, tolerance)
    with np.errstate(over="ignore", invalid="ignore"):  # what is no number is named afterwards
        return x, v, np.asarray(wide.current(v, x))


def _solve_pair(
    model: TwoStateModel,
    t: NDArray[np.float64],
    source: NDArray[np.float64],
    x0: Value,
    y0: Value,
    circuit: Circuit,
    tolerance: float,
) -> tuple[Value, Value, Value, Value]:
    """Both states, device voltage and current of a device with two states."""
    wide = with_time_axis(model)
    if any(is_tensor(value) for value in [*model._leaves(), x0, y0, circuit.series_resistance, circuit.limit]):
        from . import batched_pairs

        x, y, v = batched_pairs.trajectory(wide, t, source, _column(x0), _column(y0), circuit, tolerance)
        return x, y, v, wide.current(v, x, y)
    x, y, v = implicit.pair_trajectory(model, t, source, x0, y0, circuit, tolerance)
    with np.errstate(over="ignore", invalid="ignore"):
        return x, y, v, np.asarray(wide.current(v, x, y))


def _by_blocks(model: SeparableModel, t: NDArray[np.float64], v: NDArray[np.float64], x0: Value) -> tuple[Value, Value]:
    """`trajectory`, a large batch in blocks of rows, so that the memory it works in does not grow with it."""
    leaves = [*model._leaves(), x0]
    count = max(int(np.shape(value)[0]) if np.ndim(value) else 1 for value in [*leaves, v[..., 0]])
    if count <= BLOCK or any(is_tensor(value) and value.requires_grad for value in leaves):
        return trajectory(model, t, v, x0)

    def rows(value: Value, at: slice) -> Value:
        return value[at] if np.ndim(value) and np.shape(value)[0] > 1 else value

    parts = []
    for start in range(0, count, BLOCK):
        at = slice(start, start + BLOCK)
        window = model.window.bind(**{name: rows(value, at) for name, value in model.window.values().items()})
        block = model.bind(window=window, **{name: rows(value, at) for name, value in model.values().items()})
        x, i = trajectory(block, t, v[at] if v.ndim > 1 and v.shape[0] > 1 else v, rows(x0, at))
        parts.append((x + 0.0 * i, i))
    if is_tensor(parts[0][0]):
        import torch

        return torch.cat([x for x, _ in parts]), torch.cat([i for _, i in parts])
    return np.concatenate([x for x, _ in parts]), np.concatenate([i for _, i in parts])


def trajectory(model: Model, t: NDArray[np.float64], v: NDArray[np.float64], x0: Value) -> tuple[Value, Value]:
    """State and current as `simulate` gives them, from arrays that are known to be good."""
    if isinstance(model, TwoStateModel):
        x, _, _, i = _solve_pair(model, t, v, x0, 0.0, Circuit(), implicit.TOLERANCE)
        return x, i
    if not isinstance(model, SeparableModel):
        x, _, i = _solve(model, t, v, x0, Circuit(), implicit.TOLERANCE)
        return x, i
    found = exact.trajectory(model, t, v, x0)
    if found is not None:
        return found
    wide = with_time_axis(model)
    leaves = [*model._leaves(), x0]
    tensor = next((value for value in leaves if is_tensor(value)), None)
    ops = ops_for(tensor)
    x = _state(wide, t, v, _column(x0), ops, tensor)
    sign = model.polarity
    return x, sign * wide._current(sign * _like(v, x), x, ops)


def _column(value: Value) -> Value:
    """A per-device value [b] as [b, 1], so that it broadcasts against time."""
    if np.ndim(value) == 0:
        return value
    return value[..., None] if is_tensor(value) else np.asarray(value, dtype=float)[..., None]


def with_time_axis(model: _AnyModel) -> _AnyModel:
    """The model with parameters [b] as [b, 1], so that they broadcast against time."""
    if all(isinstance(value, (int, float)) for value in model._leaves()):
        return model
    window = model.window.bind(**{name: _column(value) for name, value in model.window.values().items()})
    return model.bind(window=window, **{name: _column(value) for name, value in model.values().items()})


def _like(array: NDArray[np.float64], x: Value) -> Value:
    if not is_tensor(x):
        return array
    import torch

    return torch.as_tensor(array, dtype=x.dtype, device=x.device)


def _state(
    model: SeparableModel, t: NDArray[np.float64], v: NDArray[np.float64], x0: Value, ops: Ops, tensor: Value
) -> Value:
    """State at every sample, shape [..., t]; `tensor` is any tensor among parameters and start, or None."""
    t, v, keep = split_at_zero(t, model.polarity * v)
    v0, v1, dt = v[..., :-1], v[..., 1:], t[1:] - t[:-1]
    if tensor is None:
        travel = model._travel(v0, v1, dt, ops)
    else:
        travel = model._travel(_like(v0, tensor), _like(v1, tensor), _like(dt, tensor), ops)
    x = _Walk(model, travel, np.sign(v0 + v1) * model.set_sign, x0, ops, tensor).run()
    return x[..., keep]


def split_at_zero(t: NDArray[np.float64], v: NDArray[np.float64]) -> tuple[Any, Any, Any]:
    """Insert a sample wherever v changes sign between samples; also the indices of the original samples."""
    crossing = v[..., :-1] * v[..., 1:] < 0
    if v.ndim > 1:
        crossing = crossing.reshape(-1, t.size - 1)
    at = np.flatnonzero(crossing if v.ndim == 1 else crossing.any(axis=0))
    if at.size == 0:
        return t, v, slice(None)
    if v.ndim > 1:  # rows cross at different times: split each segment once per row that crosses
        return _split_rows(t, v, crossing)
    theta = v[at] / (v[at] - v[at + 1])
    keep = np.ones(t.size + at.size, dtype=bool)
    keep[at + 1 + np.arange(at.size)] = False
    more_t, more_v = np.insert(t, at + 1, t[at] + theta * (t[at + 1] - t[at])), np.insert(v, at + 1, 0.0)
    return more_t, more_v, np.flatnonzero(keep)


def _split_rows(t: NDArray[np.float64], v: NDArray[np.float64], crossing: NDArray[np.bool_]) -> tuple[Any, Any, Any]:
    rows, columns = np.nonzero(crossing)
    flat = v.reshape(-1, t.size)
    theta = flat[rows, columns] / (flat[rows, columns] - flat[rows, columns + 1])
    extra = t[columns] + theta * (t[columns + 1] - t[columns])
    grid = np.union1d(t, extra)
    dense = np.stack([np.interp(grid, t, row) for row in flat])
    dense[rows, np.searchsorted(grid, extra)] = 0.0  # interpolation leaves a rounding error of either sign
    return grid, dense.reshape(*v.shape[:-1], grid.size), np.searchsorted(grid, t)


class _Walk:
    """The walk of psi over stretches of one sign."""

    def __init__(
        self, model: SeparableModel, travel: Value, sign: NDArray[np.float64], x0: Value, ops: Ops, tensor: Value
    ) -> None:
        self._travel = travel
        self._sign = sign
        self._x0 = x0
        self._tensor = tensor
        up = model._coordinate(1, ops, tensor)
        self._coordinates = {1: up, -1: up if model.symmetric else model._coordinate(-1, ops, tensor)}

    def run(self) -> Value:
        """State at every sample, the first included."""
        lead = np.broadcast_shapes(self._travel.shape[:-1], np.shape(self._x0)[:-1])
        x = self._array(self._x0) + self._array(np.zeros((*lead, 1)))
        if self._coordinates[1] is self._coordinates[-1]:
            return self._one_way_or_the_other(x, self._coordinates[1])
        parts = [x]
        for start, stop, direction in self._stretches():
            x = self._stretch(x[..., -1:], start, stop, direction)
            parts.append(x)
        return self._join(parts)

    def _one_way_or_the_other(self, x: Value, here: Any) -> Value:
        """One coordinate for both directions: psi runs through, so nothing is lost however far the state is driven."""
        first = psi = here.forward(x)
        if _is_infinite(here.low) and _is_infinite(here.high):
            psi = self._join([psi, psi + self._travel.cumsum(-1)])
        else:
            parts = [psi]
            for start, stop, _ in self._stretches():
                parts.append(self._clip(parts[-1][..., -1:] + self._travel[..., start:stop].cumsum(-1), here))
            psi = self._join(parts)
        return self._where(psi == first, x, here.inverse(psi))

    def _stretch(self, x: Value, start: int, stop: int, direction: int) -> Value:
        """A stretch of one direction, or of both (0): some devices are driven one way and some the other."""
        if direction == 0:
            up = self._stretch(x, start, stop, 1)
            return self._where(
                self._array(self._sign[..., start : start + 1]) > 0, up, self._stretch(x, start, stop, -1)
            )
        here = self._coordinates[direction]
        first = here.forward(x)
        psi = self._clip(first + self._travel[..., start:stop].cumsum(-1), here)
        return self._where(psi == first, x, here.inverse(psi))

    def _where(self, condition: Value, a: Value, b: Value) -> Value:
        return np.where(condition, a, b) if self._tensor is None else a.where(condition, b)

    def _stretches(self) -> list[tuple[int, int, int]]:
        """(start, stop, direction) of runs of segments with one sign; direction 0 where the devices differ."""
        sign = self._sign.reshape(-1, self._sign.shape[-1])
        change = np.flatnonzero((np.diff(sign, axis=-1) != 0).any(axis=0)) + 1
        edges = [0, *change.tolist(), sign.shape[-1]]
        out = []
        for start, stop in pairwise(edges):
            here = sign[:, start]
            out.append((start, stop, 1 if (here >= 0).all() else -1 if (here <= 0).all() else 0))
        return out

    def _clip(self, psi: Value, coordinate: Any) -> Value:
        low, high = coordinate.low, coordinate.high
        if self._tensor is None:
            return np.minimum(np.maximum(psi, low), high)
        return psi.clip(self._array(low), self._array(high))

    def _array(self, value: Value) -> Value:
        if self._tensor is None:
            return np.asarray(value)
        if is_tensor(value):
            return value
        return _like(np.asarray(value, dtype=float), self._tensor)

    def _join(self, parts: list[Value]) -> Value:
        if self._tensor is None:
            lead = np.broadcast_shapes(*(part.shape[:-1] for part in parts))
            return np.concatenate([np.broadcast_to(part, (*lead, part.shape[-1])) for part in parts], axis=-1)
        import torch

        lead = torch.broadcast_shapes(*(part.shape[:-1] for part in parts))
        return torch.cat([part.expand(*lead, part.shape[-1]) for part in parts], dim=-1)


def _is_infinite(value: Value) -> bool:
    return isinstance(value, float) and np.isinf(value)
