"""IC-CAP .mdm: a header with inputs and outputs, then one data block for each value of the outer sweeps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import FileFormatError
from .cells import to_column
from .table import Block, Column

UNITS = {"V": "V", "I": "A", "T": "s"}


def read_mdm(text: str, name: str) -> list[Block]:
    """One block for each `BEGIN_DB ... END_DB`; the values of the outer sweeps become constant columns.

    Raises:
        FileFormatError: If the header is missing, or a data block has no column line or is cut off.
    """
    lines = text.splitlines()
    head = [line.strip() for line in lines[: next((k for k, s in enumerate(lines) if "BEGIN_DB" in s), len(lines))]]
    if "BEGIN_HEADER" not in head or "END_HEADER" not in head:
        raise FileFormatError(f"{name} has no IC-CAP header", got=lines[0][:60], allowed="BEGIN_HEADER ... END_HEADER")
    ports = _ports(head)
    blocks = [
        _block(piece, ports, name) for piece in re.split(r"(?m)^\s*BEGIN_DB\s*$", _numbered(lines))[1:] if piece.strip()
    ]
    if not blocks:
        raise FileFormatError(f"{name} holds no data", got="no BEGIN_DB", allowed="BEGIN_DB ... END_DB blocks")
    steps = len(blocks) > 1
    return [
        Block(**{**vars(b), "meta": {**b.meta, **({"step": k + 1} if steps else {})}}) for k, b in enumerate(blocks)
    ]


def _numbered(lines: list[str]) -> str:
    """The text with the line number behind each data line, so that messages can name it."""
    return "\n".join(
        f"{line} \t@{k}" if line.strip()[:1] in set("+-.0123456789") else line for k, line in enumerate(lines, 1)
    )


def _ports(head: list[str]) -> dict[str, dict[str, Any]]:
    """Name of each input and output to its quantity, node, current limit [A] and order in the sweep."""
    ports: dict[str, dict[str, Any]] = {}
    section = ""
    for line in head:
        words = line.split()
        if not words or words[0].startswith("!"):
            continue
        if words[0] in {"ICCAP_INPUTS", "ICCAP_OUTPUTS", "ICCAP_VALUES", "END_HEADER"}:
            section = words[0]
        elif section in {"ICCAP_INPUTS", "ICCAP_OUTPUTS"} and len(words) >= 4:
            port: dict[str, Any] = {"kind": words[1], "node": words[2], "limit": None, "order": 9}
            if section == "ICCAP_INPUTS" and len(words) >= 7:
                port["limit"] = _number(words[5])
                port["order"] = int(words[7]) if len(words) > 7 and words[6] != "CON" and words[7].isdigit() else 9
            ports[words[0]] = port
    return ports


def _block(piece: str, ports: dict[str, dict[str, Any]], name: str) -> Block:
    if "END_DB" not in piece:
        raise FileFormatError(f"{name} is cut off", got="a BEGIN_DB without END_DB", allowed="complete data blocks")
    names: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    outer: dict[str, float] = {}
    for line in piece[: piece.index("END_DB")].splitlines():
        words = line.replace('"', "").split()
        if words and words[0] == "ICCAP_VAR" and len(words) >= 3:
            value = _number(words[2])
            if value is not None:
                outer[words[1]] = value
        elif words and words[0].startswith("#"):
            names = line.strip().lstrip("#").split()
        elif words and words[-1].startswith("@"):
            rows.append(words[:-1])
            numbers.append(int(words[-1][1:]))
    if not names or not rows or any(len(row) != len(names) for row in rows):
        wrong = next((n for n, row in zip(numbers, rows, strict=True) if len(row) != len(names)), 0)
        raise FileFormatError(
            f"{name} has a data block without columns",
            got=f"columns {names}, {len(rows)} rows"
            + (f", line {wrong} has another number of values" if wrong else ""),
            allowed="a line '#vd id' and rows of as many numbers",
        )
    unit = {n: UNITS.get(ports.get(n, {}).get("kind", "")) for n in [*names, *outer]}
    columns = [to_column(n, unit[n], [row[k] for row in rows], numbers) for k, n in enumerate(names)]
    columns += [Column(n, unit[n], np.full(len(rows), value)) for n, value in outer.items() if n not in names]
    return Block(
        tuple(columns), np.array(numbers, dtype=np.int64), meta={"outer": outer} if outer else {}, pairs=_pairs(ports),
        compliance={n: p["limit"] for n, p in ports.items() if p["kind"] == "V" and p["limit"]},
    )  # fmt: skip


def _pairs(ports: dict[str, dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Voltage and current of one node, the fastest sweep first."""
    volts = sorted((n for n, p in ports.items() if p["kind"] == "V"), key=lambda n: int(ports[n]["order"]))
    amps = [n for n, p in ports.items() if p["kind"] == "I"]
    return tuple((v, i) for v in volts for i in amps if ports[v]["node"] == ports[i]["node"])


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
