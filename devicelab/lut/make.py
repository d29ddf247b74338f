"""Tables from models, fits and draws, on grids refined where the interpolation needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LutError
from ..models.base import Model, TwoStateModel
from ..simulation import check_second_start
from .content import Curves, Levels, Rate
from .table import Lut

Array = NDArray[np.float64]
Sample = Callable[[Array, Array], Array]
"""Exact values on a grid: voltages [k] and states [s] give [s, k]."""

MAX_NODES = 1 << 22
SHARES = (0.25, 0.5, 0.75)
"""Where between two nodes the error is measured."""


def describe(model: Model) -> dict[str, Any]:
    """Name, window, options and every parameter with its unit, as flat attributes."""
    from ..windows import window_name

    out: dict[str, Any] = {"model": model.name, "polarity": model.polarity, "window": window_name(model.window)}
    for prefix, owner in (("", model), ("window_", model.window)):
        for declared in owner.parameters():
            out[prefix + declared.name] = float(getattr(owner, declared.name))
            out[f"{prefix}{declared.name}_unit"] = declared.unit
    if hasattr(model, "resistance"):
        out["resistance"] = model.resistance
    return out


def from_model(
    model: Model,
    v_max: float,
    *,
    tolerance: float = 1e-4,
    provenance: Mapping[str, Any] | None = None,
    v_read: float | None = None,
    rate: bool = False,
    second: float | None = None,
) -> Lut:
    """See `Lut.from_model`."""
    if not (np.isfinite(v_max) and v_max > 0):
        raise LutError("v_max must be positive", got=v_max)
    if not tolerance > 0:
        raise LutError("tolerance must be positive", got=tolerance, hint="1e-4 suits most uses")

    current, _ = _laws(model, second)
    held = {"second_state": float(second or 0.0)} if isinstance(model, TwoStateModel) else {}

    def exact(voltage: Array, state: Array) -> Array:
        return _sample(current, voltage, state)

    def mine(table: Array, voltage: Array, state: Array, v: Array, x: Array) -> Array:
        return Lut(voltage, state, table).current(v[None, :], x[:, None])

    voltage, state, table, error = _refined(exact, mine, v_max, tolerance, (17, 9))
    return Lut(
        voltage,
        state,
        table,
        describe(model) | held,
        provenance or {},
        error,
        v_read=v_read,
        rate=rate_table(model, v_max, tolerance=max(tolerance, 1e-3), second=second) if rate else None,
    )


def _laws(model: Model, second: float | None) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Current and rate of a device, its second state held where it has one."""
    check_second_start(model, second)
    if not isinstance(model, TwoStateModel):
        return model.current, model.rate
    y = float(second or 0.0)
    return partial(model.current, y=y), partial(model.rate, y=y)


def rate_table(model: Model, v_max: float, *, tolerance: float = 1e-3, second: float | None = None) -> Rate:
    """dx/dt of a model over -v_max..v_max [V], bilinear to `tolerance` of the largest rate of the same state.

    Raises:
        LutError: If the rate is not finite or would need too large a table.
    """
    _, law = _laws(model, second)

    def exact(voltage: Array, state: Array) -> Array:
        return _sample(law, voltage, state)

    def mine(table: Array, voltage: Array, state: Array, v: Array, x: Array) -> Array:
        return Rate(voltage, state, table).at(v[None, :], x[:, None])

    voltage, state, table, error = _refined(exact, mine, v_max, tolerance, (17, 9))
    return Rate(voltage, state, table, error)


def from_fit(result: Any, v_max: float, *, provenance: Mapping[str, Any] | None = None, **options: Any) -> Lut:
    """The table of a fitted device.

    Args:
        result: A `fits.FitResult`; its `model`, `estimates`, `traces`, `statistics` and `seed` are read.
        v_max: Largest voltage [V].
        provenance: More about where it came from.
        options: As in `Lut.from_model`.

    Raises:
        LutError: As `Lut.from_model`.
    """
    sources = " ".join(str(trace.meta.get("sha256", "")) for trace in result.traces).strip()
    kept = {"source": "fit", "source_sha256": sources, "fit_seed": int(result.seed)}
    kept |= {f"fit_{name}": float(result.statistics[name]) for name in ("samples", "redchi")}
    table = from_model(result.model, v_max, provenance={**kept, **(provenance or {})}, **options)
    device = dict(table.device)
    for estimate in result.estimates:
        if estimate.name in device and np.isfinite([estimate.low, estimate.high]).all():
            device[f"{estimate.name}_low"], device[f"{estimate.name}_high"] = estimate.low, estimate.high
    return changed(table, device=device)


def from_stochastic(
    model: Model,
    v_max: float,
    *,
    v_read: float,
    levels: int | Array = 8,
    devices: Model | None = None,
    cycles: Model | None = None,
    read_noise: float | Array | None = None,
    keep: int = 0,
    **options: Any,
) -> Lut:
    """The table of the median device, with the spread of its levels.

    Args:
        model: The median device.
        v_max: Largest voltage [V].
        v_read: Read voltage [V].
        levels: Number of levels, equally spaced in conductance over the whole range, or their conductances [S], [l].
        devices: Many devices (parameters of shape [n], as `variability.spread` draws them): gives the D2D spread.
        cycles: Many cycles of one device, likewise: gives the C2C spread.
        read_noise: Relative standard deviation of one read, for all levels or [l].
        keep: Devices whose whole curves are stored, at every level.
        options: As in `Lut.from_model`.

    Raises:
        LutError: As `Lut.from_model`, or if curves are to be kept and there are no devices.
    """
    table = from_model(model, v_max, v_read=v_read, **options)
    targets = np.linspace(*table.conductance_range(v_read), levels) if isinstance(levels, int) else np.asarray(levels)
    states = table.state_for(targets, v_read)
    noise = None if read_noise is None else np.broadcast_to(np.asarray(read_noise, dtype=float), targets.shape)
    found = Levels(v_read, targets, _deviation(devices, v_read, states), _deviation(cycles, v_read, states), noise)
    if not keep:
        return changed(table, levels=found)
    if devices is None:
        raise LutError("no devices whose curves could be kept", hint="give devices, or keep=0")
    kept = [np.asarray(devices.current(table.voltage[:, None], float(x)))[:, :keep].T for x in states]
    count = len(kept[0])
    curves = Curves(
        table.voltage,
        np.concatenate(kept),
        device=np.tile(np.arange(count), len(states)),
        cycle=np.zeros(count * len(states), dtype=np.int64),
        level=np.repeat(np.arange(len(states)), count),
    )
    return changed(table, levels=found, curves=curves)


def changed(table: Lut, **fields: Any) -> Lut:
    """The same table with some of its content replaced."""
    from dataclasses import replace

    return replace(table, **fields)


def _deviation(drawn: Model | None, v_read: float, states: Array) -> Array | None:
    """Relative standard deviation of the conductance over a batch of devices, [l]."""
    if drawn is None:
        return None
    current = np.asarray(drawn.current(v_read, states[:, None]))
    if current.ndim != 2 or current.shape[1] < 2:
        raise LutError(
            "a spread needs several draws", got=current.shape, hint="devicelab.variability.spread makes them"
        )
    return np.asarray(current.std(axis=1, ddof=1) / np.abs(current.mean(axis=1)))


def _refined(
    exact: Sample, mine: Callable[..., Array], v_max: float, tolerance: float, start: tuple[int, int]
) -> tuple[Array, Array, Array, float]:
    """A grid whose intervals are halved until each keeps half the tolerance in voltage and half in state."""
    voltage, state = _odd_grid(v_max, start[0]), np.linspace(0.0, 1.0, start[1])
    while True:
        table = exact(voltage, state)
        scale = np.abs(table).max(axis=1)
        scale[scale == 0] = 1.0
        v, x = _inside(voltage), _inside(state)
        off_v = np.abs(mine(table, voltage, state, v, state) - exact(v, state)) / scale[:, None]
        at_x = exact(voltage, x)
        largest = np.abs(at_x).max(axis=1, keepdims=True)
        off_x = np.abs(mine(table, voltage, state, voltage, x) - at_x) / np.where(largest > 0, largest, 1.0)
        error_v = off_v.max(axis=0).reshape(-1, len(SHARES)).max(axis=1)
        error_x = off_x.max(axis=1).reshape(-1, len(SHARES)).max(axis=1)
        if max(error_v.max(), error_x.max()) <= tolerance / 2:
            return voltage, state, table, float(error_v.max() + error_x.max())
        voltage, state = _halved(voltage, error_v > tolerance / 2), _halved(state, error_x > tolerance / 2)
        if voltage.size * state.size > MAX_NODES:
            raise LutError(
                "the table would be too large",
                got=f"{voltage.size} x {state.size} nodes",
                allowed=f"at most {MAX_NODES}",
                hint="ask for a larger tolerance or a smaller v_max",
            )


def _halved(grid: Array, split: NDArray[np.bool_]) -> Array:
    return np.sort(np.concatenate([grid, 0.5 * (grid[:-1] + grid[1:])[split]]))


def _inside(grid: Array) -> Array:
    """Points within each interval, at `SHARES` of it, in order."""
    return np.asarray((grid[:-1, None] + np.diff(grid)[:, None] * np.array(SHARES)).ravel())


def _odd_grid(v_max: float, n: int) -> Array:
    half = np.linspace(0.0, v_max, n // 2 + 1)
    return np.concatenate([-half[:0:-1], half])


def _sample(function: Callable[..., Any], voltage: Array, state: Array) -> Array:
    table = np.broadcast_to(function(voltage[None, :], state[:, None]), (state.size, voltage.size))
    out = np.array(table, dtype=np.float64)  # a copy: the broadcast is read-only
    if not np.isfinite(out).all():
        raise LutError(
            "the model is not finite on this grid",
            got=f"up to {np.abs(voltage).max():g} V",
            hint="make the table for a smaller v_max",
        )
    return out
