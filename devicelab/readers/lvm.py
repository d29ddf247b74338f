"""LabVIEW .lvm: a file header, then segments with their own header; decimal sign and separator are declared."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import FileFormatError
from .cells import clean, to_column
from .table import Block, Column

END = "***End_of_Header***"


def read_lvm(text: str, name: str) -> list[Block]:
    """One block for each segment; time comes from `X_Value`, or from `X0` and `Delta_X` where no X was written.

    The number of samples in a segment header is not trusted: LabVIEW repeats that of the first write.

    Raises:
        FileFormatError: If a header does not end, or no segment holds numbers.
    """
    lines = text.splitlines()
    ends = [k for k, line in enumerate(lines) if line.strip().startswith(END)]
    if not ends:
        raise FileFormatError(f"{name} has no LabVIEW header", got="no ***End_of_Header***", allowed="a complete .lvm")
    separator = "," if "\nSeparator,Comma" in text.replace("\r", "") else "\t"
    head = _keys(lines[: ends[0]], separator)
    decimal = "," if head.get("Decimal_Separator", ["."])[0:1] == [","] else "."
    meta = {k.lower(): head[k][0] for k in ("Operator", "Date", "Description") if head.get(k, [""])[0]}
    starts = ends[1:] or [ends[0]]  # a file written without segment headers has the file header only
    blocks: list[Block] = []
    for place, end in enumerate(starts):
        above = lines[ends[place] + 1 : end] if ends[1:] else []
        stop = ends[place + 2] if place + 2 < len(ends) else len(lines)
        block = _segment(_keys(above, separator), lines, (end + 1, stop), separator, decimal)
        if block is not None:
            blocks.append(Block(**{**vars(block), "meta": {**meta, **block.meta}}))
    if not blocks:
        raise FileFormatError(f"{name} holds no numbers", got="headers only", allowed="rows of numbers below a header")
    several = len(blocks) > 1
    return [
        Block(**{**vars(b), "meta": {**b.meta, **({"run": k + 1} if several else {})}}) for k, b in enumerate(blocks)
    ]


def _keys(lines: list[str], separator: str) -> dict[str, list[str]]:
    rows = [[clean(cell) for cell in line.split(separator)] for line in lines if line.strip()]
    return {row[0]: row[1:] for row in rows if row[0]}


def _segment(
    head: dict[str, list[str]], lines: list[str], span: tuple[int, int], separator: str, decimal: str
) -> Block | None:
    names: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    for k in range(*span):
        cells = [clean(cell) for cell in lines[k].split(separator)]
        if "Channels" in cells[:1]:
            break  # the header of the next segment
        if not names and cells[0].startswith("X_Value"):
            names = cells
        elif names and any(cells):
            rows.append((cells + [""] * len(names))[: len(names)])
            numbers.append(k + 1)
    if not rows:
        return None
    units = head.get("Y_Unit_Label", [])
    built: list[Column] = []
    channel = -1
    for k, label in enumerate(names):
        if label == "Comment" or not label:
            continue
        is_x = label.startswith("X_Value")
        channel += not is_x
        unit = "s" if is_x else (units[channel] if channel < len(units) and units[channel] else None)
        cells = [row[k] for row in rows]
        if is_x and not any(cells):
            built.append(Column("Time", "s", _uniform(head, len(rows), decimal)))
        else:
            built.append(to_column("Time" if is_x else label, unit, cells, numbers, decimal))
    meta: dict[str, Any] = {"start": f"{head['Date'][0]} {head['Time'][0]}"} if {"Date", "Time"} <= set(head) else {}
    return Block(tuple(built), np.array(numbers, dtype=np.int64), meta=meta)


def _uniform(head: dict[str, list[str]], samples: int, decimal: str) -> Any:
    """Times from X0 and Delta_X [s]; not a number when the header does not say, so that it is refused later."""
    try:
        start, step = (float(head[key][0].replace(decimal, ".")) for key in ("X0", "Delta_X"))
    except (KeyError, IndexError, ValueError):
        return np.full(samples, np.nan)
    return start + step * np.arange(samples)
