"""Keysight EasyEXPERT csv: records of a B1500, their VAR2 steps, channels and compliance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from ..errors import FileFormatError
from .cells import clean, to_column
from .table import Block, Column

KEPT = {
    "TestRecord.RecordTime": "executed", "TestRecord.TestTarget": "device", "TestRecord.IterationIndex": "iteration",
    "TestRecord.Remarks": "remarks", "Context.MainFrame": "instrument", "Measurement.Primary.Locus": "locus",
}  # fmt: skip


@dataclass
class Record:
    """One record of a file while it is being read: its kind, its settings, and its data lines."""

    kind: str = ""
    title: str = ""
    keys: dict[str, list[str]] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    cut_off: bool = False


def read_easyexpert(text: str, name: str) -> list[Block]:
    """One block for each record and VAR2 step, the oldest record first.

    A record of an application test that repeats the numbers of a primitive test in the same file is left out.

    Raises:
        FileFormatError: If there is no `DataName` with `DataValue` lines below it.
    """
    records = [record for record in _records(text) if record.names and record.rows]
    for record in records:
        _check_width(record, name)
    if not records:
        raise FileFormatError(
            f"{name} holds no EasyEXPERT data",
            got="no DataName line with DataValue lines below it",
            allowed="a csv that EasyEXPERT exported with its data",
            hint="was the file cut off, or exported with the set-up only?",
        )
    primitive = [record for record in records if record.kind != "ApplicationTest"]
    kept = [r for r in records if r in primitive or not any(_repeats(r, other) for other in primitive)]
    blocks = [block for record in _oldest_first(kept) for block in _blocks(record)]
    return blocks


def _records(text: str) -> list[Record]:
    records = [Record()]
    for number, line in enumerate(text.splitlines(), start=1):
        cells = [clean(cell) for cell in line.split(",")]
        key, rest = cells[0], cells[1:]
        if key == "SetupTitle":
            records.append(Record(title=", ".join(rest)))
        elif key in {"PrimitiveTest", "ApplicationTest", "ClassicTest"}:
            if records[-1].rows:
                records.append(Record(title=records[-1].title))
            records[-1].kind = key
            records[-1].keys["test"] = rest
        elif key in {"TestParameter", "MetaData", "AnalysisSetup"} and rest:
            records[-1].keys.setdefault(rest[0], rest[1:])
        elif key in {"Dimension1", "Dimension2"}:
            records[-1].keys[key] = rest
        elif key == "DataName":
            records[-1].names += rest
        elif key == "DataValue":
            records[-1].rows.append(rest)
            records[-1].lines.append(number)
    records[-1].cut_off = not text.endswith(("\n", "\r"))
    return [_by_row(record) for record in records]


def _by_row(record: Record) -> Record:
    """The record with one list a row; an export by column has one name and one long line for each variable."""
    while record.names and not record.names[-1]:
        record.names.pop()
    columns = len(record.names) == len(record.rows) and all(len(row) > len(record.names) for row in record.rows)
    if columns and len(record.names) > 1:
        record.rows = [list(row) for row in zip(*record.rows, strict=False)]
        record.lines = [record.lines[0]] * len(record.rows)
    width = len(record.names)
    record.rows = [row + [""] * (width - len(row)) for row in record.rows]
    return record


def _check_width(record: Record, name: str) -> None:
    """Cut empty cells off the ends of rows; more numbers than names are decimal commas, or a damaged file."""
    width = len(record.names)
    wide = next((k for k, row in enumerate(record.rows) if any(row[width:])), None)
    if wide is not None:
        raise FileFormatError(
            f"{name} has rows with more numbers than names",
            got=f"line {record.lines[wide]}: {len(record.rows[wide])} numbers for {', '.join(record.names)}",
            allowed="one number for each name",
            hint="were the numbers written with decimal commas? export again with decimal points",
        )
    record.rows = [row[:width] for row in record.rows]


def _repeats(record: Record, other: Record) -> bool:
    """Whether two or more columns of a record stand in another one, under whatever names."""
    if len(record.rows) != len(other.rows):
        return False
    theirs = set(zip(*other.rows, strict=True))
    return sum(column in theirs for column in zip(*record.rows, strict=True)) >= 2


def _oldest_first(records: list[Record]) -> list[Record]:
    times = [_when(record) for record in records]
    if any(time is None for time in times):
        return records
    return [record for _, record in sorted(zip(times, records, strict=True), key=lambda pair: str(pair[0]))]


def _when(record: Record) -> str | None:
    try:
        said = record.keys.get("TestRecord.RecordTime", [""])[0]
        return datetime.strptime(said, "%m/%d/%Y %H:%M:%S").isoformat()
    except (ValueError, IndexError):
        return None


def _blocks(record: Record) -> list[Block]:
    """The record parted into its VAR2 steps."""
    meta = _meta(record)
    columns = tuple(
        to_column(name or f"column {k + 1}", None, [row[k] for row in record.rows], record.lines)
        for k, name in enumerate(record.names)
    )
    channels = _channels(record)
    block = Block(
        _with_constants(columns, channels),
        np.array(record.lines, dtype=np.int64),
        meta=meta,
        pairs=tuple((c["v"], c["i"]) for c in channels),
        compliance={c["v"]: c["limit"] for c in channels if c["limit"] is not None},
    )
    points = _count(record, "Dimension1") or len(block)
    if record.cut_off and len(block) < points * (_count(record, "Dimension2") or 1):
        block = block.rows(np.arange(len(block) - 1))  # its last number may have lost digits, or its exponent
    steps = _count(record, "Dimension2") or 1
    if len(block) != points * steps:
        block = Block(**{**vars(block), "meta": {**meta, "incomplete": f"{len(block)} of {points * steps} rows"}})
    if steps == 1:
        return [block]
    parts = [block.rows(np.arange(at, min(at + points, len(block)))) for at in range(0, len(block), points)]
    return [Block(**{**vars(part), "meta": {**part.meta, **_step(parts, k)}}) for k, part in enumerate(parts)]


def _step(parts: list[Block], k: int) -> dict[str, Any]:
    """The number of a step and the variable that is constant in every step and differs between steps."""
    for at, column in enumerate(parts[k].columns):
        levels = [part.columns[at].values[0] for part in parts]
        if all(np.ptp(part.columns[at].values) == 0 for part in parts) and len(set(levels)) == len(levels):
            return {"step": k + 1, "step_name": column.name, "step_value": float(levels[k])}
    return {"step": k + 1}


def _count(record: Record, key: str) -> int | None:
    said = record.keys.get(key, [""])
    return int(said[0]) if said and said[0].isdigit() and int(said[0]) > 0 else None


def _meta(record: Record) -> dict[str, Any]:
    meta: dict[str, Any] = {"test": record.title, "primitive": ", ".join(record.keys.get("test", []))}
    for key, name in KEPT.items():
        said = ", ".join(record.keys.get(key, []))
        if said:
            meta[name] = int(said) if name == "iteration" and said.isdigit() else said
    return meta


def _channels(record: Record) -> list[dict[str, Any]]:
    """The SMU channels, the swept one first: names of voltage and current, constant bias [V], current limit [A]."""
    keys = record.keys

    def cell(key: str, k: int) -> str:
        row = keys.get(key, [])
        return row[k] if k < len(row) else ""

    found = []
    for k, v in enumerate(keys.get("Channel.VName", [])):
        func = cell("Channel.Func", k)
        swept = {"VAR1": "Primary", "VAR2": "Secondary"}.get(func, "")
        forces_voltage = cell("Channel.Mode", k) == "V"
        limit = cell(f"Measurement.{swept}.Compliance", 0) if swept else cell("Measurement.Bias.Compliance", k)
        found.append(
            {
                "v": v,
                "i": cell("Channel.IName", k),
                "func": func,
                "limit": _number(limit) if forces_voltage else None,
                "bias": None if swept or not forces_voltage else _number(cell("Measurement.Bias.Source", k)),
            }
        )
    return sorted(found, key=lambda channel: {"VAR1": 0, "VAR2": 1}.get(channel["func"], 2))


def _with_constants(columns: tuple[Column, ...], channels: Sequence[Mapping[str, Any]]) -> tuple[Column, ...]:
    """The columns and, if no channel was recorded with both, the constant bias of those with a recorded current."""
    names = {column.name for column in columns}
    if any(channel["v"] in names and channel["i"] in names for channel in channels) or not columns:
        return columns
    size = columns[0].values.size
    added = [c for c in channels if c["i"] in names and c["v"] not in names and c["bias"] is not None]
    return columns + tuple(Column(c["v"], "V", np.full(size, c["bias"])) for c in added)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
