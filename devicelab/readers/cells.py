"""Cells to numbers: engineering exponents, decimal commas, units beside numbers, dates, and words for no value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileFormatError
from .table import Column
from .units import parse_unit

OVERFLOW = 9.9e36
"""SCPI instruments send 9.91e37 for not-a-number and 9.9e37 for overflow; nothing measured comes near."""

MISSING = frozenset(
    {"", "nan", "-nan", "na", "n/a", "null", "none", "-", "--", "---", "inf", "+inf", "-inf", "infinity", "overflow"}
    | {"ovrflw", "ovf", "#ref", "#ref!", "#n/a", "#value!", "#div/0!", "#num!", "#name?", "1.#qnan", "-1.#ind", "?"}
)
NUMBER = {
    ".": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eEdD][+-]?\d{1,4})?"),
    ",": re.compile(r"[+-]?(?:\d+,?\d*|,\d+)(?:[eEdD][+-]?\d{1,4})?"),
}
STAMP = re.compile(
    r"(\d{1,4})[/.-](\d{1,2})[/.-](\d{1,4})[ T]+(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,12}))?\s*([AaPp][Mm])?"
    r"(?:Z|[+-]\d{2}:?\d{2})?"
)
CLOCK = re.compile(r"()()()(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,12}))?\s*([AaPp][Mm])?")


def clean(cell: str) -> str:
    """The cell without blanks and quotes around it."""
    return cell.strip(" \t\u00a0\"'").replace("\u2212", "-")


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether the whole cell is a number, possibly followed by a unit, or a date with a time of day."""
    return bool(_split_number(cell, decimal)) or bool(STAMP.fullmatch(cell) or CLOCK.fullmatch(cell))


def is_missing(cell: str) -> bool:
    """Whether the cell says that there is no value."""
    return cell.lower() in MISSING


def _split_number(cell: str, decimal: str) -> tuple[float, str] | None:
    found = NUMBER[decimal].match(cell)
    if not found:
        return None
    unit = cell[found.end() :].strip()
    if unit and parse_unit(unit) is None:
        return None
    number = found[0].replace(",", ".").replace("d", "e").replace("D", "e")
    return float(number), unit


def numeric_share(cells: Sequence[str], decimal: str = ".") -> float:
    """Share of the cells that say something which are numbers; 0 when none says anything."""
    said = [cell for cell in cells if not is_missing(cell)]
    return sum(is_number(cell, decimal) for cell in said) / len(said) if said else 0.0


def to_column(
    name: str, unit: str | None, cells: Sequence[Any] | NDArray[np.float64], lines: Sequence[int], decimal: str = "."
) -> Column:
    """A `Column` from cells as read: text, or numbers and dates out of a workbook, or numbers already.

    Raises:
        FileFormatError: If numbers of one column carry different units.
    """
    if isinstance(cells, np.ndarray):
        return Column(name, unit, np.where(np.abs(cells) >= OVERFLOW, np.nan, cells))
    if any(isinstance(cell, (date, timedelta)) for cell in cells):
        cells = [_stamp_text(cell) for cell in cells]
    values = np.full(len(cells), np.nan)
    text: dict[int, str] = {}
    units: dict[str, int] = {}
    for row, cell in enumerate(cells):
        if isinstance(cell, (int, float)) and not isinstance(cell, bool):
            values[row] = float(cell)
            continue
        word = clean(str(cell))
        number = None if is_missing(word) else _split_number(word, decimal)
        if number:
            values[row] = number[0]
            if number[1]:
                units.setdefault(number[1], row)
        elif not is_missing(word):
            text[row] = word
    if text and all(STAMP.fullmatch(word) or CLOCK.fullmatch(word) for word in text.values()):
        return _time_column(name, text, len(cells))
    values[np.abs(values) >= OVERFLOW] = np.nan
    return Column(name, _one_unit(name, unit, units, lines), values, text)


def _one_unit(name: str, unit: str | None, units: dict[str, int], lines: Sequence[int]) -> str | None:
    if unit is not None and units and set(units) != {unit}:
        units = {**units, unit: -1}
    if len(units) > 1:
        said = [f"{text!r} in {'the header' if row < 0 else f'line {lines[row]}'}" for text, row in units.items()]
        raise FileFormatError(
            f"column {name!r} mixes units",
            got=" and ".join(said[:3]),
            allowed="one unit for a whole column",
            hint="convert the column to one unit, or leave the unit in the header only",
        )
    return next(iter(units), unit)


def _time_column(name: str, stamps: dict[int, str], size: int) -> Column:
    """Dates and clock times as seconds after the first one, exact to the nanosecond."""
    values = np.full(size, np.nan)
    ticks = {row: _nanoseconds(stamp) for row, stamp in stamps.items()}
    origin = next((tick for tick in ticks.values() if tick is not None), 0)
    for row, tick in ticks.items():
        values[row] = np.nan if tick is None else (tick - origin) * 1e-9
    return Column(name, "s", values, {}, origin=next(iter(stamps.values())))


def _nanoseconds(stamp: str) -> int | None:
    found = STAMP.fullmatch(stamp) or CLOCK.fullmatch(stamp)
    if not found:
        return None
    a, b, c, hour, minute, second, fraction, half = found.groups()
    try:
        year, month, day = _ymd(a, b, c) if a else (2000, 1, 1)
        hours = int(hour) if not half else int(hour) % 12 + (12 if half.lower() == "pm" else 0)
        days = datetime(year, month, day).toordinal()
    except ValueError:
        return None
    seconds = (days * 24 + hours) * 3600 + int(minute) * 60 + int(second)
    return seconds * 10**9 + int(((fraction or "") + "0" * 9)[:9])


def _ymd(a: str, b: str, c: str) -> tuple[int, int, int]:
    """Year first when it has four digits; else month/day/year unless the first number cannot be a month."""
    if len(a) == 4:
        return int(a), int(b), int(c)
    first, second = int(a), int(b)
    return (int(c), second, first) if first > 12 else (int(c), first, second)


def _stamp_text(cell: Any) -> str:
    if isinstance(cell, timedelta):
        return f"{cell.total_seconds():.9g} s"
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return f"{cell} 00:00:00" if isinstance(cell, date) else str(cell)  # midnight comes without its time
