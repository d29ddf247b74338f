"""Blocks to traces: part the rows, scale to SI, and refuse what cannot be trusted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileFormatError, TraceError
from ..trace import Trace
from .branches import cycle_starts
from .choice import Choice, Job, NoPairError, choose, find_column
from .delimited import NEW_PIECE
from .preamble import said_in
from .roles import describe, name_role
from .table import Block, Column, Table
from .timing import make_time
from .units import Unit

NUMBERED = re.compile(r"(.*?)((?:\[\d+\])+|\(\d+\))")


def traces_of(blocks: list[Block], job: Job) -> list[Trace]:
    """The traces in all blocks of a file, in order.

    Raises:
        NoPairError: If no block holds a current and a voltage.
        FileFormatError: If units, columns or numbers cannot be trusted.
        TraceError: If a trace is too short or its time is unusable.
    """
    traces: list[Trace] = []
    refusal: NoPairError | None = None
    for block in (part for whole in blocks for half in split_numbered(whole) for part in split_repeated(half, job)):
        try:
            choice = choose(block, job)
        except NoPairError as problem:
            refusal = refusal or problem
            continue
        traces += [_trace(block, rows, found, choice, job) for rows, found in pieces(block, choice, job)]
    if not traces and refusal is not None:
        raise refusal
    several = len(traces) > 1
    return [trace.with_meta(index=k) for k, trace in enumerate(traces)] if several else traces


def table_of(block: Block, meta: Mapping[str, Any]) -> Table:
    """All columns of a block in SI units; columns of words stay words."""
    values: dict[str, NDArray[Any]] = {}
    units: dict[str, str] = {}
    for column in block.columns:
        key = column.name if column.name not in values else f"{column.name}.{len(values) + 1}"
        unit = describe(column).unit or Unit("", "")
        if column.is_text:
            values[key] = np.array([column.text.get(row, "") for row in range(len(block))])
        else:
            values[key] = column.values * unit.scale + unit.offset
        units[key] = unit.si
    return Table(values, units, {**meta, **block.meta})


def split_numbered(block: Block) -> list[Block]:
    """Blocks for `DrainI(1) DrainV(1) DrainI(2) ...`, one a number; other blocks stay whole."""
    found = [NUMBERED.fullmatch(column.name) for column in block.columns]
    steps = list(dict.fromkeys(match[2] for match in found if match))
    if len(steps) < 2:
        return [block]
    parts = []
    for step in steps:
        columns = tuple(
            replace(column, name=match[1]) if match else column
            for column, match in zip(block.columns, found, strict=True)
            if match is None or match[2] == step
        )
        numbers = [int(digits) for digits in re.findall(r"\d+", step)]
        meta = {**block.meta, "step": numbers[0] if len(numbers) == 1 else "".join(step)}
        parts.append(replace(block, columns=columns, meta=meta))
    return parts


def split_repeated(block: Block, job: Job) -> list[Block]:
    """Blocks for several sweeps side by side, `V, I, V, I` or `V, I, I`, with or without a group above each.

    Columns that stand there once, such as a time, belong to every part. Other blocks stay whole.
    """
    if not block.named or job.profile.columns or job.options.columns:
        return [block]
    names = [column.name for column in block.columns]
    groups = block.groups if len(block.groups) == len(names) and any(block.groups) else ()
    if groups:
        bare = [name.removeprefix(f"{group}.") for name, group in zip(names, groups, strict=True)]
    else:  # a second V is called V.1 by programs that cannot bear two
        bare = [base if (base := re.sub(r"\.\d+$", "", name)) in names else name for name in names]
    places: dict[str, list[int]] = {}
    for k, name in enumerate(bare):
        places.setdefault(name, []).append(k)
    count = {role: {len(at) for name, at in places.items() if name_role(name)[0] == role} for role in "vi"}
    times = max((n for n in count["i"] if n > 1 and count["v"] & {1, n}), default=1)
    if times == 1:
        return [block]
    parts = []
    for j in range(times):
        kept = sorted(at[j] if len(at) == times else at[0] for at in places.values())
        columns = tuple(replace(block.columns[k], name=bare[k]) for k in kept)
        group = next((groups[k] for k in kept if len(places[bare[k]]) == times), "") if groups else ""
        parts.append(replace(block, columns=columns, groups=(), meta={**block.meta, "part": j + 1, **_told(group)}))
    return parts


def _told(group: str) -> dict[str, Any]:
    """What the group above some columns says of them."""
    if found := NEW_PIECE.search(group):
        return {found[1].lower().replace("loop", "cycle"): int(found[2])}
    return {"group": group} if group else {}


def pieces(block: Block, choice: Choice, job: Job) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
    """Row indices of each trace in a block, with what tells it from the others."""
    rows = _used_rows(block, choice)
    how = job.options.split or job.profile.split
    if how == "none":
        yield rows, {}
        return
    starts = _starts(how, choice, rows)
    if starts is not None:
        for k, part in enumerate(np.split(rows, starts)):
            yield part, {"cycle": k + 1}
        return
    columns = {"cycle": choice.cycle} if choice.cycle is not None else {}
    if how not in {"", "time", "voltage"}:
        wanted = (how,) if isinstance(how, str) else how
        found = [block.columns[find_column(block, name, "split", job.name)] for name in wanted]
        columns = {column.name: column for column in found}
    values = np.array([column.values[rows] for column in columns.values()])
    if not columns or not np.isfinite(values).all():
        yield rows, {}
        return
    _, first, group = np.unique(values, axis=1, return_index=True, return_inverse=True)
    for k in np.argsort(first):
        level = values[:, first[k]].tolist()
        yield rows[group == k], {n: int(x) if x.is_integer() else x for n, x in zip(columns, level, strict=True)}


def _starts(how: str | tuple[str, ...], choice: Choice, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Where a clock that restarts, or the sign of the voltage, starts new traces; None for other ways to part."""
    if how == "voltage":
        return cycle_starts(choice.v.values[rows])
    if how == "time" and choice.t is not None:
        return np.flatnonzero(np.diff(choice.t.values[rows]) < 0) + 1
    return None


def _used_rows(block: Block, choice: Choice) -> NDArray[np.int64]:
    """All rows up to the last that says anything; columns of one sheet may end at different rows."""
    says = np.isfinite(choice.v.values) | np.isfinite(choice.i.values)
    says[[*choice.v.text, *choice.i.text]] = True
    used = np.flatnonzero(says)
    return np.arange(used[-1] + 1 if used.size else len(block))


def _trace(block: Block, rows: NDArray[np.int64], found: dict[str, Any], choice: Choice, job: Job) -> Trace:
    """One trace out of some rows of a block."""
    options = job.options
    meta = {**said_in(block.meta.get("preamble", ())), **job.meta, **block.meta, **found}
    signals = {"v": choice.v, "i": choice.i}
    if choice.t is not None and options.rate is None and options.duration is None:
        signals["t"] = choice.t
    bad = ~np.all([np.isfinite(column.values[rows]) for column in signals.values()], axis=0)
    if bad.any() and not options.drop_nan:
        raise _bad_number(block, rows[bad], signals, job.name)
    rows = rows[~bad]
    if rows.size < 2:
        raise TraceError(
            f"a trace in {job.name} is too short",
            got=f"{rows.size} of {bad.size} rows with numbers" + (f", {found}" if found else ""),
            allowed="at least 2 samples",
        )
    stamps = signals["t"].values[rows] if "t" in signals else None
    rate = options.rate or _drive_rate(rows.size, job, meta)
    t, note = make_time(stamps, rows.size, rate, options.duration, f"{job.name}, line {block.lines[rows[0]]} on")
    meta["time"] = note
    meta["columns"] = {role: column.name for role, column in signals.items()}
    meta["units"] = {role: column.unit for role, column in signals.items()}
    if bad.any():
        meta["rows_dropped"] = int(bad.sum())
    if choice.note:
        meta["derived"] = choice.note
    if choice.others:
        meta["other_currents"] = list(choice.others)
    if "t" in signals and choice.t is not None and choice.t.origin:
        meta["start"] = choice.t.origin
    if choice.temperature is not None and np.isfinite(choice.temperature.values[rows]).all():
        meta["temperature"] = float(choice.temperature.values[rows].mean())
    if choice.v.name in block.compliance:
        meta["compliance"] = block.compliance[choice.v.name]
    return Trace(t, choice.v.values[rows], choice.i.values[rows], meta=meta)


def _bad_number(block: Block, rows: NDArray[np.int64], signals: Mapping[str, Column], name: str) -> FileFormatError:
    row = int(rows[0])
    role, column = next((r, c) for r, c in signals.items() if not np.isfinite(c.values[row]))
    return FileFormatError(
        f"{name} has rows without a number for {role}",
        got=f"{column.text.get(row, 'NaN or blank')!r} in column {column.name!r}, line {block.lines[row]}"
        + (f" (and {rows.size - 1} more rows)" if rows.size > 1 else ""),
        allowed="a finite number in every row of time, voltage and current",
        hint="leave those rows out with drop_nan=True, if the gaps do not matter",
    )


def _drive_rate(samples: int, job: Job, meta: Mapping[str, Any]) -> float | None:
    """Samples per second when the profile says how many periods of a known frequency a trace spans [1/s]."""
    frequency = meta.get("frequency")
    if job.profile.periods is None or not isinstance(frequency, (int, float)) or frequency <= 0:
        return None
    return samples * float(frequency) / job.profile.periods
