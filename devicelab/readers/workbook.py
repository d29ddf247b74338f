"""Workbooks: one block a sheet; the Settings sheet of a Keithley 4200 (Clarius, KTEI) gives compliance and cycle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import FileFormatError
from .cells import clean, numeric_share, to_column
from .delimited import name_columns
from .source import Source
from .table import Block

Row = list[Any]
NOT_DATA = {"calc", "settings"}
KEPT_SETTINGS = {
    "Test Name": "test", "Last Executed": "executed", "Mode": "mode", "Dual Sweep": "dual_sweep",
    "Dual Sweep Mode": "dual_sweep", "Clarius+ Version": "software", "KTEI Version": "software",
    "Sweep Delay": "sweep_delay", "Hold Time": "hold_time", "Site Coordinate": "site",
}  # fmt: skip


def read_workbook(source: Source) -> list[Block]:
    """Every data sheet of an xls or xlsx file, the oldest run first.

    Raises:
        FileFormatError: If the workbook is damaged or no sheet holds rows of numbers.
    """
    sheets = source.sheets
    settings = {name: _settings(rows) for name, rows in sheets.items() if name.lower() == "settings"}
    by_sheet = next(iter(settings.values()), {})
    blocks = []
    for name, rows in sheets.items():
        if name.lower() in NOT_DATA:
            continue
        block = _block(name, rows, by_sheet.get(name, by_sheet.get("", {})))
        if block is not None:
            blocks.append(block)
    if not blocks:
        raise FileFormatError(
            f"{source.path.name} holds no rows of numbers",
            got=f"sheets {', '.join(sheets) or '(none)'}",
            allowed="a sheet with a header row and numbers below it",
        )
    return _oldest_first(blocks)


def _block(sheet: str, rows: list[Row], settings: dict[str, Any]) -> Block | None:
    """One sheet as a block, or None when it holds no numbers."""
    first = next((k for k, row in enumerate(rows) if _is_data(row)), None)
    if first is None:
        return None
    last = next(k for k in reversed(range(len(rows))) if _is_data(rows[k]))
    width = max(len(row) for row in rows[first : last + 1])
    heads = [[clean(_word(cell)) for cell in row[:width]] for row in rows[max(0, first - 2) : first] if _says(row)]
    names, units, groups = name_columns(heads, width)
    numbers = np.arange(first, last + 1, dtype=np.int64) + 1
    body = [row + [""] * (width - len(row)) for row in rows[first : last + 1]]
    columns = tuple(
        to_column(name or f"column {k + 1}", unit, [row[k] for row in body], numbers.tolist())
        for k, (name, unit) in enumerate(zip(names, units, strict=True))
    )
    meta = {"sheet": sheet, **settings.get("meta", {})}
    if found := re.fullmatch(r"(?i)run\s*(\d+)", sheet.strip()):
        meta["run"] = int(found[1])
    return Block(columns, numbers, bool(heads), meta, compliance=settings.get("compliance", {}), groups=tuple(groups))


def _is_data(row: Row) -> bool:
    return numeric_share([_word(cell) for cell in row]) >= 0.5


def _word(cell: Any) -> str:
    return clean(str(cell))


def _says(row: Sequence[Any]) -> bool:
    return sum(bool(_word(cell)) for cell in row) >= 2


def _settings(rows: list[Row]) -> dict[str, dict[str, Any]]:
    """Sheet name to its settings; the empty name holds settings that name no sheet."""
    found: dict[str, dict[str, Any]] = {}
    sheet, banner = "", False
    current: dict[str, Any] = {"meta": {}, "compliance": {}, "_names": []}
    for row in rows:
        words = [_word(cell) for cell in row]
        if words and words[0].startswith("=="):
            banner = not banner
        elif banner and words[0]:
            if cycle := re.fullmatch(r"Cycle\s+(\d+)", words[0]):
                current["meta"]["cycle"] = int(cycle[1])
            else:
                sheet, current = words[0], {"meta": {}, "compliance": {}, "_names": []}
        elif len(words) > 1 and words[0]:
            _take_setting(current, words[0], words[1:])
        found[sheet] = current
    return found


def _take_setting(current: dict[str, Any], key: str, words: list[str]) -> None:
    if key == "Name":
        current["_names"] = words
    elif key == "Compliance":
        for name, word in zip(current["_names"], words, strict=False):
            number = _number(word)
            if number is not None:
                current["compliance"][name] = number
    elif key in KEPT_SETTINGS:
        told = [word for word in words if word not in {"", "N/A"}]
        if told:
            current["meta"][KEPT_SETTINGS[key]] = told[0]


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _oldest_first(blocks: list[Block]) -> list[Block]:
    """Blocks by cycle, else by run number, where every one has it; Clarius writes the newest first."""
    for key in ("cycle", "run"):
        if all(key in block.meta for block in blocks):
            return sorted(blocks, key=lambda block: int(block.meta[key]))
    return blocks
