"""One network on one kind of array, and all that is asked about it: what `devicelab infer --config` runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from devicelab.errors import ParameterError
from devicelab.report import Report

from . import study
from .config import Config
from .convert import convert, floorplans
from .convert import report as replaced
from .experiment import Parts, experiment_from
from .settings import read_toml


@dataclass(frozen=True)
class Inference:
    """What was found, as tables by title: rows of plain values, or text."""

    tables: dict[str, list[dict[str, Any]] | str]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return dict(self.tables)


def infer(
    file: str | Path | None,
    *,
    changes: Mapping[str, Any] | None = None,
    trust: bool = False,
    sensitivity: bool = False,
    layers: bool = False,
    estimate: bool = False,
    workers: int | None = None,
    out: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Inference:
    """Accuracy of a network in floating point and on arrays, over draws; and what else is asked for.

    Args:
        file: Experiment, see `crossbar.experiment`; None for defaults, to be changed.
        changes: Dotted names of settings to values, for instance ``{"config.rows": 16}``.
        trust: Whether a factory of the user's may run.
        sensitivity: Also each non-ideality alone, and all but one.
        layers: Also the error of every layer.
        estimate: Also a first-order estimate of energy, latency and area.
        workers: Processes of one thread each for draws; None: this one, with torch's threads.
        out: Folder for a page with tables and figures.
        say: Called with a line for what takes time.

    Raises:
        ParameterError: If a setting is unusable.
    """
    table = {} if file is None else read_toml(file)
    folder = Path.cwd() if file is None else Path(file).resolve().parent
    experiment = experiment_from(table, folder, changes or {})
    if experiment.sweep.grid:
        raise ParameterError("this file has a grid", got=", ".join(experiment.sweep.grid), hint="use devicelab sweep")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    parts = Parts(trust=trust, folder=out, say=say)
    data, lut, net = parts.data(experiment.data), parts.lut(experiment.device), parts.network(experiment)
    config = experiment.config
    options: dict[str, Any] = {
        "images": experiment.data.images, "batch": experiment.batch, "calibration": experiment.calibration,
    }  # fmt: skip
    draws = experiment.sweep.draws
    inputs = study.calibration_inputs(data, experiment.calibration)
    study.outputs(net, inputs[:2])  # does the network take them?
    mapped = convert(net, lut, config, calibration=inputs)
    tables: dict[str, list[dict[str, Any]] | str] = {"on arrays": replaced(mapped)}
    cases = [
        study.case("floating point", net, lut, Config.ideal(), data, **options),
        study.case("arrays", net, lut, config, data, draws=draws, workers=workers, **options),
    ]
    for one in cases:
        say(f"{one.name:<16} {one.accuracy.percent()}")
    tables["accuracy"] = [one.row() for one in cases]
    x = data.test_part(64)[0]
    if layers:
        tables["layers"] = [asdict(one) for one in study.layer_errors(net, mapped, x)]
    figures: dict[str, list[tuple[Callable[[], Any], str]]] = {}
    if found_tiles := floorplans(mapped):
        figures["on arrays"] = [
            (partial(floor.figure, names), "Blocks of the layers on shared tiles; drivers left, sense nodes below.")
            for floor, names in found_tiles.items()
        ]
    if sensitivity:
        found = study.sensitivity(net, lut, config, data, draws=draws, workers=workers, say=say, **options)
        tables["sensitivity"] = found.rows()
        figures["sensitivity"] = [(found.figure, "Bars: 95 % intervals.")]
    if estimate:
        from .estimate import estimate as count

        tables["estimate"] = str(count(mapped, x[:8]))
    if out is not None:
        _page(out, tables, figures, Path(file).read_text(encoding="utf-8") if file is not None else "")
    return Inference(tables)


def _page(
    folder: Path,
    tables: Mapping[str, Any],
    figures: Mapping[str, list[tuple[Callable[[], Any], str]]],
    source: str,
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    page = Report("A network on arrays", folder)
    for title, rows in tables.items():
        page.section(title)
        if isinstance(rows, str):
            page.preformatted(rows)
        else:
            page.table(rows)
        for number, (draw, caption) in enumerate(figures.get(title, [])):
            page.figure(draw(), title.replace(" ", "_") + (f"_{number}" if number else ""), caption)
    if source:
        page.section("The experiment")
        page.preformatted(source)
    page.write()
