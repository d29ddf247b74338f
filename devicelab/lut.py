"""Lookup tables: the contract between a characterised device and an array simulation.

LUT format 1, an HDF5 file:

    /                     format = "devicelab-lut", version = 1, content_sha256, default = "entry", NX_class = NXroot
    /entry                NX_class = NXentry, default = "lut"
    /entry/lut            NX_class = NXdata, signal = "current", axes = ["state", "voltage"],
                          interpolation, extrapolation, interpolation_error
    /entry/lut/voltage    float64 [k], V, strictly increasing, contains 0
    /entry/lut/state      float64 [s], 1, strictly increasing within [0, 1], 1 = low resistance
    /entry/lut/current    float64 [s, k], A, strictly increasing along voltage, 0 at 0 V; both axes attached as scales
    /entry/device         what the table was made from: one attribute each, numbers with their unit in NAME_unit
    /entry/provenance     package versions, source file and its SHA-256, seed, time of writing: one attribute each

Between nodes: monotone cubic Hermite (PCHIP) in voltage, linear in state. Outside: refused.
`content_sha256` covers every dataset and attribute but itself and HDF5's own dimension-scale bookkeeping.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from .errors import LutError
from .files import replacing
from .models.base import Model
from .ops import Value

FORMAT = "devicelab-lut"
VERSION = 1
MAX_POINTS = 1 << 26
INTERPOLATION = "pchip in voltage, linear in state"
EXTRAPOLATION = "refused"
_BOOKKEEPING = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "_Netcdf4Dimid"}
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
    """

    voltage: Array
    state: Array
    table: Array
    device: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    error: float = float("nan")

    def __post_init__(self) -> None:
        for name in ("voltage", "state", "table"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=np.float64))
        _check(self.voltage, self.state, self.table)

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

    def state_for(self, conductance: Value, v_read: float) -> Array:
        """State at which the device reads as `conductance` [S] at `v_read` [V].

        Raises:
            LutError: If a conductance is outside what the device can do.
        """
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
    ) -> Lut:
        """The table of a model over -v_max..v_max [V], refined until it interpolates to `tolerance`.

        The error is measured between nodes, relative to the largest current of the same state.

        Raises:
            LutError: If the model is not finite or not monotone in voltage there, or would need too large a table.
        """
        if not (np.isfinite(v_max) and v_max > 0):
            raise LutError("v_max must be positive", got=v_max)
        n_v, n_x = 17, 9
        while True:
            voltage, state = _odd_grid(v_max, n_v), np.linspace(0.0, 1.0, n_x)
            lut = cls(voltage, state, _sample(model, voltage, state), device=describe(model))
            error_v = lut._error(model, _between(voltage), state)
            error_x = lut._error(model, voltage, _between(state))
            if max(error_v, error_x) <= tolerance:
                break
            n_v = 2 * n_v - 1 if error_v > tolerance / 2 else n_v
            n_x = 2 * n_x - 1 if error_x > tolerance / 2 else n_x
            if n_v * n_x > MAX_POINTS // 16:
                raise LutError(
                    "the table would be too large", got=f"{n_v} x {n_x} nodes", hint="ask for a larger tolerance"
                )
        return cls(voltage, state, lut.table, lut.device, provenance or {}, error=max(error_v, error_x))

    def _error(self, model: Model, voltage: Array, state: Array) -> float:
        exact = _sample(model, voltage, state)
        mine = self.current(voltage[None, :], state[:, None])
        return float((np.abs(mine - exact).max(axis=1) / np.abs(exact).max(axis=1)).max())

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Write the table; the file appears whole or not at all.

        Raises:
            FileFormatError: If the file exists and `force` is not set.
        """
        with replacing(path, force=force) as temporary, h5py.File(temporary, "w", track_order=False) as file:
            self._write(file)
            file.attrs["content_sha256"] = _digest(file)

    def _write(self, file: h5py.File) -> None:
        file.attrs.update({"format": FORMAT, "version": VERSION, "NX_class": "NXroot", "default": "entry"})
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "lut"})
        group = entry.create_group("lut")
        group.attrs.update({"NX_class": "NXdata", "signal": "current", "axes": ["state", "voltage"]})
        group.attrs.update({"interpolation": INTERPOLATION, "extrapolation": EXTRAPOLATION})
        group.attrs["interpolation_error"] = self.error
        named = {"voltage": (self.voltage, "V"), "state": (self.state, "1"), "current": (self.table, "A")}
        for name, (values, unit) in named.items():
            dataset = group.create_dataset(name, data=values)
            dataset.attrs.update({"units": unit, "long_name": f"{name} [{unit}]"})
        for axis, name in enumerate(("state", "voltage")):
            group[name].make_scale(name)
            group["current"].dims[axis].attach_scale(group[name])
        for name, content in (("device", self.device), ("provenance", self.provenance)):
            entry.create_group(name).attrs.update({key: _plain(value) for key, value in content.items()})

    @classmethod
    def load(cls, path: str | Path) -> Lut:
        """Read and verify a table.

        Raises:
            LutError: If the file is not a table of a known version, is damaged, or its hash does not match.
        """
        path = Path(path)
        if not path.is_file():
            raise LutError("no such lookup table", got=str(path), hint="`devicelab lut` makes one")
        try:
            with h5py.File(path, "r") as file:
                return cls._read_file(file, path)
        except LutError:
            raise
        except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
            raise LutError("damaged, or not a lookup table", got=str(path), hint=str(error)) from error

    @classmethod
    def _read_file(cls, file: h5py.File, path: Path) -> Lut:
        if file.attrs.get("format") != FORMAT:
            raise LutError("not a lookup table", got=f"{path}: format {file.attrs.get('format')!r}", allowed=FORMAT)
        version = int(file.attrs.get("version", -1))
        if version != VERSION:
            raise LutError(
                "unknown version of the table format", got=version, allowed=VERSION, hint="a newer devicelab reads it"
            )
        group = file["entry/lut"]
        for name, rank in (("voltage", 1), ("state", 1), ("current", 2)):
            _check_dataset(group, name, rank)
        if _digest(file) != file.attrs.get("content_sha256"):
            raise LutError(
                "content does not match its SHA-256: the file was changed or damaged",
                got=str(path),
                hint="take a fresh copy, or make the table again",
            )
        return cls(
            group["voltage"][()],
            group["state"][()],
            group["current"][()],
            dict(file["entry/device"].attrs),
            dict(file["entry/provenance"].attrs),
            error=float(group.attrs["interpolation_error"]),
        )


def describe(model: Model) -> dict[str, Any]:
    """Name, window, options and every parameter with its unit, as flat attributes."""
    from .windows import window_name

    out: dict[str, Any] = {"model": model.name, "polarity": model.polarity, "window": window_name(model.window)}
    for prefix, owner in (("", model), ("window_", model.window)):
        for declared in owner.parameters():
            out[prefix + declared.name] = float(getattr(owner, declared.name))
            out[f"{prefix}{declared.name}_unit"] = declared.unit
    if hasattr(model, "resistance"):
        out["resistance"] = model.resistance
    return out


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


def _check_dataset(group: h5py.Group, name: str, rank: int) -> None:
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.float64 or dataset.ndim != rank:
        raise LutError(f"{name} is not a float64 dataset of rank {rank}", got=str(dataset))
    if dataset.size > MAX_POINTS:
        raise LutError(f"{name} is too large", got=f"{dataset.size} values", allowed=f"at most {MAX_POINTS}")


def _digest(file: h5py.File) -> str:
    digest = hashlib.sha256()

    def add(name: str, item: h5py.HLObject) -> None:
        attributes = {key: _plain(item.attrs[key]) for key in sorted(item.attrs) if key not in _BOOKKEEPING}
        attributes.pop("content_sha256", None)
        digest.update(json.dumps([name, attributes], sort_keys=True).encode())
        if isinstance(item, h5py.Dataset):
            digest.update(f"{item.dtype.str}{item.shape}".encode())
            digest.update(np.ascontiguousarray(item[()]).tobytes())

    add("/", file)
    names: list[str] = []
    file.visit(names.append)
    for name in sorted(names):
        add(name, file[name])
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, bytes):
        value = value.decode()
    return value if isinstance(value, (str, int, float, list)) else str(value)


def _odd_grid(v_max: float, n: int) -> Array:
    half = np.linspace(0.0, v_max, n // 2 + 1)
    return np.concatenate([-half[:0:-1], half])


def _between(grid: Array) -> Array:
    return 0.5 * (grid[:-1] + grid[1:])


def _sample(model: Model, voltage: Array, state: Array) -> Array:
    table = np.broadcast_to(model.current(voltage[None, :], state[:, None]), (state.size, voltage.size))
    return np.array(table, dtype=np.float64)  # a copy: the broadcast is read-only
