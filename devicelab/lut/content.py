"""What a table may hold beside the current: levels with their spread, measured curves, rates, low-rank factors."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import LutError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]


class _Arrays:
    """Turns array fields into contiguous float64 or int64, and asks for shapes."""

    def _freeze(self) -> None:
        for declared in fields(self):  # type: ignore[arg-type]
            value = getattr(self, declared.name)
            if isinstance(value, (float, int)) or value is None:
                continue
            kind = np.int64 if declared.name in ("device", "cycle", "level") else np.float64
            array = np.ascontiguousarray(value, dtype=kind)
            if not np.isfinite(array).all():
                raise LutError(f"{declared.name} holds values that are not finite", allowed="finite numbers")
            object.__setattr__(self, declared.name, array)

    def _shape(self, name: str, *shape: int) -> None:
        value = getattr(self, name)
        if value is not None and value.shape != shape:
            raise LutError(
                f"{type(self).__name__.lower()}: {name} has the wrong shape", got=value.shape, allowed=str(shape)
            )


@dataclass(frozen=True, eq=False)
class Levels(_Arrays):
    """Conductances that a device is programmed to, and how far devices, cycles and reads stray from them.

    Args:
        v_read: Read voltage at which the conductances hold [V].
        conductance: Target conductances [S], [l], increasing and positive.
        d2d: Standard deviation between devices, relative to the level, [l]; None: not known.
        c2c: Standard deviation between cycles of one device, relative to the level, [l]; None: not known.
        read_noise: Standard deviation of one read, relative to the level, [l]; None: not known.
    """

    v_read: float
    conductance: Array
    d2d: Array | None = None
    c2c: Array | None = None
    read_noise: Array | None = None

    def __post_init__(self) -> None:
        self._freeze()
        if not (np.isfinite(self.v_read) and self.v_read != 0):
            raise LutError("levels need a read voltage", got=self.v_read, allowed="a voltage other than 0")
        g = self.conductance
        if g.ndim != 1 or g.size < 1 or not (g > 0).all() or not (np.diff(g) > 0).all():
            raise LutError("levels must be positive and increase", got=g.tolist()[:8], allowed="conductances [S], [l]")
        for name in ("d2d", "c2c", "read_noise"):
            self._shape(name, g.size)
            value = getattr(self, name)
            if value is not None and (value < 0).any():
                raise LutError(f"{name} is negative", got=float(value.min()), allowed="relative deviations >= 0")

    def spread(self) -> Array:
        """Standard deviation of a written conductance, D2D and C2C together, relative to the level, [l]."""
        parts = [value for value in (self.d2d, self.c2c) if value is not None]
        total = np.zeros_like(self.conductance)
        for part in parts:
            total += part**2
        return np.asarray(np.sqrt(total))


@dataclass(frozen=True, eq=False)
class Curves(_Arrays):
    """Whole curves as sampled: what a resampling Monte Carlo draws from.

    Args:
        voltage: Voltages [V], [p], increasing.
        current: Currents [A], [c, p].
        device: Number of the device of each curve, [c].
        cycle: Number of the cycle of each curve, [c].
        level: Index of the level (or, without levels, of the state) that the curve belongs to, [c].
    """

    voltage: Array
    current: Array
    device: Integers
    cycle: Integers
    level: Integers

    def __post_init__(self) -> None:
        self._freeze()
        if self.voltage.ndim != 1 or self.current.ndim != 2 or not (np.diff(self.voltage) > 0).all():
            raise LutError("curves need increasing voltages [p] and currents [c, p]", got=self.current.shape)
        self._shape("current", len(self.current), self.voltage.size)
        for name in ("device", "cycle", "level"):
            self._shape(name, len(self.current))
            if (getattr(self, name) < 0).any():
                raise LutError(f"{name} is negative", allowed="numbers from 0")


@dataclass(frozen=True, eq=False)
class Rate(_Arrays):
    """How fast the state moves: what programming needs.

    Args:
        voltage: Voltages [V], [w], increasing; 0 among them.
        state: States, [d], increasing within [0, 1].
        rate: dx/dt [1/s], [d, w]; positive towards low resistance, 0 at 0 V.
        error: Largest bilinear interpolation error, relative to the largest rate of the same state.
    """

    voltage: Array
    state: Array
    rate: Array
    error: float = float("nan")

    def __post_init__(self) -> None:
        self._freeze()
        if self.voltage.ndim != 1 or self.state.ndim != 1 or self.voltage.size < 2 or self.state.size < 2:
            raise LutError(
                "a rate table needs two axes", got=(self.voltage.shape, self.state.shape), allowed="[w], [d]"
            )
        self._shape("rate", self.state.size, self.voltage.size)
        if not ((np.diff(self.voltage) > 0).all() and (np.diff(self.state) > 0).all()):
            raise LutError("axes of the rate must increase", hint="sort voltage and state")
        if self.state[0] < 0 or self.state[-1] > 1:
            raise LutError("state of the rate leaves [0, 1]", got=f"{self.state[0]:g} to {self.state[-1]:g}")
        zero = np.flatnonzero(self.voltage == 0)
        if zero.size == 0 or (self.rate[:, zero[0]] != 0).any():
            raise LutError("the state does not rest at 0 V", allowed="a voltage node at 0 with rate 0")

    def at(self, v: Any, x: Any) -> Array:
        """dx/dt [1/s] at voltages `v` [V] and states `x`, which broadcast; bilinear.

        Raises:
            LutError: If a voltage or a state is outside the table.
        """
        v, x = np.broadcast_arrays(np.asarray(v, dtype=np.float64), np.asarray(x, dtype=np.float64))
        for name, asked, grid in (("voltage", v, self.voltage), ("state", x, self.state)):
            if not np.isfinite(asked).all() or (asked < grid[0]).any() or (asked > grid[-1]).any():
                raise LutError(f"{name} is outside the rate table", allowed=f"{grid[0]:.6g} to {grid[-1]:.6g}")
        k, a = _place(self.voltage, v)
        j, b = _place(self.state, x)
        r = self.rate
        return np.asarray(
            (1 - b) * ((1 - a) * r[j, k] + a * r[j, k + 1]) + b * ((1 - a) * r[j + 1, k] + a * r[j + 1, k + 1])
        )


@dataclass(frozen=True, eq=False)
class Factors(_Arrays):
    """Low-rank form of a table: current[s, k] = sum over r of amplitude[s, r] shape[r, k].

    Args:
        amplitude: Amplitudes [A], [s, r].
        shape: Functions of voltage [1], [r, k].
        error: Largest error at the nodes, relative to the largest current of the same state.
    """

    amplitude: Array
    shape: Array
    error: float

    def __post_init__(self) -> None:
        self._freeze()
        if self.amplitude.ndim != 2 or self.shape.ndim != 2 or self.amplitude.shape[1] != self.shape.shape[0]:
            raise LutError("factors do not fit", got=(self.amplitude.shape, self.shape.shape), allowed="[s, r], [r, k]")
        if not (np.isfinite(self.error) and self.error >= 0):
            raise LutError("factors need their error", got=self.error, allowed="a number >= 0")

    @property
    def rank(self) -> int:
        """Number of terms."""
        return int(self.shape.shape[0])


def factorise(table: Array, tolerance: float) -> Factors:
    """The fewest terms that keep every entry of `table` [s, k] within `tolerance` of its row's largest current."""
    scale = np.abs(table).max(axis=1, keepdims=True)
    u, s, vt = np.linalg.svd(table / scale, full_matrices=False)
    for rank in range(1, s.size + 1):
        amplitude, shape = scale * u[:, :rank] * s[:rank], vt[:rank]
        error = float((np.abs(amplitude @ shape - table) / scale).max())
        if error <= tolerance:
            break
    return Factors(amplitude, shape, error)


def _place(grid: Array, values: Array) -> tuple[NDArray[np.intp], Array]:
    """Interval of each value on a grid and the share of it that lies behind."""
    k = (np.searchsorted(grid, values, side="right") - 1).clip(0, grid.size - 2)
    return k, (values - grid[k]) / (grid[k + 1] - grid[k])
