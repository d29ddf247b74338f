"""Which column is the voltage, the current, the time or the cycle, told from names and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..errors import FileFormatError
from .table import Column
from .units import LONGEST_NAME, NOT_A_UNIT_WE_TAKE, Unit, bracketed, parse_unit, require_unit

SI = {"v": "V", "i": "A", "t": "s", "r": "ohm", "temperature": "K"}
ROLE_OF_SI = {si: role for role, si in SI.items()}
WORDS = {
    "v": r"voltage|spannung|volts?|bias|potential",
    "i": r"current|strom|courant",
    "t": r"time ?stamp|elapsed time|time|elapsed|zeit",
}
NOT_A_SIGNAL = re.compile(
    r"(?i)^\||^(abs|log|ln|norm|max|min|mean|avg|std|leak)|absolute|density|compliance|limit|range|status|norm|log|width|^hold|^delay|"
    r"(pulse|rise|fall|integration|delay|hold|cycle|width|set|reset|on|off)[ _]?time"
)
SCALARS = {"abs", "set", "reset", "form", "th", "max", "min", "read", "lrs", "hrs", "pos", "on", "off", "step", "ndex"}
NOT_NAMES = {
    "us", "um", "up", "in", "if", "it", "iv", "vi", "ion", "via", "use", "user", "unit", "units", "item", "index",
    "image", "input", "value", "valid", "video",
}  # fmt: skip
"""Words that look like a voltage or a current with a subscript."""
SCALED = re.compile(
    r"(?i)\d\s*e[-+]?\d|10\s*(\^|\*\*)|\bx\s*10|%|amp|(?<![a-z])(micro|milli|nano|pico|femto|kilo|mega)"
)
"""What no name says without meaning a unit or a factor."""
OF_TIME = {"", "elapsed", "relative", "absolute", "rel", "abs", "measured", "total"}
CYCLE = re.compile(
    r"(?i)^(cycle|loop|sweep|run|repeat|iteration)s?([ _]?(no\.?|nr\.?|num|number|index|id|#))?$|^#?cycle$"
)


@dataclass(frozen=True)
class Role:
    """What a column seems to be.

    Args:
        kind: `v`, `i`, `t`, `cycle`, `temperature`, `r`, or empty when nothing is known.
        unit: Its unit, when one is stated.
        stem: The name without the part that makes it a voltage or a current: equal stems belong together.
        rank: 0 for a name that says it in full, more for names that only hint.
    """

    kind: str
    unit: Unit | None
    stem: str
    rank: int


def describe(column: Column, told: Mapping[str, str] | None = None) -> Role:
    """What one column seems to be.

    Args:
        column: As it stands in the file.
        told: Role to the unit that the caller states; what the file says of it is then not looked at.

    Raises:
        FileFormatError: If the unit of a voltage, current or time is unknown, or contradicts the name.
    """
    name, unit = column.name, column.unit
    if len(name) > LONGEST_NAME:
        return Role("", None, "", 9)
    if unit is None:
        name, unit = _suffix_unit(name)
    role, stem, rank = name_role(name)
    if told and role in told and not NOT_A_SIGNAL.search(name):
        return Role(role, require_unit(told[role], f"column {name!r}"), stem, rank)
    known = parse_unit(unit) if unit else None
    if role == "t" and unit == "S":  # S is siemens, except where the header says time
        known = Unit("S", "s")
    if unit and known is None and (role in {"v", "i", "t"} or _looks_electrical(unit)):
        if NOT_A_SIGNAL.search(name) or NOT_A_UNIT_WE_TAKE.search(unit):
            return Role("", None, stem, 9)
        known = require_unit(unit, f"column {name!r}")
    if known and role in SI and known.si != SI[role]:
        if rank >= 2:
            return Role("" if NOT_A_SIGNAL.search(name) else ROLE_OF_SI.get(known.si, ""), known, stem, 3)
        raise FileFormatError(
            f"column {name!r} is stated in {unit}",
            got=f"a name that says {SI[role]} and a unit that says {known.si}",
            allowed="a name and a unit that agree",
            hint="say which it is: columns={'i': 'the column'}, units={'i': 'A'}",
        )
    if NOT_A_SIGNAL.search(name):
        return Role("", known, stem, 9)
    if not role and known:
        role, rank = ROLE_OF_SI.get(known.si, ""), 1
    if unit is None and role in WORDS and not column.is_text:
        _check_no_unit_is_hidden(name, role)
    return Role(role, known, stem, rank)


def _check_no_unit_is_hidden(name: str, role: str) -> None:
    """Raise `FileFormatError` where a name seems to state a unit or a factor that was not understood."""
    said = [text for _, _, text in bracketed(name)]
    words = re.split(r"[^\wµμΩ°]+|_", name)[1:]
    units = [unit for word in words if (unit := parse_unit(word))]
    strange = [text for text in said if SCALED.search(text) or (role == "t" and text.lower() not in OF_TIME)]
    strange += [unit.text for unit in units if unit.si == SI[role] and unit.scale != 1.0]
    strange += [word for word in words if re.fullmatch(r"[GMTUNPKF][VAS]|[GMT][vas]", word)]
    if not strange and (found := SCALED.search(name)) and not re.search(r"(?i)amp", found[0]):
        strange = [found[0]]
    if strange:
        raise FileFormatError(
            f"column {name!r} seems to state a unit or factor that is not understood",
            got=repr(strange[0]),
            allowed="a unit in brackets, such as (uA), at the end of the name",
            hint=f"state the unit yourself: units={{{role!r}: {SI[role]!r}}}",
        )


def _looks_electrical(unit: str) -> bool:
    return bool(re.search(r"[VA]$", unit)) and len(unit) <= 3


def _suffix_unit(name: str) -> tuple[str, str | None]:
    """Units behind an underscore or blank (`I_uA`, `Time ms`) that fit the name, or a name that is itself a unit."""
    found = re.fullmatch(r"(.+?)[_ :;=-]\s*([^_ :;=-]+)", name) or re.fullmatch(r"([VvUuIi])([fpnuµμmk][VA])", name)
    if found and (unit := parse_unit(found[2])):
        role = name_role(found[1])[0]
        if (role in SI and SI[role] == unit.si) or (role == "t" and found[2] == "S"):
            return found[1], found[2]
    if re.fullmatch(r"[fpnuµμmk]?[VA]|[pnuµμm]?s", name):
        return "", name
    return name, None


def name_role(name: str) -> tuple[str, str, int]:
    """Role, stem and rank that a bare name suggests; an empty role when it suggests nothing."""
    if CYCLE.match(name):
        return "cycle", "", 0
    if re.match(r"(?i)^temp(erature|\.|)?$|^temperature", name):
        return "temperature", "", 0
    if re.match(r"(?i)^resistance$", name):
        return "r", "", 0
    for role, words in WORDS.items():
        if found := re.search(rf"(?i)(?<![a-z])({words})(?![a-z])|(?<=[a-z])(?:{words.title()})(?![a-z])", name):
            stem = (name[: found.start()] + name[found.end() :]).strip(" _.-").lower()
            return role, "" if stem in {"applied", "measured", "meas"} else stem, 0
    if re.fullmatch(r"t\d?", name):  # T is a temperature as often as a time, and needs its unit
        return "t", name[1:], 2
    for role, letters in (("v", "VvUu"), ("i", "Ii")):
        if found := re.fullmatch(rf"([A-Za-z]\w*\.?|)[{letters[0]}]([\[(].*|\d*)", name):
            return role, f"{found[1]}{found[2]}".lower(), 1
        if found := re.fullmatch(rf"[{letters}]([A-Za-z0-9]{{0,5}}|[_ ][A-Za-z0-9]{{0,12}})", name):
            stem = found[1].strip("_ ").lower()
            if stem not in SCALARS and name not in {"id", "ID"} and name.lower() not in NOT_NAMES:
                return role, stem, 2 if stem else 1
    return "", name.lower(), 9


def best(columns: Sequence[Column], roles: Sequence[Role], kind: str) -> list[int]:
    """Indices of the columns that could be `kind`, the likeliest first; words and blank columns are left out."""
    able = [k for k, role in enumerate(roles) if role.kind == kind and not columns[k].is_text]
    return sorted(able, key=lambda k: roles[k].rank)
