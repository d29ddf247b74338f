"""Sweeps over any setting of an experiment, resumable: each finished draw is stored at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devicelab.errors import FileFormatError, ParameterError
from devicelab.files import write_text
from devicelab.parallel import cores, outcomes
from devicelab.report import Report

from .draws import Draw, draw, one_thread
from .experiment import Experiment, Parts, Point, read_experiment
from .study import Case, errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = ("#1f4e79", "#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e")


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Args:
        title: Of the experiment.
        points: Values that were set at each point.
        cases: Its draws, one case a point.
        reused: Draws that an earlier run had stored.
    """

    title: str
    points: tuple[dict[str, Any], ...]
    cases: tuple[Case, ...]
    reused: int

    def rows(self) -> list[dict[str, Any]]:
        """Plain values, one row a point."""
        out = []
        for values, case in zip(self.points, self.cases, strict=True):
            row = case.row()
            del row["arrays"]
            out.append({**{key: _text(value) for key, value in values.items()}, **row})
        return out

    def figure(self) -> Figure:
        """Accuracy over the first name of the grid, a line for each combination of the others; bars: intervals."""
        import matplotlib.pyplot as plt

        names = list(self.points[0])
        x_name, rest = (names[0], names[1:]) if names else ("", [])
        figure, ax = plt.subplots(figsize=(6.2, 4.0), layout="constrained")
        series: dict[str, list[tuple[Any, Case]]] = {}
        for values, case in zip(self.points, self.cases, strict=True):
            label = ", ".join(f"{_short(name)} = {_text(values[name])}" for name in rest)
            series.setdefault(label, []).append((values.get(x_name, 0), case))
        numeric = all(_is_number(x) for line in series.values() for x, _ in line)
        ticks = list(dict.fromkeys(_text(x) for line in series.values() for x, _ in line))
        for k, (label, line) in enumerate(series.items()):
            x = [float(v) if numeric else float(ticks.index(_text(v))) for v, _ in line]
            found = [case.accuracy for _, case in line]
            mean = [100 * one.mean for one in found]
            colour = _COLOURS[k % len(_COLOURS)]
            ax.errorbar(
                x, mean, yerr=errors(found), color=colour, marker="o", ms=4, capsize=2, lw=1.2, label=label or None
            )
        if not numeric:
            ax.set_xticks([float(k) for k in range(len(ticks))], ticks)
        elif _wide([float(x) for line in series.values() for x, _ in line]):
            ax.set_xscale("log")
        ax.set_xlabel(x_name or "experiment")
        ax.set_ylabel("test accuracy [%]")
        ax.set_ylim(0, 102)
        ax.grid(color="0.92", lw=0.6)
        if rest:
            ax.legend(frameon=False, fontsize=8)
        if self.title:
            ax.set_title(self.title, fontsize=10)
        return figure


def run_sweep(
    path: str | Path,
    out: str | Path,
    *,
    trust: bool = False,
    workers: int | None = 1,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> SweepResult:
    """Run every draw of every point of an experiment that a folder does not hold yet, and report.

    A draw is stored in ``draws/KEY.json``, written beside and renamed, under a key that hashes all that decides it. So
    a run that was stopped goes on where it was, and gives what an undisturbed one gives; times apart. A changed setting
    changes the key: nothing stale is taken. Every draw is computed on one thread, so its numbers are the same to the
    bit for any number of processes; what is interrupted (Ctrl-C) lets those that run store their draws.

    Args:
        path: TOML file of the experiment, see `crossbar.experiment`.
        out: Folder; made if missing. Gets ``results.csv``, ``results.json``, ``accuracy.png`` and ``index.html``.
        trust: Whether a factory of the user's may run.
        workers: Processes; 1 stays in this one, None takes all cores.
        say: Called with a line for what takes time.
        progress: Called with finished draws and their number.

    Raises:
        ParameterError: If a setting is unusable.
        FileFormatError: If a file is not what it should be, or a stored draw is damaged.
        WorkerDied: If the process of a draw died.
    """
    workers = cores(workers)
    base, points = read_experiment(path)
    folder = Path(out)
    (folder / "draws").mkdir(parents=True, exist_ok=True)
    parts = Parts(trust=trust, folder=folder, say=say)
    tasks = [(point, k) for point in points for k in range(base.sweep.draws)]
    found: dict[int, Draw] = {}
    progress(0, len(tasks))
    for n, (point, k) in enumerate(tasks):
        key = point.experiment.key(k)
        if (file := _file(folder, key)).is_file():
            found[n] = _stored(file, key)
            progress(len(found), len(tasks))
    reused = len(found)
    todo = [n for n in range(len(tasks)) if n not in found]
    for n, one in _run([tasks[n] for n in todo], parts, folder, workers):
        found[todo[n]] = one
        progress(len(found), len(tasks))
    drawn = [found[n] for n in range(len(tasks))]
    cases = []
    for n, point in enumerate(points):
        name = ", ".join(f"{key} = {_text(v)}" for key, v in point.values.items())
        cases.append(Case(name, tuple(drawn[n * base.sweep.draws : (n + 1) * base.sweep.draws])))
    result = SweepResult(base.title, tuple(point.values for point in points), tuple(cases), reused)
    _write(result, base, folder, Path(path))
    return result


Task = tuple[Point, int]


def _run(tasks: list[Task], parts: Parts, folder: Path, workers: int) -> Iterator[tuple[int, Draw]]:
    """(index, draw) of tasks as they are done, each stored by the process that computes it."""
    if min(workers, len(tasks)) <= 1:
        for n, task in enumerate(tasks):
            yield n, _one(task, parts, folder)
        return
    for point, _ in tasks:  # trained once, here, before processes need it
        parts.network(point.experiment)
    for n, found in outcomes(_in_process, tasks, workers, (_begin, (parts.trust, folder)), fresh="crossbar"):
        if isinstance(found, BaseException):
            raise found
        yield n, found


_OWN: list[tuple[Parts, Path]] = []
"""What a process made of data, networks and devices, for all its draws."""


def _begin(trust: bool, folder: Path) -> None:
    _OWN[:] = [(Parts(trust=trust, folder=folder), folder)]


def _in_process(task: Task) -> Draw:
    return _one(task, *_OWN[0])


def _one(task: Task, parts: Parts, folder: Path) -> Draw:
    """A draw, computed and stored."""
    point, number = task
    experiment = point.experiment
    key = experiment.key(number)
    config = experiment.config.but(seed=experiment.config.seed + number)
    net, lut, data = parts.network(experiment), parts.lut(experiment.device), parts.data(experiment.data)
    with one_thread():
        found = draw(
            net,
            lut,
            config,
            data,
            images=experiment.data.images,
            batch=experiment.batch,
            calibration=experiment.calibration,
        )
    content = {"key": key, "values": point.values, "draw": number, "result": asdict(found)}
    write_text(_file(folder, key), json.dumps(content, indent=1, default=str) + "\n", force=True)
    return found


def _file(folder: Path, key: str) -> Path:
    return folder / "draws" / f"{key}.json"


def _stored(file: Path, key: str) -> Draw:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["key"] != key:
            raise ValueError("stored under another key")
        return Draw(**content["result"])
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(
            "stored draw is damaged", got=f"{file}: {error}", hint="delete it; it is run again"
        ) from error


def _write(result: SweepResult, base: Experiment, folder: Path, source: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    rows = result.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "results.csv", text.getvalue(), force=True)
    content: dict[str, Any] = {"title": result.title, "experiment": source.read_text(encoding="utf-8"), "points": rows}
    content["draws"] = [[asdict(one) for one in case.draws] for case in result.cases]
    write_text(folder / "results.json", json.dumps(content, indent=1) + "\n", force=True)
    page = Report(result.title or source.stem, folder)
    interval = result.cases[0].accuracy.method
    page.figure(result.figure(), "accuracy", f"Mean over {base.sweep.draws} draw(s); bars: {interval}.")
    page.table(rows)
    page.section("The experiment")
    page.preformatted(source.read_text(encoding="utf-8"))
    page.write()


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wide(values: list[float]) -> bool:
    """Whether values are positive and span so much that a logarithmic axis shows them better."""
    return min(values) > 0 and max(values) > 30 * min(values)


def check(path: str | Path) -> int:
    """Number of draws of an experiment, after checking every point of it.

    Raises:
        ParameterError: If a setting is unusable.
    """
    base, points = read_experiment(path)
    if not points:
        raise ParameterError("nothing to run", got=str(path))
    return len(points) * base.sweep.draws
