"""CSV: one row a node, readable by any spreadsheet, exact when read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import LutError
from ..files import write_text
from .table import Lut

HEADER = "state [1],voltage [V],current [A]"
FIRST = "# devicelab lookup table, CSV 1"
MAX_BYTES = 1 << 30


def write(lut: Lut, path: str | Path, *, force: bool = False) -> None:
    """Write the current, the device and where it came from; levels, curves, rates and factors stay behind.

    Raises:
        FileFormatError: If the file exists and `force` is not set.
    """
    lines = [FIRST, f"# interpolation_error = {lut.error!r}"]
    lines += [f"# v_read = {lut.v_read!r}"] if lut.v_read is not None else []
    for name, entries in (("device", lut.device), ("provenance", lut.provenance)):
        lines += [f"# {name}.{key} = {_text(value)!r}" for key, value in entries.items()]
    lines.append(HEADER)
    for x, row in zip(lut.state.tolist(), lut.table.tolist(), strict=True):
        lines += [f"{x!r},{v!r},{i!r}" for v, i in zip(lut.voltage.tolist(), row, strict=True)]
    write_text(path, "\n".join([*lines, ""]), force=force)


def read(path: str | Path) -> Lut:
    """The table in a CSV file that `write` made, or one with the same header and a full grid of rows.

    Raises:
        LutError: If the columns are others, a number is none, or a node is missing.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise LutError("no such CSV table, or too large", got=str(path), allowed=f"at most {MAX_BYTES} bytes")
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    rows = [line for line in lines if line and not line.startswith("#")]
    if not rows or rows[0].strip() != HEADER:
        raise LutError("not a CSV table", got=rows[0] if rows else "an empty file", allowed=HEADER)
    try:
        values = np.array([[float(cell) for cell in row.split(",")] for row in rows[1:]], dtype=np.float64)
    except ValueError as error:
        raise LutError("a cell is not a number", got=str(error), allowed="three numbers a row") from error
    if values.ndim != 2 or values.shape[1] != 3:
        raise LutError("a CSV table has three columns", got=values.shape, allowed=HEADER)
    voltage, state, table = grid(values[:, 0], values[:, 1], values[:, 2])
    known = dict(_assignments(comments))
    groups: dict[str, dict[str, Any]] = {"device": {}, "provenance": {}}
    for key, value in known.items():
        group, _, name = key.partition(".")
        if name and group in groups:
            groups[group][name] = value
    error_, v_read = known.get("interpolation_error", float("nan")), known.get("v_read")
    return Lut(voltage, state, table, groups["device"], groups["provenance"], float(error_), v_read=v_read)


def grid(x: Any, v: Any, i: Any) -> tuple[Any, Any, Any]:
    """Voltage, state and table [s, k] from rows in any order.

    Raises:
        LutError: If a node is missing or given twice.
    """
    state, voltage = np.unique(x), np.unique(v)
    if len(x) != state.size * voltage.size:
        raise LutError(
            "not a full grid", got=f"{len(x)} rows", allowed=f"{state.size} states x {voltage.size} voltages"
        )
    table = np.full((state.size, voltage.size), np.nan)
    table[np.searchsorted(state, x), np.searchsorted(voltage, v)] = i
    if np.isnan(table).any():
        raise LutError("a node is given twice and another is missing", got=f"{len(x)} rows")
    return voltage, state, table


def _text(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _assignments(comments: list[str]) -> list[tuple[str, Any]]:
    import ast

    out = []
    for line in comments:
        key, sign, text = line.partition(" = ")
        if sign:
            try:
                out.append((key, ast.literal_eval(text)))
            except (ValueError, SyntaxError):
                out.append((key, float("nan") if text == "nan" else text))
    return out
