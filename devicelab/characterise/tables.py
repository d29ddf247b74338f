"""Findings as text for a terminal, plain data for machines, and rows of a CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .distributions import MIN_SAMPLES, rank_distributions
from .findings import Finding, Findings
from .number import Number, engineering
from .variability import spread

EACH = 6
"""Measurements of one kind that are listed one by one; more are summarised."""
CSV_COLUMNS = ("kind", "name", "device", "number", "value", "unit", "low", "high", "interval", "censored", "method")


def number_rows(numbers: Any) -> list[dict[str, str]]:
    """Rows of a table: number, value with its interval, method."""
    return [
        {"number": name, "value (interval)": ("> " if n.censored and n.low is None else "") + str(n),
         "interval": n.interval if n.low is not None or n.high is not None else "",
         "method": n.method}
        for name, n in numbers.items()
    ]  # fmt: skip


def over_rows(items: Sequence[Finding]) -> list[dict[str, str]]:
    """Rows of a table: each number over many measurements, those with only a bound left out."""
    rows = []
    if len({_role(item) for item in items}) > 1:  # up and down are two things
        for role in dict.fromkeys(_role(item) for item in items):
            alone = over_rows([item for item in items if _role(item) == role])
            rows += [row | {"number": f"{role}.{row['number']}"} for row in alone]
        return rows
    for name in dict.fromkeys(name for item in items for name in item):
        known = [item[name] for item in items if name in item]
        known = [number for number in known if number.unit == known[0].unit]
        values = np.array([n.value for n in known if not n.censored])
        values = values[np.isfinite(values)]
        left = len(known) - values.size
        if values.size < 3:
            continue
        found = spread(values, known[0].unit)
        unit = known[0].unit
        fits = rank_distributions(values, draws=100) if values.size >= MIN_SAMPLES and _varied(values) else []
        ends = (engineering(end, unit) for end in (found.median.low or 0.0, found.median.high or 0.0))
        words = re.sub(r"(of|over) \d+ (cycles|pulses)", r"\1 the \2", known[0].method)
        rows.append({
            "number": name, "n": str(values.size), "median": engineering(found.median.value, unit),
            "95 % interval": " to ".join(ends), "sd": engineering(found.sd.value, unit),
            "distribution": f"{fits[0].family} (p = {fits[0].p_value:.2g})" if fits else "",
            "method": words + (f"; {left} bounds left out" if left else ""),
        })  # fmt: skip
    return rows


def _role(item: Finding) -> str:
    """Direction of a ramp; nothing for other kinds."""
    return next(iter(item.series.y)) if item.series.kind == "pulses" else ""


def _varied(values: Any) -> bool:
    """Whether most values differ, so that a distribution says something."""
    low, high = np.percentile(values, (25, 75))
    return bool(high - low > 1e-9 * np.abs(values).max())


def text(found: Findings) -> str:
    """The findings of one kind for a terminal."""
    count = len(found.items)
    lines = [f"{found.kind}: {count} measurement{'s' * (count != 1)}"]
    if count > EACH:
        lines += ["", *aligned(over_rows(found.items))]
        lines += [f"  {line}" for line in _counted(found.items)]
    for item in found.items[: EACH if count <= EACH else 0]:
        lines += ["", f"{item.series.name}: {len(item.series)} readings; told from {item.series.why}"]
        lines += aligned(number_rows(item)) + [f"  {line}" for line in item.remarks]
    if found.together:
        lines += ["", "together", *aligned(number_rows(found.together))]
    return "\n".join([*lines, *(f"  {line}" for line in found.remarks)])


def _counted(items: Sequence[Finding]) -> list[str]:
    """Remarks of many measurements, each once with how often it is made."""
    counts: dict[str, int] = {}
    for item in items:
        for line in item.remarks:
            short = line.partition(" (")[0]
            counts[short] = counts.get(short, 0) + 1
    return [f"{n} of {len(items)}: {line}" for line, n in counts.items() if n > len(items) // 100][:12]


def aligned(rows: Sequence[dict[str, str]]) -> list[str]:
    """Rows as columns of text."""
    if not rows:
        return []
    widths = {head: max(len(head), *(len(row[head]) for row in rows)) for head in rows[0]}
    table = [{head: head for head in rows[0]}, *rows]
    return ["  ".join(row[head].ljust(width) for head, width in widths.items()).rstrip() for row in table]


def to_plain(found: Findings) -> dict[str, Any]:
    """The findings of one kind as plain data: every number with unit, method and interval."""
    return {
        "measurements": [
            {
                "name": item.series.name,
                "readings": len(item.series),
                "told_from": item.series.why,
                "meta": dict(item.series.meta),
                "numbers": {name: number.to_dict() for name, number in item.items()},
                "remarks": list(item.remarks),
            }
            for item in found.items
        ],
        "together": {name: number.to_dict() for name, number in found.together.items()},
        "remarks": list(found.remarks),
        "left_out": [list(pair) for pair in found.skipped],
    }


def to_csv(found: Sequence[Findings]) -> str:
    """One row a number."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in found:
        for item in one.items:
            device = item.series.meta.get("device", "")
            writer.writerows(_csv_row(one.kind, item.series.name, device, name, n) for name, n in item.items())
        writer.writerows(_csv_row(one.kind, "together", "", name, n) for name, n in one.together.items())
    return out.getvalue()


def _csv_row(kind: str, name: str, device: Any, key: str, n: Number) -> dict[str, Any]:
    low, high = ("" if end is None else end for end in (n.low, n.high))
    return {"kind": kind, "name": name, "device": device, "number": key, "value": n.value, "unit": n.unit,
            "low": low, "high": high, "interval": n.interval, "censored": n.censored, "method": n.method}  # fmt: skip
