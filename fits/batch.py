"""Many devices, one fit each: a wafer. One bad trace is reported, nothing is fitted twice, nothing is lost."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from devicelab import Model, Trace, __version__
from devicelab.errors import DevicelabError, FileFormatError, ParameterError
from devicelab.files import replacing, write_text

from .fit import fit, fitted_noise
from .keep import digest
from .parallel import outcomes
from .result import FitResult

FORMAT = "devicelab-fits"
VERSION = 1
METRICS = ("nrmse", "log_rmse", "area_error", "masked")
STATISTICS = ("samples", "redchi", "aic", "bic")


@dataclass(frozen=True)
class Entry:
    """One job of a batch.

    Args:
        name: Its name.
        status: "fitted", "failed", or "kept" where an earlier run had fitted it.
        message: Why it failed, or the warnings of the fit.
        values: Columns of the table: parameters with ends of their intervals, metrics, statistics.
    """

    name: str
    status: str
    message: str = ""
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """What a batch gave, in the order of its jobs.

    Args:
        entries: One a job that was done, by this run or an earlier one.
        folder: Where everything lies: fits/NAME.json, failed/NAME.json, results.csv, results.h5.
        waiting: Jobs that a stop left undone.
    """

    entries: list[Entry]
    folder: Path
    waiting: int = 0

    @property
    def failed(self) -> list[Entry]:
        """Jobs that gave no fit."""
        return [entry for entry in self.entries if entry.status == "failed"]

    def column(self, name: str) -> NDArray[np.float64]:
        """One column of the table, NaN where a job has no value, [jobs]."""
        return np.array([entry.values.get(name, np.nan) for entry in self.entries])

    def report(self) -> str:
        """How many, the median of the parameters, what failed and why."""
        good = [entry for entry in self.entries if entry.status != "failed"]
        kept = sum(entry.status == "kept" for entry in good)
        lines = [
            f"{len(good)} fitted ({kept} of them by an earlier run), {len(self.failed)} failed, {self.waiting} left"
        ]
        for name in _columns(good):
            if name.endswith((".low", ".high")) or name in STATISTICS:
                continue
            values = np.array([entry.values[name] for entry in good if name in entry.values])
            quartiles = np.nanquantile(values, (0.25, 0.5, 0.75)) if values.size else np.full(3, np.nan)
            lines.append(
                f"{name:<12} median {quartiles[1]:>11.4g}   quartiles {quartiles[0]:.4g} .. {quartiles[2]:.4g}"
            )
        lines += [f"failed: {entry.name}: {entry.message.splitlines()[0]}" for entry in self.failed[:20]]
        if len(self.failed) > 20:
            lines.append(f"... and {len(self.failed) - 20} more; see results.csv")
        return "\n".join(lines)


def batch(
    model: Model,
    jobs: Mapping[str, Trace | Sequence[Trace]],
    folder: str | Path,
    *,
    workers: int | None = None,
    retry: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
    **options: Any,
) -> Batch:
    """Fit the same model to many devices.

    Every fit is written when it is done, so a run that is stopped, by Ctrl-C or a kill, goes on where it was when it is
    called again with the same jobs; a job whose traces, model or options have changed is fitted anew. The tables are
    written at the end, and when Ctrl-C stops the run.

    Args:
        model: Template, as for `fits.fit`.
        jobs: Traces by name; several traces of a name are fitted jointly.
        folder: Where results go; made if missing.
        workers: Processes; all cores by default.
        retry: Try again what an earlier run could not fit.
        progress: Called with jobs done, jobs in all and a line of text.
        **options: For `fits.fit`.

    Raises:
        ParameterError: If there is no job.
        FileFormatError: If the folder cannot be made.
        KeyboardInterrupt: After the tables are written.
    """
    if not jobs:
        raise ParameterError("no job in the batch", got=0, allowed="at least one trace")
    out = Path(folder)
    try:
        for part in ("fits", "failed"):
            (out / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileFormatError("cannot make the folder of results", got=str(folder), hint=str(error)) from error
    tasks = [
        _Task(name, stem, model, [traces] if isinstance(traces, Trace) else list(traces), options, str(out))
        for (name, traces), stem in zip(jobs.items(), _stems(list(jobs)), strict=True)
    ]
    entries: dict[int, Entry] = {}
    for k, task in enumerate(tasks):
        before = _before(task, retry)
        if before is not None:
            entries[k] = before
    todo = [k for k in range(len(tasks)) if k not in entries]
    say = progress or (lambda done, total, line: None)
    say(len(entries), len(tasks), f"{len(entries)} of {len(tasks)} done before" if entries else "")
    try:
        for n, outcome in outcomes(_run, [tasks[k] for k in todo], workers):
            k = todo[n]
            if isinstance(outcome, BaseException):
                if isinstance(outcome, KeyboardInterrupt | SystemExit):
                    raise outcome
                entries[k] = _failed(tasks[k], outcome)
            else:
                entries[k] = outcome
            line = f"{tasks[k].name}: {entries[k].message.splitlines()[0]}" if entries[k].status == "failed" else ""
            say(len(entries), len(tasks), line)
    finally:
        done = Batch([entries[k] for k in sorted(entries)], out, len(tasks) - len(entries))
        _write_tables(done)
    return done


@dataclass(frozen=True)
class _Task:
    name: str
    stem: str
    model: Model
    traces: list[Trace]
    options: dict[str, Any]
    folder: str

    @property
    def key(self) -> str:
        """What the result depends on: samples, model, options, noise given or estimated, version."""
        noise, start = self.options.get("noise"), self.options.get("start")
        if noise is None and not isinstance(start, FitResult):  # estimated: its estimate weighs the samples
            with suppress(DevicelabError, ArithmeticError, ValueError):  # what is wrong with it, the fit will say
                noise = fitted_noise(None, self.traces, self.options.get("drive", "voltage"))
        return digest(self.traces, self.model, self.options, noise)

    def path(self, kind: str) -> Path:
        return Path(self.folder) / kind / f"{self.stem}.json"


def _run(task: _Task) -> Entry:
    """Fit and write; in the process of a worker."""
    result = fit(task.model, task.traces, **task.options)
    text = json.loads(result.to_json())
    text["batch"] = {"name": task.name, "key": task.key, "values": _values(result)}
    write_text(task.path("fits"), json.dumps(text, indent=2) + "\n", force=True)
    task.path("failed").unlink(missing_ok=True)
    return Entry(task.name, "fitted", "; ".join(result.warnings), _values(result))


def _failed(task: _Task, error: BaseException) -> Entry:
    message = str(error) if isinstance(error, DevicelabError) else f"{type(error).__name__}: {error}"
    text = {"name": task.name, "key": task.key, "error": message}
    write_text(task.path("failed"), json.dumps(text, indent=2) + "\n", force=True)
    return Entry(task.name, "failed", message or type(error).__name__)


def _before(task: _Task, retry: bool) -> Entry | None:
    """The entry of an earlier run, if it was of the same job."""
    good, bad = _read(task.path("fits")), _read(task.path("failed"))
    if good is not None and good.get("batch", {}).get("key") == task.key:
        values = {name: np.nan if value is None else value for name, value in good["batch"]["values"].items()}
        return Entry(task.name, "kept", "; ".join(good.get("warnings", [])), values)
    if bad is not None and bad.get("key") == task.key and not retry:
        return Entry(task.name, "failed", str(bad["error"]))
    return None


def _read(path: Path) -> dict[str, Any] | None:
    """JSON of a file, None where there is none or it is not ours."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _values(result: FitResult) -> dict[str, float]:
    out: dict[str, float] = {}
    for e in result.estimates:
        out |= {e.name: e.value, f"{e.name}.low": e.low, f"{e.name}.high": e.high}
    out |= {name: float(result.metrics[name]) for name in METRICS if name in result.metrics}
    out |= {name: float(result.statistics[name]) for name in STATISTICS}
    return {name: float(value) if np.isfinite(value) else float("nan") for name, value in out.items()}


def _stems(names: list[str]) -> list[str]:
    """File names for jobs: letters, digits, dot, dash; numbered where two names would coincide."""
    out: list[str] = []
    seen: dict[str, int] = {}
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name).strip("._")[:100] or "job"
        seen[stem.lower()] = seen.get(stem.lower(), 0) + 1
        out.append(stem if seen[stem.lower()] == 1 else f"{stem}__{seen[stem.lower()]}")
    return out


def _columns(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(name for entry in entries for name in entry.values))


def _write_tables(done: Batch) -> None:
    names = _columns(done.entries)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["name", "status", *names, "message"])
    for entry in done.entries:
        cells = [repr(entry.values[name]) if name in entry.values else "" for name in names]
        writer.writerow([entry.name, entry.status, *cells, " ".join(entry.message.split())])
    write_text(done.folder / "results.csv", buffer.getvalue(), force=True)
    with replacing(done.folder / "results.h5", force=True) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update({"format": FORMAT, "version": VERSION, "devicelab": __version__, "waiting": done.waiting})
        text = h5py.string_dtype("utf-8")
        for name in ("name", "status", "message"):
            file.create_dataset(name, data=[getattr(entry, name) for entry in done.entries], dtype=text)
        group = file.create_group("values")
        for name in names:
            group.create_dataset(name, data=done.column(name))
