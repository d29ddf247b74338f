"""A folder as a whole: each file told for what it is, loops one at a time, an interrupted run gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DevicelabError, FileFormatError, ParameterError, unknown_name
from ..readers import find_files, open_store, read_tables, read_traces
from ..readers.choice import NoPairError
from ..trace import Trace
from ..tracefile import plain_json
from .cycle import Cycle, characterise, check_choices
from .findings import Findings, Settings, findings
from .number import Number
from .series import KINDS, Series, is_swept, series_of
from .study import Study, tell_forming
from .sweeps import split_cycles

SHOWN = 200
JOURNAL = ".characterize.jsonl"
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Survey:
    """What files hold.

    Args:
        study: Cycles of loops and sweeps, None without any.
        shown: The first 200 traces, for figures and conduction.
        found: Pulses, endurance, retention and noise, by kind.
        left_out: File and reason.
        resumed: Files that an interrupted run had done.
    """

    study: Study | None
    shown: Sequence[Trace]
    found: Sequence[Findings]
    left_out: Sequence[tuple[str, str]]
    resumed: int = 0

    @property
    def cycling(self) -> Sequence[Trace]:
        """Those of `shown` that did not form their device; all where nothing else is shown."""
        formed = {_who(cycle.meta) for cycle in (self.study.cycles if self.study else ()) if cycle.forming}
        return [trace for trace in self.shown if _who(trace.meta) not in formed] or self.shown


@dataclass(eq=False)
class _State:
    cycles: list[Cycle] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    shown: list[Trace] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def survey(
    paths: str | Path | Sequence[str | Path],
    *,
    kind: str | None = None,
    v_read: float | None = None,
    threshold: float | None = None,
    settings: Settings | None = None,
    journal: Path | None = None,
    watch: Callable[[Sequence[Path]], Any] | None = None,
    **options: Any,
) -> Survey:
    """Characterise files, folders, globs and stores, one file at a time; memory grows with the numbers only.

    Args:
        paths: A file, a folder, a glob, or several of them.
        kind: One of `KINDS`; told file by file unless given.
        v_read: |Read voltage| [V], see `characterise`.
        threshold: |Current| [A], see `characterise`.
        settings: Of endurance, retention and noise.
        journal: File that keeps the numbers of finished files; a run with the same choices goes on from it.
        watch: Makes an iterable of the files that shows progress.
        **options: As for `read_traces`.

    Raises:
        FileFormatError: If a path stands for no file, or the only file cannot be read.
        ParameterError: If a choice is out of bounds or nothing can be characterised.
    """
    if kind is not None and kind not in KINDS:
        raise unknown_name("kind of measurement", kind, list(KINDS))
    check_choices(v_read, threshold)
    files = find_files(paths)
    choices = {"v_read": v_read, "threshold": threshold}
    state = _State()
    with _Journal(journal, repr((choices, kind, sorted(options.items())))) as notes:
        for path in watch(files) if watch else files:
            try:
                _one(path, kind, state, notes, choices, options)
            except DevicelabError as problem:
                if len(files) == 1:
                    raise
                state.left_out.append((path.name, str(problem)))
    found = findings(state.series, settings) if state.series else []
    study = Study(tell_forming(state.cycles), state.skipped) if state.cycles else None
    if study is None and not found:
        reasons = [*state.skipped, *state.left_out]
        raise ParameterError(
            "nothing could be characterised",
            got=f"{len(files)} files",
            allowed="current over voltage, pulses, cycles, or reads over time",
            hint="; ".join(f"{name}: {reason.splitlines()[0]}" for name, reason in reasons[:3]) or None,
        )
    if study is not None:
        _check_read_voltage(study, v_read)
    return Survey(study, state.shown, found, state.left_out, notes.resumed)


def _one(
    path: Path, kind: str | None, state: _State, notes: _Journal, choices: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    """What one file holds, added to the state."""
    known = notes.known(path)
    if known is not None:
        state.cycles += known[0]
        state.skipped += known[1]
        if len(state.shown) < SHOWN:
            state.shown += [_named(t, path) for t in _loops(path, options) or []][: SHOWN - len(state.shown)]
        return
    traces = None if kind not in (None, "loops") else _loops(path, options, every=kind == "loops")
    if traces is None:
        chosen = {key: value for key, value in options.items() if key == "profile"}
        state.series += series_of(read_tables(path, **chosen), None if kind == "loops" else kind)
        return
    cycles, skipped = [], []
    for trace in (_named(one, path) for one in traces):
        if len(state.shown) < SHOWN:
            state.shown.append(trace)
        try:
            cycles += [characterise(part, **choices) for part in split_cycles(trace)]
        except DevicelabError as problem:
            skipped.append((str(trace.meta.get("file", path.name)), str(problem)))
    notes.add(path, cycles, skipped)
    state.cycles += cycles
    state.skipped += skipped


def _named(trace: Trace, path: Path) -> Trace:
    """The trace with the name of its file, which files of devicelab do not hold."""
    return trace if "file" in trace.meta else trace.with_meta(file=path.name)


def _loops(path: Path, options: Mapping[str, Any], *, every: bool = False) -> Iterator[Trace] | list[Trace] | None:
    """Traces of a store or of an instrument file, None where the voltage does not move or there is none."""
    try:
        with open_store(path):
            return _stored(path)
    except FileFormatError:
        pass  # not a store: an instrument file
    try:
        traces = read_traces(path, **options)
    except NoPairError:
        if every:
            raise
        return None
    return traces if every or any(is_swept(trace) for trace in traces) else None


def _stored(path: Path) -> Iterator[Trace]:
    with open_store(path) as store:
        yield from store


def _check_read_voltage(study: Study, v_read: float | None) -> None:
    top = max(max(abs(end) for end in cycle.peak) for cycle in study.cycles)
    if v_read is not None and v_read > top:
        raise ParameterError(
            "the read voltage lies beyond every sweep", got=f"{v_read:g} V", allowed=f"up to {top:.4g} V"
        )


class _Journal:
    """Numbers of finished files, one JSON line a file; kept when the run is interrupted."""

    def __init__(self, path: Path | None, job: str) -> None:
        self.path, self.job, self.resumed = path, job, 0
        self.done: dict[str, tuple[list[Cycle], list[tuple[str, str]]]] = {}

    def __enter__(self) -> _Journal:
        if self.path is None:
            return self
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
        if lines and lines[0] == json.dumps(self.job):
            for line in lines[1:]:
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    break  # cut off while it was written
        self.file = self.path.open("w", encoding="utf-8")
        self.file.write(json.dumps(self.job) + "\n")
        for stamp, (cycles, skipped) in self.done.items():
            self._write(stamp, cycles, skipped)
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            self.file.close()

    def known(self, path: Path) -> tuple[list[Cycle], list[tuple[str, str]]] | None:
        """Cycles and problems of a file that is done and has not changed since."""
        found = self.done.get(_stamp(path))
        self.resumed += found is not None
        return found

    def add(self, path: Path, cycles: list[Cycle], skipped: list[tuple[str, str]]) -> None:
        if self.path is not None:
            self._write(_stamp(path), cycles, skipped)

    def _write(self, stamp: str, cycles: list[Cycle], skipped: list[tuple[str, str]]) -> None:
        rows = [{**vars(c), "numbers": {n: vars(v) for n, v in c.items()}, "meta": dict(c.meta)} for c in cycles]
        self.file.write(plain_json({"stamp": stamp, "cycles": rows, "skipped": skipped}) + "\n")
        self.file.flush()

    def _take(self, line: Mapping[str, Any]) -> None:
        cycles = [
            Cycle(**{**row, "numbers": {n: Number(**v) for n, v in row["numbers"].items()}, "peak": tuple(row["peak"])})
            for row in line["cycles"]
        ]
        self.done[line["stamp"]] = (cycles, [(name, reason) for name, reason in line["skipped"]])


def _who(meta: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a trace from the others, from its metadata or from that of its cycles."""
    return tuple(meta.get(key) for key in ("file", "sheet", "run", "index", "cycle", "device"))


def _stamp(path: Path) -> str:
    state = path.stat()
    return f"{path.absolute()} {state.st_size} {state.st_mtime_ns}"
