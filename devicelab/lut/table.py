"""The table itself: current over voltage and state, and what is asked of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from ..errors import LutError
from ..models.base import Model
from ..ops import Value
from .content import Curves, Factors, Levels, Rate, factorise

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Lut:
    """Current of a device over voltage and state.

    Args:
        voltage: Grid [V], shape [k], increasing, contains 0.
        state: Grid in [0, 1], shape [s], increasing; 1 = low resistance.
        table: Current [A], shape [s, k].
        device: What it was made from: model name, parameters with units.
        provenance: Where it came from.
        error: Largest interpolation error, relative to the largest current of the same state.
        v_read: Read voltage [V] for which the map from conductance to state is kept; None: none is kept.
        levels: Conductances that are programmed, with their spread.
        curves: Whole sampled curves.
        rate: How fast the state moves.
        factors: Low-rank form of the table, see `low_rank`.
    """

    voltage: Array
    state: Array
    table: Array
    device: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: float = float("nan")
    v_read: float | None = None
    levels: Levels | None = None
    curves: Curves | None = None
    rate: Rate | None = None
    factors: Factors | None = None

    def __post_init__(self) -> None:
        for name in ("voltage", "state", "table"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        _check(self.voltage, self.state, self.table)
        if self.v_read is None and self.levels is not None:
            object.__setattr__(self, "v_read", self.levels.v_read)
        self._check_content()

    @cached_property
    def slope(self) -> Array:
        """dI/dV at the nodes [S], shape [s, k], as monotone cubic interpolation sets it."""
        slopes = PchipInterpolator(self.voltage, self.table, axis=1).derivative()(self.voltage)
        return np.asarray(slopes, dtype=np.float64)

    def current(self, v: Value, x: Value) -> Array:
        """Current [A] at voltages `v` [V] and states `x`, which broadcast.

        Raises:
            LutError: If a voltage or a state is outside the table.
        """
        v, x = np.broadcast_arrays(np.asarray(v, dtype=np.float64), np.asarray(x, dtype=np.float64))
        self._check_range("voltage", v, self.voltage, "V")
        self._check_range("state", x, self.state, "1")
        k = (np.searchsorted(self.state, x, side="right") - 1).clip(0, self.state.size - 2)
        weight = (x - self.state[k]) / (self.state[k + 1] - self.state[k])
        return np.asarray((1.0 - weight) * self._row(k, v) + weight * self._row(k + 1, v))

    def _row(self, row: NDArray[np.intp], v: Array) -> Array:
        """The cubic Hermite of one state row at each voltage."""
        c = (np.searchsorted(self.voltage, v, side="right") - 1).clip(0, self.voltage.size - 2)
        h = self.voltage[c + 1] - self.voltage[c]
        u = (v - self.voltage[c]) / h
        y0, y1 = self.table[row, c], self.table[row, c + 1]
        m0, m1 = h * self.slope[row, c], h * self.slope[row, c + 1]
        return np.asarray(y0 + u * (m0 + u * (3.0 * (y1 - y0) - 2.0 * m0 - m1 + u * (2.0 * (y0 - y1) + m0 + m1))))

    def conductance_range(self, v_read: float) -> tuple[float, float]:
        """Smallest and largest conductance I / V [S] at a read voltage [V]."""
        g = self._read(v_read)
        return float(g.min()), float(g.max())

    def state_for(self, conductance: Value, v_read: float | None = None) -> Array:
        """State at which the device reads as `conductance` [S] at `v_read` [V] (the table's own unless given).

        Raises:
            LutError: If a conductance is outside what the device can do, or no read voltage is known.
        """
        v_read = self._read_voltage(v_read)
        g = self._read(v_read)
        wanted = np.asarray(conductance, dtype=np.float64)
        low, high = float(g.min()), float(g.max())
        slack = 1e-9 * high
        if (wanted < low - slack).any() or (wanted > high + slack).any():
            raise LutError(
                "conductance is outside what the device can do",
                got=f"{wanted.min():.4g} to {wanted.max():.4g} S",
                allowed=f"{low:.4g} to {high:.4g} S at {v_read:g} V",
            )
        return np.interp(wanted, g, self.state)

    def mapping(self, v_read: float | None = None) -> tuple[Array, Array]:
        """Conductance [S] at `v_read` [V] and the state that reads so, [s] each; linear in between, exactly."""
        return self._read(self._read_voltage(v_read)), self.state

    def low_rank(self, tolerance: float = 1e-6) -> Factors:
        """The fewest factors that keep the table within `tolerance` of each state's largest current."""
        return factorise(self.table, tolerance)

    def _read_voltage(self, v_read: float | None) -> float:
        if v_read is None and self.v_read is None:
            raise LutError("this table states no read voltage", hint="give v_read")
        return float(self.v_read if v_read is None else v_read)  # type: ignore[arg-type]

    def _read(self, v_read: float) -> Array:
        if v_read == 0:
            raise LutError("a conductance cannot be read at 0 V", got=v_read, hint="use a small read voltage")
        self._check_range("voltage", np.asarray(v_read), self.voltage, "V")
        g = self._row(np.arange(self.state.size), np.full(self.state.size, v_read)) / v_read
        if not (np.diff(g) > 0).all():
            raise LutError(
                "conductance does not rise with state",
                got=f"read voltage {v_read:g} V",
                hint="try another read voltage",
            )
        return g

    def _check_content(self) -> None:
        if self.v_read is not None:
            g = self._read(float(self.v_read))
        if self.levels is not None:
            if self.levels.v_read != self.v_read:
                raise LutError("two read voltages", got=(self.v_read, self.levels.v_read), allowed="one")
            low, high = self.levels.conductance[[0, -1]]
            if low < g[0] * (1 - 1e-9) or high > g[-1] * (1 + 1e-9):
                raise LutError(
                    "a level is outside what the device can do",
                    got=f"{low:.4g} to {high:.4g} S",
                    allowed=f"{g[0]:.4g} to {g[-1]:.4g} S",
                )
        if self.factors is not None:
            expected = (self.state.size, self.factors.rank), (self.factors.rank, self.voltage.size)
            if (self.factors.amplitude.shape, self.factors.shape.shape) != expected:
                raise LutError("factors do not fit the table", got=self.factors.amplitude.shape, allowed=expected)
            scale = np.abs(self.table).max(axis=1, keepdims=True)
            off = np.abs(self.factors.amplitude @ self.factors.shape - self.table) / scale
            if off.max() > self.factors.error + 1e-9:
                raise LutError("factors are not those of the table", got=f"{off.max():.2e}", allowed=self.factors.error)

    def _check_range(self, name: str, asked: Array, grid: Array, unit: str) -> None:
        if not np.isfinite(asked).all() or (asked.size and (asked.min() < grid[0] or asked.max() > grid[-1])):
            raise LutError(
                f"{name} is outside the table",
                got=f"{np.min(asked):.6g} to {np.max(asked):.6g} {unit}",
                allowed=f"{grid[0]:.6g} to {grid[-1]:.6g} {unit}",
                hint="make the table with a larger range" if name == "voltage" else None,
            )

    @classmethod
    def from_model(
        cls,
        model: Model,
        v_max: float,
        *,
        tolerance: float = 1e-4,
        provenance: Mapping[str, Any] | None = None,
        v_read: float | None = None,
        rate: bool = False,
        second: float | None = None,
    ) -> Lut:
        """The table of a model over -v_max..v_max [V], refined where it must be to interpolate to `tolerance`.

        The error is measured between nodes, relative to the largest current of the same state.

        Args:
            model: The device.
            v_max: Largest voltage [V].
            tolerance: Largest interpolation error.
            provenance: Where it came from.
            v_read: Read voltage [V] of the stored map from conductance to state.
            rate: Whether to add the table of dx/dt.
            second: Second state, of a model with two: the table is that of a device whose second state stays there;
                0 by default.

        Raises:
            ParameterError: If `second` is not in [0, 1], or is given for a model with one state.
            LutError: If the model is not finite or not monotone in voltage there, or would need too large a table.
        """
        from .make import from_model

        return from_model(
            model, v_max, tolerance=tolerance, provenance=provenance, v_read=v_read, rate=rate, second=second
        )

    @classmethod
    def from_fit(cls, result: Any, v_max: float, **options: Any) -> Lut:
        """The table of a fitted device (`fits.FitResult`), its intervals and sources kept; options of `from_model`."""
        from .make import from_fit

        return from_fit(result, v_max, **options)

    @classmethod
    def from_stochastic(cls, model: Model, v_max: float, **options: Any) -> Lut:
        """The table of a device whose spread is known as draws; see `devicelab.lut.make.from_stochastic`."""
        from .make import from_stochastic

        return from_stochastic(model, v_max, **options)

    @classmethod
    def from_branches(cls, branches: Any, v_read: float, **options: Any) -> Lut:
        """The table of measured branches, with no model at all; see `devicelab.lut.measured.from_branches`."""
        from .measured import from_branches

        return from_branches(branches, v_read, **options)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the table; the file appears whole or not at all.

        Raises:
            FileFormatError: If the file exists and `force` is not set.
        """
        from .store import save

        save(self, path, force=force)

    @classmethod
    def load(cls, path: str | Path) -> Lut:
        """Read and verify a table.

        Raises:
            LutError: If the file is not a table of a known version, is damaged, or its hash does not match.
        """
        from .store import load

        return load(path)


def _check(voltage: Array, state: Array, table: Array) -> None:
    if voltage.ndim != 1 or state.ndim != 1 or table.shape != (state.size, voltage.size):
        raise LutError(
            "axes and table do not fit",
            got=f"voltage {voltage.shape}, state {state.shape}, current {table.shape}",
            allowed="[k], [s] and [s, k]",
        )
    if voltage.size < 3 or state.size < 2:
        raise LutError("table is too small", got=table.shape, allowed="at least 2 states and 3 voltages")
    for name, values in (("voltage", voltage), ("state", state), ("current", table)):
        if not np.isfinite(values).all():
            raise LutError(f"{name} holds values that are not finite", got=int((~np.isfinite(values)).sum()))
    if not ((np.diff(voltage) > 0).all() and (np.diff(state) > 0).all()):
        raise LutError("axes must increase", hint="sort voltage and state")
    if state[0] < 0 or state[-1] > 1:
        raise LutError("state leaves [0, 1]", got=f"{state[0]:g} to {state[-1]:g}")
    zero = np.flatnonzero(voltage == 0)
    if zero.size == 0 or (table[:, zero[0]] != 0).any():
        raise LutError("a passive device carries no current at 0 V", allowed="a voltage node at 0 with current 0")
    if not (np.diff(table, axis=1) > 0).all():
        row, column = np.argwhere(np.diff(table, axis=1) <= 0)[0]
        raise LutError(
            "current does not rise with voltage",
            got=f"state {state[row]:.4g}, {voltage[column]:.4g} V to {voltage[column + 1]:.4g} V",
            allowed="strictly increasing current at every state",
        )
