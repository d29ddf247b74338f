"""Which columns of a block make a trace: as the caller says, as the profile says, as the file says, or by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import FileFormatError
from .options import Options
from .preamble import unit_above
from .profile import Profile
from .roles import SI, Role, best, describe
from .table import Block, Column
from .units import Unit, require_unit

ASSUMED = "assumed, the file states none"


@dataclass(frozen=True)
class Job:
    """One file being read: how, and what is known about it before its columns are looked at.

    Args:
        name: File name, for messages.
        profile: How the file is built.
        options: What the caller says.
        meta: Metadata that every trace of the file gets.
    """

    name: str
    profile: Profile
    options: Options
    meta: Mapping[str, Any]


class NoPairError(FileFormatError):
    """A block holds no current and voltage that belong together; other blocks of the file may."""


@dataclass(frozen=True)
class Choice:
    """The columns of a block that make a trace; `t` and `cycle` may be missing, a temperature only with its unit.

    `others` names the currents that are not in the trace.
    """

    v: Column
    i: Column
    t: Column | None
    cycle: Column | None
    note: str = ""
    temperature: Column | None = None
    others: tuple[str, ...] = ()


def choose(block: Block, job: Job) -> Choice:
    """The columns of `block` that make a trace."""
    asked = {**job.profile.columns, **job.options.columns}
    roles = _roles(block, asked, job)
    index = {role: find_column(block, asked[role], role, job.name) for role in asked}
    shunt = job.options.shunt or job.profile.shunt
    if "v" not in index or "i" not in index:
        pair = _pair(block, roles, index)
        if pair is None and shunt and "i" not in index:
            return _shunted(block, roles, shunt, index, job.name)
        if pair is None and job.profile.resistance and "v" in index:
            return _over_resistance(block, roles, index, job)
        if pair is None:
            raise _no_pair(block, roles, job.name)
        index["v"], index["i"] = pair
    if "t" not in index and (t := _nearest_time(block, roles, index["i"])) is not None:
        index["t"] = t
    if "cycle" not in index and (cycles := best(block.columns, roles, "cycle")):
        index["cycle"] = cycles[0]
    _check_units_above(block, roles, index)
    kelvin = [k for k in best(block.columns, roles, "temperature") if roles[k].unit is not None]
    chosen = {role: _scaled(block.columns[k], roles[k], role) for role, k in index.items()}
    temperature = next((_scaled(block.columns[k], roles[k], "temperature") for k in kelvin), None)
    others = tuple(block.columns[k].name for k in best(block.columns, roles, "i") if k != index["i"])
    return Choice(chosen["v"], chosen["i"], chosen.get("t"), chosen.get("cycle"), "", temperature, others)


def _check_units_above(block: Block, roles: list[Role], index: Mapping[str, int]) -> None:
    """Raise `FileFormatError` where a column states no unit but a line above the header does, or a factor."""
    for role, k in index.items():
        above = unit_above(block.meta.get("preamble", ()), role) if role in SI and roles[k].unit is None else None
        if above is not None:
            raise FileFormatError(
                f"column {block.columns[k].name!r} states no unit, but a line above it seems to",
                got=repr(above[0][:80]),
                allowed="the unit beside the name, or in a row below the names",
                hint=f"state the unit yourself: units={{{role!r}: {above[1]!r}}}",
            )


def _roles(block: Block, asked: Mapping[str, str | int], job: Job) -> list[Role]:
    """What each column is; columns that someone named are not guessed at.

    A unit that the caller states wins over the file, and the file over the profile.
    """
    said = {find_column(block, what, role, job.name): role for role, what in asked.items()}
    told, usual = job.options.units, job.profile.units
    roles = []
    for k, column in enumerate(block.columns):
        if k in said:
            role = said[k]
            text = told.get(role) or column.unit or usual.get(role)
            unit = require_unit(text, f"column {column.name!r}") if text and role in SI else None
            roles.append(Role(role, unit, "", 0))
        else:
            guess = describe(column, told)
            text = None if guess.unit else usual.get(guess.kind)
            roles.append(replace(guess, unit=require_unit(text, f"column {column.name!r}")) if text else guess)
        _check_unit(roles[-1], column)
    return roles


def _check_unit(role: Role, column: Column) -> None:
    if role.kind in SI and role.unit is not None and role.unit.si != SI[role.kind]:
        raise FileFormatError(
            f"column {column.name!r} is no {role.kind}",
            got=f"unit {role.unit.text!r}",
            allowed=f"a unit of {SI[role.kind]}",
            hint=f"state it: units={{{role.kind!r}: {SI[role.kind]!r}}}",
        )


def find_column(block: Block, what: str | int, role: str, name: str) -> int:
    """The index of the column that someone asked for by number (from 1), name or regular expression."""
    names = [column.name for column in block.columns]
    if isinstance(what, int):
        if 1 <= what <= len(names):
            return what - 1
    elif what in names:
        return names.index(what)
    else:
        try:
            fits = [k for k, label in enumerate(names) if re.fullmatch(what, label, re.IGNORECASE)]
        except re.error:  # no pattern, and no name either
            fits = []
        if fits:
            return fits[0]
    raise FileFormatError(
        f"{name} has no column {what!r} for {role}",
        got=", ".join(f"{k + 1} {label!r}" for k, label in enumerate(names)),
        allowed="the name of a column, or its number counted from 1",
    )


def _pair(block: Block, roles: list[Role], index: Mapping[str, int]) -> tuple[int, int] | None:
    """The voltage and current that belong together: as the file says, by equal names, or the only ones there are."""
    volts = [index["v"]] if "v" in index else best(block.columns, roles, "v")
    amps = [index["i"]] if "i" in index else best(block.columns, roles, "i")
    names = [column.name for column in block.columns]
    both = [(v, i) for v in volts for i in amps]
    for v_name, i_name in block.pairs:
        if (known := next(((v, i) for v, i in both if (names[v], names[i]) == (v_name, i_name)), None)) is not None:
            return known
    alike = [(v, i) for v, i in both if roles[v].stem == roles[i].stem] or both
    if not alike:
        return None
    span = {v: _span(block.columns[v]) for v, _ in alike}
    least = min(roles[v].rank + roles[i].rank for v, i in alike)
    return max((p for p in alike if roles[p[0]].rank + roles[p[1]].rank == least), key=lambda p: span[p[0]])


def _span(column: Column) -> float:
    good = column.values[np.isfinite(column.values)]
    return float(np.ptp(good)) if good.size else -1.0


def _no_pair(block: Block, roles: list[Role], name: str) -> NoPairError:
    lacking = [word for kind, word in (("v", "voltage"), ("i", "current")) if not best(block.columns, roles, kind)]
    seen = ", ".join(f"{k + 1} {column.name!r}" for k, column in enumerate(block.columns[:12]))
    hint = "name them: columns={'v': 1, 'i': 2}, units={'i': 'uA'}; or take the columns as they are: read_tables"
    if lacking == ["current"] and len(best(block.columns, roles, "v")) > 1:
        hint = "if the second voltage was measured over a resistor: shunt=<ohm>; otherwise name the current column"
    return NoPairError(
        f"{name} has no {' and no '.join(lacking)} column",
        got=f"columns {seen}" + ("" if block.named else " (the file has no header)"),
        allowed="a voltage and a current column, named such as 'Voltage (V)' and 'Current (uA)'",
        hint=hint,
    )


def _nearest_time(block: Block, roles: list[Role], i: int) -> int | None:
    """The time column just before the current; instruments that stamp each channel put one before each."""
    times = best(block.columns, roles, "t")
    before = [k for k in times if k < i]
    return max(before) if len(times) > 1 and before else next(iter(times), None)


def _scaled(column: Column, role: Role, kind: str) -> Column:
    """The column in SI units; `unit` says how it was written."""
    if kind not in SI:
        return column
    unit = role.unit or Unit(f"{SI[kind]} ({ASSUMED})", SI[kind])
    return replace(column, values=column.values * unit.scale + unit.offset, unit=unit.text)


def _shunted(block: Block, roles: list[Role], shunt: float, index: Mapping[str, int], name: str) -> Choice:
    """Current from the voltage over a series resistor, the device having the rest of the applied voltage.

    The applied voltage is the first one in the file, unless the caller names it as `v`.
    """
    volts = sorted(best(block.columns, roles, "v"), key=lambda k: (k != index.get("v"), k))
    if len(volts) < 2:
        raise _no_pair(block, roles, name)
    applied, over = (_scaled(block.columns[k], roles[k], "v") for k in volts[:2])
    t = index["t"] if "t" in index else _nearest_time(block, roles, volts[0])
    note = f"i = {over.name!r} / {shunt:g} ohm; v = {applied.name!r} - {over.name!r}"
    return Choice(
        replace(applied, values=applied.values - over.values),
        Column(over.name, "A (from the shunt)", over.values / shunt, over.text),
        None if t is None else _scaled(block.columns[t], roles[t], "t"),
        None,
        note,
    )


def _over_resistance(block: Block, roles: list[Role], index: Mapping[str, int], job: Job) -> Choice:
    """Current from a read voltage and the resistance the instrument worked out of it."""
    v = _scaled(block.columns[index["v"]], roles[index["v"]], "v")
    r = _scaled(block.columns[k := find_column(block, job.profile.resistance, "r", job.name)], roles[k], "r")
    with np.errstate(divide="ignore", invalid="ignore"):
        i = v.values / r.values
    t = None if "t" not in index else _scaled(block.columns[index["t"]], roles[index["t"]], "t")
    return Choice(v, Column(r.name, "A (from the resistance)", i, r.text), t, None, f"i = {v.name!r} / {r.name!r}")
