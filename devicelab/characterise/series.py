"""What kind of measurement a table holds, and its columns by role: pulses, endurance, retention, noise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileFormatError, unknown_name
from ..readers.table import Table
from ..trace import Trace
from .programmes import alternates, is_programme, ramps

Array = NDArray[np.float64]
KINDS = ("loops", "pulses", "endurance", "retention", "noise", "states")
SWEPT = 0.2
MANY_READS = 256
EVEN = 3.0
EPOCH = 1e8
"""A time [s] beyond this is a date, not a time since programming."""
_NAMES = {
    "pulse": r"(?i)^(pulse|n[_ ]?pulses?)s?([ _]?(no\.?|nr\.?|num|number|index|count|#))?$|^#? ?pulses?$",
    "up": r"(?i)^(up|ltp|pot|potentiation|set pulses?)\b",
    "down": r"(?i)^(down|ltd|dep|depression|reset pulses?)\b",
    "cycle": r"(?i)^#?\s?(cycle|loop)s?([ _.]?(no\.?|nr\.?|num|number|index|count|id|#))?$",
    "device": r"(?i)^(address|device|cell|die|addr)([ _]?(id|no|number))?$",
    "time": r"(?i)^(time|t|elapsed( time)?|time ?stamps?|retention time)$",
    "temperature": r"(?i)^temp(erature)?$",
}
_SIDES = {
    "low": r"(?i)low|lrs|(?<![a-z])r?_?on(?![a-z])",
    "high": r"(?i)high|hrs|(?<![a-z])r?_?off(?![a-z])",
}
_VALUES = {
    "resistance": ("ohm", r"(?i)^resist|^r$|^r[_ ]"),
    "conductance": ("S", r"(?i)^conduct|^g$|^g[_ ]"),
    "current": ("A", r"(?i)^current|^i$|^i[_ ]|^ai$|^i[lh]rs$"),
    "voltage": ("V", r"(?i)^volt|^v$|^v[_ ]|^av$"),
}


@dataclass(frozen=True, eq=False)
class Series:
    """One measurement of one device, its columns by role.

    Args:
        kind: "pulses", "endurance", "retention", "noise" or "states".
        name: File, and device or direction.
        x: Pulse number, cycle, time [s] or number of the cell, shape [n].
        y: Role to numbers, shape [n]: "up" or "down" (pulses), "low" and "high" (endurance, retention), "state"
            (retention, states), "signal" (noise), "before" and "after" (states).
        unit: Of the numbers in y.
        why: What the kind was told from.
        meta: Metadata of the table, `device` and `temperature` [K] where known, `voltage` [V] of a read.
    """

    kind: str
    name: str
    x: Array
    y: Mapping[str, Array]
    unit: str
    why: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.x.size)


def is_swept(trace: Trace) -> bool:
    """Whether the voltage moves, as in a loop or a sweep, and is not that of a read."""
    v = np.asarray(trace.v)
    return bool(np.ptp(v) > SWEPT * np.abs(v).max()) and not is_programme(trace)


def series_of(tables: Sequence[Table], kind: str | None = None) -> list[Series]:
    """The measurements in the tables of a file.

    Args:
        tables: Of one file, from `devicelab.readers.read_tables`.
        kind: One of `KINDS` but "loops"; told from the columns unless given.

    Raises:
        FileFormatError: If the columns do not make such a measurement, with the columns that there are.
        ParameterError: If the kind is not one of these.
    """
    if kind is not None and kind not in KINDS[1:]:
        raise unknown_name("kind of measurement", kind, list(KINDS))
    found = [series for table in tables for series in _of_table(_Columns(table), kind)]
    if found:
        return found
    names = ", ".join(dict.fromkeys(name for table in tables for name in table))
    raise FileFormatError(
        f"no {kind or 'measurement'} in {tables[0].meta.get('file', 'the table') if tables else 'the file'}",
        got=f"columns {names[:300]}",
        allowed=_NEEDS[kind] if kind else "; ".join(f"{name}: {needs}" for name, needs in _NEEDS.items()),
        hint="name the columns so, or by `names` in a profile",
    )


_NEEDS = {
    "pulses": "a pulse number and a current, conductance or resistance; or up and down; or pulses and reads in turn",
    "endurance": "a cycle column and a low and a high resistance (or ILRS and IHRS, or one resistance, both in turn)",
    "retention": "a time and a resistance, conductance or current at constant voltage",
    "noise": "the same, 64 reads or more",
    "states": "a device (or address, cell) and a resistance, or resistances before and after",
}


class _Columns:
    """Columns of a table by role; words and blank columns are left out."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.numeric = {
            name: np.asarray(table[name], dtype=float)
            for name in table
            if np.asarray(table[name]).dtype.kind in "fiu" and np.isfinite(np.asarray(table[name], dtype=float)).any()
        }

    def named(self, role: str) -> str | None:
        return next((name for name in self.numeric if re.search(_NAMES[role], name.strip())), None)

    def value(self, *quantities: str) -> tuple[str, str] | None:
        """Quantity and name of the first column that is one of these, by unit or, without a unit, by name."""
        for quantity in quantities:
            unit, words = _VALUES[quantity]
            for name in self.numeric:
                stated = self.table.units.get(name, "")
                if (stated == unit and not re.search(r"(?i)^abs|log", name)) or (not stated and re.search(words, name)):
                    return quantity, name
        return None

    def pair(self) -> list[tuple[str, str, str]]:
        """Names of low and high columns that belong together, and their stem."""
        sides: dict[str, dict[str, str]] = {"low": {}, "high": {}}
        for name in self.numeric:
            unit = self.table.units.get(name, "")
            last = name.rsplit(".", 1)[-1]
            for side, pattern in _SIDES.items():
                match = re.search(pattern, last)
                able = unit in ("ohm", "A", "S") or (
                    not unit and re.match(r"(?i)[rig]|low|high|on$|off$|lrs|hrs", last)
                )
                if match and able and not re.search(r"(?i)ratio", last):
                    stem = name[: -len(last)] + last[: match.start()] + last[match.end() :]
                    sides[side].setdefault(stem, name)
        return [
            (low, sides["high"][stem], low.rpartition(".")[0] or stem.strip(" _"))
            for stem, low in sides["low"].items()
            if stem in sides["high"]
        ]

    def resistance(self, name: str) -> tuple[Array, str]:
        """A column as a resistance [ohm]: as it is, 1 / G, or V / I; |1 / I| where no voltage is known."""
        values, unit, last = self.numeric[name], self.table.units.get(name, ""), name.rsplit(".", 1)[-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            if unit == "ohm" or re.match(r"(?i)r($|[_ ]|on|off|[lh]rs|esist)|(low|high) res", last):
                return values, "ohm"
            if unit == "S" or re.match(r"(?i)g($|[_ ]|on|off|[lh]rs)|conduct|(low|high) cond", last):
                return 1 / values, "ohm"
            voltage = self.value("voltage")
            if voltage:
                return np.abs(self.numeric[voltage[1]] / values), "ohm"
            return np.abs(1 / values), "1/A"


def _of_table(columns: _Columns, kind: str | None) -> list[Series]:
    makers = {"pulses": _pulses, "endurance": _endurance, "retention": _reads, "noise": _reads, "states": _states}
    for name in [kind] if kind else ("pulses", "endurance", "noise", "states"):
        found = makers[name](columns, kind) if name in ("retention", "noise") else makers[name](columns)  # type: ignore[operator]
        if found:
            return list(found)
    return []


def _groups(columns: _Columns) -> list[tuple[Any, NDArray[np.int_]]]:
    """Rows of each device, in order of appearance."""
    name = columns.named("device")
    rows = np.arange(len(columns.table))
    if name is None:
        return [(columns.table.meta.get("device", columns.table.meta.get("address")), rows)]
    values = columns.numeric[name]
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(inverse))[:-1])
    return [(_whole(values[first[k]]), np.sort(parts[k])) for k in np.argsort(first)]


def _whole(value: float) -> Any:
    return int(value) if float(value).is_integer() else float(value)


def _named(columns: _Columns, device: Any, more: str = "") -> str:
    meta = columns.table.meta
    parts = [str(meta.get("file", "table")), str(meta.get("sheet", "")) if meta.get("sheet") else ""]
    parts += [f"device {device}" if device is not None else "", more]
    return ", ".join(part for part in parts if part)


def _meta(columns: _Columns, device: Any, **more: Any) -> dict[str, Any]:
    kept = {k: v for k, v in columns.table.meta.items() if isinstance(v, (str, int, float)) and k != "profile_why"}
    return kept | ({"device": device} if device is not None else {}) | more


def _clean(x: Array, y: Mapping[str, Array]) -> tuple[Array, dict[str, Array]]:
    """Rows with a number in every column."""
    keep = np.isfinite(x)
    for values in y.values():
        keep &= np.isfinite(values)
    return x[keep], {name: values[keep] for name, values in y.items()}


def _pulses(columns: _Columns) -> list[Series]:
    up, down, number = (columns.named(role) for role in ("up", "down", "pulse"))
    meta = _meta(columns, None)
    if up and down:
        made = []
        for role, name in (("up", up), ("down", down)):
            y = columns.numeric[name]
            x, kept = _clean(np.arange(1.0, y.size + 1), {role: y})
            unit = columns.table.units.get(name, "") or "1"
            made.append(
                Series("pulses", _named(columns, None, role), x, kept, unit, f"columns {up!r} and {down!r}", meta)
            )
        return made
    value = columns.value("conductance", "current", "resistance")
    if number is None:
        return _programme(columns, meta)
    if value is None:
        return []
    quantity, name = value
    y = np.abs(columns.numeric[name]) if quantity == "current" else columns.numeric[name]
    if quantity == "resistance":
        with np.errstate(divide="ignore"):
            y = 1 / y
    x, kept = _clean(columns.numeric[number], {"value": y})
    unit = {"conductance": "S", "current": "A", "resistance": "S"}[quantity]
    parts = _ramps(x, kept["value"])
    why = f"columns {number!r} and {name!r}"
    return [
        Series("pulses", _named(columns, None, f"ramp {k + 1} ({role})" if len(parts) > 1 else role),
               x[rows], {role: kept["value"][rows]}, unit, why, meta)
        for k, (role, rows) in enumerate(parts)
    ]  # fmt: skip


def _programme(columns: _Columns, meta: Mapping[str, Any]) -> list[Series]:
    """Ramps of a record of pulses and reads in turn: the conductance read after each pulse."""
    voltage, current = columns.value("voltage"), columns.value("current")
    if voltage is None or current is None:
        return []
    v, i = columns.numeric[voltage[1]], columns.numeric[current[1]]
    if not (np.isfinite(v).all() and np.isfinite(i).all() and alternates(v)):
        return []
    read, runs = ramps(v)
    made: list[Series] = []
    for pulse, rows in runs:
        g = np.abs(i[rows] / v[rows])
        role = "up" if g[-1] > g[0] else "down"
        name = _named(columns, None, f"ramp {len(made) + 1} ({role}), pulses of {pulse:.3g} V")
        why = f"columns {voltage[1]!r} and {current[1]!r}: pulses and reads at {read:.3g} V in turn"
        made.append(Series("pulses", name, np.arange(1.0, g.size + 1), {role: g}, "S", why,
                           {**meta, "pulse_voltage": pulse, "voltage": read}))  # fmt: skip
    return made


def _ramps(x: Array, y: Array) -> list[tuple[str, slice]]:
    """Ramps of a pulse train: parted where the pulse number starts again, or at the one clear turn of the readings."""
    edges = [0, *(np.flatnonzero(np.diff(x) <= 0) + 1).tolist(), x.size]
    if len(edges) == 2 and x.size >= 20:
        plain = np.log(y) if y.min() > 0 and y.max() > 10 * y.min() else y  # steep ramps turn visibly in decades
        smooth = np.convolve(plain, np.ones(max(1, y.size // 50)) / max(1, y.size // 50), mode="valid")
        shift = (y.size - smooth.size) // 2
        for turn in (int(np.argmax(smooth)), int(np.argmin(smooth))):
            ends = np.abs(np.array([smooth[0], smooth[-1]]) - smooth[turn])
            if 0.1 < turn / smooth.size < 0.9 and ends.min() > 0.4 * np.ptp(smooth):
                edges = [0, turn + shift + 1, x.size]
                break
    made = []
    for a, b in pairwise(edges):
        few = max(1, (b - a) // 10)
        rising = y[b - few : b].mean() > y[a : a + few].mean() if b - a > 1 else True
        made.append(("up" if rising else "down", slice(a, b)))
    return made


def _endurance(columns: _Columns) -> list[Series]:
    cycle, pairs = columns.named("cycle"), columns.pair()
    if cycle is None:
        return []
    made = []
    for device, rows in _groups(columns):
        x = columns.numeric[cycle][rows]
        for low, high, stem in pairs:
            values = [columns.resistance(name) for name in (low, high)]
            y = {"low": values[0][0][rows], "high": values[1][0][rows]}
            why = f"columns {cycle!r}, {low!r} and {high!r}"
            made.append(_worn(columns, device, stem if len(pairs) > 1 else "", (x, y), values[0][1], why))
        alone = columns.value("resistance")
        if not pairs and alone:
            r = columns.resistance(alone[1])[0][rows]
            both = x[: x.size // 2 * 2].reshape(-1, 2)
            if both.size and np.all(both[:, 0] == both[:, 1]):
                r = r[: r.size // 2 * 2].reshape(-1, 2)
                r = r if np.median(r[:, 0]) < np.median(r[:, 1]) else r[:, ::-1]
                why = f"columns {cycle!r} and {alone[1]!r}, low and high in turn"
                made.append(_worn(columns, device, "", (both[:, 0], {"low": r[:, 0], "high": r[:, 1]}), "ohm", why))
    return [series for series in made if len(series)]


def _worn(
    columns: _Columns, device: Any, stem: str, values: tuple[Array, Mapping[str, Array]], unit: str, why: str
) -> Series:
    x, y = _clean(*values)
    if x.size and x.min() <= 0:  # counted from 0
        x = x - x.min() + 1
    good = (y["low"] > 0) & (y["high"] > 0)
    y = {name: part[good] for name, part in y.items()}
    return Series("endurance", _named(columns, device, stem), x[good], y, unit, why, _meta(columns, device))


def _states(columns: _Columns) -> list[Series]:
    """One resistance a cell, or two: before and after what was done to it."""
    device, value = columns.named("device"), columns.value("resistance", "conductance")
    if device is None or value is None or any(columns.named(role) for role in ("time", "cycle", "pulse")):
        return []
    sides = {side: next((n for n in columns.numeric if re.search(rf"(?i)\b{side}$", n.strip())), None)
             for side in ("before", "after")}  # fmt: skip
    names = {k: n for k, n in sides.items() if n} if all(sides.values()) else {"state": value[1]}
    x, y = _clean(columns.numeric[device], {side: columns.resistance(name)[0] for side, name in names.items()})
    if x.size == 0 or np.unique(x).size < x.size / 2:
        return []
    why = f"columns {device!r} and {', '.join(map(repr, names.values()))}: a row a cell"
    return [Series("states", _named(columns, None), x, y, "ohm", why, _meta(columns, None))]


def _reads(columns: _Columns, kind: str | None) -> list[Series]:
    time = columns.named("time")
    pairs = columns.pair() if kind != "noise" else []
    value = columns.value("current", "resistance", "conductance")
    voltage = columns.value("voltage")
    if time is None or (value is None and not pairs):
        return []
    made = []
    for device, rows in _groups(columns):
        v = columns.numeric[voltage[1]][rows] if voltage else np.empty(0)
        if v.size and np.ptp(v) > SWEPT * np.abs(v).max():
            continue
        for kelvin, part in _by_temperature(columns, rows):
            x = columns.numeric[time][part]
            chosen = kind or ("noise" if _many_even(x) and not pairs else "retention")
            more = {"temperature": kelvin} if kelvin is not None else {}
            more |= {"voltage": float(np.median(v))} if v.size else {}
            y, unit, named = _read_columns(columns, chosen, part, pairs)
            x, y = _clean(x, y)
            why = f"columns {time!r} and {named}, {x.size} reads{' at even times' if chosen == 'noise' else ''}"
            made.append(Series(chosen, _named(columns, device, f"{kelvin:g} K" if kelvin else ""), x, y, unit, why,
                               _meta(columns, device, **more)))  # fmt: skip
    return made


def _read_columns(
    columns: _Columns, kind: str, rows: NDArray[np.int_], pairs: list[tuple[str, str, str]]
) -> tuple[dict[str, Array], str, str]:
    if kind == "retention" and pairs:
        low, high, _ = pairs[0]
        (on, unit), (off, _) = (columns.resistance(name) for name in (low, high))
        return {"low": on[rows], "high": off[rows]}, unit, f"{low!r}, {high!r}"
    order = ("current", "resistance", "conductance") if kind == "noise" else ("resistance", "conductance", "current")
    found = columns.value(*order)
    assert found is not None  # noqa: S101  # the caller looked
    quantity, name = found
    if kind == "noise":
        return {"signal": columns.numeric[name][rows]}, _VALUES[quantity][0], repr(name)
    values, unit = columns.resistance(name)
    return {"state": values[rows]}, unit, repr(name)


def _by_temperature(columns: _Columns, rows: NDArray[np.int_]) -> list[tuple[float | None, NDArray[np.int_]]]:
    """Rows of each temperature [K]: a column, rounded to 1 K, or the metadata."""
    name = columns.named("temperature")
    if name is None or columns.table.units.get(name, "") not in ("K", ""):
        given = columns.table.meta.get("temperature")
        return [(float(given) if isinstance(given, (int, float)) else None, rows)]
    kelvin = np.round(columns.numeric[name][rows])
    return [(float(value), rows[kelvin == value]) for value in np.unique(kelvin[np.isfinite(kelvin)])]


def _many_even(x: Array) -> bool:
    """Whether reads are many and nearly even in time, so that a spectrum can be taken."""
    steps = np.diff(x[np.isfinite(x)])
    if steps.size < MANY_READS or not (steps > 0).all():
        return False
    middle = float(np.median(steps))
    return bool(np.mean((steps > middle / EVEN) & (steps < middle * EVEN)) > 0.95)
